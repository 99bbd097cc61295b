"""Records that pass between the market, its plugs and agents."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
import torch

from rimsim.arrays import Bools, Float32s, Floats, Ints, ticks
from rimsim.config.fields import duration_seconds
from rimsim.errors import AgentError
from rimsim.evaluation.off_policy import Chances
from rimsim.intensity.states import UserStates
from rimsim.renamed import renamed_attribute
from rimsim.requirements.audiences import RoundVisits
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements

if TYPE_CHECKING:
    import pandas as pd


VISIT_BITS = 16
"""Low bits of an arrival's id, which have the number of the visit; the higher bits have the user."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The n arrivals of a round in clock order.

    Arrivals at the same tick are ordered by user, then by visit. The u users of the round have *slots* 0 …
    u−1. Arrays by slot describe each user's state at the beginning of the round.
    """

    tick: Ints
    """(n,) instant of each arrival, in ticks."""
    id: Ints
    """(n,) ids, distinct over all rounds, keys of draws; ``user << 16 | visit`` if ``earlier`` is None."""
    slot: Ints
    """(n,) slot of each visitor."""
    user: Ints
    """(u,) market user of each slot."""
    log_user: Ints
    """(u,) user of the log from which the visitor of each slot was copied."""
    shift: Floats
    """(u,) seconds by which the logged past of the slot is moved in time."""
    session: Ints
    """(n,) session of the log behind each arrival of a replay; −1 without a session."""
    start: int
    """Tick at which the round begins."""
    stop: int
    """Tick at which the round ends and the platform retrains."""
    logged: Ints | None = None
    """(u,) number of first events of its log user that are each slot's past; None: all."""
    forecast: float | None = None
    """Number of arrivals expected before the round; None: the number that come."""
    earlier: Ints | None = None
    """(u,) number of visits of each slot's user in earlier rounds; None: ids count the visits of a user."""

    @property
    def expected_over_actual(self) -> float:
        """Ratio of expected to realised arrivals."""
        return 1.0 if self.forecast is None else self.forecast / len(self)

    def visits(self, past_events: Ints) -> RoundVisits:
        """Visits for the requirements, made from the arrivals."""
        # ``past_events`` (users of the log,) are those that the platform knows at the opening.
        n_past = past_events[self.log_user]
        if self.logged is not None:
            n_past = np.minimum(n_past, self.logged)
        if self.earlier is None:
            visit = self.id & ((1 << VISIT_BITS) - 1)
        else:
            visit = self.earlier[self.slot] + running_count(self.slot)
        first = (n_past[self.slot] == 0) & (visit == 0)
        return RoundVisits(self.tick, self.log_user[self.slot], first, self.start, self.stop)

    def __len__(self) -> int:
        return len(self.tick)


def delay_ticks(delay: str | None) -> int:
    """Ticks of a duration such as ``1h``; None: 0."""
    return 0 if delay is None else int(ticks(duration_seconds(delay)))


def row_capacity(visitor: Ints, slate: int, user_cap: int | None) -> Ints | None:
    """Positions that each visit may fill under ``user_cap``."""
    # Each earlier visit counts as a full slate, even if its slate had empty positions. So capacities depend on the
    # number of earlier visits alone, and are known before the round. ``visitor`` (n,) is in clock order.
    if user_cap is None:
        return None
    return np.clip(user_cap - running_count(visitor) * slate, 0, slate)


def running_count(values: Ints) -> Ints:
    """Number of earlier occurrences of each value in an array."""
    order = np.argsort(values, kind="stable")
    grouped = values[order]
    fresh = np.ones(len(values), bool)
    fresh[1:] = grouped[1:] != grouped[:-1]
    position = np.arange(len(values))
    count = np.empty(len(values), np.int64)
    count[order] = position - np.maximum.accumulate(np.where(fresh, position, 0))
    return count


@dataclass(frozen=True)
class Needs:
    """Optional fields that agents declare with ``needs_<name> = True``."""

    truth: bool = False
    """``Arrivals.true_intensity``; for bounds such as the oracle, not for contestants."""
    future: bool = False
    """``RoundView.audience``, even if arrivals are not known beforehand; for bounds, not for contestants."""
    items: bool = False
    """``RoundView.items``, the catalogue with titles and genres."""
    history: bool = False
    """``Arrivals.history``, the items that each visitor has consumed and when."""

    @classmethod
    def of(cls, *agents: object) -> Self:
        """Optional fields that at least one of the agents needs."""
        names = (need.name for need in fields(cls))
        return cls(
            **{name: any(getattr(agent, f"needs_{name}", False) for agent in agents) for name in names}
        )


