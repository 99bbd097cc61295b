"""Values of fields: numbers, moments, and ids of any type.

The functions for a single field define which values are valid. The block reader is faster, and accepts a field only if
the functions for a single field would give the same result. These functions also read all fields that the block reader
does not accept, and report problems of fields.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from rimsim.arrays import Bools, Floats, Ints, Ints32
from rimsim.errors import ConfigError

TimeKind: TypeAlias = Literal["number", "iso"]
"""Form of written times: numbers, or ISO 8601 dates."""
Unit: TypeAlias = Literal["s", "ms", "us", "ns", "min", "h", "d"]
"""Unit of times that are written as numbers."""
Ids: TypeAlias = "np.ndarray[tuple[int], np.dtype[Any]]"
"""(n,) ids of users or items: int64, or Python strings."""

MISSING: Final = frozenset(
    {"", "nan", "NaN", "NAN", "null", "NULL", "Null", "None", "none", "NA", "N/A", "<NA>", "#N/A", "\\N"}
)
"""Texts that programs write for an absent field."""
_LONG: Final[dict[Unit, float]] = {"min": 60.0, "h": 3600.0, "d": 86_400.0}
"""Seconds of each longer unit."""
UNITS: Final[dict[Unit, float]] = {
    "s": 1.0,
    "ms": 1e3,
    "us": 1e6,
    "ns": 1e9,
    **{unit: 1 / seconds for unit, seconds in _LONG.items()},
}
"""Number of each unit in a second."""
SAMPLED_TIMES: Final = 200
"""Number of first rows whose times decide whether a file writes times as numbers or as dates."""
OR_DATES: Final = ", or, in most rows of the file, ISO 8601 dates such as 2016-10-17T08:30:00Z"
"""End of messages about times, for a file that writes times as numbers."""
LATEST: Final = 253402300800.0
"""First second after the year 9999, which no log exceeds."""
LARGEST_VALUE: Final = float(np.finfo(np.float32).max)
"""Largest value that a log can hold."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_DAY_FIRST = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b.*", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_NEGATIVE = re.compile(r"[-−](?=.*[1-9])\d+(?:[.,]\d+)?", re.ASCII)
_WHOLE = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII)
_INT64 = range(-(2**63), 2**63)


class RowProblemError(Exception):
    """Problem of a row; file and line are added later."""


def short(text: str) -> str:
    """Text for a message: escaped, at most 60 characters."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _present(text: str, name: str, allowed: str) -> str:
    """Text without outer spaces; a missing text is a problem."""
    word = text.strip()
    if word in MISSING:
        raise RowProblemError(f"{name} is {short(word)}, a missing value. Expected {allowed}")
    return word


def identifier(text: str, name: str) -> str:
    """Id from a text: spaces around it are removed."""
    return _present(text, name, "any id")


def number(text: str, name: str, largest: float, otherwise: str = "") -> float:
    """Finite number from 0 to ``largest``; messages end with ``otherwise``."""
    word = _present(text, name, "a finite number of at least 0")
    if not _NUMBER.fullmatch(word):
        raise RowProblemError(
            f"{name} is {short(word)}. Expected a finite number of at least 0{otherwise}{_form_of(word)}"
        )
    value = float(word)
    if not math.isfinite(value) or value > largest:
        raise RowProblemError(f"{name} is {short(word)}. Expected finite numbers up to {largest:.7g}")
    if value < 0:
        raise RowProblemError(f"{name} is {short(word)}, a negative number. Expected numbers of at least 0")
    return value + 0.0  # adding 0 turns −0 into 0


def _form_of(word: str) -> str:
    """End of a message: form of dates and decimals."""
    if _DAY_FIRST.fullmatch(word):
        return (
            f". {short(word)} may have its day or its month first. Write dates as year-month-day: 2024-02-13"
        )
    if _DECIMAL_COMMA.fullmatch(word):
        return f". {short(word)} has a decimal comma. Write {word.replace(',', '.')}"
    return ""


def holds_number(text: str, largest: float = math.inf) -> bool:
    """True if :func:`number` accepts the text."""
    try:
        number(text, "", largest)
    except RowProblemError:
        return False
    return True


def moment(text: str, name: str) -> float:
    """Seconds since 1970 of an ISO 8601 time (UTC)."""
    allowed = "an ISO 8601 time from 1970 on, such as 2016-10-17T08:30:00Z"
    word = _present(text, name, allowed)
    try:
        parsed = dt.datetime.fromisoformat(word)
        parsed = parsed.replace(tzinfo=dt.UTC) if parsed.tzinfo is None else parsed
        seconds = ((parsed - _EPOCH) // _MICROSECOND) / 1e6
    except (ValueError, OverflowError):
        raise RowProblemError(f"{name} is {short(word)}. Expected {allowed}{_form_of(word)}") from None
    if not 0 <= seconds < LATEST:
        raise RowProblemError(f"{name} is {short(word)}, before 1970. Expected {allowed}")
    return seconds


def kind_of_time(field: str) -> TimeKind | None:
    """Kind of time in a text; None for other texts."""
    if holds_number(field):
        return "number"
    try:
        moment(field, "")
    except RowProblemError:
        return None
    return "iso"


def epoch_seconds(time: float | str | None, name: str) -> float | None:
    """Seconds since 1970, from a number or ISO time.

    Raises:
        ConfigError: If the time is neither a number nor an ISO time.
    """
    if time is None:
        return None
    try:
        value = float(time)
    except (TypeError, ValueError):
        value = math.nan
    if math.isfinite(value) and not isinstance(time, bool):
        return value
    try:
        return moment(str(time), name)
    except RowProblemError as problem:
        raise ConfigError(f"{problem}, or seconds since 1970") from None


def in_seconds(time: Floats, unit: Unit) -> Floats:
    """Times of a unit in seconds."""
    if unit in _LONG:
        return time * _LONG[unit]
    return time if unit == "s" else time / UNITS[unit]


class Vocabulary:
    """Growing list of distinct ids, whose codes are their positions."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def codes(self, words: Iterable[str]) -> Ints32:
        """Codes of ids without outer spaces; new ids are added."""
        codes = self._codes
        return np.array([codes.setdefault(text, len(codes)) for text in words], np.int32)

    def texts(self) -> list[str]:
        """Distinct ids as texts, in the order of their codes."""
        return list(self._codes)


