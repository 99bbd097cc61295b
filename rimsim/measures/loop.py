"""Measures of the closed loop: what retraining on one's own slates does to users and tastes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rimsim import rng
from rimsim.arrays import Floats, Ints
from rimsim.errors import DataError
from rimsim.measures._checks import as_counts, as_slates, same_length

_BLOCK = 1 << 22  # comparisons at a time in jaccard, so that memory stays at some megabytes


def sample_pairs(n: int, count: int, seed: int, user: ArrayLike | None = None) -> Ints:
    """A fixed sample of pairs of arrivals for :func:`jaccard`, drawn without replacement.

    It is a pure function of its arguments: every agent and round with n arrivals is measured on the same
    pairs.

    Args:
        n: Number of arrivals.
        count: How many pairs; all n(n−1)/2 if there are no more than that.
        seed: Seed of the run.
        user: (n,) users of the arrivals; pairs of one and the same user are then left out.

    Returns:
        (pairs, 2) with first < second, sorted.
    """
    total = n * (n - 1) // 2
    if total <= count:
        chosen = np.arange(total)
    else:
        draw = rng.generator(seed, rng.Purpose.MEASURE, n, count)
        chosen = np.sort(draw.choice(total, size=count, replace=False))
    # Pair number j of n(n−1)/2 in the order (0,1), (0,2), (1,2), (0,3), …: `second` is the triangular root
    # of j.
    second = ((1 + np.sqrt(1 + 8 * chosen.astype(np.float64))) / 2).astype(np.int64)
    second -= second * (second - 1) // 2 > chosen  # the root is rounded: off by one at most
    second += second * (second + 1) // 2 <= chosen
    pairs = np.stack([chosen - second * (second - 1) // 2, second], axis=1).astype(np.int64)
    if user is not None:
        users = np.asarray(user)
        pairs = pairs[users[pairs[:, 0]] != users[pairs[:, 1]]]
    order = np.argsort(pairs[:, 0], kind="stable")  # they are in order of ``second`` already
    return np.asarray(pairs[order], np.int64)


def jaccard(slates: ArrayLike, pairs: ArrayLike) -> float:
    """Mean over pairs of ``|A ∩ B| / |A ∪ B|``: how alike the slates of different arrivals are.

    Homogenisation (Chaney, Stewart and Engelhardt, RecSys 2018). Judge it against another agent at the same
    round: a short catalogue makes slates alike too.

    Args:
        slates: (n, k) item indices, distinct in a row; −1 = empty position.
        pairs: (p, 2) rows of ``slates``, from :func:`sample_pairs`.

    Returns:
        Between 0 and 1; two empty slates have 0 in common; 0 if there is no pair.
    """
    shown = as_slates(slates)
    chosen = np.asarray(pairs, np.int64).reshape(-1, 2)
    if not len(chosen):
        return 0.0
    size = (shown >= 0).sum(axis=1)
    total = 0.0
    block = max(1, _BLOCK // max(1, shown.shape[1] ** 2))
    for begin in range(0, len(chosen), block):
        left, right = chosen[begin : begin + block].T
        equal = shown[left][:, :, None] == shown[right][:, None, :]
        both = (equal & (shown[left] >= 0)[:, :, None]).sum(axis=(1, 2))
        total += float((both / np.maximum(size[left] + size[right] - both, 1)).sum())
    return total / len(chosen)


def genre_weights(genres: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
    """Weights of the genres of each item: an item with g genres counts 1/g for each of them.

    Args:
        genres: M strings, names joined by ``|`` (the column ``genres`` of an item table); an item without a
            name belongs to a genre of its own, ``""``.

    Returns:
        (M, G) weights whose rows sum to 1, and the G names in alphabetical order.
    """
    split = [tuple(dict.fromkeys(text.split("|"))) for text in genres]
    names = tuple(sorted({name for row in split for name in row}))
    column = {name: index for index, name in enumerate(names)}
    weights = np.zeros((len(split), len(names)))
    for row, present in zip(weights, split, strict=True):
        row[[column[name] for name in present]] = 1 / len(present)
    return weights, names


def genre_shares(exposure: ArrayLike, weights: ArrayLike) -> Floats:
    """Distribution of exposure over genres: Σ_y E_y·weight_yg / ΣE.

    Args:
        exposure: (M,) exposures.
        weights: (M, G) from :func:`genre_weights`.

    Returns:
        (G,) shares that sum to 1, or zeros if nothing was shown.
    """
    given, matrix = as_counts(exposure, "exposure"), np.asarray(weights, np.float64)
    same_length(given, matrix, "exposure and genre weights")
    mass = given @ matrix
    total = mass.sum()
    return np.asarray(mass / total if total > 0 else mass, np.float64)


def genre_drift(exposure: ArrayLike, start: ArrayLike, weights: ArrayLike) -> float:
    """Jensen-Shannon divergence, base 2, between the genre distributions of exposure now and in round 0.

    JS(P, Q) = H((P + Q)/2) − (H(P) + H(Q))/2 (Lin, IEEE Trans. Inf. Theory 1991); it needs no smoothing.

    Args:
        exposure: (M,) exposures of this round.
        start: (M,) exposures of round 0, of the same agent and seed.
        weights: (M, G) from :func:`genre_weights`.

    Returns:
        Bits, between 0 (the same genres) and 1 (none in common); 0 if either round showed nothing.
    """
    now, then = genre_shares(exposure, weights), genre_shares(start, weights)
    if not (now.any() and then.any()):
        return 0.0
    return jensen_shannon(now, then)


def jensen_shannon(one: Floats, other: Floats) -> float:
    """Jensen-Shannon divergence of two distributions, base 2: 0 where they are alike, 1 where they share nothing."""
    divergence = _entropy((one + other) / 2) - (_entropy(one) + _entropy(other)) / 2
    return min(max(divergence, 0.0), 1.0)


def _entropy(share: Floats) -> float:
    positive = share[share > 0]
    return float(-np.sum(positive * np.log2(positive)))


def sessions_per_user(user: ArrayLike) -> float:
    """Arrivals over distinct users among them; 0 without arrivals.

    Args:
        user: (n,) user of each arrival of a round.
    """
    users = np.asarray(user)
    if users.ndim != 1:
        raise DataError(f"user: an array of shape {users.shape}; allowed: one dimension")
    return float(len(users) / len(np.unique(users))) if len(users) else 0.0
