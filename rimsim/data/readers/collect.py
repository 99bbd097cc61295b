"""Where readers put the events they read, and the rows they cannot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from rimsim.arrays import Float32s, Floats, Ints, Ints32
from rimsim.data.readers.assemble import RawEvents
from rimsim.data.readers.ids import Vocabulary
from rimsim.data.readers.rows import LATEST, MISSING, UNITS
from rimsim.data.report import BadRow
from rimsim.errors import DataError

if TYPE_CHECKING:
    from rimsim.data.readers.ids import Words
    from rimsim.data.readers.rows import Unit


BAD_ROWS_KEPT: Final = 10
"""Bad rows that a report shows."""
_BOUNDS: Final[tuple[tuple[Unit, float], ...]] = (("s", 1e11), ("ms", 1e14), ("us", 1e17), ("ns", np.inf))
"""Below 1e11 a number is taken for seconds (until the year 5138), and so on up by thousands."""


class Collector:
    """Grows by blocks of events; times stay in the file's unit until the end.

    Args:
        unit: Unit of numeric times if it is known.
        skip_bad_rows: Count bad rows instead of raising at the first.
    """

    def __init__(self, unit: Unit | None = None, *, skip_bad_rows: bool = False) -> None:
        self.users = Vocabulary()
        self.items = Vocabulary()
        self.unit = unit
        self.skip_bad_rows = skip_bad_rows
        self.rows = 0
        self.backwards = 0
        self.skipped = 0
        self.bad_rows: list[BadRow] = []
        self.attributes: dict[str, dict[int, str]] = {}  # texts of item codes; see take
        self._parts: list[tuple[Ints32, Ints32, Floats, Float32s]] = []
        self._last = -np.inf
        self._votes = dict.fromkeys(UNITS, 0)
        self._latest = 0.0

    @property
    def largest_time(self) -> float:
        """The largest number that may stand for a time."""
        return math.nextafter(LATEST * UNITS[self.unit or "ns"], 0.0)

    def take(
        self,
        users: Words,
        items: Words,
        times: Floats,
        values: Floats,
        attributes: Mapping[str, Words],
        *,
        without: Iterable[int],
    ) -> None:
        """Take a block of n events.

        Args:
            users: (n,) their users.
            items: (n,) their items.
            times: (n,) their times in the file's unit.
            values: (n,) their values.
            attributes: ``title``, ``genres`` or ``year`` → (n,) what the events say of their items.
            without: Rows that are left out.
        """
        rows = np.ones(len(times), bool)
        rows[list(without)] = False
        if not rows.any():
            return
        user, item = users.codes(rows, self.users), items.codes(rows, self.items)
        time = times[rows] + 0.0  # -0 becomes 0
        self._parts.append((user, item, time, (values[rows] + 0.0).astype(np.float32)))
        for attribute, texts in attributes.items():
            self._learn(attribute, item, *texts.texts(rows))
        self.rows += len(user)
        self.backwards += int((np.diff(time, prepend=self._last) < 0).sum())
        self._last = float(time[-1])
        self._latest = max(self._latest, float(time.max()))
        low = 0
        for unit, bound in _BOUNDS:
            below = int((time < bound).sum())
            self._votes[unit] += below - low
            low = below

    def _learn(self, attribute: str, item: Ints32, word: Ints, words: list[str]) -> None:
        """Take what events say of their items; of several texts the smallest counts, in any order of rows.

        Args:
            attribute: ``title``, ``genres`` or ``year``.
            item: (n,) codes of ``items``.
            word: (n,) positions in ``words``.
            words: Distinct texts; empty ones say nothing.
        """
        known = self.attributes.setdefault(attribute, {})
        for pair in np.unique(item.astype(np.int64) * len(words) + word).tolist():
            code, place = divmod(pair, len(words))
            text = words[place].strip()
            if text not in MISSING and not known.get(code, text) < text:
                known[code] = text

    def bad(self, file: str, line: int, problem: str) -> None:
        """A row that cannot be read.

        Raises:
            DataError: Unless bad rows are to be skipped.
        """
        row = BadRow(file, line, problem)
        if not self.skip_bad_rows:
            raise DataError(str(row))
        self.skipped += 1
        if len(self.bad_rows) < BAD_ROWS_KEPT:
            self.bad_rows.append(row)

    def likely_unit(self) -> Unit:
        """The unit in which most times are between 1970 and 5138; seconds if in doubt."""
        return max(self._votes, key=lambda unit: self._votes[unit])

    def beyond(self, unit: Unit) -> bool:
        """Whether a time lies after the year 9999 in this unit."""
        return self._latest >= LATEST * UNITS[unit]

    def events(self, source: str, unit: Unit) -> RawEvents:
        """All events; empties the collector, block by block, so that nothing is held twice for long."""
        if not self.rows:
            first = f"; the first of {self.skipped:,} bad rows: {self.bad_rows[0]}" if self.bad_rows else ""
            raise DataError(f"{source}: no events; a log needs at least one row of data{first}")
        user, item = np.empty(self.rows, np.int32), np.empty(self.rows, np.int32)
        time, value = np.empty(self.rows, np.float64), np.empty(self.rows, np.float32)
        at = 0
        self._parts.reverse()
        while self._parts:
            part = self._parts.pop()
            span = slice(at, at + len(part[0]))
            user[span], item[span], time[span], value[span] = part
            at = span.stop
        if UNITS[unit] > 1:
            time /= UNITS[unit]
        return RawEvents(source, user, item, time, value, self.users.ids(), self.items.ids())


def unit_of(time: Floats) -> Unit:
    """The unit in which most of some times (n,) are between 1970 and 5138; seconds where none is known."""
    known = time[~np.isnan(time)]
    place = np.searchsorted([bound for _, bound in _BOUNDS], known, "right")
    return _BOUNDS[int(np.bincount(place, minlength=len(_BOUNDS)).argmax())][0] if len(known) else "s"


def written_dates(source: str, time: Floats) -> Floats | None:
    """Seconds of times that are dates written as numbers, such as 20150131; None if they are not.

    As seconds such numbers would all lie within two weeks of August 1970, without any sign that they were misread.
    A number of that size is a date by chance in one of twenty-five cases, so a majority of dates is no chance.

    Raises:
        DataError: If most times are dates, but not all.
    """
    if ((time >= 19_700_101) & (time < 21_000_101)).sum() * 2 <= len(time):
        return None
    day = np.floor(time) % 100
    month = np.floor(time / 100) % 100
    year = np.floor(time / 10_000)
    fits = (time == np.floor(time)) & (year >= 1970) & (year < 2100) & (month >= 1) & (month <= 12)
    months = np.where(fits, (year - 1970) * 12 + month - 1, 0).astype(np.int64)
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    after = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    fits &= (day >= 1) & (day <= after - first)
    if not fits.all():
        if fits.sum() * 2 <= len(time):
            return None
        wrong = time[np.flatnonzero(~fits)[0]]
        raise DataError(
            f"{source}: {fits.sum():,} times are dates such as {time[fits][0]:.0f}, but {(~fits).sum():,} are not, "
            f"such as {wrong:.0f}; allowed: one kind; time_unit='s' reads all as seconds"
        )
    seconds: Floats = (first + day - 1) * 86_400.0
    return seconds


def collected(
    read: Callable[[Collector], None], unit: Unit | None, *, skip_bad_rows: bool
) -> tuple[Collector, Unit]:
    """Read into a collector; read once more if a time turns out to be beyond the calendar, to name its row.

    Args:
        read: Reads the whole source into a collector.
        unit: Unit of numeric times, or None to find it: the one most times fit.
        skip_bad_rows: Count bad rows instead of raising at the first.

    Returns:
        The collector and the unit of its times.
    """
    collector = Collector(unit, skip_bad_rows=skip_bad_rows)
    read(collector)
    time_unit = unit or collector.likely_unit()
    if collector.beyond(time_unit):
        collector = Collector(time_unit, skip_bad_rows=skip_bad_rows)
        read(collector)
    return collector, time_unit
