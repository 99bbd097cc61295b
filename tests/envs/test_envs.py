"""The Gymnasium environment and what learners need of it: contract, wrappers, masks, snapshots, policies as agents."""

import copy
import inspect
import pickle
import re
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import fields
from functools import partial
from types import SimpleNamespace

import cloudpickle
import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from kit import DOCS, calls_of, cases, markets, refused, same_arrays
from kit.markets import PAIRS, SMALL, played, priced, settings_of

from rimsim import measures
from rimsim.agents import PolicyAgent, make_agent, market_for, play_round, rollout
from rimsim.config import ArrivalsConfig, ConsumerConfig, Seeds
from rimsim.envs import COMPACT, GROUND_BOUND, BonusAction, CompactObservation, MarketEnv, MeasuredEpisode
from rimsim.envs.observations import Standing, popularity_groups
from rimsim.envs.vector import MarketVectorEnv
from rimsim.envs.wrappers import Bonuses, compact
from rimsim.errors import AgentError, ConfigError, MarketError, ModelError
from rimsim.intensity.contract import BLOCK
from rimsim.market import Slates
from rimsim.market.records import Needs
from rimsim.market.round import OpenRound
from rimsim.market.scores.arrivals import ArrivalScores

SETTINGS = {"platform.model": "popularity-hp", "data.min_item_events": 120, "slate": 5}
SETTINGS |= {"arrivals.per_round": 60, "arrivals.warmup_share": 0.9}


@pytest.fixture
def env():
    """The default scenario in small, without Gymnasium's checkers around it."""
    return make().unwrapped


