"""Audiences of campaigns, and the visits that belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim import rng
from rimsim.arrays import Bools, Ints
from rimsim.config import AudienceConfig
from rimsim.errors import ConfigError, nearest

if TYPE_CHECKING:
    import pandas as pd


class RoundVisits(NamedTuple):
    """n visits of a round, in clock order."""

    tick: Ints
    """(n,) time of each."""
    log_user: Ints
    """(n,) user of the log behind each."""
    first: Bools
    """(n,) first visits: the platform knows no earlier one, and nothing that the visitor consumed before."""
    start: int
    """Tick at which the round begins."""
    stop: int
    """Tick at which it ends."""

    def rows(self, which: Ints) -> RoundVisits:
        """Chosen visits of the round."""
        return self._replace(tick=self.tick[which], log_user=self.log_user[which], first=self.first[which])

    def moved_to(self, start: int, stop: int) -> RoundVisits:
        """The same visits, moved to another period in proportion."""
        if (start, stop) == (self.start, self.stop):
            return self
        share = (self.tick - self.start) / max(self.stop - self.start, 1)
        tick = start + np.floor(share * (stop - start)).astype(np.int64)
        return self._replace(tick=tick, start=start, stop=stop)

    def after(self, release: Ints) -> Ints:
        """(M,) visits from the release tick (M,) of each item on."""
        n = len(self.tick)
        coming = (release > self.start) & (release < self.stop)
        left = np.where(release <= self.start, n, 0)
        left[coming] = n - np.searchsorted(self.tick, release[coming], "left")
        return left


@dataclass(frozen=True, eq=False)
class Audience:
    """Visitors whose visits count, and when."""

    begin: int
    """Tick from which visits count."""
    end: int
    """Tick from which they no longer count."""
    users: Bools
    """(users of the log,) users whose visits count."""
    visits: str = "all"
    """``all``, ``first`` or ``returning``."""

    @classmethod
    def of(
        cls, config: AudienceConfig, users: pd.DataFrame, window: tuple[int, int], where: str, *key: int
    ) -> Audience:
        """Audience of a scenario, within a window of ticks.

        Args:
            key: Seed, and further keys of the draw of a share of the users.

        Raises:
            ConfigError: If the table has no such column or value, or no user is left.
        """
        mask = np.ones(len(users), bool)
        for column, values in config.users:
            mask &= matching_rows(users, column, values, f"{where}: audience")
        if config.share < 1.0:
            seed, *rest = key
            mask &= rng.uniform(seed, rng.Purpose.FLOORS, *rest, np.arange(len(users))) < config.share
        if not mask.any():
            raise ConfigError(f"{where}: its audience has no user. Widen the filter or the share")
        return cls(*window, mask, config.visits)

    def counts(self, visits: RoundVisits) -> Bools:
        """(n,) visits that count."""
        mine = (visits.tick >= self.begin) & (visits.tick < self.end) & self.users[visits.log_user]
        return mine if self.visits == "all" else mine & (visits.first == (self.visits == "first"))


def require_column(table: pd.DataFrame, column: str, where: str) -> None:
    """Refuse a column that a table does not have.

    Raises:
        ConfigError: With the nearest name.
    """
    if column not in table:
        raise ConfigError(
            f"{where}: the table has no column {column!r}.{nearest(column, map(str, table.columns))}"
        )


def matching_rows(table: pd.DataFrame, column: str, values: tuple[str, ...], where: str) -> Bools:
    """(rows,) rows with any of the values in a column.

    Values joined by ``|`` count one by one.

    Raises:
        ConfigError: If there is no such column or value; the message names the nearest.
    """
    require_column(table, column, where)
    wanted = set(values)
    texts = [text.split("|") for text in table[column].astype("str").tolist()]
    present = {text for row in texts for text in row}
    if unknown := wanted - present:
        name = min(unknown)
        known = {text for text in present if text and text != "<NA>"}
        raise ConfigError(f"{where}: column {column!r} has no value {name!r}.{nearest(name, known)}")
    return np.array([not wanted.isdisjoint(row) for row in texts], bool)
