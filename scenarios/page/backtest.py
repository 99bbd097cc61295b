"""The page of a back-test: which model finds what users do next, and what floors cost it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.scenarios.kinds.backtest.report import TASKS, backtest_report, backtest_sentences, model_looks
from rimsim.scenarios.page.chart import Axis, Chart
from rimsim.scenarios.page.content import Page, Section
from rimsim.scenarios.page.curves import front_points, over
from rimsim.scenarios.page.settings import as_sentence, as_yaml, log_fact
from rimsim.scenarios.pictures.messages import many
from rimsim.scenarios.report.summary import over_seeds, two_seeds_note

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.scenarios.kinds.backtest import Backtest
    from rimsim.scenarios.runs.store import Run


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
            many(len(config.models), "model"),
            many(seeds, "seed"),
        ),
        answer=tuple(backtest_sentences(table)),
        cautions=(as_sentence(note),) if note else (),
        sections=(*_sections(table), Section("All figures", tables=backtest_report(run).tables)),
        settings=as_yaml(described),
    )


def _sections(table: pd.DataFrame) -> tuple[Section, ...]:
    looks = {name: look for name, (_, _, look) in model_looks(list(table["model"].unique())).items()}
    renamed = table.rename(columns={"model": "agent"})
    precise = renamed[(renamed["metric"] == "precision") & renamed["task"].isin(tuple(TASKS))]
    means = over_seeds(precise.assign(metric=precise["task"]), ["agent"], tuple(TASKS))
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
