"""What the command line says of itself: help with defaults, lists of names, and how lightly it starts."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import rimsim
from rimsim.config import ScenarioConfig, scenario_names
from rimsim.intensity.registry import names as model_names
from rimsim.market import arrivals, consumers
from rimsim.measures import MEASURES
from rimsim.scenarios.cli.analyses import backtest, validate
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.cli.study import compare
from rimsim.scenarios.kinds.backtest.split import BacktestConfig
from rimsim.scenarios.kinds.validate import ValidateConfig
from rimsim.scenarios.study.plan import default_agents


@pytest.mark.parametrize("words", ["--version", "--help", "compare --help", "data --help", "compare --sedes"])
def test_command_line_answers_without_what_work_needs(words):
    """Version, help and slips load neither torch nor pandas, Numba, pydantic or rich."""
    code = (
        "import contextlib, sys; from rimsim.scenarios.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
        "assert not {'torch', 'pandas', 'numba', 'pydantic', 'rich'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split()], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or "Did you mean" in done.stderr


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("scenarios", scenario_names()),
        ("agents", rimsim.agents.BUILT_IN),
        ("models", {part for name in model_names() for part in name.split("-")}),
        ("arrivals", arrivals.BUILT_IN),
        ("consumers", consumers.BUILT_IN),
        ("measures", MEASURES),
    ],
)
def test_what_has_a_name_is_listed_with_a_line(kind, names, capsys):
    """Each kind of thing has a command that prints every built-in name and what it is."""
    assert main([kind]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(names) == set(listed) - {"MARK-GROUND"}
    assert all(len(line) > 5 for line in listed.values())


def _told(command):
    """Name of each option → the default that its help tells."""
    defaults = {
        option.opts[0]: re.search(r"\(default: (.*?)[);]", option.help or "")
        for option in command.params
        if option.opts[0].startswith("--")
    }
    return {name: match[1] for name, match in defaults.items() if match}


def _written(value):
    """A value as one writes it on a command line."""
    if isinstance(value, tuple):
        return ",".join(map(_written, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_the_help_of_a_back_test_tells_the_defaults_of_its_config():
    """What help says is taken where an option is left out is what the config takes."""
    config = BacktestConfig()
    told = _told(backtest)
    for name in ("models", "beta", "recipe", "prices", "tol", "dither", "device"):
        assert told[f"--{name}"] == _written(getattr(config, name)), name
    for name, value in {
        "--caps": config.cap,
        "--seeds": len(config.seeds),
        "--split": config.split.kind,
        "--recent": config.split.recent,
    }.items():
        assert told[name] == _written(value), name


def test_the_help_of_a_validation_tells_the_defaults_of_its_config():
    """What help says is taken where an option is left out is what the config takes."""
    config, told = ValidateConfig(), _told(validate)
    for name in ("draws", "after", "slate", "resamples", "device"):
        assert told[f"--{name}"] == _written(getattr(config, name)), name


def test_the_help_of_a_comparison_tells_the_defaults_of_compare():
    """Agents, seeds and backend in the help are those of rimsim.compare."""
    taken = inspect.signature(rimsim.compare).parameters
    told = _told(compare)
    assert told["--agents"] == ", ".join(default_agents(ScenarioConfig()))
    assert told["--seeds"] == str(taken["seeds"].default)
    assert told["--backend"] == taken["backend"].default
    assert told["--frozen"] == "relevance"
    assert told["--control"] == ",".join(taken["control"].default)
