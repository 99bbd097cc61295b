"""Prices and slates under exposure floors and caps, with certificates.

``best_items``, ``enter``, ``items_between``, ``kth_of_parts``, ``order_items``, ``part_maxima``, ``tie_rank`` and
``uniform_of`` are compiled, so that your own compiled loops over rows of scores can call them. ``price_slates``,
``ordered_by`` and ``top_k`` rank items for all rows of a batch. Public functions use prices v; the auction
uses bonuses w = −v. Importing the package does not load the compiler.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