NO_NEEDS = Needs()
"""Needs of an agent that declares none."""


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Arrivals that need slates, in clock order, with scored states."""

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
    row: Ints
    """(n,) row of each arrival in its round's schedule."""
    true_intensity: torch.Tensor | None = None
    """(n, M) float32 λ*(x)·p*(y|x); only for agents that declare ``needs_truth`` (bounds, not contestants)."""
    capacity: Ints | None = None
    """(n,) positions that may be filled under a cap on exposures per user; None: all k positions."""
    audiences: Bools | None = None
    """(n, A) membership in audiences of requirements, within their times; None: no requirement has an audience."""
    history: UserStates | None = None
    """Consumptions that the platform knows of each visitor; for agents that declare ``needs_history``."""

    def __len__(self) -> int:
        return len(self.id)

    def rows(self, indices: Ints | slice) -> Arrivals:
        """Arrivals at given indices, in the given order."""
        columns = [getattr(self, column.name) for column in fields(self)]
        chosen: list[Any] = [None if column is None else column[indices] for column in columns]
        return Arrivals(*chosen)

    index = renamed_attribute("index", "row")

    @property
    def intensity(self) -> torch.Tensor:
        """Intensity λ(x,y) = λ(x)·p(y|x) of each arrival and item."""
        return self.relevance * self.ground_intensity[:, None]

    def write_scores(self, scores: Float32s) -> None:
        """Fill (n, M) scores with λ(x,y), −inf where not admissible."""
        scores[:] = -np.inf
        np.copyto(scores, self.intensity.cpu().numpy(), where=self.admissible.cpu().numpy())


@runtime_checkable
class ScoredStates(Protocol):
    """Scored states, from which an agent computes prices."""

    def __len__(self) -> int:
        """Number of states."""

    def __iter__(self) -> Iterator[Arrivals]:
        """Chunks of a few hundred states, scored during iteration."""


@dataclass(frozen=True, eq=False)
class RoundView:
    """Record that an agent gets when a round begins."""

    round: int
    """Number of the round, from 0."""
    arrivals: int
    """Expected arrivals of the round, N."""
    slate: int
    """Positions of a slate; better read as ``k``."""
    required: Floats
    """(M,) required exposures b_y of the round, in the unit of the guarantee."""
    exposure: Floats
    """(M,) exposures so far in the round (zeros at its beginning), in the unit of the guarantee."""
    cost: float
    """c, cost of one missing exposure in the unit of the guarantee, in units of intensity; prices lie in [0, c]."""
    popularity: Ints
    """(M,) events of each item in the platform's log at the last refresh (the round's beginning)."""
    calibration: ScoredStates
    """Scored states of the last round, or an even sample of them; better read as ``past``."""
    key: int
    """Seed of the agent's own draws, for :mod:`rimsim.rng` with the arrival id as key."""
    audience: ScoredStates | None = None
    """The round's own states, scored: in a broadcast, and for agents that declare ``needs_future`` (bounds)."""
    position_weights: Floats = field(default_factory=lambda: np.ones(0))
    """(k,) weight of an exposure at position r: γ^(r−1) where the unit is examined, otherwise 1."""
    unit: Literal["examined", "shown"] = "shown"
    """Unit of the guarantee. The k items with the largest λ − v are sorted by λ − v if examined, by λ if shown."""
    hard: bool = False
    """True if requirements that can be met are met at any cost."""
    pace: Literal["arrivals", "clock"] = "arrivals"
    """Measure of the elapsed share of the round: share of the N arrivals so far, or of the clock time."""
    opens: float = 0.0
    """Beginning of the round, seconds on the market's clock."""
    closes: float = 0.0
    """End of the round, seconds on the market's clock."""
    promises: Requirements = NO_REQUIREMENTS
    """Requirements in addition to ``required``: groups, campaigns and caps; empty where the scenario has none."""
    delivered: Floats = field(default_factory=lambda: np.zeros(0))
    """(J,) exposures so far in the round (zeros at its beginning) that count for each row of ``promises``."""
    n_past_arrivals: int | None = None
    """Number of arrivals of the last round that ``past`` represents; None: the size of ``past``."""
    confidence: Floats | None = None
    """(M,) shape of the gamma distribution that is the platform's belief about each item's worth.

    The relative standard deviation of the belief is 1/√shape. None where the platform learns no item effects
    from impressions.
    """
    items: pd.DataFrame | None = None
    """Table :attr:`rimsim.data.EventLog.items`, M rows; for agents that declare ``needs_items``."""

    def __post_init__(self) -> None:
        if not len(self.position_weights):
            object.__setattr__(self, "position_weights", np.ones(self.slate))

    @property
    def k(self) -> int:
        """Number of positions of a slate."""
        return self.slate

    @property
    def past(self) -> ScoredStates:
        """Scored states of the last round, for solving prices."""
        return self.calibration


