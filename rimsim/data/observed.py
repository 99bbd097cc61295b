"""Tables in which reality is known: what users say of items that were not chosen for them, or of all items."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.data.log import EventLog
from rimsim.data.readers.containers import existing, in_memory, inside_zip, open_container, zip_container
from rimsim.data.readers.observed.collect import Answers
from rimsim.data.readers.observed.layouts import find_observed
from rimsim.data.readers.observed.matrices import read_matrix
from rimsim.data.readers.observed.parquet import read_parquet_answers
from rimsim.data.readers.observed.text import read_text_answers
from rimsim.data.readers.observed.wanted import Wanted
from rimsim.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.data.readers.ids import Ids
    from rimsim.data.readers.observed.collect import RawAnswers
    from rimsim.data.readers.observed.layouts import ObservedLayout

__all__ = ["ObservedTable", "load_observed"]

_DENSE = 0.9
"""From this share of observed pairs on, a table of no known layout is taken to be free of selection."""
_DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class ObservedTable:
    """n answers of users to items, at most one for each pair, sorted by (user, item)."""

    user: NDArray[np.int64]
    """(n,) position in ``users``."""
    item: NDArray[np.int64]
    """(n,) position in ``items``."""
    value: NDArray[np.float64]
    """(n,) what was observed, at least 0: a rating, a share that was watched, 1 for taken and 0 for not."""
    users: Ids
    """(users,) distinct ids, sorted: int64, or Python strings."""
    items: Ids
    """(items,) distinct ids, sorted: int64, or Python strings."""
    time: NDArray[np.float64] | None
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
        user = _positions(self.users, log.users["id"])[self.user]
        item = _positions(self.items, log.items["id"])[self.item]
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


def load_observed(
    path: str | os.PathLike[str],
    *,
    columns: str | None = None,
    value: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    shown_at_random: bool | None = None,
) -> ObservedTable:
    """Read a table of what users say of items: KuaiRec, KuaiRand, Coat, Yahoo! R3, or a plain one.

    Args:
        path: A file, a folder or a zip; of a folder with a known layout, the file with answers to what was not chosen
            is read, such as ``small_matrix.csv``, ``log_random_….csv`` or ``test.ascii``.
        columns: Which column is which: ``"user=who,item=what,value=liked,time=at"``, or by position
            ``"user,item,value"``; None: what the layout says, or a header with usual names.
        value: Another column of values than the layout's, such as ``"long_view"`` of KuaiRand.
        separator: Between fields of a text; found by itself for comma, tab, semicolon, ``|`` and ``::``.
        encoding: Of a text; None for UTF-8, or what a byte-order mark says.
        shown_at_random: Whether who was shown what did not depend on what they like. None: what the layout says; a
            table of no known layout is taken for it if at least 90 % of its pairs are observed.

    Returns:
        The table. Of several answers to one pair the earliest counts (without times, the first of the file).

    Raises:
        DataError: If something cannot be read; the message names file and line or column, what was found and what
            is allowed.
        ConfigError: If an option is none.
    """
    source = os.fspath(path)
    if not isinstance(source, str) or not source:
        raise ConfigError(f"path is {source!r}; allowed: the path of a table, a folder or a zip")
    zipped = inside_zip(source)
    container = open_container(existing(source)) if zipped is None else zip_container(*zipped)
    try:
        member, layout = find_observed(container.members, container.name, container.only)
        answers = Answers(container.label(member), layout.unit if columns is None else None)
        wanted = Wanted.of(layout, columns, value, separator)
        with container.open(member) as stream:
            head = stream.read(4)
        with container.open(member) as stream:
            if layout.matrix and columns is None:
                read_matrix(stream, answers, layout.largest)
            elif head == b"PAR1":
                read_parquet_answers(in_memory(stream), container.label(member), answers, wanted)
            else:
                read_text_answers(stream, answers, wanted, encoding)
    finally:
        container.close()
    table = _table(answers.done(), source, layout)
    return table if shown_at_random is None else dataclasses.replace(table, shown_at_random=shown_at_random)


def _table(raw: RawAnswers, source: str, layout: ObservedLayout) -> ObservedTable:
    """Sort ids and answers, and keep one answer for each pair."""
    users, of_user = _sorted(raw.user_ids)
    items, of_item = _sorted(raw.item_ids)
    user, item = of_user[raw.user], of_item[raw.item]
    order = np.lexsort((np.arange(len(user)), raw.time, item, user))
    user, item, value, time = user[order], item[order], raw.value[order], raw.time[order]
    first = np.ones(len(user), bool)
    first[1:] = (np.diff(user) != 0) | (np.diff(item) != 0)
    share = first.sum() / (len(users) * len(items))
    return ObservedTable(
        user=user[first],
        item=item[first],
        value=value[first],
        users=users,
        items=items,
        time=None if np.isnan(time).all() else time[first],
        shown_at_random=bool(share >= _DENSE) if layout.at_random is None else layout.at_random,
        source=source,
        layout=layout.name,
        repeated=int((~first).sum()),
    )


def _sorted(ids: Ids) -> tuple[Ids, NDArray[np.int64]]:
    """Ids in order, and the place of each in it."""
    order = np.argsort(ids, kind="stable")
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    return ids[order], place


def _positions(ids: Ids, known: pd.Series) -> NDArray[np.int64]:
    """(n,) where each id stands among the known ones, by its text; −1 where it does not."""
    place = {str(one): position for position, one in enumerate(known.tolist())}
    return np.array([place.get(str(one), -1) for one in ids.tolist()], np.int64)
