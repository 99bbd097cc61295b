"""What an intensity model is to the rest of rimsim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from rimsim.data.log import EventLog
    from rimsim.intensity.states import UserStates

    Code: TypeAlias = tuple[torch.Tensor, ...]

__all__ = ["IntensityModel", "RecurrentModel"]


@runtime_checkable
class IntensityModel(Protocol):
    """λ(x,y): a mark distribution p(y|x) (rows sum to 1), a ground intensity λ(x), or their product.

    Whatever it is, λ(x) is the sum of a row of :meth:`score` and p(y|x) is the row divided by it. That is all
    the market uses, so a user's own model needs these three methods and no base class.
    """

    def fit(self, log: EventLog) -> Self:
        """Fit from scratch to the ``target`` events of the log; the other events are only history."""
        ...

    def update(self, log: EventLog) -> Self:
        """Fit to the ``target`` events of a new log, starting from the present parameters (warm start)."""
        ...

    def score(self, states: UserStates) -> torch.Tensor:
        """(n, M) float32 non-negative intensities on the model's device; row i depends on state i alone."""
        ...


@runtime_checkable
class RecurrentModel(IntensityModel, Protocol):
    """A model whose state takes a new event in O(1), so that no history is encoded twice in a round.

    A *code* is a tuple of tensors with one row a user. ``score(states)`` must equal
    ``score_codes(encode(states), states.now)`` up to rounding.
    """

    def encode(self, states: UserStates) -> Code:
        """The codes of n states: a tuple of tensors (n, …), computed row by row independently."""
        ...

    def advance(self, code: Code, items: torch.Tensor, times: torch.Tensor) -> Code:
        """The codes after one more event each.

        Args:
            code: Codes of n states.
            items: (n,) int64 consumed items.
            times: (n,) float64 times of consumption, seconds.
        """
        ...

    def score_codes(self, code: Code, now: NDArray[np.float64]) -> torch.Tensor:
        """(n, M) float32 intensities of the coded states at the instants ``now`` (n,), seconds."""
        ...


def hands_over_scores(model: object) -> bool:
    """Whether what ``score_codes`` returns is nobody else's, so that the caller may write to it.

    The class that defines ``score_codes`` says so with an attribute ``hands_over_scores``; a subclass that scores in
    its own way says it anew. What others return is copied first: it may be memory of their own. A block of scores is
    the largest thing that a market touches, so each copy shows.
    """
    author = next((kind for kind in type(model).__mro__ if "score_codes" in vars(kind)), object)
    return bool(vars(author).get("hands_over_scores", False))
