"""Sweeps over grids of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rimsim.config import ScenarioConfig
from rimsim.scenarios.runs.job import Execution
from rimsim.scenarios.runs.status import BETA, StudyOptions
from rimsim.scenarios.runs.store import Run, folder_for
from rimsim.scenarios.study.compare import run
from rimsim.scenarios.study.options import resolved
from rimsim.scenarios.study.plan import planned

if TYPE_CHECKING:
    from rich.console import Console


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
    """Compare agents at every point of a grid of settings.

    Parameters that are not listed here are those of :func:`rimsim.scenarios.compare`.

    Args:
        scenario: Name of a built-in scenario, path of a YAML file, or a record.
        grid: Dotted field → its values; every combination is a point. None: β from 0 to 1.
        agents: Texts for :func:`rimsim.agents.make_agent`; None: the default of the point with the fewest.
        settings: Other fields to replace at every point, by dotted name.
        control: Kinds of controls. None: ``frozen`` where ``frozen`` is given, else none.
        out: The folder; None: ``runs/<scenario>-sweep-<time>``. Each point has a run folder of its own below
            ``points/``.
        ledger: Write the ledgers of all points.

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
    controls = (("frozen",) if frozen else ()) if control is None else tuple(control)
    options = StudyOptions(
        agents, frozen if controls else [], controls, seeds, certify, ledger, reveal, measures
    )
    study = planned(folder_for(out, f"{base.name}-sweep"), base, values, options, execution)
    return run(study, command or "rimsim.scenarios.sweep", execution)
