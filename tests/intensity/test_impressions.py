"""The layer over impressions: its likelihood, its memory of rounds, its variances, and models under it."""

import dataclasses

import numpy as np
import pytest
import torch
from kit import cases, refused
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import nbinom

from rimsim.errors import ModelError
from rimsim.intensity import impressions
from rimsim.intensity.impressions import (
    FLOOR,
    KNOTS,
    LEAST_SLOPE,
    Calibrated,
    ImpressionLayer,
    Impressions,
    LayerFit,
    fit_weights,
    layer_of_fits,
)
from rimsim.intensity.persistence import is_stored
from rimsim.intensity.popularity import Popularity
from rimsim.intensity.registry import load
from rimsim.testing import IntensityModelTests, random_log

K = len(KNOTS)
LENGTHS = np.expm1(KNOTS).round().astype(int)


def _shown(m, layer, *, seed=0, round_level=0.0):
    """A round of impressions drawn from a layer; ``round_level`` is that of the round alone."""
    draw = np.random.default_rng(seed)
    item = draw.integers(0, len(layer.item), m)
    history = draw.choice(np.append(LENGTHS, [4, 60]), m)
    score = np.exp(draw.normal(-2.0, 1.0, m))
    examination = 0.85 ** draw.integers(0, 10, m)
    rate = np.exp(round_level + _log_rate(layer, item, history, score))
    return Impressions(item, score, examination, draw.random(m) < -np.expm1(-rate * examination), history)


def _log_rate(layer, item, history, score):
    place = np.log1p(history)
    slope = np.interp(place, KNOTS, layer.slope)
    return np.interp(place, KNOTS, layer.level) + slope * np.log(np.maximum(score, FLOOR)) + layer.item[item]


def _law(n_items, seed=1, sd=0.4):
    """Layer with levels and slopes by history."""
    draw = np.random.default_rng(seed)
    item = draw.normal(0, sd, n_items)
    return ImpressionLayer(np.linspace(-0.8, 0.6, K), np.linspace(0.9, 0.4, K), item - item.mean())


def _nothing(n_items, memory=(1.0, 1.0), unseen=()):
    return LayerFit.nothing(np.isin(np.arange(n_items), unseen), memory)


def _small(seed=0):
    return _shown(300, _law(7, seed), seed=seed)


def _problem(shown, fit):
    return fit.regression(shown, fit.shape, fit.mean)


def _at(problem, point):
    """Objective and gradient at a point, first all levels and slopes, then the items' effects."""
    theta = point[: 2 * K + 1]
    item = point[2 * K + 1 :]
    rate = problem.rate(theta, item)
    gradient = problem.gradient(theta, item, problem.slopes(rate)[0])
    return problem.value(theta, item, rate), np.concatenate(gradient)


def test_the_gradient_is_that_of_finite_differences():
    """Each derivative of the objective equals a central difference, with evidence of earlier rounds."""
    shown = _small()
    draw = np.random.default_rng(0)
    problem = _problem(shown, _nothing(7).after(_small(1)))
    point = draw.normal(0, 0.5, 2 * K + 8)
    for derivative, step in zip(_at(problem, point)[1], 1e-5 * np.eye(len(point)), strict=True):
        ends = [_at(problem, point + sign * step)[0] for sign in (-1, 1)]
        assert derivative == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-5, abs=1e-4)


