"""Recommenders of other packages as models: the contract, the scores they stand for, and runs with objects."""

import importlib.util
import warnings
from functools import partial

import numpy as np
import pytest
import scipy
import torch
from kit import refused
from kit.markets import small_scenario

from rimsim.errors import ConfigError, ModelError
from rimsim.intensity import RIM, UserStates, Visits
from rimsim.intensity.adapters import (
    ClassifierModel,
    ImplicitModel,
    LensKitModel,
    MatrixScorerModel,
    neighbour_features,
)
from rimsim.intensity.registry import make
from rimsim.scenarios import BacktestConfig, ValidateConfig, backtest, compare, sweep, validate
from rimsim.session import session_model
from rimsim.testing import IntensityModelTests, random_log


class Ridge:
    """EASE as a user would write it: fit(matrix), predict(matrix)."""

    def fit(self, matrix):
        """B in closed form."""
        inverse = np.linalg.inv((matrix.T @ matrix).toarray() + 20.0 * np.eye(matrix.shape[1]))
        self.weight = -inverse / np.diag(inverse)
        np.fill_diagonal(self.weight, 0.0)
        return self

    def predict(self, matrix):
        """Scores (n, M)."""
        return matrix @ self.weight


class Logistic:
    """A classifier with scikit-learn's methods."""

    def fit(self, x, y):
        """Gradient descent in standard units."""
        self.mean = x.mean(0)
        self.spread = x.std(0) + 1e-9
        self.weight = np.zeros(x.shape[1] + 1)
        for _ in range(200):
            full = self._full(x)
            self.weight += 0.5 * full.T @ (y - 1 / (1 + np.exp(-full @ self.weight))) / len(y)
        return self

    def _full(self, x):
        return np.column_stack([(x - self.mean) / self.spread, np.ones(len(x))])

    def predict_proba(self, x):
        """Chances (n, 2)."""
        yes = 1 / (1 + np.exp(-self._full(x) @ self.weight))
        return np.stack([1 - yes, yes], 1)


def _als():
    als = pytest.importorskip("implicit.als")
    return als.AlternatingLeastSquares(factors=8, iterations=3, num_threads=1, random_state=0)


def _neighbours():
    return pytest.importorskip("implicit.nearest_neighbours").CosineRecommender(K=10, num_threads=1)


def _lenskit():
    pipeline = pytest.importorskip("lenskit.pipeline")
    knn = pytest.importorskip("lenskit.knn")
    return pipeline.topn_pipeline(knn.ItemKNNScorer(k=20, feedback="implicit"))


MADE = {
    "lenskit": lambda: LensKitModel(_lenskit()),
    "als": lambda: ImplicitModel(_als()),
    "neighbours": lambda: ImplicitModel(_neighbours()),
    "matrix": lambda: MatrixScorerModel(Ridge()),
    "classifier": lambda: ClassifierModel(Logistic()),
}


class TestAdapted(IntensityModelTests):
    """Every adapter keeps what a model promises."""

    is_mark = True

    @pytest.fixture(autouse=True, params=list(MADE))
    def _kind(self, request):
        self.kind = request.param
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Method expects CSR")  # implicit's own neighbours
            yield

    def make(self):
        """The adapter of the case."""
        return MADE[self.kind]()

    def log(self):
        """A short log where LensKit's calls of some milliseconds a row add up."""
        return random_log(40, 30) if self.kind == "lenskit" else random_log()


def _parts(model, log):
    """States of all users after the log, s(x,y) by p(y|x), and its popular and returning part."""
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 60.0)
    logits = torch.log(model.score(states)).numpy().astype(np.float64)
    scores = (logits - model._base.numpy()) / model.shrinkage.personal
    return states, scores - scores.mean(1, keepdims=True)


def _matrix(states, m):
    marks = np.zeros((len(states), m), np.float32)
    marks[states.owner, states.items] = 1.0
    return scipy.sparse.csr_matrix(marks)


