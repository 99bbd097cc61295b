"""Repeated events of a log, and their treatment."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import numpy as np

from rimsim.arrays import Array, Bools, Floats, Ints
from rimsim.data.log import EventLog

Repeats: TypeAlias = Literal["drop", "history", "consume"]
"""Treatment of repeated events: left out, kept as history, or kept as a rule of the market."""
CONSUMED_FROM: Final = 0.1
"""Smallest share of repeated events from which users of a log may take items again."""
# Measured shares: purchases of a gift wholesaler 0.33, groceries 0.65; films 0, news 0.013, short videos 0.03.


def first_rows(pair: Ints, time: Floats, value: Array) -> Bools:
    """Mask of each user-item pair's first event.

    The first event is the earliest; at equal times, it has the smallest value.
    """
    order = np.lexsort((value, time, pair))
    is_first = np.ones(len(order), bool)
    is_first[order[1:]] = pair[order[1:]] != pair[order[:-1]]
    return is_first


def is_repeated(log: EventLog) -> Bools:
    """(n,) True for events after an earlier event of their pair.

    Events of a user with an item at the same time are copies and not repeated consumption, so they do not count.
    """
    pair = log.user * log.n_items + log.item
    order = np.argsort(pair, kind="stable")
    repeated = np.zeros(len(log), bool)
    follows = (pair[order[1:]] == pair[order[:-1]]) & (log.time[order[1:]] > log.time[order[:-1]])
    repeated[order[1:]] = follows
    return repeated


def repeated_share(log: EventLog) -> float:
    """Share of repeated events in a log."""
    return float(is_repeated(log).mean()) if len(log) else 0.0


def rule_of(share: float) -> Repeats:
    """Treatment of repeats that suits their share."""
    return "consume" if share >= CONSUMED_FROM else "history"
