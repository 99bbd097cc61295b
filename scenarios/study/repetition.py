"""Equality of a run with an earlier one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256

from rimsim.config import ScenarioConfig, to_plain
from rimsim.config.documents import read_yaml
from rimsim.config.reading import flat
from rimsim.errors import ConfigError, RunFolderError, nearest_file
from rimsim.intensity.cache import log_digest
from rimsim.market.world import own_places, plugs_of, shared_log
from rimsim.scenarios.runs.records import versions
from rimsim.scenarios.runs.store import BEGUN, RunFolder
from rimsim.user_code import files_of, own_code


def require_same(run: RunFolder, scenario: ScenarioConfig, entries: Mapping[str, object]) -> None:
    """Refuse options that differ from those of a run.

    ``entries`` maps names in the folder's config to given values; None means that no value was given.

    Raises:
        ConfigError: If options differ; the message lists the differences.
    """
    recorded = flat(to_plain(run.scenario)) | run.config | {"measures": list(run.own_measures)}
    wanted = flat(to_plain(scenario)) | {name: value for name, value in entries.items() if value is not None}
    differences = [
        f"{name} {value!r} instead of {recorded.get(name)!r}"
        for name, value in wanted.items()
        if value != recorded.get(name)
    ]
    if differences:
        raise ConfigError(
            f"{run.folder}: some options differ from those that the run began with: {'; '.join(differences)}. "
            "Give the same options, or none"
        )


def require_unchanged(run: RunFolder) -> None:
    """Refuse to resume a run whose inputs have changed.

    With changed inputs, tables would mix two experiments.

    Raises:
        RunFolderError: If an input has changed; the message names the changes.
    """
    begun = run.folder / BEGUN
    if not begun.is_file():
        raise RunFolderError(
            f"{run.folder}: the file {BEGUN} is missing, so the run cannot be resumed. Name an "
            "interrupted run, or begin a new run"
        )
    begun_config = flat(read_yaml(begun.read_text(encoding="utf-8")))
    current_config = flat(run.config)
    edits = [
        f"{name} was {begun_config.get(name)!r}, is {current_config.get(name)!r}"
        for name in begun_config | current_config
        if not _same(begun_config.get(name), current_config.get(name))
    ]
    reasons = [f"its config was edited: {'; '.join(edits)}"] if edits else changes(run)
    if reasons:
        raise RunFolderError(f"{run.folder}: {'; '.join(reasons)}. Undo these changes, or begin a new run")


def changes(run: RunFolder) -> list[str]:
    """Descriptions of versions, log or files changed since a run."""
    versions_here = versions()
    differences = [
        f"{name} {version} there, {versions_here.get(name)} here"
        for name, version in run.config["versions"].items()
        if versions_here.get(name) != version
    ]
    reasons = [f"made with other versions: {'; '.join(differences)}"] if differences else []
    if inputs := changed_inputs(run):
        reasons.append(f"changed since the run began: {', '.join(inputs)}")
    return reasons


def changed_inputs(run: RunFolder) -> list[str]:
    """Names of the inputs that have changed since a run.

    An input is the log, the scenario in the folder's config, or a file of the user.
    """
    shared_log.cache_clear()  # its file may have changed since the log was read
    digests_here = digests(run.scenario, [*run.config["agents"], *run.own_measures])
    return [name for name, digest in run.config["digests"].items() if digests_here.get(name) != digest]


def digests(config: ScenarioConfig, places: Sequence[str]) -> dict[str, str]:
    """Digests of the log, scenario and user's own files.

    ``places`` name files of agents and measures; the scenario may name more files.
    """
    files = files_of([*places, *own_places(config)])
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{file}: no such file.{nearest_file(file)}")
    _, consumer = plugs_of(config)
    with own_code(own_places(config)):
        # A consumer that reads a file, such as a table of answers, has a digest of this file.
        digest_of_consumer = {"consumer": str(consumer.digest())} if hasattr(consumer, "digest") else {}
    scenario = json.dumps(flat(to_plain(config)), sort_keys=True, default=str)
    return (
        # No world is built: a digest of the log needs neither the truth nor its verdict.
        {"log": log_digest(shared_log(config)), "scenario": sha256(scenario.encode()).hexdigest()}
        | digest_of_consumer
        | {str(file): sha256(file.read_bytes()).hexdigest() for file in files}
    )


def _same(before: object, after: object) -> bool:
    """True for equal values and for two NaN."""
    # Only NaN differs from itself.
    return before == after or (before != before and after != after)  # noqa: PLR0124