class Words:
    """Column of texts or whole numbers; repetitions are stored once.

    Args:
        column: The column, of length n.
        name: Content of the column, for messages.
    """

    def __init__(self, column: pa.Array, name: str = "") -> None:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        encoded = column.dictionary_encode()
        # Position of each row's text in `_words`; missing values have the last position.
        self._place: Ints = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()
        self._words: list[str] = []
        missing: dict[int, str] = {}
        for place, word in enumerate([*encoded.dictionary.to_pylist(), None]):
            try:
                self._words.append(identifier(str(word), name))
            except RowProblemError as problem:
                self._words.append("" if word is None else str(word).strip())
                missing[place] = str(problem)
        rows = np.flatnonzero(np.isin(self._place, list(missing)))
        self.problems = {
            row: missing[place] for row, place in zip(rows.tolist(), self._place[rows].tolist(), strict=True)
        }
        """Row → problem, where the id is missing."""

    def codes(self, rows: Bools, vocabulary: Vocabulary) -> Ints32:
        """Codes of the ids in chosen rows without problems."""
        place = self._place[rows]
        # Only the ids of chosen rows may enter the vocabulary.
        used_places = np.flatnonzero(np.bincount(place, minlength=len(self._words)))
        code_of_place = np.full(len(self._words), -1, np.int32)
        code_of_place[used_places] = vocabulary.codes(self._words[used] for used in used_places.tolist())
        return code_of_place[place]

    def negative(self) -> Bools:
        """(n,) True where the text is a number below 0."""
        is_negative = np.array([_NEGATIVE.fullmatch(word) is not None for word in self._words])
        return is_negative[self._place]

    def texts(self, rows: Bools) -> tuple[Ints, list[str]]:
        """Texts of chosen rows, as positions in a list."""
        return self._place[rows], self._words


def canonical(ids: list[str]) -> Ids:
    """Ids as int64 if all are whole numbers, else texts.

    A whole number has no leading zeros, no plus sign and at most 64 bits. So ``7`` and ``07`` are different ids, and a
    log has the same ids in any file format.
    """
    if all(_WHOLE.fullmatch(text) for text in ids):
        numbers = [int(text) for text in ids]
        if all(number in _INT64 for number in numbers):
            return np.array(numbers, np.int64)
    # In an array of NumPy's own texts, each would take the room of the longest.
    texts = np.empty(len(ids), object)
    texts[:] = ids
    return texts


def ranked(ids: Ids) -> tuple[Ids, Ints]:
    """Sorted ids, and the rank of each given id."""
    order = np.argsort(ids, kind="stable")
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids))
    return ids[order], rank


def places_among(ids: Ids, table_ids: Iterable[object]) -> Ints:
    """Position of each id in a table of ids, or −1."""
    place = {str(key): position for position, key in enumerate(table_ids)}
    return np.array([place.get(str(key), -1) for key in ids.tolist()], np.int64)
