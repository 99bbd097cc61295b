"""Naive estimates of experiments, and total effects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rimsim.arrays import Bools, Floats, Ints
from rimsim.evaluation.designs import Assignment, NaiveEstimate, Outcome, contrast
from rimsim.evaluation.off_policy import apart
from rimsim.measures import equivalence, mean_interval, paired_difference, significant
from rimsim.measures.loop import late_rounds
from rimsim.scenarios.kinds import results
from rimsim.scenarios.kinds.experiment.arms import WorldRound

METRICS = {
    "utility": "consumptions of a slate",
    "tail_exposure": "share of a slate that goes to items beyond the most consumed tenth of the warm-up log",
}
"""Metric → its meaning, per arrival."""
MARGIN = 0.2
"""Largest bias, as a share of the total effect, that counts as no bias."""
LABELS = ("design", "training", "prices")
"""Names of the columns that distinguish the experiments of a table."""
# A total effect counts as 0 if it is the same in all seeds and at most this large.
_NO_EFFECT = 1e-12
# Share of the items in the head, which are consumed most; all other items are the tail.
_HEAD = 0.1


def tail_of(events: Ints) -> Bools:
    """Items outside the most consumed tenth of the warm-up log."""
    most_consumed_first = np.argsort(-events, kind="stable")
    n_head = max(1, round(_HEAD * len(events)))
    is_tail = np.ones(len(events), bool)
    is_tail[most_consumed_first[:n_head]] = False
    return is_tail


def _values(metric: str, consumptions: Floats, item: Ints, tail: Bools) -> Floats:
    """(n, k) value of each position under a metric."""
    if metric == "utility":
        return consumptions
    # An empty position, −1, reads item 0 here, and then counts 0.
    is_tail = (item >= 0) & tail[np.maximum(item, 0)]
    return np.asarray(is_tail / item.shape[1], np.float64)


def _late(rounds: Sequence[WorldRound]) -> tuple[list[WorldRound], Ints]:
    """Late rounds, and the items of all their slates."""
    numbers = late_rounds(len(rounds))
    late = [world_round for world_round in rounds if world_round.number in numbers]
    return late, np.concatenate([world_round.item for world_round in late])


def estimates(rounds: Sequence[WorldRound], assignment: Assignment, tail: Bools) -> dict[str, NaiveEstimate]:
    """Naive estimate of each metric, over the late rounds."""
    late, item = _late(rounds)
    treated = np.concatenate(
        [assignment.arrivals(world_round.user, world_round.time, world_round.number) for world_round in late]
    )
    # Units are independent visitors. Users of different rounds are different visitors, so they are numbered apart.
    units = apart([world_round.user for world_round in late])
    if assignment.design == "switchback":  # here the units are blocks of time
        units = np.concatenate([assignment.block(world_round.time) for world_round in late])
    consumed = np.concatenate([world_round.consumed for world_round in late]).astype(np.float64)
    treated_item = assignment.items(len(tail))
    estimates_by_metric = {}
    for metric in METRICS:
        values = _values(metric, consumed, item, tail)
        outcome = Outcome(values, item, units, treated, treated_item)
        estimates_by_metric[metric] = contrast(assignment.design, outcome)
    return estimates_by_metric


def total_effects(worlds: Sequence[Sequence[WorldRound]], tail: Bools) -> dict[str, float]:
    """Mean in agent B's market minus A's, over late rounds.

    Consumptions count with their true probability, which removes random noise.
    """
    means: list[dict[str, float]] = []  # by metric, for the market of A and of B
    for rounds in worlds:
        late, item = _late(rounds)
        probability = np.concatenate([world_round.probability for world_round in late])
        means.append({name: float(_values(name, probability, item, tail).sum(1).mean()) for name in METRICS})
    means_of_a, means_of_b = means
    return {name: means_of_b[name] - means_of_a[name] for name in METRICS}


def arrivals_table(
    rounds: Sequence[WorldRound], assignment: Assignment, tail: Bools, seed: int
) -> pd.DataFrame:
    """Table of an experiment's arrivals, for other packages.

    Visitors are named ROUND-USER, dates follow the market's clock, and ``target`` is the number of consumptions.
    """
    parts = []
    for world_round in rounds:
        treated = assignment.arrivals(world_round.user, world_round.time, world_round.number)
        exposed = _values("tail_exposure", world_round.consumed.astype(float), world_round.item, tail)
        columns = {
            "seed": seed,
            "design": assignment.design,
            "round": world_round.number,
            "arrival": world_round.arrival,
            "user": [f"{world_round.number}-{user}" for user in world_round.user.tolist()],
            "date": pd.to_datetime(world_round.time, unit="s"),
            "block": assignment.block(world_round.time),
            "treatment": np.where(treated, "B", "A"),
            "target": world_round.consumed.sum(1).astype(np.float64),
            "tail_exposure": exposed.sum(1),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Estimates of designs over seeds, with bias by :func:`bias_over_seeds`.

    ``coverage`` is the share of seeds whose interval includes the total effect. ``power`` is the share of seeds whose
    interval excludes 0. ``sign`` is the share of seeds whose naive estimate has the sign of the mean total effect.
    ``relative`` is the bias as a share of the total effect, with half its 95% interval, and ``within`` says if this
    share is shown to be smaller than ``MARGIN``. These figures exist only where the total effect differs from 0.
    """
    mean_total = table.groupby("metric")["total_effect"].transform("mean")
    includes_total = (table["low"] <= table["total_effect"]) & (table["total_effect"] <= table["high"])
    has_interval = table["low"].notna()  # an estimate has no interval if an arm has only one unit
    by_seed = table.assign(
        coverage=includes_total.astype(float).where(has_interval),
        power=((table["low"] > 0) | (table["high"] < 0)).astype(float).where(has_interval),
        sign=(np.sign(table["naive"]) == np.sign(mean_total)).astype(float).where(table["naive"].notna()),
    )
    shares = ("coverage", "power", "sign")
    keys = [*LABELS, "metric"]
    means = results.bias_over_seeds(by_seed, keys, ("naive", "total_effect"), shares)
    relative_bias_of = {key: _relative_bias(group) for key, group in table.groupby(keys, sort=False)}
    relative_biases = [relative_bias_of[tuple(key)] for key in means[keys].to_numpy().tolist()]
    means[["relative", "relative_half"]] = [(bias, half) for bias, half, _ in relative_biases]
    means["within"] = [is_within for _, _, is_within in relative_biases]
    means["significant"] = significant(means["p"].to_numpy())
    return means.assign(sign=means["sign"].where(means["relative"].notna()))


