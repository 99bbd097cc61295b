"""Dry runs: the plan that they print, and the code that they refuse to import."""

import pytest
from kit import cases, refused, said_by
from kit.commands import FEW

from rimsim.errors import ConfigError
from rimsim.scenarios.cli import runs
from rimsim.scenarios.report.numbers import duration_words
from rimsim.user_code import code_named, require_trust


@cases(
    "line said",
    ("compare --agents random,relevance", "arms       random, relevance, relevance-frozen\n"),
    ("compare --agents random", "arrivals   about 60 per round; 240 in 2 arms and seeds\n"),
    ("sweep --agents random --grid exposure.cost=1,2", "points     cost=1, cost=2\n"),
    ("sweep --agents random", "points     beta=0, beta=0.1, beta=0.3, beta=0.5, beta=0.7, beta=1\n"),
)
def test_a_dry_run_prints_the_plan_and_makes_no_folder(line, said, tmp_path, monkeypatch, capsys):
    """Arms, points, arrivals and memory are there; nothing lies in the folder that the run would have."""
    monkeypatch.chdir(tmp_path)
    command, *words = line.split()
    output = said_by(capsys, [command, *FEW, *words, "--out", "run", "--dry-run"]).out
    assert said in output
    assert "\nmemory     about " in output
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_is_not_of_a_run_that_has_begun(folders, capsys):
    """With --resume or a folder in use it is refused; a wrong agent is refused as ever."""
    comparison = str(folders / "one")
    for words, said in (
        (["--resume", "--out", comparison], "--dry-run cannot be used for a run that has begun"),
        (["--out", comparison], "already holds a run"),
        (["--agents", "randm"], "Did you mean 'random'"),
    ):
        assert said in said_by(capsys, ["compare", *FEW, "--dry-run", *words], 2).err


@pytest.mark.parametrize("command", ["compare", "sweep"])
def test_a_dry_run_imports_no_code_that_only_a_scenario_names(command, write, tmp_path, monkeypatch, capsys):
    """A stranger's scenario is refused with the code that it names, unless it is trusted, typed or replaced."""
    write('from pathlib import Path\n\nPath("ran").touch()\n\n\ndef model():\n    """Model."""\n', "evil.py")
    write("platform: {model: 'evil.py:model'}\n", "strange.yaml")
    planned = []
    monkeypatch.setattr(runs, "_print_plan", lambda arguments, resume: planned.append(arguments))
    words = [command, "strange.yaml", "--agents", "random", "--dry-run"]
    text = said_by(capsys, words, 2).err
    assert "strange.yaml: names code that would run with your rights: evil.py:model" in text
    assert "--trust" in text
    write("processes: ['evil.py:model']\n", "lively.yaml")
    text = said_by(capsys, [command, "lively.yaml", *words[2:]], 2).err
    assert "lively.yaml: names code that would run with your rights: evil.py:model" in text
    assert not planned
    assert not (tmp_path / "ran").exists()
    said_by(capsys, [*words, "--set", "platform.model=popularity-hp"])
    said_by(capsys, [*words, "--set", "platform.model=evil.py:model"])
    said_by(capsys, [*words, "--trust"])
    assert len(planned) == 3


def test_code_is_named_by_plugs_and_by_their_options():
    """Places of code are found in options, too; built-in names and objects of the session are none."""
    texts = [
        "bag",
        "a.py:One",
        "rim-dual(scores=b/c.py:Two,k=3)",
        "os:system",
        "session:Net",
        "x.py:Law+habits",
    ]
    assert code_named(texts) == ["a.py:One", "b/c.py:Two", "os:system", "x.py:Law"]
    require_trust("folder", ["a.py:One", "bag"], ["a.py:One(k=2)"])
    refused(
        ConfigError,
        "folder: names code .*: os:system.",
        require_trust,
        "folder",
        ["os:system"],
        ["os:getcwd"],
    )


@cases(
    "seconds text", (4.04, "4.0 s"), (42.4, "42 s"), (132.0, "2.2 min"), (1234.0, "21 min"), (9000.0, "2.5 h")
)
def test_durations_have_two_digits(seconds, text):
    """Seconds below 90, minutes below 90, and then hours."""
    assert duration_words(seconds) == text
