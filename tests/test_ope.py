"""Off-policy evaluation of runs: estimates beside the truth, on markets small enough to play at many seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from kit import refused
from small_markets import drawn, small_run, small_scenario

from rimsim import scenarios
from rimsim.config import ArrivalsConfig, PlatformConfig
from rimsim.errors import ConfigError
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds.evaluate import estimates, replayed, summary, true_values

GREEDY = "epsilon-greedy(epsilon=0.5)"


def _scenario(**changes):
    """A round of 120 visitors who come once or more, and one after a retraining."""
    fields = {"rounds": 2, "slate": 3, "arrivals": ArrivalsConfig(per_round=120, max_visits=3, draw="users")}
    return small_scenario(**(fields | changes))


def _nothing(count):
    """Nobody wants to know how far it is."""


def test_the_log_is_that_of_the_run():
    """Played again under the eyes of a target, an agent shows and sells what it did in its own run."""
    config = _scenario()
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
    table = _estimates(_scenario(), 1)
    first = table[table["part"] == "first visits"]
    assert first["truth"].to_numpy() == pytest.approx(first["truth_at_log"].to_numpy(), rel=1e-12)
    later = table[table["part"] == "later rounds"]
    assert (later["truth"] != later["truth_at_log"]).all()
    assert set(table["part"]) == {"first visits", "later visits", "later rounds"}
    assert (first["support"] == 1).all()


def test_estimates_of_first_visits_scatter_about_the_truth():
    """Over 24 seeds, unbiased estimators are within three standard errors of the truth, and mostly cover it."""
    config = _scenario(rounds=1, platform=PlatformConfig(model="popularity-hp"))
    found = summary(pd.concat([_estimates(config, seed) for seed in range(24)]))
    found = found[found["part"] == "first visits"].set_index("estimator")
    for name in ("item-position", "cascade", "slate", "doubly-robust", "sn-slate"):
        assert abs(found.loc[name, "bias"]) < 3 * found.loc[name, "error"]
        assert found.loc[name, "coverage"] >= 0.8
    assert found.loc["slate", "seeds"] == 24


def test_a_target_that_could_not_be_logged_is_said_to_lack_support():
    """From the log of relevance with no exploration, popularity's slates cannot be valued, and the report says so."""
    config = _scenario(rounds=1)
    rounds = replayed(config, 0, "epsilon-greedy(epsilon=0.0)", "random", _nothing)
    assert np.nanmean(rounds[0].supported) < 0.5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small comparison on disk."""
    folder = tmp_path_factory.mktemp("ope") / "run"
    return small_run(folder, [GREEDY, "relevance"], _scenario(), seeds=2)


def test_the_command_writes_tables_and_says_where_it_cannot_be_right(run, capsys):
    """It prints a table for each part, what single-step evaluation misses, and leaves table and picture."""
    with drawn():
        assert main(["ope", str(run.folder), "--target", "relevance", "--workers", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "single-step evaluation cannot be right" in said
    assert "pseudo-inverse" not in said  # the log is not uniform
    table = scenarios.load_run(run.folder).ope
    assert list(table.columns[:7]) == ["estimator", "target", "seed", "estimate", "low", "high", "truth"]
    assert set(table["seed"]) == {0, 1}
    assert (run.folder / "pictures" / "ope.png").is_file()
    assert main(["ope", str(run.folder), "--target", "random", "--seeds", "0,", "--workers", "1"]) == 0
    both = scenarios.load_run(run.folder).ope
    assert set(both["target"]) == {"relevance", "random"}


def test_an_agent_without_chances_and_seeds_that_are_none_are_refused(run):
    """Whose slates have no chances is named, with those that have; no seed, one twice, or one below 0 is refused."""
    told = "'relevance' does not say with which chance"
    refused(ConfigError, told, scenarios.ope, run.folder, "random", logged="relevance", workers=1)
    told = "--logged: 'nobody' is not among"
    refused(ConfigError, told, scenarios.ope, run.folder, "random", logged="nobody")
    told = "seeds: .*; allowed: a positive number of seeds, or distinct seeds"
    for seeds in (0, (), (1, 1), (-1,)):
        refused(ConfigError, told, scenarios.ope, run.folder, "random", seeds=seeds, workers=1)
