"""Finished runs that tests of commands read."""

import pytest
from kit.commands import FEW


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A folder with a comparison (one) and a sweep (many)."""
    from rimsim.scenarios.cli.main import main

    folder = tmp_path_factory.mktemp("runs")
    assert main(["compare", *FEW, "--agents", "random,relevance", "--out", str(folder / "one")]) == 0
    swept = ["--agents", "random", "--beta", "0.2,0.4", "--out", str(folder / "many")]
    assert main(["sweep", *FEW, *swept]) == 0
    return folder
