"""Agents by one score: ``relevance``, ``popularity``, ``informed``, oracles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.arrays import Floats
from rimsim.errors import AgentError
from rimsim.matching import price_slates as price_slates  # noqa: PLC0414  # rimsim.agents exports both
from rimsim.matching import top_k as top_k  # noqa: PLC0414

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView, SlateLike


class Relevance:
    """Ranks by p(y|x)."""

    name = "relevance"
    order_free = True
    barrier_every = None

    def begin_round(self, view: RoundView) -> None:
        """Read the length of slates."""
        self._slate = view.k

    def act(self, arrivals: Arrivals) -> SlateLike:
        """The k most relevant items of each arrival."""
        return top_k(arrivals.relevance, arrivals.admissible, self._slate)


class PopularityAgent:
    """Ranks by the number of events in the platform's log."""

    name = "popularity"
    order_free = True
    barrier_every = None

    def begin_round(self, view: RoundView) -> None:
        """Read the number of events of each item."""
        self._slate = view.k
        self._counts = torch.from_numpy(view.popularity.astype("float32"))

    def act(self, arrivals: Arrivals) -> SlateLike:
        """The k most popular admissible items of each arrival."""
        # Contiguous like the scores of other agents, because another layout would compile the ranking once more.
        counts = self._counts.to(arrivals.admissible.device).expand(len(arrivals), -1).contiguous()
        return top_k(counts, arrivals.admissible, self._slate)


Popularity = PopularityAgent


class Informed:
    """Ranks by the opening model, times true effects of items.

    The *true effect* of an item, as a factor, is the ratio of two sums over the arrivals of the round that may be shown
    the item. The numerator is the sum of true intensities λ*(x)·p*(y|x). The denominator is the sum of the intensities
    λ(x,y) of the model with which the platform opened. A platform estimates the same ratio, consumptions over predicted
    consumptions, from the arrivals to whom it showed the item. If the model is exact up to a worth of items that the
    log hides, the true effect is this worth.

    The agent is the ceiling of learning one effect per item. It does not use the present model, because a ceiling must
    not depend on what the platform has learned.
    """

    name = "informed"
    order_free = True
    barrier_every = None
    needs_item_factor = True

    def begin_round(self, view: RoundView) -> None:
        """Read the length of slates, and true effects of items.

        Raises:
            AgentError: If the market does not reveal the true effects.
        """
        if view.item_factor is None:
            raise AgentError(
                f"{self.name}: this agent uses true effects of items, which the market does not reveal. Make the "
                "market with Market(needs=Needs(item_factor=True))"
            )
        self._slate = view.k
        self._factor = torch.from_numpy(view.item_factor.astype("float32"))

    def act(self, arrivals: Arrivals) -> SlateLike:
        """The k best items of each arrival.

        Raises:
            AgentError: If the arrivals lack the intensities of the opening model.
        """
        if arrivals.opening_intensity is None:
            raise AgentError(
                f"{self.name}: the arrivals lack opening_intensity. Make the market with "
                "Market(needs=Needs(item_factor=True))"
            )
        value = arrivals.opening_intensity * self._factor.to(arrivals.opening_intensity.device)
        return top_k(value, arrivals.admissible, self._slate)


class Oracle:
    """Ranks by the true intensity λ*(x)·p*(y|x), hidden from other agents."""

    name = "oracle"
    order_free = True
    barrier_every = None
    needs_truth = True

    def begin_round(self, view: RoundView) -> None:
        """Read the length of slates."""
        self._slate = view.k

    def act(self, arrivals: Arrivals) -> SlateLike:
        """The k items with the highest true intensities, per arrival.

        Raises:
            AgentError: If the market does not reveal its truth.
        """
        if arrivals.true_intensity is None:
            raise AgentError(
                f"{self.name}: this agent uses the truth, which the market does not reveal. Make the "
                "market with Market(needs=Needs(truth=True))"
            )
        return top_k(arrivals.true_intensity, arrivals.admissible, self._slate)


class StateOracle(Oracle):
    """Ranks by the truth, except for first visits.

    For a first visit, the agent uses the mean true intensity of all first visits so far. So ``oracle`` is better than
    this agent because of knowledge that no platform can have. This agent is better than ``relevance`` because of
    knowledge that a platform could still learn.
    """

    name = "state-oracle"
    order_free = False
    needs_history = True

    def __init__(self) -> None:
        self._sum = np.zeros(0)
        self._count = 0

    def act(self, arrivals: Arrivals) -> SlateLike:
        """The k best items of each arrival, given its state."""
        if arrivals.true_intensity is not None and arrivals.history is not None:
            first_visits = np.flatnonzero(arrivals.history.lengths == 0)
            value = arrivals.true_intensity.cpu().numpy().copy()
            # Entry i is the sum over all first visits so far, including visit i of this batch.
            sums = np.cumsum(value[first_visits], 0, dtype=np.float64) + (self._sum if self._count else 0.0)
            value[first_visits] = sums / (self._count + 1.0 + np.arange(len(first_visits)))[:, None]
            if len(first_visits):
                self._sum = sums[-1]
                self._count += len(first_visits)
            known_intensity = torch.from_numpy(value).to(arrivals.true_intensity)
            arrivals = dataclasses.replace(arrivals, true_intensity=known_intensity)
        return super().act(arrivals)

    @property
    def state(self) -> Mapping[str, Floats]:
        """Sum and number of the true intensities of first visits."""
        return {"sum": self._sum, "count": np.array([float(self._count)])}

    def load_state(self, state: Mapping[str, Floats]) -> None:
        """Resume from the memory of another agent."""
        self._sum = state["sum"]
        self._count = int(state["count"][0])
