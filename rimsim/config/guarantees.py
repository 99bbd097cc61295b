"""Guarantees of groups by the name of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, cast, get_args

from rimsim.config.records import GroupConfig, ScenarioConfig, ShareOf
from rimsim.errors import ConfigError

BETA = "exposure.beta"
"""Name of the field with the guarantee of single items."""


def group_field(column: str) -> str:
    """Dotted field with the guaranteed share of a column's groups."""
    return f"exposure.groups.{column}.beta"


@dataclass(frozen=True)
class GroupShare:
    """Guaranteed share of the groups of a column."""

    betas: tuple[float, ...]
    """Guaranteed part β; several values are varied by a sweep."""
    of: ShareOf = "items"
    """Share of a group, as ``exposure.groups`` has it."""
    most: float | None = None
    """Cap of each group, as ``exposure.groups`` has it."""

    def __str__(self) -> str:
        words = [",".join(f"{beta:g}" for beta in self.betas)]
        if self.of != "items":
            words.append(self.of)
        if self.most is not None:
            words.append(f"most={self.most:g}")
        return ":".join(words)


ShareArgument: TypeAlias = float | Sequence[float] | Mapping[str, object] | GroupShare
"""Share of a column in Python: β, several β, or fields as in ``{"beta": 0.3, "of": "groups", "most": 2}``."""


def group_share(column: str, argument: ShareArgument, origin: str = "guarantee") -> GroupShare:
    """Guaranteed share of a column's groups, from an argument.

    Raises:
        ConfigError: If the column has no name, a share is not above 0 and at most 1, or a field is unknown. With a cap,
            the share may be 0.
    """
    of: object = "items"
    betas: object = argument
    most: object = None
    if isinstance(argument, GroupShare):
        of = argument.of
        betas = argument.betas
        most = argument.most
    elif isinstance(argument, Mapping):
        of = argument.get("of", "items")
        most = argument.get("most")
        betas = (
            None if argument.keys() - {"beta", "of", "most"} else argument.get("beta", 0 if most else None)
        )
    values = tuple(betas) if isinstance(betas, Sequence) and not isinstance(betas, str) else (betas,)
    is_share = _is_share if most is None else _is_share_or_none
    if not column or not values or of not in get_args(ShareOf) or not all(map(is_share, values)):
        raise ConfigError(
            f"{origin}: found {column}={argument}. Expected a column of the log and a share above 0, at most 1, such "
            'as seller=0.5; for a part of an equal share of each group, seller=0.5:groups, or in Python {"seller": '
            '{"beta": 0.5, "of": "groups"}}'
        )
    if most is not None and (isinstance(most, bool) or not isinstance(most, int | float) or not most > 0):
        raise ConfigError(f"{origin}: most of {column!r} is {most!r}. Expected a number above 0, such as 2")
    cap = None if most is None else float(most)
    return GroupShare(tuple(float(value) for value in values), cast("ShareOf", of), cap)


def _is_share(value: object) -> bool:
    """True for a number above 0 and at most 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _is_share_or_none(value: object) -> bool:
    """True for a number from 0 to 1."""
    return _is_share(value) or (value == 0 and not isinstance(value, bool))


def require_single(guarantee: Mapping[str, ShareArgument], origin: str = "guarantee") -> None:
    """Refuse several shares of a column.

    Only a sweep can vary a share.
    """
    for column, argument in guarantee.items():
        share = group_share(column, argument, origin)
        if len(share.betas) > 1:
            raise ConfigError(
                f"{origin}: {column}={share} has several shares. Give one share, or vary it with rimsim sweep"
            )


def with_guarantees(
    config: ScenarioConfig,
    guarantee: Mapping[str, ShareArgument],
    *,
    keeps_items: bool,
    origin: str = "guarantee",
) -> ScenarioConfig:
    """Scenario with guarantees of groups of items.

    Args:
        config: Scenario to start from; a group of the same column is replaced.
        guarantee: Column of the item table → share of each of its groups. Of several values of β, the first counts.
        keeps_items: True to keep the guarantee of single items; false sets ``exposure.beta`` to 0. Otherwise the
            guarantees of its items would already give each group its share.
        origin: Source of the guarantees, for messages.

    Raises:
        ConfigError: In the same cases as :func:`group_share`.
    """
    if not guarantee:
        return config
    shares = {column: group_share(column, argument, origin) for column, argument in guarantee.items()}
    other_groups = tuple(group for group in config.exposure.groups if group.column not in shares)
    own_groups = (
        GroupConfig(column, share.betas[0], of=share.of, most=share.most) for column, share in shares.items()
    )
    beta = config.exposure.beta if keeps_items else 0.0
    exposure = replace(config.exposure, groups=(*other_groups, *own_groups), beta=beta)
    return replace(config, exposure=exposure)
