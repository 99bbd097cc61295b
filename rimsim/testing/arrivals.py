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
from rimsim.testing.intensity import random_log
from rimsim.testing.markets import require_same_in_batches, small_market, small_scenario

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.data.log import EventLog
    from rimsim.market.arrivals import Schedule

__all__ = ["ArrivalTests"]


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
        process = self.make()
        so_far = RoundsSoFar(small_market(self.log(), self.scenario(), process).world, seed)
        return [process.round(number, so_far) for number in ((0, 1) if process.keeps_users else (-1, 0, 1))]

    def test_follows_the_protocol(self) -> None:
        """The process has its two methods, and two truth values that say how it deals with users."""
        process = self.make()
        assert isinstance(process, ArrivalProcess)
        assert isinstance(process.known_beforehand, bool)
        assert isinstance(process.keeps_users, bool)

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
        """Arrivals are in clock order within their round, have ids of their own, and are users of the log."""
        schedules = self.rounds()
        for number, schedule in enumerate(schedules):
            checked_schedule(schedule, number, self.log().n_users)
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
        """Asked again with the same seed, also in another order, a round has the same arrivals to the last bit."""
        process = self.make()
        so_far = RoundsSoFar(small_market(self.log(), self.scenario(), process).world, 3)
        second, first = process.round(1, so_far), process.round(0, so_far)
        for number, schedule in enumerate((first, second)):
            again = self.make().round(number, so_far)
            for field in dataclasses.fields(schedule):
                np.testing.assert_array_equal(getattr(schedule, field.name), getattr(again, field.name))

    def test_a_market_plays_it(self) -> None:
        """Every arrival is served once, and the batch size changes nothing."""
        require_same_in_batches(lambda: small_market(self.log(), self.scenario(), self.make()))
