"""An environment that tests of this room share."""

import pytest
from kit.environments import make_env


@pytest.fixture
def env():
    """The default scenario in small, without Gymnasium's checkers around it."""
    return make_env().unwrapped
