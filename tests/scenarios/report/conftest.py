"""A finished run that tests of its tables and of its report read."""

import pytest


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A comparison of two agents with controls, while items come, which reveals the truth."""
    from kit.markets import small_cold_start

    from rimsim.scenarios import compare, load_run

    folder = tmp_path_factory.mktemp("report") / "run"
    options = {"seeds": 2, "control": ["frozen", "random"], "reveal": ["truth"]}
    config = small_cold_start(rounds=2)
    finished = compare(config, ["relevance", "rim-feedback"], workers=1, out=folder, **options)
    return load_run(finished.folder)
