"""Settings that tests share: a cache of their own for fitted models, one thread and no pictures."""

import os
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("rimsim", parent=settings(), deadline=None)  # other work slows a machine down
settings.load_profile("rimsim")

# Imports of rimsim are in functions: the process that only deals tests out to workers needs none of it.


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Fits of a test session stay in its own folder, for its subprocesses and all workers of pytest-xdist.

    RIMSIM_TEST_CACHE names another one, which sessions share.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "fits"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIMSIM_CACHE", os.environ.get("RIMSIM_TEST_CACHE", str(folder)))
        yield


@pytest.fixture(scope="session", autouse=True)
def _pictures():
    """Runs draw nothing but in a ``with drawn():``; it would take most of their time."""
    from kit.markets import without_pictures

    with without_pictures():
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    """Bits of a matrix product depend on the number of threads."""
    from rimsim.system import single_thread

    single_thread()


@pytest.fixture
def script(monkeypatch):
    """A function that imports one of the scripts in benchmarks/ and tools/ by its name."""
    for folder in ("benchmarks", "tools"):
        monkeypatch.syspath_prepend(Path(__file__).parent.parent / folder)
    return import_module


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file of the user's own, ``mine.py`` unless it is named, and goes where it lies."""
    from rimsim.market.opening import opening_model

    monkeypatch.chdir(tmp_path)
    opening_model.cache_clear()  # another test's file has the same name
    return lambda text, name="mine.py": (tmp_path / name).write_text(text)
