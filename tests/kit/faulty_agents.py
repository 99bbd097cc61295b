"""Agents that do what no agent should, for tests; made by the comparison from this file."""
# ruff: noqa: D101, D102  # each name says what is wrong

import os
import signal
from pathlib import Path

from rimsim.agents import Random


class _Faulty(Random):
    """Right until the second round's arrivals."""

    def begin_round(self, view):
        self.number = view.round
        super().begin_round(view)

    def act(self, arrivals):
        slates = super().act(arrivals)
        return self.wrong(slates.items, arrivals) if self.number == 1 else slates


class Raises(_Faulty):
    name = "raises"

    def wrong(self, items, arrivals):
        raise ValueError("no idea")


class WrongShape(_Faulty):
    name = "wrong-shape"

    def wrong(self, items, arrivals):
        return items[:, :-1]


class Repeats(_Faulty):
    name = "repeats"

    def wrong(self, items, arrivals):
        items[-1] = items[-1, 0]
        return items


class Dies(_Faulty):
    name = "dies"

    def wrong(self, items, arrivals):
        os.kill(os.getpid(), signal.SIGKILL)


class Named(Random):
    def __init__(self, called="named"):
        self.name = called


class Interrupted(_Faulty):
    name = "interrupted"

    def wrong(self, items, arrivals):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as stop:  # as it happens in libraries
            raise SystemError("returned a result with an exception set") from stop


class DiesOnce(Random):
    """Kills its process in the second round, unless ``died`` lies in RIMSIM_TEST_MARKS or in the cache; as random."""

    def begin_round(self, view):
        mark = Path(os.environ.get("RIMSIM_TEST_MARKS", os.environ["RIMSIM_CACHE"])) / "died"
        if view.round == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().begin_round(view)
