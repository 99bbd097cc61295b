"""The agent ``lin-ucb``: its bounds, against a ridge regression by least squares."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit.logs import arrivals_of, view_of

from rimsim.agents import LinUCB
from rimsim.intensity import UserStates
from rimsim.market import Feedback

GENRES = ["a", "b", "a|b", "c"]  # of four items


def genre_view(decay=0.5):
    """A round over four items with two positions, and nothing required."""
    return view_of(10, 4, 2, share=0.0, decay=decay, items=pd.DataFrame({"genres": GENRES}))


def visitors(intensity, histories):
    """Arrivals with given intensities (n, 4) and histories, a list of items each."""
    n = len(intensity)
    offsets = np.append(0, np.cumsum([len(items) for items in histories]))
    items = np.concatenate([*map(np.asarray, histories), []]).astype(np.int64)
    history = UserStates(offsets, items, np.zeros(len(items)), np.ones(n))
    return dataclasses.replace(arrivals_of(np.asarray(intensity)), history=history)


def features(intensity, history):
    """(4, 7) the chance times 1, the shares of three genres in each item, and those times their shares in a history."""
    shares = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 1]])
    taste = shares[history].mean(0) if len(history) else np.zeros(3)
    return (1 - np.exp(-intensity))[:, None] * np.column_stack([np.ones(4), shares, shares * taste])


def test_the_slate_holds_the_highest_bounds_of_a_ridge_regression():
    """Weights are those of least squares with a penalty for leaving (1, 0, …); the bonus is α standard errors."""
    rng = np.random.default_rng(0)
    agent = LinUCB(width=0.7, ridge=3.0)
    agent.begin_round(genre_view())
    rows = []
    targets = []
    for _ in range(30):
        intensity = rng.random(4).astype(np.float32)
        history = rng.choice(4, rng.integers(0, 4), replace=False)
        slate = rng.permutation(4)[:2]
        consumed = rng.random(2) < 0.4
        agent.learn(Feedback(visitors(intensity[None], [history]), slate[None], consumed[None]))
        rows += list(features(intensity.astype(float), history)[slate] * np.array([[1.0], [0.5]]))
        targets += list(consumed.astype(float))
    start = np.eye(7)[0]
    X = np.vstack([rows, np.sqrt(3.0) * np.eye(7)])
    weights = np.linalg.lstsq(X, np.append(targets, np.sqrt(3.0) * start), rcond=None)[0]
    spread = np.linalg.pinv(X.T @ X)
    for history in ([], [0], [1, 3], [0, 1, 2]):
        intensity = rng.random((1, 4)).astype(np.float32)
        phi = features(intensity[0].astype(float), history)
        bound = phi @ weights + 0.7 * np.sqrt(np.einsum("md,de,me->m", phi, spread, phi))
        slate = agent.act(visitors(intensity, [history]))[0]
        assert slate.tolist() == np.argsort(-bound)[:2].tolist()
    assert agent.diagnostics["weight_of_chance"] == pytest.approx(weights[0])
    assert agent.diagnostics["weight_of_genres"] == pytest.approx(np.linalg.norm(weights[1:]))
    assert agent.diagnostics["slates_learnt"] == 30
