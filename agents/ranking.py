"""Agents by one score: ``relevance``, ``popularity``, ``oracle``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

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
        """Take the slate's length."""
        self._slate = view.k

    def act(self, arrivals: Arrivals) -> SlateLike:
        """The k most relevant items of each row."""
        return top_k(arrivals.relevance, arrivals.admissible, self._slate)


class PopularityAgent:
    """Ranks by counts in the platform's log at its refresh."""

    name = "popularity"
    order_free = True
    barrier_every = None

    def begin_round(self, view: RoundView) -> None:
        """Take the counts of the refresh at the round's beginning."""
        self._slate = view.k
        self._counts = torch.from_numpy(view.popularity.astype("float32"))

    def act(self, arrivals: Arrivals) -> SlateLike:
        """The k most popular admissible items of each row."""
        counts = self._counts.to(arrivals.admissible.device).expand(len(arrivals), -1)
        return top_k(counts, arrivals.admissible, self._slate)


Popularity = PopularityAgent


class Oracle:
    """Ranks by the true intensity λ*(x)·p*(y|x), hidden from others."""

    name = "oracle"
    order_free = True
    barrier_every = None
    needs_truth = True

    def begin_round(self, view: RoundView) -> None:
        """Take the slate's length."""
        self._slate = view.k

    def act(self, arrivals: Arrivals) -> SlateLike:
        """The k truly best items of each row.

        Raises:
            AgentError: If the market does not reveal its truth.
        """
        if arrivals.true_intensity is None:
            raise AgentError(
                "oracle: the market does not reveal its truth. Make it with Market(needs=Needs(truth=True))"
            )
        return top_k(arrivals.true_intensity, arrivals.admissible, self._slate)