def test_importing_rimsim_registers_the_environment_and_loads_no_torch():
    """A fresh interpreter knows the id without torch or pandas, and Gymnasium imports rimsim by itself."""
    code = (
        "import sys, warnings, rimsim, gymnasium; assert not {'torch', 'pandas'} & sys.modules.keys(); "
        "gymnasium.registry.pop('RIMMarket-v0'); sys.modules.pop('rimsim'); warnings.resetwarnings(); "
        f"gymnasium.make('rimsim:RIMMarket-v0', settings={SETTINGS!r}).reset(seed=0)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def make(**options):
    """The environment by its name, by default the default scenario in small."""
    return gymnasium.make("RIMMarket-v0", **({"settings": SETTINGS} | options))


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_check_env_finds_nothing(kind):
    """Gymnasium's checker passes for every kind of market, and any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make(scenario="closed-loop", settings=settings_of(SMALL[kind]()))
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("mode", MarketEnv.metadata["render_modes"])
def test_every_render_mode_renders(mode):
    """Ansi gives text that counts arrivals, rgb_array a picture that changes as exposure does."""
    env = make(render_mode=mode)
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
    original = make(scenario="closed-loop", settings=settings_of(SMALL["clones"](rounds=2)))
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


def test_invalid_items_leave_positions_empty_and_are_counted():
    """A repeated and an inadmissible item are emptied, and the rest is shown; a −1 is empty on purpose, not counted."""
    env = make(invalid_items="empty").unwrapped
    observation, _ = env.reset(seed=0)
    best = np.argsort(-observation["relevance"])[:3]
    barred = np.flatnonzero(observation["admissible"] == 0)
    bad = barred[0] if len(barred) else best[0]
    for action, emptied, slate in (
        ([best[0], best[0], bad, best[1], best[2]], 2, [best[0], -1, -1, best[1], best[2]]),
        ([-1] * 5, 0, [-1] * 5),
        ([99999, -2, *best], 2, [-1, -1, *best]),
    ):
        assert env.step(np.array(action))[4]["market"]["emptied"] == emptied
        assert env.feedback.slates[0].tolist() == slate


@pytest.mark.parametrize("item", [-1, -2, 99999])
@pytest.mark.parametrize("compiled", [True, False])
def test_an_item_outside_the_catalogue_is_refused(item, compiled, monkeypatch):
    """The error names item and position, the market stays as it was, and the next slate is served as without it."""
    if not compiled:
        monkeypatch.setattr(MarketEnv, "stepped_market", lambda _: None)
    env = make().unwrapped
    twin = make().unwrapped
    for each_env in (env, twin):
        each_env.reset(seed=0)
    for _ in range(3):
        message = rf"item {item} in position 3\. Expected items from 0 to {env.n_items - 1}\. .*invalid_items='empty'"
        refused(AgentError, message, env.step, np.array([0, 1, 2, item, 3]))
        np.testing.assert_equal(env.step(np.arange(5)), twin.step(np.arange(5)))


def test_an_item_outside_the_catalogue_moves_no_market_of_a_batch():
    """A wrong item of one market is refused before any other is served; an episode that is reset needs no items."""
    options = {
        "num_envs": 2,
        "settings": SETTINGS | {"arrivals.per_round": 3, "rounds": 1},
        "scenario": "closed-loop",
    }
    envs, twins = (gymnasium.make_vec("RIMMarket-v0", **options) for _ in range(2))
    for vector in (envs, twins):
        vector.reset(seed=0)
    good = np.arange(10).reshape(2, 5)
    wrong = np.arange(10).reshape(2, 5)
    wrong[1, 4] = 99999
    for _ in range(3):
        refused(AgentError, "item 99999 in position 4", envs.step, wrong)
        np.testing.assert_equal(envs.step(good), twins.step(good))
    np.testing.assert_equal(envs.step(wrong), twins.step(good))  # this step only resets
    lenient = gymnasium.make_vec("RIMMarket-v0", **options, invalid_items="empty")
    relevance = lenient.reset(seed=0)[0]["relevance"]
    slates = np.argsort(-relevance, axis=1)[:, :5]
    slates[1, 4] = 99999
    assert lenient.step(slates)[4]["market"]["emptied"].tolist() == [0, 1]


def test_an_episode_with_emptied_positions_is_resumed_from_its_state(env):
    """A repeated item becomes −1 in the record of the episode, which a state serves again without a refusal."""
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.zeros(5, np.int64))
    twin = copy.deepcopy(env)
    assert twin.invalid_items == "raise"
    np.testing.assert_equal(twin.step(np.arange(5)), env.step(np.arange(5)))


TASK = {"scenario": "closed-loop", "settings": SETTINGS | {"arrivals.per_round": 4, "rounds": 2}}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_batch_of_markets_is_a_vector_environment_of_stable_baselines(wrapped):
    """Observations, rewards, ends and infos over several episodes are those of Stable-Baselines3's own DummyVecEnv."""
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    from rimsim.envs.learning import SB3VecEnv

    layers = [MeasuredEpisode, CompactObservation] if wrapped else []

    def single():
        env = make(**TASK)
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
    refused(ConfigError, "Expected the result of gymnasium.make_vec", SB3VecEnv, make(**TASK))


def test_an_unknown_answer_to_invalid_items_is_refused():
    """The message names the argument and offers the nearest word."""
    refused(ConfigError, "invalid_items is 'empti'. Did you mean 'empty'", make, invalid_items="empti")


@cases(
    "kind changes",
    *((kind, {}) for kind in sorted(SMALL)),
    ("clones", {"platform.model": "bag-visits(steps=20)"}),
    ("replay", {"exposure.unit": "shown"}),
    ("clones", {"consumer.hidden.rho": 0.3}),
    ("clones", {"consumer.delay": "1d"}),
    ("clones", {"consumer.kind": "logit"}),
    ("clones", {"consumer.dynamics.conformity": 1.0}),
)
def test_the_short_way_of_a_step_is_the_long_way(kind, changes):
    """A step gives the same whether the slate goes through compiled code for one arrival or through the engine."""
    settings = settings_of(SMALL[kind]()) | {"arrivals.per_round": 30, "rounds": 2} | changes
    compiled, by_engine = (MarketEnv("closed-loop", settings=settings) for _ in range(2))
    (observation, *answer) = compiled.reset(seed=5)
    (engine_observation, *engine_answer) = by_engine.reset(seed=5)
    compiled.action_space.seed(0)
    is_over = False
    while not is_over:
        assert answer == engine_answer
        np.testing.assert_equal(observation, engine_observation)
        assert [value.dtype for value in observation.values()] == [
            value.dtype for value in engine_observation.values()
        ]
        action = compiled.action_space.sample()
        action[:3] = np.argsort(-observation["relevance"])[[0, 0, 1]][: len(action[:3])]
        by_engine.annotate(Slates(action[None]))
        (observation, *answer) = compiled.step(action)
        (engine_observation, *engine_answer) = by_engine.step(action)
        is_over = answer[1]
        same_arrays(compiled.feedback, by_engine.feedback, "slates", "consumed")
        same_arrays(compiled.feedback.arrivals, by_engine.feedback.arrivals, "id", "time", "user", "row")
    for closed, engine_closed in zip(compiled.market.closed, by_engine.market.closed, strict=True):
        columns = ("item", "consumed", "intensity", "probability", "true_intensity", "ground")
        same_arrays(closed.ledger, engine_closed.ledger, *columns)
        events = closed.histories.events
        same_arrays(events, engine_closed.histories.events, *(field.name for field in fields(events)))


# Each agent and each market is among these pairs; all pairs are in test_market, with batches of one.
@cases("kind name", *PAIRS[2::3], ("promises", "rim-feedback"))
def test_rollout_gives_what_the_engine_gives(kind, name):
    """One arrival at a time through Gymnasium leaves the ledger that the batch engine leaves, bit for bit."""
    config = priced() if kind == "promises" else SMALL[kind](rounds=2)
    env = make(scenario="closed-loop", settings=settings_of(config), model_seed=5)
    rollout(env, make_agent(name), seed=5)
    markets.same_ledgers(env.unwrapped.market, played(config, name, seeds=Seeds.all(5)))


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


@cases("by size", ("item", None), ("genre", None), ("popularity", 10))
def test_bonus_action_passes_stable_baselines_checker(by, size):
    """Stable-Baselines3 finds nothing to complain about, and an extreme bonus changes the slate."""
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    env = BonusAction(make(), by=by)
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


def test_a_genre_named_twice_counts_once(monkeypatch):
    """Bonuses of an item's genres are shared in equal parts that sum to 1, however often its cell names one."""
    log = SimpleNamespace(n_items=3, items={"genres": ["Drama|Drama", "Comedy|Drama|Comedy", ""]})
    monkeypatch.setattr("rimsim.envs.wrappers.build_world", lambda _: SimpleNamespace(log=log))
    env = BonusAction(make(), by="genre")
    assert env.share.T.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]


