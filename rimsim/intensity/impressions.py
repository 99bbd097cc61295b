"""Impression layer over λ(x,y), fitted to shown items."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.optimize import minimize
from scipy.special import digamma, gammaincinv, gammaln

from rimsim.arrays import Bools, Floats, Ints
from rimsim.data.log import EventLog
from rimsim.errors import ModelError, refuse
from rimsim.intensity.contract import IntensityModel, ModelCapabilities, rescale_of
from rimsim.intensity.persistence import KINDS, load, read_record, read_tensors, save_model, write_record
from rimsim.intensity.states import UserStates
from rimsim.regression import HazardRegression, hazard_losses, hazard_rate
from rimsim.rng import Purpose, uniform

FLOOR = 1e-9
"""Smallest intensity, so that its logarithm exists."""
LEAST_SLOPE = 0.05
"""Smallest slope. It is positive, so that a layer without item effects keeps the order of a visitor's intensities."""
KNOTS = np.log1p([0.0, 1.0, 10.0, 30.0, 100.0, 300.0])
"""log(1 + length of history) at which level and slope are fitted; both are linear between these points."""
MEMORIES = ((0.5, 0.5), (0.5, 1.0), (0.8, 0.8), (0.8, 1.0), (1.0, 1.0))
"""Pairs of shares of evidence that are kept from one round to the next: on levels and slopes, and on items. A platform
has a fit for each pair."""
LEVEL_SD = 1.0
"""Standard deviation of the normal prior of levels, around 0."""
_SLOPE_SD = 0.5
"""Standard deviation of the normal prior of slopes, around 1."""
_ROUND_SD = 3.0
"""Standard deviation of the normal prior of a round's own level, around 0."""
_EFFECT_SD = (0.3, 1.0)
"""First standard deviations of exp(δ): of items with events in the warm-up log, and of items without."""
_LOG_SHAPE_SD = (1.0, 0.5)
"""Standard deviations of the normal priors of the log shapes of exp(δ), around their first values, for both kinds of
items in ``_EFFECT_SD``."""
_POPULARITY_SLOPE_SD = 0.5
"""Standard deviation of the normal prior, around 0, of the slope of prior effects on log popularity."""
_RECENT = 0.8
"""Discount of the losses of earlier rounds, per round."""
_PASSES = 5
"""Largest number of fits of a round, each with new priors of item effects."""
_LAST_CHANGE = 0.05
"""The fits of a round end when no parameter of the priors, as a logarithm or slope, changes by this much."""
_LAYER = "layer.safetensors"


def knot_basis(history: Ints) -> Floats:
    """(n, K) weights of the knots in a linear interpolation.

    ``history`` (n,) has lengths of histories.
    """
    return np.stack([np.interp(np.log1p(history), KNOTS, hat) for hat in np.eye(len(KNOTS))], 1)


@dataclass(frozen=True, eq=False)
class Impressions:
    """m exposures of a round, and their outcomes."""

    item: Ints
    """(m,) shown items."""
    score: Floats
    """(m,) λ(x,y) by a model without a layer, in the state in which the item was shown."""
    examination: Floats
    """(m,) factor by which the position multiplied the intensity."""
    taken: Bools
    """(m,) True if the item was consumed."""
    history: Ints
    """(m,) number of events in the state in which the item was shown."""

    def __len__(self) -> int:
        return len(self.item)

    @cached_property
    def columns(self) -> Floats:
        """(m, 2K + 1) regression columns: levels, slopes, the round's level."""
        # All fits of a round share these arrays.
        basis = knot_basis(self.history)
        log_score = np.log(np.maximum(self.score, FLOOR))[:, None]
        return np.concatenate([basis, basis * log_score, np.ones((len(self), 1))], 1)

    def require_scores(self) -> None:
        """Refuse scores that are negative or not a number.

        Raises:
            ModelError: If a score is negative or not a number, or an examination is not positive.
        """
        finite = np.isfinite(self.score).all() and (self.score >= 0).all()
        if not finite or not (self.examination > 0).all():
            refuse(
                ModelError,
                "impressions",
                "found a score that is negative or not a number, or an examination that is not positive",
                "finite scores of at least 0, examinations above 0",
            )


