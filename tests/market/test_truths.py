"""Truths and the hidden worth of items: what is fitted, chosen, hidden, and left as it is."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit import MODEL, cases, refused
from kit.markets import batches, small_cold_start, small_scenario

from rimsim.arrays import ALWAYS, NEVER, TICKS
from rimsim.config import (
    ArrivalsConfig,
    ConsumerConfig,
    HiddenConfig,
    PlatformConfig,
    at_seed,
    override,
    to_plain,
)
from rimsim.data import later_sessions
from rimsim.errors import ConfigError, ModelError
from rimsim.intensity import UserStates, softmax
from rimsim.intensity.registry import make
from rimsim.intensity.selection.held_out import HeldOut, Worth
from rimsim.intensity.selection.shrinkage import for_all, for_slates
from rimsim.intensity.sets.factors import UserFactors
from rimsim.market import Market, Needs, build_world, fitted, world
from rimsim.market.consumers import Intensity, Organic, truths
from rimsim.market.consumers.hidden_quality import hidden_bias
from rimsim.market.consumers.preference import TruthScores
from rimsim.market.consumers.session_sizes import SessionSizes, _Sizes, fit_sizes
from rimsim.market.fitted import kept_truth
from rimsim.market.world import check_plugs, initial_model
from rimsim.matching import top_k
from rimsim.measures import long_tail
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


# -- what any truth says ------------------------------------------------------------------------------------------


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
    (
        "truth.json",
        lambda content: content.replace(b'"shrinkage"', b'"ridge"'),
    ),  # as an older version wrote it
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
    n_seen = n_returning = 0
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
        n_seen = n_seen + len(arrivals)
        n_returning = n_returning + int((counts > 0).sum())
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


# -- what is chosen -----------------------------------------------------------------------------------------------


def test_the_weights_of_a_truth_are_those_for_slates(log):
    """A truth is asked about slates; its regularisation is chosen by the likelihood at its largest."""
    model = truths.truth_model("bag", "30min", 4).fit(log)
    held = HeldOut.of(log, "30min", 0)
    shrinkage = model.shrinkage
    base = [part.astype(np.float32) for part in model._impersonal(held.past)]
    by_strength = dict(model._scored(held, model.grid, log))
    weights = for_slates(held, (by_strength[shrinkage.strength], *base))
    personal = shrinkage.personal / shrinkage.rescaling
    assert [personal, shrinkage.popularity, shrinkage.returning] == pytest.approx(weights.tolist())
    nats = {}
    for strength, scores in by_strength.items():
        personal, popularity, returning = for_all(held, (scores, *base)).tolist()
        nats[strength] = held.worth(personal * scores + popularity * base[0] + returning * base[1]).nats
    assert shrinkage.log_likelihood == pytest.approx(nats[shrinkage.strength])
    assert shrinkage.log_likelihood == pytest.approx(max(nats.values()), abs=0.02)


def test_a_log_of_strangers_gets_a_truth_of_which_nothing_is_claimed(log):
    """Where nobody comes back nothing is held out: figures are NaN, and no user is counted."""
    first = np.unique(log.user, return_index=True)[1]
    truth = truths.fit_truth(log.rows(np.sort(first)), gap=1800.0, rank=2)
    assert (truth.kind, truth.report.users) == ("factors", 0)
    assert np.isnan(truth.report.log_likelihood)
    assert not truth.report.candidates


def test_the_truth_is_chosen_by_the_likelihood_of_later_sessions(log):
    """``auto`` takes the likeliest candidate where the other is behind by more than one error."""
    report = truths.fit_truth(log, gap="30min", rank=4).report
    alone = {kind: truths.fit_truth(log, gap="30min", kind=kind, rank=4).report for kind in truths.CANDIDATES}
    assert {candidate.kind for candidate in report.candidates} == set(truths.CANDIDATES)
    for candidate in report.candidates:
        mine = alone[candidate.kind]
        assert (candidate.log_likelihood, candidate.precision) == (mine.log_likelihood, mine.precision)
    first, second = report.candidates
    assert report.kind == first.kind
    assert report.log_likelihood == first.log_likelihood > report.popularity_log_likelihood
    assert (first.behind, first.behind_error) == (0.0, 0.0)
    assert second.behind == pytest.approx(first.log_likelihood - second.log_likelihood)
    assert second.behind > second.behind_error > 0
    assert alone["bag"].candidates[0].behind == 0.0


def test_candidates_are_compared_by_fits_that_sample_if_fits_to_the_whole_log_do(log, monkeypatch):
    """The size of the whole log, and not that of its past, decides whether a compared candidate is sampled."""
    monkeypatch.setattr(softmax, "MANY_PAIRS", len(log) * log.n_items - 1)
    monkeypatch.setattr(UserFactors, "_train", None)  # what fits without a sample call
    assert truths.fit_truth(log, gap="30min", kind="factors", rank=2).report.candidates


@cases("behind chosen", (0.9, "bag"), (1.1, "factors"))
def test_agreement_decides_among_candidates_that_are_as_likely(log, behind, chosen, monkeypatch):
    """Within one standard error of the likeliest, the candidate that orders slates as later sessions do is taken."""
    held = HeldOut.of(log, "30min", 0)
    fitted = {kind: truths.truth_model(kind, "30min", 4).fit(log) for kind in truths.CANDIDATES}
    sizes, _ = fit_sizes(log, "30min", None)
    monkeypatch.setattr(Worth, "behind", lambda self, best: (0.0, 0.0) if self is best else (behind, 1.0))
    likelier = fitted["factors"]
    worths = []
    worth = HeldOut.worth
    monkeypatch.setattr(HeldOut, "worth", lambda *now: worths.append(worth(*now)) or worths[-1])
    monkeypatch.setattr(Worth, "nats", property(lambda self: float(self is worths[0])))
    monkeypatch.setattr(truths, "_preference_of", lambda model, _: model)
    monkeypatch.setattr(truths, "_agreement", lambda _, model, __: float(model is not likelier))
    ranking = truths._candidates(held, fitted, sizes, "30min", 4)
    assert ranking[0].kind == chosen
    assert [candidate.agreement for candidate in ranking] == ([1.0, 0.0] if chosen == "bag" else [None, None])


def test_agreement_is_that_of_settled_pairs():
    """Slates that users took more of must be worth more; pairs that chance may order do not count."""
    source = np.random.default_rng(0)
    hits = [0.3 + 0.1 * source.random(50), 0.1 + 0.1 * source.random(50), 0.15 + 0.1 * source.random(50)]
    hits.append(hits[0] + source.normal(0, 0.1, 50) - 0.001)
    slates = [(np.tile([2 * n, 2 * n + 1], (50, 1)), Worth(rate, rate, rate)) for n, rate in enumerate(hits)]
    share = np.tile([0.3, 0.1, 0.05, 0.05, 0.02, 0.02, 0.01, 0.01], (50, 1))
    # Settled: 0 > 1, 0 > 2, 2 > 1, 3 > 1, 3 > 2, of which the law has the first two.
    assert truths._agreement(slates, share, np.ones(50)) == pytest.approx((2 - 3) / 5)
    assert truths._agreement(slates[::3], share, np.ones(50)) is None
    ends = zip(([0, 7], [7, 0]), slates, strict=False)
    turned = [(np.tile(pair, (50, 1)), worth) for pair, (_, worth) in ends]
    assert truths._agreement(turned, share, np.ones(50)) == 1.0  # what stands first is looked at most


def test_the_error_of_a_difference_is_that_over_users():
    """The gap is a mean over items taken; twice the users have the same gap, and its error by the root of two."""
    source = np.random.default_rng(0)
    taken = source.integers(1, 9, 40).astype(float)
    first, second = (Worth(taken, -taken * source.random(40), taken) for _ in range(2))
    gap, error = second.behind(first)
    differences = first.by_user - second.by_user
    assert gap == pytest.approx(differences.sum() / taken.sum())
    assert error == pytest.approx(np.sqrt(((differences - gap * taken) ** 2).sum()) / taken.sum())
    twice = [Worth(taken, np.tile(each.by_user, 2), np.tile(taken, 2)) for each in (first, second)]
    assert twice[1].behind(twice[0]) == pytest.approx((gap, error / 2**0.5))
    assert first.behind(first) == (0.0, 0.0)


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


# -- λ* ---------------------------------------------------------------------------------------------------------


def test_sizes_add_up_to_the_logs_own(log):
    """Σλ* over the log's sessions is the number of their events, first and later sessions apart."""
    sizes, report = fit_sizes(log, "30min", later_sessions(log))
    sessions = log.sessions("30min")
    states = UserStates.of(log, sessions.user, sessions.start)
    expected = sizes.expected(sessions.user, states)
    first = states.lengths == 0
    assert first.any()
    assert (~first).any()
    for selected in (first, ~first):
        assert expected[selected].sum() == pytest.approx(sessions.count[selected].sum(), rel=1e-9)
    assert report.mean == pytest.approx(sessions.count.mean())
    expected = report.first, report.later
    assert expected == pytest.approx([sessions.count[selected].mean() for selected in (first, ~first)])