def test_the_objective_is_the_sum_over_impressions():
    """Impression by impression, in plain Python, with the priors; compared between two points."""
    shown = _small()
    draw = np.random.default_rng(0)
    values = []
    problem = _problem(shown, _nothing(7))
    for _ in range(2):
        theta = draw.normal(0, 0.5, 2 * K + 1)
        item = draw.normal(0, 0.5, 7)
        layer = ImpressionLayer(theta[:K], theta[K:-1], item)
        round_level = theta[-1]
        total = (
            (layer.level**2).sum() / 2 + ((layer.slope - 1) ** 2).sum() / 2 / 0.25 + round_level**2 / 2 / 9
        )
        total += (np.exp(item) - item).sum() / 0.09  # log density of the gamma law, of shape 1 / .3²
        for row in range(len(shown)):
            log = _log_rate(layer, shown.item[row], shown.history[row], shown.score[row])
            chance = 1 - np.exp(-np.exp(round_level + log) * shown.examination[row])
            total -= np.log(chance if shown.taken[row] else 1 - chance)
        values.append((_at(problem, np.append(theta, item))[0], total))
    (first, plain_first), (second, plain_second) = values
    assert first - second == pytest.approx(plain_first - plain_second, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_minimum_is_that_of_a_solver_of_another_kind(seed):
    """L-BFGS over all parameters, within the bounds, ends where Newton's method does."""
    problem = _problem(_small(seed), _nothing(7))
    n = 2 * K + 1
    bounds = [(None, None)] * K + [(LEAST_SLOPE, None)] * K + [(None, None)] * 8
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 5000}
    settings = {"jac": True, "method": "L-BFGS-B", "bounds": bounds, "options": options}
    best = minimize(lambda point: _at(problem, point), np.ones(n + 7), **settings)
    minimum = impressions._bounded_minimum(problem, np.zeros(n), np.zeros(7))
    assert np.concatenate(minimum) == pytest.approx(best.x, abs=1e-3)


def test_an_earlier_round_counts_as_if_it_were_read_again():
    """What is kept of three rounds and the fourth lead to the layer that all four lead to together."""
    law = _law(12)
    rounds = []
    fit = _nothing(12)
    for number in range(4):
        rounds.append(_shown(20_000, law, seed=number))
        fit = fit.after(rounds[-1])
    names = [part.name for part in dataclasses.fields(rounds[0])]
    columns = [np.concatenate([getattr(shown, name) for shown in rounds]) for name in names]
    joint_fit = _nothing(12).after(Impressions(*columns))
    assert fit.slope == pytest.approx(joint_fit.slope, abs=0.02)
    assert fit.level + fit.item.mean() == pytest.approx(joint_fit.level + joint_fit.item.mean(), abs=0.05)
    assert fit.item - fit.item.mean() == pytest.approx(joint_fit.item - joint_fit.item.mean(), abs=0.03)
    assert fit.item_variance == pytest.approx(joint_fit.item_variance, rel=0.1)


def test_evidence_of_earlier_rounds_fades_at_two_speeds():
    """Item events of earlier rounds keep the items' share, levels and slopes theirs; the last round counts in full."""
    memory = 0.9
    item_memory = 0.4
    first = _nothing(7, (memory, item_memory)).after(_small(0))
    shown = _small(1)
    second = first.after(shown)
    rate = np.exp(_log_rate(second.layer, shown.item, shown.history, shown.score)) * shown.examination
    events = np.where(shown.taken, rate / -np.expm1(-rate), 0.0)
    of_round = np.bincount(shown.item, events, 7)
    expected = np.bincount(shown.item, rate * np.exp(-second.item)[shown.item], 7)
    assert second.count == pytest.approx(item_memory * first.count + of_round, rel=1e-6)
    assert second.expected == pytest.approx(item_memory * first.expected + expected, rel=1e-6)
    assert second.precision - memory * first.precision == pytest.approx(_information(second, shown), rel=1e-6)


def _information(fit, shown):
    """Curvature of a round's likelihood in levels and slopes, its own level integrated out: a Schur complement."""
    rate = np.exp(_log_rate(fit.layer, shown.item, shown.history, shown.score)) * shown.examination
    odds = rate / np.expm1(rate)
    curved = np.where(shown.taken, odds * (rate + odds - 1.0), rate)
    full = shown.columns.T @ (shown.columns * curved[:, None])
    full[-1, -1] += impressions._ROUND_SD**-2
    covariance = np.linalg.inv(full + 1e-12 * np.eye(len(full)))
    return np.linalg.inv(covariance[:-1, :-1])


def test_slopes_stay_positive():
    """Scores that speak against what is taken get the least slope, and the rest is fitted to it."""
    law = ImpressionLayer(np.full(K, -2.0), np.full(K, -0.8), np.zeros(5))
    shown = _shown(20_000, law)
    fit = _nothing(5).after(shown)
    assert (fit.slope == LEAST_SLOPE).all()
    rate = np.exp(_log_rate(fit.layer, shown.item, shown.history, shown.score))
    assert -np.expm1(-rate * shown.examination).sum() == pytest.approx(shown.taken.sum(), rel=0.02)


