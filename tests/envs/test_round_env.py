"""Environment in which a step is a round, and the registered tasks of sellers."""

import pickle
import warnings
from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from kit import refused

from rimsim.agents import LevelsAction, RoundPolicyAgent, make_agent, market_for, play_round
from rimsim.config import find_scenario, override
from rimsim.envs import RoundEnv
from rimsim.envs.rounds import TRAINING_SEEDS, market_seeds, objective
from rimsim.errors import AgentError, ConfigError, MarketError
from rimsim.market import Needs

SMALL = {
    "rounds": 3,
    "arrivals.per_round": 40,
    "platform.model": "popularity-hp",
    "data.min_item_events": 120,
}
CONFIG = override(find_scenario("sellers-hidden"), SMALL)
ACTION = np.array([-0.5, 0.0, 0.2, -1.0, 0.4, 0.3], np.float32)


def small_env():
    """Small market of sellers with other needs in each market."""
    return RoundEnv(CONFIG, action=LevelsAction())


def test_gymnasium_finds_no_fault():
    """The checker of Gymnasium accepts the environment, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(small_env(), skip_render_check=True)


def test_an_episode_is_that_of_the_policy_as_an_agent():
    """Rewards, observations and slates of an episode are those of the agent with the same policy, to the bit."""
    env = small_env()
    first, _ = env.reset(options={"market_seed": 4})
    seen = [first]

    def policy(observation):
        np.testing.assert_array_equal(observation, seen[-1])
        return ACTION * (1 - observation[0])

    agent = RoundPolicyAgent(policy)
    market = market_for(agent, CONFIG, seeds=market_seeds(4))
    over = False
    while not over:
        action = policy(seen[-1])
        play_round(market, agent)
        observation, reward, over, _, info = env.step(action)
        closed = market.closed.pop()
        assert reward == objective(closed, CONFIG) / 100
        assert info["round"]["objective"] == info["round"]["consumptions"] + 2 * info["round"]["providers"]
        seen.append(observation)
    assert market.done
    assert seen[-1][0] == 1.0
    refused(MarketError, "the episode is over", env.step, ACTION)


def test_observations_count_classes_by_hand():
    """Shares of classes, of leavers and mean exposures are those of the market's records."""
    env = small_env()
    env.reset(options={"market_seed": 2})
    classes = env.roster.of_class
    there = np.ones(len(classes), bool)
    for _ in range(3):
        market = env.market
        env.action.play(market, ACTION)
        closed = market.closed.pop()
        market.closed.append(closed)
        leaves = closed.changes.leaves
        there &= ~leaves
        observation = env.observation.observe(
            market.round_view() if not market.done else env_last_view(env, closed)
        )
        uniform = 40 * 10 / len(classes)
        for number in range(5):
            members = classes == number
            assert observation[3 + number] == pytest.approx(there[members].mean())
            assert observation[8 + number] == pytest.approx(leaves[members].mean())
            shown = closed.ledger.exposure(len(classes))[members & there]
            mean = min(shown.mean() / uniform, 5.0) if len(shown) else 0.0
            assert observation[13 + number] == pytest.approx(mean, rel=1e-5)
        assert observation[1] == pytest.approx(closed.ledger.consumed.sum() / 40)
        assert observation[2] == pytest.approx(there.mean())


def env_last_view(env, closed):
    """View after the last round."""
    from rimsim.envs.rounds import last_view

    return last_view(env._view, env.market, closed)


def test_resets_draw_training_markets_and_options_choose_one():
    """A seed fixes the sequence of markets, which are never markets for tests; options choose a market."""
    env = small_env()
    first = [env.reset(seed=5)[1]["market_seed"], env.reset()[1]["market_seed"]]
    again = [env.reset(seed=5)[1]["market_seed"], env.reset()[1]["market_seed"]]
    assert first == again
    assert min(first) >= TRAINING_SEEDS
    assert first[0] != first[1]
    assert env.reset(options={"market_seed": 3})[1]["market_seed"] == 3
    assert market_seeds(3).model == 3
    assert market_seeds(TRAINING_SEEDS).model == 0
    refused(ConfigError, "'market_seed', a whole number", env.reset, options={"market_seed": -1})
    refused(ConfigError, "the option 'seeds'", env.reset, options={"seeds": {}})
    refused(MarketError, "has not been reset", lambda: small_env().market)


