"""What passes between the market and an agent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.errors import AgentError
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.evaluation.off_policy import Chances
    from rimsim.intensity.states import UserStates


@dataclass(frozen=True, eq=False)
class Arrivals:
    """n user states that ask for a slate, in clock order, with what the platform's model says of them."""

    id: Ints
    """(n,) arrival ids, made of user and visit number: the same in every run with the same arrivals."""
    time: Floats
    """(n,) seconds on the market's clock."""
    user: Ints
    """(n,) market users."""
    relevance: torch.Tensor
    """(n, M) float32 p(y|x): rows sum to 1 over admissible items, 0 elsewhere."""
    ground_intensity: torch.Tensor
    """(n,) float32 λ(x): expected interactions of the state in this session."""
    admissible: torch.Tensor
    """(n, M) bool: released and not yet consumed by the user."""
    index: Ints
    """(n,) row of each arrival in its round, in clock order."""
    true_intensity: torch.Tensor | None = None
    """(n, M) float32 λ*(x)·p*(y|x); only for agents that declare ``needs_truth`` (bounds, not contestants)."""
    capacity: Ints | None = None
    """(n,) positions that may be filled, where a user's exposures are capped; the market empties what goes beyond.
    None: all k."""
    audiences: Bools | None = None
    """(n, A) whether each arrival is of the audience of a requirement, and within its time; the rows of
    ``RoundView.promises`` name their columns. None: no row asks."""
    history: UserStates | None = None
    """n states: what the platform knows that each visitor consumed, and when; for agents that declare
    ``needs_history``."""

    def __len__(self) -> int:
        return len(self.id)

    def rows(self, which: Ints | slice) -> Arrivals:
        """Some of the arrivals, in the order asked for."""
        columns = [getattr(self, field.name) for field in fields(self)]
        kept: list[Any] = [None if column is None else column[which] for column in columns]
        return Arrivals(*kept)

    @property
    def intensity(self) -> torch.Tensor:
        """(n, M) float32 λ(x,y) = λ(x)·p(y|x)."""
        return self.relevance * self.ground_intensity[:, None]


@dataclass(frozen=True, eq=False)
class Slates:
    """What an agent answers: n slates, and, where it has them, the prices and propensities behind them."""

    items: Ints
    """(n, k) distinct admissible items in order; −1 leaves a position empty."""
    price: Float32s | None = None
    """(n, k) item prices v_y at the decision."""
    propensity: Float32s | None = None
    """(n, k) marginal inclusion probabilities at the decision; None for a deterministic agent."""
    uniform: Bools | None = None
    """(n,) whether each slate is a uniform draw of admissible items in random order; None: none is."""
    chances: Chances | None = None
    """With which chance each item was to stand where it stands, each slate to begin so, and to be this one; None for an
    agent that does not say."""


SlateLike: TypeAlias = Slates | Ints | torch.Tensor


def as_slates(answer: SlateLike) -> Slates:
    """What an agent answered, as a record; plain arrays and tensors of items are slates without prices.

    Raises:
        AgentError: If it is nothing of the kind.
    """
    if not isinstance(answer, Slates):
        return Slates(_whole_items(answer))
    items = _whole_items(answer.items)
    for name in ("price", "propensity"):
        value = getattr(answer, name)
        if value is not None and np.shape(value) != items.shape:
            raise AgentError(
                f"{name} has shape {np.shape(value)}; allowed: that of the slates, {items.shape}"
            )
    if answer.uniform is not None and np.shape(answer.uniform) != items.shape[:1]:
        raise AgentError(
            f"uniform has shape {np.shape(answer.uniform)}; allowed: one entry a slate, {items.shape[:1]}"
        )
    if answer.chances is not None:
        answer.chances.require_shape(items.shape)
    return Slates(items, answer.price, answer.propensity, answer.uniform, answer.chances)


