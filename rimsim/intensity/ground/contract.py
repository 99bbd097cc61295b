"""Ground intensities λ(x): protocol, options and base class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import scipy
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.data.log import EventLog
from rimsim.errors import ModelError, refuse
from rimsim.intensity.contract import FromHidden, Hidden, caller_owns, resolved
from rimsim.intensity.persistence import Stored
from rimsim.intensity.states import CountExamples, UserStates, session_examples, window_examples


def minimum_of(
    objective: Callable[..., tuple[float, Floats]],
    start: Floats,
    args: tuple[object, ...],
    iterations: int,
    *,
    positive: bool,
) -> Floats:
    """Minimum of a convex objective with a gradient, by L-BFGS-B."""
    optimum = scipy.optimize.minimize(
        objective,
        start,
        args=args,
        method="L-BFGS-B",
        jac=True,
        bounds=[(0.0, None)] * len(start) if positive else None,
        options={"maxiter": iterations, "ftol": 1e-12, "gtol": 1e-7, "maxcor": 20},
    )
    return np.asarray(optimum.x, np.float64)


@runtime_checkable
class GroundModel(Protocol):
    """Model of λ(x), the expected event count within the horizon."""

    def fit(self, log: EventLog) -> Self:
        """Fit from scratch to the target events of the log."""

    def update(self, log: EventLog) -> Self:
        """Fit to new target events; keep the scale of λ."""

    def encode(self, states: UserStates) -> Hidden:
        """Hidden states of n user states."""

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states after one more event each."""

    def intensity_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n,) float32: λ of each state at ``now`` in seconds."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GroundConfig:
    """Options of all ground intensities."""

    horizon: float | None = Field(default=None, gt=0)
    """Length of the predicted time, in seconds; None: one session, which is one arrival."""
    gap: float = Field(default=1800.0, gt=0)
    """Inactivity gap that ends a session, in seconds."""
    windows: int = Field(default=4, ge=1)
    """With a horizon in seconds: number of past horizons that λ is fitted to."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""


class Ground(FromHidden, Stored, GroundModel):
    """Base class of the built-in ground intensities.

    A slate yields far fewer consumptions than a logged session has events. An update therefore keeps the mean of λ,
    because the mean would otherwise become many times smaller. Without a mark model, :meth:`score` spreads λ(x) evenly
    over the catalogue.

    ``rescale`` is the factor by which the last :meth:`update` rescaled λ(x) to its old mean, or 1 after a fit.
    """

    config: GroundConfig
    n_items: int = 0
    saved: ClassVar[tuple[str, ...]] = ("n_items", "rescale")
    """Names of the attributes with fitted numbers. A saved model has them without a leading underscore."""

    def __init__(self, config: GroundConfig) -> None:
        self.config = config
        self.device = resolved(config.device)
        self.rescale = 1.0
        self._fitted: dict[str, torch.Tensor] = {}

    def _keep(self, **arrays: Floats) -> None:
        """Store fitted arrays by name; other arrays stay."""
        tensors = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
        self._fitted = self._fitted | tensors

    def _array(self, name: str) -> torch.Tensor:
        """Fitted array."""
        return self._after_fit(self._fitted.get(name))

    @abstractmethod
    def fit_examples(self, examples: CountExamples) -> Self:
        """Fit from scratch to given states and event counts."""

    def examples(self, log: EventLog) -> CountExamples:
        """Examples that set the level of λ(x): sessions or windows."""
        if self.config.horizon is None:
            return session_examples(log, self.config.gap)
        return window_examples(log, self.config.horizon, self.config.windows)

    def fit(self, log: EventLog) -> Self:
        """Fit from scratch to the target events of the log."""
        return self.fit_to(log, self.examples(log))

    def fit_to(self, log: EventLog, examples: CountExamples) -> Self:
        """Fit from scratch; the examples determine the level of λ."""
        self.n_items = log.n_items
        return self.fit_examples(examples)

    def _require_events(self, examples: CountExamples) -> None:
        """Refuse examples without events."""
        if examples.counts.sum() == 0:
            problem = f"found {len(examples.counts)} examples with 0 events in all"
            refuse(ModelError, self.kind, problem, "at least one event")

    def _instants(self, now: Floats, last: torch.Tensor) -> torch.Tensor:
        """(n,) instants at which λ is computed, on the device.

        Without a horizon, λ predicts the next session. No session begins within ``gap`` after the last event, so an
        instant before that is delayed to the end of the gap.
        """
        instant = torch.from_numpy(np.asarray(now, np.float64)).to(self.device)
        return torch.maximum(instant, last + self.config.gap) if self.config.horizon is None else instant

    def intensity(self, states: UserStates) -> torch.Tensor:
        """(n,) float32: λ(x), the expected events within the horizon."""
        return self.intensity_hidden(self.encode(states), states.now)

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32: λ(x) / M for every item."""
        if not self.n_items:
            refuse(ModelError, self.kind, "the items are not known yet", "a fit to a log before scoring")
        item_intensity = self.intensity_hidden(hidden, now) / self.n_items
        return item_intensity[:, None].expand(-1, self.n_items).contiguous()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Fitted arrays."""
        return dict(self._fitted)

    def extra(self) -> dict[str, Any]:
        """Fitted numbers."""
        return {name.lstrip("_"): getattr(self, name) for name in self.saved}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Load fitted arrays and numbers."""
        self._fitted = {name: tensor.to(self.device) for name, tensor in tensors.items()}
        for name in self.saved:
            setattr(self, name, type(getattr(self, name))(extra[name.lstrip("_")]))
