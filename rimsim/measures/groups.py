"""Figures of groups of items, such as sellers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.data.log import prices_of
from rimsim.measures.facts import RoundFacts

GROUP_METRICS = {
    "items": "number of its items",
    "exposures": "exposures of its items, in positions",
    "delivered": "the same in the unit of the guarantee (`exposure.unit`)",
    "required": "guaranteed exposures of the round, in that unit; with `exposure.per` also those carried over",
    "undelivered": "guaranteed exposures that were not delivered, in that unit",
    "utility": "expected consumptions of its items, by the true probabilities",
    "consumptions": "consumptions of its items",
    "revenue": "sum of the prices of its consumed items",
    "bonus": "Σ w_r·(−v)₊ over exposures of its items: the most that they cost users, in expected consumptions",
}
"""Metric of table ``groups`` → its meaning."""


def figures_of_items(facts: RoundFacts) -> dict[str, Floats]:
    """Metric → (M,) values of items in a round."""
    is_shown = facts.slates >= 0
    item = facts.slates[is_shown]

    def sums(amounts: Floats) -> Floats:
        """Sum of each item's amounts over its exposures."""
        return np.bincount(item, amounts[is_shown], facts.n_items).astype(np.float64)

    figures = {
        "items": np.ones(facts.n_items),
        "exposures": facts.exposure.astype(np.float64),
        "delivered": facts.delivered,
        "utility": sums(facts.probability),
        "consumptions": facts.consumption.astype(np.float64),
    }
    price = prices_of(facts.items)
    if price is not None:
        figures["revenue"] = price * facts.consumption
    if facts.item_price is not None:
        bonus = np.nan_to_num(-facts.price.astype(np.float64)).clip(0.0)
        figures["bonus"] = sums(bonus * facts.position_weights)
    return figures


def figures_of_groups(
    facts: RoundFacts, members: Mapping[str, Ints], required: Mapping[str, tuple[float, float]]
) -> list[tuple[str, str, float]]:
    """Group, metric and value of each figure of a round.

    Args:
        facts: The round.
        members: Group → its items.
        required: Group with a guarantee → its required and its delivered exposures, in the unit of the guarantee.
    """
    item_figures = figures_of_items(facts)
    rows = []
    for group, items in members.items():
        figures = {metric: float(values[items].sum()) for metric, values in item_figures.items()}
        if group in required:
            required_exposure, delivered = required[group]
            figures["required"] = required_exposure
            figures["undelivered"] = max(required_exposure - delivered, 0.0)
        rows += [(group, metric, figures[metric]) for metric in GROUP_METRICS if metric in figures]
    return rows
