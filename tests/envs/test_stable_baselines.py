"""Environments as Stable-Baselines3 takes them: batches, checker, PPO and its callback."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from kit import cases, refused
from kit.environments import SETTINGS, clones_env, make_env

from rimsim.envs import BonusAction, CompactObservation, MeasuredEpisode
from rimsim.errors import ConfigError

TASK = {"scenario": "closed-loop", "settings": SETTINGS | {"arrivals.per_round": 4, "rounds": 2}}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_batch_of_markets_is_a_vector_environment_of_stable_baselines(wrapped):
    """Observations, rewards, ends and infos over several episodes are those of Stable-Baselines3's own DummyVecEnv."""
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    from rimsim.envs.learning import SB3VecEnv

    layers = [MeasuredEpisode, CompactObservation] if wrapped else []

    def single():
        env = make_env(**TASK)
        for layer in layers:
            env = layer(env)
        return env

    options = {"vectorization_mode": "sync", "wrappers": layers} if wrapped else {}
    mode = AutoresetMode.SAME_STEP
    options |= {"vector_kwargs": {"autoreset_mode": mode}} if wrapped else {"autoreset_mode": mode}
    ours = SB3VecEnv(gymnasium.make_vec("RIMMarket-v0", num_envs=2, **options, **TASK))
    theirs = vec_env.DummyVecEnv([single, single])
    for vector in (ours, theirs):
        vector.seed(3)
    np.testing.assert_equal(ours.reset(), theirs.reset())
    actions = np.random.default_rng(0)
    ends = 0
    for _ in range(20):
        action = np.stack([actions.permutation(theirs.get_attr("n_items")[0])[:5] for _ in range(2)])
        our_step = ours.step(action)
        their_step = theirs.step(action)
        np.testing.assert_equal(our_step[:3], their_step[:3])
        for info, their_info in zip(our_step[3], their_step[3], strict=True):
            assert info.keys() == their_info.keys()
            assert {"terminal_observation"} <= info.keys() or not our_step[2].any()
            np.testing.assert_equal(info.get("terminal_observation"), their_info.get("terminal_observation"))
            np.testing.assert_equal(info.get("measures"), their_info.get("measures"))
            np.testing.assert_equal(_plain(info["market"]), _plain(their_info["market"]))
        ends += our_step[2].sum()
    assert ends == 4
    assert ours.env_is_wrapped(MeasuredEpisode) == theirs.env_is_wrapped(MeasuredEpisode) == [wrapped] * 2
    assert [mask.shape for mask in ours.env_method("action_masks", indices=1)] == [
        (5 * ours.get_attr("n_items")[0],)
    ]


def _plain(values):
    """Values as lists and numbers, whether tuples, arrays or scalars of NumPy."""
    return {key: np.asarray(value).tolist() for key, value in values.items()}


def test_ppo_learns_on_a_batch_of_markets():
    """PPO takes the raw dictionary of observations, logs episodes, and its policy plays an episode."""
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.vec_env import VecMonitor

    from rimsim.envs.learning import SB3VecEnv

    envs = gymnasium.make_vec("RIMMarket-v0", num_envs=2, autoreset_mode=AutoresetMode.SAME_STEP, **TASK)
    learner = sb3.PPO(
        "MultiInputPolicy", VecMonitor(SB3VecEnv(envs)), n_steps=16, batch_size=8, seed=0, device="cpu"
    )
    learner.learn(32)
    assert len(learner.ep_info_buffer) == 4
    assert {episode["l"] for episode in learner.ep_info_buffer} == {8}


def test_other_vector_environments_are_refused_for_stable_baselines():
    """Another autoreset mode and a single environment are refused with what to write instead."""
    pytest.importorskip("stable_baselines3")
    from rimsim.envs.learning import SB3VecEnv

    envs = gymnasium.make_vec("RIMMarket-v0", num_envs=2, **TASK)
    refused(ConfigError, "autoreset_mode is NextStep.*AutoresetMode.SAME_STEP", SB3VecEnv, envs)
    refused(ConfigError, "Expected the result of gymnasium.make_vec", SB3VecEnv, make_env(**TASK))


@cases("by size", ("item", None), ("genre", None), ("popularity", 10))
def test_bonus_action_passes_stable_baselines_checker(by, size):
    """Stable-Baselines3 finds nothing to complain about, and an extreme bonus changes the slate."""
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    env = BonusAction(make_env(), by=by)
    assert size is None or env.action_space.shape == (size,)
    np.testing.assert_allclose(env.share.sum(0), 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3.check_env(env)
    env.reset(seed=0)
    low = -np.ones(env.action_space.shape)
    high = -np.ones(env.action_space.shape)
    favoured = int(np.flatnonzero(env.share @ env.unwrapped.arrivals.admissible[0].numpy())[0])
    high[favoured] = 1.0
    assert env.action(low).tolist() == env.unwrapped.arrivals.intensity[0].topk(5).indices.tolist()
    assert env.share[favoured][env.action(high)].sum() >= env.share[favoured][env.action(low)].sum()


def test_the_callback_logs_the_measures():
    """Stable-Baselines3 logs the measures of episodes under ``rimsim/``."""
    sb3 = pytest.importorskip("stable_baselines3")
    from rimsim.envs.learning import MeasuresCallback

    env = CompactObservation(BonusAction(MeasuredEpisode(clones_env()), by="shortfall"))
    learner = sb3.PPO("MlpPolicy", env, n_steps=240, batch_size=60, n_epochs=1, seed=0, device="cpu")
    learner.learn(240, callback=MeasuresCallback(), log_interval=None)
    assert "rimsim/coverage" in learner.logger.name_to_value
