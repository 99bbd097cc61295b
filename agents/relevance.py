"""``relevance``: the pure recommender."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.matching import top_k

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
