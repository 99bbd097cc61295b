"""Tables in which reality is known: what users say of items that were not chosen for them, or of all items."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.arrays import Floats, Ints
from rimsim.data.log import EventLog
from rimsim.data.readers.ids import places_among
from rimsim.errors import DataError

if TYPE_CHECKING:
    from rimsim.data.readers.ids import Ids


_DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class ObservedTable:
    """n answers of users to items, at most one for each pair, sorted by (user, item)."""

    user: Ints
    """(n,) position in ``users``."""
    item: Ints
    """(n,) position in ``items``."""
    value: Floats
    """(n,) what was observed, at least 0: a rating, a share that was watched, 1 for taken and 0 for not."""
    users: Ids
    """(users,) distinct ids, sorted: int64, or Python strings."""
    items: Ids
    """(items,) distinct ids, sorted: int64, or Python strings."""
    time: Floats | None
    """(n,) seconds since 1970, NaN where unknown; None if no time is known."""
    shown_at_random: bool
    """Whether who was shown what did not depend on what they like: all pairs, or random ones."""
    source: str = "table"
    """The path that it was read from."""
    layout: str = "table"
    """What it turned out to be, such as ``KuaiRec small matrix``."""
    repeated: int = 0
    """Answers left out because the pair has an earlier one."""

    def __len__(self) -> int:
        return len(self.user)

    @property
    def dense(self) -> float:
        """The share of all pairs of a user and an item that is observed."""
        return len(self) / (len(self.users) * len(self.items))

    def matched(self, log: EventLog) -> ObservedTable:
        """The table with users and items as they are numbered in a log.

        Answers of users or items that the log does not know fall out.

        Args:
            log: Its ids are compared as texts, so that 7 and "7" are the same.

        Returns:
            The answers that are left; ``users`` and ``items`` are the log's.

        Raises:
            DataError: If none is left.
        """
        user = places_among(self.users, log.users["id"].tolist())[self.user]
        item = places_among(self.items, log.items["id"].tolist())[self.item]
        kept = np.flatnonzero((user >= 0) & (item >= 0))
        if not len(kept):
            first = [repr(str(ids[0])) for ids in (self.users, self.items, log.users["id"], log.items["id"])]
            raise DataError(
                f"{self.source}: no answer is of a user and an item of the log; found users such as {first[0]} and "
                f"items such as {first[1]}, in the log {first[2]} and {first[3]}; allowed: the same ids"
            )
        kept = kept[np.lexsort((item[kept], user[kept]))]
        return dataclasses.replace(
            self,
            user=user[kept],
            item=item[kept],
            value=self.value[kept],
            time=None if self.time is None else self.time[kept],
            users=log.users["id"].to_numpy(),
            items=log.items["id"].to_numpy(),
        )

    def known_part(self, log: EventLog) -> EventLog:
        """The events of a log whose user and item both have an answer, with users and items numbered anew.

        For a market that a table answers, beside whose log there are users and items that it does not know, as beside
        KuaiRec's small matrix.

        Args:
            log: The log.

        Raises:
            DataError: If nothing is left.
        """
        known = self.matched(log)
        users, items = np.zeros(log.n_users, bool), np.zeros(log.n_items, bool)
        users[known.user], items[known.item] = True, True
        kept = users[log.user] & items[log.item]
        if not kept.any():
            raise DataError(
                f"{self.source}: no event of the log is of a user and an item with an answer; allowed: a log with some"
            )
        users, items = np.bincount(log.user[kept]) > 0, np.bincount(log.item[kept]) > 0
        of_user, of_item = np.cumsum(users) - 1, np.cumsum(items) - 1
        rows = log.rows(kept)
        return dataclasses.replace(
            rows,
            user=of_user[rows.user],
            item=of_item[rows.item],
            users=log.users[: len(users)][users].reset_index(drop=True),
            items=log.items[: len(items)][items].reset_index(drop=True),
            report=None,
        )

    def as_log(self, taken_at: float) -> EventLog:
        """What users took, as a log: for tables beside which there is no log with times, such as Coat's.

        An answer without a time gets one that says nothing: the taken answers of each user are a day apart, in the
        order of the item ids, so that each is a session of its own.

        Args:
            taken_at: Values from here on are events.

        Raises:
            DataError: If nothing was taken.
        """
        rows = np.flatnonzero(self.value >= taken_at)
        if not len(rows):
            raise DataError(
                f"{self.source}: no value is at least {taken_at:g}; allowed: at most {self.value.max():g}"
            )
        user, item = self.user[rows], self.item[rows]
        time = np.full(len(rows), np.nan) if self.time is None else self.time[rows]
        within = np.arange(len(rows)) - np.searchsorted(user, user)
        time = np.where(np.isnan(time), within * _DAY, time)
        order = np.lexsort((item, user, time))
        return EventLog(
            user=user[order],
            item=item[order],
            time=time[order],
            value=self.value[rows][order].astype(np.float32),
            users=pd.DataFrame({"id": self.users}),
            items=pd.DataFrame(
                {
                    "id": self.items,
                    "title": "",
                    "genres": "",
                    "year": pd.array([pd.NA] * len(self.items), "Int64"),
                    "release": 0.0,
                }
            ),
        )

    def text(self) -> str:
        """A sentence for a person."""
        shown = "shown without selection" if self.shown_at_random else "perhaps chosen by or for the users"
        repeated = f", {self.repeated:,} later answers to the same pair left out" if self.repeated else ""
        return (
            f"{self.source}: {self.layout}, {len(self):,} answers of {len(self.users):,} users to {len(self.items):,} "
            f"items ({self.dense:.1%} of all pairs; {shown}){repeated}"
        )
