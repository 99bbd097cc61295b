"""Checked scores, capacities and requirements of the offline problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints
from rimsim.errors import ConfigError, refuse
from rimsim.rng import Purpose, bits

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Differences below this share of a bound may be rounding errors, and count as 0.
_SAME = 1e-9


def as_array(values: object) -> Array:
    """NumPy view (or copy) of an array, list or tensor."""
    # Tensors are recognised by this method, so torch need not be imported.
    detach = getattr(values, "detach", None)
    if detach is not None:
        return np.asarray(detach().cpu().numpy())
    return np.asarray(values)


def spreads(values: Array, length: int) -> bool:
    """True if an array is one number, or ``length`` numbers."""
    return values.ndim == 0 or values.shape == (length,)


def beyond(over: Floats, bound: Floats) -> Floats:
    """Positive amounts; 0 where rounding errors might explain the amount."""
    amount = np.maximum(over, 0.0)
    return np.where(amount > _SAME * np.maximum(bound, 1.0), amount, 0.0)


@dataclass(frozen=True, eq=False)
class Rows:
    """G requirements on several items: groups, campaigns, audiences.

    Requirement g is min_exposure_g ≤ Σ w ≤ max_exposure_g, a sum of position weights w over all exposures of
    its items to its users. The price of item y for user x is v_y plus the prices v_g of all requirements g on
    y and x.
    """

    first: Ints
    """(G+1,) beginning of each row's items in ``item``. The last entry is the length of ``item``."""
    item: Ints
    """(nnz,) items of the rows, one row after the other. The items of a row are distinct."""
    min_exposure: Floats
    """(G,) required exposure, in units of the position weights."""
    max_exposure: Floats
    """(G,) largest exposure; infinite without a cap."""
    cost: Floats
    """(G,) cost of one missing unit of exposure; infinite for a hard row."""
    active: Bools | None = None
    """(n, G) True if exposures to a user count for a row, for example because of its audience; None: all exposures
    count."""

    def items_of(self, row: int) -> Ints:
        """Items of a requirement."""
        return self.item[self.first[row] : self.first[row + 1]]

    def refuse_unfit(self, n: int, m: int, caller: str) -> None:
        """Refuse requirements that do not fit the users and items."""
        n_rows = len(self.first) - 1
        item = self.item
        is_complete = n_rows >= 0 and self.first[0] == 0 and self.first[-1] == len(item)
        if not is_complete or (np.diff(self.first) < 0).any():
            raise ConfigError(
                f"{caller}: rows.first must rise from 0 to the length of rows.item, {len(item)}"
            )
        if len(item) and (item.min() < 0 or item.max() >= m):
            refuse(ConfigError, caller, f"rows.item holds {item.min()} to {item.max()}", f"0 to {m - 1}")
        for name in ("min_exposure", "max_exposure", "cost"):
            values = getattr(self, name)
            if values.shape != (n_rows,) or not (values >= 0).all():
                raise ConfigError(
                    f"{caller}: rows.{name} has the wrong shape or a negative number. Expected one number "
                    f"of at least 0 for each of the {n_rows} rows"
                )
        if not (self.min_exposure <= self.max_exposure).all() or not np.isfinite(self.min_exposure).all():
            raise ConfigError(
                f"{caller}: a number of rows.min_exposure is infinite or above rows.max_exposure. Expected finite "
                "numbers of at most rows.max_exposure"
            )
        if self.active is not None and self.active.shape != (n, n_rows):
            refuse(ConfigError, caller, f"rows.active has shape {self.active.shape}", f"({n}, {n_rows})")
        row_of_entry = np.repeat(np.arange(n_rows), np.diff(self.first))
        if len(np.unique(row_of_entry * max(m, 1) + item)) < len(item):
            refuse(ConfigError, caller, "a row of rows.item has an item twice", "distinct items")


