"""Records that pass between the market, its plugs and agents."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
import torch

from rimsim.arrays import Bools, Float32s, Floats, Ints, ticks
from rimsim.config.fields import duration_seconds
from rimsim.errors import AgentError
from rimsim.evaluation.off_policy import Chances
from rimsim.intensity.states import UserStates
from rimsim.market.providers import ProviderNeeds, ProviderView
from rimsim.requirements.audiences import RoundVisits
from rimsim.requirements.on_offer import OfferWindows
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements

if TYPE_CHECKING:
    import pandas as pd


VISIT_BITS = 16
"""Number of low bits in an arrival's id, which hold the number of the visit; the higher bits hold the user."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The n arrivals of a round in clock order.

    Arrivals at the same tick are ordered by user, then by visit. The u users of the round have *slots* 0 …
    u−1. Arrays by slot describe each user's state at the beginning of the round.
    """

    tick: Ints
    """(n,) instant of each arrival, in ticks."""
    id: Ints
    """(n,) ids of arrivals, distinct over all rounds. They are keys of the random draws. Without ``earlier``, an id is
    ``user << 16 | visit``."""
    slot: Ints
    """(n,) slot of each visitor."""
    user: Ints
    """(u,) market user of each slot."""
    log_user: Ints
    """(u,) user of the log from which the visitor of each slot was copied."""
    shift: Floats
    """(u,) seconds by which the logged past of each slot is moved in time."""
    session: Ints
    """(n,) session of the log that each arrival replays; −1 without a session."""
    start: int
    """Tick at which the round begins."""
    stop: int
    """Tick at which the round ends and the platform retrains."""
    logged: Ints | None = None
    """(u,) number of logged events in each slot's past: the first events of its log user; None: all events."""
    forecast: float | None = None
    """Number of arrivals that is expected before the round; None: the number of arrivals that come."""
    earlier: Ints | None = None
    """(u,) number of visits of each slot's user in earlier rounds; None: ids count the visits of a user."""

    @property
    def expected_over_actual(self) -> float:
        """Ratio of expected to realised arrivals."""
        return 1.0 if self.forecast is None else self.forecast / len(self)

    @property
    def earlier_visit(self) -> Ints:
        """(n,) visitor's latest earlier arrival of the round; −1: none."""
        return self._adjacent_visits[0]

    @property
    def next_visit(self) -> Ints:
        """(n,) visitor's next arrival of the round; −1: none."""
        return self._adjacent_visits[1]

    @cached_property
    def _adjacent_visits(self) -> tuple[Ints, Ints]:
        """Earlier and next arrival of each visitor."""
        order = np.argsort(self.slot, kind="stable")
        is_same = self.slot[order][1:] == self.slot[order][:-1]
        earlier, following = np.full((2, len(self)), -1, np.int64)
        earlier[order[1:][is_same]] = order[:-1][is_same]
        following[order[:-1][is_same]] = order[1:][is_same]
        return earlier, following

    def visits(self, past_events: Ints) -> RoundVisits:
        """Visits for the requirements, made from the arrivals."""
        # ``past_events`` (users of the log,) counts the events that the platform knows at the opening.
        n_past = past_events[self.log_user]
        if self.logged is not None:
            n_past = np.minimum(n_past, self.logged)
        if self.earlier is None:
            visit = self.id & ((1 << VISIT_BITS) - 1)
        else:
            visit = self.earlier[self.slot] + running_count(self.slot)
        return RoundVisits(
            tick=self.tick,
            log_user=self.log_user[self.slot],
            first=(n_past[self.slot] == 0) & (visit == 0),
            start=self.start,
            stop=self.stop,
        )

    def __len__(self) -> int:
        return len(self.tick)


def delay_ticks(delay: str | None) -> int:
    """Ticks of a duration such as ``1h``; None: 0."""
    return 0 if delay is None else int(ticks(duration_seconds(delay)))


def row_capacity(visitor: Ints, slate: int, user_cap: int | None) -> Ints | None:
    """Positions that each visit may fill under ``user_cap``."""
    # Each earlier visit counts as a full slate, even if its slate had empty positions. So capacities depend only on the
    # number of earlier visits, and are known before the round. ``visitor`` (n,) is in clock order.
    if user_cap is None:
        return None
    return np.clip(user_cap - running_count(visitor) * slate, 0, slate)


