"""Experiments on one market and off-policy estimators, against enumerations and whole worlds."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy
from kit import cases, refused, said_by
from kit.markets import drawn, in_file, small_run, small_scenario

from rimsim import scenarios
from rimsim.agents import make_agent, play_round
from rimsim.config import ArrivalsConfig, ExposureConfig, PlatformConfig
from rimsim.errors import ConfigError
from rimsim.evaluation import ESTIMATORS, Chances, LoggedSlates, estimated
from rimsim.evaluation.designs import DESIGNS, Assignment, Outcome, contrast
from rimsim.market import Market
from rimsim.market.slates import count_items
from rimsim.measures.loop import late_rounds
from rimsim.scenarios import load_run
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds.evaluate import estimates, replayed, summary, true_values
from rimsim.scenarios.kinds.experiment import effects
from rimsim.scenarios.kinds.experiment.arms import (
    Diverted,
    TwoArms,
    WorldRound,
    merged,
    play_experiment,
    play_world,
)
from rimsim.scenarios.kinds.experiment.report import experiment_report

HOUR = 3600.0


def _scenario(**changes):
    """Two rounds of 80 arrivals."""
    fields = {"rounds": 2, "slate": 3, "arrivals": ArrivalsConfig(per_round=80, max_visits=3)}
    return small_scenario(**(fields | changes))


def _nothing(count):
    """Nobody wants to know how far it is."""


def _played(agents, design, *, diverted=False, shared=False, **changes):
    assignment, about = Assignment(design, 0, 6 * HOUR), {"diverted": diverted, "shared": shared}
    return play_experiment(_scenario(**changes), 0, agents, assignment, **about, report=_nothing), assignment


def test_assignment_is_a_fair_coin_that_never_changes():
    """Half the visitors, items and blocks of the clock are in arm B, within four standard errors, as often as asked."""
    users = np.arange(10_000)
    for design in DESIGNS:
        one = Assignment(design, 3, HOUR)
        treated = one.arrivals(users, users * HOUR, 1)
        if design == "item":
            assert not treated.any()
        else:
            assert abs(treated.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(users))
        assert np.array_equal(one.arrivals(users[5:9], users[5:9] * HOUR, 1), treated[5:9])
        items = one.items(10_000)
        assert abs(items.mean() - 0.5) < 0.02 if one.by_item else not items.any()
        # Visitor n of one round is another person than visitor n of the next, so half of the numbers change arms.
        changed = np.mean(one.arrivals(users, users * HOUR, 2) != treated)
        assert changed == pytest.approx(0.0 if design in {"item", "switchback"} else 0.5, abs=0.02)
    one, time = Assignment("switchback", 0, HOUR), np.arange(1000) * 60.0
    treated, block = one.arrivals(np.arange(1000), time, 0), one.block(time)
    assert all(len(set(treated[block == each])) == 1 for each in np.unique(block))


def test_merged_slates_keep_the_ranks_of_their_arms():
    """An item of B stands where B put it among items of A where A put them; what is missing is filled up."""
    treated = np.array([False, False, False, True, True, True])
    a, b = np.array([[0, 3, 1], [3, 4, 5]]), np.array([[3, 0, 4], [0, 1, 2]])
    found = merged(a, b, treated)
    assert found[0].tolist() in ([0, 3, 1], [3, 0, 1])
    assert sorted(found[1].tolist()) == [3, 4, 5]
    same = merged(a, a, treated)
    assert np.array_equal(same, a)


def test_merged_slates_give_each_arm_the_first_place_in_turn():
    """Of two items of one rank, that of arm A stands first in even rows, and that of arm B in odd rows."""
    treated = np.array([False, False, False, True, True, True])
    control = np.array([[0, 1, 2], [0, 1, 2], [2, 0, 1]])
    treatment = np.array([[3, 4, 5], [3, 4, 5], [5, 3, 4]])
    assert merged(control, treatment, treated).tolist() == [[0, 3, 1], [3, 0, 4], [2, 5, 0]]


def _outcome(seed, effect, design):
    """Made-up outcomes, in which B adds so much to each position of its own unit."""
    draw = np.random.default_rng(seed)
    n, k, m = 1_000, 3, 60
    treated, treated_item = draw.random(n) < 0.5, draw.random(m) < 0.5
    item = np.argsort(draw.random((n, m)), axis=1)[:, :k]
    unit = np.arange(n) // 2
    treated = treated[unit]
    shift = treated_item[item] if design == "item" else treated[:, None]
    if design == "two-sided":
        shift = shift & treated_item[item]
    chance = 0.2 + effect * shift + 0.05 * draw.random(m)[item]
    return Outcome((draw.random((n, k)) < chance).astype(float), item, unit, treated, treated_item)


@pytest.mark.parametrize("design", DESIGNS)
def test_estimates_have_their_effect_and_their_coverage(design):
    """Without interference, over 200 data sets the mean estimate is the effect and 90 to 99% of intervals hold it."""
    for effect in (0.0, 0.1):
        found = [contrast(design, _outcome(seed, effect, design)) for seed in range(200)]
        values = np.array([one.naive for one in found])
        assert values.mean() == pytest.approx(3 * effect, abs=4 * values.std() / np.sqrt(200) + 1e-9)
        covered = np.mean([one.low <= 3 * effect <= one.high for one in found])
        assert 0.90 <= covered <= 0.995


def test_an_interval_is_welchs_where_each_unit_has_one_arrival():
    """SciPy's t test of unlike variances has the same interval for what came of visitors who came once."""
    outcome, unit = _outcome(5, 0.1, "user"), np.arange(40)
    treated, value = unit % 5 == 0, outcome.value[:40]
    few = dataclasses.replace(outcome, value=value, item=outcome.item[:40], unit=unit, treated=treated)
    each = value.sum(1)
    theirs = scipy.stats.ttest_ind(each[treated], each[~treated], equal_var=False).confidence_interval()
    np.testing.assert_allclose(contrast("user", few)[1:], theirs, rtol=1e-12)


