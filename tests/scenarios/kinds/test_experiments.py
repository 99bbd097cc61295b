"""Experiments on one market: assignment, estimates by design, total effects, training on one arm, the command."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy
from kit import cases, refused, said_by
from kit.markets import drawn, in_file, small_scenario

from rimsim import scenarios
from rimsim.agents import make_agent, play_round
from rimsim.arrays import seconds
from rimsim.config import ArrivalsConfig, ConsumerConfig, ExposureConfig, PlatformConfig
from rimsim.errors import ConfigError
from rimsim.evaluation.designs import DESIGNS, Assignment, Outcome, contrast
from rimsim.market import Market
from rimsim.market.records import delay_ticks
from rimsim.market.slates import count_items
from rimsim.measures.loop import late_rounds
from rimsim.scenarios import load_run
from rimsim.scenarios.cli.main import main
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
    assignment = Assignment(design, 0, 6 * HOUR)
    about = {"diverted": diverted, "shared": shared}
    return play_experiment(_scenario(**changes), 0, agents, assignment, **about, report=_nothing), assignment


def test_assignment_is_a_fair_coin_that_never_changes():
    """Half the visitors, items and blocks of the clock are in arm B, within four standard errors, as often as asked."""
    users = np.arange(10_000)
    for design in DESIGNS:
        assignment = Assignment(design, 3, HOUR)
        treated = assignment.arrivals(users, users * HOUR, 1)
        if design == "item":
            assert not treated.any()
        else:
            assert abs(treated.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(users))
        assert np.array_equal(assignment.arrivals(users[5:9], users[5:9] * HOUR, 1), treated[5:9])
        items = assignment.items(10_000)
        assert abs(items.mean() - 0.5) < 0.02 if assignment.by_item else not items.any()
        # Visitor n of one round is another person than visitor n of the next, so half of the numbers change arms.
        changed = np.mean(assignment.arrivals(users, users * HOUR, 2) != treated)
        assert changed == pytest.approx(0.0 if design in {"item", "switchback"} else 0.5, abs=0.02)
    assignment = Assignment("switchback", 0, HOUR)
    time = np.arange(1000) * 60.0
    treated = assignment.arrivals(np.arange(1000), time, 0)
    block = assignment.block(time)
    assert all(len(set(treated[block == each])) == 1 for each in np.unique(block))


def test_merged_slates_keep_the_ranks_of_their_arms():
    """An item of B stands where B put it among items of A where A put them; what is missing is filled up."""
    treated = np.array([False, False, False, True, True, True])
    a = np.array([[0, 3, 1], [3, 4, 5]])
    b = np.array([[3, 0, 4], [0, 1, 2]])
    merged_slates = merged(a, b, treated)
    assert merged_slates[0].tolist() in ([0, 3, 1], [3, 0, 1])
    assert sorted(merged_slates[1].tolist()) == [3, 4, 5]
    unchanged = merged(a, a, treated)
    assert np.array_equal(unchanged, a)


def test_merged_slates_give_each_arm_the_first_place_in_turn():
    """Of two items of one rank, that of arm A stands first in even rows, and that of arm B in odd rows."""
    treated = np.array([False, False, False, True, True, True])
    control = np.array([[0, 1, 2], [0, 1, 2], [2, 0, 1]])
    treatment = np.array([[3, 4, 5], [3, 4, 5], [5, 3, 4]])
    assert merged(control, treatment, treated).tolist() == [[0, 3, 1], [3, 0, 4], [2, 5, 0]]


def _outcome(seed, effect, design):
    """Made-up outcomes, in which B adds so much to each position of its own unit."""
    draw = np.random.default_rng(seed)
    n = 1_000
    k = 3
    m = 60
    treated = draw.random(n) < 0.5
    treated_item = draw.random(m) < 0.5
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
        contrasts = [contrast(design, _outcome(seed, effect, design)) for seed in range(200)]
        values = np.array([estimate.naive for estimate in contrasts])
        assert values.mean() == pytest.approx(3 * effect, abs=4 * values.std() / np.sqrt(200) + 1e-9)
        covered = np.mean([estimate.low <= 3 * effect <= estimate.high for estimate in contrasts])
        assert 0.90 <= covered <= 0.995


def test_an_interval_is_welchs_where_each_unit_has_one_arrival():
    """SciPy's t test of unlike variances has the same interval for what came of visitors who came once."""
    outcome = _outcome(5, 0.1, "user")
    unit = np.arange(40)
    treated = unit % 5 == 0
    value = outcome.value[:40]
    few_arrivals = dataclasses.replace(
        outcome, value=value, item=outcome.item[:40], unit=unit, treated=treated
    )
    each = value.sum(1)
    theirs = scipy.stats.ttest_ind(each[treated], each[~treated], equal_var=False).confidence_interval()
    np.testing.assert_allclose(contrast("user", few_arrivals)[1:], theirs, rtol=1e-12)


