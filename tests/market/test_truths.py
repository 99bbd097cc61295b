"""Truths: laws for any state, saved and fitted again, and what is consumed under them."""

import dataclasses

import numpy as np
import pytest
import torch
from kit import MODEL, cases, refused
from kit.markets import batches, small_cold_start, small_scenario

from rimsim.arrays import TICKS
from rimsim.config import (
    ArrivalsConfig,
    ConsumerConfig,
    PlatformConfig,
)
from rimsim.errors import ConfigError, ModelError
from rimsim.intensity import UserStates
from rimsim.intensity.registry import make
from rimsim.market import Market, Needs, build_world, fitted, world
from rimsim.market.consumers import Intensity, Organic, truths
from rimsim.market.fitted import kept_truth
from rimsim.market.world import check_plugs, initial_model
from rimsim.matching import top_k
from rimsim.testing import random_log

KINDS = ["factors", "bag", "popularity", "gru"]
"""Of each way to score: fixed users, sums of what was consumed, nothing, and a recurrent network."""
MARKETS = ["factors", "bag"]


@pytest.fixture(scope="module")
def log():
    """A small log whose users come back."""
    return random_log(n_users=60, n_items=40)


@pytest.fixture(scope="module", params=KINDS)
def truth(request, log):
    """A truth of each class."""
    return truths.fit_truth(log, gap="30min", kind=request.param, rank=4)


def _states(log):
    users = np.arange(log.n_users)
    return users, UserStates.of(log, users, np.linspace(log.time[0], log.time[-1], log.n_users))


def test_a_truth_is_a_law_for_any_state(truth, log):
    """Preferences are distributions over the catalogue, and a session's size is positive."""
    users, states = _states(log)
    rows = truth.preference(users, states)
    assert rows.shape == (log.n_users, log.n_items)
    assert rows.dtype == np.float64
    assert (rows >= 0).all()
    assert rows.sum(1) == pytest.approx(np.ones(len(users)))
    assert (truth.expected(users, states) > 0).all()
    assert truth.report.expected_per_session == pytest.approx(truth.report.events_per_session)


def test_a_truth_is_read_as_it_was_written(truth, log, tmp_path):
    """The folder holds all of it: preferences, sizes and the report."""
    users, states = _states(log)
    truth.save(tmp_path)
    loaded = truths.load_truth(tmp_path)
    assert loaded.kind == truth.kind
    np.testing.assert_array_equal(loaded.preference(users, states), truth.preference(users, states))
    np.testing.assert_array_equal(loaded.expected(users, states), truth.expected(users, states))
    np.testing.assert_equal(dataclasses.asdict(loaded.report), dataclasses.asdict(truth.report))


@cases(
    "name damaged",
    ("truth.json", lambda content: b""),
    ("truth.json", lambda content: content[:40]),
    # As an older version wrote it.
    ("truth.json", lambda content: content.replace(b'"shrinkage"', b'"ridge"')),
    ("truth.safetensors", lambda content: content[:90]),
    ("model.safetensors", lambda content: content[:3]),
)
def test_a_damaged_truth_is_fitted_again(truth, log, name, damaged, tmp_path, monkeypatch):
    """A file of the cache that was cut off or is of another version is one of our errors; the next run replaces it."""
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path))
    monkeypatch.setattr(fitted, "fit_truth", lambda *_, **__: truth)
    words = {"gap": 1800.0, "kind": truth.kind, "rank": 4}
    kept_truth(log, **words)
    (path,) = tmp_path.rglob(name)
    path.write_bytes(damaged(path.read_bytes()))
    refused(ModelError, "no saved truth, or it is damaged", truths.load_truth, path.parent)
    assert kept_truth(log, **words) is truth
    monkeypatch.setattr(fitted, "fit_truth", None)
    assert repr(kept_truth(log, **words).report) == repr(truth.report)


