"""Description of a log, in words and as a picture."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Unpack

import numpy as np
import pandas as pd

from rimsim.arrays import Ints
from rimsim.data.log import EventLog, own_attributes
from rimsim.data.readers.columns import Columns
from rimsim.data.session_logs import LogSource
from rimsim.data.source import EMBEDDED, LogSelection, TimeUnit, load
from rimsim.data.suspicions import lower_threshold
from rimsim.data.usability import shortcomings
from rimsim.errors import DataError, many, raised_as
from rimsim.house_style import BLUE, VERMILION, style
from rimsim.measures import gini
from rimsim.system import draft_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes


WELL_KNOWN: Final = 30
"""Number of events from which an item is well known; with fewer events, its intensities are mostly noise."""
_DAY: Final = 86_400.0

ENDINGS: Final = (".png", ".pdf", ".svg")
"""Endings of picture files."""
_FEW: Final = 20
"""Largest number of distinct values for which each value gets a bar."""
_SECONDS: Final = {
    "1 s": 1,
    "1 min": 60,
    "1 h": 3600,
    "1 d": 86400,
    "30 d": 2592000,
    "1 y": 31536000,
    "10 y": 315360000,
}
"""Label of a tick on a time axis → seconds."""


@dataclass(frozen=True, eq=False)
class LogDescription:
    """Description of a log."""

    log: EventLog
    """The log."""
    sessions: int
    """Number of sessions; an inactivity gap of 30 minutes ends a session."""
    ties: float
    """Share of events with the same time as another event of their user."""
    repeats: int
    """Number of events whose user has an earlier event with the same item."""
    longest_silence: float
    """Seconds of the longest time without any event."""
    silence_start: float
    """Beginning of the longest time without any event, in seconds since 1970."""
    popularity: Ints
    """(M,) events of each item, descending."""
    gini: float
    """Gini index of the events over items."""
    top_decile: float
    """Share of events on the most popular tenth of the items."""
    well_known: int
    """Number of items with at least 30 events, which are well known."""
    late_items: int
    """Number of items whose first event is in the second half of the log's time."""
    can: tuple[str, ...]
    """Sentences about tasks that rimsim can do with the log."""
    cannot: tuple[str, ...]
    """Sentences about tasks that rimsim cannot do with the log, with reasons."""

    def text(self) -> str:
        """Text of about twenty lines that describes the log."""
        log = self.log
        users = np.bincount(log.user, minlength=log.n_users)
        span = log.time[-1] - log.time[0]
        distinct = np.unique(log.value)
        values = f"{distinct[0]:g} throughout"
        if len(distinct) > 1:
            mean = log.value.mean(dtype=np.float64)
            values = f"{distinct[0]:g} to {distinct[-1]:g}, {len(distinct):,} different, mean {mean:.3g}"
        users_text = f"median {np.median(users):g} events, most {users.max():,}"
        items_text = f"median {np.median(self.popularity):g} events, most {self.popularity[0]:,}"
        per_user = self.sessions / max(log.n_users, 1)
        per_session = len(log) / self.sessions
        session_text = f"{per_user:.2f} a user, {per_session:.1f} events each; 30 minutes of silence end one"
        silence = self.longest_silence / _DAY
        top = f"the top tenth of items has {self.top_decile:.0%} of events"
        rows = (
            ("users", f"{log.n_users:,} ({users_text})"),
            ("items", f"{log.n_items:,} ({items_text}; {self.well_known:,} have {WELL_KNOWN} or more)"),
            ("events", f"{len(log):,} ({self.repeats:,} repeat an item of their user)"),
            *(() if log.impressions is None else (("impressions", log.impressions.text()),)),
            ("sessions", f"{self.sessions:,} ({session_text})"),
            ("time", f"{_date(log.time[0])} to {_date(log.time[-1])} ({span / _DAY:,.1f} days)"),
            ("silence", f"{silence:,.1f} days without events from {_date(self.silence_start)}"),
            ("ties", f"{self.ties:.1%} of events share their time with another of their user"),
            ("values", values),
            ("popularity", f"Gini {self.gini:.3f}; {top}"),
            ("new items", f"{self.late_items:,} first met in the second half of the time"),
            *_ends(log),
            ("attributes", _attributes(log)),
        )
        lines = []
        if log.report is not None:
            lines = [log.report.text(columns=False), "", "columns", log.report.columns_text(), ""]
        lines += [f"{name:<12}{value}" for name, value in rows]
        if self.can:
            lines += ["", "rimsim can", *(f"  + {sentence}" for sentence in self.can)]
        if self.cannot:
            lines += ["", "rimsim cannot", *(f"  - {sentence}" for sentence in self.cannot)]
        return "\n".join(lines)

    def picture(self, path: str | os.PathLike[str]) -> None:
        """Draw item popularity, events over time, gaps between events, values.

        Raises:
            DataError: If the file name does not end with .png, .pdf or .svg, or the file cannot be written.
        """
        from matplotlib.figure import Figure  # noqa: PLC0415  # slow to import, and only needed here

        log = self.log
        target = Path(path)
        if target.suffix.lower() not in ENDINGS:
            raise DataError(
                f"{target}: found the ending {target.suffix!r}. Name a picture that ends in "
                f"{', '.join(ENDINGS)}"
            )
        with style():
            figure = Figure(figsize=(10.0, 7.5), layout="constrained")
            axes = figure.subplots(2, 2)
            _popularity(axes[0, 0], log)
            _over_time(axes[0, 1], log)
            _silences(axes[1, 0], log)
            if log.value.min() < log.value.max():
                _values(axes[1, 1], log)
            else:  # without values in the log, every event has the value 1, which needs no chart
                _session_lengths(axes[1, 1], log)
            name = log.report.source if log.report is not None else "log"
            title = f"{name}: {log.n_users:,} users, {log.n_items:,} items, {len(log):,} events"
            figure.suptitle(title, fontsize=14, fontweight="bold", x=0.01, ha="left")
            with raised_as(DataError, target, "cannot be written"), draft_file(target) as draft:
                figure.savefig(draft, dpi=120)


