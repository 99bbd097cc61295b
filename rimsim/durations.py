"""Durations such as ``30min``, ``1d`` or ``7d``, and instants in whole ticks."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from rimsim.arrays import Floats, Ints

TICKS = 1_000_000
"""Ticks of the market's clock in a second. Whole ticks add and compare exactly; floating seconds would not."""

ALWAYS = -(2**62)
"""Release tick of an item that is there from the start: before any log begins, those before 1970 included."""

NEVER = 2**62
"""Tick after all rounds, such as the release of an item that is not on offer."""


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


def ticks(time: ArrayLike) -> Ints:
    """Whole ticks of times in seconds."""
    return np.rint(np.asarray(time, np.float64) * TICKS).astype(np.int64)


def seconds(tick: ArrayLike) -> Floats:
    """Seconds of ticks."""
    return np.asarray(tick, np.int64) / TICKS


def delay_ticks(delay: str | None) -> int:
    """Whole ticks of a duration such as ``1h``; 0 for None."""
    return 0 if delay is None else int(ticks(duration_seconds(delay)))
