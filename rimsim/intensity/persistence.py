"""Fitted models on disk, as safetensors and JSON."""

from __future__ import annotations

import dataclasses
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import pydantic
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save_file

from rimsim.config.reading import refusal, unknown_field
from rimsim.errors import ModelError, nearest, refuse

RECORD = "model.json"
TENSORS = "model.safetensors"
Value = TypeVar("Value")


def config_from(kind: type[Any], values: Mapping[str, object], owner: str) -> Any:
    """Config record from plain values, such as values from YAML.

    In error messages, ``owner`` names the owner of the values.
    """
    fields = {field.name for field in dataclasses.fields(kind)}
    for name in values:
        if name not in fields:
            raise unknown_field(str(name), kind, origin=owner)
    try:
        return kind(**values)
    except pydantic.ValidationError as error:
        raise refusal(error, kind, origin=owner) from error


def write_record(folder: Path, record: Mapping[str, object]) -> None:
    """Write the JSON file of a saved model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_record(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """Content of the JSON file of a saved model."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: no saved intensity model can be read ({error})") from error
    if not isinstance(record, dict) or "kind" not in record:
        refuse(ModelError, str(path), "found no field 'kind'", "a file written by an intensity model's save")
    if kind is not None and record["kind"] != kind:
        raise ModelError(f"{folder}: found a saved {record['kind']!r}. Expected a saved {kind!r}")
    return record


KINDS: dict[str, Any] = {}
"""Kind of a saved model → its class, which has a method ``load``. A subclass of :class:`Stored` adds itself."""


def load(folder: str | Path, device: str | None = None) -> Any:
    """Read a fitted model whose class has been imported.

    :func:`rimsim.intensity.load` also knows all shipped models. ``device`` replaces the saved device.

    Raises:
        ModelError: If the folder has no model of a known kind, or the model is damaged.
    """
    kind = read_record(Path(folder))["kind"]
    if kind not in KINDS:
        raise ModelError(
            f"{folder}: it holds a saved {kind!r}, a kind that no imported class has.{nearest(str(kind), KINDS)} "
            "Import the model's class first; rimsim.intensity.load knows all shipped models"
        )
    return KINDS[kind].load(folder, device)


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file, copied to memory.

    The library's own reader maps the file. A run would then change when another program writes over the file.
    """
    return tensors_of(file.read_bytes())


class Stored(ABC):
    """Model saved as one folder with ``model.json`` and ``model.safetensors``.

    A subclass lists its fitted arrays and values, which :class:`Stored` reads and writes.
    """

    kind: ClassVar[str]
    """Name of the kind in saved folders and in the registry; by default the name of the class."""
    config: Any
    """Frozen record of the settings that the model was built from."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # A subclass may save other arrays than its base class, so its name differs.
        if "kind" not in vars(cls):
            cls.kind = f"{cls.__module__}.{cls.__qualname__}"
        KINDS[cls.kind] = cls

    @abstractmethod
    def __init__(self, config: Any = None) -> None: ...

    @abstractmethod
    def tensors(self) -> dict[str, torch.Tensor]:
        """Fitted arrays by name; empty before a fit."""

    @abstractmethod
    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Load fitted arrays (on the CPU) and values of :meth:`extra`."""

    def extra(self) -> dict[str, Any]:
        """Fitted values other than arrays, for JSON."""
        return {}

    def _after_fit(self, value: Value | None) -> Value:
        """Fitted value; raises a ModelError before a fit."""
        if value is None:
            refuse(
                ModelError, self.kind, "the model is not fitted yet", "a call of fit or load before scoring"
            )
        return value

    def save(self, folder: str | Path) -> None:
        """Write the fitted model into a folder."""
        path = Path(folder)
        config = dataclasses.asdict(self.config)
        write_record(path, {"kind": self.kind, "config": config, "extra": self.extra()})
        try:
            arrays = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors().items()}
            save_file(arrays, path / TENSORS)
        except SafetensorError as error:
            # safetensors reports errors of the system, such as a full disk, by an error of its own.
            raise OSError(f"{path / TENSORS}: {error}") from error

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Read a fitted model of any kind.

        ``device`` replaces the saved device. Import the class of your own model first, so that its kind is known.
        """
        path = Path(folder)
        record = read_record(path, cls.kind)
        config_values = dict(record["config"]) | ({} if device is None else {"device": device})
        config_class = type(cls().config)
        model = cls(config_from(config_class, config_values, str(path / RECORD)))
        try:
            model.restore(read_tensors(path / TENSORS), record["extra"])
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise ModelError(f"{path / TENSORS}: the file is damaged or incomplete ({error})") from error
        return model


def is_stored(model: object) -> bool:
    """True if :func:`load` can read the model's saved folder.

    The model must be a :class:`Stored` model with a config record and a constructor without arguments. A model made of
    other models, such as a product, lists these models in ``stored_parts`` instead.
    """
    # The list must be defined in the class itself. A list that a subclass inherits may lack models that it adds.
    if "stored_parts" in vars(type(model)):
        return all(is_stored(part) for part in model.stored_parts)  # type: ignore[attr-defined]
    if not isinstance(model, Stored) or not dataclasses.is_dataclass(getattr(model, "config", None)):
        return False
    try:
        inspect.signature(type(model)).bind()
    except TypeError:
        return False
    return True


def save_model(model: object, folder: Path) -> None:
    """Write a fitted model so that :func:`load` reads it."""
    if not is_stored(model):
        raise ModelError(
            f"a {type(model).__name__} cannot be saved. Expected a subclass of Stored that can be made without "
            "arguments, or a RIM of two such models"
        )
    cast("Stored", model).save(folder)
