"""Estimates from a platform's own ledgers, of NumPy arrays.

* ``examination``: γ of examination, from random slates or from positions that happened to differ
* ``off_policy``: chances of slates under a policy, and the worth of slates of another policy
* ``designs``: arms of A/B tests on one market, and the effects that their readers would report
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