def test_few_units_have_a_wide_interval():
    """With 14 intervals of the clock, each with a level of its own, 93 to 98% of 1,000 intervals hold the effect."""
    draw, covered = np.random.default_rng(0), []
    unit, item = np.repeat(np.arange(14), 20), np.zeros((280, 1), int)
    for _ in range(1_000):
        treated = np.arange(14) < draw.integers(4, 11)
        value = draw.normal(size=14)[unit, None] + draw.normal(size=(280, 1))
        found = contrast("switchback", Outcome(value, item, unit, treated[unit], np.zeros(1, bool)))
        covered.append(found.low <= 0 <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.98


def test_an_arm_of_one_unit_has_no_interval():
    """What one unit did says nothing of how units differ; such a seed counts neither for coverage nor for power."""
    outcome = _outcome(5, 0.1, "user")
    found = contrast("user", dataclasses.replace(outcome, treated=outcome.unit == 3))
    assert np.isfinite(found).tolist() == [True, False, False]
    row = {"design": "user", "training": "shared", "prices": "shared", "metric": "utility"}
    row["total_effect"] = 0.0
    seeds = [found._asdict() | {"seed": 0}, {"naive": 1.0, "low": 0.5, "high": 2.0, "seed": 1}]
    told = effects.summary(pd.DataFrame([row | seed for seed in seeds])).iloc[0]
    assert (told["coverage"], told["power"], told["seeds"]) == (0.0, 1.0, 2)


def test_a_two_sided_interval_counts_what_a_visitor_does_with_an_item_once():
    """Errors by visitor and by item are added, their common cells subtracted, in plain loops."""
    outcome = _outcome(3, 0.1, "two-sided")
    n, m = len(outcome.value), len(outcome.treated_item)
    share = outcome.treated.mean() * outcome.treated_item.mean()
    both = outcome.treated[:, None] & outcome.treated_item[outcome.item]
    cell = outcome.value * np.where(both, 1 / share, -1 / (1 - share))
    row, item = cell.sum(1), np.array([cell[outcome.item == one].sum() for one in range(m)])
    for arm in (True, False):
        row[outcome.treated == arm] -= row[outcome.treated == arm].mean()
        item[outcome.treated_item == arm] -= item[outcome.treated_item == arm].mean()
    visitor = np.array([row[outcome.unit == one].sum() for one in np.unique(outcome.unit)])
    spread = (visitor**2).sum() + (item**2).sum() - ((cell - cell.mean()) ** 2).sum()
    found = contrast("two-sided", outcome)
    assert found.naive == pytest.approx(cell.sum() / n)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * np.sqrt(spread) / n, rel=1e-6)