def running_count(values: Ints) -> Ints:
    """Number of earlier occurrences of each value in an array."""
    order = np.argsort(values, kind="stable")
    grouped = values[order]
    is_first = np.ones(len(values), bool)
    is_first[1:] = grouped[1:] != grouped[:-1]
    position = np.arange(len(values))
    first_position = np.maximum.accumulate(np.where(is_first, position, 0))  # of the equal values
    count = np.empty(len(values), np.int64)
    count[order] = position - first_position
    return count


@dataclass(frozen=True)
class Needs:
    """Optional fields that agents declare with ``needs_<name> = True``."""

    truth: bool = False
    """Need for ``Arrivals.true_intensity``. Only bounds such as the oracle may have it, not contestants."""
    future: bool = False
    """Need for ``RoundView.audience`` even if arrivals are not known beforehand. Only bounds may have it, not
    contestants."""
    items: bool = False
    """Need for ``RoundView.items``, the catalogue with titles and genres."""
    history: bool = False
    """Need for ``Arrivals.history``, the items that each visitor has consumed, with times."""
    log: bool = False
    """Need for ``RoundView.log``, the events of the platform's log."""
    providers: bool = False
    """Need for ``RoundView.provider_needs``. Only bounds may have it, not contestants."""
    item_factor: bool = False
    """Need for ``RoundView.item_factor`` and ``Arrivals.opening_intensity``. Only bounds may have them, not
    contestants."""

    @classmethod
    def of(cls, *agents: object) -> Self:
        """Optional fields that at least one of the agents needs."""

        def is_needed(name: str) -> bool:
            return any(getattr(agent, f"needs_{name}", False) for agent in agents)

        return cls(**{need.name: is_needed(need.name) for need in fields(cls)})


NO_NEEDS = Needs()
"""Needs of an agent that declares no needs."""


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Arrivals that need slates, in clock order, with scored states."""

    id: Ints
    """(n,) ids of arrivals, made of the user and the number of the visit. They are equal in all runs with the same
    arrivals."""
    time: Floats
    """(n,) time of each arrival, in seconds on the market's clock."""
    user: Ints
    """(n,) user of each arrival."""
    relevance: torch.Tensor
    """(n, M) float32 p(y|x). Each row sums to 1 over admissible items and is 0 elsewhere."""
    ground_intensity: torch.Tensor
    """(n,) float32 λ(x), the expected number of events in this session."""
    admissible: torch.Tensor
    """(n, M) bool: True for items that are released, and that the user has not consumed or may take again."""
    row: Ints
    """(n,) row of each arrival in its round's schedule."""
    true_intensity: torch.Tensor | None = None
    """(n, M) float32 λ*(x)·p*(y|x). Only agents that declare ``needs_truth`` get it; they are bounds, not
    contestants."""
    capacity: Ints | None = None
    """(n,) positions that may be filled under a cap on exposures per user; None: all k positions."""
    audiences: Bools | None = None
    """(n, A) True if the arrival belongs to the audience of a requirement, within its time; None: no requirement has an
    audience."""
    history: UserStates | None = None
    """Consumptions of each visitor that the platform knows. Only agents that declare ``needs_history`` get them."""
    opening_intensity: torch.Tensor | None = None
    """(n, M) float32 λ(x,y) of the platform's opening model; only for agents that declare ``needs_item_factor``."""

    def __len__(self) -> int:
        return len(self.id)

    def rows(self, indices: Ints | slice) -> Arrivals:
        """Arrivals at given indices, in the given order."""
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: dict[str, Any] = {
            name: None if column is None else column[indices] for name, column in columns.items()
        }
        return Arrivals(**chosen)

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
class LogEvents:
    """Target events of the platform's log, in no particular order."""

    item: Ints
    """(n,) items of the events."""
    time: Floats
    """(n,) times of the events, in seconds on the market's clock."""


