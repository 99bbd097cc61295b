"""Made-up logs of a chosen size that are like MovieLens: skewed users and items, tastes, sessions, no repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from rimsim.data import EventLog, write
from rimsim.intensity.cache import cache_folder
from rimsim.testing.intensity import random_items

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["SIZES", "Size", "log_file"]

_DAY = 86_400.0
_TASTES = 20
"""Groups of users, each of which likes one item in so many."""


class Size(NamedTuple):
    """How large a log is."""

    events: int
    """About so many: repeats are dropped."""
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
    path = cache_folder() / "benchmarks" / f"like-movielens-{name}.parquet"
    if not path.exists():
        write(_made(SIZES[name]), path)
    return path


def _made(size: Size) -> EventLog:
    """Draw a log."""
    source = np.random.default_rng(size.events)
    activity = source.lognormal(0.0, 1.1, size.users)
    count = np.maximum(np.rint(activity / activity.sum() * size.events * 1.25).astype(np.int64), 2)
    user = np.repeat(np.arange(size.users), count)
    item = _items(user, size, source)
    _, first = np.unique(user * size.items + item, return_index=True)
    first.sort()
    user, item = user[first], item[first]
    unseen = np.setdiff1d(np.arange(size.items), item)
    user, item = np.concatenate([user, unseen % size.users]), np.concatenate([item, unseen])
    order = np.argsort(user, kind="stable")
    user, item = user[order], item[order]
    # A tenth of the events begin a session, days after the one before; within it, ten seconds lie between two.
    pause = np.where(source.random(len(user)) < 0.1, source.exponential(15 * _DAY, len(user)), 10.0)
    before = np.cumsum(pause)
    begin = np.searchsorted(user, np.arange(size.users))
    since = before - before[np.minimum(begin, len(user) - 1)][user]
    time = 9.5e8 + (source.random(size.users) * 900 * _DAY)[user] + since
    order = np.lexsort((item, user, time))
    return EventLog(
        user=user[order].astype(np.int64),
        item=item[order].astype(np.int64),
        time=np.floor(time[order]),
        value=np.ones(len(user), np.float32),
        users=pd.DataFrame({"id": np.arange(size.users)}),
        items=random_items(size.items),
    )


def _items(user: NDArray[np.int64], size: Size, source: np.random.Generator) -> NDArray[np.int64]:
    """(n,) an item for each event: half of them by popularity, half of the user's taste, by popularity there."""
    rank = source.permutation(size.items)
    mass = np.cumsum(1.0 / (20.0 + np.arange(size.items)) ** 1.1)
    place = np.minimum(np.searchsorted(mass, source.random(len(user)) * mass[-1]), size.items - 1)
    taste = source.integers(0, _TASTES, size.users)[user]
    of_taste = np.minimum(place // _TASTES * _TASTES + taste, size.items - 1)
    return rank[np.where(source.random(len(user)) < 0.5, of_taste, place)].astype(np.int64)
