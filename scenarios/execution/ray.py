"""Arms on Ray: they run on any machine of a cluster, and their files come back to the one that began the run.

No file system needs to be shared. An arm plays in a temporary folder where it runs; whenever it has finished a round,
what is new there comes back as bytes and is entered in the run folder, tables before states. So a run folder is
written by one process, and a run that is cut off anywhere can be resumed, on Ray or not.
"""

from __future__ import annotations

import importlib
import os
import platform
import signal
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from rimsim.errors import ConfigError, DataError, RimsimError
from rimsim.intensity.cache import log_digest
from rimsim.market import build_world
from rimsim.scenarios.execution.local import ATTEMPTS, LostWorkerError
from rimsim.scenarios.execution.ray_files import Changes, enter, left_of, moved, sources_of, unpacked
from rimsim.scenarios.store.folders import versions
from rimsim.scenarios.store.run_folder import load_run
from rimsim.system import cores

if TYPE_CHECKING:
    from rimsim.scenarios.execution.arm import Arm, Job, Report
    from rimsim.scenarios.execution.ray_files import Files, Sources

    Message: TypeAlias = int | Files | RimsimError | None
    """What a task sends: numbers for progress, files, and at its end what went wrong, or None."""


_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # we report deaths of workers, and not in the middle of the progress bar
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a GPU is seen as by local processes; later versions' default
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run`, Ray would send the working directory, runs included
}
"""Settings of Ray that are read when it is imported; those of the user go first."""
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""For a Ray of our own: it listens on this machine alone (so named because it is the default there)."""
_PATIENCE = 2.0
"""Seconds that a task gets to end and clear away its folder when the run is interrupted."""


@contextmanager
def on_ray(address: str | None, workers: int | None) -> Iterator[None]:
    """Connect to Ray, or start one on this machine that ends with the block.

    Where this process is connected already, that connection is used and left open.

    Args:
        address: Of a cluster: ``auto`` or ``host:port``. None: start one.
        workers: Tasks at once, for one that is started; None: one a core.

    Raises:
        ConfigError: If Ray is not installed, or there is no cluster at the address or none that can be used.
    """
    ray = _ray(_SETTINGS if address else _SETTINGS | _LOOPBACK)
    if ray.is_initialized():
        yield
        return
    try:
        _connect(ray, address, workers)
        if not ray.cluster_resources().get("CPU"):
            raise ConfigError(f"--address {address}: a cluster without a CPU; allowed: at least one")
        yield
    finally:
        ray.shutdown()  # ends what was started here; a cluster elsewhere only loses this run's tasks


def _ray(settings: Mapping[str, str]) -> Any:
    """The package; untyped, as it may be missing."""
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            f"--backend ray: Ray cannot be imported ({error}); allowed: with the extra, pip install 'rimsim[ray]'"
        ) from error


def _connect(ray: Any, address: str | None, workers: int | None) -> None:
    """Connect; Ray prints nothing, and SIGTERM is handled as before."""
    here = {"num_cpus": workers or cores(), "include_dashboard": False}
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address not in (None, "auto"):
            host, _, port = address.rpartition(":")  # where nobody answers, Ray would wait for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(
            address=address or "local",  # without one, Ray would look for a cluster by itself
            log_to_driver=False,
            logging_level="ERROR",
            **({} if address else here),
        )
    except SystemExit:  # Ray answers SIGTERM in its own way
        raise KeyboardInterrupt from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        if address is None:
            raise ConfigError(f"--backend ray: Ray cannot be started here: {reason}") from error
        raise ConfigError(
            f"--address {address}: no Ray there ({reason}); allowed: auto or host:port, "
            "on a machine of a running cluster"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def run_on_ray(workers: int | None, job: Job, arms: Sequence[Arm], report: Report) -> dict[int, RimsimError]:
    """Do a job for each arm, as :meth:`rimsim.scenarios.execution.local.Workers.run` does; within :func:`on_ray`.

    Args:
        workers: Tasks at once at most; None: as many as the cluster has CPUs for.
        job: A function of a module, which another process can import.
        arms: One for each call of the job; their run folders have been begun.
        report: Called in this process with the numbers that jobs report.

    Returns:
        Position of a failed task → what went wrong.
    """
    ray = _ray(_SETTINGS)
    begin = ray.remote(_work).options(num_cpus=1, max_retries=0, num_returns="streaming")
    sources, made = ray.put(sources_of(arms)), versions()
    failures: dict[int, RimsimError] = {}
    waiting, attempts = deque(range(len(arms))), [0] * len(arms)
    streams: dict[Any, int] = {}
    try:
        while waiting or streams:
            while waiting and len(streams) < (workers or len(arms)):
                number = waiting.popleft()
                attempts[number] += 1
                arm = arms[number]
                streams[begin.remote(job, arm, left_of(arm), sources, made, _log(arm))] = number
            ready, _ = ray.wait(list(streams), timeout=1, fetch_local=False)
            report(0)
            for stream in ready:
                number = streams[stream]
                message = _next(ray, stream)
                if isinstance(message, int):
                    report(message)
                elif isinstance(message, dict):
                    enter(arms[number].folder, message)
                else:
                    del streams[stream]
                    if isinstance(message, LostWorkerError) and attempts[number] < ATTEMPTS:
                        waiting.appendleft(number)
                    elif message is not None:
                        failures[number] = message
    finally:
        for stream in streams:
            ray.cancel(stream)
        if streams:
            ended = [stream.completed() for stream in streams]
            ray.wait(ended, num_returns=len(ended), timeout=_PATIENCE + 1)
    return failures


def _next(ray: Any, stream: Any) -> Message:
    """The next message of a task."""
    try:
        message: Message = ray.get(next(stream))
    except ray.exceptions.RayTaskError as error:  # such as a machine without rimsim
        return RimsimError(f"on Ray: {str(error).strip().splitlines()[-1]}")
    except (ray.exceptions.RayError, StopIteration) as error:
        reason = str(error).partition(".")[0] or "its messages broke off"
        return LostWorkerError(f"on Ray: {reason}, {ATTEMPTS} times over")
    return message


def _log(arm: Arm) -> str:
    """The digest of the log that an arm's run began with."""
    return str(load_run(arm.folder).config["digests"]["log"])


# -- where an arm runs --------------------------------------------------------------------------------------------


def _work(
    job: Job, arm: Arm, left: Files, sources: Sources, made: dict[str, str], log: str
) -> Iterator[Message]:
    """A task: plays an arm in a temporary folder and yields its messages; the last is an error of ours or None."""
    messages: SimpleQueue[Message] = SimpleQueue()
    stopped = threading.Event()
    with tempfile.TemporaryDirectory(prefix="rimsim-arm-", ignore_cleanup_errors=True) as name:
        folder, shared = Path(name, "run"), Path(name, "shared")
        folder.mkdir()
        enter(folder, left)
        changes = Changes(folder)

        def send(count: int) -> None:
            if stopped.is_set():
                raise SystemExit  # nobody waits any more
            if files := changes.of_round():
                messages.put(files)
            messages.put(count)

        def play() -> None:
            failure: RimsimError | None = None
            try:
                here = replace(moved(arm, folder, unpacked(sources)), shared=shared)
                _require_same(here, made, log)
                job(here, send)
            except RimsimError as error:
                failure = error
            except BaseException as error:  # noqa: BLE001  # whatever it is, the other tasks go on
                if stopped.is_set():
                    return
                failure = RimsimError(f"{type(error).__name__}: {error}")
            messages.put(changes.all())
            messages.put(failure)

        player = threading.Thread(target=play, daemon=True)
        player.start()
        try:
            message: Message = 0
            while isinstance(message, int | dict):
                with suppress(Empty):
                    message = messages.get(timeout=0.5)  # not for ever: Ray must be able to interrupt this
                    yield message
        finally:
            stopped.set()
            player.join(_PATIENCE)


def _require_same(arm: Arm, made: dict[str, str], log: str) -> None:
    """Refuse to run where results could be others.

    Raises:
        ConfigError: If this machine has another version of something, or another log, or none.
    """
    machine, here = platform.node(), versions()
    other = [
        f"{name} {here.get(name)} in place of {made[name]}" for name in made if here.get(name) != made[name]
    ]
    if other:
        raise ConfigError(
            f"the machine {machine} has {', '.join(other)}; allowed: the versions of the one that began the run"
        )
    wanted = "allowed: the same log under the same name or path on every machine, or a log in one file"
    try:
        digest = log_digest(build_world(arm.config).log)
    except DataError as error:
        raise ConfigError(f"the machine {machine} cannot read the log: {error}; {wanted}") from error
    if digest != log:
        raise ConfigError(f"the machine {machine} has another log as {arm.config.data.source!r}; {wanted}")