def test_scores_are_the_recommenders_own_up_to_weight_and_popularity():
    """Log p less popularity is, but for a constant of the row, τ times what each package says by itself."""
    log = random_log()
    als = _als()
    ridge = Ridge()
    for model, alone in ((ImplicitModel(als), als), (MatrixScorerModel(ridge), ridge)):
        states, log_scores = _parts(model.fit(log), log)
        matrix = _matrix(states, log.n_items)
        if alone is ridge:
            assert not hasattr(alone, "weight")  # what was given is left as it was
            expected = ridge.fit(matrix).predict(matrix)
        else:
            als.fit(matrix, show_progress=False)
            options = {"N": log.n_items, "filter_already_liked_items": False, "recalculate_user": True}
            items, values = als.recommend(np.arange(log.n_users), matrix, **options)
            expected = np.zeros(matrix.shape)
            np.put_along_axis(expected, items, values, 1)
        assert model.shrinkage.users >= 20
        assert model.shrinkage.personal > 0
        assert log_scores == pytest.approx(expected - expected.mean(1, keepdims=True), abs=2e-3)


def test_a_reconstruction_is_a_score():
    """A model with transform and inverse_transform, as scikit-learn's SVD, scores by what it puts together again."""

    class SVD:
        def fit(self, matrix):
            self.v = np.linalg.svd(matrix.toarray(), full_matrices=False)[2][:4]

        def transform(self, matrix):
            return matrix @ self.v.T

        def inverse_transform(self, codes):
            return codes @ self.v

    log = random_log()
    model = MatrixScorerModel(SVD()).fit(log)
    states, log_scores = _parts(model, log)
    alone = SVD()
    matrix = _matrix(states, log.n_items)
    alone.fit(matrix)
    expected = alone.inverse_transform(alone.transform(matrix))
    assert log_scores == pytest.approx(expected - expected.mean(1, keepdims=True), abs=2e-3)


def test_a_consumption_is_described_without_itself():
    """Examples with y = 1 have the features of their user without the item; others are not consumed by the user."""
    log = random_log()
    examples = []

    class Remembers(Logistic):
        def fit(self, x, y):
            examples.append((x, y))
            return super().fit(x, y)

    def features(consumed, seen):
        marks = consumed.toarray()
        columns = np.stack([marks, np.broadcast_to(marks.sum(1, keepdims=True), marks.shape)], -1)
        assert seen.shape == (log.n_users, log.n_items)
        return columns

    ClassifierModel(Remembers(), features, negatives=3).fit(log)
    x, y = examples[-1]
    sizes = np.array([len(np.unique(log.item[log.user == user])) for user in range(log.n_users)])
    assert set(x[y == 1][:, 0]) == {0.0}
    assert set(x[y == 0][:, 0]) == {0.0}
    assert sorted(x[y == 1][:, 1]) == sorted(np.repeat(sizes - 1, sizes))
    assert 0 < (y == 0).sum() <= 3 * (y == 1).sum()


def test_features_by_default_in_plain_loops():
    """Popularity, length of the history, and the sum of cosines with its items, over √(n + 1)."""
    seen = (np.random.default_rng(0).random((12, 5)) < 0.4).astype(np.float32)
    history = np.array([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0]], np.float32)
    features = neighbour_features(scipy.sparse.csr_matrix(history), scipy.sparse.csr_matrix(seen))
    for row in range(2):
        for item in range(5):
            near = [
                seen[:, item] @ seen[:, read] / np.sqrt(seen[:, item].sum() * seen[:, read].sum())
                for read in np.flatnonzero(history[row])
                if read != item
            ]
            n = history[row].sum()
            expected = (np.log1p(seen[:, item].sum()), np.log1p(n), sum(near) / np.sqrt(n + 1))
            assert features[row, item] == pytest.approx(expected)


