"""Intervals over seeds, paired differences, and claims made from them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from rimsim import rng
from rimsim.arrays import Bools, Floats
from rimsim.errors import DataError, refuse

FEW_SEEDS = 4
"""Fewest seeds for which charts show an interval. With fewer seeds, charts show the value of each seed."""
LEVEL = 0.05
"""Largest chance of a false claim: of any difference in a table, or of equality within a margin."""
UNFIT = 0.6
"""Agreement over settled pairs below which a truth is unfit for comparing recommenders."""
Verdict: TypeAlias = Literal["fit", "unfit", "cannot tell"]
"""Verdict on the fitness of a truth for comparing recommenders."""
FIT: Final = "fit"
UNFIT_VERDICT: Final = "unfit"
CANNOT_TELL: Final = "cannot tell"
_CONFIDENCE = 0.95
"""Confidence level of intervals."""
_Z = 1.959963984540054
"""Quantile of the normal distribution for two-sided 95% intervals."""
_LARGEST_LOGARITHM = 50.0
"""Logarithm of a factor beyond which an interval has no end but 1 and M."""
_ROUNDING = 1e-9
"""Relative difference below which values count as equal, because the order of a sum changes its last bits."""
_DIGITS = 12
"""Number of decimals in comparisons of means, so that rounding errors do not decide the order of equal models."""


@dataclass(frozen=True)
class Interval:
    """Mean over seeds and its two-sided confidence interval.

    Without values, the mean is None. With fewer than two values, or with values that are all equal, the bounds are
    None, because such values say nothing about the spread.
    """

    mean: float | None
    """Mean of the values; None without values."""
    low: float | None
    """Lower end of the interval; None without an interval."""
    high: float | None
    """Upper end of the interval; None without an interval."""
    n: int
    """Number of values."""
    equal: bool = False
    """True if there are several values, and all are equal up to rounding."""

    @property
    def half(self) -> float:
        """Half the width of the interval; NaN without an interval."""
        return math.nan if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a − b over seeds, interval and effect size.

    Without pairs, the mean is None. With fewer than two pairs, or with differences that are all equal, the interval,
    the effect size and the p value are None: a test needs a spread.
    """

    mean: float | None
    """Mean of the differences; None without pairs."""
    low: float | None
    """Lower end of the 95% interval, or of another level; None without an interval."""
    high: float | None
    """Upper end of the interval; None without an interval."""
    dz: float | None
    """Effect size d_z: mean of the differences over their standard deviation (Cohen 1988)."""
    n: int
    """Number of pairs."""
    p: float | None = None
    """p-value of the paired t test of no difference."""
    equal: bool = False
    """True if there are several pairs, and all differences are equal up to rounding."""

    @property
    def half(self) -> float:
        """Half the width of the interval; NaN without an interval."""
        return math.nan if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def clear(self) -> bool:
        """True if there is an interval and it excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a difference against a margin (Schuirmann 1987)."""

    mean: float | None
    """Mean of the differences; None without pairs."""
    low: float | None
    """Lower end of the interval of confidence 1 − 2·level, which must be within the margin; None without one."""
    high: float | None
    """Upper end of this interval."""
    margin: float
    """Largest difference in either direction that counts as no difference."""

    @property
    def holds(self) -> bool:
        """True if an interval exists and is within the margin."""
        if self.low is None or self.high is None:
            return False
        return -self.margin < self.low and self.high < self.margin


@dataclass(frozen=True)
class ModelPair:
    """Two models, and the difference of their real worth."""

    first: int
    """Number of the model that is better in reality."""
    second: int
    """Number of the other model."""
    difference: float
    """Mean over users of the first model's real worth minus the second model's, at least 0."""
    low: float | None
    """Lower end of the 95% interval of ``difference`` over users; None for one user."""
    high: float | None
    """Upper end of this interval."""
    settled: bool
    """True if the interval excludes 0."""


Pair = ModelPair


