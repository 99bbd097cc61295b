"""Guarantees of groups by the name of a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rimsim.config.records import GroupConfig, ScenarioConfig
from rimsim.errors import ConfigError

BETA = "exposure.beta"
"""Name of the field with the guarantee of single items."""


def group_field(column: str) -> str:
    """Dotted field with the guaranteed share of a column's groups."""
    return f"exposure.groups.{column}.beta"


def _is_share(value: object) -> bool:
    """True for a number above 0 and at most 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def with_guarantees(
    config: ScenarioConfig, guarantee: Mapping[str, float], *, keeps_items: bool, origin: str = "guarantee"
) -> ScenarioConfig:
    """Scenario with guarantees of groups of items.

    Args:
        config: Scenario to start from; a group of the same column is replaced.
        guarantee: Column of the item table → share β of each of its groups.
        keeps_items: True to keep the guarantee of single items; false sets ``exposure.beta`` to 0. Otherwise the
            guarantees of its items would already give each group its share.
        origin: Source of the guarantees, for messages.

    Raises:
        ConfigError: If a column has no name, or a share is not above 0 and at most 1.
    """
    if not guarantee:
        return config
    for column, share in guarantee.items():
        if not column or not _is_share(share):
            raise ConfigError(
                f"{origin}: found {column}={share}. Expected a column of the log and a share above 0, at most 1, such "
                "as seller=0.5"
            )
    other_groups = tuple(group for group in config.exposure.groups if group.column not in guarantee)
    groups = (*other_groups, *(GroupConfig(column, float(beta)) for column, beta in guarantee.items()))
    beta = config.exposure.beta if keeps_items else 0.0
    return replace(config, exposure=replace(config.exposure, groups=groups, beta=beta))
