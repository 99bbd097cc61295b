"""What learners need: bonuses for what lacks exposure, few numbers to see, masks, snapshots, and policies as agents."""

from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from small_markets import settings_of, small_capped, small_scenario

from rimsim import measures
from rimsim.agents import PolicyAgent, make_agent, market_for, play_round, rollout
from rimsim.config import Seeds
from rimsim.envs import COMPACT, BonusAction, CompactObservation, MeasuredEpisode
from rimsim.envs.observations import Standing, popularity_groups
from rimsim.envs.wrappers import Bonuses, compact
from rimsim.errors import AgentError, ConfigError, MarketError

CONFIG = small_scenario(rounds=2)


def made(config=CONFIG):
    """A small market of clones, 120 arrivals a round."""
    return gymnasium.make("RIMMarket-v0", scenario="closed-loop", settings=settings_of(config))


def standing(rng, m=12, k=3):
    """A made-up round in the middle."""
    return Standing(
        rng.uniform(0, 1, m),
        rng.uniform(size=m) < 0.8,
        rng.integers(0, 3, m).astype(float),
        rng.uniform(0, 3, m),
        0.8 ** np.arange(k),
        0.5,
        5,
        20,
    )


def test_only_items_that_lack_exposure_get_the_bonus():
    """The slate is the top k, by brute force, of λ(x,y) plus the bonus of the group where the item still lacks some."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        now = standing(rng)
        share = popularity_groups(rng.integers(0, 9, 12), 2)
        action = rng.uniform(-1, 1, 2)
        score = {}
        for item in np.flatnonzero(now.admissible):
            group = int(share[:, item].argmax())
            lacks = now.exposure[item] < now.required[item]
            score[item] = now.intensity[item] + lacks * 0.5 * (action[group] + 1) / 2
        best = sorted(score, key=lambda item: -score[item])[:3]
        assert Bonuses(share, lacking=True).slate(action, now).tolist() == best


def test_the_numbers_say_where_the_round_stands():
    """Each of the compact numbers is what a count by hand gives."""
    now = Standing(
        np.array([0.1, 0.4, 0.3, 0.2]),
        np.array([True, True, True, False]),
        np.array([2.0, 0.0, 2.0, 4.0]),
        np.array([0.0, 5.0, 2.0, 3.0]),
        np.ones(2),
        0.5,
        3,
        4,
    )
    seen = dict(
        zip([*COMPACT, "rare", "known"], compact(now, np.array([[1, 0, 0, 1], [0, 1, 1, 0.0]])), strict=True)
    )
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
    assert seen == pytest.approx(expected)


def test_compact_numbers_are_bounded_and_checked():
    """Through a whole episode the observation stays in its space, and Gymnasium's checker finds nothing."""
    env = CompactObservation(BonusAction(made(), by="shortfall"), groups=3)
    check_env(env, skip_render_check=True)
    assert env.observation_space.shape == (13,)
    assert env.action_space.shape == (1,)
    seen, _ = env.reset(seed=1)
    over = False
    while not over:
        assert env.observation_space.contains(seen)
        seen, _, over, _, _ = env.step(np.zeros(1, np.float32))
    assert not seen.any()
    with pytest.raises(ConfigError, match="groups is 0"):
        CompactObservation(made(), groups=0)


@pytest.mark.parametrize("config", [CONFIG, small_capped(rounds=2)], ids=["clones", "capped"])
def test_a_policy_is_the_same_agent_in_the_environment_and_in_batches(config):
    """What a policy gets through the wrappers it gets as an agent, one arrival at a time or in batches, to the bit."""

    def policy(seen):
        return np.array([seen[0] - seen[3], 2 * seen[1] - 1], np.float32)

    env = CompactObservation(BonusAction(made(config), by="shortfall", groups=2))
    seen, _ = env.reset(seed=4)
    total, over = 0.0, False
    while not over:
        seen, reward, over, _, _ = env.step(policy(seen))
        total += float(reward)
    assert rollout(made(config), PolicyAgent(policy, groups=2), seed=4).reward == total
    slates = []
    for batch in (1, 50):
        market = market_for(PolicyAgent(policy, groups=2), config, seeds=Seeds(arrivals=4, choice=4, agent=4))
        agent = PolicyAgent(policy, groups=2)
        opened = market.open
        play_round(market, agent, batch)
        slates.append(opened.ledger.item)
    assert (slates[0] == slates[1]).all()


def test_a_policy_with_another_answer_is_named():
    """An action of another size is refused with what is allowed."""
    with pytest.raises(AgentError, match="answers 3 numbers; allowed: 1"):
        rollout(made(), PolicyAgent(lambda _: np.zeros(3), name="odd"), seed=0)


