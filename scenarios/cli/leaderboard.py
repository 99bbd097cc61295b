"""The command ``rimsim leaderboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rimsim import scenarios
from rimsim.errors import ConfigError
from rimsim.scenarios.cli import tools


@click.command(cls=tools.PlugCommand)
@click.argument("board")
@tools.options("leaderboard")
def leaderboard(*, board: str, agents: list[str] | None, append: Path | None, **values: Any) -> None:
    """Play the seeds of a leaderboard, and print rows.

    BOARD is sellers, sellers-hidden, closed-loop or online-match. The score is 0 for relevance and 1 for the ceiling of
    the board.
    """
    if not agents:
        raise ConfigError("--agents: no agent is named. Write --agents mine.py:Mine")
    from rimsim.scenarios import boards

    asked = tools.given(values)
    rows = scenarios.leaderboard(
        board, agents, **asked, command=tools.command_line(), console=tools.terminal()
    )
    ceiling = boards.board_of(board).ceiling
    for row in rows:
        mean, low, high = row.score()
        click.echo(
            f"{row.board}  {row.agent}  score {mean:.3f} ({low:.3f} to {high:.3f}; {len(row.figures)} seeds, "
            f"relevance 0, {ceiling} 1)  mean {sum(row.figures) / len(row.figures):.0f}  trained on "
            f"{row.training_rounds} rounds  rimsim {row.commit}"
        )
        click.echo(boards.csv_line(row))
    if append is not None:
        boards.append_rows(append, rows)