def required_exposure(beta: float, n: int, k: int, released: ArrayLike, seed: int) -> Ints:
    """Required exposures b = β·n·k/M of released items, in whole exposures.

    The total of all b is β·n·k, rounded to the nearest whole number. Every item gets b, rounded down. A
    random sample of items gets one more exposure each, because all remainders are equal.

    Args:
        beta: β, the guaranteed share of the uniform exposure, between 0 and 1.
        n: Expected number of arrivals, N.
        k: Number of positions of a slate.
        released: (M,) mask of released items; M in the formula is their number.
        seed: Seed that decides between equal remainders.

    Returns:
        (M,) required exposures, 0 for items that are not released.

    Raises:
        ConfigError: If β is outside [0, 1], or n or k is negative.
    """
    if not 0.0 <= beta <= 1.0:
        refuse(ConfigError, "required_exposure", f"beta is {beta!r}", "a number from 0 to 1")
    if n < 0 or k < 0:
        refuse(ConfigError, "required_exposure", f"n is {n!r} and k is {k!r}", "numbers of at least 0")
    is_released = np.asarray(released, bool)
    items = np.flatnonzero(is_released)
    required = np.zeros(len(is_released), np.int64)
    if len(items) == 0:
        return required
    # + 0.5 rounds to the nearest whole number, and halves up.
    base, n_remaining = divmod(int(np.floor(beta * n * k + 0.5)), len(items))
    required[items] = base
    order = np.lexsort((items, bits(seed, Purpose.FLOORS, items)))
    required[items[order[:n_remaining]]] += 1
    return required


@runtime_checkable
class ChunkedScores(Protocol):
    """Scores of consecutive users, computed on demand and reproducibly."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M): numbers of users and items."""

    def rows(self, start: int, stop: int) -> NDArray[np.floating]:
        """(stop − start, M) scores of consecutive users; −inf: not admissible."""


@dataclass(frozen=True, eq=False)
class FactorScores:
    """Scores s = U·Vᵀ of rank r, or exp(U·Vᵀ).

    Raises:
        ConfigError: If the factors are not matrices of the same rank, or are not finite.
    """

    users: NDArray[np.floating]
    """(n, r) user factors, U."""
    items: NDArray[np.floating]
    """(M, r) item factors, V."""
    link: Literal["identity", "exp"] = "identity"
    """Function that turns the product of factors into scores."""

    def __post_init__(self) -> None:
        users = self.users.shape
        items = self.items.shape
        if len(users) != 2 or len(items) != 2 or users[1] != items[1]:
            shapes = f"users have shape {users} and items {items}"
            refuse(ConfigError, "FactorScores", shapes, "(n, r) and (M, r)")
        if not (np.isfinite(self.users).all() and np.isfinite(self.items).all()):
            raise ConfigError(
                "FactorScores: users or items hold an infinite number or NaN. Expected finite numbers"
            )
        if self.link not in ("identity", "exp"):
            refuse(ConfigError, "FactorScores", f"link is {self.link!r}", "'identity', 'exp'")

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M): numbers of users and items."""
        return len(self.users), len(self.items)

    def rows(self, start: int, stop: int) -> NDArray[np.floating]:
        """(stop − start, M) scores in float32."""
        users = self.users[start:stop]
        items = self.items
        block = users.astype(np.float32, copy=False) @ items.T.astype(np.float32, copy=False)
        if self.link == "exp":
            np.exp(block, out=block)
        return np.asarray(block, np.float32)


class SparseScores:
    """Scores of the pairs that a sparse matrix stores."""

    def __init__(self, scores: object, caller: str) -> None:
        matrix: csr_array = scores.tocsr(copy=True)  # type: ignore[attr-defined]  # the scores are a sparse matrix here
        matrix.sum_duplicates()
        self._matrix = matrix
        self.values = matrix.data.astype(np.float32)
        if not np.isfinite(self.values).all():
            pair = int(np.flatnonzero(~np.isfinite(self.values))[0])
            row = int(np.searchsorted(matrix.indptr, pair, "right")) - 1
            problem = f"the score of user {row} and item {int(matrix.indices[pair])} is {matrix.data[pair]}"
            refuse(ConfigError, caller, problem, "finite numbers (leave out a pair that cannot be served)")

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M): numbers of users and items."""
        n, m = self._matrix.shape
        return n, m

    def keys(self) -> Ints:
        """(E,) pairs as numbers user·M + item, ascending."""
        row = np.repeat(np.arange(self.shape[0]), np.diff(self._matrix.indptr))
        return np.asarray(row * self.shape[1] + self._matrix.indices, np.int64)

    def rows(self, start: int, stop: int) -> Float32s:
        """(stop − start, M) scores of consecutive users; −inf: absent."""
        first = self._matrix.indptr[start : stop + 1]
        block = np.full((stop - start, self.shape[1]), -np.inf, np.float32)
        row = np.repeat(np.arange(stop - start), np.diff(first))
        block[row, self._matrix.indices[first[0] : first[-1]]] = self.values[first[0] : first[-1]]
        return block


