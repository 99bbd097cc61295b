"""Where readers of observed tables put the answers that they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Floats, Ints, Ints32
from rimsim.data.readers.collect import unit_of
from rimsim.data.readers.ids import Vocabulary
from rimsim.data.readers.rows import UNITS
from rimsim.data.report import BadRow
from rimsim.errors import DataError

if TYPE_CHECKING:
    from rimsim.data.readers.ids import Ids, Words
    from rimsim.data.readers.rows import Unit


@dataclass(frozen=True, eq=False)
class RawAnswers:
    """n answers in the order in which they were read, with users and items as codes into distinct ids."""

    user: Ints32
    """(n,) position in ``user_ids``."""
    item: Ints32
    """(n,) position in ``item_ids``."""
    value: Floats
    """(n,) what was observed."""
    time: Floats
    """(n,) seconds since 1970; NaN where unknown."""
    user_ids: Ids
    """Distinct ids: int64, or Python strings."""
    item_ids: Ids
    """Distinct ids: int64, or Python strings."""


class Answers:
    """Grows by blocks of answers.

    Args:
        source: What is read, for messages.
        unit: Of times; None: readers may say it, or the one that most of them fit.
    """

    def __init__(self, source: str, unit: Unit | None = None) -> None:
        self._source = source
        self.unit = unit
        """Of times; None until it is known."""
        self._users, self._items = Vocabulary(), Vocabulary()
        self._parts: list[tuple[Ints32, Ints32, Floats, Floats]] = []

    def take(
        self,
        name: str,
        lines: Ints,
        users: Words,
        items: Words,
        values: Floats,
        times: Floats,
        problems: Mapping[int, str],
    ) -> None:
        """Take a block of n answers.

        Args:
            name: How messages call the file.
            lines: (n,) line or row of each, from 1.
            users: (n,) who.
            items: (n,) what.
            values: (n,) what was observed.
            times: (n,) when, in the unit of the source; NaN where unknown.
            problems: Line → what is wrong with it.

        Raises:
            DataError: If there is a problem; the message names the first line that has one.
        """
        lacking = items.lacking | users.lacking
        wrong = dict(problems) | {int(lines[row]): problem for row, problem in lacking.items()}
        if wrong:
            line = min(wrong)
            raise DataError(str(BadRow(name, line, wrong[line])))
        if not len(values):
            return
        rows = np.ones(len(values), bool)
        self._parts.append((users.codes(rows, self._users), items.codes(rows, self._items), values, times))

    def done(self) -> RawAnswers:
        """All answers.

        Raises:
            DataError: If there are none.
        """
        if not self._parts:
            raise DataError(f"{self._source}: no answers; a table needs at least one row of data")
        user, item, value, time = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        unit = self.unit or unit_of(time)
        return RawAnswers(user, item, value, time / UNITS[unit], self._users.ids(), self._items.ids())
