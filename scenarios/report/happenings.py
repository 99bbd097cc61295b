"""Changes of markets by processes, for charts and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np
import pandas as pd

from rimsim.arrays import Floats
from rimsim.errors import many
from rimsim.scenarios.report import tables

CHANGES = {
    "release": "items released",
    "end": "items ended",
    "demand": "factor changed",
    "stop_model": "model stopped",
    "start_model": "model started",
    "train": "training started",
    "live": "model live",
}
"""Change in table ``happenings`` → its words, in the order of legends."""
_OF_ITEMS = ("release", "end")
_MOST_MARKS = 6  # largest number of rows of marks below a panel
_MOST_LINES = 40  # largest number of rows of a round's table in TensorBoard
_MOST_NAMED = 5  # largest number of items that a row of this table names
_COLUMNS = ["agent", "seed", "round", "time", "process", "what"]


class RoundMark(NamedTuple):
    """Rounds with the same changes by a process."""

    letter: str
    """Letter of the mark in charts."""
    label: str
    """Processes and their changes."""
    rounds: tuple[int, ...]
    """Numbers of the rounds with these changes, in any market."""


@dataclass(frozen=True, eq=False)
class RoundHours:
    """Changes, visits and consumptions of an arm's round, by time."""

    agent: str
    seed: int
    round: int
    changes: pd.DataFrame
    """Columns time, process, what, items: changes of a process at an instant, with the number of items."""
    visits: Floats
    """(n,) time of each visit, in seconds."""
    consumptions: Floats | None
    """(n,) items taken at each visit; None without a ledger."""
    stopped: tuple[tuple[float, float], ...]
    """Beginning and end of each time in the round at which the model is stopped."""


def grouped(happenings: pd.DataFrame, n_items: int) -> pd.DataFrame:
    """Changes by processes per instant, with numbers of items.

    Processes have their names alone, unless two of them have the same name. A change of all ``n_items`` items has one
    row in the table ``happenings``.
    """
    names = {text: short_name(text) for text in happenings["process"].unique()}
    of_name = pd.Series(names).value_counts()
    shown = {text: name if of_name[name] == 1 else text for text, name in names.items()}
    named = happenings.assign(process=happenings["process"].map(shown))
    named["items"] = np.where(named["item"] < 0, n_items, 1)
    return named.groupby(_COLUMNS, sort=False)["items"].sum().reset_index()


def short_name(process: str) -> str:
    """Name of a process without place and options."""
    return process.partition("(")[0].rpartition(":")[2]


def round_marks(changes: pd.DataFrame) -> tuple[RoundMark, ...]:
    """Marks of the rounds in which processes changed a market.

    Changes in the same rounds share a mark. If there are too many marks, all changes of a process count as one.
    """
    marked = _labels_of_rounds(changes, by_change=True)
    if len(marked) > _MOST_MARKS:
        marked = _labels_of_rounds(changes, by_change=False)
    marks = [
        RoundMark(letter, "; ".join(labels), rounds)
        for letter, (rounds, labels) in zip(ascii_lowercase, marked.items(), strict=False)
    ]
    rest = marks[_MOST_MARKS - 1 :]
    if len(rest) > 1:
        rounds = tuple(sorted({number for mark in rest for number in mark.rounds}))
        marks[_MOST_MARKS - 1 :] = [RoundMark(rest[0].letter, "other processes", rounds)]
    return tuple(marks)


def _labels_of_rounds(changes: pd.DataFrame, *, by_change: bool) -> dict[tuple[int, ...], list[str]]:
    """Rounds → labels of the processes that change them."""
    changes = changes.assign(what=pd.Categorical(changes["what"], [*CHANGES]))
    labels: dict[tuple[int, ...], list[str]] = {}
    for process, of_process in changes.groupby("process", sort=False):
        words: dict[tuple[int, ...], list[str]] = {}
        for change, rows in of_process.groupby("what", observed=True):
            marked = rows if by_change else of_process
            words.setdefault(tuple(sorted(marked["round"].unique().tolist())), []).append(
                CHANGES[str(change)]
            )
        for rounds, of_rounds in words.items():
            labels.setdefault(rounds, []).append(f"{process} ({', '.join(of_rounds)})")
    return labels


def marks_caption(marks: Sequence[RoundMark]) -> str:
    """Sentence of a caption on marks; empty without marks."""
    if not marks:
        return ""
    legend = ". ".join(f"{mark.letter}: {mark.label}" for mark in marks)
    return f" Ticks: rounds in which processes change a market of any agent and seed. {legend}."


