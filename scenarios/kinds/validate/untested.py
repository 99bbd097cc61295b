"""Behaviour of a log that a validation asks nothing about."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rimsim.data import EventLog
from rimsim.data.repeats import repeated_share
from rimsim.market.agreement import Cut, on_offer

ONCE = "untested_once"
"""Metric: share of the log's events by users without a later session, so that their events cannot be cut."""
REPEATS = "untested_repeats"
"""Metric: share of the log's events that repeat an item of their user, if users cannot take items again."""
UNKNOWN = "untested_unknown"
"""Metric: share of the events after the cuts with an item that nobody had taken before, or that was not on offer."""
_MENTIONED = 0.005  # smallest share that a sentence mentions


def untested(log: EventLog, cut: Cut) -> dict[str, float]:
    """Shares of untested events, by metric.

    Neither a model nor a truth is asked about these events. The kinds can overlap, so the shares have no sum.
    """
    comes_back = np.zeros(log.n_users, bool)
    comes_back[cut.later.user] = True
    future = cut.later.future
    now = cut.later.time[np.searchsorted(cut.later.user, future.user)]
    is_recommendable = on_offer(cut.known[future.item], cut.release[future.item], cut.end[future.item], now)
    return {
        ONCE: float(np.mean(~comes_back[log.user])),
        REPEATS: 0.0 if log.repeatable else repeated_share(log),
        UNKNOWN: float(np.mean(~is_recommendable)),
    }


def untested_sentence(table: pd.DataFrame) -> str:
    """Sentence on untested behaviour; empty if there is none."""
    means = table[table["metric"].isin((ONCE, REPEATS, UNKNOWN))].groupby("metric")["value"].mean()
    shares = means[means >= _MENTIONED].to_dict()
    words = {
        ONCE: "{:.0%} of the log's events, by users who do not come back",
        REPEATS: "{:.0%} of the log's events, which repeat an item of their user",
        UNKNOWN: "{:.0%} of later events, with items that were new or not on offer",
    }
    texts = [text.format(shares[metric]) for metric, text in words.items() if metric in shares]
    return f"Nothing was asked about {'; about '.join(texts)}." if texts else ""
