"""Base of the models over sets of items."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypeVar

import numpy as np
import scipy
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Float32s, Floats, Ints, numbered
from rimsim.compiled import compiled
from rimsim.data.log import EventLog
from rimsim.errors import ModelError, refuse
from rimsim.intensity.contract import FromHidden, Hidden, caller_owns, in_blocks, require_targets, resolved
from rimsim.intensity.persistence import Stored
from rimsim.intensity.popularity import log_popularity, log_returning
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import Shrinkage, chosen, rescaling
from rimsim.intensity.softmax import Softmax
from rimsim.intensity.states import UserStates
from rimsim.system import report_progress

Arrays: TypeAlias = dict[str, Float32s]
"""Name of an array of a model → the array."""


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """c distinct user-item pairs of a log, sorted by user.

    The n users that have an event are renumbered in ascending order.
    """

    offsets: Ints
    """(n + 1,) index of each user's first pair of user and item."""
    item: Ints
    """(c,) item of each pair, ascending within a user."""
    label: Float32s
    """(c,) weight of the pair's target events; 0 if the pair is only history."""
    n_items: int
    """Size of the catalogue, M."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, log: EventLog) -> Cells:
        """User-item pairs of a log, labelled by last target event."""
        pair, pair_of_event = np.unique(log.user * log.n_items + log.item, return_inverse=True)
        label = np.zeros(len(pair), np.float32)
        is_target = log.targets
        label[pair_of_event[is_target]] = log.weights[is_target]
        user, item = np.divmod(pair, max(log.n_items, 1))
        begin = np.unique(user, return_index=True)[1]
        return cls(
            offsets=np.append(begin, len(pair)).astype(np.int64), item=item, label=label, n_items=log.n_items
        )

    @property
    def user(self) -> Ints:
        """(c,) index of each pair's user among the n users."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def pairs_of(self, users: Ints) -> tuple[Ints, Ints]:
        """Pairs of given users: index in ``users``, and pair number.

        Both arrays have the shape (p,); a pair number is a position in ``item`` and ``label``.
        """
        row, number = numbered(np.diff(self.offsets)[users])
        return row, self.offsets[users][row] + number

    def matrix(self, values: Float32s | None = None) -> scipy.sparse.csr_matrix:
        """(n, M) sparse matrix of values per pair, by default 1."""
        data = np.ones(len(self.item), np.float32) if values is None else values
        return scipy.sparse.csr_matrix((data, self.item, self.offsets), shape=(len(self), self.n_items))


def distinct(states: UserStates) -> UserStates:
    """States that keep only the first event of each item."""
    first = np.empty(len(states.items), np.int64)
    offsets = np.zeros(len(states) + 1, np.int64)
    seen = np.zeros(int(states.items.max(initial=-1)) + 1, np.int64)
    first_of_each(states.offsets, states.items, seen, first, offsets)
    if offsets[-1] == len(first):
        return states
    first_events = first[: offsets[-1]]
    return UserStates(offsets, states.items[first_events], states.times[first_events], states.now)


@compiled
def first_of_each(begin: Ints, items: Ints, seen: Ints, first: Ints, offsets: Ints) -> None:
    """Fill ``first`` with the positions of each state's distinct items.

    ``seen``, of length M, must be zero. It gets 1 plus the index of the last state that has the item. ``first`` must
    have room for all events.
    """
    n_first = 0
    for state in range(len(begin) - 1):
        for event in range(begin[state], begin[state + 1]):
            if seen[items[event]] <= state:
                seen[items[event]] = state + 1
                first[n_first] = event
                n_first += 1
        offsets[state + 1] = n_first


def sums(states: UserStates, table: Float32s) -> Float32s:
    """(n, W) sums of table rows over each state's items.

    Each row is added up event by event, so it depends on its own state alone.
    """
    ones = np.ones(len(states.items), np.float32)
    shape = (len(states), len(table))
    return np.asarray(
        scipy.sparse.csr_matrix((ones, states.items, states.offsets), shape=shape) @ table, np.float32
    )