def _world(probability):
    """A round in which nothing was consumed, whatever its probability."""
    n, k = probability.shape
    item, nobody = np.tile(np.arange(k), (n, 1)), np.zeros((n, k), bool)
    return WorldRound(0, np.arange(n), np.arange(n), np.arange(n) * HOUR, item, nobody, probability)


def test_total_effects_are_of_probabilities():
    """Probabilities alone count, by exposure the tail, which is all but the most consumed tenth."""
    worlds = [[_world(np.full((4, 2), 0.1))], [_world(np.full((4, 2), 0.4))]]
    found = effects.total_effects(worlds, np.array([True, False]))
    assert found == pytest.approx({"utility": 0.6, "tail_exposure": 0.0})
    assert np.flatnonzero(~effects.tail_of(np.arange(30))).tolist() == [27, 28, 29]
    assert np.flatnonzero(~effects.tail_of(np.array([1, 5, 2]))).tolist() == [1]


@pytest.fixture(scope="module")
def alone():
    """The world of relevance alone."""
    return play_world(_scenario(), 0, "relevance", _nothing)


ARMS = [(one, diverted) for one in DESIGNS for diverted in (False, True) if not diverted or one != "item"]


@cases("design diverted", *ARMS)
def test_an_agent_against_itself_is_the_market_as_it_is(alone, design, diverted):
    """With both arms one agent that looks at no budget, and one log, slates are those of its own world."""
    rounds, _ = _played(("relevance", "relevance"), design, diverted=diverted)
    same = [np.array_equal(one.item, other.item) for one, other in zip(rounds, alone, strict=True)]
    assert same[0]
    assert same[1] or diverted  # a model of half the log ranks otherwise


def test_arms_act_on_their_own_arrivals(alone):
    """First visits of an arm are answered as in its agent's world, not the other's; one agent's world is one."""
    rounds, assignment = _played(("relevance", "random"), "user")
    one, other = rounds[0], play_world(_scenario(), 0, "random", _nothing)[0]
    treated = assignment.arrivals(one.user, one.time, 0)
    first = (one.arrival & 0xFFFF) == 0
    assert np.array_equal(one.item[treated & first], other.item[treated & first])
    assert (one.item[~treated & first] != other.item[~treated & first]).any()
    again = play_world(_scenario(), 0, "relevance", _nothing)
    assert effects.total_effects([alone, again], np.ones(500, bool))["utility"] == 0.0


@pytest.mark.parametrize("name", ["rim-feedback", "entropic-dual"])
def test_with_one_budget_agents_hear_of_each_other(name):
    """An agent that is told of another's delivery prices as if it were its own; so floors are kept, shared or split."""
    market, agents = Market(_scenario(rounds=1)), [make_agent(name) for _ in range(2)]
    view, arrivals, exposure = market.round_view(), market.next_arrivals(20), np.zeros(market.n_items)
    for agent in agents:
        agent.begin_round(view)
    slates = agents[0].act(arrivals)
    count_items(slates.items, np.ascontiguousarray(view.position_weights), exposure)
    agents[1].note_delivery(exposure, arrivals)
    np.testing.assert_array_equal(agents[1].item_price, agents[0].item_price)
    config = {"exposure": ExposureConfig(beta=0.5), "arrivals": ArrivalsConfig(per_round=200, max_visits=3)}
    for shared in (True, False) if name == "rim-feedback" else ():
        rounds, _ = _played((name, name), "user", shared=shared, rounds=1, **config)
        assert (np.bincount(rounds[0].item[rounds[0].item >= 0]) >= 1).mean() > 0.9


