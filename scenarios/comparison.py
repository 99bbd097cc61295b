"""The main job: agents side by side in the closed loop, on common random numbers."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd
import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rimsim.agents import make_agent
from rimsim.config import ScenarioConfig, find_scenario, override, to_plain
from rimsim.errors import AgentError, ConfigError, RimsimError, RunFolderError
from rimsim.intensity.cache import log_digest
from rimsim.market import build_world
from rimsim.scenarios.arm import FROZEN, Arm, agent_name, prepare, run_arm
from rimsim.scenarios.interruption import stop_if_asked
from rimsim.scenarios.report import draw_pictures
from rimsim.scenarios.run_folder import (
    BEGUN,
    CONFIG,
    Run,
    load_run,
    locked,
    versions,
    write_table,
    write_text,
)
from rimsim.scenarios.workers import run_here, run_on_workers
from rimsim.tracking import write_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rimsim.data import EventLog

__all__ = ["DEFAULT_AGENTS", "compare", "resume"]

Task = TypeVar("Task")
DEFAULT_AGENTS = ("relevance", "rim-dual", "rim-feedback", "random")


def compare(
    scenario: str | ScenarioConfig = "closed-loop",
    agents: Sequence[str] = DEFAULT_AGENTS,
    rounds: int | None = None,
    seeds: int | Sequence[int] = 2,
    *,
    data: str | None = None,
    settings: dict[str, object] | None = None,
    frozen: Sequence[str] | None = None,
    out: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    certify: bool = True,
    ledger: bool = True,
    command: str | None = None,
    console: Console | None = None,
) -> Run:
    """Compare agents in a scenario: every agent at every seed, all on common random numbers.

    Args:
        scenario: Name of a built-in scenario, path of a YAML file, or a record.
        agents: What :func:`rimsim.agents.make_agent` understands, such as ``relevance`` or ``my_agent.py:Mine``.
        rounds: Replaces the scenario's rounds.
        seeds: How many seeds, from 0, or which.
        data: Replaces ``data.source``.
        settings: Other fields to replace, by dotted name.
        frozen: Agents that also get an arm whose model is never retrained. None: ``relevance``, or the first agent,
            where the scenario retrains.
        out: The run folder; None: ``runs/<scenario>-<time>``.
        batch_size: Arrivals a batch at most; results do not depend on it.
        workers: Processes; None: one a core; 1: no other process. Results do not depend on it.
        certify: Compute certificates (V, D(w), gap) of every round.
        ledger: Write the ledger.
        command: The command line, to be recorded.
        console: Where progress is shown; None: nowhere.

    Returns:
        The run, with its tables.

    Raises:
        ConfigError: If scenario, agents, seeds or workers do not fit; nothing has been written then.
        DataError: If the log cannot be read.
        AgentError: If arms failed; the others are complete.
        RunFolderError: If the folder is in use or holds another run.
    """
    config = _resolved(scenario, rounds, data, settings)
    numbers = _seeds(seeds)
    arms = _arms(config, agents, frozen)
    _check_workers(batch_size, workers)
    world = build_world(config)  # a bad log or slate is told before anything is written
    folder = Path(out or Path("runs") / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    if (folder / CONFIG).exists():
        raise RunFolderError(f"{folder}: already holds a run; allowed: a new folder, or to resume it")
    described = {
        "command": command or "rimsim.scenarios.compare",
        "arms": [name for _, name, _ in arms],
        "agents": [text for text, _, is_frozen in arms if not is_frozen],
        "frozen": [text for text, _, is_frozen in arms if is_frozen],
        "seeds": numbers,
        "certify": certify,
        "ledger": ledger,
        "scenario": to_plain(config),
        "truth": None if world.truth is None else dataclasses.asdict(world.truth.report),
        "digests": _digests(world.log, agents),
        "versions": versions(),
    }
    with locked(folder):
        text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
        write_text(folder / BEGUN, text)
        write_text(folder / CONFIG, text)
        return _play(folder, batch_size, workers, console)


def resume(
    folder: str | Path,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    console: Console | None = None,
) -> Run:
    """Go on with an interrupted run; it ends with the same tables as one that was never interrupted.

    Arms that are complete stay; the others go on from the last round that they finished.

    Args:
        folder: The run folder.
        batch_size: As in :func:`compare`; may differ from the interrupted run's.
        workers: Likewise.
        console: Where progress is shown; None: nowhere.

    Raises:
        RunFolderError: If it is no run folder, in use, or began with another version, config, log or agent.
        AgentError: If arms failed.
    """
    run = load_run(folder)
    _check_workers(batch_size, workers)
    if (run.folder / "rounds.parquet").exists():
        return run
    _require_unchanged(run)
    with locked(run.folder):
        return _play(run.folder, batch_size, workers, console)


def _require_unchanged(run: Run) -> None:
    """Refuse to go on where another version, config, log or agent would: the tables would mix two experiments.

    Raises:
        RunFolderError: If something has changed; it names what.
    """
    begun = run.folder / BEGUN
    if not begun.is_file():
        raise RunFolderError(
            f"{run.folder}: {BEGUN} is missing; allowed: a run that was interrupted, or a new one"
        )
    before, now = _flat(yaml.safe_load(begun.read_text(encoding="utf-8"))), _flat(run.config)
    edited = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in before | now
        if before.get(name) != now.get(name)
    ]
    here = versions()
    other = [
        f"{name} {made} there, {here.get(name)} here"
        for name, made in run.config["versions"].items()
        if here.get(name) != made
    ]
    found = _digests(build_world(run.scenario).log, run.config["agents"])
    changed = [name for name, value in run.config["digests"].items() if found.get(name) != value]
    for what, names in (
        ("its config was edited", edited),
        ("made with other versions", other),
        ("changed since the run began", changed),
    ):
        if names:
            raise RunFolderError(
                f"{run.folder}: {what}: {'; '.join(names)}; allowed: as it began, or a new run"
            )


def _flat(plain: object, name: str = "") -> dict[str, object]:
    """Dotted names and values of nested mappings."""
    if not isinstance(plain, dict):
        return {name: plain}
    found: dict[str, object] = {}
    for key, value in plain.items():
        found |= _flat(value, f"{name}.{key}" if name else str(key))
    return found


def _digests(log: EventLog, agents: Sequence[str]) -> dict[str, str]:
    """What a run hangs on beside its config: the content of the log and of the files that agents come from."""
    files = sorted({text.partition(".py:")[0] + ".py" for text in agents if ".py:" in text})
    return {"log": log_digest(log)} | {file: sha256(Path(file).read_bytes()).hexdigest() for file in files}


def _play(folder: Path, batch_size: int | None, workers: int | None, console: Console | None) -> Run:
    """Run what is left of the arms that a folder's config describes, then join their tables."""
    run = load_run(folder)
    config, about = run.scenario, run.config
    arms = _arms(config, about["agents"], about["frozen"])
    tasks = [
        Arm(config, text, name, is_frozen, seed, folder, batch_size, about["certify"], about["ledger"])
        for seed in run.seeds
        for text, name, is_frozen in arms
    ]
    failures = _run_all(config, run.seeds, tasks, workers, console)
    if len(failures) < len(tasks):
        _gather(folder, [name for _, name, _ in arms], keep_parts=bool(failures))
    if failures:
        told = "; ".join(f"{name}, seed {seed}: {error}" for (name, seed), error in sorted(failures.items()))
        raise AgentError(f"{len(failures)} of {len(tasks)} arms failed, the others are in {folder}: {told}")
    return load_run(folder)


