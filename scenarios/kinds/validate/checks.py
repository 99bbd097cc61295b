"""Checks of truths: false truths, acceptance, distributions, calibration of λ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import scipy

from rimsim import rng
from rimsim.arrays import Array, Bools, Floats, Ints
from rimsim.data import EventLog
from rimsim.intensity import RIM
from rimsim.intensity.cache import fitted
from rimsim.intensity.calibration import count_calibration
from rimsim.intensity.contract import spans
from rimsim.intensity.registry import make
from rimsim.intensity.scores import ROWS
from rimsim.intensity.states import CountExamples, session_examples
from rimsim.market.agreement import Cut, true_shares
from rimsim.market.consumers.truths import Truth
from rimsim.measures import genre_shares, genre_weights

PAST = "past_alone"
"""Name of a metric: the agreement of a truth that is fitted to the past only."""


# This is the test of Agent4Rec (Zhang et al., SIGIR 2024) and SimUSER (ACL 2025, industry track). A user is asked about
# twenty items. One in 1 + m items is a held-out positive; the others are items that the user did not take.
NEGATIVES = (1, 3, 9)  # numbers m of negatives per positive
_ASKED = 20  # largest number of items that a user is asked about


@dataclass(frozen=True)
class Acceptance:
    """Accuracy of telling taken items from other items."""

    accuracy: float  # share of items that the truth accepts or rejects correctly
    # Harmonic mean of precision and recall. They are equal here, because as many items are accepted as there are
    # positives.
    f1: float
    # Share of a user's (positive, negative) pairs whose positive the truth prefers; a tie counts half.
    auc: float
    users: int  # number of users with at least one positive


def answers(share: Floats, positive: Bools) -> Bools:
    """Mask of accepted items, as many as there are positives.

    The items of largest p* are accepted, so no threshold is needed. Among items of equal p*, the first is accepted.
    """
    accepted = np.zeros(len(share), bool)
    accepted[np.argsort(-share, kind="stable")[: int(positive.sum())]] = True
    return accepted


def acceptance(truth: Truth, cut: Cut) -> dict[int, Acceptance]:
    """Acceptance of users' positives among m negatives per positive.

    Positives are up to 20 / (1 + m) items that the user took after the cut. Negatives are m times as many admissible
    items that the user did not take. Positives and negatives are sampled with the seed of the cut. The truth must not
    be fitted to events after the cut.
    """
    # By m: number of accepted positives, and number of all positives.
    counts = {m: np.zeros(2, np.int64) for m in NEGATIVES}
    aucs: dict[int, list[float]] = {m: [] for m in NEGATIVES}  # by m: AUC of each user
    items = np.arange(len(cut.known))
    # Rows of the cut are users. The items that user `row` took are those from first[row] to first[row + 1].
    first = np.searchsorted(cut.taken_row, np.arange(len(cut) + 1))
    for start, stop in spans(len(cut), ROWS):
        probability = true_shares(truth, cut, start, stop)
        is_admissible = cut.admissible(start, stop)
        for row in range(start, stop):
            taken = cut.taken_item[first[row] : first[row + 1]]
            draw = rng.uniform(cut.draw, rng.Purpose.MEASURE, 12, cut.later.user[row], items)
            is_negative = is_admissible[row - start].copy()
            is_negative[taken] = False
            # Random order, so that the first items are a sample.
            positives = taken[np.argsort(draw[taken])]
            negatives = np.flatnonzero(is_negative)
            negatives = negatives[np.argsort(draw[negatives])]
            for m in NEGATIVES:
                n_asked_positives = min(_ASKED // (1 + m), len(positives), len(negatives) // m)
                if not n_asked_positives:
                    continue
                n_asked_negatives = m * n_asked_positives
                asked = np.concatenate([negatives[:n_asked_negatives], positives[:n_asked_positives]])
                is_positive = np.arange(len(asked)) >= n_asked_negatives
                worth = probability[row - start, asked]
                is_accepted = answers(worth, is_positive)
                counts[m] += np.array([(is_accepted & is_positive).sum(), n_asked_positives])
                aucs[m].append(_auc(worth, is_positive))
    acceptances = {}
    for m in (m for m in NEGATIVES if aucs[m]):
        n_accepted, n_positives = counts[m].tolist()
        n_asked = (1 + m) * n_positives
        # For each rejected positive, one negative is accepted, so there are two wrong answers.
        accuracy = 1 - 2 * (n_positives - n_accepted) / n_asked
        acceptances[m] = Acceptance(
            accuracy=accuracy,
            f1=n_accepted / n_positives,
            auc=float(np.mean(aucs[m])),
            users=len(aucs[m]),
        )
    return acceptances


def _auc(worth: Floats, is_positive: Bools) -> float:
    """Share of pairs in the right order; ties count half."""
    difference = worth[is_positive][:, None] - worth[~is_positive][None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)  # quantiles that the tables show


def logged(cut: Cut, sessions: CountExamples) -> dict[str, float]:
    """Logged quantiles of session sizes and popularity, and genre shares.

    The popularity of an item is the number of its events in the past. Sampled sessions are smaller than other sessions,
    because 30% of a user's events come before them. So session sizes are taken from all ``sessions``.
    """
    return _figures(cut, sessions.counts, _taken(cut))


def simulated(truth: Truth, cut: Cut, sessions: CountExamples) -> dict[str, float]:
    """Distributions under a truth, and distances to logged distributions.

    Session sizes are Poisson random numbers with mean λ*(x), or 1 if visits of the truth take one item. The weight of
    an item is its expected number of consumptions, Σ_x λ*(x)·p*(y|x), with p* over admissible items. The distances
    ``session_size_ks`` and ``popularity_ks`` are the largest differences of distribution functions. The distance
    ``genre_tv`` is half the sum of absolute differences of shares.
    """
    uniform = rng.uniform(cut.draw, rng.Purpose.MEASURE, 13, np.arange(len(sessions.counts)))
    sizes = np.ones(len(sessions.counts), np.int64)
    if not truth.takes_one:
        mean_size = truth.expected(sessions.user, sessions.states)
        # The inverse distribution function at uniform random numbers gives Poisson random numbers.
        sizes = np.asarray(scipy.stats.poisson.ppf(uniform, mean_size), np.float64).astype(np.int64)
    mean_events = truth.expected(cut.later.user, cut.states)
    expected = np.zeros(len(cut.known))  # expected consumptions of each item
    for start, stop in spans(len(cut), ROWS):
        expected += mean_events[start:stop] @ true_shares(truth, cut, start, stop)
    taken = _taken(cut)
    weights, _ = _genres(cut)
    popularity = _popularity(cut)
    return _figures(cut, sizes, expected) | {
        "session_size_ks": ks_distance(sessions.counts, sizes),
        "popularity_ks": ks_distance(popularity, popularity, taken, expected),
        "genre_tv": total_variation(genre_shares(taken, weights), genre_shares(expected, weights)),
    }


def genres(cut: Cut) -> tuple[str, ...]:
    """Names of the genres; items without any count as ``none``."""
    return tuple(name or "none" for name in _genres(cut)[1])


def _genres(cut: Cut) -> tuple[Floats, tuple[str, ...]]:
    """Weights of items in genres, and names of genres."""
    return genre_weights(cut.later.past.items["genres"].fillna("").astype(str).tolist())


def _popularity(cut: Cut) -> Floats:
    """(M,) number of events of each item in the past."""
    return np.bincount(cut.later.past.item, minlength=len(cut.known)).astype(np.float64)


def _taken(cut: Cut) -> Floats:
    """Number of consumptions of each item in sampled sessions (M,)."""
    items_of_sessions = cut.taken_item[cut.first_session]
    return np.bincount(items_of_sessions, minlength=len(cut.known)).astype(np.float64)


def _figures(cut: Cut, sizes: Ints, consumptions: Floats) -> dict[str, float]:
    """Quantiles of session sizes and popularity, and genre shares.

    ``consumptions`` (M,) weight the items.
    """
    figures = {"session_size_mean": float(sizes.mean())}
    of_sizes = ("session_size", sizes, np.ones(len(sizes)))
    of_items = ("popularity", _popularity(cut), consumptions)
    for name, values, weights in (of_sizes, of_items):
        for share, value in zip(QUANTILES, weighted_quantiles(values, weights, QUANTILES), strict=True):
            figures[f"{name}_q{100 * share:.0f}"] = value
    genre_weights_of_items, _ = _genres(cut)
    shares = genre_shares(consumptions, genre_weights_of_items)
    return figures | {f"genre_{name}": float(share) for name, share in zip(genres(cut), shares, strict=True)}


def weighted_quantiles(values: Array, weights: Floats, shares: tuple[float, ...]) -> list[float]:
    """Weighted quantiles without interpolation; NaN if all weights are 0."""
    if not weights.sum() > 0:
        return [float("nan")] * len(shares)
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order]) / weights.sum()
    # Without 1e-12, rounding of the sums could move a quantile to the next value.
    rows = np.minimum(np.searchsorted(cumulative, np.array(shares) - 1e-12), len(values) - 1)
    return [float(value) for value in np.asarray(values, np.float64)[order][rows]]


def ks_distance(
    first_values: Array,
    second_values: Array,
    weights: Floats | None = None,
    other_weights: Floats | None = None,
) -> float:
    """Largest difference of two weighted distribution functions.

    Without weights, all values count equally. The result is NaN if all weights of a distribution are 0.
    """
    first_mass = np.ones(len(first_values)) if weights is None else weights
    second_mass = np.ones(len(second_values)) if other_weights is None else other_weights
    if not (first_mass.sum() > 0 and second_mass.sum() > 0):
        return float("nan")
    points = np.unique(np.concatenate([first_values, second_values]))
    distribution_functions = []
    for values, mass in ((first_values, first_mass), (second_values, second_mass)):
        mass_at_points = np.bincount(np.searchsorted(points, values), weights=mass, minlength=len(points))
        distribution_functions.append(np.cumsum(mass_at_points) / mass.sum())
    first_function, second_function = distribution_functions
    return float(np.abs(first_function - second_function).max())


def total_variation(first: Floats, second: Floats) -> float:
    """Half the sum of absolute differences of two distributions."""
    return float(0.5 * np.abs(first - second).sum())


_LEAST = 1e-5
"""Smallest λ(x) that calibration uses, because the deviance needs log λ."""


def rate_of_ground(ground: str, log: EventLog, gap: str | float, device: str) -> dict[str, float]:
    """Calibration of a ground intensity on sessions outside its fit.

    λ(x) of a session is fitted to the half of the users that excludes the session's user. All sessions are used, first
    and later ones. A sample of later sessions would leave out sessions that are large compared with the events before
    them.
    """
    draw = rng.uniform(0, rng.Purpose.MEASURE, 14, np.arange(log.n_users))
    is_in_half = draw < 0.5
    if is_in_half.all() or not is_in_half.any():  # with few users, one half may get all of them
        is_in_half = draw < np.median(draw)
    examples = session_examples(log, gap)
    rate = np.empty(len(examples.counts))
    for is_fitted in (is_in_half, ~is_in_half):
        hybrid = cast("RIM", make(ground, device=device, gap=gap if isinstance(gap, str) else f"{gap}s"))
        model = fitted(hybrid.ground, log.rows(is_fitted[log.user]))
        held_out = np.flatnonzero(~is_fitted[examples.user])
        states = examples.states.take(held_out)
        rate[held_out] = model.intensity_hidden(model.encode(states), states.now).double().cpu().numpy()
    # λ is computed in float32. Values that differ only by rounding must be ties in the rank correlation.
    rate = np.maximum(rate, _LEAST).round(5)
    is_first = examples.states.lengths == 0
    count = examples.counts
    calibration = count_calibration(rate, count)
    both_vary = np.ptp(rate) > 0 and np.ptp(count) > 0
    parts = {"": slice(None), "_first": is_first, "_later": ~is_first}
    figures = {f"rate_ratio{part}": _quotient(rate[rows], count[rows]) for part, rows in parts.items()}
    figures["rate_rank_correlation"] = calibration.rank_correlation if both_vary else float("nan")
    return figures | _tenths([(tenth.predicted, tenth.realised) for tenth in calibration.deciles])


def _quotient(rate: Floats, count: Ints) -> float:
    """Quotient of predicted and realised events; NaN without events."""
    return float(rate.sum() / count.sum()) if count.sum() else float("nan")


def rate_of_truth(truth: Truth) -> dict[str, float]:
    """Calibration of a truth's λ*(x), from its report."""
    session_sizes = truth.report.sizes
    means_of_tenths = np.array(session_sizes.left_out_deciles, np.float64).reshape(-1, 2)
    # The sizes of the tenths follow from the same split as in the truth's report.
    rows = np.array_split(np.arange(session_sizes.left_out_sessions), len(means_of_tenths))
    sizes = [len(tenth) for tenth in rows]
    predicted, realised = np.array(sizes, np.float64) @ means_of_tenths
    figures = {
        "rate_ratio": float(predicted / realised),
        "rate_ratio_first": session_sizes.left_out_ratio_first,
        "rate_ratio_later": session_sizes.left_out_ratio_later,
        "rate_rank_correlation": session_sizes.left_out_spearman,
    }
    return figures | _tenths(list(session_sizes.left_out_deciles))


