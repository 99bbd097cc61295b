"""A picture of a log: popularity, events over time, silences, values."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rimsim.errors import DataError
from rimsim.system import draft_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rimsim.data.log import EventLog


ENDINGS: Final = (".png", ".pdf", ".svg")
_FIRST: Final = "#0173b2"  # blue and vermilion of seaborn's colour-blind palette
_SECOND: Final = "#d55e00"
_LOOK: Final[dict[Any, Any]] = {
    "axes.titleweight": "bold",
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.6,
}
_FEW: Final = 20  # distinct values that get a bar each
_SECONDS: Final = {
    "1 s": 1,
    "1 min": 60,
    "1 h": 3600,
    "1 d": 86400,
    "30 d": 30 * 86400,
    "1 y": 365 * 86400,
    "10 y": 3650 * 86400,
}


def draw(log: EventLog, path: str | os.PathLike[str]) -> None:
    """Draw a log into a file, which is there as a whole afterwards or not at all.

    Raises:
        DataError: If the ending is none of ``.png``, ``.pdf`` and ``.svg``, or the file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 (slow to import, and only needed here, as all of these)
    import seaborn as sns  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    target = Path(path)
    if target.suffix.lower() not in ENDINGS:
        raise DataError(f"{target}: a picture ends in {', '.join(ENDINGS)}; found {target.suffix!r}")
    with sns.axes_style("whitegrid"), mpl.rc_context(_LOOK):
        figure = Figure(figsize=(10.0, 7.5), layout="constrained")
        axes = figure.subplots(2, 2)
        _popularity(axes[0, 0], log)
        _over_time(axes[0, 1], log)
        _silences(axes[1, 0], log)
        if log.value.min() < log.value.max():
            _values(axes[1, 1], log)
        else:  # a log without values has 1 throughout: nothing to see
            _session_lengths(axes[1, 1], log)
        name = log.report.source if log.report is not None else "log"
        title = f"{name}: {log.n_users:,} users, {log.n_items:,} items, {len(log):,} events"
        figure.suptitle(title, fontsize=14, fontweight="bold", x=0.01, ha="left")
    try:
        with draft_file(target) as draft:
            figure.savefig(draft, dpi=120)
    except OSError as broken:
        raise DataError(f"{target}: cannot be written ({broken.strerror or broken})") from broken


def _popularity(axes: Axes, log: EventLog) -> None:
    for counts, name, colour, dashes in (
        (np.bincount(log.item, minlength=log.n_items), "items", _FIRST, "-"),
        (np.bincount(log.user, minlength=log.n_users), "users", _SECOND, "--"),
    ):
        ranked = np.sort(counts[counts > 0])[::-1]
        rank = np.arange(1, len(ranked) + 1)
        axes.loglog(rank, ranked, color=colour, linestyle=dashes, linewidth=2, label=name)
    axes.set_title("Events of an item, of a user", loc="left")
    axes.set(xlabel="rank, most events first", ylabel="events")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
    axes.legend(frameon=False)


def _over_time(axes: Axes, log: EventLog) -> None:
    edges = np.linspace(log.time[0], max(log.time[-1], log.time[0] + 1.0), 61)
    starts = log.sessions().start
    dates = [dt.datetime.fromtimestamp(float(edge), dt.UTC) for edge in edges]
    for times, name, colour, dashes in (
        (log.time, "events", _FIRST, "-"),
        (starts, "sessions", _SECOND, "--"),
    ):
        heights = np.histogram(times, edges)[0]
        axes.stairs(
            heights, np.array(dates), color=colour, linestyle=dashes, linewidth=1.5, label=name, baseline=None
        )
    axes.set_title("Over time", loc="left")
    axes.set(xlabel="time (UTC)", ylabel=f"in {_span(float(edges[1] - edges[0]))}")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.tick_params(axis="x", labelrotation=30)
    axes.legend(frameon=False)


def _span(seconds: float) -> str:
    """``133 days``, ``2.5 hours``: in the largest unit of which it is at least one."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"


def _silences(axes: Axes, log: EventLog) -> None:
    user, time = log.user[log.by_user], log.time[log.by_user]
    gaps = np.diff(time)[user[1:] == user[:-1]]
    positive = gaps[gaps > 0]
    tied = len(gaps) - len(positive)
    axes.set_title("Silences between events of a user", loc="left")
    left_out = f"; {tied:,} of 0 s left out" if tied else ""
    axes.set(xlabel=f"length (log scale{left_out})", ylabel="silences")
    axes.yaxis.set_major_formatter("{x:,g}")
    if len(positive):
        low, high = positive.min(), max(positive.max(), positive.min() * 10)
        axes.hist(positive, bins=np.geomspace(low, high, 50).tolist(), color=_FIRST)
        axes.set_xscale("log")
        ticks = {name: at for name, at in _SECONDS.items() if low <= at <= high}
        if len(ticks) > 1:
            axes.set_xticks(list(ticks.values()), list(ticks))
            axes.set_xticks([], minor=True)
        axes.axvline(1800, color=_SECOND, linewidth=2, linestyle="--", label="30 min: a new session")
        axes.legend(frameon=False)


def _values(axes: Axes, log: EventLog) -> None:
    distinct, counts = np.unique(log.value, return_counts=True)
    share = counts / counts.sum()
    axes.set_title(f"Values, mean {log.value.mean():.3g}", loc="left")
    axes.set(xlabel="value", ylabel="share of the events")
    axes.grid(visible=False, axis="x")
    if len(distinct) <= _FEW:
        bars = axes.bar([f"{value:g}" for value in distinct], share, color=_FIRST)
        axes.bar_label(bars, [_per_cent(height) for height in share], fontsize=9, padding=2)
        axes.margins(y=0.1)
    else:
        positive = log.value[log.value > 0]
        wide = len(positive) == len(log) and positive.max() > 100 * positive.min()
        edges = (
            np.geomspace(positive.min(), positive.max(), 51)
            if wide
            else np.histogram_bin_edges(log.value, 50)
        )
        axes.hist(log.value, bins=edges.tolist(), weights=np.full(len(log), 1 / len(log)), color=_FIRST)
        if wide:
            axes.set_xscale("log")
            axes.set_xlabel("value (log scale)")
    axes.yaxis.set_major_formatter(lambda height, _: _per_cent(height))


def _session_lengths(axes: Axes, log: EventLog) -> None:
    lengths = np.minimum(log.sessions().count, _FEW)
    axes.bar(np.arange(1, _FEW + 1), np.bincount(lengths, minlength=_FEW + 1)[1:], color=_FIRST)
    axes.set_xticks([1, 5, 10, 15, _FEW], ["1", "5", "10", "15", f"{_FEW} or more"])
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_title(f"Events of a session, mean {log.sessions().count.mean():.3g}", loc="left")
    axes.set(xlabel=f"events (every value is {log.value[0]:g})", ylabel="sessions")


def _per_cent(share: float) -> str:
    return f"{100 * share:.3g} %" if share >= 0.1 else f"{100 * share:.2g} %"
