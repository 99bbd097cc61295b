"""The ledger of a round: every exposure, in preallocated columns."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints, Ints32, seconds
from rimsim.compiled import compiled
from rimsim.evaluation.off_policy import Chances

if TYPE_CHECKING:
    from rimsim.market.arrivals.schedule import Schedule
    from rimsim.market.consumers.contract import Response
    from rimsim.market.records import Slates


LEDGER_COLUMNS = (
    "agent",
    "seed",
    "round",
    "arrival",
    "time",
    "user",
    "log_user",
    "position",
    "item",
    "intensity",
    "price",
    "propensity",
    "propensity_position",
    "propensity_prefix",
    "propensity_slate",
    "consumed",
)


@compiled
def _write(
    rows: Ints,
    items: Ints,
    consumed: Bools,
    probability: Floats,
    true_intensity: Floats,
    relevance: Float32s,
    ground: Float32s,
    item_column: Ints32,
    consumed_column: Bools,
    probability_column: Floats,
    true_intensity_column: Floats,
    intensity_column: Float32s,
    ground_column: Float32s,
) -> None:
    """Rows of what was served into the rows of the columns; one pass, as most of the time goes into the calls."""
    for n in range(len(rows)):
        row = rows[n]
        ground_column[row] = ground[n]
        for position in range(items.shape[1]):
            item = items[n, position]
            item_column[row, position] = item
            consumed_column[row, position] = consumed[n, position]
            probability_column[row, position] = probability[n, position]
            true_intensity_column[row, position] = true_intensity[n, position]
            intensity_column[row, position] = relevance[n, position] * ground[n] if item >= 0 else np.nan


class Ledger:
    """What was shown to the n arrivals of a round and what came of it; rows are arrivals in clock order."""

    def __init__(self, schedule: Schedule, slate: int) -> None:
        n = len(schedule)
        self.schedule = schedule
        self.item: Ints32 = np.full((n, slate), -1, np.int32)
        """(n, k) items shown; −1 where a position stayed empty."""
        self.consumed: Bools = np.zeros((n, slate), bool)
        """(n, k) what was consumed."""
        self.intensity: Float32s = np.full((n, slate), np.nan, np.float32)
        """(n, k) the platform's λ(x,y) at the decision."""
        self.price: Float32s = np.full((n, slate), np.nan, np.float32)
        """(n, k) item price at the decision; NaN for an agent without prices."""
        self.propensity: Float32s = np.full((n, slate), np.nan, np.float32)
        """(n, k) inclusion probability; NaN for a deterministic agent."""
        self.chances = Chances(*(np.full(shape, np.nan) for shape in ((n, slate), (n, slate), (n, slate), n)))
        """Chances of the slates at the decision; NaN for an agent that does not say them."""
        self.probability: Floats = np.zeros((n, slate))
        """(n, k) true probability of consumption; not part of the saved table, agents' logs would not have it."""
        self.true_intensity: Floats = np.zeros((n, slate))
        """(n, k) true λ*(x)·p*(y|x) of what was shown; likewise."""
        self.uniform: Bools = np.zeros(n, bool)
        """(n,) whether the slate was a uniform draw of admissible items; not part of the saved table."""
        self.ground: Float32s = np.zeros(n, np.float32)
        """(n,) the platform's λ(x) of each arrival."""

    def write(
        self,
        rows: Ints,
        slates: Slates,
        response: Response,
        relevance: Float32s,
        ground: Float32s,
    ) -> None:
        """Enter n served arrivals.

        Args:
            rows: (n,) the arrivals.
            slates: What each was shown.
            response: What each made of it.
            relevance: (n, k) p(y|x) of what was shown.
            ground: (n,) λ(x).
        """
        _write(
            rows,
            slates.items,
            response.consumed,
            response.probability,
            response.intensity,
            relevance,
            ground,
            self.item,
            self.consumed,
            self.probability,
            self.true_intensity,
            self.intensity,
            self.ground,
        )
        if slates.price is not None:
            self.price[rows] = slates.price
        if slates.propensity is not None:
            self.propensity[rows] = slates.propensity
        if slates.chances is not None:
            for part in fields(Chances):
                getattr(self.chances, part.name)[rows] = getattr(slates.chances, part.name)
        if slates.uniform is not None:
            self.uniform[rows] = slates.uniform

    def exposure(self, n_items: int) -> Ints:
        """(M,) exposures of each item so far."""
        return np.bincount(self.item[self.item >= 0], minlength=n_items)

    def consumption(self, n_items: int) -> Ints:
        """(M,) consumptions of each item so far."""
        return np.bincount(self.item[self.consumed], minlength=n_items)

    def true_columns(self) -> dict[str, Array]:
        """What each exposure was truly worth, in the order of :meth:`table`: columns that no agent's log would have."""
        row, position = np.nonzero(self.item >= 0)
        return {
            "arrival": self.schedule.id[row],
            "position": (position + 1).astype(np.int16),
            "item": self.item[row, position],
            "probability": self.probability[row, position],
            "true_intensity": self.true_intensity[row, position],
        }

    def table(self, agent: str, seed: int, number: int) -> pd.DataFrame:
        """The long table of the round, one row an exposure, in (arrival, position) order of the clock."""
        row, position = np.nonzero(self.item >= 0)
        shown = (row, position)
        n = len(row)
        slot = self.schedule.slot[row]
        return pd.DataFrame(
            {
                "agent": pd.Categorical([agent] * n, categories=[agent]),
                "seed": np.full(n, seed, np.int64),
                "round": np.full(n, number, np.int32),
                "arrival": self.schedule.id[row],
                "time": seconds(self.schedule.tick[row]),
                "user": self.schedule.user[slot],
                "log_user": self.schedule.log_user[slot],
                "position": (position + 1).astype(np.int16),
                "item": self.item[shown],
                "intensity": self.intensity[shown],
                "price": self.price[shown],
                "propensity": self.propensity[shown],
                "propensity_position": self.chances.position[shown],
                "propensity_prefix": self.chances.prefix[shown],
                "propensity_slate": self.chances.slate[row],
                "consumed": self.consumed[shown],
            },
            columns=list(LEDGER_COLUMNS),
        )
