"""Shrinkage of personal scores, chosen on held-out later sessions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import scipy

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.intensity.selection.held_out import HeldOut, Worth, best_of

Parts: TypeAlias = Sequence[Float32s]
"""Logits to be weighted: personal scores (n, M), if any, then one or two arrays (M,) that are the same for all
users."""

_SAME_SPREAD = 1.25
"""Largest ratio between the score spreads of two fits that counts as equal."""
_ROWS = 256
"""Number of rows that are added up at once."""
_LANES = 8
_RUN = 128
_CONVERTED = 8192
"""Sums add numbers in the order of NumPy: in eight lanes, over runs of at most 128 numbers, which are added pairwise.
NumPy converts at most 8192 numbers at once."""
_ROUNDS = 3
"""Number of times that the best items under the weights are found, and the weights fitted again. More rounds change
little."""
_FLAT = 1e-4
"""Spread of logits, in nats, below which items differ only by rounding errors; such logits get the weight 0."""
_WORTHLESS = 1e-7
"""Gain, in nats, below which a weight does not help, because sums in single precision have such errors."""
_LEAST = 1e-30
"""Smallest share that is used, so that its logarithm is finite."""


class Loss(Protocol):
    """Function of weights that returns a loss and its gradient."""

    def __call__(self, weights: Floats, *, sloped: bool = True) -> tuple[float, Floats]:
        """Loss, and its gradient if ``sloped``."""


@dataclass(frozen=True)
class Shrinkage:
    """Weights of three logits, and regularisation of personal scores s."""

    strength: float
    """Ridge penalty or weight decay in the fit of the personal scores s."""
    personal: float = 1.0
    """τ, the weight of the personal scores s."""
    popularity: float = 1.0
    """κ, the weight of log popularity."""
    returning: float = 0.0
    """κ', the weight of log popularity among returning users."""
    slates: bool = False
    """True if the weights are those of :func:`for_slates`, false for :func:`for_all`."""
    users: int = 0
    """Number of held-out users that the weights were chosen on. 0: too few users, so τ = κ = 1 and κ' = 0."""
    log_likelihood: float = 0.0
    """Mean log-likelihood, in nats, of items that held-out users took, over unconsumed items."""
    impersonal_log_likelihood: float = 0.0
    """Mean log-likelihood, in nats, of items that held-out users took, under the best weights with τ = 0."""
    precision: float = 0.0
    """Share of the ten best unconsumed items that held-out users took."""
    end_of_grid: bool = False
    """True if the chosen strength is the smallest or largest of several, so that a better strength may lie outside the
    grid."""
    spread: float = 0.0
    """Standard deviation of the scores s, in nats, over held-out states and all items, in the fit to the past."""
    rescaling: float = 1.0
    """Factor by which τ was multiplied after its choice (:func:`rescaling`); ``personal`` includes this factor."""
    likeliest: tuple[float, float, float] = (1.0, 1.0, 0.0)
    """Weights τ, κ, κ' that :func:`for_all` chooses for the fit to the past."""

    def line(self) -> str:
        """Report for the console."""
        if not self.users:
            return f"too few later sessions to choose on: strength {self.strength:g}, personal weight 1"
        remark = ", an end of the grid" if self.end_of_grid else ""
        weights = (
            f"{self.personal:.2f} personal, {self.popularity:.2f} popularity, {self.returning:.2f} returning"
        )
        weights += " for slates" if self.slates else ""
        nats = f"{self.log_likelihood:.3f} nats an item, {self.impersonal_log_likelihood:.3f} without the personal part"
        evidence = f"{self.users} later sessions: precision {self.precision:.3f}, {nats}"
        return f"strength {self.strength:g}{remark}; weights {weights}; {evidence}"


def rescaling(past: float, latest: float) -> float:
    """Factor that adapts a weight to another fit.

    The weight was chosen for a fit to a log's past. If a fit to the whole log has larger scores in the same states, the
    factor is the ratio of the standard deviations ``past`` and ``latest``.
    """
    return past / latest if latest > _SAME_SPREAD * past else 1.0


