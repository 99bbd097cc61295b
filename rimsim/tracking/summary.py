"""Event files of an agent's bands over seeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rimsim.measures import FEW_SEEDS, MEASURES, mean_interval
from rimsim.tracking.events import EventFile, replaced_file
from rimsim.tracking.folders import summary_folder
from rimsim.tracking.page import layout
from rimsim.tracking.tags import BANDED, BANDS, PART_TAGS, PARTS, RETRAINED, Measures

if TYPE_CHECKING:
    import pandas as pd


def write_summary(
    run: Path, rounds: pd.DataFrame, measures: Measures = MEASURES, parts: pd.DataFrame | None = None
) -> list[Path]:
    """Write every agent's bands over seeds; list their folders.

    A band is a 95% interval of the mean. With two or three seeds, the band reaches from the lowest to the highest
    value. With one seed, the band is the line itself. Older event files are replaced.

    ``rounds`` has columns agent, seed, round, metric, value; metrics without a band are left out. ``parts``, the parts
    of the effect of retraining, has columns agent, part, metric, round, seed, value.
    """
    own_names = [name for name in measures if name not in MEASURES]
    charted = rounds[rounds["metric"].isin([*BANDED, *own_names])]
    present = [] if parts is None else parts["part"].unique().tolist()
    names = [part for part in dict.fromkeys(["loop", "all", *present]) if part in present]
    page = layout(measures, names)
    folders = []
    for agent in sorted(charted["agent"].unique()):
        folder = summary_folder(run, agent)
        with replaced_file(folder) as file:
            file.layout(page)
            for (metric,), step, ends in _bands(charted[charted["agent"] == agent], ["metric"]):
                for end, value in ends.items():
                    file.scalar(f"{BANDS}/{metric}/{end}", value, step)
            if parts is not None:
                is_charted = (parts["agent"] == agent) & parts["metric"].isin([*RETRAINED, *own_names])
                _write_parts(file, parts[is_charted])
        folders.append(folder)
    return folders


def _write_parts(file: EventFile, parts: pd.DataFrame) -> None:
    """Write the parts of the effect of retraining, with bands."""
    for (metric, part), step, ends in _bands(parts, ["metric", "part"]):
        file.scalar(f"{PARTS}/{metric}/{PART_TAGS.get(part, part)}", ends["mid"], step)
        for end, value in ends.items():
            file.scalar(f"{BANDS}/{metric}/{part}/{end}", value, step)


def _bands(table: pd.DataFrame, names: list[str]) -> Iterator[tuple[tuple[str, ...], int, dict[str, float]]]:
    """Labels of each band, with round, mean and ends."""
    ordered = table.dropna(subset=["value"]).sort_values([*names, "round", "seed"])
    for row in ordered.groupby([*names, "round"])["value"].agg(list).reset_index().itertuples(index=False):
        *labels, step, values = row
        band = mean_interval(values, 0.95)
        if band.mean is None:
            continue
        low, high = (band.mean if bound is None else bound for bound in (band.low, band.high))
        if 1 < band.n < FEW_SEEDS:
            low = min(values)
            high = max(values)
        yield tuple(labels), int(step), {"mid": band.mean, "low": low, "high": high}
