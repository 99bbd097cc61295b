"""Arms on the machines of a Ray cluster.

Machines need no shared file system. An arm runs in a temporary folder. After each round, the new files of the arm are
sent back as bytes and written to the run folder, tables before states. So one process writes the run folder, and an
interrupted run can be resumed, with or without Ray.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from rimsim.config.reading import relocated
from rimsim.data.session_logs import stored_path
from rimsim.errors import ConfigError, DataError, RimsimError
from rimsim.intensity.cache import log_digest
from rimsim.market import build_world
from rimsim.market.world import own_places
from rimsim.scenarios.runs.arms import DONE, Arm, part_name
from rimsim.scenarios.runs.files import write_bytes
from rimsim.scenarios.runs.progress import Report
from rimsim.scenarios.runs.records import versions
from rimsim.scenarios.runs.store import FAILURES, STATES, RunFolder
from rimsim.scenarios.runs.workers import ATTEMPTS, LostWorkerError, TaskQueue
from rimsim.system import cache_folder, cores, draft_folder
from rimsim.tracking import event_folder

Job: TypeAlias = Callable[[Arm, Report], None]
Files: TypeAlias = dict[str, bytes | None]
"""Name of a file in the run folder → its content; None: the file is removed."""
Sources: TypeAlias = dict[str, bytes | str]
"""Path of a file or folder as the arm names it → content of the file (bytes), or absolute path of the folder (str),
which every machine must have."""
Message: TypeAlias = int | Files | RimsimError | None
"""Message of a task: a number for progress, or files. At the end of the task: an error or None."""

_SETTINGS = {
    # Ray must not send usage statistics.
    "RAY_USAGE_STATS_ENABLED": "0",
    # rimsim itself reports the death of a worker, because Ray would print it in the middle of the progress bar.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
    # Ray must show the same GPUs as local processes see; this is also the default of later versions.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Under `uv run`, Ray would send the working directory, which contains runs.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
"""Settings that Ray reads when it is imported. Settings of the user have priority."""
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Settings of a Ray that rimsim starts: it listens on this machine only, which is also the default on Windows and
macOS."""
_PATIENCE = 2.0
"""Number of seconds in which a task must remove its folder when the run is interrupted."""


@contextmanager
def on_ray(address: str | None, workers: int | None) -> Iterator[None]:
    """Context manager that connects to Ray or starts one.

    If this process is already connected, the connection is used and stays open.

    Args:
        address: Address of a cluster, ``auto`` or ``host:port``; None: a cluster is started.
        workers: Number of parallel tasks of a cluster that is started; None: one per core.

    Raises:
        ConfigError: If Ray is not installed, or no cluster at the address can be used.
    """
    ray = _ray(_SETTINGS if address else _SETTINGS | _LOOPBACK)
    if ray.is_initialized():
        yield
        return
    try:
        _connect(ray, address, workers)
        if not ray.cluster_resources().get("CPU"):
            raise ConfigError(f"--address {address}: this cluster has no CPU. Expected at least one")
        yield
    finally:
        # This ends a cluster that was started here; any other cluster loses only the tasks of this run.
        ray.shutdown()


def _ray(settings: Mapping[str, str]) -> Any:
    """The package Ray; untyped, because it may be missing."""
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            f"--backend ray: Ray cannot be imported ({error}). Install it: pip install 'rimsim[ray]'"
        ) from error


def _connect(ray: Any, address: str | None, workers: int | None) -> None:
    """Connect to Ray without output and signal handlers."""
    options_of_new_cluster = {"num_cpus": workers or cores(), "include_dashboard": False}
    handler_before = signal.getsignal(signal.SIGTERM)
    try:
        if address not in (None, "auto"):
            # The address is tried first, because Ray would wait for minutes if nothing answers there.
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(
            address=address or "local",  # without an address, Ray would search for a cluster
            log_to_driver=False,
            logging_level="ERROR",
            **({} if address else options_of_new_cluster),
        )
    except SystemExit:
        # While Ray starts, its own handler turns a SIGTERM into SystemExit. In a run, a SIGTERM always acts like an
        # interrupt from the keyboard.
        raise KeyboardInterrupt from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        if address is None:
            raise ConfigError(f"--backend ray: Ray cannot be started here: {reason}") from error
        raise ConfigError(
            f"--address {address}: no Ray cluster answers there ({reason}). Give the host:port of a "
            "running cluster, or auto on one of its machines"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler_before)


