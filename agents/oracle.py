"""``oracle``: a bound, not a contestant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.errors import AgentError
from rimsim.matching import top_k

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView, SlateLike


class Oracle:
    """Ranks by the true intensity λ*(x)·p*(y|x), which no other agent sees."""

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
                "oracle: the market does not reveal its truth; allowed: Market(needs=Needs(truth=True))"
            )
        return top_k(arrivals.true_intensity, arrivals.admissible, self._slate)
