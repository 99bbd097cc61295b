"""Base of the models of what a returning user takes: a personal score, shrunk towards popularity."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeAlias, TypeVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Float32s, Floats
from rimsim.errors import ModelError
from rimsim.intensity.blocks import in_blocks
from rimsim.intensity.contract import FromHidden, caller_owns
from rimsim.intensity.device import resolved
from rimsim.intensity.persistence import Stored
from rimsim.intensity.popularity import log_popularity
from rimsim.intensity.refusals import not_fitted, require_targets
from rimsim.intensity.sampled_softmax import Softmax
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import Shrinkage, chosen, rescaling
from rimsim.intensity.sets.cells import distinct, sums
from rimsim.intensity.sets.returning import log_returning
from rimsim.system import report_progress

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Hidden
    from rimsim.intensity.states import UserStates

    Arrays: TypeAlias = dict[str, Float32s]
    _Scored: TypeAlias = tuple[float, Float32s]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PersonalConfig:
    """What models of returning users have in common."""

    seed: int = Field(default=0, ge=0, description="Seed of initial values, draws and held-out sessions.")
    session_gap: str = Field(default="30min", description="A silence longer than this ends a session.")
    smoothing: float = Field(default=0.5, gt=0, description="Events added to every item's popularity.")
    cold_items: bool = Field(default=True, description="Predict unseen items from genres and year.")
    shrinkage: Shrinkage | None = Field(
        default=None, description="Strength and weights of another fit; none: chosen on later sessions."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SoftmaxConfig(PersonalConfig):
    """What those that are fitted to a softmax have in common."""

    softmax: Softmax = Field(
        default="auto",
        description="full: the loss is over all items. sampled: over what users took and a sample of the others, with "
        "corrected logits. auto: sampled where there are more than 3·10⁹ pairs of an event and an item.",
    )
    negatives: int = Field(
        default=1024, ge=1, description="sampled: labels drawn for a step, and as many uniform items."
    )


Config = TypeVar("Config", bound=PersonalConfig)


class PersonalModel(FromHidden, Stored, Generic[Config]):
    """p(y|x) = softmax(τ s(x,y) + κ log popularity_y + κ' log returning_y), λ(x) = 1.

    A subclass says what s is; unless it has others, its hidden states are sums of the consumed items' vectors, and how
    many they are. τ, κ, κ' ≥ 0 and how strongly s is regularised are chosen on held-out later sessions
    (:mod:`rimsim.intensity.selection.shrinkage`); s is then fitted anew to the whole log, and where it has become much
    larger at the held-out states, τ is made smaller by as much. A log with fewer than 20 users who came back has
    τ = κ = 1, κ' = 0 and the subclass's usual strength.

    Attributes:
        shrinkage: What was chosen at the last fit; None before.
    """

    config: Config
    config_class: ClassVar[type[Any]]
    """The class of the config."""
    grid: ClassVar[tuple[float, ...]]
    """Strengths to choose from, in order."""
    usual: ClassVar[float]
    """The one where there is nothing to choose on."""
    strength: ClassVar[str]
    """The field of the config that gives one in place of all that."""
    summed: ClassVar[str] = ""
    """Which of the arrays that serving needs has the vectors that a hidden state is the sum of."""
    takes_weights: ClassVar[bool] = True

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.config_class()
        self.device = resolved(self.config.device)
        self.shrinkage: Shrinkage | None = None
        self._updates = 0
        self._served: dict[str, torch.Tensor] = {}

    @abstractmethod
    def _fits(self, log: EventLog, strengths: tuple[float, ...], whole: EventLog) -> Iterator[Arrays]:
        """Fits of s to the log, one a strength.

        Args:
            log: What is fitted to.
            strengths: How strongly s is regularised, in order.
            whole: The log that it is, or is the past of: whether a fit is by samples is decided by its size, so that
                what is chosen on the past is chosen for fits of the same kind.
        """

    @abstractmethod
    def _scores(self, fit: Arrays, states: UserStates) -> Float32s:
        """(n, M) s(x,y) of states."""

    @abstractmethod
    def _serving(self, fit: Arrays, chosen: Shrinkage, base: Floats, log: EventLog) -> Arrays:
        """What serving needs of a fit, its weights and the impersonal logits (M,) of κ and κ'."""

    @abstractmethod
    def _updated(self, log: EventLog) -> Arrays:
        """What serving needs after a warm start from what it has and a fit to the log's target events."""

    @abstractmethod
    def _probabilities(self, *hidden: torch.Tensor) -> torch.Tensor:
        """(BLOCK, M) p(y|x) of a block of hidden states."""

    def fit(self, log: EventLog) -> Self:
        """Choose the shrinkage on held-out later sessions, then fit to the whole log.

        Raises:
            ModelError: If the log has no target event.
        """
        require_targets(log, self.kind)
        config = self.config
        if config.shrinkage is not None:
            return self._fit_with(config.shrinkage, log, log, None)
        given = getattr(config, self.strength)
        strengths, usual = (self.grid, self.usual) if given is None else ((given,), given)
        held = HeldOut.of(log, config.session_gap, config.seed)
        if held is None:
            return self._fit_with(Shrinkage(usual), log, log, None)
        states = held.states
        scores = (self._scores(fit, states) for fit in self._fits(held.past, strengths, log))
        tried = self._told(zip(strengths, scores, strict=True), len(strengths))
        return self._fit_with(chosen(held, tried, *self._impersonal(held.past)), log, log, held)

    def _fit_with(self, now: Shrinkage, log: EventLog, whole: EventLog, held: HeldOut | None) -> Self:
        """Fit to a log with a strength and weights that are known.

        Args:
            now: The strength and the weights.
            log: What to fit to.
            whole: The log that it is, or is a bootstrap of; see :meth:`_fits`.
            held: The held-out states that the weights were chosen at, where τ is still in the unit of that fit; None:
                weights are taken as they are.
        """
        (fit,) = self._fits(log, (now.strength,), whole)
        if held is not None:
            times = rescaling(now.spread, float(self._scores(fit, held.states).std()))
            now = dataclasses.replace(now, personal=now.personal * times, rescaling=times)
        popular, returning = self._impersonal(log)
        base = now.popularity * popular + now.returning * returning
        self.shrinkage = now
        self._keep(self._serving(fit, now, base, log))
        self._updates = 0
        return self

    def settled(self) -> Self:
        """A model that is not fitted, whose fit chooses nothing: it takes the strength and the weights of this one."""
        return type(self)(dataclasses.replace(self.config, shrinkage=self.shrinkage))

    def _told(self, scored: Iterable[_Scored], number: int) -> Iterator[_Scored]:
        """The same, told one by one: each is a fit."""
        for done, one in enumerate(scored, 1):
            report_progress(f"{self.kind}: {done} of {number} strengths tried on held-out sessions")
            yield one

    def _impersonal(self, log: EventLog) -> tuple[Floats, Floats]:
        smoothing = self.config.smoothing
        return log_popularity(log, smoothing), log_returning(log, self.config.session_gap, smoothing)

    def update(self, log: EventLog) -> Self:
        """Fit to the new log's target events given their users' histories, starting from what is known.

        The shrinkage stays what the fit chose. A log without target events changes nothing.

        Raises:
            ModelError: Before a fit, or if the log has another catalogue.
        """
        known = len(self.served("bias"))
        if log.n_items != known:
            raise ModelError(f"{self.kind}: found a log of {log.n_items} items; allowed: {known}, as fitted")
        if log.targets.any():
            self._updates += 1
            self._keep(self._updated(log))
        return self

    def served(self, name: str) -> torch.Tensor:
        """One of the arrays that serving needs.

        Raises:
            ModelError: Before a fit.
        """
        if not self._served:
            raise not_fitted(self.kind)
        return self._served[name]

    def _array(self, name: str) -> Float32s:
        return self.served(name).cpu().numpy()

    def _keep(self, arrays: Arrays) -> None:
        self._served = {
            name: torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)
            for name, array in arrays.items()
        }

    def encode(self, states: UserStates) -> Hidden:
        """(n, W) the sum of the vectors of each state's distinct items, and (n,) their number."""
        states = distinct(states)
        total, count = sums(states, self._array(self.summed)), states.lengths.astype(np.float32)
        return torch.from_numpy(total).to(self.device), torch.from_numpy(count).to(self.device)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Adds one item's vector to each sum."""
        del times
        return hidden[0] + self.served(self.summed)[items.to(self.device)], hidden[1] + 1.0

    @caller_owns
    @torch.no_grad()
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32 p(y|x) of the states; rows sum to 1."""
        del now
        self.served("bias")  # raises before a fit
        return in_blocks(self._probabilities, *hidden)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What serving needs."""
        return dict(self._served)

    def extra(self) -> dict[str, Any]:
        """The shrinkage, and the number of updates since the fit."""
        known = None if self.shrinkage is None else dataclasses.asdict(self.shrinkage)
        return {"updates": self._updates, "shrinkage": known}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Take over what serving needs."""
        self._updates = int(extra["updates"])
        self.shrinkage = None if extra["shrinkage"] is None else Shrinkage(**extra["shrinkage"])
        self._served = {name: tensor.to(self.device) for name, tensor in tensors.items()}


def learned(bias: Float32s, log: EventLog, memory: float) -> Float32s:
    """(M,) log popularity after a new log.

    Args:
        bias: (M,) log popularity so far, up to a constant.
        log: The new log, whose target events count for themselves.
        memory: Events that the popularity so far counts for.
    """
    p = np.exp(bias.astype(np.float64) - bias.max())
    goal = log.targets
    counts = memory * p / p.sum() + np.bincount(log.item[goal], log.weights[goal], log.n_items)
    return np.asarray(np.log(counts / counts.sum()), np.float32)