@dataclass(frozen=True)
class Agreement:
    """Agreement of a truth's order of models with held-out sessions."""

    kendall: float | None
    """Kendall's τ-b between real and simulated worth of models; None if all models are equal."""
    kendall_low: float | None
    """Lower end of the 95% interval of ``kendall``: a bootstrap over users, paired over models."""
    kendall_high: float | None
    """Upper end of this interval."""
    spearman: float | None
    """Spearman's rank correlation between real and simulated worth of models; None if all models are equal."""
    kendall_settled: float | None
    """(concordant − discordant) / settled pairs; None without settled pairs."""
    kendall_settled_low: float | None
    """Lower end of the 95% interval of ``kendall_settled`` over pairs, from :func:`order_test`; None without settled
    pairs."""
    kendall_settled_high: float | None
    """Upper end of this interval."""
    models: int
    """Number of models."""
    users: int
    """Number of users."""
    pairs: int
    """Number of pairs of models."""
    settled_pairs: int
    """Number of pairs whose real difference is significant over users."""
    settled_share: float
    """Share of the settled pairs among all pairs."""
    concordant_pairs: int
    """Number of settled pairs that the truth orders as reality does."""
    discordant_pairs: int
    """Number of settled pairs that the truth orders the other way. Other pairs may be equal under the truth."""

    @property
    def figures(self) -> dict[str, float | None]:
        """Value of each metric."""
        return asdict(self)


@dataclass(frozen=True)
class OrderTest:
    """Test of the simulated order of models against reality."""

    agreement: float | None
    """(concordant − reversed) / settled pairs, in [−1, 1]; None without settled pairs."""
    low: float | None
    """Lower end of the 95% interval of ``agreement``, see :func:`order_test`; None without settled pairs."""
    high: float | None
    """Upper end of this interval."""
    models: int
    """Number of models."""
    users: int
    """Number of users."""
    pairs: int
    """Number of pairs of models."""
    settled: int
    """Number of pairs whose real difference is significant over users."""
    concordant: tuple[tuple[int, int], ...]
    """Settled pairs that the simulation orders as reality does; the model that is really better comes first."""
    reversed: tuple[tuple[int, int], ...]
    """Settled pairs in which the simulation prefers the really worse model, significantly over users."""

    @property
    def needed(self) -> int:
        """Fewest settled pairs that beat chance if all are concordant."""
        return math.floor(_Z**2 * _pairs_per_independent_one(self.models)) + 1

    def verdict(self, false_agreements: Iterable[float | None] = ()) -> Verdict:
        """Fitness of the simulation for comparing models.

        The simulation is fit on three conditions: its agreement is at least ``UNFIT``, the interval of the agreement is
        above 0 (chance), and the agreement is above ``false_agreements``, the agreements of simulations with wrong
        tastes. It is unfit if the whole interval is below ``UNFIT``. Otherwise the evidence cannot tell.
        """
        if self.agreement is None or self.low is None or self.high is None:
            return CANNOT_TELL
        if self.high < UNFIT:
            return UNFIT_VERDICT
        best_false = max((value for value in false_agreements if value is not None), default=-1.0)
        is_better = self.agreement == 1 or self.agreement > best_false
        return FIT if self.agreement >= UNFIT and self.low > 0 and is_better else CANNOT_TELL


def mean_interval(values: ArrayLike, level: float = _CONFIDENCE, overlap: float = 0.0) -> Interval:
    """Mean and Student-t interval: x̄ ± t_{n−1, (1+level)/2}·s/√n.

    Student, Biometrika 1908. Splits of one log share training data, so their values are not independent. With an
    overlap, s·√(1/n + overlap) replaces s/√n (Nadeau and Bengio, Machine Learning 2003).

    Args:
        values: One value per seed. NaN (no value at a seed) is left out, and ``n`` counts the other values.
        level: Confidence level in (0, 1).
        overlap: Size of the test part over size of the training part, if values are from random splits of one log; 0 if
            values are independent.
    """
    if not 0 < level < 1:
        refuse(DataError, "level", str(level), "between 0 and 1, such as 0.95")
    present_values = _present(np.asarray(values, np.float64).ravel())
    return _t_interval(present_values, np.abs(present_values).max(initial=0.0), level, overlap)


