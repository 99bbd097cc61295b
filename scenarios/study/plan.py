"""An experiment on disk: agents in a scenario at some seeds, begun, gone on with, and gathered."""

from __future__ import annotations

import dataclasses
import shutil
from collections import defaultdict
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

import pandas as pd
import yaml

from rimsim.agents import make_agent
from rimsim.config import ScenarioConfig, to_plain
from rimsim.errors import ArmsError, ConfigError, RunFolderError, nearest
from rimsim.intensity.cache import cache_folder, log_digest
from rimsim.loading import files_of, nearest_file
from rimsim.market import build_world
from rimsim.market.world import check_model
from rimsim.scenarios.report.report import catalogue, draw_pictures
from rimsim.scenarios.store.load_report import as_plain
from rimsim.scenarios.store.run_folder import (
    BEGUN,
    CATALOGUE,
    CONFIG,
    FAILURES,
    Run,
    disk_told,
    load_run,
    versions,
    write_table,
    write_text,
)
from rimsim.scenarios.study.arm import FROZEN, Arm, agent_name, part_name
from rimsim.scenarios.study.resume_options import flat
from rimsim.tracking import write_summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rimsim.errors import RimsimError

__all__ = [
    "Experiment",
    "begin",
    "changes",
    "experiment",
    "failed_arms",
    "gather",
    "require_unchanged",
    "tasks",
]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a run folder is to hold, checked."""

    config: ScenarioConfig
    """The scenario."""
    arms: tuple[tuple[str, str, bool], ...]
    """(text, name, frozen) of every arm."""
    seeds: tuple[int, ...]
    """The seeds."""
    certify: bool
    """Compute certificates of every round."""
    ledger: bool
    """Write the ledger."""


def experiment(
    config: ScenarioConfig,
    agents: Sequence[str],
    seeds: int | Sequence[int],
    frozen: Sequence[str] | None,
    *,
    certify: bool,
    ledger: bool,
) -> Experiment:
    """Check what is to be run, before anything is written.

    Args:
        config: The scenario.
        agents: As they stand on a command line.
        seeds: How many seeds, from 0, or which.
        frozen: Agents that also get an arm whose model is never retrained. None: ``relevance``, or the first agent,
            where the scenario retrains.
        certify: Compute certificates of every round.
        ledger: Write the ledger.

    Raises:
        ConfigError: If agents, model or seeds do not fit, or the slate the catalogue.
        DataError: If the log cannot be read.
        RunFolderError: If the cache cannot be written to.
    """
    arms = tuple(_checked_arms(config, agents, frozen))
    numbers = tuple(_seeds(seeds))
    check_model(config.platform)
    with disk_told(cache_folder()):
        build_world(config)  # a bad log or slate is told before anything is written
    return Experiment(config, arms, numbers, certify, ledger)


def begin(plan: Experiment, folder: Path, command: str) -> None:
    """Write the config of an experiment into its folder.

    Raises:
        RunFolderError: If the folder holds a run.
    """
    if (folder / CONFIG).exists():
        raise RunFolderError(f"{folder}: already holds a run; allowed: a new folder, or to resume it")
    world = build_world(plan.config)
    agents = [text for text, _, is_frozen in plan.arms if not is_frozen]
    described = {
        "command": command,
        "arms": [name for _, name, _ in plan.arms],
        "agents": agents,
        "frozen": [text for text, _, is_frozen in plan.arms if is_frozen],
        "seeds": list(plan.seeds),
        "certify": plan.certify,
        "ledger": plan.ledger,
        "scenario": to_plain(plan.config),
        "truth": None if world.truth is None else dataclasses.asdict(world.truth.report),
        "log": as_plain(world.log),
        "digests": _digests(plan.config, agents),
        "versions": versions(),
    }
    write_table(folder / CATALOGUE, catalogue(world))
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    write_text(folder / BEGUN, text)
    write_text(folder / CONFIG, text)


def tasks(folder: Path, batch_size: int | None, labels: Mapping[str, object] | None = None) -> list[Arm]:
    """What is to be run for a folder that was begun; arms that are complete cost nothing.

    Args:
        folder: The run folder.
        batch_size: Arrivals a batch at most; results do not depend on it.
        labels: Fields to show beside each arm in TensorBoard's table of hyperparameters.
    """
    run = load_run(folder)
    config, about = run.scenario, run.config
    arms = _checked_arms(config, about["agents"], about["frozen"])
    return [
        Arm(
            config=config,
            agent=text,
            name=name,
            frozen=is_frozen,
            seed=seed,
            folder=folder,
            batch_size=batch_size,
            certify=about["certify"],
            ledger=about["ledger"],
            labels=tuple((labels or {}).items()),
        )
        for seed in run.seeds
        for text, name, is_frozen in arms
    ]


def gather(folder: Path, arms: Sequence[Arm], failures: Mapping[int, RimsimError]) -> Run:
    """Join the tables of the arms that are complete and draw.

    Args:
        folder: The run folder.
        arms: What was run, as :func:`tasks` gave it.
        failures: Position in it → what went wrong.

    Raises:
        ArmsError: If arms failed; the others have been joined, and the run can be resumed.
    """
    run = load_run(folder)
    if not failures:
        _join(folder, run.agents, keep_parts=False)
        return load_run(folder)
    told = failed_arms(arms, failures)
    _keep(arms, failures)
    if len(failures) < len(arms):
        try:
            _join(folder, run.agents, keep_parts=True)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not hide why the arms failed
            told += f"\n  the other arms are complete, but not drawn: {type(error).__name__}: {error}"
    raise ArmsError(f"{told}\ntracebacks: {folder / FAILURES}/", str(folder))


def failed_arms(arms: Sequence[Arm], failures: Mapping[int, RimsimError]) -> str:
    """Say which arms failed and why, a line an arm.

    Args:
        arms: What was run.
        failures: Position in it → what went wrong.
    """
    told = sorted(
        (_at(arms[number]), arms[number].seed, " ".join(str(error).splitlines()))
        for number, error in failures.items()
    )
    text = "".join(f"\n  {where}, seed {seed}: {error}" for where, seed, error in told)
    return f"{len(failures)} of {len(arms)} arms failed:{text}"


def _at(arm: Arm) -> str:
    """An arm's name, and at which point of a sweep it is."""
    return ", ".join([arm.name, *(f"{field}={value}" for field, value in arm.labels)])


