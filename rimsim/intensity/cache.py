"""Cache of fitted models on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import torch

from rimsim.arrays import Array
from rimsim.data.log import EventLog
from rimsim.errors import ModelError
from rimsim.intensity.contract import IntensityModel
from rimsim.intensity.ground.contract import Ground, GroundModel
from rimsim.intensity.persistence import Stored, is_stored
from rimsim.intensity.product import RIM
from rimsim.intensity.states import CountExamples
from rimsim.system import cache_folder, draft_folder, report_progress

Entry = TypeVar("Entry")
Model = TypeVar("Model", bound="IntensityModel | GroundModel")


def _with_arrays(digest: Any, arrays: Iterable[Array]) -> Any:
    """The digest, updated by the bytes of arrays."""
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest


def log_digest(log: EventLog) -> str:
    """Digest of a log's events, items and other properties."""
    digest = hashlib.sha256(f"{log.n_users} {log.n_items} ".encode())
    _with_arrays(digest, (log.user, log.item, log.time, log.value, log.targets))
    if log.weight is not None:
        digest.update(b"weight" + np.ascontiguousarray(log.weight).tobytes())
    if log.repeatable:
        digest.update(b"repeatable")
    if log.impressions is not None:
        for name, column in log.impressions.arrays.items():
            digest.update(name.encode() + np.ascontiguousarray(column).tobytes())
        digest.update(" ".join(log.impressions.policies).encode())
    # The table is converted to text, so that the digest does not depend on how a table stores its strings.
    table = log.items.astype(str)
    digest.update(" ".join(table.columns).encode())
    digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def source_digest(*places: Path) -> str:
    """Digest of source files and of all modules in folders."""
    digest = hashlib.sha256()
    for place in places:
        modules = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for file in modules:
            digest.update(file.relative_to(place.parent).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


@lru_cache
def _package_digest() -> str:
    return source_digest(Path(__file__).parent)


def kept(
    folder: Path,
    load: Callable[[Path], Entry],
    make: Callable[[], Entry],
    save: Callable[[Entry, Path], object],
) -> Entry:
    """Entry of a cache folder; a missing entry is made.

    An entry is made again if its checksum is wrong or ``load`` raises a ModelError. Entries are written to a draft
    folder first, so that processes can make the same entry at the same time.
    """
    if _is_undamaged(folder):
        with suppress(ModelError):
            return load(folder)
    shutil.rmtree(folder, ignore_errors=True)  # if there is an entry, it is damaged
    entry = make()
    # Another process may have written the same entry already.
    with draft_folder(folder, existing="keep") as draft:
        save(entry, draft)
        (draft / _CHECKSUM).write_text(_content_digest(draft), encoding="utf-8")
    return entry


_CHECKSUM = "checksum"
"""Name of the file with an entry's digest."""


def _content_digest(folder: Path) -> str:
    """Digest of a cache entry's files, except the checksum itself."""
    return source_digest(
        *sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _CHECKSUM)
    )


def _is_undamaged(folder: Path) -> bool:
    """True if an entry exists and is not damaged."""
    # Without a checksum, one wrong byte in an array would go unnoticed and change results.
    checksum = folder / _CHECKSUM
    return checksum.is_file() and checksum.read_bytes() == _content_digest(folder).encode()


def _source(kind: type) -> str | None:
    """Source code of a class's module; None if no file."""
    try:
        file = inspect.getsourcefile(kind)
    except (TypeError, OSError):
        return None
    return None if file is None else Path(file).read_text(encoding="utf-8")


def _model_digest(model: Stored, source: str) -> str:
    """Digest of a model's class, config, device and source."""
    kind = type(model)
    description = {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "config": dataclasses.asdict(model.config),
        "device": str(getattr(model, "device", "cpu")),
        "package": _package_digest(),
        "module": source,
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode()).hexdigest()


def _fit(model: Any, log: EventLog, examples: CountExamples | None) -> Any:
    """Fit a model, to examples if given, and report it."""
    report_progress(f"{getattr(model, 'kind', type(model).__name__)}: fitting to {len(log):,} events")
    return model.fit(log) if examples is None else model.fit_to(log, examples)


def fitted(
    model: Model, log: EventLog, cache_dir: str | Path | None = None, *, examples: CountExamples | None = None
) -> Model:
    """Model fitted to a log, or read from the cache.

    The key of a cached model is a digest of the log, of the model's class and config, of its source code and of the
    version of torch. Each factor of a product model has its own cache entry. If :func:`is_stored` rejects your own
    model, the model is fitted each time and not cached. A ground intensity can be fitted to given ``examples``.
    """
    if examples is not None and not (isinstance(model, Ground) and is_stored(model)):
        raise ModelError(
            f"fitted: examples were given with a {type(model).__name__}, which cannot be fitted to "
            "examples. Give examples only with a ground intensity (Ground)"
        )
    if isinstance(model, RIM) and type(model).fit is RIM.fit:
        model.mark = fitted(model.mark, log, cache_dir)
        model.ground = fitted(model.ground, log, cache_dir)
        return model
    source = _source(type(model))
    # The cast lets mypy accept the next test: a model's class may also inherit from Stored, which is no model.
    stored = cast("object", model)
    if not isinstance(stored, Stored) or not is_stored(stored) or source is None:
        return cast("Model", _fit(model, log, examples))
    key_text = f"{_model_digest(stored, source)} {log_digest(log)}"
    if examples is not None:
        states = examples.states
        arrays = (states.offsets, states.items, states.times, states.now, examples.counts, examples.user)
        key_text += f" {_with_arrays(hashlib.sha256(), arrays).hexdigest()}"
    key = hashlib.sha256(key_text.encode()).hexdigest()
    folder = (cache_folder() if cache_dir is None else Path(cache_dir)) / "models" / key
    device = getattr(stored, "device", None)

    def load(entry: Path) -> Stored:
        return type(stored).load(entry, None if device is None else str(device))

    def make() -> Stored:
        _fit(stored, log, examples)
        return stored

    return cast("Model", kept(folder, load, make, lambda fitted_model, draft: fitted_model.save(draft)))
