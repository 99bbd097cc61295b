"""The log that a platform is retrained on: the warm-up users that top it up to its size."""

import dataclasses

import numpy as np
import pytest
from kit import cases
from kit.logs import log_of
from kit.markets import played, small_scenario

from rimsim.config import LogWindow, PlatformConfig
from rimsim.market.training_log import training_log

N_USERS = 40
PER_USER = 5
N_ITEMS = 90


def _warmup(items=N_ITEMS):
    """A log in which each of 40 users consumes five items; item 7 u + n at second 100 u + n."""
    user = np.repeat(np.arange(N_USERS), PER_USER)
    step = np.tile(np.arange(PER_USER), N_USERS)
    return log_of(user, (7 * user + step) % 80, 100.0 * user + step, N_USERS, items)


def _platform(size, warmup="top-up"):
    window = LogWindow(rounds=2, warmup=warmup, size=size)
    return PlatformConfig(model="popularity-hp", log_window=window)


def _sets(log):
    """Events of each user of a log, as sets."""
    pairs = list(zip(log.user.tolist(), log.item.tolist(), log.time.tolist(), strict=True))
    return {frozenset((item, time) for user, item, time in pairs if user == chosen) for chosen in log.user}


@pytest.fixture(scope="module")
def market():
    """A market after three rounds, of which the last two are in the window."""
    return played(small_scenario(platform=_platform(1)))


@cases(
    "size users",
    (1, 1),
    (PER_USER, 1),
    (PER_USER + 1, 2),
    (10 * PER_USER - 1, 10),
    (10 * PER_USER, 10),
    (10 * PER_USER + 1, 11),
    (N_USERS * PER_USER, N_USERS),
    (10_000, N_USERS),
)
def test_as_few_users_as_reach_the_size_are_taken_whole(size, users):
    """Each of them with all of its events: no user more than needed, and none in part."""
    warmup = _warmup()
    log = training_log(_platform(size), warmup, [], 0, seed=4)
    assert len(log) == users * PER_USER
    assert log.n_users == users
    assert _sets(log) < _sets(warmup) or users == N_USERS
    assert len(_sets(log)) == users


@cases("missing users", (-1, 0), (0, 0), (1, 1), (12, 3), (15, 3), (16, 4))
def test_consumptions_of_the_window_count_towards_the_size(missing, users, market):
    """Only the target events of its rounds do, and not what their visitors had done before."""
    warmup = _warmup(market.world.past.items)
    rounds = market.platform.rounds
    now = rounds[-1].schedule.stop
    consumed = training_log(_platform(1, "none"), warmup, rounds, now, 0)
    n_targets = int(consumed.targets.sum())
    assert 0 < n_targets < len(consumed)
    topped_up = training_log(_platform(n_targets + missing), warmup, rounds, now, 0)
    assert len(topped_up) - len(consumed) == users * PER_USER
    assert topped_up.n_users == consumed.n_users + users
    assert int(topped_up.targets.sum()) == n_targets + users * PER_USER


def test_the_sample_of_users_depends_on_seed_and_number_of_rounds(market):
    """One seed has the same sample at each call; another seed, or another number of rounds, has another."""
    warmup = _warmup(market.world.past.items)
    rounds = market.platform.rounds
    assert len(rounds) == 2
    now = rounds[0].schedule.start  # before anything is consumed

    def sample(seed, n_rounds):
        log = training_log(_platform(50), warmup, rounds[2 - n_rounds :], now, seed)
        return frozenset(_sets(log))

    assert sample(0, 2) == sample(0, 2)
    assert len({sample(seed, n_rounds) for seed in range(5) for n_rounds in range(3)}) == 15
    order = [min(time for _, time in events) for events in sample(0, 0)]
    assert np.ptp(order) > 100 * 10  # not the first ten users of the log


def test_rounds_before_the_window_change_nothing(market):
    """Where users stay, the platform keeps all rounds; the sample then depends on those of the window alone."""
    rounds = market.platform.rounds
    older = [rounds[0], *rounds]
    now = rounds[0].schedule.start  # before anything is consumed
    within_window = training_log(_platform(50), _warmup(), rounds, now, seed=4)
    assert _sets(training_log(_platform(50), _warmup(), older, now, seed=4)) == _sets(within_window)


@cases("warmup users", ("all", N_USERS), ("none", 0))
def test_all_or_none_of_the_warm_up_is_taken_whatever_the_size(warmup, users):
    """The size limits a sample alone."""
    assert len(training_log(_platform(50, warmup), _warmup(), [], 0, 0)) == users * PER_USER


def test_history_of_the_warm_up_stays_history():
    """Events that are no targets of the warm-up log are none of the training log."""
    log = _warmup()
    warmup = dataclasses.replace(log, target=log.item % 2 == 0)
    topped_up = training_log(_platform(60), warmup, [], 0, 0)
    np.testing.assert_array_equal(topped_up.targets, topped_up.item % 2 == 0)
    assert len(topped_up) == 12 * PER_USER
