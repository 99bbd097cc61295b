"""What a round has delivered and still lacks, counted slate by slate: what rewards and observations are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Ints
from rimsim.market.records import observed_gain

if TYPE_CHECKING:
    from rimsim.market.round import Round


class Stock:
    """Exposure and shortfall of one round; a slate changes those of the items that it shows alone.

    Args:
        opened: The round, before its first arrival.
    """

    def __init__(self, opened: Round) -> None:
        short = np.maximum(opened.required - opened.exposure, 0)
        self.exposure = opened.exposure.astype(np.float32)
        """(M,) exposures so far, in the unit of the guarantee."""
        self.shortfall = short.astype(np.float32)
        """(M,) exposures that items still lack, in that unit."""
        promised = opened.promised.table
        self.missing = float(short.sum() + promised.least.sum())
        """What of all guarantees is still to deliver, in that unit."""
        self.excess = 0.0
        """What was shown above caps, in that unit."""
        self._opened = opened
        self._delivered = np.zeros(len(promised))
        """(J,) exposures so far that count for each row of the promises."""

    def count(self, row: Ints, shown: Ints) -> float:
        """Count a slate that has been shown.

        Args:
            row: (1,) the row of its arrival in the round.
            shown: (1, k) the slate.

        Returns:
            What it took off the shortfall, less what it added above caps.
        """
        opened = self._opened
        useful = observed_gain(
            shown[0],
            opened.promised.weights,
            opened.exposure,
            opened.required,
            self.exposure,
            self.shortfall,
        )
        excess = 0.0
        if len(self._delivered):
            missing, excess = self._count_promised(row, shown)
            useful += missing
        self.missing, self.excess = max(self.missing - useful, 0.0), self.excess + excess
        return useful - excess

    def _count_promised(self, row: Ints, shown: Ints) -> tuple[float, float]:
        """By how much a slate (1, k) reduced what groups and campaigns lack, and added to what is above caps."""
        table, before = self._opened.promised.table, self._delivered
        self._delivered = before + self._opened.promised.delivered(shown, row)
        gained = np.maximum(table.least - before, 0.0) - np.maximum(table.least - self._delivered, 0.0)
        beyond = np.maximum(self._delivered - table.most, 0.0) - np.maximum(before - table.most, 0.0)
        return float(gained.sum()), float(beyond.sum())
