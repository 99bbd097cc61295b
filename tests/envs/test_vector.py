"""Batches of markets: each is a single environment, at the end of its episodes too."""

import copy
from functools import partial

import cloudpickle
import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from kit import markets, same_arrays
from kit.environments import short_options
from kit.markets import SMALL

from rimsim.envs import MarketEnv
from rimsim.envs.vector import MarketVectorEnv
from rimsim.market import Market, Slates

COPIES = 3


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_vector_equals_single_environments(kind):
    """Observations, rewards and ends are those of single environments at seeds s, s + 1, …, infos side by side."""
    kwargs = short_options(kind)
    envs = gymnasium.make_vec("RIMMarket-v0", num_envs=COPIES, **kwargs)
    assert isinstance(envs, MarketVectorEnv)
    singles = [MarketEnv(**kwargs) for _ in range(COPIES)]
    together, _ = envs.reset(seed=4)
    alone = [env.reset(seed=4 + n)[0] for n, env in enumerate(singles)]
    ended = False
    while not ended:
        assert envs.observation_space.contains(together)
        for n, observation in enumerate(alone):
            np.testing.assert_equal({name: together[name][n] for name in together}, observation)
        actions = np.argsort(-together["relevance"], axis=1, kind="stable")[:, :5]
        together, rewards, ends, _, infos = envs.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        alone = [step[0] for step in steps]
        assert rewards.tolist() == [step[1] for step in steps]
        assert ends.tolist() == [step[2] for step in steps]
        for key, values in infos["market"].items():
            if not key.startswith("_"):
                assert values.tolist() == np.array([step[4]["market"][key] for step in steps]).tolist()
        ended = ends.all()
        assert ended or not ends.any()


def _by_compiled_step(env):
    """Whether compiled code served the last slate of an environment."""
    return env._stock.observed.last_row[0] >= 0


@pytest.mark.parametrize("kind", ["clones", "replay"])
def test_a_market_of_a_vector_can_go_on_by_itself(kind, monkeypatch):
    """What is read of a market, noted or served between joint steps is that of a single environment, in every bit."""
    monkeypatch.setattr("rimsim.market.histories._ROOM", 1)
    kwargs = short_options(kind, **{"arrivals.per_round": 40, "arrivals.max_visits": 9})
    envs = gymnasium.make_vec("RIMMarket-v0", num_envs=2, **kwargs)
    singles = [MarketEnv(**kwargs) for _ in range(2)]
    together, _ = envs.reset(seed=4)
    alone = [env.reset(seed=4 + n)[0] for n, env in enumerate(singles)]
    is_joint = []
    is_compiled = []
    for step in range(60):
        for n, observation in enumerate(alone):
            np.testing.assert_equal({name: together[name][n] for name in together}, observation)
        pair = envs.envs[step % 2], singles[step % 2]
        actions = np.argsort(-together["relevance"], axis=1, kind="stable")[:, :5]
        actions[0, 4] = actions[0, step % 5]
        if step % 9 == 4:
            is_compiled.append(_by_compiled_step(envs.envs[0]))
            joint_feedback, single_feedback = (env.feedback for env in pair)
            same_arrays(joint_feedback, single_feedback, "slates", "consumed")
            same_arrays(joint_feedback.arrivals, single_feedback.arrivals, "relevance")
        elif step % 9 == 5:
            np.testing.assert_array_equal(*(env.action_masks() for env in pair))
            np.testing.assert_array_equal(*(env.standing.missing for env in pair))
        elif step % 9 == 6:
            for env in pair:
                env.annotate(Slates(actions[step % 2][None], np.full((1, 5), 2.5, np.float32)))
        elif step % 9 == 7:  # one arrival of both markets, each served by itself
            steps = [env.step(action) for env, action in zip(envs.envs, actions, strict=True)]
            alone = [env.step(action)[0] for env, action in zip(singles, actions, strict=True)]
            together = {name: np.stack([env_step[0][name] for env_step in steps]) for name in together}
            continue
        elif step % 9 == 8:
            after = [copy.deepcopy(env).step(actions[step % 2])[0] for env in pair]
            np.testing.assert_equal(*after)
        together, rewards, *_ = envs.step(actions)
        is_joint.append(all(map(_by_compiled_step, envs.envs)))
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        alone = [env_step[0] for env_step in steps]
        single_rewards = [env_step[1] for env_step in steps]
        assert rewards.tolist() == single_rewards
    assert 20 < sum(is_joint) < len(is_joint)
    assert any(is_compiled)
    for joint_env, single in zip(envs.envs, singles, strict=True):
        assert len(joint_env.market.closed) == 1
        events = joint_env.market.closed[0].histories.events
        assert kind == "replay" or 10 < events.size[0] <= len(events.tick)
        markets.same_ledgers(joint_env.market, single.market)
        same_arrays(joint_env.market.ledger, single.market.ledger, "item", "price")


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "exchange"])
def test_copies_of_a_vector_are_markets_of_their_own(way):
    """A copied vector, the first one and one with a copied market each step as single environments do."""
    kwargs = short_options("clones", **{"arrivals.per_round": 40})
    envs = gymnasium.make_vec("RIMMarket-v0", num_envs=2, **kwargs)
    envs.reset(seed=4)
    slates = np.arange(10).reshape(2, 5)
    envs.step(slates)
    served = [slates]
    copied = envs
    if way == "deepcopy":
        copied = copy.deepcopy(envs)
    elif way == "pickle":
        served = []
        copied = cloudpickle.loads(cloudpickle.dumps(envs))
        copied.reset(seed=4)
    else:
        envs.envs[1] = copy.deepcopy(envs.envs[1])
    copied.step(slates + 10)
    copied.step(slates + 20)
    played = [(copied, [*served, slates + 10, slates + 20])]
    if copied is not envs:
        envs.step(slates + 30)
        played.append((envs, [slates, slates + 30]))
    for vector, actions in played:
        for number, env in enumerate(vector.envs):
            single = MarketEnv(**kwargs)
            single.reset(seed=4 + number)
            for action in actions:
                single.step(action[number])
            np.testing.assert_array_equal(env.market.ledger.item, single.market.ledger.item)
            np.testing.assert_equal(env.observation(), single.observation())


