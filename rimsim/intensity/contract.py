"""Contract of intensity models: methods, capabilities, row blocks.

Each row of scores depends on the state of this row and on nothing else, to the last bit. The algorithm of a matrix
product depends on the shapes, so the last bits of a row can depend on the number of rows. So models compute blocks of
exactly :data:`BLOCK` rows, or :data:`STEP` rows when hidden states take an event. The last block is filled up with
zeros. On one thread, a state then has the same scores in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, Self, TypeAlias, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from rimsim.arrays import Floats, Ints
from rimsim.data.log import EventLog
from rimsim.errors import ConfigError, ModelError, refuse
from rimsim.intensity.states import UserStates

Hidden: TypeAlias = tuple[torch.Tensor, ...]
"""Hidden states of n users: tensors (n, …)."""

BLOCK = 128
"""Number of rows in a block of scores."""
STEP = 64
"""Number of rows in a block of hidden states that take an event. It is small, because few states change between
scores."""
MOST_HIDDEN = 1 << 29
"""Largest number of bytes of hidden states that are cached together."""


@runtime_checkable
class IntensityModel(Protocol):
    """Model of p(y|x), of λ(x), or of their product λ(x,y).

    For any model, λ(x) is the sum of a row of :meth:`score`, and p(y|x) is the row divided by this sum. The market uses
    only ``fit``, ``update`` and ``score``, so your own model needs no base class.
    """

    def fit(self, log: EventLog) -> Self:
        """Fit from scratch to the ``target`` events of a log."""

    def update(self, log: EventLog) -> Self:
        """Train present parameters further, on a new log's ``target`` events."""

    def score(self, states: UserStates) -> torch.Tensor:
        """(n, M) float32: non-negative intensities, on the model's device."""


@runtime_checkable
class RecurrentModel(IntensityModel, Protocol):
    """Model whose hidden state takes a new event in O(1).

    With hidden states, no history is encoded twice in a round. A *hidden state* is a tuple of tensors with one row per
    user. ``score(states)`` must equal ``score_hidden(encode(states), states.now)`` up to rounding.
    """

    def encode(self, states: UserStates) -> Hidden:
        """Hidden states of n user states, computed row by row."""

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states after one more event each, at ``times`` (seconds)."""

    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32: intensities of states at times ``now`` in seconds."""


class FromHidden(RecurrentModel):
    """Model that can score hidden states."""

    def score(self, states: UserStates) -> torch.Tensor:
        """(n, M) float32: intensities of the states."""
        return self.score_hidden(self.encode(states), states.now)