def _resolved(
    scenario: str | ScenarioConfig, rounds: int | None, data: str | None, settings: dict[str, object] | None
) -> ScenarioConfig:
    config = find_scenario(scenario) if isinstance(scenario, str) else scenario
    changes: dict[str, object] = dict(settings or {})
    if rounds is not None:
        changes["rounds"] = rounds
    if data is not None:
        changes["data.source"] = data
    return override(config, changes) if changes else config


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    numbers = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise ConfigError(
            f"seeds: {seeds!r}; allowed: a positive number of seeds, or distinct seeds from 0 up"
        )
    return numbers


def _arms(
    config: ScenarioConfig, agents: Sequence[str], frozen: Sequence[str] | None
) -> list[tuple[str, str, bool]]:
    """(text, name, frozen) of every arm; checks each agent before anything runs."""
    if not agents:
        raise ConfigError("agents: none given; allowed: at least one")
    names = {text: agent_name(text) for text in agents}
    for text, name in names.items():
        if name.endswith(FROZEN):
            raise ConfigError(
                f"agent {text!r} is called {name!r}; allowed: a name that does not end in {FROZEN!r}"
            )
    if len(set(names.values())) != len(agents):
        raise ConfigError(
            f"agents: two are called alike among {', '.join(names.values())}; allowed: distinct names"
        )
    if frozen is None:
        usual = [text for text in agents if names[text] == "relevance"] or [agents[0]]
        frozen = usual if config.platform.retrain and config.rounds > 1 else []
    for text in frozen:
        if text not in names:
            raise ConfigError(f"frozen: {text!r} is not among the agents; allowed: {', '.join(agents)}")
    if any(getattr(make_agent(text), "needs_truth", False) for text in frozen):
        raise ConfigError("frozen: a bound does not use the model; allowed: agents that do")
    return [(text, names[text], False) for text in agents] + [
        (text, names[text] + FROZEN, True) for text in frozen
    ]


