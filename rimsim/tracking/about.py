"""Event file of a run's texts and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rimsim.measures import MEASURES, Measure
from rimsim.tracking.events import replaced_file
from rimsim.tracking.folders import about_folder
from rimsim.tracking.tags import TAGS, Measures


def write_about(
    run: Path, texts: Mapping[str, str], pictures: Sequence[Path], measures: Measures = MEASURES
) -> None:
    """Write Markdown pages about a run, its tags and pictures."""
    with replaced_file(about_folder(run)) as file:
        for name, text in {**texts, "tags": _tags_table(measures)}.items():
            file.text(f"about/{name}", text)
        for picture in pictures:
            file.picture(f"pictures/{picture.stem}", picture.read_bytes())


def _tags_table(measures: Measures) -> str:
    """Markdown table of an arm's tags, measures first."""
    meaning_of = {measure.tag: _meaning(measure) for measure in measures.values()} | TAGS
    lines = [f"| `{tag}` | {text.replace('|', '&#124;')} |" for tag, text in meaning_of.items()]
    return "\n".join(["| tag | what it is |", "|---|---|", *lines])


def _meaning(measure: Measure) -> str:
    """Title, unit, better direction and formula of a measure."""
    better = f"; {measure.better} is better" if measure.better != "neither" else ""
    return f"{measure.title} ({measure.unit}{better}): {measure.formula}"
