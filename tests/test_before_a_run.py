"""What is chosen and said before a run begins: the agents where none are named, guarantees that nobody can keep."""

import io

import numpy as np
import pytest
from rich.console import Console
from small_markets import small_broadcast, small_replay, small_scenario

from rimsim.agents import make_agent, market_for, play_round
from rimsim.config import ArrivalsConfig, ExposureConfig, GroupConfig, find_scenario, scenario_names
from rimsim.measures import weighted_exposure
from rimsim.scenarios import compare, load_run, sweep
from rimsim.scenarios.study.options import undeliverable_notes
from rimsim.scenarios.study.plan import default_agents


def test_the_default_agents_of_a_scenario_include_the_agent_of_its_name():
    """A scenario's namesake takes part without being asked for; clones and replays have the same four agents."""
    for name in scenario_names():
        chosen = default_agents(find_scenario(name))
        assert ("offline-match" in chosen) == (name in {"offline-match", "user-rec"})
        assert ("user-rec" in chosen) == (name == "user-rec")
    four = ("relevance", "rim-dual", "rim-feedback", "random")
    assert default_agents(small_scenario()) == default_agents(small_replay()) == four


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
        small_scenario(rounds=1, exposure=ExposureConfig(beta=1.0)),
    ],
)
def test_a_note_is_there_where_a_round_asks_for_more_than_it_has(config):
    """The note is what the market that opens asks for and its slates hold, and no agent can do better than it says."""
    market = market_for(make_agent("random"), config)
    required, weights = market.required, market.open.promised.weights
    filled = market.capacity if market.capacity is not None else np.full(len(market.schedule), config.slate)
    there = np.concatenate([[0.0], np.cumsum(weights)])[filled].sum()
    notes = undeliverable_notes(config)
    if required.sum() <= there:
        assert notes == []
        return
    assert notes[0] == (
        f"in the first round, all items cannot be delivered in full: asked for {required.sum():,.1f}, at most "
        f"{there:,.1f}, since there are too few positions"
    )
    play_round(market, make_agent("random"))
    given = weighted_exposure(market.closed[-1].ledger.item, weights, market.n_items)
    assert np.maximum(required - given, 0).sum() >= required.sum() - there - 1e-9


def test_a_group_that_its_caps_do_not_allow_is_named_before_the_run():
    """A genre that is promised more than its items may be shown is in the notes by its name."""
    group = GroupConfig(column="genres", beta=0.9, values=("Horror",))
    exposure = ExposureConfig(beta=0.0, most=0.2, groups=(group,))
    (note,) = undeliverable_notes(small_scenario(exposure=exposure))
    assert note.startswith("in the first round, genres Horror cannot be delivered in full: asked for ")
    assert note.endswith("since caps allow no more")


def test_the_note_is_printed_once_before_the_run(tmp_path):
    """Compare and sweep say it on the console, a sweep once for all points that ask alike."""
    arrivals = ArrivalsConfig(kind="broadcast", per_round=20)
    config, text = small_broadcast(rounds=1, arrivals=arrivals), io.StringIO()
    options = {"seeds": 1, "workers": 1, "certify": False, "console": Console(file=text, width=200)}
    sweep(config, {"exposure.cost": [1.0, 2.0]}, ("random",), out=tmp_path / "many", **options)
    said = "all items cannot be delivered in full: asked for 111.0, at most 37.0, since there are too few positions"
    assert text.getvalue().count(said) == 1
    compare(config, ("random",), out=tmp_path / "one", **options)
    assert text.getvalue().count(said) == 2