@pytest.mark.parametrize("first", [True, False])
def test_what_is_taken_is_predicted_in_total_for_each_type_of_visit(first):
    """Predicted consumptions equal those that came, of first and of returning visits, though both differ."""
    shown = _shown(50_000, _law(30))
    rows = (shown.history == 0) == first
    layer = _nothing(30).after(shown).layer
    rate = np.exp(_log_rate(layer, shown.item, shown.history, shown.score)) * shown.examination
    assert -np.expm1(-rate[rows]).sum() == pytest.approx(shown.taken[rows].sum(), rel=0.02)


def test_without_impressions_nothing_changes():
    """The identity leaves intensities as they are, and a round without impressions the fit."""
    fit = _nothing(4)
    assert fit.after(_shown(0, _law(4))) is fit
    intensities = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    assert torch.allclose(
        fit.layer.apply_(intensities.clone(), np.array([0, 5, 900])), intensities, rtol=1e-6
    )


@pytest.mark.parametrize("outcome", [False, True])
def test_rounds_in_which_nothing_or_everything_is_taken_have_a_layer(outcome):
    """The priors keep all parameters finite."""
    fit = _nothing(7, unseen=[2, 3]).after(dataclasses.replace(_small(), taken=np.full(300, outcome)))
    assert np.isfinite(np.concatenate([fit.level, fit.slope, fit.item, fit.shape, fit.mean])).all()


def test_scores_that_are_none_are_refused():
    """A score that is no number would make every parameter none."""
    with pytest.raises(ModelError, match="negative or not a number"):
        _nothing(7).after(dataclasses.replace(_small(), score=np.full(300, np.nan)))


def test_the_marginal_likelihood_is_negative_binomial():
    """No shape has a larger likelihood by scipy's law, with the prior of the shape."""
    draw = np.random.default_rng(0)
    expected = draw.gamma(2.0, 3.0, 60)
    count = draw.poisson(expected * draw.gamma(2.0, 0.5, 60)).astype(float)
    start = np.array([np.log(2.0), 0.0, 0.0])
    is_free = np.array([True, False, False])
    log_shape, log_mean, slope = impressions._prior(count, expected, np.zeros(60), start, is_free, 1.0)

    def loss(log):
        law = nbinom(np.exp(log), np.exp(log) / (np.exp(log) + expected))
        return -law.logpmf(count).sum() + 0.5 * (log - np.log(2.0)) ** 2

    assert log_shape == pytest.approx(minimize_scalar(loss, bounds=(-2, 6)).x, abs=3e-3)
    assert (log_mean, slope) == (0.0, 0.0)


@cases("sd low high", (0.0, 0.0, 0.1), (0.5, 0.4, 0.6), (1.0, 0.85, 1.15))
def test_the_variance_of_items_is_estimated(sd, low, high):
    """Items that differ by nothing are pooled; items that differ much keep what their own looks say."""
    draw = np.random.default_rng(0)
    n = 300
    effect = np.log(draw.gamma(sd**-2, sd**2, n)) if sd else np.zeros(n)
    law = dataclasses.replace(_law(n), item=np.maximum(effect, -8.0))
    fit = _nothing(n).after(_shown(60_000, law))
    assert low <= np.sqrt(fit.item_variance[0]) <= high


def test_unseen_items_have_a_mean_and_a_variance_of_their_own():
    """Items that the warm-up has not seen are twice as wanted and differ more; the others are not moved by it."""
    draw = np.random.default_rng(0)
    n = 200
    unseen = np.arange(n) >= 100
    effect = np.where(unseen, np.log(2.0 * draw.gamma(2.0, 0.5, n)), draw.normal(0, 0.05, n))
    fit = LayerFit.nothing(unseen, (1.0, 1.0)).after(_shown(80000, dataclasses.replace(_law(n), item=effect)))
    assert fit.mean == pytest.approx([1.0, 2.0], rel=0.25)
    assert fit.item_variance[0] < 0.02
    assert fit.item_variance[1] == pytest.approx(0.5, rel=0.5)


