"""Truth of class ``bag``: preference follows from all consumed items."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.data.log import EventLog
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import Shrinkage
from rimsim.intensity.sets.bag import Bag, BagConfig
from rimsim.intensity.states import UserStates
from rimsim.market.consumers.contract import (
    Law,
    Response,
    SlateVisits,
    TruthReport,
    poisson_probability,
    uniform_draw,
)
from rimsim.market.consumers.session_sizes import FittedTruth, SessionSizes
from rimsim.market.consumers.truth_fits import JudgedTruth, judged

_LANES = 32
_NOTHING = np.float32(-150.0)
"""A logit that far below the largest is 0 in single precision."""
_PER_LOG_2 = 1.0 / math.log(2.0)
_LOG_2 = float.fromhex("0x1.62e42fee00000p-1")
"""log 2 to 32 bits: a whole number of them is exact."""
_LOG_2_REST = float.fromhex("0x1.a39ef35793c76p-33")
_WHOLE = 1.5 * 2.0**52
"""Added to a number of less than 2⁵¹, it rounds it to a whole one, which then stands in the lowest bits."""
_C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12, _C13 = (
    1.0 / math.factorial(power) for power in range(3, 14)
)


@compiled
def _add(vector: Float32s, row: Float32s) -> None:
    for column in range(len(vector)):
        vector[column] += row[column]


@compiled
def _logits(hidden: Float32s, events: int, predicted: Float32s, bias: Float32s, logit: Float32s) -> None:
    """Fill in (M,) logits; ``hidden`` (width,) is scaled in place."""
    # ``hidden`` is the sum over the events. Four rows of the matrix at a time, so that the logits, which lie in the
    # nearest cache, are read and written a quarter as often.
    hidden *= np.float32(1.0 / math.sqrt(events + 1.0))
    width, whole = len(hidden), len(hidden) - len(hidden) % 4
    for item in range(len(logit)):
        logit[item] = bias[item]
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
def _largest(logit: Float32s) -> np.float32:
    """Largest of (M,) numbers, by lanes."""
    lanes = np.full(_LANES, -np.inf, np.float32)
    whole = len(logit) - len(logit) % _LANES
    for begin in range(0, whole, _LANES):
        for lane in range(_LANES):
            value = logit[begin + lane]
            lanes[lane] = max(lanes[lane], value)
    for item in range(whole, len(logit)):
        lanes[0] = max(lanes[0], logit[item])
    top = np.float32(-np.inf)
    for lane in range(_LANES):
        top = max(top, lanes[lane])
    return top


@compiled
def _exponentials(logit: Float32s, power: Floats) -> float:
    """Exponentiate (M,) logits less the largest in place; returns their sum."""
    # The sum is 0 where all are −∞. exp(x) = 2ⁿ·exp(x − n·log 2), n the nearest whole number to x / log 2. The second
    # factor is a sum of powers; its remainder, 4·10⁻¹⁸ of it, is less than the rounding of doubles, and single
    # precision is kept. No step of the loops branches or calls, so that eight items go through at once. ``power``
    # (M,) is room.
    top = _largest(logit)
    if top == -np.inf:
        logit[:] = 0.0
        return 0.0
    bits = power.view(np.int64)
    for item in range(len(logit)):
        less = logit[item] - top
        power[item] = np.float64(max(_NOTHING, less)) * _PER_LOG_2 + _WHOLE
    for item in range(len(logit)):
        less = logit[item] - top
        turns = power[item] - _WHOLE
        rest = (np.float64(max(_NOTHING, less)) - turns * _LOG_2) - turns * _LOG_2_REST
        total = _C13
        total = total * rest + _C12
        total = total * rest + _C11
        total = total * rest + _C10
        total = total * rest + _C9
        total = total * rest + _C8
        total = total * rest + _C7
        total = total * rest + _C6
        total = total * rest + _C5
        total = total * rest + _C4
        total = total * rest + _C3
        total = total * rest + 0.5
        total = total * rest + 1.0
        total = total * rest + 1.0
        bits[item] = (bits[item] + 1023) << 52  # 2ⁿ: the exponent of a double stands above its 52 bits
        logit[item] = np.float32(total * power[item])
    found = 0.0
    for item in range(len(logit)):
        found += float(logit[item])
    return found


@compiled
def _weigh(slot: int, tick: int, begin: Ints, length: Ints, logged: Ints, first: Ints, items: Ints,
    following: Ints, release: Ints, read: Float32s, predicted: Float32s, bias: Float32s, hidden: Float32s,
    power: Floats, weight: Float32s) -> float:  # fmt: skip
    """Fill in (M,) weights ∝ p* of a visit; returns their sum."""
    # They are 0 for consumed or unreleased items. ``begin`` and ``length`` (slots,) locate logged pasts in
    # ``logged``; ``hidden`` (width,) and ``power`` (M,) are room.
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
    return _exponentials(weight, power)


@compiled
def preferences(offsets: Ints, items: Ints, read: Float32s, predicted: Float32s, bias: Float32s) -> Floats:
    """(n, M) p* over the catalogue of n states."""
    share = np.empty((len(offsets) - 1, len(bias)), np.float64)
    weight, power = np.empty(len(bias), np.float32), np.empty(len(bias), np.float64)
    for row in range(len(share)):
        hidden = np.zeros(read.shape[1], np.float32)
        for place in range(offsets[row], offsets[row + 1]):
            _add(hidden, read[items[place]])
        _logits(hidden, offsets[row + 1] - offsets[row], predicted, bias, weight)
        total = _exponentials(weight, power)
        for item in range(len(weight)):
            share[row, item] = float(weight[item]) / total
    return share


@compiled
def visit_shares(slots: Ints, ticks: Ints, begin: Ints, length: Ints, logged: Ints, first: Ints, items:
    Ints, following: Ints, release: Ints, read: Float32s, predicted: Float32s, bias: Float32s) -> Floats:  # fmt: skip
    """(n, M) p* over admissible items; 0 without any."""
    share = np.zeros((len(slots), len(bias)), np.float64)
    hidden, weight = np.empty(read.shape[1], np.float32), np.empty(len(bias), np.float32)
    power = np.empty(len(bias), np.float64)
    for n in range(len(slots)):
        total = _weigh(
            slots[n], ticks[n], begin, length, logged, first, items, following, release, read, predicted, bias,
            hidden, power, weight,
        )  # fmt: skip
        if total > 0.0:
            for item in range(len(weight)):
                share[n, item] = float(weight[item]) / total
    return share


@compiled
def answer_bag(slates: Ints, slots: Ints, ticks: Ints, keys: NDArray[np.uint64], ground: Floats, begin:
    Ints, length: Ints, logged: Ints, first: Ints, items: Ints, following: Ints, release: Ints, read:
    Float32s, predicted: Float32s, bias: Float32s, examination: Floats, attraction: float, consumed: Bools,
    probability: Floats, intensity: Floats) -> None:  # fmt: skip
    """Fill in responses (n, k) of visits of different visitors."""
    # Arrays are those of :func:`_weigh`, of the truth and of the law of consumption.
    hidden, weight = np.empty(read.shape[1], np.float32), np.empty(len(bias), np.float32)
    power = np.empty(len(bias), np.float64)
    for n in range(len(slates)):
        total = _weigh(
            slots[n], ticks[n], begin, length, logged, first, items, following, release, read, predicted, bias,
            hidden, power, weight,
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


@dataclass(frozen=True, eq=False)
class BagTruth(FittedTruth):
    """Truth in which preference depends on all consumed items.

    p*(y|x) ∝ exp(⟨W_y, Σ_{i ∈ x} E_i⟩/√(n + 1) + b_y) over admissible items, n the events of x: the law of
    :class:`rimsim.intensity.sets.bag.Bag`. Two users in one state have the same preference; their identity matters in
    λ* alone.
    """

    kind: ClassVar[str] = "bag"
    arrays: ClassVar[tuple[str, ...]] = ("read", "predicted", "bias")

    read: Float32s
    """(M, width) E."""
    predicted: Float32s
    """(width, M) W, transposed: compiled code adds up all items side by side."""
    bias: Float32s
    """(M,) b."""
    sizes: SessionSizes
    """λ*."""
    report: TruthReport

    def preference(self, users: Ints, states: UserStates) -> Floats:  # noqa: ARG002  # the protocol's
        """(n, M) p* over the whole catalogue; of the state alone."""
        return preferences(states.offsets, states.items, self.read, self.predicted, self.bias)

    def answer(self, visits: SlateVisits, slates: Ints, ground: Floats, law: Law, response: Response) -> None:
        """Fill in the response in one compiled pass."""
        histories, events = visits.histories, visits.histories.events
        answer_bag(slates, visits.slot, visits.tick, visits.keys[visits.row], ground, histories.begin,
            histories.length, histories.past.items, events.first, events.item, events.next,
            visits.world.release, self.read, self.predicted, self.bias, law.examination, law.attraction,
            response.consumed, response.probability, response.intensity)  # fmt: skip

    def shares(self, visits: SlateVisits) -> Floats:
        """(n, M) p* over admissible items, visit by visit."""
        histories, events = visits.histories, visits.histories.events
        return visit_shares(visits.slot, visits.tick, histories.begin, histories.length,
            histories.past.items, events.first, events.item, events.next, visits.world.release, self.read,
            self.predicted, self.bias)  # fmt: skip


class _Chosen(Bag):
    """Bag whose shrinkage is given: a bootstrap must not choose."""

    @classmethod
    def of(cls, gap: str) -> _Chosen:
        """Unfitted bag on the processor."""
        return cls(BagConfig(session_gap=gap, device="cpu"))

    def judged(self, held: HeldOut, decay: float) -> JudgedTruth:
        """Candidate of a weight decay."""
        (fit,) = self._fits(held.past, (decay,), held.whole)
        scores = self._scores(fit, held.states).astype(np.float64)
        popular, _ = self._impersonal(held.past)
        return judged(held, "bag", decay, scores, popular, self.config.session_gap)

    def fit_as(self, log: EventLog, whole: EventLog, first: JudgedTruth, held: HeldOut | None) -> _Chosen:
        """Bag fitted to a log or bootstrap with the choice."""
        best = first.candidate
        given = Shrinkage(best.ridge, best.personal, best.popularity, best.returning, spread=first.spread)
        return self._fit_with(given, log, whole, held)


def judge_bag(held: HeldOut, ridge: float, gap: str, rank: int) -> JudgedTruth:  # noqa: ARG001  # of all classes
    """Candidate of a weight decay; the bag's width ignores ``rank``."""
    return _Chosen.of(gap).judged(held, ridge)


def fit_bag(
    log: EventLog,
    about: EventLog,
    first: JudgedTruth,
    held: HeldOut | None,
    *,
    gap: str,
    rank: int,
    sizes: SessionSizes,
    report: TruthReport,
) -> BagTruth:
    """Bag truth of a candidate; arguments as for ``fit_factors_truth``."""
    # Of ``about`` a bag needs only the states; its size decides whether samples are used.
    del rank
    model = _Chosen.of(gap).fit_as(log, about, first, held)
    read, predicted, bias = (model.served(name).numpy() for name in ("read", "predicted", "bias"))
    if model.shrinkage is not None:
        report = dataclasses.replace(report, personal=model.shrinkage.personal)
    return BagTruth(read.copy(), predicted.T.copy(), bias.copy(), sizes, report)
