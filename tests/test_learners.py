"""What learners need: bonuses, few numbers to see, masks, snapshots, policies as agents, several environments."""

import copy
from functools import partial

import gymnasium
import numpy as np
import pytest
import small_markets as markets
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import NormalizeReward
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from kit import cases, refused

from rimsim import measures
from rimsim.agents import PolicyAgent, make_agent, market_for, play_round, rollout
from rimsim.config import ArrivalsConfig, Seeds
from rimsim.envs import COMPACT, BonusAction, CompactObservation, MarketEnv, MeasuredEpisode
from rimsim.envs.observations import Standing, popularity_groups
from rimsim.envs.wrappers import Bonuses, compact
from rimsim.errors import AgentError, ConfigError, MarketError
from rimsim.intensity.contract import BLOCK

CONFIG = markets.small_scenario(rounds=2)


def made(config=CONFIG):
    """A small market of clones, 120 arrivals a round."""
    return gymnasium.make("RIMMarket-v0", scenario="closed-loop", settings=markets.settings_of(config))


def standing(rng, m=12, k=3):
    """A made-up round in the middle."""
    intensity, admissible = rng.uniform(0, 1, m), rng.uniform(size=m) < 0.8
    exposure, required = rng.integers(0, 3, m).astype(float), rng.integers(0, 7, m) / 2
    return Standing(intensity, admissible, exposure, required, 0.8 ** np.arange(k), 0.5, 5, 20)


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
    intensity, admissible = np.array([0.1, 0.4, 0.3, 0.2]), np.array([True, True, True, False])
    exposure, required = np.array([2.0, 0.0, 2.0, 4.0]), np.array([0.0, 5.0, 2.0, 3.0])
    now = Standing(intensity, admissible, exposure, required, np.ones(2), 0.5, 3, 4)
    found = compact(now, np.array([[1, 0, 0, 1], [0, 1, 1, 0.0]]))
    seen = dict(zip([*COMPACT, "rare", "known"], found, strict=True))
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
    assert (env.observation_space.shape, env.action_space.shape) == ((13,), (1,))
    seen, _ = env.reset(seed=1)
    over = False
    while not over:
        assert env.observation_space.contains(seen)
        seen, _, over, _, _ = env.step(np.zeros(1, np.float32))
    assert not seen.any()
    with pytest.raises(ConfigError, match="groups is 0"):
        CompactObservation(made(), groups=0)


@pytest.mark.parametrize("config", [CONFIG, markets.small_capped(rounds=2)], ids=["clones", "capped"])
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


def test_info_and_masks_say_what_was_consumed_and_may_be_shown():
    """Items and what was taken are those of the feedback, a reset has none; each position has the admissible items."""
    env = made()
    seen, info = env.reset(seed=0)
    assert set(info["market"]["items"]) == {-1}
    assert not any(info["market"]["taken"])
    for _ in range(20):
        masks = env.unwrapped.action_masks()
        assert masks.shape == (5 * len(seen["admissible"]),)
        assert (masks.reshape(5, -1) == seen["admissible"].astype(bool)).all()
        seen, _, _, _, info = env.step(seen["relevance"].argsort()[::-1][:5])
        feedback = env.unwrapped.feedback
        assert list(info["market"]["items"]) == feedback.slates[0].tolist()
        assert list(info["market"]["taken"]) == feedback.consumed[0].tolist()
        assert info["market"]["consumed"] == sum(info["market"]["taken"])


