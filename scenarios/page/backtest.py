"""The page of a back-test: which model finds what users do next, and what floors cost it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.measures import paired_difference
from rimsim.scenarios.backtesting.pictures import model_looks
from rimsim.scenarios.backtesting.results import by_seed, result_tables
from rimsim.scenarios.page.chart import Axis, Chart
from rimsim.scenarios.page.content import Page, Section
from rimsim.scenarios.page.curves import front_points, over
from rimsim.scenarios.page.settings import as_sentence, as_yaml, command_of, log_fact, versions_line
from rimsim.scenarios.report.answer import figure
from rimsim.scenarios.report.summary import over_seeds, two_seeds_note

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.scenarios.backtesting.run import Backtest
    from rimsim.scenarios.store.run_folder import Run

__all__ = ["backtest_page", "backtest_sentences"]

_TASKS = {"item-rec": "recommending items to users", "user-rec": "finding users for items"}


def backtest_page(backtest: Backtest, run: Run) -> Page:
    """The page of a back-test.

    Args:
        backtest: The back-test.
        run: Its run folder.
    """
    table, config = backtest.table, backtest.config
    described = backtest.described["backtest"]
    seeds = int(table["seed"].nunique())
    note = two_seeds_note(seeds)
    return Page(
        question="Which model finds what users do next, and what do floors cost it?",
        setting=(
            log_fact(run, str(config.data.source)),
            f"{len(config.models)} models",
            f"{seeds} seed{'s' if seeds > 1 else ''}",
        ),
        answer=tuple(backtest_sentences(table)),
        cautions=(as_sentence(note),) if note else (),
        sections=(*_sections(table), Section("All figures", tables=tuple(result_tables(backtest)))),
        command=command_of(run),
        settings=as_yaml(described),
        versions=versions_line(run),
    )


def backtest_sentences(table: pd.DataFrame) -> list[str]:
    """The best model of each task against the next one, and what the largest floor costs the best.

    Args:
        table: Columns task, model, beta, cap, seed, metric, value.
    """
    sentences = [text for task, words in _TASKS.items() if (text := _best(table, task, words))]
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


def _sections(table: pd.DataFrame) -> tuple[Section, ...]:
    looks = model_looks(list(table["model"].unique()))
    renamed = table.rename(columns={"model": "agent"})
    precise = renamed[(renamed["metric"] == "precision") & renamed["task"].isin(tuple(_TASKS))]
    means = over_seeds(precise.assign(metric=precise["task"]), ["agent"], tuple(_TASKS))
    share = Axis("precision of recommended items", share=True, zero=True)
    charts = front_points(means, "item-rec", "user-rec", looks)
    up = Axis("precision of users found for items", share=True, zero=True)
    found = (Chart("Items for users, users for items", share, up, charts),) if charts else ()
    online = renamed[(renamed["task"] == "online") & renamed["beta"].notna()]
    fronts: tuple[Chart, ...] = ()
    floors: tuple[Chart, ...] = ()
    if len(online["beta"].unique()) > 1:
        front = over_seeds(online, ["agent", "beta"], ("precision", "perplexity"))
        curves = front_points(front, "perplexity", "precision", looks, "beta")
        across = Axis("exposure perplexity (items)", zero=True)
        fronts = (Chart("Along a line, β grows", across, Axis("precision", share=True, zero=True), curves),)
        missing = online[(online["metric"] == "shortfall") & (online["beta"] > 0)]
        if len(missing):
            up = Axis("undelivered share of the floors", share=True, zero=True)
            floors = (Chart("What floors leave undelivered", Axis("β"), up, over(missing, "beta", looks)),)
    return (
        Section("Recommendation", "Up and to the right is better; bars: 95 % intervals over seeds.", found),
        Section(
            "Online matching with floors",
            "Prices of past states; up and to the right is better.",
            fronts + floors,
        ),
    )
