"""What all ground intensities λ(x) share."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from rimsim.errors import ModelError
from rimsim.intensity.contract import caller_owns
from rimsim.intensity.persistence import Stored

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Hidden
    from rimsim.intensity.examples import CountExamples
    from rimsim.intensity.states import UserStates

__all__ = ["Ground", "GroundModel"]


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

    def intensity_hidden(self, hidden: Hidden, now: NDArray[np.float64]) -> torch.Tensor:
        """(n,) float32 λ of the states at the instants ``now``, seconds."""
        ...


class Ground(Stored):
    """Base of the shipped ground intensities.

    On its own a ground intensity says nothing of marks; :meth:`score` then spreads λ(x) evenly over the
    catalogue.
    """

    n_items: int = 0

    @abstractmethod
    def fit(self, log: EventLog) -> Self:
        """Fit from scratch to the target events of the log."""

    @abstractmethod
    def update(self, log: EventLog) -> Self:
        """Fit to the target events of a new log, keeping the scale that λ had."""

    @abstractmethod
    def fit_examples(self, examples: CountExamples) -> Self:
        """Fit from scratch to given states and the counts that followed them."""

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

    @abstractmethod
    def encode(self, states: UserStates) -> Hidden:
        """The hidden states of n user states."""

    @abstractmethod
    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """The hidden states after one more event each, at ``times`` (n,) in seconds."""

    @abstractmethod
    def intensity_hidden(self, hidden: Hidden, now: NDArray[np.float64]) -> torch.Tensor:
        """(n,) float32 λ of the states at the instants ``now`` (n,), seconds."""

    def intensity(self, states: UserStates) -> torch.Tensor:
        """(n,) float32 λ(x): expected events within the horizon."""
        return self.intensity_hidden(self.encode(states), states.now)

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: NDArray[np.float64]) -> torch.Tensor:
        """(n, M) float32 λ(x) / M.

        Raises:
            ModelError: Before a fit to a log, because the size of the catalogue is not known.
        """
        if not self.n_items:
            raise ModelError(f"{self.kind}: no catalogue known; allowed: score after a fit to a log")
        share = self.intensity_hidden(hidden, now) / self.n_items
        return share[:, None].expand(-1, self.n_items).contiguous()

    def score(self, states: UserStates) -> torch.Tensor:
        """(n, M) float32 λ(x) / M."""
        return self.score_hidden(self.encode(states), states.now)