def test_a_copy_goes_on_as_the_episode_does():
    """A deep copy under wrappers, at first and after a retraining, has the same future; before a reset it is none."""
    env = made()
    refused(MarketError, "has not been reset", getattr, env.unwrapped, "state")
    copy.deepcopy(env).reset(seed=0)
    for steps in (0, 150):
        env = BonusAction(made(), by="shortfall")
        env.reset(seed=2)
        for _ in range(steps):
            env.step(np.zeros(1, np.float32))
        twin = copy.deepcopy(env)
        assert twin.unwrapped is not env.unwrapped
        state = env.unwrapped.state

        def future(one, steps=steps):
            return [float(one.step(np.full(1, 0.3, np.float32))[1]) for _ in range(240 - steps)]

        expected = future(env)
        assert future(twin) == expected
        env.unwrapped.load_state(state)
        assert future(env) == expected
        assert env.reset()[0]["clock"][1] == 0


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
    rounds, m = np.split(np.array(shown), 2), env.unwrapped.n_items
    coverage = np.mean([measures.coverage(measures.exposure_counts(part, m)) for part in rounds])
    assert info["measures"]["coverage"] == pytest.approx(coverage)
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

    def low_numbers(_):
        return np.array([1.0, -1.0], np.float32)  # lifts the first of two groups

    agent, anew, resumed = (PolicyAgent(low_numbers, groups=2, lacking=False) for _ in range(3))
    market = market_for(agent, CONFIG, seeds=Seeds())
    play_round(market, agent)
    resumed.load_state(agent.state)
    for one in (agent, anew, resumed):
        one.begin_round(market.round_view())
    arrivals = market.next_arrivals(40)
    expected = agent.act(arrivals)
    assert (resumed.act(arrivals) == expected).all()
    assert (anew.act(arrivals) != expected).any()


COPIES = 3


def small(kind, **changes):
    """Keyword arguments of a market of some kind that is over soon, with two rounds where it retrains."""
    short = {"arrivals.per_round": 12, "rounds": 2, "slate": 5}
    return {
        "scenario": "closed-loop",
        "settings": markets.settings_of(markets.SMALL[kind]()) | short | changes,
    }


@pytest.mark.parametrize("kind", sorted(markets.SMALL))
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
    make = partial(gymnasium.make_vec, "RIMMarket-v0", num_envs=COPIES, **small("clones", rounds=1))
    wrapped = make(wrappers=(NormalizeReward,))
    wrapped.reset(seed=0)
    assert wrapped.step(np.zeros((COPIES, 5), np.int64))[1].shape == (COPIES,)
    envs = RecordEpisodeStatistics(make())
    observations, _ = envs.reset(seed=0)
    total = np.zeros(COPIES)
    for _ in range(12):
        actions = np.argsort(-observations["relevance"], axis=1)[:, :5]
        observations, rewards, ended, _, infos = envs.step(actions)
        total += rewards
    assert ended.all()
    assert infos["episode"]["l"].tolist() == [12] * COPIES
    np.testing.assert_allclose(infos["episode"]["r"], total)


def test_an_answer_of_another_shape_or_type_is_refused():
    """A slate too short, nested, of fractions or of letters shows nothing; of a policy its size is told."""
    env = MarketEnv(**small("clones"))
    env.reset(seed=3)
    for action in (np.array([3]), np.zeros((1, 5), int), np.zeros(5), "abc"):
        refused(AgentError, "allowed", env.step, action)
        assert env.market.served == 0
    policy = PolicyAgent(lambda _: np.zeros(3), name="odd")
    refused(AgentError, "answers 3 numbers; allowed: 1", rollout, made(), policy, seed=0)


@pytest.mark.parametrize("kind", sorted(markets.SMALL))
def test_an_episode_counts_its_arrivals_and_its_rewards(kind):
    """Steps are the arrivals of all rounds, the reward is consumptions + c·Σ_y min(E_y, b_y), in the unit of b."""
    made = gymnasium.make("RIMMarket-v0", settings=markets.settings_of(markets.SMALL[kind]())).unwrapped
    episode = rollout(made, make_agent("popularity"), seed=2)
    closed = made.market.closed
    assert episode.steps == sum(len(past.ledger.item) for past in closed)
    expected = 0.0
    for past in closed:
        met = np.minimum(markets.weighted_exposures(past), past.required).sum()
        expected += past.ledger.consumed.sum() + past.cost * met
    assert episode.reward == pytest.approx(expected, rel=1e-9)


@cases("asked most", (7, 7), (None, BLOCK))
def test_batches_hold_no_more_arrivals_than_asked_for(asked, most):
    """So many at once, or as many as are scored together; a round of many who could all be served at once has both."""
    config = markets.small_broadcast(rounds=1, arrivals=ArrivalsConfig(kind="broadcast", per_round=150))
    agent, sizes = make_agent("relevance"), []
    play_round(market_for(agent, config), agent, asked, report=sizes.append)
    assert sum(sizes) == 150
    assert max(sizes) == most
