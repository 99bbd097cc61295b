"""Tags of TensorBoard series, and their meanings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from rimsim.measures import MEASURES, Measure

Measures: TypeAlias = Mapping[str, Measure]
_BY_BAND = sorted(MEASURES.values(), key=lambda measure: measure.band)
BANDED = tuple(measure.name for measure in _BY_BAND if measure.band)
"""Names of built-in measures with a band, in their order on the page."""
RETRAINED = tuple(sorted(name for name in MEASURES if MEASURES[name].retrained))
"""Names of built-in measures whose change by retraining is reported in parts."""
# Groups of tags. TensorBoard sorts groups by name and opens the first two. So the parts of retraining have a name that
# comes first. Names that come last belong to series that few users look at: the lines of bands, which the custom-scalar
# page draws, and all series against the number of served arrivals.
PARTS = "1_retraining"
BANDS = "zz_bands"
BY_ARRIVALS = "zz_by_arrivals"
FINAL = "final"
PART_WORDS = {
    "loop": "the loop",
    "selection": "selection by a model's slates",
    "all": "all of retraining, agent − frozen",
    "data": "data of this market",
    "own-history": "events of its own market, not another's",
}
PART_TAGS = {"all": "agent_minus_frozen"}
"""Name of a part of retraining → last word of its tag, if the name would not explain the part."""
TAGS = {
    "platform/cost": "c, the cost of a missing exposure in units of λ; the same in all rounds",
    "platform/learnt_events": "events of the round from which the platform can learn",
    "platform/rescale": "factor that kept the mean of λ(x) in its last refit; 1 unless `platform.retrain_ground`",
    "delivery/required": "Σb, guaranteed exposures",
    "delivery/delivered": "Σ min(E, b), delivered exposures of these",
    "prices/lowest": "lowest item price v at the end of the round, in units of λ; below 0 it is a bonus",
    "prices/median": "median item price v at the end of the round, in units of λ",
    "prices/highest": "highest item price v at the end of the round, in units of λ",
    "prices/share_bonus": "share of items with a bonus (v < 0)",
    "groups/COLUMN GROUP/NAME": "`exposures`, `undelivered`, `consumptions` or `revenue` of a group, such as a seller",
    "happenings/changes": "changes of the market by processes in the round, as a table in the tab Text",
    "histograms/item_price": "distribution of v over items",
    "histograms/exposure": "distribution of E over items",
    f"{BY_ARRIVALS}/GROUP/NAME": "the same figures against arrivals served since the run began",
    f"{FINAL}/NAME": "means over the late rounds, at the last round, as in the tables",
    f"{PARTS}/NAME/PART": "part `retraining`, `data`, `selection` or `feedback`; in `bands/AGENT`",
    f"{PARTS}/NAME/{PART_TAGS['all']}": "all parts: the agent minus its frozen control; in `bands/AGENT`",
    f"{BANDS}/NAME/END": "`mid`, `low`, `high`: mean over seeds and its 95% interval; in `bands/AGENT`, for charts",
}
"""Tag → its meaning, for tags that do not belong to a measure. Steps are rounds, unless the meaning says otherwise."""
