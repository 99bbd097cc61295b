"""Errors that rimsim raises on purpose, and their wording.

All errors take positional arguments only, because SimPy rebuilds the exception of a failed process as
``type(error)(*error.args)``.
"""

from __future__ import annotations

import difflib
import errno
import zipfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn


class RimsimError(Exception):
    """Base of all errors of rimsim; ``str(error)`` is one sentence."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DataError(RimsimError):
    """Log that cannot be read or used."""


class ConfigError(RimsimError):
    """Scenario, field or option that is not valid."""


class ModelError(RimsimError):
    """Intensity model that is not fitted, or returned no intensity."""


class InfeasibleError(RimsimError):
    """Exposure floors that cannot be met.

    Args:
        message: One sentence.
        items: Indices of a set of items whose floors together exceed the exposures that these items can get.
        shortfall: Missing exposures of these items; a whole number if positions count the same.
    """

    def __init__(self, message: str, items: tuple[int, ...] = (), shortfall: float = 0) -> None:
        super().__init__(message, items, shortfall)
        self.items = items
        self.shortfall = shortfall


class MarketError(RimsimError):
    """Market called in wrong order, or with another market's state."""


class ArrivalsError(MarketError):
    """Arrivals of a round that a market cannot serve."""


class ProcessError(MarketError):
    """Process that raised, or did something that it may not."""


class AgentError(RimsimError):
    """Agent that raised, or returned something other than slates."""


class ArmsError(AgentError):
    """Failed arms of a run; all other arms are complete.

    Args:
        message: One line per arm.
        folder: Run folder.
    """

    def __init__(self, message: str, folder: str = "") -> None:
        super().__init__(message, folder)
        self.folder = folder


class MeasureError(RimsimError):
    """Measure that raised, or returned something other than a number."""


class RunFolderError(RimsimError):
    """Run folder that is missing, in use or damaged."""


class DiskError(RunFolderError):
    """Path that a run cannot write."""


class MissingTableError(RunFolderError):
    """Table that a run has not, or not yet, written."""


def refuse(
    kind: type[RimsimError], place: str, problem: str, allowed: str, *, cause: BaseException | None = None
) -> NoReturn:
    """Raise an error whose message is ``place: problem. Expected …``."""
    raise kind(f"{place}: {problem}. Expected {allowed}") from cause


_REASONS = {
    errno.ENOENT: "no such file or folder",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EISDIR: "it is a folder",
    errno.EEXIST: "a file of that name is there already",
    errno.EACCES: "this user may not open it",
    errno.EPERM: "this user may not change it",
    errno.EROFS: "the disk is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this user has no disk quota left",
    errno.EFBIG: "the file would be too large",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "the link leads to itself",
}


DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
"""Errors at a cut, empty or overwritten file of arrays or JSON."""


def reason(error: OSError) -> str:
    """Reason, in words, why the operating system refused something."""
    reason_text = _REASONS.get(error.errno) if error.errno is not None else None
    return reason_text or (error.strerror or str(error)).lower()


def one_line(error: BaseException) -> str:
    """Text of an exception, on one line."""
    return " ".join(str(error).splitlines())


def first_words(error: BaseException, longest: int = 120) -> str:
    """First ``longest`` letters of an exception's text.

    An error of the operating system gives its message without number and path.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join((text or type(error).__name__).split())[:longest]


@contextmanager
def raised_as(
    kind: type[RimsimError],
    place: object,
    said: str,
    causes: type[Exception] | tuple[type[Exception], ...] = OSError,
    longest: int = 120,
) -> Iterator[None]:
    """Context manager that turns exceptions into errors of rimsim.

    The message has the first words of the exception in brackets.
    """
    try:
        yield
    except causes as error:
        raise kind(f"{place}: {said} ({first_words(error, longest)})") from error


def many(count: int, noun: str) -> str:
    """Count and noun: ``1 seed``, ``2 seeds``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def plural(column: str) -> str:
    """Plural of a column's name: ``sellers``, ``categories``."""
    if column.endswith("s") or not column.isascii():  # a name in another language stays as it is
        return column
    if column.endswith("y") and column[-2:-1] not in set("aeiou"):
        return f"{column[:-1]}ies"
    return f"{column}s"


_MOST = 10
"""Maximum number of names in an error message."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """End of a message: nearest allowed name, and all names.

    If many names are allowed, only the names most similar to the given name are listed.
    """
    names = sorted(set(allowed))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    by_similarity = sorted(
        names, key=lambda candidate: -difflib.SequenceMatcher(None, candidate, name).ratio()
    )
    listed = ", ".join(sorted(by_similarity[:_MOST]))
    remainder = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{guess} Use one of {listed}{remainder}." if names else f"{guess} There are none."


def has_type(value: object, *kinds: type) -> bool:
    """True if a value has a type, whatever its annotation.

    Callers without a type checker pass other values, which ``isinstance`` would let mypy call impossible.
    """
    return isinstance(value, kinds)


def require_known(said: str, words: Iterable[str], allowed: Collection[str]) -> None:
    """Refuse an unknown word; the message offers the nearest word.

    Raises:
        ConfigError: Its message is ``said`` (such as ``backend: {}``) with the word filled in, and the allowed words.
    """
    for word in words:
        if word not in allowed:
            raise ConfigError(f"{said.format(repr(word))}.{nearest(word, allowed)}")


def nearest_file(path: Path) -> str:
    """End of a message: existing file with the nearest name."""
    if not path.parent.is_dir():
        return f" There is no folder {str(path.parent)!r}."
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix == path.suffix]
    if not names:
        return f" There is no {path.suffix or 'such'} file in {str(path.parent)!r}."
    return nearest(path.name, names)
