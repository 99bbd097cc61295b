"""Logs of a Python session: data frames and event logs.

Worker processes and later repetitions of a run cannot see the objects of a session. So a frame or a log is stored in
the cache under a digest of its content. A scenario names it by kind, size and digest, such as ``DataFrame of 41,151
rows (5f2c1d9a81b3)``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from rimsim.errors import ConfigError, DataError, many, one_line, reason
from rimsim.system import cache_folder, draft_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from rimsim.data.log import EventLog
    from rimsim.data.readers.containers import Container


class ArrowFrame(Protocol):
    """Data frame with the Arrow PyCapsule interface, such as Polars'."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


class ExchangedFrame(Protocol):
    """Data frame with the interchange protocol."""

    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> Any: ...  # noqa: FBT001, FBT002


LogSource: TypeAlias = "str | os.PathLike[str] | pd.DataFrame | EventLog | ArrowFrame | ExchangedFrame"
"""Log as users give it: a name, a path, a data frame of any package, or an :class:`EventLog`."""

_NAME = re.compile(r"(\w+ of [\d,]+ (?:row|event)s?) \(([0-9a-f]{12})\)")
"""Name of a stored frame or log: its label, and its digest in brackets."""


def source_name(source: LogSource) -> str:
    """Name or path of a log; other objects are stored.

    Raises:
        ConfigError: If the source is something else, or empty.
        DataError: If a column of a frame cannot be stored, or the cache cannot be written to.
    """
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, str) and source:
        return source
    from rimsim.data.log import EventLog  # noqa: PLC0415  # slow to import, and most sources are names

    if isinstance(source, EventLog):
        return _stored_log(source)
    kind = type(source).__name__
    if _is_frame(source):
        return _stored_frame(source, kind)
    wrong_source = repr(source) if isinstance(source, str) else f"a {kind}"
    hint = f". Call collect() on the {kind}" if hasattr(source, "collect") else ""
    raise ConfigError(
        f"data is {wrong_source}. Expected the name or path of a log, a data frame with columns user, item and time, "
        f"or an EventLog{hint}"
    )


def _is_frame(source: object) -> bool:
    """True for a data frame, not for a column."""
    shape = getattr(source, "shape", None)
    exchanges = hasattr(source, "__arrow_c_stream__") or hasattr(source, "__dataframe__")
    return exchanges and not isinstance(source, type) and (shape is None or len(shape) == 2)


def _stored_frame(frame: object, kind: str) -> str:
    """Name of a data frame, after storing it as Parquet."""
    import pyarrow.parquet as pq  # noqa: PLC0415  # slow to import

    table = _arrow_table(frame, kind)
    label = f"{kind} of {many(len(table), 'row')}"
    content = BytesIO()
    try:
        pq.write_table(table, content, compression="zstd")
    except (OSError, ValueError, NotImplementedError) as error:  # these include pyarrow's own errors
        raise DataError(
            f"{label}: it cannot be stored ({one_line(error)}). Use columns of numbers, texts or times"
        ) from error
    digest = sha256(content.getvalue()).hexdigest()[:12]
    file = _folder() / f"{digest}.parquet"
    if not file.is_file():
        with _writable(label), draft_file(file) as draft:
            draft.write_bytes(content.getvalue())
    return f"{label} ({digest})"


def _arrow_table(frame: object, kind: str) -> pa.Table:
    """Arrow table of a data frame of any package."""
    import pandas as pd  # noqa: PLC0415  # slow to import
    import pyarrow as pa  # noqa: PLC0415

    if isinstance(frame, pd.DataFrame):
        return _table_of_pandas(frame, kind)
    if hasattr(frame, "__arrow_c_stream__"):
        table = pa.table(frame)
    else:
        from pyarrow.interchange import from_dataframe  # noqa: PLC0415

        table = from_dataframe(cast("Any", frame))
    # Parquet has no view types, so columns of these types are stored as ordinary texts or bytes.
    views = {"string_view": pa.large_string(), "binary_view": pa.large_binary()}
    schema = pa.schema([(field.name, views.get(str(field.type), field.type)) for field in table.schema])
    return table.cast(schema)


def _table_of_pandas(frame: pd.DataFrame, kind: str) -> pa.Table:
    """Arrow table of a pandas frame; mixed columns become texts."""
    import pyarrow as pa  # noqa: PLC0415  # slow to import

    names = [str(name) for name in frame.columns]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{kind}: column {doubled!r} occurs twice. Expected different names")
    arrays = []
    for position in range(len(names)):
        column = frame.iloc[:, position]
        try:
            arrays.append(pa.array(column, from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            # Arrow has no type for such a mixture of values.
            missing = column.isna().to_numpy()
            texts = [None if absent else str(value) for value, absent in zip(column, missing, strict=True)]
            arrays.append(pa.array(texts, pa.string()))
    return pa.table(arrays, names=names)


def _stored_log(log: EventLog) -> str:
    """Name of an event log, after storing it."""
    from rimsim.data.writer import write  # noqa: PLC0415  # slow to import, and most sources are names

    label = f"EventLog of {many(len(log), 'event')}"
    folder = _folder()
    with _writable(label):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".draft-") as draft:
            log_folder = Path(draft) / "log"
            write(log, log_folder)
            content = sha256()
            for file in sorted(log_folder.iterdir()):
                content.update(file.name.encode() + file.read_bytes())
            digest = content.hexdigest()[:12]
            if not (folder / digest).is_dir():
                log_folder.replace(folder / digest)
    return f"{label} ({digest})"


def stored_container(name: str) -> Container | None:
    """Container of a stored object; None for other names.

    Raises:
        DataError: If it is no longer in the cache.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    from rimsim.data.readers import containers  # noqa: PLC0415  # slow to import, and few sources have this form

    label, digest = match.groups()
    folder = _folder() / digest
    file = _folder() / f"{digest}.parquet"
    if folder.is_dir():
        return containers.folder_container(folder, title=label)
    if file.is_file():
        return containers.file_container(file, title=label)
    raise DataError(
        f"{label}: it is no longer in the cache ({_folder()}). Pass it again, or write it to a file and give the path"
    )


def stored_path(name: str) -> Path | None:
    """Path of a session's frame or log in the cache."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    paths = [_folder() / match[2], _folder() / f"{match[2]}.parquet"]
    return next((path for path in paths if path.exists()), None)


def shown_name(name: str) -> str:
    """Name of a log, without a stored frame's digest."""
    match = _NAME.fullmatch(name)
    return name if match is None else match[1]


def _folder() -> Path:
    """Folder of stored frames and logs, in the cache."""
    return cache_folder() / "logs"


@contextmanager
def _writable(label: str) -> Iterator[None]:
    """Context manager that turns errors of the disk into DataErrors."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{label}: the cache {_folder()} cannot be written to ({reason(error)}). Set RIMSIM_CACHE to another folder"
        ) from error
