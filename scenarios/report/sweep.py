"""Report of a sweep: trade-off curve (front), or matrix."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from rimsim.config import to_plain
from rimsim.errors import RunFolderError, many
from rimsim.house_style import BLUE, VERMILION
from rimsim.measures import MEASURES, holm, late_means
from rimsim.scenarios.report import charts, sentences, tables
from rimsim.scenarios.report.console import more_place, picture_names
from rimsim.scenarios.report.fitness import with_verdict
from rimsim.scenarios.report.numbers import per_cent
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.runs import status
from rimsim.scenarios.runs.arms import control_name, is_control
from rimsim.scenarios.runs.points import runs_of
from rimsim.scenarios.runs.store import RunFolder, resume_command

_SHOWN = (
    "utility",
    "revenue",
    "precision",
    "perplexity",
    "coverage",
    "examined_shortfall",
    "shortfall",
    "gap",
)
_MAIN = ("utility", "revenue", "perplexity", "coverage", "examined_shortfall")
_LOOPED = ("coverage", "effective_items", "utility")
# A change that is equal at all seeds and smaller than this is a rounding error of 0.
_NO_CHANGE = 1e-12
# Smallest depth of colour of a significant cell. White is 0, and the largest value of a column is 1.
_PALEST = 0.15
# Ends of the colour scale. They are beyond the largest shade, 1, so that no cell is too dark for its text.
_COLOUR_LIMIT = 1.6
# Height in inches of title and headings, and of a row of cells.
_HEAD_HEIGHT = 1.6
_ROW_HEIGHT = 0.48


def sweep_report(sweep: RunFolder) -> Report:
    """Report of a sweep, finished or not.

    Raises:
        RunFolderError: If no arm is complete.
    """
    table = sweep_table(sweep)
    scenario = sweep.scenario
    unit = scenario.exposure.unit
    fields = swept_fields(table)
    runs = [run for _, run in runs_of(sweep)]
    unfinished = status.status_note(sweep, runs)
    undrawn = undrawn_reason(table)
    contrast_matrix = sweep_matrix(table, unit)
    notes = (*sentences.notes_of(runs), tables.two_seeds_note(len(sweep.seeds)), unfinished)
    sections: list[Section] = []
    answer: list[str] = []
    changes_table: TextTable | None = None
    if undrawn is None:
        answer = sweep_sentences(table, fields[0], unit)
        changes_table = _changes_table(table, fields[0], unit)
        front = Plot("front", partial(front_figure, table, fields[0], unit), png=unfinished is None)
        sections.append(
            Section("The front: relevance against diversity", "Up and to the right is better.", (front,))
        )
        by_value = Plot("by-field", partial(by_field, table, fields[0], unit), png=False)
        sections.append(Section(f"By {fields[0]}", plots=(by_value,)))
    figures = [] if changes_table is None else [changes_table]
    figures.append(_points_table(sweep, table))
    if not contrast_matrix.empty:
        title = f"{scenario.name}: differences of late means, {tables.interval_words(len(sweep.seeds))}"
        figures.insert(0, matrix_table(contrast_matrix, fields, title))
        # With one seed there is no interval, so no difference is significant.
        if contrast_matrix["n"].max() > 1:
            plot = Plot("matrix", partial(matrix_figure, contrast_matrix, fields), png=unfinished is None)
            sections.append(Section("Differences at each point", plots=(plot,)))
    field_words = " and ".join(f"`{field}`" for field in sweep.config["sweep"])
    return Report(
        question=f"What does moving {field_words} do? ({scenario.name})",
        answer=tuple(with_verdict(answer, runs)),
        cautions=tuple(note for note in notes if note is not None),
        setting=(
            scenario.description,
            sentences.log_fact(runs[0], scenario.data.source),
            *(f"{field}: {', '.join(map(str, values))}" for field, values in sweep.config["sweep"].items()),
            many(len(sweep.seeds), "seed"),
        ),
        sections=(*sections, Section("All figures", tables=tuple(figures))),
        settings=sentences.as_yaml({"sweep": sweep.config["sweep"], **to_plain(scenario)}),
        places=partial(_places, sweep, unfinished, undrawn),
    )


def _places(sweep: RunFolder, unfinished: str | None, undrawn: str | None) -> list[tuple[str, str]]:
    """Names and paths of a sweep's files."""
    drawn = picture_names(sweep.folder)
    why_not = "some arms are missing" if unfinished else undrawn
    return [
        ("table", f"{sweep.folder}/sweep.parquet" if unfinished is None else "none: some arms are missing"),
        ("pictures", f"{sweep.folder}/pictures/ ({drawn})" if drawn else f"none: {why_not}"),
        ("points", f"{sweep.folder}/points/"),
        ("events", f"tensorboard --logdir {shlex.quote(f'{sweep.folder}/points')}"),
        more_place(sweep.folder),
    ]


