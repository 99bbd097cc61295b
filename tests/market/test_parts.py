"""Small parts of the market, each against what it should say of every case."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kit import calls_of, cases, refused, same_arrays
from kit.markets import market_of, small_replay, small_scenario
from scipy.optimize import minimize

from rimsim import config as records
from rimsim.agents import make_agent, play_round
from rimsim.agents.past_states import joined_states
from rimsim.agents.prices import solved_prices
from rimsim.arrays import ALWAYS, NEVER
from rimsim.config.fields import duration_seconds
from rimsim.errors import AgentError, MarketError, ModelError
from rimsim.intensity import FactorsConfig
from rimsim.intensity.contract import BLOCK
from rimsim.intensity.selection.shrinkage import Shrinkage
from rimsim.intensity.sets.factors import UserFactors
from rimsim.market import Market, Slates, build_world
from rimsim.market import market as market_module
from rimsim.market.arrivals import RoundsSoFar, checked_schedule, make_arrivals
from rimsim.market.arrivals.clones import Clones
from rimsim.market.consumers import session_sizes as fitting
from rimsim.market.consumers.session_sizes import fit_sizes
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.past_round import PastRound
from rimsim.market.providers import Roster
from rimsim.market.records import VISIT_BITS, as_slates
from rimsim.market.scores.scorer import Scorer, _normalised
from rimsim.market.training_log import training_log
from rimsim.matching import certificate, top_k
from rimsim.requirements.audiences import RoundVisits
from rimsim.requirements.campaigns import ExpectedRound, Guarantee
from rimsim.requirements.rows import CarryOver, ScenarioRequirements, _row, item_floors, uniform_share
from rimsim.scenarios.study.certificates import HindsightPrices, certified, prepare_certificate
from rimsim.testing import random_log


@pytest.fixture(scope="module")
def schedule():
    """A round's arrivals that can be played, and what their process was told."""
    config = small_scenario()
    so_far = RoundsSoFar(build_world(config), 0)
    return checked_schedule(make_arrivals(config).round(0, so_far), 0, so_far), so_far


def _changed(column, place, value):
    changed = column.copy()
    changed[place] = value
    return changed


@cases(
    "field place value message",
    ("tick", 0, "start-1", "ticks from"),
    ("tick", -1, "stop+1", "ticks from"),
    ("tick", 1, "start", "not in clock order"),
    ("id", 3, "same", "two arrivals with the same id"),
    ("slot", 3, -1, "an arrival whose slot does not exist"),
    ("slot", 3, "slots", "an arrival whose slot does not exist"),
    ("log_user", 0, -1, "a slot whose user is not in the log"),
    ("log_user", 0, "users", "a slot whose user is not in the log"),
    ("user", 0, "same", "two slots for one user"),
    ("user", 0, 7, "ids that are not ids of a user's visits"),
    ("shift", 0, np.nan, "a past whose shift is not finite"),
    ("shift", slice(None), 1e10, "a past that is moved beyond the visitor's first visit"),
)
def test_a_schedule_that_cannot_be_played_is_refused(schedule, field, place, value, message):
    """Each column is looked at to its ends, which themselves are allowed."""
    good, so_far = schedule
    values = {
        "start-1": good.start - 1,
        "start": good.start,
        "stop+1": good.stop + 1,
        "same": getattr(good, field)[1],
        "slots": len(good.user),
        "users": so_far.world.log.n_users,
    }
    column = _changed(getattr(good, field), place, values.get(value, value))
    bad = dataclasses.replace(good, **{field: column})
    refused(MarketError, f"arrivals of round 4: .*{message}", checked_schedule, bad, 4, so_far)
    new = dataclasses.replace(good, logged=np.zeros_like(good.user))  # whose pasts can be moved nowhere
    for end, at in (("start", 0), ("stop", -1)):
        edge = _changed(good.tick, at, getattr(good, end))
        assert checked_schedule(dataclasses.replace(new, tick=edge), 4, so_far).tick is edge


@pytest.mark.parametrize("field", ["tick", "id", "slot", "session", "user", "log_user", "logged", "earlier"])
def test_a_column_of_no_whole_numbers_is_refused(schedule, field):
    """Ticks, ids and all that is counted are integers."""
    good, so_far = schedule
    column = np.zeros(len(good.user)) if field == "earlier" else getattr(good, field).astype(float)
    bad = dataclasses.replace(good, **{field: column})
    refused(MarketError, f"{field} of type float64. Expected whole numbers", checked_schedule, bad, 0, so_far)


