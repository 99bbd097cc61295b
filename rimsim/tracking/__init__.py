"""Rounds as TensorBoard event files: a folder per (agent, seed), one per agent with its bands, one about the run.

The folders of a run::

    RUN/events/AGENT/seed-SEED/   every measure by round and by arrivals, histograms, hyperparameters
    RUN/events/bands/AGENT/       means and bands over seeds, as three tags per measure; what retraining does
    RUN/events/about/             the run's command, settings and pictures

Tags are ``group/name``; ``docs/tracking.md`` lists them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from rimsim.arrays import Floats
from rimsim.errors import ConfigError
from rimsim.measures import MEASURES, find_measure
from rimsim.tracking.events import EventFile, HyperParameter, Point, event_files, read_scalars
from rimsim.tracking.folders import about_folder, event_folder, summary_folder
from rimsim.tracking.layout import BANDED, RETRAINED, layout
from rimsim.tracking.summary import write_about, write_summary
from rimsim.tracking.tags import BY_ARRIVALS, FINAL

if TYPE_CHECKING:
    from rimsim.measures import Measure

__all__ = [
    "BANDED",
    "RETRAINED",
    "Point",
    "RoundRecord",
    "Tracker",
    "about_folder",
    "event_folder",
    "layout",
    "read_scalars",
    "summary_folder",
    "write_about",
    "write_summary",
]


@dataclass(frozen=True, eq=False)
class RoundRecord:
    """What a round of one agent at one seed left behind."""

    round: int
    """From 0."""
    arrivals: int
    """Arrivals served since the run began, this round included."""
    metrics: Mapping[str, float | None]
    """Metric name (:data:`rimsim.measures.MEASURES`) → value. None or NaN: the measure has no value in this
    round, and gets no point. A name with a ``/`` is an agent's own figure and its tag as it stands."""
    item_price: Floats | None = None
    """(M,) prices v at the end of the round; None for an agent without prices."""
    exposure: Floats | None = None
    """(M,) exposures in the round, in the unit of the guarantee."""
    required: Floats | None = None
    """(M,) required exposures b of the round, in that unit."""


class Tracker:
    """Writes the event files of one agent at one seed; a context manager.

    Event files carry wall times and the name of the machine: they are for looking at, and no part of what a
    run reproduces bit for bit.

    Args:
        run: The run folder.
        agent: Name of the agent.
        seed: Seed of the run.
        first_round: 0 for a new run, which replaces event files that are there. Otherwise the round at which
            an interrupted run goes on: earlier points are kept, this and later rounds are dropped.
        first_arrival: Arrivals served before ``first_round``.
        measures: Metric name → measure, of all metrics that have no ``/`` in their names.

    Raises:
        ConfigError: If ``first_round`` is negative, or the agent's name cannot be a folder.
        RunFolderError: If the folder cannot be written to.
    """

    def __init__(
        self,
        run: Path,
        agent: str,
        seed: int,
        *,
        first_round: int = 0,
        first_arrival: int = 0,
        measures: Mapping[str, Measure] = MEASURES,
    ) -> None:
        if first_round < 0 or first_arrival < 0:
            found = f"first_round {first_round}, first_arrival {first_arrival}"
            raise ConfigError(f"tracker of {agent!r}: {found}; allowed: at least 0")
        self.folder = event_folder(run, agent, seed)
        """Where the event files are."""
        self._identity: dict[str, HyperParameter] = {"agent": agent, "seed": seed}
        self._measures = measures
        self._last_round = max(first_round - 1, 0)
        older = event_files(self.folder)
        self._file = EventFile(self.folder)
        if first_round:
            # A purge at `first_round` alone would not do: it knows one kind of step, and would hide the
            # series by arrivals, whose steps are larger than any round. So all is purged, and what stays is
            # written anew.
            self._file.copy(older, lambda name, step: _stays(name, step, first_round, first_arrival))
        self._file.layout(layout(measures))
        self._file.flush()
        for path in older:
            path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def round(self, record: RoundRecord) -> None:
        """Write one round and flush it to disk.

        Raises:
            ConfigError: If a metric is neither a measure nor a tag of its own; nothing is written then.
        """
        points = {
            name if "/" in name else find_measure(name, self._measures).tag: value
            for name, value in record.metrics.items()
        }
        points |= _delivery(record) | _price_levels(record)
        for name, value in points.items():
            if value is None or not math.isfinite(value):
                continue
            self._file.scalar(name, value, record.round)
            self._file.scalar(f"{BY_ARRIVALS}/{name}", value, record.arrivals)
        for name, values in (("item_price", record.item_price), ("exposure", record.exposure)):
            if values is not None and values.size:
                self._file.histogram(f"histograms/{name}", values, record.round)
        self._last_round = record.round
        self._file.flush()

    def finish(
        self, hyperparameters: Mapping[str, HyperParameter], final: Mapping[str, float | None]
    ) -> None:
        """Write hyperparameters and final figures, once, when the run of this agent and seed is over.

        TensorBoard's table shows five hyperparameters, in order of their names, and the first five figures;
        others have to be ticked. It takes its columns from the first run that it reads.

        Args:
            hyperparameters: What differs between runs, the same names in every run; agent and seed are added.
            final: Metric name → the figure for the table, such as the mean over the last rounds; the same names
                in every run, with None where there is no figure.

        Raises:
            ConfigError: If a value is no bool, int, float or string, or a metric is no measure.
        """
        for name, value in hyperparameters.items():
            if not isinstance(value, bool | int | float | str):
                kind = type(value).__name__
                raise ConfigError(f"hyperparameter {name!r}: a {kind}; allowed: bool, int, float, str")
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
    if name.startswith(("_hparams_/", "custom_scalars", f"{FINAL}/")):
        return False
    return step <= first_arrival if name.startswith(f"{BY_ARRIVALS}/") else step < first_round


def _delivery(record: RoundRecord) -> dict[str, float | None]:
    if record.exposure is None or record.required is None:
        return {}
    delivered = np.minimum(record.exposure, record.required).sum()
    return {"delivery/required": float(record.required.sum()), "delivery/delivered": float(delivered)}


def _price_levels(record: RoundRecord) -> dict[str, float | None]:
    price = record.item_price
    if price is None or not price.size:
        return {}
    return {
        "prices/lowest": float(price.min()),
        "prices/median": float(np.median(price)),
        "prices/highest": float(price.max()),
        "prices/share_bonus": float((price < 0).mean()),
    }
