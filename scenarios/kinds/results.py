"""Results of all kinds of runs: tables, biases of estimates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rimsim.config import DataConfig, to_plain
from rimsim.config.reading import record_from
from rimsim.data import EventLog, Needs, load_log, require_usable
from rimsim.data.session_logs import LogSource, source_name
from rimsim.measures import paired_difference
from rimsim.scenarios.report.charts import columns, frame
from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.tables import SAME, the_same
from rimsim.scenarios.run import Run, load_run
from rimsim.scenarios.runs.memory import MAIN, log_bytes, require_memory
from rimsim.scenarios.runs.records import load_text
from rimsim.scenarios.runs.store import RunTables
from rimsim.system import single_thread


@dataclass(frozen=True, eq=False)
class RunResult(RunTables):
    """Finished run of a kind, with its tables."""

    folder: Path
    """The run folder."""

    @cached_property
    def run(self) -> Run:
        """Run folder with the content that all kinds share."""
        return load_run(self.folder)

    @property
    def table(self) -> pd.DataFrame:
        """Main table of the run."""
        return self.run.table

    @property
    def config(self) -> Any:
        """Complete config of the run."""
        return self.run.settings

    @property
    def described(self) -> dict[str, Any]:
        """Content of ``config.yaml``."""
        return self.run.config


Show: TypeAlias = Callable[[str], None]  # function that is called with a line of progress
Count: TypeAlias = Callable[[int], None]  # function that is called with a number of served arrivals


def own_log(
    config: DataConfig, data: LogSource | None, columns: str | None, *, skip_bad_rows: bool | None
) -> DataConfig:
    """Log of a config, with the fields that arguments replace."""
    source = None if data is None else source_name(data)
    fields = {"source": source, "columns": columns, "skip_bad_rows": skip_bad_rows}
    replaced = {name: value for name, value in fields.items() if value is not None}
    return record_from(to_plain(config) | replaced, DataConfig, origin="data")


def usable_log(data: DataConfig, needs: Needs, use: str, show: Show) -> EventLog:
    """Log of a run, checked to be large enough.

    Raises:
        DataError: If the log cannot be read, or is too small.
        ConfigError: If the run needs more memory than there is.
    """
    single_thread()
    log = load_log(data)
    require_usable(log, needs, use=use)
    if (read := load_text(log)) is not None:
        show(read)
    require_memory(log_bytes(log) + MAIN, 0.0, 1, "number of events (data)")
    return log


def table_of(
    rows: Iterable[Sequence[object]], columns: Sequence[str], numbers: Sequence[str]
) -> pd.DataFrame:
    """Table of rows; the named columns are floats."""
    return pd.DataFrame(list(rows), columns=list(columns)).astype(dict.fromkeys(numbers, float))


def bias_table(
    title: str,
    estimates: pd.DataFrame,
    header: str,
    labels: Sequence[str],
    columns: Mapping[str, tuple[str, str]],
) -> TextTable:
    """Table of biases; each column has a name and format.

    A bias has half its 95% interval over seeds, and a mark if it is the same in all seeds. Missing figures are dashes.
    """

    def cell(row: Mapping[Any, Any], name: str, form: str) -> str:
        """Figure of a row, with half its interval or mark."""
        if pd.isna(row[name]):
            return "–"
        text = format(row[name], form)
        if f"{name}_half" in row and pd.notna(row[f"{name}_half"]):
            return f"{text} ±{format(row[f'{name}_half'], form.replace('+', ''))}"
        return f"{text}{SAME}" if name == "bias" and row["equal"] else text

    estimates_with_halves = estimates.assign(around=estimates["width"] / 2, bias_half=estimates["half"])
    rows = []
    for row in estimates_with_halves.to_dict("records"):
        label = ", ".join(str(row[name]) for name in labels)
        rows.append((label, *(cell(row, name, form) for name, form in columns.values())))
    if estimates["equal"].any():
        title += f" ({SAME} {the_same(int(estimates['seeds'].max()))})"
    return TextTable(title, (header, *columns), tuple(rows))


def bias_over_seeds(
    table: pd.DataFrame, keys: Sequence[str], names: tuple[str, str], means: Sequence[str]
) -> pd.DataFrame:
    """Means over seeds, with the bias of an estimate.

    ``names`` are the columns of the estimate and of the true value, and ``means`` are further columns. A seed without
    an estimate does not count, so that the bias is the difference of the two means. ``half`` is half the 95% interval
    of the bias (Student t) and ``p`` its p value; both are NaN with one seed, and where the bias is the same in all
    seeds (``equal``).
    """
    estimate, truth = names
    by_seed = table.assign(bias=table[estimate] - table[truth], width=table["high"] - table["low"])
    has_estimate = by_seed["bias"].notna()
    has_any_estimate = has_estimate.groupby([by_seed[key] for key in keys]).transform("any")
    # A group without any estimate stays, as a row with missing figures.
    by_seed = by_seed[has_estimate | ~has_any_estimate]
    rows = []
    for key, group in by_seed.groupby(list(keys), sort=False):
        paired = paired_difference(group[estimate], group[truth])
        standard_error = np.nan
        if not np.isnan(paired.half):
            standard_error = float(group["bias"].to_numpy().std(ddof=1) / paired.n**0.5)
        averages = (group[name].mean() for name in (*names, "bias", "width", *means))
        rows.append((*key, *averages, standard_error, paired.half, paired.p, paired.equal, paired.n))
    columns = [*keys, *names, "bias", "width", *means, "error", "half", "p", "equal", "seeds"]
    return pd.DataFrame(rows, columns=columns).astype({"p": float})


@dataclass(frozen=True, eq=False)
class Panel:
    """Estimates with intervals, next to their true values."""

    title: str
    labels: Sequence[str]
    value: pd.Series[float]  # estimate for each label
    width: pd.Series[float]  # width of each estimate's 95% interval
    truth: float  # true value, drawn as a solid line
    reference: float  # value that estimates are compared with, drawn as a dotted line
    limits: tuple[float, float] | None = None  # ends of the axis; estimates outside are drawn at the edge


def interval_panels(message: str, caption: str, panels: Sequence[Panel]) -> Figure:
    """Figure of panels that share their labels.

    They stand side by side, or on a phone one below another.
    """
    n_columns = columns(len(panels), 2.0)
    n_rows = -(-len(panels) // n_columns)
    figure = frame(message, caption, 4.2 if n_rows == 1 else 2.6 * n_rows)
    axes = np.ravel(figure.subplots(n_rows, n_columns, sharey=True, squeeze=False))
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    for ax, panel in zip(axes, panels, strict=False):
        heights = np.arange(len(panel.labels))
        value = panel.value.to_numpy(np.float64)
        ax.axvline(panel.reference, color="#333333", linestyle=":")
        ax.axvline(panel.truth, color="#333333")
        drawn_value = value if panel.limits is None else value.clip(*panel.limits)
        ax.errorbar(drawn_value, heights, xerr=panel.width.to_numpy(np.float64) / 2, fmt="o", capsize=3)
        ax.set(title=panel.title, yticks=heights, yticklabels=panel.labels)
        if panel.limits is not None:
            ax.set(xlim=panel.limits)
    axes[0].invert_yaxis()  # the first label stands at the top
    return figure
