"""Wrappers and policies: bonuses, compact observations, measures and policies as agents."""

from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from kit import markets, refused
from kit.environments import CLONES, clones_env, make_env

from rimsim import measures
from rimsim.agents import PolicyAgent, market_for, play_round, rollout
from rimsim.config import Seeds
from rimsim.envs import COMPACT, BonusAction, CompactObservation, MeasuredEpisode
from rimsim.envs.observations import Standing, popularity_groups
from rimsim.envs.wrappers import Bonuses, compact
from rimsim.errors import ConfigError


def test_a_genre_named_twice_counts_once(monkeypatch):
    """Bonuses of an item's genres are shared in equal parts that sum to 1, however often its cell names one."""
    log = SimpleNamespace(n_items=3, items={"genres": ["Drama|Drama", "Comedy|Drama|Comedy", ""]})
    monkeypatch.setattr("rimsim.envs.wrappers.build_world", lambda _: SimpleNamespace(log=log))
    env = BonusAction(make_env(), by="genre")
    assert env.share.T.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]


def test_only_items_that_lack_exposure_get_the_bonus():
    """The slate is the top k, by brute force, of λ(x,y) plus the bonus of the group where the item still lacks some."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        intensity = rng.uniform(0, 1, 12)
        admissible = rng.uniform(size=12) < 0.8
        exposure = rng.integers(0, 3, 12).astype(float)
        required = rng.integers(0, 7, 12) / 2
        standing = Standing(intensity, admissible, exposure, required, 0.8 ** np.arange(3), 0.5, 5, 20)
        share = popularity_groups(rng.integers(0, 9, 12), 2)
        action = rng.uniform(-1, 1, 2)
        score = {}
        for item in np.flatnonzero(standing.admissible):
            group = int(share[:, item].argmax())
            is_below = standing.exposure[item] < standing.required[item]
            score[item] = standing.intensity[item] + is_below * 0.5 * (action[group] + 1) / 2
        best = sorted(score, key=lambda item: -score[item])[:3]
        assert Bonuses(share, lacking=True).slate(action, standing).tolist() == best


def test_the_numbers_say_where_the_round_stands():
    """Each of the compact numbers is what a count by hand gives."""
    intensity = np.array([0.1, 0.4, 0.3, 0.2])
    admissible = np.array([True, True, True, False])
    exposure = np.array([2.0, 0.0, 2.0, 4.0])
    required = np.array([0.0, 5.0, 2.0, 3.0])
    standing = Standing(intensity, admissible, exposure, required, np.ones(2), 0.5, 3, 4)
    numbers = compact(standing, np.array([[1, 0, 0, 1], [0, 1, 1, 0.0]]))
    by_name = dict(zip([*COMPACT, "rare", "known"], numbers, strict=True))
    expected = {
        "gone": 3 / 4,
        "missing": 3 / 8,
        "lacking": 2 / 3,
        "pace": 1.0,  # three are missing and one arrival can be given two
        "ahead": 5 / 8 - 3 / 4,
        "mean": (0.8 / 3) / (0.8 / 3 + 0.5),
        "kth": 0.3 / 0.8,
        "top": 0.4 / 0.9,
        "lacking_top": 0.1 / 0.6,
        "lacking_mean": 0.1 / 0.6,
        "rare": 3 / 6,
        "known": 0.0,
    }
    assert by_name == pytest.approx(expected)


def test_numbers_of_a_round_count_positions_by_their_weights():
    """Arrivals to come can be given the sum of the weights each; after the expected arrivals, one more is assumed."""
    required = np.array([0.0, 5.0, 2.0, 3.0])
    exposure = np.array([2.0, 4.0, 0.5, 4.0])
    weights = np.array([1.0, 0.5])
    state = np.full(4, 0.2), np.ones(4, bool), required, exposure, weights, 0.5
    early = dict(zip(COMPACT, compact(Standing(*state, 1, 4), np.zeros((0, 4))), strict=True))
    assert early["gone"] == pytest.approx(1 / 4)
    assert early["pace"] == pytest.approx(2.5 / (3 * 1.5))
    late = dict(zip(COMPACT, compact(Standing(*state, 6, 4), np.zeros((0, 4))), strict=True))
    assert late["gone"] == 1.0
    assert late["pace"] == 1.0
    nearly = Standing(*state[:3], np.array([2.0, 5.0, 1.7, 4.0]), weights, 0.5, 6, 4)
    assert compact(nearly, np.zeros((0, 4)))[COMPACT.index("pace")] == pytest.approx(0.3 / 1.5)


def test_compact_numbers_are_bounded_and_checked():
    """Through a whole episode the observation stays in its space, and Gymnasium's checker finds nothing."""
    env = CompactObservation(BonusAction(clones_env(), by="shortfall"), groups=3)
    check_env(env, skip_render_check=True)
    assert (env.observation_space.shape, env.action_space.shape) == ((13,), (1,))
    observation, _ = env.reset(seed=1)
    is_over = False
    while not is_over:
        assert env.observation_space.contains(observation)
        observation, _, is_over, _, _ = env.step(np.zeros(1, np.float32))
    assert not observation.any()
    refused(ConfigError, "groups is 0", CompactObservation, clones_env(), groups=0)


