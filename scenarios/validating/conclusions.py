"""What may be concluded from the market on a log, and what not, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

from rimsim.intensity.registry import mark_and_ground
from rimsim.scenarios.report.sentences import agreement_sentence, unfit_sentence
from rimsim.scenarios.report.tables import signed
from rimsim.scenarios.validating.config import BESTSELLERS
from rimsim.scenarios.validating.evidence import ORACLE
from rimsim.scenarios.validating.rates import rate_curves
from rimsim.scenarios.validating.tables import figures_of

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.scenarios.validating.config import ValidateConfig


_CALIBRATED = (0.8, 1.25)
"""Σλ / Σ events within which λ counts as calibrated."""


@dataclass(frozen=True)
class Conclusions:
    """Sentences."""

    may: tuple[str, ...]
    """What may be concluded."""
    may_not: tuple[str, ...]
    """What may not."""


def conclusions(
    config: ValidateConfig,
    agreement: pd.DataFrame,
    pairs: pd.DataFrame,
    intervals: pd.DataFrame,
    table: pd.DataFrame,
) -> Conclusions:
    """The sentences that a validation ends in.

    Args:
        config: The validation's.
        agreement: Columns truth, metric, value.
        pairs: Columns truth, model, other, difference, low, high, settled, simulated.
        intervals: Columns model, truth, metric, mean, low, high, users.
        table: Columns model, truth, draw, metric, value.
    """
    by_truth = figures_of(agreement)
    first = next(iter(by_truth.values()))
    settled, all_pairs, users = int(first["settled_pairs"]), int(first["pairs"]), int(first["users"])
    may = [
        (
            f"Held-out later sessions of {users:,} users settle {settled} of {all_pairs} pairs of models: the "
            f"difference of their precision is beyond its 95 % interval over users.{_alike(all_pairs - settled)}"
        )
    ]
    may_not: list[str] = []
    for truth, figures in by_truth.items():
        unfit = unfit_sentence(truth, figures)
        (may if unfit is None else may_not).append(f"{agreement_sentence(truth, figures)}.")
        may_not += [f"**{unfit}.**"] if unfit is not None else []
        may_not += _wrong(truth, pairs)
    may_not += _flattered(intervals, by_truth)
    good, bad = _bestsellers(config, pairs[pairs["truth"] == next(iter(by_truth))])
    also_good, also_bad = _rates(table)
    return Conclusions((*may, *good, *also_good), (*may_not, *bad, *also_bad))


def _alike(pairs: int) -> str:
    if not pairs:
        return ""
    return (
        f" The other {pairs} are too alike to be told apart on this log: no order of them may be concluded from a "
        "market either."
    )


def _wrong(truth: str, pairs: pd.DataFrame) -> list[str]:
    """The settled pairs that a truth puts the wrong way round."""
    rows = pairs[(pairs["truth"] == truth) & pairs["settled"] & (pairs["simulated"] <= 0)]
    if rows.empty:
        return []
    named = (f"`{a}` above `{b}`" for a, b in zip(rows["other"], rows["model"], strict=True))
    return [f"Under `{truth}` the market puts {_listed(named)}, against reality."]


def _flattered(intervals: pd.DataFrame, truths: Iterable[str]) -> list[str]:
    """How near the model of a truth's own class comes to the oracle under it."""
    worth = intervals[intervals["metric"] == "utility"].set_index(["truth", "model"])["mean"]
    texts = [
        f"{100 * worth[truth, truth] / worth[truth, ORACLE]:.0f} % under `{truth}`"
        for truth in truths
        if (truth, truth) in worth.index and worth[truth, ORACLE] > 0
    ]
    if not texts:
        return []
    return [
        (
            f"A truth flatters the model of its own class, which reaches, of the oracle's utility, {_listed(texts)}; "
            "how far a model is from the best possible is therefore no finding."
        )
    ]


def _bestsellers(config: ValidateConfig, pairs: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Which models beat a list of bestsellers on held-out sessions, and whether the serving model does."""
    ahead = pairs[(pairs["other"] == BESTSELLERS) & pairs["settled"]]
    behind = pairs[(pairs["model"] == BESTSELLERS) & pairs["settled"]]
    better, worse = (_listed(f"`{name}`" for name in names) for names in (ahead["model"], behind["other"]))
    good: list[str] = []
    bad: list[str] = []
    if better:
        good.append(f"More precise than a list of bestsellers, beyond the interval: {better}.")
    if worse:
        bad.append(f"Less precise than a list of bestsellers, beyond the interval: {worse}.")
    serving, _ = mark_and_ground(config.serving)
    named = f"`{serving}`, the mark model of the platform `{config.serving}`,"
    of_serving = pairs[
        ((pairs["model"] == serving) & (pairs["other"] == BESTSELLERS))
        | ((pairs["model"] == BESTSELLERS) & (pairs["other"] == serving))
    ]
    for row in of_serving.to_dict("records"):
        sign = 1 if row["model"] == serving else -1
        half = (float(row["high"]) - float(row["low"])) / 2
        text = f"precision differs by {signed(sign * float(row['difference']), 3)} ±{signed(half, 3)}"
        if sign > 0 and row["settled"]:
            good.append(
                f"`{serving}`, the mark model of the platform `{config.serving}`, beats bestsellers: {text}."
            )
        elif row["settled"]:
            bad.append(
                f"Bestsellers beat {named} {text}. What a market says of an agent that ranks by this model is said of "
                "a platform that nobody would run."
            )
        else:
            bad.append(f"Whether {named} beats bestsellers is not settled: {text}.")
    return good, bad


def _rates(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Whether λ is a count on held-out sessions."""
    good: list[str] = []
    bad: list[str] = []
    for name, figures in rate_curves(table).items():
        ratios = [figures[name] for name in ("rate_ratio", "rate_ratio_first", "rate_ratio_later")]
        # of first or of later sessions there may be none
        calibrated = all(_CALIBRATED[0] <= ratio <= _CALIBRATED[1] for ratio in ratios if not isnan(ratio))
        text = (
            f"{name} expects {signed(figures['rate_ratio'])} times the events of sessions that it was not fitted to "
            f"(first ones {signed(figures['rate_ratio_first'])}, later ones {signed(figures['rate_ratio_later'])}; "
            f"rank correlation {signed(figures['rate_rank_correlation'])})"
        )
        (good if calibrated else bad).append(f"{text}{'' if calibrated else ': it is no count of them'}.")
    return good, bad


def _listed(names: Iterable[str]) -> str:
    """Names with commas and an ``and`` before the last."""
    there = [str(name) for name in names]
    return " and ".join([", ".join(there[:-1]), there[-1]] if len(there) > 1 else there)
