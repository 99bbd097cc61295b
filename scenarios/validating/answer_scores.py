"""How well scores foretell yes-or-no answers of users: order within a user, and probabilities after calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints
from rimsim.measures import Interval, mean_interval

_STEPS = 50
"""Newton steps of a fit at most."""
_RIDGE = 1e-6
"""On the slope, so that a fit exists where scores do not differ or separate the answers."""
_Z = 1.959963984540054
"""The normal quantile of a 95 % interval."""


def user_aucs(user: Ints, score: Floats, taken: Bools, n_users: int) -> Floats:
    """(n_users,) the share of pairs of a taken and another item of a user in which the taken one scores higher.

    A tie counts half. NaN for users who took all that they were asked about, or nothing.

    Args:
        user: (n,) whose answer.
        score: (n,) of the item.
        taken: (n,) the answer.
        n_users: All users.
    """
    order = np.lexsort((score, user))
    who, what = user[order], score[order]
    new = np.ones(len(who), bool)
    new[1:] = (who[1:] != who[:-1]) | (what[1:] != what[:-1])
    group = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    size = np.diff(np.append(first, len(who)))
    begin = np.searchsorted(who, np.arange(n_users))
    rank = (first + (size - 1) / 2)[group] - begin[who]  # from 0 within the user, ties in the middle
    yes = np.bincount(who, weights=taken[order], minlength=n_users)
    no = np.bincount(who, minlength=n_users) - yes
    above = np.bincount(who, weights=rank * taken[order], minlength=n_users) - yes * (yes - 1) / 2
    return np.asarray(
        np.divide(above, yes * no, out=np.full(n_users, np.nan), where=yes * no > 0), np.float64
    )


def precisions(
    user: Ints,
    score: Floats,
    taken: Bools,
    ties: NDArray[np.uint64],
    n_users: int,
    k: int,
) -> Floats:
    """(n_users,) the share that was taken of the k items of each user with the highest scores.

    NaN for users with at most k answers, for whom nothing is chosen.

    Args:
        user: (n,) whose answer, ascending.
        score: (n,) of the item.
        taken: (n,) the answer.
        ties: (n,) of equal scores the smaller goes first.
        n_users: All users.
        k: How many items are chosen.
    """
    order = np.lexsort((ties, -score, user))
    count = np.bincount(user, minlength=n_users)
    place = np.arange(len(user)) - np.searchsorted(user, user)
    chosen = order[place < k]
    hits = np.bincount(user[chosen], weights=taken[chosen], minlength=n_users)
    return np.asarray(np.where(count > k, hits / k, np.nan), np.float64)


def calibrated(logit: Floats, taken: Bools, fold: Ints, folds: int) -> Floats:
    """(n,) probabilities 1/(1 + exp(−α − β·logit)), α and β ≥ 0 fitted by maximum likelihood to the other folds.

    A slope below 0 would turn scores round that order answers the wrong way, and make a bad model good; 0 is taken
    for it, that is the share of the answers that are yes.

    Args:
        logit: (n,) what orders the answers, such as a log-intensity.
        taken: (n,) the answers.
        fold: (n,) from 0 to ``folds`` − 1.
        folds: How many.
    """
    probability = np.empty(len(logit))
    for left_out in range(folds):
        there, others = fold == left_out, fold != left_out
        middle, spread = logit[others].mean(), max(float(logit[others].std()), 1e-12)
        intercept, slope = _fit((logit[others] - middle) / spread, taken[others])
        probability[there] = _logistic(intercept + slope * (logit[there] - middle) / spread)
    return probability


def _fit(x: Floats, taken: Bools) -> tuple[float, float]:
    share = (taken.sum() + 0.5) / (len(taken) + 1)
    base = float(np.log(share / (1 - share)))
    intercept, slope = base, 0.0
    for _ in range(_STEPS):
        p = _logistic(intercept + slope * x)
        weight = np.maximum(p * (1 - p), 1e-12)
        gradient = np.array([(taken - p).sum(), ((taken - p) * x).sum() - _RIDGE * len(x) * slope])
        cross = (weight * x).sum()
        curvature = np.array([[weight.sum(), cross], [cross, (weight * x * x).sum() + _RIDGE * len(x)]])
        step = np.linalg.solve(curvature, gradient)
        step *= min(
            1.0, 4.0 / max(float(np.abs(step).max()), 1e-12)
        )  # a full step may overshoot far from the answer
        intercept, slope = intercept + step[0], slope + step[1]
        if np.abs(step).max() < 1e-10:
            break
    return (intercept, slope) if slope > 0 else (base, 0.0)


def _logistic(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), np.float64)


def answer_likelihoods(user: Ints, probability: Floats, taken: Bools, n_users: int) -> Floats:
    """(n_users,) mean log-likelihood of the answers of each user, nats; NaN for users without any.

    Args:
        user: (n,) whose answer.
        probability: (n,) that it is yes.
        taken: (n,) the answer.
        n_users: All users.
    """
    said = np.log(np.maximum(np.where(taken, probability, 1 - probability), 1e-300))
    count = np.bincount(user, minlength=n_users)
    total = np.bincount(user, weights=said, minlength=n_users)
    return np.asarray(np.divide(total, count, out=np.full(n_users, np.nan), where=count > 0), np.float64)


def ratio_interval(total: Floats, count: Floats) -> Interval:
    """Σ total / Σ count with its 95 % interval over users, by linearisation.

    Args:
        total: (users,) of each user.
        count: (users,) of each user; users with 0 say nothing.
    """
    there = count > 0
    n, all_counts = int(there.sum()), float(count.sum())
    if not n:
        return mean_interval(np.zeros(0))
    ratio = float(total.sum()) / all_counts
    if n == 1:
        return Interval(ratio, None, None, n)
    left = total[there] - ratio * count[there]
    half = _Z * float(np.sqrt((left**2).sum() * n / (n - 1))) / all_counts
    return Interval(ratio, ratio - half, ratio + half, n)


def folds_of(users: Ints, seed: int, folds: int) -> Ints:
    """(n,) the fold of each of n users: by the rank of a draw of its own, so that folds are of one size, within one.

    Args:
        users: (n,) distinct users.
        seed: Seed of the draw.
        folds: How many; none is empty where there are as many users.
    """
    rank = np.empty(len(users), np.int64)
    rank[np.argsort(rng.uniform(seed, rng.Purpose.SPLIT, users), kind="stable")] = np.arange(len(users))
    return np.asarray(rank * folds // max(len(users), 1), np.int64)
