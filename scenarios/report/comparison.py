"""Report of a comparison, plots by round, differences of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rimsim.config import to_plain
from rimsim.config.reading import flat
from rimsim.errors import RunFolderError, many
from rimsim.measures import late_means, late_of
from rimsim.requirements.campaigns import group_name
from rimsim.scenarios.report import charts, groups, items, loop, prices, sentences, tables, titles
from rimsim.scenarios.report.console import folder_places, more_place
from rimsim.scenarios.report.fitness import with_verdict
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.report.sweep import sweep_table
from rimsim.scenarios.runs.arms import control_in, subject_of
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.runs.status import shown_rounds, status_note
from rimsim.scenarios.runs.store import RunFolder


def over_rounds(data: tables.PictureTables) -> Figure | None:
    """Plots of measures by round; dashed: arms that never retrain."""
    rounds = tables.retrained(data.rounds)
    frozen = data.rounds[data.rounds["agent"].map(control_in) == "frozen"]
    frozen = frozen.assign(agent=frozen["agent"].map(subject_of))
    shortfall, other = tables.shortfalls(data.unit)
    wanted = ("utility", shortfall, *loop.METRICS, *data.own)
    metrics = [metric for metric in wanted if (rounds["metric"] == metric).any()]
    if not metrics or tables.last_round(rounds) == 0:  # one round has no course
        return None
    looks = charts.styles(rounds["agent"].unique())
    dashed = "" if frozen.empty else " Dashed: on a platform that never retrains."
    has_both_units = tables.reported_unit(rounds, "examined") == "examined"
    dotted = f" Dotted: {data.measures[other].title.lower()}." if has_both_units else ""
    figure, axes = charts.panels(
        titles.cost_of_guarantees(rounds, data.unit),
        f"By round; the title's figures: {late_of(rounds)}. {sentences.seeds_caption(rounds)}{dashed}{dotted}",
        len(metrics),
        looks,
    )
    for ax, metric in zip(axes, metrics, strict=True):
        charts.plot_bands(ax, rounds[rounds["metric"] == metric], "round", looks)
        charts.plot_secondary(ax, frozen[frozen["metric"] == metric], "round", looks, "--")
        if metric == shortfall and has_both_units:
            charts.plot_secondary(ax, rounds[rounds["metric"] == other], "round", looks, ":")
        charts.metric_axis(ax, data.measures[metric])
        charts.integer_rounds(ax)
        if metric == shortfall and has_both_units:
            ax.set_xlabel(f"round (dotted: as {'shown' if other == 'shortfall' else 'examined'})")
    return figure


def calibration(data: tables.PictureTables) -> Figure | None:
    """Calibration of first and of returning visits, by round."""
    rounds = tables.retrained(data.rounds)
    types = ("calibration_first", "calibration_returning")
    of_types = rounds[rounds["metric"].isin(types)].dropna(subset=["value"])
    if of_types["metric"].nunique() < len(types) or tables.last_round(rounds) == 0:
        return None
    looks = charts.styles(rounds["agent"].unique())
    late = sentences.calibration_by_visit(rounds)
    if late.empty:  # in late rounds nobody comes for the first time, or everybody does
        return None
    chosen = tables.subject(looks)
    name = chosen if chosen in late.index else late.index[0]
    first, returning = late[late.index == name].to_numpy(np.float64)[0]
    figure, axes = charts.panels(
        titles.calibration(name, first, returning),
        "Predicted over actual consumptions by round; above 1 the platform expects more than comes. The title's "
        f"figures: {late_of(rounds)}. {sentences.seeds_caption(rounds)}",
        len(types),
        looks,
    )
    for ax, metric in zip(axes, types, strict=True):
        charts.plot_bands(ax, of_types[of_types["metric"] == metric], "round", looks)
        ax.axhline(1.0, color=charts.GREY, linewidth=1.2, linestyle=":")
        charts.metric_axis(ax, data.measures[metric])
        ax.set_ylabel("predicted / actual")
        charts.integer_rounds(ax)
    limits = np.array([charts.extent(ax) for ax in axes])
    for ax in axes:
        ax.set_ylim(min(0.5, limits.min()), max(1.5, limits.max()))
    return figure


_Picture = Callable[[tables.PictureTables], "Figure | None"]
# Title, text and pictures of each section.
_SECTIONS: tuple[tuple[str, str, dict[str, _Picture]], ...] = (
    ("By round", "", {"rounds": over_rounds}),
    ("The front: relevance against diversity", "Up and to the right is better.", {"front": loop.front}),
    (
        "What retraining does, in parts",
        (
            "`frozen` is never retrained. `organic` is retrained on events of the log, `random` on consumptions under "
            "random slates, and `self` on consumptions from its own slates. `self` minus `random` is the effect of "
            "learning from slates that a model chose: selection and the feedback loop."
        ),
        {"retraining": loop.decomposed},
    ),
    (
        "Delivery",
        "How much of its guarantee each item gets, and which bonus an agent pays for an exposure.",
        {
            "requirement": prices.requirement,
            "prices": prices.prices,
            "delivery": prices.delivery,
            "campaigns": prices.campaigns,
        },
    ),
    (
        "Who pays",
        "Guaranteed items take positions in the slates of visitors who consume little, or of those who consume much.",
        {"who-pays": prices.who_pays},
    ),
    (
        "Items: who gained, who was starved",
        "Means over late rounds and seeds.",
        {"lorenz": loop.lorenz_curves},
    ),
    (
        "Reliability",
        "Consumptions that the platform predicts, against actual consumptions.",
        {"reliability": prices.reliability, "calibration": calibration},
    ),
)
PICTURES = {name: picture for _, _, pictures in _SECTIONS for name, picture in pictures.items()}
"""Name of a plot → function that draws it."""
_ITEMS = "lorenz"  # the section with this plot has the tables of items


def comparison_report(run: RunFolder) -> Report:
    """Report of a comparison, from its finished arms."""
    rounds, agents = shown_arms(run)
    scenario = run.scenario
    arrivals = run.scenario.arrivals
    exposure = run.scenario.exposure
    answer = comparison_answer(run, rounds, agents) if len(rounds) else []
    checks = (
        sentences.examination_note(run),
        None if run.opening is None else sentences.opening_note(run.opening),
    )
    warnings = [note for note in checks if note is not None and note.startswith("warning")]
    cautions = (
        status_note(run, [run]),  # an unfinished run says so first
        *sentences.notes_of([run]),
        *warnings,
        *sentences.undelivered_notes(run),
        *sentences.calibration_notes(rounds),
        tables.two_seeds_note(len(run.seeds)),
    )
    guaranteed = exposure.beta > 0 or exposure.items or exposure.campaigns or exposure.groups
    asked = "What does guaranteeing exposure cost and bring?" if guaranteed else "What do these agents bring?"
    return Report(
        question=f"{asked} ({scenario.name})",
        answer=tuple(answer),
        cautions=tuple(note for note in cautions if note is not None),
        checks=tuple(note for note in checks if note is not None and note not in warnings),
        setting=(
            scenario.description,
            sentences.log_fact(run, scenario.data.source),
            many(scenario.rounds, "round")
            + (f" of {arrivals.per_round:,} arrivals" if arrivals.per_round else "")
            + f" ({arrivals.kind})",
            f"slates of {scenario.slate}",
            ", ".join(
                [f"β = {exposure.beta:g}", *(f"{one.column} β = {one.beta:g}" for one in exposure.groups)]
            ),
            many(len(run.seeds), "seed"),
            f"platform `{scenario.platform.model}`",
        ),
        sections=(*_sections(run), Section("All figures", tables=tuple(result_tables(run))))
        if len(rounds)
        else (),
        settings=sentences.as_yaml(to_plain(scenario)),
        places=lambda: [*folder_places(run.folder), more_place(run.folder)],
    )


def comparison_answer(run: RunFolder, rounds: pd.DataFrame, agents: Sequence[str]) -> list[str]:
    """Answer of a comparison, for every place that shows it.

    It is about agents, retraining and the fitness of the truth.
    """
    own = [measure.name for measure in run.own_measures.values()]
    n_items = sentences.n_items_of(run)
    of_items = groups.without_item_guarantee(run, rounds)
    answer = sentences.comparison_sentences(of_items, agents, run.scenario.exposure.unit, own, n_items)
    answer += groups.group_sentences(run)
    parts = loop.reported_parts(rounds, agents, own)
    if not parts.empty:
        answer.append(f"{loop.effect_of_retraining(parts, late_of(rounds), run.measures)}.")
    return with_verdict(answer, [run])


def comparison_plots(run: RunFolder) -> tuple[Plot, ...]:
    """Plots of a comparison, without its sentences and tables."""
    return tuple(plot for section in _sections(run) for plot in section.plots)


def _sections(run: RunFolder) -> Iterator[Section]:
    """Sections with plots."""
    read = cache(partial(tables.picture_tables, run))  # reads the ledger: once, and only to draw
    yield from groups.group_sections(run)
    for title, text, pictures in _SECTIONS:
        plots = tuple(Plot(name, partial(_drawn, picture, read)) for name, picture in pictures.items())
        details = partial(_items, run, read) if _ITEMS in pictures else tuple
        yield Section(title, text, plots, details=details)


def _drawn(picture: _Picture, read: Callable[[], tables.PictureTables]) -> Figure | None:
    return picture(read())


def _items(run: RunFolder, read: Callable[[], tables.PictureTables]) -> list[TextTable]:
    """Tables of items and groups of items."""
    data = read()
    if data.ledger is None or data.required is None:
        return []
    _, agents = shown_arms(run)
    rounds = int(data.rounds["round"].max()) + 1
    exposed = items.item_exposures(data.ledger, data.required, data.n_items, rounds)
    changed = items.items_table(exposed, run.catalogue, agents, rounds)
    return ([] if changed is None else [changed]) + items.group_tables(exposed, run.catalogue, agents)


def shown_arms(run: RunFolder) -> tuple[pd.DataFrame, list[str]]:
    """Finished rounds and their arms in the run's order."""
    rounds = shown_rounds(run)
    present = set(rounds["agent"])
    return rounds, [name for name in run.agents if name in present]


