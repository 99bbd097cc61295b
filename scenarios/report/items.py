"""Exposures of items and of groups of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rimsim import measures
from rimsim.arrays import Array, Bools, Floats, Ints
from rimsim.errors import MissingTableError
from rimsim.market.world import plugs_of, weights_of
from rimsim.measures import late_rounds, late_words
from rimsim.scenarios.report.picture_tables import PictureTables, item_names
from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.tables import (
    REFERENCE,
    baseline_of,
    compared_agents,
    signed,
    without_controls,
)
from rimsim.scenarios.runs.status import shown_rounds
from rimsim.scenarios.runs.store import RunFolder, table_in

DECILES = 10
"""Number of groups of arrivals by intensity, or of items by popularity."""
# Columns of the catalogue with groups; an item may be in several groups, joined by |.
_GROUPS = ("provider", "genres")
_ROUND = ["agent", "seed", "round"]
_EACH = 8  # number of items in a table that gained most, and of items that lost most
_MOST_GROUPS = 20


def exposures(
    tables: PictureTables, number: int, weights: Floats | None = None
) -> dict[str, dict[int, Floats]]:
    """Agent → seed → (M,) exposures in a round, by the ledger."""
    if tables.ledger is None:
        return {}
    of_round = without_controls(tables.ledger[tables.ledger["round"] == number])
    counted: dict[str, dict[int, Floats]] = {}
    for (agent, seed, _), shown in _by_arm(of_round).items():
        # Positions count from 1.
        position_weight = None if weights is None else weights[shown["position"].to_numpy(np.int64) - 1]
        delivered = np.bincount(shown["item"].to_numpy(np.int64), position_weight, tables.n_items)
        counted.setdefault(agent, {})[seed] = delivered.astype(np.float64)
    return counted


def delivery_ratios(tables: PictureTables, number: int) -> dict[str, list[Floats]]:
    """Agent → ascending ratios of delivered to guaranteed exposure, by seed."""
    if tables.required is None:
        return {}
    # Requirements are given for positions of mean weight.
    mean_weight = 1.0 if tables.weights is None else measures.mean_weight(tables.weights)
    ratios: dict[str, list[Floats]] = {}
    for name, seeds in exposures(tables, number, tables.weights).items():
        for seed, delivered in seeds.items():
            required = tables.required.get((seed, number))
            if required is None or not (required > 0).any():
                continue
            is_guaranteed = required > 0
            ratio = delivered[is_guaranteed] / (mean_weight * required[is_guaranteed])
            ratios.setdefault(name, []).append(np.sort(ratio))
    return ratios


def delivery(run: RunFolder) -> pd.DataFrame:
    """Table :attr:`rimsim.scenarios.Run.delivery` of finished rounds."""
    config = run.scenario
    rounds = shown_rounds(run)
    estimates = rounds[rounds["metric"] == "estimated_decay"].set_index(_ROUND)["value"].to_dict()
    keys = rounds[_ROUND].drop_duplicates(ignore_index=True).rename_axis("key").reset_index()
    is_known = config.exposure.examination == "known"
    _, consumer = plugs_of(config)
    # In a round, agents count exposures with the γ that was estimated at the end of the round before.
    decays = [
        config.consumer.position_decay
        if is_known
        else estimates.get((agent, seed, number - 1), config.exposure.prior_decay)
        for agent, seed, number in keys[_ROUND].itertuples(index=False)
    ]
    weights = np.array([weights_of(config, consumer, decay) for decay in decays]).reshape(-1, config.slate)
    shown = table_in(run.folder, "ledger", (*_ROUND, "position", "item")).merge(keys)
    shown["delivered"] = weights[shown["key"], shown["position"] - 1]  # positions count from 1
    delivered = shown.groupby(["key", "item"], as_index=False)["delivered"].sum()
    table = keys.merge(run.required).merge(delivered, "left").merge(run.catalogue[["item", "id"]])
    # The table ``required`` counts positions of mean weight, so it is brought to the unit of guarantees.
    mean_weight = np.array([measures.mean_weight(weight_row) for weight_row in weights])
    table["required"] *= mean_weight[table["key"]]
    return table[[*_ROUND, "item", "id", "required", "delivered"]].fillna({"delivered": 0.0})


def users(run: RunFolder) -> pd.DataFrame:
    """Table :attr:`rimsim.scenarios.Run.users` of finished rounds."""
    table = table_in(run.folder, "users")
    try:
        ledger = table_in(run.folder, "ledger", (*_ROUND, "log_user", "consumed"))
    except MissingTableError:
        return table
    rounds = shown_rounds(run)
    ledger = ledger.merge(rounds[_ROUND].drop_duplicates())
    sums = ledger.groupby(["log_user", "agent"])["consumed"].sum().unstack()
    means = sums / rounds.groupby("agent")["seed"].nunique()
    arms = [name for name in run.agents if name in means]
    return table.merge(means[arms], "left", left_on="log_user", right_index=True)


def mean_curve(curves: list[Floats]) -> Floats:
    """Mean of sorted curves, interpolated to the shortest length."""
    shortest = min(len(curve) for curve in curves)
    points = np.linspace(0, 1, shortest)
    interpolated = [np.interp(points, np.linspace(0, 1, len(curve)), curve) for curve in curves]
    return np.asarray(np.mean(interpolated, axis=0), np.float64)


def guaranteed_by_decile(tables: PictureTables) -> pd.DataFrame:
    """Positions of items with binding guarantees by decile of λ(x).

    A guarantee binds in a round if the agent ``relevance``, at the same seed and round, leaves the item below its
    guarantee b. In runs without ``relevance``, a guarantee binds if an agent shows the item at a negative price.

    Returns:
        Table with columns agent, seed, decile (1 = lowest λ) and value. The value is positions per slate, as a mean
        over late rounds. Without the data, the table has no rows.
    """
    rows = []
    if tables.ledger is not None and tables.arrivals is not None and tables.required is not None:
        late = late_rounds(int(tables.arrivals["round"].max()) + 1)
        ledger = _by_arm(without_controls(tables.ledger[tables.ledger["round"].isin(late)]))
        arrivals = _by_arm(without_controls(tables.arrivals[tables.arrivals["round"].isin(late)]))
        shown_with_bonus = _shown_with_bonus(ledger, tables.n_items)
        for (agent, seed, number), group in arrivals.items():
            shown = ledger.get((agent, seed, number))
            required = tables.required.get((seed, number))
            if shown is None or required is None:
                continue
            unconstrained = ledger.get((REFERENCE, seed, number))
            if unconstrained is not None:
                counts = _counts(unconstrained["item"], tables.n_items)
                is_binding = measures.binding_items(counts, required)
            else:
                is_binding = shown_with_bonus[seed, number]
            slates = slates_of(shown, group["arrival"].to_numpy())
            positions = measures.who_pays(slates, is_binding, group["ground_intensity"].to_numpy(), DECILES)
            rows += [(agent, seed, decile, float(value)) for decile, value in enumerate(positions, 1)]
    table = pd.DataFrame(rows, columns=["agent", "seed", "decile", "value"])
    return table.groupby(["agent", "seed", "decile"])["value"].mean().reset_index()


def _shown_with_bonus(
    ledger: Mapping[tuple[str, int, int], pd.DataFrame], n_items: int
) -> dict[tuple[int, int], Bools]:
    """(seed, round) → (M,) mask of items shown at negative prices."""
    masks: dict[tuple[int, int], Bools] = {}
    for (_, seed, number), shown in ledger.items():
        has_bonus = _counts(shown.loc[shown["price"] < 0, "item"], n_items) > 0
        masks[seed, number] = masks.get((seed, number), has_bonus) | has_bonus
    return masks


def _by_arm(table: pd.DataFrame) -> dict[tuple[str, int, int], pd.DataFrame]:
    """(agent, seed, round) → rows of a table."""
    groups = table.groupby(["agent", "seed", "round"], sort=False, observed=True)
    return {(str(agent), int(str(seed)), int(str(number))): rows for (agent, seed, number), rows in groups}


def _counts(items: pd.Series[int], n_items: int) -> Ints:
    """(M,) number of occurrences of each item."""
    return np.bincount(items.to_numpy(np.int64), minlength=n_items).astype(np.int64)


def slates_of(shown: pd.DataFrame, arrivals: Array) -> Ints:
    """(n, k) slates of arrivals in the given order; −1 is empty."""
    position = shown["position"].to_numpy(np.int64)
    row = pd.Index(arrivals).get_indexer(pd.Index(shown["arrival"]))
    slates = np.full((len(arrivals), int(position.max())), -1, np.int64)
    slates[row, position - 1] = shown["item"].to_numpy(np.int64)  # positions count from 1
    return slates


def item_exposures(
    ledger: pd.DataFrame, required: Mapping[tuple[int, int], Ints], n_items: int, rounds: int
) -> pd.DataFrame:
    """Means per item over late rounds and seeds, without controls.

    Returns:
        Table with columns agent, item, exposures, consumed, required and delivered. The column delivered is a share of
        the required exposure, or NaN if nothing is required.
    """
    by_agent: dict[str, list[Ints]] = {}
    of_late = without_controls(ledger[ledger["round"].isin(late_rounds(rounds))])
    for (agent, seed, number), rows in _by_arm(of_late).items():
        shown = _counts(rows["item"], n_items)
        taken = _counts(rows.loc[rows["consumed"].astype(bool), "item"], n_items)
        required_in_round = required.get((seed, number), np.zeros(n_items, np.int64))
        delivered_in_round = np.minimum(shown, required_in_round)  # more than required does not count
        counts = np.stack([shown, taken, required_in_round, delivered_in_round])
        by_agent.setdefault(agent, []).append(counts)
    tables = []
    for agent, counts_of_rounds in by_agent.items():
        exposed, consumed, due, met = np.mean(counts_of_rounds, axis=0)
        delivered = np.divide(met, due, out=np.full(n_items, np.nan), where=due > 0)
        figures = {"exposures": exposed, "consumed": consumed, "required": due, "delivered": delivered}
        tables.append(pd.DataFrame(figures).assign(agent=agent, item=np.arange(n_items)))
    columns = ["agent", "item", "exposures", "consumed", "required", "delivered"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def items_table(
    exposed: pd.DataFrame, catalogue: pd.DataFrame, agents: Sequence[str], rounds: int
) -> TextTable | None:
    """Items whose exposure differs most from the baseline's."""
    present = [name for name in agents if name in set(exposed["agent"])]
    if len(present) < 2:
        return None
    base = baseline_of(present)
    delivery_shares = exposed.groupby("agent")["delivered"].mean().fillna(0.0)
    agent = max(compared_agents(base, present), key=lambda name: delivery_shares[name])
    of_agent = exposed[exposed["agent"] == agent].set_index("item")
    of_base = exposed[exposed["agent"] == base].set_index("item")
    change = of_agent["exposures"] - of_base["exposures"]
    largest_loss_first = change.sort_values(kind="stable").index
    gained = [item for item in largest_loss_first[::-1][:_EACH] if change[item] > 0]
    lost = [item for item in largest_loss_first[:_EACH] if change[item] < 0]
    names = dict(zip(catalogue["item"], item_names(catalogue), strict=True))
    genres = dict(zip(catalogue["item"], catalogue["genres"], strict=True)) if "genres" in catalogue else {}
    rows = []
    for item in [*gained, *reversed(lost)]:
        genre_names = str(genres.get(item) or "–").replace("|", ", ")
        figures = (
            of_base["exposures"][item],
            of_agent["exposures"][item],
            change[item],
            of_agent["required"][item],
            of_base["consumed"][item],
            of_agent["consumed"][item],
        )
        cells = (signed(float(value), 1) for value in figures)
        rows.append((names[item], genre_names, f"{catalogue['events'].iloc[item]:,}", *cells))
    columns = (
        "item",
        "genres",
        "events before",
        f"shown by {base}",
        f"shown by {agent}",
        "change",
        "required",
        f"taken, {base}",
        f"taken, {agent}",
    )
    title = (
        f"Who gained and who lost most with {agent} against {base}: exposures a round, {late_words(rounds)}"
    )
    return TextTable(title, columns, tuple(rows), labels=2) if rows else None


