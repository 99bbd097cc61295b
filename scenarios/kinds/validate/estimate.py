"""Computing time of a validation's fits, estimated from samples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rimsim.data import EventLog
from rimsim.errors import RimsimError, one_line
from rimsim.scenarios.report.numbers import duration_words
from rimsim.system import cpu_seconds

SAMPLED_EVENTS = 12_000
"""Number of events in a sample. On the embedded log, fits to fewer events stop so early that they predict too little
time."""
FACTOR = 2.0
"""Largest factor between an estimate and the actual time that the text states. On the embedded log, an estimate of the
default models is 1.8 times the CPU time."""
# A first fit also compiles code, so a fit to one in so many users of the sample comes before the measured one.
_WARMING = 8


def fits_line(past: EventLog, n_models: int, n_draws: int, fit: Callable[[EventLog], object]) -> str | None:
    """Time of all fits; None for a small log.

    Args:
        past: Events before the cut of one draw.
        n_models: Number of models that are fitted in each draw.
        n_draws: Number of draws.
        fit: Function that fits all these models to a log.
    """
    step = len(past) // SAMPLED_EVENTS
    if step < 2 or not n_models:
        return None
    try:
        seconds = n_draws * _fit_seconds(past, step, fit)
    except RimsimError as error:
        return f"time: no estimate, because a sample failed: {one_line(error)}"
    return (
        f"time: about {duration_words(seconds)} on an idle core for {n_models * n_draws} fits of models "
        f"({duration_words(seconds / FACTOR)} to {duration_words(seconds * FACTOR)}), by samples of users; then "
        "truths, their verdicts and pictures"
    )


def _fit_seconds(past: EventLog, step: int, fit: Callable[[EventLog], object]) -> float:
    """CPU seconds of the fits of one draw."""
    fit(_sample(past, step * _WARMING))
    sample = _sample(past, step)
    return cpu_seconds(partial(fit, sample)) * len(past) / max(len(sample), 1)


def _sample(log: EventLog, step: int) -> EventLog:
    """Events of every so many users."""
    return log.rows(log.user % step == 0)
