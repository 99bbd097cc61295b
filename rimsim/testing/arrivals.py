"""Tests for arrival processes of one's own: subclass, say how it is made, run pytest.

    from rimsim.testing import ArrivalTests

    class TestMine(ArrivalTests):
        def make(self) -> ArrivalProcess:
            return Mine()

Every test states a promise that the market relies on.
"""

# ruff: noqa: S101 - these are tests, and assert is pytest's language

from __future__ import annotations

import dataclasses
import itertools
from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from rimsim.market.arrivals import ArrivalProcess, RoundsSoFar, checked_schedule
from rimsim.market.histories import LoggedPast
from rimsim.testing.intensity import random_log
from rimsim.testing.markets import Taking, require_same_in_batches, serve_round, small_market, small_scenario

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.data.log import EventLog
    from rimsim.market.arrivals import Schedule


class ArrivalTests:
    """What any arrival process must do; subclass it in a test module and say how the process is made."""

    @abstractmethod
    def make(self) -> ArrivalProcess:
        """The arrival process."""

    def log(self) -> EventLog:
        """The log that the market is made of."""
        return random_log()

    def scenario(self) -> ScenarioConfig:
        """The rest of the market, two rounds of it."""
        return small_scenario()

    def rounds(self, seed: int = 0) -> list[Schedule]:
        """The schedules of two rounds; before them that of the past, where users are not kept."""
        process, so_far = self.make(), self.before(seed)
        return [process.round(number, so_far) for number in ((0, 1) if process.keeps_users else (-1, 0, 1))]

    def before(self, seed: int = 0) -> RoundsSoFar:
        """What the process is told when the market opens."""
        return RoundsSoFar(small_market(self.log(), self.scenario(), self.make()).world, seed)

    def after_a_round(self, taken: float, seed: int = 0) -> RoundsSoFar:
        """What the process is told after a round in which each item that is shown is taken with a probability."""
        market = small_market(self.log(), self.scenario(), self.make(), Taking(taken), seed)
        serve_round(market)
        return RoundsSoFar(market.world, seed, tuple(market.platform.rounds))

    def test_follows_the_protocol(self) -> None:
        """The process has its two methods, and truth values that say how it deals with users and outcomes."""
        process = self.make()
        assert isinstance(process, ArrivalProcess)
        assert isinstance(process.known_beforehand, bool)
        assert isinstance(process.keeps_users, bool)
        assert isinstance(getattr(process, "hangs_on_outcomes", True), bool)

    def test_nothing_of_the_past_is_later_than_the_opening(self) -> None:
        """The warm-up log ends before the market opens, over the same users and items, and releases are seconds."""
        log = self.log()
        opening = self.make().opening(log)
        assert len(opening.past)
        assert opening.past.time[-1] <= opening.time
        assert (opening.past.n_users, opening.past.n_items) == (log.n_users, log.n_items)
        if opening.release is not None:
            assert opening.release.shape == (log.n_items,)
            assert np.isfinite(opening.release).all()

    def test_schedules_can_be_played(self) -> None:
        """Arrivals are in clock order within their round, after the opening and their pasts, with ids of their own."""
        schedules, so_far = self.rounds(), self.before()
        past = LoggedPast.of(so_far.world.past, empty=self.scenario().arrivals.history == "none")
        for number, schedule in enumerate(schedules, start=2 - len(schedules)):
            checked_schedule(schedule, number, so_far, past)
            assert len(schedule.user) == len(schedule.log_user) == len(schedule.shift)
            assert ((schedule.log_user >= 0) & (schedule.log_user < self.log().n_users)).all()
            assert len(np.unique(schedule.user)) == len(schedule.user)
            if schedule.logged is not None:
                events = np.bincount(self.make().opening(self.log()).past.user, minlength=self.log().n_users)
                assert len(schedule.logged) == len(schedule.user)
                assert ((schedule.logged >= 0) & (schedule.logged <= events[schedule.log_user])).all()
        for earlier, later in itertools.pairwise(schedules):
            assert earlier.stop <= later.start
        assert len(np.unique(np.concatenate([schedule.id for schedule in schedules]))) == sum(
            map(len, schedules)
        )

    def test_users_are_kept_or_new(self) -> None:
        """Kept users have the same slots in every round; others never come again."""
        first, second = (schedule.user for schedule in self.rounds()[-2:])
        if self.make().keeps_users:
            np.testing.assert_array_equal(first, second)
        else:
            assert not np.intersect1d(first, second).size

    def test_all_chance_comes_from_the_seed(self) -> None:
        """Asked again with the same seed, also in another order or after a round, the same come to the last bit."""
        process, nothing, played = self.make(), self.before(3), self.after_a_round(0.5, 3)
        asked = ((1, played), (1, nothing), (0, nothing))
        schedules = [process.round(number, so_far) for number, so_far in asked]
        for schedule, (number, so_far) in zip(schedules, asked, strict=True):
            _require_equal(self.make().round(number, so_far), schedule)

    def test_outcomes_move_it_only_if_it_says_so(self) -> None:
        """With ``hangs_on_outcomes = False``, all comes alike whether nothing was taken in the round before or all."""
        if not getattr(self.make(), "hangs_on_outcomes", True):
            nothing, everything = (self.make().round(1, self.after_a_round(taken)) for taken in (0.0, 1.0))
            _require_equal(nothing, everything)

    def test_a_market_plays_it(self) -> None:
        """Every arrival is served once, and the batch size changes nothing."""
        require_same_in_batches(lambda: small_market(self.log(), self.scenario(), self.make()))


def _require_equal(one: Schedule, other: Schedule) -> None:
    """All columns are the same to the last bit."""
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)