@cases("shared design part", (True, "user", 1), (False, "user", 2), (False, "item", 1))
def test_split_prices_give_each_arm_half_of_the_floors_and_of_the_arrivals(shared, design, part):
    """Where arrivals have arms and prices are split, each agent begins with half a world, else with all of it."""
    view, seen = Market(_scenario(rounds=1)).round_view(), []
    agent = SimpleNamespace(name="sees", order_free=True, barrier_every=None, begin_round=seen.append)
    arms = TwoArms([agent, agent], Assignment(design, 0, HOUR), shared=shared, n_items=len(view.required))
    arms.begin([view, view])
    assert len(seen) == 2
    for each in seen:
        assert np.array_equal(each.required, view.required / part)
        assert each.arrivals == view.arrivals // part


def test_diverted_training_has_the_events_and_impressions_of_its_own_arm_alone():
    """Of a round of random slates, the arm's visitors' events are left; others' impressions are empty, none taken."""
    learnt, assignment = [], Assignment("user", 0, HOUR)
    control = SimpleNamespace(learnt=lambda own: learnt.append(own) or own)
    market = Market(_scenario(platform=PlatformConfig(model="bag-visits")), control=control)
    play_round(market, make_agent("random"))
    (own,) = learnt
    users = own.schedule.user
    for treated in (True, False):
        found = Diverted(assignment, treated=treated).learnt(own)
        mine = assignment.arrivals(users, np.zeros(len(users)), 0) == treated
        columns = [map(np.ndarray.tolist, past.histories.all_events()) for past in (own, found)]
        events, kept = (sorted(zip(*each, strict=True)) for each in columns)
        assert kept == [event for event in events if mine[event[0]]]
        assert 0 < len(kept) < len(events)
        rows = mine[own.schedule.slot]
        assert own.shown.taken[rows].any()
        assert np.array_equal(found.shown.taken, own.shown.taken & rows[:, None])
        assert np.array_equal(found.shown.item, np.where(rows[:, None], own.shown.item, -1))


def test_agents_that_cannot_be_told_are_refused():
    """An agent that paces its delivery and has no ear for another's is named where prices are shared."""
    agents = [make_agent("relevance"), make_agent("rim-resolve")]
    said = "'rim-resolve' adapts its prices to its own deliveries"
    refused(ConfigError, said, TwoArms, agents, Assignment("user", 0, 1.0), shared=True, n_items=5)


def test_estimates_of_the_late_rounds():
    """An A/A experiment on a market estimates about nothing in both metrics."""
    rounds, assignment = _played(("random", "random"), "user")
    found = effects.estimates(rounds, assignment, np.ones(500, bool))
    assert found["utility"][1] <= 0 <= found["utility"][2]
    assert found["tail_exposure"][0] == pytest.approx(0.0, abs=1e-12)


@cases("design cluster", ("user", "user"), ("switchback", "block"))
def test_cluster_experiments_reads_the_arrivals_as_they_are(design, cluster):
    """With cluster-experiments installed, its clustered OLS of the late arrivals finds the naive estimates."""
    package = pytest.importorskip("cluster_experiments")
    rounds, assignment = _played(("relevance", "random"), design)
    tail = np.arange(500) > 20
    table = effects.arrivals_table(rounds, assignment, tail, 0)
    found = effects.estimates(rounds, assignment, tail)
    plan = {
        "metrics": [{"alias": name, "name": name} for name in ("target", "tail_exposure")],
        "variants": [{"name": "A", "is_control": True}, {"name": "B", "is_control": False}],
        "variant_col": "treatment",
        "analysis_type": "clustered_ols",
        "analysis_config": {"cluster_cols": [cluster]},
    }
    late = table[table["round"].isin(late_rounds(2))]
    results = package.AnalysisPlan.from_metrics_dict(plan).analyze(late).to_dataframe()
    results = results.set_index("metric_alias")
    for theirs, ours in (("target", "utility"), ("tail_exposure", "tail_exposure")):
        naive, low, high = found[ours][:3]
        assert results.loc[theirs, "ate"] == pytest.approx(naive, abs=1e-12)
        half = (results.loc[theirs, "ate_ci_upper"] - results.loc[theirs, "ate_ci_lower"]) / 2
        # Its interval has the normal's quantile, ours Student's, which is wider where clusters are few.
        half *= scipy.stats.t.ppf(0.975, late[cluster].nunique() - 2) / scipy.stats.norm.ppf(0.975)
        assert half == pytest.approx((high - low) / 2, rel=0.1)  # other corrections for few clusters


