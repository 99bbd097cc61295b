"""Options given beside a run folder: those that say what it holds are welcome, others are refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.config import to_plain
from rimsim.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

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


def require_same(
    run: Run,
    options: argparse.Namespace,
    settings: Mapping[str, object],
    entries: Mapping[str, object],
) -> None:
    """Refuse options that ask for something else than a run folder holds; a command can be repeated as it was.

    Args:
        run: The run that is gone on with or repeated.
        options: ``scenario``, ``rounds``, ``data`` and the flags, as parsed.
        settings: Other fields of the scenario that were given.
        entries: Entry of the folder's config → what was given for it; None: nothing was.

    Raises:
        ConfigError: If they do; it names each difference. Or as :func:`rimsim.scenarios.study.plan.resolved`.
    """
    from rimsim.scenarios.study.plan import resolved  # noqa: PLC0415  # torch loads only for work

    asked = flat(to_plain(resolved(options.scenario or run.scenario, options.rounds, options.data, settings)))
    there = flat(to_plain(run.scenario))
    wanted = asked | {name: given for name, given in entries.items() if given is not None}
    there |= {name: run.config.get(name) for name in entries} | {"measures": list(run.own_measures)}
    for name, given, value in (
        ("ledger", getattr(options, "no_ledger", False), False),
        ("ledger", getattr(options, "ledger", False), True),
        ("certify", options.no_certificate, False),
    ):
        if given:
            wanted[name], there[name] = value, run.config.get(name)
    other = [
        f"{name} {value!r}, where it has {there.get(name)!r}"
        for name, value in wanted.items()
        if value != there.get(name)
    ]
    if other:
        raise ConfigError(
            f"{run.folder}: found other options than it began with: {'; '.join(other)}; allowed: the same, or none"
        )
