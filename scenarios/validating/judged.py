"""Models at a cut: fitted to its past, and judged by what its users really took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from rimsim import rng
from rimsim.arrays import Float32s, Floats, Ints
from rimsim.config import PlatformConfig
from rimsim.errors import ModelError
from rimsim.intensity.cache import fitted
from rimsim.intensity.contract import spans
from rimsim.market.world import unfitted
from rimsim.matching import price_slates
from rimsim.measures import slate_ndcg
from rimsim.scenarios.kinds.scores import ROWS, ModelScores
from rimsim.scenarios.validating.config import RANDOM

if TYPE_CHECKING:
    from rimsim.data import EventLog
    from rimsim.intensity import IntensityModel
    from rimsim.scenarios.kinds.scores import Scores
    from rimsim.scenarios.validating.cuts import Cut

    Make: TypeAlias = Callable[[str, int, str], IntensityModel]


_LEAST = 1e-12
"""A share that a model holds for impossible counts as so much, so that one event cannot outweigh all others."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What n users really made of a model."""

    slates: Ints
    """(n, k) recommended items; −1 = empty position."""
    precision: Floats
    """(n,) share of positions that hold an item that the user took from the cut on."""
    ndcg: Floats
    """(n,) of the same; NaN for users who took nothing."""
    log_likelihood: Floats
    """(n,) mean of log p(y|x) over the items taken, p over what may be shown, nats; NaN likewise."""

    @property
    def metrics(self) -> dict[str, Floats]:
        """Name → (n,)."""
        return {"precision": self.precision, "ndcg": self.ndcg, "log_likelihood": self.log_likelihood}


@dataclass(frozen=True, eq=False)
class Chance:
    """Every item that may be shown is as likely as any other; ties are broken by seed."""

    shape: tuple[int, int]
    """(n, M)."""

    def rows(self, start: int, stop: int) -> Float32s:
        """(stop − start, M) ones."""
        return np.ones((stop - start, self.shape[1]), np.float32)


def unfitted_model(name: str, seed: int, device: str, gap: str | None = None) -> IntensityModel:
    """A model as a platform has it, before it is fitted; ``gap`` is the log's silence that ends a session."""
    return unfitted(PlatformConfig(model=name, device=device), seed, gap)


def scores_of(name: str, cut: Cut, device: str, make: Make = unfitted_model) -> Scores:
    """Scores of the states of a cut by a model that is fitted to its past, or read from the fit cache.

    Args:
        name: A model's name or place, or ``random``.
        cut: The cut.
        device: Where it scores.
        make: Called with name, seed and device; returns the model that is fitted.
    """
    if name == RANDOM:
        return Chance((len(cut), len(cut.known)))
    return ModelScores(fitted_model(name, cut.draw, device, cut.later.past, make), cut.states, cut.known)


def fitted_model(name: str, seed: int, device: str, log: EventLog, make: Make) -> IntensityModel:
    """A model fitted to a log, or read from the fit cache.

    Args:
        name: Its name or place.
        seed: Its own is derived from this one.
        device: Where it scores.
        log: The log.
        make: As for :func:`scores_of`.

    Raises:
        ModelError: If a model of one's own does not return what it fitted.
    """
    model = fitted(make(name, rng.derived_seed(seed, rng.Purpose.MODEL) % 2**31, device), log)
    if not hasattr(model, "score"):
        raise ModelError(f"{name}: fit returned {model!r}; allowed: the fitted model, such as self")
    return model


def judged(scores: Scores, cut: Cut, slate: int) -> Judged:
    """Recommend the best items to every state, and compare with what the users took.

    Args:
        scores: (n, M) of the cut's states.
        cut: The cut.
        slate: k.
    """
    n, m = scores.shape
    slates = np.empty((n, slate), np.int64)
    logs = np.empty(len(cut.taken_row))
    for start, stop in spans(n, ROWS):
        shown = cut.admissible(start, stop)
        rows = np.where(shown, scores.rows(start, stop), 0.0)
        keys = cut.later.user[start:stop]
        slates[start:stop] = price_slates(
            rows, np.zeros(m), slate, admissible=shown, tie_seed=cut.draw, row_keys=keys
        )
        of_block = slice(*np.searchsorted(cut.taken_row, [start, stop]))
        row, item = cut.taken_row[of_block] - start, cut.taken_item[of_block]
        total = rows.sum(1, dtype=np.float64)
        share = rows[row, item].astype(np.float64) / np.maximum(total[row], 1e-300)
        logs[of_block] = np.log(np.maximum(share, _LEAST))
    key = np.arange(n)[:, None] * m + slates
    hits = pd.Index(key.ravel()).isin(cut.taken_row * m + cut.taken_item).reshape(key.shape) & (slates >= 0)
    taken = cut.taken
    summed = np.bincount(cut.taken_row, weights=logs, minlength=n)
    mean = np.divide(summed, taken, out=np.full(n, np.nan), where=taken > 0)
    return Judged(slates, hits.mean(1), slate_ndcg(hits, taken), mean)
