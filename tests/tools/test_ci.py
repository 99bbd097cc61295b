"""What continuous integration prints last."""

import os
import re
import shutil
import subprocess

import pytest
from kit import ROOT, cases

CI = ROOT / ".ci" / "run"

pytestmark = pytest.mark.skipif(not CI.is_file(), reason="not a source checkout")


def _run(folder, step, output):
    """Status and output lines of the steps with a `make` that prints some text, and fails at a step."""
    (folder / ".ci").mkdir()
    shutil.copy(CI, folder / ".ci" / "run")
    (folder / "output.txt").write_text(output)
    (folder / "make").write_text(f'#!/bin/sh\ncat output.txt\necho "make: $1"\ntest "$1" != "{step}"\n')
    (folder / "make").chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["bash", str(folder / ".ci" / "run")]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return process.returncode, process.stdout.splitlines()


@cases(
    "step output fault",
    (
        "test",
        "a.py: noise\nFAILED tests/a.py::one - x\nFAILED tests/a.py::two - y\n",
        "FAILED tests/a.py::one - x",
    ),
    ("test", "noise\nERROR tests/a.py - no module\n= 1 error =\n", "ERROR tests/a.py - no module"),
    ("tutorial", "page.md: demo: expected «a», printed «b»\n", "page.md: demo: expected «a», printed «b»"),
    ("check", "fine\nrimsim/a.py:3: error: no type\nFound 1 error\n", "rimsim/a.py:3: error: no type"),
    ("check", "rimsim/a.py:3:1: F401 unused\nFound 1 error.\n", "rimsim/a.py:3:1: F401 unused"),
    ("docs", "reading\nno such page\n\n", "no such page"),
    ids=["test", "collection", "difference", "types", "lint", "other"],
)
def test_the_last_line_names_the_step_and_its_first_fault(tmp_path, step, output, fault):
    """The status is not 0, and no step begins after checks that failed."""
    status, lines = _run(tmp_path, step, output)
    assert status != 0
    if step == "check":
        assert [line for line in lines if line.startswith("make: ")] == ["make: check"]
    assert lines[-1].startswith(f"make {step} failed after ")
    assert lines[-1].endswith(f" s: {fault}")


def test_every_step_is_run_once_and_has_its_time(tmp_path):
    """The checks come first and the tests last; the last line has the seconds of the whole."""
    status, lines = _run(tmp_path, "none", "fine\n")
    assert status == 0
    steps = [line.removeprefix("make: ") for line in lines if line.startswith("make: ")]
    assert sorted(steps) == sorted(
        {"check", "tutorial", "docs", "recommenders", "formats", "package", "test", "thorough"}
    )
    assert (steps[0], steps[-2:]) == ("check", ["test", "thorough"])
    assert [step for step in steps if sum(line.startswith(f"make {step} took ") for line in lines) != 1] == []
    assert re.fullmatch(r"all steps passed after \d+ s", lines[-1])
