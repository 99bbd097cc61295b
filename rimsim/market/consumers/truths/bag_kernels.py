"""What is consumed of a slate under a truth of class ``bag``, compiled: one product of matrix and vector a visit.

Sums go in one order, each visit by itself, so that its bits do not depend on how many visits are answered at once.
``float`` says where single precision ends, for plain Python, which would stay in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rimsim.compiled import compiled
from rimsim.market.consumers.kernels import poisson_probability, uniform_draw

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["answer_slates", "preferences", "visit_shares"]


@compiled
def _add(vector: NDArray[np.float32], row: NDArray[np.float32]) -> None:
    for column in range(len(vector)):
        vector[column] += row[column]


@compiled
def _logits(
    hidden: NDArray[np.float32],
    events: int,
    predicted: NDArray[np.float32],
    bias: NDArray[np.float32],
    logit: NDArray[np.float32],
) -> None:
    """Fill in (M,) logits; ``hidden`` (width,) is the sum over so many events, and is scaled in place.

    Four rows of the matrix at a time, so that the logits, which lie in the nearest cache, are read and written a
    quarter as often.
    """
    hidden *= np.float32(1.0 / math.sqrt(events + 1.0))
    width, whole = len(hidden), len(hidden) - len(hidden) % 4
    logit[:] = bias
    for j in range(0, whole, 4):
        h0, h1, h2, h3 = hidden[j], hidden[j + 1], hidden[j + 2], hidden[j + 3]
        p0, p1, p2, p3 = predicted[j], predicted[j + 1], predicted[j + 2], predicted[j + 3]
        for item in range(len(logit)):
            logit[item] += (h0 * p0[item] + h1 * p1[item]) + (h2 * p2[item] + h3 * p3[item])
    for j in range(whole, width):
        h0, p0 = hidden[j], predicted[j]
        for item in range(len(logit)):
            logit[item] += h0 * p0[item]


@compiled
def _exponentials(logit: NDArray[np.float32]) -> float:
    """Exp of (M,) logits less the largest, in place, and their sum; 0 where all are −∞."""
    top = np.float32(-np.inf)
    for item in range(len(logit)):
        top = max(top, logit[item])
    if top == -np.inf:
        logit[:] = 0.0
        return 0.0
    total = 0.0
    for item in range(len(logit)):
        logit[item] = math.exp(np.float64(logit[item] - top))
        total += float(logit[item])
    return total


@compiled
def _weigh(
    slot: int,
    tick: int,
    begin: NDArray[np.int64],
    length: NDArray[np.int64],
    logged: NDArray[np.int64],
    first: NDArray[np.int64],
    items: NDArray[np.int64],
    following: NDArray[np.int64],
    release: NDArray[np.int64],
    read: NDArray[np.float32],
    predicted: NDArray[np.float32],
    bias: NDArray[np.float32],
    hidden: NDArray[np.float32],
    weight: NDArray[np.float32],
) -> float:
    """Fill in (M,) weights ∝ p*, 0 for what is consumed or not released, and return their sum.

    Args:
        slot: Whose visit it is.
        tick: When.
        begin: (slots,) where each slot's logged past begins.
        length: (slots,) how long it is.
        logged: Items of the log, by user.
        first: (slots,) place of each visitor's oldest event in the market; −1 where there is none.
        items: (room,) items of the events.
        following: (room,) place of the same visitor's next event; −1 where there is none.
        release: (M,) tick of each item's release.
        read: (M, width) E.
        predicted: (width, M) W.
        bias: (M,) b.
        hidden: (width,) room.
        weight: (M,) filled in place.
    """
    hidden[:] = 0.0
    number = length[slot]
    for place in range(begin[slot], begin[slot] + number):
        _add(hidden, read[logged[place]])
    place = first[slot]
    while place >= 0:
        _add(hidden, read[items[place]])
        number += 1
        place = following[place]
    _logits(hidden, number, predicted, bias, weight)
    for place in range(begin[slot], begin[slot] + length[slot]):
        weight[logged[place]] = -np.inf
    place = first[slot]
    while place >= 0:
        weight[items[place]] = -np.inf
        place = following[place]
    for item in range(len(weight)):
        if release[item] > tick:
            weight[item] = -np.inf
    return _exponentials(weight)


@compiled
def preferences(
    offsets: NDArray[np.int64],
    items: NDArray[np.int64],
    read: NDArray[np.float32],
    predicted: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> NDArray[np.float64]:
    """(n, M) p* over the whole catalogue of n states; the i-th is items ``offsets[i]`` to ``offsets[i + 1]``."""
    share = np.empty((len(offsets) - 1, len(bias)), np.float64)
    weight = np.empty(len(bias), np.float32)
    for row in range(len(share)):
        hidden = np.zeros(read.shape[1], np.float32)
        for place in range(offsets[row], offsets[row + 1]):
            _add(hidden, read[items[place]])
        _logits(hidden, offsets[row + 1] - offsets[row], predicted, bias, weight)
        total = _exponentials(weight)
        for item in range(len(weight)):
            share[row, item] = float(weight[item]) / total
    return share


@compiled
def visit_shares(
    slots: NDArray[np.int64],
    ticks: NDArray[np.int64],
    begin: NDArray[np.int64],
    length: NDArray[np.int64],
    logged: NDArray[np.int64],
    first: NDArray[np.int64],
    items: NDArray[np.int64],
    following: NDArray[np.int64],
    release: NDArray[np.int64],
    read: NDArray[np.float32],
    predicted: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> NDArray[np.float64]:
    """(n, M) p* over what n visits may consume, 0 where nothing is left; arguments as in :func:`answer_slates`."""
    share = np.zeros((len(slots), len(bias)), np.float64)
    hidden, weight = np.empty(read.shape[1], np.float32), np.empty(len(bias), np.float32)
    for n in range(len(slots)):
        total = _weigh(
            slots[n], ticks[n], begin, length, logged, first, items, following, release, read, predicted, bias,
            hidden, weight,
        )  # fmt: skip
        if total > 0.0:
            for item in range(len(weight)):
                share[n, item] = float(weight[item]) / total
    return share


@compiled
def answer_slates(
    slates: NDArray[np.int64],
    slots: NDArray[np.int64],
    ticks: NDArray[np.int64],
    keys: NDArray[np.uint64],
    ground: NDArray[np.float64],
    begin: NDArray[np.int64],
    length: NDArray[np.int64],
    logged: NDArray[np.int64],
    first: NDArray[np.int64],
    items: NDArray[np.int64],
    following: NDArray[np.int64],
    release: NDArray[np.int64],
    read: NDArray[np.float32],
    predicted: NDArray[np.float32],
    bias: NDArray[np.float32],
    examination: NDArray[np.float64],
    attraction: float,
    consumed: NDArray[np.bool_],
    probability: NDArray[np.float64],
    intensity: NDArray[np.float64],
) -> None:
    """What n visits of different visitors make of their slates.

    Args:
        slates: (n, k) items; −1 where a position is empty.
        slots: (n,) whose visits they are.
        ticks: (n,) when they come.
        keys: (n,) of the draws.
        ground: (n,) λ*.
        begin: As in :func:`_weigh`, like those down to ``bias``.
        length: See there.
        logged: See there.
        first: See there.
        items: See there.
        following: See there.
        release: See there.
        read: See there.
        predicted: See there.
        bias: See there.
        examination: (k,) γ^(r−1).
        attraction: a.
        consumed: (n, k) filled in place.
        probability: (n, k) filled in place; 0 where nothing can be consumed.
        intensity: (n, k) filled in place: true intensities λ*(x)·p*(y|x) over what is admissible.
    """
    hidden, weight = np.empty(read.shape[1], np.float32), np.empty(len(bias), np.float32)
    for n in range(len(slates)):
        total = _weigh(
            slots[n], ticks[n], begin, length, logged, first, items, following, release, read, predicted, bias,
            hidden, weight,
        )  # fmt: skip
        for position in range(slates.shape[1]):
            item = slates[n, position]
            if item < 0 or weight[item] == 0.0:
                consumed[n, position], probability[n, position], intensity[n, position] = False, 0.0, 0.0
                continue
            intensity[n, position] = float(weight[item]) / total * ground[n]
            probability[n, position] = poisson_probability(
                intensity[n, position], examination[position], attraction
            )
            consumed[n, position] = uniform_draw(keys[n], item) < probability[n, position]
