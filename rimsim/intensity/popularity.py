"""Models with equal scores for all users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Float32s, Floats, Ints
from rimsim.data.log import EventLog
from rimsim.intensity.contract import FromHidden, Hidden, WithoutUserState, caller_owns, resolved
from rimsim.intensity.persistence import Stored

_RIDGE = 1.0
"""Ridge penalty of the regression for items without events, expressed as a number of items."""


def target_counts(log: EventLog) -> Floats:
    """(M,) sum of the weights of each item's target events."""
    is_target = log.targets
    return np.asarray(np.bincount(log.item[is_target], log.weights[is_target], log.n_items), np.float64)


def log_popularity(log: EventLog, smoothing: float) -> Floats:
    """(M,) log p(y), where p(y) ∝ weighted target events + smoothing."""
    counts = target_counts(log) + smoothing
    return np.asarray(np.log(counts / counts.sum()), np.float64)


def log_returning(log: EventLog, gap: str, prior: float) -> Floats:
    """(M,) log p(y), where p(y) ∝ r_y + prior·M·p_y.

    r_y is the number of events with item y in later sessions, and p_y is the popularity of y in all target events.
    ``prior`` is the pseudo-count per item.
    """
    is_target = log.targets
    weight = log.weights
    all_counts = target_counts(log) + prior
    sessions = log.sessions(gap)
    first_session = np.full(log.n_users, -1)
    # Sessions are sorted by start. The reversed order writes the first session last, so it stays.
    first_session[sessions.user[::-1]] = np.arange(len(sessions))[::-1]
    is_later = is_target & (sessions.of_event != first_session[log.user])
    counts = np.bincount(log.item[is_later], weight[is_later], log.n_items)
    counts = counts + prior * log.n_items * all_counts / all_counts.sum()
    return np.asarray(np.log(counts / counts.sum()), np.float64)


def learned(bias: Float32s, log: EventLog, memory: float) -> Float32s:
    """(M,) log popularity, updated by a new log.

    ``bias`` is the earlier log popularity, up to a constant, and counts as much as ``memory`` events.
    """
    p = np.exp(bias.astype(np.float64) - bias.max())
    counts = memory * p / p.sum() + target_counts(log)
    return np.asarray(np.log(counts / counts.sum()), np.float32)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PopularityConfig:
    """Options of popularity."""

    smoothing: float = Field(default=0.01, gt=0)
    """Events added to every item, so that p(y) > 0."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ReturningConfig:
    """Options of popularity in later sessions."""

    session_gap: str = "30min"
    """Inactivity gap that ends a session."""
    prior: float = Field(default=0.5, gt=0)
    """Weight of the popularity in all events, as a number of events per item."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""


class Popularity(WithoutUserState, FromHidden, Stored):
    """``p(y|x) = (n_y + s) / Σ_z (n_z + s)`` for every state x, λ(x) = 1.

    n_y is the sum of the weights of the target events with item y, and s is the smoothing. With s = 0.01 the model is
    the ``Pop`` baseline of Ma, Liu and Deoras (ICLR 2022). :meth:`update` is exact: it equals a fit on the new log.
    """

    kind: ClassVar[str] = "popularity"
    config_class: ClassVar[type[Any]] = PopularityConfig
    depends_on_state: ClassVar[bool] = False
    takes_weights: ClassVar[bool] = True

    def __init__(self, config: PopularityConfig | None = None) -> None:
        self.config = config or self.config_class()
        self.device = resolved(self.config.device)
        self._p: torch.Tensor | None = None

    def fit(self, log: EventLog) -> Self:
        """Count the target events of the log."""
        self._p = torch.from_numpy(np.exp(self._log_p(log)).astype(np.float32)).to(self.device)
        return self

    def _log_p(self, log: EventLog) -> Floats:
        """(M,) log p(y)."""
        return log_popularity(log, self.config.smoothing)

    def update(self, log: EventLog) -> Self:
        """Count only the new log's target events, if any."""
        return self.fit(log) if log.targets.any() else self

    @property
    def probability(self) -> torch.Tensor:
        """(M,) p(y)."""
        return self._after_fit(self._p)

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) p(y), the same row for every state."""
        del now
        return self.probability.repeat(hidden[0].shape[0], 1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Probabilities."""
        return {} if self._p is None else {"p": self._p}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Load the probabilities."""
        del extra
        self._p = tensors["p"].to(self.device) if "p" in tensors else None


class Returning(Popularity):
    """p(y|x) ∝ r_y + prior·M·p_y for every state x, and λ(x) = 1.

    r_y counts the target events with item y in users' sessions after their first session, and p_y is the popularity of
    y in all target events. The model suits returning users, who take other items than new users do. :meth:`update` is
    exact: it equals a fit on the new log.
    """

    kind: ClassVar[str] = "returning"
    config_class = ReturningConfig
    config: ReturningConfig

    def __init__(self, config: ReturningConfig | None = None) -> None:
        super().__init__(config)  # type: ignore[arg-type]  # each class has a config of its own

    def _log_p(self, log: EventLog) -> Floats:
        return log_returning(log, self.config.session_gap, self.config.prior)


def item_features(items: pd.DataFrame) -> Floats:
    """(M, F) features of items before any consumption.

    The features are a constant, an indicator per genre, and the standardised year of release (or 0) with its square.
    """
    n = len(items)
    columns = [np.ones((n, 1))]
    if "genres" in items:
        genres = items["genres"].fillna("").astype(str).str.get_dummies("|")
        columns.append(genres.drop(columns="", errors="ignore").to_numpy(np.float64))
    if "year" in items:
        year = pd.to_numeric(items["year"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        has_year = np.isfinite(year)
        if has_year.any():
            spread = float(year[has_year].std()) or 1.0
            scaled = np.where(has_year, (year - year[has_year].mean()) / spread, 0.0)
            columns += [scaled[:, None], scaled[:, None] ** 2]
    return np.concatenate(columns, axis=1)


def fill_cold(vectors: torch.Tensor, bias: torch.Tensor, log: EventLog) -> Ints:
    """Overwrite vectors and biases of cold items with predictions.

    The prediction is a ridge regression of the fitted items' vectors and biases on :func:`item_features`.
    Training alone would leave random values for an item without target events, and push its probability towards zero.
    """
    is_known = np.bincount(log.item[log.targets], minlength=log.n_items) > 0
    cold = np.flatnonzero(~is_known)
    if len(cold) and is_known.any():
        features = item_features(log.items)
        values = torch.cat([vectors, bias[:, None]], dim=1).cpu().numpy().astype(np.float64)
        # The ridge shrinks the predictions towards the mean of the known items, so an item without features is an
        # average item.
        mean = values[is_known].mean(0)
        gram = features[is_known].T @ features[is_known] + _RIDGE * np.eye(features.shape[1])
        weights = np.linalg.solve(gram, features[is_known].T @ (values[is_known] - mean))
        predicted = torch.from_numpy((features[cold] @ weights + mean).astype(np.float32)).to(vectors.device)
        cold_rows = torch.from_numpy(cold).to(vectors.device)
        vectors[cold_rows] = predicted[:, :-1]
        bias[cold_rows] = predicted[:, -1]
    return cold
