"""Measures of the closed loop: users, tastes and releases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints
from rimsim.errors import DataError, refuse
from rimsim.measures.exposure import as_counts, as_slates, same_length

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 1 << 22
"""Number of comparisons that :func:`jaccard` holds at a time; it bounds memory to some megabytes."""
_ROUNDING = 1e-12
"""Distance from a half within which a Kaplan-Meier share counts as a half, because shares are rounded products."""


def sample_pairs(n: int, count: int, seed: int, user: ArrayLike | None = None) -> Ints:
    """Sample of pairs of arrivals, drawn without replacement.

    The sample depends only on the arguments, so every agent and round with n arrivals uses the same pairs for
    :func:`jaccard`. Each pair has the smaller index first, and the pairs are sorted.

    Args:
        n: Number of arrivals.
        count: Number of pairs; all n(n−1)/2 if there are no more than that.
        seed: Seed of the run.
        user: User of each arrival; if given, pairs of the same user are left out.
    """
    total = n * (n - 1) // 2
    if total <= count:
        chosen = np.arange(total)
    else:
        draw = rng.generator(seed, rng.Purpose.MEASURE, n, count)
        chosen = np.sort(draw.choice(total, size=count, replace=False))
    # Pairs are numbered in the order (0,1), (0,2), (1,2), (0,3), …, from 0 to n(n−1)/2 − 1. The second element of pair
    # j is the triangular root of j.
    second = ((1 + np.sqrt(1 + 8 * chosen.astype(np.float64))) / 2).astype(np.int64)
    second -= second * (second - 1) // 2 > chosen  # the rounded root differs from the exact one by at most 1
    second += second * (second + 1) // 2 <= chosen
    pairs = np.stack([chosen - second * (second - 1) // 2, second], axis=1).astype(np.int64)
    if user is not None:
        users = np.asarray(user)
        pairs = pairs[users[pairs[:, 0]] != users[pairs[:, 1]]]
    # The sort is stable, so pairs with the same first element stay in the order of `second`.
    order = np.argsort(pairs[:, 0], kind="stable")
    return np.asarray(pairs[order], np.int64)


def jaccard(slates: ArrayLike, pairs: ArrayLike) -> float:
    """Mean similarity ``|A ∩ B| / |A ∪ B|`` of pairs of slates.

    The Jaccard similarity measures homogenisation (Chaney, Stewart and Engelhardt, RecSys 2018). Compare
    agents at the same round, because slates of a small catalogue are similar under any agent. ``pairs`` come
    from :func:`sample_pairs`. Two empty slates have the value 0. Without pairs, the mean is 0.
    """
    shown = as_slates(slates)
    chosen = np.asarray(pairs, np.int64).reshape(-1, 2)
    if not len(chosen):
        return 0.0
    size = (shown >= 0).sum(axis=1)
    total = 0.0
    pairs_per_block = max(1, _BLOCK // max(1, shown.shape[1] ** 2))
    for begin in range(0, len(chosen), pairs_per_block):
        first, second = chosen[begin : begin + pairs_per_block].T
        equal = shown[first][:, :, None] == shown[second][:, None, :]
        n_common = (equal & (shown[first] >= 0)[:, :, None]).sum(axis=(1, 2))
        total += float((n_common / np.maximum(size[first] + size[second] - n_common, 1)).sum())
    return total / len(chosen)


def genre_weights(genres: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
    """Weight of each genre in each item, and genres' names.

    ``genres`` has one string per item, with names joined by ``|`` (the column ``genres`` of an item table). An item
    with g genres counts 1/g for each of them; an item without a genre belongs to the genre ``""``. Genre
    names are in alphabetical order.
    """
    genres_of_item = [tuple(dict.fromkeys(text.split("|"))) for text in genres]  # without repetitions
    names = tuple(sorted({name for item_genres in genres_of_item for name in item_genres}))
    column = {name: index for index, name in enumerate(names)}
    weights = np.zeros((len(genres_of_item), len(names)))
    for item_weights, item_genres in zip(weights, genres_of_item, strict=True):
        item_weights[[column[name] for name in item_genres]] = 1 / len(item_genres)
    return weights, names


def genre_shares(exposure: ArrayLike, weights: ArrayLike) -> Floats:
    """Share of each genre in exposure: Σ_y E_y·weight_yg / ΣE.

    The shares sum to 1, or are zeros if nothing was shown; ``weights`` are those of :func:`genre_weights`.
    """
    counts = as_counts(exposure, "exposure")
    matrix = np.asarray(weights, np.float64)
    same_length(counts, matrix, "exposure and genre weights")
    mass = counts @ matrix
    total = mass.sum()
    return np.asarray(mass / total if total > 0 else mass, np.float64)


def genre_drift(exposure: ArrayLike, start: ArrayLike, weights: ArrayLike) -> float:
    """Jensen-Shannon divergence of genre shares from round 0.

    The divergence is in bits, from 0 (shares as at the ``start``, or nothing shown) to 1 (no common genre).
    """
    shares = genre_shares(exposure, weights)
    start_shares = genre_shares(start, weights)
    if not (shares.any() and start_shares.any()):
        return 0.0
    return jensen_shannon(shares, start_shares)


def jensen_shannon(first: Floats, second: Floats) -> float:
    """Jensen-Shannon divergence of two distributions in bits.

    JS(P, Q) = H((P + Q)/2) − (H(P) + H(Q))/2, with the entropy H, needs no smoothing (Lin 1991).
    """
    divergence = _entropy((first + second) / 2) - (_entropy(first) + _entropy(second)) / 2
    return min(max(divergence, 0.0), 1.0)


def _entropy(share: Floats) -> float:
    """Entropy of a distribution in bits."""
    positive = share[share > 0]
    return float(-np.sum(positive * np.log2(positive)))


def sessions_per_user(user: ArrayLike) -> float:
    """Number of arrivals per distinct user; 0 without arrivals."""
    users = np.asarray(user)
    if users.ndim != 1:
        refuse(DataError, "user", f"an array of shape {users.shape}", "one dimension")
    return float(len(users) / len(np.unique(users))) if len(users) else 0.0


@dataclass(frozen=True, eq=False)
class AdoptionTimes:
    """Times to adoption of each of J released items."""

    duration: Ints
    """(J,) number of arrivals from an item's release to its m-th consumption, or to the end of the run if it has
    fewer."""
    observed: Bools
    """(J,) True if the item had its m-th consumption. False: the time is censored, it is longer than ``duration``."""


def adoption_times(
    release: ArrayLike, item: ArrayLike, arrival: ArrayLike, arrivals: int, m: int = 1
) -> AdoptionTimes:
    """Arrivals from items' release to their m-th consumption.

    Args:
        release: Number of arrivals before the release of each of J items.
        item: Item of each consumption, 0…J−1, in any order.
        arrival: Arrival of each consumption, counted from 0 over the whole run.
        arrivals: Number of arrivals of the whole run; items that are not adopted in the run are censored.
        m: Number of consumptions after which an item counts as adopted.
    """
    start = np.asarray(release, np.int64)
    items = np.asarray(item, np.int64)
    arrivals_of_events = np.asarray(arrival, np.int64)
    same_length(items, arrivals_of_events, "item and arrival")
    if (is_late := start > arrivals).any():
        refuse(DataError, "release", str(start[is_late][0]), f"at most the {arrivals} arrivals of the run")
    if (is_early := arrivals_of_events < start[items]).any():
        raise DataError(
            f"item {items[is_early][0]} is consumed by arrival {arrivals_of_events[is_early][0]}, before the item "
            "is released"
        )
    order = np.lexsort((arrivals_of_events, items))
    items = items[order]
    arrivals_of_events = arrivals_of_events[order]
    first = np.searchsorted(items, np.arange(len(start)))
    is_adoption = np.arange(len(items)) - first[items] == m - 1  # the m-th consumption of its item
    adopted = items[is_adoption]
    duration = arrivals - start
    observed = np.zeros(len(start), np.bool_)
    observed[adopted] = True
    duration[adopted] = arrivals_of_events[is_adoption] + 1 - start[adopted]
    return AdoptionTimes(duration, observed)


def adopted_share(times: AdoptionTimes) -> float | None:
    """Adopted share of the released items; None without released items."""
    return float(times.observed.mean()) if len(times.observed) else None


def adoption_median(times: AdoptionTimes) -> float | None:
    """Median number of arrivals until adoption, by Kaplan-Meier (JASA 1958).

    The estimate is from SciPy. Items that were not adopted are censored: they count as at risk until the end
    of the run. The median is None if fewer than half of the items are adopted.
    """
    from scipy.stats import CensoredData, ecdf  # noqa: PLC0415  # slow to import, and most measures do not need it

    durations = times.duration.astype(np.float64)
    censored = CensoredData(uncensored=durations[times.observed], right=durations[~times.observed])
    adopted = ecdf(censored).cdf
    at_half = np.flatnonzero(adopted.probabilities >= 0.5 - _ROUNDING)
    return float(adopted.quantiles[at_half[0]]) if len(at_half) else None


def late_rounds(count: int) -> range:
    """Last ⌊count / 2⌋ rounds of a run, or its only round."""
    # Early rounds are left out, because the platform has learnt from few slates of this market then.
    return range(count - max(1, count // 2), count)


def late_words(count: int) -> str:
    """Late rounds of a run in words, such as ``mean of rounds 4–7``."""
    late = late_rounds(count)
    return f"round {late[0]}" if len(late) == 1 else f"mean of rounds {late[0]}–{late[-1]}"


def late_of(rounds: pd.DataFrame) -> str:
    """Late rounds of a table in words; see :func:`late_words`."""
    return late_words(_count(rounds))


def late_means(rounds: pd.DataFrame) -> pd.DataFrame:
    """Means over the late rounds of a table."""
    late = rounds[rounds["round"].isin(late_rounds(_count(rounds)))]
    return late.groupby(["agent", "seed", "metric"], sort=False, observed=True)["value"].mean().reset_index()


def late_slopes(rounds: pd.DataFrame) -> pd.DataFrame:
    """Slopes of least-squares lines over the late rounds.

    Slopes show trends from round to round that averages hide. The result has the columns agent, seed, metric
    and value. Metrics with values in fewer than three late rounds are left out.
    """
    late = rounds[rounds["round"].isin(late_rounds(_count(rounds)))]
    keys = ["agent", "seed", "metric"]
    groups = late.groupby(keys, sort=False, observed=True)
    # A line through two points fits any values, so it needs at least three.
    late = late[groups["round"].transform("count") > 2]
    # The slope of y against the round t is Σ(t − t̄)·y / Σ(t − t̄)².
    from_mean = late["round"] - late.groupby(keys, observed=True)["round"].transform("mean")
    terms = late.assign(value=from_mean * late["value"], spread=from_mean**2)
    sums = terms.groupby(keys, sort=False, observed=True)[["value", "spread"]].sum().reset_index()
    return sums.assign(value=sums["value"] / sums["spread"])[[*keys, "value"]]


def _count(rounds: pd.DataFrame) -> int:
    """Number of rounds in a table."""
    return int(rounds["round"].max()) + 1