def sweep_table(sweep: RunFolder) -> pd.DataFrame:
    """Late-round means of a sweep's complete arms, by point.

    Returns:
        Table with columns agent, seed, the swept fields, metric and value.

    Raises:
        RunFolderError: If no arm is complete.
    """
    parts = []
    fields = []
    for point, run in runs_of(sweep):
        fields = [field for field, _ in point.labels]
        if status.status_of(run).complete:
            means = late_means(status.shown_rounds(run))
            columns = {field: pd.Series([value] * len(means)) for field, value in point.labels}
            parts.append(means.assign(**columns))
    if not parts:
        raise RunFolderError(
            f"{sweep.folder}: the sweep has not finished an arm yet. Wait for the first arm, or continue "
            f"it with {resume_command(sweep)}"
        )
    table = pd.concat(parts, ignore_index=True)[["agent", "seed", *fields, "metric", "value"]]
    return table.astype({"agent": str, "seed": np.int64})


def swept_fields(table: pd.DataFrame) -> list[str]:
    """Names of the swept fields in a sweep's table."""
    return [name for name in table.columns if name not in ("agent", "seed", "metric", "value")]


def undrawn_reason(table: pd.DataFrame) -> str | None:
    """Reason why a sweep has no front, else None."""
    fields = swept_fields(table)
    if len(fields) > 1:
        return f"{len(fields)} fields vary ({', '.join(fields)}); the front is drawn over one"
    values = table[fields[0]]
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return f"{fields[0]} is no number; the front is drawn over numbers"
    return None


