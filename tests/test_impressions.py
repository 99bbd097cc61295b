"""The layer over impressions: its likelihood and its minimum against oracles, and models under it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from rimsim.errors import ModelError
from rimsim.intensity.impressions import (
    FLOOR,
    LEAST_SLOPE,
    Calibrated,
    ImpressionLayer,
    Impressions,
    fit_layer,
    regression_of,
)
from rimsim.intensity.persistence import is_stored, load
from rimsim.intensity.popularity import Popularity
from rimsim.testing import IntensityModelTests, random_log


def _shown(m, n_items, level, slope, deviation, *, rounds=1, seed=0):
    """Impressions drawn from a known layer; ``level`` holds α of each round."""
    draw = np.random.default_rng(seed)
    item, number = draw.integers(0, n_items, m), draw.integers(0, rounds, m)
    score = np.exp(draw.normal(-2.0, 1.0, m))
    examination = 0.85 ** draw.integers(0, 10, m)
    rate = np.exp(np.asarray(level)[number] + slope * np.log(score) + deviation[item])
    taken = draw.random(m) < -np.expm1(-rate * examination)
    return Impressions(item, score, examination, taken, number)


def likelihood(theta, item, shown):
    """Objective of the layer, and its gradients by theta and item."""
    problem = regression_of(shown, len(item))
    by_log, _ = problem.slopes(theta, item)
    return problem.value(theta, item), *problem.gradient(theta, item, by_log)


def _small(seed=0):
    draw = np.random.default_rng(seed)
    shown = _shown(300, 7, [-0.5, 0.4], 0.6, draw.normal(0, 0.4, 7), rounds=2, seed=seed)
    return shown, draw


def test_the_layer_recovers_what_impressions_were_drawn_from():
    """Of 400,000 impressions, the last round's level, the slope and the items' deviations come back."""
    deviation = np.random.default_rng(1).normal(0, 0.4, 20)
    deviation -= deviation.mean()
    layer = fit_layer(_shown(400_000, 20, [-1.0, 0.5], 0.7, deviation, rounds=2), 20)
    assert layer.slope == pytest.approx(0.7, abs=0.02)
    assert (layer.level + layer.item) == pytest.approx(0.5 + deviation, abs=0.06)


def test_the_gradient_is_that_of_finite_differences():
    """Each derivative of the likelihood equals a central difference."""
    shown, draw = _small()
    theta, item = draw.normal(0, 0.5, 3), draw.normal(0, 0.5, 7)
    _, of_theta, of_item = likelihood(theta, item, shown)
    found = np.concatenate([of_theta, of_item])
    step = 1e-5
    for place in range(10):
        ends = []
        for sign in (-1, 1):
            point = np.concatenate([theta, item])
            point[place] += sign * step
            ends.append(likelihood(point[:3], point[3:], shown)[0])
        assert found[place] == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-5, abs=1e-5)


def test_the_likelihood_is_the_sum_over_impressions():
    """Impression by impression, in plain Python, with the priors."""
    shown, draw = _small()
    theta, item = draw.normal(0, 0.5, 3), draw.normal(0, 0.5, 7)
    total = (theta[0] / 3) ** 2 / 2 + (theta[1] / 3) ** 2 / 2 + ((theta[2] - 1) / 0.5) ** 2 / 2
    total += ((item / 0.1) ** 2).sum() / 2
    for y, score, examined, taken, number in zip(
        shown.item, shown.score, shown.examination, shown.taken, shown.round, strict=True
    ):
        chance = 1 - np.exp(-np.exp(theta[number] + theta[2] * np.log(score) + item[y]) * examined)
        total -= np.log(chance if taken else 1 - chance)
    assert likelihood(theta, item, shown)[0] == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_minimum_is_that_of_a_solver_of_another_kind(seed):
    """L-BFGS over all parameters ends where Newton's method does."""
    shown, _ = _small(seed)

    def function(point):
        value, of_theta, of_item = likelihood(point[:3], point[3:], shown)
        return value, np.concatenate([of_theta, of_item])

    best = minimize(
        function, np.zeros(10), jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9}
    )
    layer = fit_layer(shown, 7)
    found = np.concatenate([[layer.level, layer.slope], layer.item])
    assert found == pytest.approx(best.x[1:], abs=1e-4)


