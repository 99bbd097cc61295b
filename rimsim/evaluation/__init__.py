"""Estimates from a platform's own ledgers, of NumPy arrays.

examination   γ of examination, from random slates or from positions that happened to differ
off_policy    chances of slates under a policy, and the worth of slates of another policy
designs       arms of A/B tests on one market, and the effects that their readers would report
"""

from rimsim.evaluation.examination import DecayEstimate, decay_of_counts, decay_of_slates, taken_by_position
from rimsim.evaluation.off_policy import ESTIMATORS, Chances, Estimate, LoggedSlates, estimated

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
