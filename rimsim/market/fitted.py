"""Fitted truths and models, from the cache or new."""

from __future__ import annotations

import hashlib
import inspect
import json
from functools import lru_cache
from pathlib import Path

import torch

from rimsim import intensity
from rimsim.config import ConsumerConfig
from rimsim.data import later_sessions
from rimsim.data.log import EventLog
from rimsim.data.time_cut import sessions_after_cut
from rimsim.errors import ModelError
from rimsim.intensity.cache import fitted, kept, log_digest, source_digest
from rimsim.intensity.contract import IntensityModel
from rimsim.intensity.persistence import is_stored
from rimsim.market.consumers import habit, session_sizes, trend, truths
from rimsim.market.consumers.truths import (
    AUTO,
    Truth,
    base_of,
    fit_truth,
    load_truth,
    truth_model,
    with_habits,
)
from rimsim.system import cache_folder, report_progress
from rimsim.user_code import files_of


def truth_bootstrap(consumer: ConsumerConfig) -> int | None:
    """Seed of the bootstrap sample for fitting a truth."""
    # None stands for the log itself. It is also returned for a truth that changes with the seed, if the seed is not
    # known yet (:func:`rimsim.config.at_seed` sets it).
    return None if consumer.truth_seed == "seed" else consumer.truth_seed


def kept_truth(
    log: EventLog, *, gap: float, kind: str = "auto", rank: int = 16, bootstrap: int | None = None
) -> Truth:
    """Truth of a log, from the cache or fitted now.

    If your own model cannot be saved, the truth is fitted each time.
    """
    base = base_of(kind)
    folder = cache_folder() / "truth" / truth_key(log, gap, kind, rank, bootstrap)

    def make() -> Truth:
        report_progress(f"truth {kind}: fitting to {len(log):,} events")
        if kind == base:
            return fit_truth(log, gap=gap, kind=kind, rank=rank, bootstrap=bootstrap)
        truth = kept_truth(log, gap=gap, kind=base, rank=rank, bootstrap=bootstrap)
        return with_habits(truth, log, gap=gap, rank=rank)

    # Only a model that can be saved is cached. ``truth_model`` also imports a user's file, so its errors are reported
    # here. The gap does not matter, because this model is not fitted.
    if base != AUTO and not is_stored(truth_model(base, "30min", rank)):
        return make()
    return kept(folder, load_truth, make, lambda truth, draft: truth.save(draft))


def truth_key(log: EventLog, gap: float, kind: str, rank: int, bootstrap: int | None) -> str:
    """Digest of all inputs to the fit of a truth."""
    code = [_code(), source_digest(*files_of([base_of(kind)])), torch.__version__]
    described = json.dumps([*code, kind, rank, bootstrap, gap, log_digest(log)])
    return hashlib.sha256(described.encode()).hexdigest()


@lru_cache
def _code() -> str:
    """Digest of the source code that fits truths."""
    modules = truths, habit, session_sizes, trend, later_sessions, sessions_after_cut
    files = (Path(inspect.getfile(part)) for part in modules)
    return source_digest(Path(inspect.getfile(intensity)).parent, *files)


def fitted_to(log: EventLog, model: IntensityModel, name: str) -> IntensityModel:
    """Model fitted to a log, or loaded from the cache.

    Raises:
        ModelError: If the ``fit`` of the model does not return a model.
    """
    fitted_model = fitted(model, log)
    if not hasattr(fitted_model, "score"):
        raise ModelError(f"{name}: fit returned {fitted_model!r}. Expected the fitted model, such as self")
    return fitted_model
