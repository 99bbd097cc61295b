"""Measures of exposure: how counts spread over the catalogue, and whether guarantees were kept.

Every function takes one count an item, zeros included: E_y exposures of item y, M items, b_y required
exposures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Bools, Floats, Ints
from rimsim.errors import DataError
from rimsim.measures._checks import as_counts, as_slates, same_length

_GRID = 1 << 20
"""Weights of positions are multiples of 1/2²⁰, so that sums of them are exact, in whatever order they are added."""


def exposure_counts(slates: ArrayLike, n_items: int) -> Ints:
    """Exposures of each item: E_y = how many slate positions hold y.

    Args:
        slates: (n, k) item indices; −1 = empty position.
        n_items: Size of the catalogue, M.

    Returns:
        (M,) counts; their sum is the number of filled positions.
    """
    shown = as_slates(slates, n_items)
    return np.bincount(shown[shown >= 0], minlength=n_items).astype(np.int64)


def examined_exposure(slates: ArrayLike, gamma: float, n_items: int) -> Floats:
    """Exposure weighted by the chance of examination: Σ γ^(r−1) over the positions r that hold the item.

    Args:
        slates: (n, k) item indices in order of position; −1 = empty position.
        gamma: γ in [0, 1], the chance that the next position is examined (geometric examination; Craswell et al.,
            WSDM 2008; rank-biased precision of Moffat and Zobel, TOIS 2008).
        n_items: Size of the catalogue, M.

    Returns:
        (M,) expected examinations; with γ = 1 these are the exposures.
    """
    shown = as_slates(slates, n_items)
    return weighted_exposure(shown, position_weights(gamma, shown.shape[1]), n_items)


def weighted_exposure(slates: ArrayLike, weights: ArrayLike, n_items: int) -> Floats:
    """Exposure in the unit of a guarantee: the sum of the weights of the positions that hold each item.

    Args:
        slates: (n, k) item indices in order of position; −1 = empty position.
        weights: (k,) what an exposure at each position counts, such as :func:`position_weights`, or 1.
        n_items: Size of the catalogue, M.

    Returns:
        (M,) weighted exposures.
    """
    shown = as_slates(slates, n_items)
    each = np.broadcast_to(np.asarray(weights, np.float64), shown.shape)
    filled = shown >= 0
    return np.bincount(shown[filled], weights=each[filled], minlength=n_items).astype(np.float64)


def position_weights(gamma: float, k: int) -> Floats:
    """(k,) γ^(r−1), the share of visitors who look at position r = 1 … k, in multiples of 2^−20.

    Rounded so that sums of them are exact in float64: what an item was shown does not depend on the order in which its
    exposures are added up.

    Args:
        gamma: γ in [0, 1].
        k: Positions of a slate.
    """
    if not 0 <= gamma <= 1:
        raise DataError(f"gamma: {gamma}; allowed: 0 to 1")
    return np.asarray(np.rint(gamma ** np.arange(k, dtype=np.float64) * _GRID) / _GRID, np.float64)


def mean_weight(weights: ArrayLike) -> float:
    """What an exposure at an average position counts; on the grid of :func:`position_weights`, 1 without positions.

    A requirement of b exposures is b times this in the unit of the weights, and exactly b when it is divided by it.
    """
    each = np.asarray(weights, np.float64)
    return float(np.rint(each.mean() * _GRID) / _GRID) if len(each) else 1.0


def gini(counts: ArrayLike) -> float:
    """Gini index of the counts: Σ_i (2i − M − 1)·E_(i) / (M·ΣE), E ascending, zeros included.

    It is half the mean absolute difference of two items over the mean (Gini 1912); 0 when all are equal, 1 −
    1/M when one item has everything, 0 by convention when nothing was counted. The same function measures
    the exposure of a round (``gini``) and the platform's training log (``log_gini``). It depends on the
    sample's size: for logs of different length compare :func:`effective_items`.
    """
    ascending = np.sort(as_counts(counts, "counts"))
    total = ascending.sum()
    if total == 0:
        return 0.0
    m = len(ascending)
    return float((2 * np.arange(1, m + 1) - m - 1) @ (ascending / total) / m)


def lorenz(counts: ArrayLike) -> Floats:
    """Lorenz curve: share of all counts that the i least counted items hold together, i = 0…M.

    Returns:
        (M + 1,) ascending from 0 to 1, convex; the equality line if nothing was counted. Twice the area
        between it and the diagonal (trapezoids over i/M) is the Gini index (Lorenz 1905).
    """
    ascending = np.sort(as_counts(counts, "counts"))
    total = ascending.sum()
    if total == 0:
        return np.linspace(0.0, 1.0, len(ascending) + 1)
    curve = np.zeros(len(ascending) + 1)
    np.cumsum(ascending / total, out=curve[1:])
    return np.minimum(curve, 1.0)


def coverage(counts: ArrayLike) -> float:
    """Share of the catalogue with E > 0; 0 for an empty catalogue."""
    values = as_counts(counts, "counts")
    return float((values > 0).mean()) if len(values) else 0.0


def perplexity(counts: ArrayLike) -> float:
    """Perplexity exp(−Σ p_y ln p_y) with p = E/ΣE: how many equally exposed items would be as diverse.

    The diversity measure of Ma et al. (ICLR 2022); the exponential of Shannon's entropy.

    Returns:
        Between 1 and the number of items with E > 0; 0 by convention if nothing was counted.
    """
    values = as_counts(counts, "counts")
    total = values.sum()
    if total == 0:
        return 0.0
    share = values[values > 0] / total
    return float(np.exp(-np.sum(share * np.log(share))))


def effective_items(counts: ArrayLike) -> float:
    """Effective number of items, free of the sample's size: N(N−1) / Σ n(n−1), N = Σn.

    The inverse of the unbiased estimate that two draws meet in one item (Simpson, Nature 1949; Hurlbert,
    Ecology 1971). Unlike Gini and coverage, its expectation hardly moves with N, so that logs of different
    length compare.

    Returns:
        The estimate (it may exceed M by chance); M if no item was counted twice, as then nothing speaks
        against a uniform spread; 0 if nothing was counted.
    """
    values = as_counts(counts, "counts")
    total = float(values.sum())
    if total == 0:
        return 0.0
    meetings = float(np.sum(values * (values - 1)))
    return total * (total - 1) / meetings if meetings > 0 else float(len(values))


def shortfall_units(exposure: ArrayLike, required: ArrayLike) -> float:
    """Σ_y (b_y − E_y)₊, in exposures."""
    given, wanted = _pair(exposure, required)
    return float(np.maximum(wanted - given, 0).sum())


def shortfall(exposure: ArrayLike, required: ArrayLike) -> float:
    """Σ_y (b_y − E_y)₊ / Σ_y b_y: the share of the guaranteed exposure that was not delivered; 0 if Σb = 0.

    Args:
        exposure: (M,) exposures.
        required: (M,) required exposures b.
    """
    total = float(as_counts(required, "required").sum())
    return shortfall_units(exposure, required) / total if total > 0 else 0.0


def examined_shortfall(slates: ArrayLike, required: ArrayLike, gamma: float) -> float:
    """Shortfall of expected examinations: Σ(b̃ − Ẽ)₊ / Σb̃ with Ẽ = Σγ^(r−1) and b̃ = b·mean_r γ^(r−1), r = 1…k.

    A guarantee kept at average positions has none; one kept at the bottom of slates has. With γ = 1 it is
    :func:`shortfall`.

    Args:
        slates: (n, k) item indices in order of position; −1 = empty position.
        required: (M,) required exposures b.
        gamma: γ in [0, 1].
    """
    wanted = as_counts(required, "required")
    shown = as_slates(slates, len(wanted))
    weights = position_weights(gamma, shown.shape[1])
    return shortfall(weighted_exposure(shown, weights, len(wanted)), wanted * mean_weight(weights))


def excess(exposure: ArrayLike, most: ArrayLike) -> float:
    """Σ_j (E_j − most_j)₊, in exposures: what was shown above caps; ∞ is no cap.

    Args:
        exposure: (J,) exposures.
        most: (J,) exposures allowed.
    """
    given, allowed = as_counts(exposure, "exposure"), np.asarray(most, np.float64)
    same_length(given, allowed, "exposure and most")
    return float(np.maximum(given - allowed, 0.0).sum())


def items_met(exposure: ArrayLike, required: ArrayLike) -> float:
    """Share of the items with b > 0 that have E ≥ b; 1 if no item is guaranteed anything."""
    given, wanted = _pair(exposure, required)
    guaranteed = wanted > 0
    return float((given >= wanted)[guaranteed].mean()) if guaranteed.any() else 1.0


def worst_ratio(exposure: ArrayLike, required: ArrayLike) -> float:
    """Least E/b over the items with b > 0; above 1 if all have more than they must, 1 if b = 0 for all."""
    given, wanted = _pair(exposure, required)
    guaranteed = wanted > 0
    return float((given[guaranteed] / wanted[guaranteed]).min()) if guaranteed.any() else 1.0


def prices_at_bound(item_price: ArrayLike, required: ArrayLike, cost: float) -> float:
    """Share of the items with b > 0 whose price is as low as it may be, v = −c: what they lack costs more than c buys.

    Args:
        item_price: (M,) prices v, of which a guarantee's is in [−c, 0].
        required: (M,) required exposures b.
        cost: c.

    Returns:
        The share; 0 if no item is guaranteed anything.
    """
    price, wanted = np.asarray(item_price, np.float64), as_counts(required, "required")
    same_length(price, wanted, "item_price and required")
    guaranteed = wanted > 0
    return float((price <= -cost * (1 - 1e-9))[guaranteed].mean()) if guaranteed.any() else 0.0


def average_popularity(exposure: ArrayLike, popularity: ArrayLike) -> float:
    """Mean popularity of what was shown over the catalogue's mean: (Σ E·q / ΣE) / (Σq / M).

    Args:
        exposure: (M,) exposures.
        popularity: (M,) counts q of the log at round 0. They stay frozen there: otherwise the measure would
            follow the loop that it is to reveal (average recommendation popularity; Yin et al., VLDB 2012,
            normalised).

    Returns:
        1 for a uniform spread; 0 if nothing was shown or nothing was popular.
    """
    given = as_counts(exposure, "exposure")
    popular = as_counts(popularity, "popularity")
    same_length(given, popular, "exposure and popularity")
    shown, mean = given.sum(), popular.mean() if len(popular) else 0.0
    return float(given @ popular / shown / mean) if shown > 0 and mean > 0 else 0.0


def binding_items(unconstrained: ArrayLike, required: ArrayLike) -> Bools:
    """Items whose guarantee binds: b > E where E is what they got without guarantees (the relevance agent's).

    Args:
        unconstrained: (M,) exposures of the same arrivals under an agent that knows no guarantees.
        required: (M,) required exposures b.

    Returns:
        (M,) mask.
    """
    given, wanted = _pair(unconstrained, required)
    return np.asarray(wanted > given, np.bool_)


def who_pays(slates: ArrayLike, binding: ArrayLike, ground_intensity: ArrayLike, bins: int = 10) -> Floats:
    """Who carries the guarantees: positions a slate given to items whose guarantee binds, by decile of λ(x).

    Arrivals are put in order of λ and cut into ``bins`` groups of equal size (ties keep their order of
    arrival).

    Args:
        slates: (n, k) item indices; −1 = empty position.
        binding: (M,) mask of the items, such as :func:`binding_items` or v_y < 0.
        ground_intensity: (n,) λ(x) of the arrivals.
        bins: How many groups; 10 = deciles.

    Returns:
        (bins,) mean positions a slate from the lowest λ to the highest; 0 for a group that got no arrival.
    """
    mask = np.asarray(binding, np.bool_)
    shown = as_slates(slates, len(mask))
    intensity = as_counts(ground_intensity, "ground_intensity")
    same_length(shown, intensity, "slates and ground_intensity")
    group = np.empty(len(shown), np.int64)
    group[np.argsort(intensity, kind="stable")] = np.arange(len(shown)) * bins // max(len(shown), 1)
    held = (mask[shown] & (shown >= 0)).sum(axis=1) if len(mask) else np.zeros(len(shown))
    size = np.bincount(group, minlength=bins)
    return np.asarray(np.bincount(group, weights=held, minlength=bins) / np.maximum(size, 1), np.float64)


def _pair(exposure: ArrayLike, required: ArrayLike) -> tuple[Floats, Floats]:
    given, wanted = as_counts(exposure, "exposure"), as_counts(required, "required")
    same_length(given, wanted, "exposure and required")
    return given, wanted