def _whole_items(answer: object) -> Ints:
    try:
        items = answer.detach().cpu().numpy() if isinstance(answer, torch.Tensor) else np.asarray(answer)
    except ValueError as error:
        raise AgentError(f"slates are no array ({error}); allowed: (n, k) whole numbers") from error
    if items.ndim != 2 or not np.issubdtype(items.dtype, np.integer):
        raise AgentError(
            f"slates are an array of shape {items.shape} and type {items.dtype}; allowed: (n, k) whole numbers"
        )
    return items.astype(np.int64, order="C", copy=False)


@dataclass(frozen=True, eq=False)
class Feedback:
    """What came of n slates."""

    arrivals: Arrivals
    """The arrivals that were served."""
    slates: Ints
    """(n, k) the items shown; −1 where a position stayed empty."""
    consumed: Bools
    """(n, k) whether each was consumed."""


@runtime_checkable
class ScoredStates(Protocol):
    """States with their scores, such as last round's (T′), on which prices for the coming round (T) are solved."""

    def __len__(self) -> int:
        """How many states there are."""
        ...

    def __iter__(self) -> Iterator[Arrivals]:
        """Chunks of them, at most some hundreds of rows each; scored when asked for."""
        ...


@dataclass(frozen=True, eq=False)
class RoundView:
    """What an agent may know when a round begins."""

    round: int
    """Number of the round, from 0."""
    arrivals: int
    """Expected arrivals of the round, N."""
    slate: int
    """Positions of a slate; better read as ``k``."""
    required: Floats
    """(M,) required exposures b_y of the round, in the unit of the guarantee."""
    exposure: Floats
    """(M,) exposures so far in the round (zeros at its beginning), in that unit."""
    cost: float
    """c, cost of one missing exposure of that unit, in units of intensity; the price box is [0, c]."""
    popularity: Ints
    """(M,) events of each item in the platform's log at the last refresh (the round's beginning)."""
    calibration: ScoredStates
    """Last round's states, scored, or evenly spaced ones of them where all are too many to be held at once; better
    read as ``past``."""
    key: int
    """Seed of the agent's own draws, for :mod:`rimsim.rng` with the arrival id as key."""
    audience: ScoredStates | None = None
    """The round's own states as they are at its beginning, scored by the serving model: in a broadcast, where everyone
    is known, and for agents that declare ``needs_future`` (bounds, not contestants)."""
    position_weights: Floats = field(default_factory=lambda: np.ones(0))
    """(k,) what an exposure at position r counts in the unit of the guarantee: γ^(r−1) where it is examined, 1 where it
    is shown; if none are given, 1."""
    unit: Literal["examined", "shown"] = "shown"
    """The unit of the guarantee. Examined: the best slate is in order of λ − v. Shown: its items are the best by λ − v,
    in order of λ."""
    hard: bool = False
    """What can be delivered is to be delivered, whatever it costs."""
    pace: Literal["arrivals", "clock"] = "arrivals"
    """By what an agent knows how much of the round is gone: its arrivals so far of N, or the clock."""
    opens: float = 0.0
    """When the round begins, seconds on the market's clock."""
    closes: float = 0.0
    """When it ends."""
    promises: Requirements = NO_REQUIREMENTS
    """All that is asked for beside ``required``: groups, campaigns and caps; empty where the scenario has none."""
    delivered: Floats = field(default_factory=lambda: np.zeros(0))
    """(J,) exposures so far in the round that count for each row of ``promises`` (zeros at its beginning)."""
    came: int | None = None
    """Arrivals of last round that ``past`` stands for; None: as many as it has."""
    items: pd.DataFrame | None = None
    """M rows: the catalogue as in :attr:`rimsim.data.EventLog.items`, with ``id``, ``title`` and ``genres``; for agents
    that declare ``needs_items``."""

    def __post_init__(self) -> None:
        if not len(self.position_weights):
            object.__setattr__(self, "position_weights", np.ones(self.slate))

    @property
    def k(self) -> int:
        """Positions of a slate."""
        return self.slate

    @property
    def past(self) -> ScoredStates:
        """Last round's states (T′), scored: what prices are solved on."""
        return self.calibration