def result_tables(run: RunFolder) -> list[TextTable]:
    """Tables of a comparison: outcomes, effects of retraining, requirements."""
    rounds, agents = shown_arms(run)
    if rounds.empty:
        return []
    late = late_of(rounds)
    own = tuple(measure.name for measure in run.own_measures.values())
    unit = tables.reported_unit(rounds, run.scenario.exposure.unit)
    shown = tables.shown_metrics(unit) + own
    (kept, _) = tables.shortfalls(unit)
    moving = (*tables.TRENDS, kept, *own)
    columns = tables.headings(shown)
    delivery = kept if groups.guarantees_items(run.scenario.exposure) else "promises_missed"
    figures = ("utility", "revenue", delivery, "coverage", "effective_items", *own)
    main = tuple(columns[name] for name in figures)
    title = f"{run.scenario.name}: {late}, {_seeds_words(rounds)}"
    minus = f"Minus {tables.baseline_of(agents)}, at the same seeds"
    change = f"Change per round, {late}, at the same seeds"
    retraining = f"What retraining does, in parts that add up: {late}, at the same seeds"
    parts = loop.reported_parts(rounds, agents, own)
    parts = parts.assign(what=parts["part"] + " (" + parts["difference"] + ")")
    pivoted = partial(tables.pivoted, main=main)
    found = [
        pivoted(title, tables.summary(rounds, agents, shown), ["agent"], shown),
        pivoted(minus, tables.differences(rounds, agents, shown), ["agent"], shown),
        pivoted(change, tables.trends(rounds, agents, moving), ["agent"], moving, significant=True),
        pivoted(retraining, parts, ["agent", "what"], tables.EFFECTS + own),
        _requirements_table(run),
    ]
    return [table for table in found if table is not None and table.rows]


