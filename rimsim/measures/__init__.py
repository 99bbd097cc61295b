"""Every figure that rimsim reports, defined once: pure functions on NumPy arrays, and their register.

    exposure      how counts spread over the catalogue; guarantees kept and who carried them
    relevance     what slates were worth; values with the penalty for shortfall
    reliability   what the platform predicted of shown items against what came
    loop          likeness of slates, genre drift, returning users
    two_sides     welfare of users and providers, survival, expected exposure, break-even
    adoption      Kaplan-Meier times of released items
    statistics    intervals over seeds, paired differences
    claims        what may be claimed of many comparisons, or of one that shows no difference
    concordance   whether one order of models agrees with another, over the pairs that reality settles
    late          which rounds of a run its figures are means over
    measure       what a measure is
    facts         what it is computed from: the record of a round
    example       made-up rounds
    registry      MEASURES: every metric of the tables, each one entry
    own           measures of a user's own

No measure returns NaN: what does not exist has a documented convention or is None; only values by slate are NaN where
a slate has none.

The names are imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