def number_interval(
    values: ArrayLike, most: float | None = None, level: float = _CONFIDENCE, overlap: float = 0.0
) -> Interval:
    """Mean and interval of a number between 1 and M.

    Such numbers, like the effective number of items, vary by factors. So the interval is symmetric on the log scale:
    x̄·exp(±h/x̄), where h is half of Student's interval. Mean and interval are cut at 1 and M, because an effective
    number may exceed M by chance.

    Args:
        values: One number per seed; NaN is left out.
        most: M; None: no upper limit.
        level: As for :func:`mean_interval`.
        overlap: As for :func:`mean_interval`.
    """
    plain = mean_interval(values, level, overlap)
    if plain.mean is None:
        return plain
    top = math.inf if most is None else float(most)
    mean = min(plain.mean, top)
    if plain.low is None or not plain.mean > 0:
        return replace(plain, mean=mean)
    factor = math.exp(min(plain.half / plain.mean, _LARGEST_LOGARITHM))
    low = max(plain.mean / factor, min(1.0, mean))  # the mean is below 1 only if a seed counted nothing
    return replace(plain, mean=mean, low=min(low, top), high=min(plain.mean * factor, top))


def _t_interval(values: Floats, size: float, level: float, overlap: float = 0.0) -> Interval:
    """Student-t interval; rounding errors are relative to ``size``."""
    n = len(values)
    if n < 2:
        return Interval(mean=float(values.mean()) if n else None, low=None, high=None, n=n)
    if np.ptp(values) <= _ROUNDING * size:
        return Interval(mean=float(values.mean()), low=None, high=None, n=n, equal=True)
    from scipy.special import stdtrit  # noqa: PLC0415  # slow to import, and most measures do not need it

    mean = float(values.mean())
    quantile = float(stdtrit(n - 1, (1 + level) / 2))
    half = quantile * float(values.std(ddof=1)) * (1 / n + overlap) ** 0.5
    return Interval(mean=mean, low=mean - half, high=mean + half, n=n)


def paired_difference(a: ArrayLike, b: ArrayLike, level: float = _CONFIDENCE) -> PairedDifference:
    """Mean of a − b, paired interval and effect size d_z.

    At each seed, all agents get the same arrivals and random numbers, so pairing removes most of the noise. Both arrays
    have one value per seed, in the same order. Pairs with NaN are left out. If all differences are equal, there is
    nothing to test: the result has their mean only.
    """
    first = np.asarray(a, np.float64).ravel()
    second = np.asarray(b, np.float64).ravel()
    if len(first) != len(second):
        refuse(DataError, "paired_difference", f"{len(first)} and {len(second)} values", "the same seeds")
    return paired_interval(first, second, level)


def paired_interval(first: Floats, second: Floats, level: float, overlap: float = 0.0) -> PairedDifference:
    """Paired difference of values from splits that may overlap."""
    if not 0 < level < 1:
        refuse(DataError, "level", str(level), "between 0 and 1, such as 0.95")
    difference = _present(first - second)
    size = np.nanmax(np.abs([first, second]), initial=0.0)
    interval = _t_interval(difference, float(size), level, overlap)
    mean = interval.mean
    n = interval.n
    if mean is None or interval.low is None:
        return PairedDifference(mean=mean, low=None, high=None, dz=None, n=n, equal=interval.equal)
    from scipy.special import stdtr  # noqa: PLC0415  # slow to import, and most measures do not need it

    sd = float(difference.std(ddof=1))
    error = sd * (1 / n + overlap) ** 0.5
    p = 2 * float(stdtr(n - 1, -abs(mean / error)))  # both tails of Student's t distribution
    return PairedDifference(mean=mean, low=interval.low, high=interval.high, dz=mean / sd, n=n, p=p)


def _present(values: Floats) -> Floats:
    """Values without NaN; infinite values are refused."""
    if np.isinf(values).any():
        raise DataError(
            "statistics: a value is infinite. Expected finite numbers, or NaN for a missing value"
        )
    return np.asarray(values[~np.isnan(values)], np.float64)


