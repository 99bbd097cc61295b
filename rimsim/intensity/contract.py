"""Protocols of intensity models: the three methods that every model has, and the three of a recurrent one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

from rimsim.arrays import Floats

if TYPE_CHECKING:
    import torch

    from rimsim.data.log import EventLog
    from rimsim.intensity.impressions import ImpressionLayer
    from rimsim.intensity.states import UserStates

    Hidden: TypeAlias = tuple[torch.Tensor, ...]


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

    A *hidden state* is a tuple of tensors with one row a user. ``score(states)`` must equal
    ``score_hidden(encode(states), states.now)`` up to rounding.
    """

    def encode(self, states: UserStates) -> Hidden:
        """The hidden states of n user states: a tuple of tensors (n, …), computed row by row independently."""
        ...

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """The hidden states after one more event each.

        Args:
            hidden: Hidden states of n user states.
            items: (n,) int64 consumed items.
            times: (n,) float64 times of consumption, seconds.
        """
        ...

    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32 intensities of the states at the instants ``now`` (n,), seconds."""
        ...


class FromHidden:
    """Part of a recurrent model: its scores are those of its hidden states."""

    def score(self: RecurrentModel, states: UserStates) -> torch.Tensor:
        """(n, M) float32 intensities of the states."""
        return self.score_hidden(self.encode(states), states.now)


_Method = TypeVar("_Method", bound=Callable[..., object])


def caller_owns(method: _Method) -> _Method:
    """Decorator of a ``score_hidden`` that returns a new tensor each time, which its caller may write to.

    What other methods return is copied before it is written to: it may be memory of the model's own. A block of scores
    is the largest thing that a market touches, so each copy shows. The mark is on the method and not on the class, so
    that a subclass with a ``score_hidden`` of its own does not inherit the promise.
    """
    vars(method)["caller_owns"] = True
    return method


def caller_owns_scores(model: object) -> bool:
    """True if the caller owns the tensor that the model's ``score_hidden`` returns."""
    return bool(getattr(getattr(model, "score_hidden", None), "caller_owns", False))


def depends_on_state(model: IntensityModel) -> bool:
    """True if p(y|x) differs from state to state; a model that says nothing of it is taken to.

    A model says otherwise with an attribute ``depends_on_state = False``.
    """
    return bool(getattr(model, "depends_on_state", True))


def rescale_of(model: IntensityModel) -> float:
    """The factor by which the model's last update brought λ(x) back to its old mean.

    It is the model's attribute ``rescale``; 1 where there is none.
    """
    return float(getattr(model, "rescale", 1.0))


def layer_of(model: IntensityModel) -> tuple[IntensityModel, ImpressionLayer | None]:
    """The model inside a layer, and the layer; the model itself and None where it has none.

    A model under a layer has the attributes ``model`` and ``layer``.
    """
    layer: ImpressionLayer | None = getattr(model, "layer", None)
    return (model, None) if layer is None else (model.model, layer)  # type: ignore[attr-defined]


def takes_weights(model: object) -> bool:
    """True if the model's ``fit`` and ``update`` let each target event count as ``log.weight`` says.

    A model says so with an attribute ``takes_weights = True``.
    """
    return bool(getattr(model, "takes_weights", False))