def _matrix(scores: object, caller: str) -> NDArray[np.floating]:
    """Scores as a matrix of real numbers, after checks."""
    matrix = as_array(scores)
    if matrix.ndim != 2:
        refuse(ConfigError, caller, f"scores have shape {matrix.shape}", "(n, M), users by items")
    if not np.issubdtype(matrix.dtype, np.floating):
        if not (np.issubdtype(matrix.dtype, np.integer) or matrix.dtype == bool):
            refuse(ConfigError, caller, f"scores have type {matrix.dtype}", "real numbers")
        matrix = matrix.astype(np.float64)
    elif matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float32)
    return matrix


def _masked(matrix: NDArray[np.floating], admissible: object | None, caller: str) -> NDArray[np.floating]:
    """Scores, −inf where not admissible; all others must be finite."""
    if admissible is not None:
        mask = as_array(admissible).astype(bool, copy=False)
        if mask.shape != matrix.shape:
            allowed = f"the shape of the scores, ({len(matrix)}, {matrix.shape[1]})"
            refuse(ConfigError, caller, f"admissible has shape {mask.shape}", allowed)
        matrix = np.where(mask, matrix, -np.inf).astype(matrix.dtype, copy=False)
    is_wrong = ~(matrix < np.inf)  # NaN counts as wrong, too, because the comparison is false for it
    if is_wrong.any():
        row, column = (int(index) for index in np.argwhere(is_wrong)[0])
        problem = f"the score of user {row} and item {column} is {matrix[row, column]}"
        refuse(ConfigError, caller, problem, "a finite number, or −inf for a pair that is not admissible")
    return matrix


def _amounts(values: object, length: int, caller: str, name: str, *, is_integral: bool) -> Array:
    """(length,) numbers of at least 0: int64 if whole, else float64."""
    amounts = as_array(values)
    if not spreads(amounts, length):
        refuse(ConfigError, caller, f"{name} has shape {amounts.shape}", f"one number or shape ({length},)")
    if is_integral and not (
        np.issubdtype(amounts.dtype, np.integer) or np.issubdtype(amounts.dtype, np.floating)
    ):
        refuse(ConfigError, caller, f"{name} has type {amounts.dtype}", "whole numbers of at least 0")
    numbers = amounts.astype(np.float64)
    is_wrong = ~np.isfinite(numbers) | (numbers < 0)
    if is_integral:
        is_wrong |= numbers != np.floor(numbers)
        if is_wrong.any():
            first_wrong = amounts.reshape(-1)[np.flatnonzero(is_wrong.reshape(-1))[0]]
            allowed = "whole numbers of at least 0 (round them first)"
            refuse(ConfigError, caller, f"{name} holds {first_wrong!s}", allowed)
        numbers = numbers.astype(np.int64)
    elif is_wrong.any():
        raise ConfigError(f"{caller}: {name} must hold finite numbers of at least 0")
    return np.array(np.broadcast_to(numbers, (length,)))


