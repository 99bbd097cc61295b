"""Users' own measures, which are tried before a run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rimsim.entry_points import places
from rimsim.errors import ConfigError, MeasureError, nearest
from rimsim.measures.example_round import made_up_round
from rimsim.measures.measure import Measure
from rimsim.measures.registry import MEASURES
from rimsim.user_code import imported, own_code, without_name

if TYPE_CHECKING:
    import pandas as pd


def own_measures(places: Sequence[str]) -> dict[str, Measure]:
    """Your own measures, imported from their places.

    A place is ``path/to/file.py:name`` or ``module:name`` of a :class:`Measure`. Two measures cannot have the same
    name.
    """
    measures: dict[str, Measure] = {}
    for place in places:
        if place in measures:
            raise ConfigError(f"measure {place!r} is given twice. Give it once")
        measure = _measure(place)
        place_of_name = {earlier.name: earlier_place for earlier_place, earlier in measures.items()}
        if measure.name in MEASURES or measure.name in place_of_name:
            owner = (
                repr(place_of_name[measure.name]) if measure.name in place_of_name else "a built-in measure"
            )
            raise ConfigError(
                f"measure {place!r} is called {measure.name!r}, which is the name of {owner}. Choose another name"
            )
        measures[place] = measure
    return measures


def _measure(place: str) -> Measure:
    """Measure at a place, which the user gave."""
    if place in MEASURES:
        raise ConfigError(
            f"measure {place!r} is built in, so every run has it. Give a measure of your own as file.py:name"
        )
    if place.endswith(".py"):
        raise without_name(place, "measure", Measure)
    installed = places("measures")
    if ":" not in place and place not in installed:
        suggestion = nearest(place, installed) if installed else ""
        raise ConfigError(
            f"measure {place!r} is unknown.{suggestion} Give a measure of your own as file.py:name"
        )
    measure: Measure = imported(installed.get(place, place), "measure", Measure)
    return measure


def try_measures(measures: Mapping[str, Measure], items: pd.DataFrame, slate: int) -> None:
    """Compute measures on made-up rounds, before anything runs.

    Raises:
        MeasureError: If a measure raised an error (the message has the line) or did not return a number.
    """
    if not measures:
        return
    usual_round = made_up_round(items, slate=slate, filled=0.9)
    empty_round = made_up_round(items, slate=slate, filled=0.0)
    for place, measure in measures.items():
        with own_code([place]), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measure.value(empty_round)
            # ``value`` turns a number that is not finite into None.
            if measure.value(usual_round) is None and (result := measure.of(usual_round)) is not None:
                raise MeasureError(
                    f"measure {place!r} returned {result} for a made-up round. Expected a finite number, "
                    "or None for a round without a value"
                )
