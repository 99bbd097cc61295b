"""Signs of a mistake in a log or its selection."""

from __future__ import annotations

import datetime as dt
from typing import Final

import numpy as np

from rimsim.arrays import Ints
from rimsim.data.log import EventLog

_FEW: Final = 100
"""Items below which a threshold may have removed too many."""
_DOUBLED: Final = 0.01
"""Share of equal rows from which they are mentioned."""
_STRAY: Final = 0.01
"""Largest share of events that counts as stray instants."""
_FAR: Final = 0.5
"""Distance of stray instants from the others, as a multiple of the time that those span."""


def suspicions_of(log: EventLog, before: Ints, least: int) -> tuple[str, ...]:
    """Sentences on a log's likely mistakes, with remedies.

    Args:
        log: The log.
        before: Events of each item before the selection.
        least: Minimum number of events per item.
    """
    return tuple(text for text in (_thinned(log, before, least), _doubled(log), _stray(log)) if text)


def lower_threshold(counts: Ints) -> str:
    """Clause on a minimum of events that keeps most events."""
    kept = {least: counts >= least for least in (20, 10, 5, 3, 2)}
    for least, items in kept.items():
        if counts[items].sum() >= 0.9 * counts.sum():
            return f"min_item_events={least} keeps {int(items.sum()):,}"
    return f"min_item_events=1 keeps all {int((counts > 0).sum()):,}"


def _thinned(log: EventLog, before: Ints, least: int) -> str | None:
    items = int((before > 0).sum())
    if least <= 1 or log.n_items >= _FEW or 2 * log.n_items >= items:
        return None
    share = len(log) / int(before.sum())
    return (
        f"min_item_events={least} leaves {log.n_items:,} of {items:,} items ({share:.0%} of events). "
        f"For a larger catalogue, lower data.min_item_events: {lower_threshold(before)}"
    )


def _doubled(log: EventLog) -> str | None:
    """Note on equal rows, which the log's order puts together."""
    same = [np.diff(column) == 0 for column in (log.time, log.user, log.item, log.value)]
    doubled = int(np.logical_and.reduce(same).sum())
    if doubled <= _DOUBLED * len(log):
        return None
    return (
        f"{doubled:,} of {len(log):,} events ({doubled / len(log):.0%}) repeat another in all columns, and count. "
        "If rows were written more than once, remove the copies"
    )


def _stray(log: EventLog) -> str | None:
    """Note on a few events far from all others."""
    if len(log) < 2:
        return None
    gaps = np.diff(log.time)
    cut = int(np.argmax(gaps)) + 1
    late = cut > len(log) / 2
    stray, rest = (log.time[cut:], log.time[:cut]) if late else (log.time[:cut], log.time[cut:])
    span = max(float(rest[-1] - rest[0]), 1.0)
    if len(stray) > _STRAY * len(log) or gaps[cut - 1] <= _FAR * span:
        return None
    field, bound = ("stop", _day(rest[-1] + 86_400)) if late else ("start", _day(rest[0]))
    years = gaps[cut - 1] / (365.25 * 86_400)
    apart = f"{years:.1f} years" if years >= 1 else f"{years * 365.25:.1f} days"
    who = f"{len(stray):,} event{'s' * (len(stray) > 1)}, of {_day(stray[0])},"
    return f"{who} {apart} {'after' if late else 'before'} the others. To leave out, set data.{field}={bound}"


def _day(time: float) -> str:
    return f"{dt.datetime.fromtimestamp(float(time), dt.UTC):%Y-%m-%d}"
