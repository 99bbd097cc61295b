"""Outcomes: consumptions of visitors, and the ledger of exposures."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from rimsim import rng
from rimsim.arrays import TICKS, Array, Bools, Float32s, Floats, Ints, Ints32, offsets_of, seconds
from rimsim.compiled import compiled, compiled_part
from rimsim.config import ScenarioConfig
from rimsim.data.log import EventLog
from rimsim.errors import ConfigError
from rimsim.evaluation import DecayEstimate, decay_of_counts, decay_of_slates, taken_by_position
from rimsim.evaluation.off_policy import Chances
from rimsim.intensity.states import UserStates
from rimsim.market.records import Response, Schedule, ScoredStates, Slates, at_items

_ROOM = 1024
"""Number of events for which there is room at the beginning."""


# -- histories --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class LoggedPast:
    """Events of a log grouped by user."""

    offsets: Ints
    """(users + 1,) index of each user's first event."""
    items: Ints
    """(n,) items, by user, then time."""
    times: Floats
    """(n,) times in seconds, by user, ascending."""

    @classmethod
    def of(cls, log: EventLog, *, empty: bool = False) -> LoggedPast:
        """Grouped events of a log; none of them if ``empty``."""
        # Markets over a log share one grouping.
        return _grouped(log, empty)

    @property
    def counts(self) -> Ints:
        """Number of events of each user."""
        return np.diff(self.offsets)

    def length(self, log_user: Ints, logged: Ints | None) -> Ints:
        """Number of logged events per slot, at most ``logged``."""
        everything = self.offsets[log_user + 1] - self.offsets[log_user]
        return everything if logged is None else np.minimum(logged, everything)

    def last(self, log_user: Ints, length: Ints) -> Floats:
        """Seconds at which each past ends; 0 without events."""
        last, some = np.zeros(len(log_user)), length > 0
        last[some] = self.times[(self.offsets[log_user] + length - 1)[some]]
        return last


@lru_cache(maxsize=4)
def _grouped(log: EventLog, empty: bool) -> LoggedPast:  # noqa: FBT001  # a key of the cache
    if empty:
        nothing = np.zeros(0, np.int64)
        return LoggedPast(np.zeros(log.n_users + 1, np.int64), nothing, nothing.astype(np.float64))
    return LoggedPast(log.offsets, log.item[log.by_user], log.time[log.by_user])


class Events(NamedTuple):
    """Consumptions in the market, as linked lists for compiled code."""

    first: Ints
    """(slots,) place of each slot's oldest event; −1 without an event."""
    last: Ints
    """(slots,) place of each slot's newest event."""
    counts: Ints
    """(slots,) number of each slot's events, visible or not."""
    newest: Ints
    """(slots,) tick from which each slot's newest event is visible; the earliest possible tick without an event."""
    tick: Ints
    """(room,) tick from which each event is visible."""
    item: Ints
    """(room,) consumed items."""
    next: Ints
    """(room,) place of the next event of the same slot; −1 after the last event."""
    size: Ints
    """(1,) number of places in use."""


@compiled_part
def enter_event(slot: int, tick: int, item: int, events: Events) -> None:
    """Insert an event, sorted by the tick of its visibility."""
    place = events.size[0]
    before, following = events.last[slot], -1
    if events.newest[slot] > tick:  # what a visitor does by himself may have been entered ahead
        before, following = -1, events.first[slot]
        while events.tick[following] <= tick:  # ends at the newest event, if not before
            before, following = following, events.next[following]
    events.tick[place], events.item[place], events.next[place] = tick, item, following
    if before >= 0:
        events.next[before] = place
    else:
        events.first[slot] = place
    if following < 0:
        events.last[slot], events.newest[slot] = place, tick
    events.counts[slot] += 1
    events.size[0] = place + 1


@compiled
def _enter_all(slots: Ints, ticks: Ints, items: Ints, events: Events) -> None:
    """Insert n events."""
    for n in range(len(slots)):
        enter_event(slots[n], ticks[n], items[n], events)


@compiled
def enter_marked(slots: Ints, ticks: Ints, items: Ints, marked: Bools, first: Ints, last: Ints, counts:
    Ints, newest: Ints, tick: Ints, item: Ints, following: Ints, size: Ints) -> None:  # fmt: skip
    """Add the items of slates that ``marked`` selects, in order."""
    # The events come as arrays: to hand over their record takes longer than to enter the items of one slate.
    events = Events(first, last, counts, newest, tick, item, following, size)
    for n in range(len(slots)):
        for position in range(items.shape[1]):
            if marked[n, position]:
                enter_event(slots[n], ticks[n], items[n, position], events)