def test_few_units_have_a_wide_interval():
    """With 14 intervals of the clock, each with a level of its own, 93 to 98% of 1,000 intervals hold the effect."""
    draw = np.random.default_rng(0)
    covered = []
    unit = np.repeat(np.arange(14), 20)
    item = np.zeros((280, 1), int)
    for _ in range(1_000):
        treated = np.arange(14) < draw.integers(4, 11)
        value = draw.normal(size=14)[unit, None] + draw.normal(size=(280, 1))
        interval = contrast("switchback", Outcome(value, item, unit, treated[unit], np.zeros(1, bool)))
        covered.append(interval.low <= 0 <= interval.high)
    assert 0.93 <= np.mean(covered) <= 0.98


def test_an_arm_of_one_unit_has_no_interval():
    """What one unit did says nothing of how units differ; such a seed counts neither for coverage nor for power."""
    outcome = _outcome(5, 0.1, "user")
    estimate = contrast("user", dataclasses.replace(outcome, treated=outcome.unit == 3))
    assert np.isfinite(estimate).tolist() == [True, False, False]
    row = {"design": "user", "training": "shared", "prices": "shared", "metric": "utility"}
    row["total_effect"] = 1.0
    seeds = [estimate._asdict() | {"seed": 0}, {"naive": 1.0, "low": 0.5, "high": 2.0, "seed": 1}]
    summary = effects.summary(pd.DataFrame([row | seed for seed in seeds])).iloc[0]
    assert (summary["coverage"], summary["power"], summary["seeds"]) == (1.0, 1.0, 2)


def test_a_two_sided_interval_counts_what_a_visitor_does_with_an_item_once():
    """Errors by visitor and by item are added, their common cells subtracted, in plain loops."""
    outcome = _outcome(3, 0.1, "two-sided")
    n = len(outcome.value)
    m = len(outcome.treated_item)
    share = outcome.treated.mean() * outcome.treated_item.mean()
    treated_pairs = outcome.treated[:, None] & outcome.treated_item[outcome.item]
    cell = outcome.value * np.where(treated_pairs, 1 / share, -1 / (1 - share))
    row = cell.sum(1)
    item = np.array([cell[outcome.item == number].sum() for number in range(m)])
    for arm in (True, False):
        row[outcome.treated == arm] -= row[outcome.treated == arm].mean()
        item[outcome.treated_item == arm] -= item[outcome.treated_item == arm].mean()
    visitor = np.array([row[outcome.unit == visitor_id].sum() for visitor_id in np.unique(outcome.unit)])
    spread = (visitor**2).sum() + (item**2).sum() - ((cell - cell.mean()) ** 2).sum()
    estimate = contrast("two-sided", outcome)
    assert estimate.naive == pytest.approx(cell.sum() / n)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.959964 * np.sqrt(spread) / n, rel=1e-6)


def _world(probability):
    """A round in which nothing was consumed, whatever its probability."""
    n, k = probability.shape
    item = np.tile(np.arange(k), (n, 1))
    nobody = np.zeros((n, k), bool)
    return WorldRound(0, np.arange(n), np.arange(n), np.arange(n) * HOUR, item, nobody, probability)


