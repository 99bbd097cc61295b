"""The main job: agents side by side in the closed loop, on common random numbers."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import time
from collections import defaultdict
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

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
from rimsim.scenarios.report import draw_pictures
from rimsim.scenarios.run_folder import CONFIG, Run, load_run, locked, versions, write_table, write_text
from rimsim.tracking import write_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from queue import Queue

    from rimsim.data import EventLog

__all__ = ["DEFAULT_AGENTS", "compare", "resume"]

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
        write_text(folder / CONFIG, yaml.safe_dump(described, sort_keys=False, allow_unicode=True))
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
        RunFolderError: If it is no run folder, in use, or was made with other versions.
        AgentError: If arms failed.
    """
    run = load_run(folder)
    _check_workers(batch_size, workers)
    made, here = run.config["versions"], versions()
    apart = [
        f"{name} {made.get(name)} there, {here[name]} here" for name in here if made.get(name) != here[name]
    ]
    if apart:
        raise RunFolderError(
            f"{folder}: made with other versions ({'; '.join(apart)}); allowed: the same, or a new run"
        )
    found = _digests(build_world(run.scenario).log, run.config["agents"])
    changed = [name for name, digest in run.config["digests"].items() if found.get(name) != digest]
    if changed:
        raise RunFolderError(
            f"{folder}: changed since the run began: {', '.join(changed)}; allowed: what it began with"
        )
    if (run.folder / "rounds.parquet").exists():
        return run
    with locked(run.folder):
        return _play(run.folder, batch_size, workers, console)


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
        told = "; ".join(f"{name}, seed {seed}: {text}" for (name, seed), text in sorted(failures.items()))
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
) -> dict[tuple[str, int], str]:
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
    expected = _expected_arrivals(config)
    with progress:
        fitting = progress.add_task("fitting the platform's model", total=len(seeds))
        serving = progress.add_task("arrivals served", total=expected * len(tasks))
        if n_workers == 1:
            return _run_here(config, seeds, tasks, progress, fitting, serving)
        return _run_apart(config, seeds, tasks, n_workers, progress, fitting, serving)


def _expected_arrivals(config: ScenarioConfig) -> int:
    if config.arrivals.kind == "clones":
        return (config.arrivals.per_round or 2000) * config.rounds
    world = build_world(config)
    later = int((world.sessions.start >= world.opening).sum())
    most = config.arrivals.per_round
    return later if most is None else min(later, most * config.rounds)


def _run_here(
    config: ScenarioConfig, seeds: list[int], tasks: list[Arm], progress: Progress, fitting: int, serving: int
) -> dict[tuple[str, int], str]:
    failures: dict[tuple[str, int], str] = {}
    for seed in seeds:
        prepare(config, seed)
        progress.advance(fitting)  # type: ignore[arg-type]
    for arm in tasks:
        try:
            run_arm(arm, lambda n: progress.advance(serving, n))  # type: ignore[arg-type]
        except RimsimError as error:
            failures[arm.name, arm.seed] = str(error)
    return failures


def _run_apart(
    config: ScenarioConfig,
    seeds: list[int],
    tasks: list[Arm],
    workers: int,
    progress: Progress,
    fitting: int,
    serving: int,
) -> dict[tuple[str, int], str]:
    context = multiprocessing.get_context("spawn")  # a forked torch hangs where its threads were
    failures: dict[tuple[str, int], str] = {}
    with context.Manager() as manager, ProcessPoolExecutor(workers, mp_context=context) as pool:
        news = manager.Queue()
        fits = [pool.submit(prepare, config, seed) for seed in seeds]
        _follow(fits, lambda _: progress.advance(fitting), news, None)  # type: ignore[arg-type]
        running: dict[Future[None], Arm] = {pool.submit(_in_worker, arm, news): arm for arm in tasks}

        def settled(future: Future[None]) -> None:
            error = future.exception()
            if error is not None:
                arm = running[future]
                failures[arm.name, arm.seed] = str(error) or type(error).__name__

        _follow(running, settled, news, lambda n: progress.advance(serving, n))  # type: ignore[arg-type]
    return failures


def _in_worker(arm: Arm, news: Queue[int]) -> None:
    parent = os.getppid()

    def report(served: int) -> None:
        if os.getppid() != parent:  # the run was killed: leave its folder to the one that resumes it
            os._exit(1)
        news.put(served)

    run_arm(arm, report)


def _follow(
    futures: Iterable[Future[None]],
    settled: Callable[[Future[None]], None],
    news: Queue[int],
    advance: Callable[[int], None] | None,
) -> None:
    """Wait for futures, passing on what their workers report meanwhile."""
    open_ones = set(futures)
    while open_ones:
        done, open_ones = wait(open_ones, timeout=0.2, return_when=FIRST_COMPLETED)
        while advance is not None and not news.empty():
            advance(news.get())
        for future in done:
            if advance is None:
                future.result()  # a fit that fails ends the run
            settled(future)


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