def test_a_registered_id_is_one_task():
    """Both ids make their scenario, refuse settings, and are made as vectors."""
    for name, scenario in (("RIMSellers-v0", "sellers"), ("RIMSellersHidden-v0", "sellers-hidden")):
        env = gymnasium.make(name)
        assert env.unwrapped.config == find_scenario(scenario)
        assert env.action_space.shape == (6,)
        assert env.observation_space.shape == (18,)
        refused(
            ConfigError,
            f"{name}: settings, rounds cannot be set",
            gymnasium.make,
            name,
            settings={},
            rounds=2,
        )


def test_copies_and_vectors_play_alike():
    """A pickled copy and each market of a vector play as a single environment with the seed."""
    env = small_env()
    copy = pickle.loads(pickle.dumps(env))  # noqa: S301  # our own bytes
    vector = gymnasium.vector.SyncVectorEnv([small_env] * 2)
    batch, _ = vector.reset(seed=7)
    for number in range(2):
        observation, _ = env.reset(seed=7 + number)
        np.testing.assert_array_equal(batch[number], observation)
        np.testing.assert_array_equal(copy.reset(seed=7 + number)[0], observation)
    rewards = vector.step(np.stack([ACTION, ACTION]))[1]
    assert env.step(ACTION)[1] == copy.step(ACTION)[1] == rewards[1]


def test_stable_baselines_takes_the_environment():
    """Its checker accepts a single environment, and ``SB3VecEnv`` a batch of them."""
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    from rimsim.envs.learning import SB3VecEnv

    checker.check_env(small_env())
    vector = gymnasium.vector.SyncVectorEnv([small_env] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    batch = SB3VecEnv(vector)
    batch.seed(0)
    batch.reset()
    ends = [batch.step(np.stack([ACTION, ACTION]))[2].all() for _ in range(3)]
    assert ends == [False, False, True]


@dataclass(frozen=True)
class Exploration:
    """Action of one number: the share of random slates of the round."""

    needs = Needs()

    def space(self, roster):
        """Box of one number."""
        return spaces.Box(0.0, 1.0, (1,), np.float32)

    def play(self, market, action):
        """Serve the round with a share of random slates."""
        play_round(market, make_agent(f"epsilon-greedy(epsilon={float(action[0])})"))


def test_other_actions_need_no_other_environment():
    """An action that sets a rate of exploration plays as that agent, in a market without fees."""
    config = override(find_scenario("closed-loop"), SMALL | {"consumer.truth": "factors"})
    env = RoundEnv(config, action=Exploration())
    env.reset(options={"market_seed": 1})
    _, reward, _, _, info = env.step(np.array([0.5], np.float32))
    agent = make_agent("epsilon-greedy(epsilon=0.5)")
    market = market_for(agent, config, seeds=market_seeds(1))
    play_round(market, agent)
    assert 100 * reward == info["round"]["consumptions"] == market.closed[0].ledger.consumed.sum()


def test_actions_outside_the_box_are_clipped_and_nan_is_refused():
    """Numbers beyond ±1 act as ±1; an action of another shape, or with NaN, is refused."""
    env = small_env()
    env.reset(options={"market_seed": 1})
    inside = env.step(np.clip(3 * ACTION, -1, 1))[1]
    env.reset(options={"market_seed": 1})
    assert env.step(3 * ACTION)[1] == inside
    refused(AgentError, "not finite", env.step, np.full(6, np.nan))
    refused(AgentError, "levels has 1 numbers|Expected 1, or one per class", env.step, np.zeros(4))
