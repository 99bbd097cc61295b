"""Rows of a table with given values in a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Bools
from rimsim.errors import ConfigError, nearest

if TYPE_CHECKING:
    import pandas as pd


def require_column(table: pd.DataFrame, column: str, field: str) -> None:
    """Refuse the name of a column that a table lacks.

    Raises:
        ConfigError: If the table lacks the column; the message gives the nearest name.
    """
    if column not in table:
        raise ConfigError(
            f"{field}: the table has no column {column!r}.{nearest(column, map(str, table.columns))}"
        )


def matching_rows(table: pd.DataFrame, column: str, values: tuple[str, ...], field: str) -> Bools:
    """Mask of the table rows with given values.

    A cell may have several values, joined by ``|``.

    Raises:
        ConfigError: If the table lacks the column or value; the message gives the nearest name.
    """
    require_column(table, column, field)
    wanted_values = set(values)
    values_of_cells = [text.split("|") for text in table[column].astype("str").tolist()]
    present = {value for cell_values in values_of_cells for value in cell_values}
    if unknown := wanted_values - present:
        name = min(unknown)
        known_values = {value for value in present if value and value != "<NA>"}
        raise ConfigError(f"{field}: column {column!r} has no value {name!r}.{nearest(name, known_values)}")
    return np.array([not wanted_values.isdisjoint(cell_values) for cell_values in values_of_cells], bool)