@dataclass(frozen=True, eq=False)
class ImpressionLayer:
    """λ'(x,y) = exp(a(h) + b(h)·log λ(x,y) + δ_y), after h past events."""

    level: Floats
    """(K,) level a at each knot."""
    slope: Floats
    """(K,) slope b at each knot, positive."""
    item: Floats
    """(M,) effect δ of each item."""

    @classmethod
    def identity(cls, n_items: int) -> ImpressionLayer:
        """Layer that changes nothing: a = 0, b = 1, δ = 0."""
        return cls(np.zeros(len(KNOTS)), np.ones(len(KNOTS)), np.zeros(n_items))

    @cached_property
    def only_scales(self) -> bool:
        """True if all items of a state get one factor."""
        return bool((self.slope == 1.0).all()) and not self.item.any()

    def scale(self, history: Ints) -> Floats:
        """(n,) factors exp(a) of states, after given numbers of events."""
        return np.exp(np.interp(np.log1p(history), KNOTS, self.level))

    def apply_(self, intensity: torch.Tensor, history: Ints) -> torch.Tensor:
        """Intensities λ' after the layer, written over λ."""
        if self.only_scales:
            # Logarithms would change zeros and last bits, which could change the order of items.
            scale = torch.from_numpy(self.scale(history).astype(np.float32)).to(intensity.device)
            return intensity.mul_(scale[:, None])
        log_length = np.log1p(history)
        levels = np.interp(log_length, KNOTS, self.level)
        slopes = np.interp(log_length, KNOTS, self.slope)
        level, slope, item = (
            torch.from_numpy(part.astype(np.float32)).to(intensity.device)
            for part in (levels, slopes, self.item)
        )
        raised = intensity.clamp_min_(FLOOR).log_().mul_(slope[:, None])
        return raised.add_(level[:, None]).add_(item).exp_()


def centred_log_popularity(events: Ints) -> Floats:
    """Log popularity, centred over items with events; others 0."""
    popularity = np.log1p(events)
    is_seen = events > 0
    centre = popularity[is_seen].mean() if is_seen.any() else 0.0
    return np.where(is_seen, popularity - centre, 0.0)


@dataclass(frozen=True)
class PriorSettings:
    """Fixed parameters of the prior of item effects; None: estimated."""

    slope: float | None = 0.0
    """Slope of the prior's log mean on log popularity."""
    sd: float | None = None
    """Standard deviation of exp(δ), relative to its mean."""

    @property
    def shape(self) -> Floats:
        """(2,) shapes of the priors before estimation: seen, unseen items."""
        return (np.asarray(_EFFECT_SD) if self.sd is None else np.full(2, self.sd)) ** -2.0


ESTIMATED_SD = PriorSettings()
"""Prior with mean 1 at every popularity, and estimated variances."""


