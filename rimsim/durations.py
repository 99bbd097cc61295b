"""Durations as people write them: ``30min``, ``1d``, ``7d``."""

from __future__ import annotations

import re

import pandas as pd


def duration_seconds(text: str) -> float:
    """Seconds in a duration that :class:`pandas.Timedelta` reads; ``d`` for days is read as ``D``, its new name.

    Raises:
        ValueError: If it is no duration, or not a positive one.
    """
    if re.fullmatch(r"[-+\d.\s]+", text):  # pandas would take nanoseconds
        message = f"{text!r} has no unit; allowed: such as '30min', '1d', '7d'"
        raise ValueError(message)
    try:
        seconds = pd.Timedelta(re.sub(r"(?<=[\d\s])d\b", "D", text)).total_seconds()
    except ValueError as error:
        message = f"{text!r} is no duration; allowed: such as '30min', '1d', '7d'"
        raise ValueError(message) from error
    if not seconds > 0:
        message = f"{text!r} is not positive; allowed: a positive duration"
        raise ValueError(message)
    return seconds
