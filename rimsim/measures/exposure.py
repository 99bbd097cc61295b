"""Measures of exposure: spread over items, and delivery of guarantees.

The arrays ``exposure`` (E) and ``required`` (b) have an entry for each of M items. ``slates`` (n, k) has item
indices in order of position, and −1 for empty positions. ``n_items`` is M, and ``decay`` is γ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.errors import DataError, refuse

_GRID = 1 << 20
"""Position weights are rounded to multiples of 1/2²⁰, so that their sums are exact in any order."""


def exposure_counts(slates: ArrayLike, n_items: int) -> Ints:
    """Exposures E_y of each item."""
    shown = as_slates(slates, n_items)
    return np.bincount(shown[shown >= 0], minlength=n_items).astype(np.int64)


def weighted_exposure(slates: ArrayLike, weights: ArrayLike, n_items: int) -> Floats:
    """Exposures of each item, as sums of position ``weights``."""
    shown = as_slates(slates, n_items)
    weight = np.broadcast_to(np.asarray(weights, np.float64), shown.shape)
    filled = shown >= 0
    return np.bincount(shown[filled], weights=weight[filled], minlength=n_items).astype(np.float64)


def position_weights(decay: float, k: int) -> Floats:
    """Share γ^(r−1) of visitors who examine each position r.

    Shares are multiples of 2^−20, whose sums are exact in float64, so the order of addition makes no difference.
    """
    if not 0 <= decay <= 1:
        refuse(DataError, "decay", str(decay), "0 to 1")
    return np.asarray(np.rint(decay ** np.arange(k, dtype=np.float64) * _GRID) / _GRID, np.float64)


def mean_weight(weights: ArrayLike) -> float:
    """Mean of the position weights; 1 without positions.

    Like :func:`position_weights`, the mean is rounded to a multiple of 2^−20. In the unit of the guarantee, a
    requirement of b exposures is b times the mean weight.
    """
    weight = np.asarray(weights, np.float64)
    return float(np.rint(weight.mean() * _GRID) / _GRID) if len(weight) else 1.0


def gini(counts: ArrayLike) -> float:
    """Gini index of the counts: Σ_i (2i − M − 1)·E_(i) / (M·ΣE), E ascending.

    The Gini index is half the mean absolute difference of two items, divided by the mean (Gini 1912). The
    index is 0 if all counts are equal or 0, and 1 − 1/M if one item has all counts. The metric ``gini`` is
    the index of exposures in a round, and ``log_gini`` is the index of events in the training log. The Gini
    index depends on the sample size. To compare logs of different length, use :func:`effective_items`.
    """
    ascending = np.sort(as_counts(counts, "counts"))
    total = ascending.sum()
    if total == 0:
        return 0.0
    m = len(ascending)
    return float((2 * np.arange(1, m + 1) - m - 1) @ (ascending / total) / m)


def lorenz(counts: ArrayLike) -> Floats:
    """Lorenz curve: joint shares of the least counted items.

    The curve has M + 1 points, is convex and rises from 0 to 1. The curve is the diagonal if nothing was counted. Twice
    the area between curve and diagonal (trapezoids over i/M) is the Gini index (Lorenz 1905).
    """
    ascending = np.sort(as_counts(counts, "counts"))
    total = ascending.sum()
    if total == 0:
        return np.linspace(0.0, 1.0, len(ascending) + 1)
    curve = np.zeros(len(ascending) + 1)
    np.cumsum(ascending / total, out=curve[1:])
    return np.minimum(curve, 1.0)


def coverage(counts: ArrayLike) -> float:
    """Share of the catalogue with E > 0."""
    values = as_counts(counts, "counts")
    return float((values > 0).mean()) if len(values) else 0.0


def perplexity(counts: ArrayLike) -> float:
    """Perplexity exp(−Σ p_y ln p_y) of p = E/ΣE.

    Perplexity is the number of equally exposed items with the same entropy (a measure of diversity in Ma et
    al., ICLR 2022). Perplexity is between 1 and the number of items with E > 0, or 0 if nothing was counted.
    """
    values = as_counts(counts, "counts")
    total = values.sum()
    if total == 0:
        return 0.0
    share = values[values > 0] / total
    return float(np.exp(-np.sum(share * np.log(share))))


def effective_items(counts: ArrayLike) -> float:
    """Effective number of items: N(N−1) / Σ n(n−1), N = Σn.

    The effective number is the inverse of the estimated probability that two random consumptions have the
    same item (Simpson, Nature 1949; Hurlbert, Ecology 1971). On average, the effective number barely depends
    on N, unlike Gini and coverage, so logs of different length can be compared. The effective number may
    exceed M by chance. By convention, it is M if no item was counted twice, and 0 if nothing was counted.
    """
    values = as_counts(counts, "counts")
    total = float(values.sum())
    if total == 0:
        return 0.0
    n_equal_pairs = float(np.sum(values * (values - 1)))  # ordered pairs of consumptions with the same item
    return total * (total - 1) / n_equal_pairs if n_equal_pairs > 0 else float(len(values))


def shortfall_units(exposure: ArrayLike, required: ArrayLike) -> float:
    """Shortfall Σ_y (b_y − E_y)₊, in exposures."""
    counts, required = _pair(exposure, required)
    return float(np.maximum(required - counts, 0).sum())


def shortfall(exposure: ArrayLike, required: ArrayLike) -> float:
    """Undelivered share, Σ (b − E)₊ / Σ b; 0 without guarantees."""
    total = float(as_counts(required, "required").sum())
    return shortfall_units(exposure, required) / total if total > 0 else 0.0


def undelivered(exposure: ArrayLike, required: ArrayLike, due: ArrayLike) -> float:
    """Undelivered share of the exposures due, each counted once.

    The share is Σ_j (min(b_j, due_j) − E_j)₊ / Σ_j due_j, over guarantees j of items, groups and campaigns. In it,
    ``due`` are the exposures that a round adds, and b (``required``) also has the carry-over of earlier rounds. A
    deficit of an earlier round was counted in that round, so it does not count again. A surplus lowers b. The share is
    0 without guarantees.
    """
    added = as_counts(due, "due")
    total = float(added.sum())
    counted_once = np.minimum(as_counts(required, "required"), added)
    return shortfall_units(exposure, counted_once) / total if total > 0 else 0.0


def examined_shortfall(slates: ArrayLike, required: ArrayLike, decay: float) -> float:
    """Undelivered share in examined exposures: Σ(b̃ − Ẽ)₊ / Σb̃.

    Here Ẽ = Σγ^(r−1) and b̃ = b·mean_r γ^(r−1), over positions r = 1…k. Delivery at average positions leaves
    no shortfall; delivery at the bottom of slates leaves a shortfall. At γ = 1 the value is
    :func:`shortfall`.
    """
    required = as_counts(required, "required")
    shown = as_slates(slates, len(required))
    weights = position_weights(decay, shown.shape[1])
    return shortfall(weighted_exposure(shown, weights, len(required)), required * mean_weight(weights))


def excess(exposure: ArrayLike, most: ArrayLike) -> float:
    """Exposures above caps, Σ_j (E_j − most_j)₊; ∞ means no cap."""
    counts = as_counts(exposure, "exposure")
    allowed = np.asarray(most, np.float64)
    same_length(counts, allowed, "exposure and most")
    return float(np.maximum(counts - allowed, 0.0).sum())


def items_met(exposure: ArrayLike, required: ArrayLike) -> float:
    """Share of guaranteed items with E ≥ b; 1 without guarantees."""
    counts, required = _pair(exposure, required)
    guaranteed = required > 0
    return float((counts >= required)[guaranteed].mean()) if guaranteed.any() else 1.0


def worst_ratio(exposure: ArrayLike, required: ArrayLike) -> float:
    """Least E/b of guaranteed items; 1 without guarantees."""
    counts, required = _pair(exposure, required)
    guaranteed = required > 0
    return float((counts[guaranteed] / required[guaranteed]).min()) if guaranteed.any() else 1.0


def prices_at_bound(item_price: ArrayLike, required: ArrayLike, cost: float) -> float:
    """Share of guaranteed items with the lowest price, v = −c.

    Prices v are in [−c, 0]. If an item has the price −c, delivering another exposure would cost more than c.
    """
    price = np.asarray(item_price, np.float64)
    required = as_counts(required, "required")
    same_length(price, required, "item_price and required")
    guaranteed = required > 0
    is_lowest = price <= -cost * (1 - 1e-9)  # up to rounding
    return float(is_lowest[guaranteed].mean()) if guaranteed.any() else 0.0


def average_popularity(exposure: ArrayLike, popularity: ArrayLike) -> float:
    """Popularity per exposure over mean popularity: (Σ E·q / ΣE) / (Σq / M).

    Popularity q is the number of events in the log at round 0, so later rounds do not change it (average
    recommendation popularity of Yin et al., VLDB 2012, normalised). The measure is 1 for a uniform spread,
    and 0 if nothing was shown or nothing was popular.
    """
    counts = as_counts(exposure, "exposure")
    events = as_counts(popularity, "popularity")
    same_length(counts, events, "exposure and popularity")
    total = counts.sum()
    mean = events.mean() if len(events) else 0.0
    return float(counts @ events / total / mean) if total > 0 and mean > 0 else 0.0


def binding_items(unconstrained: ArrayLike, required: ArrayLike) -> Bools:
    """Mask of the items whose guarantee binds, b > E.

    ``unconstrained`` has the exposures E by an agent without guarantees at the same arrivals.
    """
    counts, required = _pair(unconstrained, required)
    return np.asarray(required > counts, np.bool_)


def who_pays(slates: ArrayLike, binding: ArrayLike, ground_intensity: ArrayLike, bins: int = 10) -> Floats:
    """Binding items per slate, by decile of the visitor's λ(x).

    An item is binding if its guarantee binds. Arrivals are sorted by λ(x) and divided into ``bins`` groups of equal
    size (ties keep their order of arrival). A group without arrivals has the value 0. ``binding`` is a mask,
    such as :func:`binding_items` or negative prices.
    """
    mask = np.asarray(binding, np.bool_)
    shown = as_slates(slates, len(mask))
    intensity = as_counts(ground_intensity, "ground_intensity")
    same_length(shown, intensity, "slates and ground_intensity")
    order = np.argsort(intensity, kind="stable")
    group = np.empty(len(shown), np.int64)
    group[order] = np.arange(len(shown)) * bins // max(len(shown), 1)
    n_binding = (mask[shown] & (shown >= 0)).sum(axis=1) if len(mask) else np.zeros(len(shown))
    size = np.bincount(group, minlength=bins)
    total = np.bincount(group, weights=n_binding, minlength=bins)
    return np.asarray(total / np.maximum(size, 1), np.float64)


def _pair(exposure: ArrayLike, required: ArrayLike) -> tuple[Floats, Floats]:
    """Exposures and required exposures, checked to have one length."""
    exposures = as_counts(exposure, "exposure")
    required_exposures = as_counts(required, "required")
    same_length(exposures, required_exposures, "exposure and required")
    return exposures, required_exposures


def as_counts(values: ArrayLike, name: str) -> Floats:
    """Checked counts: finite numbers of at least 0."""
    counts = np.asarray(values, np.float64)
    if counts.ndim != 1:
        refuse(DataError, name, f"an array of shape {counts.shape}", "one dimension")
    is_valid = np.isfinite(counts) & (counts >= 0)
    if not is_valid.all():
        index = int(np.flatnonzero(~is_valid)[0])
        refuse(DataError, f"{name}[{index}]", str(counts[index]), "finite numbers of at least 0")
    return counts


def as_slates(values: ArrayLike, n_items: int | None = None) -> Ints:
    """Item indices of slates, checked against a catalogue if given."""
    slates = np.asarray(values, np.int64)
    if slates.ndim != 2:
        refuse(DataError, "slates", f"an array of shape {slates.shape}", "(arrivals, positions)")
    if slates.size and (slates.min() < -1 or (n_items is not None and slates.max() >= n_items)):
        allowed = "at least -1 (empty)" if n_items is None else f"-1 (empty) to {n_items - 1}"
        refuse(DataError, "slates", f"indices from {slates.min()} to {slates.max()}", allowed)
    return slates


def same_length(first: NDArray[np.generic], second: NDArray[np.generic], names: str) -> None:
    """Refuse two arrays that differ in their first dimension."""
    if len(first) != len(second):
        refuse(DataError, names, f"{len(first)} and {len(second)} rows", "the same number")
