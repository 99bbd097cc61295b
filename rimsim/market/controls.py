"""Controls: other training data instead of a platform's own rounds.

A platform that retrains differs in three ways from a platform that never retrains: its training log is small and
recent, this log comes from the simulated market, and the platform's own slates chose the events. Only the third
difference, events chosen by own slates, is feedback. A control trains on as many events, but these events do not depend
on the platform's slates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

import numpy as np

from rimsim import rng
from rimsim.arrays import Ints, numbered, ticks
from rimsim.config import ScenarioConfig, Seeds
from rimsim.errors import ConfigError, MarketError
from rimsim.market.arrivals import RoundsSoFar
from rimsim.market.arrivals.clones import Clones, events_before
from rimsim.market.arrivals.contract import ArrivalProcess
from rimsim.market.consumers.contract import World
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.past_round import PastRound, Shown
from rimsim.market.providers import Provider, is_fixed
from rimsim.market.records import VISIT_BITS, Schedule

_MOST_REPLICAS = 100
"""Largest number of replicas of a round. If all replicas together have too few events, the control is refused."""


def require_controllable(
    config: ScenarioConfig, arrivals: ArrivalProcess, providers: Provider, control: str
) -> None:
    """Refuse a control if slates affect arrivals or offered items.

    Raises:
        ConfigError: If visitors are the same in every round, providers leave or come, or processes change the market.
    """
    if arrivals.keeps_users:
        raise ConfigError(
            f"{control}: arrivals.kind {config.arrivals.kind!r} has the same visitors in every round. "
            "Choose a kind with new visitors in every round, such as clones"
        )
    if not is_fixed(providers):
        raise ConfigError(
            f"{control}: with providers.kind {config.providers.kind!r} the items on offer depend on the "
            "slates of an arm. Set providers.kind to 'none'"
        )
    if config.processes:
        raise ConfigError(
            f"{control}: the processes {', '.join(map(repr, config.processes))} may change the market by what an arm "
            "shows. Set processes to []"
        )


class Control(Protocol):
    """Source of training data other than the platform's own rounds.

    Under a control, the platform still serves its own visitors.
    """

    def learnt(self, past: PastRound) -> PastRound:
        """Training data that replace the agent's own round."""


def replica_seeds(seeds: Seeds, replica: int) -> Seeds:
    """Seeds of a replica; replica 0 has the market's seeds."""
    if not replica:
        return seeds
    seed_of = dataclasses.asdict(seeds).items()
    return Seeds(**{name: rng.derived_seed(seed, rng.Purpose.CONTROL, replica) for name, seed in seed_of})


class Shadowed:
    """Control that trains on slates that no model chose.

    The control takes as many events as the arm had, in the order in which they become known. The events come from
    replicas, which simulate the round with slates that no model chose. The first replica has the seeds of the arm.
    Further replicas have new seeds, and are used if events are missing.

    Args:
        replica: Function of the number of a replica that returns its rounds, with their impressions.
        sizes: Number of events of the arm in each round.
    """

    def __init__(self, replica: Callable[[int], Sequence[PastRound]], sizes: Sequence[int]) -> None:
        self._replica = replica
        self._sizes = sizes

    def learnt(self, past: PastRound) -> PastRound:
        """Events of replicas, as many as the arm had.

        Raises:
            MarketError: If the replicas yield too few events.
        """

        def events_of(replica: int, limit: int) -> _ReplicaEvents:
            """At most ``limit`` events of a replica's round."""
            return _ReplicaEvents.of(self._replica(replica)[past.number]).first(limit)

        return _gathered(past, self._sizes[past.number], events_of)


