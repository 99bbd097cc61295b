"""The files of one log, read into a collector and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.data.readers.attributes import items_of_events, read_items, read_users
from rimsim.data.readers.containers import existing, file_container, in_memory
from rimsim.data.readers.delimited import read_delimited
from rimsim.data.readers.parquet import read_parquet

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.data.readers.collect import Collector
    from rimsim.data.readers.columns import Columns
    from rimsim.data.readers.containers import Container
    from rimsim.data.readers.layouts import LogMembers


class LogFiles:
    """The files that make up a log; after :meth:`events`, what was noticed about them.

    Args:
        container: Where they are.
        members: Which they are.
        columns: Columns as the caller gave them, or None for the usual names.
        separator: Of a text file, or None to find it.
        encoding: Of a text file, or None for UTF-8 or what a byte-order mark says.
    """

    def __init__(
        self,
        container: Container,
        members: LogMembers,
        columns: Columns | None,
        separator: str | None,
        encoding: str | None,
    ) -> None:
        self._container = container
        self._members = members
        self._columns = columns
        self._separator = separator
        self._encoding = encoding
        self.columns: tuple[tuple[str, str], ...] = ()
        """Pairs of a role and the column that was read for it."""
        self.notes: tuple[str, ...] = ()
        """What was noticed, a sentence each."""
        self.kind = "text"
        """What the events were written in."""
        self.time_kind = "number"
        """``iso`` if times were dates or timestamps."""

    def events(self, collector: Collector) -> None:
        """Read the events; may be called again."""
        member, container = self._members.events, self._container
        label = container.label(member)
        with container.open(member) as stream:
            head = stream.read(4)
        if head == b"PAR1" or member.lower().endswith((".parquet", ".pq")):
            self.kind = "Parquet"
            path = container.path(member)
            if path is not None and path.suffix.lower() not in (".gz", ".bz2", ".xz"):
                places, kind = read_parquet(path, label, collector, self._columns)
            else:
                with container.open(member) as stream:
                    places, kind = read_parquet(in_memory(stream), label, collector, self._columns)
            self.columns, self.time_kind = places.pairs(), kind or "number"
            return
        plain = self._columns is None and self._separator is None
        reading = read_delimited(
            lambda: container.open(member),
            collector,
            dialect=self._members.layout.dialect if plain else None,
            columns=self._columns,
            separator=self._separator,
            encoding=self._encoding,
        )
        self.columns, self.notes = reading.dialect.positions.pairs(), reading.notes
        self.time_kind = reading.dialect.times
        self.kind = f"text separated by {reading.dialect.separator!r}"

    def tables(
        self, collector: Collector, items: str | None
    ) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """The tables of users and items beside the events.

        Args:
            collector: What the events were read into.
            items: Path of another table of items, or None.
        """
        members, layout, container = self._members, self._members.layout, self._container
        users = item_table = None
        if members.users is not None:
            users = read_users(container, members.users, layout.users_form, collector)
        if items is not None:
            other = file_container(existing(items))
            item_table = read_items(other, other.members[0], None, collector)
        elif members.items is not None:
            item_table = read_items(container, members.items, layout.items_form, collector, members.genres)
        else:
            item_table = items_of_events(collector, container.label(members.events))
        return users, item_table
