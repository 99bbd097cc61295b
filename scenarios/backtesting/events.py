"""A back-test as TensorBoard event files: a folder per model and seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rimsim.tracking import event_folder
from rimsim.tracking.events import EventFile, event_files

if TYPE_CHECKING:
    import pandas as pd


def write_events(run: Path, table: pd.DataFrame) -> list[Path]:
    """Write ``RUN/events/MODEL/seed-SEED/``.

    Tags are ``item-rec/METRIC`` and ``user-rec/METRIC`` at step 0, ``online/METRIC`` with 100·β as step and
    ``online-caps/METRIC`` with the multiple of k as step, so that TensorBoard draws the course over β.

    Args:
        run: The run folder.
        table: Columns task, model, beta, cap, seed, metric, value.

    Returns:
        The folders written.
    """
    folders = []
    for model, of_model in table.groupby("model", sort=False):
        for seed in of_model["seed"].unique().tolist():
            rows = of_model[of_model["seed"] == seed]
            folder = event_folder(run, str(model), int(seed))
            older = event_files(folder)
            file = EventFile(folder)
            for tag, step, value in _points(rows):
                file.scalar(tag, value, step)
            file.close()
            for path in older:
                path.unlink()
            folders.append(folder)
    return folders


def _points(rows: pd.DataFrame) -> Iterator[tuple[str, int, float]]:
    """(tag, step, value) of each row."""
    beta, cap = (rows[name].to_numpy(np.float64) for name in ("beta", "cap"))
    steps = np.where(np.isnan(cap), np.where(np.isnan(beta), 0.0, 100 * beta), cap).round().astype(np.int64)
    group = np.where(np.isnan(cap), rows["task"].astype(str), rows["task"].astype(str) + "-caps")
    tags = [f"{task}/{metric}" for task, metric in zip(group, rows["metric"], strict=True)]
    yield from zip(tags, steps.tolist(), rows["value"].astype(float).tolist(), strict=True)
