"""Intensity models: λ(x), p(y|x) and their product.

``ground`` holds the models of λ(x); ``sequence`` and ``sets`` those of p(y|x), by what they read of a user;
``selection`` chooses between models, and the weight of a personal score. Models by name are in the module ``registry``,
cached fits in ``cache``, saved models in ``persistence``, and reports on a fitted model in ``calibration``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
