"""Off-policy estimates: each estimator against an enumeration of slates, and against the truth of its market."""

import dataclasses
import itertools
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import MODEL, cases, refused, said_by
from kit.markets import drawn, small_run, small_scenario

from rimsim import scenarios
from rimsim.agents import closed_rounds, make_agent, market_for
from rimsim.config import ArrivalsConfig, PlatformConfig, Seeds
from rimsim.errors import ConfigError, RunFolderError
from rimsim.evaluation import ESTIMATORS, Chances, LoggedSlates, estimated
from rimsim.market.opening import opening_model
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds import evaluate
from rimsim.scenarios.kinds.evaluate import estimates, replayed, summary, true_values


def _nothing(count):
    """Nobody wants to know how far it is."""


M = 5
K = 3
SLATES = np.array(list(itertools.permutations(range(M), K)))
"""All slates of three of five items."""


def _chances(law):
    """Chances of all slates under a law over them, by summing it."""
    inclusion, position, prefix = np.zeros((3, *SLATES.shape))
    for number, slate in enumerate(SLATES):
        for place, item in enumerate(slate):
            inclusion[number, place] = law[(item == SLATES).any(1)].sum()
            position[number, place] = law[SLATES[:, place] == item].sum()
            prefix[number, place] = law[(SLATES[:, : place + 1] == slate[: place + 1]).all(1)].sum()
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
    visitors = {"visitor": np.arange(n), "admissible": np.full(n, M)}
    return LoggedSlates(reward=reward, shown=np.ones((n, K), bool), **chances, **model, **visitors)


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
    by_item = _by_item()
    return by_item * np.cumprod(np.hstack([np.ones((len(SLATES), 1)), 1 - 0.5 * by_item[:, :-1]]), axis=1)


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
    rewards = reward()
    log = _log(logging, target, rewards, uniform=name == "pseudo-inverse", predicted=0.3 * _by_slate())
    if name == "doubly-robust":  # q̂ hangs on item and position, and may be anything
        q = np.random.default_rng(6).random((K, M))[np.arange(K), SLATES]
        log = _log(logging, target, rewards, predicted=q)
    assert _expected(name, logging, log) == pytest.approx(target @ rewards.sum(1), rel=1e-10)


@cases(
    "name reward",
    *(("ips", _by_place), ("item-position", _by_above), ("cascade", _by_slate), ("product", _by_place)),
)
def test_an_estimator_is_biased_beyond_that(name, reward):
    """Where rewards hang on more than it allows for, its mean is off by more than .2%."""
    logging = _law(4)
    target = _law(5, power=3.0)
    rewards = reward()
    expectation = _expected(name, logging, _log(logging, target, rewards))
    assert abs(expectation / (target @ rewards.sum(1)) - 1) > 0.002


def test_the_product_form_is_right_where_positions_are_independent():
    """With one position it is the exact pseudo-inverse, and plain IPS."""
    rewards = _by_place()
    log = _log(UNIFORM, _law(5), rewards, uniform=True)
    first = np.arange(K) == 0
    shown = np.broadcast_to(first, rewards.shape).copy()
    reward = np.where(first, rewards, 0.0)
    target = Chances(log.target.position, *log.target.columns[1:])
    first_positions = dataclasses.replace(log, shown=shown, reward=reward, target=target)
    for name in ("product", "pseudo-inverse"):
        np.testing.assert_allclose(
            ESTIMATORS[name](first_positions).each, ESTIMATORS["item-position"](first_positions).each
        )


def test_a_doubly_robust_estimate_with_a_perfect_model_does_not_scatter():
    """Where q̂ is the expected reward, every slate of the log gives the target's value."""
    target = _law(5, power=3.0)
    rewards = _by_place()
    log = _log(_law(4), target, rewards, predicted=rewards)
    assert ESTIMATORS["doubly-robust"](log).each == pytest.approx(
        np.full(len(SLATES), target @ rewards.sum(1))
    )


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "direct"])
def test_the_logging_policy_itself_is_valued_by_its_mean(name):
    """Where target and logging policy are one, all estimators are the mean reward, all slates being effective."""
    rewards = _by_slate()
    estimate = estimated(name, _log(UNIFORM, UNIFORM, rewards, uniform=True))
    assert estimate.value == pytest.approx(rewards.sum(1).mean(), rel=1e-9)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.effective == pytest.approx(len(SLATES), rel=1e-9)


