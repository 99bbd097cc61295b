"""Impression layer over λ(x,y), fitted to shown items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from rimsim.arrays import Bools, Floats, Ints
from rimsim.data.log import EventLog
from rimsim.errors import ModelError, refuse
from rimsim.intensity.contract import IntensityModel, ModelCapabilities, rescale_of
from rimsim.intensity.persistence import KINDS, load, read_record, save_model, write_record
from rimsim.intensity.states import UserStates
from rimsim.regression import HazardRegression

FLOOR = 1e-9
"""Smallest intensity, so that its logarithm exists."""
LEAST_SLOPE = 0.05
"""Bound of β: the layer keeps the order of an item's intensities."""
_LEVEL_SD, _SLOPE_SD, _ITEM_SD = 3.0, 0.5, 0.1
"""Standard deviations of the normal priors of α around 0, β around 1 and δ around 0.

An item's own deviation is shrunk most: .3 predicts the coming round's impressions a little better, but with ``bag`` it
cost 7 % of the slates' worth by round 7, as it forgets whom an item is for; .1 cost none with ``bag``, ``ease`` and
``factors``.
"""
_LAYER = "layer.safetensors"


@dataclass(frozen=True, eq=False)
class Impressions:
    """m items that were shown, and their outcomes."""

    item: Ints
    """(m,) the items."""
    score: Floats
    """(m,) λ(x,y) in the state in which the item was shown, of a model without a layer."""
    examination: Floats
    """(m,) factor by which the position multiplied the intensity."""
    taken: Bools
    """(m,) consumed or not."""
    round: Ints
    """(m,) round of the impression; each round has its own level."""

    def __len__(self) -> int:
        return len(self.item)


@dataclass(frozen=True, eq=False)
class ImpressionLayer:
    """λ'(x,y) = exp(α + β·log λ(x,y) + δ_y)."""

    level: float
    """α."""
    slope: float
    """β, positive."""
    item: Floats
    """(M,) δ."""

    @classmethod
    def identity(cls, n_items: int) -> ImpressionLayer:
        """Layer that changes nothing: α = 0, β = 1, δ = 0."""
        return cls(0.0, 1.0, np.zeros(n_items))

    def apply_(self, intensity: torch.Tensor) -> torch.Tensor:
        """Intensities λ' (n, M) in the tensor of λ."""
        offset = torch.from_numpy((self.level + self.item).astype(np.float32)).to(intensity.device)
        return intensity.clamp_min_(FLOOR).log_().mul_(self.slope).add_(offset).exp_()


def fit_layer(shown: Impressions, n_items: int) -> ImpressionLayer:
    """Layer of largest penalised likelihood of the impressions.

    P(taken) = 1 − exp(−λ'·e) with e the examination of the position: a :class:`HazardRegression` on (α, β, δ), which
    has one minimum. α differs by round, since the level of a model that is retrained drifts; the last round's α counts.

    The scores should be those of a model that was not trained on the outcomes of these impressions: a trained one
    remembers them, which the coming round does not bear out. Without impressions, the layer is the identity.
    """
    if not len(shown):
        return ImpressionLayer.identity(n_items)
    finite = np.isfinite(shown.score).all() and (shown.score >= 0).all()
    if not finite or not (shown.examination > 0).all():
        refuse(
            ModelError,
            "impressions",
            "found a score that is negative or no number, or an examination that is not positive",
            "finite scores of at least 0, examinations above 0",
        )
    problem = regression_of(shown, n_items)
    rounds = problem.columns.shape[1] - 1
    common = problem.minimised(np.append(np.zeros(rounds), 1.0))
    if common[0][-1] < LEAST_SLOPE:  # convex: the best point within the bound lies on it
        common = problem.minimised(np.append(common[0][:-1], LEAST_SLOPE), free=rounds)
    theta, item = common
    return ImpressionLayer(float(theta[-2]), float(theta[-1]), item)