@compiled
def _visible_at(slots: Ints, ticks: Ints, first: Ints, counts: Ints, newest: Ints, tick: Ints, following:
    Ints, visible: Ints) -> None:  # fmt: skip
    """Fill in each slot's number of visible events."""
    for n in range(len(slots)):
        slot = slots[n]
        visible[n] = counts[slot]
        if newest[slot] > ticks[n]:
            visible[n], place = 0, first[slot]
            while tick[place] <= ticks[n]:  # ends at the newest event, if not before
                visible[n] += 1
                place = following[place]


@compiled
def _between(slots: Ints, begin: Ints, end: Ints, first: Ints, tick: Ints, item: Ints, following: Ints,
    ticks: Ints, items: Ints) -> None:  # fmt: skip
    """Fill in ticks and items of events ``begin`` to ``end``."""
    size = 0
    for n in range(len(slots)):
        place = first[slots[n]]
        for event in range(end[n]):
            if event >= begin[n]:
                ticks[size], items[size] = tick[place], item[place]
                size += 1
            place = following[place]


@compiled
def _states_of(slots: Ints, counts: Ints, begin: Ints, length: Ints, logged: Ints, logged_at: Floats, shift:
    Floats, first: Ints, tick: Ints, item: Ints, following: Ints, rows: Ints, items: Ints, times:
    Floats) -> None:  # fmt: skip
    """Fill in slot, item and time of each event."""
    # Slots are given by their index in ``slots``.
    end = 0
    for row in range(len(slots)):
        slot = slots[row]
        for place in range(begin[slot], begin[slot] + length[slot]):
            rows[end], items[end], times[end] = row, logged[place], logged_at[place] + shift[slot]
            end += 1
        place = first[slot]
        for _ in range(counts[row]):
            rows[end], items[end], times[end] = row, item[place], tick[place] / TICKS
            place = following[place]
            end += 1


@compiled
def _take_out(slots: Ints, counts: Ints, begin: Ints, length: Ints, logged: Ints, first: Ints, item: Ints,
    following: Ints, scores: Float32s, admissible: Bools) -> None:  # fmt: skip
    """Set consumed items to 0 in scores and admissibility."""
    for row in range(len(slots)):
        slot, score, left = slots[row], scores[row], admissible[row]
        for place in range(begin[slot], begin[slot] + length[slot]):
            score[logged[place]], left[logged[place]] = 0.0, False
        place = first[slot]
        for _ in range(counts[row]):
            score[item[place]], left[item[place]], place = 0.0, False, following[place]


