"""``popularity``: everybody gets the same bestsellers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rimsim.matching import top_k

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView, SlateLike


class Popularity:
    """Ranks by counts in the platform's log, as of the last refresh."""

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