def sweep_matrix(table: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Matrix of a sweep; empty where it has a front."""
    contrast_matrix = matrix(table, swept_fields(table), unit)
    return contrast_matrix.iloc[:0] if undrawn_reason(table) is None else contrast_matrix


def _points_table(sweep: RunFolder, table: pd.DataFrame) -> TextTable:
    """Table with a row per agent and point."""
    fields = swept_fields(table)
    shown = (*_SHOWN, *(measure.name for measure in sweep.own_measures.values()))
    n_items = sentences.n_items_of(next(run for _, run in runs_of(sweep)))
    means = tables.over_seeds(table, ["agent", *fields], shown, n_items=n_items)
    points = [
        " ".join(f"{name}={value}" for name, value in row.items()) for row in means[fields].to_dict("records")
    ]
    agents_at_points = [f"{name} {point}" for name, point in zip(means["agent"], points, strict=True)]
    labelled = means.assign(agent=agents_at_points)
    title = f"{sweep.scenario.name}: means over the late rounds, {tables.interval_words(len(sweep.seeds))}"
    columns = tables.headings(shown)
    main = [columns[name] for name in (*_MAIN, *(measure.name for measure in sweep.own_measures.values()))]
    return tables.pivoted(title, labelled, ["agent"], shown, main=tuple(main))


def changes(table: pd.DataFrame, field: str, unit: str) -> pd.DataFrame:
    """Changes from the smallest to the largest field value.

    Returns:
        Table with the columns of :func:`tables.paired_table`, by agent and metric. It has no undelivered share where
        the smallest value guarantees nothing, so that nothing can be undelivered.
    """
    low = table[field].min()
    high = table[field].max()
    undelivered, _ = tables.shortfalls(unit)
    metrics = [
        name
        for name in ("utility", "coverage", undelivered)
        if not (name == undelivered and _owes_nothing(table, field, low, unit))
    ]
    rows = []
    for name in charts.styles(table["agent"].unique()) if low != high else ():
        at_ends = table[(table["agent"] == name) & table[field].isin((low, high))]
        for metric in metrics:
            wide = at_ends[at_ends["metric"] == metric].pivot(index="seed", columns=field, values="value")
            if {low, high} <= set(wide.columns):
                rows.append((name, metric, wide[high], wide[low]))
    return tables.paired_table(rows, ["agent", "metric"]).query("n > 0").reset_index(drop=True)


def _owes_nothing(table: pd.DataFrame, field: str, value: float, unit: str) -> bool:
    """True if a share of 0 leaves no guarantee.

    A guarantee of groups or campaigns may remain at β = 0. Then an agent leaves a part of it undelivered.
    """
    undelivered, _ = tables.shortfalls(unit)
    at_value = table[(table[field] == value) & (table["metric"] == undelivered)]
    return value == 0 and not at_value["value"].any()


def _ends_words(table: pd.DataFrame, field: str) -> str:
    """Range of a swept field, in words."""
    return f"{field} from {table[field].min():g} to {table[field].max():g}"


def _changes_table(table: pd.DataFrame, field: str, unit: str) -> TextTable | None:
    """Table of changes over the whole range of a field."""
    moved = changes(table, field, unit)
    if moved.empty:
        return None
    words = tables.interval_words(int(moved["n"].max()))
    title = f"Changes from the smallest to the largest value, {_ends_words(table, field)}: {words}"
    return tables.pivoted(title, moved, ["agent"], tuple(dict.fromkeys(moved["metric"])))


def sweep_sentences(table: pd.DataFrame, field: str, unit: str) -> list[str]:
    """Sentences on changes, as their table tests them."""
    undelivered, _ = tables.shortfalls(unit)
    names = {"utility": "utility", "coverage": "coverage", undelivered: "the undelivered share"}
    undelivered_rows = table[(table[field] == table[field].max()) & (table["metric"] == undelivered)]
    sentences_of_agents: list[str] = []
    for agent, rows in changes(table, field, unit).groupby("agent", sort=False):
        text = f"`{agent}`: {_ends_words(table, field)} {_effects(rows, names)}"
        missing = undelivered_rows.loc[undelivered_rows["agent"] == agent, "value"]
        if _owes_nothing(table, field, table[field].min(), unit) and len(missing):
            share = per_cent(float(missing.mean()))
            text += f"; at {table[field].max():g}, {share} of the guaranteed exposure is undelivered"
        sentences_of_agents.append(f"{text}.")
    return sentences_of_agents


def _effects(rows: pd.DataFrame, names: Mapping[str, str]) -> str:
    """Predicate of a sentence: effects on each metric, by significance."""
    claimed: list[str] = []
    unclaimed: list[str] = []
    untold: list[str] = []
    unmoved_names: list[str] = []
    doubt = next((words for n in rows["n"] if (words := tables.cannot_tell(int(n))) is not None), None)
    for row in rows.to_dict("records"):
        change = sentences.with_interval(row["metric"], row["mean"], row["low"], row["high"], difference=True)
        name = names[row["metric"]]
        if row["equal"] and abs(row["mean"]) < _NO_CHANGE:
            unmoved_names.append(name)
        elif row["significant"]:
            claimed.append(f"{name} by {change}")
        elif doubt is not None:
            remark = f", {tables.the_same(row['n'])}" if row["equal"] else ""
            untold.append(f"{name} (by {change}{remark})")
        elif row["equal"]:
            unclaimed.append(f"{name} (by {change}, {tables.the_same(row['n'])})")
        else:
            unclaimed.append(f"{name} ({change})")
    parts = [f"changes {_listed(claimed)}"] if claimed else []
    parts += [f"does not change {_listed(unmoved_names, 'or')}"] if unmoved_names else []
    parts += [f"has no significant effect on {_listed(unclaimed, 'or')}"] if unclaimed else []
    parts += [f"may change {_listed(untold)}, but {doubt}"] if untold else []
    return _listed(parts)


def _listed(words: Sequence[str], conjunction: str = "and") -> str:
    """Words with commas, and a conjunction before the last."""
    return f" {conjunction} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


@dataclass(frozen=True)
class Contrast:
    """Difference between two arms: a column of the matrix."""

    title: str
    metric: str
    arm: str
    """Name of the arm from which ``minus`` is subtracted."""
    minus: str


def contrasts(arms: Sequence[str], unit: str) -> list[Contrast]:
    """Contrasts that the arms identify: effects of loop and guarantee.

    The effect of the loop is the arm of the baseline (``relevance``) minus its control ``random``. The effect of a
    guarantee is the first agent with guarantees minus the baseline.
    """
    agents = [name for name in arms if not is_control(name)]
    base = tables.baseline_of(agents)
    pairs_of_arms = list[Contrast]()
    random_control = control_name(base, "random")
    if random_control in arms:
        pairs_of_arms += [
            Contrast(f"loop: {name.replace('_', ' ')}", name, base, random_control) for name in _LOOPED
        ]
    guarantor = tables.guarantor_of([name for name in agents if name != base])
    if guarantor is not None:
        undelivered, _ = tables.shortfalls(unit)
        words = {
            undelivered: "guarantee: undelivered",
            "utility": "guarantee: utility",
            "adopted": "guarantee: adopted",
        }
        pairs_of_arms += [Contrast(title, name, guarantor, base) for name, title in words.items()]
    return pairs_of_arms


def matrix(
    table: pd.DataFrame, fields: Sequence[str], unit: str, chosen: Sequence[Contrast] | None = None
) -> pd.DataFrame:
    """Contrasts at each point, paired by seed, with signs.

    A sign is significant at 5% by Holm's method over the whole matrix. Without ``chosen``, the contrasts are those of
    :func:`contrasts`.

    Returns:
        Table with columns ``fields``, contrast, metric, agent, minus, mean, low, high, n, p, adjusted and sign. The
        column adjusted is p by Holm's method; sign is −1 or 1, or 0 if not significant.
    """
    rows = []
    chosen = contrasts(list(table["agent"].unique()), unit) if chosen is None else chosen
    for point, of_point in table.groupby(list(fields), sort=False, dropna=False):
        wide = of_point.pivot_table(index="seed", columns=["metric", "agent"], values="value", observed=True)
        for contrast in chosen:
            arms = [(contrast.metric, contrast.arm), (contrast.metric, contrast.minus)]
            if set(arms) <= set(wide.columns):
                label = (*point, contrast.title, contrast.metric, contrast.arm, contrast.minus)
                rows.append((*label, *(wide[arm] for arm in arms)))
    contrast_matrix = tables.paired_table(rows, [*fields, "contrast", "metric", "agent", "minus"])
    contrast_matrix = contrast_matrix[contrast_matrix["n"] > 0].reset_index(drop=True)
    contrast_matrix["adjusted"] = holm(contrast_matrix["p"].to_numpy(np.float64))
    signs = np.where(contrast_matrix["significant"], np.sign(contrast_matrix["mean"].to_numpy()), 0)
    return contrast_matrix.drop(columns=["effect", "equal", "significant"]).assign(
        sign=signs.astype(np.int64)
    )


def point_names(contrast_matrix: pd.DataFrame, fields: Sequence[str]) -> list[str]:
    """Values of the swept fields in each row."""
    return [", ".join(map(str, values)) for values in contrast_matrix[list(fields)].to_numpy().tolist()]


def settled_words(cells: pd.DataFrame) -> str:
    """Number of significant signs of a contrast, such as ``− in 7 of 8``."""
    counts = {"−": int((cells["sign"] < 0).sum()), "+": int((cells["sign"] > 0).sum())}
    words = [f"{sign} in {count}" for sign, count in counts.items() if count]
    return f"{', '.join(words)} of {len(cells)}" if words else f"significant in 0 of {len(cells)}"


def matrix_table(contrast_matrix: pd.DataFrame, fields: Sequence[str], title: str) -> TextTable:
    """Table of a matrix: rows are points, columns contrasts."""
    columns = list(contrast_matrix["contrast"].unique())
    cells: dict[str, dict[str, str]] = {}  # point → contrast → cell
    # A difference that is the same at all seeds has no p-value.
    equal = contrast_matrix["p"].isna() & (contrast_matrix["n"] > 1)
    marked = contrast_matrix.assign(point=point_names(contrast_matrix, fields), equal=equal)
    shown = ["point", "contrast", "mean", "low", "high", "equal", "sign"]
    for point, contrast, mean, low, high, is_equal, sign in marked[shown].to_numpy().tolist():
        text = tables.cell(mean, low, high, equal=is_equal)
        cells.setdefault(point, {})[contrast] = f"{text}{'*' * bool(sign)}"
    rows = [
        (point, *(cells_of_point.get(name, "–") for name in columns))
        for point, cells_of_point in cells.items()
    ]
    counts = tuple(settled_words(contrast_matrix[contrast_matrix["contrast"] == name]) for name in columns)
    rows.append(("significant", *counts))
    return TextTable(
        f"{title}{tables.legend(marked)}",
        (", ".join(fields), *columns),
        tuple(rows),
    )


def matrix_figure(contrast_matrix: pd.DataFrame, fields: Sequence[str]) -> Figure:
    """Heat map of a matrix: values of its significant cells."""
    import seaborn as sns  # noqa: PLC0415  # slow to import, and only pictures need it

    cells = contrast_matrix.assign(point=point_names(contrast_matrix, fields))
    largest_mean = cells.groupby("contrast")["mean"].transform(lambda means: means.abs().max())
    shade = cells["sign"] * (_PALEST + (1 - _PALEST) * cells["mean"].abs() / largest_mean)
    texts = [
        f"{tables.number(mean)}\n±{tables.number((high - low) / 2)}".replace("-", "−")
        for mean, low, high in cells[["mean", "low", "high"]].to_numpy(np.float64).tolist()
    ]
    columns = list(cells["contrast"].unique())
    points = list(cells["point"].unique())

    def grid(values: pd.Series[Any] | list[str]) -> pd.DataFrame:
        """Values of the cells (points × contrasts)."""
        wide = cells.assign(shown=values).pivot(index="point", columns="contrast", values="shown")
        return wide.reindex(index=points, columns=columns)

    figure = charts.frame(
        _matrix_message(contrast_matrix),
        f"{many(int(contrast_matrix['n'].max()), 'seed')}. Mean and half a paired 95% interval; colour: size within "
        "the column. Blank: the sign is not significant at 5% by Holm's method over all cells.",
        _HEAD_HEIGHT + _ROW_HEIGHT * len(points),
    )
    ax = figure.subplots()
    sns.heatmap(
        grid(shade).astype(float),
        mask=grid(cells["sign"]).fillna(0) == 0,
        annot=grid(texts),
        fmt="",
        annot_kws={"fontsize": 9, "color": "#111111"},
        cmap=LinearSegmentedColormap.from_list("signs", [BLUE, "#ffffff", VERMILION]),
        vmin=-_COLOUR_LIMIT,
        vmax=_COLOUR_LIMIT,
        cbar=False,
        linewidths=1,
        linecolor="#cccccc",
        ax=ax,
    )
    ax.set_xticklabels([name.replace(": ", ":\n") for name in columns], fontsize=9, rotation=0)
    ax.set_yticklabels(points, rotation=0)
    ax.set(xlabel="", ylabel="")
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    return figure


def _matrix_message(contrast_matrix: pd.DataFrame) -> str:
    """Number of significant signs of the first and last contrast."""
    names = list(dict.fromkeys(contrast_matrix["contrast"]))
    words = [
        f"{name}: {settled_words(contrast_matrix[contrast_matrix['contrast'] == name])}"
        for name in dict.fromkeys((names[0], names[-1]))
    ]
    return "; ".join(words) + " cells"


def by_field(table: pd.DataFrame, field: str, unit: str) -> Figure:
    """Plot of measures over a numeric field, by agent."""
    shortfall, _ = tables.shortfalls(unit)
    # With β = 0 nothing is guaranteed, so no exposure can be undelivered.
    values = table if field != "beta" else table[(table["metric"] != shortfall) | (table[field] > 0)]
    present = set(values["metric"])
    metrics = [metric for metric in ("utility", "coverage", shortfall, "perplexity") if metric in present]
    looks = charts.styles(table["agent"].unique())
    figure, axes = charts.panels(
        f"Late rounds by {_symbol(field)}", sentences.seeds_caption(table), len(metrics), looks
    )
    for ax, metric in zip(axes, metrics, strict=True):
        charts.plot_bands(ax, values[values["metric"] == metric], field, looks)
        charts.metric_axis(ax, MEASURES[metric])
        ax.set_xlabel(_symbol(field))
    return figure


def front_figure(table: pd.DataFrame, field: str, unit: str = "examined") -> Figure:
    """Front of each agent over a field, and undelivered shares."""
    undelivered, _ = tables.shortfalls(unit)
    metrics = ("utility", "perplexity", undelivered)
    looks = charts.styles(table["agent"].unique())
    table = table[table["agent"].isin(list(looks))]  # controls have no look
    means = tables.over_seeds(table, ["agent", field], metrics)
    seeds = int(table["seed"].nunique())
    values = ", ".join(f"{value:g}" for value in sorted(table[field].unique()))
    bars = "bars: 95% intervals over seeds" if seeds > 1 else "no intervals"
    unmoved_names = _unmoved(means, field)
    caption = f"Points of a line: {_symbol(field)} = {values}. Late rounds, {many(seeds, 'seed')}; {bars}."
    if unmoved_names:
        caption += f" Ring: {_symbol(field)} does not move {', '.join(sorted(unmoved_names))}."
    figure = charts.frame(_front_message(table, means, field, unit, unmoved_names), caption, 5.4)
    is_narrow = charts.columns(2) == 1
    front_ax, undelivered_ax = (
        figure.subplots(2, 1) if is_narrow else figure.subplots(1, 2, width_ratios=(3, 2.4))
    )
    charts.legend(figure, looks, place="lower" if is_narrow else "right")
    for name, look in looks.items():
        curve = means[means["agent"] == name].pivot(index=field, columns="metric").sort_index()
        charts.plot_means(front_ax, curve, "perplexity", "utility", look, ring=name in unmoved_names)
        # With β = 0 nothing is guaranteed, so no exposure can be undelivered.
        is_free = _owes_nothing(table, field, 0.0, unit) and curve.index.max() > 0
        guaranteed_points = curve[curve.index > 0] if is_free else curve
        charts.plot_means(undelivered_ax, guaranteed_points, None, undelivered, look)
    front_ax.set_title("Relevance-diversity front", loc="left")
    front_ax.set_ylabel(f"{MEASURES['utility'].title.lower()} ({MEASURES['utility'].unit})")
    front_ax.set_xlabel("exposure perplexity (items)")
    front_ax.set_xlim(0, 1.03 * front_ax.get_xlim()[1])
    charts.reach_zero(front_ax)
    charts.metric_axis(undelivered_ax, MEASURES[undelivered])
    low = means[field].min()
    high = means[field].max()
    edge = 0.05 * (high - low) or 0.5
    undelivered_ax.set_xlim(low - edge, high + edge)
    undelivered_ax.set_xlabel(_symbol(field))
    return figure


def _unmoved(means: pd.DataFrame, field: str) -> set[str]:
    """Agents whose slates do not depend on the swept field."""
    names = set()
    shown = means[means["metric"].isin(("utility", "perplexity"))]
    for name, curve in shown.groupby("agent", observed=True):
        spread = curve.pivot(index=field, columns="metric", values="mean").agg(np.ptp)
        largest = curve.groupby("metric", observed=True)["mean"].max()
        has_several_points = len(curve) > 2  # a point has two rows, one per metric
        if has_several_points and (spread <= 1e-6 * largest).all():
            names.add(str(name))
    return names


def _symbol(field: str) -> str:
    """Symbol or words for a swept field."""
    return {"beta": "β", "cost": "c"}.get(field, field.replace("_", " "))


def _front_message(table: pd.DataFrame, means: pd.DataFrame, field: str, unit: str, unmoved: set[str]) -> str:
    """Effect of the swept field on the title's agent."""
    agents = set(means["agent"].unique())
    name = tables.subject(agents - unmoved or agents)
    curve = means[means["agent"] == name].pivot(index=field, columns="metric", values="mean").sort_index()
    if len(curve) == 1:
        return f"{_symbol(field)} = {curve.index[0]:g}"
    first_point = curve.iloc[0]
    last_point = curve.iloc[-1]
    ends = f"{_symbol(field)} from {curve.index[0]:g} to {curve.index[-1]:g}"
    if name in unmoved:
        return f"{ends}: nothing moves, neither exposure nor utility"
    if not (first_point["perplexity"] > 0 and first_point["utility"] > 0):
        return f"{name}: {ends}"
    factor = last_point["perplexity"] / first_point["perplexity"]
    change = last_point["utility"] / first_point["utility"] - 1
    times = "just" if f"{factor:.1f}" == "1.0" else f"{factor:.1f} times"
    text = f"With {name}, {ends} makes exposure {times} as wide"
    if abs(change) < 0.0005:  # the change would be written as 0.0%
        return f"{text} and leaves utility the same"
    moved = changes(table, field, unit)
    row = moved[(moved["agent"] == name) & (moved["metric"] == "utility")].iloc[0]
    if not row["significant"]:
        doubt = tables.cannot_tell(int(row["n"]))
        return f"{text}; {'utility does not change significantly' if doubt is None else f'{doubt} if utility changes'}"
    return f"{text} and {'lowers' if change < 0 else 'raises'} utility by {per_cent(abs(change))}"
