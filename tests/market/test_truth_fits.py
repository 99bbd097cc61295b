"""Fits of a truth's session sizes and factors, against a general solver."""

import numpy as np
import pytest
from scipy.optimize import minimize

from rimsim.config.fields import duration_seconds
from rimsim.intensity import FactorsConfig
from rimsim.intensity.selection.shrinkage import Shrinkage
from rimsim.intensity.sets.factors import UserFactors
from rimsim.market.consumers import session_sizes as fitting
from rimsim.market.consumers.session_sizes import fit_sizes
from rimsim.testing import random_log


def test_sizes_are_held_to_what_later_sessions_are_like():
    """Bounds are 2 and 98% of events, and of the silence, before later sessions; of one session figures are none."""
    log = random_log(n_users=60, n_items=40)
    sessions = log.sessions("30min")
    number = []
    silence = []
    for user, start in zip(sessions.user, sessions.start, strict=True):
        before = log.time[(log.user == user) & (log.time < start)]
        if len(before):
            number.append(np.log(1.0 + len(before)))
            silence.append(np.log((start - before.max()) / duration_seconds("1d")))
    bounds = fit_sizes(log, "30min", None)[0].bounds
    assert bounds[0] == pytest.approx(np.quantile(number, [0.02, 0.98]))
    assert bounds[1] == pytest.approx(np.quantile(silence, [0.02, 0.98]))
    _, report = fit_sizes(random_log().rows(slice(0, 1)), "30min", None)
    assert (report.first, report.later, report.left_out_ratio_first) == (1.0, 0.0, pytest.approx(1.0))
    for figure in ("left_out_ratio_later", "left_out_spearman", "forward_ratio", "forward_spearman"):
        assert np.isnan(getattr(report, figure))


@pytest.mark.parametrize("weighted", [False, True])
def test_sizes_are_the_regression_and_the_effects_fitted_in_turn(weighted):
    """Eight rounds by a general solver: the penalised Poisson likelihood, then users' shrunk ratios; at last scaled."""
    log = random_log(n_users=40, n_items=30)
    shrinkage = 4.0
    sizes = fitting._Sizes(log, "30min")
    x = sizes.features
    y = sizes.count
    user = sizes.user
    times = np.arange(40) % 3 if weighted else None
    repeated = np.ones(len(y)) if times is None else times[user].astype(float)
    effect = np.ones(40)
    visits = np.bincount(user, minlength=40)
    beta = np.zeros(6)
    beta[:2] = np.log((repeated * y).sum() / repeated.sum())

    def loss(b, effect):
        fitted = repeated * (effect[user] * np.exp(x @ b) - y * (x @ b))
        return fitted.sum() + 0.5e-3 * (b[2:] ** 2).sum()

    for _ in range(8):
        beta = minimize(loss, beta, args=(effect,), method="BFGS", options={"gtol": 1e-6}).x
        ratio = np.bincount(user, y / np.exp(x @ beta), 40)
        effect = (shrinkage + ratio) / (shrinkage + visits)
    for column in (0, 1):
        mine = x[:, column] > 0
        beta[column] += np.log(y[mine].sum() / (effect[user] * np.exp(x @ beta))[mine].sum())
    fit = sizes.fit(shrinkage, times)
    assert fit.effect == pytest.approx(effect, rel=1e-4)
    assert x @ fit.weights == pytest.approx(x @ beta, abs=1e-4)


def test_factors_of_users_and_items_are_the_penalised_likelihoods_optimum():
    """A truth's vectors of users and items are as likely as a general solver makes them, and users' are its own."""
    log = random_log(n_users=12, n_items=6, mean_events=3.0)
    ridge = 0.5
    model = UserFactors(FactorsConfig(rank=1, shrinkage=Shrinkage(ridge), cold_items=False)).fit(log)
    c, d = (model.served(name).double().numpy() for name in ("vectors", "offset"))
    a = model.users_of(log)[0].double().numpy()
    taken = np.zeros((12, 6))
    taken[log.user, log.item] = 1.0

    def loss(flat):
        a = flat[:12]
        c = flat[12:]
        logit = a[:, None] * c + d
        fitted = taken.sum(1) @ np.log(np.exp(logit).sum(1)) - (taken * logit).sum()
        return fitted + 0.5 * ridge * (a @ a + c @ c)

    best = min(minimize(loss, start).fun for start in np.random.default_rng(1).normal(size=(4, 18)))
    assert best <= loss(np.append(a, c)) <= best * 1.005
    for u in range(12):
        alone = minimize(lambda x, u=u: loss(np.concatenate([a[:u, 0], x, a[u + 1 :, 0], c[:, 0]])), 0.0)
        assert a[u, 0] == pytest.approx(alone.x[0], abs=1e-3)