@dataclass(frozen=True, eq=False)
class LayerFit:
    """Layer fitted to all impressions so far, and sufficient statistics.

    P(taken) = 1 − exp(−λ'·e), where e is the examination of the position. The fit has a separate level for each round,
    because the level of a retrained model drifts. For earlier rounds, the fit keeps a quadratic approximation of the
    log-likelihood of levels and slopes. For each item it keeps the number of realised events, and the number of events
    expected without the item's effect δ. *Seen* items have events in the warm-up log, *unseen* items have none. The
    factor exp(δ) of an item has a gamma prior with parameters ``mean`` and ``shape``.
    Seen items have one prior, and unseen items another. The priors are estimated by marginal likelihood,
    which is negative binomial (compare DuMouchel 1999, "Bayesian Data Mining in Large Frequency Tables").
    """

    memory: float
    """Share of earlier evidence on levels and slopes that is kept in each round."""
    item_memory: float
    """Share of earlier evidence on item effects that is kept in each round."""
    unseen: Bools
    """(M,) True for items without an event in the warm-up log."""
    level: Floats
    """(K,) levels at the knots, as of the last round."""
    slope: Floats
    """(K,) slopes at the knots."""
    item: Floats
    """(M,) effect δ of each item."""
    precision: Floats
    """(2K, 2K) matrix A of the quadratic ½ xᵀAx − bᵀx, minus the log-likelihood of the levels and slopes x in earlier
    rounds."""
    linear: Floats
    """(2K,) vector b of this quadratic."""
    count: Floats
    """(M,) realised events of each item; events of earlier rounds fade by ``item_memory``."""
    expected: Floats
    """(M,) events of each item that were expected with δ = 0; they fade in the same way."""
    shape: Floats
    """(2,) shapes of the priors of exp(δ): of seen, and of unseen items."""
    mean: Floats
    """(2,) means of the priors of exp(δ): of seen items at mean log popularity, and of unseen items. The first is 1 if
    the slope is fixed."""
    popularity: Floats
    """(M,) log popularity in the warm-up log minus its mean over seen items; 0 for unseen items."""
    popularity_slope: float = 0.0
    """Slope of the log prior mean on ``popularity``."""
    loss: float = 0.0
    """Discounted sum of the losses of each round's impressions, predicted before the fit to them. It decides the weight
    of the fit."""

    @classmethod
    def nothing(
        cls,
        unseen: Bools,
        memory: tuple[float, float],
        popularity: Floats | None = None,
        settings: PriorSettings = ESTIMATED_SD,
    ) -> LayerFit:
        """Fit without impressions, before the first round."""
        k = len(KNOTS)
        no_effects = np.zeros(len(unseen))
        levels_memory, item_memory = memory
        return cls(
            memory=levels_memory,
            item_memory=item_memory,
            unseen=unseen,
            level=np.zeros(k),
            slope=np.ones(k),
            item=no_effects,
            precision=np.zeros((2 * k, 2 * k)),
            linear=np.zeros(2 * k),
            count=no_effects,
            expected=no_effects,
            shape=settings.shape,
            mean=np.ones(2),
            popularity=no_effects if popularity is None else popularity,
            popularity_slope=settings.slope or 0.0,
        )

    @property
    def layer(self) -> ImpressionLayer:
        """Layer with the fitted levels, slopes and item effects."""
        return ImpressionLayer(self.level, self.slope, self.item)

    @property
    def confidence(self) -> Floats:
        """(M,) shape of each item's gamma posterior of exp(δ)."""
        return np.asarray(self.shape[self.unseen.astype(np.int64)] + self.count, np.float64)

    @property
    def item_variance(self) -> Floats:
        """(2,) prior variance of exp(δ)/mean: seen, unseen items."""
        return np.asarray(1.0 / self.shape, np.float64)

    def after(
        self, shown: Impressions, settings: PriorSettings = ESTIMATED_SD, rounds: float = 1.0
    ) -> LayerFit:
        """Layer fit, updated by the impressions of a round.

        The scores of impressions must be from a model that was not trained on the outcomes of these impressions. A
        model fits its training outcomes better than it predicts the next round.

        Args:
            rounds: Number of rounds that the impressions are, by which earlier evidence fades.

        Raises:
            ModelError: If a score is negative or not a number, or an examination not positive.
        """
        shown.require_scores()
        if not len(shown):
            return self
        faded = dataclasses.replace(
            self,
            precision=self.memory**rounds * self.precision,
            linear=self.memory**rounds * self.linear,
            count=self.item_memory**rounds * self.count,
            expected=self.item_memory**rounds * self.expected,
            loss=_RECENT**rounds * self.loss + len(shown) * self.loss_of(shown),
        )
        theta = np.concatenate([self.level, self.slope, [0.0]])  # levels, slopes and the round's own level
        effect = self.item
        shape = self.shape
        mean = self.mean
        popularity_slope = self.popularity_slope
        # The fit needs priors of item effects, whose estimates need the fit. So both take turns.
        for _ in range(_PASSES):
            problem = faded.regression(shown, shape, mean, popularity_slope)
            theta, effect = _bounded_minimum(problem, theta, effect)
            count, expected = _events_of(problem, theta, effect)
            count = faded.count + count
            expected = faded.expected + expected
            before = np.concatenate([np.log(shape), np.log(mean), [popularity_slope]])
            shape, mean, popularity_slope = _priors(count, expected, self.unseen, self.popularity, settings)
            after = np.concatenate([np.log(shape), np.log(mean), [popularity_slope]])
            if np.abs(after - before).max() < _LAST_CHANGE:
                break
        curvature, gradient = _quadratic(problem, theta, effect)
        level, slopes = np.split(theta[:-1], 2)
        return dataclasses.replace(
            faded,
            level=level + theta[-1],  # the next round is expected to have the level of this round
            slope=slopes,
            item=effect,
            precision=faded.precision + curvature,
            linear=faded.linear + curvature @ theta[:-1] - gradient,
            count=count,
            expected=expected,
            shape=shape,
            mean=mean,
            popularity_slope=popularity_slope,
        )

    def regression(
        self, shown: Impressions, shape: Floats, mean: Floats, popularity_slope: float = 0.0
    ) -> HazardRegression:
        """Regression of a round's outcomes, given earlier evidence.

        The parameters θ are the levels, the slopes and the round's own level. The regression has one group per item.
        """
        k = len(KNOTS)
        kind = self.unseen.astype(np.int64)  # 0 for seen items, 1 for unseen items
        prior_precision = np.concatenate([np.full(k, LEVEL_SD), np.full(k, _SLOPE_SD), [_ROUND_SD]]) ** -2.0
        prior_mean = np.concatenate([np.zeros(k), np.ones(k), [0.0]])
        precision = np.diag(prior_precision)
        precision[:-1, :-1] += self.precision
        linear = prior_precision * prior_mean
        linear[:-1] += self.linear
        return HazardRegression(
            shown.columns,
            offset=np.log(shown.examination),
            taken=shown.taken,
            group=shown.item,
            count=shape[kind] + self.count,
            exposure=(shape / mean)[kind] * np.exp(-popularity_slope * self.popularity) + self.expected,
            mean=np.linalg.solve(precision, linear),
            precision=precision,
        )

    def rate(self, shown: Impressions) -> Floats:
        """(m,) λ'·e of impressions, with P(taken) = 1 − exp(−λ'·e)."""
        log_length = np.log1p(shown.history)
        log_rate = (
            np.interp(log_length, KNOTS, self.level) + self.item[shown.item] + np.log(shown.examination)
        )
        log_rate += np.interp(log_length, KNOTS, self.slope) * np.log(np.maximum(shown.score, FLOOR))
        return hazard_rate(log_rate)

    def loss_of(self, shown: Impressions) -> float:
        """Mean log loss; new and returning visits count equally."""
        losses = hazard_losses(self.rate(shown), shown.taken)
        types = (part for part in (losses[shown.history == 0], losses[shown.history > 0]) if len(part))
        return float(np.mean([part.mean() for part in types]))


