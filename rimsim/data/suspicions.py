"""Signs of a mistake in a log or its selection."""

from __future__ import annotations

import datetime as dt
from typing import Final

import numpy as np

from rimsim.arrays import Ints
from rimsim.data.log import EventLog
from rimsim.errors import many

_FEW: Final = 100  # items below which a threshold may have removed too many
_DOUBLED: Final = 0.01  # share of equal rows from which they are mentioned
_STRAY: Final = 0.01  # largest share of events that counts as stray instants
_FAR: Final = 0.5  # distance of stray instants from the others, as a multiple of the time that those span
_SECONDS: Final = 86_400.0


def suspicions_of(log: EventLog, before: Ints, least: int) -> tuple[str, ...]:
    """Sentences on a log's likely mistakes, with remedies.

    Args:
        log: The log.
        before: Number of events of each item before the selection.
        least: Minimum number of events per item.
    """
    return tuple(text for text in (_thinned(log, before, least), _doubled(log), _stray(log)) if text)


def lower_threshold(counts: Ints) -> str:
    """Clause that suggests a minimum that keeps most events."""
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
    """Note on equal rows, which are adjacent after sorting."""
    same = [np.diff(column) == 0 for column in (log.time, log.user, log.item, log.value)]
    doubled = int(np.logical_and.reduce(same).sum())
    if doubled <= _DOUBLED * len(log):
        return None
    return (
        f"{doubled:,} of {len(log):,} events ({doubled / len(log):.0%}) repeat another in all columns, and count. "
        "If rows were written more than once, remove the copies"
    )


def _stray(log: EventLog) -> str | None:
    """Note on a few events long before or after others."""
    gaps = np.diff(log.time, append=log.time[-1:])
    cut = int(np.argmax(gaps)) + 1
    late = cut > len(log) / 2
    stray, rest = (log.time[cut:], log.time[:cut]) if late else (log.time[:cut], log.time[cut:])
    if not 0 < len(stray) <= _STRAY * len(log) or gaps[cut - 1] <= _FAR * (rest[-1] - rest[0]):
        return None
    bound = f"stop={_day(rest[-1] + _SECONDS)}" if late else f"start={_day(rest[0])}"
    return (
        f"{many(len(stray), 'event')}, of {_day(stray[0])}, {gaps[cut - 1] / _SECONDS:,.0f} days "
        f"{'after' if late else 'before'} the others. To leave out, set data.{bound}"
    )


def _day(time: float) -> str:
    return f"{dt.datetime.fromtimestamp(float(time), dt.UTC):%Y-%m-%d}"
