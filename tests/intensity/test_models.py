"""Known answers for intensity models, their contract, calibration and cold items, and the one taken for a log."""

import copy
import dataclasses
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from kit import cases, refused
from kit.logs import log_of

from rimsim import intensity
from rimsim.errors import ConfigError, ModelError
from rimsim.intensity import Auto, AutoConfig, UserStates, judged
from rimsim.intensity.cache import fitted
from rimsim.intensity.calibration import calibration, count_calibration
from rimsim.intensity.contract import FromHidden, ModelCapabilities, owns_scores, rescale_of
from rimsim.intensity.persistence import is_stored, load
from rimsim.intensity.popularity import fill_cold, item_features
from rimsim.intensity.product import updated
from rimsim.intensity.registry import config_of, make, mark_and_ground, names, parts, register
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.sequence.training import batches, windows
from rimsim.intensity.softmax import AdamW
from rimsim.intensity.states import CountExamples, session_examples, window_examples
from rimsim.testing import IntensityModelTests, random_log

SMALL = intensity.GRUConfig(width=8, context=12, burn=4, epochs=3, learning_rate=0.02)


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


def test_session_examples_count_targets_after_strictly_earlier_states():
    """An example holds what came before it and counts target events; too large states leave every third session."""
    log = log_of([0] * 5, [0, 1, 2, 3, 4], [0, 10, 5000, 5010, 5020], target=[False, False, True, True, True])
    examples = session_examples(log)
    assert (examples.counts.tolist(), examples.states.items.tolist()) == ([3], [0, 1])
    assert examples.states.now.tolist() == [5000.0]
    assert log.sessions("30min") is log.sessions(1800.0)
    assert len(log.sessions(15.0)) == 2
    assert len(log.sessions(5.0)) == len(log.rows(log.user == 0).sessions(5.0)) == 5
    times = [10_000.0 * n for n in range(12)]
    log = log_of([0, 1] * 6, list(range(12)), times, target=[True] * 12)
    all_examples = session_examples(log)
    third = session_examples(log, most_events=10)
    assert all_examples.states.lengths.tolist() == [n // 2 for n in range(12)]  # 30 in all
    assert third.states.now.tolist() == times[::3]
    assert third.states.lengths.tolist() == all_examples.states.lengths[::3].tolist()
    assert session_examples(log, most_events=30).states.now.tolist() == times


def test_window_examples_count_what_falls_into_each_window():
    """Windows before the end of the log give every known user's state and count."""
    examples = window_examples(log_of([0, 1, 0, 1, 1], [0, 0, 1, 1, 2], [0, 10, 20, 30, 40]), 15.0, 2)
    pairs = sorted(zip(examples.user.tolist(), examples.counts.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 0), (1, 2)]


@cases("context burn", (4, 0), (6, 2), (50, 8))
def test_windows_predict_every_target_once(context, burn):
    """Every target event is predicted in exactly one window, from events of its own user that precede it."""
    log = random_log()
    log = dataclasses.replace(log, target=(np.arange(len(log)) % 3 == 0) & (log.user % 4 > 0))
    cut = windows(log, context, burn)
    hits = np.zeros(len(log), int)
    for begin, loss, stop, origin in zip(cut.begin, cut.loss, cut.stop, cut.origin, strict=True):
        assert origin <= begin <= loss < stop <= begin + context
        assert begin == max(origin, loss - burn)
        hits[loss:stop] += cut.target[loss:stop]
    assert (hits == cut.target).all()
    seen = 0
    for batch in batches(cut, 7, torch.device("cpu")):
        columns = (part.tolist() for part in (batch.row, batch.step, batch.label))
        for row, step, label in zip(*columns, strict=True):
            begin = cut.begin[batch.rows[row]]
            assert label == cut.item[begin + step]
            assert batch.items[row, :step].tolist() == cut.item[begin : begin + step].tolist()
            seen += 1
    assert seen == cut.target.sum()


def test_gru_reads_as_torch_does():
    """Block-wise reading with a gate table equals torch's own GRU on each history alone."""
    log = random_log()
    model = intensity.GRU(SMALL).fit(log)
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    encoded = model.encode(states)[0]
    network = model.network
    for row in range(0, log.n_users, 7):
        items = states.items[states.offsets[row] : states.offsets[row + 1]][-SMALL.context :]
        with torch.no_grad():
            start = torch.zeros((1, SMALL.width), device=model.device)
            alone = network.hidden(torch.from_numpy(items)[None].to(model.device), start)[0, -1]
        torch.testing.assert_close(encoded[row], alone, rtol=1e-4, atol=1e-5)


def test_early_stopping_keeps_the_best_epoch():
    """The kept epoch has the least held-out loss, and training ends `patience` epochs after it."""
    longer = {"epochs": 60, "learning_rate": 0.05, "patience": 2, "held_out": 0.3}
    config = intensity.GRUConfig(width=8, dropout=0.0, **longer)
    run = intensity.GRU(config).fit(random_log()).last_run
    assert run is not None
    assert len(run.losses) == run.best_epoch + 2 < 60
    assert run.best_epoch == 0 or min(run.held_out) == run.held_out[run.best_epoch - 1]


def test_gru_update_reads_context_but_fits_targets_only():
    """An update raises p of the targets and costs no window for users without one."""
    log = random_log()
    model = intensity.GRU(SMALL).fit(log)
    target = (log.item == 33) & (log.user < 40)
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    before = model.score(states)[:, 33].mean()
    marked = dataclasses.replace(log, target=target)
    assert len(windows(marked, SMALL.context, SMALL.update_steps_back)) == target.sum()
    assert float(model.update(marked).score(states)[:, 33].mean()) > float(before)


class _Bare:
    """No more than the protocol: p is uniform, and λ(x) is the number of updates."""

    def __init__(self):
        self.updates = 0

    def fit(self, log):
        self.n_items = log.n_items
        return self

    def update(self, log):
        self.updates += 1
        return self

    def score(self, states):
        return torch.full((len(states), self.n_items), self.updates / self.n_items)


def test_a_retrained_copy_leaves_its_original_alone():
    """A retrained product is p(y|x) of the new log times the old λ(x), unless asked for; any model is updated."""
    log = random_log()
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    later = log.rows(log.item >= log.n_items // 2)
    model = intensity.RIM(mark=intensity.Popularity(), ground=intensity.UserPopularity()).fit(log)
    before = model.score(states)
    rate = model.intensity(states)
    mark_alone = updated(model, later, ground=False)
    mark_and_ground = updated(model, later, ground=True)
    assert torch.equal(model.score(states), before)
    popular = intensity.Popularity().fit(later).score(states)
    assert torch.equal(mark_alone.score(states), popular * rate[:, None])
    assert rescale_of(mark_alone) == rescale_of(model) == 1.0
    assert rescale_of(mark_and_ground) == mark_and_ground.ground.rescale != 1.0
    bare = _Bare().fit(log)
    assert float(updated(bare, later, ground=False).score(states).sum(1)[0]) == pytest.approx(1.0)
    assert (bare.updates, rescale_of(bare)) == (0, 1.0)


class _Own(intensity.GRU):
    """It scores in its own way."""

    def score_hidden(self, hidden, now):
        return super().score_hidden(hidden, now)


@cases(
    "model depends gives",
    (intensity.Popularity(), False, None),
    (intensity.RIM(mark=intensity.Popularity(), ground=intensity.UserPopularity()), False, None),
    (intensity.RIM(mark=intensity.GRU(SMALL), ground=intensity.UserPopularity()), True, None),
    (intensity.GRU(SMALL), True, True),
    (_Own(SMALL), True, False),
    (intensity.RIM(mark=_Own(SMALL), ground=intensity.UserPopularity()), True, True),
    (_Bare(), True, False),
)
def test_a_model_says_whether_p_depends_on_the_state_and_who_owns_its_scores(model, depends, gives):
    """A model that says nothing is taken to depend on it; the promise that scores are the caller's is not inherited."""
    capabilities = ModelCapabilities.of(model)
    assert capabilities.depends_on_state == depends
    assert gives is None or owns_scores(model) == gives


def test_user_popularity_counts_events():
    """User popularity is in proportion to events plus the smoothing."""
    log = random_log()
    ground = intensity.UserPopularity().fit(log)
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    ratio = ground.intensity(states).cpu().numpy() / (states.lengths + 0.01)
    np.testing.assert_allclose(ratio, ground.factor, rtol=1e-6)


def test_every_name_can_be_made():
    """Every shipped name gives a model, an error before its fit; hybrids are products of a mark and a ground."""
    shipped = [name for name in names() if parts(name) is not None]  # another test may register its own
    assert {"transformer-hp", "gru", "hp", "popularity"} <= set(shipped)
    log = random_log()
    states = UserStates.of(log, [0], log.time[-1])
    for name in shipped:
        model = make(name)
        product = "-" in name or name in {"hp", "pop", "ema", "hawkes", "visits"}
        assert isinstance(model, intensity.RIM) == product
        refused(ModelError, "not fitted yet", model.score, states)
    for name in ("gru", "mine.py:Mine", "gru-hq"):
        assert mark_and_ground(name) == (name, None)
    assert mark_and_ground("gru-hp") == ("gru", "hp")
    assert mark_and_ground("hp") == ("popularity", "hp")


def test_an_unknown_name_or_field_is_told_the_nearest():
    """Names and fields that do not exist are told the nearest; a model of one's own joins by another name."""
    refused(ConfigError, "Did you mean 'gru-hp'", make, "gru-hpp")
    refused(ConfigError, "Did you mean 'width'", config_of, "gru", {"widht": 3})
    refused(ConfigError, "field 'width' is 0. It must be greater than", config_of, "gru", {"width": 0})
    refused(ConfigError, "Expected GRUConfig", make, "gru", mark=intensity.PopularityConfig())
    assert config_of("gru", {"width": 3}).width == 3
    calls = []
    register("my-own", lambda seed, device: calls.append((seed, device)) or intensity.Popularity())
    assert isinstance(make("my-own", seed=4, device="cpu"), intensity.Popularity)
    assert calls == [(4, "cpu")]
    refused(ConfigError, "shipped", register, "gru-hp", make)


def test_a_second_fit_comes_from_the_cache(tmp_path, monkeypatch):
    """The second run reads it where RIMSIM_CACHE says; another log, config or a damaged entry is fitted anew."""
    log = random_log()
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path))
    first = fitted(make("gru-hp", mark=SMALL), log)
    entries = list((tmp_path / "models").iterdir())
    assert len(entries) == 2  # one for each factor
    second = make("gru-hp", mark=SMALL)
    unfitted = second.mark, second.ground
    cached = fitted(second, log, tmp_path)
    assert cached.mark is not unfitted[0]
    assert cached.ground is not unfitted[1]
    assert torch.equal(cached.score(states), first.score(states))
    fitted(make("gru-hp", mark=SMALL, seed=1), log, tmp_path)
    fitted(make("gru-hp", mark=SMALL), log.before(float(np.median(log.time))), tmp_path)
    assert len(list((tmp_path / "models").iterdir())) == 5  # the other seed is the mark's alone
    for entry in entries:
        (entry / "model.safetensors").write_bytes(b"broken")
    fresh = make("gru-hp", mark=SMALL)
    unfitted = fresh.mark
    assert fitted(fresh, log, tmp_path).mark is unfitted
    assert torch.equal(fitted(make("gru-hp", mark=SMALL), log, tmp_path).score(states), first.score(states))


