"""The vector of a user from the sum of what it consumed: a small concave problem by a fixed number of Newton steps."""

from __future__ import annotations

import torch


def folded(
    total: torch.Tensor,
    count: torch.Tensor,
    vectors: torch.Tensor,
    offset: torch.Tensor,
    ridge: float,
    steps: int,
) -> torch.Tensor:
    """(n, R) the u that maximise ⟨total, u⟩ − count·log Σ_y exp(⟨u, c_y⟩ + d_y) − ridge/2·‖u‖².

    That is the penalised likelihood of ``count`` items whose vectors sum to ``total``. A Newton step Δ is shortened to
    log(1 + β)/β of its length, β = 2·max‖c‖·‖Δ‖, under which it never goes too far (Sun and Tran-Dinh, Mathematical
    Programming 2019: the log of a sum of exponentials is self-concordant in their general sense).

    Args:
        total: (n, R) Σ c_i over a user's items.
        count: (n,) their number.
        vectors: (M, R) c.
        offset: (M,) d.
        ridge: Positive penalty.
        steps: Newton steps, the same for every user.
    """
    rank = vectors.shape[1]
    pairs = (vectors[:, :, None] * vectors[:, None, :]).reshape(-1, rank * rank)
    penalty = ridge * torch.eye(rank, dtype=vectors.dtype, device=vectors.device)
    reach = 2.0 * vectors.norm(dim=1).amax()
    u = torch.zeros_like(total)
    for _ in range(steps):
        share = torch.softmax(torch.addmm(offset, u, vectors.T), 1)
        mean = share @ vectors
        slope = total - count[:, None] * mean - ridge * u
        spread = (share @ pairs).reshape(-1, rank, rank) - mean[:, :, None] * mean[:, None, :]
        delta = torch.linalg.solve(count[:, None, None] * spread + penalty, slope)
        u = shortened(u, delta, reach)
    return u


def shortened(u: torch.Tensor, delta: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """(n, R) u after Newton steps Δ (n, R) that are shortened so that none goes too far; see :func:`folded`.

    Args:
        u: (n, R).
        delta: (n, R) Δ.
        reach: 2·max‖c‖.
    """
    beta = (reach * delta.norm(dim=1, keepdim=True)).clamp(min=1e-6)
    step: torch.Tensor = delta * (torch.log1p(beta) / beta)
    return u + step
