"""The main job: agents side by side in the closed loop, on common random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rimsim.scenarios.runs.job import Execution
from rimsim.scenarios.runs.store import folder_for
from rimsim.scenarios.study.plan import Request, planned, resolved
from rimsim.scenarios.study.run import run

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.config import ScenarioConfig
    from rimsim.scenarios.runs.store import Run


def compare(
    scenario: str | Path | ScenarioConfig = "closed-loop",
    agents: Sequence[str] | None = None,
    rounds: int | None = None,
    seeds: int | Sequence[int] = 2,
    *,
    data: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    measures: Sequence[str] = (),
    frozen: Sequence[str] | None = None,
    control: Sequence[str] = ("frozen",),
    out: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
    certify: bool = True,
    ledger: bool = True,
    reveal: Sequence[str] = (),
    command: str | None = None,
    console: Console | None = None,
) -> Run:
    """Compare agents in a scenario: every agent at every seed, all on common random numbers.

    Args:
        scenario: Name of a built-in scenario, path of a YAML file, or a record.
        agents: What :func:`rimsim.agents.make_agent` understands, such as ``relevance`` or ``my_agent.py:Mine``. None:
            :func:`rimsim.scenarios.study.plan.default_agents`.
        rounds: Replaces the scenario's rounds.
        seeds: How many seeds, from 0, or which.
        data: Replaces ``data.source``.
        settings: Other fields to replace, by dotted name.
        measures: Places of measures of a user's own, ``my_measure.py:freshness``, beside the built-in ones.
        frozen: Agents that also get controls. None: ``relevance``, or the first agent, where the scenario retrains.
        control: Which controls: ``frozen`` is never retrained; ``organic`` and ``random`` are retrained, round by
            round, on as many events as the agent itself brought, of the log or under uniformly random slates.
        out: The run folder; None: ``runs/<scenario>-<time>``.
        batch_size: Arrivals a batch at most; results do not depend on it.
        workers: Arms at once; None: one a core; 1 and local: no other process. Results do not depend on it.
        backend: ``local``: processes of this machine; ``ray``: tasks on Ray (the extra ``ray``). Nor on that.
        address: Of a Ray cluster, ``auto`` or ``host:port``; None: one is started here for as long as the run.
        certify: Compute certificates (V, D(w), gap) of every round.
        ledger: Write the ledger.
        reveal: ``truth``: write what each exposure was truly worth; agents never see it.
        command: The command line, to be recorded.
        console: Where progress is shown; None: nowhere.

    Returns:
        The run, with its tables.

    Raises:
        ConfigError: If scenario, agents, measures, seeds, workers or backend do not fit; nothing has been written then.
        MeasureError: If a measure cannot be computed; nothing has been written then.
        DataError: If the log cannot be read.
        ArmsError: If arms failed; the others are complete.
        RunFolderError: If the folder is in use or holds another run.
    """
    execution = Execution(batch_size, workers, backend, address, console)
    config = resolved(scenario, rounds, data, settings)
    folder = folder_for(out, config.name)
    request = Request(agents, seeds, frozen, certify, ledger, measures, control, reveal)
    return run(
        planned(folder, config, {}, request, execution), command or "rimsim.scenarios.compare", execution
    )
