"""A description of a log: what is in it, and what the simulator can do with it."""

from __future__ import annotations

import datetime as dt
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, ParamSpec

import numpy as np

from rimsim.arrays import Ints
from rimsim.data.load import load
from rimsim.data.picture import draw
from rimsim.data.usable import shortcomings
from rimsim.measures import gini

if TYPE_CHECKING:
    from rimsim.data.log import EventLog


WELL_KNOWN: Final = 30
"""Events that make an item well known: below, its intensities are mostly noise."""
_DAY: Final = 86_400.0


@dataclass(frozen=True, eq=False)
class LogDescription:
    """What is in a log."""

    log: EventLog
    """The log itself."""
    sessions: int
    """Sessions: a silence of 30 minutes ends one."""
    ties: float
    """Share of events at the very time of another event of the same user."""
    repeats: int
    """Events whose user had met the item before."""
    longest_silence: float
    """Seconds of the longest stretch without any event."""
    silence_start: float
    """When it began, seconds since the epoch."""
    popularity: Ints
    """(M,) events of each item, most popular first."""
    gini: float
    """Gini index of the events over items."""
    top_decile: float
    """Share of events on the most popular tenth of the items."""
    well_known: int
    """Items with at least 30 events."""
    late_items: int
    """Items first met in the second half of the time span."""
    can: tuple[str, ...]
    """What the simulator can do with it, a sentence each."""
    cannot: tuple[str, ...]
    """What it cannot do, and why."""

    def text(self) -> str:
        """The description for a person, some twenty lines."""
        log = self.log
        users = np.bincount(log.user, minlength=log.n_users)
        span = log.time[-1] - log.time[0]
        distinct = np.unique(log.value)
        values = (
            f"{distinct[0]:g} throughout"
            if len(distinct) == 1
            else f"{distinct[0]:g} to {distinct[-1]:g}, {len(distinct):,} different, "
            f"mean {log.value.mean(dtype=np.float64):.3g}"
        )
        users_text = f"median {np.median(users):g} events, most {users.max():,}"
        items_text = f"median {np.median(self.popularity):g} events, most {self.popularity[0]:,}"
        a_user, a_session = self.sessions / max(log.n_users, 1), len(log) / self.sessions
        session_text = f"{a_user:.2f} a user, {a_session:.1f} events each; 30 minutes of silence end one"
        silence = self.longest_silence / _DAY
        rows = (
            ("users", f"{log.n_users:,} ({users_text})"),
            ("items", f"{log.n_items:,} ({items_text}; {self.well_known:,} have {WELL_KNOWN} or more)"),
            ("events", f"{len(log):,} ({self.repeats:,} repeat an item of their user)"),
            ("sessions", f"{self.sessions:,} ({session_text})"),
            ("time", f"{_date(log.time[0])} to {_date(log.time[-1])} ({span / _DAY:,.1f} days)"),
            ("silence", f"{silence:,.1f} days without events from {_date(self.silence_start)}"),
            ("ties", f"{self.ties:.1%} of events share their time with another of their user"),
            ("values", values),
            (
                "popularity",
                f"Gini {self.gini:.3f}; the top tenth of items has {self.top_decile:.0%} of events",
            ),
            ("new items", f"{self.late_items:,} first met in the second half of the time"),
            ("attributes", _attributes(log)),
        )
        lines = [] if log.report is None else [log.report.text(), ""]
        lines += [f"{name:<12}{value}" for name, value in rows]
        if self.can:
            lines += ["", "rimsim can", *(f"  + {sentence}" for sentence in self.can)]
        if self.cannot:
            lines += ["", "rimsim cannot", *(f"  - {sentence}" for sentence in self.cannot)]
        return "\n".join(lines)

    def picture(self, path: str | os.PathLike[str]) -> None:
        """Draw the log to a PNG, PDF or SVG: popularity curve, events over time, silences, values.

        Raises:
            DataError: If the file cannot be written.
        """
        draw(self.log, path)


