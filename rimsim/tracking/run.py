"""Event files of a run: arms, bands and settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np

from rimsim.arrays import Floats
from rimsim.errors import ConfigError, has_type
from rimsim.measures import FEW_SEEDS, MEASURES, Measure, find_measure, mean_interval
from rimsim.tracking.events import EventFile, HyperParameter, TagChart, event_files

if TYPE_CHECKING:
    import pandas as pd

Measures: TypeAlias = Mapping[str, Measure]
_BY_BAND = sorted(MEASURES.values(), key=lambda measure: measure.band)
BANDED = tuple(measure.name for measure in _BY_BAND if measure.band)
"""Built-in measures that have a band, in their order on the page."""
RETRAINED = tuple(sorted(name for name in MEASURES if MEASURES[name].retrained))
"""Built-in measures whose parts of retraining are reported."""
# Groups of tags. TensorBoard sorts them by name and opens the first two, so the parts of the effect of retraining have
# the first name. The last names are those of series that few users look at: the lines of bands, which the charts of the
# custom-scalar page draw, and each series against the arrivals served.
_PARTS = "1_retraining"
_BANDS = "zz_bands"
_BY_ARRIVALS = "zz_by_arrivals"
_FINAL = "final"
_BANDS_FOLDER = "bands"
_ABOUT_FOLDER = "about"
_PART_WORDS = {
    "loop": "the loop",
    "selection": "selection by a model's slates",
    "all": "all of retraining, agent − frozen",
    "data": "data of this market",
    "own-history": "events of its own market, not another's",
}
_PART_TAGS = {"all": "agent_minus_frozen"}
"""Last word of a part's tag, for a part whose name would not explain it."""
TAGS = {
    "platform/cost": "c, the cost of a missing exposure in units of λ; the same in all rounds",
    "platform/learnt_events": "events of the round from which the platform can learn",
    "platform/rescale": "factor that kept the mean of λ(x) in its last refit; 1 unless `platform.retrain_ground`",
    "delivery/required": "Σb, guaranteed exposures",
    "delivery/delivered": "Σ min(E, b), delivered exposures of these",
    "prices/lowest": "lowest item price v at the end of the round, in units of λ; below 0 it is a bonus",
    "prices/median": "median item price v at the end of the round, in units of λ",
    "prices/highest": "highest item price v at the end of the round, in units of λ",
    "prices/share_bonus": "share of items with a bonus (v < 0)",
    "groups/COLUMN GROUP/NAME": "`exposures`, `undelivered`, `consumptions` or `revenue` of a group, such as a seller",
    "histograms/item_price": "distribution of v over items",
    "histograms/exposure": "distribution of E over items",
    f"{_BY_ARRIVALS}/GROUP/NAME": "the same figures against arrivals served since the run began",
    f"{_FINAL}/NAME": "means over the late rounds, at the last round, as in the tables",
    f"{_PARTS}/NAME/PART": "part `retraining`, `data`, `selection` or `feedback`; in `bands/AGENT`",
    f"{_PARTS}/NAME/{_PART_TAGS['all']}": "all parts: the agent minus its frozen control; in `bands/AGENT`",
    f"{_BANDS}/NAME/END": "`mid`, `low`, `high`: mean over seeds and its 95% interval; in `bands/AGENT`, for charts",
}
"""Meaning of each tag that is not a measure's; steps are rounds unless it says otherwise."""


@dataclass(frozen=True, eq=False)
class RoundRecord:
    """Values of metrics in a round, for one arm.

    If a metric is None or NaN, it has no value in this round, and no point is written. A metric with a ``/`` in its
    name is a diagnostic of an agent, and its name is the tag.
    """

    round: int
    arrivals: int  # served since the run began, this round included
    metrics: Mapping[str, float | None]  # by the names of MEASURES
    item_price: Floats | None = None  # (M,) prices v at the end of the round, if the agent has any
    exposure: Floats | None = None  # (M,) exposures in the round, in the unit of the guarantee
    required: Floats | None = None  # (M,) required exposures b of the round, in that unit
    groups: Mapping[str, float] = field(default_factory=dict)  # figures of groups of items, by tag


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
            # TensorBoard can only purge all points from one step on, but steps are rounds in some series and arrivals
            # in others. So everything is purged, and the points of earlier rounds are written again.
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
            self._file.scalar(f"{_BY_ARRIVALS}/{name}", value, record.arrivals)
        for name, value in record.groups.items():
            self._file.scalar(name, value, record.round)
        for name, values in (("item_price", record.item_price), ("exposure", record.exposure)):
            if values is not None and values.size:
                self._file.histogram(f"histograms/{name}", values, record.round)
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
        columns = [(f"{_FINAL}/{name}", find_measure(name, self._measures).title) for name in final]
        self._file.hyperparameters({**self._identity, **hyperparameters}, columns)
        for name, figure in final.items():
            if figure is not None and math.isfinite(figure):
                self._file.scalar(f"{_FINAL}/{name}", figure, self._last_round)
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file; closing twice is harmless."""
        self._file.close()


def _stays(name: str, step: int, first_round: int, first_arrival: int) -> bool:
    if name.startswith(("_hparams_/", "custom_scalars", f"{_FINAL}/")):
        return False
    return step <= first_arrival if name.startswith(f"{_BY_ARRIVALS}/") else step < first_round


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


def event_folder(run: Path, agent: str, seed: int) -> Path:
    """Folder of event files of an agent and seed."""
    return run / "events" / _folder_name(agent) / f"seed-{seed}"


def summary_folder(run: Path, agent: str) -> Path:
    """Folder of an agent's bands (intervals over seeds)."""
    return run / "events" / _BANDS_FOLDER / _folder_name(agent)


