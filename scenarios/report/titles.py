"""Titles of pictures, computed from the tables that they show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping

import numpy as np
import pandas as pd

from rimsim.scenarios.report import tables
from rimsim.scenarios.report.numbers import count_of, figure, per_cent

_UNCHANGED = 0.0005  # relative change below which a title says that nothing changed
_CLOSE = 0.03  # relative error up to which a prediction counts as right
# A title names the third of the deciles with the largest part of the guarantee. It does so only if this part is more
# than ``_STEEP`` times the part of the third with the smallest.
_STEEP = 1.25


def and_reference(chosen: str, agents: Collection[str], text_of: Callable[[str], str]) -> str:
    """Value of ``relevance`` for a title about another agent."""
    is_named = tables.REFERENCE in agents and chosen != tables.REFERENCE
    return f", {text_of(tables.REFERENCE)}" if is_named else ""


def cost_of_guarantees(rounds: pd.DataFrame, unit: str) -> str:
    """Undelivered exposure and utility of the title's agent, against ``relevance``."""
    shortfall, _ = tables.shortfalls(unit)
    shares = _column(tables.late_figures(rounds), shortfall)
    if not shares:
        return "Relevance and exposure by round"
    name = tables.subject(shares)
    exposure = "exposure (as examined)" if unit == "examined" else "positions"
    text = f"{name} leaves {per_cent(shares[name])} of the guaranteed {exposure} undelivered"
    if name == tables.REFERENCE or tables.REFERENCE not in shares:
        return text
    text += f", {tables.REFERENCE} {per_cent(shares[tables.REFERENCE])}"
    change = _utility_change(rounds, name)
    return text if change is None else f"{text}; {change}"


def diversity(rounds: pd.DataFrame) -> str:
    """Exposure's spread and utility of the title's agent, against ``relevance``."""
    spreads = _column(tables.late_figures(rounds), "perplexity")
    name = tables.subject(spreads)
    change = _utility_change(rounds, name)
    base = spreads.get(tables.REFERENCE, 0.0)
    if name == tables.REFERENCE or change is None or not base > 0:
        return f"{name}: exposure as diverse as {spreads[name]:.0f} equally shown items"
    return f"{name} spreads exposure {spreads[name] / base:.1f} times as wide as {tables.REFERENCE}; {change}"


def _column(means: pd.DataFrame, metric: str) -> dict[str, float]:
    """Agent → mean of a metric, for agents that have one."""
    if metric not in means:
        return {}
    return {str(agent): float(mean) for agent, mean in means[metric].dropna().items()}


def _utility_change(rounds: pd.DataFrame, name: str) -> str | None:
    """Utility of an agent relative to that of ``relevance``."""
    utility = _column(tables.late_figures(rounds), "utility")
    base = utility.get(tables.REFERENCE, 0.0)
    if name not in utility or not base > 0:
        return None
    change = utility[name] / base - 1
    if abs(change) < _UNCHANGED:
        return f"utility is that of {tables.REFERENCE}"
    if name != tables.REFERENCE:
        paired = tables.reported_differences(rounds, list(rounds["agent"].unique()))
        row = paired[(paired["agent"] == name) & (paired["metric"] == "utility")].iloc[0]
        if not row["significant"]:
            doubt = tables.cannot_tell(int(row["n"]))
            return "utility does not differ significantly" if doubt is None else f"{doubt} if utility differs"
    return (
        f"utility is {per_cent(abs(change))} {'below' if change < 0 else 'above'} that of {tables.REFERENCE}"
    )


