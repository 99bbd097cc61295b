"""The installed package is built from four sibling folders; these keep pyproject.toml in step with them."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAPPED = ("agents", "envs", "scenarios")
needs_checkout = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not a source checkout")


def packages_on_disk():
    """Dotted names of all packages in the four folders."""
    found = set()
    for top in ("rimsim", *MAPPED):
        prefix = "rimsim" if top == "rimsim" else f"rimsim.{top}"
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / top).parts
            if top == "rimsim" and parts and parts[0] in MAPPED:
                continue
            found.add(".".join((prefix, *parts)))
    return found


@needs_checkout
def test_every_package_on_disk_is_listed():
    """No package is missing from the wheel."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert packages_on_disk() <= set(config["tool"]["setuptools"]["packages"])


@needs_checkout
def test_lists_of_names_are_in_the_wheel():
    """A root that lends names lazily reads them from its stub, which is package data of every package."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "__init__.pyi" in config["tool"]["setuptools"]["package-data"]["*"]
    roots = [path for top in ("rimsim", *MAPPED) for path in (ROOT / top).rglob("__init__.py")]
    lazy = [path for path in roots if "attach_stub" in path.read_text()]
    assert lazy
    assert all(path.with_suffix(".pyi").is_file() for path in lazy)


@needs_checkout
@pytest.mark.parametrize("name", MAPPED)
def test_source_folder_is_not_importable_by_its_bare_name(name, monkeypatch):
    """A second copy of every class can never be made by accident."""
    monkeypatch.syspath_prepend(str(ROOT))
    with pytest.raises(ImportError, match=f"rimsim.{name}"):
        importlib.import_module(name)


@needs_checkout
@pytest.mark.parametrize("name", MAPPED)
def test_link_into_the_package_is_present(name):
    """The checkout looks like the installed package to type checkers."""
    link = ROOT / "rimsim" / name
    if link.is_file():
        pytest.skip("this checkout has no symbolic links")
    assert link.resolve() == (ROOT / name).resolve()
    assert link.is_dir()


@needs_checkout
def test_every_test_says_its_behaviour():
    """Each test function has a docstring, which ends in a full stop."""
    silent = []
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                told = ast.get_docstring(node) or ""
                if not told.rstrip().endswith("."):
                    silent.append(f"{path.name}:{node.lineno} {node.name}")
    assert not silent


@needs_checkout
def test_public_names_are_exported_and_exist():
    """__all__ of every package lists names that are there."""
    for name in (
        "rimsim",
        "rimsim.scenarios",
        "rimsim.data",
        "rimsim.intensity",
        "rimsim.matching",
        "rimsim.market",
        "rimsim.agents",
        "rimsim.envs",
    ):
        package = importlib.import_module(name)
        assert all(hasattr(package, public) for public in package.__all__)


def test_the_root_lends_what_people_look_for_first():
    """Rooms and first functions need no other import, are those of their rooms, and are all that dir shows."""
    code = (
        "import sys, rimsim; names = dir(rimsim); light = {'torch', 'pandas', 'numba'} & set(sys.modules);"
        "assert not light, light;"
        "assert rimsim.load is rimsim.data.load and rimsim.Market is rimsim.market.Market;"
        "assert rimsim.compare is rimsim.scenarios.compare and rimsim.make_agent is rimsim.agents.make_agent;"
        "assert not hasattr(rimsim, 'compair') and not hasattr(rimsim.matching, 'Auction');"
        "print(*names)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    rooms = "agents data envs errors intensity market matching measures scenarios"
    assert shown.split() == sorted(
        f"{rooms} Market backtest compare load load_run make_agent sweep validate".split()
    )
