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
"""Number of partial sums that NumPy keeps within a run. Here sums add numbers in NumPy's order, to have its bits."""
_RUN = 128
"""Largest length of a run, a part of a long sum; NumPy adds the sums of runs pairwise."""
_CONVERTED = 8192
"""Largest number of numbers that NumPy converts to another type at once; each such piece is a sum of its own."""
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
    criteria = (for_all,) if slates else (for_all, for_slates)
    impersonal_log_likelihoods = {}
    for criterion in criteria:
        popularity, returning = criterion(held, base).tolist()
        impersonal_scores = popularity * base[0] + returning * base[1]
        impersonal_log_likelihoods[criterion] = held.nats(held.log_likelihood(impersonal_scores))
    choices: list[Shrinkage] = []
    worths: list[Worth] = []
    scores_by_strength: dict[float, Float32s] = {}
    for strength, scores in scored:
        weights = {criterion: criterion(held, (scores, *base)).tolist() for criterion in criteria}
        for criterion, (personal, popularity, returning) in weights.items():
            worth = held.worth(personal * scores + (popularity * base[0] + returning * base[1]))
            worths.append(worth)
            choices.append(
                Shrinkage(
                    strength=strength,
                    personal=personal,
                    popularity=popularity,
                    returning=returning,
                    slates=criterion is for_slates,
                    users=len(held),
                    log_likelihood=worth.nats,
                    impersonal_log_likelihood=impersonal_log_likelihoods[criterion],
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
    is_popular = np.zeros(held.taken.shape, bool)
    for part in parts:
        if part.ndim == 1:
            is_popular |= held.best(part)
    weights = start
    for _ in range(_ROUNDS):
        logits = np.zeros(held.taken.shape, np.float32)
        for weight, part in zip(weights.tolist(), units, strict=True):
            logits += np.float32(weight) * part
        loss = unlikelihood_of_answers(held, units, is_popular | held.best(logits))
        weights, value = _minimum(loss, weights, start)
    return _spared(loss, weights, value) / spread


def _in_units(parts: Parts) -> tuple[list[Float32s], Floats, Floats]:
    """Logits divided by their spread, the spreads, and start weights.

    In these units one step length suits all weights. A part whose logits do not differ starts, and stays, at weight 0.
    """
    spread = np.array([float(part.std()) for part in parts])
    informative = spread >= _FLAT
    spread[~informative] = 1.0
    units = [part / np.float32(unit) for part, unit in zip(parts, spread, strict=True)]
    return units, spread, np.where(informative, 0.5, 0.0)


def _minimum(loss: Loss, weights: Floats, start: Floats) -> tuple[Floats, float]:
    """Weights of the least loss, and this loss.

    A weight that starts at 0 stays 0, because its part of the logits does not differ between items.
    """
    bounds = [(0.0, None if weight else 0.0) for weight in start]
    optimum = scipy.optimize.minimize(loss, weights, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(optimum.x, np.float64), float(optimum.fun)


def _spared(loss: Loss, weights: Floats, value: float) -> Floats:
    """Weights, with 0 where a part does not raise likelihood."""
    for part_index in np.flatnonzero(weights):
        smaller_weights = weights.copy()
        smaller_weights[part_index] = 0.0
        without_loss = loss(smaller_weights, sloped=False)[0]
        if without_loss <= value + _WORTHLESS:
            weights = smaller_weights
            value = without_loss
    return weights


def unlikelihood(held: HeldOut, parts: Parts) -> Loss:
    """Mean −log p(y|x) of taken items, and its gradient."""
    softmax = _WeightedSoftmax(held, parts)
    n_taken = held.taken.sum(1)
    n_labels = float(held.taken.sum())
    # Sum of each part of the logits over all taken items. Rows are summed in float32; their total is a float64, so that
    # it does not lose small terms.
    taken_sums = np.array([float((part * held.taken).sum(1).sum(dtype=np.float64)) for part in parts])

    def loss(weights: Floats, *, sloped: bool = True) -> tuple[float, Floats]:
        """Mean loss at given weights, and its gradient if ``sloped``."""
        value = -float(weights @ taken_sums)
        gradient = -taken_sums
        for span in _spans(held):
            exps, norm, top = softmax.exponentials(weights, span)
            # top + log(norm) is the log of the sum of exponentials.
            value += float(n_taken[span] @ (top + np.log(norm)))
            if sloped:
                gradient = gradient + softmax.totals(exps, n_taken[span] / norm, span)
        return value / n_labels, gradient / n_labels

    return loss


def unlikelihood_of_answers(held: HeldOut, parts: Parts, shown: Bools) -> Loss:
    """Mean −log likelihood of answers to shown items, with gradient.

    A user who took n items takes a shown item y with probability 1 − exp(−n·p(y|x)), as in :func:`for_slates`.
    """
    softmax = _WeightedSoftmax(held, parts)
    blocks = [_ShownItems.of(held, parts, shown, span) for span in _spans(held)]
    n_shown = float(shown.sum())

    def loss(weights: Floats, *, sloped: bool = True) -> tuple[float, Floats]:
        """Mean loss at given weights, and its gradient if ``sloped``."""
        value = 0.0
        gradient = np.zeros(len(parts))
        for block in blocks:
            row = block.row
            exps, norm, _ = softmax.exponentials(weights, block.span)
            expected = np.maximum(block.n_taken[row] * exps[block.item, row] / norm[row], _LEAST)
            value -= float(np.where(block.taken, np.log(-np.expm1(-expected)), -expected).sum())
            if not sloped:
                continue
            # Derivative of −log likelihood in log(expected), for each shown item.
            with np.errstate(over="ignore"):  # the result underflows to 0 for users with thousands of items
                d_log = np.where(block.taken, -expected / np.expm1(expected), expected)
            # log(expected) is the weighted sum of the parts minus the log of the sum of exponentials. The derivative of
            # that logarithm in a weight is the mean of the part under p.
            factor = np.bincount(row, d_log, len(norm)) / norm
            gradient += [d_log @ values for values in block.part_values] - softmax.totals(
                exps, factor, block.span
            )
        return value / n_shown, gradient / n_shown

    return loss


@dataclass(frozen=True, eq=False)
class _ShownItems:
    """Shown items of a block of held-out users."""

    span: slice
    """Users of the block."""
    row: Ints
    """(c,) row of each shown item's user in the block."""
    item: Ints
    """(c,) shown items."""
    taken: Bools
    """(c,) True for shown items that the user took."""
    n_taken: Floats
    """(rows,) number of items that each user took."""
    part_values: list[Float32s]
    """(parts, c) value of each part of the logits at the shown items."""

    @classmethod
    def of(cls, held: HeldOut, parts: Parts, shown: Bools, span: slice) -> _ShownItems:
        """Shown items of the users ``span``."""
        row, item = np.nonzero(shown[span])
        return cls(
            span=span,
            row=row,
            item=item,
            taken=held.taken[span][row, item] > 0,
            n_taken=held.taken[span].sum(1, dtype=np.float64),
            # A part with one dimension is the same for all users.
            part_values=[part[item] if part.ndim == 1 else part[span][row, item] for part in parts],
        )


def _spans(held: HeldOut) -> list[slice]:
    """Blocks of rows of held-out states."""
    return [slice(first, min(first + _ROWS, len(held))) for first in range(0, len(held), _ROWS)]


class _WeightedSoftmax:
    """Softmaxes of weighted parts over unconsumed items.

    Scores of an item lie together, because loops over rows are vectorised. Sums over items have the bits of NumPy's.
    """

    def __init__(self, held: HeldOut, parts: Parts) -> None:
        n, m = held.taken.shape
        alike = [part for part in parts if part.ndim == 1]
        # The kernels take three parts: personal scores (0), and two parts that are the same for all users (1 and 2). A
        # single such part stands in both places. The slice `_parts` has the numbers of the parts that are present; the
        # weight of an absent part is 0.
        self._alike = np.array([alike[0], alike[-1]], np.float32)
        first_part = 0 if len(parts) > len(alike) else 1
        self._parts = slice(first_part, len(alike) + 1)
        self._buffer = np.empty(m * min(_ROWS, n), np.float32)
        # Orders in which NumPy adds M numbers: in single precision, and while it converts them to double precision.
        self._order = _order(m, m)
        self._converted = _order(m, _CONVERTED)
        scores: Float32s = parts[0] if parts[0].ndim == 2 else np.zeros((n, m), np.float32)
        self._tables = {
            rows.start: (np.ascontiguousarray(scores[rows].T), np.ascontiguousarray(held.consumed[rows].T))
            for rows in _spans(held)
        }

    def exponentials(self, weights: Floats, span: slice) -> tuple[Float32s, Floats, Float32s]:
        """(M, rows) exponentials, their sums, and largest logits.

        The exponentials are exp(logit − largest logit of the row). The next call overwrites them.
        """
        scores, consumed = self._tables[span.start]
        exps = self._buffer[: scores.size].reshape(scores.shape)
        top = np.full(scores.shape[-1], -np.inf, np.float32)
        all_weights = np.zeros(3, np.float32)
        all_weights[self._parts] = weights
        _weigh(scores, all_weights[0], all_weights[1:, None] * self._alike, consumed, exps, top)
        np.exp(exps, out=exps)
        lane, merges = self._converted
        lanes = np.zeros((len(merges) + 1, _LANES, len(top)))
        _add(exps, lane, lanes)
        return exps, _total(lanes, merges), top

    def totals(self, exps: Float32s, factor: Floats, span: slice) -> Floats:
        """(parts,) Σ part·factor·exponential over rows and items."""
        lane, merges = self._order
        lanes = np.zeros((len(merges) + 1, _LANES, 3, len(factor)), np.float32)
        _add_parts(exps, factor.astype(np.float32), self._tables[span.start][0], self._alike, lane, lanes)
        return np.asarray(_total(lanes, merges)[self._parts].sum(1, dtype=np.float64), np.float64)


def _runs(n: int, merges: int = 0) -> list[tuple[int, int]]:
    """Lengths of a sum's runs, and pairwise sums after each.

    NumPy's pairwise summation halves a long sum until the halves have at most 128 numbers. A run is such a
    half. After a run, its sum is added to that of the other half, and so on upwards. The second number of a run counts
    these additions; ``merges`` is this number for the last run of the n numbers.
    """
    if n <= _RUN:
        return [(n, merges)]
    half = n // 2 - n // 2 % _LANES
    return _runs(half) + _runs(n - half, merges + 1)


def _order(n: int, longest: int) -> tuple[Ints, Ints]:
    """Lane of each number, and pairwise sums after each run.

    NumPy adds a sum of n numbers in pieces of at most ``longest``, and adds each piece to the sum of the pieces before.
    """
    runs: list[tuple[int, int]] = []
    for start in range(0, n, longest):
        runs += _runs(min(longest, n - start), int(start > 0))
    size, merges = np.transpose(runs)
    run = np.repeat(np.arange(len(size)), size)
    # NumPy adds the last numbers, fewer than eight, one by one. They get lanes of their own, after all runs.
    run[n - n % _LANES :] += 1
    return run * _LANES + np.arange(n) % _LANES, merges


def _total(lanes: Array, merges: Ints) -> Array:
    """Sum of all lanes, in NumPy's order of additions.

    The last row of lanes has the numbers that NumPy adds one by one. ``merges`` is the number of pairwise sums after
    each run.
    """
    low, high = (
        (half[:, 0] + half[:, 1]) + (half[:, 2] + half[:, 3]) for half in np.split(lanes[:-1], 2, axis=1)
    )
    runs = low + high
    waiting = list[Array]()  # sums of runs that still wait for their other half
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
def _add(exps: Float32s, order: Ints, lanes: Floats) -> None:
    """Add each item's exponentials to the item's lane."""
    for item in range(len(exps)):
        lane = lanes[order[item] // _LANES, order[item] % _LANES]
        for row in range(len(lane)):
            lane[row] += exps[item, row]


@compiled
def _add_parts(exps: Float32s, factor: Float32s, scores: Float32s, alike: Float32s, order: Ints,
    lanes: Float32s) -> None:  # fmt: skip
    """Add part times exponential times factor to each item's lane."""
    for item in range(len(exps)):
        lane = lanes[order[item] // _LANES, order[item] % _LANES]
        for row in range(len(factor)):
            weighted_exp = exps[item, row] * factor[row]
            lane[0, row] += scores[item, row] * weighted_exp
            lane[1, row] += alike[0, item] * weighted_exp
            lane[2, row] += alike[1, item] * weighted_exp
