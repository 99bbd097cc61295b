"""``creators``: providers who upload as often as they are satisfied."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim import rng
from rimsim.arrays import NEVER, TICKS, Bools, Floats, Ints, ticks
from rimsim.config.fields import Duration, duration_seconds
from rimsim.errors import ConfigError
from rimsim.market.processes.handle import MarketHandle
from rimsim.market.records import delay_ticks
from rimsim.market.satisfaction import SatisfactionRule, providers_of_items

if TYPE_CHECKING:
    import pandas as pd

_DEALING_SEED = 0
"""Seed that deals items to creators and holds items back, the same for all seeds of a run."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Creators(SatisfactionRule):
    """Creators who upload sooner if their items were shown.

    A part of the catalogue is held back at the opening. Each creator uploads its next item after an exponential wait.
    Its rate is (X/start)^reaction uploads per ``every``, where X is the creator's satisfaction after the last review. A
    creator stops for good when X falls below the threshold. The rule of X is that of the providers ``viability``.
    """

    column: str | None = None
    """Column of the item table with an item's creator, of which the first name counts; null: items are dealt to
    creators at random."""
    each: int = Field(default=5, ge=1)
    """Number of items of each creator if `column` is null."""
    held_back: float = Field(default=0.5, ge=0, lt=1)
    """Share of each creator's items that are uploaded later, rounded down. The warm-up log has events of these
    items."""
    every: Duration = "7d"
    """Mean time from one upload of a creator to the next at the satisfaction `start`."""
    reaction: float = Field(default=1.0, ge=0, le=10, allow_inf_nan=False)
    """Elasticity of the rate of uploads. 0: creators do not react. 1: twice the satisfaction doubles the rate."""
    review: Duration = "1d"
    """Time after which satisfaction changes and creators stop."""
    leaves: bool = True
    """If true, a creator who stops takes all its items off offer."""

    def __post_init__(self) -> None:
        if not (0 < self.start < math.inf):
            raise ConfigError(f"creators.start is {self.start:g}. Expected a finite number above 0")

    def run(self, env: simpy.Environment, market: MarketHandle) -> Generator[simpy.Event, Any, None]:
        """Upload items when they are due, and review satisfaction."""
        of_item = self.creators_of(market.items)
        memory = market.memory
        if not memory:
            self._open(env, market, of_item)
        while True:
            due = self._due(memory, of_item)
            next_tick = min(int(due.min(initial=NEVER)), int(memory["next_review"]))
            yield env.timeout((next_tick - int(ticks(env.now))) / TICKS)
            is_due = due <= next_tick
            market.release(is_due)
            memory["waits"] = memory["waits"] & ~is_due
            if memory["next_review"] <= next_tick:
                self._review(market, of_item)

    def creators_of(self, items: pd.DataFrame) -> Ints:
        """(M,) creator of each item of an item table."""
        if self.column is not None:
            return providers_of_items(items, self.column, "creators.column")[0]
        return np.argsort(_order(len(items), 0)) // self.each

    def _open(self, env: simpy.Environment, market: MarketHandle, of_item: Ints) -> None:
        """Hold items back, and draw the waits of all uploads."""
        n_items = len(of_item)
        rank, size = _ranks(of_item, _order(n_items, 1), market.on_offer)
        is_held_back = market.on_offer & (rank < np.floor(self.held_back * size))
        # A creator's uploads are a Poisson process of rate 1 on its own clock, which goes faster if the creator is more
        # satisfied. All draws are made at the opening, so that all arms share them.
        unit_waits = np.where(is_held_back, market.rng.standard_exponential(n_items), 0.0)
        order = np.lexsort((rank, of_item))
        sums = np.cumsum(unit_waits[order])
        is_first = np.r_[True, np.diff(of_item[order]) > 0]
        before = np.repeat(
            (sums - unit_waits[order])[is_first], np.diff(np.r_[np.flatnonzero(is_first), n_items])
        )
        upload_at = np.zeros(n_items)
        upload_at[order] = sums - before
        n_creators = int(of_item.max()) + 1
        review = delay_ticks(self.review)
        market.end(is_held_back)
        market.memory |= {
            "waits": is_held_back,
            "upload_at": upload_at,
            "elapsed": np.zeros(n_creators),
            "satisfaction": np.full(n_creators, self.start),
            "active": np.ones(n_creators, bool),
            "exposure": market.exposure.copy(),
            "consumption": market.consumption.copy(),
            "next_review": int(ticks(env.now)) + review,
        }

    def _rates(self, memory: dict[str, Any]) -> Floats:
        """(G,) uploads of each creator per second."""
        factor = (np.maximum(memory["satisfaction"], 0.0) / self.start) ** self.reaction
        return np.where(memory["active"], factor, 0.0) / duration_seconds(self.every)

    def _due(self, memory: dict[str, Any], of_item: Ints) -> Ints:
        """(M,) tick of each upload at the current rates."""
        last_review = memory["next_review"] - delay_ticks(self.review)
        waits = memory["waits"]
        rates = self._rates(memory)[of_item]
        due = np.full(len(of_item), NEVER)
        is_coming = waits & (rates > 0)
        left = np.maximum(memory["upload_at"] - memory["elapsed"][of_item], 0.0)[is_coming]
        seconds = np.minimum(left / rates[is_coming], duration_seconds(self.review))
        due[is_coming] = last_review + ticks(seconds)
        # An upload after the next review is computed again at that review.
        due[due >= memory["next_review"]] = NEVER
        return due

    def _review(self, market: MarketHandle, of_item: Ints) -> None:
        """Change satisfaction, and let dissatisfied creators stop."""
        memory = market.memory
        review = duration_seconds(self.review)
        memory["elapsed"] = memory["elapsed"] + self._rates(memory) * review
        exposure = market.exposure
        consumption = market.consumption
        n_creators = len(memory["active"])
        shown = np.bincount(of_item, exposure - memory["exposure"], n_creators).astype(np.float64)
        consumed = np.bincount(of_item, consumption - memory["consumption"], n_creators).astype(np.float64)
        active: Bools = memory["active"]
        satisfaction = np.where(
            active, self.after(memory["satisfaction"], shown, consumed), memory["satisfaction"]
        )
        stops = active & (satisfaction < self.threshold)
        memory |= {
            "satisfaction": satisfaction,
            "active": active & ~stops,
            "exposure": exposure.copy(),
            "consumption": consumption.copy(),
            "next_review": memory["next_review"] + delay_ticks(self.review),
        }
        if self.leaves:
            market.end(stops[of_item] & market.on_offer)


def _order(n_items: int, key: int) -> Ints:
    """Items in random order."""
    return np.argsort(rng.bits(_DEALING_SEED, rng.Purpose.PROCESSES, key, np.arange(n_items)), kind="stable")


def _ranks(of_item: Ints, order: Ints, is_counted: Bools) -> tuple[Ints, Ints]:
    """(M,) ranks of counted items within creators, and their numbers."""
    position = np.argsort(order)
    by_creator = np.lexsort((position, ~is_counted, of_item))
    sizes = np.bincount(of_item)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    rank = np.empty(len(of_item), np.int64)
    rank[by_creator] = np.arange(len(of_item)) - first
    return rank, np.bincount(of_item, is_counted)[of_item].astype(np.int64)
