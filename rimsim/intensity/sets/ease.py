"""EASE: linear model of consumed items, in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import scipy
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Float32s, Floats
from rimsim.data.log import EventLog
from rimsim.intensity.contract import Hidden, spans
from rimsim.intensity.popularity import fill_cold, learned
from rimsim.intensity.selection.shrinkage import Shrinkage
from rimsim.intensity.sets.personal import Arrays, Cells, PersonalConfig, PersonalModel, distinct, sums
from rimsim.intensity.states import UserStates


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EASEConfig(PersonalConfig):
    """Options of EASE."""

    ridge: float | None = Field(default=None, gt=0)
    """Penalty on squared weights; none: chosen on held-out later sessions."""
    update_ridge: float = Field(default=3000.0, gt=0)
    """Penalty on the squared changes of the weights in an update."""
    memory: float = Field(default=10_000.0, gt=0)
    """Weight of the popularity before an update, as a number of events."""


def solved(gram: Floats, cross: Floats, ridge: float) -> Float32s:
    """Matrix D with zero diagonal, minimising ``‖R − X D‖² + ridge·‖D‖²``.

    Let ``gram`` be XᵀX, ``cross`` be XᵀR, and P = (XᵀX + ridge·I)⁻¹. Then D = P (XᵀR − diag γ), with a multiplier γ_y =
    (P XᵀR)_yy / P_yy for each zero of the diagonal.
    """
    penalised_gram = gram.copy()
    penalised_gram[np.diag_indices_from(penalised_gram)] += ridge
    inverse = _inverse(penalised_gram)
    # In a fit, R = X. Then P XᵀX = I − ridge·P, so one product of matrices is not needed.
    if cross is gram:
        weights = -inverse / np.diag(inverse)
    else:
        weights = inverse @ cross
        weights -= inverse * (np.diag(weights) / np.diag(inverse))
    np.fill_diagonal(weights, 0.0)
    return weights.astype(np.float32)


def _inverse(matrix: Floats) -> Floats:
    """Inverse of a positive definite matrix, which is overwritten."""
    # LAPACK stores matrices by column. So the transpose of an array of rows needs no copy.
    factor, _ = scipy.linalg.lapack.dpotrf(matrix.T, lower=1, clean=1, overwrite_a=1)
    # The result is 0 above the diagonal, so the other half of the inverse is its transpose.
    lower, _ = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    diagonal = lower.diagonal().copy()
    inverse = lower + lower.T
    np.fill_diagonal(inverse, diagonal)
    return np.asarray(inverse, np.float64)


class EASE(PersonalModel[EASEConfig]):
    """``p(y|x) = softmax(τ Σ_{i ∈ x} B_iy + κ log popularity_y + κ' log returning_y)``.

    B has zero diagonal and minimises the squared error of reconstructing each user's set of items from itself, plus a
    ridge (Steck, WWW 2019). One inverse of an M × M matrix gives B in closed form. A hidden state is the sum of the
    consumed items' rows of B. An update solves for the change of B that fits the new log, with a ridge on the change.
    Events that are only history have no label, so the present predictions of B replace their labels.
    """

    kind: ClassVar[str] = "ease"
    config_class = EASEConfig
    grid = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)
    usual = 1000.0
    strength = "ridge"

    def _fits(self, log: EventLog, strengths: tuple[float, ...], full_log: EventLog) -> Iterator[Arrays]:
        """B for each ridge penalty, in closed form."""
        del full_log
        cells = Cells.of(log)
        x = cells.matrix()
        gram = (x.T @ x).toarray().astype(np.float64)
        cross = gram  # XᵀR, with the labels R; if all labels are 1, R = X
        if not (cells.label == 1.0).all():
            cross = (x.T @ cells.matrix(cells.label)).toarray().astype(np.float64)
        for ridge in strengths:
            yield {"weights": solved(gram, cross, ridge)}

    def _scores(self, fit: Arrays, states: UserStates) -> Float32s:
        return sums(distinct(states), fit["weights"])

    def _serving(self, fit: Arrays, chosen: Shrinkage, base: Floats, log: EventLog) -> Arrays:
        """Weights τB, and the bias."""
        # The regression for cold items predicts rows, and column y of B predicts item y. So B is transposed.
        weights = torch.from_numpy(fit["weights"].T * np.float32(chosen.personal))
        bias = torch.from_numpy(base.astype(np.float32))
        if self.config.cold_items:
            fill_cold(weights, bias, log)
        return {"weights": weights.numpy().T, "bias": bias.numpy()}

    def _updated(self, log: EventLog) -> Arrays:
        """Weights τB after the change of B, and learned bias."""
        weights = self._array("weights")
        bias = self._array("bias")
        scale = self.shrinkage.personal if self.shrinkage is not None else 1.0
        learned_bias = learned(bias, log, self.config.memory)
        if not scale:  # the personal score has no weight, so an update leaves it as it is
            return {"weights": weights, "bias": learned_bias}
        cells = Cells.of(log)
        x = cells.matrix()
        # The residual is target − prediction XB. The target is 1 for a label and 0 for an item that was not taken. For
        # history, the target is the prediction, so the residual is 0. `cross` becomes Xᵀ(target − XB).
        cross = -(x.T @ x).astype(np.float64) @ (weights.astype(np.float64) / scale)
        predicted = _predicted(cells, weights / np.float32(scale))
        target = np.where(cells.label > 0, cells.label, predicted)
        cross += (x.T @ cells.matrix(target.astype(np.float32))).toarray()
        change = solved((x.T @ x).toarray().astype(np.float64), cross, self.config.update_ridge)
        return {"weights": weights + np.float32(scale) * change, "bias": learned_bias}

    def encode(self, states: UserStates) -> Hidden:
        """(n, M) sums of rows of τB over distinct items."""
        return (torch.from_numpy(sums(distinct(states), self._array("weights"))).to(self.device),)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states with one row of τB added to each."""
        del times
        return (hidden[0] + self.served("weights")[items.to(self.device)],)

    def _probabilities(self, *hidden: torch.Tensor) -> torch.Tensor:
        return torch.softmax(hidden[0] + self.served("bias"), 1)


def _predicted(cells: Cells, weights: Float32s) -> Float32s:
    """(c,) present prediction for every consumed user-item pair."""
    matrix = cells.matrix()
    predicted = np.empty(len(cells.item), np.float32)
    for first, last in spans(len(cells), 256):
        block = np.asarray(matrix[first:last] @ weights)
        span = slice(int(cells.offsets[first]), int(cells.offsets[last]))
        predicted[span] = block[cells.user[span] - first, cells.item[span]]
    return predicted