@pytest.mark.parametrize("name", ["snips", "sn-item-position", "sn-slate"])
def test_self_normalised_estimators_converge_and_stay_in_range(name):
    """Over many draws they come to the value; of a constant reward they are that constant, whatever was drawn."""
    logging = _law(4)
    target = _law(5, power=2.0)
    rewards = _by_item() if name == "snips" else _by_place()
    log = _log(logging, target, rewards)
    drawn = np.random.default_rng(0).choice(len(SLATES), 40_000, p=logging)
    estimate = estimated(name, log.rows(drawn))
    assert estimate.value == pytest.approx(target @ rewards.sum(1), rel=0.01)
    constant = dataclasses.replace(log, reward=np.ones(rewards.shape))
    assert estimated(name, constant.rows(drawn[:50])).value == pytest.approx(K, rel=1e-9)


@cases("name", *((name,) for name in (*RIGHT, "sn-item-position") if name != "pseudo-inverse"))
def test_intervals_cover_the_truth(name):
    """Over 400 logs of 200 slates, the 95% interval holds the true value in 92 to 98%."""
    logging = UNIFORM
    target = _law(5, power=0.5)
    rewards = _by_item()
    log = _log(logging, target, rewards, predicted=rewards * 0.8)
    truth = target @ rewards.sum(1)
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        sample = log.rows(draw.choice(len(SLATES), 200, p=logging))
        estimate = estimated(name, dataclasses.replace(sample, visitor=np.arange(200)))
        covered += estimate.low <= truth <= estimate.high
    assert 0.92 <= covered / 400 <= 0.98


def test_slates_of_one_visitor_are_not_independent():
    """Each twice under one visitor has the interval of each once; without a uniform log Γ† has no closed form."""
    log = _log(UNIFORM, _law(5), _by_item())
    twice = log.rows(np.repeat(np.arange(len(SLATES)), 2))
    once = estimated("slate", log)
    two = estimated("slate", twice)
    assert two.high - two.low == pytest.approx(once.high - once.low, rel=1e-9)
    assert estimated("slate", log.rows(np.zeros(0, np.int64))) is None
    assert estimated("pseudo-inverse", _log(_law(4), _law(5), _by_item())) is None


GREEDY = "epsilon-greedy(epsilon=0.5)"


def _logged_market(**changes):
    """A round of 120 visitors who come once or more, and one after a retraining."""
    arrivals = ArrivalsConfig(per_round=120, max_visits=3, draw="users")
    return small_scenario(**({"rounds": 2, "slate": 3, "arrivals": arrivals} | changes))


def test_the_log_is_that_of_the_run():
    """Played again under the eyes of a target, an agent shows and sells what it did in its own run."""
    config = _logged_market()
    rounds = replayed(config, 0, GREEDY, "relevance", _nothing)
    own_worth = true_values(config, 0, GREEDY, _nothing)
    for logged_round, (arrival, worth) in zip(rounds, own_worth, strict=True):
        assert np.array_equal(logged_round.arrival, arrival)
        assert logged_round.log.reward.sum() == pytest.approx(worth.sum(), abs=5 * np.sqrt(worth.sum()))
    again = replayed(config, 0, GREEDY, GREEDY, _nothing)
    for logged_round, two in zip(rounds, again, strict=True):
        assert np.array_equal(logged_round.log.reward, two.log.reward)
        for part in ("inclusion", "position", "prefix", "slate"):
            rows = logged_round.log.shown if part != "slate" else ...
            mine = getattr(two.log.target, part)
            theirs = getattr(logged_round.log.logging, part)
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
    figures = summary(pd.concat([_estimates(config, seed) for seed in range(24)]))
    figures = figures[figures["part"] == "first visits"].set_index("estimator")
    for name in ("item-position", "cascade", "slate", "doubly-robust", "sn-slate"):
        assert abs(figures.loc[name, "bias"]) < 3 * figures.loc[name, "error"]
        assert figures.loc[name, "coverage"] >= 0.8
    assert figures.loc["slate", "seeds"] == 24


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
    evaluations = scenarios.load_run(run.folder).ope
    assert set(evaluations["target"]) == {"relevance", "random"}


