"""Rankings of items and users, with or without prices.

Ties are broken by seed. Tensors are ranked on their device, with the same slates as arrays. torch is imported only for
tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled
from rimsim.errors import ConfigError, refuse
from rimsim.matching.kernels import GOLDEN, MIX_1, MIX_2, best_items, best_rows, order_items, row_states
from rimsim.matching.problem import as_array

if TYPE_CHECKING:
    import torch

_SIGN = -(2**63)  # flips the sign bit, so that signed numbers sort as the unsigned numbers with the same bits


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
    """Slates of the k items of largest s − v.

    A row's slate depends on its scores, its key and the seed alone, never on the other rows of the batch.

    Args:
        scores: (n, M) array or torch tensor.
        v: (M,) item prices; a bonus is a negative price.
        k: Number of positions of a slate.
        admissible: (n, M) mask of pairs that may be shown; None: all pairs.
        tie_seed: Seed of the order among ties.
        row_keys: (n,) whole numbers that identify the rows, such as arrival ids; None: 0 to n − 1 within this
            batch.
        tie_width: Width of near ties, such as ``DualSolution.resolution``. A random number below this width is added
            to each s − v, so that identical states get different items. A width of 0 breaks exact ties only.

    Returns:
        (n, k) items in descending order; −1 where no admissible item with s − v ≥ 0 is left.

    Raises:
        ConfigError: If an argument has a wrong type, shape or value.
    """
    caller = "price_slates"
    shape = _shape(scores)
    if len(shape) != 2:
        refuse(ConfigError, caller, f"scores have shape {shape}", "(n, M)")
    n, m = shape
    price = np.ascontiguousarray(np.broadcast_to(as_array(v).astype(np.float64), (m,)))
    if k < 0:
        refuse(ConfigError, caller, f"k is {k}", "a number of at least 0")
    if not tie_width >= 0:
        refuse(ConfigError, caller, f"tie_width is {tie_width}", "a number of at least 0")
    if admissible is not None and _shape(admissible) != (n, m):
        allowed = f"the shape of the scores, ({n}, {m})"
        refuse(ConfigError, caller, f"admissible has shape {_shape(admissible)}", allowed)
    keys = np.arange(n) if row_keys is None else as_array(row_keys)
    if keys.shape != (n,):
        refuse(ConfigError, caller, f"row_keys have shape {keys.shape}", f"({n},)")
    rows = row_states(tie_seed, keys)
    if _on_gpu(scores):
        device_mask = cast("torch.Tensor | None", admissible)
        return device_slates(scores, price, k, device_mask, rows, float(tie_width))
    matrix = as_array(scores)
    if matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float64)
    mask = np.ones((0, m), bool) if admissible is None else as_array(admissible).astype(bool, copy=False)
    slates = np.full((n, k), -1, np.int64)
    if k > 0 and n > 0:
        _rank_rows(matrix, price, mask, rows, float(tie_width), slates)
    return slates


def top_k(
    scores: torch.Tensor | NDArray[np.floating], admissible: torch.Tensor | NDArray[np.generic], k: int
) -> Ints:
    """Slates of the k admissible items of largest score.

    Args:
        scores: (n, M) finite scores, a tensor or an array.
        admissible: Mask of pairs that may be shown: bool, or int8 with 0 and 1, of shape (n, M) or
            broadcastable to (n, M).
        k: Number of positions of a slate.

    Returns:
        (n, k) items in descending order of score; −1 if a row has fewer than k admissible items.
    """
    if not isinstance(scores, np.ndarray):
        if scores.device.type != "cpu":
            return device_top_k(scores, cast("torch.Tensor", admissible).bool(), k)
        scores = scores.numpy()
        admissible = np.asarray(admissible)
    mask = np.asarray(admissible)
    mask = mask.view(np.bool_) if mask.dtype.itemsize == 1 else mask.astype(np.bool_)
    if scores.dtype != np.float32:
        return _torch_top_k(scores, mask, k)
    if mask.shape != scores.shape:
        mask = np.broadcast_to(mask, scores.shape).copy()
    items = np.empty((len(scores), k), np.int64)
    is_tied = best_rows(scores, mask, items)
    if np.count_nonzero(is_tied):  # torch decides ties, as it does for all other types of scores
        items[is_tied] = _torch_top_k(scores[is_tied], mask[is_tied], k)
    return items


def ordered_by(items: object, scores: object) -> Ints:
    """Slates in descending order of scores.

    Args:
        items: (n, k) slates, such as those of :func:`~rimsim.matching.price_slates`; −1 for an empty position.
        scores: (n, M) array or tensor.

    Returns:
        (n, k) sorted slates; items of equal scores keep their order, and empty positions come last.
    """
    ordered = np.array(as_array(items), np.int64)
    _order_rows(ordered, as_array(scores))
    return ordered


def user_rec(
    scores: object,
    c: int,
    *,
    admissible: object | None = None,
    tie_seed: int = 0,
    row_keys: ArrayLike | None = None,
) -> Ints:
    """The c users of largest intensity for every item.

    The function is the user recommendation of Ma, Liu and Deoras (ICLR 2022).

    Args:
        scores: (n, M) intensities λ(x,y), or (n,) for a single item; array or torch tensor.
        c: Number of users to find for each item.
        admissible: Mask of pairs that may be shown, in the shape of the scores; None: all pairs.
        tie_seed: Seed of the order among users of equal score.
        row_keys: (M,) whole numbers that identify the items in tie-breaking; None: 0 to M − 1.

    Returns:
        (M, c) users in descending order of score, −1 if fewer than c are admissible; (c,) for a single item.
    """
    matrix = as_array(scores)
    if matrix.ndim not in (1, 2):
        refuse(ConfigError, "user_rec", f"scores have shape {matrix.shape}", "(n, M), or (n,) for one item")
    rows = np.ascontiguousarray(np.atleast_2d(matrix.T))
    mask = None
    if admissible is not None:
        mask = np.ascontiguousarray(np.atleast_2d(as_array(admissible).astype(bool).T))
    users = price_slates(
        rows, np.zeros(rows.shape[1]), c, admissible=mask, tie_seed=tie_seed, row_keys=row_keys
    )
    return users[0] if matrix.ndim == 1 else users


@compiled
def _rank_rows(
    scores: NDArray[np.floating],
    v: Floats,
    admissible: Bools,
    rows: NDArray[np.uint64],
    tie_width: float,
    slates: Ints,
) -> None:
    """Fill ``slates`` with the items of largest s − v."""
    n, k = slates.shape
    has_mask = admissible.shape[0] == n
    value = np.empty(len(v), np.float64)
    best = np.empty(k, np.float64)
    for row in range(n):
        row_scores = scores[row]
        for item in range(len(v)):
            margin = row_scores[item] - v[item]
            value[item] = margin if margin >= 0.0 else -np.inf
        if has_mask:
            is_admissible = admissible[row]
            for item in range(len(v)):
                value[item] = value[item] if is_admissible[item] else -np.inf
        size = best_items(value, rows[row], slates[row], best, tie_width)
        slates[row, size:] = -1


@compiled
def _order_rows(items: Ints, scores: NDArray[np.floating]) -> None:
    """Put each slate in descending order of scores, in place."""
    for row in range(len(items)):
        order_items(items[row], scores[row])


def _shape(values: object) -> tuple[int, ...]:
    """Shape of an array, list or tensor on any device."""
    return tuple(np.shape(cast("ArrayLike", values)))


def _on_gpu(scores: object) -> TypeGuard[torch.Tensor]:
    """True if scores are a tensor outside main memory."""
    return getattr(getattr(scores, "device", None), "type", "cpu") != "cpu"


def _torch_top_k(scores: NDArray[np.floating], admissible: Bools, k: int) -> Ints:
    """(n, k) items of largest score, found by torch."""
    import torch  # noqa: PLC0415  # slow to import; needed only for ties and for scores that are not float32

    return device_top_k(torch.from_numpy(scores), torch.from_numpy(admissible), k)


def device_top_k(scores: torch.Tensor, admissible: torch.Tensor, k: int) -> Ints:
    """(n, k) admissible items of largest score in each row."""
    masked = scores.masked_fill(~admissible, -np.inf)
    values, items = masked.topk(min(k, masked.shape[1]), dim=1)
    return _padded(items.masked_fill(values == -np.inf, -1), k)


def device_slates(
    scores: torch.Tensor,
    price: Floats,
    k: int,
    admissible: torch.Tensor | None,
    rows: NDArray[np.uint64],
    tie_width: float,
) -> Ints:
    """Slates of :func:`price_slates`, ranked on the scores' device.

    ``rows`` has random bits of each row, which decide ties.
    """
    import torch  # noqa: PLC0415  # slow to import, and only tensors need it

    # The prices are copied, because PyTorch warns of an array that it may not write to.
    value = scores.double() - torch.tensor(price, device=scores.device)
    is_excluded = value < 0
    if admissible is not None:
        is_excluded |= ~admissible
    row_words = torch.from_numpy(rows.view(np.int64)).to(scores.device)
    rank = _tie_ranks(row_words, torch.arange(scores.shape[1], device=scores.device))
    value += tie_width * (_shifted(rank, 11).double() * 2.0**-53)
    value.masked_fill_(is_excluded, -torch.inf)
    # Items are sorted by rank first. The second sort is stable, so items of equal value stay in the order of their
    # ranks.
    order = (rank ^ _SIGN).argsort(dim=1, descending=True)
    by_rank = value.gather(1, order)
    top_ranks = by_rank.argsort(dim=1, descending=True, stable=True)[:, :k]
    items = torch.where(by_rank.gather(1, top_ranks) > -torch.inf, order.gather(1, top_ranks), -1)
    return _padded(items, k)


def _padded(items: torch.Tensor, k: int) -> Ints:
    """(n, k) items; −1 in the columns that they lack."""
    slates = np.full((len(items), k), -1, np.int64)
    slates[:, : items.shape[1]] = items.cpu().numpy()
    return slates


def _tie_ranks(rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """(n, M) results of :func:`~rimsim.matching.tie_rank`, as signed numbers."""
    golden = _signed(GOLDEN)
    return _mixed((rows[:, None] ^ _mixed(items + golden)[None, :]) + golden)


def _mixed(word: torch.Tensor) -> torch.Tensor:
    """Mixing step of SplitMix64, on signed numbers."""
    word = (word ^ _shifted(word, 30)) * _signed(MIX_1)
    word = (word ^ _shifted(word, 27)) * _signed(MIX_2)
    return word ^ _shifted(word, 31)


def _shifted(word: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical shift to the right; torch's shift keeps the sign."""
    return (word >> bits).bitwise_and(2 ** (64 - bits) - 1)


def _signed(word: int) -> int:
    """Signed number with the same 64 bits."""
    return word - 2**64 if word >= 2**63 else word