def decks(users: Ints, size: int, steps: int, source: np.random.Generator) -> Iterator[Ints]:
    """Users of each training step; each user once per pass.

    ``source`` draws a new random order of all users when fewer users wait than a step needs.
    """
    size = min(size, len(users))
    waiting = np.zeros(0, np.int64)
    for _ in range(steps if size else 0):
        if len(waiting) < size:
            waiting = np.concatenate([waiting, source.permutation(users)])
        batch = waiting[:size]
        waiting = waiting[size:]
        yield batch


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PersonalConfig:
    """Options of all models over sets of items."""

    seed: int = Field(default=0, ge=0)
    """Seed of initial values, draws and held-out sessions."""
    session_gap: str = "30min"
    """Inactivity gap that ends a session."""
    smoothing: float = Field(default=0.5, gt=0)
    """Number of events that are added to each item's popularity."""
    cold_items: bool = True
    """Predict the vectors of unseen items from genres and year."""
    shrinkage: Shrinkage | None = None
    """Strength of regularisation and weights from another fit; none: chosen on held-out later sessions."""
    slates: bool = False
    """True: take the weights that best predict answers to slates. False: take these, or the weights of largest
    likelihood, whichever predict later sessions better."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SoftmaxConfig(PersonalConfig):
    """Options of models that are fitted to a softmax."""

    softmax: Softmax = "auto"
    """Items in the loss. full: all items. sampled: the items that users took and a sample of the others, with corrected
    logits. auto: sampled if there are more than 3·10⁹ pairs of an event and an item."""
    negatives: int = Field(default=1024, ge=1)
    """With sampled: number of labels drawn per step, and number of uniform items."""


Config = TypeVar("Config", bound=PersonalConfig)


class PersonalModel(FromHidden, Stored, Generic[Config]):
    """``p(y|x) = softmax(τ s(x,y) + κ log popularity_y + κ' log returning_y)``, λ(x) = 1.

    A subclass defines the personal scores s. By default, a hidden state is the sum of the vectors of consumed items,
    and the number of items. The weights τ, κ, κ' ≥ 0 and the regularisation of s are chosen on held-out later sessions
    (:mod:`rimsim.intensity.selection.shrinkage`); s is then fitted again to the whole log. If fewer than 20 users of
    the log came back, the model uses τ = κ = 1, κ' = 0 and the default regularisation. ``shrinkage`` has the choices of
    the last fit.
    """

    config: Config
    config_class: ClassVar[type[Any]]
    """Class of the model's config."""
    grid: ClassVar[tuple[float, ...]]
    """Strengths of regularisation to choose from, in the order in which they are fitted."""
    usual: ClassVar[float]
    """Strength of regularisation that is used if too few users are held out for a choice."""
    strength: ClassVar[str]
    """Name of the config's field with the strength of regularisation."""
    summed: ClassVar[str] = ""
    """Name of the array of item vectors that hidden states are sums of."""
    takes_weights: ClassVar[bool] = True

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.config_class()
        self.device = resolved(self.config.device)
        self.shrinkage: Shrinkage | None = None
        self._updates = 0
        self._served: dict[str, torch.Tensor] = {}

    @abstractmethod
    def _fits(self, log: EventLog, strengths: tuple[float, ...], full_log: EventLog) -> Iterator[Arrays]:
        """Fits of personal scores to a log, one per strength.

        The given log is ``full_log`` or a part of it. The size of ``full_log`` decides if fits use sampling, so that
        fits to the past are of the same kind as the final fit.
        """

    @abstractmethod
    def _scores(self, fit: Arrays, states: UserStates) -> Float32s:
        """(n, M) personal scores s(x,y) of states."""

    @abstractmethod
    def _serving(self, fit: Arrays, chosen: Shrinkage, base: Floats, log: EventLog) -> Arrays:
        """Arrays for scoring, from a fit, weights and impersonal logits."""

    @abstractmethod
    def _updated(self, log: EventLog) -> Arrays:
        """Arrays for scoring, after an update to a log."""

    @abstractmethod
    def _probabilities(self, *hidden: torch.Tensor) -> torch.Tensor:
        """(BLOCK, M) p(y|x) of a block of hidden states."""

    def fit(self, log: EventLog) -> Self:
        """Choose the shrinkage, then fit to the whole log."""
        held = None if self.config.shrinkage else HeldOut.of(log, self.config.session_gap, self.config.seed)
        return self.choose(log, held).finish(log, held)

    def choose(self, log: EventLog, held: HeldOut | None) -> Self:
        """Choose the shrinkage on held-out states, if any."""
        require_targets(log, self.kind)
        config = self.config
        strength = getattr(config, self.strength)
        if held is None:
            self.shrinkage = config.shrinkage or Shrinkage(self.usual if strength is None else strength)
        else:
            scored = self._scored(held, self.grid if strength is None else (strength,), log)
            self.shrinkage = chosen(held, scored, *self._impersonal(held.past), slates=config.slates)
        return self

    def _scored(
        self, held: HeldOut, strengths: tuple[float, ...], full_log: EventLog
    ) -> Iterator[tuple[float, Float32s]]:
        """Strengths of regularisation, each with its scores at held-out states."""
        fits = self._fits(held.past, strengths, full_log)
        for n_tried, (strength, fit) in enumerate(zip(strengths, fits, strict=True), 1):
            scores = self._scores(fit, held.states)
            report_progress(
                f"{self.kind}: {n_tried} of {len(strengths)} strengths tried on held-out sessions"
            )
            yield strength, scores

    def finish(self, log: EventLog, held: HeldOut | None, full_log: EventLog | None = None) -> Self:
        """Fit to a log with the chosen shrinkage.

        The weights were chosen with another fit, at the states ``held``. So τ is converted to the scale of this fit's
        scores, unless ``held`` is None. The log is a part of ``full_log``, whose size decides if the fit samples.
        """
        shrinkage = self._after_fit(self.shrinkage)
        (fit,) = self._fits(log, (shrinkage.strength,), full_log or log)
        if held is not None:
            factor = rescaling(shrinkage.spread, float(self._scores(fit, held.states).std()))
            shrinkage = dataclasses.replace(shrinkage, personal=shrinkage.personal * factor, rescaling=factor)
        popular, returning = self._impersonal(log)
        base = shrinkage.popularity * popular + shrinkage.returning * returning
        self.shrinkage = shrinkage
        self._keep(self._serving(fit, shrinkage, base, log))
        self._updates = 0
        return self

    def settled(self) -> Self:
        """Unfitted model with the same regularisation and weights."""
        return type(self)(dataclasses.replace(self.config, shrinkage=self.shrinkage))

    def likeliest(self, held: HeldOut) -> Self:
        """Model fitted to the past with the same regularisation."""
        shrinkage = self._after_fit(self.shrinkage)
        personal, popularity, returning = shrinkage.likeliest
        past_shrinkage = dataclasses.replace(
            shrinkage, personal=personal, popularity=popularity, returning=returning, rescaling=1.0
        )
        model = type(self)(self.config)
        model.shrinkage = past_shrinkage
        return model.finish(held.past, None, held.log)

    def _impersonal(self, log: EventLog) -> tuple[Floats, Floats]:
        """(M,) log popularity, and log popularity in later sessions."""
        smoothing = self.config.smoothing
        return log_popularity(log, smoothing), log_returning(log, self.config.session_gap, smoothing)

    def update(self, log: EventLog) -> Self:
        """Fit to new target events, starting from present values.

        An update does not change the shrinkage. A log without target events changes nothing.
        """
        n_items = len(self.served("bias"))
        if log.n_items != n_items:
            refuse(ModelError, self.kind, f"found a log of {log.n_items} items", f"{n_items}, as fitted")
        if log.targets.any():
            self._updates += 1
            self._keep(self._updated(log))
        return self

    def served(self, name: str) -> torch.Tensor:
        """Array for scoring, by its name."""
        return self._after_fit(self._served or None)[name]

    def _array(self, name: str) -> Float32s:
        """Array for scoring, by its name, as a NumPy array."""
        return self.served(name).cpu().numpy()

    def _keep(self, arrays: Arrays) -> None:
        """Replace the arrays for scoring."""
        self._served = {
            name: torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)
            for name, array in arrays.items()
        }

    def encode(self, states: UserStates) -> Hidden:
        """Sums of distinct items' vectors, and numbers of items."""
        states = distinct(states)
        total = sums(states, self._array(self.summed))
        count = states.lengths.astype(np.float32)
        return torch.from_numpy(total).to(self.device), torch.from_numpy(count).to(self.device)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states with one item's vector added to each sum."""
        del times
        return hidden[0] + self.served(self.summed)[items.to(self.device)], hidden[1] + 1.0

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32: p(y|x) of each state; rows sum to 1."""
        del now
        self.served("bias")  # raises if the model is not fitted
        return in_blocks(self._probabilities, *hidden)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Arrays for scoring."""
        return dict(self._served)

    def extra(self) -> dict[str, Any]:
        """Shrinkage, and number of updates since the fit."""
        shrinkage = None if self.shrinkage is None else dataclasses.asdict(self.shrinkage)
        return {"updates": self._updates, "shrinkage": shrinkage}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Load the arrays for scoring and the shrinkage."""
        self._updates = int(extra["updates"])
        shrinkage = extra["shrinkage"]
        self.shrinkage = None
        if shrinkage is not None:
            self.shrinkage = Shrinkage(**shrinkage | {"likeliest": tuple(shrinkage["likeliest"])})
        self._served = {name: tensor.to(self.device) for name, tensor in tensors.items()}
