"""What a page says, in the order in which it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rimsim.scenarios.page.chart import Chart, Curve
    from rimsim.scenarios.report.record import TextTable


@dataclass(frozen=True)
class Section:
    """One question within a page, answered by charts and tables."""

    title: str
    """What it is about."""
    text: str = ""
    """How to read it."""
    charts: tuple[Chart, ...] = ()
    """Beside or below each other, as the screen allows."""
    tables: tuple[TextTable, ...] = ()
    """Below the charts."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to see."""
        return not self.charts and not any(table.rows for table in self.tables)

    @property
    def legend(self) -> tuple[Curve, ...]:
        """One curve of each name, in the order in which they are drawn."""
        return tuple({curve.name: curve for chart in self.charts for curve in chart.curves}.values())


@dataclass(frozen=True)
class Page:
    """Everything that the page of a run says."""

    question: str
    """The heading."""
    setting: tuple[str, ...]
    """What was simulated or measured, in a few facts."""
    answer: tuple[str, ...]
    """Sentences with intervals."""
    cautions: tuple[str, ...]
    """What to mind, and how far the figures may be believed."""
    sections: tuple[Section, ...]
    """Those that are not empty are shown."""
    settings: str
    """Every field, as YAML."""

    @property
    def shown(self) -> tuple[Section, ...]:
        """The sections that have something to see."""
        return tuple(section for section in self.sections if not section.empty)
