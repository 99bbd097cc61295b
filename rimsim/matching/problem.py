"""Arguments of the price solver and the certificate, checked once and in one shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rimsim.arrays import Array, Bools, Floats, Ints
from rimsim.errors import ConfigError
from rimsim.matching._sparse import SparseScores, is_sparse
from rimsim.matching.scorer import ChunkedScores

if TYPE_CHECKING:
    from rimsim.matching.rows import Rows


_WHOLE = 1e-9  # how far from a whole number of units a bound may be


def as_array(values: object) -> Array:
    """A NumPy view (or copy) of an array, a nested list or a torch tensor, without importing torch."""
    detach = getattr(values, "detach", None)
    if detach is not None:
        return np.asarray(detach().cpu().numpy())
    return np.asarray(values)


def _matrix(scores: object, where: str) -> NDArray[np.floating]:
    matrix = as_array(scores)
    if matrix.ndim != 2:
        raise ConfigError(f"{where}: scores have shape {matrix.shape}; allowed: (n, M), users by items")
    if not np.issubdtype(matrix.dtype, np.floating):
        if not (np.issubdtype(matrix.dtype, np.integer) or matrix.dtype == bool):
            raise ConfigError(f"{where}: scores have type {matrix.dtype}; allowed: real numbers")
        matrix = matrix.astype(np.float64)
    elif matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float32)
    return matrix


def _mask(admissible: object, matrix: NDArray[np.floating], where: str) -> Bools:
    mask = as_array(admissible).astype(bool, copy=False)
    if mask.shape != matrix.shape:
        n, m = matrix.shape
        raise ConfigError(
            f"{where}: admissible has shape {mask.shape}; allowed: that of the scores, ({n}, {m})"
        )
    return mask


def _refuse_infinite(matrix: NDArray[np.floating], mask: Bools | None, where: str) -> None:
    finite = np.isfinite(matrix)
    if mask is not None:
        finite |= ~mask
    if not finite.all():
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        raise ConfigError(
            f"{where}: the score of user {row} and item {column} is {matrix[row, column]}; "
            "allowed: finite numbers (exclude a pair by `admissible`)"
        )


def spreads(given: Array, length: int) -> bool:
    """Whether an array is one number, or one for each of so many things."""
    return given.ndim == 0 or given.shape == (length,)


def _require_length(given: Array, length: int, where: str, name: str) -> None:
    if not spreads(given, length):
        raise ConfigError(
            f"{where}: {name} has shape {given.shape}; allowed: one number or shape ({length},)"
        )


def _whole(values: object, length: int, where: str, name: str) -> Ints:
    given = as_array(values)
    _require_length(given, length, where, name)
    if not (np.issubdtype(given.dtype, np.integer) or np.issubdtype(given.dtype, np.floating)):
        raise ConfigError(f"{where}: {name} has type {given.dtype}; allowed: whole numbers of at least 0")
    numbers = given.astype(np.float64)
    bad = ~np.isfinite(numbers) | (numbers != np.floor(numbers)) | (numbers < 0)
    if bad.any():
        worst = given.reshape(-1)[np.flatnonzero(bad.reshape(-1))[0]]
        raise ConfigError(
            f"{where}: {name} holds {worst!s}; allowed: whole numbers of at least 0 (round them before)"
        )
    return np.array(np.broadcast_to(numbers.astype(np.int64), (length,)))


def _amounts(values: object, length: int, where: str, name: str) -> Floats:
    given = as_array(values)
    _require_length(given, length, where, name)
    numbers = np.array(np.broadcast_to(given.astype(np.float64), (length,)))
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise ConfigError(f"{where}: {name} must be finite numbers of at least 0")
    return numbers


def _weights(values: object, width: int, where: str) -> Floats:
    """Checked position weights, at least as many as the largest capacity; 1 if none are given."""
    weights = np.ones(max(width, 1)) if values is None else as_array(values).astype(np.float64)
    if weights.ndim != 1 or not len(weights) or not np.isfinite(weights).all() or not (weights > 0).all():
        raise ConfigError(f"{where}: position_weights are {values!r}; allowed: (k,) positive numbers")
    if (np.diff(weights) > 0).any():
        raise ConfigError(f"{where}: position_weights rise along the slate; allowed: non-increasing weights")
    if width > len(weights):
        raise ConfigError(f"{where}: a capacity is {width}, and there are {len(weights)} position_weights")
    return np.ascontiguousarray(weights)


def _cost(values: object, length: int, where: str) -> Floats:
    """(length,) price of a missing unit; infinite for hard floors."""
    if values is None:
        return np.full(length, np.inf)
    asked = as_array(values).astype(np.float64)
    if not spreads(asked, length) or not (asked >= 0).all():
        raise ConfigError(
            f"{where}: cost is {values!r}; allowed: a number of at least 0, or one per item ({length},)"
        )
    return np.array(np.broadcast_to(asked, (length,)))


def _bound(values: object, length: int, where: str, name: str, weights: Floats | None) -> Array:
    return _whole(values, length, where, name) if weights is None else _amounts(values, length, where, name)


def _in_units(weights: Floats, floor: Floats, cap: Floats | None) -> bool:
    """True if all positions weigh the same, and bounds are whole numbers of that."""
    bounds = (floor if cap is None else np.concatenate([floor, cap])) / weights[0]
    whole = np.abs(bounds - np.rint(bounds)) <= _WHOLE * (1.0 + bounds)
    return bool((weights == weights[0]).all() and whole.all())


@dataclass(frozen=True, eq=False)
class Problem:
    """Scores with capacities, floors, caps, mask and cost of shortfall, all of the right shape and type."""

    scores: NDArray[np.floating]
    """(n, M) float32 or float64; what a pair is worth. Entries that are not admissible may hold anything."""
    admissible: Bools | None
    """(n, M) pairs that may be shown; None: all."""
    capacity: Ints
    """(n,) positions of each user, at most M."""
    floor: Array
    """(M,) required exposures: int64, whole positions; float64, their weights, where ``weights`` are given."""
    cap: Array
    """(M,) largest allowed exposures, likewise; n·w₁ where there is none."""
    cost: Floats
    """(M,) price of one exposure of shortfall; infinite where floors are hard."""
    chunks: ChunkedScores | None = None
    """Scores computed on demand; ``scores`` is empty then."""
    weights: Floats | None = None
    """(k,) what an exposure at each position counts; None: all the same."""
    unit: float = 1.0
    """What a position counts where all count the same."""
    rows: Rows | None = None
    """Requirements on several items, and on some users; None: none."""
    where: str = "solve_dual"
    """The function that was called, for messages of errors."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M), users and items."""
        return len(self.capacity), len(self.floor)

    def block(self, start: int, stop: int) -> NDArray[np.floating]:
        """Scores of users ``start`` to ``stop`` − 1, to be read only; −inf for pairs that are not admissible."""
        if self.chunks is not None:
            return np.asarray(self.chunks.rows(start, stop))
        values = self.scores[start:stop]
        return values if self.admissible is None else np.where(self.admissible[start:stop], values, -np.inf)

    @classmethod
    def of(
        cls,
        scores: object,
        capacity: ArrayLike,
        min_exposure: ArrayLike = 0,
        max_exposure: ArrayLike | None = None,
        *,
        admissible: object | None = None,
        cost: ArrayLike | None = None,
        position_weights: ArrayLike | None = None,
        rows: Rows | None = None,
        where: str,
    ) -> Problem:
        """Check and convert.

        Equal weights with bounds that are whole numbers of them are the problem without weights, in that unit.

        Raises:
            ConfigError: If a shape, type or value does not fit; the message names the argument.
        """
        if is_sparse(scores):
            scores = SparseScores(scores, where)
        chunks = scores if isinstance(scores, ChunkedScores) else None
        if chunks is not None and admissible is not None:
            raise ConfigError(
                f"{where}: admissible was given with scores in chunks; there, rows() returns −inf for such pairs"
            )
        matrix = np.empty((0, 0)) if chunks is not None else _matrix(scores, where)
        n, m = matrix.shape if chunks is None else chunks.shape
        mask = None if admissible is None else _mask(admissible, matrix, where)
        if chunks is None:
            _refuse_infinite(matrix, mask, where)
        positions = np.minimum(_whole(capacity, n, where, "capacity"), m)
        if rows is not None:
            rows.refuse_unfit(n, m, where)
        weights, unit = None, 1.0
        if position_weights is not None or rows is not None:
            weights = _weights(position_weights, int(positions.max(initial=0)), where)
            asked = _amounts(min_exposure, m, where, "min_exposure")
            limits = None if max_exposure is None else _amounts(max_exposure, m, where, "max_exposure")
            if rows is None and _in_units(weights, asked, limits):
                unit, weights = float(weights[0]), None
                min_exposure = np.rint(asked / unit)
                max_exposure = None if limits is None else np.rint(limits / unit)
        floor = _bound(min_exposure, m, where, "min_exposure", weights)
        most = n if weights is None else n * weights[0]
        cap = np.full(m, most, floor.dtype)
        if max_exposure is not None:
            limit = _bound(max_exposure, m, where, "max_exposure", weights)
            above = np.flatnonzero(floor > limit)
            if len(above):
                item = int(above[0])
                raise ConfigError(
                    f"{where}: item {item} has min_exposure {floor[item]} above its max_exposure {limit[item]}"
                )
            cap = np.minimum(limit, most)
        price = _cost(cost, m, where)
        return cls(matrix, mask, positions, floor, cap, price, chunks, weights, unit, rows, where)
