"""Ground intensities λ(x): the protocol, and the base of the shipped ones."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.errors import ModelError
from rimsim.intensity.contract import FromHidden, caller_owns
from rimsim.intensity.device import resolved
from rimsim.intensity.ground import decayed
from rimsim.intensity.ground.examples import session_examples, window_examples
from rimsim.intensity.persistence import Stored

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Hidden
    from rimsim.intensity.ground.examples import CountExamples
    from rimsim.intensity.states import UserStates


@runtime_checkable
class GroundModel(Protocol):
    """λ(x), the expected events of a state within the next horizon; what ``RIM(ground=…)`` takes."""

    def fit(self, log: EventLog) -> Self:
        """Fit from scratch to the target events of the log."""
        ...

    def update(self, log: EventLog) -> Self:
        """Fit to the target events of a new log, keeping the scale that λ had."""
        ...

    def encode(self, states: UserStates) -> Hidden:
        """The hidden states of n user states."""
        ...

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """The hidden states after one more event each."""
        ...

    def intensity_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) float32 λ of the states at the instants ``now``, seconds."""
        ...


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GroundConfig:
    """Options of all ground intensities."""

    horizon: float | None = Field(
        default=None, gt=0, description="Seconds; None: one session, which is one arrival."
    )
    gap: float = Field(default=1800.0, gt=0, description="Silence that ends a session, seconds.")
    windows: int = Field(
        default=4, ge=1, description="With a horizon in seconds: how many past horizons to fit on."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")


class Ground(FromHidden, Stored):
    """Base of the shipped ground intensities.

    On its own a ground intensity says nothing of marks; :meth:`score` then spreads λ(x) evenly over the
    catalogue. Unless a subclass has others, hidden states are exponentially decayed sums of a user's events.

    Args:
        config: The config record.
        rates: (S,) decay rates of the sums, per second; none where a subclass has other hidden states.

    Attributes:
        rescale: The factor that the last :meth:`update` multiplied λ by, to keep its mean; 1 after a fit.
    """

    config: GroundConfig
    n_items: int = 0

    def __init__(self, config: GroundConfig, rates: Floats) -> None:
        self.config = config
        self.device = resolved(config.device)
        self.rescale = 1.0
        self._rates = torch.from_numpy(rates.copy()).to(self.device)

    @abstractmethod
    def fit_examples(self, examples: CountExamples) -> Self:
        """Fit from scratch to given states and the counts that followed them.

        Raises:
            ModelError: If there is no event in the examples.
        """

    @abstractmethod
    def update(self, log: EventLog) -> Self:
        """Fit to the target events of a new log, keeping the scale that λ had."""

    @abstractmethod
    def intensity_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) float32 λ of the states at the instants ``now`` (n,), seconds."""

    def examples(self, log: EventLog) -> CountExamples:
        """The states and counts of a log that the level of λ is fitted to: sessions, or the last horizons."""
        if self.config.horizon is None:
            return session_examples(log, self.config.gap)
        return window_examples(log, self.config.horizon, self.config.windows)

    def fit(self, log: EventLog) -> Self:
        """Fit from scratch to the target events of the log.

        Raises:
            ModelError: If there is nothing to fit to.
        """
        return self.fit_to(log, self.examples(log))

    def fit_to(self, log: EventLog, examples: CountExamples) -> Self:
        """Fit from scratch where the states to learn the level from are given, rather than taken from the log.

        Args:
            log: What there is to learn beside counts, such as how events follow each other; its catalogue.
            examples: States and the counts that followed them.

        Raises:
            ModelError: If there is nothing to fit to.
        """
        self.n_items = log.n_items
        return self.fit_examples(examples)

    def _require_events(self, examples: CountExamples) -> None:
        """Refuse examples that no level can be fitted to.

        Raises:
            ModelError: If there are no examples, or no event in them.
        """
        if examples.counts.sum() == 0:
            raise ModelError(
                f"{self.kind}: found {len(examples.counts)} examples with 0 events in all; allowed: at least one event"
            )

    def encode(self, states: UserStates) -> Hidden:
        """Sums (n, S), first and last event time (n,) of :func:`rimsim.intensity.ground.decayed.encode`."""
        return decayed.encode(states, self._rates.cpu().numpy(), self.device)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """The sums faded to ``times`` (n,), in seconds, and raised by one."""
        del items
        return decayed.step(hidden, times.to(self.device), self._rates)

    def _features(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, 2S + 2) features at ``now``; with a session as horizon, no sooner than one can begin."""
        instant = torch.from_numpy(np.asarray(now, np.float64)).to(self.device)
        if self.config.horizon is None:
            instant = torch.maximum(instant, hidden[2] + self.config.gap)
        return decayed.features(hidden, instant, self._rates)

    def intensity(self, states: UserStates) -> torch.Tensor:
        """(n,) float32 λ(x): expected events within the horizon."""
        return self.intensity_hidden(self.encode(states), states.now)

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32 λ(x) / M.

        Raises:
            ModelError: Before a fit to a log, because the size of the catalogue is not known.
        """
        if not self.n_items:
            raise ModelError(f"{self.kind}: no catalogue known; allowed: score after a fit to a log")
        share = self.intensity_hidden(hidden, now) / self.n_items
        return share[:, None].expand(-1, self.n_items).contiguous()