def _relative_bias(seeds: pd.DataFrame) -> tuple[float, float, bool]:
    """Bias over the total effect, half-interval, equivalence to 0.

    The last value is True if the bias is shown to be within the margin. The interval is that of a ratio r of means,
    linearised: of r + (bias − r·effect) / mean effect over seeds. Without a total effect, there is no ratio.
    """
    effects = mean_interval(seeds["total_effect"])
    excludes_zero = effects.low is not None and effects.high is not None and effects.low * effects.high > 0
    seeds = seeds[seeds["naive"].notna()]
    mean_effect = float(seeds["total_effect"].mean())
    has_effect = excludes_zero or (effects.equal and abs(mean_effect) > _NO_EFFECT)
    if not len(seeds) or not has_effect:
        return np.nan, np.nan, False
    bias = seeds["naive"] - seeds["total_effect"]
    ratio = float(bias.mean()) / mean_effect
    if paired_difference(seeds["naive"], seeds["total_effect"]).equal:  # equal biases have no interval
        return ratio, np.nan, False
    linearised = (ratio + (bias - ratio * seeds["total_effect"]) / mean_effect).to_numpy()
    is_within = equivalence(linearised, np.zeros(len(linearised)), MARGIN).holds
    return ratio, mean_interval(linearised).half, is_within
