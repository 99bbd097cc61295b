"""Ids of any type, numbered as they turn up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from rimsim.arrays import Bools, Ints, Ints32
from rimsim.data.readers.rows import RowProblemError, identifier

Ids: TypeAlias = "np.ndarray[tuple[int], np.dtype[Any]]"

_WHOLE = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII)
_INT64 = range(-(2**63), 2**63)


class Vocabulary:
    """A growing list of distinct ids; the place of an id in it is its code."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def codes(self, words: Iterable[str]) -> Ints32:
        """Codes of ids without spaces around them; new ids are added."""
        known = self._codes
        return np.array([known.setdefault(text, len(known)) for text in words], np.int32)

    def texts(self) -> list[str]:
        """The distinct ids as texts in the order of their codes."""
        return list(self._codes)

    def ids(self) -> Ids:
        """The distinct ids in the order of their codes; see :func:`canonical`."""
        return canonical(self.texts())


class Words:
    """A column of n texts or whole numbers: its distinct words, and which of them stands in each row.

    Args:
        column: (n,) the column.
        name: What it holds, for messages.
    """

    def __init__(self, column: pa.Array, name: str = "") -> None:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        encoded = column.dictionary_encode()
        self._place: Ints = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()
        self._words: list[str] = []
        missing: dict[int, str] = {}
        for place, word in enumerate([*encoded.dictionary.to_pylist(), None]):
            try:
                self._words.append(identifier(str(word), name))
            except RowProblemError as problem:
                self._words.append("")
                missing[place] = str(problem)
        rows = np.flatnonzero(np.isin(self._place, list(missing)))
        self.lacking = {
            row: missing[place] for row, place in zip(rows.tolist(), self._place[rows].tolist(), strict=True)
        }
        """Row → what is wrong with it, where the id is missing."""

    def codes(self, rows: Bools, vocabulary: Vocabulary) -> Ints32:
        """Codes of the rows that are chosen; only their ids become known.

        Args:
            rows: (n,) which rows, none of them lacking.
            vocabulary: What the codes are of.
        """
        place = self._place[rows]
        used = np.flatnonzero(np.bincount(place, minlength=len(self._words)))
        code = np.full(len(self._words), -1, np.int32)
        code[used] = vocabulary.codes(self._words[number] for number in used.tolist())
        return code[place]

    def texts(self, rows: Bools) -> tuple[Ints, list[str]]:
        """Positions of the rows that are chosen in a list of texts, in which a missing one is empty."""
        return self._place[rows], self._words


def canonical(ids: list[str]) -> Ids:
    """Whole numbers if every id is written like one (no leading zeros, no plus, 64 bits), else the texts.

    So ``7`` and ``07`` stay two ids, and a log has the same ids whatever container it comes from.
    """
    if all(_WHOLE.fullmatch(text) for text in ids):
        numbers = [int(text) for text in ids]
        if all(number in _INT64 for number in numbers):
            return np.array(numbers, np.int64)
    texts = np.empty(len(ids), object)
    texts[:] = ids
    return texts


def places_among(ids: Ids, known: Iterable[object]) -> Ints:
    """(n,) where each id stands among the known ones, by its text; −1 where it does not."""
    place = {str(one): position for position, one in enumerate(known)}
    return np.array([place.get(str(one), -1) for one in ids.tolist()], np.int64)