def _keep(arms: Sequence[Arm], failures: Mapping[int, RimsimError]) -> None:
    """Let every failed arm leave something to be found later, also one whose process died."""
    for number, error in failures.items():
        arm = arms[number]
        trouble = arm.folder / FAILURES / f"{part_name(arm.name, arm.seed)}.txt"
        with suppress(OSError):  # on a full disk nothing more can be left
            if not trouble.is_file():
                write_text(trouble, f"{error}\n")


def require_unchanged(run: Run) -> None:
    """Refuse to go on where another version, config, log or agent would: the tables would mix two experiments.

    Raises:
        RunFolderError: If something has changed; it names what.
    """
    begun = run.folder / BEGUN
    if not begun.is_file():
        raise RunFolderError(
            f"{run.folder}: {BEGUN} is missing; allowed: a run that was interrupted, or a new one"
        )
    before, now = flat(yaml.safe_load(begun.read_text(encoding="utf-8"))), flat(run.config)
    edited = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in before | now
        if before.get(name) != now.get(name)
    ]
    told = [f"its config was edited: {'; '.join(edited)}"] if edited else changes(run)
    if told:
        raise RunFolderError(f"{run.folder}: {'; '.join(told)}; allowed: as it began, or a new run")


def changes(run: Run) -> list[str]:
    """What has changed of what a run hangs on beside its config: versions, the log, files of agents and model.

    Args:
        run: The run.
    """
    here = versions()
    other = [
        f"{name} {made} there, {here.get(name)} here"
        for name, made in run.config["versions"].items()
        if here.get(name) != made
    ]
    found = _digests(run.scenario, run.config["agents"])
    changed = [name for name, value in run.config["digests"].items() if found.get(name) != value]
    told = [f"made with other versions: {'; '.join(other)}"] if other else []
    return told + ([f"changed since the run began: {', '.join(changed)}"] if changed else [])


