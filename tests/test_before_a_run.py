"""What is chosen and said before a run begins: the agents where none are named, guarantees that nobody can keep."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console
from small_markets import small_broadcast, small_replay, small_scenario

from rimsim.agents import make_agent, market_for, play_round
from rimsim.config import ArrivalsConfig, ExposureConfig, find_scenario, scenario_names
from rimsim.measures import mean_weight
from rimsim.scenarios import compare, load_run, sweep
from rimsim.scenarios.study.notes import undeliverable_note
from rimsim.scenarios.study.plan import default_agents


@pytest.mark.parametrize("name", scenario_names())
def test_the_default_agents_of_a_scenario_include_the_agent_of_its_name(name):
    """An agent that a built-in scenario is named after takes part without being asked for."""
    chosen = default_agents(find_scenario(name))
    assert ("offline-match" in chosen) == (name in {"offline-match", "user-rec"})
    assert ("user-rec" in chosen) == (name == "user-rec")


def test_the_closed_loop_compares_the_four_agents_of_the_main_experiment():
    """Clones and replays have the same four agents by default."""
    four = ("relevance", "rim-dual", "rim-feedback", "random")
    assert default_agents(small_scenario()) == four
    assert default_agents(small_replay()) == four


def test_compare_and_sweep_take_the_default_agents_of_their_scenario(tmp_path):
    """Without agents, a broadcast is played by the planners too; a sweep takes those that can play at every point."""
    config = small_broadcast(rounds=1, exposure=ExposureConfig(beta=0.5))
    run = compare(config, seeds=1, out=tmp_path / "one", workers=1, certify=False)
    assert run.agents == ["relevance", "rim-dual", "rim-feedback", "offline-match", "random"]
    grid = {"arrivals.kind": ["broadcast", "clones"]}
    sweep(config, grid, seeds=1, out=tmp_path / "many", workers=1, certify=False)
    assert load_run(tmp_path / "many").agents == ["relevance", "rim-dual", "rim-feedback", "random"]


@pytest.mark.parametrize(
    "config",
    [
        small_broadcast(rounds=1),
        small_broadcast(rounds=1, exposure=ExposureConfig(items=30, each=12)),
        small_broadcast(rounds=1, exposure=ExposureConfig(each=500)),
        small_scenario(rounds=1, exposure=ExposureConfig(items=40, each=120), user_cap=4),
        small_replay(rounds=1, exposure=ExposureConfig(each=9)),
    ],
)
def test_a_note_is_there_where_a_round_asks_for_more_than_it_has(config):
    """The note's figures are those of the market that opens, and the best that any agent could do is what it says."""
    market = market_for(make_agent("random"), config)
    required = market.required / mean_weight(market.open.promised.weights)  # as positions
    asked = int(required.sum())
    there = len(market.schedule) * min(config.slate, config.user_cap or config.slate)
    said = undeliverable_note(config)
    if asked <= there:
        assert said is None
        return
    assert f"ask for {asked:,} exposures" in said
    assert f"the slates have {there:,}" in said
    assert f"at least {100 * (asked - there) // asked} % stays undelivered" in said
    play_round(market, make_agent("random"))
    exposure = market.closed[-1].ledger.exposure(market.n_items)
    assert np.maximum(required - exposure, 0).sum() >= asked - there


def test_a_share_of_the_positions_can_always_be_asked_for():
    """β says what part of the positions is guaranteed, so there is nothing to warn of, even at β = 1."""
    assert undeliverable_note(small_scenario(exposure=ExposureConfig(beta=1.0))) is None


def test_the_note_is_printed_once_before_the_run(tmp_path):
    """Compare and sweep say it on the console, a sweep once for all points that ask alike."""
    arrivals = ArrivalsConfig(kind="broadcast", per_round=20)
    config = dataclasses.replace(small_broadcast(rounds=1), arrivals=arrivals)
    text = io.StringIO()
    console = Console(file=text, width=200)
    options = {"seeds": 1, "workers": 1, "certify": False, "console": console}
    sweep(config, {"exposure.cost": [1.0, 2.0]}, ("random",), out=tmp_path / "many", **options)
    assert text.getvalue().count("guarantees ask for 120 exposures a round (10 items, 12 each)") == 1
    assert "the slates have 40: at least 66 % stays undelivered" in text.getvalue()
    compare(config, ("random",), out=tmp_path / "one", **options)
    assert text.getvalue().count("stays undelivered") == 2
