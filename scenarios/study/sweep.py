"""Fields of a scenario over a grid: the relevance-diversity front, with agents and seeds side by side."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml

from rimsim.config import ScenarioConfig, override, to_plain
from rimsim.errors import ArmsError, ConfigError, RunFolderError
from rimsim.measures import late_means
from rimsim.scenarios.execution.arms import check_sizes, hired, run_arms
from rimsim.scenarios.pictures.front import draw_sweep
from rimsim.scenarios.store.run_folder import (
    CONFIG,
    FAILURES,
    Run,
    folder_for,
    load_run,
    locked,
    versions,
    write_table,
    write_text,
)
from rimsim.scenarios.study.compare import default_agents, resolved
from rimsim.scenarios.study.notes import tell
from rimsim.scenarios.study.plan import begin, experiment, failed_arms, gather, require_unchanged, tasks
from rimsim.scenarios.study.status import is_finished, shown_rounds, standing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from rimsim.scenarios.execution.arms import Crew

__all__ = ["BETA", "POINTS", "points_of", "resume_sweep", "sweep", "sweep_table"]

BETA = "exposure.beta"
POINTS = "points"
"""Folder of a sweep that holds a run folder for each point."""
_BETAS = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)


def sweep(
    scenario: str | Path | ScenarioConfig = "closed-loop",
    grid: Mapping[str, Sequence[object]] | None = None,
    agents: Sequence[str] | None = None,
    rounds: int | None = None,
    seeds: int | Sequence[int] = 2,
    *,
    data: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
    certify: bool = True,
    ledger: bool = False,
    command: str | None = None,
    console: Console | None = None,
) -> Run:
    """Compare agents at every point of a grid of settings, all on common random numbers.

    Args:
        scenario: Name of a built-in scenario, path of a YAML file, or a record.
        grid: Dotted field → its values; every combination is a point. None: β from 0 to 1.
        agents: As in :func:`rimsim.scenarios.compare`.
        rounds: Replaces the scenario's rounds.
        seeds: How many seeds, from 0, or which.
        data: Replaces ``data.source``.
        settings: Other fields to replace at every point, by dotted name.
        out: The folder; None: ``runs/<scenario>-sweep-<time>``. Each point has a run folder of its own below
            ``points/``.
        batch_size: Arrivals a batch at most; results do not depend on it.
        workers: As in :func:`rimsim.scenarios.compare`.
        backend: Likewise.
        address: Likewise.
        certify: Compute certificates (V, D(w), gap) of every round.
        ledger: Write the ledgers.
        command: The command line, to be recorded.
        console: Where progress is shown; None: nowhere.

    Returns:
        The sweep, whose table ``sweep`` has a column for each swept field.

    Raises:
        ConfigError: If grid, scenario, agents, seeds, workers or backend do not fit; nothing has been written then.
        DataError: If the log cannot be read.
        ArmsError: If arms failed; the others are complete.
        RunFolderError: If the folder is in use or holds another run.
    """
    base = resolved(scenario, rounds, data, settings)
    values = {field: list(some) for field, some in (grid or {BETA: _BETAS}).items()}
    points = _points(base, values)
    check_sizes(batch_size, workers)
    folder = folder_for(out, f"{base.name}-sweep")
    # Defaults contain one another: the shortest can play at every point.
    chosen = (
        min((default_agents(config) for config, _ in points.values()), key=len) if agents is None else agents
    )
    plans = {
        name: experiment(config, chosen, seeds, [], certify=certify, ledger=ledger)
        for name, (config, _) in points.items()
    }
    tell([config for config, _ in points.values()], console)
    first = next(iter(plans.values()))
    command = command or "rimsim.scenarios.sweep"
    described = {
        "command": command,
        "sweep": values,
        "arms": [name for _, name, _ in first.arms],
        "agents": list(chosen),
        "seeds": list(first.seeds),
        "certify": certify,
        "ledger": ledger,
        "scenario": to_plain(base),
        "versions": versions(),
    }
    with hired(backend, address, workers) as crew, locked(folder):
        for name, plan in plans.items():
            begin(plan, folder / POINTS / name, command)
        write_text(folder / CONFIG, yaml.safe_dump(described, sort_keys=False, allow_unicode=True))
        return _play(folder, batch_size, crew, console)


def resume_sweep(
    folder: str | Path,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
    console: Console | None = None,
) -> Run:
    """Go on with an interrupted sweep; it ends with the same table as one that was never interrupted.

    Args:
        folder: The folder of the sweep.
        batch_size: As in :func:`sweep`; may differ from the interrupted one's.
        workers: Likewise.
        backend: Likewise.
        address: Likewise.
        console: Where progress is shown; None: nowhere.

    Raises:
        RunFolderError: If it is no sweep, in use, or began with another version, config, log or agent.
        ArmsError: If arms failed.
    """
    run = load_run(folder, "sweep")
    check_sizes(batch_size, workers)
    for name in _points(run.scenario, run.config["sweep"]):
        point = load_run(run.folder / POINTS / name)
        if not is_finished(point):
            require_unchanged(point)
    with hired(backend, address, workers) as crew, locked(run.folder):
        return _play(run.folder, batch_size, crew, console)


def _play(folder: Path, batch_size: int | None, crew: Crew, console: Console | None) -> Run:
    """Run what is left of all points, in one pool, then join them."""
    run = load_run(folder)
    points = _points(run.scenario, run.config["sweep"])
    left = {
        name: tasks(folder / POINTS / name, batch_size, labels)
        for name, (_, labels) in points.items()
        if not is_finished(Run(folder / POINTS / name))
    }
    arms = [arm for some in left.values() for arm in some]
    failures = run_arms(arms, crew, console) if arms else {}
    begun = 0
    for name, some in left.items():
        own = {n - begun: error for n, error in failures.items() if begun <= n < begun + len(some)}
        begun += len(some)
        with suppress(ArmsError):  # told below, of all points together
            gather(folder / POINTS / name, some, own)
    if failures:
        told = failed_arms(arms, failures)
        raise ArmsError(f"{told}\ntracebacks: {folder / POINTS}/*/{FAILURES}/", str(folder))
    write_table(folder / "sweep.parquet", sweep_table(run))
    draw_sweep(load_run(folder))
    return load_run(folder)


def points_of(run: Run) -> dict[str, Run]:
    """Name of each point of a sweep → its run."""
    return {name: load_run(run.folder / POINTS / name) for name in _points(run.scenario, run.config["sweep"])}


def sweep_table(run: Run) -> pd.DataFrame:
    """The table of a sweep, finished or not; an arm counts once it is complete.

    Args:
        run: The sweep.

    Returns:
        Columns agent, seed, the swept fields, metric, value: means over late rounds.

    Raises:
        RunFolderError: If no arm is complete.
    """
    points = _points(run.scenario, run.config["sweep"])
    parts = []
    for name, (_, labels) in points.items():
        point = load_run(run.folder / POINTS / name)
        if not standing(point).complete:
            continue
        part = late_means(shown_rounds(point))
        for field, value in labels.items():
            part[field] = pd.Series([value] * len(part))
        parts.append(part)
    if not parts:
        raise RunFolderError(
            f"{run.folder}: no arm is complete; allowed: a sweep that has come further, or rimsim sweep --resume --out "
            f"{run.folder}"
        )
    fields = list(next(iter(points.values()))[1])
    table = pd.concat(parts, ignore_index=True)[["agent", "seed", *fields, "metric", "value"]]
    return table.astype({"agent": str, "seed": np.int64})


def _points(
    base: ScenarioConfig, grid: Mapping[str, Sequence[object]]
) -> dict[str, tuple[ScenarioConfig, dict[str, object]]]:
    """Folder name of each point → its scenario and its values by short field name."""
    if not grid or not all(grid.values()):
        raise ConfigError(f"grid: {dict(grid)!r}; allowed: fields with at least one value each")
    last = [field.rpartition(".")[2] for field in grid]
    short = {field: name if last.count(name) == 1 else field for field, name in zip(grid, last, strict=True)}
    taken = {"agent", "seed", "metric", "value"} & set(short.values())
    if taken:
        raise ConfigError(f"grid: {taken.pop()!r} is a column of the table; allowed: fields of the scenario")
    points: dict[str, tuple[ScenarioConfig, dict[str, object]]] = {}
    for values in itertools.product(*grid.values()):
        changes = dict(zip(grid, values, strict=True))
        labels = {short[field]: value for field, value in changes.items()}
        name = ",".join(f"{field}={_plain(value)}" for field, value in labels.items())
        if name in points:
            raise ConfigError(f"grid: {name} stands there twice; allowed: distinct values")
        points[name] = (override(base, changes, origin="grid"), labels)
    return points


def _plain(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)
