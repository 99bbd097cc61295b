"""Observed tables in Parquet."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rimsim.data.readers.ids import Words
from rimsim.data.readers.observed.wanted import LARGEST_TIME
from rimsim.data.readers.parquet import floats, is_moment, moment_seconds, require_kinds, table_of, value_kind
from rimsim.data.readers.rows import short

if TYPE_CHECKING:
    from rimsim.data.readers.observed.collect import Answers
    from rimsim.data.readers.observed.wanted import Wanted


def read_parquet_answers(file: Path | BytesIO, name: str, answers: Answers, wanted: Wanted) -> None:
    """Read a Parquet file.

    Args:
        file: A path or the bytes.
        name: How messages call it.
        answers: Takes the answers.
        wanted: Which columns.

    Raises:
        DataError: If a column is missing or of another type, or at the first row that cannot be read.
    """
    table = table_of(file, name)
    places = wanted.places(table.schema.names, name)
    columns = {role: table.column(place).combine_chunks() for role, place in places.items()}
    label = {role: f"{role} (column {table.schema.names[place]!r})" for role, place in places.items()}
    kinds = {role: value_kind(column.type) for role, column in columns.items()}
    require_kinds(kinds, label, name)
    moments = "time" in kinds and is_moment(kinds["time"])
    values, times = floats(columns["value"]), np.full(table.num_rows, np.nan)
    if "time" in columns:
        times = moment_seconds(columns["time"]) if moments else floats(columns["time"])
    if moments:
        answers.unit = "s"
    problems: dict[int, str] = {}
    for role, numbers, wrong, allowed in (
        ("time", times, (times < 0) | (times >= LARGEST_TIME), "times from 1970 to 9999"),
        (
            "value",
            values,
            ~((values >= 0) & (values <= wanted.largest)),
            f"finite numbers from 0 to {wanted.largest:.7g}",
        ),
    ):
        for row in np.flatnonzero(wrong)[:1].tolist():
            problems[row + 1] = f"{label[role]} is {short(str(numbers[row]))}; allowed: {allowed}"
    users, items = (Words(columns[role], label[role]) for role in ("user", "item"))
    answers.take(name, np.arange(1, table.num_rows + 1), users, items, values, times, problems)