TEXT = "\n".join((DOCS / name).read_text(encoding="utf-8") for name in ("environment.md", "learning.md"))


@pytest.fixture(scope="module")
def names():
    """What the blocks of the page leave behind, each run after those before it."""
    pytest.importorskip("stable_baselines3")
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "the page", "exec"), namespace)  # noqa: S102  # our own page
    return namespace


def rows(heading):
    """First cells of the table below a heading, split at commas."""
    section = re.split(r"\n## ", TEXT.split(f"## {heading}\n", 1)[1])[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


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


def test_the_blocks_of_the_page_run_and_give_what_it_says(names):
    """The first block plays an episode, and what later ones leave behind has the shapes and sums of the page."""
    assert names["total"] > 0
    assert (names["episode"].steps, names["priced"].share.shape) == (120, (10, 100))
    assert names["envs"].metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.SAME_STEP
    assert (names["envs"].single_action_space.shape, names["rewards"].shape) == ((100,), (3,))
    assert np.isfinite([names["learnt"], names["reference"]]).all()
    assert names["learner"].num_timesteps >= 240


def test_the_tables_of_the_page_name_every_argument_key_and_info(names):
    """Arguments, observation and info of the page are those of the environment, in its order."""
    env = names["env"]
    observation, info = env.reset(seed=0)
    assert rows("Observation") == list(observation)
    assert rows('`info["market"]`') == list(info["market"])
    assert rows("Arguments")[0] == "scenario"
    assert set(inspect.signature(MarketEnv).parameters) <= set(rows("Arguments"))
    for name, value in observation.items():
        size = "M" if len(value) == env.unwrapped.n_items else str(len(value))
        assert f"| `{name}` | ({size},) {value.dtype} |" in TEXT


CONFIG = markets.small_scenario(rounds=2)


def made(config=CONFIG):
    """A small market of clones, 120 arrivals a round."""
    return gymnasium.make("RIMMarket-v0", scenario="closed-loop", settings=settings_of(config))


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


def test_compact_numbers_are_bounded_and_checked():
    """Through a whole episode the observation stays in its space, and Gymnasium's checker finds nothing."""
    env = CompactObservation(BonusAction(made(), by="shortfall"), groups=3)
    check_env(env, skip_render_check=True)
    assert (env.observation_space.shape, env.action_space.shape) == ((13,), (1,))
    observation, _ = env.reset(seed=1)
    is_over = False
    while not is_over:
        assert env.observation_space.contains(observation)
        observation, _, is_over, _, _ = env.step(np.zeros(1, np.float32))
    assert not observation.any()
    refused(ConfigError, "groups is 0", CompactObservation, made(), groups=0)


@pytest.mark.parametrize("config", [CONFIG, markets.small_capped(rounds=2)], ids=["clones", "capped"])
def test_a_policy_is_the_same_agent_in_the_environment_and_in_batches(config):
    """What a policy gets through the wrappers it gets as an agent, one arrival at a time or in batches, to the bit."""

    def policy(observation):
        return np.array([observation[0] - observation[3], 2 * observation[1] - 1], np.float32)

    env = CompactObservation(BonusAction(made(config), by="shortfall", groups=2))
    observation, _ = env.reset(seed=4)
    total = 0.0
    is_over = False
    while not is_over:
        observation, reward, is_over, _, _ = env.step(policy(observation))
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


def test_a_copy_goes_on_as_the_episode_does():
    """A deep copy under wrappers, at first and after a retraining, has the same future; before a reset it is none.

    Rewards count groups, campaigns and caps, too.
    """
    env = made()
    refused(MarketError, "has not been reset", getattr, env.unwrapped, "state")
    copy.deepcopy(env).reset(seed=0)
    for steps, config in ((0, priced()), (50, CONFIG), (150, priced())):
        env = BonusAction(made(config), by="shortfall")
        env.reset(seed=2)
        for _ in range(steps):
            env.step(np.zeros(1, np.float32))
        twin = copy.deepcopy(env)
        assert twin.unwrapped is not env.unwrapped
        state = env.unwrapped.state

        def future(episode, steps=steps):
            return [float(episode.step(np.full(1, 0.3, np.float32))[1]) for _ in range(240 - steps)]

        expected = future(env)
        assert future(twin) == expected
        env.unwrapped.load_state(state)
        assert future(env) == expected
        assert env.reset()[0]["clock"][1] == 0


def test_an_episode_ends_with_its_measures():
    """The last step tells means over rounds, the same as by hand; no step before tells any."""
    env = MeasuredEpisode(made())
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


def test_the_callback_logs_the_measures():
    """Stable-Baselines3 logs the measures of episodes under ``rimsim/``."""
    sb3 = pytest.importorskip("stable_baselines3")
    from rimsim.envs.learning import MeasuresCallback

    env = CompactObservation(BonusAction(MeasuredEpisode(made()), by="shortfall"))
    learner = sb3.PPO("MlpPolicy", env, n_steps=240, batch_size=60, n_epochs=1, seed=0, device="cpu")
    learner.learn(240, callback=MeasuresCallback(), log_interval=None)
    assert "rimsim/coverage" in learner.logger.name_to_value


def test_a_policy_goes_on_with_its_groups():
    """Its groups are those of round 0, also where it is made anew and told what another remembered."""

    def low_numbers(_):
        return np.array([1.0, -1.0], np.float32)  # lifts the first of two groups

    agent, restarted, resumed = (PolicyAgent(low_numbers, groups=2, lacking=False) for _ in range(3))
    market = market_for(agent, CONFIG, seeds=Seeds())
    play_round(market, agent)
    resumed.load_state(agent.state)
    for policy in (agent, restarted, resumed):
        policy.begin_round(market.round_view())
    arrivals = market.next_arrivals(40)
    expected = agent.act(arrivals)
    assert (resumed.act(arrivals) == expected).all()
    assert (restarted.act(arrivals) != expected).any()


COPIES = 3
EAGER = {"arrivals.max_visits": 9, "consumer.attraction": 30.0}
"""Visitors come back often and take much."""


def small(kind, **changes):
    """Keyword arguments of a market of some kind that is over soon, with two rounds where it retrains."""
    settings = settings_of(SMALL[kind]()) | {"arrivals.per_round": 12, "rounds": 2, "slate": 5}
    return {"settings": settings | changes}


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_vector_equals_single_environments(kind):
    """Observations, rewards and ends are those of single environments at seeds s, s + 1, …, infos side by side."""
    kwargs = small(kind)
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
    kwargs = small(kind, **{"arrivals.per_round": 40, "arrivals.max_visits": 9})
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


def test_a_market_can_be_served_outside_of_its_environment():
    """Arrivals that somebody serves or takes between two steps are not served a second time."""
    env = MarketEnv(**small("clones"))
    slates = np.arange(10).reshape(2, 5)
    for service in ("served", "taken", "taken and served later"):
        env.reset(seed=3)
        market = env.market
        for _ in range(4):
            env.step(slates[0])
        if service == "taken":
            market.serve(market.next_arrivals(2), slates, invalid="empty")
            env.step(slates[1])
        elif service == "taken and served later":
            waiting = market.next_arrivals(2)
            env.step(slates[1])
            market.serve(waiting, slates, invalid="empty")
        else:
            market.serve(env.arrivals, slates[:1], invalid="empty")
            refused(MarketError, "some of these arrivals are not waiting", env.step, slates[1])
            market.serve(market.next_arrivals(2), slates, invalid="empty")
        assert market.served == 7
        assert market.open.queue.state.is_served.sum() == 7


@pytest.mark.parametrize("kind", ["clones", "replay"])
def test_feedback_outlives_what_others_do_with_the_market(kind):
    """Feedback of a step is the same if arrivals were asked of the market after it."""
    feedbacks = []
    for asks_market in (False, True):
        env = MarketEnv(**small(kind))
        env.reset(seed=3)
        market = env.market
        for _ in range(4):
            env.step(np.arange(5))
        if asks_market:
            with suppress(MarketError):  # the next arrival may have to wait
                market.next_arrivals(1)
        feedbacks.append(env.feedback.arrivals)
    same_arrays(*feedbacks, "id", "relevance", "admissible")


def test_what_an_agent_needs_can_be_set_between_steps():
    """Feedback holds histories from the step on before which they were asked for, as they were before the slate."""
    env = MarketEnv(**small("clones"))
    env.reset(seed=3)
    env.step(np.arange(5))
    assert env.feedback.arrivals.history is None
    env.needs = Needs(history=True)
    env.step(np.arange(5))
    assert env.feedback.arrivals.history is not None
    before = env.arrivals.history.items.tolist()
    env.step(np.flatnonzero(env.arrivals.admissible[0].numpy())[:5])
    assert env.feedback.arrivals.history.items.tolist() == before


@pytest.mark.parametrize(("copies", "call"), [(0, 1), (0, 7), (0, 8), (2, 3), (2, 12)])
def test_an_interrupted_step_leaves_a_market_that_goes_on(copies, call, monkeypatch):
    """Visitors who return are served as by the engine, also after an interrupt between a slate and its observation."""
    kwargs = small("clones", **{"arrivals.per_round": 900} | EAGER)
    env = gymnasium.make_vec("RIMMarket-v0", num_envs=copies, **kwargs) if copies else MarketEnv(**kwargs)
    by_engine = MarketEnv(**kwargs)
    calls = calls_of(monkeypatch, OpenRound, "score_ahead", interrupted_at=call)
    env.reset(seed=3)
    by_engine.reset(seed=3)
    stepped = env.envs[0] if copies else env
    for step in range(700):
        slate = np.arange(5) + step % 20 * 5
        try:
            env.step(np.stack([slate] * copies) if copies else slate)
        except KeyboardInterrupt:
            if stepped.market.served == by_engine.market.served:
                continue
        by_engine.annotate(Slates(slate[None]))
        by_engine.step(slate)
    assert len(calls) > 12
    np.testing.assert_array_equal(*(each_env.observation()["relevance"] for each_env in (stepped, by_engine)))
    columns = ("item", "consumed", "intensity", "true_intensity")
    same_arrays(stepped.market.open.ledger, by_engine.market.open.ledger, *columns)


@cases("owner name call", (ArrivalScores, "_enter", 1), (ArrivalScores, "_fill", 2), (OpenRound, "place", 4))
def test_a_market_goes_on_after_an_interrupt_of_what_a_step_calls(owner, name, call, monkeypatch):
    """Scores, the room for events and the answers of a copy are those of an engine that served the same slates."""
    monkeypatch.setattr("rimsim.market.histories._ROOM", 1)
    kwargs = small("clones", **{"arrivals.per_round": 200} | EAGER)
    env = MarketEnv(**kwargs)
    by_engine = MarketEnv(**kwargs)
    observation, _ = env.reset(seed=3)
    by_engine.reset(seed=3)
    calls = calls_of(monkeypatch, owner, name, interrupted_at=call)
    for _ in range(100):
        try:
            observation = env.step(np.argsort(-observation["relevance"])[:5])[0]
        except KeyboardInterrupt:
            with suppress(KeyboardInterrupt):
                observation = env.observation()
    assert len(calls) >= call
    served = env.market.served
    assert len(env.state.answers) == served > 90
    for slate in env.market.ledger.item[:served].astype(np.int64):
        by_engine.annotate(Slates(slate[None]))
        engine_observation = by_engine.step(slate)[0]
    np.testing.assert_equal(env.observation(), engine_observation)
    columns = ("item", "consumed", "intensity", "true_intensity")
    same_arrays(env.market.open.ledger, by_engine.market.open.ledger, *columns)


def test_an_environment_is_reset_after_an_error_of_its_model(monkeypatch):
    """A model that cannot score a state stops the episode in which the state occurs, and no later one."""
    env = MarketEnv(**small("clones", **{"arrivals.per_round": 200, "consumer.attraction": 30.0}))
    observation, _ = env.reset(seed=3)
    env.step(np.arange(5))
    stopped = env.market
    score = OpenRound.place

    def failing(opened, row):
        if opened is stopped.open and row > 3:
            raise ModelError("no score")
        return score(opened, row)

    monkeypatch.setattr(OpenRound, "place", failing)
    with suppress(ModelError):
        while not env.market.done:
            observation = env.step(np.argsort(-observation["relevance"])[:5])[0]
    refused(ModelError, "no score", env.observation)
    served = stopped.served
    env.reset(seed=4)
    env.step(np.arange(5))
    assert (env.market.served, stopped.served) == (1, served)


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "exchange"])
def test_copies_of_a_vector_are_markets_of_their_own(way):
    """A copied vector, the first one and one with a copied market each step as single environments do."""
    kwargs = small("clones", **{"arrivals.per_round": 40})
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
    kwargs = small("clones", rounds=1, **{"consumer.attraction": 30.0})  # so that each slate is rewarded
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
    make_vector = partial(gymnasium.make_vec, "RIMMarket-v0", num_envs=COPIES, **small("clones", rounds=1))
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


