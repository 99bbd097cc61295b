"""Several environments at once: Gymnasium's own vector environment over ours, and what its wrappers expect."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import NormalizeReward
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from small_markets import SMALL
from test_envs import settings_of

import rimsim  # noqa: F401  # registers the environment
from rimsim.envs import MarketEnv
from rimsim.errors import AgentError

COPIES = 3


def small(kind, **changes):
    """Keyword arguments of a market of some kind that is over soon, with two rounds where it retrains."""
    short = {"arrivals.per_round": 12, "rounds": 2, "slate": 5}
    return {"scenario": "closed-loop", "settings": settings_of(SMALL[kind]()) | short | changes}


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_vector_equals_single_environments(kind):
    """Observations, rewards and ends are those of single environments at seeds s, s + 1, …, infos side by side."""
    kwargs = small(kind)
    envs = gymnasium.make_vec("RIMMarket-v0", num_envs=COPIES, **kwargs)
    assert isinstance(envs, SyncVectorEnv)
    singles = [MarketEnv(**kwargs) for _ in range(COPIES)]
    together, _ = envs.reset(seed=4)
    alone = [env.reset(seed=4 + n)[0] for n, env in enumerate(singles)]
    ended = False
    while not ended:
        for n, observation in enumerate(alone):
            for name, value in observation.items():
                np.testing.assert_array_equal(together[name][n], value)
        actions = np.argsort(-together["relevance"], axis=1, kind="stable")[:, :5]
        together, rewards, ends, _, infos = envs.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        alone = [step[0] for step in steps]
        assert rewards.tolist() == [step[1] for step in steps]
        assert ends.tolist() == [step[2] for step in steps]
        for key, values in infos["market"].items():
            if not key.startswith("_"):
                assert values.tolist() == [step[4]["market"][key] for step in steps]
        ended = ends.all()
        assert ended or not ends.any()


def test_observations_do_not_change_once_handed_out():
    """A step leaves the arrays of the steps before alone."""
    env = MarketEnv(**small("clones"))
    first, _ = env.reset(seed=0)
    kept = {name: value.copy() for name, value in first.items()}
    second = env.step(np.argsort(-first["relevance"])[:5])[0]
    for name, value in first.items():
        np.testing.assert_array_equal(value, kept[name])
        assert not np.shares_memory(value, second[name])
    assert env.observation_space.contains(second)


def test_wrappers_of_gymnasium_are_taken():
    """Wrappers of single environments go into make_vec, and statistics count an episode's length and rewards."""
    wrapped = gymnasium.make_vec(
        "RIMMarket-v0", num_envs=COPIES, wrappers=(NormalizeReward,), **small("clones", rounds=1)
    )
    wrapped.reset(seed=0)
    assert wrapped.step(np.zeros((COPIES, 5), np.int64))[1].shape == (COPIES,)
    envs = RecordEpisodeStatistics(
        gymnasium.make_vec("RIMMarket-v0", num_envs=COPIES, **small("clones", rounds=1))
    )
    observations, _ = envs.reset(seed=0)
    total = np.zeros(COPIES)
    for _ in range(12):
        actions = np.argsort(-observations["relevance"], axis=1)[:, :5]
        observations, rewards, ended, _, infos = envs.step(actions)
        total += rewards
    assert ended.all()
    assert infos["episode"]["l"].tolist() == [12] * COPIES
    np.testing.assert_allclose(infos["episode"]["r"], total)


@pytest.mark.parametrize("action", [np.array([3]), np.zeros((1, 5), int), np.zeros(5), "abc"])
def test_an_action_of_another_shape_or_type_is_refused(action):
    """A slate too short, nested, of fractions or of letters is an error of ours, and nothing was shown."""
    env = MarketEnv(**small("clones"))
    env.reset(seed=3)
    with pytest.raises(AgentError, match="allowed"):
        env.step(action)
    assert env.market.served == 0
