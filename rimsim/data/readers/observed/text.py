"""Observed tables in text, with a row a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rimsim.arrays import Floats
from rimsim.data.readers.cutting import Cutter, moments_of, numbers_of
from rimsim.data.readers.dialect import SEPARATORS, decoded, fields_of
from rimsim.data.readers.ids import Words
from rimsim.data.readers.lines import Block, LineReader
from rimsim.data.readers.observed.wanted import LARGEST_TIME, NEEDED
from rimsim.data.readers.rows import LARGEST_VALUE, MISSING, RowProblemError, holds_number, short
from rimsim.errors import DataError

if TYPE_CHECKING:
    from rimsim.data.readers.containers import Stream
    from rimsim.data.readers.observed.collect import Answers
    from rimsim.data.readers.observed.wanted import Wanted


def read_text_answers(stream: Stream, answers: Answers, wanted: Wanted, encoding: str | None) -> None:
    """Read a text with a row a line.

    Args:
        stream: The file.
        answers: Takes the answers.
        wanted: Which columns.
        encoding: Of the text; None for UTF-8, or what a byte-order mark says.

    Raises:
        DataError: At the first row that cannot be read.
    """
    reader: _TextReader | None = None
    for block in LineReader(stream, encoding):
        text, line = block.text, block.first_line
        if reader is None:
            body = text.lstrip(b"\n")
            line += len(text) - len(body)
            if not body:
                continue
            first, _, rest = body.partition(b"\n")
            reader = _TextReader(first, stream.name, line, wanted)
            text, line = (rest, line + 1) if reader.header else (body, line)
        reader.read(Block(text, line), answers)


class _TextReader:
    """Reads the blocks of one text, given its first line."""

    def __init__(self, first: bytes, name: str, line: int, wanted: Wanted) -> None:
        self._name, self._largest = name, wanted.largest
        where = f"{name}, line {line:,}"
        try:
            text = decoded(first)
            cuts = [
                (candidate, [field.strip() for field in fields_of(text, candidate, quoted=True)])
                for candidate in ((wanted.separator,) if wanted.separator else SEPARATORS)
            ]
        except RowProblemError as problem:
            raise DataError(f"{where}: {problem}") from None
        separator, names = max(cuts, key=lambda cut: len(cut[1]))
        if len(names) < len(NEEDED):
            raise DataError(
                f"{where}: {short(text)} has {len(names)} fields; allowed: at least user, item and value, separated by "
                f"{repr(wanted.separator) if wanted.separator else ', '.join(map(repr, SEPARATORS))}"
            )
        self.header = True
        if wanted.positional():
            self.header = not holds_number(names[wanted.places(names, where)["value"]], LARGEST_VALUE)
        elif wanted.columns is None and all(holds_number(field, LARGEST_VALUE) for field in names[1:3]):
            raise DataError(
                f"{where}: {short(text)} looks like data, so there is no header; say which column is which "
                f"by position, such as columns='user,item,value'"
            )
        names = names if self.header else [f"column {place}" for place in range(1, len(names) + 1)]
        places = wanted.places(names, where)
        self._label = {role: f"{role} (column {names[place]!r})" for role, place in places.items()}
        self._cutter = Cutter(separator, quoted=True, width=len(names), places=places)
        self._iso: bool | None = None

    def read(self, block: Block, answers: Answers) -> None:
        """Hand the rows of a block to the answers."""
        if not block.text.strip(b"\n"):
            return
        rows = self._cutter.cut(block)
        values, wrong = numbers_of(rows.fields["value"], self._label["value"], self._largest)
        times, untimely = self._times(rows.fields.get("time"), len(values))
        problems = rows.uncut | {int(rows.lines[row]): text for row, text in (untimely | wrong).items()}
        users, items = (Words(rows.fields[role], self._label[role]) for role in ("user", "item"))
        if self._iso:
            answers.unit = "s"
        answers.take(self._name, rows.lines, users, items, values, times, problems)

    def _times(self, texts: pa.Array | None, n: int) -> tuple[Floats, dict[int, str]]:
        """The times, NaN where they are missing, and row → what is wrong where there is something else."""
        times, problems = np.full(n, np.nan), dict[int, str]()
        if texts is None:
            return times, problems
        missing = pc.is_in(pc.ascii_trim_whitespace(texts), pa.array(sorted(MISSING)))
        there = np.flatnonzero(~missing.to_numpy(zero_copy_only=False))
        known = texts.take(pa.array(there))
        if self._iso is None and len(known):
            self._iso = not holds_number(known[0].as_py(), LARGEST_VALUE)
        read, wrong = (
            moments_of(known, self._label["time"])
            if self._iso
            else numbers_of(known, self._label["time"], LARGEST_TIME, ", or, in all rows, ISO 8601 dates")
        )
        times[there] = read
        return times, {int(there[row]): text for row, text in wrong.items()}
