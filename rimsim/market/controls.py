"""Controls: what a platform learns from in place of its own rounds, so that what its slates bring about can be told.

A platform that retrains on what its own slates chose differs from one that does not retrain in three things: that it
trains on a small new log, that this log is of another market than the warm-up log, and that its own slates chose what
is in it. Only the third is feedback. A control learns from as many events which those slates did not choose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from rimsim import rng
from rimsim.arrays import Ints, numbered, ticks
from rimsim.config import Seeds
from rimsim.errors import ConfigError, MarketError
from rimsim.market.arrivals import RoundsSoFar
from rimsim.market.arrivals.clones import Clones, events_before
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.ledger import PastRound, Shown
from rimsim.market.providers import is_fixed
from rimsim.market.records import VISIT_BITS, Schedule

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.market.arrivals.contract import ArrivalProcess
    from rimsim.market.consumers.contract import World
    from rimsim.market.providers import Provider


_MOST = 100
"""Replicas of a round that are looked at before it counts as one that yields too little."""


def require_controllable(
    config: ScenarioConfig, arrivals: ArrivalProcess, providers: Provider, control: str
) -> None:
    """Refuse a control where an arm's own slates decide who comes or what is on offer.

    Args:
        config: The scenario.
        arrivals: Its arrivals.
        providers: Its providers.
        control: What is refused, for the message.

    Raises:
        ConfigError: If visitors are the same in every round, or providers leave or come.
    """
    if arrivals.keeps_users:
        raise ConfigError(
            f"{control} with arrivals.kind {config.arrivals.kind!r}, whose visitors are the same in every "
            "round; allowed: arrivals with visitors who are new in every round, such as clones"
        )
    if not is_fixed(providers):
        raise ConfigError(
            f"{control} with providers.kind {config.providers.kind!r}, where what is on offer hangs on what "
            "an arm shows; allowed: providers.kind 'none'"
        )


class Control(Protocol):
    """Says what a platform learns from in place of each of its own rounds; the states that it serves stay its own."""

    def learnt(self, own: PastRound) -> PastRound:
        """What stands for a round in the platform's log.

        Args:
            own: The round, as the control's own agent played it.
        """
        ...


def replica_seeds(seeds: Seeds, replica: int) -> Seeds:
    """The seeds of a further play of a market; replica 0 has those of the market itself."""
    if not replica:
        return seeds
    return Seeds(
        **{
            field.name: rng.derived_seed(getattr(seeds, field.name), rng.Purpose.CONTROL, replica)
            for field in dataclasses.fields(Seeds)
        }
    )


class Shadowed:
    """What visitors consume under slates that do not hang on any model, as many events as an arm had.

    Events are taken in the order in which they become known, from replica 0 of the round, then from the next, until
    the number is reached. The slates up to the last event that is taken come along, and where a replica is used up,
    those after it too.

    Args:
        replica: Number of a replica → its rounds, with all that was shown in them.
        sizes: How many events the arm had in each round.
    """

    def __init__(self, replica: Callable[[int], Sequence[PastRound]], sizes: Sequence[int]) -> None:
        self._replica = replica
        self._sizes = sizes

    def learnt(self, own: PastRound) -> PastRound:
        """As many events of the round's replicas as the arm had in it.

        Raises:
            MarketError: If the replicas yield too little.
        """

        def part(replica: int, most: int) -> _Part:
            whole = _Part.of(self._replica(replica)[own.number])
            return whole if len(whole.item) <= most else whole.first(most)

        return _gathered(own, self._sizes[own.number], part)


class AsLogged:
    """What the visitors of a round did in the log, in the sessions that their visits stand for, as many as an arm had.

    The visitors are the arm's own, in the states in which they came, so that only what they consume differs: events
    are drawn from all that these sessions hold, each event alike. Where they hold too few, or visits stand for no
    session of the warm-up log, more sessions of it are drawn. Nothing was shown, so there are no impressions.

    Args:
        config: The scenario.
        world: Its log.
        seeds: Seeds of the market.
        sizes: How many events the arm had in each round.
    """

    def __init__(self, config: ScenarioConfig, world: World, seeds: Seeds, sizes: Sequence[int]) -> None:
        arrivals = dataclasses.replace(config.arrivals, draw="sessions")
        self._clones = Clones(dataclasses.replace(config, arrivals=arrivals))
        self._world = world
        self._seeds = seeds
        self._sizes = sizes

    def learnt(self, own: PastRound) -> PastRound:
        """As many logged events as the arm had in the round.

        Raises:
            MarketError: If the log holds too little.
        """

        def part(replica: int, most: int) -> _Part:
            return self._logged(replica, own, most)

        return _gathered(own, self._sizes[own.number], part)

    def _logged(self, replica: int, own: PastRound, most: int) -> _Part:
        """At most so many events of the sessions of a round's visitors; of replica 0 those are the round's own."""
        seeds, schedule = replica_seeds(self._seeds, replica), own.schedule
        if replica:
            schedule = self._clones.round(own.number, RoundsSoFar(self._world, seeds.arrivals))
        log = LoggedPast.of(self._world.past)
        begin, length = self._sessions_of(schedule)
        slot, nth = numbered(length)
        lot = rng.bits(seeds.choice, rng.Purpose.CONTROL, own.number, schedule.user[slot], nth)
        drawn = np.sort(np.argsort(lot, kind="stable")[:most])
        slot, place = slot[drawn], (begin[slot] + nth)[drawn]
        known = ticks(log.times[place] + schedule.shift[slot]) + 1
        known = np.clip(known, schedule.start, own.schedule.stop - 1)  # a session may outlast its round
        return _Part(schedule, own.histories.past, slot, known, log.items[place], None)

    def _sessions_of(self, schedule: Schedule) -> tuple[Ints, Ints]:
        """(slots,) where among all users' events each slot's session begins, and how many it holds; 0 for none."""
        sessions, past = self._world.past_sessions, self._world.past
        if schedule.logged is None:
            return np.zeros(len(schedule.user), np.int64), np.zeros(len(schedule.user), np.int64)
        wide = len(past) + 1
        key = sessions.user * wide + events_before(sessions)
        order = np.argsort(key)
        wanted = schedule.log_user * wide + schedule.logged
        at = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
        count = np.where(key[order][at] == wanted, sessions.count[order][at], 0)
        return LoggedPast.of(past).offsets[schedule.log_user] + schedule.logged, count


def _gathered(own: PastRound, wanted: int, part: Callable[[int, int], _Part]) -> PastRound:
    """So many events of a round, from one replica of it after the other.

    Args:
        own: The round.
        wanted: How many events.
        part: Number of a replica, and how many events of it at most → its visits and events.

    Raises:
        MarketError: If the replicas yield too little.
    """
    missing, parts = wanted, list[_Part]()
    while missing or not parts:
        if len(parts) == _MOST:
            raise MarketError(
                f"control of round {own.number}: {_MOST} replicas of it hold {missing} events fewer than the arm had; "
                "allowed: consumers who take something of what they are shown without regard to them, or logged"
            )
        parts.append(part(len(parts), missing))
        missing -= len(parts[-1].item)
    return _joined(parts, own)


@dataclass(frozen=True, eq=False)
class _Part:
    """Visits of a round and n events of theirs, by slot, in the order in which they become known."""

    schedule: Schedule
    logged: LoggedPast
    slot: Ints
    tick: Ints
    item: Ints
    shown: Shown | None

    @classmethod
    def of(cls, past: PastRound) -> Self:
        """All of a round."""
        return cls(past.schedule, past.histories.past, *past.histories.all_events(), past.shown)

    def first(self, n: int) -> _Part:
        """The first n events, and the visits up to the last of them."""
        order = np.lexsort((np.arange(len(self.item)), self.slot, self.tick))
        chosen = np.sort(order[:n])
        slot, tick, item = self.slot[chosen], self.tick[chosen], self.item[chosen]
        shown = self.shown
        assert shown is not None  # noqa: S101  # what is consumed was shown
        last = order[n - 1] if n else 0
        settled, visitor = shown.settled, self.schedule.slot
        if n:
            rows = (settled < self.tick[last]) | ((settled == self.tick[last]) & (visitor <= self.slot[last]))
        else:
            rows = np.zeros(len(settled), bool)
        wide = int(self.item.max()) + 1
        left = np.isin(visitor[:, None] * wide + shown.item, slot * wide + item)
        beyond = shown.taken & ~left  # of the slate that reaches the number
        shown = dataclasses.replace(
            shown, item=np.where(beyond, -1, shown.item).astype(np.int32), taken=shown.taken & left
        )
        schedule = dataclasses.replace(
            self.schedule,
            **{name: getattr(self.schedule, name)[rows] for name in ("tick", "id", "slot", "session")},
        )
        return _Part(schedule, self.logged, slot, tick, item, shown.rows(np.flatnonzero(rows)))


def _joined(parts: Sequence[_Part], own: PastRound) -> PastRound:
    """One round of all visitors of some parts, who stay apart, in clock order; one part stays as it is."""
    first_user, first_slot, schedules = 0, 0, []
    for part in parts:
        schedule = part.schedule
        schedules.append(
            dataclasses.replace(
                schedule,
                id=schedule.id + (first_user << VISIT_BITS),
                slot=schedule.slot + first_slot,
                user=schedule.user + first_user,
            )
        )
        first_user += int(schedule.user.max(initial=-1)) + 1
        first_slot += len(schedule.user)
    order = np.argsort(np.concatenate([schedule.tick for schedule in schedules]), kind="stable")

    def column(name: str) -> Ints:
        return np.concatenate([getattr(schedule, name) for schedule in schedules])

    logged = None
    if any(schedule.logged is not None for schedule in schedules):
        everything = np.diff(parts[0].logged.offsets)
        logged = np.concatenate(
            [everything[one.log_user] if one.logged is None else one.logged for one in schedules]
        )
    joined = Schedule(
        tick=column("tick")[order],
        id=column("id")[order],
        slot=column("slot")[order],
        session=column("session")[order],
        user=column("user"),
        log_user=column("log_user"),
        shift=np.concatenate([schedule.shift for schedule in schedules]),
        start=own.schedule.start,
        stop=own.schedule.stop,
        logged=logged,
    )
    histories = Histories(joined, parts[0].logged)
    offset = 0
    for part in parts:
        histories.append(part.slot + offset, part.tick, part.item)
        offset += len(part.schedule.user)
    return PastRound(own.number, joined, histories, _shown(parts, order))


def _shown(parts: Sequence[_Part], order: Ints) -> Shown | None:
    """All that was shown in some parts, in an order; None where a part has nothing of the kind."""
    shown = [part.shown for part in parts if part.shown is not None]
    if len(shown) < len(parts):
        return None
    return Shown.joined(shown).rows(order)
