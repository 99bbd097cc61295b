"""What every measure asks of its arrays, with errors that say which array is wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rimsim.arrays import Floats, Ints
from rimsim.errors import DataError


def as_counts(values: ArrayLike, name: str) -> Floats:
    """One non-negative finite number an item (or user), as float64.

    Args:
        values: What was given.
        name: What to call it in the error.

    Raises:
        DataError: If it is not one-dimensional, or holds a negative or non-finite number.
    """
    counts = np.asarray(values, np.float64)
    if counts.ndim != 1:
        raise DataError(f"{name}: an array of shape {counts.shape}; allowed: one dimension")
    if len(counts) and not (np.isfinite(counts).all() and counts.min() >= 0):
        bad = int(np.flatnonzero(~(np.isfinite(counts) & (counts >= 0)))[0])
        raise DataError(f"{name}[{bad}]: {counts[bad]}; allowed: finite numbers of at least 0")
    return counts


def as_slates(values: ArrayLike, n_items: int | None = None) -> Ints:
    """Slates (n, k) of item indices, −1 = empty position.

    Args:
        values: What was given.
        n_items: Size of the catalogue, if indices are to be checked against it.

    Raises:
        DataError: If the shape is not (n, k), or an index is below −1 or not in the catalogue.
    """
    slates = np.asarray(values, np.int64)
    if slates.ndim != 2:
        raise DataError(f"slates: an array of shape {slates.shape}; allowed: (arrivals, positions)")
    if slates.size and (slates.min() < -1 or (n_items is not None and slates.max() >= n_items)):
        top = "" if n_items is None else f" to {n_items - 1}"
        raise DataError(f"slates: indices from {slates.min()} to {slates.max()}; allowed: -1 (empty), 0{top}")
    return slates


def same_length(first: NDArray[np.generic], second: NDArray[np.generic], names: str) -> None:
    """Check that two arrays have the same first dimension.

    Raises:
        DataError: If they have not; the message begins with ``names``.
    """
    if len(first) != len(second):
        raise DataError(f"{names}: {len(first)} and {len(second)} rows; allowed: the same number")
