"""Event files about a run as a whole: bands over seeds, what retraining does, command, settings and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rimsim.measures import FEW_SEEDS, MEASURES, mean_interval
from rimsim.tracking.events import EventFile, event_files
from rimsim.tracking.folders import about_folder, summary_folder
from rimsim.tracking.layout import BANDED, RETRAINED, layout
from rimsim.tracking.tags import band_tag, part_tag, tags_table

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.measures import Measure


_FIRST = ("loop", "all")
"""Parts of what retraining does, the first of them that are to be seen."""


def write_summary(
    run: Path,
    rounds: pd.DataFrame,
    measures: Mapping[str, Measure] = MEASURES,
    parts: pd.DataFrame | None = None,
) -> list[Path]:
    """Write the bands over seeds of every agent, anew, from the table of rounds.

    A band is a 95 % interval of the mean; with two or three seeds it is from the lowest to the highest, with one the
    line itself.

    Args:
        run: The run folder.
        rounds: Columns agent, seed, round, metric, value. Metrics without a band are left out.
        measures: Metric name → measure.
        parts: Columns agent, part, metric, round, seed, value: what retraining does to an agent, in parts, with
            bands of their own; None: not known.

    Returns:
        The folders written, one an agent.
    """
    own = [name for name in measures if name not in MEASURES]
    known = rounds[rounds["metric"].isin([*BANDED, *own])]
    told = [] if parts is None else list(dict.fromkeys([*_FIRST, *parts["part"]]))
    page = layout(measures, [part for part in told if parts is not None and (parts["part"] == part).any()])
    folders = []
    for agent in sorted(known["agent"].unique()):
        folder = summary_folder(run, agent)
        with _anew(folder) as file:
            file.layout(page)
            for (metric,), step, ends in _bands(known[known["agent"] == agent], ["metric"]):
                for end, value in ends.items():
                    file.scalar(band_tag(metric, end), value, step)
            if parts is not None:
                mine = parts[(parts["agent"] == agent) & parts["metric"].isin([*RETRAINED, *own])]
                for (metric, part), step, ends in _bands(mine, ["metric", "part"]):
                    file.scalar(part_tag(metric, part), ends["mid"], step)
                    for end, value in ends.items():
                        file.scalar(band_tag(f"{metric}/{part}", end), value, step)
        folders.append(folder)
    return folders


def write_about(
    run: Path,
    texts: Mapping[str, str],
    pictures: Sequence[Path],
    measures: Mapping[str, Measure] = MEASURES,
) -> None:
    """Write what a run is, anew: pages of text, what each tag is among them, and its pictures.

    Args:
        run: The run folder.
        texts: Name of a page → its Markdown.
        pictures: PNG files; each is shown under its name.
        measures: Metric name → measure.

    Raises:
        RunFolderError: If the folder cannot be written to.
    """
    with _anew(about_folder(run)) as file:
        for name, text in {**texts, "tags": tags_table(measures)}.items():
            file.text(f"about/{name}", text)
        for picture in pictures:
            file.picture(f"pictures/{picture.stem}", picture.read_bytes())


@contextmanager
def _anew(folder: Path) -> Iterator[EventFile]:
    """A new event file in the place of those that are in a folder."""
    older = event_files(folder)
    file = EventFile(folder)
    try:
        yield file
    finally:
        file.close()
    for path in older:
        path.unlink()


def _bands(table: pd.DataFrame, names: list[str]) -> Iterator[tuple[tuple[str, ...], int, dict[str, float]]]:
    """What a band is of, its step, and its mean and ends over seeds."""
    ordered = table.dropna(subset=["value"]).sort_values([*names, "round", "seed"])
    for row in ordered.groupby([*names, "round"])["value"].agg(list).reset_index().itertuples(index=False):
        *what, step, values = row
        band = mean_interval(values, 0.95)
        if band.mean is None:
            continue
        low, high = (band.mean if bound is None else bound for bound in (band.low, band.high))
        if 1 < band.n < FEW_SEEDS:
            low, high = min(values), max(values)
        yield tuple(what), int(step), {"mid": band.mean, "low": low, "high": high}