def test_the_shrinkage_of_many_sessions_is_chosen_on_those_of_some_users(log, monkeypatch):
    """Whole users are drawn, whose sessions are as many as wanted at most; λ* is still everyone's."""
    everyone, report = fit_sizes(log, "30min", None)
    sessions = len(log.sessions("30min"))
    assert report.left_out_sessions == sessions
    monkeypatch.setattr("rimsim.market.consumers.session_sizes._SESSIONS", sessions // 2)
    fitted_sizes, thinner = fit_sizes(log, "30min", None)
    assert sessions // 3 < thinner.left_out_sessions <= sessions // 2
    assert thinner.mean == pytest.approx(report.mean)
    if thinner.shrinkage == report.shrinkage:
        np.testing.assert_array_equal(fitted_sizes.effect, everyone.effect)
    visits = np.bincount(log.sessions("30min").user, minlength=log.n_users)
    drawn = _Sizes(log, "30min").of_some_users(sessions // 2)
    among = np.unique(drawn.user)
    assert np.bincount(drawn.user, minlength=log.n_users)[among].tolist() == visits[among].tolist()


def test_session_sizes_are_held_to_the_states_that_the_log_has():
    """Beyond the bounds of recency and of the number of events, λ* is what it is at the bound."""
    bounds = np.log(np.array([[1.0 + 8, 1.0 + 500], [1.0 / 24, 100.0]]))
    sizes = SessionSizes(np.array([0.5, 1.0, -0.3, 0.1, 0.2, 0.05]), np.array([2.0]), bounds)

    def expected(events: int, days: float) -> float:
        times = np.full(events, -86_400.0 * days)
        states = UserStates(np.array([0, events]), np.zeros(events, np.int64), times, np.zeros(1))
        return float(sizes.expected(np.array([0]), states)[0])

    def law(events: float, days: float) -> float:
        n = np.log(1.0 + events)
        r = np.log(days)
        return 2.0 * np.exp(1.0 - 0.3 * n + 0.1 * n**2 + 0.2 * r + 0.05 * r**2)

    assert expected(60, 3.0) == pytest.approx(law(60, 3.0))
    assert expected(1, 1e-4) == pytest.approx(law(8, 1 / 24))
    assert expected(2000, 1e4) == pytest.approx(law(500, 100.0))
    assert expected(0, 0.0) == pytest.approx(2.0 * np.exp(0.5))


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


SEEN = np.arange(200) % 5 > 0  # items that a made-up warm-up log has met


def _events(seed):
    """Events of 200 items, a few of them with most."""
    return np.random.default_rng(seed).geometric(0.02, 200) * np.arange(1, 201) // 60


def _played(hidden, scenario=small_cold_start):
    """A market, its truth revealed, and the first batch of its arrivals."""
    config = scenario(rounds=1, consumer=ConsumerConfig(truth="factors", rank=4, hidden=hidden))
    market = Market(config, needs=Needs(truth=True))
    return market, market.next_arrivals(64)


@given(
    rho=st.floats(-1, 0.99),
    sd=st.one_of(st.none(), st.floats(0.05, 3)),
    of=st.sampled_from(["all", "new", "tail"]),
    seed=st.integers(0, 99),
)
def test_correlation_and_spread_are_those_asked_for(rho, sd, of, seed):
    """Among the items chosen both are exact and their events' worth adds up; other items keep theirs."""
    events = _events(seed)
    bias = hidden_bias(HiddenConfig(rho=rho, sd=sd, of=of, seed=seed), events, SEEN)
    chosen = {"all": SEEN | True, "new": ~SEEN, "tail": long_tail(events)}[of]
    popularity = np.log(events[chosen] + 1.0)
    worth = popularity + bias[chosen]
    assert worth.std() == pytest.approx(sd or popularity.std())
    assert np.corrcoef(worth, popularity)[0, 1] == pytest.approx(rho, abs=1e-9)
    assert np.exp(worth).sum() == pytest.approx(np.exp(popularity).sum())
    assert not bias[~chosen].any()


def test_nothing_hidden_is_the_truth_as_it_was_fitted():
    """At ρ = 1, whatever the spread, no item has a factor and scores have the same bits; the rest moves them."""
    _, plain = _played(HiddenConfig())
    market, off = _played(HiddenConfig(sd=2.0, seed=3))
    assert market.world.truth.item_factor is None
    np.testing.assert_array_equal(plain.true_intensity, off.true_intensity)
    _, moved = _played(HiddenConfig(rho=0.0))
    assert not np.allclose(plain.true_intensity, moved.true_intensity)


def test_the_sum_of_intensities_stays():
    """Items are worth something else, but every visitor takes as many of the catalogue, and new ones alone may move."""
    _, plain = _played(HiddenConfig(), small_scenario)
    for hidden in (HiddenConfig(rho=0.0), HiddenConfig(rho=0.3, sd=2.0, of="tail")):
        _, moved = _played(hidden, small_scenario)
        sums = [arrivals.true_intensity.double().sum(1).numpy() for arrivals in (plain, moved)]
        np.testing.assert_allclose(*sums, rtol=1e-5)
    market, _ = _played(HiddenConfig(rho=0.0, of="new"))
    met = np.bincount(market.world.past.item, minlength=market.n_items) > 0
    assert market.world.truth.item_bias[~met].all()
    assert not market.world.truth.item_bias[met].any()


def test_hidden_quality_is_set_like_any_field():
    """``--set consumer.hidden.rho=0`` reaches the truth, and ``seed: seed`` draws another world at each seed."""
    base = small_scenario(consumer=ConsumerConfig(truth="factors", rank=4))
    config = override(base, {"consumer.hidden.rho": 0, "consumer.hidden.seed": "seed"})
    assert to_plain(config)["consumer"]["hidden"] == {"rho": 0.0, "sd": None, "of": "all", "seed": "seed"}
    biases = [build_world(at_seed(config, seed)).truth.item_bias for seed in (0, 1)]
    popularity = np.log(np.bincount(build_world(base).log.item) + 1.0)
    for bias in biases:
        assert np.corrcoef(popularity + bias, popularity)[0, 1] == pytest.approx(0, abs=1e-9)
    assert not np.allclose(*biases)


def test_what_cannot_be_hidden_is_refused():
    """No item is new, or the consumer has no truth whose items could be worth anything else."""
    hidden = HiddenConfig(rho=0.5, of="new")
    new = small_scenario(consumer=ConsumerConfig(truth="factors", rank=4, hidden=hidden))
    refused(ConfigError, "consumer.hidden.of: 'new' selects only 0 items of this market", build_world, new)
    replay = small_scenario(consumer=ConsumerConfig(kind="replay", hidden=HiddenConfig(rho=0.0)))
    refused(ConfigError, "consumer.hidden: consumer.kind 'replay' has no fitted truth", Market, replay)


@given(late=st.lists(st.booleans(), min_size=20, max_size=20), rho=st.sampled_from([1.0, 0.5]))
def test_what_nobody_can_be_shown_takes_nothing_from_what_is_shown(late, rho):
    """Whichever items are still to come, the others are worth the same to the bit, and the rest is outside."""
    market, arrivals = _played(HiddenConfig(rho=rho), small_scenario)
    visits = market.open.visits(arrivals.row)
    share, size = visits.true_scores
    release = np.where(np.resize(late, market.n_items), NEVER, ALWAYS)
    scores = TruthScores.of_round(market.world.truth, visits.histories, visits.schedule, 0, release)
    shares, sizes = scores.of(visits.row)
    np.testing.assert_array_equal(size, sizes)
    np.testing.assert_array_equal(shares, np.where(release == NEVER, np.float32(0), share))
    assert share.sum(1) == pytest.approx(np.ones(len(share)), rel=1e-5)


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
        np.testing.assert_allclose(opened._true_scores(waiting.row)[0], expected, atol=1e-5)
        waiting.admissible[:, -40:] = False  # of what is served
    assert later > 0
