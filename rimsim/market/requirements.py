"""The table of requirements of a round: rows of items that must be shown so often at least, or at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.measures import weighted_exposure


class Row(NamedTuple):
    """One row of the table."""

    name: str
    """What it is called in tables and errors."""
    items: Ints
    """(n,) distinct items whose exposures count, together."""
    least: float = 0.0
    """Exposures that they must have at least, in the unit of the guarantee."""
    most: float = np.inf
    """Exposures that they may have at most; ∞: any number."""
    begin: int = 0
    """Tick from which exposures count."""
    end: int = 0
    """Tick from which they count no more."""
    audience: int = -1
    """Column of ``Arrivals.audiences``; −1: every arrival of the round counts."""
    arrivals: float = 0.0
    """Arrivals of the round that are expected to count."""


@dataclass(frozen=True, eq=False)
class Requirements:
    """J rows; row j asks for least_j ≤ Σ w_r over the positions r that hold one of its items ≤ most_j.

    Only arrivals of its audience and within its time count; ``Arrivals.audiences`` says which are.
    """

    name: tuple[str, ...]
    """What each row is called."""
    first: Ints
    """(J + 1,) where the items of each row begin in ``item``, and where the last end."""
    item: Ints
    """Items, row after row."""
    least: Floats
    """(J,) exposures that each must have at least, in the unit of the guarantee; 0: any number."""
    most: Floats
    """(J,) exposures that each may have at most, in that unit; ∞: any number."""
    begin: Ints
    """(J,) tick from which exposures count."""
    end: Ints
    """(J,) tick from which they count no more."""
    audience: Ints
    """(J,) column of ``Arrivals.audiences`` that says which arrivals count; −1: all."""
    arrivals: Floats
    """(J,) arrivals of the round that are expected to count."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Requirements:
        """The table of some rows."""
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
        """(n,) the items of a row."""
        return self.item[self.first[row] : self.first[row + 1]]

    def rows(self, which: Bools) -> Requirements:
        """The table of some of the rows (J,), in the same order."""
        sizes = np.diff(self.first)
        return Requirements(
            name=tuple(name for name, kept in zip(self.name, which, strict=True) if kept),
            first=np.concatenate([[0], np.cumsum(sizes[which])]),
            item=self.item[np.repeat(which, sizes)],
            least=self.least[which],
            most=self.most[which],
            begin=self.begin[which],
            end=self.end[which],
            audience=self.audience[which],
            arrivals=self.arrivals[which],
        )

    @property
    def item_caps(self) -> Bools:
        """(J,) rows that cap one item in the whole round."""
        capped = (self.least == 0) & np.isfinite(self.most)
        return np.asarray((self.audience < 0) & (np.diff(self.first) == 1) & capped)

    def most_of_items(self, n_items: int) -> Floats:
        """(M,) exposures that each item may have at most in the round, ∞ where any number, from ``item_caps``."""
        most, rows = np.full(n_items, np.inf), np.flatnonzero(self.item_caps)
        np.minimum.at(most, self.item[self.first[rows]], self.most[rows])
        return most

    def active(self, audiences: Bools | None, arrivals: int) -> Bools:
        """(n, J) whether each arrival counts for each row.

        Args:
            audiences: (n, A) as in ``Arrivals.audiences``; None: no row asks.
            arrivals: n.
        """
        everyone = np.ones((arrivals, 1), bool)
        columns = everyone if audiences is None else np.concatenate([audiences, everyone], axis=1)
        return np.asarray(columns[:, self.audience], np.bool_)

    def delivered(
        self,
        slates: NDArray[np.integer],
        audiences: Bools | None,
        weights: Floats,
        n_items: int,
    ) -> Floats:
        """(J,) exposures of each row, in the unit of the guarantee.

        Args:
            slates: (n, k) items shown, −1 for an empty position.
            audiences: (n, A) as in ``Arrivals.audiences``; None: no row asks.
            weights: (k,) what an exposure at each position counts.
            n_items: Size of the catalogue, M.
        """
        if not len(self):
            return np.zeros(0)
        masks = [] if audiences is None else list(audiences.T)
        parts = [slates[mask] for mask in masks] + [slates]  # the last is column −1: everyone
        counts = np.stack([weighted_exposure(part, weights, n_items) for part in parts])
        each = counts[np.repeat(self.audience, np.diff(self.first)), self.item]
        return np.asarray(np.add.reduceat(each, self.first[:-1]), np.float64)


NO_REQUIREMENTS = Requirements.of([])
"""A table without rows."""
