"""An agent that asks for items and histories, learns from consumption and remembers it over rounds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit import refused
from made_arrivals import arrivals_of as made_arrivals
from small_markets import small_replay, small_run, small_scenario, stopped_after_a_round

from rimsim.agents import LinUCB, Relevance, diagnostics_of, make_agent, play_round
from rimsim.envs.market import MarketEnv
from rimsim.errors import AgentError, ArmsError
from rimsim.intensity import UserStates
from rimsim.market import Feedback, Market, Needs, RoundView
from rimsim.scenarios import load_run
from rimsim.scenarios.runs.status import digest
from rimsim.scenarios.study.compare import resume
from rimsim.tracking import event_folder, read_scalars

GENRES = ["a", "b", "a|b", "c"]
"""Of four items."""


def view_of(weights=(1.0, 0.5)):
    """A round over four items with two positions."""
    nothing, items = np.zeros(4), pd.DataFrame({"genres": GENRES})
    more = {"popularity": np.arange(4), "calibration": [], "key": 1, "position_weights": np.array(weights)}
    return RoundView(0, 10, 2, nothing, nothing, 0.1, items=items, **more)


def arrivals_of(intensity, histories):
    """Arrivals with given intensities (n, 4) and histories, a list of items each."""
    n, offsets = len(intensity), np.append(0, np.cumsum([len(items) for items in histories]))
    items = np.concatenate([*map(np.asarray, histories), []]).astype(np.int64)
    history = UserStates(offsets, items, np.zeros(len(items)), np.ones(n))
    return dataclasses.replace(made_arrivals(np.asarray(intensity)), history=history)


def features(intensity, history):
    """(4, 7) the chance times 1, the shares of three genres in each item, and those times their shares in a history."""
    own = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 1]])
    taste = own[history].mean(0) if len(history) else np.zeros(3)
    return (1 - np.exp(-intensity))[:, None] * np.column_stack([np.ones(4), own, own * taste])


def test_the_slate_holds_the_highest_bounds_of_a_ridge_regression():
    """Weights are those of least squares with a penalty for leaving (1, 0, …); the bonus is α standard errors."""
    rng = np.random.default_rng(0)
    agent = LinUCB(width=0.7, ridge=3.0)
    agent.begin_round(view_of())
    rows, targets = [], []
    for _ in range(30):
        intensity = rng.random(4).astype(np.float32)
        history, slate = rng.choice(4, rng.integers(0, 4), replace=False), rng.permutation(4)[:2]
        consumed = rng.random(2) < 0.4
        agent.learn(Feedback(arrivals_of(intensity[None], [history]), slate[None], consumed[None]))
        rows += list(features(intensity.astype(float), history)[slate] * np.array([[1.0], [0.5]]))
        targets += list(consumed.astype(float))
    start = np.eye(7)[0]
    X = np.vstack([rows, np.sqrt(3.0) * np.eye(7)])
    weights = np.linalg.lstsq(X, np.append(targets, np.sqrt(3.0) * start), rcond=None)[0]
    spread = np.linalg.pinv(X.T @ X)
    for history in ([], [0], [1, 3], [0, 1, 2]):
        intensity = rng.random((1, 4)).astype(np.float32)
        phi = features(intensity[0].astype(float), history)
        bound = phi @ weights + 0.7 * np.sqrt(np.einsum("md,de,me->m", phi, spread, phi))
        slate = agent.act(arrivals_of(intensity, [history]))[0]
        assert slate.tolist() == np.argsort(-bound)[:2].tolist()
    assert agent.diagnostics["weight_of_chance"] == pytest.approx(weights[0])
    assert agent.diagnostics["weight_of_genres"] == pytest.approx(np.linalg.norm(weights[1:]))
    assert agent.diagnostics["slates_learnt"] == 30


def test_it_begins_as_relevance_and_learns_which_genre_is_consumed():
    """First weights are 1 for the platform's chance, 0 for all else; a genre that is always consumed comes first."""
    slates = []
    for agent in (LinUCB(width=0.0, every=10_000), Relevance()):
        market = Market(small_scenario(rounds=1), needs=Needs.of(agent))
        play_round(market, agent)
        slates.append(market.closed[0].ledger.item)
    np.testing.assert_array_equal(*slates)
    agent = LinUCB(ridge=1.0)
    agent.begin_round(view_of((1.0, 1.0)))
    flat = np.full((1, 4), 0.25)
    for _ in range(50):
        agent.learn(Feedback(arrivals_of(flat, [[]]), np.array([[3, 0]]), np.array([[True, False]])))
    assert agent.act(arrivals_of(np.array([[0.4, 0.3, 0.3, 0.2]]), [[]]))[0, 0] == 3


