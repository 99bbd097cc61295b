"""Measures of relevance and of allocation: what the slates were worth.

For n arrivals with k positions each; a hit is a shown item that is relevant (consumed, or in the logged
future).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Bools, Floats
from rimsim.errors import DataError
from rimsim.measures._checks import as_counts, same_length
from rimsim.measures.exposure import excess, shortfall_units


def precision(hits: ArrayLike) -> float:
    """Σ hits / (n·k): the share of positions that hold a relevant item.

    An empty position counts as a miss (Ma et al., ICLR 2022), so that leaving positions empty cannot raise
    it.

    Args:
        hits: (n, k) bool.

    Returns:
        Between 0 and 1; 0 if there is no position.
    """
    hit = _hits(hits)
    return float(hit.mean()) if hit.size else 0.0


def recall(hits: ArrayLike, relevant: ArrayLike) -> float:
    """Mean over the arrivals with a relevant item of hits / relevant items.

    Arrivals without one are left out, as nothing could be found for them; precision counts them.

    Args:
        hits: (n, k) bool.
        relevant: (n,) relevant items of each arrival, shown or not; or how many are expected, such as λ*(x).

    Returns:
        Between 0 and 1 where relevant items are counted; with expectations it may exceed 1 by chance. 0 if no
        arrival has a relevant item.
    """
    hit, number = _hits(hits), as_counts(relevant, "relevant")
    same_length(hit, number, "hits and relevant")
    has_relevant = number > 0
    return float((hit.sum(axis=1)[has_relevant] / number[has_relevant]).mean()) if has_relevant.any() else 0.0


def ndcg(hits: ArrayLike, relevant: ArrayLike) -> float:
    """Mean of :func:`slate_ndcg` over the arrivals with a relevant item.

    Args:
        hits: (n, k) bool in order of position.
        relevant: (n,) relevant items of each arrival, shown or not.

    Returns:
        Between 0 and 1; 0 if no arrival has a relevant item.
    """
    of_slates = slate_ndcg(hits, relevant)
    there = ~np.isnan(of_slates)
    return float(of_slates[there].mean()) if there.any() else 0.0


def slate_ndcg(hits: ArrayLike, relevant: ArrayLike) -> Floats:
    """DCG / ideal DCG of each slate, with gain 1 and discount 1/log₂(r + 1).

    The ideal slate holds min(k, relevant) hits at its top (Järvelin and Kekäläinen, TOIS 2002).

    Args:
        hits: (n, k) bool in order of position.
        relevant: (n,) relevant items of each arrival, shown or not.

    Returns:
        (n,) between 0 and 1; NaN for an arrival without a relevant item.
    """
    hit, number = _hits(hits), as_counts(relevant, "relevant")
    same_length(hit, number, "hits and relevant")
    if (over := hit.sum(axis=1) > number).any():
        row = int(np.flatnonzero(over)[0])
        raise DataError(f"relevant[{row}]: {number[row]:g}; allowed: at least its {hit[row].sum()} hits")
    has_relevant = number > 0
    k = hit.shape[1]
    found = np.full(len(hit), np.nan)
    if not has_relevant.any() or k == 0:
        return found
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(number[has_relevant].astype(np.int64), k) - 1]
    found[has_relevant] = hit[has_relevant] @ discount / ideal
    return found


def per_slate(values: ArrayLike) -> float:
    """Mean worth of a slate: Σ over its positions, mean over arrivals.

    Of true consumption probabilities it is ``utility``, of draws (0 or 1) ``consumptions``.

    Args:
        values: (n, k) what each position is worth; 0 where it is empty.

    Returns:
        The mean worth of a slate; 0 if there is none.
    """
    worth = np.asarray(values, np.float64)
    if worth.ndim != 2:
        raise DataError(f"values: an array of shape {worth.shape}; allowed: (arrivals, positions)")
    return float(worth.sum(axis=1).mean()) if len(worth) else 0.0


def penalised_value(
    worth: ArrayLike,
    exposure: ArrayLike,
    required: ArrayLike,
    cost: float,
    most: ArrayLike = np.inf,
) -> float:
    """V = Σ worth − c·(Σ(b − E)₊ + Σ(E − most)₊), in float64.

    With model scores as worth it is ``value_model``, with true intensities ``value_true``, with realised
    consumptions (0 or 1) ``return``. Three values, never to be confused.

    Args:
        worth: Worth of the filled positions, any shape; 0 where a position is empty.
        exposure: (R,) exposures of items, and of whatever else something is asked for.
        required: (R,) required exposures b.
        cost: c, the price of one exposure of shortfall, and of one above a cap.
        most: (R,) exposures that are allowed, or one number; ∞: any.
    """
    over = excess(exposure, np.broadcast_to(np.asarray(most, np.float64), np.shape(exposure)))
    missing = shortfall_units(exposure, required) + over
    return float(np.asarray(worth, np.float64).sum() - cost * missing)


def _hits(hits: ArrayLike) -> Bools:
    hit = np.asarray(hits, np.bool_)
    if hit.ndim != 2:
        raise DataError(f"hits: an array of shape {hit.shape}; allowed: (arrivals, positions)")
    return hit