def test_a_run_whose_config_was_edited_is_not_evaluated(run, tmp_path):
    """Another scenario would not repeat the run, so nothing is written next to its tables."""
    folder = shutil.copytree(run.folder, tmp_path / "run")
    table = folder / "ope.parquet"
    table.unlink(missing_ok=True)
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    edited = re.sub(r"position_decay: [\d.]+", "position_decay: 0.1", text)
    assert edited != text
    config.write_text(edited, encoding="utf-8")
    said = "changed since the run began: scenario. So the run cannot be repeated"
    refused(RunFolderError, said, scenarios.ope, folder, "random", workers=1)
    assert not table.exists()


@cases(
    "pattern edited",
    ("model: popularity-hp", "model: evil.py:Evil"),
    (r"(?m)^agents:\n- .*$", "agents:\n- evil.py:Evil"),
)
def test_code_that_only_a_run_folder_names_is_not_imported(pattern, edited, run, tmp_path, write, capsys):
    """A folder names a file as model or agent: nothing runs before it is trusted; the target needs no trust."""
    write('from pathlib import Path\n\nPath("ran").touch()\n', "evil.py")
    folder = shutil.copytree(run.folder, tmp_path / "run")
    config = folder / "config.yaml"
    text, n_edited = re.subn(pattern, edited, config.read_text(encoding="utf-8"))
    assert n_edited
    config.write_text(text, encoding="utf-8")
    said = f"{config}: names code that would run with your rights: evil.py:Evil"
    assert said in said_by(capsys, f"ope {folder} --target relevance", 2).err
    refused(ConfigError, re.escape(said), scenarios.ope, folder, "relevance")
    assert not (tmp_path / "ran").exists()


def test_trusted_code_of_a_run_folder_runs(tmp_path, write, capsys):
    """With --trust the model that only the folder names is imported, and the estimates are made."""
    write(f"from pathlib import Path\n\nPath('ran').touch()\n{MODEL}")
    config = small_scenario(rounds=1, platform=PlatformConfig(model="mine.py:Mine"))
    folder = small_run(tmp_path / "run", ["random"], config).folder
    (tmp_path / "ran").unlink()
    words = f"ope {folder} --target relevance --workers 1"
    assert "names code that would run with your rights: mine.py:Mine" in said_by(capsys, words, 2).err
    assert not (tmp_path / "ran").exists()
    opening_model.cache_clear()  # the comparison imported the file in this process
    said_by(capsys, f"{words} --trust")
    assert (tmp_path / "ran").exists()
    assert (folder / "ope.parquet").is_file()


def test_an_old_run_folder_without_digest_of_its_scenario_is_told(run, tmp_path, capsys):
    """A folder without a digest of the scenario is evaluated, with a note that an edit is not noticed."""
    folder = shutil.copytree(run.folder, tmp_path / "run")
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "\n  scenario: " in text
    config.write_text(re.sub(r"\n  scenario: \w{64}", "", text), encoding="utf-8")
    words = f"ope {folder} --target relevance --workers 1"
    assert "keeps no digest of its scenario" in said_by(capsys, words).out
    assert "keeps no digest" not in said_by(capsys, words.replace(str(folder), str(run.folder))).out


@pytest.mark.parametrize("seeds", [0, (), (1, 1), (-1,)])
def test_seeds_that_are_none_are_refused(run, seeds, tmp_path):
    """As a comparison does, before there is a folder: none at all, one twice, or one below 0."""
    message = "seeds: .*. Give a positive number of seeds, or a list of distinct seeds"
    out = tmp_path / "run"
    agents = ("relevance", "random")
    refused(
        ConfigError, message, scenarios.experiment, *agents, scenario=_logged_market(), seeds=seeds, out=out
    )
    assert not out.exists()
    refused(ConfigError, message, scenarios.ope, run.folder, "random", seeds=seeds, workers=1)


