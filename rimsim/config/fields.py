"""Field types that pydantic lacks: durations, times, options of plugs."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, ConfigDict, PlainSerializer

from rimsim.errors import ConfigError, refuse

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Configuration of all config records: no unknown fields, no infinite or undefined numbers."""
LARGEST = 1e6
"""Largest factor of a quantity. With larger factors, sums of intensities would lose digits or overflow."""
_LONGEST = 1000 * 365.25 * 86_400
"""Largest duration in seconds, which is 1,000 years."""
_SECONDS = dict.fromkeys(("", "sec", "second"), 1.0) | dict.fromkeys(("m", "min", "minute"), 60.0)
_SECONDS |= dict.fromkeys(("h", "hour"), 3600.0) | dict.fromkeys(("d", "day"), 86_400.0)
_SECONDS |= dict.fromkeys(("w", "week"), 604_800.0)
"""Unit without a final s → its length in seconds. The unit `s` itself is the empty text."""
_PART = r"(\d+\.?\d*|\.\d+)\s*([a-z]+)"
"""Pattern of a number and its unit."""


def duration_seconds(text: str) -> float:
    """Seconds in a duration such as ``30min`` or ``1d 12h``.

    Raises:
        ValueError: If the text is not a positive duration.
    """
    examples = "Write a duration such as 30min, 1d or 7d"
    if re.fullmatch(r"[-+\d.\s]+", text):
        raise ValueError(f"{text!r} has no unit. {examples}")
    parts = [(float(number), unit.removesuffix("s")) for number, unit in re.findall(_PART, text.lower())]
    # pandas could parse durations, but takes a third of a second to import.
    match = re.fullmatch(rf"\s*-?({_PART}\s*)+", text.lower())
    if match is None or any(unit not in _SECONDS for _, unit in parts):
        raise ValueError(f"{text!r} is not a duration. {examples}")
    seconds = sum(number * _SECONDS[unit] for number, unit in parts)
    if not seconds > 0 or "-" in text:
        raise ValueError(f"{text!r} is not positive. {examples}")
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is longer than 1,000 years. {examples}")
    return seconds


def _duration(value: object) -> object:
    """Given value; a text or number must be a duration."""
    # This runs before pydantic checks the type. So the error for a number says that the unit is missing: YAML reads
    # ``5`` as a number.
    if isinstance(value, (str, int, float)):
        duration_seconds(str(value))
    return value


Duration = Annotated[str, BeforeValidator(_duration)]
"""Duration such as ``30min``."""
DEFAULT_MODEL = "default"
"""Name of the platform's model that follows the log."""
ALWAYS_AGAIN = "always"
"""Rule of repeats by which visitors may take an item again at any time."""
RepeatGap = Annotated[
    str, BeforeValidator(lambda value: value if value == ALWAYS_AGAIN else _duration(value))
]
"""Duration, or the text ``always``."""
Period = Annotated[str, BeforeValidator(lambda value: value if value == "round" else _duration(value))]
"""Duration, or the text ``round``."""


def _time(value: object) -> object:
    """Time that ``load`` accepts, from a text, number or date."""
    if value is None:
        return None
    from rimsim.data.readers.values import epoch_seconds  # noqa: PLC0415  # slow to import, and only a selection by time needs it

    if isinstance(value, dt.date):
        return value.isoformat()
    try:
        time = epoch_seconds(cast("float | str", value), "the time")
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if (date := _meant_date(str(value).strip())) is not None:
        raise ValueError(
            f"{value} is second {time:,.0f} of 1970, but looks like a date. Write an ISO date such as {date}"
        )
    return value


def _meant_date(text: str) -> str | None:
    """ISO date that a number looks like, or None."""
    parts = re.fullmatch(r"(19[789]\d|20\d\d)(\d\d)?(\d\d)?", text, re.ASCII)
    if parts is None:
        return None
    year = parts[1]
    month = parts[2] or "01"
    day = parts[3] or "01"
    try:
        return dt.date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return None


Time = Annotated[float | str | None, BeforeValidator(_time)]
"""Time as :func:`rimsim.data.load` accepts it."""


def _pairs(options: object) -> object:
    """Mappings as pairs and lists as tuples, for frozen records."""
    if isinstance(options, dict):
        if any(isinstance(value, dict) for value in options.values()):
            raise ValueError(
                "an option cannot be a mapping. Give a number, a text, or a list of numbers or texts"
            )
        return tuple((name, _pairs(value)) for name, value in options.items())
    return tuple(_pairs(value) for value in options) if isinstance(options, list) else options


Options = Annotated[
    tuple[tuple[str, Any], ...],
    BeforeValidator(_pairs, json_schema_input_type=dict[str, Any]),
    PlainSerializer(dict, return_type=dict[str, Any]),
]
"""Options of a plug: a mapping in YAML, and pairs of name and value in the record."""


def _whole_calls(texts: object) -> object:
    """Texts with whole brackets, from a text or list."""
    # YAML divides the list `[outage(every='1d', lasts='2h')]` at each comma, also within brackets.
    if isinstance(texts, str):
        return (texts,)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return texts
    calls: list[str] = []
    for text in texts:
        if calls and calls[-1].count("(") > calls[-1].count(")"):
            calls[-1] += f", {text}"
        else:
            calls.append(text)
    return tuple(calls)


Processes = Annotated[
    tuple[str, ...], BeforeValidator(_whole_calls), PlainSerializer(list, return_type=list[str])
]
"""Names of processes with their options, such as `outage(every='1d')`."""


def require_distinct(record: object, names: Iterable[str]) -> None:
    """Refuse a record if a named sequence repeats values."""
    for name in names:
        values = getattr(record, name)
        if len(set(values)) != len(values):
            refuse(ConfigError, name, f"{list(values)} holds a value twice", "distinct values")
