"""What can be learnt from a platform's own ledgers: pure functions on NumPy arrays.

examination   γ of examination, from random slates or from positions that happened to differ
chances       with which chance a policy shows some slates
off_policy    what slates of another policy would have been worth
"""

from rimsim.evaluation.chances import Chances
from rimsim.evaluation.examination import DecayEstimate, decay_of_counts, decay_of_slates, taken_by_position
from rimsim.evaluation.off_policy import ESTIMATORS, Estimate, LoggedSlates, estimated

__all__ = [
    "ESTIMATORS",
    "Chances",
    "DecayEstimate",
    "Estimate",
    "LoggedSlates",
    "decay_of_counts",
    "decay_of_slates",
    "estimated",
    "taken_by_position",
]
