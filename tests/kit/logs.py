"""Logs, arrivals and views of rounds made up of a few events or scores, as tests write them down."""

import numpy as np
import pandas as pd
import torch

from rimsim import matching, measures
from rimsim.data import EventLog
from rimsim.market import Arrivals, RoundView


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
    user = np.array(user, np.int64)
    item = np.array(item, np.int64)
    time = np.array(time, np.float64)
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


def arrivals_of(relevance, admissible=None, capacity=None, first=0):
    """Arrivals with λ = 1.

    Args:
        relevance: (n, M) chances p(y|x).
        admissible: (n, M) what may be shown; everything by default.
        capacity: Positions of each arrival; those of a slate by default.
        first: Number of the first arrival.
    """
    n = len(relevance)
    rows = np.arange(first, first + len(relevance))
    return Arrivals(
        id=rows,
        time=rows.astype(float),
        user=rows,
        relevance=torch.tensor(relevance, dtype=torch.float32),
        ground_intensity=torch.ones(n),
        admissible=torch.tensor(np.ones(relevance.shape, bool) if admissible is None else admissible),
        row=np.arange(n),
        capacity=None if capacity is None else np.full(n, capacity),
    )


class Chunks(list):
    """Past states as a calibration: its length is the number of states."""

    def __len__(self):
        return sum(len(chunk) for chunk in self)


def view_of(n, m, k, *, share=0.5, cost=0.5, past=None, key=3, unit="shown", decay=1.0, **fields):
    """A round's view with uniform floors, in some unit; examined, a position counts so much of the one before."""
    weights = measures.position_weights(decay, k)
    required = matching.required_exposure(share, n, k, np.ones(m, bool), 0) * measures.mean_weight(weights)
    settings = {
        "popularity": np.zeros(m, np.int64),
        "calibration": Chunks() if past is None else Chunks([past]),
    }
    settings |= {"key": key, "position_weights": weights, "unit": unit} | fields
    return RoundView(0, n, k, required, np.zeros(m), cost, **settings)


def skewed(n, m, seed=0):
    """(n, m) scores of which a few items have nearly all."""
    draw = np.random.default_rng(seed)
    return (draw.random((n, m)) * np.exp(2.0 * draw.standard_normal(m))).astype(np.float32)


def rounds_of(values, metric="utility"):
    """A table of rounds: of each agent and round the values of a metric by seed."""
    rows = [
        {"agent": agent, "seed": seed, "round": number, "metric": metric, "value": value}
        for (agent, number), seeds in values.items()
        for seed, value in enumerate(seeds)
    ]
    return pd.DataFrame(rows)


def shop_log(n_users=3_000, n_items=800, n_events=41_151, min_item_events=1):
    """A made-up shop: bestsellers that fall off as 1/rank, twelve categories, users with tastes among them.

    Users come in sessions of about four events within 300 days, and buy an item once.
    """
    source = np.random.default_rng(0)
    popularity = 1 / np.arange(1, n_items + 1)
    category = source.integers(0, 12, n_items)
    activity = source.gamma(1.2, 1.0, n_users)
    n_bought = source.multinomial(n_events - 2 * n_users, activity / activity.sum()) + 2
    tastes = source.dirichlet(np.full(12, 0.3), n_users)
    parts = []
    for user, count in enumerate(n_bought.tolist()):
        weights = popularity * (0.05 + 2 * tastes[user][category])
        items = source.choice(n_items, size=count, replace=False, p=weights / weights.sum())
        begins = np.sort(source.uniform(0, 300 * 86_400, max(1, count // 4)))
        of_session = np.sort(source.integers(0, len(begins), count))
        parts.append(np.stack([np.full(count, user), items, begins[of_session] + 60 * np.arange(count)]))
    user, item, time = np.concatenate(parts, axis=1)
    item = item.astype(np.int64)
    rows = np.flatnonzero(np.bincount(item, minlength=n_items)[item] >= min_item_events)
    users, user = np.unique(user[rows], return_inverse=True)
    items, item = np.unique(item[rows], return_inverse=True)
    table = pd.DataFrame({"id": items, "genres": "", "release": np.nan})
    return log_of(user, item, np.round(time[rows]), len(users), table)
