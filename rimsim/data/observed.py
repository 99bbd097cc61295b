"""Tables of users' observed answers to items.

Either the items were chosen at random, or every user answered about all items.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from rimsim.arrays import Floats, Ints
from rimsim.data.log import EventLog
from rimsim.data.readers import values
from rimsim.data.readers.columns import ANSWERS, ColumnRoles, Role, parsed_roles
from rimsim.data.readers.containers import Stream, existing, inside_zip, open_container, zip_container
from rimsim.data.readers.delimited import TextForm
from rimsim.data.readers.events import Collector, RawEvents, RowBlock, collected
from rimsim.data.readers.layouts import ObservedLayout, find_observed, read_rows
from rimsim.data.readers.lines import LineReader, decoded
from rimsim.data.readers.reading import Reading
from rimsim.errors import ConfigError, DataError, has_type, refuse

_DAY: Final = 86_400.0
_DENSE: Final = 0.9
"""Share of observed pairs from which a table of unknown layout counts as free of selection."""


@dataclass(frozen=True, eq=False)
class ObservedTable:
    """n answers of users to items, sorted by (user, item) pair."""

    user: Ints
    """(n,) position in ``users``."""
    item: Ints
    """(n,) position in ``items``."""
    value: Floats
    """(n,) observed value, at least 0: a rating, a share that was watched, 1 for taken and 0 for not."""
    users: values.Ids
    """(users,) distinct ids, sorted: int64, or Python strings."""
    items: values.Ids
    """(items,) distinct ids, sorted: int64, or Python strings."""
    time: Floats | None
    """(n,) seconds since 1970, NaN where unknown; None if no time is known."""
    shown_at_random: bool
    """True if the choice of shown items did not depend on preferences: all pairs were shown, or random pairs."""
    source: str = "table"
    """Path of the table."""
    layout: str = "table"
    """Detected layout, such as ``KuaiRec small matrix``."""
    repeated: int = 0
    """Number of answers that were left out because their pair has an earlier answer."""

    def __len__(self) -> int:
        return len(self.user)

    @property
    def dense(self) -> float:
        """Share of observed user-item pairs."""
        return len(self) / (len(self.users) * len(self.items))

    def matched(self, log: EventLog) -> ObservedTable:
        """Table with users and items numbered as in a log.

        An answer is left out if its user or its item is not in the log. Ids are compared as texts: 7 and "7" are
        equal.

        Raises:
            DataError: If no answer is left.
        """
        user = values.places_among(self.users, log.users["id"].tolist())[self.user]
        item = values.places_among(self.items, log.items["id"].tolist())[self.item]
        rows = np.flatnonzero((user >= 0) & (item >= 0))
        if not len(rows):
            user_id, item_id, log_user_id, log_item_id = (
                repr(str(ids[0])) for ids in (self.users, self.items, log.users["id"], log.items["id"])
            )
            problem = (
                f"no answer belongs to a user and an item of the log. It has users such as {user_id} and items "
                f"such as {item_id}, the log {log_user_id} and {log_item_id}"
            )
            refuse(DataError, self.source, problem, "the ids of the log")
        rows = rows[np.lexsort((item[rows], user[rows]))]
        return dataclasses.replace(
            self,
            user=user[rows],
            item=item[rows],
            value=self.value[rows],
            time=None if self.time is None else self.time[rows],
            users=log.users["id"].to_numpy(),
            items=log.items["id"].to_numpy(),
        )

    def known_part(self, log: EventLog) -> EventLog:
        """Log of the events whose user and item have answers.

        Users and items are renumbered. A market that answers from the table needs this smaller log if some users or
        items of the log have no answers, as with KuaiRec's small matrix.

        Raises:
            DataError: If no event remains.
        """
        answers = self.matched(log)
        has_answer = np.zeros(log.n_users, bool)
        is_answered_about = np.zeros(log.n_items, bool)
        has_answer[answers.user] = True
        is_answered_about[answers.item] = True
        is_answered = has_answer[log.user] & is_answered_about[log.item]
        if not is_answered.any():
            problem = "no event of the log belongs to a user and an item with an answer"
            refuse(DataError, self.source, problem, "a log with such events")
        events = log.rows(is_answered)
        remaining_users, user = np.unique(events.user, return_inverse=True)
        remaining_items, item = np.unique(events.item, return_inverse=True)
        user_table = log.users.iloc[remaining_users].reset_index(drop=True)
        item_table = log.items.iloc[remaining_items].reset_index(drop=True)
        return dataclasses.replace(
            events, user=user, item=item, users=user_table, items=item_table, report=None
        )

    def as_log(self, taken_at: float) -> EventLog:
        """Log of answers with a value of at least ``taken_at``.

        Each such answer becomes an event. Use this log if the table has no times, like Coat's. Without times, the
        answers of a user are a day apart, in the order of the item ids, so that each is a separate session.

        Raises:
            DataError: If no answer has such a value.
        """
        rows = np.flatnonzero(self.value >= taken_at)
        if not len(rows):
            problem = f"no value is at least {taken_at:g}"
            refuse(DataError, self.source, problem, f"a number of at most {self.value.max():g}")
        user = self.user[rows]
        item = self.item[rows]
        time = np.full(len(rows), np.nan) if self.time is None else self.time[rows]
        # Answers are sorted by user, so this is the number of each answer among those of its user.
        number = np.arange(len(rows)) - np.searchsorted(user, user)
        time = np.where(np.isnan(time), number * _DAY, time)
        order = np.lexsort((item, user, time))
        years = pd.array([pd.NA] * len(self.items), "Int64")
        item_columns = {
            "id": self.items,
            "title": "",
            "genres": "",
            "year": years,
            "release": 0.0,
            "end": np.inf,
        }
        return EventLog(
            user=user[order],
            item=item[order],
            time=time[order],
            value=self.value[rows][order].astype(np.float32),
            users=pd.DataFrame({"id": self.users}),
            items=pd.DataFrame(item_columns),
        )

    def text(self) -> str:
        """Sentence that describes the table."""
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
    """Read a table of observed answers, such as KuaiRec's.

    Known layouts are KuaiRec, KuaiRand, Coat and Yahoo! R3. If a user answered several times about an item, only the
    earliest answer is used (without times, the first answer in the file).

    Args:
        path: A file, a folder or a zip. In a folder with a known layout, the file with answers to random items is
            read, such as ``small_matrix.csv``, ``log_random_….csv`` or ``test.ascii``.
        columns: Column of the user, item, value and time: ``"user=who,item=what,value=liked,time=at"``, or by position
            ``"user,item,value"``. None: the columns of the known layout, or those with usual names in a header.
        value: Column of values, if not the usual column of the layout, such as ``"long_view"`` of KuaiRand.
        separator: Text between fields; comma, tab, semicolon, ``|`` and ``::`` are recognised.
        encoding: Encoding of a text file; None for UTF-8, or the encoding of a byte-order mark.
        shown_at_random: True if the shown items did not depend on preferences. None: as the layout says; without a
            known layout, true if at least 90% of all pairs are observed.

    Raises:
        DataError: If the table cannot be read; the message names file and line or column, the value found and the
            values allowed.
        ConfigError: If an option is out of range.
    """
    source = os.fspath(path)
    if not has_type(source, str) or not source:
        raise ConfigError(f"path is {source!r}. Expected the path of a table, a folder or a zip")
    zipped = inside_zip(source)
    if zipped is None:
        container = open_container(existing(source))
    else:
        archive, inner_file = zipped
        container = zip_container(archive, only=inner_file)
    try:
        member, layout = find_observed(container)
        roles, largest = _roles(layout, columns, value)
        form = TextForm(separator or (layout.separator if columns is None else None), encoding)

        def read(collector: Collector) -> Reading:
            """Read the table into a collector, as its layout requires."""
            if not layout.matrix or columns is not None:
                return read_rows(container, member, collector, roles, form)
            with container.open(member) as stream:
                return _read_matrix(stream, collector)

        unit = layout.unit if columns is None else None
        collector, unit_found, reading = collected(
            read, Collector(ANSWERS, unit, largest_value=largest), source
        )
        answers = collector.events(container.label(member), "s" if reading.times == "iso" else unit_found)
    finally:
        container.close()
    table = _table(answers, source, layout)
    return table if shown_at_random is None else dataclasses.replace(table, shown_at_random=shown_at_random)


def _roles(layout: ObservedLayout, columns: str | None, value: str | None) -> tuple[ColumnRoles, float]:
    """Columns of the table, and largest value that is valid."""
    if columns is not None:
        # The last of the three needed roles is the value, whose column ``value`` may name instead.
        needed = ANSWERS.needed if value is None else ANSWERS.needed[:2]
        column_of = parsed_roles(columns, needed, ANSWERS.roles)
        if value is not None and column_of.setdefault("value", value) != value:
            raise ConfigError(
                f"value: two columns are given for the value of an answer, {value!r} by value= and "
                f"{column_of['value']!r} by columns=. Name one of them"
            )
        return ColumnRoles(ANSWERS, column_of), values.LARGEST_VALUE
    named: dict[Role, str | int] = dict(zip(ANSWERS.needed, layout.columns or (), strict=False))
    has_other_value = value is not None and layout.columns is not None and value not in layout.columns
    if value is not None:
        named["value"] = value
    # The limit of the layout is that of its own value column.
    largest = values.LARGEST_VALUE if has_other_value else layout.largest
    return ColumnRoles(ANSWERS, named, layout.time), largest


def _read_matrix(stream: Stream, collector: Collector) -> Reading:
    """Read a users-by-items matrix, in which 0 means no answer."""
    rows: list[Floats] = []
    for block in LineReader(stream):
        for line, text in enumerate(block.text.split(b"\n"), start=block.first_line):
            if not text.strip():
                continue
            location = f"{stream.name}, line {line:,}"
            try:
                fields = decoded(text).replace(",", " ").split()
                largest = collector.largest_value
                numbers = [
                    values.number(field, f"column {at}", largest) for at, field in enumerate(fields, 1)
                ]
            except values.RowProblemError as problem:
                raise DataError(f"{location}: {problem}") from None
            if rows and len(numbers) != len(rows[0]):
                width_problem = f"the line has {len(numbers)} fields"
                refuse(DataError, location, width_problem, f"{len(rows[0])}, as in the first line")
            rows.append(np.array(numbers))
    if rows:
        matrix = np.array(rows)
        user, item = np.nonzero(matrix)
        answers = RowBlock(
            lines=user + 1,
            users=values.Words(pa.array(user)),
            items=values.Words(pa.array(item)),
            time=None,
            value=matrix[user, item],
        )
        collector.take(stream.name, answers)
    return Reading("matrix")


def _table(raw: RawEvents, source: str, layout: ObservedLayout) -> ObservedTable:
    """Table of each user-item pair's earliest answer, sorted by ids."""
    users, user_rank = values.ranked(raw.user_ids)
    items, item_rank = values.ranked(raw.item_ids)
    user = user_rank[raw.user]
    item = item_rank[raw.item]
    # By user, item, time and row of the file. NaN sorts last, so an answer with a time comes before one without.
    order = np.lexsort((np.arange(len(user)), raw.time, item, user))
    user = user[order]
    item = item[order]
    value = raw.value[order]
    time = raw.time[order]
    is_first = np.ones(len(user), bool)
    is_first[1:] = (np.diff(user) != 0) | (np.diff(item) != 0)
    share_of_pairs = is_first.sum() / (len(users) * len(items))
    return ObservedTable(
        user=user[is_first],
        item=item[is_first],
        value=value[is_first].astype(np.float64, copy=False),
        users=users,
        items=items,
        time=None if np.isnan(time).all() else time[is_first],
        shown_at_random=bool(share_of_pairs >= _DENSE) if layout.at_random is None else layout.at_random,
        source=source,
        layout=layout.name,
        repeated=int((~is_first).sum()),
    )
