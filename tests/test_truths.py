"""Truths: what is chosen, what λ* comes to, and that one law decides what is consumed."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_markets import small_cold_start, small_scenario

from rimsim.config import ArrivalsConfig, ConsumerConfig
from rimsim.data import later_sessions
from rimsim.errors import ConfigError, ModelError
from rimsim.intensity import UserStates
from rimsim.intensity.popularity import log_returning
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import for_all, for_slates
from rimsim.market import Market, Needs, world
from rimsim.market.consumers import truths
from rimsim.market.consumers.contract import Candidate, Truth
from rimsim.market.consumers.session_sizes import SessionSizes, _Sizes, fit_sizes
from rimsim.market.consumers.truth_bag import BagTruth, _Chosen
from rimsim.market.consumers.truth_factors import fit_factors, left_by_past
from rimsim.market.consumers.truth_fits import JudgedTruth, behind, climb, judged
from rimsim.market.consumers.truths import _drawn_users, _resampled, fit_truth, load_truth, save_truth
from rimsim.market.histories import LoggedPast
from rimsim.market.world import kept_truth
from rimsim.matching import top_k
from rimsim.testing import random_log

KINDS = ["factors", "bag"]


@pytest.fixture(scope="module")
def log():
    """A small log whose users come back."""
    return random_log(n_users=60, n_items=40)


@pytest.fixture(scope="module", params=KINDS)
def truth(request, log):
    """A truth of each class."""
    return fit_truth(log, gap="30min", kind=request.param, rank=4)


def _states(log):
    users = np.arange(log.n_users)
    return users, UserStates.of(log, users, np.linspace(log.time[0], log.time[-1], log.n_users))


# -- what any truth says ------------------------------------------------------------------------------------------


def test_a_truth_is_a_law_for_any_state(truth, log):
    """Preferences are distributions over the catalogue, and a session's size is positive."""
    users, states = _states(log)
    assert isinstance(truth, Truth)
    rows = truth.preference(users, states)
    assert rows.shape == (log.n_users, log.n_items)
    assert rows.dtype == np.float64
    assert (rows >= 0).all()
    assert rows.sum(1) == pytest.approx(np.ones(len(users)))
    assert (truth.expected(users, states) > 0).all()


def test_a_truth_is_read_as_it_was_written(truth, log, tmp_path):
    """The folder holds all of it: preferences, sizes and the report."""
    users, states = _states(log)
    save_truth(truth, tmp_path)
    again = load_truth(tmp_path)
    assert again.kind == truth.kind
    np.testing.assert_array_equal(again.preference(users, states), truth.preference(users, states))
    np.testing.assert_array_equal(again.expected(users, states), truth.expected(users, states))
    np.testing.assert_equal(dataclasses.asdict(again.report), dataclasses.asdict(truth.report))


@pytest.mark.parametrize(("name", "keep"), [("truth.json", 0), ("truth.json", 40), ("truth.safetensors", 90)])
def test_a_damaged_truth_is_fitted_again(truth, log, name, keep, tmp_path, monkeypatch):
    """A file of the cache that was cut off says so in one of our errors, and the next run replaces it."""
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path))
    monkeypatch.setattr(world, "fit_truth", lambda *_, **__: truth)
    words = {"gap": 1800.0, "kind": truth.kind, "rank": 4}
    kept_truth(log, **words)
    (path,) = tmp_path.rglob(name)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="no truth there, or a damaged one"):
        load_truth(path.parent)
    assert kept_truth(log, **words) is truth
    monkeypatch.setattr(world, "fit_truth", None)
    assert repr(kept_truth(log, **words).report) == repr(truth.report)


