"""Requirements of each round as table rows, with carry-over."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim import rng
from rimsim.arrays import NEVER, Bools, Floats, Ints, ticks
from rimsim.config import ExposureConfig, ScenarioConfig
from rimsim.config.fields import duration_seconds
from rimsim.errors import ConfigError
from rimsim.matching import required_exposure
from rimsim.measures import mean_weight, weighted_exposure
from rimsim.requirements.audiences import Audience, RoundVisits
from rimsim.requirements.campaigns import (
    Campaign,
    CampaignTables,
    ExpectedRound,
    Guarantee,
    campaigns_of,
    groups_of,
)
from rimsim.requirements.on_offer import OfferWindows, TimesOnOffer

_ROUNDING = 1e-9
"""Tolerated rounding error of a share of whole exposures."""


class Row(NamedTuple):
    """Requirement of a set of items."""

    name: str
    """Name of the requirement, in tables and errors."""
    items: Ints
    """(n,) distinct items, whose exposures are added up."""
    min_exposure: float = 0.0
    """Smallest number of exposures, in the unit of the guarantee."""
    max_exposure: float = np.inf
    """Largest number of exposures, in the unit of the guarantee; ∞: no cap."""
    begin: int = 0
    """Tick from which exposures count."""
    end: int = 0
    """Tick from which exposures no longer count."""
    audience: int = -1
    """Column of ``Arrivals.audiences``; −1: every arrival of the round counts."""
    arrivals: float = 0.0
    """Expected number of arrivals of the round that count."""


@dataclass(frozen=True, eq=False)
class Requirements:
    """Table of J requirements, one per row.

    Row j requires min_exposure_j ≤ Σ w_r ≤ max_exposure_j, a sum of position weights w_r over the positions r that
    show one of the row's items. Only arrivals of the row's audience within its time count (``Arrivals.audiences``).
    """

    name: tuple[str, ...]
    """(J,) name of each requirement, in tables and errors."""
    first: Ints
    """(J + 1,) beginning of each row's items in ``item``; the last entry is the end of the last row."""
    item: Ints
    """Items of all rows, one row after the other."""
    min_exposure: Floats
    """(J,) smallest number of exposures, in the unit of the guarantee; 0: no minimum."""
    max_exposure: Floats
    """(J,) largest number of exposures, in the unit of the guarantee; ∞: no cap."""
    begin: Ints
    """(J,) tick from which exposures count."""
    end: Ints
    """(J,) tick from which exposures no longer count."""
    audience: Ints
    """(J,) column of ``Arrivals.audiences`` that marks which arrivals count; −1: all arrivals count."""
    arrivals: Floats
    """(J,) expected number of arrivals of the round that count."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Requirements:
        """Table of given requirements, in the given order."""
        return cls(
            name=tuple(row.name for row in rows),
            first=np.cumsum([0, *(len(row.items) for row in rows)]),
            item=np.concatenate([np.zeros(0, np.int64), *(row.items for row in rows)]),
            min_exposure=np.array([row.min_exposure for row in rows], np.float64),
            max_exposure=np.array([row.max_exposure for row in rows], np.float64),
            begin=np.array([row.begin for row in rows], np.int64),
            end=np.array([row.end for row in rows], np.int64),
            audience=np.array([row.audience for row in rows], np.int64),
            arrivals=np.array([row.arrivals for row in rows], np.float64),
        )

    def __len__(self) -> int:
        return len(self.min_exposure)

    def items(self, row: int) -> Ints:
        """Items of a requirement."""
        return self.item[self.first[row] : self.first[row + 1]]

    def rows(self, is_chosen: Bools) -> Requirements:
        """Table of the chosen requirements, in the same order."""
        sizes = np.diff(self.first)
        return Requirements(
            name=tuple(itertools.compress(self.name, is_chosen)),
            first=np.concatenate([[0], np.cumsum(sizes[is_chosen])]),
            item=self.item[np.repeat(is_chosen, sizes)],
            min_exposure=self.min_exposure[is_chosen],
            max_exposure=self.max_exposure[is_chosen],
            begin=self.begin[is_chosen],
            end=self.end[is_chosen],
            audience=self.audience[is_chosen],
            arrivals=self.arrivals[is_chosen],
        )

    @property
    def item_caps(self) -> Bools:
        """Mask of requirements that cap one item all round."""
        capped = (self.min_exposure == 0) & np.isfinite(self.max_exposure)
        return np.asarray((self.audience < 0) & (np.diff(self.first) == 1) & capped)

    def max_exposure_of_items(self, n_items: int) -> Floats:
        """Largest allowed exposures of each item, from :attr:`item_caps`."""
        max_exposure = np.full(n_items, np.inf)
        rows = np.flatnonzero(self.item_caps)
        np.minimum.at(max_exposure, self.item[self.first[rows]], self.max_exposure[rows])
        return max_exposure

    def active(self, audiences: Bools | None, arrivals: int) -> Bools:
        """Mask of the arrivals that count for each requirement."""
        everyone = np.ones((arrivals, 1), bool)  # the last column, which index −1 finds
        columns = everyone if audiences is None else np.concatenate([audiences, everyone], axis=1)
        return np.asarray(columns[:, self.audience], np.bool_)

    def delivered(
        self, slates: NDArray[np.integer], audiences: Bools | None, position_weights: Floats, n_items: int
    ) -> Floats:
        """Exposures of each requirement, in the unit of the guarantee.

        ``slates`` has the items shown, −1 at an empty position; ``position_weights`` has the weight of each position.
        """
        if not len(self):
            return np.zeros(0)
        masks = [] if audiences is None else list(audiences.T)
        # The last entry has index −1, which is the audience of all arrivals.
        audience_slates = [slates[mask] for mask in masks] + [slates]
        # (A + 1, M) exposures by audience and item.
        exposure = np.stack(
            [weighted_exposure(counted, position_weights, n_items) for counted in audience_slates]
        )
        audience_of_entry = np.repeat(self.audience, np.diff(self.first))
        entries = exposure[audience_of_entry, self.item]
        return np.asarray(np.add.reduceat(entries, self.first[:-1]), np.float64)


NO_REQUIREMENTS = Requirements.of([])
"""Table of requirements without rows."""


def expected(count: int, forecast: float) -> int:
    """Expected number of arrivals or positions: realised count × ``forecast``."""
    return count if forecast == 1.0 else round(forecast * count)


class CarryOver(NamedTuple):
    """Required minus delivered exposures of earlier rounds, at average positions.

    The difference is negative after over-delivery.
    """

    items: Floats
    """(M,) carry-over of each item, since its period began."""
    rows: Floats
    """(P,) carry-over of each group since its period began, followed by that of each campaign."""
    start: int
    """Tick at which the last of the earlier rounds began."""


@dataclass(frozen=True, eq=False)
class RoundRequirements:
    """Requirements of a round."""

    required: Floats
    """(M,) required exposures of each item, in the unit of the guarantee."""
    due_items: Floats
    """(M,) exposures that the round adds to the guarantee of each item, in the unit of the guarantee. ``required`` also
    has the carry-over of earlier rounds."""
    table: Requirements
    """Requirements in addition to those of items: groups, campaigns and caps."""
    audiences: tuple[Audience, ...]
    """Audience of each of the A columns of ``Arrivals.audiences``."""
    counted: Bools | None
    """(n, A) True if the arrival belongs to the audience, within its time; None without audiences."""
    start: int
    """Tick at which the round begins."""
    stop: int
    """Tick at which the round ends."""
    guarantee: Ints
    """(J,) number of the group or campaign of each row of the table; −1: the cap of an item."""
    due: Floats
    """(J,) exposures that the round adds to the guarantee of each row, in the unit of the guarantee."""
    carry_over: CarryOver
    """Exposures required up to the end of the round minus exposures delivered before the round, at average
    positions."""
    position_weights: Floats
    """(k,) weight of an exposure at each position, in the unit of the guarantee."""
    windows: OfferWindows | None = None
    """Part of the round in which each item is on offer; None if no item of the scenario ends."""

    def with_offer(
        self, planned: TimesOnOffer, times: TimesOnOffer, visits: RoundVisits
    ) -> RoundRequirements:
        """Requirements for the visits at which items are on offer.

        A guarantee whose items are taken away at some of its visits is reduced in proportion to its visits, to whole
        exposures. Items that are released earlier than planned add nothing.

        Args:
            planned: Times on offer for which these requirements were made.
        """
        average_weight = mean_weight(self.position_weights)
        n_planned = visits.on_offer(planned)
        n_visits = visits.on_offer(times)
        is_reduced = n_visits < n_planned
        if not is_reduced.any():
            return self
        due = self.due_items / average_weight
        share = np.divide(n_visits, n_planned, out=np.ones(len(due)), where=is_reduced)
        new_due = np.where(is_reduced, np.floor(due * share + _ROUNDING), due)
        total = self.carry_over.items - due + new_due
        required = np.clip(total, 0.0, np.maximum(new_due, n_visits)) * average_weight
        row_share = self._row_shares(is_reduced, planned, times, visits)
        positions = self.table.min_exposure / average_weight
        new_positions = np.where(row_share < 1, np.floor(positions * row_share + _ROUNDING), positions)
        rows = self.carry_over.rows.copy()
        is_guarantee = self.guarantee >= 0
        rows[self.guarantee[is_guarantee]] -= (self.due * (1 - row_share))[is_guarantee] / average_weight
        return dataclasses.replace(
            self,
            required=np.where(is_reduced, np.minimum(self.required, required), self.required),
            due_items=new_due * average_weight,
            table=dataclasses.replace(self.table, min_exposure=new_positions * average_weight),
            due=self.due * row_share,
            carry_over=self.carry_over._replace(items=total, rows=rows),
        )

    def _row_shares(
        self, is_reduced: Bools, planned: TimesOnOffer, times: TimesOnOffer, visits: RoundVisits
    ) -> Floats:
        """(J,) share of planned visits with an item on offer."""
        share = np.ones(len(self.table))
        is_active = self.table.active(self.counted, len(visits.tick))
        for row in np.flatnonzero((self.table.min_exposure > 0) | (self.guarantee >= 0)).tolist():
            items = np.unique(self.table.items(row))
            if not is_reduced[items].any():
                continue
            ticks_of_row = visits.tick[is_active[:, row]]
            n_planned = int(np.count_nonzero(planned.any_at(ticks_of_row, items)))
            n_visits = int(np.count_nonzero(times.any_at(ticks_of_row, items)))
            share[row] = min(n_visits / max(n_planned, 1), 1.0)
        return share

    def delivered(
        self,
        slates: NDArray[np.integer],
        rows: Ints | None = None,
        *,
        position_weights: Floats | None = None,
    ) -> Floats:
        """Exposures of each requirement, in the unit of the guarantee.

        Args:
            slates: Items shown to arrivals of the round; −1 is an empty position.
            rows: Rows of the arrivals in the schedule; None: all arrivals, in clock order.
            position_weights: Weight of an exposure at each position in another unit; None: that of the guarantee.
        """
        counted = self.counted if self.counted is None or rows is None else self.counted[rows]
        weights = self.position_weights if position_weights is None else position_weights
        return self.table.delivered(slates, counted, weights, len(self.required))

    def would_count(self, visits: RoundVisits) -> Bools | None:
        """Mask of another period's visits that count per audience."""
        return _masks(self.audiences, self.moved(visits))

    def moved(self, visits: RoundVisits) -> RoundVisits:
        """Another period's visits, at the same shares of this round."""
        return visits.moved_to(self.start, self.stop)

    def carried_over(self, exposure: Floats, delivered: Floats) -> CarryOver:
        """Carry-over after given exposures of items and of requirements."""
        # Exposures in the unit of the guarantee, over the mean weight, are exposures at average positions.
        average_weight = mean_weight(self.position_weights)
        rows = self.carry_over.rows.copy()
        is_guarantee = self.guarantee >= 0
        rows[self.guarantee[is_guarantee]] -= delivered[is_guarantee] / average_weight
        items = self.carry_over.items - exposure / average_weight
        return CarryOver(items=items, rows=rows, start=self.carry_over.start)


