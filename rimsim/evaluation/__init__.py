"""What can be learnt from a platform's own ledgers: pure functions on NumPy arrays.

examination   γ of examination, from random slates or from positions that happened to differ
"""

from rimsim.evaluation.examination import DecayEstimate, decay_of_counts, decay_of_slates, taken_by_position

__all__ = ["DecayEstimate", "decay_of_counts", "decay_of_slates", "taken_by_position"]