class Histories:
    """Histories by slot: logged past, and consumptions in the market.

    An event is added when its item is consumed, together with the tick from which it belongs to the visitor's state.
    Arrivals at that tick or later have the event in their state, whatever the order of processing.
    """

    def __init__(self, schedule: Schedule, past: LoggedPast) -> None:
        self.past = past
        self.user = schedule.user
        self.log_user = schedule.log_user
        self.shift = schedule.shift
        self.begin = past.offsets[self.log_user]
        """(slots,) where each slot's logged past begins among the events of ``past``."""
        self.length = past.length(self.log_user, schedule.logged)
        """(slots,) events of each slot's logged past."""
        self.row_of_past = self.begin + self.log_user + self.length
        """(slots,) number of each slot's past among all: user u after j events has offsets[u] + u + j."""
        slots = len(self.user)
        self.events = Events(
            first=np.full(slots, -1),
            last=np.full(slots, -1),
            counts=np.zeros(slots, np.int64),
            newest=np.full(slots, np.iinfo(np.int64).min),
            tick=np.zeros(_ROOM, np.int64),
            item=np.zeros(_ROOM, np.int64),
            next=np.zeros(_ROOM, np.int64),
            size=np.zeros(1, np.int64),
        )

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def last_logged(self) -> Floats:
        """End of each logged past in seconds; 0 without events."""
        return np.where(self.length > 0, self.past.last(self.log_user, self.length) + self.shift, 0.0)

    def copy(self) -> Histories:
        """Independent copy of the histories."""
        other = copy.copy(self)
        other.events = Events(*(array.copy() for array in self.events))
        return other

    def append(self, slots: Ints, ticks: Ints, items: Ints) -> None:
        """Add events of slots, each visible from its tick on."""
        self.make_room(len(items))
        _enter_all(slots, ticks, items, self.events)

    def append_marked(self, slots: Ints, ticks: Ints, items: Ints, marked: Bools) -> None:
        """Add the items of slates that ``marked`` selects, in order."""
        self.make_room(items.size)
        enter_marked(slots, ticks, items, marked, *self.events)

    def make_room(self, n: int) -> None:
        """Make room for ``n`` more events."""
        events = self.events
        room = len(events.item)
        if int(events.size[0]) + n > room:
            more = np.zeros(max(room, n), np.int64)
            grown = (np.concatenate([column, more]) for column in (events.tick, events.item, events.next))
            self.events = events._replace(**dict(zip(("tick", "item", "next"), grown, strict=True)))

    def all_events(self) -> tuple[Ints, Ints, Ints]:
        """Slots, ticks and items of all events."""
        # They are by slot, in the order in which they become visible.
        counts = self.events.counts
        slots = np.arange(len(counts))
        return np.repeat(slots, counts), *self.between(slots, np.zeros_like(counts), counts)

    def visible_at(self, slots: Ints, ticks: Ints) -> Ints:
        """Number of each slot's visible events at a tick."""
        events, visible = self.events, np.empty(len(slots), np.int64)
        _visible_at(
            slots, ticks, events.first, events.counts, events.newest, events.tick, events.next, visible
        )
        return visible

    def lengths_at(self, slots: Ints, ticks: Ints) -> Ints:
        """Number of events in states at ticks, logged events included."""
        return np.asarray(self.length[slots] + self.visible_at(slots, ticks), np.int64)

    def between(self, slots: Ints, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
        """Ticks and items of slots' events ``begin`` to ``end``."""
        events, total = self.events, int((end - begin).sum())
        ticks, items = np.empty(total, np.int64), np.empty(total, np.int64)
        _between(slots, begin, end, events.first, events.tick, events.item, events.next, ticks, items)
        return ticks, items

    def consumed(self, slots: Ints, counts: Ints | None = None) -> tuple[Ints, Ints]:
        """Pairs (slot index, item) of logged and ``counts`` market events."""
        # A row is an index of ``slots``; None: all events.
        counts = self.events.counts[slots] if counts is None else counts
        return self._logged_and_other(slots, counts)[:2]

    def take_out(self, slots: Ints, counts: Ints, scores: Float32s, admissible: Bools) -> None:
        """Make consumed items inadmissible, with intensity 0, in place."""
        # Pairs of :meth:`consumed`, of which a list costs more than all else here.
        events = self.events
        _take_out(slots, counts, self.begin, self.length, self.past.items, events.first, events.item,
            events.next, scores, admissible)  # fmt: skip

    def states(self, slots: Ints, counts: Ints, now: Ints) -> UserStates:
        """States of slots with ``counts`` events at the ticks ``now``."""
        _, items, times = self._logged_and_other(slots, counts)
        return UserStates(offsets_of(self.length[slots] + counts), items, times, seconds(now))

    def _logged_and_other(self, slots: Ints, counts: Ints) -> tuple[Ints, Ints, Floats]:
        """Slot, item and time in seconds of states' events."""
        past, events, total = self.past, self.events, int((self.length[slots] + counts).sum())
        rows, items, times = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total)
        _states_of(slots, counts, self.begin, self.length, past.items, past.times, self.shift, events.first,
            events.tick, events.item, events.next, rows, items, times)  # fmt: skip
        return rows, items, times


# -- the ledger -------------------------------------------------------------------------------------------------------
_VISIT = ("agent", "seed", "round", "arrival", "time", "user", "log_user")
_PROPENSITIES = ("propensity", "propensity_position", "propensity_prefix", "propensity_slate")
LEDGER_COLUMNS = (*_VISIT, "position", "item", "intensity", "price", *_PROPENSITIES, "consumed")


@compiled
def write_rows(rows: Ints, items: Ints, consumed: Bools, probability: Floats, true_intensity: Floats, relevance:
    Float32s, ground: Float32s, item_column: Ints32, consumed_column: Bools, probability_column: Floats,
    true_intensity_column: Floats, intensity_column: Float32s, ground_column: Float32s) -> None:  # fmt: skip
    """Write served arrivals into the ledger's columns, in one pass."""
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
        self.chances = Chances(*(np.full(shape, np.nan) for shape in ((n, slate), (n, slate), (n, slate), n)))
        """Chances of the slates at the decision; NaN for an agent that does not report them."""
        self.probability: Floats = np.zeros((n, slate))
        """(n, k) true probability of consumption; not part of the saved table, agents' logs would not have it."""
        self.true_intensity: Floats = np.zeros((n, slate))
        """(n, k) true λ*(x)·p*(y|x) of the shown items; not part of the saved table either."""
        self.uniform: Bools = np.zeros(n, bool)
        """(n,) slates that are a uniform draw of admissible items; not part of the saved table."""
        self.ground: Float32s = np.zeros(n, np.float32)
        """(n,) the platform's λ(x) of each arrival."""

    def write(
        self, rows: Ints, slates: Slates, response: Response, relevance: Float32s, ground: Float32s
    ) -> None:
        """Add served arrivals, with the relevance and λ(x) of each."""
        write_rows(rows, slates.items, response.consumed, response.probability, response.intensity, relevance,
            ground, self.item, self.consumed, self.probability, self.true_intensity, self.intensity,
            self.ground)  # fmt: skip
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
        shown = row, position = np.nonzero(self.item >= 0)
        n, slot = len(row), self.schedule.slot[row]
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