def test_total_effects_are_of_probabilities():
    """Probabilities alone count, by exposure the tail, which is all but the most consumed tenth."""
    worlds = [[_world(np.full((4, 2), 0.1))], [_world(np.full((4, 2), 0.4))]]
    effect = effects.total_effects(worlds, np.array([True, False]))
    assert effect == pytest.approx({"utility": 0.6, "tail_exposure": 0.0})
    assert np.flatnonzero(~effects.tail_of(np.arange(30))).tolist() == [27, 28, 29]
    assert np.flatnonzero(~effects.tail_of(np.array([1, 5, 2]))).tolist() == [1]


@pytest.fixture(scope="module")
def alone():
    """The world of relevance alone."""
    return play_world(_scenario(), 0, "relevance", _nothing)


ARMS = [
    (design, diverted) for design in DESIGNS for diverted in (False, True) if not diverted or design != "item"
]


@cases("design diverted", *ARMS)
def test_an_agent_against_itself_is_the_market_as_it_is(alone, design, diverted):
    """With both arms one agent that looks at no budget, and one log, slates are those of its own world."""
    rounds, _ = _played(("relevance", "relevance"), design, diverted=diverted)
    equal_slates = [
        np.array_equal(ledger.item, ledger_alone.item)
        for ledger, ledger_alone in zip(rounds, alone, strict=True)
    ]
    assert equal_slates[0]
    assert equal_slates[1] or diverted  # a model of half the log ranks otherwise


def test_arms_act_on_their_own_arrivals(alone):
    """First visits of an arm are answered as in its agent's world, not the other's; one agent's world is one."""
    rounds, assignment = _played(("relevance", "random"), "user")
    ledger = rounds[0]
    control = play_world(_scenario(), 0, "random", _nothing)[0]
    treated = assignment.arrivals(ledger.user, ledger.time, 0)
    first = (ledger.arrival & 0xFFFF) == 0
    assert np.array_equal(ledger.item[treated & first], control.item[treated & first])
    assert (ledger.item[~treated & first] != control.item[~treated & first]).any()
    again = play_world(_scenario(), 0, "relevance", _nothing)
    assert effects.total_effects([alone, again], np.ones(500, bool))["utility"] == 0.0


@pytest.mark.parametrize("name", ["rim-feedback", "entropic-dual"])
def test_with_one_budget_agents_hear_of_each_other(name):
    """An agent that is told of another's delivery prices as if it were its own; so floors are kept, shared or split."""
    market = Market(_scenario(rounds=1))
    agents = [make_agent(name) for _ in range(2)]
    view = market.round_view()
    arrivals = market.next_arrivals(20)
    exposure = np.zeros(market.n_items)
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
    view = Market(_scenario(rounds=1)).round_view()
    seen = []
    agent = SimpleNamespace(name="sees", order_free=True, barrier_every=None, begin_round=seen.append)
    arms = TwoArms([agent, agent], Assignment(design, 0, HOUR), shared=shared, n_items=len(view.required))
    arms.begin([view, view])
    assert len(seen) == 2
    for each in seen:
        assert np.array_equal(each.required, view.required / part)
        assert each.arrivals == view.arrivals // part


def test_diverted_training_has_the_events_and_impressions_of_its_own_arm_alone():
    """Of a round of random slates, the arm's visitors' events are left; others' impressions are empty, none taken."""
    learnt = []
    assignment = Assignment("user", 0, HOUR)
    control = SimpleNamespace(learnt=lambda past: learnt.append(past) or past)
    market = Market(_scenario(platform=PlatformConfig(model="bag-visits")), control=control)
    play_round(market, make_agent("random"))
    (learnt_past,) = learnt
    users = learnt_past.schedule.user
    for treated in (True, False):
        diverted = Diverted(assignment, treated=treated).learnt(learnt_past)
        mine = assignment.arrivals(users, np.zeros(len(users)), 0) == treated
        columns = [map(np.ndarray.tolist, past.histories.all_events()) for past in (learnt_past, diverted)]
        events, learnt_events = (sorted(zip(*each, strict=True)) for each in columns)
        assert learnt_events == [event for event in events if mine[event[0]]]
        assert 0 < len(learnt_events) < len(events)
        rows = mine[learnt_past.schedule.slot]
        assert learnt_past.shown.taken[rows].any()
        assert np.array_equal(diverted.shown.taken, learnt_past.shown.taken & rows[:, None])
        assert np.array_equal(diverted.shown.item, np.where(rows[:, None], learnt_past.shown.item, -1))


