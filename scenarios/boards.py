"""Leaderboards: fixed tasks, whose rows anyone can play again."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import rimsim
from rimsim.arrays import Floats
from rimsim.errors import ConfigError, require_known
from rimsim.measures import mean_interval
from rimsim.scenarios.study.compare import compare

if TYPE_CHECKING:
    from rich.console import Console

REFERENCE = "relevance"
"""Agent whose score is 0."""
BUDGETS = (0, 2_000, 8_000, 50_000)
"""Largest numbers of training rounds, by which rows are compared."""


@dataclass(frozen=True)
class Board:
    """Task of a leaderboard.

    A change of the task, or of figures that its agents reach, raises the version.
    """

    scenario: str
    """Name of the scenario."""
    metric: str
    """Measure, summed over the rounds of a seed."""
    ceiling: str
    """Origin of the score 1: ``bound`` is above every agent, ``hindsight`` is an agent that knows the round."""
    seeds: int
    """Number of seeds, from 0. Seeds below 1,000 are never used for training."""
    version: int = 0
    """Version of the task."""
    rounds: int | None = None
    """Number of rounds; None: that of the scenario."""
    settings: tuple[tuple[str, object], ...] = ()
    """Fields of the scenario that differ, by dotted name."""

    @property
    def id(self) -> str:
        """Name of the task with its version."""
        return f"{self.scenario}-v{self.version}"


_SMALL = (("data.min_item_events", 60), ("arrivals.per_round", 500))
BOARDS: Mapping[str, Board] = {
    "sellers": Board("sellers", "objective", "bound", seeds=20),
    "sellers-hidden": Board("sellers-hidden", "objective", "bound", seeds=20),
    "closed-loop": Board("closed-loop", "return", "hindsight", seeds=10, rounds=4, settings=_SMALL),
    "online-match": Board("online-match", "return", "hindsight", seeds=10, settings=_SMALL[:1]),
}
"""Name of a scenario → its leaderboard."""


@dataclass(frozen=True)
class BoardRow:
    """Row of a leaderboard."""

    board: str
    """Name of the task with its version."""
    agent: str
    """Agent, as ``rimsim compare`` takes it."""
    training_rounds: int
    """Number of rounds that the agent was trained on."""
    commit: str
    """Commit of rimsim, or its version if it was installed."""
    figures: tuple[float, ...]
    """Figure of each seed, from seed 0."""

    def score(self) -> tuple[float, float, float]:
        """Mean, low and high of the score over seeds.

        The score of a seed is (figure − reference) / (ceiling − reference). The interval is that of 95%.
        """
        known = references(self.board)[: len(self.figures)]
        scores = (np.array(self.figures) - known[:, 0]) / (known[:, 1] - known[:, 0])
        mean = float(scores.mean())
        half = float(np.nan_to_num(mean_interval(scores).half))  # NaN: equal scores, or a single seed
        return mean, mean - half, mean + half


def references(board: str) -> Floats:
    """(S, 2) figures of reference and ceiling, by seed.

    Raises:
        ConfigError: If no figures are stored for the task.
    """
    text = resources.files("rimsim.scenarios").joinpath("boards.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["board"] == board]
    if not rows:
        raise ConfigError(f"leaderboard {board!r} has no stored figures in boards.csv")
    ordered = sorted(rows, key=lambda row: int(row["seed"]))
    return np.array([[float(row["reference"]), float(row["ceiling"])] for row in ordered])


def board_of(name: str) -> Board:
    """Leaderboard of a scenario.

    Raises:
        ConfigError: If the scenario has no leaderboard.
    """
    require_known("leaderboard: {} is unknown", [name], [*BOARDS])
    return BOARDS[name]


def leaderboard(
    name: str,
    agents: Sequence[str],
    *,
    training_rounds: int = 0,
    seeds: int | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    console: Console | None = None,
    command: str | None = None,
) -> list[BoardRow]:
    """Rows of agents that play a leaderboard's seeds.

    Args:
        name: Name of a leaderboard: ``sellers``, ``sellers-hidden``, ``closed-loop`` or ``online-match``.
        agents: Texts for :func:`rimsim.agents.make_agent`, such as ``my_agent.py:Mine``.
        training_rounds: Number of rounds that the agents were trained on.
        seeds: Number of seeds, for a first look; None: all seeds of the board.
        out: Folder of the run; None: a new folder in ``runs``.
        workers: Number of processes; None: that of ``compare``.

    Raises:
        ConfigError: If the leaderboard, or an agent, is unknown.
    """
    board = board_of(name)
    if training_rounds < 0:
        raise ConfigError(f"training_rounds: found {training_rounds}. Expected a number of rounds from 0 up")
    run = compare(
        board.scenario,
        list(agents),
        board.rounds,
        board.seeds if seeds is None else min(seeds, board.seeds),
        settings=dict(board.settings),
        frozen=[],
        certify=False,
        ledger=False,
        out=out,
        workers=workers,
        console=console,
        command=command or "rimsim.scenarios.leaderboard",
    )
    rounds = run.rounds[run.rounds["metric"] == board.metric]
    sums = rounds.groupby(["agent", "seed"], observed=True)["value"].sum()
    return [
        BoardRow(
            board=board.id,
            agent=str(agent),
            training_rounds=training_rounds,
            commit=commit(),
            figures=tuple(sums[agent].sort_index().tolist()),
        )
        for agent in dict.fromkeys(rounds["agent"])
    ]


def commit() -> str:
    """Commit of rimsim's source checkout, or its version."""
    root = Path(rimsim.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return rimsim.__version__
    answer = subprocess.run(  # noqa: S603  # a fixed command
        ["git", "-C", str(root), "rev-parse", "--short=10", "HEAD"],  # noqa: S607  # git of the user's path
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or rimsim.__version__


COLUMNS = ("board", "agent", "training_rounds", "commit", "score", "low", "high", "figures")
"""Columns of a file of rows."""


def csv_line(row: BoardRow) -> str:
    """Row as a line of a file."""
    score = [f"{number:.3f}" for number in row.score()]
    figures = " ".join(f"{figure:.6g}" for figure in row.figures)
    texts = [row.board, row.agent, str(row.training_rounds), row.commit, *score, figures]
    return ",".join(f'"{text}"' if "," in text else text for text in texts)


def append_rows(path: Path, rows: Sequence[BoardRow]) -> None:
    """Add rows to a file, old or new."""
    head = "" if path.exists() else ",".join(COLUMNS) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(head + "".join(f"{csv_line(row)}\n" for row in rows))


def read_rows(path: str | Path) -> list[BoardRow]:
    """Rows of a file.

    Raises:
        ConfigError: If a column is missing.
    """
    with Path(path).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise ConfigError(f"{path}: the columns {', '.join(sorted(missing))} are missing")
        return [
            BoardRow(
                board=row["board"],
                agent=row["agent"],
                training_rounds=int(row["training_rounds"]),
                commit=row["commit"],
                figures=tuple(float(figure) for figure in row["figures"].split()),
            )
            for row in reader
        ]
