"""What is believed of short logs of two tastes: no more than fresh sessions of the same users bear out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_logs import log_of

from rimsim.intensity import EASE, EASEConfig, UserStates
from rimsim.intensity.registry import make
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import for_all, for_slates, rescaling
from rimsim.market.consumers.truths import fit_truth

M = 60
LOGS = [(40, 3.0), (60, 2.0), (200, 2.0)]
"""Users, and how much likelier items of one's own taste are, nats."""


def two_tastes(users, strength):
    """A log in which users of two tastes have three sessions of four items, and the (n, 4) items of a fourth session.

    p(y|u) ∝ exp(b_y + strength·[y is of the taste of u]), without replacement; nearly all users are cut.
    """
    source = np.random.default_rng(1)
    base = source.normal(0, 1, M)
    drawn = []
    for _ in range(users):
        logit = base + strength * (np.arange(M) % 2 == source.integers(2))
        drawn.append(source.choice(M, 16, replace=False, p=np.exp(logit) / np.exp(logit).sum()))
    items = np.array(drawn)
    user, place = np.repeat(np.arange(users), 12), np.tile(np.arange(12), users)
    time = 1e6 + place // 4 * 1e5 + place
    return log_of(user, items[:, :12].ravel(), time, users, M), items[:, 12:]


def nats(log, fresh, scores):
    """Mean log-likelihood of the items of fresh sessions, over what was not consumed before."""
    open_scores = np.asarray(scores, float).copy()
    open_scores[log.user, log.item] = 0.0
    open_scores /= open_scores.sum(1, keepdims=True)
    return np.log(np.take_along_axis(open_scores, fresh, 1)).mean()


@pytest.mark.parametrize(("users", "strength"), LOGS)
def test_nothing_is_much_worse_than_popularity(users, strength):
    """Models and the truth foretell fresh sessions as well as bestsellers, though most of the log was held out."""
    log, fresh = two_tastes(users, strength)
    everyone = np.arange(users)
    states = UserStates.of(log, everyone, log.time[-1] + 9e4)
    bar = nats(log, fresh, make("popularity").fit(log).score(states))
    names = ("bag", "ease", "factors")
    found = {name: nats(log, fresh, make(name, seed=0).fit(log).score(states)) for name in names}
    found["truth"] = nats(
        log, fresh, fit_truth(log, gap="30min", kind="factors").preference(everyone, states)
    )
    assert min(found.values()) > bar - 0.03, (bar, found)


def test_only_a_spread_that_is_larger_by_more_than_a_quarter_counts():
    """The product of weight and spread stays what was chosen; smaller differences change nothing."""
    assert rescaling(2.0, 5.0) == 0.4
    assert rescaling(2.0, 2.5) == rescaling(2.0, 0.1) == rescaling(0.0, 0.0) == 1.0


def test_the_report_says_what_is_used():
    """A model's personal weight is the one that it serves with, and its factor is told beside it."""
    log, _ = two_tastes(40, 3.0)
    held = HeldOut.of(log, "30min", 0)
    model = EASE(EASEConfig(cold_items=False)).fit(log)
    found = model.shrinkage
    (past,), (whole,) = (model._fits(one, (found.strength,), log) for one in (held.past, log))
    spreads = [model._scores(fit, held.states).std() for fit in (past, whole)]
    assert found.rescaling == pytest.approx(spreads[0] / spreads[1], rel=1e-4)
    assert found.rescaling < 0.8
    np.testing.assert_allclose(
        model.served("weights"), found.personal * whole["weights"], rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("weighted", [for_all, for_slates])
def test_a_part_that_tells_nothing_apart_has_no_weight(weighted):
    """Scores that differ by rounding errors alone are not blown up, however well they would sort."""
    held = HeldOut.of(two_tastes(60, 2.0)[0], "30min", 0)
    popular = np.log(held.taken.sum(0) + 1.0).astype(np.float32)
    (alone,) = weighted(held, (popular,))
    weights = weighted(held, (1e-5 * held.taken, popular))
    assert weights[0] == 0.0
    assert weights[1] == pytest.approx(alone, rel=1e-3)


@pytest.mark.parametrize("weighted", [for_all, for_slates])
def test_a_flat_likelihood_gives_no_weight(weighted):
    """Where users could take nothing but what they took, no part has shown anything."""
    held = HeldOut.of(two_tastes(60, 2.0)[0], "30min", 0)
    held = dataclasses.replace(held, taken=np.eye(M, dtype=np.float32)[held.taken.argmax(1)])
    held = dataclasses.replace(held, consumed=held.taken == 0)
    noise = np.random.default_rng(0).normal(size=(2, *held.taken.shape)).astype(np.float32)
    assert weighted(held, (noise[0], noise[1])).tolist() == [0.0, 0.0]
    assert held.nats(held.log_likelihood(noise[0])) == pytest.approx(0.0, abs=1e-6)
