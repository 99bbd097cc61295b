"""Rows a second and peak memory of reading logs: ``python benchmarks/data.py [--large]``.

Prints the table of docs/data.md. Every log is read in an interpreter of its own, whose peak resident memory
is the figure; an interpreter that only imports ``rimsim.data`` is the first row. Made-up logs have a million
rows, in each layout that MovieLens has had; 20M, 25M, 32M and latest share one, down to the header. ``--large``
adds one of 32 million rows in it (840 MB of CSV in the temporary folder). Users stand at random, so every block
of lines meets many of them. A folder of real logs may be named by ``RIMSIM_DEV_DATA``.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

MILLION = 1_000_000
LATER = "MovieLens 20M, 25M, 32M and latest (`ratings.csv`, `movies.csv`)"
"""One layout."""
# VmHWM counts this program alone; ru_maxrss, the fallback, may hold what its parent used before it started.
READ = """
import pathlib, resource, sys, time
import rimsim.data
start, cpu = time.perf_counter(), time.process_time()
rows = len(rimsim.data.load(sys.argv[1])) if len(sys.argv) > 1 else 0
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
status = pathlib.Path("/proc/self/status")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
for line in status.read_text().splitlines() if status.exists() else []:
    if line.startswith("VmHWM:"):
        peak = int(line.split()[1])
print(rows, seconds, cpu, peak)
"""


def columns(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Made-up events: users and items as dense as in MovieLens 1M, items by a power law, half stars."""
    chance = np.random.default_rng(seed)
    users = rows // 160
    items = rows // 270
    return {
        "userId": chance.integers(1, users + 1, rows),
        "movieId": np.minimum((items * chance.random(rows) ** 3).astype(np.int64), items - 1) + 1,
        "rating": chance.integers(1, 11, rows) / 2,
        "timestamp": chance.integers(800_000_000, 1_700_000_000, rows),
    }


def lines(table: dict[str, np.ndarray], separator: str) -> str:
    """Rows of text, without a header."""
    rows = zip(*(column.tolist() for column in table.values()), strict=True)
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def made_up(folder: Path) -> list[tuple[str, Path]]:
    """A million rows in every layout and container."""
    ratings = columns(MILLION)
    header = ",".join(ratings) + "\n"
    films = np.unique(ratings["movieId"]).tolist()
    stars = ratings | {"rating": np.ceil(ratings["rating"]).astype(np.int64)}
    people = range(1, MILLION // 160 + 1)
    csv = folder / "csv"
    packed = folder / "ml.zip"
    old = folder / "100k"
    dat = folder / "1m"
    halves = folder / "10m"
    for place in (csv, old, dat, halves):
        place.mkdir()
    (csv / "ratings.csv").write_text(header + lines(ratings, ","))
    titles = "".join(f'{film},"Film {film}, The (1990)",Drama|War\n' for film in films)
    (csv / "movies.csv").write_text("movieId,title,genres\n" + titles)
    for place, table in ((dat, stars), (halves, ratings)):
        (place / "ratings.dat").write_text(lines(table, "::"))
        (place / "movies.dat").write_text(
            "".join(f"{film}::Film {film} (1990)::Drama|War\n" for film in films)
        )
    (dat / "users.dat").write_text("".join(f"{person}::F::25::10::48067\n" for person in people))
    (old / "u.data").write_text(lines(stars, "\t"))
    (old / "u.user").write_text("".join(f"{person}|24|M|technician|85711\n" for person in people))
    genres = "|".join(["0"] * 19)
    (old / "u.item").write_text(
        "".join(f"{film}|Film {film} (1990)|01-Jan-1990|||{genres}\n" for film in films)
    )
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(csv / "ratings.csv", "ml/ratings.csv")
        archive.write(csv / "movies.csv", "ml/movies.csv")
    with gzip.open(folder / "log.csv.gz", "wt", compresslevel=1) as file:
        file.write(header + lines(ratings, ","))
    table = pa.table(ratings)
    pq.write_table(table, folder / "log.parquet")
    dates = pa.array(ratings["timestamp"], pa.timestamp("s")).cast(pa.string())
    texts = {
        "user": pa.array([f"user-{user}" for user in ratings["userId"].tolist()]),
        "item": pa.array([f"item-{item}" for item in ratings["movieId"].tolist()]),
        "time": dates,
    }
    pa.csv.write_csv(pa.table(texts), folder / "iso.tsv", pa.csv.WriteOptions(delimiter="\t"))
    return [
        ("made up like MovieLens 100K (`u.data`, `u.item`, `u.user`)", old),
        ("made up like MovieLens 1M (`ratings.dat`, `movies.dat`, `users.dat`)", dat),
        ("made up like MovieLens 10M (`ratings.dat`, `movies.dat`)", halves),
        (f"made up like {LATER}", csv),
        ("the same in a zip", packed),
        ("made up: CSV, gzip", folder / "log.csv.gz"),
        ("made up: TSV, text ids, ISO dates", folder / "iso.tsv"),
        ("made up: Parquet", folder / "log.parquet"),
    ]


def large(folder: Path) -> Path:
    """Thirty-two million rows in the layout of MovieLens 32M, written a million at a time."""
    place = folder / "32m"
    place.mkdir()
    n_rows = 32 * MILLION
    with (place / "movies.csv").open("w") as file:
        file.write("movieId,title,genres\n")
        file.writelines(f'{film},"Film {film}, The (1990)",Drama|War\n' for film in range(1, 87_001))
    with (place / "ratings.csv").open("w") as file:
        file.write("userId,movieId,rating,timestamp\n")
        for part in range(32):
            chance = np.random.default_rng(part)
            table = columns(MILLION, part)
            table["userId"] = chance.integers(1, n_rows // 160 + 1, MILLION)
            table["movieId"] = np.minimum((87_000 * chance.random(MILLION) ** 3).astype(np.int64), 86_999) + 1
            file.write(lines(table, ","))
    return place


def measure(source: Path | str | None) -> tuple[int, float, float, float]:
    """Rows, seconds, CPU seconds and megabytes of reading a source in a fresh interpreter."""
    command = [sys.executable, "-c", READ, *([] if source is None else [str(source)])]
    interpreter = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, seconds, cpu, kilobytes = interpreter.stdout.split()
    return int(rows), float(seconds), float(cpu), float(kilobytes) / 1024


def report(name: str, source: Path | str | None) -> None:
    """Print a row of the table."""
    rows, seconds, cpu, megabytes = measure(source)
    rate = f"{rows / cpu:,.0f}" if rows else ""
    print(f"| {name} | {rows:,} | {seconds:.2f} | {cpu:.2f} | {rate} | {megabytes:,.0f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="also 32 million rows")
    chosen = parser.parse_args()
    print("| log | rows | seconds | CPU seconds | rows a CPU second | peak MB |\n|---|---|---|---|---|---|")
    report("(import alone)", None)
    report("embedded MovieLens latest-small 2016", "ml-latest-small")
    real = Path(os.environ.get("RIMSIM_DEV_DATA", "")) / "ml-1m-positives.zip"
    if "RIMSIM_DEV_DATA" in os.environ and real.is_file():
        report("MovieLens 1M, ratings of 4 and 5, zip", real)
    with tempfile.TemporaryDirectory() as place:
        for name, source in made_up(Path(place)):
            report(name, source)
        if chosen.large:
            report("made up like MovieLens 32M, at its size", large(Path(place)))


if __name__ == "__main__":
    main()