# -- evidence for the platform ----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Shown:
    """Impressions of a round's n arrivals, in clock order."""

    item: Ints32
    """(n, k) items; −1 where a position stayed empty."""
    taken: Bools
    """(n, k) marks of consumed items."""
    propensity: Float32s
    """(n, k) propensity; NaN for a deterministic agent, or if slates do not affect consumption."""
    score: Float32s
    """(n, k) λ(x,y) without a layer, by the models that the round updated; NaN until then, or at empty positions."""
    settled: Ints
    """(n,) tick from which the platform knows the outcome of each slate."""
    history: Ints
    """(n,) events in each arrival's state."""

    @classmethod
    def of(cls, ledger: Ledger, settled: Ints, histories: Histories, *, causes: bool) -> Shown:
        """Impressions of a closed round."""
        events = histories.lengths_at(ledger.schedule.slot, ledger.schedule.tick)
        # Where showing items does not cause consumption, a propensity says nothing of it.
        nothing = np.full(ledger.item.shape, np.nan, np.float32)
        propensity = ledger.propensity if causes else nothing
        return cls(ledger.item, ledger.consumed, propensity, nothing, settled, events)

    def rows(self, which: Ints) -> Shown:
        """Impressions of chosen arrivals, in the given order."""
        return Shown(*(getattr(self, field.name)[which] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Shown]) -> Shown:
        """Impressions of several rounds, one after the other."""
        return cls(*(np.concatenate([getattr(one, field.name) for one in parts]) for field in fields(cls)))

    def scored(self, states: ScoredStates) -> Shown:
        """Impressions with intensities from given scores of the arrivals."""
        score = np.full(self.item.shape, np.nan, np.float32)
        for chunk in states:
            items = self.item[chunk.row].astype(np.int64)
            found = at_items(chunk.relevance, items) * chunk.ground_intensity.cpu().numpy()[:, None]
            score[chunk.row] = np.where(items >= 0, found, np.nan)
        return replace(self, score=score)


@dataclass(frozen=True, eq=False)
class PastRound:
    """Events of a closed round: arrivals, consumptions and impressions."""

    number: int
    schedule: Schedule
    histories: Histories
    shown: Shown | None = None
    """Impressions; None if the platform does not learn from them."""


def fold_of(seed: int, users: Ints) -> Ints:
    """Fold, 0 or 1, of each user of the market."""
    # A model of one fold has not seen the last round of the other.
    return (rng.bits(seed, rng.Purpose.MODEL, 7, users) & np.uint64(1)).astype(np.int64)


# -- examination ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Examined:
    """Evidence from which γ, the decay of examination, is estimated."""

    counts: Ints
    """(2, k) number of items that uniform slates showed at each position, and of consumed items; 0 if not used."""
    estimate: DecayEstimate | None = None
    """Estimate of γ from all rounds so far; None before the first round, or if γ is known."""

    @classmethod
    def nothing(cls, slate: int) -> Examined:
        """Evidence before the first round is over."""
        return cls(np.zeros((2, slate), np.int64))

    def decay(self, config: ScenarioConfig) -> float:
        """Value of γ that the platform uses next round."""
        if config.exposure.examination == "known":
            return config.consumer.position_decay
        return config.exposure.prior_decay if self.estimate is None else self.estimate.decay

    def after(self, ledger: Ledger, known: Bools, config: ScenarioConfig) -> Examined:
        """Evidence after a further round, from slates with known outcomes."""
        # Uniform slates of all rounds are counted together. Harvested estimates of rounds are independent, since each
        # has levels, slopes and items of its own, so they are averaged by their precision.
        how = config.exposure.examination
        if how == "random":
            rows = known & ledger.uniform
            counts = self.counts + taken_by_position(ledger.item[rows], ledger.consumed[rows])
            return Examined(counts, decay_of_counts(counts))
        if how == "harvested":
            found = decay_of_slates(ledger.item[known], ledger.consumed[known], ledger.intensity[known])
            pooled = [estimate for estimate in (self.estimate, found) if estimate is not None]
            return replace(self, estimate=DecayEstimate.pooled(pooled))
        return self


def require_uniform(uniform: Bools | None, config: ScenarioConfig) -> None:
    """Refuse agents without uniform slates if γ is estimated.

    Raises:
        ConfigError: If the agent shows no uniform slates, but γ is estimated from uniform slates.
    """
    if config.exposure.examination == "random" and uniform is None:
        raise ConfigError(
            "exposure.examination is 'random', but this agent shows no uniformly random slates. Set examination "
            "to 'harvested' or 'known', or choose the agent random, epsilon-greedy or your own agent that "
            "sets Slates.uniform"
        )
