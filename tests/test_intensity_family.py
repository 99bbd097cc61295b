"""Known answers for calibration, cold items and the further mark models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from made_logs import log_of

from rimsim.errors import ModelError
from rimsim.intensity import (
    GRU,
    GraphConvolution,
    GraphConvolutionConfig,
    GRUConfig,
    MatrixFactorization,
    MatrixFactorizationConfig,
    Popularity,
    PopularityConfig,
    Transformer,
    TransformerConfig,
    UserStates,
)
from rimsim.intensity.calibration import calibration, count_calibration
from rimsim.intensity.popularity import fill_cold, item_features
from rimsim.intensity.registry import make
from rimsim.intensity.softmax import AdamW
from rimsim.testing import random_log


def checkerboard(users: int = 60, items: int = 20, each: int = 5):
    """Even users consume even items, odd users odd ones."""
    rng = np.random.default_rng(0)
    item = np.stack([rng.choice(items // 2, each, replace=False) * 2 + u % 2 for u in range(users)])
    user = np.repeat(np.arange(users), each)
    time = np.arange(each) * 1e5 + np.arange(users)[:, None]
    return log_of(user, item.ravel(), time.ravel(), users, items)


LEARNING = {"dropout": 0.0, "patience": 0, "width": 8}


@pytest.mark.parametrize(
    "model",
    [
        MatrixFactorization(MatrixFactorizationConfig(factors=4)),
        MatrixFactorization(MatrixFactorizationConfig(factors=4, algorithm="bpr", iterations=40)),
        GraphConvolution(GraphConvolutionConfig(epochs=40, learning_rate=0.1, **LEARNING)),
        GRU(GRUConfig(epochs=60, learning_rate=0.03, **LEARNING)),
        Transformer(TransformerConfig(epochs=60, learning_rate=0.02, **LEARNING)),
    ],
    ids=["als", "bpr", "graph", "gru", "transformer"],
)
def test_personal_models_learn_the_checkerboard(model):
    """Where even users like even items, most of p(y|x) is on a user's own half."""
    if isinstance(model, MatrixFactorization):
        pytest.importorskip("implicit")
    log = checkerboard()
    p = model.fit(log).score(UserStates.of(log, np.arange(log.n_users), 1e9)).cpu().numpy()
    own = p[:, ::2].sum(1)
    own[1::2] = 1 - own[1::2]
    assert own.mean() > 0.9


def test_folded_in_vectors_solve_the_als_equations():
    """A state's vector minimises ALS's weighted squares over all items."""
    pytest.importorskip("implicit")
    config = MatrixFactorizationConfig(factors=3, regularization=0.1, confidence=4.0)
    log = checkerboard()
    model = MatrixFactorization(config).fit(log)
    states = UserStates.of(log, [5], 1e9)
    found = torch.linalg.solve(*model.encode(states))[0].cpu().numpy()
    v = model.vectors.cpu().numpy()
    seen = np.isin(np.arange(len(v)), states.items).astype(float)
    weight = 1 + 4.0 * seen
    # Σ_y w_y (s_y − u·v_y)² + ρ‖u‖² as an ordinary least-squares problem.
    rows = np.concatenate([v * np.sqrt(weight)[:, None], np.sqrt(0.1) * np.eye(3)])
    goal = np.concatenate([seen * (1 + 4.0) / np.sqrt(weight), np.zeros(3)])
    np.testing.assert_allclose(found, np.linalg.lstsq(rows, goal, rcond=None)[0], rtol=1e-6, atol=1e-9)


def test_a_graph_without_hops_is_not_smoothed_and_one_hop_is_the_normalised_average():
    """One hop adds D^-1/2 RᵀD⁻¹R D^-1/2 E, written out densely."""
    log = checkerboard(users=8, items=6, each=2)
    model = GraphConvolution(GraphConvolutionConfig(width=3, layers=1, epochs=1, cold_items=False)).fit(log)
    met = np.zeros((8, 6))
    met[log.user, log.item] = 1
    degree = met.sum(0)
    with np.errstate(divide="ignore"):
        root = np.where(degree > 0, degree**-0.5, 0)
    hop = root[:, None] * (met.T @ (met / met.sum(1, keepdims=True))) * root
    vectors = model.network.item.detach().cpu().numpy()
    np.testing.assert_allclose(model._item.cpu().numpy(), (vectors + hop @ vectors) / 2, rtol=1e-4, atol=1e-6)


