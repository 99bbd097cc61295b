"""Whose visits count for a promise: audiences as masks of the log's users, and visits as they see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim import rng
from rimsim.arrays import Bools, Ints
from rimsim.errors import ConfigError, nearest
from rimsim.market.arrivals.schedule import VISIT_BITS, running_count

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.config import AudienceConfig
    from rimsim.market.arrivals.schedule import Schedule


class Came(NamedTuple):
    """n visits as audiences see them."""

    tick: Ints
    """(n,) when."""
    log_user: Ints
    """(n,) the user of the log behind each."""
    first: Bools
    """(n,) first visits: the platform knows of no earlier one, nor of anything that the visitor consumed before."""

    @classmethod
    def of(cls, schedule: Schedule, logged: Ints) -> Came:
        """The visits of a round.

        Args:
            schedule: The round's arrivals.
            logged: (users of the log,) events of each that the platform knows at the opening.
        """
        known = logged[schedule.log_user]
        if schedule.logged is not None:
            known = np.minimum(known, schedule.logged)
        if schedule.earlier is None:
            visit = schedule.id & ((1 << VISIT_BITS) - 1)
        else:
            visit = schedule.earlier[schedule.slot] + running_count(schedule.slot)
        return cls(
            schedule.tick, schedule.log_user[schedule.slot], (known[schedule.slot] == 0) & (visit == 0)
        )

    def moved(self, before: tuple[int, int], now: tuple[int, int]) -> Came:
        """The visits of a stretch of time as if they had come in another one, each after the same share of it.

        Args:
            before: The ticks between which they came.
            now: The ticks between which they would come.
        """
        if before == now:
            return self
        share = (self.tick - before[0]) / max(before[1] - before[0], 1)
        return self._replace(tick=now[0] + np.floor(share * (now[1] - now[0])).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Audience:
    """Whose visits count, and when."""

    begin: int
    """Tick from which they count."""
    end: int
    """Tick from which they count no more."""
    users: Bools
    """(users of the log,) those whose visits count."""
    visits: str = "all"
    """``all``, ``first`` or ``returning``."""

    @classmethod
    def of(
        cls, config: AudienceConfig, users: pd.DataFrame, window: tuple[int, int], where: str, *key: int
    ) -> Audience:
        """An audience of a scenario.

        Args:
            config: Whose visits count.
            users: The user table of the log.
            window: Ticks from which, and up to which, they count.
            where: Who asks, for errors.
            key: Seed, and what else keys the draw of a share of the users.

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
            raise ConfigError(
                f"{where}: its audience has no user; allowed: a filter or share that leaves some"
            )
        return cls(*window, mask, config.visits)

    def counts(self, came: Came) -> Bools:
        """(n,) which visits count."""
        mine = (came.tick >= self.begin) & (came.tick < self.end) & self.users[came.log_user]
        return mine if self.visits == "all" else mine & (came.first == (self.visits == "first"))


def require_column(table: pd.DataFrame, column: str, where: str) -> None:
    """Refuse a column that a table has not.

    Raises:
        ConfigError: With the nearest name.
    """
    if column not in table:
        raise ConfigError(
            f"{where}: the table has no column {column!r}.{nearest(column, map(str, table.columns))}"
        )


def matching_rows(table: pd.DataFrame, column: str, values: tuple[str, ...], where: str) -> Bools:
    """(rows,) those that have one of some values in a column; names joined by ``|`` count one by one.

    Args:
        table: Items or users of a log.
        column: A column of it.
        values: What is looked for, as text.
        where: Who asks, for errors.

    Raises:
        ConfigError: If there is no such column or value; the message names the nearest.
    """
    require_column(table, column, where)
    wanted = set(values)
    texts = [text.split("|") for text in table[column].astype("str").tolist()]
    unknown = wanted - {text for some in texts for text in some}
    if unknown:
        name = min(unknown)
        known = {text for some in texts for text in some if text and text != "<NA>"}
        raise ConfigError(f"{where}: column {column!r} has no value {name!r}.{nearest(name, known)}")
    return np.array([not wanted.isdisjoint(some) for some in texts], bool)