@cases("turns keeps", (True, False), (False, True))
def test_what_forgets_is_weighed_by_the_next_round(turns, keeps):
    """After items have changed the short memory has the weight, where none does the long one; layers are averaged."""
    fits = [_nothing(30, memory) for memory in ((0.3, 0.3), (1.0, 1.0))]
    for number in range(8):
        shown = _shown(3000, _law(30, seed=int(turns and number >= 4), sd=1.0), seed=number)
        fits = [fit.after(shown) for fit in fits]
    weight = fit_weights(fits)
    assert (weight[1] > 0.9) == keeps
    assert weight.sum() == pytest.approx(1.0)
    expected = weight[0] * fits[0].item + weight[1] * fits[1].item
    assert layer_of_fits(fits).item == pytest.approx(expected, rel=1e-9)


def test_first_and_returning_visits_count_equally_for_the_choice():
    """The loss is the mean of two means, in plain Python; older rounds fade."""
    fit = _nothing(7).after(_small())
    shown = _small(3)
    losses = {True: [], False: []}
    for row in range(len(shown)):
        log = _log_rate(fit.layer, shown.item[row], shown.history[row], shown.score[row])
        chance = 1 - np.exp(-np.exp(log) * shown.examination[row])
        loss = -np.log(chance if shown.taken[row] else 1 - chance)
        losses[bool(shown.history[row] == 0)].append(loss)
    expected = (np.mean(losses[True]) + np.mean(losses[False])) / 2
    assert fit.loss_of(shown) == pytest.approx(expected, rel=1e-9)
    assert fit.after(shown).loss == pytest.approx(0.8 * fit.loss + len(shown) * expected, rel=1e-9)


def test_the_layer_is_its_formula():
    """Entry by entry, between knots too; what is below the floor is taken for the floor."""
    draw = np.random.default_rng(3)
    layer = _law(6, sd=0.3)
    intensities = np.exp(draw.normal(-3, 2, (5, 6)))
    history = np.array([0, 1, 4, 300, 2000])
    intensities[0, 0] = 0.0
    laid = layer.apply_(torch.from_numpy(intensities.astype(np.float32)), history).numpy().astype(np.float64)
    formula = [
        _log_rate(layer, np.arange(6), size, row) for size, row in zip(history, intensities, strict=True)
    ]
    assert laid == pytest.approx(np.exp(formula), rel=1e-5)


def test_an_entry_does_not_hang_on_its_neighbours():
    """To the last bit, wherever in a tensor it lies."""
    layer = _law(53)
    draw = np.random.default_rng(4)
    intensities = torch.from_numpy(draw.random((128, 53)).astype(np.float32))
    history = draw.integers(0, 400, 128)
    together = layer.apply_(intensities.clone(), history)
    for row in (0, 1, 17, 127):
        assert torch.equal(
            layer.apply_(intensities[row : row + 1].clone(), history[row : row + 1])[0], together[row]
        )
    turned = layer.apply_(intensities[torch.arange(127, -1, -1)].clone(), history[::-1])
    assert torch.equal(turned.flip(0), together)


class TestCalibrated(IntensityModelTests):
    """A model under a layer is an intensity model."""

    def make(self):
        """A popularity under some layer."""
        return Calibrated(Popularity(), _law(40))

    def test_rows_sum_to_the_ground_intensity(self):
        """Rows are the formula over the rows of the model inside."""
        log = self.log()
        model = self.fitted()
        states = self.states(log)
        inner, laid = (part.score(states).double().numpy() for part in (model.model, model))
        for row, length in enumerate(states.lengths):
            formula = np.exp(_log_rate(model.layer, np.arange(40), length, inner[row]))
            assert laid[row] == pytest.approx(formula, rel=1e-5)


def test_a_model_under_a_layer_is_stored_with_it(tmp_path):
    """A folder without the layer is refused."""
    model = Calibrated(Popularity(), _law(40)).fit(random_log())
    assert is_stored(model)
    model.save(tmp_path / "m")
    (tmp_path / "m" / "layer.safetensors").unlink()
    refused(ModelError, "damaged or incomplete", load, tmp_path / "m")
