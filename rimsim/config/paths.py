"""Paths that a scenario's YAML file names, which are relative to that file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rimsim.config.scenario import ScenarioConfig


def paths_from(folder: Path, config: ScenarioConfig) -> ScenarioConfig:
    """A scenario whose relative paths begin at a folder in place of the folder that the process is in.

    They are the log's, those of files of a user's own, and that of a table of answers. A log that is one word without
    a dot, such as ``ml-1m``, is a name unless something in the folder is called so.

    Args:
        folder: Where the YAML file is.
        config: The scenario as it stands in the file.
    """
    consumer, source = config.consumer, config.data.source
    is_path = "." in source or "/" in source or (folder / source).exists()
    options = tuple(
        (name, str(folder / value) if consumer.kind == "observed" and name == "table" else value)
        for name, value in consumer.options
    )
    return replace(
        config,
        data=replace(config.data, source=str(folder / source) if is_path else source),
        arrivals=replace(config.arrivals, kind=_place_from(folder, config.arrivals.kind)),
        consumer=replace(consumer, kind=_place_from(folder, consumer.kind), options=options),
        platform=replace(config.platform, model=_place_from(folder, config.platform.model)),
    )


def _place_from(folder: Path, text: str) -> str:
    """``file.py:Name`` with the file's path from the folder; any other text as it is."""
    file, ending, name = text.partition(".py")
    return f"{folder / file}.py{name}" if ending and name[:1] in {"", ":"} else text
