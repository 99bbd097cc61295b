"""The vector environment: equal to single environments, and to what Gymnasium's wrappers expect."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from small_markets import SMALL
from test_envs import settings_of

import rimsim  # noqa: F401  # registers the environment
from rimsim.envs import MarketEnv, VectorMarketEnv
from rimsim.errors import AgentError, ConfigError, MarketError

COPIES = 3


def small(kind, **changes):
    """Keyword arguments of a market of some kind that is over soon, with two rounds where it retrains."""
    short = {"arrivals.per_round": 12, "rounds": 2, "slate": 5}
    return {"scenario": "closed-loop", "settings": settings_of(SMALL[kind]()) | short | changes}


def equal(one, other):
    """Nested dictionaries of arrays agree in keys, types and every bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            equal(one[key], other[key])
    elif isinstance(one, tuple) or (isinstance(one, np.ndarray) and one.dtype == object):
        for a, b in zip(one, other, strict=True):
            equal(a, b)
    else:
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).dtype == np.asarray(other).dtype


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("kind", sorted(SMALL))
def test_vector_equals_single_environments(kind, mode):
    """Observations, rewards, ends and infos are those of single environments, over rounds and an episode's end."""
    kwargs = small(kind)
    ours = gymnasium.make_vec("RIMMarket-v0", num_envs=COPIES, autoreset_mode=mode.value, **kwargs)
    theirs = SyncVectorEnv([lambda: MarketEnv(**kwargs)] * COPIES, autoreset_mode=mode)
    assert isinstance(ours, VectorMarketEnv)
    assert ours.metadata["autoreset_mode"] is mode
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    ours.action_space.seed(0)
    first = ours.reset(seed=4)
    equal(first, theirs.reset(seed=4))
    seen, ends = first[0], 0
    for step in range(60):
        actions = ours.action_space.sample()
        if step % 2:  # half of the slates are good ones, so that something is consumed
            actions = np.argsort(-seen["relevance"], axis=1)[:, :5]
        one, other = ours.step(actions), theirs.step(actions)
        equal(one, other)
        seen = one[0]
        ends += int(one[2].sum())
    assert ends >= COPIES


def test_observations_do_not_change_once_handed_out():
    """A step leaves the arrays of the steps before alone."""
    envs = VectorMarketEnv(COPIES, **small("clones"))
    first, _ = envs.reset(seed=0)
    kept = {name: value.copy() for name, value in first.items()}
    second = envs.step(np.argsort(-first["relevance"], axis=1)[:, :5])[0]
    equal(first, kept)
    assert not any(np.shares_memory(first[name], second[name]) for name in first)
    assert envs.observation_space.contains(second)


def test_episode_statistics_are_recorded():
    """Gymnasium's wrapper adds each episode's length and sum of rewards."""
    envs = RecordEpisodeStatistics(VectorMarketEnv(COPIES, **small("clones", rounds=1)))
    observations, _ = envs.reset(seed=0)
    total = np.zeros(COPIES)
    for _ in range(12):
        observations, rewards, ended, _, infos = envs.step(
            np.argsort(-observations["relevance"], axis=1)[:, :5]
        )
        total += rewards
    assert ended.all()
    assert infos["episode"]["l"].tolist() == [12] * COPIES
    np.testing.assert_allclose(infos["episode"]["r"], total)


def test_copies_are_reset_one_by_one():
    """With autoreset disabled, reset_mask opens the named copies alone, and a step without it is refused."""
    envs = VectorMarketEnv(COPIES, **small("clones", rounds=1), autoreset_mode="Disabled")
    with pytest.raises(MarketError, match="reset them first"):
        envs.step(np.zeros((COPIES, 5), np.int64))
    envs.reset(seed=0)
    envs.step(np.zeros((COPIES, 5), np.int64))
    mask = np.array([False, True, False])
    _, infos = envs.reset(seed=5, options={"reset_mask": mask})
    assert infos["market"]["_served"].tolist() == mask.tolist()
    _, _, _, _, infos = envs.step(np.zeros((COPIES, 5), np.int64))
    assert infos["market"]["served"].tolist() == [2, 1, 2]
    for _ in range(10):
        envs.step(np.zeros((COPIES, 5), np.int64))
    with pytest.raises(MarketError, match=r"copies \[0, 2\]"):
        envs.step(np.zeros((COPIES, 5), np.int64))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VectorMarketEnv(0), "num_envs is 0"),
        (lambda: VectorMarketEnv(2, autoreset_mode="never"), "'NextStep'"),
        (lambda: VectorMarketEnv(2, **small("clones")).reset(seed=[1]), "found 1 seeds; allowed: 2"),
        (
            lambda: VectorMarketEnv(2, **small("clones")).reset(options={"reset_mask": np.zeros(2, bool)}),
            "true for at least one copy",
        ),
    ],
)
def test_bad_arguments_are_told(call, message):
    """Wrong sizes, modes and masks are errors that say what is allowed."""
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize(
    "actions", [np.array([[3], [5]]), np.zeros((3, 5), int), np.zeros(10, int), np.zeros((2, 5))]
)
def test_actions_of_another_shape_or_type_are_refused(actions):
    """Slates too short, too many, flat or of fractions are an error of ours, and nothing was shown."""
    envs = VectorMarketEnv(2, **small("clones"))
    envs.reset(seed=np.int64(3))
    with pytest.raises(AgentError, match="allowed"):
        envs.step(actions)
    assert [env.market.served for env in envs.envs] == [0, 0]


@pytest.mark.parametrize("action", [np.array([3]), np.zeros((1, 5), int), np.zeros(5), "abc"])
def test_an_action_of_another_shape_or_type_is_refused(action):
    """A slate too short, nested, of fractions or of letters is an error of ours, and nothing was shown."""
    env = MarketEnv(**small("clones"))
    env.reset(seed=3)
    with pytest.raises(AgentError, match="allowed"):
        env.step(action)
    assert env.market.served == 0