def test_a_bootstrap_is_another_truth_about_the_same_users(truth, log):
    """Fitted to a bootstrap, every user of the log has preferences of its own; what was chosen stays."""
    users, states = _states(log)
    drawn = [truths.fit_truth(log, gap="30min", kind=truth.kind, rank=4, bootstrap=n) for n in (0, 0, 1)]
    rows = [resampled.preference(users, states) for resampled in drawn]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.allclose(rows[0], rows[2])
    assert not np.allclose(rows[0], truth.preference(users, states))
    assert [resampled.report.bootstrap for resampled in drawn] == [0, 0, 1]
    assert all(resampled.report.shrinkage == truth.report.shrinkage for resampled in drawn)
    assert len(drawn[0].sizes.effect) == log.n_users


@pytest.mark.parametrize("kind", MARKETS)
@pytest.mark.parametrize("scenario", [small_scenario, small_cold_start])
@pytest.mark.parametrize("draw", ["sessions", "users"])
def test_one_law_decides_what_is_consumed(kind, scenario, draw):
    """Probabilities, draws and true intensities follow p* over what is unconsumed and released, times λ*."""
    arrivals = ArrivalsConfig(per_round=120, max_visits=3, draw=draw)
    consumer = ConsumerConfig(truth=kind, delay="1h", attraction=3.0, position_decay=0.7)
    config = scenario(rounds=2, arrivals=arrivals, consumer=consumer)
    market = Market(config, needs=Needs(truth=True))
    truth = market.world.truth
    release = market.world.release
    assert truth.kind == kind
    n_seen = 0
    n_returning = 0
    draws = torch.Generator().manual_seed(0)
    while not market.done:
        arrivals = market.next_arrivals(7)
        visits = market.open.visits(arrivals.row)
        counts = visits.histories.events.counts[visits.slot]
        ticks = visits.schedule.tick[visits.row]
        states = visits.histories.states(visits.slot, counts, ticks)
        share = truth.preference(visits.log_user, states)
        share[visits.consumed()] = 0.0
        share /= np.maximum(share.sum(1, keepdims=True), 1e-12)
        share[release[None, :] > ticks[:, None]] = 0.0  # wanted, and not to be had
        ground = truth.sizes.of_visits(visits.histories, visits.slot, ticks, 3_600_000_000)
        fresh = counts == 0
        assert ground[fresh] == pytest.approx(truth.expected(visits.log_user, states)[fresh], rel=1e-12)
        expected = share * ground[:, None]
        assert arrivals.true_intensity.numpy() == pytest.approx(expected, rel=2e-5, abs=1e-7)
        best = torch.rand(arrivals.relevance.shape, generator=draws).mul(arrivals.admissible).topk(5)
        items = torch.where(best.values > 0, best.indices, -1).numpy()
        opened = market.open
        number = market.round
        market.serve(arrivals, items)
        ledger = (opened if market.round == number else market.closed[-1]).ledger
        intensity = np.take_along_axis(arrivals.true_intensity.numpy(), items.clip(0), 1) * (items >= 0)
        probability = 1 - np.exp(-intensity * 0.7 ** np.arange(config.slate) * 3.0)
        assert ledger.probability[arrivals.row] == pytest.approx(probability, rel=1e-5, abs=1e-9)
        taken = visits.uniform(items) < ledger.probability[arrivals.row]
        np.testing.assert_array_equal(ledger.consumed[arrivals.row], taken)
        n_seen += len(arrivals)
        n_returning += int((counts > 0).sum())
    assert n_seen == 240
    assert n_returning > (10 if draw == "users" else 2)


@pytest.mark.parametrize("kind", MARKETS)
def test_sizes_of_visits_are_those_of_their_states(kind):
    """λ* of a visit is that of its state, whether it is asked before it is served or when the round is over."""
    arrivals = ArrivalsConfig(per_round=400)
    consumer = ConsumerConfig(truth=kind, attraction=5.0)
    market = Market(small_scenario(rounds=1, arrivals=arrivals, consumer=consumer))
    truth = market.world.truth
    expected = {}
    opened = market.open
    for arrivals in batches(market, 5):
        visits = opened.visits(arrivals.row)
        ticks = visits.schedule.tick[visits.row]
        states = visits.histories.states(visits.slot, visits.histories.events.counts[visits.slot], ticks)
        size = truth.sizes.of_visits(visits.histories, visits.slot, ticks, 0)
        assert size == pytest.approx(truth.expected(visits.log_user, states), rel=1e-12)
        expected |= dict(zip(arrivals.row.tolist(), size.tolist(), strict=True))
    assert opened.histories.events.counts.max() > 1
    np.testing.assert_array_equal(market.closed[0].relevant, [expected[row] for row in range(len(expected))])