def _bounded_minimum(problem: HazardRegression, theta: Floats, effect: Floats) -> tuple[Floats, Floats]:
    """Minimum of a regression whose slopes have lower bounds."""
    is_slope = np.arange(len(theta)) // len(KNOTS) == 1  # θ has K levels, K slopes and the round's own level
    is_free = np.ones(len(theta), bool)
    while True:
        theta, effect = problem.minimised(theta, effect, free=is_free)
        is_too_low = is_free & is_slope & (theta < LEAST_SLOPE)
        if not is_too_low.any():
            return theta, effect
        # Slopes below the bound are fixed there, and all other parameters are fitted again.
        is_free = is_free & ~is_too_low
        theta = np.where(is_too_low, LEAST_SLOPE, theta)


def _events_of(problem: HazardRegression, theta: Floats, effect: Floats) -> tuple[Floats, Floats]:
    """(M,) realised events per item; events expected without item effects."""
    rate = problem.rate(theta, effect)
    # A visitor takes an item once, but may want it more often. So a taken item counts as the expected number of Poisson
    # events, given that there is at least one.
    events = np.where(problem.taken, -rate / np.expm1(-rate), 0.0)
    n = len(effect)
    count = np.bincount(problem.group, events, n)
    expected = np.bincount(problem.group, rate * np.exp(-effect)[problem.group], n)
    return np.asarray(count, np.float64), np.asarray(expected, np.float64)


