"""Required exposures: a share of the uniform exposure, as whole numbers."""

import numpy as np
from kit import cases, refused

from rimsim.errors import ConfigError
from rimsim.matching import (
    required_exposure,
)


def test_required_exposure_is_whole_and_adds_up():
    """β·n·k is shared out in whole exposures that differ by one at most, among released items only."""
    released = np.arange(50) % 5 != 0
    required = required_exposure(0.5, 203, 10, released, seed=1)
    assert (required.sum(), set(required[released])) == (1015, {25, 26})
    assert (required[~released] == 0).all()
    assert not np.array_equal(required, required_exposure(0.5, 203, 10, released, seed=2))
    assert np.array_equal(required, required_exposure(0.5, 203, 10, released, seed=1))


@cases("share total", (0.34, 3), (0.35, 4), (0.36, 4))
def test_the_total_of_required_exposures_is_the_nearest_whole_number(share, total):
    """Of β·10 exposures, 3.4 are 3 whole ones, and 3.5 and 3.6 are 4."""
    assert required_exposure(share, 10, 1, np.ones(5, bool), 0).sum() == total


@cases(
    "share n k released expected",
    (0.0, 10, 3, 1, 0),
    (1.0, 10, 3, 1, 6),
    (1.0, 10, 3, 0, 0),
    (1.0, 0, 3, 1, 0),
    (1.0, 10, 0, 1, 0),
)
def test_required_exposure_at_the_ends(share, n, k, released, expected):
    """β = 0 asks for nothing, β = 1 for the uniform exposure; without items nothing can be asked."""
    is_released = np.full(5, released, bool)
    assert required_exposure(share, n, k, is_released, 0).tolist() == [expected] * 5
    refused(ConfigError, r"beta is 1\.5", required_exposure, 1.5, n, k, is_released, 0)
    refused(ConfigError, r"beta is -0\.1", required_exposure, -0.1, n, k, is_released, 0)
    refused(ConfigError, "n is -1", required_exposure, share, -1, k, is_released, 0)
