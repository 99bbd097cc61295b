"""Report as ``report.html``: one file that needs no network."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from rimsim.errors import MissingTableError, RunFolderError, reason
from rimsim.scenarios.report.charts import page_chart
from rimsim.scenarios.report.record import Report
from rimsim.scenarios.report.sentences import as_sentence
from rimsim.scenarios.runs.files import write_text
from rimsim.scenarios.runs.store import RunFolder, repeat_command

PAGE = "report.html"
"""Name of the report's page in a run folder."""


def write_page(report: Report, run: RunFolder, path: Path | None = None) -> Path:
    """Write a run's page, by default into its folder.

    Raises:
        MissingTableError: If no round is finished.
        RunFolderError: If the page cannot be written.
    """
    path = run.folder / PAGE if path is None else path
    page = html(report, run)
    try:
        write_text(path, page)
    except OSError as error:
        raise RunFolderError(
            f"{path}: the page cannot be written ({reason(error)}). Name another file with --out"
        ) from None
    return path


def html(report: Report, run: RunFolder) -> str:
    """Page of a report, with the command for its run.

    Raises:
        MissingTableError: If no round is finished.
    """
    if not report.sections:
        raise MissingTableError(
            f"{run.folder}: the run has not finished a round yet. Wait for the first round"
        )
    sections = [
        {
            "title": section.title,
            "text": section.text,
            "charts": [chart for plot in section.plots if (chart := page_chart(plot)) is not None],
            "tables": [table for table in (*section.tables, *section.details()) if table.rows],
        }
        for section in report.sections
    ]
    text = _template().render(
        report=report,
        cautions=[as_sentence(note) for note in report.cautions],
        checks=[as_sentence(note) for note in report.checks],
        sections=[section for section in sections if section["charts"] or section["tables"]],
        command=repeat_command(run),
        versions=", ".join(f"{name} {version}" for name, version in run.config.get("versions", {}).items()),
    )
    return text.rstrip() + "\n"


def fragment(report: Report) -> str:
    """Answer, tables and cautions of a report, for a notebook."""
    parts = [
        f"<p><b>{_words(report.question)}</b></p>",
        *(f"<p>{_words(text)}</p>" for text in report.answer),
    ]
    for table in report.tables:
        tagged_rows = [("th", table.columns), *(("td", row) for row in table.rows)]
        body = ""
        for tag, row in tagged_rows:
            cells = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
            body += f"<tr>{cells}</tr>"
        parts.append(f"<table><caption>{escape(table.title)}</caption>{body}</table>")
    parts += [f"<p>{_words(as_sentence(note))}</p>" for note in (*report.cautions, *report.checks)]
    return "\n".join(parts)


@cache
def _template() -> jinja2.Template:
    """Template of the page, which refuses undefined names."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rimsim.scenarios.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = _words
    return environment.get_template("page.html.jinja")


def _words(text: str) -> Markup:
    """Escaped text, with names in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped before
