"""Known answers for the intensity models of the closed loop."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from kit import refused
from made_logs import log_of

from rimsim.errors import ConfigError, ModelError
from rimsim.intensity import (
    GRU,
    RIM,
    GRUConfig,
    HawkesPoisson,
    HawkesPoissonConfig,
    Popularity,
    PopularityConfig,
    Scales,
    UserPopularity,
    UserStates,
)
from rimsim.intensity.cache import fitted
from rimsim.intensity.contract import ModelCapabilities, rescale_of
from rimsim.intensity.ground.hawkes import poisson_objective
from rimsim.intensity.persistence import load
from rimsim.intensity.product import updated
from rimsim.intensity.registry import config_of, make, mark_and_ground, names, parts, register
from rimsim.intensity.sequence.training import batches, windows
from rimsim.intensity.states import CountExamples, session_examples, window_examples
from rimsim.testing import random_log

SMALL = GRUConfig(width=8, context=12, burn=4, epochs=3, learning_rate=0.02)


def test_popularity_is_the_smoothed_share_of_target_events():
    """Popularity is (count + s) / total over target events only."""
    log = log_of([0, 0, 1, 1], [0, 1, 1, 2], [0, 1, 2, 3], target=[True, True, True, False])
    model = Popularity(PopularityConfig(smoothing=0.5)).fit(log)
    expected = torch.tensor([1.5, 2.5, 0.5]) / 4.5
    torch.testing.assert_close(model.score(UserStates.of(log, [0, 1], 9.0))[1].cpu(), expected)


def test_hawkes_poisson_features_are_the_sums_they_say():
    """λ computed event by event in plain Python equals the model's."""
    scales = Scales(shortest=10, longest=1000, number=3)
    log = log_of([0, 0, 0, 1], [0, 1, 0, 1], [0, 5, 4000, 4100])
    model = HawkesPoisson(HawkesPoissonConfig(scales=scales)).fit(log)
    weights = model.weights.cpu().numpy()
    states = UserStates.of(log, [0, 1, 1], [9150.0, 6150.0, 4000.0])
    beta = 1.0 / np.array([10.0, 100.0, 1000.0])
    histories = [([0.0, 5.0, 4000.0], 9150.0), ([4100.0], 6150.0), ([], 4000.0)]
    for row, (events, now) in enumerate(histories):
        own = [sum(np.exp(-b * (now - t)) for t in events) for b in beta]
        start = [np.exp(-b * (now - events[0])) if events else 0.0 for b in beta]
        expected = np.dot(weights, [*own, *start, float(bool(events)), float(not events)])
        assert float(model.intensity(states)[row]) == pytest.approx(expected, rel=1e-6)


def test_hawkes_poisson_recovers_its_own_weights():
    """On many Poisson counts drawn from known weights the fitted λ is the true λ to within 5 %."""
    rng = np.random.default_rng(3)
    n = 4000
    scales = Scales(shortest=100, longest=10_000, number=2)
    gaps = rng.exponential(2000, (n, 4))
    times = np.cumsum(gaps, axis=1)
    now = times[:, -1] + rng.exponential(500, n) + 1
    states = UserStates(np.arange(0, 4 * n + 1, 4), np.zeros(4 * n, np.int64), times.ravel(), now)
    beta = np.array([1 / 100, 1 / 10_000])
    own = np.exp(-(now[:, None, None] - times[:, :, None]) * beta).sum(1)
    true = own @ [3.0, 0.5] + 1.0
    model = HawkesPoisson(HawkesPoissonConfig(horizon=1.0, scales=scales, ridge=0.0))
    model.fit_examples(CountExamples(states, rng.poisson(true), np.arange(n)))
    error = np.abs(model.intensity(states).cpu().numpy() / true - 1)
    assert error.max() < 0.12
    assert error.mean() < 0.05


def test_hawkes_poisson_is_optimal():
    """At the fitted weights the penalised gradient is zero, or points out of the non-negative range."""
    log = random_log()
    config = HawkesPoissonConfig(ridge=1e-2)
    model = HawkesPoisson(config).fit(log)
    examples = session_examples(log)
    phi = model._numbers(examples.states)
    unit = np.maximum(phi.mean(0), 1e-3)
    weights = model.weights.cpu().numpy() * unit
    _, slope = poisson_objective(weights, phi / unit, examples.counts.astype(float), config.ridge)
    assert slope[weights == 0].min(initial=0) > -1e-3
    assert np.abs(slope[weights > 0]).max() < 1e-3


def test_an_update_keeps_the_mean_intensity():
    """After an update the mean λ over the new log's states is what it was, and the factor is on record."""
    log = random_log()
    model = HawkesPoisson().fit(log)
    thin = dataclasses.replace(log, target=np.arange(len(log)) % 9 == 0)
    states = session_examples(thin).states
    before = float(model.intensity(states).mean())
    model.update(thin)
    assert float(model.intensity(states).mean()) == pytest.approx(before, rel=1e-5)
    assert model.rescale > 1


