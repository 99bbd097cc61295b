"""Threads, memory, progress lines and atomic writes of a process."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from time import process_time
from typing import Literal

from threadpoolctl import threadpool_limits

_ALLOCATOR = ((-1, 2**28), (-3, 2**25))
"""Options of glibc's mallopt, with their values. M_TRIM_THRESHOLD is the number of free bytes that the heap keeps at
its end. M_MMAP_THRESHOLD is the size from which an array gets pages of its own, which are returned when it is freed;
the value is the largest allowed."""


def single_thread() -> None:
    """Compute on one thread, and keep freed memory.

    The last bits of a matrix product depend on the number of threads, in torch and in the BLAS of NumPy and SciPy.
    Parallel workers also share the cores.
    """
    import scipy.linalg  # noqa: F401, PLC0415  # only a BLAS that is loaded can be limited, and SciPy has one of its own
    import torch  # noqa: PLC0415  # slow to import, and counting cores does not need it

    torch.set_num_threads(1)
    threadpool_limits(limits=1, user_api="blas")
    _keep_memory()


@cache
def _keep_memory() -> None:
    """Keep freed memory for later use, if glibc is used."""
    # Each block of scores and each step of a fit allocates and frees some megabytes. If freed memory went back to the
    # system, the system would clear it page by page before its next use.
    for option, value in _ALLOCATOR:
        _call_glibc("mallopt", option, value)


def give_back() -> None:
    """Return freed memory to the system, before a large allocation.

    Without this call, the process would keep unused memory between used blocks.
    """
    _call_glibc("malloc_trim", 0)


def _call_glibc(name: str, *numbers: int) -> None:
    """Call a function of glibc; do nothing without glibc."""
    with suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), name)(*numbers)


def cores() -> int:
    """Number of cores that this process may use."""
    affinity_of = getattr(os, "sched_getaffinity", None)
    return len(affinity_of(0)) if affinity_of is not None else os.cpu_count() or 1


def memory() -> int | None:
    """Bytes that this process may use; None if unknown."""
    try:
        n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    with suppress(OSError, ValueError):  # the file contains "max" if the container has no limit
        n_bytes = min(n_bytes, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return n_bytes


def cache_folder() -> Path:
    """``$RIMSIM_CACHE``, or ``~/.cache/rimsim``."""
    given_path = os.environ.get("RIMSIM_CACHE")
    return Path(given_path) if given_path else Path.home() / ".cache" / "rimsim"


_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@contextmanager
def progress_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Context manager that sends progress lines to a listener."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def report_progress(line: str) -> None:
    """Send a progress line to the current listener, if any."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(line)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of work; other programs do not prolong them."""
    start = process_time()
    work()
    return process_time() - start


_DRAFT = ".draft-"


@contextmanager
def draft_file(path: Path) -> Iterator[Path]:
    """Yield a draft that replaces ``path`` when the block ends.

    Missing parent folders are created. If the block raises, ``path`` is unchanged and the draft is removed.
    """
    draft = _draft_of(path)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def draft_folder(path: Path, *, existing: Literal["replace", "keep", "refuse"] = "replace") -> Iterator[Path]:
    """Yield an empty folder that becomes ``path`` at the end.

    Missing parent folders are created. If the block raises, ``path`` is unchanged and the draft is removed.
    If ``path`` exists at the end, ``"replace"`` replaces it and ``"refuse"`` raises an OSError. ``"keep"``
    removes the draft instead, so the first of several processes wins.
    """
    with _draft_folder_of(path) as draft:
        yield draft
        if existing == "replace":
            shutil.rmtree(path, ignore_errors=True)
        try:
            draft.replace(path)
        except OSError:
            if existing != "keep" or not path.is_dir():
                raise


@contextmanager
def draft_content(folder: Path, last: str) -> Iterator[Path]:
    """Yield a folder whose content later moves into ``folder``.

    Entries of ``folder`` with the name of a new entry are replaced; others stay. The entry ``last`` is moved
    last, so a folder that had no such entry before is complete as soon as it has one. If the block raises,
    ``folder`` is as it was and the draft is removed.
    """
    # A draft lies next to the path that it is made for. With this path, it lies in ``folder``; the name is never used.
    with _draft_folder_of(folder / "content") as draft:
        yield draft
        for entry in sorted(draft.iterdir(), key=lambda path: (path.name == last, path.name)):
            target = folder / entry.name
            if target.is_dir():
                shutil.rmtree(target)
            entry.replace(target)


def remove_drafts(folder: Path) -> None:
    """Remove drafts that killed processes left below a folder."""
    for draft in folder.glob(f"**/{_DRAFT}*"):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def _draft_of(path: Path) -> Path:
    """Unused path next to ``path``."""
    # The draft keeps the file's ending, because some writers choose the format by it.
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{_DRAFT}{secrets.token_hex(8)}{path.suffix}")


@contextmanager
def _draft_folder_of(path: Path) -> Iterator[Path]:
    """Yield a folder next to ``path``, removed at the end."""
    draft = _draft_of(path)
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
