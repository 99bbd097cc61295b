"""Blocks of lines cut into fields, and columns of fields read as numbers and moments.

Arrow cuts blocks of lines into texts and casts whole columns of them. Rows of another width are told by Arrow; a
block that is no text, or whose rows do not add up to its lines, is cut line by line. Fields that a cast refuses
are read one by one by the reference in ``rows``, which says what is wrong with them: so a bad row is named by its
line and costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from rimsim.arrays import Bools, Floats, Ints
from rimsim.data.readers.dialect import decoded, fields_of
from rimsim.data.readers.rows import LATEST, RowProblemError, moment, number

if TYPE_CHECKING:
    from rimsim.data.readers.lines import Block


_UNIT_SEPARATOR: Final = b"\x1f"


@dataclass(frozen=True, eq=False)
class Rows:
    """A block that is cut into fields."""

    lines: Ints
    """(n,) line of each row."""
    fields: dict[str, pa.Array]
    """(n,) texts of each column that is read."""
    uncut: dict[int, str]
    """Line → what is wrong, of lines that are no row."""


class Cutter:
    """Cuts blocks of one file into the fields that are read.

    Args:
        separator: Between fields.
        quoted: Whether ``"`` may enclose a field.
        width: Fields that a row must have.
        places: Role → where it stands in a row, from 0.
    """

    def __init__(self, separator: str, *, quoted: bool, width: int, places: Mapping[str, int]) -> None:
        self._separator = separator
        self._quoted = quoted
        self._width = width
        self._place = dict(places)

    def cut(self, block: Block) -> Rows:
        """The rows of a block, with what is wrong with the lines that are none."""
        rows = self._cut_by_arrow(block)
        return self._cut_line_by_line(block) if rows is None else rows

    def _cut_by_arrow(self, block: Block) -> Rows | None:
        """The rows of a block, or None if they do not add up to its lines or are no text."""
        text = block.text
        delimiter = self._separator
        try:
            decoded(text)
            fields_of(decoded(text.rstrip(b"\n").rpartition(b"\n")[2]), delimiter, quoted=self._quoted)
        except RowProblemError:  # in the last line a quote may be open without a line end inside
            return None
        if len(delimiter) > 1:
            if _UNIT_SEPARATOR in text:
                return None
            text = text.replace(delimiter.encode(), _UNIT_SEPARATOR)
            delimiter = _UNIT_SEPARATOR.decode()
        refused: list[pa.csv.InvalidRow] = []

        def refuse(row: pa.csv.InvalidRow) -> str:
            refused.append(row)
            return "skip"

        names = [f"c{place}" for place in range(self._width)]
        columns = {role: names[place] for role, place in self._place.items()}
        try:
            table = pa.csv.read_csv(
                pa.py_buffer(text),
                pa.csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
                pa.csv.ParseOptions(
                    delimiter=delimiter,
                    quote_char='"' if self._quoted else False,
                    ignore_empty_lines=True,
                    invalid_row_handler=refuse,
                ),
                pa.csv.ConvertOptions(
                    check_utf8=False,
                    include_columns=list(columns.values()),
                    column_types=dict.fromkeys(columns.values(), pa.string()),
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:
            return None
        count = table.num_rows + len(refused)
        lines = np.arange(text.count(b"\n") + (not text.endswith(b"\n")))
        if count != len(lines):  # blank lines, which are no rows, or line ends inside quotes
            lines = np.flatnonzero([bool(line) for line in text.split(b"\n")])
            if count != len(lines):
                return None
        lines += block.first_line
        wrong = np.array([row.number - 1 for row in refused], np.int64)
        uncut = [self._wrong_width(row.actual_columns) for row in refused]
        return Rows(
            np.delete(lines, wrong),
            {role: table[column].combine_chunks() for role, column in columns.items()},
            dict(zip(lines[wrong].tolist(), uncut, strict=True)),
        )

    def _cut_line_by_line(self, block: Block) -> Rows:
        """The rows of a block that Arrow does not take, with what is wrong with the others."""
        rows: dict[int, list[str]] = {}
        uncut: dict[int, str] = {}
        for place, line in enumerate(block.text.split(b"\n"), start=block.first_line):
            if not line:
                continue
            try:
                fields = fields_of(decoded(line), self._separator, quoted=self._quoted)
                if len(fields) == self._width:
                    rows[place] = fields
                else:
                    uncut[place] = self._wrong_width(len(fields))
            except RowProblemError as problem:
                uncut[place] = str(problem)
        return Rows(
            np.array(list(rows), np.int64),
            {
                role: pa.array([fields[place] for fields in rows.values()], pa.string())
                for role, place in self._place.items()
            },
            uncut,
        )

    def _wrong_width(self, fields: int) -> str:
        return f"has {fields} fields; allowed: {self._width}, as in the first line"


_PLAIN: Final = r"^\d+(\.\d*)?$"
"""How most numbers are written."""


def numbers_of(
    texts: pa.Array, name: str, largest: float, otherwise: str = ""
) -> tuple[Floats, dict[int, str]]:
    """The numbers of a column, and row → what is wrong where there is none; see :func:`number`."""
    try:
        column = pc.cast(texts, pa.float64())
    except pa.ArrowInvalid:
        trimmed = pc.ascii_trim_whitespace(texts)
        column = pc.cast(pc.if_else(pc.match_substring_regex(trimmed, _PLAIN), trimmed, "nan"), pa.float64())
    numbers = column.to_numpy(zero_copy_only=False) + 0.0  # -0 becomes 0
    odd = ~((numbers >= 0) & (numbers <= largest))  # negated, so that NaN is odd too
    return _read_again(texts, numbers, odd, lambda text: number(text, name, largest, otherwise))


def moments_of(texts: pa.Array, name: str) -> tuple[Floats, dict[int, str]]:
    """The seconds of a column of ISO texts, and row → what is wrong where there are none; see :func:`moment`."""
    seconds = np.full(len(texts), np.nan)
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            seconds = pc.cast(pc.cast(texts, kind), pa.int64()).to_numpy() / 1e6
            break
        except pa.ArrowInvalid:
            continue
    odd = ~((seconds >= 0) & (seconds < LATEST))
    return _read_again(texts, seconds, odd, lambda text: moment(text, name))


def _read_again(
    texts: pa.Array, numbers: Floats, odd: Bools, read: Callable[[str], float]
) -> tuple[Floats, dict[int, str]]:
    """The numbers, of which the odd ones are read one by one; what is no number is told by its row."""
    problems: dict[int, str] = {}
    for row in np.flatnonzero(odd).tolist():
        try:
            numbers[row] = read(texts[row].as_py())
        except RowProblemError as problem:
            problems[row] = str(problem)
    return numbers, problems
