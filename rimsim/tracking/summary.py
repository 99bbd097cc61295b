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
    charted_rounds = rounds[rounds["metric"].isin([*BANDED, *own_names])]
    present = [] if parts is None else parts["part"].unique().tolist()
    # The page shows the loop first, then all of retraining, then other parts.
    ordered_parts = [part for part in dict.fromkeys(["loop", "all", *present]) if part in present]
    page = layout(measures, ordered_parts)
    folders = []
    for agent in sorted(charted_rounds["agent"].unique()):
        folder = summary_folder(run, agent)
        with replaced_file(folder) as file:
            file.layout(page)
            for (metric,), step, ends in _bands(charted_rounds[charted_rounds["agent"] == agent], ["metric"]):
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
    values_over_seeds = ordered.groupby([*names, "round"])["value"].agg(list).reset_index()
    for *labels, step, values in values_over_seeds.itertuples(index=False):
        band = mean_interval(values, 0.95)
        if band.mean is None:
            continue
        # With one seed, there is no interval, and both ends are the mean.
        low = band.mean if band.low is None else band.low
        high = band.mean if band.high is None else band.high
        if 1 < band.n < FEW_SEEDS:
            low = min(values)
            high = max(values)
        yield tuple(labels), int(step), {"mid": band.mean, "low": low, "high": high}
