"""Signs of a mistake in a log or its selection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

import numpy as np

from rimsim.arrays import Ints
from rimsim.data.log import EventLog
from rimsim.data.readers.values import LATEST
from rimsim.errors import many

_MANY: Final = 2 / 3
"""Largest share of the items that a suspicious minimum of events leaves."""
_LONG_UNITS: Final = {"min": ("minutes", 60.0), "h": ("hours", 3600.0), "d": ("days", 86_400.0)}
"""Unit → its noun, and its length in seconds."""
_INNER: Final = (0.05, 0.95)
"""Quantiles of the times that must be plausible, because a few odd times prove nothing."""
_FIRST_DATE: Final = 631_152_000.0
"""Begin of the year 1990, in seconds; earlier times are not plausible."""
_LAST_DATE: Final = 4_102_444_800.0
"""Begin of the year 2100, in seconds; later times are not plausible."""
_DOUBLED: Final = 0.01
"""Share of repeated rows from which on they are mentioned."""
_STRAY: Final = 0.01
"""Largest share of events that count as stray, which means far in time from all other events."""
_FAR: Final = 0.5
"""Shortest inactivity gap before stray events, as a share of the time that all other events span."""
_LATE: Final = 0.01
"""Share of the events of items that end from which on events after the ends are mentioned."""
_DAY_SECONDS: Final = 86_400.0


def suspicions_of(
    log: EventLog,
    before: Ints,
    min_events: int,
    swapped: Sequence[str] = (),
    *,
    is_guessed: bool = False,
    shown: Sequence[str] = (),
) -> tuple[str, ...]:
    """Sentences on a log's likely mistakes, with remedies.

    Args:
        log: The log.
        before: Number of events of each item before the selection.
        min_events: Minimum number of events per item.
        swapped: Columns about items of which each user has one value, and most items several.
        is_guessed: Times are numbers, and were taken for seconds because nothing names their unit.
        shown: Columns without a role that seem to mark shown items.
    """
    texts = (
        _shown_alone(shown),
        _swapped(swapped),
        _long_unit(log) if is_guessed else None,
        _thinned(log, before, min_events),
        _doubled(log),
        _stray(log),
        _ended_early(log),
        _never_on_offer(log),
    )
    return tuple(text for text in texts if text)


def _swapped(columns: Sequence[str]) -> str | None:
    """Note on users and items that seem to be exchanged."""
    if not columns:
        return None
    form = "user=…,item=…,time=…"
    return (
        f"users and items look exchanged: each user has one {columns[0]}, but most items have several. If they are, "
        f'name the columns the other way round by --columns "{form}" (in Python, columns="{form}")'
    )


def _shown_alone(columns: Sequence[str]) -> str | None:
    """Note on shown items in a log without taken ones."""
    if not columns:
        return None
    return (
        f"the column {columns[0]!r} seems to mark shown items, but no column says which of them were taken. So every "
        "row counts as an event. Name the other column: columns='user=…,item=…,time=…,taken=COLUMN'"
    )


def _long_unit(log: EventLog) -> str | None:
    """Note on minutes, hours or days read as seconds."""
    low, high = np.quantile(log.time, _INNER)
    for unit, (noun, length) in _LONG_UNITS.items():
        if low * length >= _FIRST_DATE and high * length < _LAST_DATE:
            first = _day(log.time[0] * length)
            last = _day(log.time[-1] * length)
            return (
                f"times were read as seconds, so the log ends on {_day(log.time[-1])}. As {noun} since 1970 they run "
                f"from {first} to {last}. If they are {noun}, set data.time_unit={unit} (--time-unit {unit}); else set "
                "it to s"
            )
    return None


def lower_threshold(counts: Ints) -> str:
    """Clause that suggests a minimum that keeps most events."""
    for min_events in (20, 10, 5, 3, 2):
        items = counts >= min_events
        if counts[items].sum() >= 0.9 * counts.sum():
            return f"min_item_events={min_events} keeps {int(items.sum()):,}"
    return f"min_item_events=1 keeps all {int((counts > 0).sum()):,}"


def _thinned(log: EventLog, before: Ints, min_events: int) -> str | None:
    """Warning if the minimum of events leaves few items."""
    n_before = int((before > 0).sum())
    if min_events <= 1 or log.n_items > _MANY * n_before:
        return None
    share = len(log) / int(before.sum())
    return (
        f"min_item_events={min_events} leaves {log.n_items:,} of {n_before:,} items ({share:.0%} of events). "
        f"For a larger catalogue, lower data.min_item_events (--min-item-events): {lower_threshold(before)}"
    )


def _doubled(log: EventLog) -> str | None:
    """Note on equal rows, which are adjacent after sorting."""
    equal_columns = [np.diff(column) == 0 for column in (log.time, log.user, log.item, log.value)]
    doubled = int(np.logical_and.reduce(equal_columns).sum())
    if doubled <= _DOUBLED * len(log):
        return None
    return (
        f"{doubled:,} of {len(log):,} events ({doubled / len(log):.0%}) repeat another in all columns, and count. "
        "If rows were written more than once, remove the copies"
    )


def _stray(log: EventLog) -> str | None:
    """Note on a few events long before or after others."""
    gaps = np.diff(log.time, append=log.time[-1:])
    # The longest gap cuts the log in two; the smaller part may be stray.
    cut = int(np.argmax(gaps)) + 1
    is_late = cut > len(log) / 2
    stray = log.time[cut:] if is_late else log.time[:cut]
    other_times = log.time[:cut] if is_late else log.time[cut:]
    if not 0 < len(stray) <= _STRAY * len(log) or gaps[cut - 1] <= _FAR * (other_times[-1] - other_times[0]):
        return None
    bound = f"stop={_day(other_times[-1] + _DAY_SECONDS)}" if is_late else f"start={_day(other_times[0])}"
    return (
        f"{many(len(stray), 'event')}, of {_day(stray[0])}, {gaps[cut - 1] / _DAY_SECONDS:,.0f} days "
        f"{'after' if is_late else 'before'} the others. To leave out, set data.{bound}"
    )


def _ended_early(log: EventLog) -> str | None:
    """Note on events of items after their ends."""
    end = log.end[log.item]
    n_ending = int(np.isfinite(end).sum())
    n_late = int((log.time >= end).sum())
    if n_late <= _LATE * n_ending:
        return None
    return (
        f"{n_late:,} of the {n_ending:,} events of items that end ({n_late / n_ending:.0%}) come after the end. They "
        "count for models and truths, but the market does not show an item after its end. If the ends are too early, "
        "set a longer data.life, or data.end=last-event"
    )


def _never_on_offer(log: EventLog) -> str | None:
    """Note on items that end before they are released."""
    n_items = int((log.end <= log.release).sum())
    if not n_items:
        return None
    return (
        f"the market never shows {many(n_items, 'item')} with an end before the release. Check the columns release and "
        "end of the item table"
    )


def _day(time: float) -> str:
    """Date in UTC, or the end of the calendar."""
    # A number in another unit than the others, such as one stray time, may lie far beyond the calendar.
    if time >= LATEST:
        return "a day after the year 9999"
    return f"{dt.datetime.fromtimestamp(float(time), dt.UTC):%Y-%m-%d}"
