"""Measures of one's own: loaded by their place, tried before a run begins, recorded in its folder."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rimsim.errors import ConfigError, MeasureError
from rimsim.measures.example import made_up_round
from rimsim.measures.measure import Measure
from rimsim.measures.registry import MEASURES
from rimsim.plugs import imported, own_code, without_name

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.measures.facts import RoundFacts


def own_measures(places: Sequence[str]) -> dict[str, Measure]:
    """The measures at some places.

    Args:
        places: Each ``path/to/file.py:name`` or ``module:name`` of a :class:`Measure`.

    Returns:
        Place → measure.

    Raises:
        ConfigError: If there is none at a place, or two have the same name.
    """
    measures: dict[str, Measure] = {}
    for place in places:
        measure = _measure(place)
        names = {other.name: there for there, other in measures.items()}
        if measure.name in MEASURES or measure.name in names:
            which = f"that of {names[measure.name]!r}" if measure.name in names else "that of a built-in one"
            raise ConfigError(
                f"measure {place!r} is called {measure.name!r}, which is {which}; allowed: another name"
            )
        measures[place] = measure
    return measures


def _measure(place: str) -> Measure:
    if place in MEASURES:
        raise ConfigError(
            f"measure {place!r} is built in, every run has it; allowed: measures of your own, file.py:name"
        )
    if place.endswith(".py"):
        raise without_name(place, "measure", Measure)
    if ":" not in place:
        raise ConfigError(f"measure {place!r} is unknown; allowed: file.py:name of a Measure of your own")
    measure: Measure = imported(place, "measure", Measure)
    return measure


def try_measures(measures: Mapping[str, Measure], items: pd.DataFrame, slate: int) -> None:
    """Compute measures on made-up rounds over a catalogue, so that a slip is told before anything runs.

    Args:
        measures: Place → measure.
        items: The item table of the log.
        slate: Positions of a slate.

    Raises:
        MeasureError: If a measure raised, with the line in its file, or returned something that is no number.
    """
    if not measures:
        return
    usual, empty = (made_up_round(items, slate=slate, filled=share) for share in (0.9, 0.0))
    for place, measure in measures.items():
        with own_code([place]), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measure.value(empty)
            if measure.value(usual) is None and (found := measure.of(usual)) is not None:
                raise MeasureError(
                    f"measure {place!r} returned {found} for a made-up round; allowed: a finite number, or None where "
                    "a round has no value"
                )


def records(measures: Mapping[str, Measure]) -> dict[str, dict[str, str]]:
    """Place → what a run folder keeps of a measure: all but its function."""
    return {
        place: {
            field.name: getattr(measure, field.name)
            for field in dataclasses.fields(measure)
            if field.name != "of"
        }
        for place, measure in measures.items()
    }


def recorded(record: Mapping[str, Any]) -> Measure:
    """A measure as a run folder has it: enough to show its values, which stand in the tables.

    Args:
        record: One of :func:`records`.
    """
    return Measure(of=_from_the_tables, **record)


def _from_the_tables(_: RoundFacts) -> float | None:
    raise MeasureError("a measure of a run folder has no function, its values stand in the tables")