def _weights(values: object, max_capacity: int, caller: str) -> Floats:
    """Checked position weights, at least ``max_capacity``; 1 by default."""
    weights = np.ones(max(max_capacity, 1)) if values is None else as_array(values).astype(np.float64)
    if weights.ndim != 1 or not len(weights) or not np.isfinite(weights).all() or not (weights > 0).all():
        refuse(ConfigError, caller, f"position_weights are {values!r}", "(k,) positive numbers")
    if (np.diff(weights) > 0).any():
        refuse(
            ConfigError, caller, "a position_weight is above the weight before it", "non-increasing weights"
        )
    if max_capacity > len(weights):
        raise ConfigError(
            f"{caller}: a capacity is {max_capacity}, but there are only {len(weights)} position_weights. Give a "
            "weight for each position"
        )
    return np.ascontiguousarray(weights)


def _cost(values: object, length: int, caller: str) -> Floats:
    """(length,) cost of a missing exposure; infinite for hard floors."""
    numbers = as_array(np.inf if values is None else values).astype(np.float64)
    if not spreads(numbers, length) or not (numbers >= 0).all():
        allowed = f"a number of at least 0, or one per item ({length},)"
        refuse(ConfigError, caller, f"cost is {values!r}", allowed)
    return np.array(np.broadcast_to(numbers, (length,)))


def _in_units(weights: Floats, required: Floats, allowed: Floats | None) -> bool:
    """True if all bounds are whole multiples of one weight."""
    bounds = (required if allowed is None else np.concatenate([required, allowed])) / weights[0]
    is_multiple = np.abs(bounds - np.rint(bounds)) <= _SAME * (1.0 + bounds)
    return bool((weights == weights[0]).all() and is_multiple.all())


class Weighting(TypedDict, total=False):
    """Optional keyword arguments that solver and certificate share."""

    # (k,) weight of an exposure at each position in scores and exposures, positive and never rising; None: all 1
    position_weights: ArrayLike | None
    rows: Rows | None  # requirements on several items or for some users; None: there are none


def refuse_unknown(caller: str, options: Weighting, options_type: type) -> None:
    """Refuse keyword arguments that a typed dictionary does not have."""
    if unknown := sorted(set(options) - set(options_type.__annotations__)):
        raise TypeError(f"{caller}() got an unexpected keyword argument {unknown[0]!r}")


