"""The one door to logs: a name, a folder, a zip or a file becomes an :class:`EventLog`."""

from __future__ import annotations

from importlib import resources
from io import BytesIO

import pandas as pd
import pyarrow.parquet as pq

from rimsim.data.assemble import RawEvents, assemble
from rimsim.data.log import EventLog
from rimsim.data.options import Selection

__all__ = ["load"]


def load(
    source: str = "ml-latest-small",
    *,
    min_item_events: int = 1,
    min_user_events: int = 1,
    min_value: float | None = None,
) -> EventLog:
    """Read a log.

    Args:
        source: ``"ml-latest-small"``, the embedded MovieLens edition of October 2016.
        min_item_events: Items with fewer events fall out.
        min_user_events: Users with fewer events fall out; both minima hold in what is returned.
        min_value: Events with a smaller value fall out; 4 keeps what MovieLens users liked.

    Returns:
        The log, sorted by (time, user, item), users and items numbered by their sorted ids.
    """
    selection = Selection(
        min_item_events=min_item_events, min_user_events=min_user_events, min_value=min_value
    )
    folder = resources.files("rimsim.data.embedded")
    ratings = pq.read_table(BytesIO((folder / "ratings.parquet").read_bytes()), use_threads=False)
    movies = pq.read_table(BytesIO((folder / "movies.parquet").read_bytes()), use_threads=False)
    user, user_ids = pd.factorize(ratings["userId"].to_numpy())
    item, item_ids = pd.factorize(ratings["movieId"].to_numpy())
    events = RawEvents(
        source,
        user.astype("int32"),
        item.astype("int32"),
        ratings["timestamp"].to_numpy().astype("float64"),
        ratings["rating"].to_numpy(),
        user_ids.astype("int64"),
        item_ids.astype("int64"),
    )
    table = movies.to_pandas().rename(columns={"movieId": "id"})
    table["genres"] = table["genres"].replace("(no genres listed)", "")
    return assemble(events, selection, items=table)