class WithoutUserState:
    """Empty hidden states, for models that treat users alike."""

    device: torch.device

    def encode(self, states: UserStates) -> Hidden:
        """Empty hidden states, because users do not differ."""
        return (torch.zeros((len(states), 0), device=self.device),)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Unchanged hidden states, because events do not affect scores."""
        del items, times
        return hidden


_Number = TypeVar("_Number", np.int64, np.float64)
_Method = TypeVar("_Method", bound=Callable[..., object])


def caller_owns(method: _Method) -> _Method:
    """Flag a method ``score_hidden`` whose result callers may change.

    A method with this flag returns a new tensor each time, so the caller can overwrite this tensor without a copy.
    Copies of score blocks would take noticeable time. The flag is on the method, so that a subclass with its own
    ``score_hidden`` does not inherit it.
    """
    vars(method)["caller_owns"] = True
    return method


def owns_scores(model: object) -> bool:
    """True if callers may change the result of ``score_hidden``."""
    return bool(getattr(getattr(model, "score_hidden", None), "caller_owns", False))


@dataclass(frozen=True)
class ModelCapabilities:
    """Optional abilities of a model or class of models."""

    recurrent: bool
    """The model has the methods ``encode``, ``step`` and ``score_hidden``."""
    depends_on_state: bool
    """p(y|x) differs between states; also true for a model without the attribute ``depends_on_state``."""
    takes_weights: bool
    """``fit`` and ``update`` weight target events by ``log.weight`` (attribute ``takes_weights``)."""

    @classmethod
    def of(cls, model: object) -> ModelCapabilities:
        """Abilities that a model declares by its attributes."""
        return cls(
            recurrent=isinstance(model, RecurrentModel),
            depends_on_state=bool(getattr(model, "depends_on_state", True)),
            takes_weights=bool(getattr(model, "takes_weights", False)),
        )


def recurrent(model: object) -> RecurrentModel | None:
    """The model if it has hidden states, else None."""
    return cast("RecurrentModel", model) if ModelCapabilities.of(model).recurrent else None


def fits_into_memory(model: RecurrentModel, states: UserStates) -> bool:
    """True if all hidden states take at most ``MOST_HIDDEN`` bytes."""
    if not len(states):
        return True
    first_hidden = model.encode(states.take([0]))
    return len(states) * sum(part.nbytes for part in first_hidden) <= MOST_HIDDEN


def rescale_of(model: object) -> float:
    """Factor by which the last update rescaled λ(x)."""
    return float(getattr(model, "rescale", 1.0))


def require_targets(log: EventLog, kind: str) -> None:
    """Refuse a log without target events."""
    if not log.targets.any():
        refuse(ModelError, kind, "found no target event in the log", "at least one")


def resolved(device: str) -> torch.device:
    """Device that a configured name means on this machine.

    ``auto`` is the GPU if there is one. The other names are ``cpu``, ``cuda`` and ``cuda:N``.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = device.partition(":")
    if kind not in {"cpu", "cuda"} or (number and not number.isdigit()):
        refuse(ConfigError, "device", f"found {device!r}", "auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= (n_devices := torch.cuda.device_count()):
        refuse(
            ConfigError,
            "device",
            f"found {device!r}, but this machine has {n_devices} CUDA devices",
            "auto or cpu",
        )
    return torch.device(device)


def spans(n: int, height: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Begin and end of each block among n rows."""
    for first in range(0, n, height):
        yield first, min(first + height, n)


def filled_up(values: NDArray[_Number], height: int = BLOCK) -> NDArray[_Number]:
    """Values, extended to length ``height`` by repeating the first value."""
    return np.concatenate([values, np.repeat(values[:1], height - len(values))])


def padded(tensor: torch.Tensor, height: int = BLOCK) -> torch.Tensor:
    """(height, …) rows of a tensor, followed by zeros."""
    missing = height - tensor.shape[0]
    if missing == 0:
        return tensor.contiguous()
    return torch.cat([tensor, tensor.new_zeros((missing, *tensor.shape[1:]))])


def in_blocks(
    function: Callable[..., torch.Tensor], *rows: torch.Tensor, height: int = BLOCK
) -> torch.Tensor:
    """(n, …) values of a row-wise function, computed block by block.

    The function takes a block of each tensor in ``rows`` and returns a block of values. Each kind of computation has
    blocks of its own fixed height.
    """
    n = rows[0].shape[0]
    if n == height:
        return function(*(tensor.contiguous() for tensor in rows))
    blocks = []
    for first, stop in spans(n, height):
        values = function(*(padded(tensor[first:stop], height) for tensor in rows))
        blocks.append(values[: stop - first])
    if blocks:
        return torch.cat(blocks)
    # Without rows, a block of zeros shows the type and the shape of the values.
    return function(*(padded(tensor, height) for tensor in rows))[:0]


@dataclass(frozen=True, eq=False)
class Walk:
    """Events of users, and n points in time between events."""

    offsets: Ints
    """(u + 1,) index of each state's first event."""
    items: Ints
    """(total,) consumed items, state after state, each state's in order."""
    times: Floats
    """(total,) times of consumption, seconds."""
    row: Ints
    """(n,) state to which each of the n points of the walk belongs."""
    count: Ints
    """(n,) number of events before each point, among the events of the point's state."""

    def points(self) -> tuple[Ints, Ints]:
        """Points sorted by state and count; offset of each state."""
        order = np.lexsort((self.count, self.row))
        return order, np.searchsorted(self.row[order], np.arange(len(self.offsets))).astype(np.int64)


def walked(model: Any, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]:
    """Hidden states after all events, and at times between events.

    A model may have its own method ``walk(hidden, walk)``, whose results are identical to those of :func:`stepped`. The
    given hidden states are not changed.
    """
    if _has_walk(type(model).__mro__):
        return cast("tuple[Hidden, Hidden]", model.walk(hidden, walk))
    return stepped(model, hidden, walk)


@cache
def _has_walk(classes: tuple[type, ...]) -> bool:
    """True if a class has a ``walk`` for its ``step``.

    ``classes`` is the method resolution order of the model's class.
    """
    walk_class, step_class = (
        next((base for base in classes if name in vars(base)), None) for name in ("walk", "step")
    )
    # If `walk` comes from a base class and `step` from a subclass, `walk` makes the steps that the subclass has
    # replaced.
    return walk_class is not None and (step_class is None or issubclass(walk_class, step_class))


def stepped(model: Any, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]:
    """Result of :func:`walked`, computed by the model's ``step``.

    Events of different states are processed together, in full blocks of :data:`STEP` rows. So each hidden state is the
    same as if its events were processed alone.
    """
    n_events = np.diff(walk.offsets)
    # States are sorted by number of events, so that states with events left are at the front.
    order = np.argsort(-n_events, kind="stable")
    # Position of each state in this order.
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    # The last bits of a row depend on the height of its block. So the last block is filled up with copies of a state.
    rows = filled_up(order, -(-len(order) // STEP) * STEP)
    current = rows_of(hidden, rows)
    first_event = walk.offsets[rows]
    last_event = n_events[rows] - 1
    device = current[0].device
    at_points = tuple(tensor.new_empty((len(walk.row), *tensor.shape[1:])) for tensor in hidden)
    # Entry n is the number of states with at least n events. The last entries are 0, so that the loop can look ahead.
    n_states_with = [*np.cumsum(np.bincount(n_events)[::-1])[::-1].tolist(), 0, 0]
    for n_steps in range(len(n_states_with) - 1):
        if len(walk.row) and len(due_points := np.flatnonzero(walk.count == n_steps)):
            point_index = torch.from_numpy(due_points).to(device)
            for hidden_at_points, tensor in zip(
                at_points, rows_of(current, position[walk.row[due_points]]), strict=True
            ):
                hidden_at_points.index_copy_(0, point_index, tensor)
        for first, stop in spans(n_states_with[n_steps + 1], STEP):
            block = tuple(tensor[first : first + STEP] for tensor in current)
            # States without events left also step, because the block must keep its height. Their results are dropped.
            event_number = np.minimum(last_event[first : first + STEP], n_steps)
            event = first_event[first : first + STEP] + event_number
            items = torch.from_numpy(walk.items[event])
            times = torch.from_numpy(walk.times[event])
            for tensor, stepped_part in zip(
                block, model.step(block, items.to(device), times.to(device)), strict=True
            ):
                tensor[: stop - first] = stepped_part[: stop - first]
    return rows_of(current, position), at_points


def rows_of(hidden: Hidden, rows: Ints) -> Hidden:
    """Hidden states of the given users."""
    index = torch.from_numpy(rows)
    return tuple(part.index_select(0, index.to(part.device)) for part in hidden)
