"""Is the platform right about what it shows? Predicted consumptions of shown items against those that came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Floats, Ints
from rimsim.errors import DataError


def predicted_consumption(intensity: ArrayLike, examination: ArrayLike) -> Floats:
    """The chance that a shown item is consumed, as the platform sees it: 1 − exp(−λ(x,y)·e_r).

    Args:
        intensity: (n, k) the platform's λ(x,y) of what was shown; NaN where a position is empty.
        examination: (k,) e_r, by how much position r multiplies the intensity of what stands there.

    Returns:
        (n, k); 0 where a position is empty.

    Raises:
        DataError: If there is not one e_r for each position.
    """
    rate, weight = np.asarray(intensity, np.float64), np.asarray(examination, np.float64)
    if rate.ndim != 2 or weight.shape != rate.shape[1:]:
        raise DataError(
            f"intensity and examination: shapes {rate.shape} and {weight.shape}; allowed: (n, k) and (k,)"
        )
    return -np.expm1(-np.nan_to_num(rate, nan=0.0) * weight)


def calibration_ratio(intensity: ArrayLike, consumed: ArrayLike, examination: ArrayLike) -> float | None:
    """Σ predicted consumptions of shown items / Σ consumptions of shown items; 1 is calibrated in total.

    Args:
        intensity: (n, k) the platform's λ(x,y) of what was shown; NaN where a position is empty.
        consumed: (n, k) bool, what was consumed.
        examination: (k,) by how much a position multiplies the intensity of what stands there.

    Returns:
        The ratio; None where nothing was consumed.
    """
    actual = int(np.count_nonzero(consumed))
    return float(predicted_consumption(intensity, examination).sum()) / actual if actual else None


@dataclass(frozen=True, eq=False)
class Reliability:
    """Shown items in groups of equal size, from the least to the largest predicted chance of consumption."""

    exposures: Ints
    """(g,) shown items in each group."""
    predicted: Floats
    """(g,) consumptions that the platform expected in each group."""
    consumed: Ints
    """(g,) consumptions that came."""


def reliability(predicted: ArrayLike, consumed: ArrayLike, groups: int = 10) -> Reliability:
    """The reliability curve of predicted chances: sums of predictions and of outcomes by quantile of the prediction.

    Args:
        predicted: (n,) chances, such as :func:`predicted_consumption` of the positions that are filled.
        consumed: (n,) bool, what came.
        groups: How many groups; fewer where there are fewer predictions. Ties are parted by their order.
    """
    chance, came = np.asarray(predicted, np.float64).ravel(), np.asarray(consumed, bool).ravel()
    if len(chance) != len(came):
        raise DataError(
            f"predicted and consumed: {len(chance)} and {len(came)} rows; allowed: the same number"
        )
    order = np.argsort(chance, kind="stable")
    parts = [part for part in np.array_split(order, groups) if len(part)]
    return Reliability(
        exposures=np.array([len(part) for part in parts], np.int64),
        predicted=np.array([chance[part].sum() for part in parts], np.float64),
        consumed=np.array([came[part].sum() for part in parts], np.int64),
    )
