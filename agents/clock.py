"""Progress of a round and of its audiences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Bools, Floats, seconds
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

EARLY = 0.05
"""Share of the round that remains when hard requirements should be met. In this time, later arrivals can still deliver
missing exposures."""
# When this share of the round has elapsed, the expected and the observed rate of arrivals have equal weights in their
# mean. Before that, the expected rate has more weight, so that the first few arrivals do not decide the mean.
_TRUST = 0.05


class RoundClock:
    """Progress of a round and its audiences, in expected arrivals.

    Arrays have a column for each of the A audiences of the requirements, and then one for the whole round. With pacing
    by arrivals, the elapsed number is the number of served arrivals, at most N. With pacing by time, the elapsed number
    is N times the elapsed share of the round's time, for any number of served arrivals.
    """

    def __init__(self, view: RoundView, table: Requirements = NO_REQUIREMENTS) -> None:
        n_audiences = int(table.audience.max(initial=-1)) + 1
        self.expected = np.full(n_audiences + 1, float(view.arrivals))
        """(A + 1,) expected arrivals."""
        self._opens = np.full(n_audiences + 1, view.opens)
        self._closes = np.full(n_audiences + 1, view.closes)
        has_audience = table.audience >= 0
        self.expected[table.audience[has_audience]] = table.arrivals[has_audience]
        self._opens[table.audience[has_audience]] = seconds(table.begin[has_audience])
        self._closes[table.audience[has_audience]] = seconds(table.end[has_audience])
        self._by_time = view.pace == "clock"
        self.served = 0
        """Arrivals served."""
        self._n_arrived = np.zeros(n_audiences)
        self.elapsed = np.zeros(n_audiences + 1)
        """(A + 1,) elapsed expected arrivals, as of the last arrival."""

    def counts(self, arrivals: Arrivals) -> Bools:
        """Mask of the arrivals that belong to each audience."""
        counts = np.ones((len(arrivals), len(self.expected)), np.bool_)
        if len(self._n_arrived):
            counts[:, :-1] = arrivals.audiences
        return counts

    def before(self, arrivals: Arrivals) -> Floats:
        """Elapsed expected arrivals before each of the given arrivals."""
        if self._by_time:
            return np.asarray(self.expected * self._elapsed_share(arrivals), np.float64)
        n_before = self._arrived_before(arrivals)
        n_before[:, -1] = np.minimum(n_before[:, -1], self.expected[-1])
        return n_before

    def remaining(self, arrivals: Arrivals) -> Floats:
        """Number of remaining arrivals at each arrival, itself included.

        The number is at least 1. With pacing by time, the number of remaining arrivals is the rate of arrivals so far
        times the remaining time. Early in the round, the rate is averaged with the expected rate.
        """
        n_before = self._arrived_before(arrivals)
        if not self._by_time:
            return np.maximum(self.expected - n_before, 1.0)
        elapsed_share = self._elapsed_share(arrivals)
        # Arrivals per round: mean of the observed and the expected rate, with the elapsed share and _TRUST as weights.
        rate: Floats = (n_before + _TRUST * self.expected) / (elapsed_share + _TRUST)
        return np.maximum(rate * (1.0 - elapsed_share), 1.0)

    def steps(self, arrivals: Arrivals) -> Floats:
        """Number of expected arrivals that elapse at each arrival."""
        if self._by_time:
            return np.asarray(np.diff(self.before(arrivals)[:, -1], prepend=self.elapsed[-1]), np.float64)
        n_before = np.arange(self.served, self.served + len(arrivals))
        # Each arrival is one step. An arrival beyond the expected number is no step, because the round is then over.
        return np.asarray(n_before < self.expected[-1], np.float64)

    def advance(self, arrivals: Arrivals) -> None:
        """Count arrivals as served."""
        self.served += len(arrivals)
        if len(self._n_arrived) and arrivals.audiences is not None:
            self._n_arrived = self._n_arrived + arrivals.audiences.sum(0)
        if not self._by_time:
            self.elapsed = np.append(self._n_arrived, min(float(self.served), self.expected[-1]))
        elif len(arrivals):
            self.elapsed = self.before(arrivals)[-1]

    def _arrived_before(self, arrivals: Arrivals) -> Floats:
        """Number of arrivals of each audience before each given arrival."""
        n_before = np.empty((len(arrivals), len(self.expected)))
        n_before[:, -1] = np.arange(self.served, self.served + len(arrivals))
        if len(self._n_arrived):
            counts = self.counts(arrivals)[:, :-1]
            n_in_batch = np.cumsum(counts, axis=0)  # including the arrival itself
            n_before[:, :-1] = self._n_arrived + n_in_batch - counts
        return n_before

    def _elapsed_share(self, arrivals: Arrivals) -> Floats:
        """Elapsed share of each audience's time, at each arrival."""
        seconds_open = np.maximum(self._closes - self._opens, 1e-9)
        return np.asarray(
            np.clip((arrivals.time[:, None] - self._opens) / seconds_open, 0.0, 1.0), np.float64
        )