@dataclass(frozen=True, eq=False)
class Slates:
    """Answer of an agent: n slates, with optional prices."""

    items: Ints
    """(n, k) distinct admissible items in order; −1 leaves a position empty."""
    price: Float32s | None = None
    """(n, k) item prices v_y at the decision."""
    propensity: Float32s | None = None
    """(n, k) marginal inclusion probabilities at the decision; None for a deterministic agent."""
    uniform: Bools | None = None
    """(n,) True for slates that are a uniform draw of admissible items in random order; None: no slate is."""
    chances: Chances | None = None
    """Chances of items at positions, of prefixes and of slates; None for an agent that does not report them."""


SlateLike: TypeAlias = Slates | Ints | torch.Tensor


@dataclass(frozen=True, eq=False)
class Response:
    """Response of n visits to their slates."""

    consumed: Bools
    """(n, k) True for consumed items."""
    probability: Floats
    """(n, k) probability that each item is consumed; 0 at empty positions."""
    intensity: Floats
    """(n, k) true intensity λ*(x)·p*(y|x) of each shown item; 0 at empty positions."""


@dataclass(frozen=True, eq=False)
class Feedback:
    """Outcome of n slates."""

    arrivals: Arrivals
    """The arrivals that were served."""
    slates: Ints
    """(n, k) shown items; −1 at empty positions."""
    consumed: Bools
    """(n, k) True for consumed items."""


_ROUNDED = 1e-3
"""Largest excess of a propensity over 1 that counts as a rounding error."""


def as_slates(answer: SlateLike) -> Slates:
    """Answer of an agent as a record.

    Raises:
        AgentError: If the agent did not return slates, as described at :meth:`rimsim.agents.Agent.act`.
    """
    if not isinstance(answer, Slates):
        return Slates(_whole_items(answer))
    items = _whole_items(answer.items)
    for name in ("price", "propensity"):
        value = getattr(answer, name)
        if value is not None and np.shape(value) != items.shape:
            raise AgentError(
                f"{name} has shape {np.shape(value)}. Expected the shape of the slates, {items.shape}"
            )
    if answer.uniform is not None and np.shape(answer.uniform) != items.shape[:1]:
        raise AgentError(
            f"uniform has shape {np.shape(answer.uniform)}. Expected {items.shape[:1]}, one entry per slate"
        )
    if answer.chances is not None:
        answer.chances.require_shape(items.shape)
    return dataclasses.replace(answer, items=items)


def require_numbers(slates: Slates) -> None:
    """Refuse infinite prices and impossible propensities, but accept NaN.

    Raises:
        AgentError: If a filled position has an infinite price or an impossible propensity.
    """
    filled = slates.items >= 0
    if slates.price is not None and np.isinf(np.asarray(slates.price)[filled]).any():
        raise AgentError("price is infinite at a shown item. Expected finite prices")
    if slates.propensity is not None:
        propensity = np.asarray(slates.propensity)[filled]
        if (wrong := (propensity <= 0) | (propensity > 1 + _ROUNDED)).any():
            raise AgentError(
                f"propensity holds {propensity[wrong][0]:g}. Expected chances above 0 and at most 1"
            )


def _whole_items(answer: object) -> Ints:
    try:
        items = answer.detach().cpu().numpy() if isinstance(answer, torch.Tensor) else np.asarray(answer)
    except ValueError as error:
        raise AgentError(
            f"slates cannot be turned into an array ({error}). Expected shape (n, k) and whole numbers"
        ) from error
    if items.ndim != 2 or not np.issubdtype(items.dtype, np.integer):
        raise AgentError(
            f"slates have shape {items.shape} and type {items.dtype}. Expected shape (n, k) and whole numbers"
        )
    return items.astype(np.int64, order="C", copy=False)


def emptied(slates: Slates, positions: Bools) -> Slates:
    """Slates in which the given positions are empty."""
    return dataclasses.replace(slates, items=np.where(positions, -1, slates.items))
