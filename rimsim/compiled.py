"""Compilation by Numba, with a cache on disk."""

from __future__ import annotations

import gc
import inspect
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
from filelock import FileLock
from numba.core.caching import IndexDataCacheFile
from numba.core.compiler_lock import global_compiler_lock
from numba.core.types import Dispatcher, StructRef
from numba.core.typing.templates import infer_global
from numba.experimental import structref

F = TypeVar("F", bound="Callable[..., object]")


def compiled(function: F) -> F:
    """Compile a function on its first call.

    The machine code is cached on disk. If several processes need the same machine code, one process compiles it and the
    others wait. A function that Python calls must not return named tuples. Numba makes named tuples by an unchecked
    call of Python, and an interrupt at that moment would end the process.
    """
    return cast("F", _dispatcher_of(function))


def compiled_part(function: F) -> F:
    """Compile a function for the compiled functions that call it.

    If Python calls the function, it runs as plain Python. So Numba need not make the entry for calls by Python, which
    takes a tenth of the time of a compilation.
    """
    dispatcher = _dispatcher_of(function, no_cpython_wrapper=True)
    if dispatcher is not function:
        # Compiled functions that name this function then call its machine code.
        cast("Any", infer_global)(function, Dispatcher(dispatcher))
        # The dispatcher's type holds it by a weak reference, so the function keeps it alive.
        vars(function)["compiled"] = dispatcher
    return function


class _CheckedFiles(IndexDataCacheFile):
    """Files of cached machine code, with checksums.

    Numba reads whatever the files hold. A wrong byte ends the process, raises any error, or changes results. A file
    whose checksum is wrong counts as missing here, so its function is compiled again.

    Numba compares the file of the function alone with the cache. But machine code also holds the functions that it
    calls and the constants that it names, so the cache of a caller is compared with all of them.
    """

    function: Callable[..., object]

    @property
    def _source_stamp(self) -> str:
        """Digest of all sources of the machine code."""
        return source_digest(self.function)

    @_source_stamp.setter
    def _source_stamp(self, _: object) -> None:
        """Ignore the stamp of the function's own file."""

    def _load_index(self) -> dict[Any, str]:
        if not _is_intact(Path(self._index_path)):
            return {}
        index: dict[Any, str] = super()._load_index()  # type: ignore[no-untyped-call]
        return index

    def _save_index(self, overloads: dict[Any, str]) -> None:
        super()._save_index(overloads)  # type: ignore[no-untyped-call]
        _write_checksum(Path(self._index_path))

    def _load_data(self, name: str) -> object:
        path = self._path_of(name)
        if not _is_intact(path):
            raise FileNotFoundError(path)  # Numba compiles a function again if its file is missing
        content: object = super()._load_data(name)  # type: ignore[no-untyped-call]
        return content

    def _save_data(self, name: str, data: object) -> None:
        super()._save_data(name, data)  # type: ignore[no-untyped-call]
        _write_checksum(self._path_of(name))

    def _path_of(self, name: str) -> Path:
        return Path(self._data_path(name))  # type: ignore[no-untyped-call]


def source_digest(function: Callable[..., object]) -> str:
    """Digest of what a function's machine code is made of.

    These are the files of the function, of the compiled functions that it calls, and of the classes that it names, by
    path, time and size, and the values of the numbers and texts that it names.
    """
    files: set[str] = set()
    constants: set[str] = set()
    pending: list[object] = [function]
    visited: set[int] = set()
    while pending:
        named = pending.pop()
        if id(named) in visited:
            continue
        visited.add(id(named))
        source = _python_function(named)
        if source is not None:
            files.add(source.__code__.co_filename)
            pending += _named_values(source)
        elif isinstance(named, type):
            files.add(getattr(sys.modules.get(named.__module__), "__file__", None) or named.__module__)
        elif isinstance(named, bool | int | float | str | tuple):
            constants.add(repr(named))
    return sha256(repr((sorted(map(_file_stamp, files)), sorted(constants))).encode()).hexdigest()


def _python_function(named: object) -> FunctionType | None:
    """Python function of a dispatcher; None: not a function."""
    source = getattr(named, "py_func", named)
    return source if inspect.isfunction(source) else None


def _named_values(function: FunctionType) -> list[object]:
    """Values of the names in a function's code."""
    names: set[str] = set()
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    values = [function.__globals__[name] for name in sorted(names) if name in function.__globals__]
    return values + [cell.cell_contents for cell in function.__closure__ or ()]


def _file_stamp(name: str) -> tuple[str, int, int]:
    """Path, time and size of a file, or zeros."""
    try:
        state = Path(name).stat()
    except OSError:
        return name, 0, 0
    return name, state.st_mtime_ns, state.st_size


def _checksum_file(path: Path) -> Path:
    """File next to ``path`` that holds its checksum."""
    return path.with_name(f"{path.name}.sha256")


