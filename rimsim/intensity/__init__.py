"""Intensity models: λ(x), p(y|x) and their product.

The package ``ground`` has the models of λ(x). ``sequence`` and ``sets`` have models of p(y|x) that read the sequence
or the set of a user's items, and ``habits`` has models of time and repetition. ``selection`` chooses a model, or the
weight of personal scores, on held-out sessions. Models by name are in the module ``registry``, cached fits in
``cache``, saved models in ``persistence``, and reports on a fitted model in ``calibration``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
