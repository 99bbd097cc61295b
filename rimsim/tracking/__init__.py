"""Rounds as TensorBoard event files: a folder per (agent, seed), and one per agent with its bands over seeds.

The folders of a run::

    RUN/events/AGENT/seed-SEED/   every measure by round and by arrivals, histograms, hyperparameters
    RUN/events/summary/AGENT/     mean and 95 % interval over seeds, as three tags per measure; what retraining does

Tags are ``group/name``; ``docs/tracking.md`` lists them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from rimsim.errors import ConfigError
from rimsim.measures import MEASURES, find_measure, mean_interval
from rimsim.tracking.events import Chart, EventFile, HyperParameter, Point, event_files, read_scalars

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    import pandas as pd
    from numpy.typing import NDArray

    from rimsim.measures import Measure

__all__ = [
    "Point",
    "RoundRecord",
    "Tracker",
    "event_folder",
    "layout",
    "read_scalars",
    "summary_folder",
    "write_summary",
]

_BY_ARRIVALS = "by_arrivals"
_BANDS = (
    "utility",
    "shortfall",
    "coverage",
    "effective_items",
    "perplexity",
    "gini",
    "log_gini",
    "items_met",
)


def _band(measure: Measure) -> Chart:
    mid, low, high = (f"bands/{measure.name}/{part}" for part in ("mid", "low", "high"))
    return Chart(f"{measure.title} ({measure.unit})", (mid, low, high), band=True)


def layout(measures: Mapping[str, Measure] = MEASURES) -> dict[str, tuple[Chart, ...]]:
    """The custom-scalar page, category → charts; bands are drawn for the runs below ``summary/``.

    Args:
        measures: The measures of a run; those of a user's own get a band each.
    """
    banded = [*_BANDS, *(name for name in measures if name not in MEASURES)]
    return {
        "Bands over seeds (95 %)": tuple(_band(measures[name]) for name in banded),
        "Guarantees": (
            Chart("Required and delivered exposure", ("delivery/required", "delivery/delivered")),
            Chart("Shortfall: shown and examined", ("guarantee/shortfall", "guarantee/examined_shortfall")),
        ),
        "Prices": (Chart("Item prices v", ("prices/lowest", "prices/median", "prices/highest")),),
        "Concentration": (
            Chart("Gini of exposure and of the training log", ("exposure/gini", "loop/log_gini")),
        ),
        "Allocation": (Chart("Value and its bound", ("allocation/value_model", "allocation/bound")),),
    }


def event_folder(run: Path, agent: str, seed: int) -> Path:
    """The folder of the event files of an agent at a seed."""
    return run / "events" / _folder_name(agent) / f"seed-{seed}"


def summary_folder(run: Path, agent: str) -> Path:
    """The folder of the event files of an agent's bands over seeds."""
    return run / "events" / "summary" / _folder_name(agent)


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
    item_price: NDArray[np.float64] | None = None
    """(M,) prices v at the end of the round; None for an agent without prices."""
    exposure: NDArray[np.float64] | None = None
    """(M,) exposures in the round, in the unit of the guarantee."""
    required: NDArray[np.float64] | None = None
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
            self._file.scalar(f"{_BY_ARRIVALS}/{name}", value, record.arrivals)
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
        columns = [(f"final/{name}", find_measure(name, self._measures).title) for name in final]
        self._file.hyperparameters({**self._identity, **hyperparameters}, columns)
        for name, figure in final.items():
            if figure is not None and math.isfinite(figure):
                self._file.scalar(f"final/{name}", figure, self._last_round)
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file; closing twice is harmless."""
        self._file.close()


def write_summary(
    run: Path,
    rounds: pd.DataFrame,
    level: float = 0.95,
    measures: Mapping[str, Measure] = MEASURES,
    parts: pd.DataFrame | None = None,
) -> list[Path]:
    """Write the bands over seeds of every agent, anew, from the table of rounds.

    Args:
        run: The run folder.
        rounds: Columns agent, seed, round, metric, value. Metrics that are no measures are left out.
        level: Confidence level of the band. With one seed the band is the line itself.
        measures: Metric name → measure.
        parts: Columns agent, part, metric, round, mean, low, high: what retraining does to an agent, in parts, with
            bands of their own; None: not known.

    Returns:
        The folders written, one an agent.
    """
    known = rounds[rounds["metric"].isin(list(measures))]
    folders = []
    for agent in sorted(known["agent"].unique()):
        of_agent = known[known["agent"] == agent].sort_values(["metric", "round", "seed"])
        folder = summary_folder(run, agent)
        older = event_files(folder)
        file = EventFile(folder)
        file.layout(layout(measures))
        series = of_agent.groupby(["metric", "round"], sort=True)["value"]
        for (metric, step), values in series.agg(list).items():
            band = mean_interval(values, level)
            if band.mean is not None:
                low, high = (band.mean if bound is None else bound for bound in (band.low, band.high))
                _write_band(file, f"bands/{metric}", int(step), (band.mean, low, high))
        if parts is not None:
            columns = ["part", "metric", "round", "mean", "low", "high"]
            for part, metric, step, mid, *ends in parts.loc[parts["agent"] == agent, columns].itertuples(
                index=False
            ):
                low, high = (mid if math.isnan(end) else end for end in ends)
                _write_band(file, f"retraining/{metric}/{part}", int(step), (mid, low, high))
        file.close()
        for path in older:
            path.unlink()
        folders.append(folder)
    return folders


def _write_band(file: EventFile, tag: str, step: int, band: tuple[float, float, float]) -> None:
    for name, value in zip(("mid", "low", "high"), band, strict=True):
        file.scalar(f"{tag}/{name}", value, step)


def _stays(name: str, step: int, first_round: int, first_arrival: int) -> bool:
    if name.startswith(("_hparams_/", "custom_scalars", "final/")):
        return False
    return step <= first_arrival if name.startswith(f"{_BY_ARRIVALS}/") else step < first_round


def _folder_name(agent: str) -> str:
    forbidden = set('/\\:*?"<>|')
    if not agent or agent in {".", "..", "summary"} or not agent.isprintable() or set(agent) & forbidden:
        allowed = "letters, digits, - and _, but not 'summary'"
        raise ConfigError(f"agent {agent!r} cannot name a folder; allowed: {allowed}")
    return agent


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
