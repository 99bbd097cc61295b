"""Experiments on one market: naive estimates and total effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from rich.console import Console

from rimsim.agents import make_agent
from rimsim.config import ScenarioConfig, to_plain
from rimsim.config.fields import duration_seconds
from rimsim.errors import ConfigError, require_known
from rimsim.evaluation.designs import DESIGNS, Assignment
from rimsim.market import build_world
from rimsim.market.world import expected_arrivals, own_places
from rimsim.scenarios.kinds import results
from rimsim.scenarios.kinds.experiment.arms import play_experiment, play_world
from rimsim.scenarios.kinds.experiment.effects import arrivals_table, estimates, tail_of, total_effects
from rimsim.scenarios.kinds.experiment.report import experiment_report
from rimsim.scenarios.report.charts import draw
from rimsim.scenarios.runs.arms import chosen_seeds
from rimsim.scenarios.runs.execution import Execution
from rimsim.scenarios.runs.job import Job, all_or_nothing, make_run
from rimsim.scenarios.runs.locks import folder_for
from rimsim.scenarios.runs.store import RunFolder
from rimsim.scenarios.study.checks import LogArguments, resolved
from rimsim.user_code import own_code

TRAINING = ("shared", "diverted")
PRICES = ("shared", "split")
Setting: TypeAlias = tuple[str, str, str]  # design, training and prices of an experiment


class Experiment(results.RunResult):
    """Experiment on disk, with the tables ``experiment`` (attribute ``table``) and ``arrivals``."""

    @property
    def agents(self) -> tuple[str, str]:
        """Texts of agents A and B."""
        first, second = map(str, self.described["experiment"]["agents"])
        return first, second


@dataclass(frozen=True)
class ExperimentOptions(LogArguments):
    """Designs of an experiment, its market, and its log."""

    design: Sequence[str] = ("user",)
    """Designs of the experiment, names from :data:`rimsim.evaluation.designs.DESIGNS`."""
    training: Sequence[str] = ("shared",)
    """Training events. ``shared``: one model learns from both arms. ``diverted``: each arm has a model that learns from
    its own arrivals."""
    prices: Sequence[str] = ("shared",)
    """Guarantees. ``shared``: floors are one budget, which both arms deliver. ``split``: each arm has half of every
    floor."""
    interval: str = "1d"
    """Length of a block of a switchback, as a duration."""
    scenario: str | Path | ScenarioConfig = "closed-loop"
    """Name of a scenario, path of a YAML file, or a record."""
    rounds: int | None = None
    """Number of rounds; None: the scenario's. Results are means over late rounds."""
    seeds: int | Sequence[int] = (0, 1, 2)
    """Number of seeds, counted from 0, or a list of seeds."""
    settings: Mapping[str, object] | None = None
    """Further fields to replace, by dotted name."""

    @property
    def seconds(self) -> float:
        """Length of the interval in seconds."""
        try:
            return duration_seconds(self.interval)
        except ValueError as error:
            raise ConfigError(f"--interval: {error}") from None

    @property
    def played(self) -> tuple[Setting, ...]:
        """Design, training and prices of every experiment."""
        for name, allowed in (("design", DESIGNS), ("training", TRAINING), ("prices", PRICES)):
            require_known(f"--{name}: {{}}", getattr(self, name), allowed)
        settings_of_designs: list[Setting] = []
        for design, training in product(self.design, self.training):
            if design == "item" and training == "diverted":
                continue  # only items have arms here, so no model can learn from the arrivals of its own arm
            floors = ("split",) if design == "budget-split" else self.prices
            # If items are split, each floor belongs to one arm already. So half of a floor would not be a guarantee.
            keeps_prices = design in {"item", "two-sided"}
            settings_of_designs += [
                (design, training, floor) for floor in floors if not (keeps_prices and floor == "split")
            ]
        if not settings_of_designs:
            raise ConfigError(
                "--design item assigns no arrivals to arms, so --training diverted and --prices split "
                "cannot be used. Set both to shared"
            )
        return tuple(dict.fromkeys(settings_of_designs))


