"""The contract of Gymnasium: registration, checker, rendering, seeds, observations and arguments."""

import inspect
import pickle
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from kit import refused
from kit.environments import SETTINGS, clones_env, make_env
from kit.markets import SMALL, settings_of

from rimsim.config import Seeds
from rimsim.envs import GROUND_BOUND, BonusAction, MarketEnv
from rimsim.errors import ConfigError, MarketError


def test_importing_rimsim_registers_the_environment_and_loads_no_torch():
    """A fresh interpreter knows the id without torch or pandas, and Gymnasium imports rimsim by itself."""
    code = (
        "import sys, warnings, rimsim, gymnasium; assert not {'torch', 'pandas'} & sys.modules.keys(); "
        "gymnasium.registry.pop('RIMMarket-v0'); sys.modules.pop('rimsim'); warnings.resetwarnings(); "
        f"gymnasium.make('rimsim:RIMMarket-v0', settings={SETTINGS!r}).reset(seed=0)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_check_env_finds_nothing(kind):
    """Gymnasium's checker passes for every kind of market, and any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make_env(scenario="closed-loop", settings=settings_of(SMALL[kind]()))
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("mode", MarketEnv.metadata["render_modes"])
def test_every_render_mode_renders(mode):
    """Ansi gives text that counts arrivals, rgb_array a picture that changes as exposure does."""
    env = make_env(render_mode=mode)
    env.reset(seed=0)
    before = env.render()
    env.step(env.unwrapped.arrivals.relevance[0].topk(5).indices.numpy())
    after = env.render()
    if mode == "ansi":
        assert "1 of 60 arrivals served" in after
    else:
        assert (before.dtype, before.ndim, before.shape[2]) == (np.uint8, 3, 3)
        assert (before != after).any()


def test_same_seed_same_trajectory():
    """Copies with one seed, through JSON or pickle too, agree in every observation, reward and info."""
    original = make_env(scenario="closed-loop", settings=settings_of(SMALL["clones"](rounds=2)))
    from_json = gymnasium.make(EnvSpec.from_json(original.spec.to_json()))
    copies = [from_json, pickle.loads(pickle.dumps(original.unwrapped))]  # noqa: S301  # our own bytes
    assert original.reset(seed=4)[1] != original.reset(seed=3)[1]
    step = original.reset(seed=3)
    copied_steps = [twin.reset(seed=3) for twin in copies]
    original.action_space.seed(0)
    is_over = False
    while not is_over:
        for copied_step in copied_steps:
            assert step[1:] == copied_step[1:]
            np.testing.assert_equal(step[0], copied_step[0])
        action = original.action_space.sample()
        step = original.step(action)
        copied_steps = [twin.step(action) for twin in copies]
        is_over = step[2]


def test_observations_are_fresh_and_within_their_space(env):
    """An observation keeps its values and shares no memory with the next, and all lie in the space to the last step."""
    observation, _ = env.reset(seed=0)
    is_over = False
    while not is_over:
        last = observation
        values_before = {name: value.copy() for name, value in observation.items()}
        observation, _, is_over, _, _ = env.step(np.argsort(-observation["relevance"])[:5])
        assert env.observation_space.contains(observation)
        for name, value in observation.items():
            assert not np.shares_memory(value, last[name])
            np.testing.assert_array_equal(last[name], values_before[name])
    assert observation["clock"].tolist() == [1.0, 1.0]
    assert not observation["admissible"].any()
    assert env.observation_space["ground_intensity"].high[0] == GROUND_BOUND


def test_seeds_can_be_set_one_by_one(env):
    """reset(options={"seeds": …}) changes the named seed; other options, fields and early steps are refused."""
    refused(MarketError, r"reset\(\)", env.step, np.zeros(5, np.int64))
    env.reset(seed=0, options={"seeds": {"choice": 9}})
    assert env.market.seeds == Seeds(arrivals=0, choice=9, model=0, agent=0)
    refused(ConfigError, "Expected only the option 'seeds'", env.reset, options={"sedes": {}})
    refused(ConfigError, r"exposure\.betta.*'exposure\.beta'", MarketEnv, settings={"exposure.betta": 0.3})
    for by in ("item", "genre"):
        message = f"groups is 5. but by='{by}' sets the number"
        refused(ConfigError, message, BonusAction, env, by=by, groups=5)


@pytest.mark.parametrize("make", [gymnasium.make, gymnasium.make_vec])
def test_a_misspelt_argument_is_told_with_the_nearest(make):
    """Also by Gymnasium, which hands it on; the signature stays that of the constructor (F14)."""
    message = "'scenaro' is not an argument. Did you mean 'scenario'?"
    refused(ConfigError, message, make, "RIMMarket-v0", scenaro="a")
    assert next(iter(inspect.signature(MarketEnv).parameters)) == "scenario"

    class Named(MarketEnv):
        def __init__(self, **options):
            super().__init__(**{name: value for name, value in options.items() if name != "mine"})

    assert Named(mine=1, rounds=2).config.rounds == 2


def test_info_and_masks_say_what_was_consumed_and_may_be_shown():
    """Items and what was taken are those of the feedback, a reset has none; each position has the admissible items."""
    env = clones_env()
    observation, info = env.reset(seed=0)
    assert set(info["market"]["items"]) == {-1}
    assert not any(info["market"]["taken"])
    for _ in range(20):
        masks = env.unwrapped.action_masks()
        assert masks.shape == (5 * len(observation["admissible"]),)
        assert (masks.reshape(5, -1) == observation["admissible"].astype(bool)).all()
        observation, _, _, _, info = env.step(observation["relevance"].argsort()[::-1][:5])
        feedback = env.unwrapped.feedback
        assert list(info["market"]["items"]) == feedback.slates[0].tolist()
        assert list(info["market"]["taken"]) == feedback.consumed[0].tolist()
        assert info["market"]["consumed"] == sum(info["market"]["taken"])
