"""What is built for others to install: a wheel with everything it reads, and a source archive that makes one."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import rimsim
from rimsim import command

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not a source checkout")
BUILD = "import os, sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def built(source, hook, where):
    """A wheel or a source archive of a tree, by the build backend itself: no network, no environment of its own."""
    where.mkdir()
    line = [sys.executable, "-c", BUILD, hook, str(where)]
    subprocess.run(line, cwd=source, check=True, capture_output=True)
    (made,) = where.iterdir()
    return made


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The source archive of the checkout's tracked files, and the wheel that is built from it alone."""
    folder = tmp_path_factory.mktemp("dist")
    git = shutil.which("git")
    listed = git and subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if not listed or listed.returncode:
        pytest.skip("no Git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, folder / "clone" / name
        if source.is_file() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target, follow_symlinks=False)
    source = built(folder / "clone", "build_sdist", folder / "sdist")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return source, built(unpacked, "build_wheel", folder / "wheel")


def test_the_wheel_holds_all_that_is_read(archives):
    """Every data file is in the wheel at its place, and nothing else; both archives are named after the version."""
    assert rimsim.__version__.count(".") == 2
    assert all(path.name.startswith(f"rimsim-{rimsim.__version__}") for path in archives)
    with zipfile.ZipFile(archives[1]) as wheel:
        names = set(wheel.namelist())
    wanted = "py.typed scenarios/__init__.pyi scenarios/report/page.html.jinja "
    wanted += "scenarios/runs/tables.yaml scenarios/cli/options.yaml"
    tables = (ROOT / "rimsim/data/embedded").glob("*.parquet")
    files = [*wanted.split(), *(f"data/embedded/{path.name}" for path in tables)]
    files += [f"scenarios/{path.name}" for path in (ROOT / "scenarios").glob("*.yaml")]
    assert {f"rimsim/{name}" for name in files} <= names
    assert {name.split("/")[0] for name in names} == {"rimsim", f"rimsim-{rimsim.__version__}.dist-info"}


INSTALLED = """\
import sys; sys.path.insert(0, sys.argv[1]); import rimsim, rimsim.data; from rimsim.command import main
assert rimsim.__file__.startswith(sys.argv[1]), rimsim.__file__; assert len(rimsim.data.load()) == 100004
sys.argv[1:] = ["scenarios"]; sys.exit(main())"""


def test_an_installed_wheel_works_without_the_checkout(archives, tmp_path):
    """From another folder, with the wheel's files alone, the command runs and reads its scenarios and log."""
    with zipfile.ZipFile(archives[1]) as wheel:
        wheel.extractall(tmp_path / "site")  # noqa: S202  our own
    line = [sys.executable, "-c", INSTALLED, str(tmp_path / "site")]
    told = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "closed-loop" in told.stdout


def test_an_interruption_while_loading_is_one_line(monkeypatch, capsys):
    """Ctrl-C before the command line is loaded ends with status 130 and a line, not a traceback."""

    def interrupted(name, *_):
        if name.startswith("rimsim.scenarios.cli"):
            raise KeyboardInterrupt
        return real(name, *_)

    real = __import__
    monkeypatch.setattr("builtins.__import__", interrupted)
    assert command.main() == 130
    monkeypatch.undo()
    assert capsys.readouterr().err == "rimsim: interrupted\n"
