"""The loss of the next few events: one softmax a position says something of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx


_ROWS = 512
"""Positions whose logits are held at once; few enough for a processor's cache."""


class _Loss(torch.autograd.Function):
    """Mean cross-entropy over weighted labels, with gradients taken while the logits are there."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: torch.Tensor,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        label: torch.Tensor,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        row = weight.sum(1, keepdim=True)
        total = row.sum()
        of_hidden, of_vectors = torch.empty_like(hidden), torch.zeros_like(vectors)
        of_bias, loss = torch.zeros_like(bias), hidden.new_zeros(())
        for start in range(0, len(hidden), _ROWS):
            rows = slice(start, start + _ROWS)
            logits = torch.addmm(bias, hidden[rows], vectors.T)
            of_labels = logits.gather(1, label[rows])
            most = logits.amax(1, keepdim=True)
            logits.sub_(most).exp_()
            norm = logits.sum(1, keepdim=True)
            loss += (weight[rows] * (most + norm.log() - of_labels)).sum()
            slope = logits.mul_(row[rows] / norm).scatter_add_(1, label[rows], -weight[rows]).div_(total)
            of_hidden[rows] = slope @ vectors
            of_vectors.addmm_(slope.T, hidden[rows])
            of_bias += slope.sum(0)
        ctx.save_for_backward(of_hidden, of_vectors, of_bias)
        return loss / total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (by,) = outer
        of_hidden, of_vectors, of_bias = ctx.saved_tensors
        return of_hidden * by, of_vectors * by, of_bias * by, None, None


def next_events_loss(
    hidden: torch.Tensor, vectors: torch.Tensor, bias: torch.Tensor, label: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Mean of −log softmax(V h + b) at the labels, each with its weight.

    With one label of weight 1 a position it is the cross-entropy. The softmax over M items is what training costs;
    here one of them learns from all labels of its position, its logits are made in blocks, and gradients are taken
    before a block is let go, so that no (p, M) matrix is ever held.

    Args:
        hidden: (p, W) outputs at the predicted positions, h.
        vectors: (M, W) item vectors, V.
        bias: (M,) item biases, b.
        label: (p, K) int64 items.
        weight: (p, K) their weights, not all 0.

    Returns:
        A scalar, nats.
    """
    loss: torch.Tensor = _Loss.apply(hidden, vectors, bias, label, weight)  # type: ignore[no-untyped-call,unused-ignore]
    return loss
