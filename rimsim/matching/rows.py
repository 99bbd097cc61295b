"""Requirements on more than one item: groups, campaigns, audiences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rimsim.arrays import Bools, Floats, Ints
from rimsim.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Rows:
    """G rows: least_g ≤ Σ over the items y of row g and its users x of w·[y is shown to x] ≤ most_g.

    The price of item y for user x is then v_y + Σ v_g over the rows g that hold y and are active for x.
    """

    first: Ints
    """(G+1,) where the items of each row begin in ``item``; the last entry is its length."""
    item: Ints
    """(nnz,) items, distinct within a row."""
    least: Floats
    """(G,) required exposure, in units of the position weights."""
    most: Floats
    """(G,) largest exposure; infinite where there is no cap."""
    cost: Floats
    """(G,) price of one missing unit; infinite where the row is hard."""
    active: Bools | None = None
    """(n, G) users whose exposures count, such as an audience; None: all."""

    def items_of(self, row: int) -> Ints:
        """The items of a row."""
        return self.item[self.first[row] : self.first[row + 1]]

    def refuse_unfit(self, n: int, m: int, where: str) -> None:
        """Raise if the rows do not fit n users and M items.

        Raises:
            ConfigError: Naming what does not fit.
        """
        groups = len(self.first) - 1
        if (
            groups < 0
            or self.first[0] != 0
            or self.first[-1] != len(self.item)
            or (np.diff(self.first) < 0).any()
        ):
            raise ConfigError(
                f"{where}: rows.first must rise from 0 to the length of rows.item, {len(self.item)}"
            )
        if len(self.item) and (self.item.min() < 0 or self.item.max() >= m):
            raise ConfigError(
                f"{where}: rows.item holds {self.item.min()} to {self.item.max()}; allowed: 0 to {m - 1}"
            )
        for name in ("least", "most", "cost"):
            values = getattr(self, name)
            if values.shape != (groups,) or not (values >= 0).all():
                raise ConfigError(f"{where}: rows.{name} must be ({groups},) numbers of at least 0")
        if not (self.least <= self.most).all() or not np.isfinite(self.least).all():
            raise ConfigError(f"{where}: rows.least must be finite and at most rows.most")
        if self.active is not None and self.active.shape != (n, groups):
            raise ConfigError(f"{where}: rows.active has shape {self.active.shape}; allowed: ({n}, {groups})")
        of_row = np.repeat(np.arange(groups), np.diff(self.first))
        if len(np.unique(of_row * max(m, 1) + self.item)) < len(self.item):
            raise ConfigError(f"{where}: a row of rows.item holds an item twice; allowed: distinct items")
