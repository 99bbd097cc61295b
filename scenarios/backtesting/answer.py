"""What a back-test found, in sentences: which model is best at what, and what floors change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.measures import paired_difference
from rimsim.scenarios.report.sentences import figure

if TYPE_CHECKING:
    import pandas as pd


TASKS = {"item-rec": "recommending items to users", "user-rec": "finding users for items"}
"""Task without floors → what it is good for, in words."""


def backtest_sentences(table: pd.DataFrame) -> list[str]:
    """The best model of each task against the next one, and what the largest floor costs the best.

    Args:
        table: Columns task, model, beta, cap, seed, metric, value.
    """
    sentences = [text for task, words in TASKS.items() if (text := _best(table, task, words))]
    return sentences + _floors(table)


def _best(table: pd.DataFrame, task: str, words: str) -> str:
    precise = {model: by_seed(table, task, model, "precision") for model in table["model"].unique()}
    ranked = sorted((name for name in precise if len(precise[name])), key=lambda name: -precise[name].mean())
    if not ranked:
        return ""
    text = f"Best at {words}: `{ranked[0]}`, precision {figure(100 * precise[ranked[0]].mean())} %"
    if len(ranked) == 1:
        return f"{text}."
    other = ranked[1]
    both = precise[ranked[0]].align(precise[other], join="inner")
    paired = paired_difference(both[0].to_numpy(np.float64), both[1].to_numpy(np.float64))
    if paired.mean is None or paired.low is None or paired.high is None:
        return f"{text}, ahead of `{other}` with {figure(100 * precise[other].mean())} % (one seed: no interval)."
    ends = " to ".join(figure(100 * end) for end in (paired.low, paired.high))
    clear = "" if paired.clear else ", so that either may be better"
    return f"{text}, {figure(100 * paired.mean)} points ({ends}) ahead of `{other}`{clear}."


def _floors(table: pd.DataFrame) -> list[str]:
    """What the largest floor below all does to the model that is then most precise, against β = 0."""
    betas = sorted({float(beta) for beta in table["beta"].dropna().unique()})
    if len(betas) < 2 or betas[0] != 0:
        return []
    beta = max((value for value in betas if value < 1), default=betas[-1])
    floored = {
        name: by_seed(table, "online", name, "precision", beta=beta) for name in table["model"].unique()
    }
    best = max(floored, key=lambda name: float(floored[name].mean()) if len(floored[name]) else -1.0)
    parts = []
    for metric, scale, unit in (("precision", 100, " points"), ("perplexity", 1, " items")):
        free = by_seed(table, "online", best, metric, beta=0.0)
        both = by_seed(table, "online", best, metric, beta=beta).align(free, join="inner")
        paired = paired_difference(both[0].to_numpy(np.float64), both[1].to_numpy(np.float64))
        if paired.mean is None:
            continue
        ends = (
            ""
            if paired.low is None or paired.high is None
            else (f" ({figure(scale * paired.low)} to {figure(scale * paired.high)})")
        )
        parts.append(f"{metric} by {figure(scale * paired.mean)}{unit}{ends}")
    return (
        [f"With `{best}`, a floor of β = {beta:g} against none changes {' and '.join(parts)}."]
        if parts
        else []
    )


def by_seed(
    table: pd.DataFrame,
    task: str,
    model: str,
    metric: str,
    *,
    beta: float | None = None,
) -> pd.Series:
    """The value of a metric without caps at each seed (index), ascending; empty where there is none."""
    rows = table[(table["task"] == task) & (table["model"] == model) & (table["metric"] == metric)]
    rows = rows[rows["cap"].isna() & (rows["beta"].isna() if beta is None else rows["beta"] == beta)]
    return rows.set_index("seed")["value"].astype(float).sort_index()
