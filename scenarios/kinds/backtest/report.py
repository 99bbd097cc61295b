"""Report of a back-test: best models, cost of floors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rimsim.errors import many
from rimsim.house_style import BLUE, VERMILION
from rimsim.intensity.registry import mark_and_ground
from rimsim.measures import PairedDifference, paired_interval, significant
from rimsim.scenarios.kinds.backtest.tasks import PAYING
from rimsim.scenarios.report import sentences
from rimsim.scenarios.report.charts import AgentStyle, columns, frame, plot_means
from rimsim.scenarios.report.console import folder_places
from rimsim.scenarios.report.numbers import figure, per_cent
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.report.sentences import seeds_caption
from rimsim.scenarios.report.tables import (
    cannot_tell,
    cell,
    interval_words,
    over_seeds,
    pivoted,
    the_same,
    two_seeds_note,
)
from rimsim.scenarios.run import Run

# Task → its purpose, for sentences.
TASKS = {"item-rec": "recommending items to users", "user-rec": "finding users for items"}
_SPREAD = ("precision", "recall", "ndcg", "perplexity", "coverage")
# Metrics of logs in which users can take an item again.
_REPEATS = ("precision_repeat", "precision_new", "recall_repeat", "recall_new")
# Colours of mark models. The palette suits colour-blind readers; blue and vermilion are for the two most important
# models.
_COLOURS = {"transformer": BLUE, "gru": VERMILION, "popularity": "#62b578"}
_COLOURS |= {"als": "#5d0840", "bpr": "#8e7563"}
_MARKERS = {None: "o", "hp": "D", "hawkes": "s", "ema": "^", "pop": "v"}
_OWN = ("#5f248d", "#efa71b", "#585858", "#b34185")
# Model → its mark model, its ground intensity, and their style.
Looks: TypeAlias = dict[str, tuple[str, str | None, AgentStyle]]


def backtest_report(run: Run) -> Report:
    """Report of a back-test."""
    table = by_window(run.backtest)
    config = run.settings
    overlap = config.split.overlap
    seeds = int(table["seed"].nunique())
    unit = "window" if "window" in table else "seed"
    note = two_seeds_note(seeds, unit)
    return Report(
        question="Which model finds what users do next, and what do floors cost it?",
        setting=(
            sentences.log_fact(run, str(config.data.source)),
            many(len(config.models), "model"),
            many(seeds, unit),
        ),
        answer=tuple(backtest_sentences(table, overlap)),
        cautions=(sentences.as_sentence(note),) if note else (),
        sections=(
            _recommendation_section(table, overlap, seeds, unit),
            _matching_section(table, overlap, config.models),
        ),
        settings=sentences.as_yaml(run.config["backtest"]),
        places=partial(folder_places, run.folder),
    )


def _recommendation_section(table: pd.DataFrame, overlap: float, seeds: int, unit: str) -> Section:
    """Section on recommending items to users, and users for items."""
    words = interval_words(seeds, unit) + (", wider for splits that overlap" if overlap else "")
    items = f"Item recommendation, {words}"
    users = f"User recommendation (perplexity and coverage of users), {words}"
    item_rows = table[table["task"] == "item-rec"]
    apart: tuple[TextTable, ...] = ()
    if item_rows["metric"].isin(_REPEATS).any():
        title = (
            "Item recommendation, apart for repeats and new items (precisions are shares of all positions)"
        )
        apart = (_means(title, item_rows, ["model"], _REPEATS, overlap),)
    return Section(
        "Recommendation",
        f"Up and to the right is better; bars: 95% intervals over {unit}s.",
        plots=(Plot("recommendation", partial(_recommendation, table, overlap)),),
        tables=(
            _means(items, item_rows, ["model"], _SPREAD, overlap),
            *apart,
            _means(users, table[table["task"] == "user-rec"], ["model"], _SPREAD, overlap),
        ),
    )


def _matching_section(table: pd.DataFrame, overlap: float, models: tuple[str, ...]) -> Section:
    """Section on online matching with floors and with caps."""
    floors = table[table["beta"].notna()].sort_values("beta", kind="stable")
    caps = table[table["cap"].notna()].sort_values("cap", kind="stable")
    return Section(
        "Online matching with floors",
        "Prices of past states; up and to the right is better.",
        plots=(
            Plot("fronts", partial(_fronts, table, overlap)),
            Plot("undelivered", partial(_undelivered, table, overlap), png=False),
        ),
        tables=(
            _means(
                "Online matching with floors β, prices of past states",
                floors,
                ["model", "beta"],
                ("precision", "recall", "perplexity", "coverage", "shortfall", "items_met"),
                overlap,
            ),
            _means(
                "Online matching with caps, cap × k positions a user; precision an exposure",
                caps,
                ["model", "cap"],
                ("precision", "recall", "perplexity", "coverage", "filled"),
                overlap,
            ),
            _cost_of_floors(floors, overlap),
            _gain_of_ground(table, models, overlap),
            _who_pays(floors, overlap),
        ),
    )


def by_window(table: pd.DataFrame) -> pd.DataFrame:
    """Table with a row per window instead of per seed.

    Under a split by time, windows are the same at all seeds, so a value is the mean over seeds. Other tables stay.
    """
    if "window" not in table or table["window"].max() == 0:
        return table.drop(columns="window", errors="ignore")
    keys = [column for column in table if column not in ("seed", "value")]
    means = table.groupby(keys, sort=False, dropna=False, observed=True)["value"].mean().reset_index()
    return means.assign(seed=means["window"])


def backtest_sentences(table: pd.DataFrame, overlap: float = 0.0) -> list[str]:
    """Sentences on the best models and on floors."""
    best_models = [text for task, words in TASKS.items() if (text := _best(table, task, words, overlap))]
    return best_models + _floors(table, overlap)


def _best(table: pd.DataFrame, task: str, words: str, overlap: float) -> str:
    """Sentence on the most precise models of a task."""
    precise = {model: _by_seed(table, task, model, "precision") for model in table["model"].unique()}
    ranked = sorted((name for name in precise if len(precise[name])), key=lambda name: -precise[name].mean())
    if not ranked:
        return ""
    best, *followers = ranked
    means = {name: f"{figure(100 * precise[name].mean())}%" for name in ranked}
    if not followers:
        return f"Best at {words}: `{best}`, precision {means[best]}."
    leads = {name: _difference(precise[best], precise[name], overlap) for name in followers}
    lead_words = {
        name: f"{figure(100 * (lead.mean or 0.0))} points{_ends(lead, 100)}" for name, lead in leads.items()
    }
    is_significant = significant([np.nan if lead.p is None else lead.p for lead in leads.values()])
    # A model ties with the best if the best has no lead, or a lead that is not significant. One seed has no test.
    ties = [
        name
        for (name, lead), is_claimed in zip(leads.items(), is_significant, strict=True)
        if not lead.mean or (lead.n > 1 and not is_claimed)
    ]
    if ties:
        last = ties[-1]
        names = ", ".join(f"`{name}`" for name in [best, *ties[:-1]])
        doubt = cannot_tell(leads[last].n, "split") if leads[last].mean else None
        relation = (
            f"a tie of {names} and `{last}`" if doubt is None else f"{doubt} {names} and `{last}` apart"
        )
        text = f"Best at {words}: {relation}, precision {means[best]}"
        if leads[last].mean:
            text = f"{text} to {means[last]}, a difference of {lead_words[last]}"
        return f"{text}."
    runner_up = followers[0]
    if leads[runner_up].low is None:
        return (
            f"Best at {words}: `{best}` {means[best]}, `{runner_up}` {means[runner_up]}, "
            "in one draw, without an interval."
        )
    lead = lead_words[runner_up]
    return f"Best at {words}: `{best}`, precision {means[best]}, {lead} ahead of `{runner_up}`."


def _difference(minuend: pd.Series, subtrahend: pd.Series, overlap: float) -> PairedDifference:
    """Mean of paired differences with its 95% interval."""
    first, second = minuend.align(subtrahend, join="inner")
    return paired_interval(first.to_numpy(np.float64), second.to_numpy(np.float64), 0.95, overlap)


def _floors(table: pd.DataFrame, overlap: float) -> list[str]:
    """Sentence on the largest floor and its most precise model."""
    betas = sorted({float(beta) for beta in table["beta"].dropna().unique()})
    if len(betas) < 2 or betas[0] != 0:
        return []
    beta = max((value for value in betas if value < 1), default=betas[-1])
    models = table["model"].unique()
    floored = {name: _by_seed(table, "online", name, "precision", beta) for name in models}
    best = max(floored, key=lambda name: float(floored[name].mean()) if len(floored[name]) else -1.0)
    scales = {"precision": (100, " points"), "perplexity": (1, " items")}
    changes: dict[str, PairedDifference] = {}
    for metric in scales:
        with_floor = _by_seed(table, "online", best, metric, beta)
        without_floor = _by_seed(table, "online", best, metric, 0.0)
        changes[metric] = _difference(with_floor, without_floor, overlap)
    is_significant = significant([np.nan if change.p is None else change.p for change in changes.values()])
    claimed = []
    unclaimed = []
    doubt = cannot_tell(min(change.n for change in changes.values()), "split")
    for (metric, change), is_claimed in zip(changes.items(), is_significant, strict=True):
        if change.mean is None:
            continue
        scale, unit = scales[metric]
        amount = f"{figure(scale * change.mean)}{unit}{_ends(change, scale)}"
        if is_claimed or change.n < 2:
            claimed.append(f"{metric} by {amount}")
        else:
            unclaimed.append(f"{metric} ({amount})")
    texts = [f"changes {' and '.join(claimed)}"] if claimed else []
    if unclaimed and doubt is not None:
        texts.append(f"may change {' and '.join(unclaimed)}, but {doubt}")
    elif unclaimed:
        texts.append(f"has no significant effect on {' or '.join(unclaimed)}")
    return [f"With `{best}`, a floor of β = {beta:g} against none {' and '.join(texts)}."] if texts else []


def _ends(interval: PairedDifference, scale: float) -> str:
    """Interval in brackets, or a remark on equal differences."""
    if interval.equal:
        return f" ({the_same(interval.n, 'split')})"
    if interval.low is None or interval.high is None:
        return ""
    return f" ({figure(scale * interval.low)} to {figure(scale * interval.high)})"


def _by_seed(table: pd.DataFrame, task: str, model: str, metric: str, beta: float | None = None) -> pd.Series:
    """Values of a metric in uncapped matching, sorted by seed."""
    rows = table[(table["task"] == task) & (table["model"] == model) & (table["metric"] == metric)]
    rows = rows[rows["cap"].isna() & (rows["beta"].isna() if beta is None else rows["beta"] == beta)]
    return rows.set_index("seed")["value"].astype(float).sort_index()


def _means(
    title: str, table: pd.DataFrame, by: list[str], metrics: Sequence[str], overlap: float
) -> TextTable:
    """Table of means over seeds."""
    return pivoted(title, over_seeds(table, by, metrics, overlap), by, metrics, significant=True)


def _cost_of_floors(floors: pd.DataFrame, overlap: float) -> TextTable:
    """Perplexity and precision with floors, relative to β = 0."""
    keys = ["model", "metric", "seed"]
    without_floors = floors.loc[floors["beta"] == 0, [*keys, "value"]]
    pairs = floors[floors["beta"] > 0].merge(without_floors, on=keys, suffixes=("", "_without"))
    ratio = pairs["value"] / pairs["value_without"].where(pairs["value_without"] > 0)
    # Perplexity is reported as a factor, precision as a change in percent.
    names = {"perplexity": "perplexity ×", "precision": "precision, %"}
    changes = pairs.assign(
        metric=pairs["metric"].map(names),
        value=ratio.where(pairs["metric"] == "perplexity", 100 * (ratio - 1)),
    )
    title = "What floors cost: against β = 0, on the same split"
    return _means(title, changes, ["model", "beta"], tuple(names.values()), overlap)


def _gain_of_ground(table: pd.DataFrame, models: tuple[str, ...], overlap: float) -> TextTable:
    """Precision with λ(x) minus precision without λ(x), per split."""
    precise = table[(table["metric"] == "precision") & table["cap"].isna()]
    online = precise["beta"].map({0.7: "online, β .7", 1.0: "online, β 1"})
    tasks = precise.assign(metric=precise["task"].where(precise["beta"].isna(), online))
    by_model = tasks.pivot_table(index=["metric", "seed"], columns="model", values="value")
    gains = []
    for model in models:
        mark, ground = mark_and_ground(model)
        if ground is not None and mark in models:
            gain = (by_model[model] - by_model[mark]).rename("value").reset_index()
            gains.append(gain.assign(difference=f"{model} − {mark}"))
    title = "What λ(x) adds to precision, on the same split"
    columns = ("item-rec", "user-rec", "online, β .7", "online, β 1")
    if not gains:
        return TextTable(title, (), ())
    return _means(title, pd.concat(gains), ["difference"], columns, overlap)


def _who_pays(floors: pd.DataFrame, overlap: float) -> TextTable:
    """Positions per slate with guaranteed items, by decile of λ(x)."""
    deciles = [f"{PAYING}{number}" for number in range(1, 11)]
    difference = "guaranteed_lowest_minus_highest"
    means = over_seeds(floors, ["model", "beta"], (*deciles, difference), overlap)
    rows = []
    for (model, beta), point in means.groupby(["model", "beta"], sort=False):
        # The last row of a point is the difference between the lowest and the highest decile.
        *of_deciles, (mean, low, high) = point[["mean", "low", "high"]].to_numpy().tolist()
        positions = (f"{mean_of_decile:.1f}" for mean_of_decile, _, _ in of_deciles)
        rows.append((str(model), f"{beta:g}", *positions, cell(mean, low, high, significant=True)))
    return TextTable(
        "Who pays: positions a slate held by items that would else be below their floor, by decile of λ(x)",
        ("model", "beta", *(str(number) for number in range(1, 11)), "lowest − highest"),
        tuple(rows),
    )


def model_looks(models: Sequence[str]) -> Looks:
    """Mark model, ground intensity and style of each model."""
    own_colours = iter(_OWN * len(models))
    looks = {}
    for model in models:
        mark, ground = mark_and_ground(model)
        looks[model] = (
            mark,
            ground,
            AgentStyle(_COLOURS.get(mark) or next(own_colours), _MARKERS.get(ground, "P")),
        )
    return looks


def _recommendation(table: pd.DataFrame, overlap: float) -> Figure | None:
    """Precision of item recommendation against that of user recommendation."""
    tasks = ("item-rec", "user-rec")
    precise = table[(table["metric"] == "precision") & table["task"].isin(tasks)]
    if not (precise["task"] == "user-rec").any():
        return None
    means = over_seeds(precise.assign(metric=precise["task"]), ["model"], tasks, overlap)
    points = means.pivot(index="model", columns="metric").reindex(precise["model"].unique())
    precision = {str(model): float(value) for model, value in points["mean", "user-rec"].items()}
    looks = model_looks(list(precision))
    caption = "Precision of the best items of each user, and of the best users of each item."
    figure, ax = _canvas(
        title=_message_of_ground(precision, looks),
        text=f"{caption} {seeds_caption(table, 'bars')}",
        height=5.6,
        looks=looks,
        x="item recommendation: precision",
        y="user recommendation: precision",
    )
    for model, (_, _, look) in looks.items():
        plot_means(ax, points.loc[[model]], "item-rec", "user-rec", look, size=9)
    _room(ax, points["mean", "item-rec"].max(), points["mean", "user-rec"].max())
    ax.xaxis.set_major_formatter(_share)
    return figure


def _fronts(table: pd.DataFrame, overlap: float) -> Figure | None:
    """Precision against exposure perplexity over β, one line per model."""
    online = table[(table["task"] == "online") & table["beta"].notna()]
    means = over_seeds(online, ["model", "beta"], ("precision", "perplexity"), overlap)
    curves = {
        str(model): of_model.pivot(index="beta", columns="metric").sort_index()
        for model, of_model in means.groupby("model", sort=False)
        if len(set(of_model["beta"])) > 1
    }
    if not curves:
        return None
    looks = model_looks(list(curves))
    caption = "Online matching; along each line the guaranteed share β of the uniform exposure grows."
    caption += f" {seeds_caption(table, 'bars')} Up and to the right is better."
    figure, ax = _canvas(
        title=_message_of_front(table, list(curves)),
        text=caption,
        height=5.8,
        looks=looks,
        x="exposure perplexity (items)",
        y="precision",
    )
    for model, curve in curves.items():
        _, ground, look = looks[model]
        plot_means(ax, curve, "perplexity", "precision", look, line="--" if ground is None else "-")
    most_x = max(float(curve["mean", "perplexity"].max()) for curve in curves.values())
    most_y = max(float(curve["mean", "precision"].max()) for curve in curves.values())
    _room(ax, most_x, most_y)
    return figure


def _undelivered(table: pd.DataFrame, overlap: float) -> Figure | None:
    """Undelivered share of the floors over β, by model."""
    shortfalls = table[(table["task"] == "online") & (table["metric"] == "shortfall") & (table["beta"] > 0)]
    if shortfalls["beta"].nunique() < 2:
        return None
    means = over_seeds(shortfalls, ["model", "beta"], ("shortfall",), overlap)
    curves = {str(model): rows.sort_values("beta") for model, rows in means.groupby("model", sort=False)}
    looks = model_looks(list(curves))
    figure, ax = _canvas(
        title="Floors left undelivered",
        text=seeds_caption(table, "bars"),
        height=4.6,
        looks=looks,
        x="β",
        y="undelivered share of the floors",
    )
    for model, curve in curves.items():
        look = looks[model][2]
        half = (curve["high"] - curve["low"]) / 2
        ax.errorbar(curve["beta"], curve["mean"], yerr=half, color=look.colour, marker=look.marker, capsize=2)
    ax.set_ylim(bottom=0)
    return figure


def _canvas(title: str, text: str, height: float, looks: Looks, x: str, y: str) -> tuple[Figure, Axes]:
    """Figure and its axes, with labels and a legend."""
    figure = frame(title, text, height)
    ax = figure.subplots()
    ax.set(xlabel=x, ylabel=y)
    ax.yaxis.set_major_formatter(_share)
    # The legend has two parts: colours tell mark models apart, markers tell ground intensities apart.
    only_text = partial(Line2D, [], [], linestyle="none")
    colours = {mark: look.colour for mark, _, look in looks.values()}
    markers = {ground: look.marker for _, ground, look in looks.values()}
    handles = [
        only_text(label="p(y|x)"),
        *(Line2D([], [], color=colour, linewidth=5, label=mark) for mark, colour in colours.items()),
        only_text(label=""),
        only_text(label="λ(x)"),
    ]
    handles += [
        only_text(color="#555555", markersize=8, marker=marker, label=ground or "none (λ = 1)")
        for ground, marker in markers.items()
    ]
    is_narrow = columns(2) == 1
    if is_narrow:
        figure.legend(handles=handles, loc="outside lower center", labelspacing=0.6, ncols=2)
    else:
        figure.legend(handles=handles, loc="outside right center", labelspacing=0.6)
    return figure, ax


def _room(ax: Axes, most_x: float, most_y: float) -> None:
    """Let axes begin at 0 and show every point."""
    ax.set(xlim=(0, 1.15 * most_x), ylim=(0, 1.2 * most_y))


def _share(value: float, _: object) -> str:
    """Share in percent, as the label of a tick."""
    return f"{100 * value:.3g}%"


def _message_of_ground(precision: dict[str, float], looks: Looks) -> str:
    """Title on the use of λ(x) for user recommendation."""
    best = max(precision, key=lambda model: precision[model])
    mark, ground, _ = looks[best]
    if ground is None or not precision.get(mark, 0.0) > 0:
        return f"{best} finds users best: precision {per_cent(precision[best])}"
    factor = precision[best] / precision[mark]
    if factor < 1.05:
        return f"λ(x) hardly helps to find users: {best} is about as precise as {mark} alone"
    return f"λ(x) finds the users: {best} is {factor:.1f} times as precise in user recommendation as {mark} alone"


def _message_of_front(table: pd.DataFrame, models: list[str]) -> str:
    """Title on a floor's cost, with and without λ(x)."""
    values = partial(_by_seed, table, "online")

    def change(model: str, metric: str) -> float:
        """Mean ratio of a metric with and without the floor."""
        ratio = values(model, metric, beta) / values(model, metric, 0.0)
        return float(ratio.replace([np.inf, -np.inf], np.nan).dropna().mean())

    all_betas = {float(beta) for beta in table["beta"].dropna().unique()}
    betas = sorted(all_betas - {0.0, 1.0})
    if not betas or 0.0 not in all_betas:
        return "Relevance against diversity of exposure"
    beta = betas[-1]
    hybrids = [model for model in models if mark_and_ground(model)[1] is not None]
    best = max(hybrids or models, key=lambda model: float(values(model, "precision", beta).mean()))
    spread = change(best, "perplexity")
    loss = _loss(1 - change(best, "precision"))
    text = f"β = {beta:g} spreads the exposure of {best} {spread:.1f} times as wide at {loss} of precision"
    mark, ground = mark_and_ground(best)
    if ground is None or mark not in models:
        return text
    return f"{text}; without λ(x) at {_loss(1 - change(mark, 'precision'))}"


def _loss(share: float) -> str:
    """Words on a lost share of precision."""
    if abs(share) < 0.0005:  # the number would be written as 0.0%
        return "no loss"
    return f"a gain of {per_cent(-share)}" if share < 0 else f"a loss of {per_cent(share)}"
