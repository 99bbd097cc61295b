"""Groups and campaigns of a scenario, resolved against the catalogue and the users of its log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.errors import ConfigError, nearest
from rimsim.market.audiences import Audience, Came, matching_rows, require_column
from rimsim.market.clock import ALWAYS, NEVER, ticks

if TYPE_CHECKING:
    from rimsim.config import CampaignConfig, GroupConfig
    from rimsim.market.world import World


_DAY = 86_400.0


class RoundAhead(NamedTuple):
    """A round as promises see it; all is in what is expected, which is what is promised for."""

    start: int
    """Tick at which it begins."""
    stop: int
    """Tick at which it ends."""
    came: Came
    """Its n visits."""
    positions: Floats
    """(n,) positions that each visit may fill, times the forecast."""
    share: Floats
    """(M,) uniform exposure of each item."""
    forecast: float
    """Arrivals that are expected over those that come."""

    def arrivals(self, audience: Audience | None) -> float:
        """Arrivals of an audience that are expected within its time; None: of all."""
        if audience is None:
            return self.forecast * len(self.came.tick)
        return self.forecast * int(np.count_nonzero(audience.counts(self.came)))


@dataclass(frozen=True, eq=False)
class Promise:
    """A group or a campaign, resolved against the catalogue and the users."""

    name: str
    items: Ints
    beta: float = 0.0
    """Of a group: share of the uniform exposure of its items."""
    audience: Audience | None = None
    """Of a campaign: whose visits count, and when."""
    exposures: int | None = None
    """Of a campaign: how many are promised; None: a share of the positions."""
    share: float = 0.0

    def accrues(self, ahead: RoundAhead) -> float:
        """Exposures that a round adds to what is promised."""
        if self.audience is None:
            return self.beta * float(ahead.share[self.items].sum())
        if self.exposures is None:
            return self.share * float(ahead.positions[self.audience.counts(ahead.came)].sum())
        begin, end = self.audience.begin, self.audience.end
        overlap = max(min(end, ahead.stop) - max(begin, ahead.start), 0)
        return self.exposures * overlap / (end - begin)


def groups_of(world: World, group: GroupConfig) -> list[Promise]:
    """The groups of a column of the item table.

    Args:
        world: The log.
        group: Which column, and what its groups are promised.

    Raises:
        ConfigError: If there is no such column or value.
    """
    items, column, values = world.log.items, group.column, group.values
    where = f"group of {column!r}"
    require_column(items, column, where)
    if values is None:
        texts = items[column].astype("str")
        values = tuple(sorted({one for text in texts for one in text.split("|")} - {"", "<NA>", "nan"}))
        if not values:
            raise ConfigError(
                f"{where}: the column is empty; allowed: a column of the item table with values"
            )
    return [
        Promise(
            f"{column} {value}", np.flatnonzero(matching_rows(items, column, (value,), where)), group.beta
        )
        for value in values
    ]


def campaign_of(world: World, campaign: CampaignConfig, seed: int, number: int) -> Promise:
    """A campaign with its items and its audience.

    Args:
        world: The log, and when the market opens.
        campaign: What is promised.
        seed: Seed of arrivals, which draws a share of the users.
        number: The campaign among those of the scenario, for the same draw.

    Raises:
        ConfigError: If it has no items or users, or names what there is not.
    """
    where = f"campaign {campaign.name!r}"
    begin = world.opening + campaign.start * _DAY
    end = NEVER if campaign.stop is None else int(ticks(world.opening + campaign.stop * _DAY))
    audience = Audience.of(
        campaign.audience, world.log.users, (int(ticks(begin)), end), where, seed, 2, number
    )
    return Promise(
        campaign.name,
        _items_of(world, campaign, where),
        audience=audience,
        exposures=campaign.exposures,
        share=campaign.share or 0.0,
    )


def _items_of(world: World, campaign: CampaignConfig, where: str) -> Ints:
    """(n,) the items of a campaign.

    Raises:
        ConfigError: If it has none, or names one that the catalogue has not.
    """
    chosen, items = campaign.items, world.log.items
    if chosen == "new":
        found = np.flatnonzero(world.release != ALWAYS)
        if not len(found):
            raise ConfigError(
                f"{where}: no item is released after the opening; allowed: releases.share above 0"
            )
        return found
    mask = np.ones(len(items), bool)
    for one in chosen:
        if isinstance(one, tuple):
            mask &= matching_rows(items, one[0], one[1], where)
    if all(isinstance(one, str) for one in chosen):
        place = {text: item for item, text in enumerate(items["id"].astype(str).tolist())}
        unknown = [one for one in chosen if isinstance(one, str) and one not in place]
        if unknown:
            raise ConfigError(
                f"{where}: the catalogue has no item {unknown[0]!r}.{nearest(unknown[0], place)}"
            )
        mask[:] = False
        mask[[place[one] for one in chosen if isinstance(one, str)]] = True
    if not mask.any():
        raise ConfigError(f"{where}: no item has all that it asks for; allowed: a filter that leaves some")
    return np.flatnonzero(mask)
