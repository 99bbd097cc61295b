"""Measures of relevance: worth of slates and of predictions.

There are n arrivals with k positions each. ``hits`` (n, k) is a mask of shown items that are relevant
(consumed, or in the logged future). ``relevant`` counts each arrival's relevant items, shown or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Bools, Floats, Ints
from rimsim.errors import DataError, refuse
from rimsim.measures.exposure import as_counts, excess, same_length, shortfall_units


def precision(hits: ArrayLike) -> float:
    """Share of positions with a relevant item, Σ hits / (n·k).

    An empty position of ``hits`` counts as a miss (Ma et al., ICLR 2022), so that empty positions cannot raise
    precision.
    """
    is_hit = _hits(hits)
    return float(is_hit.mean()) if is_hit.size else 0.0


def recall(hits: ArrayLike, relevant: ArrayLike) -> float:
    """Mean of hits / relevant items over arrivals with relevant items.

    Arrivals without relevant items are left out, unlike in precision. ``relevant`` may also be an expectation, such as
    λ*(x); recall may then exceed 1 by chance.
    """
    is_hit = _hits(hits)
    n_relevant = as_counts(relevant, "relevant")
    same_length(is_hit, n_relevant, "hits and relevant")
    has_relevant = n_relevant > 0
    return (
        float((is_hit.sum(axis=1)[has_relevant] / n_relevant[has_relevant]).mean())
        if has_relevant.any()
        else 0.0
    )


def ndcg(hits: ArrayLike, relevant: ArrayLike) -> float:
    """Mean of :func:`slate_ndcg` over the arrivals with a relevant item."""
    slate_ndcgs = slate_ndcg(hits, relevant)
    is_defined = ~np.isnan(slate_ndcgs)
    return float(slate_ndcgs[is_defined].mean()) if is_defined.any() else 0.0


def slate_ndcg(hits: ArrayLike, relevant: ArrayLike) -> Floats:
    """DCG / ideal DCG of each slate; NaN without relevant items.

    A hit at position r has the gain 1 and the discount 1/log₂(r + 1). The ideal slate holds min(k, relevant) hits at
    its top (Järvelin and Kekäläinen, TOIS 2002).
    """
    is_hit = _hits(hits)
    n_relevant = as_counts(relevant, "relevant")
    same_length(is_hit, n_relevant, "hits and relevant")
    if (exceeds := is_hit.sum(axis=1) > n_relevant).any():
        row = int(np.flatnonzero(exceeds)[0])
        refuse(
            DataError, f"relevant[{row}]", f"{n_relevant[row]:g}", f"at least its {is_hit[row].sum()} hits"
        )
    has_relevant = n_relevant > 0
    k = is_hit.shape[1]
    ratios = np.full(len(is_hit), np.nan)
    if not has_relevant.any() or k == 0:
        return ratios
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(n_relevant[has_relevant].astype(np.int64), k) - 1]
    ratios[has_relevant] = is_hit[has_relevant] @ discount / ideal
    return ratios


def per_slate(values: ArrayLike) -> float:
    """Worth of a slate (sum over its positions), averaged over arrivals.

    Worth is the true probability for the metric ``utility``, and the outcome (0 or 1) for ``consumptions``.
    """
    worth = np.asarray(values, np.float64)
    if worth.ndim != 2:
        refuse(DataError, "values", f"an array of shape {worth.shape}", "(arrivals, positions)")
    return float(worth.sum(axis=1).mean()) if len(worth) else 0.0


def penalised_value(
    worth: ArrayLike, exposure: ArrayLike, required: ArrayLike, cost: float, most: ArrayLike = np.inf
) -> float:
    """Value V = Σ worth − c·(Σ(b − E)₊ + Σ(E − most)₊), in float64.

    Worth is the model's score for the metric ``value_model``, the true intensity for ``value_true``, and the
    outcome (0 or 1) for ``return``.

    Args:
        worth: Worth of positions, in any shape; 0 for empty positions.
        exposure: Exposures of items, and of other requirements.
        required: Required exposures b of items, and of other requirements.
        cost: c, the cost of a missing exposure, and of an exposure above a cap.
        most: Largest allowed exposures, in the same order, or one number; ∞ means no cap.
    """
    caps = np.broadcast_to(np.asarray(most, np.float64), np.shape(exposure))
    violations = shortfall_units(exposure, required) + excess(exposure, caps)
    return float(np.asarray(worth, np.float64).sum() - cost * violations)


def _hits(hits: ArrayLike) -> Bools:
    """Mask of hits, checked to have two dimensions."""
    is_hit = np.asarray(hits, np.bool_)
    if is_hit.ndim != 2:
        refuse(DataError, "hits", f"an array of shape {is_hit.shape}", "(arrivals, positions)")
    return is_hit


def predicted_consumption(intensity: ArrayLike, examination: ArrayLike) -> Floats:
    """Predicted chances of consumption, 1 − exp(−λ(x,y)·e_r).

    λ(x,y) is the platform's intensity. At empty positions, λ(x,y) is NaN and the chance is 0. ``examination``
    has the factors e_r of positions.
    """
    rate = np.asarray(intensity, np.float64)
    weight = np.asarray(examination, np.float64)
    if rate.ndim != 2 or weight.shape != rate.shape[1:]:
        shapes = f"shapes {rate.shape} and {weight.shape}"
        refuse(DataError, "intensity and examination", shapes, "(n, k) and (k,)")
    return -np.expm1(-np.nan_to_num(rate, nan=0.0) * weight)


def calibration_ratio(intensity: ArrayLike, consumed: ArrayLike, examination: ArrayLike) -> float | None:
    """Ratio of predicted to actual consumptions; None without consumptions."""
    actual = int(np.count_nonzero(consumed))
    return float(predicted_consumption(intensity, examination).sum()) / actual if actual else None


def calibration_by_history(
    intensity: ArrayLike, consumed: ArrayLike, examination: ArrayLike, history: ArrayLike
) -> float | None:
    """:func:`calibration_ratio` of first visits, divided by that of returning visits.

    Prices compare intensities between visitors, so first and returning visits should have equal ratios, even
    if the ratio of all visits is 1. The result is None if a type of visit has no predictions or consumptions.

    Args:
        intensity: The platform's λ(x,y) by arrival and position; NaN where a position is empty.
        consumed: Mask of consumed items.
        examination: Factor by which each position multiplies intensities.
        history: Number of events in each visitor's state.
    """
    rate = np.asarray(intensity)
    taken = np.asarray(consumed, bool)
    is_first = np.asarray(history) == 0
    same_length(is_first, taken, "history and consumed")
    first_ratio = calibration_ratio(rate[is_first], taken[is_first], examination)
    returning_ratio = calibration_ratio(rate[~is_first], taken[~is_first], examination)
    return first_ratio / returning_ratio if first_ratio is not None and returning_ratio else None


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted and realised consumptions, in groups of similar predicted chance."""

    exposures: Ints
    """(g,) shown items in each group."""
    predicted: Floats
    """(g,) number of consumptions that the platform expected in each group."""
    consumed: Ints
    """(g,) number of realised consumptions in each group."""


def reliability(predicted: ArrayLike, consumed: ArrayLike, groups: int = 10) -> Reliability:
    """Reliability curve: sums of predictions and outcomes in each group.

    The predictions are chances, such as :func:`predicted_consumption` of filled positions. Groups are quantiles of
    predictions, fewer if there are few predictions. Equal predictions stay in their order.
    """
    chance = np.asarray(predicted, np.float64).ravel()
    is_consumed = np.asarray(consumed, bool).ravel()
    same_length(chance, is_consumed, "predicted and consumed")
    order = np.argsort(chance, kind="stable")
    members = [group for group in np.array_split(order, groups) if len(group)]
    return Reliability(
        exposures=np.array([len(group) for group in members], np.int64),
        predicted=np.array([chance[group].sum() for group in members], np.float64),
        consumed=np.array([is_consumed[group].sum() for group in members], np.int64),
    )
