"""Options of agents at the ends of their ranges, and what a class of one's own may lack."""

from __future__ import annotations

import os
import sys

import pytest

from rimsim.agents import make_agent
from rimsim.errors import ConfigError

ALLOWED = {
    "rim-dual": {"tol": (1e-9, 10.0)},
    "rim-feedback": {"gain": (1e-9, 10.0), "tol": (1e-9, 1.0), "closing": (0.0, 1.0)},
    "rim-resolve": {
        "every": (1, 2),
        "gain": (0.0, 10.0),
        "closing": (0.0, 1.0),
        "sample": (1e-9, 10.0),
        "memory": (0.0, 10.0),
        "tol": (1e-9, 1.0),
    },
    "entropic-dual": {
        "temperature": (1e-9, 10.0),
        "gain": (0.0, 10.0),
        "closing": (0.0, 1.0),
        "states": (1, 2),
        "tol": (1e-9, 1.0),
    },
    "p-mmf": {"strength": (1e-9, 10.0), "eta": (1e-9, 10.0), "momentum": (0.0, 0.999)},
    "epsilon-greedy": {"epsilon": (0.0, 1.0)},
    "lin-ucb": {"width": (0.0, 10.0), "ridge": (1e-9, 10.0), "every": (1, 2)},
    "offline-match": {"tol": (1e-9, 1.0)},
    "hindsight": {"tol": (1e-9, 1.0)},
}
REFUSED = {
    "rim-dual": {"tol": (0.0,)},
    "rim-feedback": {"gain": (0.0,), "tol": (0.0,), "closing": (-1e-9,)},
    "rim-resolve": {
        "every": (0,),
        "gain": (-1e-9,),
        "closing": (-1e-9,),
        "sample": (0.0,),
        "memory": (-1e-9,),
        "tol": (0.0,),
    },
    "entropic-dual": {
        "temperature": (0.0,),
        "gain": (-1e-9,),
        "closing": (-1e-9,),
        "states": (0,),
        "tol": (0.0,),
    },
    "p-mmf": {"strength": (0.0,), "eta": (0.0,), "momentum": (-1e-9, 1.0)},
    "epsilon-greedy": {"epsilon": (-1e-9, 1.0 + 1e-9)},
    "lin-ucb": {"width": (-1e-9,), "ridge": (0.0,), "every": (0,)},
    "offline-match": {"tol": (0.0,)},
    "hindsight": {"tol": (0.0,)},
}


def _each(table):
    return [
        (agent, option, value)
        for agent, options in table.items()
        for option, values in options.items()
        for value in values
    ]


@pytest.mark.parametrize(("agent", "option", "value"), _each(ALLOWED))
def test_an_option_may_be_at_either_end_of_its_range(agent, option, value):
    """The agent has the value that was given, and bears it in its name."""
    made = make_agent(f"{agent}({option}={value})")
    assert getattr(made, option) == value
    assert made.name == f"{agent}({option}={value})"


@pytest.mark.parametrize(("agent", "option", "value"), _each(REFUSED))
def test_an_option_beyond_its_range_is_refused_by_name(agent, option, value):
    """Zero where something must be positive, and the next number outside of a closed range."""
    with pytest.raises(ConfigError, match=f"option '{option}' is {value};"):
        make_agent(f"{agent}({option}={value})")


MINE = """\
class Mine:
    name = "mine"
    order_free = True
    barrier_every = None

    def begin_round(self, view):
        pass

    def act(self, arrivals):
        pass
"""


@pytest.mark.parametrize("part", ["name", "order_free", "barrier_every"])
def test_what_a_class_lacks_is_named_and_nothing_else(tmp_path, part):
    """The error names the one attribute that is not there."""
    lines = [line for line in MINE.splitlines() if not line.strip().startswith(f"{part} =")]
    file = tmp_path / "mine.py"
    file.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=f"lacks {part}; allowed"):
        make_agent(f"{file}:Mine")


@pytest.mark.parametrize("every", [1, 2, None])
def test_a_barrier_may_be_at_every_arrival(tmp_path, every):
    """One is the least number of arrivals between barriers, and none is one too."""
    file = tmp_path / "mine.py"
    file.write_text(MINE.replace("barrier_every = None", f"barrier_every = {every}"))
    assert make_agent(f"{file}:Mine").barrier_every == every
    file.write_text(MINE.replace("barrier_every = None", "barrier_every = 0"))
    with pytest.raises(ConfigError, match="barrier_every is 0; allowed: None, or at least 1"):
        make_agent(f"{file}:Mine")


def test_a_file_that_changes_within_a_second_is_read_anew(tmp_path, monkeypatch):
    """Also where Python keeps compiled files, which it compares by second and size; none is left beside it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for every in (4, 5):
        file.write_text(MINE.replace("barrier_every = None", f"barrier_every = {every}"))
        os.utime(file, (1_500_000_000, 1_500_000_000))
        assert make_agent(f"{file}:Mine").barrier_every == every
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
