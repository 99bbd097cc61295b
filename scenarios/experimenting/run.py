"""Experiments carried out: designs at seeds, worlds beside them, tables, and a picture."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.agents import make_agent
from rimsim.config import to_plain
from rimsim.config.fields import duration_seconds
from rimsim.errors import ConfigError, nearest
from rimsim.market import build_world
from rimsim.market.world import expected_arrivals, own_places
from rimsim.plugs import own_code
from rimsim.scenarios.experimenting.designs import DESIGNS, Assignment
from rimsim.scenarios.experimenting.figures import arrivals_table, estimates, tail_of, total_effects
from rimsim.scenarios.experimenting.pictures import draw_experiment
from rimsim.scenarios.experimenting.play import play_experiment, play_world
from rimsim.scenarios.runs.job import Execution, Stage, chosen_seeds, executor, run_stages
from rimsim.scenarios.runs.store import (
    CONFIG,
    Run,
    folder_for,
    load_run,
    locked,
    read_table,
    require_free,
    versions,
    write_table,
    write_yaml,
)
from rimsim.scenarios.study.options import resolved

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.config import ScenarioConfig


TRAINING = ("shared", "diverted")
PRICES = ("shared", "split")
_PARTS = "parts"


@dataclass(frozen=True, eq=False)
class Experiment:
    """Naive estimates of experiments beside total effects, and the arrivals behind them."""

    folder: Path
    """The run folder."""
    agents: tuple[str, str]
    """Texts of A and B."""
    table: pd.DataFrame
    """Columns design, training, prices, seed, metric, naive, low, high, total_effect."""
    arrivals: pd.DataFrame
    """What :func:`rimsim.scenarios.experimenting.figures.arrivals_table` gives; also training and prices."""


@dataclass(frozen=True)
class _Task:
    """A seed at which all designs are played; plain data, so that it can cross to another process."""

    config: ScenarioConfig
    seed: int
    agents: tuple[str, str]
    settings: tuple[tuple[str, str, str], ...]
    """Design, training and prices of each experiment."""
    interval: float
    folder: Path


def experiment(
    control: str,
    treatment: str,
    *,
    design: Sequence[str] = ("user",),
    training: Sequence[str] = ("shared",),
    prices: Sequence[str] = ("shared",),
    interval: str = "1d",
    scenario: str | Path | ScenarioConfig = "closed-loop",
    rounds: int | None = None,
    seeds: int | Sequence[int] = (0, 1),
    data: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    command: str | None = None,
    console: Console | None = None,
) -> Experiment:
    """Compare two agents as an A/B test on one market would, and set its estimates beside the total effect.

    Args:
        control: A: what :func:`rimsim.agents.make_agent` understands.
        treatment: B.
        design: Some of :data:`rimsim.scenarios.experimenting.designs.DESIGNS`.
        training: ``shared``: one model learns from all; ``diverted``: each arm's model from its own arrivals.
        prices: ``shared``: floors are one budget, which both arms deliver; ``split``: each arm has half of every floor.
        interval: Length of a block of a switchback, a duration.
        scenario: Name, path of a YAML file, or a record.
        rounds: Replaces the scenario's rounds; figures are of the late ones.
        seeds: How many, from 0, or which.
        data: Replaces ``data.source``.
        settings: Other fields to replace, by dotted name.
        out: The folder; None: ``runs/experiment-<time>``.
        workers: Seeds at once; None: one a core.
        command: The command line, to be recorded.
        console: Where progress is shown; None: nowhere.

    Raises:
        ConfigError: If a design, an agent, a scenario or the seeds do not fit.
        RunFolderError: If the folder is in use or holds something.
    """
    config, numbers = resolved(scenario, rounds, data, settings), chosen_seeds(seeds)
    agents = (control, treatment)
    chosen, seconds = _settings(design, training, prices), _seconds(interval)
    with own_code([*agents, *own_places(config)]):
        for text in agents:
            make_agent(text)
        build_world(config)
    folder = folder_for(out, "experiment")
    tasks = [_Task(config, seed, agents, chosen, seconds, folder) for seed in numbers]
    require_free(folder)
    with locked(folder):
        about = {
            "design": list(design),
            "training": list(training),
            "prices": list(prices),
            "interval": interval,
        }
        write_yaml(
            folder / CONFIG,
            {
                "command": command or "rimsim.scenarios.experiment",
                "experiment": {"agents": list(agents)} | about,
                "seeds": list(numbers),
                "scenario": to_plain(config),
                "versions": versions(),
            },
        )
        markets = 2 + sum(1 + (learns == "diverted") for _, learns, _ in tasks[0].settings)
        total = markets * sum(expected_arrivals(task.config) for task in tasks)
        with executor(Execution(workers=workers, console=console)) as run_jobs:
            run_stages([Stage("arrivals served", _play, tasks, total)], run_jobs, console)
        for name in ("experiment", "arrivals"):
            parts = [read_table(folder / _PARTS / f"{name}-{seed}.parquet") for seed in numbers]
            write_table(folder / f"{name}.parquet", pd.concat(parts, ignore_index=True))
        shutil.rmtree(folder / _PARTS)
        done = load_experiment(folder)
        draw_experiment(done.table, agents, folder / "pictures")
    return done


def load_experiment(path: str | Path) -> Experiment:
    """Open the folder of an experiment.

    Raises:
        RunFolderError: If it is none.
    """
    run: Run = load_run(path, "experiment")
    first, second = run.config["experiment"]["agents"]
    return Experiment(run.folder, (str(first), str(second)), run.experiment, run.arrivals)


def _seconds(interval: str) -> float:
    """The seconds of a duration."""
    try:
        return duration_seconds(interval)
    except ValueError as error:
        raise ConfigError(f"--interval: {error}") from None


def _settings(
    design: Sequence[str], training: Sequence[str], prices: Sequence[str]
) -> tuple[tuple[str, str, str], ...]:
    """Every combination that is an experiment.

    Raises:
        ConfigError: If a word is none of its kind, or nothing is left.
    """
    for name, words, allowed in (
        ("design", design, DESIGNS),
        ("training", training, TRAINING),
        ("prices", prices, PRICES),
    ):
        for word in words:
            if word not in allowed:
                raise ConfigError(f"--{name}: {word!r}.{nearest(word, allowed)}")
    found = []
    for one in design:
        for learns in training:
            if one == "item" and learns == "diverted":
                continue  # arrivals have no arm: there is nothing to divert by
            for floor in ("split",) if one == "budget-split" else prices:
                if one in {"item", "two-sided"} and floor == "split":
                    continue  # an item's floor is that of its own arm already
                found.append((one, learns, floor))
    if not found:
        raise ConfigError(
            "--design: item with --training diverted or --prices split; allowed: shared (arrivals have no arm there)"
        )
    return tuple(dict.fromkeys(found))


def _play(task: _Task, report: Callable[[int], None]) -> None:
    """Play the worlds of a seed and all its experiments, and leave their tables."""
    with own_code([*task.agents, *own_places(task.config)]):
        world = build_world(task.config)
        tail = tail_of(np.bincount(world.past.item, minlength=world.log.n_items))
        worlds = [play_world(task.config, task.seed, agent, report) for agent in task.agents]
        effects = total_effects(worlds, tail)
        rows, arrivals = [], []
        for design, training, prices in task.settings:
            assignment = Assignment(design, task.seed, task.interval)
            rounds = play_experiment(
                task.config,
                task.seed,
                task.agents,
                assignment,
                diverted=training == "diverted",
                shared=prices == "shared",
                report=report,
            )
            keys = {"design": design, "training": training, "prices": prices, "seed": task.seed}
            for metric, (naive, low, high) in estimates(rounds, assignment, tail).items():
                found = {"metric": metric, "naive": naive, "low": low, "high": high}
                rows.append(keys | found | {"total_effect": effects[metric]})
            table = arrivals_table(rounds, assignment, tail, task.seed)
            arrivals.append(table.assign(training=training, prices=prices))
    write_table(task.folder / _PARTS / f"experiment-{task.seed}.parquet", pd.DataFrame(rows))
    write_table(
        task.folder / _PARTS / f"arrivals-{task.seed}.parquet", pd.concat(arrivals, ignore_index=True)
    )
