"""Tasks of tests that run on worker processes, which import them from here whichever tests run."""

import importlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock

from rimsim.errors import DataError, ModelError


@dataclass(frozen=True)
class Errand:
    """What a worker is told to do."""

    kind: str
    place: Path


def do(errand, report):
    """Count to three, or fail in one of several ways on the way."""
    report(1)
    if errand.kind == "ours":
        raise DataError("a bad log")
    if errand.kind == "other":
        raise KeyError("a slip")
    if errand.kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if errand.kind == "quit":
        os._exit(7)
    if errand.kind == "die-once" and not errand.place.exists():
        errand.place.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if errand.kind == "sign":
        with errand.place.open("a") as file:
            file.write(f"{os.getpid()}\n")
    if errand.kind == "hold":  # a lock, of which it says so once, and then nothing for an hour
        with FileLock(errand.place.with_suffix(".lock")):
            errand.place.touch()
            time.sleep(3600)
    report(2)


def play_part(part, report):
    report(1)
    if part == "bad":
        raise ModelError("it does not fit")
    table = pd.DataFrame({"part": [part, part], "value": [1.0, 2.0]})
    return {"backtest": table, "fits": pd.DataFrame({"n": [1]})}


def first_call(folder, begin, results):
    """Call a kernel at the same time as others; report what was compiled and what was read from disk."""
    sys.path.insert(0, folder)
    kernel = importlib.import_module("kernel")
    begin.wait(60)
    answer = kernel.doubled(21)
    stats = kernel.doubled.stats
    results.put((answer, sum(stats.cache_misses.values()), sum(stats.cache_hits.values())))