def test_info_says_which_items_were_consumed():
    """Items and what was taken of them are those of the feedback; a reset has none."""
    env = made()
    seen, info = env.reset(seed=0)
    assert set(info["market"]["items"]) == {-1}
    assert not any(info["market"]["taken"])
    for _ in range(20):
        seen, _, _, _, info = env.step(seen["relevance"].argsort()[::-1][:5])
        feedback = env.unwrapped.feedback
        assert list(info["market"]["items"]) == feedback.slates[0].tolist()
        assert list(info["market"]["taken"]) == feedback.consumed[0].tolist()
        assert info["market"]["consumed"] == sum(info["market"]["taken"])


def test_masks_are_what_may_be_shown():
    """The mask is that of the observation, once for each position."""
    env = made()
    seen, _ = env.reset(seed=0)
    masks = env.unwrapped.action_masks()
    assert masks.shape == (5 * len(seen["admissible"]),)
    assert (masks.reshape(5, -1) == seen["admissible"].astype(bool)).all()


@pytest.mark.parametrize("steps", [0, 70, 150])
def test_a_copy_goes_on_as_the_episode_does(steps):
    """A deep copy under wrappers, before and after a retraining, has the same future, and each its own past."""
    env = BonusAction(made(), by="shortfall")
    env.reset(seed=2)
    for _ in range(steps):
        env.step(np.zeros(1, np.float32))
    twin = copy.deepcopy(env)
    assert twin.unwrapped is not env.unwrapped
    state = env.unwrapped.state
    futures = [
        [float(one.step(np.full(1, 0.3, np.float32))[1]) for _ in range(240 - steps)] for one in (env, twin)
    ]
    assert futures[0] == futures[1]
    env.unwrapped.load_state(state)
    assert [float(env.step(np.full(1, 0.3, np.float32))[1]) for _ in range(240 - steps)] == futures[0]
    assert env.reset()[0]["clock"][1] == 0


def test_nothing_is_copied_before_a_reset():
    """A copy of an environment that was not reset is a fresh one; it has no state."""
    env = made()
    with pytest.raises(MarketError, match="has not been reset"):
        _ = env.unwrapped.state
    copy.deepcopy(env).reset(seed=0)


def test_an_episode_ends_with_its_measures():
    """The last step tells means over rounds, the same as by hand; no step before tells any."""
    env = MeasuredEpisode(made())
    seen, _ = env.reset(seed=0)
    shown, rewards, over = [], [], False
    while not over:
        seen, reward, over, _, info = env.step(seen["relevance"].argsort()[::-1][:5])
        shown.append(info["market"]["items"])
        rewards.append(float(reward))
        assert over == ("measures" in info)
    counts = [
        measures.exposure_counts(np.array(part), env.unwrapped.n_items)
        for part in np.split(np.array(shown), 2)
    ]
    assert info["measures"]["coverage"] == pytest.approx(
        np.mean([measures.coverage(part) for part in counts])
    )
    assert info["measures"]["return"] == pytest.approx(sum(rewards) / 2)
    assert 0 < info["measures"]["undelivered"] < 1


def test_the_callback_logs_the_measures():
    """Stable-Baselines3 logs the measures of episodes under ``rimsim/``."""
    sb3 = pytest.importorskip("stable_baselines3")
    from rimsim.envs.learning import MeasuresCallback

    env = CompactObservation(BonusAction(MeasuredEpisode(made()), by="shortfall"))
    learner = sb3.PPO("MlpPolicy", env, n_steps=240, batch_size=60, n_epochs=1, seed=0, device="cpu")
    learner.learn(240, callback=MeasuresCallback(), log_interval=None)
    assert "rimsim/coverage" in learner.logger.name_to_value
    assert rollout(made(), make_agent("relevance"), seed=0).steps == 240


def test_a_policy_goes_on_with_its_groups():
    """Its groups are those of round 0, also where it is made anew and told what another remembered."""
    market = market_for(PolicyAgent(_low_numbers, groups=2), CONFIG, seeds=Seeds())
    agent = PolicyAgent(_low_numbers, groups=2, lacking=False)
    play_round(market, agent)
    agent.begin_round(market.round_view())
    anew, resumed = (PolicyAgent(_low_numbers, groups=2, lacking=False) for _ in range(2))
    anew.begin_round(market.round_view())
    resumed.load_state(agent.state)
    resumed.begin_round(market.round_view())
    arrivals = market.next_arrivals(40)
    expected = agent.act(arrivals)
    assert (resumed.act(arrivals) == expected).all()
    assert (anew.act(arrivals) != expected).any()


def _low_numbers(seen):
    """The bonuses of a policy that lifts the first of two groups."""
    del seen
    return np.array([1.0, -1.0], np.float32)
