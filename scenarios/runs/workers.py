"""Worker processes and their queue of tasks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Generic, Self, TypeVar

from rimsim.errors import RimsimError
from rimsim.scenarios.runs.progress import Report

Task = TypeVar("Task")
ATTEMPTS = 2
"""Number of times that a task is started. It fails if its worker dies each time."""


class LostWorkerError(RimsimError):
    """Error: a worker process or its machine died."""


@dataclass(frozen=True)
class _Done:
    """A worker's message at the end of a task."""

    failure: RimsimError | None
    """Error of the task; None: it succeeded."""


@dataclass(eq=False)
class _Worker:
    """A process, its pipe and its current task."""

    process: SpawnProcess
    pipe: Connection
    task: int | None = None


class Workers:
    """Worker processes for tasks of any job.

    Workers live until the ``with`` block or this process ends. If a worker dies (killed, out of memory, a crash in
    native code), a new worker repeats its task once.
    """

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        # A forked process would hang in torch if torch already runs threads.
        self._context = multiprocessing.get_context("spawn")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def run(
        self, job: Callable[[Task, Report], None], tasks: Sequence[Task], n_workers: int, report: Report
    ) -> dict[int, RimsimError]:
        """Run tasks on workers; return errors by task number.

        Args:
            job: Function of a module that other processes can import; it is called with a task and ``report``.
            tasks: Plain data, one for each call of the job.
            n_workers: Largest number of workers that run at once.
            report: Function that is called in this process with the numbers that jobs report.
        """
        queue = TaskQueue(job, tasks)
        try:
            while self._assign(queue, n_workers):
                for count in self._receive(queue):
                    report(count)
        except BaseException:
            # Workers end before the folder's lock is released, because they could still write to the folder.
            self._close()
            raise
        return queue.failures

    def _assign(self, queue: TaskQueue[Task], n_workers: int) -> bool:
        """Give waiting tasks to workers; False if all are idle."""
        while queue.waiting and sum(worker.task is not None for worker in self._workers) < n_workers:
            idle_worker = next((worker for worker in self._workers if worker.task is None), None)
            if idle_worker is None:
                idle_worker = self._started()
            task = queue.begin()
            idle_worker.task = task
            with suppress(OSError):  # a dead worker is found later, by its broken pipe
                idle_worker.pipe.send((queue.job, queue.tasks[task]))
        return any(worker.task is not None for worker in self._workers)

    def _receive(self, queue: TaskQueue[Task]) -> Iterator[int]:
        """Read the progress of workers, and record finished tasks."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]  # type: ignore[index]  # only pipes of workers are waited for
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                self._workers.remove(worker)
                worker.pipe.close()
                worker.process.join()
                message = _Done(_lost(worker.process.exitcode))
            if not isinstance(message, _Done):
                yield message
                continue
            if worker.task is not None:
                queue.end(worker.task, message.failure)
            worker.task = None

    def _close(self) -> None:
        """End all workers at once."""
        for worker in self._workers:
            worker.process.terminate()
            worker.process.join()
            worker.pipe.close()
        self._workers = []

    def _started(self) -> _Worker:
        """Start a worker process with its pipe."""
        own_end, worker_end = self._context.Pipe()
        process = self._context.Process(target=_work, args=(worker_end,), daemon=True)
        _start(process)
        # This end of the pipe must be open in the worker only, so that its death breaks the pipe.
        worker_end.close()
        worker = _Worker(process, own_end)
        self._workers.append(worker)
        return worker


class TaskQueue(Generic[Task]):
    """Tasks of a job, with waiting tasks, attempts and failures."""

    def __init__(self, job: Callable[[Task, Report], None], tasks: Sequence[Task]) -> None:
        self.job = job
        self.tasks = tasks
        self.waiting = deque(range(len(tasks)))
        self.failures: dict[int, RimsimError] = {}
        self._attempts = [0] * len(tasks)

    def begin(self) -> int:
        """Begin the next waiting task and return its number."""
        task = self.waiting.popleft()
        self._attempts[task] += 1
        return task

    def end(self, task: int, failure: RimsimError | None) -> None:
        """Record the end of a task, or begin it again.

        If its worker died, a task begins again while attempts are left.
        """
        if isinstance(failure, LostWorkerError) and self._attempts[task] < ATTEMPTS:
            self.waiting.appendleft(task)
        elif failure is not None:
            self.failures[task] = failure


def _start(process: SpawnProcess) -> None:
    """Start a worker process without main script and keyboard interrupts."""
    # A worker would import the main module, although it needs nothing from it. A module without a guard would begin the
    # run again, and a script from standard input cannot be imported at all.
    main = sys.modules["__main__"]
    if sys.platform != "win32":
        # The tracker starts first, because its start would unblock the signal that is blocked next.
        resource_tracker.ensure_running()
        # A worker inherits the blocked signal.
        blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)


def _lost(code: int | None) -> LostWorkerError:
    """Error that reports the exit status of a worker process."""
    event = f"ended with status {code}"
    if code is not None and code < 0:  # a signal is reported as its negative number
        event = f"was killed by {signal.Signals(-code).name}"
    return LostWorkerError(f"the worker process {event}, {ATTEMPTS} times over")


def _work(pipe: Connection) -> None:
    """Do tasks in a worker process until its pipe breaks."""
    # An interrupt from the keyboard reaches all processes. Only the main process reacts, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def send(message: int | _Done) -> None:
        """Send a message; end this process if nobody receives it."""
        try:
            pipe.send(message)
        except OSError:
            # The main process has ended. The worker must stop writing, because another process may resume the run in
            # this folder.
            os._exit(1)

    while True:
        try:
            job, task = pipe.recv()
        except (EOFError, OSError):
            return
        failure: RimsimError | None = None
        try:
            job(task, send)
        except RimsimError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  # after any error, the other tasks go on
            failure = RimsimError(f"{type(error).__name__}: {error}")
        send(_Done(failure))


def _end_with_parent() -> None:
    """End this process when its parent ends, even during tasks."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
