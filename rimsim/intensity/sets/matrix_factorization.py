"""Matrix factorization for p(y|x): implicit-feedback ALS and BPR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.data.log import EventLog
from rimsim.errors import ConfigError
from rimsim.intensity.contract import FromHidden, Hidden, caller_owns, in_blocks, require_targets, resolved
from rimsim.intensity.persistence import Stored
from rimsim.intensity.popularity import log_popularity
from rimsim.intensity.states import UserStates

_CELLS = 2**25
"""Largest number of scores, users times items, that the scale is fitted to. All of MovieLens-1M takes 270 MB."""
_NEAR = 2**15
"""Number of scores that are computed at once, so few that all stay in the processor's fastest caches."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MatrixFactorizationConfig:
    """Algorithm, size and training of the factorization."""

    algorithm: Literal["als", "bpr"] = "als"
    """Method of fitting: als (alternating least squares) or bpr (Bayesian personalised ranking)."""
    factors: int = Field(default=32, ge=1)
    """Length of user and item vectors."""
    iterations: int = Field(default=15, ge=1)
    """als: number of sweeps. bpr: a tenth of the number of passes over the events."""
    regularization: float = Field(default=0.05, ge=0)
    """Penalty on squared vectors."""
    confidence: float = Field(default=10.0, gt=0)
    """Weight that an event has in addition to the weight of a non-event."""
    learning_rate: float = Field(default=0.05, gt=0)
    """Step size of BPR."""
    smoothing: float = Field(default=0.5, gt=0)
    """Number of events that are added to each item's popularity."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial values and sampling."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""


class MatrixFactorization(FromHidden, Stored):
    """``p(y|x) = softmax(τ u(x)·v_y + κ log popularity_y)``, λ(x) = 1.

    Item vectors v come from ALS on implicit feedback (Hu, Koren and Volinsky, ICDM 2008) or BPR (Rendle et al., UAI
    2009), as in the package ``implicit``. The vector of a state is computed from the state's items by a step of ALS:
    u(x) = (VᵀV + ρ I + c Σ_{i ∈ x} v_i v_iᵀ)⁻¹ (1 + c) Σ_{i ∈ x} v_i. The scores of the two algorithms are not
    probabilities. The weights τ ≥ 0 and κ ≥ 0, fitted by maximum likelihood to every user's last target event, turn
    scores into probabilities.
    """

    kind: ClassVar[str] = "matrix-factorization"

    def __init__(self, config: MatrixFactorizationConfig | None = None) -> None:
        self.config = config or MatrixFactorizationConfig()
        self.device = resolved(self.config.device)
        self.temperature = self.popularity_weight = 1.0
        self._v: torch.Tensor | None = None

    def fit(self, log: EventLog) -> Self:
        """Factorise the users' target events."""
        require_targets(log, self.kind)
        targets = log.rows(log.targets)
        ones = np.ones(len(targets), np.float32)
        cells = (targets.user, targets.item)
        matrix = scipy.sparse.csr_matrix((ones, cells), shape=(log.n_users, log.n_items))
        matrix.data[:] = 1.0  # repeated events of a pair were added up
        self._take(self._factors(matrix), log_popularity(log, self.config.smoothing))
        self._scale(log)
        return self

    def _factors(self, matrix: scipy.sparse.csr_matrix[np.float32]) -> Floats:
        """(M, d) item vectors of a users-by-items matrix, by ``implicit``."""
        try:
            from implicit.als import AlternatingLeastSquares  # noqa: PLC0415  # an optional package
            from implicit.bpr import BayesianPersonalizedRanking  # noqa: PLC0415  # an optional package
        except ImportError as error:
            raise ConfigError(
                "matrix-factorization: package 'implicit' is not installed. Install it: pip install 'rimsim[mf]'"
            ) from error
        config = self.config
        common: dict[str, Any] = {
            "factors": config.factors,
            "regularization": config.regularization,
            "random_state": config.seed,
            "num_threads": 1,
            "use_gpu": False,
        }
        model: Any
        if config.algorithm == "als":
            model = AlternatingLeastSquares(alpha=config.confidence, iterations=config.iterations, **common)
        else:
            iterations = 10 * config.iterations
            model = BayesianPersonalizedRanking(
                learning_rate=config.learning_rate, iterations=iterations, **common
            )
        model.fit(matrix, show_progress=False)
        vectors = np.asarray(model.item_factors, np.float64)
        # BPR keeps item biases in the last column. That column is dropped, because log popularity stands for it here.
        return vectors[:, : config.factors]

    def _take(self, vectors: Floats, log_p: Floats) -> None:
        """Store item vectors V, log popularity, and VᵀV + ρ I."""
        self._v = torch.from_numpy(vectors.copy()).to(self.device)
        self._log_p = torch.from_numpy(log_p.copy()).to(self.device)
        identity = torch.eye(vectors.shape[1], dtype=torch.float64, device=self.device)
        self._gram = self._v.T @ self._v + max(self.config.regularization, 1e-6) * identity

    def _scale(self, log: EventLog) -> None:
        """Fit τ and κ on users' last target events."""
        targets = log.rows(log.targets)
        last_event = np.zeros(log.n_users, np.int64)
        # A later event of a user overwrites an earlier event.
        last_event[targets.user] = np.arange(len(targets))
        events = last_event[np.unique(targets.user)]
        events = events[:: max(-(-len(events) * log.n_items // _CELLS), 1)]
        states = UserStates.of(log, targets.user[events], targets.time[events])
        score = (torch.linalg.solve(*self.encode(states)) @ self.vectors.T).cpu()
        base = self._log_p.cpu()
        label = torch.from_numpy(targets.item[events])
        n_rows = max(1, _NEAR // log.n_items)
        blocks = list(zip(torch.split(score, n_rows), torch.split(label, n_rows), strict=True))

        def loss(weights: Floats) -> tuple[float, Floats]:
            """Mean −log p of the labels; gradient in τ and κ."""
            columns = []
            scaled_base = weights[1] * base
            for block, items in blocks:
                log_p = torch.log_softmax(weights[0] * block + scaled_base, 1)
                p = log_p.exp()
                cell = items[:, None]
                # The derivative of −log p in a weight is the mean under p, minus the value at the label.
                by_score = (p * block).sum(1) - block.gather(1, cell)[:, 0]
                by_base = (p * base).sum(1) - base[items]
                columns.append(torch.stack([-log_p.gather(1, cell)[:, 0], by_score, by_base]))
            value, *gradient = (float(row.mean()) for row in torch.cat(columns, 1))
            return value, np.array(gradient)

        optimum = scipy.optimize.minimize(
            loss, np.array([1.0, 0.5]), jac=True, method="L-BFGS-B", bounds=[(0, None), (0, None)]
        )
        self.temperature = float(optimum.x[0])
        self.popularity_weight = float(optimum.x[1])

    def update(self, log: EventLog) -> Self:
        """Factorise the new log's target events, if it has any."""
        return self.fit(log) if log.targets.any() else self

    @property
    def vectors(self) -> torch.Tensor:
        """(M, d) float64 item vectors."""
        return self._after_fit(self._v)

    def encode(self, states: UserStates) -> Hidden:
        """Matrix and right-hand side of the equation for u(x)."""
        vectors = self.vectors
        confidence = self.config.confidence
        item_vectors = vectors.cpu().numpy()
        gram = np.tile(self._gram.cpu().numpy(), (len(states), 1, 1))
        target = np.zeros((len(states), item_vectors.shape[1]))
        for row in np.flatnonzero(states.lengths):
            consumed = item_vectors[states.items[states.offsets[row] : states.offsets[row + 1]]]
            gram[row] += confidence * (consumed.T @ consumed)
            target[row] = (1.0 + confidence) * consumed.sum(0)
        return torch.from_numpy(gram).to(self.device), torch.from_numpy(target).to(self.device)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states after a rank-one change each."""
        del times
        consumed = self.vectors[items.to(self.device)]
        confidence = self.config.confidence
        gram = hidden[0] + confidence * consumed[:, :, None] * consumed[:, None, :]
        return gram, hidden[1] + (1.0 + confidence) * consumed

    def _probabilities(self, gram: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(BLOCK, M) p(y|x) of a block of equations for u(x)."""
        # Rows that only fill up a block have a zero matrix. It is replaced by a regular matrix, so that all equations
        # have a solution.
        is_filling = (gram.diagonal(dim1=1, dim2=2) == 0).all(1)
        regular = torch.where(is_filling[:, None, None], self._gram, gram)
        score = torch.linalg.solve(regular, target) @ self.vectors.T
        return torch.softmax(self.temperature * score + self.popularity_weight * self._log_p, 1).float()

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32: p(y|x) of each state; rows sum to 1."""
        del now
        _ = self.vectors  # raises if the model is not fitted
        return in_blocks(self._probabilities, *hidden)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Item vectors and log popularity."""
        return {} if self._v is None else {"v": self._v, "log_p": self._log_p}

    def extra(self) -> dict[str, Any]:
        """τ and κ."""
        return {"temperature": self.temperature, "popularity_weight": self.popularity_weight}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Load vectors and weights."""
        if "v" in tensors:
            self._take(tensors["v"].numpy(), tensors["log_p"].numpy())
        self.temperature = float(extra["temperature"])
        self.popularity_weight = float(extra["popularity_weight"])