class AsLogged:
    """Control that trains on the logged sessions behind the visits.

    The control has the visitors of the arm in the same states, so only consumptions differ. As many events as the arm
    had are sampled from the logged sessions behind the visits. If these sessions have too few events, more sessions of
    the warm-up log are sampled. No slates were shown, so there are no impressions.
    """

    def __init__(self, config: ScenarioConfig, world: World, seeds: Seeds, sizes: Sequence[int]) -> None:
        arrivals = dataclasses.replace(config.arrivals, draw="sessions")
        self._clones = Clones(dataclasses.replace(config, arrivals=arrivals))
        self._world = world
        self._seeds = seeds
        self._sizes = sizes

    def learnt(self, past: PastRound) -> PastRound:
        """Logged events, as many as the arm had.

        Raises:
            MarketError: If the log has too few events.
        """
        return _gathered(past, self._sizes[past.number], partial(self._logged, past))

    def _logged(self, past: PastRound, replica: int, limit: int) -> _ReplicaEvents:
        """Sample of at most ``limit`` events of the visitors' sessions."""
        seeds = replica_seeds(self._seeds, replica)
        schedule = past.schedule
        if replica:
            schedule = self._clones.round(past.number, RoundsSoFar(self._world, seeds.arrivals))
        log = LoggedPast.of(self._world.past)
        first_event, n_events = self._sessions_of(schedule)
        slot, nth = numbered(n_events)
        # The sample has the events with the smallest random keys.
        random_key = rng.bits(seeds.choice, rng.Purpose.CONTROL, past.number, schedule.user[slot], nth)
        sampled = np.sort(np.argsort(random_key, kind="stable")[:limit])
        event = (first_event[slot] + nth)[sampled]
        slot = slot[sampled]
        visible_from = ticks(log.times[event] + schedule.shift[slot]) + 1
        # A session may end after its round, but its events must become visible within it.
        visible_from = np.clip(visible_from, schedule.start, past.schedule.stop - 1)
        return _ReplicaEvents(
            schedule=schedule,
            logged=past.histories.past,
            slot=slot,
            tick=visible_from,
            item=log.items[event],
            shown=None,
        )

    def _sessions_of(self, schedule: Schedule) -> tuple[Ints, Ints]:
        """First event and size of each slot's session, or 0."""
        sessions = self._world.past_sessions
        past = self._world.past
        if schedule.logged is None:
            return np.zeros(len(schedule.user), np.int64), np.zeros(len(schedule.user), np.int64)
        # A slot copies the session of its user that has ``logged`` events before it. The key of a session is unique,
        # because the number of events before it is below the stride.
        stride = len(past) + 1
        key = sessions.user * stride + events_before(sessions)
        order = np.argsort(key)
        key_of_slot = schedule.log_user * stride + schedule.logged
        index = np.minimum(np.searchsorted(key[order], key_of_slot), len(key) - 1)
        count = np.where(key[order][index] == key_of_slot, sessions.count[order][index], 0)
        return LoggedPast.of(past).offsets[schedule.log_user] + schedule.logged, count


def _gathered(past: PastRound, wanted: int, events_of: Callable[[int, int], _ReplicaEvents]) -> PastRound:
    """Round of ``wanted`` events, taken from one replica after another.

    ``events_of`` takes the number of a replica and a largest number of events.
    """
    missing = wanted
    parts = list[_ReplicaEvents]()
    while missing or not parts:
        if len(parts) == _MOST_REPLICAS:
            raise MarketError(
                f"control of round {past.number}: {_MOST_REPLICAS} replicas together have {wanted - missing} of the "
                f"{wanted} events that the arm has. Choose consumers that also consume without a slate (organic "
                "consumption), or the control organic, which takes events from the log"
            )
        parts.append(events_of(len(parts), missing))
        missing -= len(parts[-1].item)
    return _joined(parts, past)


