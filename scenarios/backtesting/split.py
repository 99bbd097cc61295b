"""Splits of a back-test: what models learn from, the states they are tested on, and what those states did next.

Two sets of states: D, on which everything is measured, and V, past states on which prices and the level of λ(x) are
fitted (T and T′ of Ma, Liu and Deoras, ICLR 2022).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Bools, Floats, Ints
from rimsim.config.fields import duration_seconds
from rimsim.errors import DataError
from rimsim.intensity import UserStates
from rimsim.intensity.states import CountExamples, count_examples
from rimsim.rng import Purpose, bits

if TYPE_CHECKING:
    from rimsim.data import EventLog
    from rimsim.scenarios.backtesting.config import SplitConfig


_FOLDS = 2
_SPANS = 20
"""calendar: horizons in a log, where none is given."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What n states did within the horizon: distinct items that were met in training and are new to the user."""

    key: Ints
    """Ascending row · M + item of each such pair."""
    n: int
    """States."""
    m: int
    """Items, M."""

    @property
    def by_user(self) -> Ints:
        """(n,) targets of each state."""
        return np.bincount(self.key // self.m, minlength=self.n)

    @property
    def by_item(self) -> Ints:
        """(M,) targets with each item."""
        return np.bincount(self.key % self.m, minlength=self.m)

    def hits(self, rows: Ints, items: Ints) -> Bools:
        """Whether pairs are targets; rows and items broadcast together, a negative one is no pair."""
        if not len(self.key):
            return np.zeros(np.broadcast_shapes(rows.shape, items.shape), bool)
        wanted = np.where((rows >= 0) & (items >= 0), rows * self.m + items, -1)
        place = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        return np.asarray(self.key[place] == wanted, bool)


@dataclass(frozen=True, eq=False)
class Fold:
    """Some of the states of V, and what a model may learn from that has not seen what they did next."""

    rows: Ints
    """Rows of V that are scored by such a model."""
    train: EventLog
    """What the mark model is fitted to."""


@dataclass(frozen=True, eq=False)
class Split:
    """One cut of a log."""

    log: EventLog
    """The events that take part."""
    train: EventLog
    """What models are fitted to."""
    test: CountExamples
    """D: the test states, and how many events with known items followed each within the horizon."""
    targets: Targets
    """What the test states did next."""
    past: CountExamples
    """V: past states, and the counts of all events that followed; models may have seen them."""
    folds: tuple[Fold, ...]
    """V again, for prices that are fitted out of sample."""
    known: Bools
    """(M,) items with a training event; the others are not recommended."""
    horizon: float
    """Seconds."""

    @property
    def n_known(self) -> int:
        """Known items."""
        return int(self.known.sum())

    def future(self) -> EventLog:
        """The test states' histories, with what they did within the horizon as targets."""
        start = np.full(self.log.n_users, np.inf)
        start[self.test.user] = self.test.states.now
        ends = start[self.log.user] + self.horizon
        log = self.log.rows(np.isfinite(ends) & (self.log.time < ends))
        return dataclasses.replace(log, target=(log.time >= start[log.user]) & self.known[log.item])


def make_split(log: EventLog, config: SplitConfig, seed: int) -> Split:
    """Cut a log.

    Args:
        log: The whole log.
        config: How.
        seed: Draws groups of users and the order of ties.

    Raises:
        DataError: If the log is too little for such a cut.
    """
    split = (
        _user_relative(log, config, seed) if config.kind == "user-relative" else _calendar(log, config, seed)
    )
    facts = {
        "test users": (len(split.test.user), 2),
        "items with a training event": (int(split.known.sum()), 2),
        "events of past states within the horizon": (int(split.past.counts.sum()), 1),
        "targets (new to their users, met in training)": (len(split.targets.key), 1),
    }
    lacking = [
        f"{count:,} {what}; at least {least} needed"
        for what, (count, least) in facts.items()
        if count < least
    ]
    if lacking:
        raise _too_little(log, config, "; ".join(lacking))
    return split


def _too_little(log: EventLog, config: SplitConfig, what: str) -> DataError:
    name = log.report.source if log.report is not None else "the log"
    return DataError(f"{name}: too little for a {config.kind} back-test: {what}")


def _user_relative(log: EventLog, config: SplitConfig, seed: int) -> Split:
    """The recipe of the public implementation for MovieLens-1M.

    Of each user the last events are kept (half of them, ties in a drawn order). A random half of the users, B, is
    tested at the user's first kept event + T, where T is the median over users of the time from first to last kept
    event, and also the horizon. The other half, A, gives the past states V in the same way. Models are fitted to all
    kept events of A and to B's before their test.
    """
    log = log.rows(_recent(log, config.recent, seed))
    if len(log) == 0:
        raise _too_little(log, config, "no events")
    first, last = np.full(log.n_users, np.inf), np.full(log.n_users, -np.inf)
    np.minimum.at(first, log.user, log.time)
    np.maximum.at(last, log.user, log.time)
    present = np.flatnonzero(np.isfinite(first))
    usual = float(np.median((last - first)[present]))
    horizon = usual if config.horizon is None else duration_seconds(config.horizon)
    if not horizon > 0:
        raise _too_little(
            log,
            config,
            "half of the users have all their events at one time; give split.horizon or a calendar split",
        )
    start = first + horizon
    order = present[np.lexsort((present, bits(seed, Purpose.SPLIT, 1, present)))]
    group_a, group_b = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    late = log.time >= start[log.user]
    train = log.rows(~(late & np.isin(log.user, group_b)))
    half = bits(seed, Purpose.SPLIT, 2, group_a) % np.uint64(_FOLDS)
    folds = []
    for number in range(_FOLDS):
        rows = np.flatnonzero(half == number)
        unseen = (train.time >= start[train.user]) & np.isin(train.user, group_a[rows])
        folds.append(Fold(rows, train.rows(~unseen)))
    return assembled(log, train, group_b, start[group_b], group_a, start[group_a], tuple(folds), horizon)


def _recent(log: EventLog, share: float, seed: int) -> Bools:
    """(n,) events whose rank within their user, by time and then by lot, is among the last ``share``."""
    n = len(log)
    order = np.lexsort((bits(seed, Purpose.SPLIT, 0, np.arange(n)), log.time, log.user))
    size = np.bincount(log.user, minlength=log.n_users)
    begin = np.cumsum(size) - size
    user = log.user[order]
    rank = np.arange(n) - begin[user] + 1
    keep = np.zeros(n, bool)
    keep[order] = rank / np.maximum(size[user], 1) >= 1.0 - share
    return keep


def _calendar(log: EventLog, config: SplitConfig, seed: int) -> Split:
    """Train before an instant, test on what follows it.

    D is every known user at the end of the log less one horizon, V a horizon earlier; the mark models that score V for
    prices are fitted to what came before it.
    """
    if len(log) == 0:
        raise _too_little(log, config, "no events")
    stop = float(np.nextafter(log.time[-1], np.inf))
    span = stop - float(log.time[0])
    horizon = span / _SPANS if config.horizon is None else duration_seconds(config.horizon)
    if not 3 * horizon < span:
        raise _too_little(
            log,
            config,
            f"it spans {span:.0f} s, the horizon is {horizon:.0f} s; a span of more than 3 needed",
        )
    instants = [stop - number * horizon for number in (1, 2)]
    first = np.full(log.n_users, np.inf)
    np.minimum.at(first, log.user, log.time)
    users = [_drawn(np.flatnonzero(first < instant), config.users, seed) for instant in instants]
    train, earlier = log.before(instants[0]), log.before(instants[1])
    fold = Fold(np.arange(len(users[1])), earlier)
    starts = [np.full(len(known), instant) for known, instant in zip(users, instants, strict=True)]
    return assembled(log, train, users[0], starts[0], users[1], starts[1], (fold,), horizon)


def _drawn(users: Ints, most: int | None, seed: int) -> Ints:
    if most is None or len(users) <= most:
        return users
    return np.sort(users[np.argsort(bits(seed, Purpose.SPLIT, 3, users), kind="stable")[:most]])


def assembled(
    log: EventLog,
    train: EventLog,
    test_user: Ints,
    test_now: Floats,
    past_user: Ints,
    past_now: Floats,
    folds: tuple[Fold, ...],
    horizon: float,
) -> Split:
    """A split from its choices.

    Args:
        log: The events that take part.
        train: Those that models are fitted to.
        test_user: (n,) users of D.
        test_now: (n,) their instants, seconds.
        past_user: (n′,) users of V.
        past_now: (n′,) their instants, seconds.
        folds: V again, out of sample.
        horizon: Seconds.
    """
    known = np.bincount(train.item, minlength=log.n_items) > 0
    warm = log.rows(known[log.item])
    after = count_examples(warm, test_user, test_now, horizon)
    states = UserStates.of(log, test_user, test_now)
    return Split(
        log=log,
        train=train,
        test=CountExamples(states, after.counts, after.user),
        targets=_targets(warm, test_user, states, horizon),
        past=count_examples(train, past_user, past_now, horizon),
        folds=folds,
        known=known,
        horizon=horizon,
    )


def _targets(log: EventLog, users: Ints, states: UserStates, horizon: float) -> Targets:
    place = np.full(log.n_users, -1, np.int64)
    place[users] = np.arange(len(users))
    row = place[log.user]
    now = states.now[row]
    inside = (row >= 0) & (log.time >= now) & (log.time < now + horizon)
    pairs = row[inside] * log.n_items + log.item[inside]
    seen = states.owner * log.n_items + states.items
    return Targets(np.setdiff1d(pairs, seen), len(users), log.n_items)
