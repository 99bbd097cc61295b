"""Ids of any type, numbered as they turn up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rimsim.data.readers.rows import identifier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["Ids", "Vocabulary", "canonical"]

Ids: TypeAlias = "np.ndarray[tuple[int], np.dtype[Any]]"

_WHOLE = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII)
_INT64 = range(-(2**63), 2**63)


class Vocabulary:
    """A growing list of distinct ids; the place of an id in it is its code."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def check(self, ids: Iterable[str]) -> list[str]:
        """The ids without spaces around them.

        Raises:
            RowProblemError: If one is missing.
        """
        return [identifier(text, self._name) for text in ids]

    def codes(self, checked: Iterable[str]) -> NDArray[np.int32]:
        """Codes of ids from :meth:`check`; new ids are added."""
        known = self._codes
        return np.array([known.setdefault(text, len(known)) for text in checked], np.int32)

    def texts(self) -> list[str]:
        """The distinct ids as texts in the order of their codes."""
        return list(self._codes)

    def ids(self) -> Ids:
        """The distinct ids in the order of their codes; see :func:`canonical`."""
        return canonical(self.texts())


def canonical(ids: list[str]) -> Ids:
    """Whole numbers if every id is written like one (no leading zeros, no plus, 64 bits), else the texts.

    So ``7`` and ``07`` stay two ids, and a log has the same ids whatever container it comes from.
    """
    if all(_WHOLE.fullmatch(text) for text in ids):
        numbers = [int(text) for text in ids]
        if all(found in _INT64 for found in numbers):
            return np.array(numbers, np.int64)
    found = np.empty(len(ids), object)
    found[:] = ids
    return found
