"""The truth: a consumer model of another class than the agents use, fitted with hindsight on the whole log."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from rimsim import rng
from rimsim.errors import ModelError
from rimsim.market.consumers.kernels import Factors, pair_shares

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from rimsim.data.log import EventLog, Sessions

__all__ = ["Truth", "TruthReport", "fit_truth"]

_STEPS = 150
_LEARNING_RATE = 0.05
_RIDGES = (0.1, 1.0, 10.0)
_HELD_OUT = 0.1
_CHUNK = 4_000_000
_SHRINKAGE = 2.0


@dataclass(frozen=True)
class TruthReport:
    """How well the truth describes the log that it was fitted on."""

    ridge: float
    """Ridge chosen on held-out events."""
    perplexity: float
    """exp of the mean negative log-likelihood of held-out events under the factors."""
    popularity_perplexity: float
    """The same under item popularity alone: the bar to be under."""
    events_per_session: float
    """Events per session in the log."""
    expected_per_session: float
    """Mean of λ* over the log's sessions; calibrated to equal ``events_per_session``."""


@dataclass(frozen=True, eq=False)
class Truth:
    """p*(y|u) ∝ exp(⟨a_u, c_y⟩ + d_y) over admissible items, and λ*(u), for every user of the log."""

    user_factors: NDArray[np.float64]
    """(users, rank) a."""
    item_factors: NDArray[np.float64]
    """(M, rank) c."""
    item_bias: NDArray[np.float64]
    """(M,) d."""
    log_normaliser: NDArray[np.float64]
    """(users,) log Σ_y exp(⟨a_u, c_y⟩ + d_y) over the whole catalogue."""
    ground: NDArray[np.float64]
    """(users,) λ*(u), expected interactions a session."""
    report: TruthReport
    """How it was fitted."""

    def share(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float64]:
        """p* over the whole catalogue of single pairs; ``users`` and ``items`` broadcast together."""
        some, others = np.broadcast_arrays(users, items)
        return pair_shares(some.flatten(), others.flatten(), self.factors).reshape(some.shape)

    @property
    def factors(self) -> Factors:
        """p* as compiled code takes it."""
        return Factors(self.user_factors, self.item_factors, self.item_bias, self.log_normaliser)

    def rows(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, M) p* over the whole catalogue; call it with the same n always where bits matter."""
        logit = self.user_factors[users] @ self.item_factors.T + self.item_bias
        return np.asarray(np.exp(logit - self.log_normaliser[users][:, None]), np.float64)

    def save(self, folder: Path) -> None:
        """Write the truth as safetensors and JSON."""
        arrays = {
            "user_factors": self.user_factors,
            "item_factors": self.item_factors,
            "item_bias": self.item_bias,
            "log_normaliser": self.log_normaliser,
            "ground": self.ground,
        }
        save_file(arrays, folder / "truth.safetensors")
        (folder / "truth.json").write_text(json.dumps(asdict(self.report), indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        report = TruthReport(**json.loads((folder / "truth.json").read_text(encoding="utf-8")))
        return cls(**load_file(folder / "truth.safetensors"), report=report)


def fit_truth(log: EventLog, sessions: Sessions, rank: int) -> Truth:
    """Fit the truth to a whole log.

    The factors maximise the multinomial likelihood of each user's events under a full softmax with a ridge on both
    sides, the ridge being chosen on held-out events. λ*(u) is the user's events per session, shrunk towards the mean
    by two sessions and scaled so that its mean over the log's sessions equals the log's events per session.

    Args:
        log: The whole log, its future included.
        sessions: Its sessions.
        rank: Number of factors.

    Raises:
        ModelError: If the log is empty.
    """
    if not len(log):
        raise ModelError("the truth is fitted to an empty log; allowed: at least one event")
    held_out = rng.uniform(0, rng.Purpose.MODEL, np.arange(len(log))) < _HELD_OUT
    counts = np.bincount(log.item, minlength=log.n_items).astype(np.float64)
    ridge, perplexity = _RIDGES[1], float("nan")
    if 0 < held_out.sum() < len(log):
        train, test = log.rows(~held_out), log.rows(held_out)
        losses = []
        for candidate in _RIDGES:
            a, c, d = _factors(train, rank, candidate)
            losses.append(_negative_log_likelihood(test, a, c, d))
        ridge = _RIDGES[int(np.argmin(losses))]
        perplexity = float(np.exp(min(losses)))
        smooth = np.bincount(train.item, minlength=log.n_items) + 0.5
        popularity = float(np.exp(-np.log(smooth / smooth.sum())[test.item].mean()))
    else:
        popularity = float("nan")
    a, c, d = _factors(log, rank, ridge)
    d = np.where(counts > 0, d, d.min() - 10.0)
    ground, per_session, expected = _ground(log, sessions)
    return Truth(
        user_factors=a,
        item_factors=c,
        item_bias=d,
        log_normaliser=_log_normaliser(a, c, d),
        ground=ground,
        report=TruthReport(ridge, perplexity, popularity, per_session, expected),
    )


def _ground(log: EventLog, sessions: Sessions) -> tuple[NDArray[np.float64], float, float]:
    events = np.bincount(log.user, minlength=log.n_users)
    visits = np.bincount(sessions.user, minlength=log.n_users)
    mean = len(log) / len(sessions)
    ground = (events + _SHRINKAGE * mean) / (visits + _SHRINKAGE)
    ground *= mean * len(sessions) / float((ground * visits).sum())
    return ground, mean, float((ground * visits).sum() / len(sessions))


def _factors(
    log: EventLog, rank: int, ridge: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Penalised maximum likelihood by Adam on the full likelihood, users in chunks."""
    generator = torch.Generator().manual_seed(rng.derived_seed(0, rng.Purpose.MODEL, rank))
    counts = torch.from_numpy(np.bincount(log.item, minlength=log.n_items)).to(torch.float32)
    a = (0.1 * torch.randn(log.n_users, rank, generator=generator)).requires_grad_()
    c = (0.1 * torch.randn(log.n_items, rank, generator=generator)).requires_grad_()
    d = torch.log(counts + 0.5).requires_grad_()
    optimiser = torch.optim.Adam([a, c, d], lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2 * _LEARNING_RATE, total_steps=_STEPS)
    order = np.argsort(log.user, kind="stable")
    user, item = torch.from_numpy(log.user[order]), torch.from_numpy(log.item[order])
    totals = torch.bincount(user, minlength=log.n_users).to(torch.float32)
    height = max(1, _CHUNK // log.n_items)
    edges = [*range(0, log.n_users, height), log.n_users]
    cuts = torch.searchsorted(user, torch.tensor(edges)).tolist()
    for _ in range(_STEPS):
        optimiser.zero_grad()
        for first, last, begin, end in zip(edges, edges[1:], cuts, cuts[1:], strict=False):
            u, y = user[begin:end], item[begin:end]
            normaliser = torch.logsumexp(a[first:last] @ c.T + d, 1)
            observed = (a[u] * c[y]).sum() + d[y].sum()
            ((normaliser * totals[first:last]).sum() - observed).backward()  # type: ignore[no-untyped-call]  # torch
        (0.5 * ridge * (a.square().sum() + c.square().sum())).backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
        schedule.step()
    return (
        a.detach().numpy().astype(np.float64),
        c.detach().numpy().astype(np.float64),
        d.detach().numpy().astype(np.float64),
    )


def _log_normaliser(
    a: NDArray[np.float64], c: NDArray[np.float64], d: NDArray[np.float64]
) -> NDArray[np.float64]:
    height = max(1, _CHUNK // len(d))
    parts = []
    for first in range(0, len(a), height):
        logit = a[first : first + height] @ c.T + d
        top = logit.max(1)
        parts.append(top + np.log(np.exp(logit - top[:, None]).sum(1)))
    return np.concatenate(parts) if parts else np.zeros(0)


def _negative_log_likelihood(
    log: EventLog, a: NDArray[np.float64], c: NDArray[np.float64], d: NDArray[np.float64]
) -> float:
    logit = (a[log.user] * c[log.item]).sum(-1) + d[log.item]
    return float((_log_normaliser(a, c, d)[log.user] - logit).mean())