def run_on_ray(workers: int | None, job: Job, arms: Sequence[Arm], report: Report) -> dict[int, RimsimError]:
    """Errors by the index of each failed arm.

    As :meth:`rimsim.scenarios.runs.workers.Workers.run`. The run folders of the arms must exist already. ``workers`` is
    the number of tasks at once; None: as many as the cluster has CPUs for.
    """
    ray = _ray(_SETTINGS)
    # A task streams its messages. Ray does not retry it, because the queue begins a lost task again.
    start_task = ray.remote(_work).options(num_cpus=1, max_retries=0, num_returns="streaming")
    sources = ray.put(sources_of(arms))
    versions_here = versions()
    queue = TaskQueue(job, arms)
    streams: dict[Any, int] = {}
    try:
        while queue.waiting or streams:
            while queue.waiting and len(streams) < (workers or len(arms)):
                number = queue.begin()
                arm = arms[number]
                digest_of_log = RunFolder.open(arm.folder).config["digests"]["log"]
                stream = start_task.remote(job, arm, left_of(arm), sources, versions_here, digest_of_log)
                streams[stream] = number
            ready, _ = ray.wait(list(streams), timeout=1, fetch_local=False)
            report(0)  # this raises an interrupt that came during the wait
            for stream in ready:
                number = streams[stream]
                message = _next(ray, stream)
                if isinstance(message, int):
                    report(message)
                elif isinstance(message, dict):
                    enter(arms[number].folder, message)
                else:
                    del streams[stream]
                    queue.end(number, message)
    finally:
        for stream in streams:
            ray.cancel(stream)
        if streams:
            ended = [stream.completed() for stream in streams]
            ray.wait(ended, num_returns=len(ended), timeout=_PATIENCE + 1)
    return queue.failures


def _next(ray: Any, stream: Any) -> Message:
    """Next message of a task."""
    try:
        message: Message = ray.get(next(stream))
    except ray.exceptions.RayTaskError as error:  # a machine without rimsim raises it, for example
        return RimsimError(f"on Ray: {str(error).strip().splitlines()[-1]}")
    except (ray.exceptions.RayError, StopIteration) as error:
        reason = str(error).partition(".")[0] or "its messages broke off"
        return LostWorkerError(f"on Ray: {reason}, {ATTEMPTS} times over")
    return message


def _file_of(text: str) -> str | None:
    """Path of the file in ``file.py:Name``; None for other texts."""
    stem, separator, _ = text.partition(".py:")
    return f"{stem}.py" if separator else None


def sources_of(arms: Sequence[Arm]) -> Sources:
    """Files that arms name (code, logs, tables), by path."""
    names = {
        _file_of(text) for arm in arms for text in (arm.agent, *arm.options.measures, *own_places(arm.config))
    }
    for arm in arms:
        names |= {arm.config.data.source, arm.config.consumer.table, arm.config.data.items}
    paths = {name: stored_path(name) or Path(name) for name in names if name is not None}
    # Other texts, such as the name of a built-in log, are no paths.
    paths = {name: path for name, path in paths.items() if path.exists()}
    return {
        name: path.read_bytes() if path.is_file() else str(path.resolve()) for name, path in paths.items()
    }


