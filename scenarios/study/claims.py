"""Comparison that shows which findings hold for a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimsim.market.arrivals import make_arrivals
from rimsim.scenarios.report.claims import claims_of
from rimsim.scenarios.runs.files import write_table
from rimsim.scenarios.study.checks import LogArguments, resolved
from rimsim.scenarios.study.compare import compare, resume

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.config import ScenarioConfig
    from rimsim.scenarios.run import Run

AGENTS = ("relevance", "rim-feedback", "flat-budget", "popularity", "own", "recent", "random")
"""Agents of the claims: the platform's model, two guarantees, and rules without a model."""
_FROZEN = ("relevance",)
_CONTROLS = ("frozen", "static", "random")
_CONTROLS_OF_STAYING_USERS = ("frozen",)
"""Controls where all rounds have the same visitors, as in a replay: the others need new visitors in every round."""


@dataclass(frozen=True)
class ClaimsOptions(LogArguments):
    """Log, rounds and seeds of a table of claims."""

    rounds: int = 8
    """Number of rounds; figures are means over the second half."""
    seeds: int | Sequence[int] = 3
    """Number of seeds, from 0, or a list."""
    arrivals: int = 1000
    """Number of arrivals per round."""
    settings: Mapping[str, object] | None = None
    """Other fields to replace, by dotted name."""


def claims(
    scenario: str | Path | ScenarioConfig = "closed-loop",
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    command: str | None = None,
    console: Console | None = None,
    **options: Any,
) -> Run:
    """Play the arms behind the README's findings, on any log.

    The run is a comparison of :data:`AGENTS`, with controls of ``relevance``. Its folder also has ``claims.parquet``,
    the table of :func:`rimsim.scenarios.report.claims.claims_of`. In a replay, the parts of retraining stay blank,
    because their controls need new visitors in every round.

    Args:
        scenario: Name, path of a YAML file, or a record.
        out: The folder; None: ``runs/<scenario>-<time>``.
        workers: Number of parallel arms; None: one per core. Results do not depend on the number of workers.
        command: The command line, to be recorded.
        console: Console that shows progress bars; None: no bars.
        **options: Fields of :class:`ClaimsOptions`.

    Raises:
        ConfigError: If the scenario or an option is not valid; then nothing is written.
        DataError: If the log cannot be read.
        ArmsError: If arms failed; all other arms are complete.
        RunFolderError: If the folder is in use or holds a run.
    """
    chosen = ClaimsOptions(**options)
    settings = {"arrivals.per_round": chosen.arrivals, **(chosen.settings or {})}
    config = resolved(scenario, chosen.rounds, chosen, settings)
    run = compare(
        config,
        AGENTS,
        seeds=chosen.seeds,
        frozen=_FROZEN,
        control=_CONTROLS_OF_STAYING_USERS if make_arrivals(config).keeps_users else _CONTROLS,
        certify=False,
        ledger=False,
        out=out,
        workers=workers,
        command=command or "rimsim.scenarios.claims",
        console=console,
    )
    return _with_table(run)


def resume_claims(out: str | Path, *, workers: int | None = None, console: Console | None = None) -> Run:
    """Resume an interrupted run of :func:`claims`.

    Raises:
        RunFolderError: If the folder is in use, holds no run, or an input has changed.
        ArmsError: If arms failed.
    """
    return _with_table(resume(out, workers=workers, console=console))


def _with_table(run: Run) -> Run:
    """The run, after its table of claims was written."""
    write_table(run.folder / "claims.parquet", claims_of(run))
    return run
