"""Charts of TensorBoard's custom-scalar page."""

from __future__ import annotations

from collections.abc import Sequence

from rimsim.measures import MEASURES, Measure
from rimsim.tracking.events import TagChart
from rimsim.tracking.tags import BANDED, BANDS, PART_WORDS, RETRAINED, Measures


def layout(measures: Measures = MEASURES, parts: Sequence[str] = ()) -> dict[str, tuple[TagChart, ...]]:
    """Charts of the custom-scalar page, by category."""
    own_names = [name for name in measures if name not in MEASURES]
    page = {}
    part_charts = []
    for part in parts:
        for name in (*RETRAINED, *own_names):
            title = f"{measures[name].title}: {PART_WORDS.get(part, part)}"
            part_charts.append(_band(title, measures[name], f"{name}/{part}"))
    if part_charts:
        page["Retraining and its parts"] = tuple(part_charts)
    page["Bands over seeds (95%; below four seeds from the lowest to the highest)"] = tuple(
        _band(measures[name].title, measures[name], name) for name in (*BANDED, *own_names)
    )
    for category, title, tags in (
        ("Guarantees", "Required and delivered exposure", ("delivery/required", "delivery/delivered")),
        (
            "Guarantees",
            "Shortfall: shown and examined",
            ("guarantee/shortfall", "guarantee/examined_shortfall"),
        ),
        ("Prices", "Item prices v", ("prices/lowest", "prices/median", "prices/highest")),
        ("Concentration", "Gini of exposure and of the training log", ("exposure/gini", "loop/log_gini")),
        ("Allocation", "Value and its bound", ("allocation/value_model", "allocation/bound")),
    ):
        page[category] = (*page.get(category, ()), TagChart(title, tags))
    return page


def _band(title: str, measure: Measure, series: str) -> TagChart:
    """Chart of a series: mean and band over seeds."""
    tags = tuple(f"{BANDS}/{series}/{end}" for end in ("mid", "low", "high"))
    return TagChart(f"{title} ({measure.unit})", tags, band=True)