@pytest.mark.parametrize("scenario", [small_scenario, small_replay])
def test_an_agent_that_asks_is_told_what_visitors_consumed(scenario):
    """The history of an arrival holds what the platform knows: exactly what may not be shown any more."""
    config = scenario(rounds=1)
    market = Market(config, needs=Needs(history=True, items=True))
    assert market.round_view().items["id"].tolist() == market.world.log.items["id"].tolist()
    some = 0
    while not market.done:
        arrivals = market.next_arrivals(7)
        states = arrivals.history
        assert states.now.tolist() == arrivals.time.tolist()
        for row in range(len(arrivals)):
            known = states.items[states.offsets[row] : states.offsets[row + 1]]
            assert (np.diff(states.times[states.offsets[row] : states.offsets[row + 1]]) >= 0).all()
            assert set(known.tolist()) == set(np.flatnonzero(~arrivals.admissible[row].numpy()).tolist())
            some += len(known)
        turned = arrivals.rows(np.arange(len(arrivals))[::-1].copy()).history
        assert turned.lengths.tolist() == states.lengths[::-1].tolist()
        market.serve(arrivals, arrivals.relevance.topk(config.slate).indices)
    assert some > 100


def test_an_agent_that_does_not_ask_is_told_nothing():
    """Without a declared need all stay None; needs of several agents add up, and a given catalogue is its own."""
    market = Market(small_scenario(rounds=1))
    arrivals = market.next_arrivals(3)
    assert (arrivals.history, arrivals.true_intensity, market.round_view().items) == (None, None, None)
    assert Needs.of(LinUCB(), Relevance()) == Needs(items=True, history=True)
    assert Needs.of(make_agent("oracle"), make_agent("hindsight")) == Needs(truth=True, future=True)
    assert Needs.of(Relevance()) == Needs()
    market = Market(small_scenario(rounds=1), needs=Needs(items=True))
    market.round_view().items["genres"] = "spoilt"
    assert "spoilt" not in set(market.world.log.items["genres"]) | set(market.round_view().items["genres"])


def test_an_environment_tells_an_agent_what_it_needs():
    """In the environment an arrival holds its history, and feedback of it the history before the slate."""
    env = MarketEnv(rounds=1, settings={"data.min_item_events": 120, "platform.model": "popularity-hp"})
    env.needs = Needs(history=True)
    env.reset(seed=0)
    before = env.arrivals.history.items.tolist()
    env.step(np.flatnonzero(env.arrivals.admissible[0].numpy())[: env.config.slate])
    assert env.feedback.arrivals.history.items.tolist() == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of three rounds that was left alone."""
    return load_run(small_run(tmp_path_factory.mktemp("lin-ucb") / "whole", ["lin-ucb"]).folder)


def test_what_it_has_learnt_outlives_an_interruption(whole, tmp_path, monkeypatch):
    """A run that stops after a round and is resumed has the same content as one that was left alone."""
    with stopped_after_a_round(monkeypatch):
        refused(ArmsError, "enough", small_run, tmp_path, ["lin-ucb"])
    assert digest(resume(tmp_path, workers=1)) == digest(whole)


def test_figures_of_an_agent_of_its_own_reach_tables_and_event_files(whole):
    """Each round's ``diagnostics`` are metrics ``agent/<name>``, and scalars of that tag."""
    learnt = whole.rounds[whole.rounds["metric"] == "agent/slates_learnt"]
    assert learnt["value"].tolist() == [120, 240, 360]
    scalars = read_scalars(event_folder(whole.folder, "lin-ucb", 0))
    assert [point.value for point in scalars["agent/slates_learnt"]] == [120, 240, 360]


def test_diagnostics_that_are_no_numbers_are_refused():
    """An agent whose diagnostics are not names with numbers is named."""
    agent = Relevance()
    agent.name, agent.diagnostics = "wordy", {"mood": "good"}
    refused(AgentError, "'wordy'.*allowed: a mapping of names to numbers", diagnostics_of, agent)