def group_shares(exposed: pd.DataFrame, catalogue: pd.DataFrame, column: str) -> pd.DataFrame:
    """Share of an agent's exposure by group, largest first.

    An item counts in each of its groups, which are joined by ``|`` in ``column`` of the item table.

    Returns:
        Table (groups × agents) of shares; its index has the levels group and items (number of items).
    """
    groups = catalogue[["item"]].assign(group=catalogue[column].fillna("").astype(str).str.split("|"))
    groups = groups.explode("group")
    groups = groups[groups["group"] != ""]
    sizes = groups["group"].value_counts().rename("items")
    exposed_groups = groups.merge(exposed, on="item").join(sizes, on="group")
    sums = exposed_groups.pivot_table(
        index=["group", "items"], columns="agent", values="exposures", aggfunc="sum"
    )
    shares = sums / exposed.groupby("agent")["exposures"].sum()
    return shares.sort_index().sort_index(level="items", ascending=False, kind="stable", sort_remaining=False)


def group_tables(exposed: pd.DataFrame, catalogue: pd.DataFrame, agents: Sequence[str]) -> list[TextTable]:
    """Tables of each group's share of the exposure, by agent."""
    tables = []
    present = set(exposed["agent"])
    shown = [name for name in agents if name in present]
    for column in _GROUPS:
        if column not in catalogue or not catalogue[column].fillna("").astype(str).str.len().any():
            continue
        shares = group_shares(exposed, catalogue, column)[shown].head(_MOST_GROUPS)
        rows = [
            (str(group), f"{items}", *(f"{100 * share:.1f}%" for share in row))
            for (group, items), row in zip(shares.index, shares.to_numpy(), strict=True)
        ]
        word = column.removesuffix("s")
        title = f"Share of the exposure by {word}, late rounds; an item counts in each {word} that it has"
        tables.append(TextTable(title, (word, "items", *shown), tuple(rows)))
    return tables