@pytest.mark.parametrize("kind", ["bag", "bag-visits", "ease", "returning"])
def test_a_truth_is_the_model_of_that_name(log, kind):
    """Preferences are what the mark model scores; they move with what was consumed and not with who the user is."""
    truth = truths.fit_truth(log, gap="30min", kind=kind)
    users, states = _states(log)
    rows = truth.preference(users, states)
    scores = truth.model.score(states).double().numpy()
    np.testing.assert_allclose(rows, scores / scores.sum(1, keepdims=True), rtol=1e-12)
    np.testing.assert_array_equal(rows, truth.preference(users[::-1], states))
    assert truth.kind == kind


def test_factors_have_each_users_own_vector_whatever_it_consumed(log):
    """Preferences are those of the model of that name in the user's whole log, in any state."""
    truth = truths.fit_truth(log, gap="30min", kind="factors", rank=4)
    users, states = _states(log)
    rows = truth.preference(users, states)
    np.testing.assert_array_equal(rows[::-1], truth.preference(users[::-1], states))
    model = make("factors", mark=dataclasses.replace(truth.model.config, shrinkage=truth.report.shrinkage))
    model.fit(log)
    of_model = model.score(UserStates.of(log, users, np.inf)).double().numpy()
    assert rows == pytest.approx(of_model, rel=1e-5)


def test_a_model_of_ones_own_is_a_truth(tmp_path, log):
    """Its scores are made a distribution, a market plays under it, and it is fitted each time."""
    scores = "torch.from_numpy(states.lengths + 1.0)[:, None] * torch.arange(1.0, self.n_items + 1)"
    (tmp_path / "own.py").write_text(MODEL.replace("torch.ones(len(states), self.n_items)", scores))
    place = f"{tmp_path}/own.py:Mine"
    truth = kept_truth(log, gap=1800.0, kind=place)
    assert kept_truth(log, gap=1800.0, kind=place) is not truth
    weight = np.arange(1.0, log.n_items + 1)
    np.testing.assert_allclose(truth.preference(*_states(log))[7], weight / weight.sum(), rtol=1e-6)
    market = Market(small_scenario(rounds=1, consumer=ConsumerConfig(truth=place)), needs=Needs(truth=True))
    arrivals = market.next_arrivals(4)
    true = arrivals.true_intensity * arrivals.admissible
    assert (true.argmax(1) == arrivals.admissible.int().mul(torch.arange(market.n_items)).argmax(1)).all()
    market.serve(arrivals, top_k(arrivals.relevance, arrivals.admissible, market.config.slate))


def test_an_unknown_truth_is_refused(log):
    """The error names the nearest model; an empty log has no truth."""
    message = "consumer.truth is 'factor', which is not a truth. Did you mean 'factors'"
    refused(ConfigError, message, truths.fit_truth, log, gap="30min", kind="factor")
    wrong = small_scenario(consumer=ConsumerConfig(truth="baq"))
    refused(ConfigError, "consumer.truth is 'baq'", check_plugs, wrong)
    refused(ModelError, "at least one event", truths.fit_truth, log.rows(slice(0, 0)), gap="30min")


def test_a_bootstrap_has_each_drawn_user_as_often_as_he_was_drawn(log):
    """Copies are users of their own with all events of the user, and there are as many users as before."""
    times = truths.drawn_users(log.n_users, 3)
    assert times.sum() == log.n_users
    drawn = truths.resampled(log, times)
    assert drawn.n_users == log.n_users
    np.testing.assert_array_equal(np.sort(drawn.time), drawn.time)
    copies = np.repeat(np.arange(log.n_users), times)
    for copy, user in enumerate(copies.tolist()):
        np.testing.assert_array_equal(drawn.item[drawn.user == copy], log.item[log.user == user])


