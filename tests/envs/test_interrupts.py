"""Episodes after a copy, an interrupt or an error: the market goes on as without it."""

import copy
from contextlib import suppress

import gymnasium
import numpy as np
import pytest
from kit import calls_of, cases, refused, same_arrays
from kit.environments import CLONES, EAGER, clones_env, short_options
from kit.markets import priced

from rimsim.envs import BonusAction, MarketEnv
from rimsim.errors import MarketError, ModelError
from rimsim.market import Slates
from rimsim.market.round import OpenRound
from rimsim.market.scores.arrivals import ArrivalScores


def test_a_copy_goes_on_as_the_episode_does():
    """A deep copy under wrappers, at first and after a retraining, has the same future; before a reset it is none.

    Rewards count groups, campaigns and caps, too.
    """
    env = clones_env()
    refused(MarketError, "has not been reset", getattr, env.unwrapped, "state")
    copy.deepcopy(env).reset(seed=0)
    for steps, config in ((0, priced()), (50, CLONES), (150, priced())):
        env = BonusAction(clones_env(config), by="shortfall")
        env.reset(seed=2)
        for _ in range(steps):
            env.step(np.zeros(1, np.float32))
        twin = copy.deepcopy(env)
        assert twin.unwrapped is not env.unwrapped
        state = env.unwrapped.state

        def future(episode, steps=steps):
            return [float(episode.step(np.full(1, 0.3, np.float32))[1]) for _ in range(240 - steps)]

        expected = future(env)
        assert future(twin) == expected
        env.unwrapped.load_state(state)
        assert future(env) == expected
        assert env.reset()[0]["clock"][1] == 0


@pytest.mark.parametrize(("copies", "call"), [(0, 1), (0, 7), (0, 8), (2, 3), (2, 12)])
def test_an_interrupted_step_leaves_a_market_that_goes_on(copies, call, monkeypatch):
    """Visitors who return are served as by the engine, also after an interrupt between a slate and its observation."""
    kwargs = short_options("clones", **{"arrivals.per_round": 900} | EAGER)
    env = gymnasium.make_vec("RIMMarket-v0", num_envs=copies, **kwargs) if copies else MarketEnv(**kwargs)
    by_engine = MarketEnv(**kwargs)
    calls = calls_of(monkeypatch, OpenRound, "score_ahead", interrupted_at=call)
    env.reset(seed=3)
    by_engine.reset(seed=3)
    stepped = env.envs[0] if copies else env
    for step in range(700):
        slate = np.arange(5) + step % 20 * 5
        try:
            env.step(np.stack([slate] * copies) if copies else slate)
        except KeyboardInterrupt:
            if stepped.market.served == by_engine.market.served:
                continue
        by_engine.annotate(Slates(slate[None]))
        by_engine.step(slate)
    assert len(calls) > 12
    np.testing.assert_array_equal(*(each_env.observation()["relevance"] for each_env in (stepped, by_engine)))
    columns = ("item", "consumed", "intensity", "true_intensity")
    same_arrays(stepped.market.open.ledger, by_engine.market.open.ledger, *columns)


@cases("owner name call", (ArrivalScores, "_enter", 1), (ArrivalScores, "_fill", 2), (OpenRound, "place", 4))
def test_a_market_goes_on_after_an_interrupt_of_what_a_step_calls(owner, name, call, monkeypatch):
    """Scores, the room for events and the answers of a copy are those of an engine that served the same slates."""
    monkeypatch.setattr("rimsim.market.histories._ROOM", 1)
    kwargs = short_options("clones", **{"arrivals.per_round": 200} | EAGER)
    env = MarketEnv(**kwargs)
    by_engine = MarketEnv(**kwargs)
    observation, _ = env.reset(seed=3)
    by_engine.reset(seed=3)
    calls = calls_of(monkeypatch, owner, name, interrupted_at=call)
    for _ in range(100):
        try:
            observation = env.step(np.argsort(-observation["relevance"])[:5])[0]
        except KeyboardInterrupt:
            with suppress(KeyboardInterrupt):
                observation = env.observation()
    assert len(calls) >= call
    served = env.market.served
    assert len(env.state.answers) == served > 90
    for slate in env.market.ledger.item[:served].astype(np.int64):
        by_engine.annotate(Slates(slate[None]))
        engine_observation = by_engine.step(slate)[0]
    np.testing.assert_equal(env.observation(), engine_observation)
    columns = ("item", "consumed", "intensity", "true_intensity")
    same_arrays(env.market.open.ledger, by_engine.market.open.ledger, *columns)


def test_an_environment_is_reset_after_an_error_of_its_model(monkeypatch):
    """A model that cannot score a state stops the episode in which the state occurs, and no later one."""
    env = MarketEnv(**short_options("clones", **{"arrivals.per_round": 200, "consumer.attraction": 30.0}))
    observation, _ = env.reset(seed=3)
    env.step(np.arange(5))
    stopped = env.market
    score = OpenRound.place

    def failing(opened, row):
        if opened is stopped.open and row > 3:
            raise ModelError("no score")
        return score(opened, row)

    monkeypatch.setattr(OpenRound, "place", failing)
    with suppress(ModelError):
        while not env.market.done:
            observation = env.step(np.argsort(-observation["relevance"])[:5])[0]
    refused(ModelError, "no score", env.observation)
    served = stopped.served
    env.reset(seed=4)
    env.step(np.arange(5))
    assert (env.market.served, stopped.served) == (1, served)