def _seeds_words(rounds: pd.DataFrame) -> str:
    """Number of seeds, by arm if the run is unfinished."""
    counts = rounds.groupby("agent", observed=True)["seed"].nunique()
    if counts.min() == counts.max():
        return tables.interval_words(int(counts.max()))
    return f"{counts.min()} to {counts.max()} seeds, ± half a 95% interval where there is more than one"


def delivered_of_due(promises: pd.DataFrame) -> pd.DataFrame:
    """Delivered share of groups and campaigns, over all rounds.

    Returns:
        Table with columns promise (group or campaign), agent, seed, due, delivered and value (delivered share).
    """
    rows = promises[promises["due"] > 0]
    keys = ["name", "agent", "seed"]
    sums = rows.groupby(keys, sort=False, observed=True)[["due", "delivered"]].sum().reset_index()
    return sums.rename(columns={"name": "promise"}).assign(value=sums["delivered"] / sums["due"])


def _without_groups(run: RunFolder, promises: pd.DataFrame) -> pd.DataFrame:
    """Promises without those of groups in table ``groups``."""
    if run.groups is None:
        return promises
    of_groups = run.groups[["column", "group"]].drop_duplicates()
    names = {group_name(str(column), str(group)) for column, group in of_groups.to_numpy().tolist()}
    return promises[~promises["name"].isin(names)]


