"""What the arms of a run leave: their tables are joined and drawn, failures become one message."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from rimsim.errors import one_line
from rimsim.measures import MEASURES
from rimsim.scenarios.report.charts import draw
from rimsim.scenarios.report.comparison import comparison_report
from rimsim.scenarios.report.loop import parts_by_seed
from rimsim.scenarios.report.sentences import comparison_sentences
from rimsim.scenarios.store.folders import FAILURES, STATES
from rimsim.scenarios.store.run_folder import CONFIG, Run, read_table, repeat_command
from rimsim.scenarios.store.write import write_table, write_text
from rimsim.threads import give_back
from rimsim.tracking import RETRAINED, write_about, write_summary

if TYPE_CHECKING:
    from rimsim.errors import RimsimError
    from rimsim.scenarios.execution.arm import Arm
    from rimsim.scenarios.study.plan import Plan


def gather(plan: Plan, failures: Sequence[tuple[Arm, RimsimError]]) -> str | None:
    """Join the tables of the arms that are complete and draw.

    Args:
        plan: What was run.
        failures: Arms of it that failed, with what went wrong; the run can then still be resumed.

    Returns:
        Why the arms that did not fail could not be drawn beside those that did; None where all went well.
    """
    folder, names = plan.point.folder, plan.names
    give_back()
    if not failures:
        _join(folder, names, keep_parts=False)
        return None
    for arm, error in failures:
        _keep(arm, error)
    if len(failures) < len(plan.arms):
        try:
            _join(folder, names, keep_parts=True)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not hide why the arms failed
            return f"the other arms are complete, but not drawn: {type(error).__name__}: {one_line(error)}"
    return None


def failures_text(failures: Sequence[tuple[Arm, RimsimError]], arms: int) -> str:
    """Which of so many arms failed and why, a line an arm."""
    lines = sorted((_at(arm), arm.seed, one_line(error)) for arm, error in failures)
    text = "".join(f"\n  {where}, seed {seed}: {error}" for where, seed, error in lines)
    return f"{len(failures)} of {arms} arms failed:{text}"


def _at(arm: Arm) -> str:
    """An arm's name, and at which point of a sweep it is."""
    return ", ".join([arm.name, *(f"{field}={value}" for field, value in arm.labels)])


def _keep(arm: Arm, error: RimsimError) -> None:
    """Write what went wrong with an arm where it could not do so itself, such as when its process died."""
    trouble = arm.folder / FAILURES / f"{arm.part}.txt"
    with suppress(OSError):  # on a full disk nothing more can be left
        if not trouble.is_file():
            write_text(trouble, f"{error}\n")


def _join(folder: Path, names: Sequence[str], *, keep_parts: bool) -> None:
    """Join the arms' tables, sorted so that equal runs have equal tables, and draw."""
    tables = [read_table(path) for path in sorted((folder / "rounds").glob("*.parquet"))]
    rounds = pd.concat(tables, ignore_index=True)
    rank = rounds["agent"].map({name: n for n, name in enumerate(names)})
    rounds = rounds.assign(_rank=rank).sort_values(["_rank", "seed", "round", "metric"], kind="stable")
    rounds = rounds.drop(columns="_rank").reset_index(drop=True)
    run = Run(folder)
    retrained = (*RETRAINED, *(name for name in run.measures if name not in MEASURES))
    parts = parts_by_seed(rounds, list(rounds["agent"].unique()), retrained)
    write_summary(folder, rounds, measures=run.measures, parts=parts)
    drawn = draw(comparison_report(run).plots, folder / "pictures")
    write_about(folder, _texts(run, rounds), drawn, run.measures)
    if not keep_parts:  # with arms missing, the run can still be resumed
        write_table(folder / "rounds.parquet", rounds)
        shutil.rmtree(folder / "rounds")
        shutil.rmtree(folder / STATES)


def _texts(run: Run, rounds: pd.DataFrame) -> dict[str, str]:
    """What TensorBoard says of a run in words: what was found, the command that makes it again, the settings."""
    found = comparison_sentences(rounds, run.agents, run.scenario.exposure.unit)
    settings = (run.folder / CONFIG).read_text(encoding="utf-8")
    return {
        "answer": "\n\n".join(found),
        "command": f"```\n{repeat_command(run)}\n```",
        "settings": f"```\n{settings}```",
    }
