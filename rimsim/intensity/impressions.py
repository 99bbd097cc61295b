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
from scipy.special import gammaln

from rimsim.arrays import Bools, Floats, Ints
from rimsim.data.log import EventLog
from rimsim.errors import ModelError, refuse
from rimsim.intensity.contract import IntensityModel, ModelCapabilities, rescale_of
from rimsim.intensity.persistence import KINDS, load, read_record, read_tensors, save_model, write_record
from rimsim.intensity.states import UserStates
from rimsim.regression import HazardRegression, hazard_losses, hazard_rate

FLOOR = 1e-9
"""Smallest intensity, so that its logarithm exists."""
LEAST_SLOPE = 0.05
"""Smallest slope; being positive, it keeps the order of a visitor's intensities."""
KNOTS = np.log1p([0.0, 1.0, 10.0, 30.0, 100.0, 300.0])
"""log(1 + length of history) at which level and slope are fitted; both are linear between these points."""
MEMORIES = ((0.5, 0.5), (0.5, 1.0), (0.8, 0.8), (0.8, 1.0), (1.0, 1.0))
"""Shares of evidence kept from one round to the next: on levels and slopes, and on items. Each pair has a fit."""
_LEVEL_SD = 1.0
_SLOPE_SD = 0.5
_ROUND_SD = 3.0
"""Standard deviations of the normal priors of levels around 0, slopes around 1, and a round's own level around 0."""
_EFFECT_SD = (0.3, 1.0)
"""Prior standard deviation of effects of items: with events in the warm-up log, and without."""
_SURE = (1.0, 0.5)
"""Prior standard deviation of the logarithm of the variance of each kind of item effects in ``_EFFECT_SD``."""
_RECENT = 0.8
"""Factor of the sum of validation losses when a round's loss is added."""
_PASSES = 5
_SETTLED = 0.05
"""Most fits of a round, each with new priors of item effects; change of log parameters below which fits end."""
_LAYER = "layer.safetensors"


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
        """(m, 2K + 1) regression columns: levels, slopes and the round."""
        # All fits of a round share these arrays.
        basis = np.stack([np.interp(np.log1p(self.history), KNOTS, hat) for hat in np.eye(len(KNOTS))], 1)
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
        if self.only_scales:  # zeros stay, and so does each bit of a ratio of two items
            scale = torch.from_numpy(self.scale(history).astype(np.float32)).to(intensity.device)
            return intensity.mul_(scale[:, None])
        place = np.log1p(history)
        level, slope, item = (
            torch.from_numpy(part.astype(np.float32)).to(intensity.device)
            for part in (np.interp(place, KNOTS, self.level), np.interp(place, KNOTS, self.slope), self.item)
        )
        raised = intensity.clamp_min_(FLOOR).log_().mul_(slope[:, None])
        return raised.add_(level[:, None]).add_(item).exp_()


