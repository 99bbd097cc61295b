"""Built-in measures by name, and records of measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from rimsim.errors import MeasureError, has_type, require_known
from rimsim.measures.built_in import BUILT_IN
from rimsim.measures.facts import RoundFacts
from rimsim.measures.measure import Measure

_RECORDED = ("name", "unit", "formula", "title", "group", "better")
"""Fields of a measure that a run folder records."""
MEASURES: Mapping[str, Measure] = MappingProxyType({measure.name: measure for measure in BUILT_IN})
"""Name of a metric → its built-in measure, in the order of the documentation."""


def find_measure(name: str, among: Mapping[str, Measure] = MEASURES) -> Measure:
    """Measure with a given name; unknown names are refused."""
    require_known("metric {} is unknown", [name], among)
    return among[name]


def measured(facts: RoundFacts, measures: Iterable[Measure] = MEASURES.values()) -> dict[str, float]:
    """Values of measures by name, without those that are undefined."""
    values = {measure.name: measure.value(facts) for measure in measures}
    return {name: value for name, value in values.items() if value is not None}


def records(measures: Mapping[str, Measure]) -> dict[str, dict[str, str]]:
    """Fields of each measure except its function, by its name."""
    return {
        name: {field: getattr(measure, field) for field in _RECORDED} for name, measure in measures.items()
    }


def recorded(record: Mapping[str, Any]) -> Measure:
    """Measure restored from the record of a run folder.

    Raises:
        MeasureError: If the record is not one that :func:`records` made.
    """
    fields = {field.name for field in dataclasses.fields(Measure)} - {"of"}
    if not has_type(record, Mapping) or not {"name", "unit", "formula"} <= record.keys() <= fields:
        content = sorted(map(str, record)) if has_type(record, Mapping) else repr(record)
        raise MeasureError(f"measures: found {content}, which is no record of a measure")
    return Measure(of=_from_the_tables, **record)


def _from_the_tables(_: RoundFacts) -> float | None:
    """Function of a restored measure, which always raises an error."""
    raise MeasureError(
        "a measure that was read from a run folder cannot be computed again. Read its values from the tables"
    )
