"""Known answers of intensity models: counts, sums and vectors by hand or by another solver."""

import numpy as np
import pytest
import torch
from kit.logs import log_of

from rimsim import intensity
from rimsim.intensity import UserStates
from rimsim.intensity.registry import config_of, make
from rimsim.intensity.states import CountExamples
from rimsim.testing import random_log


def test_popularity_is_the_smoothed_share_of_target_events():
    """Popularity is (count + s) / total over target events only."""
    log = log_of([0, 0, 1, 1], [0, 1, 1, 2], [0, 1, 2, 3], target=[True, True, True, False])
    model = intensity.Popularity(intensity.PopularityConfig(smoothing=0.5)).fit(log)
    expected = torch.tensor([1.5, 2.5, 0.5]) / 4.5
    torch.testing.assert_close(model.score(UserStates.of(log, [0, 1], 9.0))[1].cpu(), expected)


def test_hawkes_poisson_features_are_the_sums_they_say():
    """λ computed event by event in plain Python equals the model's."""
    scales = intensity.Scales(shortest=10, longest=1000, number=3)
    log = log_of([0, 0, 0, 1], [0, 1, 0, 1], [0, 5, 4000, 4100])
    model = intensity.HawkesPoisson(intensity.HawkesPoissonConfig(scales=scales)).fit(log)
    weights = model.weights.cpu().numpy()
    states = UserStates.of(log, [0, 1, 1], [9150.0, 6150.0, 4000.0])
    beta = 1.0 / np.array([10.0, 100.0, 1000.0])
    histories = [([0.0, 5.0, 4000.0], 9150.0), ([4100.0], 6150.0), ([], 4000.0)]
    for row, (events, now) in enumerate(histories):
        sums = [sum(np.exp(-b * (now - t)) for t in events) for b in beta]
        start = [np.exp(-b * (now - events[0])) if events else 0.0 for b in beta]
        expected = np.dot(weights, [*sums, *start, float(bool(events)), float(not events)])
        assert float(model.intensity(states)[row]) == pytest.approx(expected, rel=1e-6)


def test_hawkes_poisson_recovers_its_own_weights():
    """On many Poisson counts drawn from known weights the fitted λ is the true λ to within 5%."""
    rng = np.random.default_rng(3)
    n = 4000
    scales = intensity.Scales(shortest=100, longest=10_000, number=2)
    gaps = rng.exponential(2000, (n, 4))
    times = np.cumsum(gaps, axis=1)
    now = times[:, -1] + rng.exponential(500, n) + 1
    states = UserStates(np.arange(0, 4 * n + 1, 4), np.zeros(4 * n, np.int64), times.ravel(), now)
    beta = np.array([1 / 100, 1 / 10_000])
    sums = np.exp(-(now[:, None, None] - times[:, :, None]) * beta).sum(1)
    true = sums @ [3.0, 0.5] + 1.0
    model = intensity.HawkesPoisson(intensity.HawkesPoissonConfig(horizon=1.0, scales=scales, ridge=0.0))
    model.fit_examples(CountExamples(states, rng.poisson(true), np.arange(n)))
    error = np.abs(model.intensity(states).cpu().numpy() / true - 1)
    assert error.max() < 0.12
    assert error.mean() < 0.05


def test_user_popularity_counts_events():
    """User popularity is in proportion to events plus the smoothing."""
    log = random_log()
    ground = intensity.UserPopularity().fit(log)
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    ratio = ground.intensity(states).cpu().numpy() / (states.lengths + 0.01)
    np.testing.assert_allclose(ratio, ground.factor, rtol=1e-6)


def checkerboard(users: int = 60, items: int = 20, each: int = 5):
    """Even users consume even items, odd users odd ones."""
    rng = np.random.default_rng(0)
    item = np.stack([rng.choice(items // 2, each, replace=False) * 2 + u % 2 for u in range(users)])
    user = np.repeat(np.arange(users), each)
    time = np.arange(each) * 1e5 + np.arange(users)[:, None]
    return log_of(user, item.ravel(), time.ravel(), users, items)


LEARNING = {"dropout": 0.0, "patience": 0, "width": 8}
PERSONAL = {
    "als": {"factors": 4},
    "bpr": {"factors": 4, "iterations": 40},
    "gru": LEARNING | {"epochs": 60, "learning_rate": 0.03},
    "transformer": LEARNING | {"epochs": 60, "learning_rate": 0.02},
}


@pytest.mark.parametrize("name", PERSONAL)
def test_personal_models_learn_the_checkerboard(name):
    """Where even users like even items, most of p(y|x) is on a user's own half."""
    if name in {"als", "bpr"}:
        pytest.importorskip("implicit")
    model = make(name, mark=config_of(name, PERSONAL[name]))
    log = checkerboard()
    p = model.fit(log).score(UserStates.of(log, np.arange(log.n_users), 1e9)).cpu().numpy()
    own_half = p[:, ::2].sum(1)
    own_half[1::2] = 1 - own_half[1::2]
    assert own_half.mean() > 0.9


def test_folded_in_vectors_solve_the_als_equations():
    """A state's vector minimises ALS's weighted squares over all items."""
    pytest.importorskip("implicit")
    config = intensity.MatrixFactorizationConfig(factors=3, regularization=0.1, confidence=4.0)
    log = checkerboard()
    model = intensity.MatrixFactorization(config).fit(log)
    states = UserStates.of(log, [5], 1e9)
    vector = torch.linalg.solve(*model.encode(states))[0].cpu().numpy()
    v = model.vectors.cpu().numpy()
    seen = np.isin(np.arange(len(v)), states.items).astype(float)
    weight = 1 + 4.0 * seen
    # Σ_y w_y (s_y − u·v_y)² + ρ‖u‖² as an ordinary least-squares problem.
    rows = np.concatenate([v * np.sqrt(weight)[:, None], np.sqrt(0.1) * np.eye(3)])
    goal = np.concatenate([seen * (1 + 4.0) / np.sqrt(weight), np.zeros(3)])
    np.testing.assert_allclose(vector, np.linalg.lstsq(rows, goal, rcond=None)[0], rtol=1e-6, atol=1e-9)
