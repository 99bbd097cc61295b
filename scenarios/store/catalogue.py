"""The items and users of a run as its log knew them, so that tables and pictures can call them by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Ints

if TYPE_CHECKING:
    import pandas as pd


def catalogue_table(items: pd.DataFrame, past: Ints) -> pd.DataFrame:
    """Columns item, events (before the market opened), and those of the log's item table: id, title, genres and so on.

    Args:
        items: The item table of the log; a row an item.
        past: (n,) items of the events before the market opened.
    """
    table = items.reset_index(drop=True).assign(id=items["id"].astype(str).to_numpy())
    table.insert(0, "item", np.arange(len(items)))
    table.insert(1, "events", np.bincount(past, minlength=len(items)))
    return table


def user_table(users: pd.DataFrame) -> pd.DataFrame:
    """Columns log_user (the number of a user of the log in the table of arrivals) and id (as the log has it, as text).

    Args:
        users: The user table of the log; a row a user.
    """
    ids = users[["id"]].reset_index(drop=True).astype(str)
    ids.insert(0, "log_user", np.arange(len(users)))
    return ids