def test_a_late_consumption_belongs_to_the_block_of_its_visit():
    """With a delay of three hours and blocks of one, an arm learns from consumptions at its own blocks' visits."""
    delay = "3h"
    learnt = []
    control = SimpleNamespace(learnt=lambda past: learnt.append(past) or past)
    config = _scenario(consumer=ConsumerConfig(delay=delay), platform=PlatformConfig(model="bag-visits"))
    market = Market(config, control=control)
    play_round(market, make_agent("random"))
    (past,) = learnt
    ledger = market.closed[0].ledger
    assignment = Assignment("switchback", 1, HOUR)
    visits = past.schedule
    treated_visits = assignment.arrivals(visits.user[visits.slot], seconds(visits.tick), 0)
    known = set(zip(*map(np.ndarray.tolist, past.histories.all_events()[::2]), strict=True))
    for treated in (False, True):
        diverted = Diverted(assignment, treated=treated, wait=1 + delay_ticks(delay)).learnt(past)
        expected = {
            (int(visits.slot[row]), int(ledger.item[row, position]))
            for row, position in np.argwhere(ledger.consumed)
            if treated_visits[row] == treated
        }
        slot, _, item = diverted.histories.all_events()
        assert set(zip(slot.tolist(), item.tolist(), strict=True)) == expected & known
        assert expected & known


def test_agents_that_cannot_be_told_are_refused():
    """An agent that paces its delivery and has no ear for another's is named where prices are shared."""
    agents = [make_agent("relevance"), make_agent("rim-resolve")]
    said = "'rim-resolve' adapts its prices to its own deliveries"
    refused(ConfigError, said, TwoArms, agents, Assignment("user", 0, 1.0), shared=True, n_items=5)


@pytest.mark.parametrize("process", ["outage(after='1h', lasts='12h')", "training(visits=20)"])
def test_a_process_that_changes_the_model_is_refused(process):
    """Agents of an experiment cannot follow a model that stops or changes within a round; the processes are named."""
    said = r"a process \(one of .(outage|training)\(.*\).\) stopped the model or let another one go live"
    refused(ConfigError, said, _played, ("relevance", "random"), "user", processes=(process,))


def test_estimates_of_the_late_rounds():
    """An A/A experiment on a market estimates about nothing in both metrics."""
    rounds, assignment = _played(("random", "random"), "user")
    estimates = effects.estimates(rounds, assignment, np.ones(500, bool))
    assert estimates["utility"][1] <= 0 <= estimates["utility"][2]
    assert estimates["tail_exposure"][0] == pytest.approx(0.0, abs=1e-12)


@cases("design cluster", ("user", "user"), ("switchback", "block"))
def test_cluster_experiments_reads_the_arrivals_as_they_are(design, cluster):
    """With cluster-experiments installed, its clustered OLS of the late arrivals finds the naive estimates."""
    package = pytest.importorskip("cluster_experiments")
    rounds, assignment = _played(("relevance", "random"), design)
    tail = np.arange(500) > 20
    table = effects.arrivals_table(rounds, assignment, tail, 0)
    estimates = effects.estimates(rounds, assignment, tail)
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
        naive, low, high = estimates[ours][:3]
        assert results.loc[theirs, "ate"] == pytest.approx(naive, abs=1e-12)
        half = (results.loc[theirs, "ate_ci_upper"] - results.loc[theirs, "ate_ci_lower"]) / 2
        # Its interval has the normal's quantile, ours Student's, which is wider where clusters are few.
        half *= scipy.stats.t.ppf(0.975, late[cluster].nunique() - 2) / scipy.stats.norm.ppf(0.975)
        assert half == pytest.approx((high - low) / 2, rel=0.1)  # other corrections for few clusters


