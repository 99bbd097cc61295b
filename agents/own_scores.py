"""Scores of your own ranker, instead of platform intensities."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch

from rimsim.agents.registry import BUILT_IN
from rimsim.arrays import Floats
from rimsim.errors import AgentError
from rimsim.market.slates import at_items
from rimsim.matching import top_k
from rimsim.plugs import make_plug, named_options

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView
    from rimsim.market.records import ScoredStates


@runtime_checkable
class Ranker(Protocol):
    """Source of scores by which an agent ranks items.

    A ranker may have the optional attributes of an :class:`rimsim.agents.Agent`, such as ``learn`` and
    ``needs_history``.
    """

    def begin_round(self, view: RoundView) -> None:
        """Prepare for a round, as an agent does."""

    def scores(self, arrivals: Arrivals) -> torch.Tensor | Floats:
        """Return (n, M) scores of at least 0, best largest.

        The arrivals may also be past states (``view.past``).
        """


@dataclass(frozen=True, eq=False)
class Rescored:
    """Scored states whose scores are replaced during iteration."""

    states: ScoredStates
    """States with their former scores."""
    replaced: Callable[[Arrivals], Arrivals]
    """Function that returns a chunk with other scores."""

    def __len__(self) -> int:
        return len(self.states)

    def __iter__(self) -> Iterator[Arrivals]:
        return map(self.replaced, self.states)


class OwnScores:
    """Views and arrivals with the scores of a ranker.

    All scores are multiplied by one factor, which changes no order. With it, the k best items of the past states have
    as much intensity on average as under the platform's model. So the cost c of a missing exposure has the unit of the
    scores.
    """

    def __init__(self, ranker: str | Ranker) -> None:
        self.ranker = _ranker_of(ranker)
        self._factor = 1.0

    def view(self, view: RoundView) -> RoundView:
        """View with own scores; the ranker has begun the round."""
        own_sum = 0.0
        model_sum = 0.0
        for chunk in view.past:
            own_sum += _sum_of_best(self._own(chunk), chunk, view.k)
            model_sum += _sum_of_best(chunk.intensity, chunk, view.k)
        self._factor = model_sum / own_sum if own_sum > 0.0 and model_sum > 0.0 else 1.0
        return dataclasses.replace(view, calibration=Rescored(view.past, self.arrivals))

    def arrivals(self, arrivals: Arrivals) -> Arrivals:
        """Arrivals with the ranker's scores as intensities."""
        return dataclasses.replace(
            arrivals,
            relevance=self._own(arrivals) * self._factor,
            ground_intensity=torch.ones_like(arrivals.ground_intensity),
        )

    def _own(self, arrivals: Arrivals) -> torch.Tensor:
        """Scores of the ranker, checked; 0 where not admissible."""
        scores = torch.as_tensor(self.ranker.scores(arrivals)).to(arrivals.relevance)
        name = type(self.ranker).__name__
        if scores.shape != arrivals.relevance.shape:
            expected = tuple(arrivals.relevance.shape)
            raise AgentError(f"scores of {name} have shape {tuple(scores.shape)}. Expected {expected}")
        is_wrong = arrivals.admissible & ~((scores >= 0) & torch.isfinite(scores))
        if is_wrong.any():
            raise AgentError(
                f"scores of {name} hold {float(scores[is_wrong][0]):g} for an admissible item. Expected finite numbers "
                "of at least 0, of which larger ones rank first"
            )
        return torch.where(arrivals.admissible, scores, torch.zeros_like(scores))


def _ranker_of(ranker: str | Ranker) -> Ranker:
    """Ranker, made from its name or place if needed."""
    if not isinstance(ranker, str):
        return ranker
    name, options = named_options(ranker, "agent")
    plug: Ranker = make_plug(name, "agent", BUILT_IN, ("begin_round", "scores"), options)
    return plug


def _sum_of_best(scores: torch.Tensor, arrivals: Arrivals, size: int) -> float:
    """Sum of the largest scores of all states."""
    items = top_k(scores, arrivals.admissible, size)
    return float(np.where(items >= 0, at_items(scores, items), 0.0).sum(dtype=np.float64))