@dataclass(frozen=True, eq=False)
class RoundView:
    """Record that an agent gets when a round begins."""

    round: int
    """Number of the round, from 0."""
    arrivals: int
    """N, the expected number of arrivals of the round."""
    slate: int
    """Number of positions of a slate; ``k`` is its shorter name."""
    required: Floats
    """(M,) required exposures b_y of the round, in the unit of the guarantee."""
    exposure: Floats
    """(M,) exposures in the round so far, in the unit of the guarantee; zeros when the round begins."""
    cost: float
    """c, the cost of one missing exposure in the unit of the guarantee, in units of intensity. Bonuses −v lie in [0,
    c]."""
    popularity: Ints
    """(M,) events of each item in the platform's log at the beginning of the round."""
    calibration: ScoredStates
    """Scored states of the last round, or an even sample of these states; ``past`` is its clearer name."""
    key: int
    """Seed of the agent's own draws. Agents pass it to :mod:`rimsim.rng` with the arrival id as a key."""
    audience: ScoredStates | None = None
    """Scored states of the round itself. Agents get them in a broadcast, or as bounds that declare ``needs_future``."""
    position_weights: Floats = field(default_factory=lambda: np.ones(0))
    """(k,) weight of an exposure at position r: γ^(r−1) if the unit is examined, otherwise 1."""
    unit: Literal["examined", "shown"] = "shown"
    """Unit of the guarantee. A slate has the k items with the largest λ − v. They are sorted by λ − v if the unit is
    examined, and by λ if it is shown."""
    hard: bool = False
    """True if all feasible requirements are met at any cost."""
    pace: Literal["arrivals", "clock"] = "arrivals"
    """Measure of the elapsed share of the round: served arrivals over N, or the time on the clock."""
    opens: float = 0.0
    """Beginning of the round, in seconds on the market's clock."""
    closes: float = 0.0
    """End of the round, in seconds on the market's clock."""
    promises: Requirements = NO_REQUIREMENTS
    """Requirements besides ``required``: groups, campaigns and caps. The table is empty if the scenario has none of
    these."""
    delivered: Floats = field(default_factory=lambda: np.zeros(0))
    """(J,) exposures in the round so far that count for each row of ``promises``; zeros when the round begins."""
    n_past_arrivals: int | None = None
    """Number of arrivals of the last round that ``past`` represents; None: the size of ``past``."""
    confidence: Floats | None = None
    """(M,) shape of the gamma distribution that describes the platform's belief about each item's worth. The relative
    standard deviation of the belief is 1/√shape. None if the platform learns no item effects from impressions."""
    item_factor: Floats | None = None
    """(M,) true effect of each item, as a factor; only for agents that declare ``needs_item_factor`` (bounds).

    Over the arrivals of the round that can be shown the item, the factor is the sum of true intensities divided by the
    sum of the intensities of the model with which the platform opened. All states are those at the round's beginning.
    """
    items: pd.DataFrame | None = None
    """Table :attr:`rimsim.data.EventLog.items` with M rows. Only agents that declare ``needs_items`` get it."""
    log: LogEvents | None = None
    """Events of the platform's log at the beginning of the round. Only agents that declare ``needs_log`` get them."""
    windows: OfferWindows | None = None
    """Part of the round in which each item is on offer; None if no item of the scenario ends."""
    rounds: int = 1
    """Number of rounds of the run."""
    provider_needs: ProviderNeeds | None = None
    """Exposures that providers need to stay. Only agents that declare ``needs_providers`` (bounds) get them."""
    providers: ProviderView | None = None
    """Providers who are in the market or have left, with their exposures in the last round; None only in views that
    were not made by a market."""

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
    """(n, k) distinct admissible items, in the order of positions; −1 for an empty position."""
    price: Float32s | None = None
    """(n, k) item prices v_y at the time of the decision."""
    propensity: Float32s | None = None
    """(n, k) probability that the item is in the slate, at the time of the decision; None for a deterministic agent."""
    uniform: Bools | None = None
    """(n,) True for slates that are a uniform draw of admissible items in random order; None: no slate is uniform."""
    chances: Chances | None = None
    """Chances of items at positions, of prefixes and of slates; None for an agent that does not state them."""

    def rows(self, part: slice) -> Slates:
        """Slates of adjacent arrivals."""
        chances = self.chances
        if chances is not None:
            chances = Chances(*(getattr(chances, field.name)[part] for field in fields(Chances)))
        return Slates(
            items=self.items[part],
            price=None if self.price is None else self.price[part],
            propensity=None if self.propensity is None else self.propensity[part],
            uniform=None if self.uniform is None else self.uniform[part],
            chances=chances,
        )


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
"""Largest excess over 1 that counts as a rounding error of a propensity."""


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
        if (is_impossible := (propensity <= 0) | (propensity > 1 + _ROUNDED)).any():
            raise AgentError(
                f"propensity holds {propensity[is_impossible][0]:g}. Expected chances above 0 and at most 1"
            )


def _whole_items(answer: object) -> Ints:
    """Slates as an array of whole numbers."""
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
