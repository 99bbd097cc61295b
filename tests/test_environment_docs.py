"""The code of docs/environment.md and docs/learning.md runs as it stands, and their tables name what there is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers

from rimsim.envs import MarketEnv

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
    assert names["episode"].steps == 120
    assert names["priced"].share.shape == (10, 100)
    assert names["envs"].metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.SAME_STEP
    assert names["envs"].single_action_space.shape == (100,)
    assert names["rewards"].shape == (3,)
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


def test_the_zero_bonus_shows_what_relevance_shows(names):
    """Without any bonus, the wrapper's slate is that of the pure recommender."""
    priced = names["priced"]
    observation, _ = priced.reset(seed=3)
    none = np.full(priced.action_space.shape, -1.0, np.float32)
    shown = priced.action(none)
    assert shown.tolist() == np.argsort(-observation["relevance"], kind="stable")[:10].tolist()


def test_positions_left_empty_on_purpose_are_not_counted(names):
    """As the page says, a −1 leaves its position empty without being counted; repeated items are counted."""
    env = names["env"]
    env.reset(seed=0)
    for slate, emptied in ((np.full(10, -1), 0), (np.zeros(10, np.int64), 9)):
        assert env.step(slate)[4]["market"]["emptied"] == emptied
        assert (env.unwrapped.feedback.slates == -1).sum() == max(emptied, -10 * slate[0])


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
