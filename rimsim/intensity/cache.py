"""Fitted models kept on disk, so that the second run of anything starts at once."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import json
import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import pandas as pd
import torch

from rimsim.errors import ModelError
from rimsim.files import draft_folder
from rimsim.intensity.ground import Ground
from rimsim.intensity.product import RIM

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.examples import CountExamples

__all__ = ["Cacheable", "cache_folder", "fitted", "log_digest", "model_digest"]


@runtime_checkable
class Cacheable(Protocol):
    """What the cache asks of a model: a frozen config record, ``fit``, ``save`` and ``load``."""

    def fit(self, log: EventLog) -> Self:
        """Fit from scratch."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write the fitted model into a folder."""
        ...

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Read what ``save`` wrote."""
        ...


Model = TypeVar("Model", bound=Cacheable)


def cache_folder() -> Path:
    """``$RIMSIM_CACHE``, or ``~/.cache/rimsim``."""
    named = os.environ.get("RIMSIM_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "rimsim"


def log_digest(log: EventLog) -> str:
    """A digest of all that a model may be fitted to: events, targets, item table, number of users."""
    digest = hashlib.sha256(f"{log.n_users} {log.n_items} ".encode())
    for array in (log.user, log.item, log.time, log.value, log.targets):
        digest.update(np.ascontiguousarray(array).tobytes())
    # As text, so that the digest does not depend on how a table stores its strings.
    table = log.items.astype(str)
    digest.update(" ".join(table.columns).encode())
    digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _examples_digest(examples: CountExamples) -> str:
    digest = hashlib.sha256()
    states = examples.states
    for array in (states.offsets, states.items, states.times, states.now, examples.counts, examples.user):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@lru_cache
def _code_digest(module: str) -> str:
    """A digest of the source of this package and of the module that a model's class is from."""
    digest = hashlib.sha256()
    files = set(Path(__file__).parent.glob("*.py"))
    source = inspect.getsourcefile(importlib.import_module(module))
    if source is not None:
        files.add(Path(source))
    for file in sorted(files, key=lambda path: path.name):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def model_digest(model: object) -> str:
    """A digest of a model's class, config, device, source code and the version of torch.

    Raises:
        ModelError: If the model has no config record.
    """
    if isinstance(model, RIM):
        parts = [model_digest(part) for part in (model.mark, model.ground)]
        return hashlib.sha256(" ".join(["rim", *parts]).encode()).hexdigest()
    config = getattr(model, "config", None)
    if config is None or not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ModelError(
            f"{type(model).__name__}: found no config record; allowed: a frozen dataclass in 'config'"
        )
    described = {
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "config": dataclasses.asdict(config),
        "device": str(getattr(model, "device", "cpu")),
        "code": _code_digest(type(model).__module__),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()


def _loaded(model: Model, folder: Path) -> Model | None:
    """The cached model, or None where there is none that can be read."""
    device = getattr(model, "device", None)
    try:
        return type(model).load(folder, None if device is None else str(device)) if folder.is_dir() else None
    except ModelError:
        return None


def fitted(
    model: Model,
    log: EventLog,
    cache_dir: str | Path | None = None,
    *,
    examples: CountExamples | None = None,
) -> Model:
    """A model fitted to a log, read from the cache if it was fitted there before.

    The key is a digest of the log, of the model's class and config, of its source code and of the version of
    torch. A damaged entry is fitted again. Entries are written to a folder of their own and moved into place,
    so that processes that fit the same model at once do not disturb each other.

    Args:
        model: A model that is not fitted yet, such as :func:`rimsim.intensity.make` returns.
        log: What to fit it to.
        cache_dir: Where entries lie; None: :func:`cache_folder`.
        examples: For a ground intensity: the states and counts to fit to, in place of the log's own.

    Returns:
        The fitted model: ``model`` itself, or an equal one from the cache.

    Raises:
        ModelError: If examples are given for a model that is no ground intensity.
    """
    if examples is not None and not isinstance(model, Ground):
        raise ModelError(f"fitted: found examples for a {type(model).__name__}; allowed: for a Ground")
    described = f"{model_digest(model)} {log_digest(log)}"
    if examples is not None:
        described += f" {_examples_digest(examples)}"
    key = hashlib.sha256(described.encode()).hexdigest()
    folder = (cache_folder() if cache_dir is None else Path(cache_dir)) / "models" / key
    cached = _loaded(model, folder)
    if cached is not None:
        return cached
    shutil.rmtree(folder, ignore_errors=True)  # damaged, if it is there
    if examples is not None and isinstance(model, Ground):
        model.fit_to(log, examples)
    else:
        model.fit(log)
    with draft_folder(folder, existing="keep") as draft:  # a process that was first wrote the same model
        model.save(draft)
    return model