def test_a_round_begins_after_what_is_over(schedule):
    """None but past states is before the opening or the round before's end; ids and shifts may be any where told."""
    good, so_far = schedule
    day = 86_400_000_000
    moved = {name: getattr(good, name) - day for name in ("tick", "start", "stop")}
    early = dataclasses.replace(good, **moved, shift=good.shift - 86_400.0)
    message = f"start at tick {early.start}. .*{good.start} µs, when the market opens"
    refused(MarketError, message, checked_schedule, early, 0, so_far)
    assert checked_schedule(early, -1, so_far) is early
    past = PastRound(0, good, Histories(good, LoggedPast.of(so_far.world.past)))
    after = dataclasses.replace(so_far, past=(past,))
    refused(MarketError, f"from {good.stop} µs, when the round before ends", checked_schedule, good, 1, after)
    past_ids = dataclasses.replace(good, id=np.arange(len(good)), earlier=np.zeros_like(good.user))
    assert checked_schedule(past_ids, 0, so_far) is past_ids
    moved = dataclasses.replace(good, shift=good.shift + 1e9)
    refused(MarketError, "moved beyond", checked_schedule, moved, 0, so_far)
    assert checked_schedule(moved, 0, so_far, LoggedPast.of(so_far.world.past, empty=True)) is moved


def test_first_visits_are_those_of_whom_nothing_is_known(schedule):
    """Nor are later visits, whether ids count them or the process says how often users came in earlier rounds."""
    good, so_far = schedule
    logged = np.arange(so_far.world.log.n_users) % 3
    with_repeats = dataclasses.replace(good, id=good.id + np.arange(len(good)) % 2, logged=None)
    for schedule_so_far, logged_here in ((with_repeats, None), (with_repeats, np.arange(len(good.user)) % 2)):
        visits = dataclasses.replace(schedule_so_far, logged=logged_here).visits(logged)
        visit = schedule_so_far.id % 2**VISIT_BITS
        assert set(visit.tolist()) > {0}
        n_known = logged[schedule_so_far.log_user][schedule_so_far.slot]
        n_known = n_known if logged_here is None else np.minimum(n_known, logged_here[schedule_so_far.slot])
        np.testing.assert_array_equal(visits.first, (n_known == 0) & (visit == 0))
        assert 0 < visits.first.sum() < len(visits.first)
    earlier = np.arange(len(good.user)) % 2
    nobody = np.zeros(len(good.user), np.int64)
    schedule_so_far = dataclasses.replace(good, id=good.id + 256, logged=nobody, earlier=earlier)
    visits = schedule_so_far.visits(np.zeros(so_far.world.log.n_users, np.int64))
    seen = set(np.flatnonzero(earlier).tolist())
    for first, slot in zip(visits.first, good.slot.tolist(), strict=True):
        assert first == (slot not in seen)
        seen.add(slot)


def test_what_is_wrong_with_an_answer_is_told_with_its_shape():
    """One entry a slate, or one for each position: the message says how many were wanted."""
    items = np.zeros((3, 2), np.int64)
    for fields, message in (
        ({"uniform": np.ones(2, bool)}, r"uniform has shape \(2,\). Expected \(3,\), one entry per slate"),
        ({"price": np.zeros((3, 1))}, r"price has shape \(3, 1\). Expected .*\(3, 2\)"),
        ({"propensity": np.zeros((3, 1))}, r"propensity has shape \(3, 1\). Expected .*\(3, 2\)"),
    ):
        refused(AgentError, message, as_slates, Slates(items, **fields))


def test_a_roster_has_no_item_of_nobody():
    """Providers are numbered from 0 to G − 1, and all that is said of them has G entries."""
    for provider, fits in ((-1, False), (0, True), (1, True), (2, False)):
        roster = Roster(np.array([0, provider, 1]), ("a", "b"), np.ones(2, bool), np.zeros(2))
        if fits:
            assert roster.checked(3) is roster
        else:
            refused(MarketError, "Expected provider numbers from 0 to 1", roster.checked, 3)
    uneven = Roster(np.zeros(3, int), ("a", "b"), np.ones(1, bool), np.zeros(2))
    refused(MarketError, r"have the lengths \[1, 2\]", uneven.checked, 3)


