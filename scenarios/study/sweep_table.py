"""The table of a sweep: late means of every arm at every point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.errors import RunFolderError
from rimsim.measures import late_means
from rimsim.scenarios.store.points import runs_of
from rimsim.scenarios.study.status import shown_rounds, status_of

if TYPE_CHECKING:
    from rimsim.scenarios.store.run_folder import Run

__all__ = ["sweep_table"]


def sweep_table(sweep: Run) -> pd.DataFrame:
    """The table of a sweep, finished or not; an arm counts once it is complete.

    Returns:
        Columns agent, seed, the swept fields, metric, value: means over late rounds.

    Raises:
        RunFolderError: If no arm is complete.
    """
    parts, fields = [], []
    for point, run in runs_of(sweep):
        fields = [field for field, _ in point.labels]
        if status_of(run).complete:
            means = late_means(shown_rounds(run))
            parts.append(
                means.assign(**{field: pd.Series([value] * len(means)) for field, value in point.labels})
            )
    if not parts:
        raise RunFolderError(
            f"{sweep.folder}: no arm is complete; allowed: a sweep that has come further, or rimsim sweep --resume "
            f"--out {sweep.folder}"
        )
    table = pd.concat(parts, ignore_index=True)[["agent", "seed", *fields, "metric", "value"]]
    return table.astype({"agent": str, "seed": np.int64})
