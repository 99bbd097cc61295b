"""Reports of experiments and validations, until their kinds have their own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rimsim.scenarios import load_experiment, load_validation
from rimsim.scenarios.experimenting import results as experimenting
from rimsim.scenarios.experimenting.figures import summary
from rimsim.scenarios.experimenting.pictures import designs_against_total
from rimsim.scenarios.report.console import picture_places
from rimsim.scenarios.report.record import Plot, Report, Section
from rimsim.scenarios.report.sentences import as_yaml, log_fact, many
from rimsim.scenarios.validating import pictures as validation_pictures
from rimsim.scenarios.validating import results as validating

if TYPE_CHECKING:
    from rimsim.scenarios.runs.store import Run


def experiment_report(run: Run) -> Report:
    """Report of an experiment."""
    done, config = load_experiment(run.folder), run.scenario
    first, second = done.agents
    plot = Plot("experiment", partial(designs_against_total, done.table, done.agents))
    return Report(
        question=f"What does `{second}` bring beside `{first}`, and would an experiment on one market have found it?",
        setting=(
            config.name,
            many(config.rounds, "round"),
            many(len(run.seeds), "seed"),
            f"slates of {config.slate}",
        ),
        answer=tuple(experimenting.sentences(summary(done.table))),
        sections=(
            Section(
                "Naive estimates and total effects",
                plots=(plot,),
                tables=tuple(experimenting.result_tables(done)),
            ),
        ),
        settings=as_yaml(run.config["scenario"]),
        places=partial(picture_places, run.folder),
    )


def validation_report(run: Run) -> Report:
    """Report of a validation."""
    done = load_validation(run.folder)
    found, config = validating.concluded(done), done.config
    plots = (
        Plot(
            "agreement", partial(validation_pictures.real_against_simulated, done.intervals, done.agreement)
        ),
        Plot("calibration", partial(validation_pictures.calibration, done.table)),
    )
    return Report(
        question="May one believe the market on this log?",
        setting=(
            log_fact(run, str(config.data.source)),
            many(config.draws, "draw"),
            many(len(config.models), "model"),
            f"slates of {config.slate}",
        ),
        answer=found.may,
        cautions=found.may_not,
        sections=(
            Section("Real and simulated worth, expected and logged events", plots=plots),
            Section("All figures", tables=tuple(validating.result_tables(done))),
        ),
        settings=as_yaml(run.config["validate"]),
        places=partial(picture_places, run.folder),
        headings=("What may be concluded:", "What may not:"),
    )
