"""A picture of a log: popularity, events over time, silences, values."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from rimsim.errors import DataError

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes

    from rimsim.data.log import EventLog

__all__ = ["draw"]

ENDINGS: Final = (".png", ".pdf", ".svg")
_INK: Final = "#31688e"
_SECOND: Final = "#d1495b"


def draw(log: EventLog, path: str | os.PathLike[str]) -> None:
    """Draw a log into a file, which is there as a whole afterwards or not at all.

    Raises:
        DataError: If the ending is none of ``.png``, ``.pdf`` and ``.svg``, or the file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import, and only needed here)

    target = Path(path)
    if target.suffix.lower() not in ENDINGS:
        raise DataError(f"{target}: a picture ends in {', '.join(ENDINGS)}; found {target.suffix!r}")
    figure = Figure(figsize=(10.0, 7.0), layout="constrained")
    axes = figure.subplots(2, 2)
    _popularity(axes[0, 0], log)
    _over_time(axes[0, 1], log)
    _silences(axes[1, 0], log)
    _values(axes[1, 1], log)
    name = log.report.source if log.report is not None else "log"
    figure.suptitle(f"{name}: {log.n_users:,} users, {log.n_items:,} items, {len(log):,} events")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".rimsim-") as folder:
            made = Path(folder) / target.name
            figure.savefig(made, dpi=120)
            made.replace(target)
    except OSError as broken:
        raise DataError(f"{target}: cannot be written ({broken.strerror or broken})") from broken


def _popularity(axes: Axes, log: EventLog) -> None:
    for counts, name, colour in (
        (np.bincount(log.item, minlength=log.n_items), "items", _INK),
        (np.bincount(log.user, minlength=log.n_users), "users", _SECOND),
    ):
        ranked = np.sort(counts[counts > 0])[::-1]
        axes.loglog(np.arange(1, len(ranked) + 1), ranked, color=colour, label=name, drawstyle="steps-mid")
    axes.set(title="Popularity", xlabel="rank", ylabel="events")
    axes.legend(frameon=False)


def _over_time(axes: Axes, log: EventLog) -> None:
    edges = np.linspace(log.time[0], max(log.time[-1], log.time[0] + 1.0), 61)
    starts = log.sessions().start
    dates = [dt.datetime.fromtimestamp(float(edge), dt.UTC) for edge in edges]
    for times, name, colour in ((log.time, "events", _INK), (starts, "sessions", _SECOND)):
        axes.stairs(np.histogram(times, edges)[0], np.array(dates), color=colour, label=name)
    axes.set(title="Over time", xlabel="time (UTC)", ylabel="per sixtieth of the span")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.tick_params(axis="x", labelrotation=30)
    axes.legend(frameon=False)


def _silences(axes: Axes, log: EventLog) -> None:
    order = np.lexsort((log.time, log.user))
    user, time = log.user[order], log.time[order]
    gaps = np.diff(time)[user[1:] == user[:-1]]
    positive = gaps[gaps > 0]
    tied = len(gaps) - len(positive)
    axes.set(title=f"Silences between a user's events ({tied:,} ties left out)", xlabel="seconds")
    axes.set_ylabel("silences")
    if len(positive):
        low, high = positive.min(), max(positive.max(), positive.min() * 10)
        axes.hist(positive, bins=np.geomspace(low, high, 50).tolist(), color=_INK)
        axes.set_xscale("log")
        axes.axvline(1800, color=_SECOND, label="30 minutes: a new session")
        axes.legend(frameon=False)


def _values(axes: Axes, log: EventLog) -> None:
    distinct, counts = np.unique(log.value, return_counts=True)
    axes.set(title="Values", xlabel="value", ylabel="events")
    if len(distinct) <= 20:
        axes.bar([f"{value:g}" for value in distinct], counts, color=_INK)
    else:
        axes.hist(log.value, bins=50, color=_INK)