@dataclass(frozen=True, eq=False)
class LayerFit:
    """Layer fitted to all impressions so far, and sufficient statistics.

    P(taken) = 1 − exp(−λ'·e), where e is the examination of the position. The fit has a separate level for each round,
    because the level of a retrained model drifts. For earlier rounds, the fit keeps a quadratic approximation of the
    likelihood of levels and slopes. For each item it keeps the number of realised events, and of events expected
    without the item's effect δ. The factor exp(δ) of an item has a gamma prior with parameters ``mean`` and ``shape``.
    Items of the warm-up log have one prior, and other items another. The priors are estimated by marginal likelihood,
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
    """(2K, 2K) curvature of earlier rounds' likelihood in levels and slopes."""
    linear: Floats
    """(2K,) linear term of earlier rounds' likelihood in levels and slopes."""
    count: Floats
    """(M,) events of each item."""
    expected: Floats
    """(M,) expected events of each item with δ = 0."""
    shape: Floats
    """(2,) shapes of the priors of exp(δ): of seen and of unseen items."""
    mean: Floats
    """(2,) means of the priors of exp(δ): 1 for seen items, then that of unseen items."""
    loss: float = 0.0
    """Discounted sum of losses on the impressions of each next round; decides the weight of the fit."""

    @classmethod
    def nothing(cls, unseen: Bools, memory: tuple[float, float]) -> LayerFit:
        """Fit without impressions, before the first round."""
        k = len(KNOTS)
        none = np.zeros(len(unseen))
        shape = np.asarray(_EFFECT_SD) ** -2.0
        flat = np.zeros((2 * k, 2 * k)), np.zeros(2 * k)
        return cls(*memory, unseen, np.zeros(k), np.ones(k), none, *flat, none, none, shape, np.ones(2))

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
        """(2,) prior variance of exp(δ)/mean: warm-up items, other items."""
        return np.asarray(1.0 / self.shape, np.float64)

    def after(self, shown: Impressions) -> LayerFit:
        """Layer fit, updated by the impressions of a round.

        The scores of impressions must be from a model that was not trained on the outcomes of these impressions. A
        model fits its training outcomes better than it predicts the next round.

        Raises:
            ModelError: If a score is negative or not a number, or an examination not positive.
        """
        shown.require_scores()
        if not len(shown):
            return self
        faded = dataclasses.replace(
            self,
            precision=self.memory * self.precision,
            linear=self.memory * self.linear,
            count=self.item_memory * self.count,
            expected=self.item_memory * self.expected,
            loss=_RECENT * self.loss + len(shown) * self.loss_of(shown),
        )
        theta = np.concatenate([self.level, self.slope, [0.0]])
        effect = self.item
        shape = self.shape
        mean = self.mean
        for _ in range(_PASSES):
            problem = faded.regression(shown, shape, mean)
            theta, effect = _bounded_minimum(problem, theta, effect)
            count, expected = _events_of(problem, theta, effect)
            count = faded.count + count
            expected = faded.expected + expected
            before = np.concatenate([shape, mean])
            (shape, mean) = _priors(count, expected, self.unseen)
            if np.abs(np.log(np.concatenate([shape, mean]) / before)).max() < _SETTLED:
                break
        curvature, slope = _quadratic(problem, theta, effect)
        level, slopes = np.split(theta[:-1], 2)
        return dataclasses.replace(
            faded,
            level=level + theta[-1],
            slope=slopes,
            item=effect,
            precision=faded.precision + curvature,
            linear=faded.linear + curvature @ theta[:-1] - slope,
            count=count,
            expected=expected,
            shape=shape,
            mean=mean,
        )

    def regression(self, shown: Impressions, shape: Floats, mean: Floats) -> HazardRegression:
        """Regression of a round's outcomes, given earlier evidence.

        The parameters θ are the levels, the slopes and the round's own level. The regression has one group per item.
        """
        k = len(KNOTS)
        of = self.unseen.astype(np.int64)
        prior_precision = np.concatenate([np.full(k, _LEVEL_SD), np.full(k, _SLOPE_SD), [_ROUND_SD]]) ** -2.0
        around = np.concatenate([np.zeros(k), np.ones(k), [0.0]])
        precision = np.diag(prior_precision)
        precision[:-1, :-1] += self.precision
        pull = prior_precision * around
        pull[:-1] += self.linear
        return HazardRegression(
            shown.columns,
            offset=np.log(shown.examination),
            taken=shown.taken,
            group=shown.item,
            count=shape[of] + self.count,
            exposure=(shape / mean)[of] + self.expected,
            mean=np.linalg.solve(precision, pull),
            precision=precision,
        )

    def loss_of(self, shown: Impressions) -> float:
        """Mean log loss; new and returning visits count equally."""
        place = np.log1p(shown.history)
        log_rate = np.interp(place, KNOTS, self.level) + self.item[shown.item] + np.log(shown.examination)
        log_rate += np.interp(place, KNOTS, self.slope) * np.log(np.maximum(shown.score, FLOOR))
        losses = hazard_losses(hazard_rate(log_rate), shown.taken)
        types = (part for part in (losses[shown.history == 0], losses[shown.history > 0]) if len(part))
        return float(np.mean([part.mean() for part in types]))


def _bounded_minimum(problem: HazardRegression, theta: Floats, effect: Floats) -> tuple[Floats, Floats]:
    """Minimum of a regression whose slopes have lower bounds."""
    slopes = np.arange(len(theta)) // len(KNOTS) == 1
    free = np.ones(len(theta), bool)
    while True:
        theta, effect = problem.minimised(theta, effect, free=free)
        low = free & slopes & (theta < LEAST_SLOPE)
        if not low.any():
            return theta, effect
        free = free & ~low
        theta = np.where(low, LEAST_SLOPE, theta)


