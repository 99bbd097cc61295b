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
from matplotlib.figure import Figure
from rich.console import Console

from rimsim.agents import make_agent
from rimsim.arrays import Bools, Floats, Ints
from rimsim.config import ScenarioConfig, to_plain
from rimsim.config.fields import duration_seconds
from rimsim.errors import ConfigError, many, require_known
from rimsim.evaluation.designs import DESIGNS, Assignment, NaiveEstimate, Outcome, contrast
from rimsim.evaluation.off_policy import apart
from rimsim.market import build_world
from rimsim.market.world import expected_arrivals, own_places
from rimsim.measures.loop import late_rounds
from rimsim.plugs import own_code
from rimsim.scenarios.kinds import results
from rimsim.scenarios.kinds.experiment.market import WorldRound, play_experiment, play_world
from rimsim.scenarios.report.console import picture_places
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.report.sentences import as_yaml
from rimsim.scenarios.runs.job import Execution, Job, chosen_seeds, make_run
from rimsim.scenarios.runs.store import Run, folder_for, load_run
from rimsim.scenarios.study.checks import resolved

TRAINING = ("shared", "diverted")
PRICES = ("shared", "split")
METRICS = {
    "utility": "consumptions of a slate",
    "tail_exposure": "share of a slate that goes to items beyond the most consumed tenth of the warm-up log",
}
"""Metric → meaning, per arrival."""
_HEAD = 0.1  # share of the items that are no tail
_LABELS = ("design", "training", "prices")

Setting: TypeAlias = tuple[str, str, str]  # design, training and prices


class Experiment(results.RunResult):
    """Experiment on disk, with the tables ``experiment`` (attribute ``table``) and ``arrivals``."""

    @property
    def agents(self) -> tuple[str, str]:
        """Texts of agents A and B."""
        first, second = map(str, self.described["experiment"]["agents"])
        return first, second


@dataclass(frozen=True)
class ExperimentOptions:
    """Designs of an experiment, and its market."""

    design: Sequence[str] = ("user",)
    """Some of :data:`rimsim.evaluation.designs.DESIGNS`."""
    training: Sequence[str] = ("shared",)
    """``shared``: one model learns from all; ``diverted``: each arm's model from its own arrivals."""
    prices: Sequence[str] = ("shared",)
    """``shared``: floors are one budget, which both arms deliver; ``split``: each arm has half of every floor."""
    interval: str = "1d"
    """Length of a block of a switchback, a duration."""
    scenario: str | Path | ScenarioConfig = "closed-loop"
    """Name, path of a YAML file, or a record."""
    rounds: int | None = None
    """Number of rounds, instead of the scenario's; figures are of the late rounds."""
    seeds: int | Sequence[int] = (0, 1)
    """Number of seeds, from 0, or a list."""
    data: str | Path | None = None
    """Replaces ``data.source``."""
    settings: Mapping[str, object] | None = None
    """Other fields to replace, by dotted name."""

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
        found: list[Setting] = []
        for one, learns in product(self.design, self.training):
            if one == "item" and learns == "diverted":
                continue  # arrivals have no arm: there is nothing to divert by
            # An item's floor is that of its own arm already.
            floors = ("split",) if one == "budget-split" else self.prices
            alone = one in {"item", "two-sided"}
            found += [(one, learns, floor) for floor in floors if not (alone and floor == "split")]
        if not found:
            raise ConfigError(
                "--design item assigns no arrivals to arms, so --training diverted and --prices split "
                "cannot be used. Set both to shared"
            )
        return tuple(dict.fromkeys(found))


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
    asked = ExperimentOptions(**options)
    config = resolved(asked.scenario, asked.rounds, asked.data, asked.settings)
    numbers = chosen_seeds(asked.seeds)
    agents, played, interval = (control, treatment), asked.played, asked.seconds
    with own_code([*agents, *own_places(config)]):
        for text in agents:
            make_agent(text)
        build_world(config)
    words = {name: list(getattr(asked, name)) for name in ("design", "training", "prices")}
    described = {
        "experiment": {"agents": list(agents), **words, "interval": asked.interval},
        "seeds": list(numbers),
        "scenario": to_plain(config),
    }
    markets = 2 + sum(1 + (learns == "diverted") for _, learns, _ in played)
    total = markets * len(numbers) * expected_arrivals(config)
    play = partial(_play, config, agents, played, interval)
    job = Job(described, numbers, play, bar="arrivals served", total=total)
    execution = Execution(workers=workers, console=console)
    run = make_run(job, folder_for(out, "experiment"), command or "rimsim.scenarios.experiment", execution)
    return Experiment(run.folder)


