"""Made-up logs like MovieLens: skewed users and items, tastes, sessions all over the calendar, no repeats."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rimsim.data import EventLog, write
from rimsim.system import cache_folder
from rimsim.testing.intensity import random_items

__all__ = ["SIZES", "Size", "log_file"]

_DAY = 86_400.0
_BEGIN = 9.5e8
_CALENDAR = 1_500 * _DAY
_DRAWN = 3
"""Events that are drawn for one that is wanted: repeats are dropped."""
_TASTES = 20
"""Groups of users, each of which likes one item in so many."""
_SESSION = 15.0
"""Mean events of a session, as in MovieLens 100K."""
_USERS = 4_096
"""Users that are drawn at once: memory is that of the log itself."""


class Size(NamedTuple):
    """How large a log is."""

    events: int
    """About so many: those who take most of the catalogue run out of items."""
    users: int
    items: int


SIZES = {
    "XS": Size(200_000, 1_500, 1_700),
    "S": Size(1_000_000, 6_000, 3_700),
    "M": Size(5_000_000, 40_000, 10_000),
    "L": Size(25_000_000, 160_000, 30_000),
}


def log_file(name: str) -> Path:
    """The log of a size as a Parquet file, written once beside the cache."""
    path = cache_folder() / "benchmarks" / f"sessions-all-over-{name}.parquet"
    if not path.exists():
        write(made_up(SIZES[name]), path)
    return path


def made_up(size: Size, seed: int = 0) -> EventLog:
    """A log: events of users are lognormal, popularity of items falls as a power, every item occurs.

    A user's sessions lie anywhere within a stretch of the calendar, which is longer for those who come often and is
    continued at the calendar's beginning where it ends: whatever part of the calendar is looked at has its share of
    arrivals.

    Args:
        size: How large.
        seed: Seed of all draws.
    """
    source = np.random.default_rng([seed, size.events, 0])
    activity = source.lognormal(0.0, 1.1, size.users)
    count = np.maximum(np.rint(activity / activity.sum() * size.events).astype(np.int64), 2)
    rank = source.permutation(size.items)
    parts = [
        _of_users(count[first : first + _USERS], rank, np.random.default_rng([seed, size.events, 1, first]))
        for first in range(0, size.users, _USERS)
    ]
    user = np.concatenate([part[0] + number * _USERS for number, part in enumerate(parts)])
    item, time = (np.concatenate([part[place] for part in parts]) for place in (1, 2))
    del parts
    unseen = np.flatnonzero(np.bincount(item, minlength=size.items) == 0)
    user = np.append(user, unseen % size.users)
    item = np.append(item, unseen)
    time = np.append(time, np.floor(_CALENDAR * source.random(len(unseen))))
    order = np.lexsort((item, user, time))
    return EventLog(
        user=user[order],
        item=item[order],
        time=_BEGIN + time[order],
        value=np.ones(len(user), np.float32),
        users=pd.DataFrame({"id": np.arange(size.users)}),
        items=random_items(size.items),
    )


def _of_users(
    count: NDArray[np.int64], rank: NDArray[np.int64], source: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Users, items and seconds since the beginning of some users' events, counted from the first of them."""
    user = np.repeat(np.arange(len(count)), _DRAWN * count)
    item = _items(user, rank, source)
    _, first = np.unique(user * len(rank) + item, return_index=True)
    first.sort()
    user = user[first]
    item = item[first]
    wanted = np.arange(len(user)) - np.searchsorted(user, np.arange(len(count)))[user] < count[user]
    user = user[wanted]
    item = item[wanted]
    begins = (source.random(len(user)) < 1.0 / _SESSION) | np.diff(user, prepend=-1).astype(bool)
    session = np.cumsum(begins) - 1
    place = np.flatnonzero(begins)
    number = np.bincount(user[place], minlength=len(count))
    stretch = np.clip(_CALENDAR * source.random(len(count)) ** 4, number * _DAY, _CALENDAR)
    begin = _CALENDAR * source.random(len(count))
    start = (begin[user[place]] + stretch[user[place]] * source.random(len(place))) % _CALENDAR
    return user, item, np.floor(start[session] + 10.0 * (np.arange(len(user)) - place[session]))


def _items(
    user: NDArray[np.int64], rank: NDArray[np.int64], source: np.random.Generator
) -> NDArray[np.int64]:
    """(n,) an item for each event: half of them by popularity, half of the user's taste, by popularity there."""
    mass = np.cumsum(1.0 / (20.0 + np.arange(len(rank))) ** 1.1)
    place = np.minimum(np.searchsorted(mass, source.random(len(user)) * mass[-1]), len(rank) - 1)
    taste = source.integers(0, _TASTES, user[-1] + 1)[user]
    of_taste = np.minimum(place // _TASTES * _TASTES + taste, len(rank) - 1)
    return rank[np.where(source.random(len(user)) < 0.5, of_taste, place)].astype(np.int64)
