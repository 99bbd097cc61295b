"""Event files of an arm, round by round."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from rimsim.arrays import Floats
from rimsim.errors import ConfigError, has_type
from rimsim.measures import MEASURES, find_measure
from rimsim.tracking.events import EventFile, HyperParameter, event_files
from rimsim.tracking.folders import event_folder
from rimsim.tracking.page import layout
from rimsim.tracking.tags import BY_ARRIVALS, FINAL, Measures


@dataclass(frozen=True, eq=False)
class RoundRecord:
    """Values of metrics in a round, for one arm.

    If a metric is None or NaN, it has no value in this round, and no point is written. A metric with a ``/`` in its
    name is a diagnostic of an agent, and its name is the tag.
    """

    round: int
    arrivals: int  # number of arrivals served since the run began, this round included
    metrics: Mapping[str, float | None]  # name of a metric in MEASURES → its value
    # (M,) prices v at the end of the round; None for an agent without prices.
    item_price: Floats | None = None
    exposure: Floats | None = None  # (M,) exposures in the round, in the unit of the guarantee
    required: Floats | None = None  # (M,) required exposures b of the round, in the unit of the guarantee
    # Tag → figure of a group of items, such as the exposures of a seller.
    groups: Mapping[str, float] = field(default_factory=dict)
    changes: str = ""  # changes of the market by processes, as Markdown


class Tracker:
    """Writer of one arm's event files; a context manager.

    Event files contain wall times and the name of the machine, so they are not part of the reproducible results.

    Args:
        run: The run folder.
        agent: Name of the agent.
        seed: Seed of the run.
        first_round: First round that the writer gets. In a new run it is 0, and existing event files are replaced. In a
            resumed run, points of earlier rounds are kept, and later points are dropped.
        first_arrival: Arrivals served before ``first_round``.
        measures: Metric name → measure, for all metrics without ``/`` in their names.
    """

    def __init__(
        self,
        run: Path,
        agent: str,
        seed: int,
        *,
        first_round: int = 0,
        first_arrival: int = 0,
        measures: Measures = MEASURES,
    ) -> None:
        if first_round < 0 or first_arrival < 0:
            starts = f"first_round {first_round}, first_arrival {first_arrival}"
            raise ConfigError(f"tracker of {agent!r}: {starts}. Expected at least 0")
        self.folder = event_folder(run, agent, seed)
        """Folder of the event files."""
        self._identity: dict[str, HyperParameter] = {"agent": agent, "seed": seed}
        self._measures = measures
        self._last_round = max(first_round - 1, 0)
        older = event_files(self.folder)
        self._file = EventFile(self.folder)
        if first_round:
            # TensorBoard can only drop the points of all series from one step on. But steps are rounds in some series,
            # and arrivals in others. So all points are dropped, and those of earlier rounds are written again.
            self._file.copy(older, lambda name, step: _stays(name, step, first_round, first_arrival))
        self._file.layout(layout(measures))
        self._file.flush()
        for path in older:
            path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def round(self, record: RoundRecord) -> None:
        """Write one round to disk; refuse unknown metrics."""
        points = {
            name if "/" in name else find_measure(name, self._measures).tag: value
            for name, value in record.metrics.items()
        }
        points |= _figures(record)
        for name, value in points.items():
            if value is None or not math.isfinite(value):
                continue
            self._file.scalar(name, value, record.round)
            self._file.scalar(f"{BY_ARRIVALS}/{name}", value, record.arrivals)
        for name, value in record.groups.items():
            self._file.scalar(name, value, record.round)
        for name, values in (("item_price", record.item_price), ("exposure", record.exposure)):
            if values is not None and values.size:
                self._file.histogram(f"histograms/{name}", values, record.round)
        if record.changes:
            self._file.text("happenings/changes", record.changes, record.round)
        self._last_round = record.round
        self._file.flush()

    def finish(
        self, hyperparameters: Mapping[str, HyperParameter], final: Mapping[str, float | None]
    ) -> None:
        """Write hyperparameters and final figures, once, at the end.

        Hyperparameters and figures have the same names in every run. Final figures, such as means over the last rounds,
        may be None. TensorBoard shows five hyperparameters, sorted by name, and the first five figures, until the user
        ticks others. The columns of TensorBoard's table come from the first run that it reads.
        """
        for name, value in hyperparameters.items():
            if not has_type(value, bool, int, float, str):
                kind = type(value).__name__
                raise ConfigError(f"hyperparameter {name!r} is a {kind}. Expected bool, int, float or str")
        columns = [(f"{FINAL}/{name}", find_measure(name, self._measures).title) for name in final]
        self._file.hyperparameters({**self._identity, **hyperparameters}, columns)
        for name, figure in final.items():
            if figure is not None and math.isfinite(figure):
                self._file.scalar(f"{FINAL}/{name}", figure, self._last_round)
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file; closing twice is harmless."""
        self._file.close()


def _stays(name: str, step: int, first_round: int, first_arrival: int) -> bool:
    """True if an earlier point belongs to earlier rounds."""
    # The tracker writes these series again: hyperparameters, the page of charts, and final figures.
    if name.startswith(("_hparams_/", "custom_scalars", f"{FINAL}/")):
        return False
    return step <= first_arrival if name.startswith(f"{BY_ARRIVALS}/") else step < first_round


def _figures(record: RoundRecord) -> dict[str, float]:
    """Metrics of delivery and prices in a round."""
    figures = {}
    price = record.item_price
    if record.exposure is not None and record.required is not None:
        figures["delivery/required"] = float(record.required.sum())
        figures["delivery/delivered"] = float(np.minimum(record.exposure, record.required).sum())
    if price is not None and price.size:
        figures["prices/lowest"] = float(price.min())
        figures["prices/median"] = float(np.median(price))
        figures["prices/highest"] = float(price.max())
        figures["prices/share_bonus"] = float((price < 0).mean())
    return figures
