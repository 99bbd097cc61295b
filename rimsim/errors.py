"""Every error that rimsim raises on purpose.

What is a kind of what::

    RimsimError
    ├── DataError            a log that cannot be read or used
    ├── ConfigError          a scenario, field or option that does not fit
    ├── ModelError           an intensity model used wrongly, or one that returned nonsense
    ├── InfeasibleError      exposure floors that no set of slates can meet
    ├── MarketError          the market driven out of order
    │   └── ArrivalsError       arrivals of a round that no market can play
    ├── AgentError           an agent that raised, or answered with something that is no slate
    │   └── ArmsError        arms of a run that failed, one line an arm
    ├── MeasureError         a measure that raised, or returned something that is no number
    └── RunFolderError       a run folder that is missing, foreign, in use or damaged
        └── MissingTableError   a table that a run folder does not have, or not yet

All are built from positional arguments alone, because SimPy rebuilds the exception of a failed process as
``type(error)(*error.args)``.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import NoReturn


class RimsimError(Exception):
    """Base of all errors of rimsim; ``str(error)`` is one sentence for a person."""


class DataError(RimsimError):
    """A log that cannot be read or used; the message names file, line or column, what was found and what is allowed."""


class ConfigError(RimsimError):
    """A scenario, field or option that does not fit; the message names it and what is allowed."""


class ModelError(RimsimError):
    """An intensity model that was used before it was fitted, or that returned something that is no intensity."""


class InfeasibleError(RimsimError):
    """Exposure floors that cannot be met.

    Args:
        message: What cannot be met, for a person.
        items: Indices of a set of items whose floors together exceed what can reach them.
        shortfall: By how many exposures, at least, that set must fall short; whole if positions count alike.
    """

    def __init__(self, message: str, items: tuple[int, ...] = (), shortfall: float = 0) -> None:
        super().__init__(message, items, shortfall)
        self.items = items
        self.shortfall = shortfall

    def __str__(self) -> str:
        return str(self.args[0])


class MarketError(RimsimError):
    """The market driven out of order: slates for arrivals it did not hand out, or a state of another market."""


class ArrivalsError(MarketError):
    """Arrivals of a round that no market can play; the message names their process, whichever agent serves them."""


class AgentError(RimsimError):
    """An agent that raised or that answered with something that is no slate; the message names agent and arrival."""


class ArmsError(AgentError):
    """Arms of a run that failed, while the others are complete.

    Args:
        message: One line an arm, for a person.
        folder: The run folder.
    """

    def __init__(self, message: str, folder: str = "") -> None:
        super().__init__(message, folder)
        self.folder = folder

    def __str__(self) -> str:
        return str(self.args[0])


class MeasureError(RimsimError):
    """A measure that raised or that returned something that is no number; the message names it."""


class RunFolderError(RimsimError):
    """A run folder that is missing, foreign, in use by another process or damaged."""


class MissingTableError(RunFolderError):
    """A table that a run folder does not have: it is not finished, or makes no such table."""


_REASONS = {
    errno.ENOENT: "no such file or folder",
    errno.ENOTDIR: "a part of the path is no folder",
    errno.EISDIR: "it is a folder",
    errno.EEXIST: "a file of that name is there already",
    errno.EACCES: "it may not be opened by this user",
    errno.EPERM: "it may not be changed by this user",
    errno.EROFS: "the disk is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this user is used up",
    errno.EFBIG: "the file would be too large",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "the link leads to itself",
}


def reason(error: OSError) -> str:
    """Why the system refused something, in words.

    Args:
        error: What it raised.
    """
    known = _REASONS.get(error.errno) if error.errno is not None else None
    return known or (error.strerror or str(error)).lower()


def refuse(
    kind: type[RimsimError], where: str, found: str, allowed: str, *, cause: BaseException | None = None
) -> NoReturn:
    """Raise an error that names the field, its value and the values allowed.

    Args:
        kind: Class of the error.
        where: Field, option, file or line at fault.
        found: Value found there.
        allowed: Values that are allowed.
        cause: Exception that led to this error, for the traceback.
    """
    raise kind(f"{where}: {found}; allowed: {allowed}") from cause


def one_line(error: BaseException) -> str:
    """What an exception of another's code says, folded to one line.

    Args:
        error: What was raised; its text may have several.
    """
    return " ".join(str(error).splitlines())


_MOST = 10
"""Names that an error message lists at most."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say what was probably meant, as the tail of an error message.

    Args:
        name: What was found.
        allowed: The valid names; where there are many, those most like the name are listed.

    Returns:
        ``" Did you mean 'x'?"`` or an empty string, followed by the list of valid names.
    """
    names = sorted(set(allowed))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    likest = sorted(names, key=lambda one: -difflib.SequenceMatcher(None, one, name).ratio())[:_MOST]
    listed = ", ".join(sorted(likest)) or "none"
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{guess} Allowed: {listed}{more}."
