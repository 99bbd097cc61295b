"""The market: who arrives, what is consumed, how the platform learns, and the ledger of it all."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