def test_a_bootstrap_is_another_truth_about_the_same_users(truth, log):
    """Fitted to a bootstrap, every user of the log has preferences of its own; what was chosen stays."""
    users, states = _states(log)
    drawn = [fit_truth(log, gap="30min", kind=truth.kind, rank=4, bootstrap=seed) for seed in (0, 0, 1)]
    rows = [one.preference(users, states) for one in drawn]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.allclose(rows[0], rows[2])
    assert not np.allclose(rows[0], truth.preference(users, states))
    assert [one.report.bootstrap for one in drawn] == [0, 0, 1]
    assert {(one.report.ridge, one.report.personal) for one in drawn} == {
        (truth.report.ridge, truth.report.personal)
    }
    assert len(drawn[0].sizes.effect) == log.n_users


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scenario", [small_scenario, small_cold_start])
@pytest.mark.parametrize("draw", ["sessions", "users"])
def test_one_law_decides_what_is_consumed(kind, scenario, draw):
    """Probabilities, draws and true intensities follow p* over what is unconsumed and released, times λ*."""
    arrivals = ArrivalsConfig(per_round=120, max_visits=3, draw=draw)
    consumer = ConsumerConfig(truth=kind, delay="1h", attraction=3.0)
    config = scenario(rounds=2, arrivals=arrivals, consumer=consumer)
    market = Market(config, needs=Needs(truth=True))
    truth, release = market.world.truth, market.world.release
    assert truth.kind == kind
    seen = again = 0
    draws = torch.Generator().manual_seed(0)
    while not market.done:
        arrivals = market.next_arrivals(7)
        visits = market.open.visits(arrivals.index)
        counts = visits.histories.events.counts[visits.slot]
        ticks = visits.schedule.tick[visits.row]
        states = visits.histories.states(visits.slot, counts, ticks)
        share = truth.preference(visits.log_user, states)
        share[visits.consumed()] = 0.0
        share[release[None, :] > ticks[:, None]] = 0.0
        ground = truth.sizes.of_visits(visits, 3_600_000_000)
        fresh = counts == 0
        assert ground[fresh] == pytest.approx(truth.expected(visits.log_user, states)[fresh], rel=1e-12)
        expected = share / np.maximum(share.sum(1, keepdims=True), 1e-12) * ground[:, None]
        assert arrivals.true_intensity.numpy() == pytest.approx(expected, rel=2e-5, abs=1e-7)
        wanted = torch.rand(arrivals.relevance.shape, generator=draws).mul(arrivals.admissible).topk(5)
        items = torch.where(wanted.values > 0, wanted.indices, -1).numpy()
        opened, number = market.open, market.round
        market.serve(arrivals, items)
        ledger = (opened if market.round == number else market.closed[-1]).ledger
        intensity = np.take_along_axis(arrivals.true_intensity.numpy(), np.maximum(items, 0), 1) * (
            items >= 0
        )
        probability = 1 - np.exp(-intensity * 0.85 ** np.arange(config.slate) * 3.0)
        assert ledger.probability[arrivals.index] == pytest.approx(probability, rel=1e-5, abs=1e-9)
        latent = visits.uniform(items)
        np.testing.assert_array_equal(
            ledger.consumed[arrivals.index], latent < ledger.probability[arrivals.index]
        )
        seen, again = seen + len(arrivals), again + int((counts > 0).sum())
    assert seen == 240
    assert again > (10 if draw == "users" else 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("draw", ["sessions", "users"])
def test_results_depend_on_no_batch_and_no_wave(kind, draw):
    """One at a time, in large batches, and in waves, the same is consumed with the same probabilities, to the bit."""

    def ledger(limit, in_waves):
        arrivals = ArrivalsConfig(per_round=150, max_visits=3, draw=draw)
        consumer = ConsumerConfig(truth=kind, attraction=4.0)
        market = Market(small_scenario(rounds=2, arrivals=arrivals, consumer=consumer))
        while not market.done:
            served = market.next_arrivals(limit, in_waves=in_waves)
            market.serve(served, top_k(served.relevance, served.admissible, market.config.slate))
        return [closed.ledger for closed in market.closed], [closed.relevant for closed in market.closed]

    (alone, sizes), *others = (ledger(*way) for way in ((1, False), (64, False), (None, True)))
    for ledgers, relevant in others:
        for one, other in zip(alone, ledgers, strict=True):
            for field in ("item", "consumed", "probability"):
                np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        np.testing.assert_array_equal(np.concatenate(sizes), np.concatenate(relevant))


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_of_visits_are_those_of_their_states(kind):
    """λ* of a visit is that of its state, whether it is asked before it is served or when the round is over."""
    arrivals, consumer = ArrivalsConfig(per_round=400), ConsumerConfig(truth=kind, attraction=5.0)
    market = Market(small_scenario(rounds=1, arrivals=arrivals, consumer=consumer))
    truth, found = market.world.truth, {}
    opened = market.open
    assert truth.shares(opened.visits(np.arange(0))).shape == (0, market.n_items)
    while not market.done:
        arrivals = market.next_arrivals(5)
        visits = opened.visits(arrivals.index)
        ticks = visits.schedule.tick[visits.row]
        states = visits.histories.states(visits.slot, visits.histories.events.counts[visits.slot], ticks)
        size = truth.sizes.of_visits(visits, 0)
        assert size == pytest.approx(truth.expected(visits.log_user, states), rel=1e-12)
        found |= dict(zip(arrivals.index.tolist(), size.tolist(), strict=True))
        market.serve(arrivals, top_k(arrivals.relevance, arrivals.admissible, market.config.slate))
    assert opened.histories.events.counts.max() > 1
    np.testing.assert_array_equal(market.closed[0].relevant, [found[row] for row in range(len(found))])


# -- what is chosen -----------------------------------------------------------------------------------------------


def test_what_is_taken_from_the_cut_on_is_judged(log):
    """Likelihood and precision agree with sums over users and items, one by one."""
    held, later = HeldOut.of(log, "30min", 0), later_sessions(log, gap="30min", seed=0)
    logit = np.random.default_rng(0).normal(size=(log.n_users, log.n_items))
    total, number, precision = 0.0, 0, []
    for user in held.user.tolist():
        known = set(later.past.item[later.past.user == user].tolist())
        new = set(later.future.item[later.future.user == user].tolist()) - known
        left = [item for item in range(log.n_items) if item not in known]
        weight = np.exp(logit[user, left])
        total += sum(np.log(weight[left.index(item)] / weight.sum()) for item in new)
        number += len(new)
        best = sorted(left, key=lambda item: -logit[user, item])[:10]
        precision.append(len(new & set(best)) / 10)
    assert held.nats(held.log_likelihood(logit[held.user])) == pytest.approx(total / number, rel=1e-6)
    assert held.precision(logit[held.user]).mean() == pytest.approx(np.mean(precision), rel=1e-6)


def test_the_weights_of_a_candidate_are_those_for_slates(log):
    """A truth is asked about slates; candidates are compared by the likelihood at its largest."""
    held = HeldOut.of(log, "30min", 0)
    a, c, d = fit_factors(held.past, 4, 3.0)
    personal, returning = a[held.user] @ c.T, log_returning(held.past, "30min", 0.5)
    best = judged(held, "factors", 3.0, personal, d, "30min").candidate
    parts = [np.asarray(part, np.float32) for part in (personal, d, returning)]
    weights = for_slates(held, parts)
    assert [best.personal, best.popularity, best.returning] == weights.tolist()

    def logit(weights):
        return weights[0] * personal + weights[1] * d + weights[2] * returning

    assert best.precision == pytest.approx(held.precision(logit(weights)).mean(), rel=1e-5)
    largest = held.nats(held.log_likelihood(logit(for_all(held, parts))))
    assert best.log_likelihood == pytest.approx(largest, rel=1e-5)
    assert largest >= held.nats(held.log_likelihood(logit(weights)))


@pytest.mark.parametrize("top", range(7))
@pytest.mark.parametrize("start", [0, 3, 6])
def test_the_grid_is_followed_uphill_to_its_end(top, start):
    """Of a likelihood with one top the top is found, wherever the search begins; an end of the grid is reported."""
    ridges = tuple(10.0**power for power in range(7))

    def judged(ridge):
        height = -abs(np.log10(ridge) - top)
        return JudgedTruth(Candidate("any", ridge, 1.0, 1.0, 0.0, height, 0.0), np.zeros(0))

    found, at_end = climb(judged, ridges, start)
    assert found[0].candidate.ridge == ridges[top]
    assert len({one.candidate.ridge for one in found}) == len(found)
    assert at_end == (top in {0, 6})


def test_a_log_of_strangers_gets_a_truth_of_which_nothing_is_claimed(log):
    """Where nobody comes back nothing is held out: figures are NaN, and no user is counted."""
    first = np.unique(log.user, return_index=True)[1]
    truth = fit_truth(log.rows(np.sort(first)), gap=1800.0, rank=2)
    assert truth.kind == "factors"
    assert truth.report.users == 0
    assert np.isnan(truth.report.log_likelihood)
    assert not truth.report.candidates


def test_the_class_is_chosen_by_the_likelihood_of_later_sessions(log):
    """``auto`` takes the class whose best candidate is likeliest, and its report holds the candidates of both."""
    found = fit_truth(log, gap="30min", rank=4).report
    alone = [fit_truth(log, gap="30min", kind=kind, rank=4).report for kind in KINDS]
    assert {one.kind for one in found.candidates} == set(KINDS)
    best = max(alone, key=lambda report: report.log_likelihood)
    assert (found.kind, found.ridge, found.log_likelihood) == (best.kind, best.ridge, best.log_likelihood)
    assert found.candidates[0].log_likelihood == found.log_likelihood
    assert found.log_likelihood > found.popularity_log_likelihood
    assert found.behind == pytest.approx(abs(alone[0].log_likelihood - alone[1].log_likelihood))
    assert found.behind_error > 0
    assert np.isnan(alone[0].behind)


def test_candidates_of_all_classes_stand_best_first(monkeypatch):
    """Whatever class they are of; and of each class it is told whether its best lies at the end of its grid."""
    tops = {"factors": (-1.0, 2.0), "bag": (-0.5, 3.0)}

    def of(kind):
        def judge(_held, ridge, *_):
            height, top = tops[kind]
            return JudgedTruth(
                Candidate(kind, ridge, 1.0, 1.0, 0.0, height - abs(ridge - top), 0.0), np.zeros(0)
            )

        return SimpleNamespace(ridges=(1.0, 2.0, 3.0), start=1, judge=judge)

    monkeypatch.setattr(truths, "TRUTHS", {kind: of(kind) for kind in tops})
    found, at_end = truths._judged_all("states", list(tops), "30min", 2)
    assert [one.candidate.log_likelihood for one in found] == [-0.5, -1.0, -1.5, -2.0, -2.0, -2.5]
    assert (found[0].candidate.kind, found[0].candidate.ridge) == ("bag", 3.0)
    assert at_end == {"factors": False, "bag": True}


def test_the_error_of_a_difference_is_that_over_users(log):
    """Twice the users, each the same twice, have the difference of one time, and its error by the root of two."""
    held = HeldOut.of(log, "30min", 0)
    number = (held.taken > 0).sum(1)
    one, other = (
        JudgedTruth(None, -number * np.random.default_rng(seed).random(len(number))) for seed in range(2)
    )
    gap, error = behind(held, one, other)
    differences = one.by_user - other.by_user
    assert gap == pytest.approx(differences.sum() / number.sum())
    twice = dataclasses.replace(held, taken=np.concatenate([held.taken] * 2))
    doubled = [JudgedTruth(None, np.concatenate([each.by_user] * 2)) for each in (one, other)]
    assert behind(twice, *doubled) == pytest.approx((gap, error / 2**0.5))
    assert behind(held, one, one) == (0.0, 0.0)


def test_a_bag_is_the_mark_model_of_that_name(log):
    """Preferences are what the model scores; they move with what was consumed and not with who the user is."""
    best = Candidate("bag", 1e-4, 0.8, 0.6, 0.3, 0.0, 0.0)
    model = _Chosen.of("30min").fit_as(log, log, JudgedTruth(best, np.zeros(0)), None)
    read, predicted, bias = (model.served(name).numpy() for name in ("read", "predicted", "bias"))
    truth = BagTruth(read, np.ascontiguousarray(predicted.T), bias, sizes=None, report=None)
    users, states = _states(log)
    rows = truth.preference(users, states)
    assert rows == pytest.approx(model.score(states).numpy(), rel=1e-4)
    np.testing.assert_array_equal(rows, truth.preference(users[::-1], states))
    for row in range(5):
        np.testing.assert_array_equal(truth.preference(users[:1], states.take([row]))[0], rows[row])
    lengths = states.lengths
    assert not np.allclose(rows[lengths > 3][0], rows[lengths == lengths.min()][0])


def test_an_unknown_truth_is_refused(log):
    """The error names the classes there are; an empty log has no truth."""
    with pytest.raises(ConfigError, match="allowed: auto, factors"):
        fit_truth(log, gap="30min", kind="factor")
    with pytest.raises(ModelError, match="at least one event"):
        fit_truth(log.rows(slice(0, 0)), gap="30min")


def test_a_bootstrap_has_each_drawn_user_as_often_as_he_was_drawn(log):
    """Copies are users of their own with all events of the user, and there are as many users as before."""
    times = _drawn_users(log.n_users, 3)
    assert times.sum() == log.n_users
    drawn = _resampled(log, times)
    assert drawn.n_users == log.n_users
    np.testing.assert_array_equal(np.sort(drawn.time), drawn.time)
    copies = np.repeat(np.arange(log.n_users), times)
    for copy, user in enumerate(copies.tolist()):
        np.testing.assert_array_equal(drawn.item[drawn.user == copy], log.item[log.user == user])


# -- λ* ---------------------------------------------------------------------------------------------------------


def test_sizes_add_up_to_the_logs_own(log):
    """Σλ* over the log's sessions is the number of their events, first and later sessions apart."""
    sizes, report = fit_sizes(log, "30min", later_sessions(log))
    sessions = log.sessions("30min")
    states = UserStates.of(log, sessions.user, sessions.start)
    found = sizes.expected(sessions.user, states)
    first = states.lengths == 0
    assert first.any()
    assert (~first).any()
    for some in (first, ~first):
        assert found[some].sum() == pytest.approx(sessions.count[some].sum(), rel=1e-9)
    assert report.mean == pytest.approx(sessions.count.mean())


def test_sizes_of_a_known_law_are_found():
    """Where first sessions have ten events and later ones two, λ* is ten and two."""
    log = random_log(n_users=50, n_items=40)
    user = np.repeat(np.arange(50), 10 + 2 * 4)
    visit = np.tile(np.r_[np.zeros(10), np.repeat([1, 2, 3, 4], 2)], 50)
    time = visit * 86_400.0 + user + np.tile(np.arange(18), 50)
    order = np.argsort(time, kind="stable")
    made = dataclasses.replace(
        log,
        user=user[order],
        item=(user[order] * 7 + order) % 40,
        time=time[order],
        value=np.ones(900, np.float32),
    )
    sizes, report = fit_sizes(made, "30min", None)
    sessions = made.sessions("30min")
    states = UserStates.of(made, sessions.user, sessions.start)
    expected = np.where(states.lengths == 0, 10.0, 2.0)
    assert sizes.expected(sessions.user, states) == pytest.approx(expected, rel=1e-3)
    assert (report.first, report.later) == (10.0, 2.0)
    assert report.left_out_ratio_first == pytest.approx(1, abs=0.01)
    assert report.left_out_ratio_later == pytest.approx(1, abs=0.01)


def test_the_shrinkage_of_many_sessions_is_chosen_on_those_of_some_users(log, monkeypatch):
    """Whole users are drawn, whose sessions are as many as wanted at most; λ* is still everyone's."""
    everyone, report = fit_sizes(log, "30min", None)
    sessions = len(log.sessions("30min"))
    assert report.left_out_sessions == sessions
    monkeypatch.setattr("rimsim.market.consumers.session_sizes._SESSIONS", sessions // 2)
    some, thinner = fit_sizes(log, "30min", None)
    assert sessions // 3 < thinner.left_out_sessions <= sessions // 2
    assert thinner.mean == pytest.approx(report.mean)
    if thinner.shrinkage == report.shrinkage:
        np.testing.assert_array_equal(some.effect, everyone.effect)
    visits = np.bincount(log.sessions("30min").user, minlength=log.n_users)
    drawn = _Sizes(log, "30min").of_some_users(sessions // 2)
    among = np.unique(drawn.user)
    assert np.bincount(drawn.user, minlength=log.n_users)[among].tolist() == visits[among].tolist()


def test_what_is_left_of_p_is_one_minus_what_was_consumed(log):
    """After each event of a user, Σ p* of the rest is 1 less that of its distinct items."""
    truth = fit_truth(log, gap="30min", kind="factors", rank=4)
    past = LoggedPast.of(log)
    left = left_by_past(past.offsets, past.items, truth.factors)
    rows = truth.preference(*_states(log))
    for user in range(log.n_users):
        items = past.items[past.offsets[user] : past.offsets[user + 1]]
        for events in range(len(items) + 1):
            gone = rows[user, sorted(set(items[:events].tolist()))].sum()
            assert left[past.offsets[user] + user + events] == pytest.approx(1 - gone, abs=1e-12)


def test_session_sizes_are_held_to_the_states_that_the_log_has():
    """Beyond the bounds of recency and of the number of events, λ* is what it is at the bound."""
    bounds = np.log(np.array([[1.0 + 8, 1.0 + 500], [1.0 / 24, 100.0]]))
    sizes = SessionSizes(np.array([0.5, 1.0, -0.3, 0.1, 0.2, 0.05]), np.array([2.0]), bounds)

    def expected(events: int, days: float) -> float:
        times = np.full(events, -86_400.0 * days)
        states = UserStates(np.array([0, events]), np.zeros(events, np.int64), times, np.zeros(1))
        return float(sizes.expected(np.array([0]), states)[0])

    def law(events: float, days: float) -> float:
        n, r = np.log(1.0 + events), np.log(days)
        return 2.0 * np.exp(1.0 - 0.3 * n + 0.1 * n**2 + 0.2 * r + 0.05 * r**2)

    assert expected(60, 3.0) == pytest.approx(law(60, 3.0))
    assert expected(1, 1e-4) == pytest.approx(law(8, 1 / 24))
    assert expected(2000, 1e4) == pytest.approx(law(500, 100.0))
    assert expected(0, 0.0) == pytest.approx(2.0 * np.exp(0.5))
