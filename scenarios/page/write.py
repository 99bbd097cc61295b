"""``report.html``: the page of a run of any kind, one file that needs no network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from rimsim.scenarios import load_backtest, load_experiment, load_validation
from rimsim.scenarios.page.backtest import backtest_page
from rimsim.scenarios.page.comparison import comparison_page
from rimsim.scenarios.page.experiment import experiment_page
from rimsim.scenarios.page.settings import versions_line
from rimsim.scenarios.page.svg import legend_key, svg, templates
from rimsim.scenarios.page.sweep import sweep_page
from rimsim.scenarios.page.validation import validation_page
from rimsim.scenarios.runs.store import repeat_command, write_text

if TYPE_CHECKING:
    from rimsim.scenarios.page.content import Page
    from rimsim.scenarios.runs.store import Run


PAGE = "report.html"
"""Name of the page in a run folder."""
_CODE = re.compile(r"`([^`]+)`")


def write_page(run: Run) -> Path:
    """Write the page of a run into its folder, in place of the one that may be there.

    Raises:
        RunFolderError: If a table is damaged, or no arm of a sweep is complete.
        MissingTableError: If a table is missing.
    """
    path = run.folder / PAGE
    write_text(path, html(page_of(run), run))
    return path


def page_of(run: Run) -> Page:
    """What the page of a run says.

    Raises:
        RunFolderError: As :func:`write_page`.
    """
    if run.kind == "backtest":
        return backtest_page(load_backtest(run.folder), run)
    if run.kind == "experiment":
        return experiment_page(load_experiment(run.folder), run)
    if run.kind == "validation":
        return validation_page(load_validation(run.folder), run)
    return sweep_page(run) if run.kind == "sweep" else comparison_page(run)


def html(page: Page, run: Run) -> str:
    """A page as HTML; its style, its charts and its text are all within.

    Args:
        page: What it says.
        run: The run, whose command and versions stand at the end.
    """
    environment = templates().overlay()
    environment.filters["words"] = _words
    text = environment.get_template("page.html.jinja").render(
        page=page, command=repeat_command(run), versions=versions_line(run), svg=svg, key=legend_key
    )
    return text.rstrip() + "\n"


def _words(text: str) -> Markup:
    """Escaped text, with what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped before
