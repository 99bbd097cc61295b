"""Handle by which a process reads and changes a market."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import simpy
from numpy.typing import ArrayLike

from rimsim import rng
from rimsim.arrays import TICKS, Array, Bools, Ints
from rimsim.errors import MarketError, require_known
from rimsim.market.consumers.contract import ConsumerCapabilities
from rimsim.market.fallbacks import FALLBACKS
from rimsim.market.processes.life import Life

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.config import Seeds
    from rimsim.market.clock import Clock
    from rimsim.market.consumers.contract import Consumer, World
    from rimsim.market.processes.effects import Effects
    from rimsim.market.simulation import Simulation
    from rimsim.requirements.on_offer import TimesOnOffer


class ChangeableMarket(Protocol):
    """Market as its handles need it; :class:`rimsim.market.Market` is one."""

    round: int
    seeds: Seeds
    world: World
    consumer: Consumer
    n_items: int
    simulation: Simulation
    effects: Effects

    @property
    def env(self) -> Clock:
        """Clock of the market."""

    @property
    def now(self) -> datetime:
        """Current time in UTC."""

    @property
    def times(self) -> TimesOnOffer:
        """Times at which items can be shown."""

    def counts(self) -> tuple[Ints, Ints]:
        """Exposures and consumptions of each item since the opening."""

    def change_offer(self, items: Ints, *, is_release: bool) -> None:
        """Release or end items from now on."""

    def scale_demand(self, process: int, items: Ints, factor: float) -> None:
        """Set a process's factor of the demand for items."""

    def stop_model(self, process: int, fallback: str) -> None:
        """Let a fallback answer on behalf of a process."""

    def start_model(self, process: int) -> None:
        """Let a process's fallback no longer answer."""

    def retrain(self, process: int, takes: int) -> bool:
        """Start a training for a process; false if frozen."""

    def note_happening(self, process: str, change: str, items: Ints | None, value: float) -> None:
        """Record a change by a process."""


