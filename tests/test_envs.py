"""The Gymnasium environment: its contract, its equality with the engine, its wrappers."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from types import SimpleNamespace

import gymnasium
import numpy as np
import pandas as pd
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from small_markets import PAIRS, SMALL, play_out, settings_of

import rimsim
from rimsim.agents import make_agent, market_for, rollout
from rimsim.config import Seeds
from rimsim.envs import GROUND_BOUND, BonusAction, MarketEnv
from rimsim.errors import AgentError, ConfigError, MarketError
from rimsim.market import Slates

SETTINGS = {
    "platform.model": "popularity-hp",
    "data.min_item_events": 120,
    "slate": 5,
    "arrivals.per_round": 60,
    "arrivals.warmup_share": 0.9,
}


@pytest.fixture
def env():
    """The default scenario in small, without Gymnasium's checkers around it."""
    return gymnasium.make("RIMMarket-v0", settings=SETTINGS).unwrapped


def test_importing_rimsim_registers_the_environment_and_loads_no_torch():
    """A fresh interpreter knows the id after the import, without torch or pandas."""
    code = (
        "import sys, rimsim, gymnasium; assert 'RIMMarket-v0' in gymnasium.registry; "
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_module_prefix_makes_the_environment_without_an_import():
    """gymnasium.make("rimsim:RIMMarket-v0") imports rimsim by itself."""
    code = f"import gymnasium; gymnasium.make('rimsim:RIMMarket-v0', settings={SETTINGS!r}).reset(seed=0)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_check_env_finds_nothing(kind):
    """Gymnasium's checker passes for every kind of market, and any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = gymnasium.make("RIMMarket-v0", scenario="closed-loop", settings=settings_of(SMALL[kind]()))
        check_env(made.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("mode", MarketEnv.metadata["render_modes"])
def test_every_render_mode_renders(mode):
    """Ansi gives text that counts arrivals, rgb_array a picture that changes as exposure does."""
    made = gymnasium.make("RIMMarket-v0", settings=SETTINGS, render_mode=mode)
    _, _ = made.reset(seed=0)
    before = made.render()
    made.step(made.unwrapped.arrivals.relevance[0].topk(5).indices.numpy())
    after = made.render()
    if mode == "ansi":
        assert "1 of 60 arrivals served" in after
    else:
        assert before.dtype == np.uint8
        assert before.ndim == 3
        assert before.shape[2] == 3
        assert (before != after).any()


def test_same_seed_same_trajectory():
    """Two copies with one seed and the same actions agree in every observation, reward and info."""
    one, two = (gymnasium.make("RIMMarket-v0", settings=SETTINGS) for _ in range(2))
    (a, info_a), (b, info_b) = one.reset(seed=3), two.reset(seed=3)
    one.action_space.seed(0)
    done = False
    while not done:
        assert info_a == info_b
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name])
        action = one.action_space.sample()
        a, reward_a, done, _, info_a = one.step(action)
        b, reward_b, _, _, info_b = two.step(action)
        assert reward_a == reward_b


def test_another_seed_brings_other_arrivals():
    """Clones of two seeds differ; a replay's arrivals are the log's, whatever the seed."""
    clones = settings_of(SMALL["clones"]())
    made = gymnasium.make("RIMMarket-v0", scenario="closed-loop", settings=clones)
    assert made.reset(seed=1)[1] != made.reset(seed=2)[1]


def test_observations_are_fresh_and_within_their_space(env):
    """No observation shares memory with an earlier one, and all lie in the space to the last step."""
    observation, _ = env.reset(seed=0)
    kept = [observation]
    done = False
    while not done:
        observation, _, done, _, _ = env.step(np.argsort(-observation["relevance"])[:5])
        assert env.observation_space.contains(observation)
        for name, value in observation.items():
            assert not np.shares_memory(value, kept[-1][name])
        kept.append(observation)
    assert observation["clock"].tolist() == [1.0, 1.0]
    assert not observation["admissible"].any()
    assert env.observation_space["ground_intensity"].high[0] == GROUND_BOUND


def test_invalid_items_leave_positions_empty_and_are_counted(env):
    """A repeated and an inadmissible item are emptied; the rest is shown."""
    observation, _ = env.reset(seed=0)
    good = np.argsort(-observation["relevance"])[:3]
    barred = np.flatnonzero(observation["admissible"] == 0)
    bad = barred[0] if len(barred) else good[0]
    _, _, _, _, info = env.step(np.array([good[0], good[0], bad, good[1], good[2]]))
    assert info["market"]["emptied"] == 2
    assert env.feedback.slates[0].tolist() == [good[0], -1, -1, good[1], good[2]]


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_the_short_way_of_a_step_is_the_long_way(kind):
    """A step gives the same whether the slate goes through compiled code for one arrival or through the engine."""
    settings = settings_of(SMALL[kind]()) | {"arrivals.per_round": 30, "rounds": 2}
    one, other = (MarketEnv("closed-loop", settings=settings) for _ in range(2))
    (seen, info), (seen_too, info_too) = one.reset(seed=5), other.reset(seed=5)
    one.action_space.seed(0)
    done = False
    while not done:
        assert info == info_too
        for name, value in seen.items():
            np.testing.assert_array_equal(value, seen_too[name])
            assert value.dtype == seen_too[name].dtype
        action = one.action_space.sample()
        action[:3] = np.argsort(-seen["relevance"])[[0, 0, 1]][: len(action[:3])]
        other.annotate(Slates(action[None]))
        seen, reward, done, _, info = one.step(action)
        seen_too, reward_too, _, _, info_too = other.step(action)
        assert reward == reward_too
        for name in ("slates", "consumed"):
            np.testing.assert_array_equal(getattr(one.feedback, name), getattr(other.feedback, name))
        for name in ("id", "time", "user", "index"):
            np.testing.assert_array_equal(
                getattr(one.feedback.arrivals, name), getattr(other.feedback.arrivals, name)
            )
    for mine, theirs in zip(one.market.closed, other.market.closed, strict=True):
        for name in ("item", "consumed", "intensity", "probability", "true_intensity", "ground"):
            np.testing.assert_array_equal(getattr(mine.ledger, name), getattr(theirs.ledger, name))


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (np.arange(3), r"an action has shape \(3,\) and type int64; allowed: \(5,\) whole numbers"),
        (np.arange(5.0), r"an action has shape \(5,\) and type float64; allowed: \(5,\) whole numbers"),
        (3, r"an action has shape \(\) and type int64; allowed: \(5,\) whole numbers"),
    ],
)
def test_an_action_of_another_shape_or_type_is_refused(env, action, told):
    """The error names the shape and the type that were given, and those that are allowed."""
    env.reset(seed=0)
    with pytest.raises(AgentError, match=told):
        env.step(action)


def test_reward_is_consumption_plus_what_shortfall_went_down(env):
    """The sum of rewards is consumptions + c × (Σb − shortfall)."""
    env.reset(seed=0)
    total, cost, required, done = 0.0, env.market.cost, env.market.required.copy(), False
    while not done:
        action = env.arrivals.relevance[0].topk(5).indices.numpy()
        _, reward, done, _, _ = env.step(action)
        total += reward
    ledger = env.market.closed[-1].ledger
    short = np.maximum(required - ledger.exposure(env.market.n_items), 0).sum()
    assert total == pytest.approx(ledger.consumed.sum() + cost * (required.sum() - short))


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_rollout_gives_what_the_engine_gives(kind, name):
    """One arrival at a time through Gymnasium leaves the ledger that the batch engine leaves, bit for bit."""
    config = SMALL[kind](rounds=2)
    made = gymnasium.make("RIMMarket-v0", scenario="closed-loop", settings=settings_of(config), model_seed=5)
    rollout(made, make_agent(name), seed=5)
    agent = make_agent(name)
    market = market_for(agent, config, seeds=Seeds.all(5))
    play_out(market, agent)
    for one, other in zip(made.unwrapped.market.closed, market.closed, strict=True):
        pd.testing.assert_frame_equal(
            one.ledger.table("a", 5, 0), other.ledger.table("a", 5, 0), check_exact=True
        )


def test_spec_survives_json():
    """The spec round-trips through JSON and makes an equal environment."""
    made = gymnasium.make("RIMMarket-v0", settings=SETTINGS, rounds=1)
    again = gymnasium.make(EnvSpec.from_json(made.spec.to_json()))
    assert made.reset(seed=4)[1] == again.reset(seed=4)[1]


def test_an_environment_that_was_not_reset_can_be_pickled():
    """A pickled copy behaves like the original."""
    made = MarketEnv(settings=SETTINGS)
    copy = pickle.loads(pickle.dumps(made))  # noqa: S301  # our own bytes
    assert made.reset(seed=1)[1] == copy.reset(seed=1)[1]


def test_seeds_can_be_set_one_by_one(env):
    """reset(options={"seeds": …}) changes the named seed; another option is refused."""
    env.reset(seed=0, options={"seeds": {"choice": 9}})
    assert env.market.seeds == Seeds(arrivals=0, choice=9, model=0, agent=0)
    with pytest.raises(ConfigError, match="allowed: 'seeds'"):
        env.reset(options={"sedes": {}})


def test_steps_outside_an_episode_are_refused():
    """Before reset and after the end there is no market to act in, and the error says so."""
    made = MarketEnv(settings=SETTINGS)
    with pytest.raises(MarketError, match=r"reset\(\)"):
        made.step(np.zeros(5, np.int64))


def test_round_view_holds_last_rounds_states(env):
    """The view has N, b, c and the scores of past states, one for each arrival of the past period."""
    env.reset(seed=0)
    view = env.round_view()
    rows = sum(len(chunk) for chunk in view.past)
    assert rows == len(view.past) > 0
    assert view.required.sum() == round(0.5 * view.arrivals * view.k)
    assert view.cost > 0


@pytest.mark.parametrize(("by", "size"), [("item", None), ("genre", None), ("popularity", 10)])
def test_bonus_action_passes_stable_baselines_checker(by, size):
    """Stable-Baselines3 finds nothing to complain about, and an extreme bonus changes the slate."""
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    made = BonusAction(gymnasium.make("RIMMarket-v0", settings=SETTINGS), by=by)
    assert size is None or made.action_space.shape == (size,)
    np.testing.assert_allclose(made.share.sum(0), 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3.check_env(made)
    made.reset(seed=0)
    low, high = -np.ones(made.action_space.shape), -np.ones(made.action_space.shape)
    favoured = int(np.flatnonzero(made.share @ made.unwrapped.arrivals.admissible[0].numpy())[0])
    high[favoured] = 1.0
    assert made.action(low).tolist() == made.unwrapped.arrivals.intensity[0].topk(5).indices.tolist()
    assert made.share[favoured][made.action(high)].sum() >= made.share[favoured][made.action(low)].sum()


def test_a_genre_named_twice_counts_once(monkeypatch):
    """Bonuses of an item's genres are shared in equal parts that sum to 1, however often its cell names one."""
    log = SimpleNamespace(n_items=3, items={"genres": ["Drama|Drama", "Comedy|Drama|Comedy", ""]})
    monkeypatch.setattr("rimsim.envs.wrappers.build_world", lambda _: SimpleNamespace(log=log))
    made = BonusAction(gymnasium.make("RIMMarket-v0", settings=SETTINGS), by="genre")
    assert made.share.T.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize("by", ["item", "genre"])
def test_bonuses_without_groups_refuse_a_number_of_them(by):
    """A number of popularity groups means nothing for items and genres, and is not passed over in silence."""
    with pytest.raises(ConfigError, match=f"groups is 5; allowed: none where by is '{by}'"):
        BonusAction(gymnasium.make("RIMMarket-v0", settings=SETTINGS), by=by, groups=5)


def test_unknown_settings_name_the_nearest_field():
    """A misspelt field is refused with the nearest name."""
    with pytest.raises(ConfigError, match=r"exposure\.betta.*'exposure\.beta'"):
        MarketEnv(settings={"exposure.betta": 0.3})


def test_version_is_a_plain_literal():
    """The version is what packaging reads."""
    assert rimsim.__version__.count(".") == 2