def equivalence(a: ArrayLike, b: ArrayLike, margin: float, level: float = LEVEL) -> Equivalence:
    """Equality within a margin, tested by two one-sided paired tests.

    An interval that includes 0 does not show equality unless it is short. Both tests reject at ``level`` if and only
    if the paired interval of confidence 1 − 2·level is within the margin (Schuirmann 1987). The margin is
    above 0, in the unit of the values. Choose the margin before you look at the values. ``level`` is the
    largest chance of a false claim of equality.
    """
    if not margin > 0:
        refuse(DataError, "margin", str(margin), "above 0, the largest difference that does not matter")
    difference = paired_difference(a, b, 1 - 2 * level)
    return Equivalence(mean=difference.mean, low=difference.low, high=difference.high, margin=margin)


def holm(p: ArrayLike) -> Floats:
    """Adjusted p values of claims that share a table.

    With adjusted values, the chance of any false claim in the table is at most that of a single comparison. The i-th
    smallest of m values is multiplied by m − i + 1, and the results are made ascending (Holm 1979). NaN
    stands for a missing comparison, which is not counted.
    """
    p_values = np.asarray(p, np.float64)
    is_present = ~np.isnan(p_values)
    values = p_values[is_present]
    outside = values[(values < 0) | (values > 1)]
    if len(outside):
        refuse(DataError, "p", str(outside[0]), "between 0 and 1")
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    ascending = np.maximum.accumulate(values[order] * factors)
    adjusted_values = np.empty(len(values))
    adjusted_values[order] = np.minimum(ascending, 1.0)
    adjusted = p_values.copy()
    adjusted[is_present] = adjusted_values
    return adjusted


def significant(p: ArrayLike) -> Bools:
    """Mask of significant comparisons of a table.

    The test is Holm's at 5%. Tables, sentences and titles all ask this function, so that none claims a difference that
    another denies. NaN stands for a comparison that cannot be tested: one seed, or the same difference in all seeds.
    """
    return np.asarray(holm(p) <= LEVEL, np.bool_)


def pairs_of(real: ArrayLike) -> list[ModelPair]:
    """Pairs of models, the better one first, with paired intervals.

    ``real`` has the worth of m models for n users, measured on held-out sessions. Each value is a mean over
    the draws of a user, so that users are independent.
    """
    worth = np.asarray(real, np.float64)
    means = worth.mean(1).round(_DIGITS)
    pairs = []
    for first, second in itertools.combinations(range(len(worth)), 2):
        better, worse = (first, second) if means[first] >= means[second] else (second, first)
        paired = paired_difference(worth[better], worth[worse])
        pair = ModelPair(
            first=better,
            second=worse,
            difference=paired.mean or 0.0,
            low=paired.low,
            high=paired.high,
            settled=paired.clear,
        )
        pairs.append(pair)
    return pairs