@dataclass(frozen=True, eq=False)
class _ReplicaEvents:
    """Visits of a replica's round and n of their events."""

    schedule: Schedule
    """Visits."""
    logged: LoggedPast
    """Logged past of the visitors."""
    slot: Ints
    """(n,) slot of each event's visitor."""
    tick: Ints
    """(n,) tick at which each event becomes known."""
    item: Ints
    """(n,) consumed items."""
    shown: Shown | None
    """Impressions of the visits; None if no slates were shown."""

    @classmethod
    def of(cls, past: PastRound) -> Self:
        """Visits of a round, with all their events."""
        slot, tick, item = past.histories.all_events()
        return cls(
            schedule=past.schedule,
            logged=past.histories.past,
            slot=slot,
            tick=tick,
            item=item,
            shown=past.shown,
        )

    def first(self, n: int) -> _ReplicaEvents:
        """First n events, with the visits before the last event."""
        if len(self.item) <= n:
            return self
        order = np.lexsort((np.arange(len(self.item)), self.slot, self.tick))
        chosen = np.sort(order[:n])
        slot = self.slot[chosen]
        tick = self.tick[chosen]
        item = self.item[chosen]
        shown = self.shown
        if shown is None:  # the platform does not learn from impressions, so only the events matter
            return dataclasses.replace(self, slot=slot, tick=tick, item=item)
        settled = shown.settled
        visitor = self.schedule.slot
        # Mask of visits whose outcome is known before the last event, or with it.
        is_before = np.zeros(len(settled), bool)
        if n:
            last = order[n - 1]
            is_tied = (settled == self.tick[last]) & (visitor <= self.slot[last])
            is_before = (settled < self.tick[last]) | is_tied
        stride = int(self.item.max()) + 1
        rule = self.logged.rule
        known_ticks = np.unique(self.tick)
        pair_of_position = visitor[:, None] * stride + shown.item
        visible_from = np.broadcast_to(self.schedule.tick[:, None] + rule.wait, shown.item.shape)
        is_chosen = np.isin(
            rule.keys(pair_of_position, visible_from, known_ticks),
            rule.keys(slot * stride + item, self.tick[chosen], known_ticks),
        )
        is_surplus = shown.taken & ~is_chosen  # the last slate may have more consumptions than are needed
        items = np.where(is_surplus, -1, shown.item).astype(np.int32)
        shown = dataclasses.replace(shown, item=items, taken=shown.taken & is_chosen)
        columns = {
            name: getattr(self.schedule, name)[is_before] for name in ("tick", "id", "slot", "session")
        }
        return _ReplicaEvents(
            schedule=dataclasses.replace(self.schedule, **columns),
            logged=self.logged,
            slot=slot,
            tick=tick,
            item=item,
            shown=shown.rows(np.flatnonzero(is_before)),
        )


def _joined(parts: Sequence[_ReplicaEvents], past: PastRound) -> PastRound:
    """Round with the visitors of several rounds, in clock order."""
    # Visitors of different rounds get different numbers and slots.
    first_user = 0
    first_slot = 0
    schedules = []
    for part in parts:
        schedule = part.schedule
        schedules.append(dataclasses.replace(schedule, id=schedule.id + (first_user << VISIT_BITS),
            slot=schedule.slot + first_slot, user=schedule.user + first_user) )  # fmt: skip
        first_user += int(schedule.user.max(initial=-1)) + 1
        first_slot += len(schedule.user)
    order = np.argsort(np.concatenate([schedule.tick for schedule in schedules]), kind="stable")

    def column(name: str) -> Ints:
        """Column of all schedules, one after the other."""
        return np.concatenate([getattr(schedule, name) for schedule in schedules])

    logged = None
    if any(schedule.logged is not None for schedule in schedules):
        all_events = parts[0].logged.counts
        logged = np.concatenate(
            [
                all_events[schedule.log_user] if schedule.logged is None else schedule.logged
                for schedule in schedules
            ]
        )
    joined = Schedule(
        tick=column("tick")[order],
        id=column("id")[order],
        slot=column("slot")[order],
        session=column("session")[order],
        user=column("user"),
        log_user=column("log_user"),
        shift=np.concatenate([schedule.shift for schedule in schedules]),
        start=past.schedule.start,
        stop=past.schedule.stop,
        logged=logged,
    )
    histories = Histories(joined, parts[0].logged)
    first_slot = 0
    for part in parts:
        histories.append(part.slot + first_slot, part.tick, part.item)
        first_slot += len(part.schedule.user)
    shown = [part.shown for part in parts if part.shown is not None]
    impressions = Shown.joined(shown).rows(order) if len(shown) == len(parts) else None
    return PastRound(number=past.number, schedule=joined, histories=histories, shown=impressions)
