"""Figures that rimsim reports: pure functions on NumPy arrays.

    exposure spread of counts over the catalogue; guarantees and who carries them relevance worth of slates; values
    with the penalty for shortfall; reliability of predictions loop          likeness of slates, genre drift, returning
    users, adoption of released items, late rounds two_sides     welfare of users and providers, survival, expected
    exposure, break-even statistics    intervals over seeds, paired differences, claims, agreement of orders of models
    measure       a measure, and the record of a round that it is computed from registry      MEASURES: every metric of
    the tables, each one entry; a user's own measures

No measure returns NaN. An undefined value has a documented convention or is None. Only values per slate are NaN for
slates without a value. The names are imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