def load_experiment(path: str | Path) -> Experiment:
    """Open the folder of an experiment."""
    return Experiment(load_run(path, "experiment").folder)


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
        rows, arrivals = [], []
        for design, training, prices in settings:
            assignment = Assignment(design, seed, interval)
            arms = {"diverted": training == "diverted", "shared": prices == "shared"}
            rounds = play_experiment(config, seed, agents, assignment, **arms, report=report)
            keys = {"design": design, "training": training, "prices": prices, "seed": seed}
            for metric, found in estimates(rounds, assignment, tail).items():
                rows.append({**keys, "metric": metric, **found._asdict(), "total_effect": effects[metric]})
            table = arrivals_table(rounds, assignment, tail, seed)
            arrivals.append(table.assign(training=training, prices=prices))
    return {"experiment": pd.DataFrame(rows), "arrivals": pd.concat(arrivals, ignore_index=True)}


def tail_of(events: Ints) -> Bools:
    """Items outside the most consumed tenth of the warm-up log."""
    order = np.argsort(-events, kind="stable")
    tail = np.ones(len(events), bool)
    tail[order[: max(1, round(_HEAD * len(events)))]] = False
    return tail


def _values(metric: str, came: Floats, item: Ints, tail: Bools) -> Floats:
    """(n, k) value of each position under a metric."""
    if metric == "utility":
        return came
    return np.asarray(((item >= 0) & tail[np.maximum(item, 0)]) / item.shape[1], np.float64)


def _late(rounds: Sequence[WorldRound]) -> tuple[list[WorldRound], Ints]:
    """Late rounds, and the items of all their slates."""
    numbers = late_rounds(len(rounds))
    late = [one for one in rounds if one.number in numbers]
    return late, np.concatenate([one.item for one in late])


def estimates(rounds: Sequence[WorldRound], assignment: Assignment, tail: Bools) -> dict[str, NaiveEstimate]:
    """Naive estimate of each metric, over the late rounds."""
    late, item = _late(rounds)
    treated = np.concatenate([assignment.arrivals(one.user, one.time, one.number) for one in late])
    units = apart([one.user for one in late])
    if assignment.design == "switchback":
        units = np.concatenate([assignment.block(one.time) for one in late])
    came = np.concatenate([one.consumed for one in late]).astype(np.float64)
    of_units = units, treated, assignment.items(len(tail))
    outcomes = {name: Outcome(_values(name, came, item, tail), item, *of_units) for name in METRICS}
    return {name: contrast(assignment.design, outcome) for name, outcome in outcomes.items()}


def total_effects(worlds: Sequence[Sequence[WorldRound]], tail: Bools) -> dict[str, float]:
    """Mean in agent B's market minus A's, over late rounds.

    Consumptions count with their true probability, which removes random noise.
    """
    means: list[dict[str, float]] = []
    for rounds in worlds:
        late, item = _late(rounds)
        came = np.concatenate([one.probability for one in late])
        means.append({name: float(_values(name, came, item, tail).sum(1).mean()) for name in METRICS})
    return {name: means[1][name] - means[0][name] for name in METRICS}


