"""Pages about the environment and learners: their blocks and tables."""

import inspect
import re

import gymnasium
import numpy as np
import pytest
from kit import DOCS

from rimsim.envs import MarketEnv

TEXT = "\n".join((DOCS / name).read_text(encoding="utf-8") for name in ("environment.md", "learning.md"))


@pytest.fixture(scope="module")
def names():
    """Names that the blocks of the pages leave behind, each block run after those before it."""
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
