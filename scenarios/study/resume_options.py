"""Options given beside a run folder: those that say what it holds are welcome, others are refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.config import to_plain
from rimsim.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rimsim.config import ScenarioConfig
    from rimsim.scenarios.store.run_folder import Run

__all__ = ["flat", "require_same"]


def flat(plain: object, name: str = "") -> dict[str, object]:
    """Dotted names and values of nested mappings."""
    if not isinstance(plain, dict):
        return {name: plain}
    found: dict[str, object] = {}
    for key, value in plain.items():
        found |= flat(value, f"{name}.{key}" if name else str(key))
    return found


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
