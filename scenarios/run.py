"""Runs as users hold them: a folder and its report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import escape

from rimsim.config.reading import record_from
from rimsim.errors import ConfigError, MissingTableError, RimsimError, require_known
from rimsim.scenarios.kinds.registry import KINDS
from rimsim.scenarios.report.console import text
from rimsim.scenarios.report.record import Report
from rimsim.scenarios.runs.store import CONFIG, RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Run(RunFolder):
    """A finished or interrupted run; tables are read on use."""

    def report(self) -> Report:
        """:class:`rimsim.scenarios.report.record.Report` of the run."""
        return _report_of(self)

    @property
    def settings(self) -> Any:
        """Options of a back-test or validation, as a record."""
        entry = self.config[KINDS[self.kind].mark]
        origin = str(self.folder / CONFIG)
        # Only the record of this kind is imported, because the modules of these kinds load models.
        if self.kind == "backtest":
            from rimsim.scenarios.kinds.backtest.split import BacktestConfig  # noqa: PLC0415

            return record_from(entry, BacktestConfig, origin=origin)
        from rimsim.scenarios.kinds.validate import ValidateConfig  # noqa: PLC0415

        return record_from(entry, ValidateConfig, origin=origin)

    def summary(self) -> str:
        """Answer, tables and cautions, as the terminal prints them."""
        return text(self.report())

    def draw(self) -> list[Path]:
        """Write all pictures of the report and return their paths."""
        from rimsim.scenarios.report.charts import draw  # noqa: PLC0415  # Matplotlib is slow to import

        return draw(self.report().plots, self.folder / "pictures")

    def plot(self, name: str | None = None) -> Figure:
        """Picture of the report, such as ``"rounds"``, as a figure.

        Raises:
            ConfigError: If there is no name, or no picture of that name; the message lists the names.
            MissingTableError: If the run lacks the data of the picture.
        """
        from rimsim.scenarios.report import charts  # noqa: PLC0415  # Matplotlib is slow to import

        plots = {plot.name: plot for plot in self.report().plots}
        if name is None:
            raise ConfigError(f"plot: the name of a picture is missing. Use one of {', '.join(plots)}")
        require_known("plot: {}", [name], plots)
        figure = charts.figure(plots[name])
        if figure is None:
            raise MissingTableError(f"{self.folder}: holds no data for the picture {name!r}")
        return figure

    @cached_property
    def delivery(self) -> pd.DataFrame:
        """Required and delivered exposures of guaranteed items, by round.

        The columns are agent, seed, round, item, id, required and delivered (exposures in ``exposure.unit``).

        Raises:
            MissingTableError: If the run kept no ledger.
        """
        from rimsim.scenarios.report import items  # noqa: PLC0415  # torch is slow to import

        return items.delivery(self)

    @cached_property
    def users(self) -> pd.DataFrame:  # type: ignore[override]  # a table with added columns replaces the file's
        """Users of the log, and their consumptions under each agent.

        Columns are log_user, id and, with a ledger, one per agent (mean over seeds; NaN for users without a slate).
        """
        from rimsim.scenarios.report import items  # noqa: PLC0415  # torch is slow to import

        return items.users(self)

    def _repr_html_(self) -> str:
        """Report that a notebook shows."""
        from rimsim.scenarios.report.html import fragment  # noqa: PLC0415  # Matplotlib is slow to import

        try:
            return str(fragment(self.report()))
        except RimsimError as error:
            # Without this, a notebook would print a traceback for a run that has no finished round, for example.
            return f"<p>{escape(self.folder)}: {escape(error)}</p>"


def _report_of(run: Run) -> Report:
    """Report of a run of any kind."""
    # Only the report that is asked for is imported, because reports load Matplotlib, and some load torch.
    match run.kind:
        case "sweep":
            from rimsim.scenarios.report.sweep import sweep_report  # noqa: PLC0415

            return sweep_report(run)
        case "backtest":
            from rimsim.scenarios.kinds.backtest.report import backtest_report  # noqa: PLC0415

            return backtest_report(run)
        case "validation":
            from rimsim.scenarios.kinds.validate.report import validation_report  # noqa: PLC0415

            return validation_report(run)
        case "experiment":
            from rimsim.scenarios.kinds.experiment.report import experiment_report  # noqa: PLC0415

            return experiment_report(run)
        case "payback":
            from rimsim.scenarios.kinds.payback.report import payback_report  # noqa: PLC0415

            return payback_report(run)
        case _:
            from rimsim.scenarios.report.comparison import comparison_report  # noqa: PLC0415

            return comparison_report(run)


def load_run(path: str | Path, kind: str | None = None) -> Run:
    """Open a run folder.

    Args:
        path: The folder.
        kind: Required kind of the run; None: any kind.

    Raises:
        RunFolderError: If the folder is not a run folder, or holds a run of another kind.
    """
    return Run.open(path, kind)