def test_the_command_leaves_tables_a_picture_and_a_folder_that_reports(tmp_path, capsys):
    """Designs are combined, nonsense left out; the folder can be reported again."""
    place = in_file(_scenario(), tmp_path)
    out = tmp_path / "run"
    words = f"experiment relevance epsilon-greedy --scenario {place} --out {out} --workers 1 --interval 6h"
    words += " --design user,item,switchback --training shared,diverted"
    with drawn():
        assert "total effect" in said_by(capsys, words).out
    experiment = scenarios.load_experiment(out)
    columns = "design training prices seed metric naive low high total_effect"
    assert list(experiment.table.columns) == columns.split()
    arms = {(design, training) for design in ("user", "switchback") for training in ("shared", "diverted")}
    played_arms = set(zip(experiment.table["design"], experiment.table["training"], strict=True))
    assert played_arms == arms | {("item", "shared")}
    assert {"user", "date", "treatment", "target"} <= set(experiment.arrivals.columns)
    assert (out / "pictures" / "experiment.png").is_file()
    for option in ([], ["--markdown"], ["--html"], ["--digest"]):
        assert main(["report", str(out), *option]) == 0
    run = load_run(out)
    run.config["seeds"] = [0]
    run.config["scenario"]["rounds"] = 1
    assert experiment_report(run).setting[1:3] == ("1 round", "1 seed")


@cases(
    "option message",
    ("--interval 1q", "--interval: '1q' is not a duration"),
    ("--interval 0h", "is not positive"),
)
def test_an_option_that_is_none_is_told_in_one_line(option, message, tmp_path, capsys):
    """Status 2 and no folder, whatever is wrong with it."""
    words = f"experiment relevance random {option} --out {tmp_path / 'run'}"
    (err,) = said_by(capsys, words, 2).err.splitlines()
    assert err.startswith(f"rimsim: {option.split()[0]}: ")
    assert message in err
    assert not (tmp_path / "run").exists()


def test_an_unknown_design_is_refused_with_the_nearest_name(tmp_path, capsys):
    """The command line itself is wrong, so that nothing is loaded or written: one line, status 2."""
    with pytest.raises(SystemExit, match="2"):
        main(f"experiment relevance random --design users --out {tmp_path / 'run'}".split())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rimsim experiment: --design: 'users' is unknown. Did you mean 'user'?")
    assert not (tmp_path / "run").exists()


def _rounds_of_items(*slates):
    """Rounds of one arrival each, every position of which is consumed with a probability of 0.5."""
    rounds = []
    for number, slate in enumerate(slates):
        item = np.array([slate])
        consumed = np.arange(len(slate))[None, :] < 1
        time = np.array([number * 2 * HOUR])
        rounds.append(
            WorldRound(number, np.array([40 + number]), np.array([3]), time, item, consumed, item * 0 + 0.5)
        )
    return rounds


def test_total_effects_are_of_late_rounds_and_of_positions_of_the_tail():
    """The first half of the rounds does not count, the tail is a share of all positions, and an empty one is none."""
    tail = np.array([False, True, True])
    first = _rounds_of_items([1, 2], [1, 2], [0, 1], [0, 0])  # of late positions, 1 in 4 is of the tail
    second = _rounds_of_items([0, 0], [0, 0], [1, 2], [2, -1])  # ... 3 in 4
    assert effects.total_effects([first, second], tail)["tail_exposure"] == pytest.approx(0.5)
    assert effects.total_effects([second, first], tail)["tail_exposure"] == pytest.approx(-0.5)


def test_arrivals_of_an_experiment_have_their_visitor_block_and_figures():
    """Visitors of two rounds have two names; blocks and dates follow the clock, and figures are of the row's slate."""
    assignment = Assignment("switchback", 0, HOUR)
    rounds = _rounds_of_items([0, 1], [1, 2])
    table = effects.arrivals_table(rounds, assignment, np.array([False, True, True]), 5)
    assert table["user"].tolist() == ["0-3", "1-3"]
    assert table["arrival"].tolist() == [40, 41]
    assert table["block"].diff()[1] == 2
    assert table["date"].astype(str).tolist() == ["1970-01-01 00:00:00", "1970-01-01 02:00:00"]
    assert table["target"].tolist() == [1, 1]
    assert table["tail_exposure"].tolist() == [0.5, 1.0]
    treated = [assignment.arrivals(part.user, part.time, part.number).item() for part in rounds]
    assert table["treatment"].tolist() == ["B" if is_treated else "A" for is_treated in treated]
    assert set(table["seed"]) == {5}