def test_an_answer_of_another_shape_or_type_is_refused():
    """A slate too short, nested, of fractions or of letters shows nothing; its shape and type are told."""
    env = MarketEnv(**small("clones"))
    env.reset(seed=3)
    for action, shape in (
        (np.arange(3), r"\(3,\) and type int64"),
        (np.zeros((1, 5), int), r"\(1, 5\) and type int64"),
        (np.arange(5.0), r"\(5,\) and type float64"),
        (3, r"\(\) and type int64"),
        ("abc", r"\(\) and type <U3"),
    ):
        message = rf"an action has shape {shape}. Expected shape \(5,\) and whole numbers"
        refused(AgentError, message, env.step, action)
        assert env.market.served == 0
    policy = PolicyAgent(lambda _: np.zeros(3), name="odd")
    refused(AgentError, "returned 3 numbers. Expected 1", rollout, made(), policy, seed=0)


@pytest.mark.parametrize("delay", [None, "1d"], ids=["compiled", "general"])
def test_feedback_can_be_written_over(delay):
    """What a user does to the feedback of a step changes neither the ledger nor a state that is loaded."""
    config = markets.small_scenario(rounds=1, consumer=ConsumerConfig(delay=delay))
    env = gymnasium.make("RIMMarket-v0", settings=settings_of(config)).unwrapped
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.arange(config.slate))
        env.feedback.slates[:] = -9
        env.feedback.consumed[:] = True
    before = env.market.ledger
    env.load_state(env.state)
    assert env.market.ledger is not before
    same_arrays(env.market.ledger, before, "item", "consumed")
    assert not before.consumed[:5].all()


