"""Single fields of a row: what counts as missing, as a number, as a moment.

These functions are the reference. The block reader is faster and may accept a field only if these accept it
with the same result; whatever it does not accept is put to them, and they say what is wrong.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Final, Literal, TypeAlias

import numpy as np

from rimsim.errors import ConfigError

TimeKind: TypeAlias = Literal["number", "iso"]
Unit: TypeAlias = Literal["s", "ms", "us", "ns"]

MISSING: Final = frozenset(
    {"", "nan", "NaN", "NAN", "null", "NULL", "Null", "None", "none", "NA", "N/A", "<NA>", "#N/A", "\\N"}
)
"""How programs write that a field is absent."""

UNITS: Final[dict[Unit, float]] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Parts of a second."""

LATEST: Final = 253402300800.0
"""The first second after the year 9999; no log goes beyond."""

LARGEST_VALUE: Final = float(np.finfo(np.float32).max)
"""The largest value a log can hold."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


class RowProblemError(Exception):
    """What is wrong with a row; caught inside this room, where file and line are added."""


def short(text: str) -> str:
    """A piece of somebody's file as it may stand in a message: quoted, escaped, at most 60 characters."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def identifier(text: str, name: str) -> str:
    """An id: the text without spaces around it."""
    word = text.strip()
    if word in MISSING:
        raise RowProblemError(f"{name} is {short(word)}, that is missing; allowed: any id")
    return word


def number(text: str, name: str, largest: float, otherwise: str = "") -> float:
    """A finite number from 0 to ``largest``; ``otherwise`` ends the message of a word in its place."""
    word = text.strip()
    if word in MISSING:
        raise RowProblemError(
            f"{name} is {short(word)}, that is missing; allowed: a finite number of at least 0"
        )
    if not _NUMBER.fullmatch(word):
        raise RowProblemError(f"{name} is {short(word)}; allowed: a finite number of at least 0{otherwise}")
    value = float(word)
    if not math.isfinite(value) or value > largest:
        raise RowProblemError(f"{name} is {short(word)}; allowed: finite numbers up to {largest:.7g}")
    if value < 0:
        raise RowProblemError(f"{name} is {short(word)}, that is negative; allowed: numbers of at least 0")
    return value + 0.0  # -0 becomes 0


def holds_number(text: str, largest: float = math.inf) -> bool:
    """Whether a text is a number that :func:`number` accepts."""
    try:
        number(text, "", largest)
    except RowProblemError:
        return False
    return True


def moment(text: str, name: str) -> float:
    """Seconds since the epoch of an ISO 8601 date or time; without a zone it is UTC."""
    word = text.strip()
    allowed = "allowed: an ISO 8601 time from 1970 on, such as 2016-10-17T08:30:00Z"
    if word in MISSING:
        raise RowProblemError(f"{name} is {short(word)}, that is missing; {allowed}")
    try:
        parsed = dt.datetime.fromisoformat(word)
        parsed = parsed.replace(tzinfo=dt.UTC) if parsed.tzinfo is None else parsed
        seconds = ((parsed - _EPOCH) // _MICROSECOND) / 1e6
    except (ValueError, OverflowError):
        raise RowProblemError(f"{name} is {short(word)}; {allowed}") from None
    if not 0 <= seconds < LATEST:
        raise RowProblemError(f"{name} is {short(word)}, before 1970; {allowed}")
    return seconds


def epoch_seconds(time: float | str | None, name: str) -> float | None:
    """A time as a person gives it, in seconds since the epoch.

    Args:
        time: Seconds, as a number or a text, or an ISO 8601 date or time; None stays None.
        name: What it is, for the error.

    Raises:
        ConfigError: If it is none of them.
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