def _requirements_table(run: RunFolder) -> TextTable | None:
    """Delivered share, with a row per group or campaign."""
    if run.promises is None:
        return None
    shares = delivered_of_due(_without_groups(run, run.promises))
    agents = [name for name in run.agents if name in set(shares["agent"])]
    if not agents:
        return None
    means = tables.over_seeds(shares.rename(columns={"agent": "metric"}), ["promise"], agents)
    unit = "as examined" if run.scenario.exposure.unit == "examined" else "as shown"
    title = f"Exposures of groups and campaigns over those that were due, {unit}, all rounds"
    return tables.pivoted(f"{title}, {tables.interval_words(len(run.seeds))}", means, ["promise"], agents)


# Parts of config.yaml that describe the run.
_SETTINGS = ("scenario", "backtest", "validate", "sweep", "agents", "control", "frozen", "seeds", "versions")
_SHOWN = {
    "sweep": ("utility", "coverage", "perplexity", "examined_shortfall", "shortfall"),
    "backtest": ("precision", "recall", "perplexity", "coverage", "shortfall"),
    "validation": ("precision", "ndcg", "utility"),
}
_ABSENT = "–"


def difference_report(one: RunFolder, other: RunFolder) -> Report:
    """Settings and results that differ between two runs."""
    settings = setting_differences(one, other)
    cautions = () if settings.rows else ("The settings are the same.",)
    if digest(one) == digest(other):
        cautions = (*cautions, "The tables are equal.")
    figures = (settings, result_differences(one, other))
    return Report(
        "Which settings and results differ?", cautions=cautions, sections=(Section("", tables=figures),)
    )


def setting_differences(one: RunFolder, other: RunFolder) -> TextTable:
    """Settings that differ between two runs, by dotted name."""
    here = _settings(one.config)
    there = _settings(other.config)
    fields = [name for name in here | there if here.get(name, _ABSENT) != there.get(name, _ABSENT)]
    rows = tuple((name, here.get(name, _ABSENT), there.get(name, _ABSENT)) for name in fields)
    return TextTable("Settings that differ", ("field", str(one.folder), str(other.folder)), rows)


def result_differences(one: RunFolder, other: RunFolder) -> TextTable:
    """Results of the second run minus those of the first.

    Raises:
        RunFolderError: If the runs are of different kinds, or have no arm and seed in common.
    """
    if one.kind != other.kind:
        raise RunFolderError(
            f"{other.folder} holds a {other.kind}, but {one.folder} holds a {one.kind}. Give two runs of "
            "the same kind"
        )
    here = _values(one)
    there = _values(other)
    keys = [name for name in here.columns if name not in ("seed", "metric", "value")]
    missing = [name for name in keys if name not in there]
    both = (
        here.merge(there, on=[*keys, "seed", "metric"], suffixes=("", "_other")) if not missing else here[:0]
    )
    if both.empty:
        raise RunFolderError(
            f"{one.folder} and {other.folder} do not share a combination of {', '.join(keys)} and seed. "
            "Give two runs that share at least one"
        )
    shown = _SHOWN.get(one.kind) or tables.shown_metrics(one.scenario.exposure.unit)
    groups = both[both["metric"].isin(shown)].groupby([*keys, "metric"], sort=False, dropna=False)
    rows = [(*key, group["value_other"], group["value"]) for key, group in groups]
    means = tables.paired_table(rows, [*keys, "metric"]).drop(columns="p").fillna(dict.fromkeys(keys, ""))
    seeds = both["seed"].nunique()
    words = f"{seeds} seeds, ± half a paired 95% interval" if seeds > 1 else "1 seed, no interval"
    title = f"{other.folder} minus {one.folder}: what both have, {words}"
    return tables.pivoted(title, means, keys, shown)


def _values(run: RunFolder) -> pd.DataFrame:
    """Values of a run, by row label, seed and metric."""
    if run.kind == "sweep":
        return sweep_table(run)
    if run.kind in _SHOWN:
        return run.table.rename(columns={"draw": "seed"})
    rounds = shown_rounds(run)
    return late_means(rounds) if len(rounds) else pd.DataFrame(columns=["agent", "seed", "metric", "value"])


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Dotted field → value as text."""
    return {
        name.removeprefix("scenario."): str(value)
        for part in _SETTINGS
        if part in config
        for name, value in flat(config[part], part).items()
    }