def left_of(arm: Arm) -> Files:
    """Files that an arm needs to resume."""
    folder = arm.folder
    part = arm.part
    paths = [folder / "rounds" / f"{part}.parquet", folder / FAILURES / f"{part}.txt"]
    paths += [*(folder / STATES / part).rglob("*"), *event_folder(folder, arm.name, arm.seed).glob("*")]
    # A control retrains on as many events as the arm of its agent, so it needs files of this arm.
    if arm.control is not None:
        subject = part_name(arm.subject, arm.seed)
        paths += [folder / STATES / subject / DONE, *(folder / "learnt").glob(f"{subject}-*.parquet")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def enter(folder: Path, files: Files) -> None:
    """Write received files: tables, then their states."""
    states: dict[Path, dict[Path, bytes]] = {}
    removed: set[Path] = set()
    for name, content in files.items():
        path = Path(name)
        # A checkpoint is a folder, STATES/ARM/ROUND, whose files appear together. Any other file is on its own.
        unit = Path(*path.parts[:3]) if path.parts[0] == STATES else path
        if content is None:
            removed.add(unit)
        elif unit is path:
            write_bytes(folder / path, content)
        else:
            states.setdefault(unit, {})[path.relative_to(unit)] = content
    for unit, contents in states.items():
        if contents.keys() == {Path()}:  # this is a single file that marks an arm, and not a folder
            write_bytes(folder / unit, contents[Path()])
            continue
        with draft_folder(folder / unit) as draft:
            for path, content in contents.items():
                write_bytes(draft / path, content)
    for unit in removed - states.keys():
        if (folder / unit).is_dir():
            shutil.rmtree(folder / unit)
        else:
            (folder / unit).unlink(missing_ok=True)


def _work(
    job: Job,
    arm: Arm,
    saved_files: Files,
    sources: Sources,
    required_versions: dict[str, str],
    digest_of_log: str,
) -> Iterator[Message]:
    """Messages of an arm that runs in a temporary folder.

    The arm runs in a thread of its own, so that messages can be sent meanwhile.
    """
    messages: SimpleQueue[Message] = SimpleQueue()
    stopped = threading.Event()
    with tempfile.TemporaryDirectory(prefix="rimsim-arm-", ignore_cleanup_errors=True) as name:
        folder = Path(name, "run")
        shared = Path(name, "shared")
        folder.mkdir()
        enter(folder, saved_files)
        changes = FileChanges(folder)

        def send(count: int) -> None:
            """Report progress; send the files of a finished round first."""
            if stopped.is_set():
                raise SystemExit  # the main process no longer waits for the result
            if files := changes.of_round():
                messages.put(files)
            messages.put(count)

        def play() -> None:
            """Do the job; send its last files and error."""
            failure: RimsimError | None = None
            try:
                arm_here = replace(moved(arm, folder, unpacked(sources)), shared=shared)
                _require_same(arm_here, required_versions, digest_of_log)
                job(arm_here, send)
            except RimsimError as error:
                failure = error
            except BaseException as error:  # noqa: BLE001  # after any error, the other tasks go on
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
                    message = messages.get(timeout=0.5)  # the wait is short, so that Ray can interrupt it
                    yield message
        finally:
            stopped.set()
            player.join(_PATIENCE)


def _require_same(arm: Arm, required_versions: dict[str, str], digest_of_log: str) -> None:
    """Refuse to run where versions or the log differ."""
    machine = platform.node()
    versions_here = versions()
    differences = [
        f"{name} {versions_here.get(name)} in place of {version}"
        for name, version in required_versions.items()
        if versions_here.get(name) != version
    ]
    if differences:
        raise ConfigError(
            f"the machine {machine} has {', '.join(differences)}. Install the versions of the machine that "
            "began the run"
        )
    remedy = "Put the same log under the same name or path on every machine, or give a log in one file"
    try:
        digest = log_digest(build_world(arm.config).log)
    except DataError as error:
        raise ConfigError(f"the machine {machine} cannot read the log: {error}. {remedy}") from error
    if digest != digest_of_log:
        raise ConfigError(
            f"the machine {machine} has a different log under the name {arm.config.data.source!r}. {remedy}"
        )


def unpacked(sources: Sources) -> dict[str, str]:
    """Path on the main machine → path on this machine.

    Files are written to the cache, below the digest of their content.
    """
    paths_here = {}
    for name, content in sources.items():
        if isinstance(content, str):
            paths_here[name] = content
            continue
        cached_file = cache_folder() / "sent" / sha256(content).hexdigest() / Path(name).name
        if not cached_file.is_file():
            write_bytes(cached_file, content)
        paths_here[name] = str(cached_file)
    return paths_here


def moved(arm: Arm, folder: Path, places: dict[str, str]) -> Arm:
    """Arm with the paths of this machine."""

    def here(text: str) -> str:
        """Text ``file.py:Name`` with the path of this machine."""
        file = _file_of(text)
        return text.replace(file, places[file], 1) if file in places else text

    return replace(
        arm,
        folder=folder,
        agent=here(arm.agent),
        options=replace(arm.options, measures=tuple(here(place) for place in arm.options.measures)),
        config=relocated(arm.config, here, lambda path: places.get(path, path)),
    )


class FileChanges:
    """Files of a folder that changed after they were sent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sent = self._stamps()

    def of_round(self) -> Files:
        """Files to send after a round; nothing during a round."""
        # A round is over when its table ``rounds`` is written, which is the arm's last table.
        tables = self._stamps(folder="rounds")
        is_after_round = any(self._sent.get(name) != stamp for name, stamp in tables.items())
        return self.all() if is_after_round else {}

    def all(self) -> Files:
        """Changed and removed files, which then count as sent."""
        stamps = self._stamps()
        sent = self._sent
        self._sent = stamps
        removed: Files = dict.fromkeys(sent.keys() - stamps.keys())
        return removed | {
            name: (self._folder / name).read_bytes()
            for name, stamp in stamps.items()
            if stamp != sent.get(name)
        }

    def _stamps(self, folder: str = "") -> dict[str, tuple[int, int, int]]:
        """Name of each file → time of change, size and inode."""
        stamps = {}
        for path in sorted((self._folder / folder).rglob("*")):
            if path.is_file():
                stat = path.stat()
                name = path.relative_to(self._folder).as_posix()
                stamps[name] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return stamps