def _quadratic(problem: HazardRegression, theta: Floats, effect: Floats) -> tuple[Floats, Floats]:
    """Curvature and gradient of a loss by levels and slopes."""
    # Later rounds do not need the round's own level. So it is integrated out (by the Schur complement).
    first_derivatives, second_derivatives = problem.slopes(problem.rate(theta, effect))
    columns = problem.columns
    hessian = columns.T @ (columns * second_derivatives[:, None])
    mixed_derivatives = hessian[:-1, -1]
    round_curvature = hessian[-1, -1] + _ROUND_SD**-2
    curvature = hessian[:-1, :-1] - np.outer(mixed_derivatives, mixed_derivatives) / round_curvature
    return curvature, columns[:, :-1].T @ first_derivatives


def _priors(
    count: Floats, expected: Floats, unseen: Bools, popularity: Floats, settings: PriorSettings
) -> tuple[Floats, Floats, float]:
    """Shapes, means and popularity slope of largest marginal likelihood."""
    shape = settings.shape
    mean = np.ones(2)
    popularity_slope = settings.slope or 0.0
    for kind, is_of_kind in enumerate((~unseen, unseen)):
        rows = is_of_kind & (expected > 0)  # items that were shown
        if not rows.any():
            continue
        start = np.array([np.log(shape[kind]), 0.0, popularity_slope])
        # The fit of levels made the effects of shown items 0 on average, and shown items are popular. So without a mean
        # the estimated slope would stay near 0.
        has_slope = kind == 0 and settings.slope is None
        is_free = np.array([settings.sd is None, kind == 1 or has_slope, has_slope])
        optimum = _prior(count[rows], expected[rows], popularity[rows], start, is_free, _LOG_SHAPE_SD[kind])
        if is_free[0]:
            shape[kind] = np.exp(optimum[0])
        if is_free[1]:
            mean[kind] = np.exp(optimum[1])
        if is_free[2]:
            popularity_slope = float(optimum[2])
    return shape, mean, popularity_slope


