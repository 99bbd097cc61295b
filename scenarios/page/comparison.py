"""The page of a comparison: what guarantees cost and bring, by round, by user, by item, and how far to believe it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.config import to_plain
from rimsim.errors import MissingTableError
from rimsim.measures import FEW_SEEDS, late_means, late_of
from rimsim.scenarios.page.chart import Axis, Chart, Curve
from rimsim.scenarios.page.content import Page, Section
from rimsim.scenarios.page.curves import axis_of, front_points, over, spread_words, widened
from rimsim.scenarios.page.settings import as_sentence, as_yaml, log_fact
from rimsim.scenarios.pictures.decomposition import PART_LOOKS, effect_of_retraining
from rimsim.scenarios.pictures.looks import styles
from rimsim.scenarios.pictures.messages import many
from rimsim.scenarios.pictures.prices import price_deciles
from rimsim.scenarios.pictures.tables import (
    DECILES,
    delivery_ratios,
    guaranteed_by_decile,
    mean_curve,
    picture_tables,
    retrained,
)
from rimsim.scenarios.report.agreement import agreement_note
from rimsim.scenarios.report.answer import comparison_sentences
from rimsim.scenarios.report.comparison import outcome_tables, result_notes, retraining_table, shown_arms
from rimsim.scenarios.report.decomposition import decomposition, parts_by_seed
from rimsim.scenarios.report.items import group_table, item_exposures, items_table
from rimsim.scenarios.report.promised import promised_table
from rimsim.scenarios.report.summary import EFFECTS, REFERENCE, over_seeds, shortfalls
from rimsim.scenarios.runs.status import is_control

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.scenarios.pictures.tables import PictureTables
    from rimsim.scenarios.report.record import TextTable
    from rimsim.scenarios.runs.store import Run


_BY_ROUND = ("coverage", "effective_items", "log_gini")


def comparison_page(run: Run) -> Page:
    """The page of a comparison, from its tables; what is not finished is left out.

    Raises:
        MissingTableError: If no round is finished.
    """
    rounds, agents = shown_arms(run)
    if rounds.empty:
        raise MissingTableError(f"{run.folder}: no round is finished; allowed: a run that has come further")
    scenario = run.scenario
    tables = picture_tables(run)
    answer = comparison_sentences(rounds, agents, scenario.exposure.unit)
    parts = decomposition(late_means(rounds), agents, EFFECTS)
    if not parts.empty:
        words = late_of(rounds)
        answer.append(f"{effect_of_retraining(parts, words, run.measures)}.")
    agreement = agreement_note(run)
    sections = (
        _by_round(tables),
        Section("The front: relevance against diversity", "Up and to the right is better.", _front(tables)),
        _retraining(tables, retraining_table(run)),
        _delivery(tables),
        _who_pays(tables),
        _items(run, tables, agents),
        Section(
            "All figures",
            tables=tuple(
                table for table in (*outcome_tables(run), promised_table(run)) if table and table.rows
            ),
        ),
    )
    arrivals = scenario.arrivals
    return Page(
        question=f"{_question(run)} ({scenario.name})",
        setting=(
            scenario.description,
            log_fact(run, scenario.data.source),
            f"{many(scenario.rounds, 'round')}, {arrivals.kind}"
            + (f" of {arrivals.per_round:,} arrivals" if arrivals.per_round else ""),
            f"slates of {scenario.slate}",
            f"β = {scenario.exposure.beta:g}",
            many(len(run.seeds), "seed"),
            f"platform `{scenario.platform.model}`",
        ),
        answer=tuple(answer),
        cautions=tuple(as_sentence(note) for note in ([agreement] if agreement else []) + result_notes(run)),
        sections=sections,
        settings=as_yaml(to_plain(scenario)),
    )


def _question(run: Run) -> str:
    exposure = run.scenario.exposure
    promised = exposure.beta > 0 or exposure.items or exposure.campaigns or exposure.groups
    return "What does guaranteeing exposure cost and bring?" if promised else "What do these agents bring?"


def _by_round(tables: PictureTables) -> Section:
    """Each measure by round; controls dashed."""
    rounds = tables.rounds
    if rounds["round"].max() == 0:
        return Section("By round")
    drawn = rounds[[not is_control(str(name)) or str(name).endswith("-frozen") for name in rounds["agent"]]]
    looks = styles(drawn["agent"].unique())
    charts = []
    for metric in ("utility", *shortfalls(tables.unit), *_BY_ROUND, *tables.own):
        values = drawn[drawn["metric"] == metric]
        if len(values):
            measure = tables.measures[metric]
            axis = widened(axis_of(measure), values["value"])
            charts.append(Chart(measure.title, _ROUND, axis, over(values, "round", looks)))
    frozen = any(is_control(str(name)) for name in drawn["agent"].unique())
    text = spread_words(int(rounds["seed"].nunique())) + (
        " Dashed: not retrained (frozen)." if frozen else ""
    )
    return Section("By round", text, tuple(charts))


_ROUND = Axis("round", whole=True)


def _front(tables: PictureTables) -> tuple[Chart, ...]:
    rounds = retrained(tables.rounds)
    means = over_seeds(late_means(rounds), ["agent"], ("perplexity", "utility"))
    complete = means.groupby("agent")["metric"].nunique() == 2
    names = set(complete.index[complete])
    looks = {name: look for name, look in styles(rounds["agent"].unique()).items() if name in names}
    if not looks:
        return ()
    wide = means[means["metric"] == "perplexity"]["mean"]
    log = len(wide) > 1 and 0 < 10 * wide.min() < wide.max()
    across = Axis("exposure perplexity (items)", scale="log" if log else "linear", zero=not log)
    up = Axis("utility (expected consumptions a slate)")
    points = front_points(means, "perplexity", "utility", looks)
    return (Chart(f"Late rounds: {late_of(rounds)}", across, up, points),)


def _retraining(tables: PictureTables, numbers: TextTable) -> Section:
    rounds = tables.rounds
    wanted = ("utility", "coverage", "effective_items", shortfalls(tables.unit)[0])
    arms = list(rounds["agent"].unique())
    parts = decomposition(rounds, arms, wanted, ["round"])
    pairs = int(parts["n"].max()) if len(parts) else 0
    by_seed = parts_by_seed(rounds, arms, wanted) if 1 < pairs < FEW_SEEDS else None
    charts = []
    for agent in styles(parts["agent"].unique()) if len(parts) else ():
        for metric in wanted:
            mine = parts[(parts["agent"] == agent) & (parts["metric"] == metric)]
            curves = []
            for name, look in PART_LOOKS.items():
                part = mine[mine["part"] == name].sort_values("round")
                if part.empty:
                    continue
                x, y, low, high = (
                    tuple(map(float, part[column])) for column in ("round", "mean", "low", "high")
                )
                told = f"{name} ({part['difference'].iloc[0]})"
                threads = () if by_seed is None else _seeds_of(by_seed, agent, metric, name, x)
                curves.append(Curve(told, look.colour, look.marker, x, y, low, high, threads=threads))
            if curves and max(len(curve.x) for curve in curves) > 1:
                measure = tables.measures[metric]
                up = axis_of(measure, difference=True)
                charts.append(
                    Chart(f"{agent}: {measure.title.lower()}", _ROUND, up, tuple(curves), level=0.0)
                )
    bands = "; bands: paired 95 % intervals" if pairs > 1 else ""
    spread = bands if by_seed is None else "; thin: each seed"
    text = (
        f"Differences between arms of an agent at the same round and seed, which add up{spread}. "
        "`frozen` is not retrained; `organic` and `random` are retrained on as many events of the log, or under random "
        "slates; `self` on what its own slates brought. What is left of retraining beyond random slates is the loop."
    )
    return Section("What retraining does, in parts", text, tuple(charts), (numbers,) if numbers.rows else ())


def _seeds_of(
    by_seed: pd.DataFrame, agent: str, metric: str, part: str, rounds: tuple[float, ...]
) -> tuple[tuple[float, ...], ...]:
    """A part of what retraining does to a metric, a line a seed over the rounds."""
    chosen = by_seed[(by_seed["agent"] == agent) & (by_seed["metric"] == metric) & (by_seed["part"] == part)]
    wide = chosen.pivot(index="round", columns="seed", values="value").reindex(rounds)
    return tuple(tuple(map(float, wide[seed])) for seed in wide)


def _delivery(tables: PictureTables) -> Section:
    number = int(tables.rounds["round"].max())
    ratios = delivery_ratios(tables, number)
    curves = []
    for name, look in styles(ratios).items():
        kept = mean_curve([np.minimum(ratio, 1.0) for ratio in ratios[name]])
        share = tuple((place + 0.5) / len(kept) for place in range(len(kept)))
        curves.append(Curve(name, look.colour, look.marker, share, tuple(map(float, kept))))
    charts = []
    if curves:
        across = Axis("share of the guaranteed items, least served first", share=True, least=0.0, most=1.0)
        up = Axis("exposures over those required, at most 1", share=True, least=0.0, most=1.04)
        charts.append(Chart(f"Delivery in round {number}", across, up, tuple(curves)))
    bonus = price_deciles(tables)
    if len(bonus):
        across = Axis(
            "decile of the items by popularity, least popular first", whole=True, least=1, most=DECILES
        )
        up = Axis("bonus −v over the cost c of a missing exposure", share=True, least=0.0)
        drawn = over(bonus, "decile", styles(bonus["agent"].unique()))
        charts.append(Chart(f"Prices at the end of round {number}", across, up, drawn))
    counted = "in positions" if tables.weights is None else "as examined"
    text = (
        f"What guaranteed items get of what they are owed, {counted}, and what an agent pays for an exposure."
    )
    return Section("Delivery", text, tuple(charts))


def _who_pays(tables: PictureTables) -> Section:
    table = guaranteed_by_decile(tables)
    if table.empty:
        return Section("Who pays")
    across = Axis("decile of the arrivals by λ(x), lowest first", whole=True, least=1, most=DECILES)
    up = Axis("positions a slate given to items whose guarantee binds", zero=True)
    chart = Chart(
        "Guaranteed items in slates", across, up, over(table, "decile", styles(table["agent"].unique()))
    )
    items = (
        f"that `{REFERENCE}` leaves below their guarantee"
        if REFERENCE in set(table["agent"])
        else "with a bonus"
    )
    return Section(
        "Who pays", f"Which visitors carry the items {items}: those who consume little, or much.", (chart,)
    )


def _items(run: Run, tables: PictureTables, agents: list[str]) -> Section:
    if tables.ledger is None or tables.required is None:
        return Section("Items: who gained, who was starved")
    rounds = int(tables.rounds["round"].max()) + 1
    exposures = item_exposures(tables.ledger, tables.required, tables.n_items, rounds)
    catalogue = run.catalogue
    table = items_table(exposures, catalogue, agents, rounds)
    charts = (_starved(exposures),)
    return Section(
        "Items: who gained, who was starved",
        "Exposures and consumptions of a late round, means over late rounds and seeds; all items count.",
        tuple(chart for chart in charts if chart is not None),
        ((table,) if table is not None else ()) + tuple(group_table(exposures, catalogue, agents)),
    )


def _starved(exposures: pd.DataFrame) -> Chart | None:
    """All items by how often they are shown."""
    curves = []
    for name, look in styles(exposures["agent"].unique()).items():
        counts = np.sort(exposures.loc[exposures["agent"] == name, "exposures"].to_numpy(np.float64))
        share = tuple((place + 0.5) / len(counts) for place in range(len(counts)))
        curves.append(Curve(name, look.colour, look.marker, share, tuple(map(float, 1 + counts))))
    if not curves:
        return None
    across = Axis("share of the catalogue, least shown first", share=True, least=0.0, most=1.0)
    return Chart(
        "Every item", across, Axis("1 + exposures a round (log scale)", scale="log", least=0.9), tuple(curves)
    )