def arrivals_table(
    rounds: Sequence[WorldRound], assignment: Assignment, tail: Bools, seed: int
) -> pd.DataFrame:
    """Table of an experiment's arrivals, for other packages.

    Visitors are named ROUND-USER, dates follow the market's clock, and ``target`` is the number of consumptions.
    """
    parts = []
    for one in rounds:
        treated = assignment.arrivals(one.user, one.time, one.number)
        exposed = _values("tail_exposure", one.consumed.astype(float), one.item, tail)
        columns = {
            "seed": seed,
            "design": assignment.design,
            "round": one.number,
            "arrival": one.arrival,
            "user": [f"{one.number}-{user}" for user in one.user.tolist()],
            "date": pd.to_datetime(one.time, unit="s"),
            "block": assignment.block(one.time),
            "treatment": np.where(treated, "B", "A"),
            "target": one.consumed.sum(1).astype(np.float64),
            "tail_exposure": exposed.sum(1),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Estimates of designs over seeds, with bias by :func:`bias_over_seeds`.

    ``coverage`` is the share of seeds whose interval includes the total effect. ``power`` is the share of seeds whose
    interval excludes 0. ``sign`` is the share of seeds whose naive estimate has the sign of the mean total effect.
    """
    mean_total = table.groupby("metric")["total_effect"].transform("mean")
    holds = (table["low"] <= table["total_effect"]) & (table["total_effect"] <= table["high"])
    known = table["low"].notna()  # an arm of one unit has no interval
    work = table.assign(
        coverage=holds.astype(float).where(known),
        power=((table["low"] > 0) | (table["high"] < 0)).astype(float).where(known),
        sign=(np.sign(table["naive"]) == np.sign(mean_total)).astype(float).where(table["naive"].notna()),
    )
    shares = ("coverage", "power", "sign")
    return results.bias_over_seeds(work, (*_LABELS, "metric"), ("naive", "total_effect"), shares)


def experiment_report(run: Run) -> Report:
    """Report of an experiment."""
    agents, config = Experiment(run.folder).agents, run.scenario
    found = summary(run.experiment)
    return Report(
        question=f"What does `{agents[1]}` bring beside `{agents[0]}`, and would an experiment on one market have "
        "found it?",
        setting=(
            config.name,
            many(config.rounds, "round"),
            many(len(run.seeds), "seed"),
            f"slates of {config.slate}",
        ),
        answer=tuple(_sentences(found)),
        sections=(
            Section(
                "Naive estimates and total effects",
                plots=(Plot("experiment", partial(_designs_against_total, found, agents)),),
                tables=tuple(_table(metric, found[found["metric"] == metric], agents) for metric in METRICS),
            ),
        ),
        settings=as_yaml(run.config["scenario"]),
        places=partial(picture_places, run.folder),
    )


def _sentences(found: pd.DataFrame) -> list[str]:
    """Sentences on designs that are biased beyond chance, by metric."""
    lines = []
    tested = found[found["error"].notna()]
    biased = tested["bias"].abs() > tested["half"]
    wide = ~biased & (tested["half"] >= tested["total_effect"].abs())
    groups = (
        (tested[biased], "biased beyond chance over these seeds"),
        (tested[~biased & ~wide], "no bias found over these seeds"),
        (
            tested[wide],
            "it cannot be told whether there is a bias, since its interval is wider than the effect",
        ),
    )
    for metric, (rows, words) in product(METRICS, groups):
        labels = [
            f"{row['design']} ({row['training']} training, {row['prices']} prices)"
            for row in rows[rows["metric"] == metric].to_dict("records")
        ]
        if labels:
            lines.append(f"{metric}: {words}: {'; '.join(labels)}.")
    few = (
        "fewer than two seeds have an estimate, which cannot separate bias from chance. Use --seeds 2 or more"
    )
    return lines or [f"{few}, and in a switchback a shorter --interval"]


def _table(metric: str, found: pd.DataFrame, agents: tuple[str, str]) -> TextTable:
    """Table of a metric, a row per design."""
    title = f"{agents[1]} − {agents[0]}: {metric} ({METRICS[metric]}); seeds: {found['seeds'].iloc[0]}"
    columns = {
        "naive": ("naive", "+.4f"),
        "± (95 %)": ("around", ".4f"),
        "total effect": ("total_effect", "+.4f"),
        "bias": ("bias", "+.4f"),
        "effect in interval": ("coverage", ".1%"),
        "power": ("power", ".1%"),
        "right sign": ("sign", ".1%"),
    }
    return results.bias_table(title, found, "design, training, prices", _LABELS, columns)


def _designs_against_total(found: pd.DataFrame, agents: tuple[str, str]) -> Figure:
    """Plot of designs' naive estimates against the total effect."""
    panels = []
    for metric in METRICS:
        rows = found[found["metric"] == metric]
        labels = [", ".join(row) for row in rows[list(_LABELS)].to_numpy().tolist()]
        total, title = float(rows["total_effect"].mean()), metric.replace("_", " ")
        panels.append(results.Panel(title, labels, rows["naive"], rows["width"], total, 0.0))
    return results.interval_panels(
        f"What {agents[1]} brings beside {agents[0]}: experiments on one market against two whole worlds",
        f"Dots: mean naive estimates over {int(found['seeds'].iloc[0])} seeds; bars: their mean 95 % intervals. "
        "Line: total effect. Dotted: none.",
        panels,
    )