@pytest.mark.parametrize("config", [CLONES, markets.small_capped(rounds=2)], ids=["clones", "capped"])
def test_a_policy_is_the_same_agent_in_the_environment_and_in_batches(config):
    """What a policy gets through the wrappers it gets as an agent, one arrival at a time or in batches, to the bit."""

    def policy(observation):
        return np.array([observation[0] - observation[3], 2 * observation[1] - 1], np.float32)

    env = CompactObservation(BonusAction(clones_env(config), by="shortfall", groups=2))
    observation, _ = env.reset(seed=4)
    total = 0.0
    is_over = False
    while not is_over:
        observation, reward, is_over, _, _ = env.step(policy(observation))
        total += float(reward)
    assert rollout(clones_env(config), PolicyAgent(policy, groups=2), seed=4).reward == total
    slates = []
    for batch in (1, 50):
        market = market_for(PolicyAgent(policy, groups=2), config, seeds=Seeds(arrivals=4, choice=4, agent=4))
        agent = PolicyAgent(policy, groups=2)
        opened = market.open
        play_round(market, agent, batch)
        slates.append(opened.ledger.item)
    assert (slates[0] == slates[1]).all()


def test_an_episode_ends_with_its_measures():
    """The last step tells means over rounds, the same as by hand; no step before tells any."""
    env = MeasuredEpisode(clones_env())
    observation, _ = env.reset(seed=0)
    shown = []
    rewards = []
    is_over = False
    while not is_over:
        observation, reward, is_over, _, info = env.step(observation["relevance"].argsort()[::-1][:5])
        shown.append(info["market"]["items"])
        rewards.append(float(reward))
        assert is_over == ("measures" in info)
    rounds = np.split(np.array(shown), 2)
    m = env.unwrapped.n_items
    coverage = np.mean([measures.coverage(measures.exposure_counts(part, m)) for part in rounds])
    assert info["measures"]["coverage"] == pytest.approx(coverage)
    assert info["measures"]["return"] == pytest.approx(sum(rewards) / 2)
    assert 0 < info["measures"]["undelivered"] < 1


def test_measures_of_an_episode_are_means_over_its_own_rounds():
    """All measures of a second episode are counts over its slates; undelivered is in the unit of the guarantee."""
    env = MeasuredEpisode(clones_env())
    m = env.unwrapped.n_items
    for seed in (0, 1):
        observation, _ = env.reset(seed=seed)
        slates = []
        taken = []
        rewards = []
        is_over = False
        while not is_over:
            observation, reward, is_over, _, info = env.step(observation["relevance"].argsort()[::-1][:5])
            slates.append(info["market"]["items"])
            taken.append(info["market"]["taken"])
            rewards.append(float(reward))
    by_round = {name: [] for name in info["measures"]}
    for number, closed in enumerate(env.unwrapped.market.closed):
        visits = slice(120 * number, 120 * (number + 1))
        items = np.array(slates[visits])
        is_taken = np.array(taken[visits])
        exposure = np.bincount(items.ravel(), np.tile(closed.position_weights, 120), minlength=m)
        share = np.bincount(items.ravel(), minlength=m) / items.size
        n_taken = np.bincount(items[is_taken], minlength=m)
        by_round["return"].append(sum(rewards[visits]))
        by_round["consumed"].append(is_taken.sum() / 120)
        by_round["undelivered"].append(
            np.maximum(closed.required - exposure, 0).sum() / closed.required.sum()
        )
        by_round["coverage"].append((share > 0).mean())
        by_round["perplexity"].append(np.exp(-sum(p * np.log(p) for p in share if p > 0)))
        n = n_taken.sum()
        by_round["effective_items"].append(n * (n - 1) / (n_taken * (n_taken - 1)).sum())
    assert len(env.unwrapped.market.closed) == 2
    assert info["measures"] == pytest.approx({name: np.mean(values) for name, values in by_round.items()})


def test_a_policy_goes_on_with_its_groups():
    """Its groups are those of round 0, also where it is made anew and told what another remembered."""

    def low_numbers(_):
        return np.array([1.0, -1.0], np.float32)  # lifts the first of two groups

    agent, restarted, resumed = (PolicyAgent(low_numbers, groups=2, lacking=False) for _ in range(3))
    market = market_for(agent, CLONES, seeds=Seeds())
    play_round(market, agent)
    resumed.load_state(agent.state)
    for policy in (agent, restarted, resumed):
        policy.begin_round(market.round_view())
    arrivals = market.next_arrivals(40)
    expected = agent.act(arrivals)
    assert (resumed.act(arrivals) == expected).all()
    assert (restarted.act(arrivals) != expected).any()
