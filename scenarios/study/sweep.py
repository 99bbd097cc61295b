"""Fields of a scenario over a grid: the relevance-diversity front, with agents and seeds side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rimsim.scenarios.runs.job import Execution
from rimsim.scenarios.runs.status import BETA
from rimsim.scenarios.runs.store import folder_for
from rimsim.scenarios.study.plan import Request, planned, resolved
from rimsim.scenarios.study.run import run

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.config import ScenarioConfig
    from rimsim.scenarios.runs.store import Run


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
    measures: Sequence[str] = (),
    frozen: Sequence[str] | None = None,
    control: Sequence[str] | None = None,
    out: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
    certify: bool = True,
    ledger: bool = False,
    reveal: Sequence[str] = (),
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
        measures: Places of measures of a user's own, as in :func:`rimsim.scenarios.compare`.
        frozen: Agents that also get controls, as in :func:`rimsim.scenarios.compare`.
        control: Which controls, as there. None: ``frozen`` where ``frozen`` is given, else none.
        out: The folder; None: ``runs/<scenario>-sweep-<time>``. Each point has a run folder of its own below
            ``points/``.
        batch_size: Arrivals a batch at most; results do not depend on it.
        workers: Arms at once; None: one a core.
        backend: ``local`` or ``ray``, as in :func:`rimsim.scenarios.compare`.
        address: Of a Ray cluster; None: one is started here.
        certify: Compute certificates (V, D(w), gap) of every round.
        ledger: Write the ledgers.
        reveal: ``truth``: write what each exposure was truly worth; agents never see it.
        command: The command line, to be recorded.
        console: Where progress is shown; None: nowhere.

    Returns:
        The sweep, whose table ``sweep`` has a column for each swept field.

    Raises:
        ConfigError: If grid, scenario, agents, measures, seeds, workers or backend do not fit; nothing has been written
            then.
        MeasureError: If a measure cannot be computed; nothing has been written then.
        DataError: If the log cannot be read.
        ArmsError: If arms failed; the others are complete.
        RunFolderError: If the folder is in use or holds another run.
    """
    execution = Execution(batch_size, workers, backend, address, console)
    base = resolved(scenario, rounds, data, settings)
    values = {field: list(choices) for field, choices in (grid or {BETA: _BETAS}).items()}
    folder = folder_for(out, f"{base.name}-sweep")
    controls = (("frozen",) if frozen else ()) if control is None else tuple(control)
    request = Request(agents, seeds, frozen if controls else [], certify, ledger, measures, controls, reveal)
    return run(
        planned(folder, base, values, request, execution), command or "rimsim.scenarios.sweep", execution
    )
