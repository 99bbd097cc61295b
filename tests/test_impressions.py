"""The layer over impressions: its likelihood and its minimum against oracles, and models under it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from kit import refused
from scipy.optimize import check_grad, minimize

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


def likelihood(point, shown):
    """Objective of the layer at the parameters of rounds, slope and 7 items, and its gradient."""
    problem, theta, item = regression_of(shown, 7), point[:3], point[3:]
    by_log, _ = problem.slopes(theta, item)
    return problem.value(theta, item), np.concatenate(problem.gradient(theta, item, by_log))


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


def test_the_likelihood_is_the_sum_over_impressions_and_has_its_gradient():
    """Impression by impression, in plain Python, with the priors; each derivative equals a central difference."""
    shown, draw = _small()
    point = draw.normal(0, 0.5, 10)
    theta, item = point[:3], point[3:]
    value, _ = likelihood(point, shown)
    assert check_grad(lambda p: likelihood(p, shown)[0], lambda p: likelihood(p, shown)[1], point) < 1e-4
    total = (theta[0] / 3) ** 2 / 2 + (theta[1] / 3) ** 2 / 2 + ((theta[2] - 1) / 0.5) ** 2 / 2
    total += ((item / 0.1) ** 2).sum() / 2
    columns = (shown.item, shown.score, shown.examination, shown.taken, shown.round)
    for y, score, examined, taken, number in zip(*columns, strict=True):
        chance = 1 - np.exp(-np.exp(theta[number] + theta[2] * np.log(score) + item[y]) * examined)
        total -= np.log(chance if taken else 1 - chance)
    assert value == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_minimum_is_that_of_a_solver_of_another_kind(seed):
    """L-BFGS over all parameters ends where Newton's method does."""
    shown, _ = _small(seed)
    near = {"ftol": 1e-14, "gtol": 1e-9}
    best = minimize(likelihood, np.zeros(10), (shown,), jac=True, method="L-BFGS-B", options=near)
    layer = fit_layer(shown, 7)
    assert [layer.level, layer.slope, *layer.item] == pytest.approx(best.x[1:], abs=1e-4)


@pytest.mark.parametrize(("level", "slope", "items"), [(-2.0, -0.8, 5), (0.8, 0.5, 30)])
def test_what_is_taken_is_predicted_in_total(level, slope, items):
    """Predicted consumptions of a fit equal those that came: the likelihood's own condition, but for the priors.

    Scores that speak against what is taken get the least slope, and the rest is fitted to it.
    """
    shown = _shown(30_000, items, [level], slope, np.zeros(items))
    layer = fit_layer(shown, items)
    assert (layer.slope == LEAST_SLOPE) == (slope < 0)
    rate = np.exp(layer.level + layer.slope * np.log(shown.score) + layer.item[shown.item])
    assert -np.expm1(-rate * shown.examination).sum() == pytest.approx(shown.taken.sum(), rel=0.02)


def test_without_impressions_nothing_changes():
    """The identity leaves intensities as they are."""
    nothing = _shown(0, 4, [0.0], 1.0, np.zeros(4))
    layer = fit_layer(nothing, 4)
    given = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    assert (layer.level, layer.slope, layer.item.tolist()) == (0.0, 1.0, [0.0] * 4)
    assert torch.allclose(layer.apply_(given.clone()), given, rtol=1e-6)


@pytest.mark.parametrize("outcome", [False, True])
def test_rounds_in_which_nothing_or_everything_is_taken_have_a_layer(outcome):
    """The priors keep all parameters finite; a score that is no number, which would make every one none, is refused."""
    shown = dataclasses.replace(_small()[0], taken=np.full(300, outcome))
    layer = fit_layer(shown, 7)
    assert np.isfinite([layer.level, layer.slope, *layer.item]).all()
    wrong = dataclasses.replace(shown, score=np.full(300, np.nan))
    refused(ModelError, "negative or no number", fit_layer, wrong, 7)


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
