"""Configuration of a back-test, and its splits of a log.

A split has two sets of states: test states, and past states on which prices and the level of λ(x) are fitted (T and T′
of Ma, Liu and Deoras, ICLR 2022).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as configuration

from rimsim.arrays import Bools, Floats, Ints
from rimsim.config import DataConfig
from rimsim.config.fields import STRICT, Duration, duration_seconds, require_distinct
from rimsim.data import EventLog
from rimsim.errors import ConfigError, DataError
from rimsim.intensity import UserStates
from rimsim.intensity.registry import parts
from rimsim.intensity.states import CountExamples, count_examples
from rimsim.rng import Purpose, bits
from rimsim.session import ModelName

_FOLDS = 2
_SPANS = 20  # A split by time without a horizon predicts the last 1/20 of the log's time.
_LARGEST_SEED = 2**31


@configuration(frozen=True, config=STRICT)
class SplitConfig:
    """Cut of a log into training and test."""

    kind: Literal["user-relative", "time"] = "user-relative"
    """Rule of the split. user-relative: for half of the users, events later than a span after the first event are
    tested. time: for all users, events after an instant are tested."""
    windows: int = Field(default=1, ge=1)
    """time: number of horizons at the end of the log that are tested. Models of each are fitted to earlier events."""
    recent: float = Field(default=0.5, gt=0, le=1)
    """user-relative: share of each user's events that is used, the latest events."""
    horizon: Duration | None = None
    """Duration of the predicted future. null: for user-relative, the median time between a user's first and last used
    event; for time, a twentieth of the log."""
    users: int | None = Field(default=None, ge=2)
    """time: largest number of tested users, which the seed draws; null: all users."""

    @property
    def overlap(self) -> float:
        """Ratio of a split's test part to its training part.

        For user-relative splits, each seed tests another random half of the users. For splits by time the ratio is 0.
        Windows do not overlap, and are the same at all seeds.
        """
        return 1.0 if self.kind == "user-relative" else 0.0


@configuration(frozen=True, config=STRICT)
class BacktestConfig:
    """Tasks: item recommendation, user recommendation, online matching."""

    data: DataConfig = DataConfig(min_item_events=10)
    """Log of the back-test."""
    split: SplitConfig = SplitConfig()
    """Split of the log."""
    models: tuple[ModelName, ...] = Field(
        default=("transformer-hp", "transformer", "gru-hp", "gru", "hp", "popularity"), min_length=1
    )
    """Names of models, as rimsim.intensity.registry.make knows them."""
    recipe: Literal["thorough", "quick"] = "thorough"
    """Training recipe of sequence models: thorough, or quick as in the closed loop."""
    beta: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.0, 0.3, 0.7, 1.0)
    """Guarantees of online matching, as shares β of the uniform exposure."""
    cap: tuple[Annotated[float, Field(ge=1)], ...] = (3.0, 10.0, 200.0)
    """Caps of online matching. An item gets at most c exposures; a user gets at most this multiple of k positions."""
    prices: Literal["cross-fitted", "seen"] = "cross-fitted"
    """Models that score the past states on which prices are solved. cross-fitted: models that are not fitted to these
    states. seen: the serving model, which is also fitted to the events after these states (as in the public
    implementation)."""
    item_share: float = Field(default=0.01, gt=0, le=1)
    """k as a share of the number of items, rounded up."""
    user_share: float = Field(default=0.01, gt=0, le=1)
    """c as a share of the number of users, rounded up."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=_LARGEST_SEED)], ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds. Each seed draws its own split and fits its own models."""
    tol: float = Field(default=1e-4, gt=0)
    """Certified relative gap at which the price solver stops."""
    dither: float = Field(default=0.01, ge=0)
    """Width of near ties: values λ − v of an item that differ by less than this share of a position's mean value are
    tied, and the seed breaks the tie. At the prices, many items are nearly tied for the same users."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        require_distinct(self, ("models", "beta", "cap", "seeds"))
        if self.split.windows > 1 and self.split.kind != "time":
            raise ConfigError(
                f"windows is {self.split.windows}, which needs a split by time. Add --split time"
            )
        for model in self.models:
            parts(model)


@dataclass(frozen=True, eq=False)
class Targets:
    """Items that users took within the horizon, by state.

    Items that users had consumed are targets only if users of the log can take them again.
    """

    # Ascending keys of (state, item) pairs: row of the state · M + item. The items occur in training.
    key: Ints
    n: int  # number of states
    m: int  # M, number of items
    # Ascending keys of the pairs whose item the user had consumed; None if such items are no targets.
    repeat_key: Ints | None = None

    @property
    def repeats(self) -> Targets | None:
        """Targets that users had consumed; None without repeats."""
        return None if self.repeat_key is None else Targets(key=self.repeat_key, n=self.n, m=self.m)

    @property
    def by_user(self) -> Ints:
        """(n,) number of targets of each state."""
        return np.bincount(self.key // self.m, minlength=self.n)

    @property
    def by_item(self) -> Ints:
        """(M,) number of targets with each item."""
        return np.bincount(self.key % self.m, minlength=self.m)

    def hits(self, rows: Ints, items: Ints) -> Bools:
        """True for pairs that are targets; False for negative indices."""
        if not len(self.key):
            return np.zeros(np.broadcast_shapes(rows.shape, items.shape), bool)
        keys = np.where((rows >= 0) & (items >= 0), rows * self.m + items, -1)
        index = np.minimum(np.searchsorted(self.key, keys), len(self.key) - 1)
        return np.asarray(self.key[index] == keys, bool)


@dataclass(frozen=True, eq=False)
class Fold:
    """Fold of past states, and training events without their future."""

    rows: Ints  # rows of the fold's past states in `LogSplit.past`
    # Training events without those after the fold's states, so that the fit has not seen these.
    train: EventLog


@dataclass(frozen=True, eq=False)
class LogSplit:
    """Training events, states and targets of a cut log."""

    log: EventLog  # events that the split uses, for training or as targets
    train: EventLog
    # States of the test, each with its number of events within the horizon, of known items only.
    test: CountExamples
    targets: Targets
    # Past states for prices, each with its number of events within the horizon; models may be fitted to these events.
    past: CountExamples
    # Parts of the past states. Each part is scored by a model that is fitted without it (cross-fitting).
    folds: tuple[Fold, ...]
    # (M,) True for items with a training event; only these are recommended.
    is_known: Bools
    horizon: float  # seconds after a test state within which events count as targets

    @property
    def offer_times(self) -> tuple[Floats, Floats] | None:
        """Releases and ends in seconds; None without ends."""
        end = self.log.end
        return (self.log.release, end) if np.isfinite(end).any() else None

    @property
    def n_known(self) -> int:
        """Number of known items."""
        return int(self.is_known.sum())

    def future(self) -> EventLog:
        """Test users' log, with events in the horizon as targets."""
        start = np.full(self.log.n_users, np.inf)
        start[self.test.user] = self.test.states.now
        ends = start[self.log.user] + self.horizon
        log = self.log.rows(np.isfinite(ends) & (self.log.time < ends))
        return dataclasses.replace(log, target=(log.time >= start[log.user]) & self.is_known[log.item])


