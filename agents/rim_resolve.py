"""``rim-resolve``: prices solved again within the round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim import rng
from rimsim.agents.contract import OPTIONS
from rimsim.agents.delivery import Delivery, PacedAgent
from rimsim.agents.past_states import States, joined_states, states_in_order
from rimsim.agents.prices import priced

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView, Slates


@dataclass(config=OPTIONS, eq=False)
class RimResolve(PacedAgent):
    """Ranks by λ − v; solves v again every f arrivals.

    At each arrival t that is a multiple of f, prices are solved on a sample of n states. The floors of the sample are
    (b − E)₊·n/(N − t), the remaining requirement scaled to n states. The sample represents the later arrivals. The
    sample has the states of this round so far (at most the latest ``memory``·N), filled up to ``sample``·N by states of
    the last round. The solver starts from the current prices. Until the next solution, prices adapt to delivery as in
    ``rim-feedback``:

        v = clip(v_s − g·c/√r · (r·(t − s)/(N − s) − (E − E_s)) / (1 − (t − s)/(N − s) + δ), −c, 0),

    Here s is the arrival at which prices were last solved, and r = (b − E_s)₊ is the requirement that remained then. Li
    and Ye (Operations Research 2022) and Wait-Less (arXiv 2412.09594) also solve prices again from time to time, and
    take first-order steps in between. The sample needs states of the last round because a few recent arrivals may not
    represent the rest of the round. A batch never crosses a multiple of f, so results do not depend on the batch size.

    Args:
        every: f, arrivals between two solves.
        gain: g, relative step of prices between two solves; 0: prices stay fixed.
        closing: δ, share of the remaining arrivals over which late corrections are spread.
        sample: Number of states on which prices are solved, as a share of N.
        memory: Largest number of this round's states in the sample, as a share of N.
        tol: Relative gap at which the price solver stops.
    """

    name = "rim-resolve"
    order_free = False
    keeps_promises = True

    every: int = Field(default=200, ge=1)
    gain: float = Field(default=0.07, ge=0)
    closing: float = Field(default=0.02, ge=0)
    sample: float = Field(default=1.0, gt=0)
    memory: float = Field(default=1.0, ge=0)
    tol: float = Field(default=1e-3, gt=0)

    def __post_init__(self) -> None:
        """Forbid batches that cross a multiple of f."""
        self.barrier_every = self.every

    def begin_round(self, view: RoundView) -> None:
        """Solve prices on the last round's states."""
        self._view = view
        self._delivery = Delivery.solved(view, self.tol, self.gain, self.closing)
        self._forget(view)

    def reprice(self, view: RoundView) -> None:
        """Solve prices without states that the former model scored."""
        self._forget(view)
        self._resolve()

    def _forget(self, view: RoundView) -> None:
        """Keep only the view's states for the next samples."""
        past = list(view.past)
        self._past = [states_in_order(past, view.k)] if past else []
        self._seen: list[States] = []

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve arrivals in order; at multiples of f, solve prices."""
        served = self._delivery.served
        if served and served % self.every == 0:
            self._resolve()
        slates = self._delivery.serve(arrivals)
        self._seen.append(joined_states([arrivals], self._view.k))
        return slates

    def _resolve(self) -> None:
        """Solve prices for the remaining requirements, and restart pacing.

        The sample has the latest states of this round, and evenly spaced states of the last round.
        """
        view = self._view
        delivery = self._delivery
        n_wanted = max(1, round(self.sample * view.arrivals))
        n_present = 0
        sample_parts = []
        if self._seen:
            recent_rows = slice(-max(1, round(self.memory * view.arrivals)), None)
            self._seen = [States.stacked(self._seen).rows(recent_rows)]
            seen = self._seen[0]
            n_present = min(len(seen.capacity), n_wanted) if self.memory > 0 else 0
            sample_parts = [seen.rows(slice(len(seen.capacity) - n_present, None))]
        for past in self._past:
            n_past = len(past.capacity)
            n_filling = min(n_wanted - n_present, n_past)
            evenly_spaced = np.floor((np.arange(n_filling) + 0.5) * (n_past / max(n_filling, 1)))
            sample_parts.insert(0, past.rows(evenly_spaced.astype(np.int64)))
        if not sample_parts:
            return
        sample = States.stacked(sample_parts)
        n_sampled = len(sample.capacity)
        due_in = delivery.due_in
        if n_sampled == 0 or due_in <= 0 or not delivery.required.any():
            return
        missing = np.maximum(delivery.required - delivery.exposure, 0.0)
        required = missing * (n_sampled / due_in)
        if view.windows is not None:
            # The states of the sample that can show an item stand for the later arrivals in its time on offer.
            n_offered = np.isfinite(sample.scores).sum(0)
            n_later = delivery.later_on_offer()
            required = np.where(n_later > 0, missing * n_offered / np.maximum(n_later, 1.0), 0.0)
        draw = rng.uniform(view.key, rng.Purpose.FLOORS, delivery.served, np.arange(len(required)))
        price, _ = priced(view, sample, required, draw, self.tol, delivery.prices[: len(required)])
        delivery.pace(price)