def test_an_agent_without_chances_is_refused(run):
    """Whose slates have no chances is named, with those that have."""
    message = "'relevance' does not report the propensities"
    refused(ConfigError, message, scenarios.ope, run.folder, "random", logged="relevance", workers=1)
    message = "--logged: 'nobody' is not among"
    refused(ConfigError, message, scenarios.ope, run.folder, "random", logged="nobody")


_DRAWS = """
from rimsim.agents import Random
from rimsim.market.records import as_slates

class Mine:
    name, order_free, barrier_every = "mine", True, None

    def __init__(self):
        self.inner = Random()

    def begin_round(self, view):
        self.inner.begin_round(view)

    def act(self, arrivals):
        return as_slates(self.inner.act(arrivals)).items
"""


def test_a_target_that_draws_without_saying_its_chances_is_refused(write):
    """Its estimates would be those of a deterministic agent; one that draws nothing is valued."""
    write(_DRAWS)
    config = small_scenario(rounds=1)
    said = "--target: 'mine' samples its slates: 100% of the slates change .* the method chance_of"
    refused(ConfigError, said, evaluate.replayed, config, 0, "random", "mine.py:Mine", lambda _: None)
    write(_DRAWS.replace("Random", "Relevance"))
    sys.modules.pop("mine", None)
    assert len(evaluate.replayed(config, 0, "random", "mine.py:Mine", lambda _: None)) == 1


def test_estimates_that_rest_on_few_slates_are_warned_of():
    """The caution names the estimators, their effective slates, and a remedy."""
    row = {"target": "t", "logged": "l", "part": "first visits", "seed": 0, "truth": 0.4, "truth_at_log": 0.4}
    row |= {"estimate": 0.8, "low": -0.3, "high": 1.9, "support": 1.0, "slates": 308}
    rows = [row | {"estimator": "ips", "effective": 7.0}, row | {"estimator": "direct", "effective": 308.0}]
    evaluation = evaluate.Evaluation(Path("run"), "l", "t", pd.DataFrame(rows))
    (caution,) = [text for text in evaluate.evaluation_report(evaluation).cautions if "rest on few" in text]
    assert "few of the 308 slates (ips 7 effective slates)" in caution
    assert "Log more arrivals" in caution


def test_parts_of_a_log_are_its_first_visits_its_later_visits_and_its_later_rounds():
    """Each arrival is in one part: a visitor's first in round 0, the others of round 0, and all of round 1."""
    config = _logged_market()
    table = _estimates(config, 1)
    agent = make_agent(GREEDY)
    opening, later = closed_rounds(market_for(agent, config, seeds=Seeds.all(1)), agent)
    n_visitors = len(np.unique(opening.ledger.schedule.slot))
    n_opening = len(opening.ledger.item)
    assert 0 < n_visitors < n_opening
    slates = table.groupby("part")["slates"].unique().map(list).to_dict()
    assert slates == {
        "first visits": [n_visitors],
        "later visits": [n_opening - n_visitors],
        "later rounds": [len(later.ledger.item)],
    }


def test_figures_over_seeds_are_those_of_a_count_by_hand():
    """Error, coverage with its ends included, and what the target's own slates change, from two seeds."""
    row = {"logged": "g", "target": "t", "part": "first visits", "estimator": "ips"}
    row |= {"effective": 9.0, "support": 1.0, "slates": 40}
    seeds = [
        row | {"seed": 0, "estimate": 0.7, "low": 0.4, "high": 0.9, "truth": 0.4, "truth_at_log": 0.3},
        row | {"seed": 1, "estimate": 0.2, "low": 0.1, "high": 0.5, "truth": 0.6, "truth_at_log": 0.2},
    ]
    figures = summary(pd.DataFrame(seeds)).iloc[0]
    assert figures["rmse"] == pytest.approx(np.sqrt((0.3**2 + 0.4**2) / 2))
    assert figures["coverage"] == 0.5
    assert figures["moved"] == pytest.approx((0.1 + 0.4) / 2)
    assert figures["bias"] == pytest.approx((0.3 - 0.4) / 2)
