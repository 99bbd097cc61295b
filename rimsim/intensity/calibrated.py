"""An intensity model under a layer that was fitted to impressions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from safetensors.torch import load_file, save_file

from rimsim.errors import ModelError
from rimsim.intensity.contract import depends_on_state, rescale_of, takes_weights
from rimsim.intensity.impressions import ImpressionLayer
from rimsim.intensity.persistence import KINDS, load, read_record, write_record
from rimsim.intensity.product import save_model

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import IntensityModel
    from rimsim.intensity.states import UserStates


_LAYER = "layer.safetensors"


class Calibrated:
    """λ'(x,y) = exp(α + β·log λ(x,y) + δ_y), λ being any intensity model.

    The market scores with the model inside, keeps its hidden states, and lays the layer over λ(x)·p(y|x) with p over
    what is admissible, so that λ'(x) is the sum of λ'(x,y) over admissible items alone. :meth:`score` lays it over the
    whole catalogue.

    Args:
        model: The model inside.
        layer: The layer over it; fits and updates of the model leave it as it is.
    """

    kind: ClassVar[str] = "calibrated"

    def __init__(self, model: IntensityModel, layer: ImpressionLayer) -> None:
        self.model = model
        self.layer = layer

    @property
    def device(self) -> torch.device:
        """Where scores are computed."""
        return torch.device(getattr(self.model, "device", "cpu"))

    @property
    def rescale(self) -> float:
        """The factor of the inner model's last update."""
        return rescale_of(self.model)

    @property
    def depends_on_state(self) -> bool:
        """True if the inner model's p(y|x) differs from state to state."""
        return depends_on_state(self.model)

    @property
    def takes_weights(self) -> bool:
        """True if the inner model takes weights."""
        return takes_weights(self.model)

    @property
    def stored_parts(self) -> tuple[object, ...]:
        """The models that it is saved with."""
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
        """Write the layer, and the inner model into the subfolder ``model``.

        Raises:
            ModelError: If the inner model cannot be saved.
        """
        path = Path(folder)
        save_model(self.model, path / "model")
        write_record(path, {"kind": self.kind, "level": self.layer.level, "slope": self.layer.slope})
        save_file({"item": torch.from_numpy(self.layer.item)}, path / _LAYER)

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Read what :meth:`save` wrote; ``device`` replaces the saved config's device.

        Raises:
            ModelError: If the folder holds no such model, or a damaged one.
        """
        path = Path(folder)
        record = read_record(path, cls.kind)
        try:
            item = load_file(path / _LAYER)["item"].numpy()
            layer = ImpressionLayer(float(record["level"]), float(record["slope"]), item)
        except Exception as error:  # whatever a damaged file leads to
            raise ModelError(f"{path / _LAYER}: damaged or incomplete ({error})") from error
        return cls(load(path / "model", device), layer)


KINDS[Calibrated.kind] = Calibrated