def chosen(
    held: HeldOut,
    scored: Iterable[tuple[float, Float32s]],
    log_popularity: Floats,
    log_returning: Floats,
    *,
    slates: bool = False,
) -> Shrinkage:
    """Regularisation and weights that predict held-out items best (:func:`best_of`).

    For every strength of regularisation and its scores s, two sets of weights are candidates. One set makes all taken
    items most likely, and the other set predicts best which items of a slate are taken. With ``slates``, the first set
    decides the strength, and the second set is used with this strength. Since the personal weight τ = 0 gives item
    popularity, the model is worse than popularity only by chance.
    """
    base = (log_popularity.astype(np.float32), log_returning.astype(np.float32))
    ways = (for_all,) if slates else (for_all, for_slates)
    impersonal_log_likelihoods = {}
    for way in ways:
        popularity, returning = way(held, base).tolist()
        impersonal_scores = popularity * base[0] + returning * base[1]
        impersonal_log_likelihoods[way] = held.nats(held.log_likelihood(impersonal_scores))
    choices: list[Shrinkage] = []
    worths: list[Worth] = []
    scores_by_strength: dict[float, Float32s] = {}
    for strength, scores in scored:
        weights = {way: way(held, (scores, *base)).tolist() for way in ways}
        for way, (personal, popularity, returning) in weights.items():
            worth = held.worth(personal * scores + (popularity * base[0] + returning * base[1]))
            worths.append(worth)
            choices.append(
                Shrinkage(
                    strength,
                    personal,
                    popularity,
                    returning,
                    slates=way is for_slates,
                    users=len(held),
                    log_likelihood=worth.nats,
                    impersonal_log_likelihood=impersonal_log_likelihoods[way],
                    precision=worth.precision,
                    spread=float(scores.std()),
                    likeliest=(weights[for_all][0], weights[for_all][1], weights[for_all][2]),
                )
            )
        if slates:
            scores_by_strength[strength] = scores
    best = choices[best_of(worths)]
    if slates:
        best_scores = scores_by_strength[best.strength]
        personal, popularity, returning = for_slates(held, (best_scores, *base)).tolist()
        best = dataclasses.replace(
            best, personal=personal, popularity=popularity, returning=returning, slates=True
        )
    ends = {choices[0].strength, choices[-1].strength}
    return dataclasses.replace(best, end_of_grid=len(ends) > 1 and best.strength in ends)


def for_all(held: HeldOut, parts: Parts) -> Floats:
    """(parts,) weights w ≥ 0 that make all taken items likeliest.

    The model is softmax(Σ_i w_i·part_i) over unconsumed items. All taken items have equal weight. A part of the logits
    that does not raise the likelihood has weight 0.
    """
    units, spread, start = _in_units(parts)
    loss = unlikelihood(held, units)
    return _spared(loss, *_minimum(loss, start, start)) / spread


def for_slates(held: HeldOut, parts: Parts) -> Floats:
    """(parts,) weights ≥ 0 that best predict taken items of slates.

    With p = softmax(Σ_i w_i·part_i), a user who took n items takes a shown item with probability 1 − exp(−n·p(y|x)).
    The weights maximise the likelihood of the answers to shown items, taken or not. The shown items are the ten best
    items by the weights, and the ten best by every part of the logits that is the same for all users. In contrast, the
    weights of :func:`for_all` depend on many items that no slate shows.
    """
    units, spread, start = _in_units(parts)
    general = np.zeros(held.taken.shape, bool)
    for part in parts:
        if part.ndim == 1:
            general |= held.best(part)
    weights = start
    for _ in range(_ROUNDS):
        logits = np.zeros(held.taken.shape, np.float32)
        for weight, part in zip(weights.tolist(), units, strict=True):
            logits += np.float32(weight) * part
        loss = unlikelihood_of_answers(held, units, general | held.best(logits))
        weights, value = _minimum(loss, weights, start)
    return _spared(loss, weights, value) / spread


def _in_units(parts: Parts) -> tuple[list[Float32s], Floats, Floats]:
    """Logits divided by their spread, the spreads, and start weights."""
    spread = np.array([float(part.std()) for part in parts])
    informative = spread >= _FLAT
    spread[~informative] = 1.0
    units = [part / np.float32(unit) for part, unit in zip(parts, spread, strict=True)]
    return units, spread, np.where(informative, 0.5, 0.0)