def test_the_command_leaves_tables_a_picture_and_a_folder_that_reports(tmp_path, capsys):
    """Designs are combined, nonsense left out; the folder can be reported again."""
    place, out = in_file(_scenario(), tmp_path), tmp_path / "run"
    words = f"experiment relevance epsilon-greedy --scenario {place} --out {out} --workers 1 --interval 6h"
    words += " --design user,item,switchback --training shared,diverted"
    with drawn():
        assert "total effect" in said_by(capsys, words).out
    done = scenarios.load_experiment(out)
    columns = "design training prices seed metric naive low high total_effect"
    assert list(done.table.columns) == columns.split()
    arms = {(design, training) for design in ("user", "switchback") for training in ("shared", "diverted")}
    found = set(zip(done.table["design"], done.table["training"], strict=True))
    assert found == arms | {("item", "shared")}
    assert {"user", "date", "treatment", "target"} <= set(done.arrivals.columns)
    assert (out / "pictures" / "experiment.png").is_file()
    for option in ([], ["--markdown"], ["--html"], ["--digest"]):
        assert main(["report", str(out), *option]) == 0
    one = load_run(out)
    one.config["seeds"], one.config["scenario"]["rounds"] = [0], 1
    assert experiment_report(one).setting[1:3] == ("1 round", "1 seed")


@cases(
    "option told",
    ("--interval 1q", "--interval: '1q' is not a duration"),
    ("--interval 0h", "is not positive"),
)
def test_an_option_that_is_none_is_told_in_one_line(option, told, tmp_path, capsys):
    """Status 2 and no folder, whatever is wrong with it."""
    words = f"experiment relevance random {option} --out {tmp_path / 'run'}"
    (err,) = said_by(capsys, words, 2).err.splitlines()
    assert err.startswith(f"rimsim: {option.split()[0]}: ")
    assert told in err
    assert not (tmp_path / "run").exists()


def test_an_unknown_design_is_refused_with_the_nearest_name(tmp_path, capsys):
    """The command line itself is wrong, so that nothing is loaded or written: one line, status 2."""
    with pytest.raises(SystemExit, match="2"):
        main(f"experiment relevance random --design users --out {tmp_path / 'run'}".split())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rimsim experiment: --design: 'users' is unknown. Did you mean 'user'?")
    assert not (tmp_path / "run").exists()


M, K = 5, 3
SLATES = np.array(list(itertools.permutations(range(M), K)))
"""All slates of three of five items."""


def _chances(law):
    """Chances of all slates under a law over them, by summing it."""
    inclusion, position, prefix = np.zeros((3, *SLATES.shape))
    for one, slate in enumerate(SLATES):
        for place, item in enumerate(slate):
            inclusion[one, place] = law[(item == SLATES).any(1)].sum()
            position[one, place] = law[SLATES[:, place] == item].sum()
            prefix[one, place] = law[(SLATES[:, : place + 1] == slate[: place + 1]).all(1)].sum()
    return Chances(inclusion, position, prefix, law)


def _law(seed, power=1.0):
    """A random law over all slates."""
    weight = np.random.default_rng(seed).random(len(SLATES)) ** power
    return weight / weight.sum()


