"""Serving at given prices: the top k of s − v, with seeded ties."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled
from rimsim.errors import ConfigError
from rimsim.matching._best import best_items
from rimsim.matching._kernels import row_states
from rimsim.matching.problem import as_array

if TYPE_CHECKING:
    import torch


@compiled
def _rank_rows(
    scores: NDArray[np.floating],
    v: Floats,
    admissible: Bools,
    rows: NDArray[np.uint64],
    tie_width: float,
    slates: Ints,
) -> None:
    """The best items of s − v in every row."""
    n, k = slates.shape
    masked = admissible.shape[0] == n
    value, best = np.empty(len(v), np.float64), np.empty(k, np.float64)
    for row in range(n):
        of_row = scores[row]
        for item in range(len(v)):
            worth = of_row[item] - v[item]
            value[item] = worth if worth >= 0.0 else -np.inf
        if masked:
            shown = admissible[row]
            for item in range(len(v)):
                value[item] = value[item] if shown[item] else -np.inf
        size = best_items(value, rows[row], slates[row], best, tie_width)
        slates[row, size:] = -1


def _shape(values: object) -> tuple[int, ...]:
    """Of an array, a nested list or a tensor, wherever it lies."""
    return tuple(np.shape(cast("ArrayLike", values)))


def _on_gpu(scores: object) -> TypeGuard[torch.Tensor]:
    """True if scores are a tensor on another device than the CPU, without importing torch."""
    return getattr(getattr(scores, "device", None), "type", "cpu") != "cpu"


def price_slates(
    scores: object,
    v: ArrayLike,
    k: int,
    *,
    admissible: object | None = None,
    tie_seed: int = 0,
    row_keys: ArrayLike | None = None,
    tie_width: float = 0.0,
) -> Ints:
    """Answer every row with its k items of largest s − v.

    A row's slate depends on its scores, its key and the seed alone, never on the other rows of the batch.

    Args:
        scores: (n, M) array or torch tensor.
        v: (M,) item prices; a bonus is negative.
        k: Positions of a slate.
        admissible: (n, M) pairs that may be shown; None for all.
        tie_seed: Seed of the order among ties.
        row_keys: (n,) whole numbers that identify the rows, such as arrival ids; None: 0 to n − 1 within this
            batch.
        tie_width: Values s − v that differ by less may change places by seed (a dither, uniform below this
            width is added to each): it spreads identical states over the items that the prices leave nearly
            tied, such as ``DualSolution.resolution``. 0 breaks exact ties only.

    Returns:
        (n, k) items in descending order; −1 where no admissible item with s − v ≥ 0 is left.

    Raises:
        ConfigError: If an argument does not fit.
    """
    shape = _shape(scores)
    if len(shape) != 2:
        raise ConfigError(f"price_slates: scores have shape {shape}; allowed: (n, M)")
    n, m = shape
    price = np.ascontiguousarray(np.broadcast_to(as_array(v).astype(np.float64), (m,)))
    if k < 0:
        raise ConfigError(f"price_slates: k is {k}; allowed: a number of at least 0")
    if not tie_width >= 0:
        raise ConfigError(f"price_slates: tie_width is {tie_width}; allowed: a number of at least 0")
    if admissible is not None and _shape(admissible) != (n, m):
        raise ConfigError(
            f"price_slates: admissible has shape {_shape(admissible)}; allowed: that of the scores, ({n}, {m})"
        )
    keys = np.arange(n) if row_keys is None else as_array(row_keys)
    if keys.shape != (n,):
        raise ConfigError(f"price_slates: row_keys have shape {keys.shape}; allowed: ({n},)")
    if _on_gpu(scores):
        from rimsim.matching._device import ranked  # noqa: PLC0415  # torch only where a tensor came

        mask_there = cast("torch.Tensor | None", admissible)
        return ranked(scores, price, k, mask_there, row_states(tie_seed, keys), float(tie_width))
    matrix = as_array(scores)
    if matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float64)
    mask = np.ones((0, m), bool) if admissible is None else as_array(admissible).astype(bool, copy=False)
    slates = np.full((n, k), -1, np.int64)
    if k > 0 and n > 0:
        _rank_rows(matrix, price, mask, row_states(tie_seed, keys), float(tie_width), slates)
    return slates
