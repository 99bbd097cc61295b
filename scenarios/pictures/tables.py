"""What pictures draw, computed from the tables of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rimsim import measures
from rimsim.arrays import Bools, Floats, Ints
from rimsim.errors import MissingTableError
from rimsim.measures import MEASURES
from rimsim.scenarios.report.items import item_names
from rimsim.scenarios.report.summary import REFERENCE, told_unit
from rimsim.scenarios.runs.status import is_control, shown_rounds, status_of

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.measures import Measure
    from rimsim.scenarios.runs.store import Run


_OF_LEDGER = ("agent", "seed", "round", "arrival", "position", "item", "price", "consumed")
"""What pictures and pages look at of a ledger."""

DECILES = 10
"""Groups of arrivals by intensity, or of items by popularity."""


@dataclass(frozen=True, eq=False)
class PictureTables:
    """The tables of a run; without one of the optional ones, pictures that need it are left out."""

    rounds: pd.DataFrame
    """Columns agent, seed, round, metric, value. An agent called ``NAME-frozen``, ``NAME-organic`` or
    ``NAME-random`` is a control of ``NAME``."""
    n_items: int
    """Size of the catalogue, M."""
    ledger: pd.DataFrame | None = None
    """Columns agent, seed, round, arrival, position, item, price, consumed of the ledger; one row an exposure."""
    required: Mapping[tuple[int, int], Ints] | None = None
    """(seed, round) → (M,) required exposures b."""
    arrivals: pd.DataFrame | None = None
    """Columns agent, seed, round, arrival, ground_intensity: λ(x) of every arrival as its agent's model saw
    it, also of arrivals that were shown nothing."""
    prices: pd.DataFrame | None = None
    """Columns agent, seed, round, item, price, cost: v at the end of each round, and c."""
    reliability: pd.DataFrame | None = None
    """Columns agent, seed, round, decile, exposures, predicted, consumed: predicted and actual consumptions of shown
    items, by decile of the predicted ones."""
    campaigns: pd.DataFrame | None = None
    """Columns agent, seed, round, name, due, delivered: exposures of each campaign in each round that it touches."""
    popularity: Ints | None = None
    """(M,) events of each item in the warm-up log."""
    names: Sequence[str] = ()
    """(M,) what to call each item: title, id in the log, or number; empty: not known."""
    unit: str = "examined"
    """The unit in which the guarantees are told."""
    weights: Floats | None = None
    """(k,) what an exposure at each position counts in that unit; None: exposures are counted as positions."""
    measures: Mapping[str, Measure] = field(default_factory=lambda: MEASURES)
    """Metric name → measure; each of a user's own gets a panel where measures are drawn by round."""

    @property
    def own(self) -> tuple[str, ...]:
        """Metrics of a user's own."""
        return tuple(name for name in self.measures if name not in MEASURES)


def picture_tables(run: Run) -> PictureTables:
    """The tables of a run that pictures are drawn from."""
    rounds, status = shown_rounds(run), status_of(run)

    def shown(table: pd.DataFrame) -> pd.DataFrame:
        """Without what arms that are not shown left behind."""
        if len(status.complete) == status.arms:
            return table
        return table.merge(rounds[["agent", "seed", "round"]].drop_duplicates())

    ledger = prices = reliability = None
    with suppress(MissingTableError):
        ledger = shown(run.exposures(_OF_LEDGER))
    with suppress(MissingTableError):
        prices = shown(run.prices)
    with suppress(MissingTableError):  # a run of an earlier version
        reliability = shown(run.reliability)
    promised = {campaign.name for campaign in run.scenario.exposure.campaigns}
    campaigns = None if run.promises is None else shown(run.promises)
    events = run.catalogue["events"].to_numpy(np.int64)
    n_items = len(events)
    unit = told_unit(rounds, run.scenario.exposure.unit)
    return PictureTables(
        rounds=rounds,
        n_items=n_items,
        ledger=ledger,
        required=_required(run, n_items),
        arrivals=shown(run.arrivals),
        prices=prices,
        reliability=reliability,
        campaigns=None if campaigns is None else campaigns[campaigns["name"].isin(promised)],
        popularity=events,
        unit=unit,
        weights=_weights(run.scenario) if unit == "examined" else None,
        names=item_names(run.catalogue),
        measures=run.measures,
    )


def _weights(scenario: ScenarioConfig) -> Floats | None:
    """(k,) γ^(r−1); None where γ is estimated, and so another one in each arm and round."""
    if scenario.exposure.examination != "known":
        return None
    return measures.position_weights(scenario.consumer.position_decay, scenario.slate)


def _required(run: Run, n_items: int) -> dict[tuple[int, int], Ints] | None:
    """(seed, round) → (M,) required exposures; None where arms are asked for different things."""
    rows: dict[tuple[int, int], Ints] = {}
    table = run.required
    if "agent" in table:
        return None
    for seed, number in table[["seed", "round"]].drop_duplicates().to_numpy().tolist():
        group = table[(table["seed"] == seed) & (table["round"] == number)]
        row = np.zeros(n_items, np.int64)
        row[group["item"].to_numpy()] = group["required"].to_numpy()
        rows[seed, number] = row
    return rows


