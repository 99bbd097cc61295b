"""Distributions, simulated against logged: sizes of sessions, popularity and genres of what is consumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy
from numpy.typing import NDArray

from rimsim import rng
from rimsim.arrays import Floats, Ints
from rimsim.intensity.contract import spans
from rimsim.measures import genre_shares, genre_weights
from rimsim.scenarios.kinds.scores import ROWS
from rimsim.scenarios.validating.evidence import true_shares

if TYPE_CHECKING:
    from rimsim.intensity.states import CountExamples
    from rimsim.market.consumers.contract import Truth
    from rimsim.scenarios.validating.cuts import Cut


QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Which quantiles are written."""


def logged(cut: Cut, sessions: CountExamples) -> dict[str, float]:
    """Quantiles of the sizes of sessions and of the popularity of the items taken in drawn ones, as logged.

    Args:
        cut: The cut.
        sessions: Sessions of the log, of a large one not all. The drawn ones are smaller than others, since 30 % of
            their users' events lie before them.

    Returns:
        Metric → value; the popularity of an item is its events in the past, and genre shares are by
        :func:`rimsim.measures.genre_shares`.
    """
    return _figures(cut, sessions.counts, _taken(cut))


def simulated(truth: Truth, cut: Cut, sessions: CountExamples) -> dict[str, float]:
    """The same under a truth, and distances from what was logged.

    Sizes are Poisson draws of mean λ*(x). Items are counted as expected, Σ_x λ*(x)·p*(y|x), p* over what may be shown.

    Args:
        truth: The truth.
        cut: The cut.
        sessions: As for :func:`logged`.

    Returns:
        As :func:`logged`, and ``session_size_ks`` and ``popularity_ks`` (largest difference of the two distribution
        functions), ``genre_tv`` (half the sum of absolute differences of shares).
    """
    lot = rng.uniform(cut.draw, rng.Purpose.MEASURE, 13, np.arange(len(sessions.counts)))
    of_session = truth.expected(sessions.user, sessions.states)
    sizes = np.asarray(scipy.stats.poisson.ppf(lot, of_session), np.float64).astype(np.int64)
    expected = truth.expected(cut.later.user, cut.states)
    mass = np.zeros(len(cut.known))
    for start, stop in spans(len(cut), ROWS):
        mass += expected[start:stop] @ true_shares(truth, cut, start, stop)
    taken, weights, popularity = _taken(cut), _genres(cut)[0], _popularity(cut)
    return _figures(cut, sizes, mass) | {
        "session_size_ks": ks_distance(sessions.counts, sizes),
        "popularity_ks": ks_distance(popularity, popularity, taken, mass),
        "genre_tv": total_variation(genre_shares(taken, weights), genre_shares(mass, weights)),
    }


def genres(cut: Cut) -> tuple[str, ...]:
    """Names of the genres, in the order of their shares' metrics; an item without one counts as ``none``."""
    return tuple(name or "none" for name in _genres(cut)[1])


def _genres(cut: Cut) -> tuple[Floats, tuple[str, ...]]:
    return genre_weights(cut.later.past.items["genres"].fillna("").astype(str).tolist())


def _popularity(cut: Cut) -> Floats:
    return np.bincount(cut.later.past.item, minlength=len(cut.known)).astype(np.float64)


def _taken(cut: Cut) -> Floats:
    """(M,) how often each item was taken within the drawn sessions."""
    of_session = cut.taken_item[cut.first_session]
    return np.bincount(of_session, minlength=len(cut.known)).astype(np.float64)


def _figures(cut: Cut, sizes: Ints, mass: Floats) -> dict[str, float]:
    figures = {"session_size_mean": float(sizes.mean())}
    for name, values, weights in (
        ("session_size", sizes, np.ones(len(sizes))),
        ("popularity", _popularity(cut), mass),
    ):
        for share, value in zip(QUANTILES, weighted_quantiles(values, weights, QUANTILES), strict=True):
            figures[f"{name}_q{100 * share:.0f}"] = value
    shares = genre_shares(mass, _genres(cut)[0])
    return figures | {f"genre_{name}": float(value) for name, value in zip(genres(cut), shares, strict=True)}


def weighted_quantiles(
    values: NDArray[np.generic], weights: Floats, shares: tuple[float, ...]
) -> list[float]:
    """The smallest value at which the weight of all up to it reaches each share; NaN without weight.

    Args:
        values: (n,) values.
        weights: (n,) their weights, at least 0.
        shares: Shares of the whole weight.
    """
    if not weights.sum() > 0:
        return [float("nan")] * len(shares)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    rows = np.minimum(np.searchsorted(reached, np.array(shares) - 1e-12), len(values) - 1)
    return [float(value) for value in np.asarray(values, np.float64)[order][rows]]


def ks_distance(
    one: NDArray[np.generic],
    other: NDArray[np.generic],
    weights: Floats | None = None,
    other_weights: Floats | None = None,
) -> float:
    """Largest difference between two (weighted) empirical distribution functions; NaN without weight.

    Args:
        one: (n,) values.
        other: (m,) values.
        weights: (n,) weights of the first; None: all alike.
        other_weights: (m,) weights of the second; None: all alike.
    """
    first = np.ones(len(one)) if weights is None else weights
    second = np.ones(len(other)) if other_weights is None else other_weights
    if not (first.sum() > 0 and second.sum() > 0):
        return float("nan")
    points = np.unique(np.concatenate([one, other]))
    reached = []
    for values, mass in ((one, first), (other, second)):
        counted = np.bincount(np.searchsorted(points, values), weights=mass, minlength=len(points))
        reached.append(np.cumsum(counted) / mass.sum())
    return float(np.abs(reached[0] - reached[1]).max())


def total_variation(one: Floats, other: Floats) -> float:
    """Half the sum of absolute differences of two distributions over the same outcomes, between 0 and 1."""
    return float(0.5 * np.abs(one - other).sum())