def _log(logging, target, reward, *, uniform=False, predicted=None):
    """A log that holds each slate once."""
    n = len(SLATES)
    predicted = np.zeros((n, K)) if predicted is None else predicted
    chances = {"logging": _chances(logging), "target": _chances(target), "uniform": uniform}
    model = {"predicted": predicted, "predicted_target": np.full(n, target @ predicted.sum(1))}
    who = {"visitor": np.arange(n), "admissible": np.full(n, M)}
    return LoggedSlates(reward=reward, shown=np.ones((n, K), bool), **chances, **model, **who)


def _expected(name, logging, log):
    """What an estimator comes to on average under the logging law."""
    return logging @ ESTIMATORS[name](log).each


def _by_item():
    """Rewards that hang on the item alone."""
    return np.random.default_rng(1).random(M)[SLATES]


def _by_place():
    """Rewards that hang on the item and where it stands."""
    return np.random.default_rng(2).random((K, M))[np.arange(K), SLATES]


def _by_above():
    """Rewards that hang on the item and those above."""
    own = _by_item()
    return own * np.cumprod(np.hstack([np.ones((len(SLATES), 1)), 1 - 0.5 * own[:, :-1]]), axis=1)


def _by_slate():
    """Rewards that hang on the whole slate."""
    return np.random.default_rng(3).random(SLATES.shape)


UNIFORM = np.full(len(SLATES), 1 / len(SLATES))
LAWS = (_by_item, _by_place, _by_above, _by_slate)
RIGHT = {"ips": LAWS[:1], "item-position": LAWS[:2], "cascade": LAWS[:3], "slate": LAWS}
RIGHT |= {"pseudo-inverse": LAWS[:2], "doubly-robust": LAWS[:2]}
"""Estimator → rewards for which it is right, from the narrowest on."""


@cases("name reward", *((name, reward) for name, rewards in RIGHT.items() for reward in rewards))
def test_an_estimator_is_unbiased_where_it_says_so(name, reward):
    """Its mean over all slates under the logging law is the target's value, to rounding."""
    logging = UNIFORM if name == "pseudo-inverse" else _law(4)
    target = _law(5, power=3.0)
    came = reward()
    log = _log(logging, target, came, uniform=name == "pseudo-inverse", predicted=0.3 * _by_slate())
    if name == "doubly-robust":  # q̂ hangs on item and position, and may be anything
        q = np.random.default_rng(6).random((K, M))[np.arange(K), SLATES]
        log = _log(logging, target, came, predicted=q)
    assert _expected(name, logging, log) == pytest.approx(target @ came.sum(1), rel=1e-10)


@cases(
    "name reward",
    *(("ips", _by_place), ("item-position", _by_above), ("cascade", _by_slate), ("product", _by_place)),
)
def test_an_estimator_is_biased_beyond_that(name, reward):
    """Where rewards hang on more than it allows for, its mean is off by more than .2%."""
    logging, target, came = _law(4), _law(5, power=3.0), reward()
    found = _expected(name, logging, _log(logging, target, came))
    assert abs(found / (target @ came.sum(1)) - 1) > 0.002


def test_the_product_form_is_right_where_positions_are_independent():
    """With one position it is the exact pseudo-inverse, and plain IPS."""
    came = _by_place()
    log = _log(UNIFORM, _law(5), came, uniform=True)
    first = np.arange(K) == 0
    shown, reward = np.broadcast_to(first, came.shape).copy(), np.where(first, came, 0.0)
    target = Chances(log.target.position, *log.target.columns[1:])
    one = dataclasses.replace(log, shown=shown, reward=reward, target=target)
    for name in ("product", "pseudo-inverse"):
        np.testing.assert_allclose(ESTIMATORS[name](one).each, ESTIMATORS["item-position"](one).each)


