"""What tests share: a cache of their own for fitted models, and a small market."""

from __future__ import annotations

import pytest
import torch
from small_markets import SMALL


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Fits of a test session stay in its own folder, for its subprocesses too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIMSIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    """Bits of a matrix product depend on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(params=sorted(SMALL))
def scenario(request):
    """Each kind of market in small."""
    return SMALL[request.param]()
