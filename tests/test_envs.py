"""The Gymnasium environment: its contract, its equality with the engine, its wrappers, and what its pages say."""

import inspect
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pandas as pd
import pytest
from gymnasium import wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from kit import cases, refused, same_arrays
from small_markets import PAIRS, SMALL, play_out, settings_of

from rimsim.agents import make_agent, market_for, rollout
from rimsim.config import Seeds
from rimsim.envs import GROUND_BOUND, BonusAction, MarketEnv
from rimsim.errors import AgentError, ConfigError, MarketError
from rimsim.market import Slates

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
        made = make(scenario="closed-loop", settings=settings_of(SMALL[kind]()))
        check_env(made.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("mode", MarketEnv.metadata["render_modes"])
def test_every_render_mode_renders(mode):
    """Ansi gives text that counts arrivals, rgb_array a picture that changes as exposure does."""
    made = make(render_mode=mode)
    made.reset(seed=0)
    before = made.render()
    made.step(made.unwrapped.arrivals.relevance[0].topk(5).indices.numpy())
    after = made.render()
    if mode == "ansi":
        assert "1 of 60 arrivals served" in after
    else:
        assert (before.dtype, before.ndim, before.shape[2]) == (np.uint8, 3, 3)
        assert (before != after).any()


def test_same_seed_same_trajectory():
    """Copies with one seed, through JSON or pickle too, agree in every observation, reward and info."""
    one = make(scenario="closed-loop", settings=settings_of(SMALL["clones"](rounds=2)))
    read = gymnasium.make(EnvSpec.from_json(one.spec.to_json()))
    others = [read, pickle.loads(pickle.dumps(one.unwrapped))]  # noqa: S301  # our own bytes
    assert one.reset(seed=4)[1] != one.reset(seed=3)[1]
    mine, theirs = one.reset(seed=3), [other.reset(seed=3) for other in others]
    one.action_space.seed(0)
    done = False
    while not done:
        for other in theirs:
            assert mine[1:] == other[1:]
            for name, value in mine[0].items():
                np.testing.assert_array_equal(value, other[0][name])
        action = one.action_space.sample()
        mine, theirs = one.step(action), [other.step(action) for other in others]
        done = mine[2]


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
    """A repeated and an inadmissible item are emptied, and the rest is shown; a −1 is empty on purpose, not counted."""
    observation, _ = env.reset(seed=0)
    good = np.argsort(-observation["relevance"])[:3]
    barred = np.flatnonzero(observation["admissible"] == 0)
    bad = barred[0] if len(barred) else good[0]
    for action, emptied, left in (
        ([good[0], good[0], bad, good[1], good[2]], 2, [good[0], -1, -1, good[1], good[2]]),
        ([-1] * 5, 0, [-1] * 5),
    ):
        assert env.step(np.array(action))[4]["market"]["emptied"] == emptied
        assert env.feedback.slates[0].tolist() == left


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_the_short_way_of_a_step_is_the_long_way(kind):
    """A step gives the same whether the slate goes through compiled code for one arrival or through the engine."""
    settings = settings_of(SMALL[kind]()) | {"arrivals.per_round": 30, "rounds": 2}
    one, other = (MarketEnv("closed-loop", settings=settings) for _ in range(2))
    (seen, *mine), (seen_too, *theirs) = one.reset(seed=5), other.reset(seed=5)
    one.action_space.seed(0)
    done = False
    while not done:
        assert mine == theirs
        for name, value in seen.items():
            np.testing.assert_array_equal(value, seen_too[name])
            assert value.dtype == seen_too[name].dtype
        action = one.action_space.sample()
        action[:3] = np.argsort(-seen["relevance"])[[0, 0, 1]][: len(action[:3])]
        other.annotate(Slates(action[None]))
        (seen, *mine), (seen_too, *theirs) = one.step(action), other.step(action)
        done = mine[1]
        same_arrays(one.feedback, other.feedback, "slates", "consumed")
        same_arrays(one.feedback.arrivals, other.feedback.arrivals, "id", "time", "user", "index")
    for closed, closed_too in zip(one.market.closed, other.market.closed, strict=True):
        columns = ("item", "consumed", "intensity", "probability", "true_intensity", "ground")
        same_arrays(closed.ledger, closed_too.ledger, *columns)


@cases(
    "action found",
    (np.arange(3), r"\(3,\) and type int64"),
    (np.arange(5.0), r"\(5,\) and type float64"),
    (3, r"\(\) and type int64"),
)
def test_an_action_of_another_shape_or_type_is_refused(env, action, found):
    """The error names the shape and the type that were given, and those that are allowed."""
    env.reset(seed=0)
    refused(AgentError, rf"an action has shape {found}; allowed: \(5,\) whole numbers", env.step, action)


# Each agent and each market is among these pairs; all pairs are in test_market, with batches of one.
@pytest.mark.parametrize(("kind", "name"), PAIRS[2::3])
def test_rollout_gives_what_the_engine_gives(kind, name):
    """One arrival at a time through Gymnasium leaves the ledger that the batch engine leaves, bit for bit."""
    config, agent = SMALL[kind](rounds=2), make_agent(name)
    made = make(scenario="closed-loop", settings=settings_of(config), model_seed=5)
    rollout(made, make_agent(name), seed=5)
    market = play_out(market_for(agent, config, seeds=Seeds.all(5)), agent)
    for pair in zip(made.unwrapped.market.closed, market.closed, strict=True):
        one, other = (closed.ledger.table("a", 5, 0) for closed in pair)
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_seeds_can_be_set_one_by_one(env):
    """reset(options={"seeds": …}) changes the named seed; other options, fields and early steps are refused."""
    refused(MarketError, r"reset\(\)", env.step, np.zeros(5, np.int64))
    env.reset(seed=0, options={"seeds": {"choice": 9}})
    assert env.market.seeds == Seeds(arrivals=0, choice=9, model=0, agent=0)
    refused(ConfigError, "allowed: 'seeds'", env.reset, options={"sedes": {}})
    refused(ConfigError, r"exposure\.betta.*'exposure\.beta'", MarketEnv, settings={"exposure.betta": 0.3})
    for by in ("item", "genre"):
        said = f"groups is 5; allowed: none where by is '{by}'"
        refused(ConfigError, said, BonusAction, env, by=by, groups=5)


@cases("by size", ("item", None), ("genre", None), ("popularity", 10))
def test_bonus_action_passes_stable_baselines_checker(by, size):
    """Stable-Baselines3 finds nothing to complain about, and an extreme bonus changes the slate."""
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    made = BonusAction(make(), by=by)
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
    made = BonusAction(make(), by="genre")
    assert made.share.T.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]


