"""What tests share: an order of files, a cache of their own for fitted models, one thread and no pictures."""

import os
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("rimsim", parent=settings(), deadline=None)  # other work slows a machine down
settings.load_profile("rimsim")

# Imports of rimsim are in functions: the process that only deals tests out to workers needs none of it.


def pytest_collection_modifyitems(items):
    """The file that compiles most kernels is first, then those that need none of them: no two workers compile them.

    The longest of the others follow, so that both workers end together; Ray's processes need a core besides.
    """
    first = ("agent_contract", "data", "intensity", "next", "ray", "interruption", "market", "promises")
    first += ("documentation", "plugs", "job", "learning", "report", "scenarios", "matching")
    first += ("compiled", "envs", "pictures", "truths", "controls", "command", "sweep")

    def place(item):
        name = item.path.name.removeprefix("test_")
        return next((n for n, subject in enumerate(first) if name.startswith(subject)), len(first))

    items.sort(key=place)


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
    from small_markets import without_pictures

    with without_pictures():
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    """Bits of a matrix product depend on the number of threads."""
    from rimsim.system import single_thread

    single_thread()


@pytest.fixture
def script(monkeypatch):
    """A function that imports one of the scripts in benchmarks/ by its name."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return import_module


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file of the user's own, ``mine.py`` unless it is named, and goes where it lies."""
    from rimsim.market.world import warm_model

    monkeypatch.chdir(tmp_path)
    warm_model.cache_clear()  # another test's file has the same name
    return lambda text, name="mine.py": (tmp_path / name).write_text(text)
