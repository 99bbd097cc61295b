"""Market: arrivals, consumers, platform and ledger."""

import lazy_loader

from rimsim.renamed import renamed_names

_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = renamed_names(__name__, {"Round": "ClosedRound"}, _attribute)
