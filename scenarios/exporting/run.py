"""Exports: the log of an arm of a run, in a format of another package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rimsim.errors import ConfigError, RunFolderError, nearest
from rimsim.scenarios.exporting.formats import obp_feedback, scope_rl_dataset
from rimsim.scenarios.exporting.logged import logged_arm
from rimsim.scenarios.exporting.minari import write_minari
from rimsim.scenarios.runs.job import bars
from rimsim.scenarios.runs.store import disk_errors, load_run, write_arrays
from rimsim.system import draft_file

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.scenarios.runs.store import Run


FORMATS = {"csv": "ledger.csv", "obp": "obp.npz", "scope-rl": "scope-rl.npz", "minari": "minari"}
"""Format → name of the file or folder, unless another is asked for."""
_CHUNK = 50_000
"""Rows of a text that are written at once."""


def export(
    run: str | Path,
    to: str,
    *,
    agent: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    console: Console | None = None,
) -> tuple[Path, str]:
    """Write the log of an arm in a format of another package.

    Args:
        run: Folder of a comparison that kept its ledger.
        to: One of :data:`FORMATS`. ``obp`` and ``scope-rl`` are NumPy archives of the package's keys, which
            ``dict(numpy.load(path))`` reads back; ``minari`` is a folder of data sets.
        agent: Name of an arm; None: the first.
        seed: None: the first.
        out: The file, or Minari's folder; None: within the run folder, below ``export/``.
        console: Where progress is shown; None: nowhere.

    Returns:
        Where it is, and a sentence that says what it holds.

    Raises:
        ConfigError: If there is no such format, arm or seed, or the package that it needs is missing.
        RunFolderError: If it is there already.
        MissingTableError: If the run kept no ledger.
    """
    if to not in FORMATS:
        raise ConfigError(f"--to: {to!r}.{nearest(to, FORMATS)}")
    begun = load_run(run, "comparison")
    place = Path(out) if out is not None else begun.folder / "export" / FORMATS[to]
    if to != "minari" and place.exists():
        raise RunFolderError(f"{place}: is there already; allowed: another --out")
    with disk_errors(place), bars(console) as progress:
        place.parent.mkdir(parents=True, exist_ok=True)
        bar = progress.add_task("exposures written", total=None)  # pulses while the ledger is read
        exposures = len(begun.ledger)
        progress.update(bar, total=exposures)
        said = _written(begun, to, agent, seed, place, lambda count: progress.advance(bar, count))
        progress.update(bar, completed=exposures)
        return place, said


def _written(
    run: Run, to: str, agent: str | None, seed: int | None, place: Path, report: Callable[[int], None]
) -> str:
    if to == "csv":
        return _csv(run, agent, seed, place, report)
    arm = logged_arm(run, agent, seed)
    said = f"{len(arm.item):,} slates of {arm.agent}, seed {arm.seed}"
    if arm.left_out:
        said += f"; {arm.left_out:,} slates with an empty position were left out"
    if to == "minari":
        place.mkdir(parents=True, exist_ok=True)
        return f"{said}; data set {write_minari(arm, run.scenario, place, 'rimsim')}"
    _save(place, obp_feedback(arm) if to == "obp" else scope_rl_dataset(arm))
    return said


def _csv(run: Run, agent: str | None, seed: int | None, place: Path, report: Callable[[int], None]) -> str:
    table = run.ledger
    if agent is not None:
        logged_arm(run, agent, seed)  # refuses what is not there
        table = table[table["agent"] == agent]
    table = table if seed is None else table[table["seed"] == seed]
    with draft_file(place) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        for begin in range(0, max(len(table), 1), _CHUNK):
            rows = table.iloc[begin : begin + _CHUNK]
            rows.to_csv(file, index=False, header=begin == 0)
            report(len(rows))
    return f"{len(table):,} exposures"


def _save(place: Path, columns: Mapping[str, object]) -> None:
    """Write an archive without pickle: None and an empty mapping are left out."""
    kept = {
        name: np.asarray(value)
        for name, value in columns.items()
        if value is not None and not isinstance(value, dict)
    }
    write_arrays(place, kept)