def _digests(config: ScenarioConfig, agents: Sequence[str]) -> dict[str, str]:
    """What a run hangs on beside its config: the content of the log and of the files of agents and model."""
    files = files_of([*agents, config.platform.model])
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{file}: no such file.{nearest_file(file)}")
    return {"log": log_digest(build_world(config).log)} | {
        str(file): sha256(file.read_bytes()).hexdigest() for file in files
    }


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    numbers = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise ConfigError(
            f"seeds: {seeds!r}; allowed: a positive number of seeds, or distinct seeds from 0 up"
        )
    return numbers


def _check_audience(config: ScenarioConfig, agents: Sequence[str]) -> None:
    for text in agents:
        if config.arrivals.kind != "broadcast" and getattr(make_agent(text), "needs_audience", False):
            raise ConfigError(
                f"agent {text!r} needs to know who arrives, but arrivals.kind is {config.arrivals.kind!r}; "
                "allowed: 'broadcast', as in the scenarios offline-match and user-rec"
            )


def _checked_arms(
    config: ScenarioConfig, agents: Sequence[str], frozen: Sequence[str] | None
) -> list[tuple[str, str, bool]]:
    """(text, name, frozen) of every arm; checks each agent before anything runs."""
    if not agents:
        raise ConfigError("agents: none given; allowed: at least one")
    _check_audience(config, agents)
    names = {text: agent_name(text) for text in agents}
    for text, name in names.items():
        if name.endswith(FROZEN):
            raise ConfigError(
                f"agent {text!r} is called {name!r}; allowed: a name that does not end in {FROZEN!r}"
            )
    called = [names[text] for text in agents]
    if doubled := [name for name in names.values() if called.count(name) > 1]:
        raise ConfigError(f"agents: two are called {doubled[0]!r}; allowed: distinct names")
    if frozen is None:
        usual = [text for text in agents if names[text] == "relevance"] or [agents[0]]
        frozen = usual if config.platform.retrain and config.rounds > 1 else []
    for text in frozen:
        if text not in names:
            raise ConfigError(f"frozen: {text!r} is not among the agents.{nearest(text, agents)}")
    if any(getattr(make_agent(text), "needs_truth", False) for text in frozen):
        raise ConfigError("frozen: a bound does not use the model; allowed: agents that do")
    return [(text, names[text], False) for text in agents] + [
        (text, names[text] + FROZEN, True) for text in frozen
    ]


def _join(folder: Path, names: list[str], *, keep_parts: bool) -> None:
    """Join the arms' tables, sorted so that equal runs have equal tables, and draw."""
    parts = defaultdict(list)
    for path in sorted((folder / "rounds").glob("*.parquet")):
        table = pd.read_parquet(path)
        parts[str(table["agent"].iloc[0])].append(table)
    ordered = [table for name in names for table in parts[name]]
    rounds = pd.concat(ordered, ignore_index=True)
    rank = rounds["agent"].map({name: n for n, name in enumerate(names)})
    rounds = rounds.assign(_rank=rank).sort_values(["_rank", "seed", "round", "metric"], kind="stable")
    rounds = rounds.drop(columns="_rank").reset_index(drop=True)
    write_summary(folder, rounds)
    draw_pictures(Run(folder))
    if not keep_parts:  # with arms missing, the run can still be resumed
        write_table(folder / "rounds.parquet", rounds)
        shutil.rmtree(folder / "rounds")
        shutil.rmtree(folder / "state")
