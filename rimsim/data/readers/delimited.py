"""Tables of events in text files, with fields between separators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rimsim.arrays import Floats
from rimsim.data.readers.answers import answer_columns
from rimsim.data.readers.columns import ANSWERS, ColumnPlaces, ColumnRoles, Role, resolve
from rimsim.data.readers.containers import Stream
from rimsim.data.readers.events import Collector, RowBlock
from rimsim.data.readers.lines import Block, Cutter, LineReader, decoded, fields_of, moments_of, numbers_of
from rimsim.data.readers.reading import Reading
from rimsim.data.readers.values import (
    MISSING,
    OR_DATES,
    SAMPLED_TIMES,
    RowProblemError,
    TimeKind,
    Words,
    holds_number,
    kind_of_time,
    short,
)
from rimsim.errors import ConfigError, DataError, has_type, refuse

SEPARATORS: Final = ("::", "\t", ",", ";", "|")
"""Separators that rimsim recognises, in the order in which they are tried."""
_OTHER: Final = "column "
"""Prefix of the keys of columns without a role, because such a column may be called like a role."""


@dataclass(frozen=True)
class Dialect:
    """Form of the rows of a text file."""

    separator: str
    """Separator of fields: one character, or ``::``."""
    quoted: bool
    """True if ``"`` may enclose a field."""
    places: ColumnPlaces
    """Position of the field of each role."""
    header: bool
    """True if the first line is a header."""
    times: TimeKind = "number"
    """Kind of times: numbers or ISO dates."""


@dataclass(frozen=True)
class TextForm:
    """Form of a text file; what is None is recognised."""

    separator: str | None = None
    """Separator of fields; None: detected in the first line."""
    encoding: str | None = None
    """Encoding; None: the one that the byte-order mark states, or else UTF-8."""
    dialect: Dialect | None = None
    """Dialect of a known layout; None: detected in the first lines."""


def read_delimited(stream: Stream, collector: Collector, roles: ColumnRoles, form: TextForm) -> Reading:
    """Read a text file into a collector.

    Raises:
        DataError: At the first row that cannot be read (unless the collector skips bad rows), or if a log is empty.
    """
    lines = LineReader(stream, form.encoding)
    dialect = form.dialect
    reader = None
    for block in lines:
        text = block.text
        first_line = block.first_line
        if reader is None:  # the first block with a line shows the dialect
            body = text.lstrip(b"\n")  # blank lines may stand before the header
            first_line += len(text) - len(body)
            if not body:
                continue
            header, _, rest = body.partition(b"\n")
            if dialect is None:
                dialect = sniff(header, f"{stream.name}, line {first_line:,}", roles, form.separator)
            text = rest if dialect.header else body
            first_line += dialect.header
            dialect = with_times(dialect, text)
            reader = _DelimitedReader(dialect, stream.name, collector)
        reader.read(Block(text, first_line))
    if dialect is None or reader is None:
        if roles.kind is ANSWERS:  # the collector refuses a table without answers
            return Reading("text")
        raise DataError(f"{stream.name}: the file is empty. A log needs at least one row of data")
    kind = f"text separated by {dialect.separator!r}"
    return Reading(kind, dialect.places.pairs(), dialect.times, lines.notes())


def sniff(first: bytes, location: str, roles: ColumnRoles, separator: str | None) -> Dialect:
    """Dialect of a file, from its first non-blank line.

    Raises:
        DataError: If the separator is unknown or a column is missing.
        ConfigError: If the given separator is not valid.
    """
    if separator is not None and (
        not has_type(separator, str)
        or (len(separator) != 1 and separator != "::")
        or separator in '"\r\n\0'
        or not separator.isascii()
    ):
        raise ConfigError(f"separator is {separator!r}. Expected one ASCII character, or '::'")
    candidates = (separator,) if separator else SEPARATORS
    try:
        text = decoded(first)
        _refuse_json(text, location)
        fields_by_separator = {
            candidate: [field.strip() for field in fields_of(text, candidate, quoted=True)]
            for candidate in candidates
        }
    except RowProblemError as problem:
        raise DataError(f"{location}: {problem}") from None
    # If the caller names the columns, the separator that gives the most fields is taken.
    chosen = max(candidates, key=lambda candidate: len(fields_by_separator[candidate]))
    names = fields_by_separator[chosen]
    _require_fields(len(names), text, location, roles, candidates)
    kind = roles.kind
    header = True
    if not roles.columns:

        def rank(candidate: str) -> tuple[int, int]:
            """Sort key: fewest needed columns missing, then most fields."""
            fields = fields_by_separator[candidate]
            return len(kind.missing(fields)), -len(fields)

        separating_candidates = [
            candidate for candidate in candidates if len(fields_by_separator[candidate]) > 1
        ]
        chosen = min(separating_candidates, key=rank)
        names = fields_by_separator[chosen]
        # A header has a usual name for some role. A line without any, and with two numbers, is data.
        if len(kind.missing(names)) == 3 and sum(map(holds_number, names)) >= 2:
            raise DataError(
                f"{location}: {short(text)} looks like data, so the file has no header. Give the columns by "
                f"position, such as columns={kind.example}"
            )
    elif roles.positional():
        header = not _is_data(names, roles)
        if not header:
            names = [f"column {place}" for place in range(1, len(names) + 1)]
    places = resolve(names, roles, location)
    # Without a header there are no names, so users cannot ask for columns without a role.
    if not header:
        places = places.without_header()
    return Dialect(chosen, quoted=True, places=places, header=header)


