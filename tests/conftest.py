"""What tests share: a cache of their own for fitted models, and a small market."""

from __future__ import annotations

import os

import pytest
import torch
from small_markets import SMALL, without_pictures


def pytest_collection_modifyitems(items):
    """The file that compiles most kernels is first, then those that need none of them: no two workers compile them."""
    first = (
        "test_agent_contract",
        "test_data",
        "test_intensity",
        "test_choosing",
        "test_command_help",
        "test_next",
    )
    items.sort(
        key=lambda item: next(
            (n for n, name in enumerate(first) if item.path.name.startswith(name)), len(first)
        )
    )


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Fits of a test session stay in its own folder, for its subprocesses and all workers of pytest-xdist.

    RIMSIM_TEST_CACHE names another one, which sessions share.
    """
    base = tmp_path_factory.getbasetemp()
    own = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "fits"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIMSIM_CACHE", os.environ.get("RIMSIM_TEST_CACHE", str(own)))
        yield


@pytest.fixture(scope="session", autouse=True)
def _pictures():
    """Runs draw nothing but in a ``with drawn():``; it would take most of their time."""
    with without_pictures():
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    """Bits of a matrix product depend on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(params=sorted(SMALL))
def scenario(request):
    """Each kind of market in small."""
    return SMALL[request.param]()