def _tenths(tenths: list[tuple[float, float]]) -> dict[str, float]:
    """Metric → predicted or realised mean of a tenth."""
    figures = {}
    for number, (predicted, realised) in enumerate(tenths, 1):
        figures[f"rate_predicted_{number}"] = predicted
        figures[f"rate_realised_{number}"] = realised
    return figures


def rate_curves(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Calibration curves of each λ and distinct λ*, by name."""
    rates = table[table["metric"].str.startswith("rate_")].groupby(["model", "truth"], sort=False)
    figures_by_rate: dict[tuple[str, str], dict[str, float]] = {
        (str(model), str(truth)): dict(zip(rows["metric"], rows["value"], strict=True))
        for (model, truth), rows in rates
    }
    curves = {f"λ of {model}": figures for (model, truth), figures in figures_by_rate.items() if not truth}
    # Truths with the same λ* share a curve. Texts are compared instead of numbers, because NaN differs from itself.
    truths_by_figures: dict[tuple[str, ...], list[str]] = {}
    for (_, truth), figures in figures_by_rate.items():
        if truth:
            truths_by_figures.setdefault(tuple(map(repr, figures.values())), []).append(truth)
    for truths in truths_by_figures.values():
        curves[f"λ* of {' and '.join(truths)}"] = figures_by_rate["", truths[0]]
    return curves