def about_folder(run: Path) -> Path:
    """Folder of a run's command, settings and pictures."""
    return run / "events" / _ABOUT_FOLDER


def _folder_name(agent: str) -> str:
    forbidden = set('/\\:*?"<>|')
    taken = {".", "..", _BANDS_FOLDER, _ABOUT_FOLDER}
    if not agent or agent in taken or not agent.isprintable() or set(agent) & forbidden:
        allowed = f"letters, digits, - and _, but not {_BANDS_FOLDER!r} or {_ABOUT_FOLDER!r}"
        raise ConfigError(f"agent {agent!r}: its name cannot be the name of a folder. Expected {allowed}")
    return agent


def layout(measures: Measures = MEASURES, parts: Sequence[str] = ()) -> dict[str, tuple[TagChart, ...]]:
    """Charts of the custom-scalar page, by category."""
    own_names = [name for name in measures if name not in MEASURES]
    page = {}
    if parts:
        page["Retraining and its parts"] = tuple(
            _band(f"{measures[name].title}: {_PART_WORDS.get(part, part)}", measures[name], f"{name}/{part}")
            for part in parts
            for name in (*RETRAINED, *own_names)
        )
    page["Bands over seeds (95%; below four seeds from the lowest to the highest)"] = tuple(
        _band(measures[name].title, measures[name], name) for name in (*BANDED, *own_names)
    )
    for category, title, tags in (
        ("Guarantees", "Required and delivered exposure", ("delivery/required", "delivery/delivered")),
        (
            "Guarantees",
            "Shortfall: shown and examined",
            ("guarantee/shortfall", "guarantee/examined_shortfall"),
        ),
        ("Prices", "Item prices v", ("prices/lowest", "prices/median", "prices/highest")),
        ("Concentration", "Gini of exposure and of the training log", ("exposure/gini", "loop/log_gini")),
        ("Allocation", "Value and its bound", ("allocation/value_model", "allocation/bound")),
    ):
        page[category] = (*page.get(category, ()), TagChart(title, tags))
    return page


def _band(title: str, measure: Measure, series: str) -> TagChart:
    ends = [f"{_BANDS}/{series}/{end}" for end in ("mid", "low", "high")]
    return TagChart(f"{title} ({measure.unit})", tuple(ends), band=True)


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
        with _replaced(folder) as file:
            file.layout(page)
            for (metric,), step, ends in _bands(charted[charted["agent"] == agent], ["metric"]):
                for end, value in ends.items():
                    file.scalar(f"{_BANDS}/{metric}/{end}", value, step)
            if parts is not None:
                mine = parts[(parts["agent"] == agent) & parts["metric"].isin([*RETRAINED, *own_names])]
                for (metric, part), step, ends in _bands(mine, ["metric", "part"]):
                    file.scalar(f"{_PARTS}/{metric}/{_PART_TAGS.get(part, part)}", ends["mid"], step)
                    for end, value in ends.items():
                        file.scalar(f"{_BANDS}/{metric}/{part}/{end}", value, step)
        folders.append(folder)
    return folders


def write_about(
    run: Path, texts: Mapping[str, str], pictures: Sequence[Path], measures: Measures = MEASURES
) -> None:
    """Write Markdown pages about a run, its tags and pictures."""
    with _replaced(about_folder(run)) as file:
        for name, text in {**texts, "tags": _tags_table(measures)}.items():
            file.text(f"about/{name}", text)
        for picture in pictures:
            file.picture(f"pictures/{picture.stem}", picture.read_bytes())


def _tags_table(measures: Measures) -> str:
    """Markdown table of an arm's tags, measures first."""
    rows = {measure.tag: _of(measure) for measure in measures.values()} | TAGS
    lines = [f"| `{tag}` | {text.replace('|', '&#124;')} |" for tag, text in rows.items()]
    return "\n".join(["| tag | what it is |", "|---|---|", *lines])


def _of(measure: Measure) -> str:
    better = f"; {measure.better} is better" if measure.better != "neither" else ""
    return f"{measure.title} ({measure.unit}{better}): {measure.formula}"


@contextmanager
def _replaced(folder: Path) -> Iterator[EventFile]:
    """New event file that replaces a folder's older files."""
    older = event_files(folder)
    file = EventFile(folder)
    try:
        yield file
    finally:
        file.close()
    for path in older:
        path.unlink()


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