def test_session_examples_count_targets_after_strictly_earlier_states():
    """A session's example holds what came before it, context included, and counts its target events.

    A log is cut once for each gap. Where states are too large, every second or third session is left, in order.
    """
    log = log_of([0] * 5, [0, 1, 2, 3, 4], [0, 10, 5000, 5010, 5020], target=[False, False, True, True, True])
    found = session_examples(log)
    assert found.counts.tolist() == [3]
    assert found.states.items.tolist() == [0, 1]
    assert found.states.now.tolist() == [5000.0]
    assert log.sessions("30min") is log.sessions(1800.0)
    assert len(log.sessions(15.0)) == 2
    assert len(log.sessions(5.0)) == len(log.rows(log.user == 0).sessions(5.0)) == 5
    times = [10_000.0 * n for n in range(12)]
    log = log_of([0, 1] * 6, list(range(12)), times, target=[True] * 12)
    every, some = session_examples(log), session_examples(log, most_events=10)
    assert every.states.lengths.tolist() == [n // 2 for n in range(12)]  # 30 in all
    assert some.states.now.tolist() == times[::3]
    assert some.states.lengths.tolist() == every.states.lengths[::3].tolist()
    assert session_examples(log, most_events=30).states.now.tolist() == times


def test_window_examples_count_what_falls_into_each_window():
    """Windows before the end of the log give every known user's state and count."""
    found = window_examples(log_of([0, 1, 0, 1, 1], [0, 0, 1, 1, 2], [0, 10, 20, 30, 40]), 15.0, 2)
    pairs = sorted(zip(found.user.tolist(), found.counts.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 0), (1, 2)]


@pytest.mark.parametrize(("context", "burn"), [(4, 0), (6, 2), (50, 8)])
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
    model = GRU(SMALL).fit(log)
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    found = model.encode(states)[0]
    network = model.network
    for row in range(0, log.n_users, 7):
        items = states.items[states.offsets[row] : states.offsets[row + 1]][-SMALL.context :]
        with torch.no_grad():
            start = torch.zeros((1, SMALL.width), device=model.device)
            alone = network.hidden(torch.from_numpy(items)[None].to(model.device), start)[0, -1]
        torch.testing.assert_close(found[row], alone, rtol=1e-4, atol=1e-5)


def test_gru_learns_an_order_that_popularity_cannot():
    """On users who walk through the items in order, the GRU puts nearly all mass on the next item."""
    n_users, n_items = 80, 12
    start = np.arange(n_users) % n_items
    item = (start[:, None] + np.arange(10)) % n_items
    time = np.arange(10)[:, None] * 1000 + np.arange(n_users)
    log = log_of(np.tile(np.arange(n_users), 10).tolist(), item.T.ravel().tolist(), time.ravel().tolist())
    model = GRU(GRUConfig(width=16, epochs=60, learning_rate=0.03, dropout=0.0, patience=0)).fit(log)
    scores = model.score(UserStates.of(log, np.arange(n_users), 1e9))
    assert float(scores[torch.arange(n_users), torch.from_numpy((start + 10) % n_items)].mean()) > 0.8


def test_early_stopping_keeps_the_best_epoch():
    """The kept epoch has the least held-out loss, and training ends `patience` epochs after it."""
    config = GRUConfig(width=8, epochs=60, learning_rate=0.05, patience=2, held_out=0.3, dropout=0.0)
    run = GRU(config).fit(random_log()).last_run
    assert run is not None
    assert len(run.losses) == run.best_epoch + 2 < 60
    assert run.best_epoch == 0 or min(run.held_out) == run.held_out[run.best_epoch - 1]


def test_gru_update_reads_context_but_fits_targets_only():
    """An update raises p of the targets and costs no window for users without one."""
    log = random_log()
    model = GRU(SMALL).fit(log)
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
    """A retrained product keeps its ground intensity unless it is asked for, and any model of one's own is updated."""
    log = random_log()
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    later = log.rows(log.item >= log.n_items // 2)
    model = RIM(mark=Popularity(), ground=UserPopularity()).fit(log)
    before, rate = model.score(states), model.intensity(states)
    mark_alone, both = updated(model, later, ground=False), updated(model, later, ground=True)
    assert torch.equal(model.score(states), before)
    assert torch.equal(mark_alone.score(states), Popularity().fit(later).score(states) * rate[:, None])
    assert rescale_of(mark_alone) == rescale_of(model) == 1.0
    assert rescale_of(both) == both.ground.rescale != 1.0
    bare = _Bare().fit(log)
    assert float(updated(bare, later, ground=False).score(states).sum(1)[0]) == pytest.approx(1.0)
    assert (bare.updates, rescale_of(bare)) == (0, 1.0)


class _Own(GRU):
    """It scores in its own way."""

    def score_hidden(self, hidden, now):
        return super().score_hidden(hidden, now)


@pytest.mark.parametrize(
    ("model", "depends", "gives"),
    [
        (Popularity(), False, None),
        (RIM(mark=Popularity(), ground=UserPopularity()), False, None),
        (RIM(mark=GRU(SMALL), ground=UserPopularity()), True, None),
        (GRU(SMALL), True, True),
        (_Own(SMALL), True, False),
        (RIM(mark=_Own(SMALL), ground=UserPopularity()), True, True),
        (_Bare(), True, False),
    ],
)
def test_a_model_says_whether_p_depends_on_the_state_and_who_owns_its_scores(model, depends, gives):
    """A model that says nothing is taken to depend on it; the promise that scores are the caller's is not inherited."""
    said = ModelCapabilities.of(model)
    assert said.depends_on_state == depends
    assert gives is None or said.caller_owns_scores == gives


def test_user_popularity_counts_events_and_the_product_is_the_product():
    """User popularity is in proportion to events plus the smoothing; RIM is λ(x)·p(y|x), entry by entry."""
    log = random_log()
    mark, ground = Popularity().fit(log), UserPopularity().fit(log)
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    ratio = ground.intensity(states).cpu().numpy() / (states.lengths + 0.01)
    np.testing.assert_allclose(ratio, ground.factor, rtol=1e-6)
    expected = mark.score(states) * ground.intensity(states)[:, None]
    assert torch.equal(RIM(mark=mark, ground=ground).score(states), expected)


def test_every_name_can_be_made():
    """Every shipped name gives a model that is an error before its fit, and hybrids are products.

    A ground alone is times item popularity; what is not shipped is a mark that has its name.
    """
    shipped = [name for name in names() if parts(name) is not None]  # another test may register its own
    assert {"transformer-hp", "gru", "hp", "popularity"} <= set(shipped)
    log = random_log()
    states = UserStates.of(log, [0], log.time[-1])
    for name in shipped:
        model = make(name)
        product = "-" in name or name in {"hp", "pop", "ema", "hawkes", "visits"}
        assert isinstance(model, RIM) == product
        with pytest.raises(ModelError):
            model.score(states)
    for name in ("gru", "mine.py:Mine", "gru-hq"):
        assert mark_and_ground(name) == (name, None)
    assert mark_and_ground("gru-hp") == ("gru", "hp")
    assert mark_and_ground("hp") == ("popularity", "hp")


def test_an_unknown_name_or_field_is_told_the_nearest():
    """Names and config fields that do not exist are errors with the nearest valid one.

    A model of one's own joins by name and gets seed and device; shipped names are protected.
    """
    refused(ConfigError, "Did you mean 'gru-hp'", make, "gru-hpp")
    refused(ConfigError, "Did you mean 'width'", config_of, "gru", {"widht": 3})
    refused(ConfigError, "field 'width' is 0; allowed: greater than", config_of, "gru", {"width": 0})
    refused(ConfigError, "allowed: GRUConfig", make, "gru", mark=PopularityConfig())
    assert config_of("gru", {"width": 3}).width == 3
    made = []
    register("my-own", lambda seed, device: made.append((seed, device)) or Popularity())
    assert isinstance(make("my-own", seed=4, device="cpu"), Popularity)
    assert made == [(4, "cpu")]
    refused(ConfigError, "shipped", register, "gru-hp", make)


def test_a_second_fit_comes_from_the_cache(tmp_path, monkeypatch):
    """The second run reads it where RIMSIM_CACHE says; another log, config or a damaged entry is fitted anew."""
    log = random_log()
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path))
    first = fitted(make("gru-hp", mark=SMALL), log)
    entries = list((tmp_path / "models").iterdir())
    assert len(entries) == 2  # one for each factor
    again = make("gru-hp", mark=SMALL)
    unfitted = again.mark, again.ground
    cached = fitted(again, log, tmp_path)
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
    Popularity().fit(random_log()).save(tmp_path)
    assert isinstance(load(tmp_path), Popularity)
    refused(ModelError, "allowed here: 'gru'", GRU.load, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    refused(ModelError, "safetensors", load, tmp_path)


@pytest.mark.parametrize("seed", range(8))
def test_gru_fits_a_log_whose_users_were_seen_once(seed):
    """A batch of first events alone, which have nothing to read, trains the bias and does not fail."""
    log = random_log(n_users=8, n_items=4, seed=seed, mean_events=1.0)
    model = GRU(GRUConfig(seed=seed, epochs=2)).fit(log)
    assert torch.isfinite(model.score(UserStates.of(log, np.arange(2), log.time[-1] + 1.0))).all()