@cases("kind unit", *((kind, "examined") for kind in sorted(SMALL)), ("capped", "shown"))
def test_an_episode_counts_its_arrivals_and_its_rewards(kind, unit):
    """Steps are the arrivals of all rounds, the reward is consumptions + c·Σ_y min(E_y, b_y), in the unit of b."""
    env = make(settings=settings_of(SMALL[kind]()) | {"exposure.unit": unit}).unwrapped
    episode = rollout(env, make_agent("popularity"), seed=2)
    closed = env.market.closed
    assert episode.steps == sum(len(past.ledger.item) for past in closed)
    expected = 0.0
    for past in closed:
        met = np.minimum(markets.weighted_exposures(past), past.required).sum()
        expected += past.ledger.consumed.sum() + past.cost * met
    assert episode.reward == pytest.approx(expected, rel=1e-9)


@cases("batch_size largest", (7, 7), (None, BLOCK))
def test_batches_hold_no_more_arrivals_than_asked_for(batch_size, largest):
    """So many at once, or as many as are scored together; a round of many who could all be served at once has both."""
    config = markets.small_broadcast(rounds=1, arrivals=ArrivalsConfig(kind="broadcast", per_round=150))
    agent = make_agent("relevance")
    sizes = []
    play_round(market_for(agent, config), agent, batch_size, report=sizes.append)
    assert sum(sizes) == 150
    assert max(sizes) == largest
