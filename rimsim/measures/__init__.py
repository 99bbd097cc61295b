"""Every figure that rimsim reports, defined once: pure functions on NumPy arrays, and their register.

    exposure      how counts spread over the catalogue; guarantees kept and who carried them
    relevance     what slates were worth; values with the penalty for shortfall
    loop          likeness of slates, genre drift, returning users
    adoption      Kaplan-Meier times of released items
    statistics    intervals over seeds, paired differences
    late          which rounds of a run its figures are means over
    measure       what a measure is
    facts         what it is computed from: the record of a round
    example       made-up rounds
    registry      MEASURES: every metric of the tables, each one entry
    own           measures of a user's own

No measure returns NaN: what does not exist has a documented convention or is None.
"""

from __future__ import annotations

from rimsim.measures.adoption import AdoptionTimes, adoption_median, adoption_times
from rimsim.measures.example import made_up_round
from rimsim.measures.exposure import (
    average_popularity,
    binding_items,
    coverage,
    effective_items,
    examined_exposure,
    examined_shortfall,
    exposure_counts,
    gini,
    items_met,
    lorenz,
    perplexity,
    shortfall,
    shortfall_units,
    who_pays,
    worst_ratio,
)
from rimsim.measures.facts import RoundFacts
from rimsim.measures.late import late_means, late_rounds, late_words
from rimsim.measures.loop import (
    genre_drift,
    genre_shares,
    genre_weights,
    jaccard,
    sample_pairs,
    sessions_per_user,
)
from rimsim.measures.measure import Measure
from rimsim.measures.own import own_measures, recorded, records, try_measures
from rimsim.measures.registry import MEASURES, find_measure, markdown_table, measured
from rimsim.measures.relevance import (
    ndcg,
    penalised_value,
    per_slate,
    precision,
    recall,
)
from rimsim.measures.statistics import Interval, PairedDifference, mean_interval, paired_difference

__all__ = [
    "MEASURES",
    "AdoptionTimes",
    "Interval",
    "Measure",
    "PairedDifference",
    "RoundFacts",
    "adoption_median",
    "adoption_times",
    "average_popularity",
    "binding_items",
    "coverage",
    "effective_items",
    "examined_exposure",
    "examined_shortfall",
    "exposure_counts",
    "find_measure",
    "genre_drift",
    "genre_shares",
    "genre_weights",
    "gini",
    "items_met",
    "jaccard",
    "late_means",
    "late_rounds",
    "late_words",
    "lorenz",
    "made_up_round",
    "markdown_table",
    "mean_interval",
    "measured",
    "ndcg",
    "own_measures",
    "paired_difference",
    "penalised_value",
    "per_slate",
    "perplexity",
    "precision",
    "recall",
    "recorded",
    "records",
    "sample_pairs",
    "sessions_per_user",
    "shortfall",
    "shortfall_units",
    "try_measures",
    "who_pays",
    "worst_ratio",
]
