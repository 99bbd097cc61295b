"""Off-policy evaluation of a run: its log is made again, valued for a target, and set beside the target's own world."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from rimsim.agents import StatingAgent, make_agent
from rimsim.errors import ConfigError, nearest
from rimsim.market.world import expected_arrivals, own_places
from rimsim.plugs import own_code
from rimsim.scenarios.evaluating.figures import estimates
from rimsim.scenarios.evaluating.pictures import draw_evaluation
from rimsim.scenarios.evaluating.replay import replayed, true_values
from rimsim.scenarios.runs.job import Execution, Stage, chosen_seeds, executor, run_stages
from rimsim.scenarios.runs.status import part_name
from rimsim.scenarios.runs.store import load_run, locked, read_table, write_table

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.config import ScenarioConfig
    from rimsim.scenarios.runs.store import Run


OPE = "ope.parquet"
_PARTS = "ope"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What estimators say of a target on the log of a run, beside the truth."""

    folder: Path
    """The run folder."""
    logged: str
    """Name of the agent that showed slates."""
    target: str
    """Name of the agent that was valued."""
    table: pd.DataFrame
    """What :func:`rimsim.scenarios.evaluating.figures.estimates` gives, for all seeds."""


@dataclass(frozen=True)
class _Task:
    """A seed to be evaluated; plain data, so that it can cross to another process."""

    config: ScenarioConfig
    seed: int
    logged: str
    target: str
    folder: Path


def ope(
    run: str | Path,
    target: str,
    *,
    logged: str | None = None,
    seeds: int | Sequence[int] | None = None,
    workers: int | None = None,
    console: Console | None = None,
) -> Evaluation:
    """Value a target on the log of an agent of a run, and set it beside what the target is worth in the same world.

    The log is made again, which a run's config and seeds determine to the last bit, and the target is asked in each
    of its states. Estimates, intervals and truths are added to ``ope.parquet`` of the run folder.

    Args:
        run: Folder of a comparison.
        target: What :func:`rimsim.agents.make_agent` understands.
        logged: One of the run's agents, which says the chances of its slates; None: the first that does.
        seeds: How many, from 0, or which; None: those of the run.
        workers: Seeds at once; None: one a core.
        console: Where progress is shown; None: nowhere.

    Raises:
        ConfigError: If there is no such agent or seed, or one cannot say its chances.
        RunFolderError: If the folder holds no comparison, or is in use.
    """
    begun = load_run(run, "comparison")
    shows = _logged(begun, logged)
    with own_code([target]):
        names = make_agent(shows).name, make_agent(target).name
    chosen = begun.seeds if seeds is None else chosen_seeds(seeds)
    tasks = [_Task(begun.scenario, seed, shows, target, begun.folder) for seed in chosen]
    with locked(begun.folder):
        total = 2 * sum(expected_arrivals(task.config) for task in tasks)
        with executor(Execution(workers=workers, console=console)) as run_jobs:
            run_stages([Stage("arrivals valued and served", _evaluate, tasks, total)], run_jobs, console)
        parts = begun.folder / _PARTS
        table = pd.concat([read_table(parts / f"{part_name(names[1], seed)}.parquet") for seed in chosen])
        shutil.rmtree(parts)
        done = Evaluation(begun.folder, *names, table.reset_index(drop=True))
        write_table(begun.folder / OPE, _with_others(done))
        draw_evaluation(done.table, begun.folder / "pictures")
    return done


def _logged(run: Run, text: str | None) -> str:
    """Text of the agent whose log is valued."""
    agents = [str(agent) for agent in run.config["agents"]]
    if text is not None:
        if text not in agents:
            raise ConfigError(f"--logged: {text!r} is not among the run's agents.{nearest(text, agents)}")
        return text
    for agent in agents:
        with own_code([agent]):
            if isinstance(make_agent(agent), StatingAgent):
                return agent
    raise ConfigError(
        f"{run.folder}: none of its agents ({', '.join(agents)}) says with which chance it shows its slates; allowed: "
        "a run with random, epsilon-greedy or entropic-dual"
    )


def _with_others(done: Evaluation) -> pd.DataFrame:
    """The table of the folder with what is new in place of what was said of the same pair before."""
    path = done.folder / OPE
    if not path.is_file():
        return done.table
    before = read_table(path)
    same = (before["logged"] == done.logged) & (before["target"] == done.target)
    return pd.concat([before[~same], done.table], ignore_index=True)


def _evaluate(task: _Task, report: Callable[[int], None]) -> None:
    """Evaluate one seed and leave its table."""
    with own_code([task.logged, task.target, *own_places(task.config)]):
        rounds = replayed(task.config, task.seed, task.logged, task.target, report)
        world = true_values(task.config, task.seed, task.target, report)
    logged, target = make_agent(task.logged).name, make_agent(task.target).name
    table = estimates(rounds, world, logged=logged, target=target, seed=task.seed)
    write_table(task.folder / _PARTS / f"{part_name(target, task.seed)}.parquet", table)
