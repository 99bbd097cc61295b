"""Names of tags, ``group/name``, and what each is, in a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rimsim.measures import MEASURES

if TYPE_CHECKING:
    from rimsim.measures import Measure


# TensorBoard sorts groups by name and opens the first two: what retraining does stands first, what is there for other
# charts, or the same once more, last.
PARTS = "1_retraining"
"""Group of the parts of what retraining does to an agent."""
BANDS = "zz_bands"
"""Group of means over seeds and the ends of their bands, which charts of the custom-scalar page draw."""
BY_ARRIVALS = "zz_by_arrivals"
"""Group of every series against arrivals served."""
FINAL = "final"
"""Group of the figures of the table of hyperparameters."""

_DESCRIBED = {
    "platform/cost": "c, the cost of one missing exposure in units of λ; the same in all rounds",
    "platform/learnt_events": "events of the round that the platform can learn from",
    "platform/rescale": "what the last refit of λ(x) was multiplied with to keep its mean",
    "delivery/required": "Σb: exposures that are guaranteed in the round",
    "delivery/delivered": "Σ min(E, b): of those, the ones delivered",
    "prices/lowest": "the lowest item price v at the round's end, in units of λ; below 0 it is a bonus",
    "prices/median": "the median item price v at the round's end, in units of λ",
    "prices/highest": "the highest item price v at the round's end, in units of λ",
    "prices/share_bonus": "share of items with v < 0: with a bonus",
}


def band_tag(what: str, end: str) -> str:
    """The tag of an end of a band: ``mid``, ``low`` or ``high``."""
    return f"{BANDS}/{what}/{end}"


def part_tag(metric: str, part: str) -> str:
    """The tag of the mean over seeds of a part of what retraining does to a measure."""
    return f"{PARTS}/{metric}/{part}"


def tags_table(measures: Mapping[str, Measure] = MEASURES) -> str:
    """What each tag of an agent and seed is, as a Markdown table, measures first.

    Args:
        measures: Metric name → measure.
    """
    rows = {measure.tag: _of(measure) for measure in measures.values()} | _DESCRIBED
    rows |= {
        f"{BY_ARRIVALS}/…": "the same against arrivals served in place of rounds",
        f"{FINAL}/…": "means over the late rounds, for the table of hyperparameters",
        f"{PARTS}/MEASURE/PART": "what retraining does to an agent, in parts, mean over seeds",
        f"{BANDS}/…": "means over seeds and the ends of their bands: drawn by the page of custom scalars",
    }
    lines = [f"| `{tag}` | {told.replace('|', '&#124;')} |" for tag, told in rows.items()]
    return "\n".join(["| tag | what it is |", "|---|---|", *lines])


def _of(measure: Measure) -> str:
    better = f"; {measure.better} is better" if measure.better != "neither" else ""
    return f"{measure.title} ({measure.unit}{better}): {measure.formula}"
