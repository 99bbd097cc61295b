"""What differs from how a run began: options given beside its folder, config, versions, the log, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from rimsim.config import to_plain
from rimsim.config.reading import flat
from rimsim.errors import ConfigError, RunFolderError
from rimsim.intensity.cache import log_digest
from rimsim.loading import files_of, nearest_file, own_code
from rimsim.market import build_world
from rimsim.market.world import own_places, plugs_of
from rimsim.scenarios.store.folders import BEGUN, versions
from rimsim.scenarios.store.run_folder import Run, parsed_yaml

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig


def require_same(run: Run, scenario: ScenarioConfig, entries: Mapping[str, object]) -> None:
    """Refuse options that ask for something else than a run folder holds; a command can be repeated as it was.

    Args:
        run: The run that is gone on with or repeated.
        scenario: The scenario that the options come to.
        entries: Entry of the folder's config → what was given for it; None: nothing was.

    Raises:
        ConfigError: If they do; it names each difference.
    """
    kept = flat(to_plain(run.scenario)) | run.config | {"measures": list(run.own_measures)}
    wanted = flat(to_plain(scenario)) | {name: value for name, value in entries.items() if value is not None}
    other = [
        f"{name} {value!r}, where it has {kept.get(name)!r}"
        for name, value in wanted.items()
        if value != kept.get(name)
    ]
    if other:
        raise ConfigError(
            f"{run.folder}: found other options than it began with: {'; '.join(other)}; allowed: the same, or none"
        )


def require_unchanged(run: Run) -> None:
    """Refuse to go on with another version, config, log, agent or measure: tables would mix two experiments.

    Raises:
        RunFolderError: If something has changed; it names what.
    """
    begun = run.folder / BEGUN
    if not begun.is_file():
        raise RunFolderError(
            f"{run.folder}: {BEGUN} is missing; allowed: a run that was interrupted, or a new one"
        )
    before, now = flat(parsed_yaml(begun.read_text(encoding="utf-8"))), flat(run.config)
    edited = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in before | now
        if not _same(before.get(name), now.get(name))
    ]
    reasons = [f"its config was edited: {'; '.join(edited)}"] if edited else changes(run)
    if reasons:
        raise RunFolderError(f"{run.folder}: {'; '.join(reasons)}; allowed: as it began, or a new run")


def changes(run: Run) -> list[str]:
    """What has changed of what a run depends on beside its config: versions, the log, files of a user's own.

    Args:
        run: The run.
    """
    here = versions()
    other = [
        f"{name} {made} there, {here.get(name)} here"
        for name, made in run.config["versions"].items()
        if here.get(name) != made
    ]
    now = digests(run.scenario, [*run.config["agents"], *run.own_measures])
    changed = [name for name, value in run.config["digests"].items() if now.get(name) != value]
    reasons = [f"made with other versions: {'; '.join(other)}"] if other else []
    return reasons + ([f"changed since the run began: {', '.join(changed)}"] if changed else [])


def digests(config: ScenarioConfig, places: Sequence[str]) -> dict[str, str]:
    """What a run depends on beside its config: the content of the log, and of files of a user's own.

    Args:
        config: The scenario, which may name some.
        places: Agents and measures.
    """
    files = files_of([*places, *own_places(config)])
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{file}: no such file.{nearest_file(file)}")
    consumer = plugs_of(config)[1]
    with own_code(own_places(config)):
        answers = {"consumer": str(consumer.digest())} if hasattr(consumer, "digest") else {}
    return (
        {"log": log_digest(build_world(config).log)}
        | answers
        | {str(file): sha256(file.read_bytes()).hexdigest() for file in files}
    )


def _same(one: object, other: object) -> bool:
    """Whether two values are equal; figures that a truth does not have are NaN, which equals nothing."""
    return one == other or (one != one and other != other)  # noqa: PLR0124