def _events_of(problem: HazardRegression, theta: Floats, effect: Floats) -> tuple[Floats, Floats]:
    """(M,) realised events per item; events expected without item effects."""
    rate = problem.rate(theta, effect)
    # Expected events given at least one: an item may be wanted more than once.
    events = np.where(problem.taken, -rate / np.expm1(-rate), 0.0)
    n = len(effect)
    count = np.bincount(problem.group, events, n)
    expected = np.bincount(problem.group, rate * np.exp(-effect)[problem.group], n)
    return np.asarray(count, np.float64), np.asarray(expected, np.float64)


def _quadratic(problem: HazardRegression, theta: Floats, effect: Floats) -> tuple[Floats, Floats]:
    """Curvature and gradient of the likelihood of a round's outcomes."""
    # The level of the round is a nuisance parameter: it is eliminated as if integrated out.
    by_log, curved = problem.slopes(problem.rate(theta, effect))
    columns = problem.columns
    square = columns.T @ (columns * curved[:, None])
    mixed = square[:-1, -1]
    alone = square[-1, -1] + _ROUND_SD**-2
    return square[:-1, :-1] - np.outer(mixed, mixed) / alone, columns[:, :-1].T @ by_log


def _priors(count: Floats, expected: Floats, unseen: Bools) -> tuple[Floats, Floats]:
    """Shapes and means of the priors, by largest marginal likelihood."""
    shape = np.asarray(_EFFECT_SD) ** -2.0
    mean = np.ones(2)
    for group, members in enumerate((~unseen, unseen)):
        rows = members & (expected > 0)
        if rows.any():
            shape[group], mean[group] = _prior(
                count[rows], expected[rows], float(shape[group]), _SURE[group], has_mean=group == 1
            )
    return shape, mean


def _prior(
    count: Floats, expected: Floats, usual: float, sure: float, *, has_mean: bool
) -> tuple[float, float]:
    """Shape and mean of a group's prior, by marginal likelihood."""
    # Log shape has a normal prior of sd ``sure`` around that of ``usual``, log mean one of sd 1 around 0.

    def loss(point: Floats) -> float:
        shape = np.exp(point[0])
        log_shape = point[0]
        log_mean = point[1] if has_mean else 0.0
        rate = shape * np.exp(-log_mean)
        total = gammaln(shape + count) - gammaln(shape) + shape * np.log(rate)
        total -= (shape + count) * np.log(rate + expected)
        return float(-total.sum() + 0.5 * ((log_shape - np.log(usual)) / sure) ** 2 + 0.5 * log_mean**2)

    start = np.array([np.log(usual), 0.0][: 1 + has_mean])
    optimum = minimize(loss, start, method="L-BFGS-B", bounds=[(-2.0, 10.0), (-4.0, 2.0)][: 1 + has_mean]).x
    return float(np.exp(optimum[0])), float(np.exp(optimum[1])) if has_mean else 1.0


def fit_weights(fits: Sequence[LayerFit]) -> Floats:
    """Weights of several fits, from their predictions, with sum 1."""
    # Of exponentially weighted forecasters (Vovk, COLT 1990), or posterior chances of the fits. The mean of several is
    # less noisy than the best: where items' worth is unknown, visitors consume 6% more.
    loss = np.array([fit.loss for fit in fits])
    weight = np.exp(loss.min() - loss)
    return np.asarray(weight / weight.sum(), np.float64)


def layer_of_fits(fits: Sequence[LayerFit]) -> ImpressionLayer:
    """Weighted mean of the layers of several fits."""
    weight = fit_weights(fits)
    names = ("level", "slope", "item")
    return ImpressionLayer(*(np.tensordot(weight, [getattr(fit, name) for fit in fits], 1) for name in names))


class Calibrated:
    """λ'(x,y) = exp(a(h) + b(h)·log λ(x,y) + δ_y), with λ from any model.

    The market scores with the inner model and caches its hidden states. It applies the layer to λ(x)·p(y|x) of
    admissible items, so λ'(x) is the sum of λ'(x,y) over admissible items. :meth:`score` applies the layer to the whole
    catalogue. Fits and updates of the inner model do not change the layer.
    """

    kind: ClassVar[str] = "calibrated"

    def __init__(self, model: IntensityModel, layer: ImpressionLayer) -> None:
        self.model = model
        self.layer = layer

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