def test_a_bare_recommender_is_refused_with_its_adapter(tmp_path):
    """An unwrapped ALS, pipeline, scorer or classifier is refused by object and by file, and its adapter is named."""
    file = tmp_path / "bare.py"
    file.write_text(
        "from implicit.als import AlternatingLeastSquares\n\n\n"
        "def als(seed, device):\n    return AlternatingLeastSquares()\n"
    )
    bare = [(Ridge(), "MatrixScorerModel"), (Logistic(), "ClassifierModel")]
    if importlib.util.find_spec("implicit"):
        bare += [(_als(), "ImplicitModel"), (f"{file}:als", "ImplicitModel")]
    for model, adapter in bare:
        message = rf"model '.*' has no .*score\. Wrap this \w+ in rimsim.intensity.adapters.{adapter}"
        refused(
            ConfigError, message, compare, settings={"platform.model": model}, workers=1, out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_slips_are_refused_by_name():
    """A model that cannot rank for new users, scores of another shape, and a score before a fit."""
    bpr = pytest.importorskip("implicit.bpr")
    log = random_log()
    bpr = bpr.BayesianPersonalizedRanking(factors=4, iterations=2, num_threads=1)
    refused(ModelError, "cannot rank items for users that it was not fitted to", ImplicitModel(bpr).fit, log)

    class Short(Ridge):
        def predict(self, matrix):
            return super().predict(matrix)[:, :3]

    refused(ModelError, r"scores have shape \(128, 3\)", MatrixScorerModel(Short()).fit, log)
    states = UserStates.of(log, [0], log.time[-1])
    refused(ModelError, "not fitted yet", MatrixScorerModel(Ridge()).score, states)


def test_a_small_log_takes_the_scores_on_trust():
    """Below 20 users who came back, weights are 1 and 1."""
    log = random_log(n_users=12)
    shrinkage = MatrixScorerModel(Ridge()).fit(log).shrinkage
    assert (shrinkage.users, shrinkage.personal, shrinkage.popularity) == (0, 1.0, 1.0)


def _product():
    return RIM(mark=MatrixScorerModel(Ridge()), ground=Visits())


def test_an_object_is_a_platform_model_in_all_runs(tmp_path):
    """compare, sweep, validate and backtest take the object; its class and a factory are as good, to the bit."""
    product = _product()
    alone = partial(compare, small_scenario(), ["relevance"], 1, 1, control=(), certify=False)
    by_object = alone(settings={"platform.model": product}, out=tmp_path / "one")
    assert not hasattr(product.mark._unfitted, "weight")
    by_factory = alone(settings={"platform.model": lambda seed, device: _product()}, out=tmp_path / "two")
    assert by_object.rounds.equals(by_factory.rounds)
    by_default = alone(out=tmp_path / "three")
    assert not by_object.rounds.equals(by_default.rounds)
    assert by_object.config["scenario"]["platform"]["model"].startswith("session:RIM-")
    refused(ConfigError, "workers: .*session:RIM", alone, settings={"platform.model": product}, workers=2)
    grid = {"platform.model": [product, "popularity-hp"]}
    swept = sweep(small_scenario(), grid, ["relevance"], 1, 1, out=tmp_path / "four")
    assert set(swept.sweep["model"]) == {session_model(product), "popularity-hp"}
    models_and_log = {"models": (product, "popularity"), "data": small_scenario().data}
    names = set(swept.sweep["model"])
    tested = BacktestConfig(**models_and_log, seeds=(0,), beta=(), cap=())
    assert {session_model(product), "popularity"} == set(
        backtest(tested, out=tmp_path / "five").table["model"]
    )
    validation = ValidateConfig(**models_and_log, truths=("factors",), rank=1, draws=1, resamples=100)
    assert names - {"popularity-hp"} <= set(validate(validation, out=tmp_path / "six").table["model"])


def test_each_object_has_its_own_place():
    """Models fitted for one object are not another's; the same object keeps its place, and each make is a new copy."""
    first = MatrixScorerModel(Ridge())
    second = MatrixScorerModel(Ridge())
    place = session_model(first)
    assert session_model(first) == place != session_model(second)
    assert session_model(place) == place
    copied = make(place)
    assert copied is not first
    assert make(place) is not copied
    assert type(make(session_model(lambda seed, device: MatrixScorerModel(Ridge())))) is MatrixScorerModel
