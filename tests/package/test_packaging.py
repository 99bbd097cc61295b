"""The package that is built from four sibling folders: its rooms, public names, imports, archives and terms."""

import ast
import importlib
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes

import pytest
from kit import ROOT, cases, refused

import rimsim
from rimsim import command

MAPPED = ("agents", "envs", "scenarios")
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="not a source checkout")


def packages_on_disk():
    """Dotted names of all packages in the four folders; those that are links are not followed."""
    tops = {"rimsim": ROOT / "rimsim"} | {f"rimsim.{top}": ROOT / top for top in MAPPED}
    inits = [
        (name, init.parent.relative_to(top))
        for name, top in tops.items()
        for init in top.rglob("__init__.py")
    ]
    return {".".join((name, *place.parts)) for name, place in inits}


def test_every_package_on_disk_is_listed_with_its_names():
    """No package is missing from the wheel, nor the stub from which a root that lends names lazily reads them."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert packages_on_disk() <= set(config["packages"])
    assert "__init__.pyi" in config["package-data"]["*"]
    roots = [path for top in ("rimsim", *MAPPED) for path in (ROOT / top).rglob("__init__.py")]
    lazy = [path for path in roots if "attach_stub" in path.read_text()]
    assert lazy
    assert all(path.with_suffix(".pyi").is_file() for path in lazy)


@pytest.mark.parametrize("name", MAPPED)
def test_a_source_folder_is_a_room_of_the_package_alone(name, monkeypatch):
    """No second copy of a class can be made by its bare name, and the checkout looks like the installed package."""
    monkeypatch.syspath_prepend(str(ROOT))
    refused(ImportError, f"rimsim.{name}", importlib.import_module, name)
    link = ROOT / "rimsim" / name
    if link.is_file():
        pytest.skip("this checkout has no symbolic links")
    assert link.resolve() == (ROOT / name).resolve()
    assert link.is_dir()


def test_every_test_says_its_behaviour():
    """Each test function has a docstring, which ends in a full stop."""
    silent = [
        f"{path.name}:{node.lineno} {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if not (ast.get_docstring(node) or "").rstrip().endswith(".")
    ]
    assert not silent


ROOMS = ("scenarios", "data", "intensity", "matching", "market", "agents", "envs", "measures")


def test_public_names_are_exported_and_exist():
    """__all__ of every package lists names that are there, each once; a function is not hidden by its module."""
    for name in ("rimsim", *(f"rimsim.{room}" for room in ROOMS)):
        package = importlib.import_module(name)
        assert all(hasattr(package, public) for public in package.__all__)
        assert len(set(package.__all__)) == len(package.__all__)
    assert rimsim.matching.certificate.__name__ == "certificate"


@cases(
    "module heavy",
    ("measures", {"torch", "pandas", "scipy"}),
    ("matching", {"torch", "numba"}),
    ("tracking", {"torch", "tensorflow"}),
    ("data", {"torch", "matplotlib", "seaborn", "pooch"}),
    ("envs", {"matplotlib", "seaborn"}),
    ("scenarios.kinds.registry", {"matplotlib", "seaborn"}),
    ("scenarios.report.charts", {"seaborn"}),
    ("scenarios.study.compare", {"seaborn"}),
)
def test_imports_are_light(module, heavy):
    """Rooms are imported without the packages that their functions alone need."""
    code = f"import sys, rimsim.{module}; print({heavy} & set(sys.modules))"
    interpreter = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert interpreter.stdout.strip() == "set()"


def test_the_root_lends_what_people_look_for_first():
    """Rooms and first functions need no other import, are those of their rooms, and are all that dir shows."""
    code = (
        "import sys, rimsim; names = dir(rimsim);"
        "heavy = {'torch', 'pandas', 'numba', 'matplotlib', 'seaborn'} & set(sys.modules);"
        "assert not heavy, heavy;"
        "assert rimsim.load is rimsim.data.load and rimsim.Market is rimsim.market.Market;"
        "assert rimsim.compare is rimsim.scenarios.compare and rimsim.make_agent is rimsim.agents.make_agent;"
        "assert not hasattr(rimsim, 'compair') and not hasattr(rimsim.matching, 'Auction');"
        "print(*names)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    rooms = "agents data envs errors intensity market matching measures scenarios"
    public = f"{rooms} Market backtest compare load load_run make_agent sweep validate"
    assert shown.split() == sorted(public.split())


BUILD = "import os, sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def built(source, hook, folder):
    """A wheel or a source archive of a tree, by the build backend itself: no network, no environment of its own."""
    folder.mkdir()
    line = [sys.executable, "-c", BUILD, hook, str(folder)]
    subprocess.run(line, cwd=source, check=True, capture_output=True)
    (made,) = folder.iterdir()
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
        source = ROOT / name
        target = folder / "clone" / name
        if source.is_file() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target, follow_symlinks=False)
    source = built(folder / "clone", "build_sdist", folder / "sdist")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return source, built(unpacked, "build_wheel", folder / "wheel")


INSTALLED = """\
import sys; sys.path.insert(0, sys.argv[1]); import rimsim, rimsim.data; from rimsim.command import main
assert rimsim.__file__.startswith(sys.argv[1]), rimsim.__file__; assert len(rimsim.data.load()) == 100004
sys.argv[1:] = ["scenarios"]; sys.exit(main())"""


def test_the_wheel_holds_all_that_is_read_and_works_without_the_checkout(archives, tmp_path):
    """Every data file is in the wheel at its place, and nothing else; both archives are named after the version.

    From another folder, with the wheel's files alone, the command runs and reads its scenarios and log.
    """
    assert rimsim.__version__.count(".") == 2
    assert all(path.name.startswith(f"rimsim-{rimsim.__version__}") for path in archives)
    with zipfile.ZipFile(archives[1]) as wheel:
        names = set(wheel.namelist())
        wheel.extractall(tmp_path / "site")  # noqa: S202  our own
    wanted = "py.typed scenarios/__init__.pyi scenarios/report/page.html.jinja "
    wanted += "scenarios/runs/tables.yaml scenarios/cli/options.yaml"
    tables = list((ROOT / "rimsim/data/embedded").glob("*/*.parquet"))
    assert len(tables) == 5
    files = [*wanted.split(), *(f"data/embedded/{path.parent.name}/{path.name}" for path in tables)]
    files += [f"scenarios/{path.name}" for path in (ROOT / "scenarios").glob("*.yaml")]
    assert {f"rimsim/{name}" for name in files} <= names
    assert {name.split("/")[0] for name in names} == {"rimsim", f"rimsim-{rimsim.__version__}.dist-info"}
    line = [sys.executable, "-c", INSTALLED, str(tmp_path / "site")]
    interpreter = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "closed-loop" in interpreter.stdout


def test_the_wheel_names_and_holds_the_terms_of_code_and_data(archives):
    """Metadata name all licences and the authors; the texts are in the wheel and in the source archive."""
    with zipfile.ZipFile(archives[1]) as wheel:
        (place,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(wheel.read(place))
        folder = f"{place.removesuffix('METADATA')}licenses"
        licence, notice, shop_notice = (
            wheel.read(f"{folder}/{name}").decode() for name in metadata.get_all("License-File")
        )
    assert metadata["License-Expression"] == "MIT AND LicenseRef-MovieLens AND CC-BY-4.0"
    assert "The rimsim authors" in metadata["Author"]
    assert licence.startswith("MIT License")
    assert "may not use this information for any commercial" in notice
    assert "CC BY 4.0" in shop_notice
    assert "with the donor's permission" in shop_notice
    with tarfile.open(archives[0]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    notices = {f"rimsim/data/embedded/{log}/NOTICE.md" for log in ("ml-latest-small", "shop")}
    assert {"LICENSE", *notices} <= names


WITHOUT_FILMS = """\
import sys; sys.path.insert(0, sys.argv[1]); import rimsim, rimsim.data; from rimsim.command import main
assert rimsim.__file__.startswith(sys.argv[1]), rimsim.__file__; assert len(rimsim.data.load("shop")) == 371264
sys.argv[1:] = sys.argv[2:]; sys.exit(main())"""


def test_a_wheel_without_films_holds_none_of_them_and_says_so(script, tmp_path):
    """It has the shop under its own terms alone; a command that needs the films offers the shop instead."""
    wheel = script("shop_wheel").build(tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")  # noqa: S202  our own
        (place,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(place))
    assert not [name for name in names if "ml-latest-small" in name or "movies" in name]
    assert {"rimsim/agents/registry.py", "rimsim/scenarios/shop.yaml", "rimsim/py.typed"} <= set(names)
    assert metadata["License-Expression"] == "MIT AND CC-BY-4.0"
    assert metadata.get_all("License-File") == ["LICENSE", "rimsim/data/embedded/shop/NOTICE.md"]

    def said(*words):
        line = [sys.executable, "-c", WITHOUT_FILMS, str(tmp_path / "site"), *words]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)

    listed = said("data", "list").stdout
    assert "(not in this build of rimsim)" in listed.splitlines()[0]
    assert "(embedded)" in listed.splitlines()[1]
    checked = said("data", "check", "ml-latest-small")
    assert checked.returncode == 2
    assert "Use the log 'shop' (--data shop), or install a wheel that contains it" in checked.stderr


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