@pytest.mark.parametrize("mode", AutoresetMode)
def test_episodes_end_as_in_gymnasiums_own_vector_environment(mode):
    """Over the ends of two episodes each mode gives the arrays and last observations of ``SyncVectorEnv``."""
    kwargs = short_options(
        "clones", rounds=1, **{"consumer.attraction": 30.0}
    )  # so that each slate is rewarded
    ours = gymnasium.make_vec("RIMMarket-v0", num_envs=2, autoreset_mode=mode, **kwargs)
    theirs = SyncVectorEnv([partial(MarketEnv, **kwargs)] * 2, autoreset_mode=mode)
    observations = ours.reset(seed=7)[0]
    their_observations = theirs.reset(seed=7)[0]
    ended = np.zeros(2, bool)
    for step in range(26):
        if ended.any() and mode is AutoresetMode.DISABLED:
            mask = {"reset_mask": ended}
            observations, their_observations = (envs.reset(options=dict(mask))[0] for envs in (ours, theirs))
        np.testing.assert_equal(observations, their_observations)
        actions = np.argsort(-observations["relevance"], axis=1, kind="stable")[:, :5]
        if step == 3:  # then the episodes end apart
            resets_first = np.array([True, False])
            observations, their_observations = (
                envs.reset(options={"reset_mask": resets_first})[0] for envs in (ours, theirs)
            )
            continue
        observations, rewards, ended, _, infos = ours.step(actions)
        their_observations, *rest, their_infos = theirs.step(actions)
        assert [rewards.tolist(), ended.tolist()] == [part.tolist() for part in rest[:2]]
        for name in ("_final_obs", "_final_info", "_market"):
            assert np.array_equal(infos.get(name, ()), their_infos.get(name, ()))
        last_observation, their_last_observation = (
            list(step_infos.get("final_obs", ())) for step_infos in (infos, their_infos)
        )
        np.testing.assert_equal(last_observation, their_last_observation)


def test_wrappers_of_gymnasium_are_taken():
    """Wrappers of single environments go into make_vec, and statistics count an episode's length and rewards."""
    make_vector = partial(
        gymnasium.make_vec, "RIMMarket-v0", num_envs=COPIES, **short_options("clones", rounds=1)
    )
    wrapped = make_vector(wrappers=(wrappers.NormalizeReward,), vectorization_mode="sync")
    wrapped.reset(seed=0)
    assert wrapped.step(np.zeros((COPIES, 5), np.int64))[1].shape == (COPIES,)
    envs = RecordEpisodeStatistics(make_vector())
    observations, _ = envs.reset(seed=0)
    total = np.zeros(COPIES)
    for _ in range(12):
        actions = np.argsort(-observations["relevance"], axis=1)[:, :5]
        observations, rewards, ended, _, infos = envs.step(actions)
        total += rewards
    assert ended.all()
    assert infos["episode"]["l"].tolist() == [12] * COPIES
    np.testing.assert_allclose(infos["episode"]["r"], total)


def test_free_choice_is_the_same_step_by_step():
    """Steps, joint steps and batches bring equal consumptions, whether of slates or free."""
    kwargs = short_options("clones", **{"consumer.own_choice": 0.4, "consumer.attraction": 5.0})
    envs = gymnasium.make_vec("RIMMarket-v0", num_envs=2, **kwargs)
    single = MarketEnv(**kwargs)
    observed, _ = envs.reset(seed=4)
    alone, _ = single.reset(seed=4)
    ended = False
    n_consumed = 0
    rounds = []
    while not ended:
        np.testing.assert_equal({name: observed[name][0] for name in observed}, alone)
        opened = single.market.open
        actions = np.argsort(-observed["relevance"], axis=1, kind="stable")[:, :5]
        observed, rewards, ends, _, _ = envs.step(actions)
        alone, reward, ended, _, info = single.step(actions[0])
        n_consumed += info["market"]["consumed"]
        assert (rewards[0], ends[0]) == (reward, ended)
        if single.market.open is not opened or ended:
            rounds.append(opened)
    batched = Market(single.market.config, seeds=single.market.seeds)
    while not batched.done:
        arrivals = batched.next_arrivals(5)
        order = np.argsort(-arrivals.relevance.numpy(), axis=1, kind="stable")
        batched.serve(arrivals, order[:, :5])
    for opened, closed in zip(rounds, batched.closed, strict=True):
        assert closed.ledger.organic.any()
        same_arrays(opened.ledger, closed.ledger, "item", "consumed", "organic")
        for of_steps, of_batches in zip(
            opened.histories.all_events(), closed.histories.all_events(), strict=True
        ):
            np.testing.assert_array_equal(of_steps, of_batches)
    assert n_consumed == sum(closed.ledger.consumed.sum() for closed in batched.closed)
