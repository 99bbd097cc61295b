"""Are models in the same order in two places? Rank correlations, and the pairs of models that reality settles."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from rimsim import rng
from rimsim.arrays import Floats
from rimsim.measures.statistics import paired_difference

UNFIT = 0.6
"""A truth whose agreement over settled pairs is below this is unfit for a log."""
_LEVEL = 0.95
_DIGITS = 12
"""Decimals of a mean worth: what differs in its last bits alone is equal, and no tie may be broken by them."""


@dataclass(frozen=True)
class Pair:
    """Two models, by index, and how they differ in reality."""

    first: int
    """The model that is better in reality."""
    second: int
    """The other one."""
    difference: float
    """Mean over users of the first's real worth minus the second's, at least 0."""
    low: float | None
    """Lower end of its 95 % interval over users; None for one user."""
    high: float | None
    """Upper end."""
    settled: bool
    """Whether the interval leaves out 0."""


@dataclass(frozen=True)
class Agreement:
    """How a truth's order of models agrees with the order that held-out reality puts them in."""

    kendall: float | None
    """Kendall's τ-b between real and simulated worth over models; None where all are alike."""
    kendall_low: float | None
    """Lower end of its 95 % interval: bootstrap over users, paired over models."""
    kendall_high: float | None
    """Upper end."""
    spearman: float | None
    """Spearman's rank correlation over models; None likewise."""
    kendall_settled: float | None
    """(Concordant − discordant) / settled over the pairs that reality settles; None where it settles none."""
    kendall_settled_low: float | None
    """Lower end of its interval, by the same bootstrap; the pairs stay those that all users settle."""
    kendall_settled_high: float | None
    """Upper end."""
    models: int
    """Models compared."""
    users: int
    """Users over whom they are compared."""
    pairs: int
    """Pairs of models."""
    settled_pairs: int
    """Pairs whose real difference is beyond its 95 % interval over users."""
    settled_share: float
    """Their share of all pairs."""
    concordant_pairs: int
    """Settled pairs that the truth puts in the order of reality."""
    discordant_pairs: int
    """Settled pairs that it puts in the opposite order; it may also hold two models for equal."""

    @property
    def unfit(self) -> bool:
        """Whether the truth cannot be trusted to order models on this log; False where reality settles nothing."""
        return self.kendall_settled is not None and self.kendall_settled < UNFIT

    @property
    def figures(self) -> dict[str, float | None]:
        """Metric → value; ``unfit`` is 0 or 1."""
        return {**asdict(self), "unfit": float(self.unfit)}


def pairs_of(real: ArrayLike) -> list[Pair]:
    """All pairs of models, the better one first, with the paired Student-t interval of their difference over users.

    Args:
        real: (m, n) real worth of m models for n users; a user's draws are averaged, so that users are independent.
    """
    worth = np.asarray(real, np.float64)
    means = worth.mean(1).round(_DIGITS)
    pairs = []
    for one, other in itertools.combinations(range(len(worth)), 2):
        better, worse = (one, other) if means[one] >= means[other] else (other, one)
        paired = paired_difference(worth[better], worth[worse], _LEVEL)
        pairs.append(Pair(better, worse, paired.mean or 0.0, paired.low, paired.high, paired.clear))
    return pairs


def agreement(real: ArrayLike, simulated: ArrayLike, *, seed: int = 0, resamples: int = 1000) -> Agreement:
    """Compare the order of models in reality with the order under a truth.

    Args:
        real: (m, n) real worth of m models for n users.
        simulated: (m, n) worth of the same models for the same users under the truth.
        seed: Seed of the bootstrap.
        resamples: Bootstrap samples of users.
    """
    here, there = np.asarray(real, np.float64), np.asarray(simulated, np.float64)
    m, n = here.shape
    pairs = pairs_of(here)
    settled = [(pair.first, pair.second) for pair in pairs if pair.settled]
    means, expected = here.mean(1).round(_DIGITS), there.mean(1).round(_DIGITS)
    signs = _signs(means, expected, settled)
    generator = rng.generator(seed, rng.Purpose.MEASURE, 11)
    kendall: list[float | None] = []
    over_settled: list[float | None] = []
    for _ in range(resamples):
        weight = np.bincount(generator.integers(0, n, n), minlength=n) / n
        drawn_real, drawn = (here @ weight).round(_DIGITS), (there @ weight).round(_DIGITS)
        kendall.append(_kendall(drawn_real, drawn))
        over_settled.append(_mean(_signs(drawn_real, drawn, settled)))
    low, high = _interval(kendall)
    settled_low, settled_high = _interval(over_settled)
    return Agreement(
        kendall=_kendall(means, expected),
        kendall_low=low,
        kendall_high=high,
        spearman=_spearman(means, expected),
        kendall_settled=_mean(signs),
        kendall_settled_low=settled_low,
        kendall_settled_high=settled_high,
        models=m,
        users=n,
        pairs=len(pairs),
        settled_pairs=len(settled),
        settled_share=len(settled) / len(pairs) if pairs else 0.0,
        concordant_pairs=int((signs > 0).sum()),
        discordant_pairs=int((signs < 0).sum()),
    )


def _signs(real: Floats, simulated: Floats, pairs: list[tuple[int, int]]) -> Floats:
    """(pairs,) 1 where both differ in the same direction, −1 where in opposite ones, 0 where one does not differ."""
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return np.asarray(
        np.sign(real[first] - real[second]) * np.sign(simulated[first] - simulated[second]), np.float64
    )


def _mean(signs: Floats) -> float | None:
    return float(signs.mean()) if len(signs) else None


def _kendall(one: Floats, other: Floats) -> float | None:
    from scipy import stats  # noqa: PLC0415 - keeps the measures at NumPy's import time

    return float(stats.kendalltau(one, other).statistic) if np.ptp(one) and np.ptp(other) else None


def _spearman(one: Floats, other: Floats) -> float | None:
    from scipy import stats  # noqa: PLC0415 - the same

    return float(stats.spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else None


def _interval(values: list[float | None]) -> tuple[float | None, float | None]:
    there = [value for value in values if value is not None]
    if not there:
        return None, None
    low, high = np.quantile(there, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]).tolist()
    return low, high
