"""Report of a comparison, plots by round, differences of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rimsim.config import to_plain
from rimsim.config.reading import flat
from rimsim.errors import RunFolderError, many
from rimsim.measures import late_means, late_of
from rimsim.requirements.campaigns import group_name, row_label
from rimsim.scenarios.report import charts, hours, items, loop, prices, sentences, tables, titles
from rimsim.scenarios.report.console import folder_places, more_place
from rimsim.scenarios.report.fitness import with_verdict
from rimsim.scenarios.report.group_figures import column_with_all_guarantees
from rimsim.scenarios.report.group_section import group_sections
from rimsim.scenarios.report.group_sentences import group_sentences
from rimsim.scenarios.report.picture_tables import PictureTables, overview_tables, picture_tables
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.report.sweep import sweep_table
from rimsim.scenarios.runs.arms import control_in, subject_of
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.runs.status import shown_rounds, status_note
from rimsim.scenarios.runs.store import RunFolder


def over_rounds(data: PictureTables) -> Figure | None:
    """Plots of measures by round; dashed: arms that never retrain."""
    rounds = tables.without_controls(data.rounds)
    frozen = data.rounds[data.rounds["agent"].map(control_in) == "frozen"]
    frozen = frozen.assign(agent=frozen["agent"].map(subject_of))
    shortfall, second_shortfall = tables.shortfalls(data.unit)
    candidates = ("utility", shortfall, *loop.METRICS, *data.own)
    metrics = [metric for metric in candidates if (rounds["metric"] == metric).any()]
    if not metrics or tables.last_round(rounds) == 0:  # a curve needs at least two rounds
        return None
    looks = charts.styles(rounds["agent"].unique())
    dashed = "" if frozen.empty else " Dashed: on a platform that never retrains."
    # Without a guarantee there is no panel of undelivered shares, and the title has no figures.
    has_guarantee = shortfall in metrics
    has_both_units = has_guarantee and tables.reported_unit(rounds, "examined") == "examined"
    of_title = f"; the title's figures: {late_of(rounds)}" if has_guarantee else ""
    dotted = f" Dotted: {data.measures[second_shortfall].title.lower()}." if has_both_units else ""
    figure, axes = charts.panels(
        titles.cost_of_guarantees(rounds, data.unit),
        f"By round{of_title}. {sentences.seeds_caption(rounds)}{dashed}{dotted}",
        len(metrics),
        looks,
        marks=data.marks,
    )
    for ax, metric in zip(axes, metrics, strict=True):
        charts.plot_bands(ax, rounds[rounds["metric"] == metric], "round", looks, data.n_items)
        charts.plot_secondary(ax, frozen[frozen["metric"] == metric], "round", looks, "--")
        if metric == shortfall and has_both_units:
            charts.plot_secondary(ax, rounds[rounds["metric"] == second_shortfall], "round", looks, ":")
        charts.metric_axis(ax, data.measures[metric])
        charts.integer_rounds(ax)
        if metric == shortfall and has_both_units:
            ax.set_xlabel(f"round (dotted: as {'shown' if second_shortfall == 'shortfall' else 'examined'})")
    return figure


def calibration(data: PictureTables) -> Figure | None:
    """Calibration of first and of returning visits, by round."""
    rounds = tables.without_controls(data.rounds)
    types = ("calibration_first", "calibration_returning")
    of_types = rounds[rounds["metric"].isin(types)].dropna(subset=["value"])
    if of_types["metric"].nunique() < len(types) or tables.last_round(rounds) == 0:
        return None
    looks = charts.styles(rounds["agent"].unique())
    late = sentences.calibration_by_visit(rounds)
    if late.empty:  # late rounds have only one type of visit, so there is nothing to compare
        return None
    chosen = tables.subject(looks)
    name = chosen if chosen in late.index else late.index[0]
    first, returning = late[late.index == name].to_numpy(np.float64)[0]
    figure, axes = charts.panels(
        titles.calibration(name, first, returning),
        "Predicted over actual consumptions by round; above 1 the platform expects more than occur. The title's "
        f"figures: {late_of(rounds)}. {sentences.seeds_caption(rounds)}",
        len(types),
        looks,
        marks=data.marks,
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


_Picture = Callable[[PictureTables], "Figure | None"]
# Sections of the report, in order: title, text, and name of a plot → function that draws it.
_SECTIONS: tuple[tuple[str, str | Callable[[Sequence[str]], str], dict[str, _Picture]], ...] = (
    ("By round", "", {"rounds": over_rounds, "happenings": hours.by_hour}),
    ("The front: relevance against diversity", "Up and to the right is better.", {"front": loop.front}),
    (
        "What retraining does, in parts",
        loop.words_of_arms,
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
_ITEMS = "lorenz"  # name of the plot whose section also has the tables of items


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
        None if run.layer_trial is None else sentences.layer_note(run.layer_trial),
    )
    warnings = [note for note in checks if note is not None and note.startswith(("warning", "note"))]
    cautions = (
        status_note(run, [run]),  # this caution comes first, because it limits everything after it
        *sentences.notes_of([run]),
        *warnings,
        *sentences.undelivered_notes(run),
        *sentences.calibration_notes(rounds),
        tables.two_seeds_note(len(run.seeds)),
    )
    has_groups = any(group.beta > 0 for group in exposure.groups)
    guaranteed = exposure.beta > 0 or exposure.items or exposure.campaigns or has_groups
    question = "What do these agents bring?"
    if guaranteed:
        question = "What does guaranteeing exposure cost and bring?"
    return Report(
        question=f"{question} ({scenario.name})",
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
                [
                    f"β = {exposure.beta:g}",
                    *(f"{group.column} β = {group.beta:g}" for group in exposure.groups if group.beta > 0),
                    *(
                        f"{group.column} at most {group.most:g} shares"
                        for group in exposure.groups
                        if group.most is not None
                    ),
                ]
            ),
            many(len(run.seeds), "seed"),
            # Older runs have only the name in the scenario, which was then that of the model.
            f"platform `{run.config.get('platform_model', scenario.platform.model)}`",
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
    own_metrics = [measure.name for measure in run.own_measures.values()]
    n_items = sentences.n_items_of(run)
    exposure = run.scenario.exposure
    # If all guarantees are for groups of one column, the sentences of groups have the undelivered share.
    answer = sentences.comparison_sentences(
        rounds,
        agents,
        exposure.unit,
        own_metrics,
        n_items,
        with_undelivered=column_with_all_guarantees(exposure) is None,
    )
    answer += group_sentences(run)
    parts = loop.reported_parts(rounds, agents, own_metrics)
    if not parts.empty:
        answer.append(f"{loop.effect_of_retraining(parts, late_of(rounds), run.measures)}.")
    return with_verdict(answer, [run])


def overview_plots(run: RunFolder) -> tuple[Plot, ...]:
    """Candidates for the overview; the first with data is drawn.

    A run of one round has no curves by round, so its overview is the front.
    """
    read_tables = cache(partial(overview_tables, run))
    return tuple(Plot(name, partial(_drawn, PICTURES[name], read_tables)) for name in ("rounds", "front"))


def _sections(run: RunFolder) -> Iterator[Section]:
    """Sections with plots."""
    # The ledger is large, so it is read once, when the first picture is drawn.
    read_tables = cache(partial(picture_tables, run))
    yield from group_sections(run)
    for title, text, pictures in _SECTIONS:
        plots = tuple(Plot(name, partial(_drawn, picture, read_tables)) for name, picture in pictures.items())
        details = partial(_items, run, read_tables) if _ITEMS in pictures else tuple
        words = text if isinstance(text, str) else text(run.agents)
        yield Section(title, words, plots, details=details)


def _drawn(picture: _Picture, read: Callable[[], PictureTables]) -> Figure | None:
    """Picture of the tables, which are read only now."""
    return picture(read())


def _items(run: RunFolder, read: Callable[[], PictureTables]) -> list[TextTable]:
    """Tables of items and groups of items."""
    data = read()
    if data.ledger is None or data.required is None:
        return []
    _, agents = shown_arms(run)
    n_rounds = int(data.rounds["round"].max()) + 1
    exposed = items.item_exposures(data.ledger, data.required, data.n_items, n_rounds)
    table_of_items = items.items_table(exposed, run.catalogue, agents, n_rounds)
    tables_of_groups = items.group_tables(exposed, run.catalogue, agents)
    return tables_of_groups if table_of_items is None else [table_of_items, *tables_of_groups]


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
    own_metrics = tuple(measure.name for measure in run.own_measures.values())
    unit = tables.reported_unit(rounds, run.scenario.exposure.unit)
    shown = tables.shown_metrics(unit) + own_metrics
    (undelivered, _) = tables.shortfalls(unit)
    trend_metrics = (*tables.TRENDS, undelivered, *own_metrics)
    columns = tables.headings(shown)
    figures = ("utility", "revenue", undelivered, "coverage", "effective_items", *own_metrics)
    main = tuple(columns[name] for name in figures)
    title = f"{run.scenario.name}: {late}, {_seeds_words(rounds)}"
    n_items = sentences.n_items_of(run)
    minus = f"Minus {tables.baseline_of(agents)}, at the same seeds"
    change = f"Change per round, {late}, at the same seeds"
    retraining = f"What retraining does, in parts that add up: {late}, at the same seeds"
    parts = loop.reported_parts(rounds, agents, own_metrics)
    parts = parts.assign(what=parts["part"] + " (" + parts["difference"] + ")")
    # The terminal prints the same main columns of each of these tables.
    pivoted = partial(tables.pivoted, main=main)
    pivots = [
        pivoted(title, tables.summary(rounds, agents, shown, n_items), ["agent"], shown),
        pivoted(minus, tables.differences(rounds, agents, shown), ["agent"], shown),
        pivoted(
            change, tables.trends(rounds, agents, trend_metrics), ["agent"], trend_metrics, significant=True
        ),
        pivoted(retraining, parts, ["agent", "what"], tables.EFFECTS + own_metrics),
        _requirements_table(run),
    ]
    return [table for table in pivots if table is not None and table.rows]


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
    promises = _without_groups(run, run.promises)
    campaigns = run.scenario.exposure.campaigns
    labels = promises["name"].map(lambda name: row_label(str(name), campaigns))
    shares = delivered_of_due(promises.assign(name=labels))
    agents = [name for name in run.agents if name in set(shares["agent"])]
    if not agents:
        return None
    means = tables.over_seeds(shares.rename(columns={"agent": "metric"}), ["promise"], agents)
    unit = "as examined" if run.scenario.exposure.unit == "examined" else "as shown"
    title = f"Exposures of groups and campaigns over those that were due, {unit}, all rounds"
    table = tables.pivoted(f"{title}, {tables.interval_words(len(run.seeds))}", means, ["promise"], agents)
    return replace(table, ends_only=True)


# Entries of config.yaml that hold settings. All other entries, such as the command line, are facts about the run.
_SETTINGS = ("scenario", "backtest", "validate", "sweep", "agents", "control", "frozen", "seeds", "versions")
_SHOWN = {
    "sweep": ("utility", "coverage", "perplexity", "examined_shortfall", "shortfall"),
    "backtest": ("precision", "recall", "perplexity", "coverage", "shortfall"),
    "validation": ("precision", "ndcg", "utility"),
}
_ABSENT = "–"


def difference_report(first: RunFolder, second: RunFolder) -> Report:
    """Settings and results that differ between two runs."""
    settings = setting_differences(first, second)
    cautions = () if settings.rows else ("The settings are the same.",)
    if digest(first) == digest(second):
        cautions = (*cautions, "The tables are equal.")
    figures = (settings, result_differences(first, second))
    return Report(
        "Which settings and results differ?", cautions=cautions, sections=(Section("", tables=figures),)
    )


def setting_differences(first: RunFolder, second: RunFolder) -> TextTable:
    """Settings that differ between two runs, by dotted name."""
    settings_of_first = _settings(first.config)
    settings_of_second = _settings(second.config)
    fields = [
        name
        for name in settings_of_first | settings_of_second
        if settings_of_first.get(name, _ABSENT) != settings_of_second.get(name, _ABSENT)
    ]
    rows = tuple(
        (name, settings_of_first.get(name, _ABSENT), settings_of_second.get(name, _ABSENT)) for name in fields
    )
    return TextTable("Settings that differ", ("field", str(first.folder), str(second.folder)), rows)


def result_differences(first: RunFolder, second: RunFolder) -> TextTable:
    """Results of the second run minus those of the first.

    Raises:
        RunFolderError: If the runs are of different kinds, or have no arm and seed in common.
    """
    if first.kind != second.kind:
        raise RunFolderError(
            f"{second.folder} holds a {second.kind}, but {first.folder} holds a {first.kind}. Give two runs of "
            "the same kind"
        )
    values_of_first = _values(first)
    values_of_second = _values(second)
    keys = [name for name in values_of_first.columns if name not in ("seed", "metric", "value")]
    missing = [name for name in keys if name not in values_of_second]
    pairs = (
        values_of_first.merge(values_of_second, on=[*keys, "seed", "metric"], suffixes=("", "_other"))
        if not missing
        else values_of_first[:0]
    )
    if pairs.empty:
        raise RunFolderError(
            f"{first.folder} and {second.folder} do not share a combination of {', '.join(keys)} and seed. "
            "Give two runs that share at least one"
        )
    shown = _SHOWN.get(first.kind) or tables.shown_metrics(first.scenario.exposure.unit)
    groups = pairs[pairs["metric"].isin(shown)].groupby([*keys, "metric"], sort=False, dropna=False)
    rows = [(*key, group["value_other"], group["value"]) for key, group in groups]
    means = tables.paired_table(rows, [*keys, "metric"]).drop(columns="p").fillna(dict.fromkeys(keys, ""))
    seeds = pairs["seed"].nunique()
    words = f"{seeds} seeds, ± half a paired 95% interval" if seeds > 1 else "1 seed, no interval"
    title = f"{second.folder} minus {first.folder}: what both have, {words}"
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
