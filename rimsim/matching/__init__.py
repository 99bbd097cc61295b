"""Prices and slates under exposure floors and caps, with certificates.

``best_items``, ``enter``, ``items_between``, ``kth_of_parts``, ``order_items``, ``part_maxima``, ``tie_rank`` and
``uniform_of`` are compiled: an agent's own compiled loop calls them row by row, where ``price_slates``, ``ordered_by``
and ``top_k`` answer a batch. Prices are v everywhere outside; inside, the auction counts in bonuses w = −v. The names
are imported on first use, so that importing the package does not load the compiler of the kernels.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
