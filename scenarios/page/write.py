"""Report of a run of any kind, until each kind has its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rimsim.scenarios import load_backtest, load_experiment, load_validation
from rimsim.scenarios.backtesting import pictures as backtest_pictures
from rimsim.scenarios.backtesting import results as backtesting
from rimsim.scenarios.backtesting.answer import backtest_sentences
from rimsim.scenarios.experimenting import results as experimenting
from rimsim.scenarios.experimenting.figures import summary
from rimsim.scenarios.experimenting.pictures import designs_against_total
from rimsim.scenarios.report.comparison import comparison_report
from rimsim.scenarios.report.record import Plot, Report, Section
from rimsim.scenarios.report.sentences import log_fact, many
from rimsim.scenarios.report.sweep import sweep_report
from rimsim.scenarios.report.tables import two_seeds_note
from rimsim.scenarios.validating import pictures as validation_pictures
from rimsim.scenarios.validating import results as validating

if TYPE_CHECKING:
    from rimsim.scenarios.store.run_folder import Run


def report_of(run: Run) -> Report:
    """Report of a run.

    Raises:
        RunFolderError: If a table is damaged, or no arm of a sweep is complete.
        MissingTableError: If a table is missing.
    """
    makers = {
        "backtest": _backtest,
        "experiment": _experiment,
        "validation": _validation,
        "sweep": sweep_report,
    }
    return makers.get(run.kind, comparison_report)(run)


def _backtest(run: Run) -> Report:
    done = load_backtest(run.folder)
    table, config, overlap = done.table, done.config, done.config.split.overlap
    seeds = int(table["seed"].nunique())
    note = two_seeds_note(seeds)
    plots = (
        Plot("recommendation", partial(backtest_pictures.recommendation, table, overlap)),
        Plot("fronts", partial(backtest_pictures.fronts, table, overlap)),
    )
    return Report(
        question="Which model finds what users do next, and what do floors cost it?",
        setting=(
            log_fact(run, str(config.data.source)),
            many(len(config.models), "model"),
            many(seeds, "seed"),
        ),
        answer=tuple(backtest_sentences(table)),
        cautions=(note,) if note else (),
        sections=(
            Section("Recommendation and online matching", plots=plots),
            Section("All figures", tables=tuple(backtesting.result_tables(done))),
        ),
        settings=done.described["backtest"],
    )


def _experiment(run: Run) -> Report:
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
        settings=run.config["scenario"],
    )


def _validation(run: Run) -> Report:
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
        settings=run.config["validate"],
    )
