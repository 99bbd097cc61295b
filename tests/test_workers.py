"""Tasks on worker processes: what fails, what dies, and workers that outlive nobody."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress

import pytest
from worker_tasks import Errand, do

from rimsim.errors import DataError, RimsimError
from rimsim.scenarios.runs.local import Workers, run_here


def _run(kinds, place, workers=2):
    news = []
    with Workers() as pool:
        failures = pool.run(do, [Errand(kind, place) for kind in kinds], workers, news.append)
    return {number: (type(error), str(error)) for number, error in failures.items()}, sum(news)


def test_all_tasks_are_done_and_reported(tmp_path):
    """Every task's reports arrive, whatever the number of workers, and as without any."""
    tasks = [Errand("well", tmp_path)] * 5
    news = []
    assert run_here(do, tasks, news.append) == {}
    assert _run(["well"] * 5, tmp_path) == ({}, sum(news)) == ({}, 15)


def test_a_task_that_fails_leaves_the_others(tmp_path):
    """An error of ours keeps its kind; another is told by its type; the rest are done."""
    failures, count = _run(["ours", "well", "other", "well"], tmp_path)
    assert failures == {0: (DataError, "a bad log"), 2: (RimsimError, "KeyError: 'a slip'")}
    assert count == 2 * 3 + 2


def test_a_worker_that_dies_is_told_by_its_task_after_a_second_try(tmp_path):
    """The death names signal or status; every other task is done."""
    failures, _ = _run(["die", "well", "quit", "well"], tmp_path)
    assert set(failures) == {0, 2}
    assert failures[0][1] == "the worker process was killed by SIGKILL, 2 times over"
    assert failures[2][1] == "the worker process ended with status 7, 2 times over"


def test_a_task_whose_worker_died_once_is_done_by_another(tmp_path):
    """No failure is left."""
    failures, _ = _run(["die-once", "well"], tmp_path / "mark", workers=1)
    assert failures == {}


def test_workers_stay_for_tasks_to_come(tmp_path):
    """What comes after the first tasks is done by the same processes, a fresh one where one has died between."""
    place, told = tmp_path / "signed", lambda count: None
    with Workers() as pool:
        for kind in ("sign", "die", "sign", "sign"):
            pool.run(do, [Errand(kind, place)], 1, told)
    first, second, third = place.read_text().split()
    assert first != second == third
    assert int(third) not in {worker.pid for worker in multiprocessing.active_children()}


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signals that can be blocked")
def test_an_interrupt_does_not_reach_a_worker_that_still_starts(tmp_path, capfd):
    """Workers that are interrupted from their first instruction on do their tasks and print no traceback."""
    over = threading.Event()

    def interrupt():
        while not over.wait(0.01):
            for worker in multiprocessing.active_children():
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGINT)

    watch = threading.Thread(target=interrupt)
    watch.start()
    try:
        assert _run(["well"] * 2, tmp_path) == ({}, 6)
    finally:
        over.set()
        watch.join()
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_process_that_made_them(tmp_path, number):
    """Killed or ended, it leaves no worker that goes on writing."""
    place = tmp_path / "beats"
    parent = os.fork()
    if parent == 0:
        _run(["beat"], place, workers=1)
        os._exit(0)
    deadline = time.monotonic() + 60
    while not place.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert place.exists()
    os.kill(parent, number)
    os.waitpid(parent, 0)
    time.sleep(1.0)
    size = place.stat().st_size
    time.sleep(0.5)
    assert place.stat().st_size == size