def _check_workers(batch_size: int | None, workers: int | None) -> None:
    for name, value in (("batch_size", batch_size), ("workers", workers)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; allowed: at least 1")


# -- running ------------------------------------------------------------------------------------------------------


def _run_all(
    config: ScenarioConfig, seeds: list[int], tasks: list[Arm], workers: int | None, console: Console | None
) -> dict[tuple[str, int], RimsimError]:
    """Fit what seeds share, then run all arms; returns what went wrong by (arm, seed)."""
    n_workers = min(workers or os.cpu_count() or 1, len(tasks))
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(quiet=True),
        disable=console is None,
    )
    with progress:
        fitting = progress.add_task("fitting the platform's model", total=len(seeds))
        serving = progress.add_task("arrivals served", total=_expected_arrivals(config) * len(tasks))
        fits = [_Fit(config, seed) for seed in seeds]
        for error in _run(_fit, fits, n_workers, lambda n: progress.advance(fitting, n)).values():
            raise error
        failures = _run(run_arm, tasks, n_workers, lambda n: progress.advance(serving, n))
    return {(tasks[number].name, tasks[number].seed): error for number, error in failures.items()}


def _run(
    job: Callable[[Task, Callable[[int], None]], None],
    tasks: Sequence[Task],
    workers: int,
    report: Callable[[int], None],
) -> dict[int, RimsimError]:
    def told(count: int) -> None:
        stop_if_asked()
        report(count)

    failures = run_here(job, tasks, told) if workers == 1 else run_on_workers(job, tasks, workers, told)
    stop_if_asked()
    return failures


@dataclasses.dataclass(frozen=True)
class _Fit:
    """What the arms of a seed share."""

    config: ScenarioConfig
    seed: int


def _fit(fit: _Fit, report: Callable[[int], None]) -> None:
    prepare(fit.config, fit.seed)
    report(1)


def _expected_arrivals(config: ScenarioConfig) -> int:
    if config.arrivals.kind == "clones":
        return (config.arrivals.per_round or 2000) * config.rounds
    world = build_world(config)
    later = int((world.sessions.start >= world.opening).sum())
    most = config.arrivals.per_round
    return later if most is None else min(later, most * config.rounds)


# -- afterwards ---------------------------------------------------------------------------------------------------


def _gather(folder: Path, names: list[str], *, keep_parts: bool) -> None:
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
