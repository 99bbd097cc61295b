"""How much of a round is gone, by its arrivals or by the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from rimsim.arrays import Floats

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


_TRUST = 0.05
"""How far the expected arrivals are believed against those that came: as if they had been seen for so much of the
round."""


class Progress(NamedTuple):
    """How much of a round is gone, in arrivals of those that are expected.

    Where a round is paced by arrivals, it is the number that came, and no more than N: after that everything is due.
    Where it is paced by the clock, it is N times the share of the round's time that is gone, however many came.
    """

    expected: int
    """N, arrivals expected."""
    clock: bool
    """Whether the clock says how much is gone."""
    opens: float
    """When the round begins, in seconds."""
    closes: float
    """When it ends, in seconds."""

    @classmethod
    def of(cls, view: RoundView) -> Self:
        """The progress of a round."""
        return cls(view.arrivals, view.pace == "clock", view.opens, view.closes)

    def gone(self, served: int, arrivals: Arrivals) -> Floats:
        """(n,) how much of the round is gone before each of some arrivals, in arrivals of the N expected.

        Args:
            served: Arrivals before them.
            arrivals: The next n arrivals, in clock order.
        """
        if self.clock:
            return self.expected * self._share(arrivals.time)
        return np.minimum(np.arange(served, served + len(arrivals), dtype=np.float64), float(self.expected))

    def now(self, served: int, last: Arrivals) -> float:
        """How much of the round is gone, as far as the arrivals so far tell, in arrivals of those expected.

        Args:
            served: Arrivals so far.
            last: The last of them.
        """
        if self.clock and len(last):
            return float(self.expected * self._share(last.time)[-1])
        return float(min(served, self.expected))

    def left(self, served: int, arrivals: Arrivals) -> Floats:
        """(n,) how many arrivals are yet to come at each of some arrivals, itself included; at least 1.

        By the clock it is the rate at which they have come so far, times the time that is left; until enough of the
        round is gone, the expected rate counts as well.

        Args:
            served: Arrivals before them.
            arrivals: The next n arrivals, in clock order.
        """
        came = np.arange(served, served + len(arrivals), dtype=np.float64)
        return self.to_come(came, self.expected, self._share(arrivals.time) if self.clock else None)

    def to_come(
        self,
        came: Floats,
        expected: Floats | float,
        share: Floats | None,
    ) -> Floats:
        """How many arrivals are yet to come, as :meth:`left` has it, of all or of an audience.

        Args:
            came: Those that came.
            expected: Those that are expected in all.
            share: Share of their time that is gone; None where arrivals are counted.
        """
        if share is None:
            return np.maximum(expected - came, 1.0)
        rate = (came + _TRUST * expected) / (share + _TRUST)
        return np.maximum(rate * (1.0 - share), 1.0)

    def steps(self, served: int, gone: float, arrivals: Arrivals) -> Floats:
        """(n,) how much of the round goes with each of some arrivals, in arrivals of the N expected.

        By arrivals it is 1 until N have come; by the clock, what has gone since the arrival before.

        Args:
            served: Arrivals before them.
            gone: How much was gone then, :meth:`now`.
            arrivals: The next n arrivals, in clock order.
        """
        if self.clock:
            return np.diff(self.gone(served, arrivals), prepend=gone)
        return (np.arange(served, served + len(arrivals)) < self.expected).astype(np.float64)

    def _share(self, time: Floats) -> Floats:
        """(n,) share of the round's time that is gone."""
        return share_gone(time, self.opens, self.closes)


def share_gone(time: Floats, opens: Floats | float, closes: Floats | float) -> Floats:
    """Share of the time between two instants that is gone at some others, all in seconds and of shapes that fit."""
    return np.asarray(np.clip((time - opens) / np.maximum(closes - opens, 1e-9), 0.0, 1.0), np.float64)