def describe(log: EventLog) -> LogDescription:
    """Describe a log of at least one event."""
    sessions = log.sessions()
    counts = np.bincount(log.item, minlength=log.n_items)
    popularity = np.sort(counts)[::-1]
    first_event = np.full(log.n_items, np.inf)
    np.minimum.at(first_event, log.item, log.time)
    n_late = int((np.isfinite(first_event) & (first_event > (log.time[0] + log.time[-1]) / 2)).sum())
    gaps = np.diff(log.time, append=log.time[-1])  # after each event; 0 after the last event
    before_silence = int(np.argmax(gaps))
    pair = log.user * log.n_items + log.item
    repeats = len(log) - len(np.unique(pair))
    can, cannot = _abilities(log, len(sessions), counts, n_late, repeats)
    return LogDescription(
        log=log,
        sessions=len(sessions),
        ties=_ties(log),
        repeats=repeats,
        longest_silence=float(gaps[before_silence]),
        silence_start=float(log.time[before_silence]),
        popularity=popularity,
        gini=float(gini(counts)),
        top_decile=float(popularity[: -(-log.n_items // 10)].sum() / len(log)),
        well_known=int((counts >= WELL_KNOWN).sum()),
        late_items=n_late,
        can=can,
        cannot=cannot,
    )


def _ties(log: EventLog) -> float:
    """Share of events at the time of their user's others."""
    user = log.user[log.by_user]
    time = log.time[log.by_user]
    equals_next = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    is_tied = np.append(equals_next, False) | np.insert(equals_next, 0, False)
    return float(is_tied.mean())


class _Ability(NamedTuple):
    """Use of a log, possible or not."""

    is_possible: bool
    """True if the log suffices for the task."""
    sentence: str = ""
    """Sentence about the task; empty if the report need not mention it."""
    obstacle: str = ""
    """Task, and the reason why the log does not suffice for it."""


def _abilities(
    log: EventLog, n_sessions: int, counts: Ints, n_late: int, n_repeats: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sentences about possible and about impossible tasks.

    ``counts`` are the events of each item, and ``n_late`` items have their first event in the second half of the time.
    """
    reasons = shortcomings(log)
    if reasons:
        return (), (f"fit or simulate anything: {'; '.join(reasons)}",)
    well_known = int((counts >= WELL_KNOWN).sum())
    share_with_genres = float((log.items["genres"] != "").mean())
    abilities = (
        _Ability(
            is_possible=True,
            sentence=f"replay its {n_sessions:,} sessions in time",
        ),
        _Ability(
            is_possible=well_known >= 20,
            sentence=f"run the closed loop on the {well_known:,} items with {WELL_KNOWN} or more events",
            obstacle=f"run the closed loop with min_item_events={WELL_KNOWN}, which leaves "
            f"{many(well_known, 'item')}; {lower_threshold(counts)}",
        ),
        _Ability(
            is_possible=n_late > 0,
            sentence=f"let items come when they did: {n_late:,} are first met in the second half",
            obstacle="study new items: none is first met in the second half of the time",
        ),
        _Ability(
            is_possible=share_with_genres > 0.5,
            sentence="follow genres",
            obstacle=f"follow genres: {share_with_genres:.0%} of items have any",
        ),
        _Ability(
            is_possible=bool((log.items["title"] != "").any()),
            sentence="name items by their titles in tables, pictures and pages",
            obstacle="name items by their titles: there are none",
        ),
        _Ability(
            is_possible=len(np.unique(log.value)) > 1,
            sentence="tell liked from met by a threshold on the value (min_value)",
            obstacle="tell liked from met: all values are the same, so every event counts as liked",
        ),
        _repetition(log, n_repeats),
    )
    can = tuple(ability.sentence for ability in abilities if ability.is_possible and ability.sentence)
    cannot = tuple(ability.obstacle for ability in abilities if not ability.is_possible)
    return can, cannot


def _repetition(log: EventLog, repeats: int) -> _Ability:
    """Offer of items that a user took before."""
    return _Ability(
        is_possible=repeats == 0 or log.repeatable,
        sentence="offer users the items that they took before (data.repeats: consume)" * log.repeatable,
        obstacle=f"offer users an item again: the {repeats:,} repeats count as history only, unless data.repeats is "
        "consume",
    )


def _ends(log: EventLog) -> tuple[tuple[str, str], ...]:
    """Row about the items that end; none without ends."""
    is_ending = np.isfinite(log.end)
    if not is_ending.any():
        return ()
    text = f"{int(is_ending.sum()):,} of {log.n_items:,} items end"
    has_life = is_ending & (log.release > 0)
    if has_life.any():
        life = float(np.median((log.end - log.release)[has_life]))
        text += f", half of them within {_span(life)} of their release"
    return (("ends", text),)


def _attributes(log: EventLog) -> str:
    """Counts of titles, genres and years; other attributes' ranges."""
    titles = int((log.items["title"] != "").sum())
    genres = int((log.items["genres"] != "").sum())
    years = int(log.items["year"].notna().sum())
    usual = f"{titles:,} titles, {genres:,} items with genres, {years:,} years"
    parts = [usual] if titles + genres + years else []
    parts += [f"{name} ({_range(log.items[name])})" for name in own_attributes(log.items)]
    return "; ".join(parts) or "none"


def _range(attribute: pd.Series) -> str:
    """Range of numbers, or number of different texts."""
    if pd.api.types.is_float_dtype(attribute):
        low = attribute.min()
        high = attribute.max()
        unknown = int(attribute.isna().sum())
        note = f", unknown for {unknown:,} items" if unknown else ""
        return f"{low:g} to {high:g}{note}"
    return many(int(attribute[attribute != ""].nunique()), "value")


def _date(seconds: float) -> str:
    return f"{dt.datetime.fromtimestamp(float(seconds), dt.UTC):%Y-%m-%d %H:%M}"


def _popularity(axes: Axes, log: EventLog) -> None:
    """Draw the popularity of items."""
    for counts, name, colour, dashes in (
        (np.bincount(log.item, minlength=log.n_items), "items", BLUE, "-"),
        (np.bincount(log.user, minlength=log.n_users), "users", VERMILION, "--"),
    ):
        ranked = np.sort(counts[counts > 0])[::-1]
        rank = np.arange(1, len(ranked) + 1)
        axes.loglog(rank, ranked, color=colour, linestyle=dashes, linewidth=2, label=name)
    axes.set_title("Events of an item, of a user")
    axes.set(xlabel="rank, most events first", ylabel="events")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
    axes.legend()


def _over_time(axes: Axes, log: EventLog) -> None:
    """Draw the number of events over time."""
    edges = np.linspace(log.time[0], max(log.time[-1], log.time[0] + 1.0), 61)  # a second at least
    starts = log.sessions().start
    dates = [dt.datetime.fromtimestamp(float(edge), dt.UTC) for edge in edges]
    for times, name, colour, dashes in (
        (log.time, "events", BLUE, "-"),
        (starts, "sessions", VERMILION, "--"),
    ):
        heights = np.histogram(times, edges)[0]
        line_style: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 1.5}
        axes.stairs(heights, np.array(dates), label=name, baseline=None, **line_style)
    axes.set_title("Over time")
    axes.set(xlabel="time (UTC)", ylabel=f"in {_span(float(edges[1] - edges[0]))}")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.tick_params(axis="x", labelrotation=30)
    axes.legend()


def _span(seconds: float) -> str:
    """Text such as ``133 days``, in the largest fitting unit."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"


def _silences(axes: Axes, log: EventLog) -> None:
    """Draw the gaps between successive events of a user."""
    import seaborn as sns  # noqa: PLC0415  # slow to import, and only needed here

    user = log.user[log.by_user]
    time = log.time[log.by_user]
    gaps = np.diff(time)[user[1:] == user[:-1]]
    positive = gaps[gaps > 0]
    n_tied = len(gaps) - len(positive)
    axes.set_title("Silences between events of a user")
    left_out = f"; {n_tied:,} of 0 s left out" if n_tied else ""
    if len(positive):
        low = positive.min()
        high = max(positive.max(), positive.min() * 10)
        sns.histplot(
            x=positive, bins=50, binrange=np.log10([low, high]), log_scale=True, alpha=1, color=BLUE, ax=axes
        )
        ticks = {name: at for name, at in _SECONDS.items() if low <= at <= high}
        if len(ticks) > 1:
            axes.set_xticks(list(ticks.values()), list(ticks))
            axes.set_xticks([], minor=True)
        axes.axvline(1800, color=VERMILION, linewidth=2, linestyle="--", label="30 min: a new session")
        axes.legend()
    axes.set(xlabel=f"length (log scale{left_out})", ylabel="silences")
    axes.yaxis.set_major_formatter("{x:,g}")


def _values(axes: Axes, log: EventLog) -> None:
    """Draw the number of events with each value."""
    import seaborn as sns  # noqa: PLC0415  # slow to import, and only needed here

    distinct, counts = np.unique(log.value, return_counts=True)
    share = counts / counts.sum()
    axes.set_title(f"Values, mean {log.value.mean():.3g}")
    axes.set(xlabel="value", ylabel="share of the events")
    axes.grid(visible=False, axis="x")
    if len(distinct) <= _FEW:
        bars = axes.bar([f"{value:g}" for value in distinct], share, color=BLUE)
        axes.bar_label(bars, [_per_cent(height) for height in share], fontsize=9, padding=2)
        axes.margins(y=0.1)
    else:
        positive = log.value[log.value > 0]
        is_wide = len(positive) == len(log) and positive.max() > 100 * positive.min()
        sns.histplot(x=log.value, bins=50, stat="proportion", log_scale=is_wide, alpha=1, color=BLUE, ax=axes)
        axes.set(xlabel="value (log scale)" if is_wide else "value", ylabel="share of the events")
    axes.yaxis.set_major_formatter(lambda height, _: _per_cent(height))


def _session_lengths(axes: Axes, log: EventLog) -> None:
    """Draw the number of sessions of each length."""
    import seaborn as sns  # noqa: PLC0415  # slow to import, and only needed here

    sns.histplot(
        x=np.minimum(log.sessions().count, _FEW), discrete=True, shrink=0.8, alpha=1, color=BLUE, ax=axes
    )
    axes.set_xticks([1, 5, 10, 15, _FEW], ["1", "5", "10", "15", f"{_FEW} or more"])
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_title(f"Events of a session, mean {log.sessions().count.mean():.3g}")
    axes.set(xlabel=f"events (every value is {log.value[0]:g})", ylabel="sessions")


def _per_cent(share: float) -> str:
    """Share as a percentage of two or three digits."""
    return f"{100 * share:.3g}%" if share >= 0.1 else f"{100 * share:.2g}%"


def check(
    source: LogSource = EMBEDDED,
    *,
    columns: Columns | str | None = None,
    time_unit: TimeUnit = "auto",
    items: str | os.PathLike[str] | None = None,
    **options: Unpack[LogSelection],
) -> LogDescription:
    """Describe a log or a part of it; see :func:`rimsim.data.load`.

    Raises:
        DataError: If the log cannot be read, or no event is left.
        ConfigError: If an option is unknown or out of range.
    """
    return describe(load(source, columns=columns, time_unit=time_unit, items=items, **options))
