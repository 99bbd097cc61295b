"""How much weight the parts of a score get, chosen by what held-out users took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import scipy

from rimsim.arrays import Bools, Float32s, Floats

if TYPE_CHECKING:
    from rimsim.intensity.selection.held_out import HeldOut

    Loss: TypeAlias = Callable[[Floats], tuple[float, Floats]]


_ROWS = 256
"""Rows whose sums are added up at once."""
_NEAR = 2**16
"""Scores that are computed at once: they and room for as many take half a megabyte."""
_ROUNDS = 3
"""How often the weights' own best items are looked up and the weights fitted anew; then they hardly move."""
_FLAT = 1e-4
"""Spread in nats below which a part tells items apart by rounding errors, so that its weight is 0."""
_WORTHLESS = 1e-7
"""Nats below which a weight has not helped: no more than sums in single precision are off by."""
_LEAST = 1e-30
"""A share of nothing, so that its logarithm is finite."""


def for_all(held: HeldOut, parts: Sequence[Float32s]) -> Floats:
    """The weights w ≥ 0 with which softmax(Σ_i w_i·part_i) over unconsumed items makes all that was taken most likely.

    Each item that was taken counts alike. A part that tells no items apart, or without which they are as likely, has
    weight 0.

    Args:
        held: The held-out states.
        parts: Logits, each (n, M) or (M,).

    Returns:
        (len(parts),) weights.
    """
    units, spread, start = _in_units(parts)
    loss = unlikelihood(held, units)
    return _spared(loss, *_minimum(loss, start, start)) / spread


def for_slates(held: HeldOut, parts: Sequence[Float32s]) -> Floats:
    """The weights w ≥ 0 that foretell best which items of a slate are taken.

    Under p = softmax(Σ_i w_i·part_i), a user who took n items takes one that is shown with probability
    1 − exp(−n·p(y|x)). The weights make the answers to the shown items, taken or not, most likely. Shown are the ten
    best items of every part that is the same for all users, and the ten best of the weights themselves. What
    :func:`for_all` finds is decided by the many items that no slate holds. Arguments and result are as there.
    """
    units, spread, start = _in_units(parts)
    general = np.zeros(held.taken.shape, bool)
    for part in parts:
        if part.ndim == 1:
            general |= held.best(part)
    weights = start
    for _ in range(_ROUNDS):
        loss = unlikelihood_of_answers(
            held, units, general | held.best(_sum(weights, units, held.taken.shape))
        )
        weights, value = _minimum(loss, weights, start)
    return _spared(loss, weights, value) / spread


def _in_units(
    parts: Sequence[Float32s],
) -> tuple[list[Float32s], Floats, Floats]:
    """Parts in units of their own spread, in which all are found in as few steps; the spreads; a start."""
    spread = np.array([float(part.std()) for part in parts])
    told = spread >= _FLAT
    spread[~told] = 1.0
    units = [part / np.float32(unit) for part, unit in zip(parts, spread, strict=True)]
    return units, spread, np.where(told, 0.5, 0.0)


def _minimum(loss: Loss, weights: Floats, start: Floats) -> tuple[Floats, float]:
    """The best weights, 0 where the start is 0, and their loss."""
    bounds = [(0.0, None if one else 0.0) for one in start]
    found = scipy.optimize.minimize(loss, weights, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x, np.float64), float(found.fun)


def _spared(loss: Loss, weights: Floats, value: float) -> Floats:
    """The weights, with 0 for each that has not helped."""
    for place in np.flatnonzero(weights):
        without = weights.copy()
        without[place] = 0.0
        less = loss(without)[0]
        if less <= value + _WORTHLESS:
            weights, value = without, less
    return weights


def unlikelihood(held: HeldOut, parts: Sequence[Float32s]) -> Loss:
    """Mean −log p(y|x) of an item that was taken under weights, nats, and its slope.

    Args:
        held: The held-out states.
        parts: Logits, each (n, M) or (M,).
    """
    softmax, count = _Softmax(held, parts), held.taken.sum(1)
    labels = float(held.taken.sum())
    observed = np.array([_total(part, held.taken) for part in parts])

    def loss(weights: Floats) -> tuple[float, Floats]:
        value, slope = -float(weights @ observed), -observed
        for span in _spans(held):
            share, norm, top = softmax.shares(weights, span)
            value += float(count[span] @ (top + np.log(norm)))
            slope = slope + softmax.totals(share, (count[span] / norm).astype(np.float32), span)
        return value / labels, slope / labels

    return loss


