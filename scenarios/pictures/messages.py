"""The sentences above pictures: each is computed from the data that its picture draws."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from rimsim.agents.registry import named
from rimsim.measures import FEW_SEEDS
from rimsim.scenarios.report.summary import REFERENCE, guarantor_of, shortfalls

if TYPE_CHECKING:
    import pandas as pd


# Bounds and baselines do not speak for guarantees.
_BASELINES = named("bound", "baseline", "reference")


def subject(agents: Collection[str]) -> str:
    """The agent that a title speaks of: one that keeps guarantees, else no baseline, else the first."""
    others = [name for name in sorted(agents) if name not in _BASELINES]
    return guarantor_of(list(agents)) or (others + sorted(agents))[0]


def beside(chosen: str, agents: Collection[str], told: Callable[[str], str]) -> str:
    """What a title adds of relevance, where that takes part and the title does not speak of it already.

    Args:
        chosen: The agent that the title speaks of.
        agents: Those that take part.
        told: Called with relevance's name; returns what is to be said of it.
    """
    return f", {told(REFERENCE)}" if REFERENCE in agents and chosen != REFERENCE else ""


def per_cent(share: float) -> str:
    """A share for a sentence: more digits where it is small, a true minus sign."""
    value = 100 * share
    digits = 1 if 0 < abs(value) < 9.95 else 0
    return f"{value:.{digits}f}".replace("-", "−") + " %"


def many(count: int, what: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def seeds_caption(table: pd.DataFrame, marks: str = "bands") -> str:
    """What lines and bands are, for a table with a column seed."""
    count = int(table["seed"].nunique())
    if count == 1:
        return f"One seed: no {marks}."
    if marks == "bands" and count < FEW_SEEDS:
        return f"Thick: mean of {count} seeds; thin: each seed."
    return f"Mean of {count} seeds; {marks}: 95 % intervals (Student t)."


def cost_of_guarantees(means: pd.DataFrame, unit: str) -> str:
    """What the agent of the title leaves undelivered, against relevance, and at what utility.

    Args:
        means: (agents × metrics) means, with or without shortfall and utility.
        unit: The unit of the guarantees, ``examined`` or ``shown``.
    """
    kept, _ = shortfalls(unit)
    short = _column(means, kept)
    if not short:
        return "Relevance and exposure by round"
    name = subject(short)
    what = "exposure (as examined)" if unit == "examined" else "positions"
    text = f"{name} leaves {per_cent(short[name])} of the guaranteed {what} undelivered"
    if name == REFERENCE or REFERENCE not in short:
        return text
    text += f", {REFERENCE} {per_cent(short[REFERENCE])}"
    change = _utility_change(means, name)
    return text if change is None else f"{text}; its utility is {_more_or_less(change)}"


def diversity(means: pd.DataFrame) -> str:
    """By what factor the agent of the title spreads exposure wider than relevance, and at what utility.

    Args:
        means: (agents × metrics) means, with perplexity and utility.
    """
    wide = _column(means, "perplexity")
    name = subject(wide)
    change = _utility_change(means, name)
    if name == REFERENCE or change is None or not wide.get(REFERENCE, 0.0) > 0:
        return f"{name}: exposure as diverse as {wide[name]:.0f} equally shown items"
    text = f"{name} spreads exposure {wide[name] / wide[REFERENCE]:.1f} times as wide as {REFERENCE}"
    return f"{text}; its utility is {_more_or_less(change)}"


def who_carries(name: str, by_decile: pd.Series[float]) -> str:
    """In which deciles of λ(x) an agent gives guaranteed items most and fewest positions, wherever they are.

    Args:
        name: The agent.
        by_decile: Decile (1 = lowest λ) → positions a slate.
    """
    most, fewest = f"{by_decile.max():.1f}", f"{by_decile.min():.1f}"
    if most == fewest:
        return f"{name} gives guaranteed items {most} positions a slate in every decile of λ(x)"
    return (
        f"{name} gives guaranteed items most positions a slate, {most}, in decile {by_decile.idxmax()} of λ(x), and "
        f"fewest, {fewest}, in decile {by_decile.idxmin()}"
    )


def _column(means: pd.DataFrame, metric: str) -> dict[str, float]:
    """Agent → its mean of a metric; without those that have none."""
    if metric not in means:
        return {}
    return {str(agent): float(mean) for agent, mean in means[metric].dropna().items()}


def _utility_change(means: pd.DataFrame, name: str) -> float | None:
    """Utility of an agent relative to relevance, less 1; None where one of them has none."""
    utility = _column(means, "utility")
    if name not in utility or not utility.get(REFERENCE, 0.0) > 0:
        return None
    return utility[name] / utility[REFERENCE] - 1


def _more_or_less(change: float) -> str:
    if abs(change) < 0.0005:  # less than is written
        return "the same"
    return f"{per_cent(abs(change))} {'lower' if change < 0 else 'higher'}"
