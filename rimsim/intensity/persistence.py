"""Fitted models on disk: tensors as safetensors, everything else as JSON; no pickle."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import pydantic
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rimsim.config.reading import refusal, unknown_field
from rimsim.errors import ModelError, nearest

if TYPE_CHECKING:
    import torch


RECORD = "model.json"
TENSORS = "model.safetensors"


def config_from(kind: type[Any], values: Mapping[str, object], where: str) -> Any:
    """A config record from plain values, such as a mapping read from YAML.

    Args:
        kind: The record's class.
        values: Field names and values.
        where: What the values belong to, for the error message.

    Raises:
        ConfigError: If a field does not exist or a value is not allowed.
    """
    fields = {field.name for field in dataclasses.fields(kind)}
    for name in values:
        if name not in fields:
            raise unknown_field(str(name), kind, origin=where)
    try:
        return kind(**values)
    except pydantic.ValidationError as error:
        raise refusal(error, kind, origin=where) from error


def write_record(folder: Path, record: Mapping[str, object]) -> None:
    """Write the JSON half of a saved model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_record(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """The JSON half of a saved model.

    Args:
        folder: Where it was saved.
        kind: What it must be; None: anything.

    Raises:
        ModelError: If the folder holds no readable model, or one of another kind.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: no saved intensity model there ({error})") from error
    if not isinstance(record, dict) or "kind" not in record:
        raise ModelError(
            f"{path}: found no field 'kind'; allowed: a file written by an intensity model's save"
        )
    if kind is not None and record["kind"] != kind:
        raise ModelError(f"{folder}: found a saved {record['kind']!r}; allowed here: {kind!r}")
    return record


class Loadable(Protocol):
    """A class of models that can be read from a folder."""

    def load(self, folder: str | Path, device: str | None = None) -> Any:
        """Read what the model's ``save`` wrote."""
        ...


KINDS: dict[str, Loadable] = {}
"""The class of each kind of saved model; a subclass of :class:`Stored` enters itself."""


def load(folder: str | Path, device: str | None = None) -> Any:
    """Read a fitted model of any kind.

    Args:
        folder: Where a model's ``save`` wrote it.
        device: Compute there instead of where the saved config says.

    Raises:
        ModelError: If the folder holds no model of a known kind, or a damaged one. The kind of a model of
            one's own is known once its class is imported.
    """
    kind = read_record(Path(folder))["kind"]
    if kind not in KINDS:
        raise ModelError(f"{folder}: found a saved {kind!r}.{nearest(str(kind), KINDS)}")
    return KINDS[kind].load(folder, device)


class Stored(ABC):
    """A model that is saved as one folder with ``model.json`` and ``model.safetensors``.

    A subclass says what its fitted state is; reading and writing are here.
    """

    kind: ClassVar[str]
    """The model's name in saved folders and in the registry; the class's own name where it states none."""
    config: Any
    """The frozen record that the model was built from."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" not in vars(cls):  # a subclass is another kind: what it saves must not be read as its base
            cls.kind = f"{cls.__module__}.{cls.__qualname__}"
        KINDS[cls.kind] = cls

    @abstractmethod
    def __init__(self, config: Any = None) -> None: ...

    @abstractmethod
    def tensors(self) -> dict[str, torch.Tensor]:
        """The fitted arrays by name; empty before a fit."""

    @abstractmethod
    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Take over fitted arrays (on the CPU) and the extra values of :meth:`extra`."""

    def extra(self) -> dict[str, Any]:
        """Fitted values that are no arrays, as JSON knows them."""
        return {}

    def save(self, folder: str | Path) -> None:
        """Write the fitted model into a folder, which is made if need be.

        Raises:
            OSError: If it cannot be written.
        """
        path = Path(folder)
        write_record(
            path, {"kind": self.kind, "config": dataclasses.asdict(self.config), "extra": self.extra()}
        )
        try:
            save_file({k: v.detach().cpu().contiguous() for k, v in self.tensors().items()}, path / TENSORS)
        except SafetensorError as error:  # such as a full disk, which safetensors tells in a way of its own
            raise OSError(f"{path / TENSORS}: {error}") from error

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Read a model that :meth:`save` wrote.

        Args:
            folder: Where it was saved.
            device: Compute there instead of where the saved config says.

        Raises:
            ModelError: If the folder holds no such model, or a damaged one.
        """
        path = Path(folder)
        record = read_record(path, cls.kind)
        values = dict(record["config"]) | ({} if device is None else {"device": device})
        kind = type(cls().config)
        model = cls(config_from(kind, values, str(path / RECORD)))
        try:
            model.restore(load_file(path / TENSORS), record["extra"])
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise ModelError(f"{path / TENSORS}: damaged or incomplete ({error})") from error
        return model
