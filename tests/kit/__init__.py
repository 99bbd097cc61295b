"""Small helpers that tests of every room share."""

import inspect
import os
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FAULTY = Path(__file__).with_name("faulty_agents.py")
MODEL = """\
import torch
from rimsim.intensity import Popularity


class Mine:
    def __init__(self, seed, device):
        pass

    def fit(self, log):
        self.n_items = log.n_items
        return self

    update = fit

    def score(self, states):
        return torch.ones(len(states), self.n_items)
"""
"""A file with a model of one's own, in which λ(x,y) is 1."""


def documented(name, *pages):
    """A code block of pages of the documentation, by the file name in its first line."""
    text = "".join((DOCS / f"{page}.md").read_text(encoding="utf-8") for page in pages)
    return text.split(f"# {name}\n", 1)[1].split("```", 1)[0]


def cases(names, *rows, **options):
    """Run a test once for each row of values of the named arguments."""
    return pytest.mark.parametrize(names.split(), rows, **options)


def refused(error, message, call, *arguments, **options):
    """Check that a call ends in an error whose text matches, if there is a pattern; returns the text."""
    with pytest.raises(error, match=message) as caught:
        call(*arguments, **options)
    return str(caught.value)


def said_by(capsys, words, status=0):
    """What a command prints, output and errors, once it ended with a status; its words are a list or a text."""
    from rimsim.scenarios.cli.main import main  # for the tests that use it alone

    capsys.readouterr()
    assert main(words.split() if isinstance(words, str) else words) == status
    return capsys.readouterr()


def forked(action):
    """A forked process that runs an action; it ends whatever happens, else it would go on with the tests."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return child


def ended(child, *, killed=False, seconds=120.0):
    """The exit status of a forked process as the shell would say it (negative: a signal), killed after a while."""
    deadline = 0.0 if killed else time.monotonic() + seconds
    while not (result := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(result[1])


def until(condition, *, seconds=60.0):
    """Wait for a condition, so many seconds at most."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)


def calls_of(patch, place, name, *, interrupted_at=None):
    """A list of the arguments, by name, of each call of a function from now on; it does what it did.

    With ``interrupted_at``, the call of that number, from 1 on, is interrupted before it does anything.
    """
    calls = []
    original = getattr(place, name)

    def call(*values, **options):
        calls.append(inspect.signature(original).bind(*values, **options).arguments)
        if len(calls) == interrupted_at:
            raise KeyboardInterrupt
        return original(*values, **options)

    patch.setattr(place, name, call)
    return calls


def same_log(first, second):
    """Check that two logs are the same to the last bit, tables included."""
    for name in ("user", "item", "time", "value"):
        first_column = getattr(first, name)
        second_column = getattr(second, name)
        assert first_column.dtype == second_column.dtype
        np.testing.assert_array_equal(first_column, second_column)
    pd.testing.assert_frame_equal(first.users, second.users)
    pd.testing.assert_frame_equal(first.items, second.items)


def same_arrays(first, second, *names):
    """Check that arrays of two objects are the same to the last bit."""
    for name in names:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def zipped(path, *members, folder=""):
    """Write names and contents of members into a zip; returns its path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(f"{folder}{name}" if folder else name, content)
    return path


def write_events(path, user, item, time):
    """Write events as a CSV file; returns its path."""
    pd.DataFrame({"user": user, "item": item, "timestamp": time}).to_csv(path, index=False)
    return path
