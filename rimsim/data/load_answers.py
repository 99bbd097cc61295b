"""The door to observed tables: a file, a folder or a zip becomes an :class:`ObservedTable`."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Ints
from rimsim.data.observed import ObservedTable
from rimsim.data.readers.containers import existing, in_memory, inside_zip, open_container, zip_container
from rimsim.data.readers.observed.collect import Answers
from rimsim.data.readers.observed.layouts import find_observed
from rimsim.data.readers.observed.matrices import read_matrix
from rimsim.data.readers.observed.parquet import read_parquet_answers
from rimsim.data.readers.observed.text import read_text_answers
from rimsim.data.readers.observed.wanted import Wanted
from rimsim.errors import ConfigError

if TYPE_CHECKING:
    from rimsim.data.readers.ids import Ids
    from rimsim.data.readers.observed.collect import RawAnswers
    from rimsim.data.readers.observed.layouts import ObservedLayout


_DENSE = 0.9
"""From this share of observed pairs on, a table of no known layout is taken to be free of selection."""


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


def _sorted(ids: Ids) -> tuple[Ids, Ints]:
    """Ids in order, and the place of each in it."""
    order = np.argsort(ids, kind="stable")
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    return ids[order], place
