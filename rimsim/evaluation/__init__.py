"""Estimates from a platform's own ledgers, given as NumPy arrays.

* ``examination``: γ of examination, from random slates or from items that were shown at different positions
* ``off_policy``: probabilities of slates under a policy, and the worth of another policy's slates
* ``logged_policies``: worth of a random policy, from logged impressions with propensities
* ``designs``: arms of A/B tests on one market, and the effects that their readers would report
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
