"""Measures that rimsim reports: pure functions on NumPy arrays.

* ``exposure``: spread of counts over the catalogue; guarantees, and the visitors who carry them
* ``relevance``: worth of slates; values with the penalty for shortfall; reliability of predictions
* ``loop``: likeness of slates, genre drift, returning users, adoption of released items, late rounds
* ``two_sides``: welfare of users and providers, survival, expected exposure, break-even
* ``statistics``: intervals over seeds, paired differences, claims, agreement of orders of models
* ``facts``, ``measure``: record of a round, and a measure that is computed from it
* ``built_in``, ``registry``, ``user_measures``: every measure, your own included
* ``example_round``: a made-up round, on which measures are tried

No measure returns NaN. An undefined value has a documented convention or is None. A function with one value
per slate returns NaN for slates without a value. Each name is imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
