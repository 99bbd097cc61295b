"""Matrices of users by items in text, with 0 where nothing is observed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from rimsim.arrays import Floats
from rimsim.data.readers.dialect import decoded
from rimsim.data.readers.ids import Words
from rimsim.data.readers.lines import LineReader
from rimsim.data.readers.rows import RowProblemError, number
from rimsim.errors import DataError

if TYPE_CHECKING:
    from rimsim.data.readers.containers import Stream
    from rimsim.data.readers.observed.collect import Answers


def read_matrix(stream: Stream, answers: Answers, largest: float) -> None:
    """Read a matrix; its rows and columns, numbered from 0, are the ids of users and items.

    Args:
        stream: The file.
        answers: Takes what is not 0.
        largest: No value may be larger.

    Raises:
        DataError: At the first cell that is no number from 0 to ``largest``, or the first row of another width.
    """
    rows: list[Floats] = []
    for block in LineReader(stream):
        for line, text in enumerate(block.text.split(b"\n"), start=block.first_line):
            if not text.strip():
                continue
            row = _row(text, f"{stream.name}, line {line:,}", largest)
            if rows and len(row) != len(rows[0]):
                raise DataError(
                    f"{stream.name}, line {line:,}: has {len(row)} fields; allowed: {len(rows[0])}, "
                    f"as in the first line"
                )
            rows.append(row)
    if not rows:
        return
    matrix = np.array(rows)
    user, item = np.nonzero(matrix)
    answers.take(
        stream.name,
        user + 1,
        Words(pa.array(user)),
        Words(pa.array(item)),
        matrix[user, item],
        np.full(len(user), np.nan),
        {},
    )


def _row(text: bytes, where: str, largest: float) -> Floats:
    try:
        fields = decoded(text).replace(",", " ").split()
        return np.array([number(field, f"column {place}", largest) for place, field in enumerate(fields, 1)])
    except RowProblemError as problem:
        raise DataError(f"{where}: {problem}") from None
