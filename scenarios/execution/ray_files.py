"""Files of an arm that plays on another machine: what goes there, what comes back, and where it lies meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rimsim.config import override
from rimsim.files import draft_folder
from rimsim.intensity.cache import cache_folder
from rimsim.market.world import own_places
from rimsim.scenarios.store.folders import FAILURES, STATES, part_name
from rimsim.scenarios.store.status import DONE
from rimsim.scenarios.store.write import write_bytes
from rimsim.tracking import event_folder

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.scenarios.execution.arm import Arm

    Files: TypeAlias = dict[str, bytes | None]
    """Name in the run folder → content; None: it is gone."""
    Sources: TypeAlias = dict[str, bytes | str]
    """Place → content of a file, or where a folder lies."""


# -- where the run began ------------------------------------------------------------------------------------------


def _file_of(text: str) -> str | None:
    """The file in ``file.py:Name``."""
    place, colon, _ = text.partition(".py:")
    return place + ".py" if colon else None


def _table_of(config: ScenarioConfig) -> str | None:
    """The table from which consumers answer, if they do."""
    table = dict(config.consumer.options).get("table") if config.consumer.kind == "observed" else None
    return None if table is None else str(table)


def sources_of(arms: Sequence[Arm]) -> Sources:
    """What arms name, by its place as it is written: files of a user's own, logs and tables in a file or a folder."""
    named = {_file_of(text) for arm in arms for text in (arm.agent, *arm.measures, *own_places(arm.config))}
    named |= {arm.config.data.source for arm in arms} | {_table_of(arm.config) for arm in arms}
    paths = {name: Path(name) for name in named if name is not None and Path(name).exists()}
    return {
        name: path.read_bytes() if path.is_file() else str(path.resolve()) for name, path in paths.items()
    }


def left_of(arm: Arm) -> Files:
    """The files that an arm needs to go on after its last finished round."""
    folder, part = arm.folder, arm.part
    paths = [folder / "rounds" / f"{part}.parquet", folder / FAILURES / f"{part}.txt"]
    paths += [*(folder / STATES / part).rglob("*"), *event_folder(folder, arm.name, arm.seed).glob("*")]
    if arm.control is not None:  # it learns as much as the arm of its agent did
        subject = part_name(arm.subject, arm.seed)
        paths += [folder / STATES / subject / DONE, *(folder / "learnt").glob(f"{subject}-*.parquet")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def enter(folder: Path, files: Files) -> None:
    """Write files that came back: tables, then the states that belong to them, each whole; then remove what is gone."""
    states: dict[Path, dict[Path, bytes]] = {}
    gone: set[Path] = set()
    for name, content in files.items():
        path = Path(name)
        unit = Path(*path.parts[:3]) if path.parts[0] == STATES else path
        if content is None:
            gone.add(unit)
        elif unit is path:
            write_bytes(folder / path, content)
        else:
            states.setdefault(unit, {})[path.relative_to(unit)] = content
    for unit, contents in states.items():
        if contents.keys() == {Path()}:  # a mark, not a folder
            write_bytes(folder / unit, contents[Path()])
            continue
        with draft_folder(folder / unit) as draft:
            for path, content in contents.items():
                write_bytes(draft / path, content)
    for unit in gone - states.keys():
        if (folder / unit).is_dir():
            shutil.rmtree(folder / unit)
        else:
            (folder / unit).unlink(missing_ok=True)


# -- where an arm runs --------------------------------------------------------------------------------------------


def unpacked(sources: Sources) -> dict[str, str]:
    """Write files into this machine's cache; the place where the run began → the place here."""
    places = {}
    for name, content in sources.items():
        if isinstance(content, str):
            places[name] = content
            continue
        place = cache_folder() / "sent" / sha256(content).hexdigest() / Path(name).name
        if not place.is_file():
            write_bytes(place, content)
        places[name] = str(place)
    return places


def moved(arm: Arm, folder: Path, places: dict[str, str]) -> Arm:
    """An arm with the places that hold here."""

    def here(text: str) -> str:
        file = _file_of(text)
        return text.replace(file, places[file], 1) if file in places else text

    config = arm.config
    source = config.data.source
    changes: dict[str, object] = {
        "arrivals.kind": here(config.arrivals.kind),
        "consumer.kind": here(config.consumer.kind),
        "platform.model": here(config.platform.model),
        "providers.kind": here(config.providers.kind),
        "data.source": places.get(source, source),
    }
    if (table := _table_of(config)) is not None:
        changes["consumer.options.table"] = places.get(table, table)
    return replace(
        arm,
        folder=folder,
        agent=here(arm.agent),
        measures=tuple(here(place) for place in arm.measures),
        config=override(config, changes),
    )


class Changes:
    """Files of a folder that have changed since they were last sent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sent = self._now()

    def of_round(self) -> Files:
        """Files to send after a round; nothing within one, when not all of them belong together."""
        tables = self._now(folder="rounds")
        return self.all() if any(self._sent.get(name) != stamp for name, stamp in tables.items()) else {}

    def all(self) -> Files:
        """All that is to be sent."""
        now, sent = self._now(), self._sent
        self._sent = now
        files: Files = dict.fromkeys(sent.keys() - now.keys())
        return files | {
            name: (self._folder / name).read_bytes() for name, stamp in now.items() if stamp != sent.get(name)
        }

    def _now(self, folder: str = "") -> dict[str, tuple[int, int, int]]:
        """Name of each file → a stamp that changes with its content."""
        stamps = {}
        for path in sorted((self._folder / folder).rglob("*")):
            if path.is_file():
                stat = path.stat()
                name = path.relative_to(self._folder).as_posix()
                stamps[name] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return stamps