def regression_of(shown: Impressions, n_items: int) -> HazardRegression:
    """Regression of outcomes on rounds, log score and item.

    θ holds α of each round, then β; the groups are the items.
    """
    _, of = np.unique(shown.round, return_inverse=True)
    rounds = int(of.max()) + 1
    columns = np.zeros((len(shown), rounds + 1))
    columns[np.arange(len(shown)), of] = 1.0
    columns[:, -1] = np.log(np.maximum(shown.score, FLOOR))
    return HazardRegression(
        columns,
        offset=np.log(shown.examination),
        taken=shown.taken,
        group=shown.item,
        n_groups=n_items,
        mean=np.append(np.zeros(rounds), 1.0),
        weight=np.append(np.full(rounds, _LEVEL_SD**-2), _SLOPE_SD**-2),
        group_sd=_ITEM_SD,
    )


class Calibrated:
    """λ'(x,y) = exp(α + β·log λ(x,y) + δ_y), λ being any intensity model.

    The market scores with the model inside, keeps its hidden states, and lays the layer over λ(x)·p(y|x) with p over
    admissible items, so that λ'(x) is the sum of λ'(x,y) over admissible items alone. :meth:`score` lays it over the
    whole catalogue. Fits and updates of the model leave the layer as it is.
    """

    kind: ClassVar[str] = "calibrated"

    def __init__(self, model: IntensityModel, layer: ImpressionLayer) -> None:
        self.model = model
        self.layer = layer

    @property
    def device(self) -> torch.device:
        """Device where scores are computed."""
        return torch.device(getattr(self.model, "device", "cpu"))

    @property
    def rescale(self) -> float:
        """Factor of the inner model's last update."""
        return rescale_of(self.model)

    @property
    def depends_on_state(self) -> bool:
        """True if the inner model's p(y|x) depends on x."""
        return ModelCapabilities.of(self.model).depends_on_state

    @property
    def takes_weights(self) -> bool:
        """True if the inner model takes weights."""
        return ModelCapabilities.of(self.model).takes_weights

    @property
    def stored_parts(self) -> tuple[object, ...]:
        """Models that it is saved with."""
        return (self.model,)

    def fit(self, log: EventLog) -> Self:
        """Fit the inner model from scratch."""
        self.model = self.model.fit(log)
        return self

    def update(self, log: EventLog) -> Self:
        """Update the inner model."""
        self.model = self.model.update(log)
        return self

    def score(self, states: UserStates) -> torch.Tensor:
        """(n, M) float32 λ'(x,y) over the whole catalogue."""
        return self.layer.apply_(self.model.score(states).to(torch.float32).clone())

    def save(self, folder: str | Path) -> None:
        """Write the layer, and the inner model into ``model``."""
        path = Path(folder)
        save_model(self.model, path / "model")
        write_record(path, {"kind": self.kind, "level": self.layer.level, "slope": self.layer.slope})
        save_file({"item": torch.from_numpy(self.layer.item)}, path / _LAYER)

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Read a layered model that :meth:`save` wrote."""
        path = Path(folder)
        record = read_record(path, cls.kind)
        try:
            item = load_file(path / _LAYER)["item"].numpy()
            layer = ImpressionLayer(float(record["level"]), float(record["slope"]), item)
        except Exception as error:  # whatever a damaged file leads to
            raise ModelError(f"{path / _LAYER}: damaged or incomplete ({error})") from error
        return cls(load(path / "model", device), layer)


KINDS[Calibrated.kind] = Calibrated


def layer_of(model: IntensityModel) -> tuple[IntensityModel, ImpressionLayer | None]:
    """Inner model and layer, or the model and None.

    A model under a layer has the attributes ``model`` and ``layer``.
    """
    layer: ImpressionLayer | None = getattr(model, "layer", None)
    return (model, None) if layer is None else (model.model, layer)  # type: ignore[attr-defined]
