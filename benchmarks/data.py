"""Rows a second and peak memory of reading logs: ``python benchmarks/data.py [--large]``.

Prints the table of docs/data.md. Every log is read in an interpreter of its own, whose peak resident memory
is the figure; an interpreter that only imports ``rimsim.data`` is the first row. Made-up logs have a million
rows; ``--large`` adds one of 32 million (840 MB of CSV in the temporary folder). Users stand at random, so
every block of lines meets many of them. A folder of real logs may be named by ``RIMSIM_DEV_DATA``.
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
    users, items = rows // 160, rows // 270
    return {
        "userId": chance.integers(1, users + 1, rows),
        "movieId": np.minimum((items * chance.random(rows) ** 3).astype(np.int64), items - 1) + 1,
        "rating": chance.integers(1, 11, rows) / 2,
        "timestamp": chance.integers(800_000_000, 1_700_000_000, rows),
    }


def lines(found: dict[str, np.ndarray], separator: str) -> str:
    """Rows of text, without a header."""
    rows = zip(*(column.tolist() for column in found.values()), strict=True)
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def made_up(folder: Path) -> list[tuple[str, Path]]:
    """A million rows in every layout and container."""
    found = columns(MILLION)
    header = ",".join(found) + "\n"
    films = np.unique(found["movieId"]).tolist()
    csv = folder / "csv"
    dat, old, packed = folder / "dat", folder / "old", folder / "ml.zip"
    for place in (csv, dat, old):
        place.mkdir()
    (csv / "ratings.csv").write_text(header + lines(found, ","))
    titles = "".join(f'{film},"Film {film}, The (1990)",Drama|War\n' for film in films)
    (csv / "movies.csv").write_text("movieId,title,genres\n" + titles)
    (dat / "ratings.dat").write_text(lines(found, "::"))
    (dat / "movies.dat").write_text("".join(f"{film}::Film {film} (1990)::Drama|War\n" for film in films))
    (old / "u.data").write_text(lines(found, "\t"))
    genres = "|".join(["0"] * 19)
    (old / "u.item").write_text(
        "".join(f"{film}|Film {film} (1990)|01-Jan-1990|||{genres}\n" for film in films)
    )
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(csv / "ratings.csv", "ml/ratings.csv")
        archive.write(csv / "movies.csv", "ml/movies.csv")
    with gzip.open(folder / "log.csv.gz", "wt", compresslevel=1) as file:
        file.write(header + lines(found, ","))
    table = pa.table(found)
    pq.write_table(table, folder / "log.parquet")
    dates = pa.array(found["timestamp"], pa.timestamp("s")).cast(pa.string())
    texts = {
        "user": pa.array([f"user-{user}" for user in found["userId"].tolist()]),
        "item": pa.array([f"item-{item}" for item in found["movieId"].tolist()]),
        "time": dates,
    }
    pa.csv.write_csv(pa.table(texts), folder / "iso.tsv", pa.csv.WriteOptions(delimiter="\t"))
    return [
        ("MovieLens 100K layout (`u.data`, `u.item`)", old),
        ("MovieLens 1M, 10M layout (`ratings.dat`, `movies.dat`)", dat),
        ("MovieLens 20M and later layout (`ratings.csv`, `movies.csv`)", csv),
        ("the same in a zip", packed),
        ("CSV, gzip", folder / "log.csv.gz"),
        ("TSV, text ids, ISO dates", folder / "iso.tsv"),
        ("Parquet", folder / "log.parquet"),
    ]


def large(folder: Path) -> Path:
    """Thirty-two million rows, written a million at a time."""
    path = folder / "large.csv"
    whole = 32 * MILLION
    with path.open("w") as file:
        file.write("userId,movieId,rating,timestamp\n")
        for part in range(32):
            chance = np.random.default_rng(part)
            found = columns(MILLION, part)
            found["userId"] = chance.integers(1, whole // 160 + 1, MILLION)
            found["movieId"] = np.minimum((87_000 * chance.random(MILLION) ** 3).astype(np.int64), 86_999) + 1
            file.write(lines(found, ","))
    return path


def measure(source: Path | str | None) -> tuple[int, float, float, float]:
    """Rows, seconds, CPU seconds and megabytes of reading a source in a fresh interpreter."""
    command = [sys.executable, "-c", READ, *([] if source is None else [str(source)])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, seconds, cpu, kilobytes = done.stdout.split()
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
            report("CSV, 32 million rows", large(Path(place)))


if __name__ == "__main__":
    main()