def busiest_round(changes: pd.DataFrame) -> tuple[str, int, int] | None:
    """Agent, seed and round with most kinds of changes.

    The agent is that of titles, and the seed is the first. Of equal rounds, the last counts. None without changes of
    an agent.
    """
    changes = tables.without_controls(changes)
    if changes.empty:
        return None
    agent = tables.subject(list(changes["agent"].unique()))
    of_agent = changes[changes["agent"] == agent]
    of_arm = of_agent[of_agent["seed"] == of_agent["seed"].min()]
    kinds = of_arm.drop_duplicates(["round", "process", "what"]).groupby("round").size()
    return agent, int(of_arm["seed"].iloc[0]), int(kinds[kinds == kinds.max()].index[-1])


def round_hours(
    changes: pd.DataFrame, arm: tuple[str, int, int], arrivals: pd.DataFrame, ledger: pd.DataFrame | None
) -> RoundHours:
    """Changes, visits and consumptions of a round.

    Args:
        changes: Table of :func:`grouped` of all rounds.
        arm: Agent, seed and round.
        arrivals: Columns agent, seed, round, arrival, time.
        ledger: Columns agent, seed, round, arrival, consumed; None without a ledger.
    """
    agent, seed, number = arm
    of_round = _of_arm(arrivals, arm).sort_values("time")
    visits = of_round["time"].to_numpy(np.float64)
    consumptions = None
    if ledger is not None:
        taken = _of_arm(ledger, arm).groupby("arrival")["consumed"].sum()
        consumptions = of_round["arrival"].map(taken).fillna(0).to_numpy(np.float64)
    of_arm = changes[(changes["agent"] == agent) & (changes["seed"] == seed)]
    shown = of_arm[of_arm["round"] == number]
    times = [*visits, *shown["time"]]
    switches = of_arm[of_arm["what"].isin(("stop_model", "start_model")) & (of_arm["round"] <= number)]
    return RoundHours(
        agent,
        seed,
        number,
        shown[["time", "process", "what", "items"]],
        visits,
        consumptions,
        _stopped(switches, min(times), max(times)),
    )


def _of_arm(table: pd.DataFrame, arm: tuple[str, int, int]) -> pd.DataFrame:
    """Rows of an agent, seed and round."""
    agent, seed, number = arm
    return table[(table["agent"] == agent) & (table["seed"] == seed) & (table["round"] == number)]


def _stopped(switches: pd.DataFrame, begin: float, end: float) -> tuple[tuple[float, float], ...]:
    """Times between two instants with a stopped model."""
    spans = []
    stopped: dict[str, float] = {}
    for time, process, change in switches[["time", "process", "what"]].itertuples(index=False):
        if change == "stop_model":
            stopped.setdefault(process, time)
        elif process in stopped:
            spans.append((stopped.pop(process), time))
    spans += [(since, end) for since in stopped.values()]
    within = ((max(since, begin), min(until, end)) for since, until in spans)
    return tuple((since, until) for since, until in within if since < until)


def amount(change: str, items: pd.Series[int]) -> str:
    """Number of items, or of times, in words."""
    if change in _OF_ITEMS:
        return f"{many(int(items.sum()), 'item')} {CHANGES[change].removeprefix('items ')}"
    times = {1: "once", 2: "twice"}.get(len(items), f"{len(items):,} times")
    return f"{CHANGES[change]} {times}"


def heights(change: str, items: pd.Series[int]) -> Floats:
    """Height of each change in a chart: items, else 1."""
    return np.asarray(items if change in _OF_ITEMS else np.ones(len(items)), np.float64)


def markdown(happenings: Mapping[str, object]) -> str:
    """Columns of table ``happenings`` of a round as Markdown.

    A row has the changes of a process at one instant. A long table is shortened.
    """
    keys = ["time", "process", "what"]
    groups = pd.DataFrame(happenings).groupby(keys, sort=False)["item"].agg(list).reset_index()
    lines = ["| time (UTC) | process | change | items |", "|---|---|---|---|"]
    for time, process, change, items in groups.head(_MOST_LINES).itertuples(index=False):
        text = process.replace("|", "&#124;")
        when = pd.Timestamp(time, unit="s").strftime("%Y-%m-%d %H:%M:%S")
        lines.append(f"| {when} | `{text}` | {CHANGES[change]} | {_items(change, items)} |")
    if len(groups) > _MOST_LINES:
        lines.append(f"\n{many(len(groups) - _MOST_LINES, 'later row')} in the table `happenings`.")
    return "\n".join(lines)


def _items(change: str, items: Sequence[int]) -> str:
    """Numbers of items, their count if there are many."""
    if items == [-1]:
        return "all" if change in (*_OF_ITEMS, "demand") else ""
    return ", ".join(map(str, items)) if len(items) <= _MOST_NAMED else f"{len(items):,} items"