def _write_checksum(path: Path) -> None:
    """Write the checksum of a file next to it."""
    _checksum_file(path).write_text(sha256(path.read_bytes()).hexdigest(), encoding="ascii")


def _is_intact(path: Path) -> bool:
    """True if a file exists and agrees with its checksum."""
    try:
        return _checksum_file(path).read_bytes() == sha256(path.read_bytes()).hexdigest().encode()
    except OSError:
        return False


class CompiledRecord:
    """Base of frozen dataclasses that compiled functions take by reference.

    Numba unpacks a named tuple at each call, which takes 0.15 µs per array. A record of this kind is unpacked when a
    compiled function first takes it; from then on a call passes one reference, however many arrays the record has.
    Python and compiled code see the same arrays, so a count that changes is an array of length 1.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cast("Any", numba).config.DISABLE_JIT:
            _register(cls)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Class and fields, from which copies make their own references."""
        return type(self), _fields_of(self)

    if not TYPE_CHECKING:  # mypy would accept any name

        def __getattr__(self, name: str) -> object:
            """Type and memory of the record, for Numba."""
            if name not in {"_numba_type_", "_meminfo"}:
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            numba_type, memory = type(self).referred(*_fields_of(self))
            vars(self).update(_numba_type_=numba_type, _meminfo=memory)
            return vars(self)[name]


def _fields_of(record: CompiledRecord) -> tuple[object, ...]:
    """Values of a record's fields, in their order."""
    return tuple(getattr(record, name) for name in type(record).__annotations__)


def _register(cls: Any) -> None:
    """Tell Numba the fields of a class of records.

    ``cls.referred`` makes a record in compiled code, and returns the reference that later calls pass.
    """
    names = list(cls.__annotations__)
    class_attributes = {"__module__": cls.__module__, "__qualname__": f"{cls.__qualname__}.Reference"}
    reference = cast("Any", type)("Reference", (StructRef,), class_attributes)
    untyped_structref = cast("Any", structref)
    untyped_structref.register(reference)
    untyped_structref.define_constructor(cls, reference, names)
    untyped_structref.define_boxing(reference, _Boxed)

    def referred(*fields: object) -> object:
        return cls(*fields)

    referred.__qualname__ = f"{cls.__qualname__}.referred"  # Numba names the file of the machine code by this
    cls.Reference = reference
    cls.referred = staticmethod(compiled(referred))


class _Boxed:
    """Form in which compiled code returns a record."""

    @staticmethod
    def _numba_box_(numba_type: object, memory: object) -> tuple[object, object]:
        return numba_type, memory


def has_machine_code(function: Callable[..., object]) -> bool:
    """True if machine code is cached or never needed."""
    cached = getattr(function, "stats", None)
    return cached is None or any(Path(cached.cache_path).glob(f"*.{function.__name__}-*.nbi"))


def _dispatcher_of(function: Callable[..., object], **options: bool) -> Any:
    """Function that compiles itself; ``function`` without a compiler."""
    # Numba's type stubs lack ``no_cfunc_wrapper``, which makes compilations a twelfth faster.
    untyped_njit = cast("Any", numba.njit)
    dispatcher = untyped_njit(cache=True, no_cfunc_wrapper=True, **options)(function)
    if dispatcher is function:  # the user has switched compilation off (NUMBA_DISABLE_JIT)
        return function
    cache_files = dispatcher._cache._cache_file  # noqa: SLF001  # Numba has no public access to it
    cache_files.__class__ = _CheckedFiles
    cache_files.function = function
    load_or_compile = dispatcher.compile

    def compile_alone(signature: object) -> object:
        """Load or compile the machine code; other processes wait meanwhile."""
        # Numba may compile inner functions while it holds its own lock. Taking that lock first in all threads avoids
        # that two threads wait for each other.
        with global_compiler_lock, _lock_of(dispatcher):
            gc_was_on = gc.isenabled()
            gc.disable()  # searching for cyclic garbage takes a tenth of a compilation
            try:
                return load_or_compile(signature)
            except (AttributeError, EOFError, ImportError, pickle.UnpicklingError):
                # An index file of an older version can name classes that no longer exist. Numba reads these names
                # before it compares versions of the source. So the index is emptied, and the function is compiled
                # again.
                dispatcher._cache.flush()  # noqa: SLF001
                return load_or_compile(signature)
            finally:
                if gc_was_on:
                    gc.enable()

    dispatcher.compile = compile_alone
    return dispatcher


@contextmanager
def _lock_of(dispatcher: Any) -> Iterator[None]:
    """Lock the cached machine code of a function.

    There is no lock if the folder of the cache cannot be written to.
    """
    path = Path(dispatcher.stats.cache_path) / f".{dispatcher.py_func.__qualname__}.lock"
    lock = FileLock(path)
    with suppress(OSError, NotImplementedError):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