def unlikelihood_of_answers(held: HeldOut, parts: Sequence[Float32s], shown: Bools) -> Loss:
    """Mean −log likelihood of the answer to a shown item under weights, nats, and its slope.

    Args:
        held: The held-out states.
        parts: Logits, each (n, M) or (M,).
        shown: (n, M) what is shown.
    """
    softmax = _Softmax(held, parts)
    cells = [np.nonzero(shown[span]) for span in _spans(held)]
    taken_cells = [held.taken[span][cell] > 0 for span, cell in zip(_spans(held), cells, strict=True)]
    own = [
        [(part if part.ndim == 1 else part[span])[cell[-part.ndim :]] for part in parts]
        for span, cell in zip(_spans(held), cells, strict=True)
    ]
    number = held.taken.sum(1, dtype=np.float64)
    total = float(shown.sum())

    def loss(weights: Floats) -> tuple[float, Floats]:
        value, slope = 0.0, np.zeros(len(parts))
        for span, (row, item), taken, mine in zip(_spans(held), cells, taken_cells, own, strict=True):
            share, norm, _ = softmax.shares(weights, span)
            expected = np.maximum(number[span][row] * share[row, item] / norm[row], _LEAST)
            value -= float(np.where(taken, np.log(-np.expm1(-expected)), -expected).sum())
            with np.errstate(over="ignore"):  # the pull of who takes thousands is 0
                pull = np.where(taken, -expected / np.expm1(expected), expected)
            factor = (np.bincount(row, pull, len(norm)) / norm).astype(np.float32)
            slope += [pull @ part for part in mine] - softmax.totals(share, factor, span)
        return value / total, slope / total

    return loss


def _spans(held: HeldOut) -> list[slice]:
    return [slice(first, min(first + _ROWS, len(held))) for first in range(0, len(held), _ROWS)]


class _Softmax:
    """Softmaxes of weighed parts over unconsumed items, a few rows at a time, which then lie in the nearest caches.

    A row's bits do not depend on how many are computed together.

    Args:
        held: The held-out states.
        parts: Logits, each (n, M) or (M,).
    """

    def __init__(self, held: HeldOut, parts: Sequence[Float32s]) -> None:
        n, m = held.taken.shape
        self._parts = parts
        self._height = max(1, _NEAR // m)
        self._room = np.empty((min(self._height, n), m), np.float32)
        self._share = np.empty((min(_ROWS, n), m), np.float32)
        self._consumed = {
            rows.start: np.flatnonzero(held.consumed[rows])
            for span in _spans(held)
            for rows in self._few(span)
        }

    def _few(self, span: slice) -> list[slice]:
        return [
            slice(first, min(first + self._height, span.stop))
            for first in range(span.start, span.stop, self._height)
        ]

    def shares(self, weights: Floats, span: slice) -> tuple[Float32s, Floats, Float32s]:
        """Of some rows: exp of logits less the largest, 0 where consumed; its sum over items; the largest logit.

        The first of them lies where the next call puts its own.
        """
        share = self._share[: span.stop - span.start]
        norm, top = np.empty(len(share)), np.empty(len(share), np.float32)
        alike = [
            np.float32(weight) * part if part.ndim == 1 else None
            for weight, part in zip(weights.tolist(), self._parts, strict=True)
        ]
        for rows in self._few(span):
            here = slice(rows.start - span.start, rows.stop - span.start)
            logits, room = share[here], self._room[: rows.stop - rows.start]
            logits[:] = 0.0
            for weight, part, same in zip(weights.tolist(), self._parts, alike, strict=True):
                logits += np.multiply(part[rows], np.float32(weight), out=room) if same is None else same
            logits.reshape(-1)[self._consumed[rows.start]] = -np.inf
            logits.max(1, out=top[here])
            logits -= top[here][:, None]
            np.exp(logits, out=logits)
            logits.sum(1, dtype=np.float64, out=norm[here])
        return share, norm, top

    def totals(self, share: Float32s, factor: Float32s, span: slice) -> Floats:
        """(parts,) Σ part·factor·share over some rows; see :func:`_total`.

        Args:
            share: (rows, M) what :meth:`shares` gave; changed.
            factor: (rows,) a number a row.
            span: The rows.
        """
        by_row = np.empty((len(self._parts), len(share)), np.float32)
        for rows in self._few(span):
            here = slice(rows.start - span.start, rows.stop - span.start)
            some, room = share[here], self._room[: rows.stop - rows.start]
            some *= factor[here][:, None]
            for number, part in enumerate(self._parts):
                np.multiply(part if part.ndim == 1 else part[rows], some, out=room).sum(
                    1, out=by_row[number, here]
                )
        return np.asarray(by_row.sum(1, dtype=np.float64), np.float64)


def _sum(weights: Floats, parts: Sequence[Float32s], shape: tuple[int, ...]) -> Float32s:
    """(n, M) the weighed parts together."""
    logits = np.zeros(shape, np.float32)
    for weight, part in zip(weights.tolist(), parts, strict=True):
        logits += np.float32(weight) * part
    return logits


def _total(part: Float32s, weight: Float32s) -> float:
    """Σ part·weight, added up in rows and then in float64."""
    return float((part * weight).sum(1).sum(dtype=np.float64))
