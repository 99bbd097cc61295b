"""Agents made from a name, a class or a file: their options, defaults and refusals."""

import os
import sys

from kit import cases, refused

from rimsim.agents import make_agent
from rimsim.errors import ConfigError


@cases(
    "text message",
    ("relevence", "'relevance'"),  # codespell:ignore relevence
    ("epsilon-greedy(epsilom=0.2)", "'epsilon'"),
    ("epsilon-greedy(epsilon=2)", "option 'epsilon' is 2. It must be less than or equal to 1"),
    ("epsilon-greedy(0.2)", "option=value"),
    ("rim-resolve(every=2.5)", "option 'every' is 2.5. It must be a valid integer"),
    ("rim-feedback(guard=True)", "no option 'guard'"),
    ("fair-rec(alpha=2)", "no option 'alpha'"),
    ("nowhere.py:Mine", "no file"),
    ("rimsim.agents:Randm", "'Random'"),
    ("argparse:Namespace", "has no begin_round, act"),
    ("rimsim.agents:Episode", "cannot be made"),
)
def test_agents_that_are_none_are_refused(text, message):
    """A misspelt name, option or class is an error with the nearest valid name."""
    refused(ConfigError, message, make_agent, text)


@cases(
    "agent option default ends beyond",  # the ends of its range, and values beyond them
    ("flat-budget", "bonus", 0.3, (0.0, 10.0), (-1e-9,)),
    ("rim-dual", "tol", 1e-3, (1e-9, 10.0), (0.0,)),
    ("rim-feedback", "gain", 0.1, (1e-9, 10.0), (0.0,)),
    ("rim-feedback", "tol", 1e-3, (1e-9, 1.0), (0.0,)),
    ("rim-feedback", "closing", 0.02, (0.0, 1.0), (-1e-9,)),
    ("rim-resolve", "every", 200, (1, 2), (0,)),
    ("rim-resolve", "gain", 0.07, (0.0, 10.0), (-1e-9,)),
    ("rim-resolve", "closing", 0.02, (0.0, 1.0), (-1e-9,)),
    ("rim-resolve", "sample", 1.0, (1e-9, 10.0), (0.0,)),
    ("rim-resolve", "memory", 1.0, (0.0, 10.0), (-1e-9,)),
    ("rim-resolve", "tol", 1e-3, (1e-9, 1.0), (0.0,)),
    ("rim-ucb", "quantile", 0.9, (0.5, 0.999), (0.49, 1.0)),
    ("entropic-dual", "temperature", 0.1, (1e-9, 10.0), (0.0,)),
    ("entropic-dual", "gain", 0.1, (0.0, 10.0), (-1e-9,)),
    ("entropic-dual", "closing", 0.05, (0.0, 1.0), (-1e-9,)),
    ("entropic-dual", "states", 500, (1, 2), (0,)),
    ("entropic-dual", "tol", 1e-3, (1e-9, 1.0), (0.0,)),
    ("p-mmf", "strength", 1.0, (1e-9, 10.0), (0.0,)),
    ("p-mmf", "eta", 0.5, (1e-9, 10.0), (0.0,)),
    ("p-mmf", "momentum", 0.9, (0.0, 0.999), (-1e-9, 1.0)),
    ("epsilon-greedy", "epsilon", 0.1, (0.0, 1.0), (-1e-9, 1.0 + 1e-9)),
    ("lin-ucb", "width", 0.1, (0.0, 10.0), (-1e-9,)),
    ("lin-ucb", "ridge", 100.0, (1e-9, 10.0), (0.0,)),
    ("lin-ucb", "every", 100, (1, 2), (0,)),
    ("offline-match", "tol", 1e-4, (1e-9, 1.0), (0.0,)),
    ("hindsight", "tol", 1e-4, (1e-9, 1.0), (0.0,)),
)
def test_an_option_has_its_default_its_range_and_its_place_in_the_name(agent, option, default, ends, beyond):
    """The default is what figures were measured with; either end is taken and is in the name, and the next is not."""
    plain = make_agent(agent)
    assert (getattr(plain, option), plain.name) == (default, agent)
    for value in ends:
        configured = make_agent(f"{agent}({option}={value})")
        assert (getattr(configured, option), configured.name) == (value, f"{agent}({option}={value})")
    for value in beyond:
        message = rf"option '{option}' is {value}\. It must be"
        refused(ConfigError, message, make_agent, f"{agent}({option}={value})")


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


def test_a_file_that_changes_within_a_second_is_read_anew(tmp_path, monkeypatch):
    """Also where Python keeps compiled files; barriers are at least 1 or none, and what is lacking is named."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for barrier in (4, 5, 1, 2, None):
        file.write_text(MINE.replace("barrier_every = None", f"barrier_every = {barrier}"))
        os.utime(file, (1_500_000_000, 1_500_000_000))
        assert make_agent(f"{file}:Mine").barrier_every == barrier
    file.write_text(MINE.replace("barrier_every = None", "barrier_every = 0"))
    message = "barrier_every is 0. Expected None or a number of at least 1"
    refused(ConfigError, message, make_agent, f"{file}:Mine")
    for part in ("name", "order_free", "barrier_every"):
        file.write_text("\n".join(line for line in MINE.splitlines() if not line.strip().startswith(part)))
        message = f"has no {part}. Define all attributes of rimsim.agents.Agent"
        refused(ConfigError, message, make_agent, f"{file}:Mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
