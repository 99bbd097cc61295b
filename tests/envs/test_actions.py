"""Slates that an action may hold: repeated, inadmissible and unknown items, other shapes and types."""

import copy

import gymnasium
import numpy as np
import pytest
from kit import refused
from kit.environments import SETTINGS, clones_env, make_env, short_options

from rimsim.agents import PolicyAgent, rollout
from rimsim.envs import MarketEnv
from rimsim.errors import AgentError, ConfigError


def test_invalid_items_leave_positions_empty_and_are_counted():
    """A repeated and an inadmissible item are emptied, and the rest is shown; a −1 is empty on purpose, not counted."""
    env = make_env(invalid_items="empty").unwrapped
    observation, _ = env.reset(seed=0)
    best = np.argsort(-observation["relevance"])[:3]
    barred = np.flatnonzero(observation["admissible"] == 0)
    bad = barred[0] if len(barred) else best[0]
    for action, emptied, slate in (
        ([best[0], best[0], bad, best[1], best[2]], 2, [best[0], -1, -1, best[1], best[2]]),
        ([-1] * 5, 0, [-1] * 5),
        ([99999, -2, *best], 2, [-1, -1, *best]),
    ):
        assert env.step(np.array(action))[4]["market"]["emptied"] == emptied
        assert env.feedback.slates[0].tolist() == slate


@pytest.mark.parametrize("item", [-1, -2, 99999])
@pytest.mark.parametrize("compiled", [True, False])
def test_an_item_outside_the_catalogue_is_refused(item, compiled, monkeypatch):
    """The error names item and position, the market stays as it was, and the next slate is served as without it."""
    if not compiled:
        monkeypatch.setattr(MarketEnv, "stepped_market", lambda _: None)
    env = make_env().unwrapped
    twin = make_env().unwrapped
    for each_env in (env, twin):
        each_env.reset(seed=0)
    for _ in range(3):
        message = rf"item {item} in position 3\. Expected items from 0 to {env.n_items - 1}\. .*invalid_items='empty'"
        refused(AgentError, message, env.step, np.array([0, 1, 2, item, 3]))
        np.testing.assert_equal(env.step(np.arange(5)), twin.step(np.arange(5)))


def test_an_item_outside_the_catalogue_moves_no_market_of_a_batch():
    """A wrong item of one market is refused before any other is served; an episode that is reset needs no items."""
    options = {
        "num_envs": 2,
        "settings": SETTINGS | {"arrivals.per_round": 3, "rounds": 1},
        "scenario": "closed-loop",
    }
    envs, twins = (gymnasium.make_vec("RIMMarket-v0", **options) for _ in range(2))
    for vector in (envs, twins):
        vector.reset(seed=0)
    good = np.arange(10).reshape(2, 5)
    wrong = np.arange(10).reshape(2, 5)
    wrong[1, 4] = 99999
    for _ in range(3):
        refused(AgentError, "item 99999 in position 4", envs.step, wrong)
        np.testing.assert_equal(envs.step(good), twins.step(good))
    np.testing.assert_equal(envs.step(wrong), twins.step(good))  # this step only resets
    lenient = gymnasium.make_vec("RIMMarket-v0", **options, invalid_items="empty")
    relevance = lenient.reset(seed=0)[0]["relevance"]
    slates = np.argsort(-relevance, axis=1)[:, :5]
    slates[1, 4] = 99999
    assert lenient.step(slates)[4]["market"]["emptied"].tolist() == [0, 1]


def test_an_episode_with_emptied_positions_is_resumed_from_its_state(env):
    """A repeated item becomes −1 in the record of the episode, which a state serves again without a refusal."""
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.zeros(5, np.int64))
    twin = copy.deepcopy(env)
    assert twin.invalid_items == "raise"
    np.testing.assert_equal(twin.step(np.arange(5)), env.step(np.arange(5)))


def test_an_unknown_answer_to_invalid_items_is_refused():
    """The message names the argument and offers the nearest word."""
    refused(ConfigError, "invalid_items is 'empti'. Did you mean 'empty'", make_env, invalid_items="empti")


def test_an_answer_of_another_shape_or_type_is_refused():
    """A slate too short, nested, of fractions or of letters shows nothing; its shape and type are told."""
    env = MarketEnv(**short_options("clones"))
    env.reset(seed=3)
    for action, shape in (
        (np.arange(3), r"\(3,\) and type int64"),
        (np.zeros((1, 5), int), r"\(1, 5\) and type int64"),
        (np.arange(5.0), r"\(5,\) and type float64"),
        (3, r"\(\) and type int64"),
        ("abc", r"\(\) and type <U3"),
    ):
        message = rf"an action has shape {shape}. Expected shape \(5,\) and whole numbers"
        refused(AgentError, message, env.step, action)
        assert env.market.served == 0
    policy = PolicyAgent(lambda _: np.zeros(3), name="odd")
    refused(AgentError, "returned 3 numbers. Expected 1", rollout, clones_env(), policy, seed=0)
