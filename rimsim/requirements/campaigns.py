"""Groups and campaigns, resolved against the catalogue and the users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.arrays import ALWAYS, NEVER, Floats, Ints, ticks
from rimsim.config import CampaignConfig, GroupConfig
from rimsim.errors import ConfigError, nearest
from rimsim.requirements.audiences import Audience, RoundVisits, matching_rows, require_column

if TYPE_CHECKING:
    import pandas as pd


_DAY = 86_400.0


class ExpectedRound(NamedTuple):
    """Round as it is expected before it begins."""

    visits: RoundVisits
    positions: Floats
    """(n,) positions that each visit may fill, times the forecast."""
    share: Floats
    """(M,) uniform exposure of each item."""
    forecast: float
    """Expected over realised arrivals."""

    def arrivals(self, audience: Audience | None) -> float:
        """Expected arrivals of an audience within its time; None: all."""
        if audience is None:
            return self.forecast * len(self.visits.tick)
        return self.forecast * int(np.count_nonzero(audience.counts(self.visits)))


class CampaignTables(NamedTuple):
    """Tables that campaigns refer to."""

    items: pd.DataFrame
    """Item table of the log."""
    users: pd.DataFrame
    """User table of the log."""
    opening: float
    """Seconds at which the market opens."""
    release: Ints
    """(M,) tick of each item's release."""


@dataclass(frozen=True, eq=False)
class Guarantee:
    """Group or campaign, resolved against the catalogue and the users."""

    name: str
    items: Ints
    beta: float = 0.0
    """Of a group: share of the uniform exposure of its items."""
    audience: Audience | None = None
    """Of a campaign: visits that count."""
    exposures: int | None = None
    """Of a campaign: exposures in all; None: a share of the positions."""
    share: float = 0.0

    def accrued(self, ahead: ExpectedRound) -> float:
        """Exposures that a round adds to the guarantee."""
        if self.audience is None:
            return self.beta * float(ahead.share[self.items].sum())
        if self.exposures is None:
            return self.share * float(ahead.positions[self.audience.counts(ahead.visits)].sum())
        begin, end = self.audience.begin, self.audience.end
        overlap = max(min(end, ahead.visits.stop) - max(begin, ahead.visits.start), 0)
        return self.exposures * overlap / (end - begin)


def groups_of(items: pd.DataFrame, group: GroupConfig) -> list[Guarantee]:
    """Guarantees of all groups of a column.

    Raises:
        ConfigError: If there is no such column or value.
    """
    column, values = group.column, group.values  # noqa: PD011  # no data frame
    where = f"group of {column!r}"
    require_column(items, column, where)
    if values is None:
        texts = items[column].astype("str")
        values = tuple(sorted({value for text in texts for value in text.split("|")} - {"", "<NA>", "nan"}))
        if not values:
            raise ConfigError(
                f"{where}: the column is empty; allowed: a column of the item table with values"
            )
    return [
        Guarantee(
            f"{column} {value}", np.flatnonzero(matching_rows(items, column, (value,), where)), group.beta
        )
        for value in values
    ]


def campaign_of(tables: CampaignTables, campaign: CampaignConfig, seed: int, number: int) -> Guarantee:
    """Guarantee of a campaign, with its items and its audience.

    Args:
        seed: Seed of arrivals, which draws a share of the users.
        number: Number of the campaign in the scenario, for the same draw.

    Raises:
        ConfigError: If it has no items or users, or names unknown ones.
    """
    where = f"campaign {campaign.name!r}"
    begin = int(ticks(tables.opening + campaign.start * _DAY))
    end = NEVER if campaign.stop is None else int(ticks(tables.opening + campaign.stop * _DAY))
    audience = Audience.of(campaign.audience, tables.users, (begin, end), where, seed, 2, number)
    items = _items_of(tables, campaign, where)
    return Guarantee(
        campaign.name, items, audience=audience, exposures=campaign.exposures, share=campaign.share or 0.0
    )


def _items_of(tables: CampaignTables, campaign: CampaignConfig, where: str) -> Ints:
    """(n,) items of a campaign."""
    chosen, items = campaign.items, tables.items
    if chosen == "new":
        found = np.flatnonzero(tables.release != ALWAYS)
        if not len(found):
            raise ConfigError(f"{where}: no item is released after the opening. Set releases.share above 0")
        return found
    mask = np.ones(len(items), bool)
    for entry in chosen:
        if isinstance(entry, tuple):
            mask &= matching_rows(items, entry[0], entry[1], where)
    ids = [entry for entry in chosen if isinstance(entry, str)]
    if len(ids) == len(chosen):
        index = {text: item for item, text in enumerate(items["id"].astype(str).tolist())}
        for name in ids:
            if name not in index:
                raise ConfigError(f"{where}: the catalogue has no item {name!r}.{nearest(name, index)}")
        mask[:] = False
        mask[[index[name] for name in ids]] = True
    if not mask.any():
        raise ConfigError(f"{where}: no item matches its filter. Widen the filter")
    return np.flatnonzero(mask)