def describe(log: EventLog) -> LogDescription:
    """Describe a log of at least one event."""
    sessions = log.sessions()
    counts = np.bincount(log.item, minlength=log.n_items)
    popularity = np.sort(counts)[::-1]
    first = np.full(log.n_items, np.inf)
    np.minimum.at(first, log.item, log.time)
    late = int((np.isfinite(first) & (first > (log.time[0] + log.time[-1]) / 2)).sum())
    gaps = np.diff(log.time, append=log.time[-1])
    longest = int(np.argmax(gaps))
    pair = log.user * log.n_items + log.item
    repeats = len(log) - len(np.unique(pair))
    can, cannot = _abilities(log, len(sessions), counts, late, repeats)
    return LogDescription(
        log=log,
        sessions=len(sessions),
        ties=_ties(log),
        repeats=repeats,
        longest_silence=float(gaps[longest]),
        silence_start=float(log.time[longest]),
        popularity=popularity,
        gini=float(gini(counts)),
        top_decile=float(popularity[: -(-log.n_items // 10)].sum() / len(log)),
        well_known=int((counts >= WELL_KNOWN).sum()),
        late_items=late,
        can=can,
        cannot=cannot,
    )


def _ties(log: EventLog) -> float:
    user, time = log.user[log.by_user], log.time[log.by_user]
    same = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    tied = np.zeros(len(log), bool)
    tied[1:] |= same
    tied[:-1] |= same
    return float(tied.mean())


def _abilities(
    log: EventLog, sessions: int, counts: Ints, late: int, repeats: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    lacking = shortcomings(log)
    if lacking:
        return (), (f"fit or simulate anything: {'; '.join(lacking)}",)
    well_known = int((counts >= WELL_KNOWN).sum())
    titled = bool((log.items["title"] != "").any())
    with_genres = float((log.items["genres"] != "").mean())
    choices = [
        (True, f"replay its {sessions:,} sessions in time", ""),
        (
            well_known >= 20,
            f"run the closed loop on the {well_known:,} items with {WELL_KNOWN} or more events",
            f"run the closed loop with min_item_events={WELL_KNOWN}, which leaves {well_known:,} items",
        ),
        (
            late > 0,
            f"let items come when they did: {late:,} are first met in the second half",
            "study new items: none is first met in the second half of the time",
        ),
        (with_genres > 0.5, "follow genres", f"follow genres: {with_genres:.0%} of items have any"),
        (
            titled,
            "read titles of items, though tables and pictures of a run number them",
            "read titles of items: there are none",
        ),
        (
            len(np.unique(log.value)) > 1,
            "tell liked from met by a threshold on the value (min_value)",
            "tell liked from met: all values are the same, so every event counts as liked",
        ),
        (repeats == 0, "", f"show an item to a user again: the {repeats:,} repeats count as history only"),
    ]
    can = tuple(yes for holds, yes, _ in choices if holds and yes)
    cannot = tuple(no for holds, _, no in choices if not holds and no)
    return can, cannot


def _attributes(log: EventLog) -> str:
    titles = int((log.items["title"] != "").sum())
    genres = int((log.items["genres"] != "").sum())
    years = int(log.items["year"].notna().sum())
    if not titles + genres + years:
        return "none"
    return f"{titles:,} titles, {genres:,} items with genres, {years:,} years"


def _date(seconds: float) -> str:
    return f"{dt.datetime.fromtimestamp(float(seconds), dt.UTC):%Y-%m-%d %H:%M}"


P = ParamSpec("P")


def _described(load_as: Callable[P, EventLog]) -> Callable[P, LogDescription]:
    def check(*args: P.args, **options: P.kwargs) -> LogDescription:
        """Read a log and describe it, or the part of it that is selected.

        The arguments are those of :func:`rimsim.data.load`.

        Raises:
            DataError: If it cannot be read, or nothing is left.
            ConfigError: If an option is none.
        """
        return describe(load_as(*args, **options))

    # What help() shows; type checkers know it by P.
    shown = inspect.signature(load_as).replace(return_annotation="LogDescription")
    check.__signature__ = shown  # type: ignore[attr-defined]
    return check


check = _described(load)