def retrained(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of agents themselves: without their controls."""
    keep = [name for name in table["agent"].unique() if not is_control(str(name))]
    return table[table["agent"].isin(keep)]


def last_round(rounds: pd.DataFrame) -> int:
    """Number of the last round."""
    return int(rounds["round"].max())


def late_figures(rounds: pd.DataFrame) -> pd.DataFrame:
    """(agents × metrics) means over late rounds and seeds."""
    late = measures.late_means(rounds)
    return late.pivot_table(index="agent", columns="metric", values="value", observed=True)


def exposures(
    tables: PictureTables, number: int, weights: Floats | None = None
) -> dict[str, dict[int, Floats]]:
    """Agent → seed → (M,) exposures in a round by the ledger, without controls; empty without a ledger.

    Args:
        tables: The tables of a run.
        number: Which round.
        weights: (k,) what an exposure at each position counts; None: 1.
    """
    if tables.ledger is None:
        return {}
    of_round = retrained(tables.ledger[tables.ledger["round"] == number])
    counted: dict[str, dict[int, Floats]] = {}
    for (agent, seed, _), shown in _split(of_round).items():
        each = None if weights is None else weights[shown["position"].to_numpy(np.int64) - 1]
        given = np.bincount(shown["item"].to_numpy(np.int64), each, tables.n_items)
        counted.setdefault(agent, {})[seed] = given.astype(np.float64)
    return counted


def delivery_ratios(tables: PictureTables, number: int) -> dict[str, list[Floats]]:
    """Agent → for each seed, E/b of the guaranteed items of a round in ascending order; controls are left out.

    Both are counted by ``tables.weights``.
    """
    if tables.required is None:
        return {}
    average = 1.0 if tables.weights is None else measures.mean_weight(tables.weights)
    ratios: dict[str, list[Floats]] = {}
    for name, seeds in exposures(tables, number, tables.weights).items():
        for seed, given in seeds.items():
            wanted = tables.required.get((seed, number))
            if wanted is None or not (wanted > 0).any():
                continue
            guaranteed = wanted > 0
            ratios.setdefault(name, []).append(np.sort(given[guaranteed] / (average * wanted[guaranteed])))
    return ratios


def mean_curve(curves: list[Floats]) -> Floats:
    """Mean of sorted curves, read at the positions of the shortest: guaranteed items may differ by seed."""
    shortest = min(len(curve) for curve in curves)
    at = np.linspace(0, 1, shortest)
    read = [np.interp(at, np.linspace(0, 1, len(curve)), curve) for curve in curves]
    return np.asarray(np.mean(read, axis=0), np.float64)


def guaranteed_by_decile(tables: PictureTables) -> pd.DataFrame:
    """Positions a slate given to items whose guarantee binds, by decile of λ(x) of the arrivals of late rounds.

    A guarantee binds in a round if the relevance agent, at the same seed and round, left the item below b.
    Where relevance took no part, the items are those that any agent showed at a negative price.

    Returns:
        Columns agent, seed, decile (1 = lowest λ), value: the mean over late rounds. Empty without the tables.
    """
    rows = []
    if tables.ledger is not None and tables.arrivals is not None and tables.required is not None:
        late = measures.late_rounds(int(tables.arrivals["round"].max()) + 1)
        ledger, arrivals = (
            _split(retrained(table[table["round"].isin(late)])) for table in (tables.ledger, tables.arrivals)
        )
        bought = _bought(ledger, tables.n_items)
        for (agent, seed, number), group in arrivals.items():
            shown = ledger.get((agent, seed, number))
            required = tables.required.get((seed, number))
            if shown is None or required is None:
                continue
            unconstrained = ledger.get((REFERENCE, seed, number))
            if unconstrained is not None:
                counts = _counts(unconstrained["item"], tables.n_items)
                binding = measures.binding_items(counts, required)
            else:
                binding = bought[seed, number]
            slates = _slates(shown, group["arrival"].to_numpy())
            paid = measures.who_pays(slates, binding, group["ground_intensity"].to_numpy(), DECILES)
            rows += [(agent, seed, decile + 1, float(value)) for decile, value in enumerate(paid)]
    table = pd.DataFrame(rows, columns=["agent", "seed", "decile", "value"])
    return table.groupby(["agent", "seed", "decile"])["value"].mean().reset_index()


def _bought(
    ledger: Mapping[tuple[str, int, int], pd.DataFrame], n_items: int
) -> dict[tuple[int, int], Bools]:
    """(seed, round) → (M,) whether any agent showed the item at a negative price."""
    items: dict[tuple[int, int], Bools] = {}
    for (_, seed, number), shown in ledger.items():
        bought = _counts(shown.loc[shown["price"] < 0, "item"], n_items) > 0
        items[seed, number] = items.get((seed, number), bought) | bought
    return items


def _split(table: pd.DataFrame) -> dict[tuple[str, int, int], pd.DataFrame]:
    """(agent, seed, round) → its rows."""
    keys = table[["agent", "seed", "round"]].drop_duplicates().itertuples(index=False)
    groups = table.groupby(["agent", "seed", "round"], observed=True)
    return {(str(a), int(s), int(r)): groups.get_group((a, s, r)) for a, s, r in keys}


def _counts(items: pd.Series[int], n_items: int) -> Ints:
    return np.bincount(items.to_numpy(np.int64), minlength=n_items).astype(np.int64)


def _slates(shown: pd.DataFrame, arrivals: NDArray[np.generic]) -> Ints:
    """(n, k) slates of the arrivals in the given order; −1 = empty position."""
    position = shown["position"].to_numpy(np.int64)
    row = pd.Index(arrivals).get_indexer(shown["arrival"])
    slates = np.full((len(arrivals), int(position.max())), -1, np.int64)
    slates[row, position - 1] = shown["item"].to_numpy(np.int64)  # positions are counted from 1
    return slates
