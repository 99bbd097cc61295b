"""What a scenario promises beside a floor for each item: groups, campaigns and caps, round by round."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.config.fields import duration_seconds
from rimsim.errors import ConfigError
from rimsim.market.audiences import Audience, Came
from rimsim.market.campaigns import Promise, RoundAhead, campaign_of, groups_of
from rimsim.market.clock import NEVER, ticks
from rimsim.market.guarantees import expected, required_by_release, uniform_share
from rimsim.market.histories import LoggedPast
from rimsim.market.requirements import Requirements, Row
from rimsim.measures import mean_weight

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.market.arrivals.schedule import Schedule
    from rimsim.market.world import World


class Owed(NamedTuple):
    """What rounds so far left undelivered, in exposures at average positions; negative where more was delivered."""

    items: Floats
    """(M,) of each item, since its period began."""
    rows: Floats
    """(P,) of each group since its period began, then of each campaign."""
    start: int
    """Tick at which the last of these rounds began."""


@dataclass(frozen=True, eq=False)
class RoundPromises:
    """What a round is asked for."""

    required: Floats
    """(M,) required exposures of each item, in the unit of the guarantee."""
    table: Requirements
    """All other requirements."""
    audiences: tuple[Audience, ...]
    """A of them: the columns of ``Arrivals.audiences``."""
    counted: Bools | None
    """(n, A) whether each arrival is of each audience, and within its time; None without audiences."""
    start: int
    """Tick at which the round begins."""
    stop: int
    """Tick at which it ends."""
    row: Ints
    """(J,) the group or campaign of each row of the table; −1: the cap of an item."""
    due: Floats
    """(J,) exposures that the round adds to what each row promises, in the unit of the guarantee."""
    accrued: Owed
    """What is promised by the end of the round and was not delivered before it."""
    weights: Floats
    """(k,) what an exposure at each position counts, in the unit of the guarantee."""

    def delivered(self, slates: NDArray[np.integer], rows: Ints | None = None) -> Floats:
        """(J,) exposures that count for each row of the table, in the unit of the guarantee.

        Args:
            slates: (n, k) items shown to arrivals of the round, −1 for an empty position.
            rows: (n,) which arrivals; None: all, in clock order.
        """
        counted = self.counted if self.counted is None or rows is None else self.counted[rows]
        return self.table.delivered(slates, counted, self.weights, len(self.required))

    def would_count(self, came: Came, start: int, stop: int) -> Bools | None:
        """(m, A) as ``counted``, for visits of another stretch of time that stand for those of this round.

        Args:
            came: The visits.
            start: Tick at which that stretch begins.
            stop: Tick at which it ends.
        """
        return _masks(self.audiences, came.moved((start, stop), (self.start, self.stop)))

    def owed(self, exposure: Floats, delivered: Floats) -> Owed:
        """What is owed after the round.

        Args:
            exposure: (M,) exposures of the round, in the unit of the guarantee.
            delivered: (J,) exposures of each row of the table, likewise.
        """
        average, (items, rows, start) = mean_weight(self.weights), self.accrued
        rows, mine = rows.copy(), self.row >= 0
        rows[self.row[mine]] -= delivered[mine] / average
        return Owed(items - exposure / average, rows, start)


def _masks(audiences: Sequence[Audience], came: Came) -> Bools | None:
    """(n, A) whether each visit is of each audience and within its time; None without audiences."""
    return np.stack([one.counts(came) for one in audiences], axis=1) if audiences else None


class Promises:
    """Floors, groups, campaigns and caps of a scenario, which become the requirements of each round.

    Args:
        config: The scenario.
        world: Its log, and when the market opens.
        seed: Seed of arrivals, which draws the users of an audience.

    Raises:
        ConfigError: If a row has no items or no users, or names a column or value that there is not.
    """

    def __init__(self, config: ScenarioConfig, world: World, seed: int) -> None:
        exposure = config.exposure
        self._exposure, self._slate, self._seed = exposure, config.slate, seed
        self._opening = int(ticks(world.opening))
        self._logged = np.diff(LoggedPast.of(world.past, empty=config.arrivals.history == "none").offsets)
        self._ids: list[str] = world.log.items["id"].astype(str).tolist()
        groups = [promise for group in exposure.groups for promise in groups_of(world, group)]
        self._groups = len(groups)
        self._promises = groups + [
            campaign_of(world, campaign, seed, number) for number, campaign in enumerate(exposure.campaigns)
        ]

    def round(
        self,
        number: int,
        schedule: Schedule,
        capacity: Ints | None,
        owed: Owed | None,
        weights: Floats,
        release: Ints,
    ) -> RoundPromises:
        """What a round is asked for.

        Args:
            number: The round.
            schedule: Its arrivals, n of them.
            capacity: (n,) positions that each may fill; None: all.
            owed: What the round before left; None: it is the first.
            weights: (k,) what an exposure at each position counts, in the unit of the guarantee.
            release: (M,) tick of each item's release; nothing is owed to one that is not on offer any more.

        Raises:
            ConfigError: If a campaign asks for more exposures than there are positions, as far as one can know.
        """
        forecast = self._exposure.forecast * schedule.expected_over_actual
        average = mean_weight(weights)
        each = np.full(len(schedule), self._slate) if capacity is None else capacity
        positions = expected(int(each.sum()), forecast)
        floors = required_by_release(self._exposure, schedule, positions, release, self._seed, number)
        ahead = RoundAhead(
            schedule.start,
            schedule.stop,
            self.came(schedule),
            np.multiply(forecast, each, dtype=np.float64),
            uniform_share(schedule, positions, release),
            forecast,
        )
        if owed is None:
            self._require_positions(ahead)
        before = self._carried(owed, schedule.start)
        if (gone := release >= NEVER).any():
            before = before._replace(items=np.where(gone, 0.0, before.items))
        added = np.array([promise.accrues(ahead) for promise in self._promises], np.float64)
        accrued = Owed(before.items + floors, before.rows + added, schedule.start)
        rows = [
            (number, row, promise.audience)
            for number, promise in enumerate(self._promises)
            if (row := self._row(promise, ahead, float(accrued.rows[number]), average)) is not None
        ]
        audiences = [audience for _, _, audience in rows if audience is not None]
        caps = self._caps(ahead, average)
        return RoundPromises(
            required=np.clip(accrued.items, 0.0, np.maximum(floors, ahead.arrivals(None))) * average,
            table=Requirements.of(
                [
                    row if audience is None else row._replace(audience=audiences.index(audience))
                    for _, row, audience in rows
                ]
                + caps
            ),
            audiences=tuple(audiences),
            counted=_masks(audiences, ahead.came),
            start=schedule.start,
            stop=schedule.stop,
            due=np.array([added[number] for number, _, _ in rows] + [0.0] * len(caps)) * average,
            row=np.array([number for number, _, _ in rows] + [-1] * len(caps), np.int64),
            accrued=accrued,
            weights=weights,
        )

    def came(self, schedule: Schedule) -> Came:
        """The visits of a round as audiences see them."""
        return Came.of(schedule, self._logged)

    def _carried(self, owed: Owed | None, start: int) -> Owed:
        """What a round that begins at a tick takes over from the round before it."""
        if owed is None:
            return Owed(np.zeros(len(self._ids)), np.zeros(len(self._promises)), start)
        per = self._exposure.per
        if per != "round":
            period = int(ticks(duration_seconds(per)))
            if (owed.start - self._opening) // period == (start - self._opening) // period:
                return owed
        rows = owed.rows.copy()
        rows[: self._groups] = 0.0
        return Owed(np.zeros_like(owed.items), rows, start)

    def _row(self, promise: Promise, ahead: RoundAhead, accrued: float, average: float) -> Row | None:
        """A promise's row in a round, of whole exposures at positions that count ``average``; None where it rests."""
        begin, end, audience = ahead.start, ahead.stop, promise.audience
        if audience is not None:
            begin, end = max(audience.begin, begin), min(audience.end, end)
        if begin >= end:
            return None
        return Row(
            promise.name,
            promise.items,
            least=float(np.floor(max(accrued, 0.0) + 0.5)) * average,
            begin=begin,
            end=end,
            arrivals=ahead.arrivals(audience),
        )

    def _caps(self, ahead: RoundAhead, average: float) -> list[Row]:
        """The caps of items in a round, a row each, of whole exposures at positions that count ``average``."""
        if self._exposure.most is None:
            return []
        most = np.ceil(self._exposure.most * ahead.share) * average
        return [
            Row(
                f"most of item {self._ids[item]}",
                np.array([item]),
                most=float(most[item]),
                begin=ahead.start,
                end=ahead.stop,
                arrivals=ahead.arrivals(None),
            )
            for item in range(len(most))
        ]

    def _require_positions(self, ahead: RoundAhead) -> None:
        """Refuse a campaign of more exposures than there are positions for, if all rounds are like the first.

        Raises:
            ConfigError: If there are none, or too few; the message names the campaign.
        """
        for promise in self._promises:
            audience = promise.audience
            if audience is None or promise.exposures is None:
                continue
            anytime = dataclasses.replace(audience, begin=-NEVER, end=NEVER).counts(ahead.came)
            each = np.minimum(ahead.positions[anytime], ahead.forecast * len(promise.items))
            there = float(each.sum())
            if self._exposure.most is not None:
                share = np.maximum(ahead.share[promise.items], ahead.share.mean())  # some come later
                there = min(there, float(np.ceil(self._exposure.most * share).sum()))
            there *= (audience.end - audience.begin) / max(ahead.stop - ahead.start, 1)
            if promise.exposures > there:
                raise ConfigError(
                    f"campaign {promise.name!r}: {promise.exposures:,} exposures, where its audience has about "
                    f"{there:,.0f} positions for its items in its time; allowed: fewer exposures, a longer time, a "
                    "wider audience or higher caps"
                )
