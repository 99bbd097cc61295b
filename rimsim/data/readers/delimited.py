"""Event files with a row a line: CSV, TSV, ``::`` and whatever else separates fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from rimsim.data.readers.cutting import Cutter, moments_of, numbers_of
from rimsim.data.readers.dialect import sniff, with_times
from rimsim.data.readers.ids import Words
from rimsim.data.readers.lines import Block, LineReader
from rimsim.data.readers.rows import LARGEST_VALUE
from rimsim.errors import DataError

if TYPE_CHECKING:
    from rimsim.data.readers.collect import Collector
    from rimsim.data.readers.columns import Columns
    from rimsim.data.readers.containers import Stream
    from rimsim.data.readers.dialect import Dialect


_OR_DATES: Final = ", or, in most rows of the file, ISO 8601 dates such as 2016-10-17T08:30:00Z"


@dataclass(frozen=True)
class Reading:
    """What came of reading a file, beside its events."""

    dialect: Dialect
    notes: tuple[str, ...]


def read_delimited(
    open_stream: Callable[[], Stream],
    collector: Collector,
    *,
    dialect: Dialect | None = None,
    columns: Columns | None = None,
    separator: str | None = None,
    encoding: str | None = None,
) -> Reading:
    """Read a file of events into a collector.

    Args:
        open_stream: Opens the file.
        collector: Takes the events and the bad rows.
        dialect: How the file is written, if it is known.
        columns: Columns as the caller gave them.
        separator: The separator, or None to find it.
        encoding: The encoding, or None for UTF-8 or what a byte-order mark says.

    Raises:
        DataError: At the first row that cannot be read (unless the collector skips), or if the file is empty.
    """
    with open_stream() as stream:
        lines = LineReader(stream, encoding)
        reader: _Reader | None = None
        for block in lines:
            text, first_line = block.text, block.first_line
            if reader is None:
                # Blank lines before the header are no rows.
                body = text.lstrip(b"\n")
                first_line += len(text) - len(body)
                if not body:
                    continue
                first, _, rest = body.partition(b"\n")
                if dialect is None:
                    where = f"{stream.name}, line {first_line:,}"
                    dialect = sniff(first, where, columns, separator)
                text = rest if dialect.header else body
                first_line += dialect.header
                dialect = with_times(dialect, text)
                reader = _Reader(dialect, stream.name, collector)
            reader.read(Block(text, first_line))
        if reader is None or dialect is None:
            raise DataError(f"{stream.name}: is empty; a log needs at least one row of data")
        return Reading(dialect, lines.notes())


class _Reader:
    """Reads blocks of one file."""

    def __init__(self, dialect: Dialect, name: str, collector: Collector) -> None:
        self._dialect = dialect
        self._name = name
        self._collector = collector
        places = dialect.positions
        self._label = {role: f"{role} (column {name!r})" for role, name in places.pairs()}
        roles = {"user": places.user, "item": places.item, "time": places.time, "value": places.value}
        read = {role: place for role, place in roles.items() if place is not None} | dict(places.attributes)
        self._cutter = Cutter(dialect.separator, quoted=dialect.quoted, width=len(places.names), places=read)

    def read(self, block: Block) -> None:
        """Hand the rows of a block to the collector, and what is wrong with the others."""
        if not block.text.strip(b"\n"):
            return
        rows = self._cutter.cut(block)
        label, fields = self._label, rows.fields
        users, items = Words(fields["user"], label["user"]), Words(fields["item"], label["item"])
        if self._dialect.times == "iso":
            times, no_times = moments_of(fields["time"], label["time"])
        else:
            latest = self._collector.largest_time
            times, no_times = numbers_of(fields["time"], label["time"], latest, _OR_DATES)
        values = np.ones(len(times))
        no_values: dict[int, str] = {}
        if "value" in fields:
            values, no_values = numbers_of(fields["value"], label["value"], LARGEST_VALUE)
        problems = (
            no_values | no_times | items.lacking | users.lacking
        )  # of several, the first column's is told
        bad = rows.uncut | {int(rows.lines[row]): problem for row, problem in problems.items()}
        for line in sorted(bad):
            self._collector.bad(self._name, line, bad[line])
        attributes = {name: Words(fields[name]) for name, _ in self._dialect.positions.attributes}
        self._collector.take(users, items, times, values, attributes, without=problems)
