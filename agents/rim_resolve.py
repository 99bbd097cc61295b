"""``rim-resolve``: prices solved anew within the round, on what remains of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim import rng
from rimsim.agents._feedback import Pacing, serve_with_feedback, tie_base
from rimsim.agents.prices import joined_states, solved_prices
from rimsim.errors import ConfigError
from rimsim.market import Slates
from rimsim.matching import solve_dual

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import Arrivals, RoundView

__all__ = ["RimResolve"]


class RimResolve:
    """Ranks by λ(x,y) − v_y with v solved anew every f arrivals on what remains, and feedback in between.

    At arrival t, a multiple of f, the penalised dual of a sample of n states is solved with floors
    (b − E)₊·n/(N − t): what is still required, at the rate at which it must be delivered. The sample stands for the
    arrivals to come: this round's states so far, the latest ``memory``·N of them at most, filled up to ``sample``·N
    with states of last round, evenly spaced. The solver starts from the present prices. Until the next time, prices
    follow delivery as in ``rim-feedback``, with the error taken against the new rate:

        w = clip(w_s + g·c/√r · (r·(t − s)/(N − s) − (E − E_s)) / (1 − (t − s)/(N − s) + δ), 0, c),

    s the last solve and r = (b − E_s)₊ what was left then. Re-solving now and then with first-order steps in between
    is the scheme of Li and Ye (Operations Research 2022) and of Wait-Less (arXiv 2412.09594); mixing in last round's
    states keeps a short window of one regime from being taken for the rest of the round.

    What is solved depends on this round's exposures and on the arrivals already served, in clock order; a batch never
    crosses a multiple of f, so results do not depend on the batch size.

    Args:
        every: f, arrivals between two solves.
        gain: g, relative step in between; 0 for none.
        closing: δ, as in ``rim-feedback``.
        sample: States that a solve looks at, as a share of N.
        memory: How many of this round's arrivals are among them at most, as a share of N.
        tol: Relative gap at which the price solver stops.

    Raises:
        ConfigError: If an option is out of its range.
    """

    name = "rim-resolve"
    order_free = False

    def __init__(
        self,
        every: int = 200,
        gain: float = 0.07,
        closing: float = 0.02,
        sample: float = 1.0,
        memory: float = 1.0,
        tol: float = 1e-3,
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ConfigError(f"rim-resolve: every is {every!r}; allowed: a whole number of at least 1")
        if not gain >= 0:
            raise ConfigError(f"rim-resolve: gain is {gain}; allowed: a number of at least 0")
        if not closing >= 0:
            raise ConfigError(f"rim-resolve: closing is {closing}; allowed: a number of at least 0")
        if not sample > 0:
            raise ConfigError(f"rim-resolve: sample is {sample}; allowed: a number above 0")
        if not memory >= 0:
            raise ConfigError(f"rim-resolve: memory is {memory}; allowed: a number of at least 0")
        self.barrier_every: int | None = every
        self.every = every
        self.gain, self.closing = float(gain), float(closing)
        self.sample, self.memory = float(sample), float(memory)
        self.tol = tol

    def begin_round(self, view: RoundView) -> None:
        """Solve the prices of last round's states."""
        self._view, self._ties = view, tie_base(view.key)
        price, _ = solved_prices(view, self.tol)
        past = sorted(view.calibration, key=lambda chunk: int(chunk.index[0]))
        order = np.argsort(np.concatenate([chunk.index for chunk in past])) if past else np.empty(0, np.int64)
        m = len(view.required)
        self._past = _States.of(past, m, view.slate).rows(order)
        self._seen: list[_States] = []
        self._exposure = view.exposure.astype(np.float64)
        self._served = 0
        self._pace_from(-price)

    @property
    def item_price(self) -> NDArray[np.float64]:
        """(M,) present item prices v."""
        return -self._pacing.bonus(self._served - self._since, self._exposure - self._before)

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve the rows in order; solve first where a multiple of f begins."""
        if self._served and self._served % self.every == 0 and self._served < self._view.arrivals:
            self._resolve()
        delivered = self._exposure - self._before
        items, price = serve_with_feedback(
            arrivals, self._ties, self._served - self._since, self._pacing, delivered, self._view.slate
        )
        self._exposure = self._before + delivered
        self._seen.append(_States.of([arrivals], len(self._exposure), self._view.slate))
        self._served += len(items)
        return Slates(items, price=price)

    def _pace_from(self, bonus: NDArray[np.float64]) -> None:
        """Let prices start from new bonuses, at the rate that the rest of the round asks for."""
        view = self._view
        left = max(view.arrivals - self._served, 1)
        remaining = np.maximum(view.required - self._exposure, 0.0)
        due = view.required > 0
        self._since, self._before = self._served, self._exposure.copy()
        self._pacing = Pacing(
            start=np.where(due, np.clip(bonus, 0.0, view.cost), 0.0),
            pace=remaining / left,
            step=np.where(due, self.gain * view.cost / np.sqrt(np.maximum(remaining, 1.0)), 0.0),
            cost=view.cost,
            closing=self.closing,
            required=np.empty(0),
            arrivals=left,
        )

    def _resolve(self) -> None:
        """Solve the penalised dual of what remains and start the pacing anew."""
        view = self._view
        seen = _States.joined(self._seen)[-max(1, round(self.memory * view.arrivals)) :]
        self._seen = [seen]
        states = max(1, round(self.sample * view.arrivals))
        mine = min(len(seen), states) if self.memory > 0 else 0
        others = min(states - mine, len(self._past))
        spaced = np.floor((np.arange(others) + 0.5) * (len(self._past) / max(others, 1))).astype(np.int64)
        sample = _States.joined([self._past.rows(spaced), seen[len(seen) - mine :]])
        if len(sample) == 0 or not view.required.any():
            return
        left = view.arrivals - self._served
        share = np.maximum(view.required - self._exposure, 0.0) * (len(sample) / left)
        below = np.floor(share)
        draw = rng.uniform(view.key, rng.Purpose.FLOORS, self._served, np.arange(len(share)))
        floors = np.minimum(below + (draw < share - below), len(sample)).astype(np.int64)
        solution = solve_dual(
            sample.scores,
            sample.capacity,
            floors,
            admissible=sample.admissible,
            cost=view.cost,
            prices=self.item_price,
            tol=self.tol,
            tie_seed=view.key,
        )
        self._pace_from(-solution.item_price)


class _States:
    """Scored states, kept for a solve."""

    def __init__(
        self, scores: NDArray[np.float32], admissible: NDArray[np.bool_], capacity: NDArray[np.int64]
    ) -> None:
        self.scores = scores
        """(n, M) λ(x,y)."""
        self.admissible = admissible
        """(n, M)."""
        self.capacity = capacity
        """(n,) positions."""

    @classmethod
    def of(cls, chunks: list[Arrivals], m: int, slate: int) -> _States:
        """The states of some arrivals."""
        if not chunks:
            return cls(np.empty((0, m), np.float32), np.empty((0, m), bool), np.empty(0, np.int64))
        return cls(*joined_states(chunks, slate))

    @classmethod
    def joined(cls, parts: list[_States]) -> _States:
        """Parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.admissible for part in parts]),
            np.concatenate([part.capacity for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, part: slice) -> _States:
        return _States(self.scores[part], self.admissible[part], self.capacity[part])

    def rows(self, which: NDArray[np.int64]) -> _States:
        """Some rows."""
        return _States(self.scores[which], self.admissible[which], self.capacity[which])