def _minimum(loss: Loss, weights: Floats, start: Floats) -> tuple[Floats, float]:
    """Best weights and their loss."""
    bounds = [(0.0, None if weight else 0.0) for weight in start]
    optimum = scipy.optimize.minimize(loss, weights, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(optimum.x, np.float64), float(optimum.fun)


def _spared(loss: Loss, weights: Floats, value: float) -> Floats:
    """Weights, with 0 where a part does not raise likelihood."""
    for place in np.flatnonzero(weights):
        without = weights.copy()
        without[place] = 0.0
        without_loss = loss(without, sloped=False)[0]
        if without_loss <= value + _WORTHLESS:
            weights = without
            value = without_loss
    return weights


def unlikelihood(held: HeldOut, parts: Parts) -> Loss:
    """Mean −log p(y|x) of taken items, and its gradient."""
    softmax = _WeightedSoftmax(held, parts)
    count = held.taken.sum(1)
    labels = float(held.taken.sum())
    # Rows are summed in float32. Their total is a float64, so that it does not lose small terms.
    observed = np.array([float((part * held.taken).sum(1).sum(dtype=np.float64)) for part in parts])

    def loss(weights: Floats, *, sloped: bool = True) -> tuple[float, Floats]:
        value = -float(weights @ observed)
        slope = -observed
        for span in _spans(held):
            share, norm, top = softmax.shares(weights, span)
            value += float(count[span] @ (top + np.log(norm)))
            if sloped:
                slope = slope + softmax.totals(share, count[span] / norm, span)
        return value / labels, slope / labels

    return loss


def unlikelihood_of_answers(held: HeldOut, parts: Parts, shown: Bools) -> Loss:
    """Mean −log likelihood of the answers to shown items."""
    softmax = _WeightedSoftmax(held, parts)
    cells = [np.nonzero(shown[span]) for span in _spans(held)]
    taken_cells = [held.taken[span][cell] > 0 for span, cell in zip(_spans(held), cells, strict=True)]
    columns = [
        [(part if part.ndim == 1 else part[span])[cell[-part.ndim :]] for part in parts]
        for span, cell in zip(_spans(held), cells, strict=True)
    ]
    number = held.taken.sum(1, dtype=np.float64)
    total = float(shown.sum())

    def loss(weights: Floats, *, sloped: bool = True) -> tuple[float, Floats]:
        value = 0.0
        slope = np.zeros(len(parts))
        for span, (row, item), taken, mine in zip(_spans(held), cells, taken_cells, columns, strict=True):
            share, norm, _ = softmax.shares(weights, span)
            expected = np.maximum(number[span][row] * share[item, row] / norm[row], _LEAST)
            value -= float(np.where(taken, np.log(-np.expm1(-expected)), -expected).sum())
            if not sloped:
                continue
            with np.errstate(over="ignore"):  # the result underflows to 0 for users with thousands of items
                pull = np.where(taken, -expected / np.expm1(expected), expected)
            factor = np.bincount(row, pull, len(norm)) / norm
            slope += [pull @ part for part in mine] - softmax.totals(share, factor, span)
        return value / total, slope / total

    return loss


def _spans(held: HeldOut) -> list[slice]:
    return [slice(first, min(first + _ROWS, len(held))) for first in range(0, len(held), _ROWS)]


class _WeightedSoftmax:
    """Softmaxes of weighted parts over unconsumed items.

    Scores of an item lie together, because loops over rows are vectorised. Sums over items have the bits of NumPy's.
    """

    def __init__(self, held: HeldOut, parts: Parts) -> None:
        n, m = held.taken.shape
        alike = [part for part in parts if part.ndim == 1]
        self._alike = np.array([alike[0], alike[-1]], np.float32)
        self._parts = slice(len(alike) + 1 - len(parts), len(alike) + 1)
        self._room = np.empty(m * min(_ROWS, n), np.float32)
        self._order = _order(m, m)
        self._converted = _order(m, _CONVERTED)
        scores: Float32s = parts[0] if parts[0].ndim == 2 else np.zeros((n, m), np.float32)
        self._tables = {
            rows.start: (np.ascontiguousarray(scores[rows].T), np.ascontiguousarray(held.consumed[rows].T))
            for rows in _spans(held)
        }

    def shares(self, weights: Floats, span: slice) -> tuple[Float32s, Floats, Float32s]:
        """(M, rows) exponentials until the next call, sums, largest logits."""
        scores, consumed = self._tables[span.start]
        share = self._room[: scores.size].reshape(scores.shape)
        top = np.full(scores.shape[-1], -np.inf, np.float32)
        all_weights = np.zeros(3, np.float32)
        all_weights[self._parts] = weights
        _weigh(scores, all_weights[0], all_weights[1:, None] * self._alike, consumed, share, top)
        np.exp(share, out=share)
        lane, merges = self._converted
        lanes = np.zeros((len(merges) + 1, _LANES, len(top)))
        _add(share, lane, lanes)
        return share, _total(lanes, merges), top

    def totals(self, share: Float32s, factor: Floats, span: slice) -> Floats:
        """(parts,) Σ part·factor·share over rows."""
        lane, merges = self._order
        lanes = np.zeros((len(merges) + 1, _LANES, 3, len(factor)), np.float32)
        _add_parts(share, factor.astype(np.float32), self._tables[span.start][0], self._alike, lane, lanes)
        return np.asarray(_total(lanes, merges)[self._parts].sum(1, dtype=np.float64), np.float64)


def _runs(n: int, merges: int = 0) -> list[tuple[int, int]]:
    """Lengths of a sum's runs, and halves that each completes."""
    if n <= _RUN:
        return [(n, merges)]
    half = n // 2 - n // 2 % _LANES
    return _runs(half) + _runs(n - half, merges + 1)


def _order(n: int, longest: int) -> tuple[Ints, Ints]:
    """Lane of each number, and halves that each run completes."""
    size, merges = np.transpose(
        [run for at in range(0, n, longest) for run in _runs(min(longest, n - at), at > 0)]
    )
    run = np.repeat(np.arange(len(size)), size)
    run[n - n % _LANES :] += 1  # NumPy adds the last numbers, fewer than eight, one by one
    return run * _LANES + np.arange(n) % _LANES, merges


def _total(lanes: Array, merges: Ints) -> Array:
    """Sum of all lanes."""
    low, high = ((part[:, 0] + part[:, 1]) + (part[:, 2] + part[:, 3]) for part in np.split(lanes[:-1], 2, 1))
    runs = low + high
    waiting = list[Array]()
    for rest in lanes[-1]:
        runs[-1] += rest
    for run, halves in zip(runs, merges.tolist(), strict=True):
        waiting.append(run)
        for _ in range(halves):
            waiting[-2:] = [waiting[-2] + waiting[-1]]
    return waiting[0]


@compiled
def _weigh(scores: Float32s, weight: np.float32, alike: Float32s, consumed: Bools, out: Float32s,
    top: Float32s) -> None:  # fmt: skip
    """Fill in logits minus the largest logit of each row."""
    for item in range(len(out)):
        first = alike[0, item]
        second = alike[1, item]
        for row in range(len(top)):
            logit = weight * scores[item, row] + first + second
            logit = np.float32(-np.inf) if consumed[item, row] else logit
            out[item, row] = logit
            top[row] = max(top[row], logit)
    for item in range(len(out)):
        for row in range(len(top)):
            out[item, row] -= top[row]


@compiled
def _add(share: Float32s, order: Ints, lanes: Floats) -> None:
    for item in range(len(share)):
        lane = lanes[order[item] // _LANES, order[item] % _LANES]
        for row in range(len(lane)):
            lane[row] += share[item, row]


@compiled
def _add_parts(share: Float32s, factor: Float32s, scores: Float32s, alike: Float32s, order: Ints,
    lanes: Float32s) -> None:  # fmt: skip
    """Add each item's weighted logits to the item's lane."""
    for item in range(len(share)):
        lane = lanes[order[item] // _LANES, order[item] % _LANES]
        for row in range(len(factor)):
            weighted_share = share[item, row] * factor[row]
            lane[0, row] += scores[item, row] * weighted_share
            lane[1, row] += alike[0, item] * weighted_share
            lane[2, row] += alike[1, item] * weighted_share
