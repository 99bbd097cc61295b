"""RIM: the product of a mark distribution and a ground intensity."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np
import torch

from rimsim.arrays import Floats
from rimsim.errors import ModelError
from rimsim.intensity.contract import (
    FromHidden,
    RecurrentModel,
    caller_owns,
    caller_owns_scores,
    depends_on_state,
    takes_weights,
)
from rimsim.intensity.ground.contract import GroundModel
from rimsim.intensity.persistence import KINDS, Stored, load, read_record, write_record
from rimsim.intensity.states import UserStates
from rimsim.intensity.walking import walked

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Hidden, IntensityModel
    from rimsim.intensity.walking import Walk


_NOBODY = UserStates(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
"""No states at all: encoding them tells how many tensors a hidden state has."""


class RIM(FromHidden):
    """λ(x,y) = λ(x)·p(y|x): recurrent intensity model of Ma, Liu and Deoras (ICLR 2022).

    Args:
        mark: p(y|x), a recurrent model whose rows sum to 1.
        ground: λ(x).

    Raises:
        ModelError: If one of the two cannot play its part.
    """

    kind: ClassVar[str] = "rim"

    def __init__(self, *, mark: RecurrentModel, ground: GroundModel) -> None:
        if not isinstance(mark, RecurrentModel):
            raise ModelError(
                f"RIM: mark is a {type(mark).__name__}; allowed: a model with encode, step and score_hidden"
            )
        if not isinstance(ground, GroundModel):
            raise ModelError(
                f"RIM: ground is a {type(ground).__name__}; allowed: one with encode and intensity_hidden"
            )
        self.mark = mark
        self.ground = ground
        self._width: int | None = None

    @property
    def device(self) -> torch.device:
        """Where scores are computed: the mark model's device."""
        return torch.device(getattr(self.mark, "device", "cpu"))

    @property
    def stored_parts(self) -> tuple[object, ...]:
        """The models that it is saved with."""
        return (self.mark, self.ground)

    @property
    def rescale(self) -> float:
        """The factor of the ground intensity's last update; 1 where it keeps none."""
        return float(getattr(self.ground, "rescale", 1.0))

    @property
    def depends_on_state(self) -> bool:
        """True if the mark model's p(y|x) differs from state to state."""
        return depends_on_state(self.mark)

    @property
    def takes_weights(self) -> bool:
        """True if the mark model takes weights; the ground intensity counts events."""
        return takes_weights(self.mark)

    def fit(self, log: EventLog) -> Self:
        """Fit both factors to the target events of the log."""
        self.mark.fit(log)
        self.ground.fit(log)
        return self

    def update(self, log: EventLog) -> Self:
        """Update both factors to the target events of a new log."""
        self.mark.update(log)
        self.ground.update(log)
        return self

    def intensity(self, states: UserStates) -> torch.Tensor:
        """(n,) float32 λ(x)."""
        return self.ground.intensity_hidden(self.ground.encode(states), states.now)

    def encode(self, states: UserStates) -> Hidden:
        """The mark model's tensors followed by the ground intensity's."""
        return (*self.mark.encode(states), *self.ground.encode(states))

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Both factors' hidden states after one more event each."""
        mark, ground = self._split(hidden)
        return (*self.mark.step(mark, items, times), *self.ground.step(ground, items, times))

    def walk(self, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]:
        """Both factors' hidden states after all events and at the points; see :mod:`rimsim.intensity.walking`."""
        mark, ground = self._split(hidden)
        marked, grounded = walked(self.mark, mark, walk), walked(self.ground, ground, walk)
        return (*marked[0], *grounded[0]), (*marked[1], *grounded[1])

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32 λ(x)·p(y|x) of the states at ``now`` (n,), seconds."""
        mark, ground = self._split(hidden)
        share, rate = self.mark.score_hidden(mark, now), self.ground.intensity_hidden(ground, now)[:, None]
        return share.mul_(rate) if caller_owns_scores(self.mark) else share * rate

    def _split(self, hidden: Hidden) -> tuple[Hidden, Hidden]:
        if self._width is None:
            self._width = len(self.mark.encode(_NOBODY))
        return hidden[: self._width], hidden[self._width :]

    def save(self, folder: str | Path) -> None:
        """Write both factors into the subfolders ``mark`` and ``ground``.

        Raises:
            ModelError: If a factor cannot be saved.
        """
        path = Path(folder)
        save_model(self.mark, path / "mark")
        save_model(self.ground, path / "ground")
        write_record(path, {"kind": self.kind})

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Read what :meth:`save` wrote; ``device`` replaces the saved configs' device.

        Raises:
            ModelError: If the folder holds no such model, or a damaged one.
        """
        path = Path(folder)
        read_record(path, cls.kind)
        mark, ground = load(path / "mark", device), load(path / "ground", device)
        return cls(mark=cast("RecurrentModel", mark), ground=cast("GroundModel", ground))


KINDS[RIM.kind] = RIM


def is_stored(model: object) -> bool:
    """True if :func:`rimsim.intensity.persistence.load` gives back what the model's ``save`` writes.

    That takes a :class:`Stored` model with a config record, of a class that can be made without arguments, or a model
    that says in ``stored_parts`` which such models it is saved with, as :class:`RIM` does.
    """
    if "stored_parts" in vars(type(model)):  # not that of a base: what a subclass adds would be lost
        return all(is_stored(part) for part in model.stored_parts)  # type: ignore[attr-defined]
    if not isinstance(model, Stored) or not dataclasses.is_dataclass(getattr(model, "config", None)):
        return False
    try:
        inspect.signature(type(model)).bind()
    except TypeError:
        return False
    return True


def save_model(model: object, folder: Path) -> None:
    """Write a fitted model into a folder, from which :func:`rimsim.intensity.persistence.load` gives it back.

    Raises:
        ModelError: If it could not be given back (:func:`is_stored`).
    """
    if not is_stored(model):
        raise ModelError(
            f"a {type(model).__name__} cannot be saved; allowed: a Stored model that can be made without arguments, or "
            "a RIM of two"
        )
    cast("Stored", model).save(folder)


def settled(model: IntensityModel, like: IntensityModel) -> IntensityModel:
    """A model to fit to a part of a log, which takes over what the fit of another to the log has chosen.

    Choosing takes most of the time of a fit, and a part tells no more than the whole.

    Args:
        model: Not fitted yet.
        like: Fitted, made as ``model`` was. A mark model says with ``settled`` what it has chosen; of others, ``model``
            is returned as it is.
    """
    if isinstance(model, RIM) and isinstance(like, RIM):
        product = copy.copy(model)
        product.mark = cast("RecurrentModel", settled(model.mark, like.mark))
        return product
    take = getattr(like, "settled", None)
    return cast("IntensityModel", take()) if callable(take) else model


def updated(model: IntensityModel, log: EventLog, *, ground: bool) -> IntensityModel:
    """A retrained copy of a model; the original stays as it is.

    Args:
        model: Any model; one of one's own needs no more than ``fit``, ``update`` and ``score``.
        log: What to retrain on.
        ground: Refit λ(x) too; false keeps a product's ground intensity as it is. λ(x) is fitted on warm-up sessions,
            and a slate yields far fewer consumptions than a logged session has events; a model that refits it must
            bring it back to its old mean.
    """
    if isinstance(model, RIM) and not ground:
        product = copy.copy(model)
        product.mark = copy.deepcopy(model.mark).update(log)
        return product
    return copy.deepcopy(model).update(log)
