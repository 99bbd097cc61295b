"""Requirements of a round: least and most exposures of items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.measures import weighted_exposure


class Row(NamedTuple):
    """Requirement of a set of items."""

    name: str
    """Name in tables and errors."""
    items: Ints
    """(n,) distinct items whose exposures count, together."""
    least: float = 0.0
    """Least exposures, in the unit of the guarantee."""
    most: float = np.inf
    """Most exposures; ∞: any number."""
    begin: int = 0
    """Tick from which exposures count."""
    end: int = 0
    """Tick from which they no longer count."""
    audience: int = -1
    """Column of ``Arrivals.audiences``; −1: every arrival of the round counts."""
    arrivals: float = 0.0
    """Expected arrivals of the round that count."""


@dataclass(frozen=True, eq=False)
class Requirements:
    """Table of J requirements.

    Row j requires least_j ≤ Σ w_r ≤ most_j over the positions r that hold one of its items. Only arrivals of the row's
    audience, within its time, count; ``Arrivals.audiences`` marks them.
    """

    name: tuple[str, ...]
    first: Ints
    """(J + 1,) beginning of each row's items in ``item``, and the end of the last."""
    item: Ints
    least: Floats
    """(J,) least exposures, in the unit of the guarantee; 0: any number."""
    most: Floats
    """(J,) most exposures, in that unit; ∞: any number."""
    begin: Ints
    """(J,) tick from which exposures count."""
    end: Ints
    """(J,) tick from which they no longer count."""
    audience: Ints
    """(J,) column of ``Arrivals.audiences`` that marks the arrivals that count; −1: all."""
    arrivals: Floats
    """(J,) expected arrivals of the round that count."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Requirements:
        """Table of the rows, in their order."""
        return cls(
            name=tuple(row.name for row in rows),
            first=np.cumsum([0, *(len(row.items) for row in rows)]),
            item=np.concatenate([np.zeros(0, np.int64), *(row.items for row in rows)]),
            least=np.array([row.least for row in rows], np.float64),
            most=np.array([row.most for row in rows], np.float64),
            begin=np.array([row.begin for row in rows], np.int64),
            end=np.array([row.end for row in rows], np.int64),
            audience=np.array([row.audience for row in rows], np.int64),
            arrivals=np.array([row.arrivals for row in rows], np.float64),
        )

    def __len__(self) -> int:
        return len(self.least)

    def items(self, row: int) -> Ints:
        """(n,) items of a row."""
        return self.item[self.first[row] : self.first[row + 1]]

    def rows(self, which: Bools) -> Requirements:
        """Table of the chosen rows (J,), in the same order."""
        sizes = np.diff(self.first)
        return Requirements(
            tuple(name for name, chosen in zip(self.name, which, strict=True) if chosen),
            np.concatenate([[0], np.cumsum(sizes[which])]),
            self.item[np.repeat(which, sizes)],
            *(
                getattr(self, column)[which]
                for column in ("least", "most", "begin", "end", "audience", "arrivals")
            ),
        )

    @property
    def item_caps(self) -> Bools:
        """(J,) rows that cap a single item in the whole round."""
        capped = (self.least == 0) & np.isfinite(self.most)
        return np.asarray((self.audience < 0) & (np.diff(self.first) == 1) & capped)

    def most_of_items(self, n_items: int) -> Floats:
        """(M,) most exposures of each item in the round, from ``item_caps``."""
        most, rows = np.full(n_items, np.inf), np.flatnonzero(self.item_caps)
        np.minimum.at(most, self.item[self.first[rows]], self.most[rows])
        return most

    def active(self, audiences: Bools | None, arrivals: int) -> Bools:
        """(n, J) arrivals that count for each row."""
        everyone = np.ones((arrivals, 1), bool)
        columns = everyone if audiences is None else np.concatenate([audiences, everyone], axis=1)
        return np.asarray(columns[:, self.audience], np.bool_)

    def delivered(
        self, slates: NDArray[np.integer], audiences: Bools | None, weights: Floats, n_items: int
    ) -> Floats:
        """(J,) exposures of each row, in the unit of the guarantee.

        Slates are (n, k) items, −1 for an empty position; weights (k,) those of an exposure at each position.
        """
        if not len(self):
            return np.zeros(0)
        masks = [] if audiences is None else list(audiences.T)
        parts = [slates[mask] for mask in masks] + [slates]  # the last is column −1: everyone
        counts = np.stack([weighted_exposure(part, weights, n_items) for part in parts])
        each = counts[np.repeat(self.audience, np.diff(self.first)), self.item]
        return np.asarray(np.add.reduceat(each, self.first[:-1]), np.float64)


NO_REQUIREMENTS = Requirements.of([])
"""Table without rows."""
