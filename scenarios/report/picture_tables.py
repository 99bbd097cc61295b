"""Tables of a run that its pictures are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd

from rimsim import measures
from rimsim.arrays import Floats, Ints
from rimsim.errors import MissingTableError
from rimsim.measures import MEASURES, Measure
from rimsim.scenarios.report.happenings import (
    RoundHours,
    RoundMark,
    busiest_round,
    grouped,
    round_hours,
    round_marks,
)
from rimsim.scenarios.report.tables import last_round, reported_unit
from rimsim.scenarios.runs.status import shown_rounds, status_of
from rimsim.scenarios.runs.store import RunFolder, table_in

_LEDGER = ("agent", "seed", "round", "arrival", "position", "item", "price", "consumed")
_TIMES = ("agent", "seed", "round", "arrival", "time")
_TAKEN = ("agent", "seed", "round", "arrival", "consumed")
_LONGEST = 44  # largest number of letters of an item's name; longer names are cut


@dataclass(frozen=True, eq=False)
class PictureTables:
    """Tables of a run that its plots are drawn from.

    Plots that need a missing table are left out.
    """

    rounds: pd.DataFrame
    """Columns agent, seed, round, metric, value. Controls are called ``NAME-frozen``, ``-organic`` or ``-random``."""
    n_items: int
    """M, the size of the catalogue."""
    ledger: pd.DataFrame | None = None
    """Columns agent, seed, round, arrival, position, item, price, consumed. Each row is an exposure of a late round."""
    required: Mapping[tuple[int, int], Ints] | None = None
    """(seed, round) → (M,) required exposures b."""
    arrivals: pd.DataFrame | None = None
    """Columns agent, seed, round, arrival, ground_intensity: λ(x) by the agent's model, including arrivals without a
    slate. Like ``prices`` and ``reliability``, this table has late rounds only."""
    prices: pd.DataFrame | None = None
    """Columns agent, seed, round, item, price, cost: price v at the end of each round, and cost c."""
    reliability: pd.DataFrame | None = None
    """Columns agent, seed, round, decile, exposures, predicted, consumed. The deciles are those of the predicted
    consumptions."""
    campaigns: pd.DataFrame | None = None
    """Columns agent, seed, round, name, due, delivered: exposures of each campaign and round."""
    popularity: Ints | None = None
    """(M,) events of each item in the warm-up log."""
    names: Sequence[str] = ()
    """(M,) title, id or number of each item; empty if names are unknown."""
    unit: str = "examined"
    """Unit of the reported guarantees."""
    weights: Floats | None = None
    """(k,) weight of an exposure at each position, in the unit of guarantees; None: all weights are 1."""
    marks: Sequence[RoundMark] = ()
    """Marks of the rounds in which processes changed a market."""
    hours: RoundHours | None = None
    """Changes, visits and consumptions of a round by time; None without processes."""
    measures: Mapping[str, Measure] = field(default_factory=lambda: MEASURES)
    """Name of a metric → its measure."""

    @property
    def own(self) -> tuple[str, ...]:
        """Names of the user's own measures."""
        return tuple(name for name in self.measures if name not in MEASURES)


def overview_tables(run: RunFolder) -> PictureTables:
    """Tables by round, without the large ones of visits."""
    rounds = shown_rounds(run)
    events = run.catalogue["events"].to_numpy(np.int64)
    changes = _changes(run, rounds)
    scenario = run.scenario
    unit = reported_unit(rounds, scenario.exposure.unit)
    weights = measures.position_weights(scenario.consumer.position_decay, scenario.slate)
    return PictureTables(
        rounds=rounds,
        n_items=len(events),
        popularity=events,
        unit=unit,
        # If each arm estimates γ, the weights of positions differ between arms. Then exposures are drawn as shown.
        weights=weights if unit == "examined" and scenario.exposure.examination == "known" else None,
        names=item_names(run.catalogue),
        marks=() if changes is None else round_marks(changes),
        measures=run.measures,
    )


def picture_tables(run: RunFolder) -> PictureTables:
    """Tables of a run that its plots are drawn from."""
    overview = overview_tables(run)
    rounds = overview.rounds
    shown = partial(_shown, run, rounds)
    late = 0 if rounds.empty else measures.late_rounds(last_round(rounds) + 1)[0]
    # Items with a campaign of their own are not drawn.
    names_of_campaigns = {campaign.name for campaign in run.scenario.exposure.campaigns}
    campaigns = shown("promises")  # also has groups
    changes = _changes(run, rounds)
    busiest = None if changes is None else busiest_round(changes)
    hours = None
    if changes is not None and busiest is not None:
        *_, number = busiest
        times = shown("arrivals", _TIMES, number)
        if times is not None:
            hours = round_hours(changes, busiest, times, shown("ledger", _TAKEN, number))
    return replace(
        overview,
        ledger=shown("ledger", _LEDGER, late),
        required=_required(run, overview.n_items),
        arrivals=shown("arrivals", since=late),
        prices=shown("prices", since=late),
        reliability=shown("reliability", since=late),
        campaigns=None if campaigns is None else campaigns[campaigns["name"].isin(names_of_campaigns)],
        hours=hours,
    )


def _shown(
    run: RunFolder, rounds: pd.DataFrame, name: str, columns: Sequence[str] | None = None, since: int = 0
) -> pd.DataFrame | None:
    """Table of the rounds that are shown, if it exists."""
    try:
        table = table_in(run.folder, name, columns, since)
    except MissingTableError:
        return None
    status = status_of(run)
    if len(status.complete) == status.arms:
        return table
    return table.merge(rounds[["agent", "seed", "round"]].drop_duplicates())


def _changes(run: RunFolder, rounds: pd.DataFrame) -> pd.DataFrame | None:
    """Changes by processes in shown rounds; None without processes."""
    happenings = _shown(run, rounds, "happenings")
    return None if happenings is None else grouped(happenings, len(run.catalogue))


def _required(run: RunFolder, n_items: int) -> dict[tuple[int, int], Ints] | None:
    """(seed, round) → (M,) required exposures; None where requirements differ by arm."""
    if "agent" in run.required:
        return None
    required = {}
    for (seed, number), rows in run.required.groupby(["seed", "round"]):
        exposures = np.bincount(rows["item"], rows["required"], n_items)
        required[int(str(seed)), int(str(number))] = exposures.astype(np.int64)
    return required


def item_names(catalogue: pd.DataFrame) -> list[str]:
    """Titles of items, else their ids, else their numbers."""
    names = [f"item {number}" for number in catalogue["item"]]
    for column in ("id", "title"):
        if column in catalogue:
            texts = catalogue[column].fillna("").astype(str)
            names = [text or name for text, name in zip(texts, names, strict=True)]
    return [f"{name[: _LONGEST - 1]}…" if len(name) > _LONGEST else name for name in names]