def test_our_adamw_is_torchs():
    """Steps with clipping and decay equal those of torch's optimizer."""
    draw = torch.Generator().manual_seed(0)
    first = [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in ((4, 3), (5,))]
    second = [torch.nn.Parameter(p.detach().clone()) for p in first]
    ours = AdamW(first, weight_decay=0.1, largest=1.0)
    theirs = torch.optim.AdamW(second, lr=0.05, weight_decay=0.1)
    for _ in range(5):
        sum((p**3).sum() for p in first).backward()
        sum((p**3).sum() for p in second).backward()
        torch.nn.utils.clip_grad_norm_(second, 1.0)
        ours.step(0.05)
        theirs.step()
        theirs.zero_grad()
        for a, b in zip(first, second, strict=True):
            torch.testing.assert_close(a, b)


def test_item_features_are_genres_and_year():
    """Features hold a constant, one column a genre, and the standardised year with its square."""
    items = pd.DataFrame(
        {"id": [1, 2, 3], "genres": ["A|B", "B", ""], "year": pd.array([2000, None, 2002], dtype="Int64")}
    )
    expected = [[1, 1, 1, -1, 1], [1, 0, 1, 0, 0], [1, 0, 0, 1, 1]]
    np.testing.assert_allclose(item_features(items), expected)


def test_cold_items_get_the_vectors_of_items_like_them():
    """An item that nobody met gets about the mean vector of its genre; the others keep theirs."""
    log = random_log()
    unmet = log.rows(log.item != 6)
    vectors, bias = torch.zeros((log.n_items, 2)), torch.zeros(log.n_items)
    even = torch.arange(log.n_items) % 2 == 0
    vectors[even, 0] = 5.0
    vectors[6] = -9.0
    kept = vectors.clone()
    assert fill_cold(vectors, bias, unmet).tolist() == [6]
    assert float((vectors[6] - torch.tensor([5.0, 0.0])).abs().max()) < 0.5
    assert torch.equal(vectors[torch.arange(log.n_items) != 6], kept[torch.arange(log.n_items) != 6])


def test_a_cold_item_has_a_probability_like_its_genre():
    """After a fit without item 6, users of even items give it a larger p than users of odd items."""
    log = random_log(n_users=200)
    config = GRUConfig(width=16, epochs=12, learning_rate=0.02, dropout=0.0, patience=0)
    model = GRU(config).fit(log.rows(log.item != 6))
    plain = GRU(dataclasses.replace(config, cold_items=False)).fit(log.rows(log.item != 6))
    states = UserStates.of(log.rows(log.item != 6), np.arange(200), log.time[-1] + 1)
    p = model.score(states)[:, 6].cpu().numpy()
    many = states.lengths > 5
    even = np.arange(200) % 2 == 0
    assert p[even & many].mean() > 1.3 * p[~even & many].mean()
    assert p.mean() > 3 * float(plain.score(states)[:, 6].mean())


def test_count_calibration_knows_a_perfect_and_a_wrong_prediction():
    """Poisson counts are calibrated against their own means, and not against twice them."""
    rng = np.random.default_rng(1)
    rate = rng.gamma(2.0, 2.0, 5000) + 0.1
    counts = rng.poisson(rate)
    right, wrong = count_calibration(rate, counts), count_calibration(2 * rate, counts)
    assert right.ratio == pytest.approx(1.0, abs=0.03)
    assert right.dispersion == pytest.approx(1.0, abs=0.08)
    assert wrong.ratio == pytest.approx(0.5, abs=0.02)
    assert right.deviance < right.deviance_constant < wrong.deviance
    assert right.rank_correlation == wrong.rank_correlation > 0.5
    assert [d.predicted for d in right.deciles] == sorted(d.predicted for d in right.deciles)
    assert sum(d.examples for d in right.deciles) == 5000
    with pytest.raises(ModelError, match="λ > 0"):
        count_calibration(np.zeros(3), np.ones(3, np.int64))


def test_the_report_separates_the_factors():
    """P of popularity has the entropy of the counts as its loss, whatever λ(x) is; λ is judged on its own."""
    log = random_log()
    share = np.bincount(log.item, minlength=log.n_items) / len(log)
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    plain = calibration(Popularity(PopularityConfig(smoothing=1e-9)).fit(log), log)
    product = calibration(make("hp", mark=PopularityConfig(smoothing=1e-9)).fit(log), log)
    assert plain.mark.nll == pytest.approx(entropy, rel=1e-4)
    assert plain.mark.perplexity == pytest.approx(np.exp(entropy), rel=1e-3)
    assert product.mark.nll == pytest.approx(plain.mark.nll, rel=1e-5)
    assert plain.mark.nll_admissible < plain.mark.nll
    assert product.ground.ratio == pytest.approx(1.0, abs=0.05)
    assert product.ground.deviance < product.ground.deviance_constant
    assert plain.ground.predicted == pytest.approx(plain.ground.examples, rel=1e-5)
    assert len(product.lines()) == 4