def _prior(
    count: Floats, expected: Floats, popularity: Floats, start: Floats, is_free: Bools, log_shape_sd: float
) -> Floats:
    """Log shape, log mean and slope of largest marginal likelihood.

    Only parameters that ``is_free`` marks differ from their start values.
    """
    # The normal priors are: of the log shape around its start, with sd ``log_shape_sd``; of the log mean around 0, with
    # sd 1; and of the slope around 0.
    if not is_free.any():
        return start

    def loss(free: Floats) -> float:
        # Negative log-likelihood of negative binomial counts, without terms that do not depend on the parameters.
        point = start.copy()
        point[is_free] = free
        log_shape, log_mean, slope = point
        shape = np.exp(log_shape)
        rate = shape * np.exp(-(log_mean + slope * popularity))
        log_p = gammaln(shape + count) - gammaln(shape) + shape * np.log(rate)
        log_p -= (shape + count) * np.log(rate + expected)
        penalty = 0.5 * ((log_shape - start[0]) / log_shape_sd) ** 2
        return float(-log_p.sum() + penalty + 0.5 * log_mean**2 + 0.5 * (slope / _POPULARITY_SLOPE_SD) ** 2)

    def gradient(free: Floats) -> Floats:
        point = start.copy()
        point[is_free] = free
        shape = np.exp(point[0])
        rate = shape * np.exp(-(point[1] + point[2] * popularity))
        posterior_mean = (shape + count) / (rate + expected)
        # Derivatives of the log-likelihood in the log shape, the log mean and the slope, and those of the penalty.
        by_shape = digamma(shape + count) - digamma(shape) + np.log(rate / (rate + expected)) + 1.0
        by_mean = rate * posterior_mean - shape
        of_likelihood = [
            shape * (by_shape - rate * posterior_mean / shape).sum(),
            by_mean.sum(),
            by_mean @ popularity,
        ]
        of_penalty = [(point[0] - start[0]) / log_shape_sd**2, point[1], point[2] / _POPULARITY_SLOPE_SD**2]
        return np.asarray(np.subtract(of_penalty, of_likelihood)[is_free], np.float64)

    # Without a slope, SciPy's finite differences are used: the gradient would change the last digits of known results.
    jac = gradient if is_free[2] else None
    all_bounds = ((-2.0, 10.0), (-4.0, 2.0), (-5.0, 5.0))
    bounds = [bound for bound, free in zip(all_bounds, is_free, strict=True) if free]
    optimum = start.copy()
    optimum[is_free] = minimize(loss, start[is_free], method="L-BFGS-B", jac=jac, bounds=bounds).x
    return optimum


def fit_weights(fits: Sequence[LayerFit]) -> Floats:
    """Weights of several fits, from their predictions, with sum 1."""
    # These are the weights of exponentially weighted forecasters (Vovk, COLT 1990), and posterior probabilities of the
    # fits. A weighted mean is less noisy than the best fit: where items' worth is unknown, visitors consume 6% more.
    loss = np.array([fit.loss for fit in fits])
    weight = np.exp(loss.min() - loss)
    return np.asarray(weight / weight.sum(), np.float64)


def layer_of_fits(fits: Sequence[LayerFit]) -> ImpressionLayer:
    """Weighted mean of the layers of several fits."""
    weight = fit_weights(fits)
    names = ("level", "slope", "item")
    return ImpressionLayer(*(np.tensordot(weight, [getattr(fit, name) for fit in fits], 1) for name in names))


def mean_confidence(fits: Sequence[LayerFit]) -> Floats:
    """(M,) weighted mean of the gamma shapes of several fits."""
    return np.asarray(np.average([fit.confidence for fit in fits], 0, fit_weights(fits)), np.float64)


def quantile_factors(shape: Floats, quantile: float | Floats) -> Floats:
    """Quantile of gamma distributions with mean 1 and given shapes."""
    return np.asarray(gammaincinv(shape, quantile) / shape, np.float64)


def quantile_layer(fits: Sequence[LayerFit], quantile: float) -> ImpressionLayer:
    """Layer whose item factors are posterior quantiles.

    The quantile is that of a gamma distribution with the mean effect and the mean shape of the fits. It is not that of
    their mixture, so it costs the same for any number of fits, and equals the factor of ``rim-ucb``.
    """
    layer = layer_of_fits(fits)
    factors = quantile_factors(mean_confidence(fits), quantile)
    return dataclasses.replace(layer, item=layer.item + np.log(np.maximum(factors, FLOOR)))