def make_split(log: EventLog, config: SplitConfig, seed: int, window: int = 0) -> LogSplit:
    """Cut a log by seed and window."""
    by_user = config.kind == "user-relative"
    split = _user_relative(log, config, seed) if by_user else _by_time(log, config, seed, window)
    noun_of_targets = (
        "targets (met in training)" if log.repeatable else "targets (new to their users, met in training)"
    )
    needed = (
        (len(split.test.user), "test users", 2),
        (split.n_known, "items with a training event", 2),
        (int(split.past.counts.sum()), "events of past states within the horizon", 1),
        (len(split.targets.key), noun_of_targets, 1),
    )
    problems = [
        f"{count:,} {noun}; at least {minimum} needed" for count, noun, minimum in needed if count < minimum
    ]
    if problems:
        raise _too_little(log, config, "; ".join(problems))
    return split


def _too_little(log: EventLog, config: SplitConfig, problem: str) -> DataError:
    """Error on a log that is too small."""
    name = log.report.source if log.report is not None else "the log"
    return DataError(f"{name}: too little for a {config.kind} back-test: {problem}")


def _user_relative(log: EventLog, config: SplitConfig, seed: int) -> LogSplit:
    """Cut a log as Ma et al. (2022) do for MovieLens-1M.

    Of each user's events, the later half is kept; ties are in random order. T is the median over users of the time from
    the first to the last kept event. Each user of a random half, B, is tested at the time T after its first kept event,
    with the horizon T. The other half of the users, A, gives the past states, also at the time T after the first kept
    event. Models are fitted to all kept events of A and to B's events before the test.
    """
    log = log.rows(_recent(log, config.recent, seed))
    if len(log) == 0:
        raise _too_little(log, config, "no events")
    first = np.full(log.n_users, np.inf)
    last = np.full(log.n_users, -np.inf)
    np.minimum.at(first, log.user, log.time)
    np.maximum.at(last, log.user, log.time)
    present = np.flatnonzero(np.isfinite(first))
    median_span = float(np.median((last - first)[present]))
    horizon = median_span if config.horizon is None else duration_seconds(config.horizon)
    if not horizon > 0:
        problem = "half of the users have all their events at one time; give split.horizon or a split by time"
        raise _too_little(log, config, problem)
    start = first + horizon  # time at which a user's later events begin
    shuffled = present[np.lexsort((present, bits(seed, Purpose.SPLIT, 1, present)))]
    group_a = np.sort(shuffled[: len(shuffled) // 2])
    group_b = np.sort(shuffled[len(shuffled) // 2 :])
    is_later = log.time >= start[log.user]
    train = log.rows(~(is_later & np.isin(log.user, group_b)))
    fold_of_user = bits(seed, Purpose.SPLIT, 2, group_a) % np.uint64(_FOLDS)
    folds = []
    for number in range(_FOLDS):
        rows = np.flatnonzero(fold_of_user == number)
        is_left_out = (train.time >= start[train.user]) & np.isin(train.user, group_a[rows])
        folds.append(Fold(rows=rows, train=train.rows(~is_left_out)))
    return assembled(
        log=log,
        train=train,
        test_user=group_b,
        test_now=start[group_b],
        past_user=group_a,
        past_now=start[group_a],
        folds=tuple(folds),
        horizon=horizon,
    )


def _recent(log: EventLog, share: float, seed: int) -> Bools:
    """Mask of each user's latest events, a given share."""
    n = len(log)
    # Order of events by user, then by time; events at the same time are in random order.
    order = np.lexsort((bits(seed, Purpose.SPLIT, 0, np.arange(n)), log.time, log.user))
    n_events = np.bincount(log.user, minlength=log.n_users)
    first_row = np.cumsum(n_events) - n_events
    user = log.user[order]
    rank = np.arange(n) - first_row[user] + 1  # rank of an event among its user's, from 1
    is_recent = np.zeros(n, bool)
    is_recent[order] = rank / np.maximum(n_events[user], 1) >= 1.0 - share
    return is_recent


def _by_time(log: EventLog, config: SplitConfig, seed: int, window: int) -> LogSplit:
    """Train on events before an instant, test on later events.

    The test states are those of all users known at the beginning of a window. The past states are those of the users
    known one horizon earlier. Mark models that score the past states for prices are fitted to events before these
    states. Events after the end of the window are not used. Window 0 is the earliest.
    """
    if len(log) == 0:
        raise _too_little(log, config, "no events")
    stop = float(np.nextafter(log.time[-1], np.inf))
    span = stop - float(log.time[0])
    horizon = span / _SPANS if config.horizon is None else duration_seconds(config.horizon)
    if not (config.windows + 2) * horizon < span:
        needed = f"a span of more than {config.windows + 2} needed"
        raise _too_little(log, config, f"it spans {span:.0f} s, the horizon is {horizon:.0f} s; {needed}")
    n_later_windows = config.windows - 1 - window
    test_time = stop - (n_later_windows + 1) * horizon
    past_time = stop - (n_later_windows + 2) * horizon
    log = log.before(stop - n_later_windows * horizon)
    first = np.full(log.n_users, np.inf)
    np.minimum.at(first, log.user, log.time)
    test_user = _sampled(np.flatnonzero(first < test_time), config.users, seed)
    past_user = _sampled(np.flatnonzero(first < past_time), config.users, seed)
    fold = Fold(rows=np.arange(len(past_user)), train=log.before(past_time))
    return assembled(
        log=log,
        train=log.before(test_time),
        test_user=test_user,
        test_now=np.full(len(test_user), test_time),
        past_user=past_user,
        past_now=np.full(len(past_user), past_time),
        folds=(fold,),
        horizon=horizon,
    )


def _sampled(users: Ints, max_users: int | None, seed: int) -> Ints:
    """Ascending random sample of users."""
    if max_users is None or len(users) <= max_users:
        return users
    return np.sort(users[np.argsort(bits(seed, Purpose.SPLIT, 3, users), kind="stable")[:max_users]])


def assembled(
    log: EventLog,
    train: EventLog,
    test_user: Ints,
    test_now: Floats,
    past_user: Ints,
    past_now: Floats,
    folds: tuple[Fold, ...],
    horizon: float,
) -> LogSplit:
    """Split of given users and instants."""
    is_known = np.bincount(train.item, minlength=log.n_items) > 0
    log_of_known = log.rows(is_known[log.item])
    known_counts = count_examples(log_of_known, test_user, test_now, horizon)
    # Histories have all items, but only events of known items are counted and predicted.
    states = UserStates.of(log, test_user, test_now)
    return LogSplit(
        log=log,
        train=train,
        test=CountExamples(states, known_counts.counts, known_counts.user),
        targets=_targets(log_of_known, test_user, states, horizon),
        past=count_examples(train, past_user, past_now, horizon),
        folds=folds,
        is_known=is_known,
        horizon=horizon,
    )


def _targets(log: EventLog, users: Ints, states: UserStates, horizon: float) -> Targets:
    """Items that test users took within the horizon."""
    row_of_user = np.full(log.n_users, -1, np.int64)
    row_of_user[users] = np.arange(len(users))
    row = row_of_user[log.user]  # state of each event's user; −1 if the user is not tested
    now = states.now[row]
    is_within = (row >= 0) & (log.time >= now) & (log.time < now + horizon)
    keys_within = row[is_within] * log.n_items + log.item[is_within]
    keys_of_history = states.owner * log.n_items + states.items
    if not log.repeatable:
        return Targets(key=np.setdiff1d(keys_within, keys_of_history), n=len(users), m=log.n_items)
    return Targets(
        key=np.unique(keys_within),
        n=len(users),
        m=log.n_items,
        repeat_key=np.intersect1d(keys_within, keys_of_history),
    )