@dataclass(frozen=True, eq=False)
class Problem:
    """Checked scores, capacities, floors, caps, mask and cost of shortfall."""

    scores: NDArray[np.floating]  # (n, M) float32 or float64; −inf: inadmissible
    capacity: Ints  # (n,) number of positions of each user, at most M
    # (M,) required exposures: whole positions as int64, or float64 if ``weights`` are given.
    min_exposure: Array
    max_exposure: Array  # (M,) largest exposures, of the same type; n·w₁ without a cap
    cost: Floats  # (M,) cost of a missing exposure; infinite if floors are hard
    chunks: ChunkedScores | None  # scores computed on demand; then ``scores`` is empty
    # (k,) weight of an exposure at each position; None: every position has the weight ``unit``.
    weights: Floats | None
    unit: float  # weight of each position if all positions have the same weight
    rows: Rows | None  # requirements on several items or for some users; None: there are none
    caller: str  # name of the public function, with which error messages begin

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M): numbers of users and items."""
        return len(self.capacity), len(self.min_exposure)

    def block(self, start: int, stop: int) -> NDArray[np.floating]:
        """Scores of consecutive users, read-only; −inf: not admissible."""
        if self.chunks is not None:
            return np.asarray(self.chunks.rows(start, stop))
        return self.scores[start:stop]

    def bonus_ceiling(self, largest: float) -> Floats:
        """(M,) largest allowed bonuses: cost, or 100 times the largest score.

        Without this limit, hard floors that cannot be met would raise bonuses without end.
        """
        return np.where(np.isinf(self.cost), 100.0 * max(largest, 1e-300), self.cost)

    @classmethod
    def of(
        cls,
        caller: str,
        scores: object,
        capacity: ArrayLike,
        min_exposure: ArrayLike,
        max_exposure: ArrayLike | None,
        admissible: object | None,
        cost: ArrayLike | None,
        options: Weighting,
    ) -> Problem:
        """Check and convert the arguments of a function.

        If all weights are equal and bounds are multiples of them, weights are removed from the problem.

        Raises:
            ConfigError: If a shape, type or value does not fit; the message names the argument.
        """
        position_weights = options.get("position_weights")
        rows = options.get("rows")
        matrix, chunks = _scores_of(scores, admissible, caller)
        n, m = matrix.shape if chunks is None else chunks.shape
        n_positions = np.minimum(_amounts(capacity, n, caller, "capacity", is_integral=True), m)
        if rows is not None:
            rows.refuse_unfit(n, m, caller)
        weights = None
        unit = 1.0
        if position_weights is not None or rows is not None:
            weights = _weights(position_weights, int(n_positions.max(initial=0)), caller)
            required = _amounts(min_exposure, m, caller, "min_exposure", is_integral=False)
            allowed = None
            if max_exposure is not None:
                allowed = _amounts(max_exposure, m, caller, "max_exposure", is_integral=False)
            if rows is None and _in_units(weights, required, allowed):
                unit = float(weights[0])
                weights = None
                min_exposure = np.rint(required / unit)
                max_exposure = None if allowed is None else np.rint(allowed / unit)
        required = _amounts(min_exposure, m, caller, "min_exposure", is_integral=weights is None)
        unlimited_exposure = n if weights is None else n * weights[0]
        allowed = _allowed_exposure(
            max_exposure, required, unlimited_exposure, caller, is_integral=weights is None
        )
        cost_of_missing = _cost(cost, m, caller)
        return cls(
            scores=matrix,
            capacity=n_positions,
            min_exposure=required,
            max_exposure=allowed,
            cost=cost_of_missing,
            chunks=chunks,
            weights=weights,
            unit=unit,
            rows=rows,
            caller=caller,
        )


def _scores_of(
    scores: object, admissible: object | None, caller: str
) -> tuple[NDArray[np.floating], ChunkedScores | None]:
    """Checked matrix of scores; if empty, scores in chunks."""
    # Sparse matrices are recognised by these methods, so SciPy need not be imported.
    if hasattr(scores, "tocsr") and hasattr(scores, "nnz"):
        scores = SparseScores(scores, caller)
    if not isinstance(scores, ChunkedScores):
        return _masked(_matrix(scores, caller), admissible, caller), None
    if admissible is not None:
        raise ConfigError(
            f"{caller}: admissible cannot be given with scores in chunks. Let rows() return −inf for pairs "
            "that are not admissible"
        )
    return np.empty((0, 0)), scores


def _allowed_exposure(
    max_exposure: ArrayLike | None, required: Array, largest: float, caller: str, *, is_integral: bool
) -> Array:
    """(M,) largest allowed exposures, ``largest`` where there is no cap."""
    if max_exposure is None:
        return np.full(len(required), largest, required.dtype)
    allowed = _amounts(max_exposure, len(required), caller, "max_exposure", is_integral=is_integral)
    infeasible_items = np.flatnonzero(required > allowed)
    if len(infeasible_items):
        item = int(infeasible_items[0])
        raise ConfigError(
            f"{caller}: item {item} has min_exposure {required[item]} but max_exposure {allowed[item]}. Lower "
            "min_exposure or raise max_exposure"
        )
    return np.minimum(allowed, largest)