def agreement(real: ArrayLike, simulated: ArrayLike, *, seed: int = 0, resamples: int = 1000) -> Agreement:
    """Agreement of two orders of models, real and simulated.

    Args:
        real: Worth of m models for n users, measured on held-out sessions.
        simulated: Worth of the same models for the same users under the truth.
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap samples of users.
    """
    real_worth = np.asarray(real, np.float64)
    simulated_worth = np.asarray(simulated, np.float64)
    m, n = real_worth.shape
    pairs = pairs_of(real_worth)
    settled = [(pair.first, pair.second) for pair in pairs if pair.settled]
    means = real_worth.mean(1).round(_DIGITS)
    expected = simulated_worth.mean(1).round(_DIGITS)
    signs = _signs(means, expected, settled)
    generator = rng.generator(seed, rng.Purpose.MEASURE, 11)
    kendall: list[float | None] = []
    for _ in range(resamples):
        weight = np.bincount(generator.integers(0, n, n), minlength=n) / n
        resampled_real = (real_worth @ weight).round(_DIGITS)
        resampled_simulated = (simulated_worth @ weight).round(_DIGITS)
        kendall.append(_rank_correlation("kendalltau", resampled_real, resampled_simulated))
    low, high = _quantiles(kendall)
    over_settled = _mean(signs)
    settled_low: float | None = None
    settled_high: float | None = None
    if over_settled is not None:
        settled_low, settled_high = _over_pairs(over_settled, len(settled), m)
    return Agreement(
        kendall=_rank_correlation("kendalltau", means, expected),
        kendall_low=low,
        kendall_high=high,
        spearman=_rank_correlation("spearmanr", means, expected),
        kendall_settled=over_settled,
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


def order_test(real: ArrayLike, simulated: ArrayLike) -> OrderTest:
    """Test of the simulated order of models, for a verdict.

    A pair is settled if the 95% interval of its real difference over users excludes 0. The simulation orders or
    reverses a settled pair if the interval of the simulated difference excludes 0, too; otherwise the pair counts half.
    The interval of the agreement is Wilson's for a binomial share (Wilson 1927), so it has a width even if all pairs
    agree. Pairs share models, so they are worth fewer independent pairs: the variance of Kendall's τ of m models is
    (2m + 5)/9 times the variance for independent pairs (Kendall 1938).

    Args:
        real: Worth of m models for n users, measured on held-out sessions.
        simulated: Worth of the same models for the same users in simulation.
    """
    worth = np.asarray(real, np.float64)
    expected = np.asarray(simulated, np.float64)
    pairs = pairs_of(worth)
    settled = [(pair.first, pair.second) for pair in pairs if pair.settled]
    concordant: list[tuple[int, int]] = []
    discordant: list[tuple[int, int]] = []
    for first, second in settled:
        paired = paired_difference(expected[first], expected[second])
        if not paired.clear or paired.mean is None:
            continue
        if paired.mean > 0:
            concordant.append((first, second))
        else:
            discordant.append((first, second))
    agreement = low = high = None
    if settled:
        agreement = (len(concordant) - len(discordant)) / len(settled)
        low, high = _over_pairs(agreement, len(settled), len(worth))
    return OrderTest(
        agreement=agreement,
        low=low,
        high=high,
        models=len(worth),
        users=worth.shape[1],
        pairs=len(pairs),
        settled=len(settled),
        concordant=tuple(concordant),
        reversed=tuple(discordant),
    )


def _over_pairs(agreement: float, settled: int, models: int) -> tuple[float, float]:
    """95% interval of an agreement over settled pairs."""
    # An agreement from −1 to 1 is converted to the share of pairs in order, and back.
    n_independent = settled / _pairs_per_independent_one(models)
    low, high = _wilson((1 + agreement) / 2, n_independent)
    return 2 * low - 1, 2 * high - 1


def _pairs_per_independent_one(models: int) -> float:
    """Number of pairs of m models per independent pair."""
    return max((2 * models + 5) / 9, 1.0)


def _wilson(share: float, count: float) -> tuple[float, float]:
    """Ends of Wilson's 95% interval of a share."""
    spread = _Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return middle - half, middle + half


def _signs(real: Floats, simulated: Floats, pairs: list[tuple[int, int]]) -> Floats:
    """Sign of each pair: 1 if orders agree, −1 if not."""
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return np.asarray(
        np.sign(real[first] - real[second]) * np.sign(simulated[first] - simulated[second]), np.float64
    )


def _mean(signs: Floats) -> float | None:
    """Mean of the signs; None without signs."""
    return float(signs.mean()) if len(signs) else None


def _rank_correlation(name: str, first: Floats, second: Floats) -> float | None:
    """Correlation by a function of SciPy; None without variation."""
    from scipy import stats  # noqa: PLC0415  # slow to import, and most measures do not need it

    return float(getattr(stats, name)(first, second).statistic) if np.ptp(first) and np.ptp(second) else None


def _quantiles(values: list[float | None]) -> tuple[float | None, float | None]:
    """Ends of the 95% range of values other than None."""
    present_values = [value for value in values if value is not None]
    if not present_values:
        return None, None
    low, high = np.quantile(present_values, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2]).tolist()
    return low, high
