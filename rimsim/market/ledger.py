"""Ledger: exposures and consumptions of a round."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints, Ints32, seconds
from rimsim.compiled import CompiledRecord
from rimsim.evaluation.off_policy import Chances
from rimsim.market.records import Schedule, Slates

_VISIT = ("agent", "seed", "round", "arrival", "time", "user", "log_user")
_PROPENSITIES = ("propensity", "propensity_position", "propensity_prefix", "propensity_slate")
LEDGER_COLUMNS = (*_VISIT, "position", "item", "intensity", "price", *_PROPENSITIES, "consumed")
"""Names of the columns of a ledger's table."""


@dataclass(frozen=True, eq=False)
class LedgerColumns(CompiledRecord):
    """Columns of a ledger that compiled code fills in."""

    item: Ints32
    consumed: Bools
    probability: Floats
    true_intensity: Floats
    intensity: Float32s
    ground: Float32s


class Ledger:
    """Exposures of a round's n arrivals, in clock order."""

    def __init__(self, schedule: Schedule, slate: int) -> None:
        n = len(schedule)
        self.schedule = schedule
        self.item: Ints32 = np.full((n, slate), -1, np.int32)
        """(n, k) items shown; −1 where a position stayed empty."""
        self.consumed: Bools = np.zeros((n, slate), bool)
        """(n, k) marks of consumed items."""
        self.intensity: Float32s = np.full((n, slate), np.nan, np.float32)
        """(n, k) the platform's λ(x,y) at the decision."""
        self.price: Float32s = np.full((n, slate), np.nan, np.float32)
        """(n, k) item price at the decision; NaN for an agent without prices."""
        self.propensity: Float32s = np.full((n, slate), np.nan, np.float32)
        """(n, k) inclusion probability; NaN for a deterministic agent."""
        self.chances = Chances(
            inclusion=np.full((n, slate), np.nan),
            position=np.full((n, slate), np.nan),
            prefix=np.full((n, slate), np.nan),
            slate=np.full(n, np.nan),
        )
        """Chances of the slates at the decision; NaN for an agent that does not report them."""
        self.probability: Floats = np.zeros((n, slate))
        """(n, k) true probability of consumption; not part of the saved table, because a real log would not have it."""
        self.true_intensity: Floats = np.zeros((n, slate))
        """(n, k) true λ*(x)·p*(y|x) of the shown items; not part of the saved table either."""
        self.uniform: Bools = np.zeros(n, bool)
        """(n,) slates that are a uniform draw of admissible items; not part of the saved table."""
        self.organic: Ints = np.zeros(n, np.int64)
        """(n,) organic consumptions of each visit, which no slate brought; not part of the saved table."""
        self.ground: Float32s = np.zeros(n, np.float32)
        """(n,) the platform's λ(x) of each arrival."""
        self.columns = LedgerColumns(
            item=self.item,
            consumed=self.consumed,
            probability=self.probability,
            true_intensity=self.true_intensity,
            intensity=self.intensity,
            ground=self.ground,
        )
        """Columns that :func:`rimsim.market.serving.enter_slates` fills in."""

    def note(self, rows: Ints, slates: Slates) -> None:
        """Enter the prices and chances that an agent reports."""
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
        """Exposures of each item so far."""
        return np.bincount(self.item[self.item >= 0], minlength=n_items)

    def consumption(self, n_items: int) -> Ints:
        """Consumptions of each item so far."""
        return np.bincount(self.item[self.consumed], minlength=n_items)

    def true_columns(self) -> dict[str, Array]:
        """True worth of each exposure, in the order of :meth:`table`."""
        row, position = np.nonzero(self.item >= 0)
        return {
            "arrival": self.schedule.id[row],
            "position": (position + 1).astype(np.int16),
            "item": self.item[row, position],
            "probability": self.probability[row, position],
            "true_intensity": self.true_intensity[row, position],
        }

    def table(self, agent: str, seed: int, number: int) -> pd.DataFrame:
        """Table of the round, with one row per exposure."""
        row, position = np.nonzero(self.item >= 0)
        shown = (row, position)  # index of the filled positions
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
