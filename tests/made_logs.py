"""Logs made up of a few events, as tests write them down."""

import numpy as np
import pandas as pd

from rimsim.data import EventLog


def log_of(user, item, time, users=None, items=None, target=None):
    """A log of events in any order, each of value 1.

    Args:
        user: (n,) users, as rows of their table.
        item: (n,) items, likewise.
        time: (n,) seconds.
        users: How many users there are, or their table; as many as occur by default.
        items: How many items there are, or their table, likewise.
        target: (n,) which events a model is fitted to; all by default.
    """
    user, item, time = np.array(user, np.int64), np.array(item, np.int64), np.array(time, np.float64)
    order = np.lexsort((item, user, time))
    return EventLog(
        user=user[order],
        item=item[order],
        time=time[order],
        value=np.ones(len(user), np.float32),
        users=_table(users, user),
        items=_table(items, item),
        target=None if target is None else np.array(target, bool)[order],
    )


def _table(rows, index):
    if isinstance(rows, pd.DataFrame):
        return rows
    return pd.DataFrame({"id": np.arange(int(index.max()) + 1 if rows is None else rows)})
