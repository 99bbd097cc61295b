"""How a text file of events is written: separator, quotes, header, kind of times."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rimsim.data.readers.columns import missing_roles, resolve
from rimsim.data.readers.rows import RowProblemError, holds_number, moment, short
from rimsim.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rimsim.data.readers.columns import Columns, Positions
    from rimsim.data.readers.rows import TimeKind


SEPARATORS: Final = ("::", "\t", ",", ";", "|")
"""Those that are found without being told, in the order in which they are tried."""
LOOKED_AT: Final = 200
"""Lines that are looked at to find out what times are."""


@dataclass(frozen=True)
class Dialect:
    """How a row is cut into fields, and what its fields are."""

    separator: str
    """One character, or ``::``."""
    quoted: bool
    """Whether ``"`` may enclose a field."""
    positions: Positions
    """Where the roles stand."""
    header: bool
    """Whether the first line is a header."""
    times: TimeKind = "number"
    """Whether times are numbers or ISO dates."""


def decoded(line: bytes) -> str:
    """A line as text.

    Raises:
        RowProblemError: If it is no text in UTF-8.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as broken:
        raise RowProblemError(
            f"byte 0x{line[broken.start]:02x} at position {broken.start + 1} is not UTF-8; allowed: UTF-8, "
            "or say the encoding: encoding='latin-1', or --encoding latin-1"
        ) from None
    if "\0" in text:
        raise RowProblemError("has a zero byte; allowed: text")
    return text


def fields_of(line: str, separator: str, *, quoted: bool) -> list[str]:
    """Cut a line into fields.

    Raises:
        RowProblemError: If a quoted field does not end on the line.
    """
    if not quoted or '"' not in line:
        return line.split(separator)
    delimiter = separator if len(separator) == 1 else "\x1f"
    if delimiter != separator and delimiter in line:
        raise RowProblemError("has a unit separator (0x1f) beside quotes; allowed: text")
    text = line.replace(separator, delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as broken:
        if "end of data" in str(broken):
            raise RowProblemError("a quoted field does not end on its line; allowed: a row a line") from None
    try:
        return next(csv.reader([text], delimiter=delimiter))
    except csv.Error as broken:
        raise RowProblemError(f"cannot be cut into fields ({broken})") from None


def sniff(first: bytes, where: str, wanted: Columns | None, separator: str | None) -> Dialect:
    """Find separator, header and columns from the first line.

    Args:
        first: The first line that is not blank.
        where: File and line, for messages.
        wanted: Columns as the caller gave them.
        separator: The separator, or None to find it.

    Raises:
        DataError: If the separator is unknown or a column is missing.
        ConfigError: If the given separator is none.
    """
    if separator is not None and (
        not isinstance(separator, str)
        or (len(separator) != 1 and separator != "::")
        or separator in '"\r\n\0'
        or not separator.isascii()
    ):
        raise ConfigError(f"separator is {separator!r}; allowed: one ASCII character, or '::'")
    try:
        text = decoded(first)
        cuts = [
            (candidate, fields_of(text, candidate, quoted=True))
            for candidate in ((separator,) if separator else SEPARATORS)
        ]
    except RowProblemError as problem:
        raise DataError(f"{where}: {problem}") from None
    if text.lstrip().startswith(("{", "[")):
        raise DataError(
            f"{where}: {short(text)} looks like JSON; allowed: CSV, TSV, other separated text, Parquet"
        )
    tried = [(candidate, [field.strip() for field in cut]) for candidate, cut in cuts if len(cut) > 1]
    if not tried:
        expected = repr(separator) if separator else ", ".join(repr(known) for known in SEPARATORS)
        raise DataError(
            f"{where}: {short(text)} has no known separator; allowed: {expected}, or say which: "
            "separator='^', or --separator '^'"
        )
    best = min(tried, key=lambda attempt: (len(missing_roles(attempt[1])), -len(attempt[1])))
    chosen, names = best if wanted is None else max(tried, key=lambda attempt: len(attempt[1]))
    header = True
    if wanted is not None and wanted.positional():
        header = not _is_data(names, wanted)
        names = names if header else [f"column {place}" for place in range(1, len(names) + 1)]
    elif wanted is None and len(missing_roles(names)) == 3 and sum(map(holds_number, names)) >= 2:
        raise DataError(
            f"{where}: {short(text)} looks like data, so there is no header; say which column is "
            f"which by position, such as columns='user,item,value,time' ('-' for others)"
        )
    return Dialect(chosen, quoted=True, positions=resolve(names, wanted, where), header=header)


def _is_data(names: list[str], wanted: Columns) -> bool:
    """Whether the time of a first line is one."""
    place = wanted.time
    if not isinstance(place, int) or not 1 <= place <= len(names):
        return False
    if holds_number(names[place - 1]):
        return True
    try:
        moment(names[place - 1], "")
    except RowProblemError:
        return False
    return True


def with_times(dialect: Dialect, text: bytes) -> Dialect:
    """The dialect with the kind of times that most of the first lines have."""
    dates = numbers = 0
    for line in text.split(b"\n", LOOKED_AT)[:LOOKED_AT]:
        try:
            field = fields_of(decoded(line), dialect.separator, quoted=dialect.quoted)[dialect.positions.time]
            if holds_number(field):
                numbers += 1
            else:
                moment(field, "")
                dates += 1
        except (RowProblemError, IndexError):
            continue
    kind: TimeKind = "iso" if dates > numbers else "number"
    return Dialect(dialect.separator, dialect.quoted, dialect.positions, dialect.header, kind)
