"""Dry runs: the plan that they print, and the time that they estimate."""

import re

import pytest
from kit import cases, refused, said_by
from kit.commands import FEW, RAISES

from rimsim.errors import ConfigError
from rimsim.scenarios.cli import runs
from rimsim.scenarios.report.numbers import duration_words
from rimsim.scenarios.study import estimate
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
    "factor per_arrival per_round setup", (1.0, 0.002, 0.5, 3.0), (0.0, 0.0, 0.0, 0.0), (2.0, 0.004, 1.0, 6.0)
)
def test_the_cost_of_an_arm_is_what_its_samples_add_up_to(factor, per_arrival, per_round, setup, monkeypatch):
    """From three samples of a linear cost, its three parts are found; the whole is their sum."""

    def sample(_, *, rounds, arrivals):
        return factor * (3.0 + rounds * (0.5 + 0.002 * arrivals))

    monkeypatch.setattr(estimate, "_sample", sample)
    cost = estimate._arm_cost(None)
    assert (cost.setup, cost.per_round, cost.per_arrival) == pytest.approx((setup, per_round, per_arrival))
    assert cost.of(10, 20_000) == pytest.approx(setup + 10 * per_round + 20_000 * per_arrival)


def test_a_dry_run_estimates_the_time(tmp_path, monkeypatch, capsys):
    """The last line has a time and its range for the given workers; Ray and an agent that fails have no estimate."""
    monkeypatch.chdir(tmp_path)
    line = ["compare", *FEW, "--dry-run", "--agents"]
    last = said_by(capsys, [*line, "random"]).out.splitlines()[-1]
    assert re.match(
        r"time       about [\d.]+ (s|min) on 1 idle core \([\d.]+ (s|min) to [\d.]+ (s|min)\) and then the pictures",
        last,
    )
    last = said_by(capsys, [*line, RAISES]).out.splitlines()[-1]
    assert last.startswith("time       no estimate, because a sample failed: agent 'raises'")
    assert list(tmp_path.iterdir()) == []


@cases(
    "seconds text", (4.04, "4.0 s"), (42.4, "42 s"), (132.0, "2.2 min"), (1234.0, "21 min"), (9000.0, "2.5 h")
)
def test_durations_have_two_digits(seconds, text):
    """Seconds below 90, minutes below 90, and then hours."""
    assert duration_words(seconds) == text


def test_a_late_campaign_has_an_estimate_of_time(tmp_path, monkeypatch, capsys):
    """A campaign of many exposures that starts after the first rounds does not make the short samples fail."""
    monkeypatch.chdir(tmp_path)
    campaign = (
        "exposure.campaigns=[{name: late, items: {genres: Horror}, exposures: 100, start: 10, stop: 14}]"
    )
    words = ["--agents", "random", "--set", "arrivals.round_length=7d", "--set", campaign]
    last = said_by(capsys, ["compare", *FEW, "--dry-run", *words]).out.splitlines()[-1]
    assert last.startswith("time       about "), last