def test_a_doubly_robust_estimate_with_a_perfect_model_does_not_scatter():
    """Where q̂ is the expected reward, every slate of the log gives the target's value."""
    target, came = _law(5, power=3.0), _by_place()
    log = _log(_law(4), target, came, predicted=came)
    assert ESTIMATORS["doubly-robust"](log).each == pytest.approx(np.full(len(SLATES), target @ came.sum(1)))


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "direct"])
def test_the_logging_policy_itself_is_valued_by_its_mean(name):
    """Where target and logging policy are one, all estimators are the mean reward, all slates being effective."""
    came = _by_slate()
    found = estimated(name, _log(UNIFORM, UNIFORM, came, uniform=True))
    assert found.value == pytest.approx(came.sum(1).mean(), rel=1e-9)
    assert found.low < found.value < found.high
    assert found.effective == pytest.approx(len(SLATES), rel=1e-9)


@pytest.mark.parametrize("name", ["snips", "sn-item-position", "sn-slate"])
def test_self_normalised_estimators_converge_and_stay_in_range(name):
    """Over many draws they come to the value; of a constant reward they are that constant, whatever was drawn."""
    logging, target = _law(4), _law(5, power=2.0)
    came = _by_item() if name == "snips" else _by_place()
    log = _log(logging, target, came)
    drawn = np.random.default_rng(0).choice(len(SLATES), 40_000, p=logging)
    found = estimated(name, log.rows(drawn))
    assert found.value == pytest.approx(target @ came.sum(1), rel=0.01)
    constant = dataclasses.replace(log, reward=np.ones(came.shape))
    assert estimated(name, constant.rows(drawn[:50])).value == pytest.approx(K, rel=1e-9)


@cases("name", *((name,) for name in (*RIGHT, "sn-item-position") if name != "pseudo-inverse"))
def test_intervals_cover_the_truth(name):
    """Over 400 logs of 200 slates, the 95% interval holds the true value in 92 to 98%."""
    logging, target, came = UNIFORM, _law(5, power=0.5), _by_item()
    log = _log(logging, target, came, predicted=came * 0.8)
    truth, draw = target @ came.sum(1), np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        some = log.rows(draw.choice(len(SLATES), 200, p=logging))
        found = estimated(name, dataclasses.replace(some, visitor=np.arange(200)))
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_slates_of_one_visitor_are_not_independent():
    """Each twice under one visitor has the interval of each once; without a uniform log Γ† has no closed form."""
    log = _log(UNIFORM, _law(5), _by_item())
    twice = log.rows(np.repeat(np.arange(len(SLATES)), 2))
    one, two = estimated("slate", log), estimated("slate", twice)
    assert two.high - two.low == pytest.approx(one.high - one.low, rel=1e-9)
    assert estimated("slate", log.rows(np.zeros(0, np.int64))) is None
    assert estimated("pseudo-inverse", _log(_law(4), _law(5), _by_item())) is None


GREEDY = "epsilon-greedy(epsilon=0.5)"


def _logged_market(**changes):
    """A round of 120 visitors who come once or more, and one after a retraining."""
    arrivals = ArrivalsConfig(per_round=120, max_visits=3, draw="users")
    return _scenario(**({"arrivals": arrivals} | changes))


def test_the_log_is_that_of_the_run():
    """Played again under the eyes of a target, an agent shows and sells what it did in its own run."""
    config = _logged_market()
    rounds = replayed(config, 0, GREEDY, "relevance", _nothing)
    own = true_values(config, 0, GREEDY, _nothing)
    for one, (arrival, worth) in zip(rounds, own, strict=True):
        assert np.array_equal(one.arrival, arrival)
        assert one.log.reward.sum() == pytest.approx(worth.sum(), abs=5 * np.sqrt(worth.sum()))
    again = replayed(config, 0, GREEDY, GREEDY, _nothing)
    for one, two in zip(rounds, again, strict=True):
        assert np.array_equal(one.log.reward, two.log.reward)
        for part in ("inclusion", "position", "prefix", "slate"):
            rows = one.log.shown if part != "slate" else ...
            mine, theirs = getattr(two.log.target, part), getattr(one.log.logging, part)
            assert np.array_equal(mine[rows], theirs[rows])


