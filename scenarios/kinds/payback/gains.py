"""Gains of guarantees by learner, and their predicted order.

All utilities are shares of the ceiling: the utility of an agent that knows the true item effects, in the same world
and the same rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rimsim.measures import FEW_SEEDS, agreement, holm
from rimsim.measures.loop import late_rounds
from rimsim.scenarios.kinds.payback.arms import CEILING
from rimsim.scenarios.report.tables import paired_table

GAIN = "gain"
COST = "cost"
NOT_SIGNIFICANT = "not significant"
EQUAL = "equal"
VERDICTS = (GAIN, COST, NOT_SIGNIFICANT, EQUAL)
"""Verdicts on a contrast, by Holm's method over all contrasts; equal: the same difference in all worlds."""
_FEWEST_LEARNERS = 3
"""Fewest learners for a rank correlation; an order of two learners is only right or wrong."""
_RESAMPLES = 1000
_DIGITS = 12
_KEYS = ["learner", "beta", "minus_learner", "minus_beta"]


def shares_of(payback: pd.DataFrame, n_rounds: int, n_arms: int) -> pd.DataFrame:
    """Outcomes of each learner, guarantee and world.

    A world counts once all of its arms are complete.

    Args:
        payback: Table ``payback`` of a run.
        n_rounds: Number of rounds of an arm.
        n_arms: Number of arms of a world.

    Returns:
        Table with columns learner, beta, world, share (utility of the late rounds over that of the ceiling),
        never_shown (share of the catalogue, after the last round) and undelivered (of the late rounds; NaN without a
        guarantee).
    """
    keys = ["learner", "beta", "world"]
    last_round = payback[(payback["round"] == n_rounds - 1) & (payback["metric"] == "never_shown")]
    counts = last_round.groupby("world").size()
    table = payback[payback["world"].isin(counts.index[counts == n_arms])]
    late = table[table["round"].isin(late_rounds(n_rounds))]
    means = late.groupby([*keys, "metric"], sort=False)["value"].mean().unstack()
    means["never_shown"] = last_round.set_index(keys)["value"]
    means = means.reindex(columns=["utility", "never_shown", "undelivered"]).reset_index()
    is_ceiling = means["learner"] == CEILING
    ceilings = means[is_ceiling].set_index("world")["utility"]
    outcomes = means[~is_ceiling].reset_index(drop=True)
    outcomes["share"] = outcomes["utility"] / outcomes["world"].map(ceilings)
    return outcomes[[*keys, "share", "never_shown", "undelivered"]].rename_axis(columns=None)


def gains_of(shares: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Contrasts of the map, paired by world.

    Each learner with a guarantee is compared with itself without one; each learner without a guarantee is compared
    with the reference.

    Returns:
        Table with columns learner, beta, minus_learner, minus_beta, mean, low, high (differences of shares of the
        ceiling), n (worlds), p, adjusted (p by Holm's method over all rows) and verdict.
    """
    by_arm = shares.pivot(index="world", columns=["learner", "beta"], values="share")
    learners = list(dict.fromkeys(shares["learner"]))
    guarantees = [beta for beta in dict.fromkeys(shares["beta"]) if beta > 0]
    contrasts = [(learner, beta, learner, 0.0) for learner in learners for beta in guarantees]
    contrasts += [(learner, 0.0, reference, 0.0) for learner in learners if learner != reference]
    rows = [
        (*contrast, by_arm[contrast[0], contrast[1]], by_arm[contrast[2], contrast[3]])
        for contrast in contrasts
    ]
    gains = paired_table(rows, _KEYS)
    gains["adjusted"] = holm(gains["p"].to_numpy(np.float64))
    signs = np.where(gains["mean"] > 0, GAIN, COST)
    gains["verdict"] = np.select(
        [gains["significant"].to_numpy(bool), gains["equal"].to_numpy(bool)], [signs, EQUAL], NOT_SIGNIFICANT
    )
    return gains.drop(columns=["effect", "equal", "significant"])


def of_guarantees(gains: pd.DataFrame) -> pd.DataFrame:
    """Contrasts of guarantees with none, without those of learners."""
    return gains[gains["beta"] > 0].reset_index(drop=True)


@dataclass(frozen=True)
class Prediction:
    """Predicted order of learners by gain, and its test.

    The prediction is made from arms without a guarantee: the more of the catalogue a learner never shows, the more a
    small guarantee brings it. The gap to the ceiling would predict the gain too, but it shares the noise of the arm
    without a guarantee with the gain, so that the two would agree by chance.
    """

    beta: float
    """The smallest guarantee of the map, whose gains are predicted."""
    predicted: Mapping[str, int]
    """Learner → rank of its predicted gain, 1 for the highest, in this order; equal predictions have equal ranks."""
    observed: Mapping[str, int]
    """Learner → rank of its observed gain, in the same form."""
    tau: float | None
    """Kendall's rank correlation of both orders; None with fewer than three learners, or if all values are equal."""
    low: float | None
    """Lower end of the 95% interval of ``tau``, by bootstrap over worlds; None with few worlds."""
    high: float | None
    """Upper end of this interval."""

    @property
    def holds(self) -> bool | None:
        """True or false if the interval excludes 0, else None."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return None
        return self.low > 0


def prediction_of(shares: pd.DataFrame) -> Prediction:
    """Predicted and observed order of a map's learners."""
    beta = min(beta for beta in shares["beta"] if beta > 0)
    learners = list(dict.fromkeys(shares["learner"]))

    def by_learner(column: str, guarantee: float) -> pd.DataFrame:
        """Values, a row per learner and a column per world."""
        rows = shares[shares["beta"] == guarantee]
        return rows.pivot(index="learner", columns="world", values=column).loc[learners]

    never_shown = by_learner("never_shown", 0.0)
    gain = by_learner("share", beta) - by_learner("share", 0.0)
    tau = low = high = None
    if len(learners) >= _FEWEST_LEARNERS:
        orders = agreement(gain, never_shown, resamples=_RESAMPLES)
        tau = orders.kendall
        if gain.shape[1] >= FEW_SEEDS:
            low = orders.kendall_low
            high = orders.kendall_high
    return Prediction(beta, _ranks(never_shown), _ranks(gain), tau, low, high)


def _ranks(values: pd.DataFrame) -> dict[str, int]:
    """Learner → rank of its mean over worlds, the highest first."""
    # Sums of equal values may differ in their last bits.
    means = values.mean(axis=1).round(_DIGITS).sort_values(ascending=False, kind="stable")
    return {str(learner): int(rank) for learner, rank in means.rank(ascending=False, method="min").items()}


def worlds_of(shares: pd.DataFrame) -> Sequence[int]:
    """Numbers of the worlds that count."""
    return sorted({int(world) for world in shares["world"]})
