"""Naive estimates beside the total effect, per metric, over the late rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy

from rimsim.arrays import Bools, Floats, Ints
from rimsim.measures.loop import late_rounds
from rimsim.scenarios.experimenting.designs import Contrast, Outcome, contrast

if TYPE_CHECKING:
    from rimsim.scenarios.experimenting.designs import Assignment
    from rimsim.scenarios.experimenting.play import PlayedRound


METRICS = {
    "utility": "consumptions of a slate",
    "tail_exposure": "share of a slate that goes to items beyond the most consumed tenth of the warm-up log",
}
"""Metric → what it is, per arrival."""
_HEAD = 0.1


def tail_of(events: Ints) -> Bools:
    """(M,) items that are not among the tenth with most events in the warm-up log."""
    order = np.argsort(-events, kind="stable")
    tail = np.ones(len(events), bool)
    tail[order[: max(1, round(_HEAD * len(events)))]] = False
    return tail


def _values(metric: str, came: Floats, item: Ints, tail: Bools) -> Floats:
    """(n, k) what each position counts."""
    if metric == "utility":
        return came
    return np.asarray(((item >= 0) & tail[np.maximum(item, 0)]) / item.shape[1], np.float64)


def _late(rounds: Sequence[PlayedRound]) -> list[PlayedRound]:
    late = late_rounds(len(rounds))
    return [one for one in rounds if one.number in late]


def estimates(rounds: Sequence[PlayedRound], assignment: Assignment, tail: Bools) -> dict[str, Contrast]:
    """Metric → naive estimate and its interval, of the late rounds of an experiment."""
    late = _late(rounds)
    offset, units, treated = 0, [], []
    for one in late:
        treated.append(assignment.arrivals(one.user, one.time, one.number))
        if assignment.design == "switchback":
            units.append(assignment.block(one.time))
        else:  # visitors of different rounds are different
            units.append(one.user + offset)
            offset += int(one.user.max(initial=-1)) + 1
    item = np.concatenate([one.item for one in late])
    came = np.concatenate([one.consumed for one in late]).astype(np.float64)
    found = {}
    for metric in METRICS:
        outcome = Outcome(
            _values(metric, came, item, tail),
            item,
            np.concatenate(units),
            np.concatenate(treated),
            assignment.items(len(tail)),
        )
        found[metric] = contrast(assignment.design, outcome)
    return found


def total_effects(worlds: Sequence[Sequence[PlayedRound]], tail: Bools) -> dict[str, float]:
    """Metric → mean in the world of B less that in the world of A, over the late rounds.

    Consumptions are counted with their true probability, which takes the noise of draws away.
    """
    means: list[dict[str, float]] = []
    for rounds in worlds:
        late = _late(rounds)
        item = np.concatenate([one.item for one in late])
        came = np.concatenate([one.probability for one in late])
        means.append({name: float(_values(name, came, item, tail).sum(1).mean()) for name in METRICS})
    return {name: means[1][name] - means[0][name] for name in METRICS}


def arrivals_table(
    rounds: Sequence[PlayedRound], assignment: Assignment, tail: Bools, seed: int
) -> pd.DataFrame:
    """The arrivals of an experiment, as packages that analyse experiments take them.

    Returns:
        Columns seed, design, round, arrival, user, date (of the market's clock), block, treatment (A or B), target
        (consumptions) and tail_exposure.
    """
    parts = []
    for one in rounds:
        treated = assignment.arrivals(one.user, one.time, one.number)
        parts.append(
            pd.DataFrame(
                {
                    "seed": seed,
                    "design": assignment.design,
                    "round": one.number,
                    "arrival": one.arrival,
                    "user": [f"{one.number}-{user}" for user in one.user.tolist()],
                    "date": pd.to_datetime(one.time, unit="s"),
                    "block": assignment.block(one.time),
                    "treatment": np.where(treated, "B", "A"),
                    "target": one.consumed.sum(1).astype(np.float64),
                    "tail_exposure": _values("tail_exposure", one.consumed.astype(float), one.item, tail).sum(
                        1
                    ),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Designs over seeds.

    Args:
        table: Columns design, training, prices, seed, metric, naive, low, high, total_effect.

    Returns:
        Columns design, training, prices, metric, naive, total_effect, bias (mean of naive − total effect), error (its
        standard error over seeds), half (half a 95 % interval of the bias, by Student's t), width (of an interval),
        coverage (share of seeds whose interval holds the total effect), power (share whose interval does not hold 0),
        sign (share whose naive estimate has the sign of the mean total effect) and seeds.
    """
    off = table["naive"] - table["total_effect"]
    keys = ["design", "training", "prices", "metric"]
    mean_total = table.groupby("metric")["total_effect"].transform("mean")
    holds = (table["low"] <= table["total_effect"]) & (table["total_effect"] <= table["high"])
    known = table["low"].notna()  # an arm of one unit has no interval
    work = table.assign(
        bias=off,
        width=table["high"] - table["low"],
        coverage=holds.astype(float).where(known),
        power=((table["low"] > 0) | (table["high"] < 0)).astype(float).where(known),
        sign=np.sign(table["naive"]) == np.sign(mean_total),
    )
    found = (
        work.groupby(keys, sort=False)
        .agg(
            naive=("naive", "mean"),
            total_effect=("total_effect", "mean"),
            bias=("bias", "mean"),
            error=("bias", "sem"),
            width=("width", "mean"),
            coverage=("coverage", "mean"),
            power=("power", "mean"),
            sign=("sign", "mean"),
            seeds=("seed", "nunique"),
        )
        .reset_index()
    )
    return found.assign(half=found["error"] * scipy.stats.t.ppf(0.975, (found["seeds"] - 1).clip(lower=1)))