def test_a_damaged_or_foreign_folder_is_an_error(tmp_path):
    """Loading names the file that is missing, foreign or damaged."""
    refused(ModelError, r"model\.json", load, tmp_path)
    intensity.Popularity().fit(random_log()).save(tmp_path)
    assert isinstance(load(tmp_path), intensity.Popularity)
    refused(ModelError, "Expected a saved 'gru'", intensity.GRU.load, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    refused(ModelError, "safetensors", load, tmp_path)


@pytest.mark.parametrize("seed", range(8))
def test_gru_fits_a_log_whose_users_were_seen_once(seed):
    """A batch of first events alone, which have nothing to read, trains the bias and does not fail."""
    log = random_log(n_users=8, n_items=4, seed=seed, mean_events=1.0)
    model = intensity.GRU(intensity.GRUConfig(seed=seed, epochs=2)).fit(log)
    assert torch.isfinite(model.score(UserStates.of(log, np.arange(2), log.time[-1] + 1.0))).all()


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
    "graph": LEARNING | {"epochs": 40, "learning_rate": 0.1},
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


def test_a_graph_without_hops_is_not_smoothed_and_one_hop_is_the_normalised_average():
    """One hop adds D^-1/2 RᵀD⁻¹R D^-1/2 E, written out densely."""
    log = checkerboard(users=8, items=6, each=2)
    config = intensity.GraphConvolutionConfig(width=3, layers=1, epochs=1, cold_items=False)
    model = intensity.GraphConvolution(config).fit(log)
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


def test_cold_items_get_the_vectors_of_items_like_them():
    """An item that nobody met gets about the mean vector of its genre, by features of genres and year."""
    year = pd.array([2000, None, 2002], dtype="Int64")
    items = pd.DataFrame({"id": [1, 2, 3], "genres": ["A|B", "B", ""], "year": year})
    expected = [[1, 1, 1, -1, 1], [1, 0, 1, 0, 0], [1, 0, 0, 1, 1]]
    np.testing.assert_allclose(item_features(items), expected)
    log = random_log()
    unmet = log.rows(log.item != 6)
    vectors = torch.zeros((log.n_items, 2))
    bias = torch.zeros(log.n_items)
    is_warm = torch.arange(log.n_items) != 6
    even = torch.arange(log.n_items) % 2 == 0
    vectors[even, 0] = 5.0
    vectors[6] = -9.0
    original = vectors.clone()
    assert fill_cold(vectors, bias, unmet).tolist() == [6]
    assert float((vectors[6] - torch.tensor([5.0, 0.0])).abs().max()) < 0.5
    assert torch.equal(vectors[is_warm], original[is_warm])


def test_a_cold_item_has_a_probability_like_its_genre():
    """After a fit without item 6, users of even items give it a larger p than users of odd items."""
    log = random_log(n_users=200)
    config = intensity.GRUConfig(width=16, epochs=12, learning_rate=0.02, dropout=0.0, patience=0)
    model = intensity.GRU(config).fit(log.rows(log.item != 6))
    plain = intensity.GRU(dataclasses.replace(config, cold_items=False)).fit(log.rows(log.item != 6))
    states = UserStates.of(log.rows(log.item != 6), np.arange(200), log.time[-1] + 1)
    p = model.score(states)[:, 6].cpu().numpy()
    is_long = states.lengths > 5
    even = np.arange(200) % 2 == 0
    assert p[even & is_long].mean() > 1.3 * p[~even & is_long].mean()
    assert p.mean() > 3 * float(plain.score(states)[:, 6].mean())


def test_count_calibration_knows_a_perfect_and_a_wrong_prediction():
    """Poisson counts are calibrated against their own means, and not against twice them."""
    rng = np.random.default_rng(1)
    rate = rng.gamma(2.0, 2.0, 5000) + 0.1
    counts = rng.poisson(rate)
    exact = count_calibration(rate, counts)
    doubled = count_calibration(2 * rate, counts)
    assert exact.ratio == pytest.approx(1.0, abs=0.03)
    assert exact.dispersion == pytest.approx(1.0, abs=0.08)
    assert doubled.ratio == pytest.approx(0.5, abs=0.02)
    assert exact.deviance < exact.deviance_constant < doubled.deviance
    assert exact.rank_correlation == doubled.rank_correlation > 0.5
    assert [d.predicted for d in exact.deciles] == sorted(d.predicted for d in exact.deciles)
    assert sum(d.examples for d in exact.deciles) == 5000
    refused(ModelError, r"λ\(x\) > 0", count_calibration, np.zeros(3), np.ones(3, np.int64))


def test_the_report_separates_the_factors():
    """P of popularity has the entropy of the counts as its loss, whatever λ(x) is; λ is judged on its own."""
    log = random_log()
    share = np.bincount(log.item, minlength=log.n_items) / len(log)
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    plain = calibration(intensity.Popularity(intensity.PopularityConfig(smoothing=1e-9)).fit(log), log)
    product = calibration(make("hp", mark=intensity.PopularityConfig(smoothing=1e-9)).fit(log), log)
    assert plain.mark.nll == pytest.approx(entropy, rel=1e-4)
    assert plain.mark.perplexity == pytest.approx(np.exp(entropy), rel=1e-3)
    assert product.mark.nll == pytest.approx(plain.mark.nll, rel=1e-5)
    assert plain.mark.nll_admissible < plain.mark.nll
    assert product.ground.ratio == pytest.approx(1.0, abs=0.05)
    assert product.ground.deviance < product.ground.deviance_constant
    assert plain.ground.predicted == pytest.approx(plain.ground.examples, rel=1e-5)
    assert len(product.lines()) == 4


NAMES = ("popularity", "returning", "ease")


def test_what_is_judged_is_what_was_taken():
    """Precision and likelihood of popularity are what a loop over held-out users says."""
    log = random_log(n_users=80)
    (result,) = judged(log, ("popularity",))
    held = HeldOut.of(log, "30min", 0)
    p = make("popularity").fit(held.past).score(held.states.take([0]))[0].double().cpu().numpy()
    precision = []
    likelihood = []
    for consumed, taken in zip(held.consumed, held.taken, strict=True):
        scores = np.where(consumed, 0.0, p)
        precision.append(taken[np.argsort(-scores, kind="stable")[:10]].sum() / 10)
        likelihood += np.log((scores / scores.sum())[taken > 0]).tolist()
    assert result.precision == pytest.approx(np.mean(precision), abs=0.01)
    assert result.log_likelihood == pytest.approx(np.mean(likelihood), abs=1e-4)
    assert result.users == len(held)


def test_auto_is_what_it_chose(tmp_path, monkeypatch):
    """Once fitted it scores as the chosen model does, keeps its choice through an update, and is saved with it."""
    log = random_log(n_users=150)
    ranking = judged(log, NAMES)  # users of even and odd number want other items: a personal model is first
    assert ranking[0].name == "ease"
    assert {entry.name for entry in ranking} == set(NAMES)
    model = make("auto", mark=AutoConfig(candidates=NAMES))
    assert isinstance(fitted(model, log, tmp_path / "cache"), Auto)
    states = UserStates.of(log, np.arange(20), log.time[-1] + 60)
    assert model.name == "ease"
    assert torch.equal(model.score(states), make("ease").fit(log).score(states))
    assert model.update(log).name == "ease"
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert (loaded.name, loaded.ranking) == (model.name, model.ranking)
    assert torch.equal(loaded.score(states), model.score(states))
    monkeypatch.setattr(Auto, "fit", None)  # the second time it is read
    cached = fitted(make("auto", mark=AutoConfig(candidates=NAMES)), log, tmp_path / "cache")
    assert cached.name == "ease"


def test_without_later_sessions_the_fallback_is_taken():
    """A log in which nobody came back cannot rank; the fallback is taken, and popularity is the best that is known."""
    log = random_log()
    log = dataclasses.replace(log, time=log.time[0] + np.arange(len(log)) * 1.0)
    assert judged(log, NAMES) == ()
    assert make("auto", mark=AutoConfig(candidates=NAMES, fallback="returning")).fit(log).name == "returning"


def test_a_candidate_of_ones_own_is_not_kept(tmp_path):
    """What the cache could not give back is fitted each time, leaves no record and takes no weights."""
    register("choosing-own", lambda seed, device: _Shares())
    config = AutoConfig(candidates=("choosing-own",))
    log = random_log()
    for _ in range(2):
        model = fitted(make("auto", mark=config), log, tmp_path / "cache")
        assert (model.name, is_stored(model)) == ("choosing-own", False)
    refused(ModelError, "cannot be saved", model.save, tmp_path / "model")
    assert not (tmp_path / "model" / "model.json").exists()
    assert ModelCapabilities.of(Auto()).takes_weights
    assert is_stored(Auto())
    settings = ({"candidates": ("bag", "choosing-own")}, {"candidates": ("bag",), "fallback": "choosing-own"})
    for candidate in (model, *(Auto(AutoConfig(**wrong)) for wrong in settings)):
        assert not ModelCapabilities.of(candidate).takes_weights


def test_wrong_candidates_and_logs_are_refused():
    """Hybrids, grounds, unknown names and auto cannot be chosen; fits need targets, updates the same catalogue."""
    log = random_log()
    for name in ("hp", "ease-hp", "auto", "nothing"):
        refused(ConfigError, name, Auto(AutoConfig(candidates=("popularity", name))).fit, log)
    silent = dataclasses.replace(log, target=np.zeros(len(log), bool))
    for model in (Auto(), intensity.EASE()):
        refused(ModelError, "no target event", model.fit, silent)
    refused(ModelError, "Expected 40", intensity.EASE().fit(log).update, random_log(n_items=30))


class _Shares(FromHidden):
    """p(y) in proportion to how often the item was consumed."""

    def fit(self, log):
        self.counts = torch.bincount(torch.from_numpy(log.item[log.targets]), minlength=log.n_items) + 0.1
        return self

    def update(self, log):
        return self.fit(log) if log.targets.any() else self

    def encode(self, states):
        return (torch.from_numpy(states.lengths),)

    def step(self, hidden, items, times):
        return (hidden[0] + 1,)

    def score_hidden(self, hidden, now):
        return (self.counts / self.counts.sum()).float().repeat(len(now), 1)


class _Eager(_Shares):
    """The same, times more the more was consumed before."""

    def score_hidden(self, hidden, now):
        return super().score_hidden(hidden, now) * (1.0 + hidden[0][:, None].float())


class _Doubled(_Eager):
    """One that says twice the sum."""

    def intensity(self, states):
        return 2 * self.score(states).sum(1)


@cases("kind is_mark", (_Eager, True), (_Doubled, None))
def test_rows_of_another_sum_are_caught(kind, is_mark):
    """Rows that do not sum to 1 are found in what is said to be a mark, and in a product that says another λ(x)."""
    mine = type("Mine", (IntensityModelTests,), {"make": lambda self: kind(), "is_mark": is_mark})
    with pytest.raises(AssertionError):
        mine().test_rows_sum_to_the_ground_intensity()


WIDE = {"width": 8, "learning_rate": 0.02}
READ_WHOLE = intensity.GRUConfig(**WIDE, context=50, epochs=3, update_learning_rate=0.02)
LONG = {**WIDE, "context": 12, "burn": 4, "epochs": 3, "update_steps_back": 8, "update_learning_rate": 0.01}
MADE = {
    "of one's own": _Eager,  # a whole λ(x,y), which says nothing of its λ(x)
    # No folder can hold this one.
    "mark of one's own": lambda: intensity.RIM(mark=_Shares(), ground=intensity.HawkesPoisson()),
    "popularity": intensity.Popularity,
    "returning": intensity.Returning,
    "bag": lambda: intensity.Bag(intensity.BagConfig(width=8, steps=40)),
    "ease": intensity.EASE,
    "factors": lambda: intensity.Factors(intensity.FactorsConfig(rank=4, steps=40, further_steps=20)),
    "auto": lambda: make("auto", mark=intensity.AutoConfig(candidates=("popularity", "ease", "returning"))),
    "auto-hp": lambda: make("auto-hp", mark=intensity.AutoConfig(candidates=("popularity", "ease"))),
    # The context holds every history, so that stepping and re-reading agree.
    "gru": lambda: make("gru", mark=READ_WHOLE),
    "gru for sessions": lambda: intensity.GRU(dataclasses.replace(READ_WHOLE, target="next-session")),
    "hp": intensity.HawkesPoisson,
    "visits": intensity.Visits,
    "user popularity": intensity.UserPopularity,
    "ema": intensity.EMA,
    "gru-hp": lambda: make("gru-hp", mark=intensity.GRUConfig(**WIDE, context=50, epochs=2)),
    # Stepping re-reads the window, so that it agrees beyond the context too.
    "transformer": lambda: intensity.Transformer(intensity.TransformerConfig(**LONG)),
    "hawkes": intensity.Hawkes,
    "als": lambda: make("als", mark=intensity.MatrixFactorizationConfig(factors=6)),
    "bpr": lambda: make("bpr", mark=intensity.MatrixFactorizationConfig(factors=6)),
    "graph": lambda: intensity.GraphConvolution(intensity.GraphConvolutionConfig(**WIDE, epochs=3)),
}


class TestModel(IntensityModelTests):
    """Each shipped model, hybrids, and models of one's own."""

    once: ClassVar[dict[str, intensity.IntensityModel]] = {}

    @pytest.fixture(autouse=True, params=MADE)
    def _called(self, request):
        self.called = request.param
        self.update_is_refit = self.called in {"popularity", "returning", "als", "bpr"}
        if self.called in {"als", "bpr"}:
            pytest.importorskip("implicit")

    def make(self) -> intensity.IntensityModel:
        """The model of the name."""
        return MADE[self.called]()

    def fitted(self) -> intensity.IntensityModel:
        """A copy of the model that was fitted once."""
        if self.called not in self.once:
            self.once[self.called] = super().fitted()
        return copy.deepcopy(self.once[self.called])

    def test_fits_are_reproducible(self) -> None:
        """Two fits, not two copies, have the same bits."""
        self.fitted = super().fitted
        super().test_fits_are_reproducible()
