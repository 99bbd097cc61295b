"""Audiences: visitors and times that count for a campaign."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim import rng
from rimsim.arrays import Bools, Ints
from rimsim.config import AudienceConfig
from rimsim.errors import ConfigError
from rimsim.requirements.filters import matching_rows
from rimsim.requirements.on_offer import TimesOnOffer

if TYPE_CHECKING:
    import pandas as pd


class RoundVisits(NamedTuple):
    """Visits of a round, in clock order."""

    tick: Ints
    """(n,) tick of each visit."""
    log_user: Ints
    """(n,) user of the log from which each visitor was copied."""
    first: Bools
    """(n,) True if the platform knows of no earlier visit and no consumption of the visitor."""
    start: int
    """Tick at which the round begins."""
    stop: int
    """Tick at which the round ends."""

    def rows(self, visits: Ints) -> RoundVisits:
        """Visits at given indices."""
        return self._replace(tick=self.tick[visits], log_user=self.log_user[visits], first=self.first[visits])

    def moved_to(self, start: int, stop: int) -> RoundVisits:
        """Visits, with times rescaled to another period."""
        if (start, stop) == (self.start, self.stop):
            return self
        share = (self.tick - self.start) / max(self.stop - self.start, 1)
        tick = start + np.floor(share * (stop - start)).astype(np.int64)
        return self._replace(tick=tick, start=start, stop=stop)

    def before(self, instant: Ints) -> Ints:
        """Number of visits before each of some ticks."""
        n_before = np.where(instant <= self.start, 0, len(self.tick))
        is_within = (instant > self.start) & (instant < self.stop)
        n_before[is_within] = np.searchsorted(self.tick, instant[is_within], "left")
        return np.asarray(n_before, np.int64)

    def on_offer(self, times: TimesOnOffer) -> Ints:
        """Number of visits in each item's time on offer."""
        n_visits = np.maximum(self.before(times.end) - self.before(times.release), 0)
        item, begin, end = times.absences.T
        np.subtract.at(n_visits, item, self.before(end) - self.before(begin))
        return np.asarray(n_visits, np.int64)

    def with_offer(self, times: TimesOnOffer, items: Ints) -> int:
        """Number of visits with a given item on offer."""
        first = self.before(times.release[items])
        last = np.maximum(self.before(times.end[items]), first)
        n_starting = np.bincount(first, minlength=len(self.tick) + 1)
        n_ending = np.bincount(last, minlength=len(self.tick) + 1)
        return int(np.count_nonzero(np.cumsum(n_starting - n_ending)[:-1]))


@dataclass(frozen=True, eq=False)
class Audience:
    """Visitors and times whose visits count for a campaign."""

    begin: int
    """Tick from which visits count."""
    end: int
    """Tick from which visits no longer count."""
    users: Bools
    """(users of the log,) True for users whose visits count."""
    visits: str = "all"
    """Visits that count: ``all``, ``first`` or ``returning``."""

    @classmethod
    def of(
        cls, config: AudienceConfig, users: pd.DataFrame, window: tuple[int, int], field: str, *key: int
    ) -> Audience:
        """Audience from its config, within a window of ticks.

        Args:
            key: Seed and further integers that seed the selection of a share of the users.

        Raises:
            ConfigError: If the user table lacks the column or value, or if no user fulfils the conditions.
        """
        mask = np.ones(len(users), bool)
        for column, values in config.users:
            mask &= matching_rows(users, column, values, f"{field}: audience")
        if config.share < 1.0:
            seed, *rest = key
            mask &= rng.uniform(seed, rng.Purpose.FLOORS, *rest, np.arange(len(users))) < config.share
        if not mask.any():
            raise ConfigError(f"{field}: the audience has no user. Widen the filter or raise the share")
        begin, end = window
        return cls(begin=begin, end=end, users=mask, visits=config.visits)

    def until(self, tick: int) -> Audience:
        """Same audience, whose visits count only before a tick."""
        return self if tick >= self.end else replace(self, end=max(tick, self.begin))

    def counts(self, visits: RoundVisits) -> Bools:
        """Mask of visits that count for the audience."""
        is_in_time = (visits.tick >= self.begin) & (visits.tick < self.end)
        is_counted: Bools = is_in_time & self.users[visits.log_user]
        if self.visits == "all":
            return is_counted
        is_of_type: Bools = visits.first == (self.visits == "first")
        return is_counted & is_of_type