def sampled_layer(fits: Sequence[LayerFit], seed: int, number: int) -> ImpressionLayer:
    """Layer with a posterior sample of each item (Thompson).

    For each item, a fit is drawn by its weight, and then exp(δ) from the gamma posterior of that fit. Levels and slopes
    are the weighted means.

    Args:
        seed: Seed of the platform's model.
        number: Round that the layer serves; each round has other samples.
    """
    layer = layer_of_fits(fits)
    items = np.arange(len(layer.item))
    upper_ends = np.cumsum(fit_weights(fits))[:-1]  # each fit has a part of [0, 1] as long as its weight
    chosen = np.searchsorted(upper_ends, uniform(seed, Purpose.LEARNING, number, 0, items), side="right")
    shape = np.stack([part.confidence for part in fits])[chosen, items]
    effect = np.stack([part.item for part in fits])[chosen, items]
    factors = quantile_factors(shape, uniform(seed, Purpose.LEARNING, number, 1, items))
    return dataclasses.replace(layer, item=effect + np.log(np.maximum(factors, FLOOR)))


class Calibrated:
    """λ'(x,y) = exp(a(h) + b(h)·log λ(x,y) + δ_y), with λ from any model.

    The market scores with the inner model and caches its hidden states. It applies the layer to λ(x)·p(y|x) of
    admissible items, so λ'(x) is the sum of λ'(x,y) over admissible items. :meth:`score` applies the layer to the whole
    catalogue. Fits and updates of the inner model do not change the layer.
    """

    kind: ClassVar[str] = "calibrated"

    def __init__(
        self, model: IntensityModel, layer: ImpressionLayer, fits: tuple[LayerFit, ...] = ()
    ) -> None:
        self.model = model
        self.layer = layer
        self.fits = fits
        """Fits of the layer to impressions before round 0; empty without such impressions. They are not saved."""

    @property
    def device(self) -> torch.device:
        """Device where scores are computed."""
        return torch.device(getattr(self.model, "device", "cpu"))

    @property
    def rescale(self) -> float:
        """Factor by which the inner model's last update rescaled λ(x)."""
        return rescale_of(self.model)

    @property
    def depends_on_state(self) -> bool:
        """True if the inner model's p(y|x) depends on x."""
        return ModelCapabilities.of(self.model).depends_on_state

    @property
    def takes_weights(self) -> bool:
        """True if the inner model accepts weights of events."""
        return ModelCapabilities.of(self.model).takes_weights

    @property
    def stored_parts(self) -> tuple[object, ...]:
        """Models that are saved with this model."""
        return (self.model,)

    def fit(self, log: EventLog) -> Self:
        """Fit the inner model from scratch."""
        self.model = self.model.fit(log)
        return self

    def update(self, log: EventLog) -> Self:
        """Update the inner model."""
        self.model = self.model.update(log)
        return self

    def score(self, states: UserStates) -> torch.Tensor:
        """(n, M) float32: λ'(x,y) over the whole catalogue."""
        return self.layer.apply_(self.model.score(states).to(torch.float32).clone(), states.lengths)

    def save(self, folder: str | Path) -> None:
        """Write the layer, and the inner model in subfolder ``model``."""
        path = Path(folder)
        save_model(self.model, path / "model")
        write_record(path, {"kind": self.kind})
        parts = dataclasses.asdict(self.layer)
        save_file({name: torch.from_numpy(part) for name, part in parts.items()}, path / _LAYER)

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Read a layered model that :meth:`save` wrote."""
        path = Path(folder)
        read_record(path, cls.kind)
        try:
            parts = read_tensors(path / _LAYER)
            layer = ImpressionLayer(**{name: part.numpy() for name, part in parts.items()})
        except Exception as error:  # a damaged file can raise any exception
            raise ModelError(f"{path / _LAYER}: the file is damaged or incomplete ({error})") from error
        return cls(load(path / "model", device), layer)


KINDS[Calibrated.kind] = Calibrated


def layer_of(model: IntensityModel) -> tuple[IntensityModel, ImpressionLayer | None]:
    """Inner model and layer; without a layer, model and None.

    A model with a layer has the attributes ``model`` and ``layer``.
    """
    layer: ImpressionLayer | None = getattr(model, "layer", None)
    return (model, None) if layer is None else (model.model, layer)  # type: ignore[attr-defined]
