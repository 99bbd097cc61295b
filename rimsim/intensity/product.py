"""RIM: product of a mark distribution and a ground intensity."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import ClassVar, Self, cast

import numpy as np
import torch

from rimsim.arrays import Floats
from rimsim.data.log import EventLog
from rimsim.errors import ModelError, refuse
from rimsim.intensity import contract
from rimsim.intensity.ground.contract import GroundModel
from rimsim.intensity.persistence import KINDS, load, read_record, save_model, write_record
from rimsim.intensity.states import UserStates

_NOBODY = UserStates(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
"""Batch of zero states. Its encoding shows how many tensors a hidden state has."""


class RIM(contract.FromHidden):
    """``λ(x,y) = λ(x)·p(y|x)``: recurrent intensity model.

    The model is from Ma, Liu and Deoras (ICLR 2022). The mark model is recurrent, and each row of its scores sums to 1.
    """

    kind: ClassVar[str] = "rim"

    def __init__(self, *, mark: contract.RecurrentModel, ground: GroundModel) -> None:
        if contract.recurrent(mark) is None:
            refuse(
                ModelError,
                "RIM",
                f"mark is a {type(mark).__name__}",
                "a model with encode, step and score_hidden",
            )
        if not isinstance(ground, GroundModel):
            refuse(
                ModelError,
                "RIM",
                f"ground is a {type(ground).__name__}",
                "a model with encode and intensity_hidden",
            )
        self.mark = mark
        self.ground = ground
        self._n_mark_tensors: int | None = None

    @property
    def device(self) -> torch.device:
        """Device of the mark model, where scores are computed."""
        return torch.device(getattr(self.mark, "device", "cpu"))

    @property
    def stored_parts(self) -> tuple[object, ...]:
        """Models that are saved with this model."""
        return (self.mark, self.ground)

    @property
    def rescale(self) -> float:
        """Factor by which the last update rescaled λ(x)."""
        return contract.rescale_of(self.ground)

    @property
    def depends_on_state(self) -> bool:
        """True if the mark model's p(y|x) depends on x."""
        return contract.ModelCapabilities.of(self.mark).depends_on_state

    @property
    def takes_weights(self) -> bool:
        """True if the mark model accepts weights of events."""
        return contract.ModelCapabilities.of(self.mark).takes_weights

    def fit(self, log: EventLog) -> Self:
        """Fit both factors to the target events of the log."""
        self.mark.fit(log)
        self.ground.fit(log)
        return self

    def update(self, log: EventLog) -> Self:
        """Update both factors to a new log's target events."""
        self.mark.update(log)
        self.ground.update(log)
        return self

    def intensity(self, states: UserStates) -> torch.Tensor:
        """(n,) float32 λ(x)."""
        return self.ground.intensity_hidden(self.ground.encode(states), states.now)

    def encode(self, states: UserStates) -> contract.Hidden:
        """Hidden states of both factors, the mark model's first."""
        return (*self.mark.encode(states), *self.ground.encode(states))

    def step(self, hidden: contract.Hidden, items: torch.Tensor, times: torch.Tensor) -> contract.Hidden:
        """Hidden states of both factors after one more event each."""
        mark, ground = self._split(hidden)
        return (*self.mark.step(mark, items, times), *self.ground.step(ground, items, times))

    def walk(self, hidden: contract.Hidden, walk: contract.Walk) -> tuple[contract.Hidden, contract.Hidden]:
        """Hidden states of both factors after and between events."""
        mark, ground = self._split(hidden)
        mark_after, mark_between = contract.walked(self.mark, mark, walk)
        ground_after, ground_between = contract.walked(self.ground, ground, walk)
        return (*mark_after, *ground_after), (*mark_between, *ground_between)

    @contract.caller_owns
    def score_hidden(self, hidden: contract.Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32: λ(x)·p(y|x) of the states at ``now`` in seconds."""
        mark, ground = self._split(hidden)
        probability = self.mark.score_hidden(mark, now)
        intensity = self.ground.intensity_hidden(ground, now)[:, None]
        return probability.mul_(intensity) if contract.owns_scores(self.mark) else probability * intensity

    def _split(self, hidden: contract.Hidden) -> tuple[contract.Hidden, contract.Hidden]:
        """Hidden states of mark model and ground intensity, apart."""
        if self._n_mark_tensors is None:
            self._n_mark_tensors = len(self.mark.encode(_NOBODY))
        return hidden[: self._n_mark_tensors], hidden[self._n_mark_tensors :]

    def save(self, folder: str | Path) -> None:
        """Write both factors into the subfolders ``mark`` and ``ground``."""
        path = Path(folder)
        save_model(self.mark, path / "mark")
        save_model(self.ground, path / "ground")
        write_record(path, {"kind": self.kind})

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Read a product that :meth:`save` wrote."""
        path = Path(folder)
        read_record(path, cls.kind)
        return cls(mark=load(path / "mark", device), ground=load(path / "ground", device))


KINDS[RIM.kind] = RIM


def settled(model: contract.IntensityModel, like: contract.IntensityModel) -> contract.IntensityModel:
    """Model for part of a log, with hyperparameters of ``like``.

    The choice of hyperparameters takes most of the time of a fit, and is best on the whole log. ``like`` is a fitted
    model of the same kind. The method ``settled`` of ``like`` returns an unfitted model.
    """
    if isinstance(model, RIM) and isinstance(like, RIM):
        product = copy.copy(model)
        product.mark = cast("contract.RecurrentModel", settled(model.mark, like.mark))
        return product
    unfitted_copy = getattr(like, "settled", None)
    return cast("contract.IntensityModel", unfitted_copy()) if callable(unfitted_copy) else model


def updated(model: contract.IntensityModel, log: EventLog, *, ground: bool) -> contract.IntensityModel:
    """Retrained copy of a model.

    If ``ground`` is false, λ(x) is not retrained. A fit of λ(x) uses warm-up sessions, and a slate yields far fewer
    consumptions than a logged session has events. So a refitted λ(x) must be scaled back to its old mean.
    """
    if isinstance(model, RIM) and not ground:
        product = copy.copy(model)
        product.mark = copy.deepcopy(model.mark).update(log)
        return product
    return copy.deepcopy(model).update(log)