@all_or_nothing()
def experiment(
    control: str,
    treatment: str,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    command: str | None = None,
    console: Console | None = None,
    **options: Any,
) -> Experiment:
    """Compare two agents by A/B tests on one market.

    The result also has the total effect: the difference between two complete markets.

    Args:
        control: Agent A, as a text that :func:`rimsim.agents.make_agent` understands.
        treatment: Agent B, as a text for :func:`rimsim.agents.make_agent`.
        out: The folder; None: ``runs/experiment-<time>``.
        workers: Number of parallel seeds; None: one per core.
        command: The command line, to be recorded.
        console: Console that shows progress bars; None: no bars.
        **options: Fields of :class:`ExperimentOptions`.

    Raises:
        ConfigError: If a design, an agent, a scenario or the seeds are not valid.
        RunFolderError: If the folder is in use or is not empty.
    """
    chosen = ExperimentOptions(**options)
    config = resolved(chosen.scenario, chosen.rounds, chosen, chosen.settings)
    seeds = chosen_seeds(chosen.seeds)
    agents = (control, treatment)
    settings_of_designs = chosen.played
    interval = chosen.seconds
    with own_code([*agents, *own_places(config)]):
        for text in agents:
            make_agent(text)
        build_world(config)
    options_as_given = {name: list(getattr(chosen, name)) for name in ("design", "training", "prices")}
    described = {
        "experiment": {"agents": list(agents), **options_as_given, "interval": chosen.interval},
        "seeds": list(seeds),
        "scenario": to_plain(config),
    }
    # Markets per seed: two complete markets, and one for each experiment, or two if each arm has a model.
    n_markets = 2 + sum(1 + (training == "diverted") for _, training, _ in settings_of_designs)
    total = n_markets * len(seeds) * expected_arrivals(config)
    play = partial(_play, config, agents, settings_of_designs, interval)
    job = Job(described, seeds, play, _draw, bar="arrivals served", total=total)
    execution = Execution(workers=workers, console=console)
    run = make_run(job, folder_for(out, "experiment"), command or "rimsim.scenarios.experiment", execution)
    return Experiment(run.folder)


def _draw(run: RunFolder) -> None:
    """Write the pictures of the report."""
    draw(experiment_report(run).plots, run.folder / "pictures")


def load_experiment(path: str | Path) -> Experiment:
    """Open the folder of an experiment."""
    return Experiment(RunFolder.open(path, "experiment").folder)


def _play(
    config: ScenarioConfig,
    agents: tuple[str, str],
    settings: Sequence[Setting],
    interval: float,
    seed: int,
    report: results.Count,
) -> dict[str, pd.DataFrame]:
    """Tables of the markets and experiments at a seed."""
    with own_code([*agents, *own_places(config)]):
        world = build_world(config)
        tail = tail_of(np.bincount(world.past.item, minlength=world.log.n_items))
        effects = total_effects([play_world(config, seed, agent, report) for agent in agents], tail)
        rows = []
        arrivals = []
        for design, training, prices in settings:
            assignment = Assignment(design, seed, interval)
            rounds = play_experiment(
                config,
                seed,
                agents,
                assignment,
                diverted=training == "diverted",
                shared=prices == "shared",
                report=report,
            )
            keys = {"design": design, "training": training, "prices": prices, "seed": seed}
            for metric, estimate in estimates(rounds, assignment, tail).items():
                rows.append({**keys, "metric": metric, **estimate._asdict(), "total_effect": effects[metric]})
            table = arrivals_table(rounds, assignment, tail, seed)
            arrivals.append(table.assign(training=training, prices=prices))
    return {"experiment": pd.DataFrame(rows), "arrivals": pd.concat(arrivals, ignore_index=True)}