def _masks(audiences: Sequence[Audience], visits: RoundVisits) -> Bools | None:
    """Mask of visits that count per audience; None without audiences."""
    return np.stack([audience.counts(visits) for audience in audiences], axis=1) if audiences else None


class _RoundRows(NamedTuple):
    """Rows of a round's requirements, and their audiences."""

    table: Requirements
    """Table of rows: first groups and campaigns, then caps."""
    audiences: tuple[Audience, ...]
    """Audience of each column of ``Arrivals.audiences``."""
    guarantee: Ints
    """Number of the group or campaign of each row that is not a cap."""


class ScenarioRequirements:
    """Floors, groups, campaigns and caps of a scenario.

    Args:
        seed: Seed of arrivals, which also seeds the selection of an audience's users.

    Raises:
        ConfigError: If a group or campaign has no items or no users, or names an unknown column or value.
    """

    def __init__(self, config: ScenarioConfig, tables: CampaignTables, seed: int) -> None:
        exposure = config.exposure
        self._config = exposure
        self._slate = config.slate
        self._seed = seed
        self._opening = int(ticks(tables.opening))
        self._n_users = len(tables.users)
        self._ids: list[str] = tables.items["id"].astype(str).tolist()
        self._columns = [groups_of(tables.items, group) for group in exposure.groups]
        self._campaigns = [
            guarantee
            for number, campaign in enumerate(exposure.campaigns)
            for guarantee in campaigns_of(tables, campaign, seed, number)
        ]
        groups = [guarantee for column in self._columns for guarantee in column.guarantees]
        self._n_groups = len(groups)
        self._guarantees: list[Guarantee] = [*groups, *self._campaigns]

    def round(
        self,
        number: int,
        visits: RoundVisits,
        before: CarryOver | None,
        *,
        forecast: float,
        capacity: Ints | None,
        position_weights: Floats,
        times: TimesOnOffer,
    ) -> RoundRequirements:
        """Requirements of a round.

        Args:
            before: Carry-over from the round before; None in the first round.
            forecast: Ratio of expected to realised arrivals of the round.
            capacity: Positions that each arrival may fill; None: all.
            position_weights: Weight of an exposure at each position in the unit of the guarantee.
            times: Times at which items are on offer. An item that is not on offer any more has no carry-over.

        Raises:
            ConfigError: If a campaign requires more exposures than the expected positions.
        """
        forecast *= self._config.forecast
        average_weight = mean_weight(position_weights)
        capacities = np.full(len(visits.tick), self._slate) if capacity is None else capacity
        positions = expected(int(capacities.sum()), forecast)
        ties = rng.derived_seed(self._seed, rng.Purpose.FLOORS, number)
        required = item_floors(self._config, visits, positions, times, ties)
        ahead = ExpectedRound(
            visits=visits,
            positions=np.multiply(forecast, capacities, dtype=np.float64),
            share=uniform_share(visits, positions, times),
            forecast=forecast,
            times=times,
        )
        if before is None:
            self._require_positions(ahead)
        before = self._in_period(before, visits.start)
        before = before._replace(items=np.where(times.is_over(visits.start), 0.0, before.items))
        most = forecast * visits.on_offer(times)  # an item is at most once in a slate
        of_campaigns = np.array([campaign.required(ahead) for campaign in self._campaigns], np.float64)
        added = np.concatenate([*(column.required(ahead) for column in self._columns), of_campaigns])
        total = CarryOver(before.items + required, before.rows + added, visits.start)
        rows = self._rows(ahead, total.rows, average_weight)
        n_caps = len(rows.table) - len(rows.guarantee)
        return RoundRequirements(
            required=np.clip(total.items, 0.0, np.maximum(required, most)) * average_weight,
            due_items=np.asarray(required * average_weight, np.float64),
            table=rows.table,
            audiences=rows.audiences,
            counted=_masks(rows.audiences, visits),
            start=visits.start,
            stop=visits.stop,
            due=np.append(added[rows.guarantee], np.zeros(n_caps)) * average_weight,
            guarantee=np.append(rows.guarantee, np.full(n_caps, -1)),
            carry_over=total,
            position_weights=position_weights,
            windows=self._windows(visits, forecast, times),
        )

    def _windows(self, visits: RoundVisits, forecast: float, times: TimesOnOffer) -> OfferWindows | None:
        """Parts of a round in which items are on offer."""
        if not times.has_ends:
            return None
        n_visits = len(visits.tick)
        if self._config.pace == "clock":
            length = max(visits.stop - visits.start, 1)
            begin, end = (
                np.clip((instant - visits.start) / length, 0.0, 1.0) for instant in (times.release, times.end)
            )
        else:
            begin, end = (visits.before(instant) / max(n_visits, 1) for instant in (times.release, times.end))
        n_expected = expected(n_visits, forecast)
        return OfferWindows(begin * n_expected, np.maximum(begin, end) * n_expected)

    def _rows(self, ahead: ExpectedRound, outstanding: Floats, average_weight: float) -> _RoundRows:
        """Rows of groups and campaigns, then of caps; see :func:`_row`."""
        guarantees: list[int] = []
        rows: list[Row] = []
        audiences: list[Audience] = []
        no_caps = np.full(len(self._campaigns), np.inf)
        caps = np.concatenate([*(column.caps(ahead) for column in self._columns), no_caps]) * average_weight
        for number, guarantee in enumerate(self._guarantees):
            audience = self._audience_until_end(guarantee, ahead)
            row = _row(guarantee, audience, ahead, float(outstanding[number]), average_weight)
            if row is None:
                continue
            # A guarantee with carry-over of earlier rounds may exceed the cap of this round.
            cap = float(caps[number])
            row = row._replace(min_exposure=min(row.min_exposure, cap), max_exposure=cap)
            if audience is not None:
                row = row._replace(audience=len(audiences))
                audiences.append(audience)
            guarantees.append(number)
            rows.append(row)
        table = Requirements.of(rows + self._caps(ahead, average_weight))
        return _RoundRows(table, tuple(audiences), np.array(guarantees, np.int64))

    def _audience_until_end(self, guarantee: Guarantee, ahead: ExpectedRound) -> Audience | None:
        """Audience of a guarantee, until its last item ends.

        A group whose items all end within the round gets all visitors up to then as its audience, so that agents pace
        its exposures by this part of the round. None: all visits of the round count.
        """
        last_end = ahead.last_end(guarantee.items)
        if isinstance(guarantee, Campaign):
            return guarantee.audience.until(last_end)
        if last_end >= ahead.visits.stop:
            return None
        everyone = np.ones(self._n_users, bool)
        return Audience(begin=ahead.visits.start, end=max(last_end, ahead.visits.start), users=everyone)

    def _in_period(self, before: CarryOver | None, start: int) -> CarryOver:
        """Carry-over; 0 for items and groups in a new period."""
        if before is None:
            return CarryOver(np.zeros(len(self._ids)), np.zeros(len(self._guarantees)), start)
        if self._config.per != "round":
            period = int(ticks(duration_seconds(self._config.per)))
            if (before.start - self._opening) // period == (start - self._opening) // period:
                return before
        rows = before.rows.copy()
        rows[: self._n_groups] = 0.0  # campaigns keep theirs, because a campaign has its own time
        return CarryOver(np.zeros_like(before.items), rows, start)

    def _caps(self, ahead: ExpectedRound, average_weight: float) -> list[Row]:
        """Caps of items in a round: one requirement per item."""
        if self._config.most is None:
            return []
        max_exposure = np.ceil(self._config.most * ahead.share) * average_weight
        return [
            Row(
                name=f"most of item {self._ids[item]}",
                items=np.array([item]),
                max_exposure=float(max_exposure[item]),
                begin=ahead.visits.start,
                end=ahead.visits.stop,
                arrivals=ahead.arrivals(None),
            )
            for item in range(len(max_exposure))
        ]

    def _require_positions(self, ahead: ExpectedRound) -> None:
        """Refuse campaigns that require more exposures than expected positions."""
        # All rounds are assumed to have as many visits as the first.
        for campaign in self._campaigns:
            audience = campaign.audience
            if campaign.exposures is None:
                continue
            is_in_audience = dataclasses.replace(audience, begin=-NEVER, end=NEVER).counts(ahead.visits)
            # A slate shows an item once, so it has at most one position per item of the campaign.
            positions_of_visits = np.minimum(
                ahead.positions[is_in_audience], ahead.forecast * len(campaign.items)
            )
            n_positions = float(positions_of_visits.sum())
            if self._config.most is not None:
                # An item that is released later has the share 0 in the first round, so it counts with the mean share.
                share = np.maximum(ahead.share[campaign.items], ahead.share.mean())
                n_positions = min(n_positions, float(np.ceil(self._config.most * share).sum()))
            n_positions *= (audience.end - audience.begin) / max(ahead.visits.stop - ahead.visits.start, 1)
            if campaign.exposures > n_positions:
                raise ConfigError(
                    f"campaign {campaign.name!r}: it asks for {campaign.exposures:,} exposures, but until the "
                    f"campaign ends its audience has only about {n_positions:,.0f} positions for these items. Ask "
                    "for fewer exposures, a longer time, a wider audience or higher caps"
                )