def _refuse_json(text: str, location: str) -> None:
    """Refuse JSON, before its long line is split into fields."""
    if text.lstrip().startswith(("{", "[")):
        problem = f"{short(text)} looks like JSON, which rimsim does not read"
        refuse(DataError, location, problem, "CSV, TSV, other separated text or Parquet")


def _require_fields(
    n_fields: int, text: str, location: str, roles: ColumnRoles, separators: tuple[str, ...]
) -> None:
    """Refuse a first line with too few fields."""
    separator_list = ", ".join(map(repr, separators))
    if roles.kind is ANSWERS and n_fields < 3:
        allowed = f"at least user, item and value, separated by {separator_list}"
        refuse(DataError, location, f"{short(text)} has {n_fields} fields", allowed)
    if n_fields == 1:
        allowed = f"{separator_list}. For another, give separator='^' or --separator '^'"
        refuse(DataError, location, f"{short(text)} has no known separator", allowed)


def _is_data(names: list[str], roles: ColumnRoles) -> bool:
    """True if the first line is data instead of names.

    The last needed role decides: its field is a number in data (or a date, if the role is time), but not in a header.
    """
    role = roles.kind.needed[-1]
    place = roles.columns[role]
    if not isinstance(place, int) or not 1 <= place <= len(names):
        return False
    kinds = ("number", "iso") if role == "time" else ("number",)
    return kind_of_time(names[place - 1]) in kinds


def with_times(dialect: Dialect, text: bytes) -> Dialect:
    """Dialect with the most frequent kind of times in lines."""
    if (place := dialect.places.of.get("time")) is None:
        return dialect
    kinds: list[TimeKind | None] = []
    for line in text.split(b"\n", SAMPLED_TIMES)[:SAMPLED_TIMES]:
        try:
            fields = fields_of(decoded(line), dialect.separator, quoted=dialect.quoted)
            kinds.append(kind_of_time(fields[place]))
        except (RowProblemError, IndexError):  # bad rows are reported when they are read
            continue
    return replace(dialect, times="iso" if kinds.count("iso") > kinds.count("number") else "number")


class _DelimitedReader:
    """Reader of the blocks of one file."""

    def __init__(self, dialect: Dialect, name: str, collector: Collector) -> None:
        self._name = name
        self._collector = collector
        self._places = dialect.places
        self._iso = dialect.times == "iso"
        self._labels = dialect.places.labels()
        places: dict[str, int] = {str(role): place for role, place in dialect.places.of.items()}
        places |= {f"{_OTHER}{name}": place for name, place in dialect.places.other_columns.items()}
        quantity = collector.quantity_column(dialect.places)
        self._quantity = f"{_OTHER}{quantity}"  # the column of quantities may have the role of values, too
        if quantity is not None:
            places[self._quantity] = dialect.places.names.index(quantity)
        width = len(dialect.places.names)
        self._cutter = Cutter(dialect.separator, quoted=dialect.quoted, width=width, places=places)

    def read(self, block: Block) -> None:
        """Pass a block's rows to the collector."""
        if not block.text.strip(b"\n"):
            return
        rows = self._cutter.cut(block)
        labels = self._labels
        fields = rows.fields
        times = None
        values = None
        problems = dict[Role, dict[int, str]]()
        if "time" in fields:
            times, problems["time"] = self._times(fields["time"])
        if "value" in fields:
            largest = self._collector.largest_value
            values, problems["value"] = numbers_of(fields["value"], labels["value"], largest)
        answers = answer_columns(fields, labels, problems)
        self._collector.take(
            self._name,
            RowBlock(
                lines=rows.lines,
                users=Words(fields["user"], labels["user"]),
                items=Words(fields["item"], labels["item"]),
                time=times,
                value=values,
                problems=problems,
                answers=answers,
                other_columns={
                    name: Words(fields[f"{_OTHER}{name}"])
                    for name in self._places.other_columns
                    if self._collector.wants(name)
                },
                quantities=Words(fields[self._quantity]) if self._quantity in fields else None,
                uncut=rows.uncut,
            ),
        )

    def _times(self, texts: pa.Array) -> tuple[Floats, dict[int, str]]:
        """Times (NaN where optional and missing), and problems by row."""
        if "time" in self._collector.kind.needed:
            return self._read_times(texts)
        times = np.full(len(texts), np.nan)
        is_missing = pc.is_in(pc.ascii_trim_whitespace(texts), pa.array(sorted(MISSING)))
        rows = np.flatnonzero(~is_missing.to_numpy(zero_copy_only=False))
        times[rows], problems = self._read_times(texts.take(pa.array(rows)))
        return times, {int(rows[row]): problem for row, problem in problems.items()}

    def _read_times(self, texts: pa.Array) -> tuple[Floats, dict[int, str]]:
        """Times from dates or numbers, and problems by row."""
        label = self._labels["time"]
        if self._iso:
            return moments_of(texts, label)
        return numbers_of(texts, label, self._collector.largest_time, OR_DATES)