def who_carries(name: str, by_decile: pd.Series[float]) -> str:
    """Visitors whose slates carry the guarantee, by decile of λ(x)."""
    positions = by_decile.to_numpy(np.float64)
    third = -(-len(positions) // 3)
    of_low = positions[:third].mean()
    of_middle = positions[third:-third].mean()
    of_high = positions[-third:].mean()
    largest = max(of_low, of_middle, of_high)
    smallest = min(of_low, of_middle, of_high)
    if largest <= _STEEP * smallest:
        return f"All visitors carry the guarantee about alike with {name}"
    visitors = {
        of_low: "Visitors who want little carry",
        of_middle: "Visitors who want neither little nor much carry",
        of_high: "Visitors who want much carry",
    }
    return f"{visitors[largest]} the guarantee of {name}"


def carried_positions(name: str, by_decile: pd.Series[float]) -> str:
    """Positions per slate in the lowest and highest decile."""
    lowest = figure(float(by_decile.iloc[0]))
    highest = figure(float(by_decile.iloc[-1]))
    return f"{name}: {lowest} per slate in the lowest decile, {highest} in the highest."


def bonuses(by_decile: pd.DataFrame) -> str:
    """Bonus for the least and the most popular items."""
    name = tables.subject(by_decile["agent"].unique())
    means = by_decile[by_decile["agent"] == name].groupby("decile")["value"].mean()
    of_least_popular = per_cent(float(means.iloc[0]))
    of_most_popular = per_cent(float(means.iloc[-1]))
    return (
        f"{name} pays a bonus of {of_least_popular} of the shortfall cost for an exposure of the least popular "
        f"tenth of the items, {of_most_popular} for the most popular"
    )


def delivered_items(
    number: int, due: Mapping[Hashable, float], delivered: Mapping[str, Mapping[Hashable, float]]
) -> str:
    """Delivered exposures of a few items, up to their guarantees."""

    def total(agent: str) -> float:
        """Delivered exposures; those above a guarantee do not count."""
        return sum(min(delivered[agent].get(item, 0.0), required) for item, required in due.items())

    name = tables.subject(delivered)
    text = (
        f"{name} delivers {count_of(total(name), sum(due.values()))} guaranteed exposures of {len(due)} items"
    )
    if len(due) == 1:
        text = text.replace("1 items", "an item")
    reference = and_reference(name, delivered, lambda agent: f"{agent} {figure(total(agent))}")
    return f"{text} in round {number}{reference}"


def delivered_share(number: int, shares: Mapping[str, float]) -> str:
    """Delivered share of all guarantees of a round."""
    name = tables.subject(shares)
    text = f"{name} delivers {per_cent(shares[name])} of what is guaranteed in round {number}"
    return text + and_reference(name, shares, lambda agent: f"{agent} {per_cent(shares[agent])}")


def campaigns(shares: Mapping[str, float]) -> str:
    """Delivered share of what campaigns are promised."""
    name = tables.subject(shares)
    text = f"{name} delivers {per_cent(shares[name])} of what campaigns are promised"
    return text + and_reference(name, shares, lambda agent: f"{agent} {per_cent(shares[agent])}")


def concentration(shares: Mapping[str, float]) -> str:
    """Exposure of the most shown tenth of the items."""
    name = tables.subject(shares)
    text = f"The most shown tenth of the items takes {per_cent(shares[name])} of the exposure with {name}"
    return text + and_reference(name, shares, lambda agent: f"{per_cent(shares[agent])} with {agent}")


def _error(ratio: float) -> str:
    """Predicted over actual consumptions in words."""
    if abs(ratio - 1) < _CLOSE:
        return "about right"
    return f"{per_cent(abs(ratio - 1))} too {'few' if ratio < 1 else 'many'}"


def _predicts(ratio: float, *, several: bool = False) -> str:
    """Verb and error of one or several platforms."""
    if abs(ratio - 1) < _CLOSE:
        return f"predict{'' if several else 's'} about as many consumptions as occur"
    return f"predict{'' if several else 's'} {_error(ratio)} consumptions"


def reliability(ratios: Mapping[str, float]) -> str:
    """Error of all predictions, from predicted over actual consumptions."""
    if not ratios:
        return "Nothing was consumed"
    name = tables.subject(ratios)
    base = ratios.get(tables.REFERENCE)
    text = f"The platform of {name} {_predicts(ratios[name])}"
    if base is None or name == tables.REFERENCE:
        return text
    if _error(base) == _error(ratios[name]):
        return f"The platforms of {name} and {tables.REFERENCE} {_predicts(base, several=True)}"
    return f"{text}, that of {tables.REFERENCE} {_error(base)}"


def calibration(name: str, first: float, returning: float) -> str:
    """Error of predictions by type of visit."""
    if _error(first) == _error(returning):
        return f"On first and on returning visits, the platform of {name} {_predicts(first)}"
    if abs(first - 1) < _CLOSE:
        returning_text = f"{_error(returning)} consumptions on returning visits"
        return f"The platform of {name} is {_error(first)} on first visits and predicts {returning_text}"
    return (
        f"The platform of {name} {_predicts(first)} on first visits, {_error(returning)} on returning visits"
    )