def test_a_platform_without_rounds_learns_from_its_warm_up_log_alone():
    """With inverse propensities too: no event of it has one, so all count alike."""
    log = random_log(n_users=30, n_items=20)
    window = records.LogWindow(warmup="all")
    platform = records.PlatformConfig(model="popularity-hp", learning="ips", log_window=window)
    learnt = training_log(platform, log, [], 0, 0)
    assert learnt.weight is None
    np.testing.assert_array_equal(np.sort(learnt.item), np.sort(log.item))
    nothing = dataclasses.replace(platform, log_window=records.LogWindow(warmup="none"))
    assert len(training_log(nothing, log, [], 0, 0)) == 0


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


class Early(Clones):
    """The market opens when half of the log is over."""

    def opening(self, log):
        """As clones open, after the first half."""
        return super().opening(log.rows(slice(0, len(log) // 2)))


def test_a_world_is_shared_unless_the_market_has_plugs_of_its_own():
    """Two markets of one scenario stand on one world; one with arrivals of its own opens as these say."""
    config = small_scenario()
    usual = Market(config).world
    early_world = Market(config, arrivals=Early(config)).world
    assert Market(config).world is usual
    assert early_world.opening < usual.opening
    assert len(early_world.past) == len(usual.log) // 2


CAMPAIGNS = [
    {"name": "again", "items": {"genres": "Thriller"}, "share": 0.3, "audience": {"visits": "returning"}},
    {"name": "new", "items": {"genres": "Comedy"}, "share": 0.2, "audience": {"visits": "first"}},
]
GROUPS = [{"column": "genres", "values": ["Horror"], "beta": 0.5}]


def test_exposures_of_some_arrivals_count_as_they_do_among_all():
    """What is delivered to parts of a round adds up: in each row, what its audience was shown of its items."""
    exposure = records.scenario_from({"exposure": {"campaigns": CAMPAIGNS}}).exposure
    promised = Market(small_scenario(exposure=exposure)).open.requirements
    table = promised.table
    counted = promised.counted
    k = len(promised.position_weights)
    n = len(counted)
    m = len(promised.required)
    draw = np.random.default_rng(0)
    slates = np.stack([draw.permutation(m)[:k] for _ in range(n)])
    part = draw.permutation(n)[: n // 3]
    rest = np.setdiff1d(np.arange(n), part)
    parts = [promised.delivered(slates[rows], rows) for rows in (part, rest)]
    assert parts[0] + parts[1] == pytest.approx(promised.delivered(slates))
    for row in range(len(table)):
        shown = np.isin(slates, table.items(row)) @ promised.position_weights
        audience = table.audience[row]
        counts = counted[:, audience] if audience >= 0 else np.ones(n)
        assert parts[0][row] == pytest.approx((shown * counts)[part].sum())
    assert set(table.audience.tolist()) >= {0, 1}


@pytest.mark.parametrize("size", [1, 7, 50])
def test_a_sample_of_past_states_is_spread_evenly(size):
    """Every column is cut to the same rows, the middles of so many equal stretches."""
    past = Market(small_scenario()).round_view().past.past
    n = len(past.id)
    past = dataclasses.replace(past, capacity=np.arange(n) % 5, audiences=np.arange(n)[:, None] % 3 > 0)
    assert n > size
    rows = ((np.arange(size) + 0.5) * n / size).astype(int)
    sample = past.sampled(size)
    for name in ("id", "tick", "user", "capacity", "audiences"):
        np.testing.assert_array_equal(getattr(sample, name), getattr(past, name)[rows])
    for sampled, column in zip(sample.visits[:3], past.visits[:3], strict=True):
        np.testing.assert_array_equal(sampled, column[rows])
    np.testing.assert_array_equal(sample.states(np.arange(size))[0].items, past.states(rows)[0].items)
    assert past.sampled(n) is past
    assert dataclasses.replace(past, capacity=None, audiences=None).sampled(size).capacity is None


def test_what_is_owed_is_carried_to_the_end_of_its_period():
    """A period's second round takes over what is owed, not of items that left; campaigns are owed throughout."""
    fields = {"per": "14d", "campaigns": CAMPAIGNS, "groups": GROUPS}
    exposure = records.scenario_from({"exposure": fields}).exposure
    market = Market(small_scenario(exposure=exposure))
    opened = market.open
    week = 7 * 86_400 * 1_000_000
    table = ScenarioRequirements(market.config, market.world.campaign_tables, market.seeds.arrivals)
    visits = opened.schedule.visits(np.zeros(market.world.log.n_users, np.int64))
    opening = opened.requirements.start
    n_rows = len(opened.requirements.carry_over.rows)
    groups = n_rows - len(CAMPAIGNS)
    assert groups > 0

    release = np.where(np.arange(market.n_items) == 3, NEVER, market.release)  # its provider has left
    usual = {"forecast": 1.0, "capacity": None, "release": release}
    usual["position_weights"] = np.ones(market.config.slate)

    def accrued(number, owed):
        start = opening + number * week
        return table.round(number, visits.moved_to(start, start + week), owed, **usual).carry_over

    for number in range(1, 6):
        start = opening + (number - 1) * week
        nothing = CarryOver(np.zeros(market.n_items), np.zeros(n_rows), start)
        owed = CarryOver(nothing.items + 2.0, np.arange(1.0, 1.0 + n_rows), start)
        fresh = accrued(number, nothing)
        carried = accrued(number, owed)
        is_carried = np.arange(n_rows) >= (0 if number % 2 else groups)
        assert carried.items - fresh.items == pytest.approx(2.0 * (number % 2) * (release < NEVER))
        assert carried.rows - fresh.rows == pytest.approx(owed.rows * is_carried)


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


@pytest.mark.parametrize("wrong", [-0.1, np.nan, np.inf])
def test_a_model_that_says_no_intensity_is_told_with_the_arrival(wrong):
    """A number that is negative, infinite or none is an error, but not in the padding of a block."""
    ids = np.arange(70, 75)
    ticks = np.arange(5)
    release = np.full(6, ALWAYS)

    def normalised():
        return _normalised(intensity, lambda *_: None, ids, ticks, release, SimpleNamespace())

    intensity = torch.rand(BLOCK, 6, generator=torch.Generator().manual_seed(0))
    p, rate, _ = normalised().tensors
    torch.testing.assert_close(rate, intensity.sum(1))
    torch.testing.assert_close(p * rate[:, None], intensity)
    intensity[7, 0] = wrong
    normalised()
    intensity[3, 4] = wrong
    refused(ModelError, "in the state of arrival 73. Expected finite", normalised)


@pytest.mark.parametrize("window", [(0, 40), (10, 30), (35, 60), (60, 90)])
def test_what_a_round_adds_to_a_promise_is_its_part_of_it(window):
    """A share of positions or of the uniform exposure; of a number, the part of its time that the round has."""
    visits = SimpleNamespace(tick=np.arange(20, 50, 5), start=20, stop=50)
    ahead = ExpectedRound(visits, np.arange(1.0, 7.0), np.array([0.5, 1.5, 2.5, 3.5]), 1.5)
    begin, end = window
    counts = lambda visitors: (begin <= visitors.tick) & (visitors.tick < end)  # noqa: E731
    whose = SimpleNamespace(begin=begin, end=end, counts=counts)
    here = [begin <= tick < end for tick in range(20, 50, 5)]
    items = np.array([1, 3])
    group = Guarantee("group", items, beta=0.5)
    assert group.required(ahead) == pytest.approx(0.5 * 5.0)
    rows = [_row(group, ahead, owed, 0.25) for owed in (-2.0, 0.4, 0.5, 1.6)]  # below 0: delivered beforehand
    assert [row.min_exposure for row in rows] == [0.0, 0.0, 0.25, 0.5]
    part = Guarantee("share", items, audience=whose, share=0.2)
    assert part.required(ahead) == pytest.approx(0.2 * ahead.positions[here].sum())
    number = Guarantee("number", items, audience=whose, exposures=100)
    within = sum(1 for tick in range(20, 50) if begin <= tick < end)
    assert number.required(ahead) == pytest.approx(100 * within / (end - begin))
    assert ahead.arrivals(None) == 9.0
    assert ahead.arrivals(whose) == 1.5 * sum(here)


@pytest.mark.parametrize("limit", [1, 20])
def test_visits_are_scored_ahead_once_while_nothing_happens(limit, monkeypatch):
    """Whole blocks of users' next visits come first, then their later ones, until something is consumed."""
    config = small_scenario(rounds=1, arrivals=records.ArrivalsConfig(per_round=400, max_visits=3))
    market = Market(config)
    calls = calls_of(monkeypatch, Scorer, "score")
    platform_scorer = market.open._scores._scorer  # of the platform; that of the truth scores too
    while not market.done:
        arrivals = market.next_arrivals(limit)
        market.serve(arrivals, np.full((len(arrivals), config.slate), -1))
    scored = [call["ids"] for call in calls if call["self"] is platform_scorer]
    assert [len(ids) for ids in scored] == [BLOCK, BLOCK, BLOCK, 400 - 3 * BLOCK]
    assert len(np.unique(np.concatenate(scored))) == 400
    assert (scored[0] % 2**VISIT_BITS == 0).all()


def test_episodes_of_a_replay_share_their_scores(monkeypatch):
    """Each arrival is scored once for all markets with equal arrivals and models, and the results are the same."""
    monkeypatch.setattr("rimsim.market.scores.arrivals._AHEAD", 1)
    blocks = calls_of(monkeypatch, Scorer, "score")
    medians = calls_of(monkeypatch, market_module, "median_kth_score")
    arrivals = records.ArrivalsConfig(kind="replay", warmup_share=0.8)
    config = small_replay(arrivals=arrivals, rounds=1)

    def served(market, n_served):
        while not market.done and market.served < n_served:
            now = market.next_arrivals(20)
            market.serve(now, top_k(now.relevance, now.admissible, config.slate))
        return market

    half = served(Market(config), BLOCK + 20)  # ends in the second of three blocks
    assert sum(len(block["ids"]) for block in blocks) == 2 * BLOCK
    uninterrupted = served(Market(config, seeds=records.Seeds(arrivals=1, choice=1)), BLOCK * 99)
    assert len(uninterrupted.closed[0].schedule) > 2 * BLOCK
    assert sorted(np.concatenate([block["ids"] for block in blocks])) == sorted(
        uninterrupted.closed[0].schedule.id
    )
    assert len(medians) == 1
    served(half, BLOCK * 99)
    unshared = served(Market(config, model=Market(config).model), BLOCK * 99)  # a given model shares nothing
    assert len(medians) == 2
    for market in (half, uninterrupted):
        same_arrays(
            market.closed[0].ledger, unshared.closed[0].ledger, "item", "intensity", "ground", "consumed"
        )
    assert half.cost == uninterrupted.cost == unshared.cost


@pytest.mark.parametrize("items", [None, 2, 9])
@pytest.mark.parametrize("each", [None, 4, 12])
def test_items_are_asked_for_by_how_many_arrivals_they_are_there_for(items, each):
    """Of some items drawn by seed, or all: each within one of its part, never above what comes after it."""
    n = 10
    positions = 37
    beta = 0.6
    nobody = np.zeros(n, np.int64)
    visits = RoundVisits(np.arange(100, 200, 10), nobody, nobody == 1, start=100, stop=200)
    release = np.array([ALWAYS, 100, 101, 150, 151, 190, 199, 200, 300])
    n_later = np.array([10, 10, 9, 5, 4, 1, 0, 0, 0])
    part = (
        (positions * n_later / n_later.sum() * beta)
        if each is None
        else np.minimum(each * n_later / n, n_later)
    )
    assert uniform_share(visits, positions, release) == pytest.approx(positions * n_later / n_later.sum())
    drawn = set()
    for number in range(30):
        exposure = SimpleNamespace(items=items, each=each, beta=beta)
        floors = item_floors(exposure, visits, positions, release, number)
        chosen = np.flatnonzero(floors)
        drawn.add(tuple(chosen.tolist()))
        assert len(chosen) <= min(items or 6, 6)
        assert (floors <= n_later).all()
        assert (floors[chosen] <= np.ceil(part[chosen])).all()
        assert (floors[chosen] >= np.floor(part[chosen])).all()
        repeated = item_floors(exposure, visits, positions, release, number)
        assert floors.tolist() == repeated.tolist()
        if items is None:
            assert floors.sum() == round(part.sum())
    assert (len(drawn) > 5) == (items == 2)
    early_release = release[:2]
    all_there = item_floors(exposure, visits, positions, early_release, 0)
    if items is None and each is None:
        assert all_there.sum() == round(beta * positions)


def _held(monkeypatch, config, states):
    """Hold so many states of a scenario's catalogue at once."""
    monkeypatch.setattr("rimsim.market.scores.past.MOST_CELLS", states * Market(config).n_items)


@pytest.mark.parametrize("scenario", [small_scenario, small_replay])
def test_a_sample_of_past_states_is_even_and_scored_as_before(scenario, monkeypatch):
    """Agents see every so many-th state, with the scores that it has among all, and how many it stands for."""
    market = Market(scenario())

    def seen(past):
        return {
            arrival: row for chunk in past for arrival, row in zip(chunk.id, chunk.intensity, strict=True)
        }

    all_rows = seen(market.round_view().past)
    _held(monkeypatch, scenario(), 40)
    view = market.round_view()
    assert view.n_past_arrivals == len(all_rows)
    sampled = seen(view.past)
    assert len(sampled) == len(view.past) == 40
    assert all((row == all_rows[arrival]).all() for arrival, row in sampled.items())


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_a_round_that_is_certified_on_a_sample_has_a_bound_no_lower(unit, monkeypatch):
    """V is that of all states, and D(w) at prices of a sample is a bound: none lies below the least one."""
    config = small_scenario(rounds=1, exposure=records.ExposureConfig(unit=unit))
    market = Market(config)
    agent = make_agent("rim-dual")
    play_round(market, agent, 32)
    on_all = certified(market.closed[0], HindsightPrices())
    _held(monkeypatch, config, 50)
    on_sample = certified(market.closed[0], HindsightPrices())
    assert on_sample.value == pytest.approx(on_all.value, rel=1e-9)
    assert on_sample.bound >= on_all.bound * (1 - 2e-3)
    assert on_sample.bound <= on_all.bound * 1.1


@cases("n_states cap", (30, None), (10_000, None), (30, 15))
def test_a_replay_has_the_same_certificate_if_it_is_noted_while_served(n_states, cap, monkeypatch):
    """Value, bound and prices of a replay are equal to the bit, and its states are not scored again."""
    config = small_replay(user_cap=cap)
    proofs = []
    _held(monkeypatch, config, n_states)
    for noted in (False, True):
        market = Market(config)
        agent = make_agent("rim-dual")
        hindsight = HindsightPrices()
        if noted:
            prepare_certificate(market, hindsight)
        play_round(market, agent)
        closed = market.closed[0]
        if noted:
            closed = dataclasses.replace(closed, states=dataclasses.replace(closed.states, models=None))
        proofs.append(dataclasses.asdict(certified(closed, hindsight)))
    np.testing.assert_equal(*proofs)


@pytest.mark.parametrize("states", [20, 30])
def test_a_sample_with_less_than_an_exposure_for_an_item_has_prices_too(states, monkeypatch):
    """Prices of a few states bound all states' value nearly as well as their own, and far better than no prices."""
    config = small_scenario(exposure=records.ExposureConfig(unit="shown", beta=0.3))
    view = Market(config).round_view()
    all_states = joined_states(view.past, view.k)
    floor = view.required * (len(all_states.scores) / view.arrivals)
    assert floor.mean() * states / len(all_states.scores) < 1.5
    slates = np.full((len(all_states.scores), view.k), -1)

    def bound(price):
        return certificate(
            all_states.scores,
            slates,
            all_states.capacity,
            floor,
            price,
            view.cost,
            position_weights=view.position_weights,
        ).bound

    best = bound(solved_prices(view, 1e-3)[0])
    none = bound(0.0)
    _held(monkeypatch, config, states)
    sampled = bound(solved_prices(Market(config).round_view(), 1e-3)[0])
    assert best * 0.999 <= sampled <= best + 0.2 * (none - best)


def test_hindsight_of_too_large_a_round_is_refused_with_the_figure(monkeypatch):
    """A plan of a whole round holds all of its scores; the refusal says how many arrivals there may be."""
    config = small_replay()
    agent, market = market_of("hindsight", config)
    _held(monkeypatch, config, 30)
    message = "Expected at most 30 arrivals per round with this number of items"
    refused(AgentError, message, agent.begin_round, market.round_view())
