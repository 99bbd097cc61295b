"""The custom-scalar page: which charts it has, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rimsim.measures import MEASURES
from rimsim.tracking.events import Chart
from rimsim.tracking.tags import band_tag

if TYPE_CHECKING:
    from rimsim.measures import Measure


BANDED = (
    "utility",
    "examined_shortfall",
    "shortfall",
    "coverage",
    "effective_items",
    "perplexity",
    "gini",
    "log_gini",
    "items_met",
)
"""Built-in measures that have a band."""
RETRAINED = ("coverage", "effective_items", "log_gini", "utility")
"""Built-in measures of which the parts of what retraining does are told."""
_PART_WORDS = {"loop": "the loop", "all": "all of retraining", "data": "data of this market"}


def layout(
    measures: Mapping[str, Measure] = MEASURES, parts: Sequence[str] = ()
) -> dict[str, tuple[Chart, ...]]:
    """The custom-scalar page, category → charts; bands are drawn for the runs below ``bands/``.

    Args:
        measures: The measures of a run; those of a user's own get a band each.
        parts: The parts of what retraining does that are known, the one to be seen first at the beginning.
    """
    own = [name for name in measures if name not in MEASURES]
    page = {}
    if parts:
        page["What retraining does, and the loop in it"] = tuple(
            _band(f"{measures[name].title}: {_PART_WORDS.get(part, part)}", measures[name], f"{name}/{part}")
            for part in parts
            for name in (*RETRAINED, *own)
        )
    return page | {
        "Bands over seeds (95 %; below four seeds from the lowest to the highest)": tuple(
            _band(measures[name].title, measures[name], name) for name in (*BANDED, *own)
        ),
        "Guarantees": (
            Chart("Required and delivered exposure", ("delivery/required", "delivery/delivered")),
            Chart("Shortfall: shown and examined", ("guarantee/shortfall", "guarantee/examined_shortfall")),
        ),
        "Prices": (Chart("Item prices v", ("prices/lowest", "prices/median", "prices/highest")),),
        "Concentration": (
            Chart("Gini of exposure and of the training log", ("exposure/gini", "loop/log_gini")),
        ),
        "Allocation": (Chart("Value and its bound", ("allocation/value_model", "allocation/bound")),),
    }


def _band(title: str, measure: Measure, what: str) -> Chart:
    ends = [band_tag(what, end) for end in ("mid", "low", "high")]
    return Chart(f"{title} ({measure.unit})", tuple(ends), band=True)