class MarketHandle:
    """Market as a process sees it.

    All arrays are read-only. Changes hold from the current instant on: no later slate has an item that has ended, and
    no earlier slate is affected. Only the process itself may make changes, while it is awake.

    Args:
        number: Number of the process in the scenario.
        life: Name and wakes of the process.
    """

    __slots__ = ("_items", "_life", "_market", "_number", "_rng", "_rng_round")

    def __init__(self, market: ChangeableMarket, number: int, life: Life) -> None:
        self._market = market
        self._number = number
        self._life = life
        self._items: pd.DataFrame | None = None
        self._rng: np.random.Generator | None = None
        self._rng_round = -1

    @property
    def now(self) -> datetime:
        """Current time in UTC; ``env.now`` is the same in seconds."""
        return self._market.now

    @property
    def round(self) -> int:
        """Number of the current round, from 0."""
        return self._market.round

    @property
    def served(self) -> int:
        """Number of visits served since the opening."""
        return self._market.simulation.visits.served

    @property
    def exposure(self) -> Ints:
        """(M,) exposures of each item since the opening."""
        return _read_only(self._market.counts()[0])

    @property
    def consumption(self) -> Ints:
        """(M,) items taken since the opening, from slates and freely.

        Consumptions that a replay takes from the log without a slate do not count.
        """
        return _read_only(self._market.counts()[1])

    @property
    def on_offer(self) -> Bools:
        """(M,) mask of the items on offer."""
        return _read_only(self._market.times.at(np.array([self._market.env.tick]))[0])

    @property
    def items(self) -> pd.DataFrame:
        """Copy of the item table; row y is item y."""
        if self._items is None:
            self._items = self._market.world.log.items.copy()
        return self._items

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers of the process in this round.

        The generator begins again in each round, from a key of the seed, the process and the round. So a resumed run
        draws the same numbers.
        """
        if self._rng is None or self._rng_round != self.round:
            seed = self._market.seeds.arrivals
            self._rng = rng.generator(seed, rng.Purpose.PROCESSES, self._number, self.round)
            self._rng_round = self.round
        return self._rng

    @property
    def memory(self) -> dict[str, Any]:
        """Memory of the process, saved with the market.

        Its values, by name, are numbers, texts, arrays, or lists and mappings of numbers and texts. It is empty at the
        opening.
        """
        return self._market.effects.memory[self._number]

    @memory.setter
    def memory(self, memory: dict[str, Any]) -> None:
        self._market.effects.memory[self._number] = memory

    def release(self, items: ArrayLike) -> None:
        """Offer items from now on.

        An item that the log ends later ends then. Items on offer stay as they are.
        """
        chosen = self._chosen(items)
        self._change(chosen[~self._offered(chosen)], "release")

    def end(self, items: ArrayLike) -> None:
        """Take items off offer until they are released.

        An item that is not released yet is not released later by itself.
        """
        chosen = self._chosen(items)
        self._change(chosen[self._market.effects.times.end[chosen] > self._market.env.tick], "end")

    def scale_demand(self, items: ArrayLike, factor: float) -> None:
        """Multiply the demand for items by a factor.

        The factor holds from now on, and replaces the earlier factor of this process, so 1 takes it back. It multiplies
        the true intensity λ*(x)·p*(y|x), so 0 sells nothing. Factors of several processes multiply each other.
        """
        chosen = self._chosen(items)
        if not ConsumerCapabilities.of(self._market.consumer).needs_truth:
            raise MarketError(
                "scale_demand: the consumer has no fitted truth whose demand could change. Choose another "
                "consumer.kind, such as intensity"
            )
        if not (math.isfinite(factor) and factor >= 0):
            raise MarketError(f"scale_demand: the factor is {factor}. Expected a finite number of at least 0")
        changed = chosen[self._market.effects.demand[self._number, chosen] != factor]
        if len(changed):
            self._market.scale_demand(self._number, changed, float(factor))
            self._note("demand", changed, float(factor))

    def stop_model(self, fallback: str = "popularity") -> None:
        """Take the platform's model out of service from now on.

        Until :meth:`start_model`, a fallback answers all visits instead of the agent: ``popularity``, ``random`` or
        ``last`` (the visitor's last slate).
        """
        self._require_awake()
        require_known("stop_model: the fallback is {}", [fallback], FALLBACKS)
        self._market.stop_model(self._number, fallback)
        self._note("stop_model")

    def start_model(self) -> None:
        """Take the platform's model into service again.

        If other processes still hold it out of service, their fallback answers.
        """
        self._require_awake()
        if self._number in self._market.effects.stopped:
            self._market.start_model(self._number)
            self._note("start_model")

    def retrain(self, takes: float = 0.0) -> None:
        """Start a training of the platform's model now.

        The platform learns what it knows at this instant. The new model goes live after ``takes`` seconds. Until then,
        the old model serves and the events go on. Trainings may overlap, but a model does not go live after a model
        whose training started later. If ``platform.retrain`` is false, nothing happens.
        """
        self._require_awake()
        if not (math.isfinite(takes) and takes >= 0):
            raise MarketError(f"retrain: takes is {takes} s. Expected a finite number of at least 0 s")
        if self._market.retrain(self._number, round(takes * TICKS)):
            self._note("train")

    def model_live(self) -> simpy.Event:
        """Event of the next model that goes live.

        Its value is the number of models that went live so far, without the model of the opening.
        """
        return self._market.simulation.model_live()

    def round_end(self) -> simpy.Event:
        """Event at the end of the current round.

        It comes after the last visit, before the platform retrains. Its value is the number of the round.
        """
        return self._market.simulation.round_end()

    def visits(self, n: int) -> simpy.Event:
        """Event after the next ``n`` visits have been served."""
        if n < 1:
            raise MarketError(f"visits: n is {n}. Expected at least 1")
        return self._market.simulation.after_visits(n)

    def _offered(self, items: Ints) -> Bools:
        """Mask of items whose times cover the current instant."""
        times = self._market.effects.times
        return np.asarray(times.at(np.array([self._market.env.tick]))[0, items], np.bool_)

    def _change(self, items: Ints, change: str) -> None:
        """Release or end items, and record it."""
        if len(items):
            self._market.change_offer(items, is_release=change == "release")
            self._note(change, items)

    def _chosen(self, items: ArrayLike) -> Ints:
        """Distinct items of an argument, which may be a mask."""
        self._require_awake()
        n_items = self._market.n_items
        numbers = np.atleast_1d(np.asarray(items))
        if numbers.dtype == np.bool_ and numbers.shape == (n_items,):
            numbers = np.flatnonzero(numbers)
        if numbers.size == 0:
            return np.zeros(0, np.int64)
        if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
            raise MarketError(
                f"items have type {numbers.dtype} and shape {numbers.shape}. Expected numbers of items, from 0 to "
                f"{n_items - 1}"
            )
        if numbers.min() < 0 or numbers.max() >= n_items:
            wrong = int(numbers[(numbers < 0) | (numbers >= n_items)][0])
            raise MarketError(f"item {wrong} is not in the catalogue. Expected items from 0 to {n_items - 1}")
        return np.unique(numbers.astype(np.int64))

    def _require_awake(self) -> None:
        """Refuse changes by anyone but the process itself."""
        if self._market.env.owner is not self._life:
            raise self._life.error(
                "its handle was used outside run. Change the market only within run and the generators that it starts"
            )

    def _note(self, change: str, items: Ints | None = None, value: float = math.nan) -> None:
        """Record a change for the table of happenings."""
        self._market.note_happening(self._life.name, change, items, value)


def _read_only(array: Array) -> Array:
    """Array that cannot be written to."""
    array.setflags(write=False)
    return array
