"""Groups and campaigns, with their items and required exposures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.arrays import ALWAYS, NEVER, Floats, Ints, ticks
from rimsim.config import CampaignConfig, GroupConfig
from rimsim.config.fields import duration_seconds
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

    def equal_shares(self, groups: Sequence[Ints]) -> Floats:
        """Equal share of the positions for each group of items.

        A group of which no item is on offer in a part of the round gets less, in proportion to its visits.
        """
        n_visits = np.array([self.visits.with_offer(self.times, items) for items in groups], np.float64)
        return np.asarray(float(self.share.sum()) * n_visits / max(float(n_visits.sum()), 1.0), np.float64)

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
    """Group or campaign, with its items."""

    name: str
    """Name of the group or campaign, in tables and errors."""
    items: Ints
    """Items of the group or campaign."""


@dataclass(frozen=True, eq=False)
class ColumnGroups:
    """Guarantees of the groups of a column."""

    guarantees: tuple[Guarantee, ...]
    """Guarantee of each guaranteed group."""
    beta: float
    """Part of a group's share that is guaranteed."""
    numbers: Ints | None = None
    """Number of each guaranteed group among all groups of the column; None: shares are by the number of items."""
    all_groups: tuple[Ints, ...] = ()
    """Items of each group of the column, with a guarantee or without one; empty if shares are by the number of
    items."""
    most: float | None = None
    """Cap of a group as a multiple of its share; None: no cap."""

    def _shares(self, ahead: ExpectedRound) -> Floats:
        """Share of each guaranteed group in a round's exposures."""
        if self.numbers is not None:
            return ahead.equal_shares(self.all_groups)[self.numbers]
        shares = [float(ahead.share[guarantee.items].sum()) for guarantee in self.guarantees]
        return np.array(shares, np.float64)

    def required(self, ahead: ExpectedRound) -> Floats:
        """Exposures by which each group's guarantee grows in a round."""
        return np.asarray(self.beta * self._shares(ahead), np.float64)

    def caps(self, ahead: ExpectedRound) -> Floats:
        """Largest whole number of exposures of each group; ∞: no cap."""
        if self.most is None:
            return np.full(len(self.guarantees), np.inf)
        return np.asarray(np.ceil(self.most * self._shares(ahead)), np.float64)


@dataclass(frozen=True, eq=False)
class Campaign(Guarantee):
    """Campaign, with its items and its audience."""

    audience: Audience
    """Visits that count."""
    exposures: int | None = None
    """Total exposures; None: a share of the positions."""
    share: float = 0.0
    """Share of the audience's positions, if ``exposures`` is None."""

    def required(self, ahead: ExpectedRound) -> float:
        """Exposures by which the guarantee grows in a round.

        It grows only until the end of the last of its items.
        """
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


def groups_of(items: pd.DataFrame, group: GroupConfig) -> ColumnGroups:
    """Guarantees of item groups, given by a table column.

    Raises:
        ConfigError: If the item table lacks the column or value, or if the groups together are guaranteed more than all
            positions.
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
    guarantees = tuple(Guarantee(group_name(column, value), members[value]) for value in values)
    if group.of == "items":
        return ColumnGroups(guarantees, group.beta, most=group.most)
    if group.beta * len(values) > len(members):
        raise ConfigError(
            f"{field}: beta is {group.beta:g}, which is more than all positions for {len(values)} of {len(members)} "
            f"groups. Choose beta at most {len(members) / len(values):g}, or fewer values"
        )
    number_of = {value: number for number, value in enumerate(members)}
    numbers = np.array([number_of[value] for value in values], np.int64)
    return ColumnGroups(guarantees, group.beta, numbers, tuple(members.values()), group.most)


def row_label(name: str, campaigns: Sequence[CampaignConfig]) -> str:
    """Name of a guarantee in reports.

    ``name`` is that in table ``promises``. Items with campaigns of their own are added up in reports.
    """
    for campaign in campaigns:
        if campaign.first is not None and name.startswith(f"{_first_days(campaign)} of item "):
            return f"{_first_days(campaign)} of each item"
    return name


def _first_days(campaign: CampaignConfig) -> str:
    """Words for a campaign in the first days of items."""
    return f"{campaign.name} in the first {campaign.first}"


def campaigns_of(
    tables: CampaignTables, campaign: CampaignConfig, seed: int, number: int
) -> tuple[Campaign, ...]:
    """Guarantees of a campaign: one, or one per item.

    The arguments are those of :func:`campaign_of`.

    Raises:
        ConfigError: In the same cases as :func:`campaign_of`, or if no item of a campaign in the first days of items is
            released in its time.
    """
    of_all = campaign_of(tables, campaign, seed, number)
    if campaign.first is None:
        return (of_all,)
    release = tables.release[of_all.items]
    is_new = (release != ALWAYS) & (release >= of_all.audience.begin) & (release < of_all.audience.end)
    if not is_new.any():
        raise ConfigError(
            f"campaign {campaign.name!r}: none of its items is released in its time, so that no item has first days. "
            "Choose items that are released after the opening, such as items: new, or set releases.share above 0"
        )
    length = int(ticks(duration_seconds(campaign.first)))
    ids = tables.items["id"].astype(str).tolist()
    return tuple(
        dataclasses.replace(
            of_all,
            name=f"{_first_days(campaign)} of item {ids[item]}",
            items=np.array([item], np.int64),
            audience=dataclasses.replace(of_all.audience, begin=int(begin), end=int(begin) + length),
        )
        for item, begin in zip(of_all.items[is_new].tolist(), release[is_new].tolist(), strict=True)
    )


def campaign_of(tables: CampaignTables, campaign: CampaignConfig, seed: int, number: int) -> Campaign:
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
    return Campaign(
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
