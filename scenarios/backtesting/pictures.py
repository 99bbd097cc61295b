"""The two figures of a back-test, drawn from its table in the style of all pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from rimsim.intensity.registry import mark_and_ground
from rimsim.scenarios.backtesting.answer import by_seed
from rimsim.scenarios.report.charts import AgentStyle, draw, frame, plot_means
from rimsim.scenarios.report.sentences import per_cent, seeds_caption
from rimsim.scenarios.report.tables import over_seeds

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Colours of mark models: seaborn's colour-blind palette, blue and vermilion for the two that matter most.
_COLOURS = {
    "transformer": "#0173b2",
    "gru": "#d55e00",
    "popularity": "#029e73",
    "als": "#cc78bc",
    "bpr": "#ca9161",
    "graph": "#56b4e9",
}
_MARKERS = {None: "o", "hp": "D", "hawkes": "s", "ema": "^", "pop": "v"}
_OWN = ("#7b4ba6", "#b8a800", "#555555", "#a50f4a")
_NO_GROUND = "none (λ = 1)"


def draw_backtest(table: pd.DataFrame, folder: Path, overlap: float) -> list[Path]:
    """Draw both figures, as far as the table holds them.

    Args:
        table: Columns task, model, beta, cap, seed, metric, value.
        overlap: Of its splits.
        folder: Made if missing; pictures of the same name are replaced.

    Returns:
        The files written.
    """
    figures = {
        "recommendation": partial(recommendation, table, overlap),
        "fronts": partial(fronts, table, overlap),
    }
    return draw(figures, folder)


def _looks(models: list[str]) -> dict[str, tuple[str, str | None, AgentStyle]]:
    """Model → mark, ground, colour (the mark's) and marker (the ground's)."""
    own = iter(_OWN * len(models))
    looks = {}
    for model in models:
        mark, ground = mark_and_ground(model)
        colour = _COLOURS.get(mark) or next(own)
        looks[model] = (mark, ground, AgentStyle(colour, _MARKERS.get(ground, "P")))
    return looks


def model_looks(models: list[str]) -> dict[str, AgentStyle]:
    """Model → colour (its mark's) and marker (its ground's)."""
    return {model: look for model, (_, _, look) in _looks(models).items()}


def recommendation(table: pd.DataFrame, overlap: float) -> Figure | None:
    """Precision of item recommendation against precision of user recommendation."""
    precise = table[(table["metric"] == "precision") & table["task"].isin(("item-rec", "user-rec"))]
    if not (precise["task"] == "user-rec").any():
        return None
    means = over_seeds(precise.assign(metric=precise["task"]), ["model"], ("item-rec", "user-rec"), overlap)
    points = means.pivot(index="model", columns="metric").reindex(precise["model"].unique())
    precision = {str(model): float(value) for model, value in points["mean", "user-rec"].items()}
    looks = _looks(list(precision))
    figure = frame(
        _message_of_ground(precision, looks),
        "Precision of the best items of each user, and of the best users of each item. "
        f"{seeds_caption(table, 'bars')}",
        5.6,
    )
    ax, side = figure.subplots(1, 2, width_ratios=(3.4, 1))
    for model, (_, _, look) in looks.items():
        plot_means(ax, points.loc[[model]], "item-rec", "user-rec", look, size=9)
    ax.set_xlabel("item recommendation: precision")
    ax.set_ylabel("user recommendation: precision")
    _room(ax, points["mean", "item-rec"].max(), points["mean", "user-rec"].max())
    ax.xaxis.set_major_formatter(_share)
    _legend(side, looks)
    return figure


def fronts(table: pd.DataFrame, overlap: float) -> Figure | None:
    """Precision against exposure perplexity over β, one line a model."""
    online = table[(table["task"] == "online") & table["beta"].notna()]
    means = over_seeds(online, ["model", "beta"], ("precision", "perplexity"), overlap)
    curves = {
        str(model): of_model.pivot(index="beta", columns="metric").sort_index()
        for model, of_model in means.groupby("model", sort=False)
        if len(set(of_model["beta"])) > 1
    }
    if not curves:
        return None
    looks = _looks(list(curves))
    figure = frame(
        _message_of_front(table, list(curves)),
        "Online matching; along each line the guaranteed share β of the uniform exposure grows. "
        f"{seeds_caption(table, 'bars')} Up and to the right is better.",
        5.8,
    )
    ax, side = figure.subplots(1, 2, width_ratios=(3.4, 1))
    for model, curve in curves.items():
        _, ground, look = looks[model]
        plot_means(ax, curve, "perplexity", "precision", look, line="--" if ground is None else "-")
    ax.set_xlabel("exposure perplexity (items)")
    ax.set_ylabel("precision")
    wide, precise = (
        max(float(curve["mean", metric].max()) for curve in curves.values())
        for metric in ("perplexity", "precision")
    )
    _room(ax, wide, precise)
    _legend(side, looks)
    return figure


def _room(ax: Axes, most_x: float, most_y: float) -> None:
    """Limits that show every point from 0 on; a bar that is far longer, as of two seeds, is cut off."""
    ax.set_xlim(0, 1.15 * most_x)
    ax.set_ylim(0, 1.2 * most_y)
    ax.yaxis.set_major_formatter(_share)


def _share(value: float, _: object) -> str:
    return f"{100 * value:.3g} %"


def _legend(ax: Axes, looks: dict[str, tuple[str, str | None, AgentStyle]]) -> None:
    """Colours are mark models, markers ground intensities."""
    ax.set_axis_off()
    marks = {mark: look.colour for mark, _, look in looks.values()}
    grounds = {ground: look.marker for _, ground, look in looks.values()}
    handles = [Line2D([], [], linestyle="none", label="p(y|x)")]
    handles += [Line2D([], [], color=colour, linewidth=5, label=mark) for mark, colour in marks.items()]
    handles += [Line2D([], [], linestyle="none", label=""), Line2D([], [], linestyle="none", label="λ(x)")]
    handles += [
        Line2D(
            [], [], color="#555555", marker=marker, linestyle="none", markersize=8, label=ground or _NO_GROUND
        )
        for ground, marker in grounds.items()
    ]
    ax.legend(handles=handles, loc="center left", frameon=False, labelspacing=0.6, fontsize=11)


def _message_of_ground(
    precision: dict[str, float], looks: dict[str, tuple[str, str | None, AgentStyle]]
) -> str:
    """By what factor the best hybrid finds more of the right users than its mark model alone."""
    best = max(precision, key=lambda model: precision[model])
    mark, ground, _ = looks[best]
    if ground is None or not precision.get(mark, 0.0) > 0:
        return f"{best} finds users best: precision {per_cent(precision[best])}"
    factor = precision[best] / precision[mark]
    if factor < 1.05:
        return f"λ(x) hardly helps to find users: {best} is about as precise as {mark} alone"
    return f"λ(x) finds the users: {best} is {factor:.1f} times as precise in user recommendation as {mark} alone"


def _message_of_front(table: pd.DataFrame, models: list[str]) -> str:
    """What the largest floor below 1 costs the hybrid of the best precision, and its mark model alone."""

    def change(model: str, metric: str, beta: float) -> float:
        ratio = by_seed(table, "online", model, metric, beta=beta) / by_seed(
            table, "online", model, metric, beta=0.0
        )
        return float(ratio.replace([np.inf, -np.inf], np.nan).dropna().mean())

    betas = sorted({float(beta) for beta in table["beta"].dropna().unique()} - {0.0, 1.0})
    if not betas or 0.0 not in set(table["beta"].dropna().unique()):
        return "Relevance against diversity of exposure"
    beta = betas[-1]
    hybrids = [model for model in models if mark_and_ground(model)[1] is not None]
    best = max(
        hybrids or models,
        key=lambda model: float(by_seed(table, "online", model, "precision", beta=beta).mean()),
    )
    wide, lost = change(best, "perplexity", beta), 1 - change(best, "precision", beta)
    text = (
        f"β = {beta:g} spreads the exposure of {best} {wide:.1f} times as wide at {_loss(lost)} of precision"
    )
    mark, ground = mark_and_ground(best)
    if ground is None or mark not in models:
        return text
    alone = 1 - change(mark, "precision", beta)
    return f"{text}; without λ(x) at {_loss(alone)}"


def _loss(share: float) -> str:
    if abs(share) < 0.0005:  # less than is written
        return "no loss"
    return f"a gain of {per_cent(-share)}" if share < 0 else f"a loss of {per_cent(share)}"
