"""The late rounds: which rounds of a run its figures are means over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def late_rounds(count: int) -> range:
    """The last half of a run's rounds, when the loop has had time to work.

    Args:
        count: Rounds of the run, at least 1.

    Returns:
        Numbers of rounds: the last ⌊count / 2⌋, and the only one of one.
    """
    return range(count - max(1, count // 2), count)


def late_words(count: int) -> str:
    """The late rounds of so many in words, such as ``mean of rounds 4–7``."""
    late = late_rounds(count)
    return f"round {late[0]}" if len(late) == 1 else f"mean of rounds {late[0]}–{late[-1]}"


def late_of(rounds: pd.DataFrame) -> str:
    """The late rounds of a run in words.

    Args:
        rounds: Its rounds: a column round, whose last is the run's last.
    """
    return late_words(int(rounds["round"].max()) + 1)


def late_means(rounds: pd.DataFrame) -> pd.DataFrame:
    """Means over the late rounds.

    Args:
        rounds: Columns agent, seed, round, metric, value.

    Returns:
        Columns agent, seed, metric, value.
    """
    late = rounds[rounds["round"].isin(late_rounds(int(rounds["round"].max()) + 1))]
    return late.groupby(["agent", "seed", "metric"], sort=False, observed=True)["value"].mean().reset_index()


def late_slopes(rounds: pd.DataFrame) -> pd.DataFrame:
    """Changes per round over the late rounds: slopes of least-squares lines, which a mean hides.

    Args:
        rounds: Columns agent, seed, round, metric, value.

    Returns:
        Columns agent, seed, metric, value; without those that have a value in fewer than three late rounds.
    """
    late = rounds[rounds["round"].isin(late_rounds(int(rounds["round"].max()) + 1))]
    keys = ["agent", "seed", "metric"]
    groups = late.groupby(keys, sort=False, observed=True)
    late = late[groups["round"].transform("count") > 2]  # a line through two points has no rest
    away = late["round"] - late.groupby(keys, observed=True)["round"].transform("mean")
    parts = late.assign(value=away * late["value"], spread=away**2)
    sums = parts.groupby(keys, sort=False, observed=True)[["value", "spread"]].sum().reset_index()
    return sums.assign(value=sums["value"] / sums["spread"])[[*keys, "value"]]