def _estimates(config, seed):
    """Estimates of relevance from the log of a greedy agent, and their truths."""
    log = replayed(config, seed, GREEDY, "relevance", _nothing)
    truth = true_values(config, seed, "relevance", _nothing)
    return estimates(log, truth, logged="g", target="r", seed=seed)


def test_on_first_visits_truth_in_the_log_is_the_truth():
    """No slate has moved a first visit's state, so a deterministic target is worth there what it is elsewhere."""
    table = _estimates(_logged_market(), 1)
    first = table[table["part"] == "first visits"]
    assert first["truth"].to_numpy() == pytest.approx(first["truth_at_log"].to_numpy(), rel=1e-12)
    later = table[table["part"] == "later rounds"]
    assert (later["truth"] != later["truth_at_log"]).all()
    assert set(table["part"]) == {"first visits", "later visits", "later rounds"}
    assert (first["support"] == 1).all()


def test_estimates_of_first_visits_scatter_about_the_truth():
    """Over 24 seeds, unbiased estimators are within three standard errors of the truth, and mostly cover it."""
    config = _logged_market(rounds=1, platform=PlatformConfig(model="popularity-hp"))
    found = summary(pd.concat([_estimates(config, seed) for seed in range(24)]))
    found = found[found["part"] == "first visits"].set_index("estimator")
    for name in ("item-position", "cascade", "slate", "doubly-robust", "sn-slate"):
        assert abs(found.loc[name, "bias"]) < 3 * found.loc[name, "error"]
        assert found.loc[name, "coverage"] >= 0.8
    assert found.loc["slate", "seeds"] == 24


def test_a_target_that_could_not_be_logged_is_said_to_lack_support():
    """From the log of relevance with no exploration, popularity's slates cannot be valued, and the report says so."""
    config = _logged_market(rounds=1)
    rounds = replayed(config, 0, "epsilon-greedy(epsilon=0.0)", "random", _nothing)
    assert np.nanmean(rounds[0].supported) < 0.5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small comparison on disk."""
    folder = tmp_path_factory.mktemp("ope") / "run"
    return small_run(folder, [GREEDY, "relevance"], _logged_market(), seeds=2)


def test_the_command_writes_tables_and_says_where_it_cannot_be_right(run, capsys):
    """It prints a table for each part, what single-step evaluation misses, and leaves table and picture."""
    with drawn():
        said = said_by(capsys, f"ope {run.folder} --target relevance --workers 1").out
    said = " ".join(said.split())
    assert "single-step evaluation cannot be right" in said
    assert "pseudo-inverse" not in said  # the log is not uniform
    table = scenarios.load_run(run.folder).ope
    assert list(table.columns[:7]) == ["estimator", "target", "seed", "estimate", "low", "high", "truth"]
    assert set(table["seed"]) == {0, 1}
    assert (run.folder / "pictures" / "ope.png").is_file()
    assert main(["ope", str(run.folder), "--target", "random", "--seeds", "0,", "--workers", "1"]) == 0
    both = scenarios.load_run(run.folder).ope
    assert set(both["target"]) == {"relevance", "random"}


@pytest.mark.parametrize("seeds", [0, (), (1, 1), (-1,)])
def test_seeds_that_are_none_are_refused(run, seeds, tmp_path):
    """As a comparison does, before there is a folder: none at all, one twice, or one below 0."""
    told, out = "seeds: .*. Give a positive number of seeds, or a list of distinct seeds", tmp_path / "run"
    agents = ("relevance", "random")
    refused(ConfigError, told, scenarios.experiment, *agents, scenario=_scenario(), seeds=seeds, out=out)
    assert not out.exists()
    refused(ConfigError, told, scenarios.ope, run.folder, "random", seeds=seeds, workers=1)


def test_an_agent_without_chances_is_refused(run):
    """Whose slates have no chances is named, with those that have."""
    told = "'relevance' does not report the propensities"
    refused(ConfigError, told, scenarios.ope, run.folder, "random", logged="relevance", workers=1)
    told = "--logged: 'nobody' is not among"
    refused(ConfigError, told, scenarios.ope, run.folder, "random", logged="nobody")
