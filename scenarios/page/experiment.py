"""The page of an experiment: what it would have found on one market, beside two whole worlds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.scenarios.experimenting.figures import summary
from rimsim.scenarios.experimenting.results import result_tables, sentences
from rimsim.scenarios.page.content import Page, Section
from rimsim.scenarios.page.settings import as_yaml
from rimsim.scenarios.pictures.messages import many

if TYPE_CHECKING:
    from rimsim.scenarios.experimenting.run import Experiment
    from rimsim.scenarios.runs.store import Run


def experiment_page(done: Experiment, run: Run) -> Page:
    """The page of an experiment.

    Args:
        done: The experiment.
        run: Its run folder.
    """
    first, second = done.agents
    config = run.scenario
    return Page(
        question=f"What does `{second}` bring beside `{first}`, and would an experiment on one market have found it?",
        setting=(
            config.name,
            many(config.rounds, "round"),
            many(len(run.seeds), "seed"),
            f"slates of {config.slate}",
        ),
        answer=tuple(sentences(summary(done.table))),
        cautions=(),
        sections=(Section("Naive estimates and total effects", tables=tuple(result_tables(done))),),
        settings=as_yaml(run.config["scenario"]),
    )