DOCS = Path(__file__).parent.parent / "docs"
TEXT = "\n".join((DOCS / name).read_text(encoding="utf-8") for name in ("environment.md", "learning.md"))


@pytest.fixture(scope="module")
def names():
    """What the blocks of the page leave behind, each run after those before it."""
    pytest.importorskip("stable_baselines3")
    found: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "the page", "exec"), found)  # noqa: S102  # our own page
    return found


def rows(heading):
    """First cells of the table below a heading, split at commas."""
    section = re.split(r"\n## ", TEXT.split(f"## {heading}\n", 1)[1])[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


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


def test_the_ways_of_normalising_that_the_page_advises_run(names):
    """Gymnasium's own normalisation runs over flattened observations, of one market and of several."""
    made = {"scenario": "closed-loop", "rounds": 2, "settings": names["small"]}
    one = wrappers.NormalizeObservation(wrappers.FlattenObservation(gymnasium.make("RIMMarket-v0", **made)))
    several = wrappers.vector.NormalizeObservation(
        wrappers.vector.FlattenObservation(gymnasium.make_vec("RIMMarket-v0", num_envs=2, **made))
    )
    for market in (one, several):
        first = market.reset(seed=0)[0]
        following = market.step(market.action_space.sample())[0]
        assert first.shape == following.shape == market.observation_space.shape
        assert np.isfinite(following).all()
