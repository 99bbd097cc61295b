"""Blocks of lines, cut into fields and read by columns.

Arrow splits blocks of lines into fields and converts whole columns. Arrow reports rows with a wrong number of fields. A
block is split line by line if it is not text, or if its numbers of rows and lines differ. A field that Arrow cannot
convert is read by the module ``values``, which reports the problem. So a bad row is reported with its line number, and
costs little time.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from rimsim.arrays import Bools, Floats, Ints
from rimsim.data.readers.containers import Stream
from rimsim.data.readers.values import LATEST, RowProblemError, moment, number
from rimsim.errors import ConfigError, DataError, refuse

BLOCK_BYTES: Final = 8 * 2**20
"""Number of bytes that are read at once; the memory of a reader is a small multiple of it."""
LONGEST_LINE: Final = 2**20
"""Largest number of bytes in a line; a file with a longer line is not a log."""

# Longer marks stand first, because the mark of UTF-32 (little-endian) begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Block:
    """Block of whole lines of a file."""

    text: bytes
    """Lines, each ended by one line feed; the last line of a file may lack it."""
    first_line: int
    """Number of the first line in the file, from 1."""


class LineReader:
    """Blocks of a stream, in UTF-8 with line feeds.

    Args:
        stream: The bytes.
        encoding: Encoding of the stream; None: given by the byte-order mark, or else UTF-8, which is not checked here.
    """

    def __init__(self, stream: Stream, encoding: str | None = None) -> None:
        self._stream = stream
        self._encoding = encoding
        self._ends = {"CR LF": 0, "CR": 0, "LF": 0}
        self._mark: str | None = None
        self.lines = 0

    def notes(self) -> tuple[str, ...]:
        """Sentences about byte-order marks and mixed line ends."""
        sentences = []
        if self._mark:
            sentences.append(f"{self._stream.name}: begins with a byte-order mark, read as {self._mark}")
        kinds = [kind for kind, count in self._ends.items() if count]
        if len(kinds) > 1:
            counts = ", ".join(f"{self._ends[kind]:,} {kind}" for kind in kinds)
            sentences.append(f"{self._stream.name}: mixed line ends ({counts}), all read as line ends")
        return tuple(sentences)

    def _decoded(self) -> Iterator[bytes]:
        """Chunks in UTF-8, without a byte-order mark."""
        chunk = self._stream.read(BLOCK_BYTES)
        encoding = self._encoding
        for mark, name in _MARKS:
            if chunk.startswith(mark):
                chunk = chunk[len(mark) :]
                self._mark = name
                # A mark of UTF-16 or UTF-32 has priority over the given encoding; a mark of UTF-8 has not.
                encoding = name if encoding is None or name != "utf-8" else encoding
                break
        try:
            "a".encode(encoding or "utf-8")  # this raises an error for codecs that do not make text
            codec = codecs.lookup(encoding or "utf-8")
            decoder = codec.incrementaldecoder()
        except (LookupError, TypeError, ValueError):
            message = f"encoding is {encoding!r}. Expected utf-8, latin-1, cp1252, utf-16, ..."
            raise ConfigError(message) from None
        if codec.name in ("utf-8", "ascii"):
            yield chunk
            yield from iter(lambda: self._stream.read(BLOCK_BYTES), b"")
            return
        is_last = False
        while not is_last:
            is_last = not chunk
            try:
                yield decoder.decode(chunk, final=is_last).encode()
            except (ValueError, LookupError, TypeError) as broken:
                location = f"{self._stream.name}, after line {self.lines:,}"
                refuse(
                    DataError,
                    location,
                    f"the text is not {codec.name} ({broken})",
                    "one encoding in the whole file",
                )
            chunk = self._stream.read(BLOCK_BYTES)

    def __iter__(self) -> Iterator[Block]:
        """Blocks of whole lines, one per chunk of bytes."""
        rest = b""  # the beginning of a line that no chunk has ended yet
        carriage_return = b""  # a carriage return at the end of a chunk may be the first half of a line end
        for chunk in self._decoded():
            data = carriage_return + chunk
            carriage_return = data[-1:] if data.endswith(b"\r") else b""
            rest += self._unified(data[: len(data) - len(carriage_return)])
            cut = rest.rfind(b"\n") + 1
            if len(rest) - cut > LONGEST_LINE:
                self._too_long(rest)
            if cut:
                yield self._block(rest[:cut])
                rest = rest[cut:]
        rest += self._unified(carriage_return)
        if rest:
            yield self._block(rest)

    def _unified(self, data: bytes) -> bytes:
        """Text in which every line ends by a line feed."""
        feeds = data.count(b"\n")
        if b"\r" not in data:
            self._ends["LF"] += feeds
            return data
        pairs = data.count(b"\r\n")
        self._ends["CR LF"] += pairs
        self._ends["LF"] += feeds - pairs
        self._ends["CR"] += data.count(b"\r") - pairs
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _block(self, text: bytes) -> Block:
        """Block of the next lines; the reader counts these lines."""
        first_line = self.lines + 1
        self.lines += text.count(b"\n") + (not text.endswith(b"\n"))
        return Block(text, first_line)

    def _too_long(self, rest: bytes) -> None:
        """Refuse a file with a line that is too long."""
        line = self.lines + rest.count(b"\n") + 1
        location = f"{self._stream.name}, line {line:,}"
        refuse(
            DataError,
            location,
            f"the line is longer than {LONGEST_LINE:,} bytes",
            "text with one row per line",
        )


def decoded(line: bytes) -> str:
    """Line as text; an error if it is not UTF-8."""
    try:
        text = line.decode()
    except UnicodeDecodeError as broken:
        raise RowProblemError(
            f"byte 0x{line[broken.start]:02x} at position {broken.start + 1} is not UTF-8. Save the file "
            "as UTF-8, or name its encoding with encoding='latin-1' or --encoding latin-1"
        ) from None
    if "\0" in text:
        raise RowProblemError("the line has a zero byte. Expected text")
    return text


def fields_of(line: str, separator: str, *, quoted: bool) -> list[str]:
    """Fields of a line, which must close all its quotes."""
    if not quoted or '"' not in line:
        return line.split(separator)
    # The module csv needs a separator of one character. A rare character stands for a longer separator.
    delimiter = separator if len(separator) == 1 else "\x1f"
    if delimiter != separator and delimiter in line:
        raise RowProblemError(
            "the line has quotes and a unit separator (0x1f), which rimsim cannot read together. "
            "Expected text without the character 0x1f"
        )
    text = line.replace(separator, delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as broken:
        if "end of data" in str(broken):
            raise RowProblemError(
                "a quoted field does not end on its line. Expected one row per line"
            ) from None
    # Text after a closing quote is an error only in strict reading. It is read as a part of the field.
    try:
        return next(csv.reader([text], delimiter=delimiter))
    except csv.Error as broken:
        raise RowProblemError(f"the line cannot be split into fields ({broken})") from None


_UNIT_SEPARATOR: Final = b"\x1f"
"""Character that stands for a separator of several characters, because Arrow splits at one character only."""


@dataclass(frozen=True, eq=False)
class CutBlock:
    """Block of lines, cut into fields."""

    lines: Ints
    """(n,) line number of each row."""
    fields: dict[str, pa.Array]
    """Role → (n,) texts of its column."""
    uncut: dict[int, str]
    """Line number → problem, for lines that could not be split into fields."""


class Cutter:
    """Splitter of one file's blocks into fields.

    A row has ``width`` fields; the fields at the positions ``places`` are read. ``quoted`` allows ``"`` around a field.
    """

    def __init__(self, separator: str, *, quoted: bool, width: int, places: Mapping[str, int]) -> None:
        self._separator = separator
        self._quoted = quoted
        self._width = width
        self._place = dict(places)

    def cut(self, block: Block) -> CutBlock:
        """Rows of a block, and problems of all other lines."""
        return self._cut_by_arrow(block) or self._cut_line_by_line(block)

    def _cut_by_arrow(self, block: Block) -> CutBlock | None:
        """Rows of a block; None unless Arrow reads every line."""
        text = block.text
        delimiter = self._separator
        # Arrow checks neither the encoding nor that the text ends outside quotes. So the text is decoded here, and its
        # last line is split into fields.
        try:
            decoded(text)
            fields_of(decoded(text.rstrip(b"\n").rpartition(b"\n")[2]), delimiter, quoted=self._quoted)
        except RowProblemError:
            return None
        if len(delimiter) > 1:
            if _UNIT_SEPARATOR in text:
                return None
            text = text.replace(delimiter.encode(), _UNIT_SEPARATOR)
            delimiter = _UNIT_SEPARATOR.decode()
        refused: list[pa.csv.InvalidRow] = []

        def skip(row: pa.csv.InvalidRow) -> str:
            """Skip and remember a row with a wrong field count."""
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
                    invalid_row_handler=skip,
                ),
                pa.csv.ConvertOptions(
                    check_utf8=False,
                    include_columns=list(dict.fromkeys(columns.values())),  # a column may be read twice
                    column_types=dict.fromkeys(columns.values(), pa.string()),
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:
            return None
        n_rows = table.num_rows + len(refused)
        lines = np.arange(text.count(b"\n") + (not text.endswith(b"\n")))
        if n_rows != len(lines):  # there are blank lines, which are not rows, or line ends inside quotes
            lines = np.flatnonzero([bool(line) for line in text.split(b"\n")])
            if n_rows != len(lines):
                return None
        lines += block.first_line
        refused_rows = np.array([row.number - 1 for row in refused], np.int64)
        problems = [self._wrong_width(row.actual_columns) for row in refused]
        return CutBlock(
            lines=np.delete(lines, refused_rows),
            fields={role: table[column].combine_chunks() for role, column in columns.items()},
            uncut=dict(zip(lines[refused_rows].tolist(), problems, strict=True)),
        )

    def _cut_line_by_line(self, block: Block) -> CutBlock:
        """Rows of a block, read line by line without Arrow."""
        rows: dict[int, list[str]] = {}
        uncut: dict[int, str] = {}
        for line_number, line in enumerate(block.text.split(b"\n"), start=block.first_line):
            if not line:
                continue
            try:
                fields = fields_of(decoded(line), self._separator, quoted=self._quoted)
                if len(fields) == self._width:
                    rows[line_number] = fields
                else:
                    uncut[line_number] = self._wrong_width(len(fields))
            except RowProblemError as problem:
                uncut[line_number] = str(problem)
        columns = {
            role: pa.array([fields[place] for fields in rows.values()], pa.string())
            for role, place in self._place.items()
        }
        return CutBlock(lines=np.array(list(rows), np.int64), fields=columns, uncut=uncut)

    def _wrong_width(self, n_fields: int) -> str:
        """Problem of a line with a wrong number of fields."""
        return f"the line has {n_fields} fields. Expected {self._width}, as in the first line"


_PLAIN: Final = r"^\d+(\.\d*)?$"
"""Usual form of numbers."""


def numbers_of(
    texts: pa.Array, name: str, largest: float, otherwise: str = ""
) -> tuple[Floats, dict[int, str]]:
    """Numeric values, and problems by row; see :func:`number`."""
    try:
        column = pc.cast(texts, pa.float64())
    except pa.ArrowInvalid:  # some text is not a number; it becomes NaN, and is read again below
        trimmed = pc.ascii_trim_whitespace(texts)
        is_plain = pc.match_substring_regex(trimmed, _PLAIN)
        column = pc.cast(pc.if_else(is_plain, trimmed, "nan"), pa.float64())
    numbers = column.to_numpy(zero_copy_only=False) + 0.0  # adding 0 turns −0 into 0
    # For NaN, both comparisons are false, so it is not accepted.
    is_accepted = (numbers >= 0) & (numbers <= largest)
    return _read_again(texts, numbers, ~is_accepted, lambda text: number(text, name, largest, otherwise))


def moments_of(texts: pa.Array, name: str) -> tuple[Floats, dict[int, str]]:
    """Seconds of ISO times, and problems by row; see :func:`moment`."""
    # Arrow reads a column only if no text, or every text, has a time zone. Other columns are read text by text.
    seconds = np.full(len(texts), np.nan)
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            seconds = pc.cast(pc.cast(texts, kind), pa.int64()).to_numpy() / 1e6
            break
        except pa.ArrowInvalid:
            continue
    is_accepted = (seconds >= 0) & (seconds < LATEST)
    return _read_again(texts, seconds, ~is_accepted, lambda text: moment(text, name))


def _read_again(
    texts: pa.Array, numbers: Floats, is_open: Bools, read: Callable[[str], float]
) -> tuple[Floats, dict[int, str]]:
    """Numeric values of a column, and problems by row.

    Arrow gave ``numbers``. The function ``read`` reads the texts of all rows that are still open.
    """
    problems: dict[int, str] = {}
    for row in np.flatnonzero(is_open).tolist():
        try:
            numbers[row] = read(texts[row].as_py())
        except RowProblemError as problem:
            problems[row] = str(problem)
    return numbers, problems
