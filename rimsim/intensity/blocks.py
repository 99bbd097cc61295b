"""Row blocks of one fixed size, so that a row's bits do not depend on which rows it is computed with.

A matrix product picks its kernel by the shapes: one row alone differs in its last bits from the same row
among others. Everything that a model computes for states therefore runs on exactly :data:`BLOCK` rows, or
:data:`STEP` where hidden states take an event, the last block filled up with zeros. On one thread the same state then
gives the same bits in any batch and at any position of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

BLOCK = 128
"""Rows of a block."""
STEP = 64
"""Rows of a block in which codes take an event: fewer users than come in a block have consumed something since."""


def spans(n: int, height: int = BLOCK) -> Iterator[tuple[int, int]]:
    """The (first, past-the-last) rows of each block of n rows."""
    for first in range(0, n, height):
        yield first, min(first + height, n)


def padded(tensor: torch.Tensor, height: int = BLOCK) -> torch.Tensor:
    """(height, …) at most so many rows followed by rows of zeros; the tensor itself if it is full."""
    missing = height - tensor.shape[0]
    if missing == 0:
        return tensor.contiguous()
    return torch.cat([tensor, tensor.new_zeros((missing, *tensor.shape[1:]))])


def in_blocks(
    function: Callable[..., torch.Tensor], *rows: torch.Tensor, height: int = BLOCK
) -> torch.Tensor:
    """(n, …) what a row-wise function gives for n rows, computed block by block.

    Args:
        function: Takes one (height, …) tensor for each of ``rows`` and returns one (height, …) tensor.
        *rows: Tensors with n rows each.
        height: Rows of a block; always the same for one kind of computation.
    """
    n = rows[0].shape[0]
    if n == height:
        return function(*(tensor.contiguous() for tensor in rows))
    parts = [function(*(padded(t[a:b], height) for t in rows))[: b - a] for a, b in spans(n, height)]
    return torch.cat(parts) if parts else function(*(padded(t, height) for t in rows))[:0]
