"""Groups and campaigns, with their items and required exposures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.arrays import ALWAYS, NEVER, Floats, Ints, ticks
from rimsim.config import CampaignConfig, GroupConfig
from rimsim.errors import ConfigError, nearest
from rimsim.requirements.audiences import Audience, RoundVisits
from rimsim.requirements.filters import matching_rows, require_column
from rimsim.requirements.on_offer import TimesOnOffer

if TYPE_CHECKING:
    import pandas as pd


_DAY = 86_400.0


class ExpectedRound(NamedTuple):
    """Expected positions and exposures of a round, before it begins."""

    visits: RoundVisits
    """Visits of the round."""
    positions: Floats
    """(n,) number of positions that each visit may fill, times the forecast."""
    share: Floats
    """(M,) uniform exposure of each item."""
    forecast: float
    """Ratio of the expected number of arrivals to the realised number."""
    times: TimesOnOffer
    """Times at which items are on offer."""

    def last_end(self, items: Ints) -> int:
        """Tick from which none of some items is on offer."""
        return int(self.times.end[items].max(initial=-NEVER))

    def arrivals(self, audience: Audience | None) -> float:
        """Expected arrivals of an audience in its time; None: all."""
        if audience is None:
            return self.forecast * len(self.visits.tick)
        return self.forecast * int(np.count_nonzero(audience.counts(self.visits)))


class CampaignTables(NamedTuple):
    """Tables of items and users that campaigns refer to."""

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
    """Group or campaign, with its items and its audience."""

    name: str
    """Name of the group or campaign, in tables and errors."""
    items: Ints
    """Items of the group or campaign."""
    beta: float = 0.0
    """Share of the uniform exposure of a group's items; for groups only."""
    audience: Audience | None = None
    """Visits that count for a campaign; for campaigns only."""
    exposures: int | None = None
    """Total exposures of a campaign; None: a share of the positions. For campaigns only."""
    share: float = 0.0
    """Share of the audience's positions, if ``exposures`` is None; for campaigns only."""

    def required(self, ahead: ExpectedRound) -> float:
        """Exposures by which the guarantee grows in a round.

        A campaign grows only until the end of the last of its items.
        """
        if self.audience is None:
            return self.beta * float(ahead.share[self.items].sum())
        last_end = ahead.last_end(self.items)
        if self.exposures is None:
            audience = self.audience.until(last_end)
            return self.share * float(ahead.positions[audience.counts(ahead.visits)].sum())
        begin = self.audience.begin
        end = self.audience.end
        overlap = max(min(end, ahead.visits.stop, last_end) - max(begin, ahead.visits.start), 0)
        return self.exposures * overlap / (end - begin)


def members_of(items: pd.DataFrame, column: str) -> dict[str, Ints]:
    """Value of a column → its items, in alphabetical order.

    A cell may have several values, joined by ``|``; then the item is a member of each group. Items without a value are
    in no group.
    """
    members: dict[str, list[int]] = {}
    for item, text in enumerate(items[column].astype("str").tolist()):
        for value in dict.fromkeys(text.split("|")):
            members.setdefault(value, []).append(item)
    values = sorted(members.keys() - {"", "<NA>", "nan"})  # the others are texts of missing values
    return {value: np.array(members[value], np.int64) for value in values}


def group_name(column: str, value: str) -> str:
    """Name of a group's guarantee in tables."""
    return f"{column} {value}"


def groups_of(items: pd.DataFrame, group: GroupConfig) -> list[Guarantee]:
    """Guarantees of item groups, given by a table column.

    Raises:
        ConfigError: If the item table lacks the column or value.
    """
    column = group.column
    field = f"group of {column!r}"
    require_column(items, column, field)
    members = members_of(items, column)
    if not members:
        raise ConfigError(
            f"{field}: the column has no values. Name a column of the item table that has values"
        )
    values = tuple(members) if group.values is None else group.values  # noqa: PD011  # this is not a data frame
    for value in values:
        if value not in members:
            raise ConfigError(f"{field}: column {column!r} has no value {value!r}.{nearest(value, members)}")
    return [
        Guarantee(name=group_name(column, value), items=members[value], beta=group.beta) for value in values
    ]


def campaign_of(tables: CampaignTables, campaign: CampaignConfig, seed: int, number: int) -> Guarantee:
    """Guarantee of a campaign, with its items and its audience.

    Args:
        seed: Seed of arrivals, which also seeds the selection of a share of users.
        number: Number of the campaign in the scenario, which also seeds the selection of users.

    Raises:
        ConfigError: If the campaign has no items or users, or names unknown columns or values.
    """
    field = f"campaign {campaign.name!r}"
    begin = int(ticks(tables.opening + campaign.start * _DAY))
    end = NEVER if campaign.stop is None else int(ticks(tables.opening + campaign.stop * _DAY))
    audience = Audience.of(campaign.audience, tables.users, (begin, end), field, seed, 2, number)
    items = _items_of(tables, campaign, field)
    return Guarantee(
        name=campaign.name,
        items=items,
        audience=audience,
        exposures=campaign.exposures,
        share=campaign.share or 0.0,
    )


def _items_of(tables: CampaignTables, campaign: CampaignConfig, field: str) -> Ints:
    """Items of a campaign."""
    # The choice is ``new``, a filter of pairs (column, values), or a list of ids.
    chosen = campaign.items
    items = tables.items
    if chosen == "new":
        new_items = np.flatnonzero(tables.release != ALWAYS)
        if not len(new_items):
            raise ConfigError(f"{field}: no item is released after the opening. Set releases.share above 0")
        return new_items
    mask = np.ones(len(items), bool)
    for entry in chosen:
        if isinstance(entry, tuple):
            mask &= matching_rows(items, entry[0], entry[1], field)
    ids = [entry for entry in chosen if isinstance(entry, str)]
    if len(ids) == len(chosen):
        item_of_id = {text: item for item, text in enumerate(items["id"].astype(str).tolist())}
        for name in ids:
            if name not in item_of_id:
                raise ConfigError(f"{field}: the catalogue has no item {name!r}.{nearest(name, item_of_id)}")
        mask[:] = False
        mask[[item_of_id[name] for name in ids]] = True
    if not mask.any():
        raise ConfigError(f"{field}: no item matches the filter. Widen the filter")
    return np.flatnonzero(mask)