def _row(
    guarantee: Guarantee,
    audience: Audience | None,
    ahead: ExpectedRound,
    outstanding: float,
    average_weight: float,
) -> Row | None:
    """Guarantee as a requirement; None in rounds outside its time.

    ``outstanding`` are the exposures required up to the end of the round minus those delivered before it, at average
    positions. Times ``average_weight``, the mean position weight, they are in the unit of the guarantee.
    """
    begin = ahead.visits.start
    end = ahead.visits.stop
    if audience is not None:
        begin = max(audience.begin, begin)
        end = min(audience.end, end)
    if begin >= end:
        return None
    # The requirement is a whole number of exposures at average positions; the remaining fraction is carried over to the
    # next round.
    return Row(
        name=guarantee.name,
        items=guarantee.items,
        min_exposure=float(np.floor(max(outstanding, 0.0) + 0.5)) * average_weight,
        begin=begin,
        end=end,
        arrivals=ahead.arrivals(audience),
    )


def item_floors(
    exposure: ExposureConfig, visits: RoundVisits, positions: int, times: TimesOnOffer, ties: int
) -> Ints:
    """Whole required exposures b_y of items in a round.

    The sum of all b_y is β·P, where P is the number of positions of the round (N·k without a cap on users). Each item
    gets a part in proportion to the number of arrivals in its time on offer, from its release to its end. Parts are
    rounded by the method of largest remainders, with seeded ties. If all items are on offer all round, b_y = β·N·k/M.
    ``exposure.items`` is the size of a seeded sample of items with floors. ``exposure.each`` is the floor of each item,
    reduced if the item is on offer in a part of the round. No item is guaranteed more exposures than there are arrivals
    in its time on offer.

    Args:
        ties: Seed of ties and of the sample of items; it differs between rounds.
    """
    is_partial = (times.release > visits.start) & (times.release < visits.stop)
    is_partial |= (times.end > visits.start) & (times.end < visits.stop)
    if exposure.items is None and exposure.each is None and not is_partial.any():
        is_offered = (times.release <= visits.start) & (times.end >= visits.stop)
        required = required_exposure(exposure.beta, n=positions, k=1, released=is_offered, seed=ties)
        return np.asarray(np.minimum(required, len(visits.tick)), np.int64)
    n_visits = visits.on_offer(times)
    if exposure.each is not None:
        exact = exposure.each * (n_visits / len(visits.tick))
    else:
        exact = exposure.beta * (positions * n_visits / max(int(n_visits.sum()), 1))
    if exposure.items is not None:
        exact = np.where(_sampled(n_visits > 0, exposure.items, ties), exact, 0.0)
    required = np.floor(exact).astype(np.int64)
    # Items with the largest remainders get the exposures that rounding down has left over.
    n_left_over = round(float(exact.sum())) - int(required.sum())
    random_key = rng.bits(ties, rng.Purpose.FLOORS, np.arange(len(n_visits)))
    order = np.lexsort((random_key, -(exact - required)))
    required[order[:n_left_over]] += 1
    return np.asarray(np.minimum(required, n_visits), np.int64)


def uniform_share(visits: RoundVisits, positions: int, times: TimesOnOffer) -> Floats:
    """Uniform exposure: positions in proportion to visits on offer."""
    n_visits = visits.on_offer(times)
    return np.asarray(positions * n_visits / max(int(n_visits.sum()), 1), np.float64)


def _sampled(is_offered: Bools, count: int, seed: int) -> Bools:
    """Mask of a seeded sample of the available items."""
    # Available items come first, in random order.
    random_key = rng.bits(seed, rng.Purpose.FLOORS, 1, np.arange(len(is_offered)))
    order = np.lexsort((random_key, ~is_offered))
    chosen = np.zeros(len(is_offered), bool)
    chosen[order[:count]] = True
    return chosen & is_offered
