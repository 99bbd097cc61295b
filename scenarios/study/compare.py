"""The main job: agents side by side in the closed loop, on common random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rimsim.config import ScenarioConfig, find_scenario, override
from rimsim.scenarios.execution.arms import check_sizes, hired, run_arms
from rimsim.scenarios.store.run_folder import Run, folder_for, load_run, locked
from rimsim.scenarios.study.notes import tell
from rimsim.scenarios.study.plan import begin, experiment, gather, require_unchanged, tasks
from rimsim.scenarios.study.status import is_finished

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from rimsim.scenarios.execution.arms import Crew

__all__ = ["compare", "default_agents", "resolved", "resume"]

_DEFAULT = ("relevance", "rim-dual", "rim-feedback", "random")


def default_agents(config: ScenarioConfig) -> tuple[str, ...]:
    """Who is compared where nobody is named: also those that plan for all at once, where all are known at once.

    Args:
        config: The scenario; a broadcast brings ``offline-match``, and with promoted items ``user-rec``.
    """
    if config.arrivals.kind != "broadcast":
        return _DEFAULT
    planners = ("offline-match",) if config.exposure.items is None else ("user-rec", "offline-match")
    return (*_DEFAULT[:-1], *planners, _DEFAULT[-1])


def compare(
    scenario: str | Path | ScenarioConfig = "closed-loop",
    agents: Sequence[str] | None = None,
    rounds: int | None = None,
    seeds: int | Sequence[int] = 2,
    *,
    data: str | Path | None = None,
    settings: dict[str, object] | None = None,
    frozen: Sequence[str] | None = None,
    out: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
    certify: bool = True,
    ledger: bool = True,
    command: str | None = None,
    console: Console | None = None,
) -> Run:
    """Compare agents in a scenario: every agent at every seed, all on common random numbers.

    Args:
        scenario: Name of a built-in scenario, path of a YAML file, or a record.
        agents: What :func:`rimsim.agents.make_agent` understands, such as ``relevance`` or ``my_agent.py:Mine``. None:
            :func:`default_agents`.
        rounds: Replaces the scenario's rounds.
        seeds: How many seeds, from 0, or which.
        data: Replaces ``data.source``.
        settings: Other fields to replace, by dotted name.
        frozen: Agents that also get an arm whose model is never retrained. None: ``relevance``, or the first agent,
            where the scenario retrains.
        out: The run folder; None: ``runs/<scenario>-<time>``.
        batch_size: Arrivals a batch at most; results do not depend on it.
        workers: Arms at once; None: one a core; 1 and local: no other process. Results do not depend on it.
        backend: ``local``: processes of this machine; ``ray``: tasks on Ray (the extra ``ray``). Nor on that.
        address: Of a Ray cluster, ``auto`` or ``host:port``; None: one is started here for as long as the run.
        certify: Compute certificates (V, D(w), gap) of every round.
        ledger: Write the ledger.
        command: The command line, to be recorded.
        console: Where progress is shown; None: nowhere.

    Returns:
        The run, with its tables.

    Raises:
        ConfigError: If scenario, agents, seeds, workers or backend do not fit; nothing has been written then.
        DataError: If the log cannot be read.
        ArmsError: If arms failed; the others are complete.
        RunFolderError: If the folder is in use or holds another run.
    """
    config = resolved(scenario, rounds, data, settings)
    check_sizes(batch_size, workers)
    folder = folder_for(out, config.name)
    chosen = default_agents(config) if agents is None else agents
    plan = experiment(config, chosen, seeds, frozen, certify=certify, ledger=ledger)
    tell([config], console)
    with hired(backend, address, workers) as crew, locked(folder):
        begin(plan, folder, command or "rimsim.scenarios.compare")
        return _play(folder, batch_size, crew, console)


def resume(
    folder: str | Path,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
    console: Console | None = None,
) -> Run:
    """Go on with an interrupted run; it ends with the same tables as one that was never interrupted.

    Arms that are complete stay; the others go on from the last round that they finished.

    Args:
        folder: The run folder.
        batch_size: As in :func:`compare`; may differ from the interrupted run's.
        workers: Likewise.
        backend: Likewise.
        address: Likewise.
        console: Where progress is shown; None: nowhere.

    Raises:
        RunFolderError: If it is no run folder, in use, or began with another version, config, log or agent.
        ArmsError: If arms failed.
    """
    run = load_run(folder, "comparison")
    check_sizes(batch_size, workers)
    if is_finished(run):
        return run
    require_unchanged(run)
    with hired(backend, address, workers) as crew, locked(run.folder):
        return _play(run.folder, batch_size, crew, console)


def _play(folder: Path, batch_size: int | None, crew: Crew, console: Console | None) -> Run:
    """Run what is left of the arms that a folder's config describes, then join their tables."""
    arms = tasks(folder, batch_size)
    return gather(folder, arms, run_arms(arms, crew, console))


def resolved(
    scenario: str | Path | ScenarioConfig,
    rounds: int | None = None,
    data: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> ScenarioConfig:
    """A scenario by name, file or record, with some fields replaced.

    Raises:
        ConfigError: If there is no such scenario or field.
    """
    config = scenario if isinstance(scenario, ScenarioConfig) else find_scenario(str(scenario))
    if settings:
        config = override(config, dict(settings))
    if rounds is not None:
        config = override(config, {"rounds": rounds}, origin="rounds")
    if data is not None:
        source = str(data) if isinstance(data, Path) else data
        config = override(config, {"data.source": source}, origin="data")
    return config