def test_the_order_of_an_items_intensities_is_never_turned():
    """Scores that speak against what is taken get the least slope, and the rest is fitted to it."""
    deviation = np.zeros(5)
    shown = _shown(20_000, 5, [-2.0], -0.8, deviation)
    layer = fit_layer(shown, 5)
    assert layer.slope == LEAST_SLOPE
    rate = np.exp(layer.level + layer.slope * np.log(shown.score) + layer.item[shown.item])
    assert -np.expm1(-rate * shown.examination).sum() == pytest.approx(shown.taken.sum(), rel=0.02)


def test_what_is_taken_is_predicted_in_total():
    """Predicted consumptions of a fit equal those that came: the likelihood's own condition, but for the priors."""
    shown = _shown(50_000, 30, [0.8], 0.5, np.zeros(30))
    layer = fit_layer(shown, 30)
    rate = (
        np.exp(layer.level + layer.slope * np.log(shown.score) + layer.item[shown.item]) * shown.examination
    )
    assert -np.expm1(-rate).sum() == pytest.approx(shown.taken.sum(), rel=0.02)


def test_without_impressions_nothing_changes():
    """The identity leaves intensities as they are."""
    nothing = _shown(0, 4, [0.0], 1.0, np.zeros(4))
    layer = fit_layer(nothing, 4)
    given = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    assert (layer.level, layer.slope, layer.item.tolist()) == (0.0, 1.0, [0.0] * 4)
    assert torch.allclose(layer.apply_(given.clone()), given, rtol=1e-6)


@pytest.mark.parametrize("outcome", [False, True])
def test_rounds_in_which_nothing_or_everything_is_taken_have_a_layer(outcome):
    """The priors keep all parameters finite."""
    shown = dataclasses.replace(_small()[0], taken=np.full(300, outcome))
    layer = fit_layer(shown, 7)
    assert np.isfinite([layer.level, layer.slope, *layer.item]).all()


def test_scores_that_are_none_are_refused():
    """A score that is no number would make every parameter none."""
    shown = _small()[0]
    with pytest.raises(ModelError, match="negative or no number"):
        fit_layer(dataclasses.replace(shown, score=np.full(300, np.nan)), 7)


def test_the_layer_is_its_formula():
    """Entry by entry; what is below the floor is taken for the floor."""
    draw = np.random.default_rng(3)
    layer = ImpressionLayer(-0.7, 0.4, draw.normal(0, 0.3, 6))
    given = np.exp(draw.normal(-3, 2, (5, 6)))
    given[0, 0] = 0.0
    laid = layer.apply_(torch.from_numpy(given.astype(np.float32))).numpy().astype(np.float64)
    formula = np.exp(-0.7 + 0.4 * np.log(np.maximum(given, FLOOR)) + layer.item)
    assert laid == pytest.approx(formula, rel=1e-5)


def test_an_entry_does_not_hang_on_its_neighbours():
    """To the last bit, wherever in a tensor it lies."""
    layer = ImpressionLayer(-0.7, 0.4, np.random.default_rng(3).normal(0, 0.3, 53))
    given = torch.from_numpy(np.random.default_rng(4).random((128, 53)).astype(np.float32))
    whole = layer.apply_(given.clone())
    for row in (0, 1, 17, 127):
        assert torch.equal(layer.apply_(given[row : row + 1].clone())[0], whole[row])
    moved = layer.apply_(given[torch.arange(127, -1, -1)].clone())
    assert torch.equal(moved.flip(0), whole)


def _some_layer():
    return ImpressionLayer(-0.3, 0.6, np.random.default_rng(0).normal(0, 0.3, 40))


class TestCalibrated(IntensityModelTests):
    """A model under a layer is an intensity model."""

    def make(self):
        """A popularity under some layer."""
        return Calibrated(Popularity(), _some_layer())

    def test_rows_sum_to_the_ground_intensity(self):
        """Rows are the formula over the rows of the model inside."""
        log = self.log()
        model, states = self.fitted(), self.states(log)
        layer, inner = model.layer, model.model.score(states).double().numpy()
        expected = np.exp(layer.level + layer.slope * np.log(inner) + layer.item)
        assert model.score(states).double().numpy() == pytest.approx(expected, rel=1e-5)


def test_a_model_under_a_layer_is_saved_with_it(tmp_path):
    """What is read scores as what was written, and a folder without the layer is refused."""
    layer = _some_layer()
    model = Calibrated(Popularity(), layer).fit(random_log())
    assert is_stored(model)
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert (again.layer.level, again.layer.slope) == (layer.level, layer.slope)
    assert np.array_equal(again.layer.item, layer.item)
    (tmp_path / "m" / "layer.safetensors").unlink()
    with pytest.raises(ModelError, match="damaged or incomplete"):
        load(tmp_path / "m")