def test_a_factor_of_items_moves_their_shares_and_not_the_session():
    """p* of a truth with item biases is that of the fitted one times their exponentials, over what is admissible."""
    config = small_scenario()
    usual = world.build_world(config)
    bias = np.random.default_rng(0).normal(0, 1, usual.log.n_items)
    moved = dataclasses.replace(usual, truth=dataclasses.replace(usual.truth, item_bias=bias))
    markets = (Market(config, world=used_world) for used_world in (usual, moved))
    plain, biased = (market.open.visits(np.arange(50)).true_scores for market in markets)
    expected = plain[0] * np.exp(bias)
    np.testing.assert_allclose(biased[0], expected / expected.sum(1, keepdims=True), rtol=1e-4)
    np.testing.assert_array_equal(biased[1], plain[1])


def test_a_bootstrap_reaches_the_first_model_of_the_platform():
    """With ``truth_seed`` the platform's first model is that of the warm-up log's drawn users; without, of all."""
    config = small_scenario(platform=PlatformConfig(model="popularity-hp"))
    past = build_world(config).past
    drawn = truths.resampled(past, truths.drawn_users(past.n_users, 3))
    moved = dataclasses.replace(config, consumer=ConsumerConfig(truth="factors", truth_seed=3))
    states = UserStates.of(past, np.zeros(1, np.int64), np.inf)
    for setting, log in ((config, past), (moved, drawn)):
        fresh = make("popularity-hp", seed=0, device="cpu", gap="30min").fit(log)
        assert torch.equal(initial_model(setting, past, 0).score(states), fresh.score(states))


class _Later(Intensity):
    """Visitors who also take one of the last 40 items by themselves, up to four days after every second visit."""

    law = None

    def organic(self, visits):
        rows = []
        items = []
        for row, slot in zip(visits.row, visits.slot, strict=True):
            last = np.arange(visits.world.log.n_items)[-40:]
            unconsumed = np.setdiff1d(last, visits.histories.consumed(np.array([slot]))[1])
            if row % 2 == 0 and len(unconsumed):
                rows.append(row)
                items.append(unconsumed[row * 7919 % len(unconsumed)])
        days = np.array(rows, np.int64) % 5
        ticks = visits.schedule.tick[np.array(rows, np.int64)] + days * 86_400 * TICKS
        return Organic(np.array(rows, np.int64), ticks, np.array(items, np.int64))


@pytest.mark.parametrize("delay", [None, "1d"])
def test_a_truth_takes_each_event_once_in_whatever_order_they_come(delay):
    """With organic consumption later than a visit, p* is that of whole states, though events are entered before it."""
    consumer = ConsumerConfig(truth="bag", attraction=5.0, delay=delay)
    arrivals = ArrivalsConfig(per_round=900, max_visits=8)
    config = small_scenario(rounds=1, consumer=consumer, arrivals=arrivals)
    market = Market(config, consumer=_Later(config))
    later = 0
    for waiting in batches(market, 8):
        opened = market.open
        model = market.world.truth.model
        slots = market.schedule.slot[waiting.row]
        ticks = market.schedule.tick[waiting.row]
        counts = opened.histories.events.counts[slots]
        later += int((opened.histories.visible_at(slots, ticks + opened._wait - 1) < counts).sum())
        expected = model.score(opened.histories.states(slots, counts, ticks)).numpy()
        row, item = opened.histories.consumed(slots, counts)
        expected[row, item] = 0.0
        expected /= np.maximum(expected.sum(1, keepdims=True), 1e-9)  # some have taken everything
        np.testing.assert_allclose(opened.visits(waiting.row).true_scores[0], expected, atol=1e-5)
        waiting.admissible[:, -40:] = False  # of what is served
    assert later > 0
