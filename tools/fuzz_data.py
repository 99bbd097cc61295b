"""Throw mutated files at the reader: ``python tools/fuzz_data.py [INPUTS] [SEED]``.

Each input is a small valid source of some kind (every layout, container and encoding) with a few bytes
changed, removed, doubled, swapped or replaced by tokens that readers stumble over. It must end in a log that
keeps the rules of a log or in an error of rimsim, within seconds, and leave the folder as it was. Anything
else stops the run and says which seed does it again.
"""

from __future__ import annotations

import bz2
import dataclasses
import faulthandler
import gzip
import io
import lzma
import random
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

import rimsim.data
from rimsim.errors import RimsimError

SLOWEST_SECONDS = 20.0
TOKENS = [
    *(b"", b"\n", b"\r", b"\r\n", b",", b"::", b"\t", b'"', b'""', b"|", b";", b" ", b"\0", b"\x1f", b"\x1a"),
    *(
        b"nan",
        b"NaN",
        b"inf",
        b"-1",
        b"-0",
        b"1e999",
        b"1e-999",
        b"0x10",
        b"1_0",
        b"+5",
        b"9" * 25,
        b"NULL",
        b"NA",
    ),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xe9", b"\xc3\xa9", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80"),
    *(
        b"2015-01-01",
        b"2015-13-41",
        b"1969-01-01T00:00:00Z",
        b"9999-12-31T23:59:59.999999-23:59",
        b"PAR1",
        b"PK\x03\x04",
    ),
    *("\u0663".encode(), "\u2028".encode(), b"\x85", b"1.5", b"true", b"user", b"item", b"time", b"userId"),
]


@dataclasses.dataclass
class Count:
    """What came of a run."""

    logs: int = 0
    errors: int = 0
    kinds: Counter[str] = dataclasses.field(default_factory=Counter)


def sources() -> dict[str, bytes]:
    """Small valid files by name; a name ending in ``/`` is a folder, its content a zip of it."""
    rows = [(1, 10, 5, 978300760), (1, 3, 3, 978302109), (2, 10, 4, 978300760), (12, 20, 1, 978300000)]
    header = "userId,movieId,rating,timestamp\n"
    text = header + "".join(",".join(map(str, row)) + "\n" for row in rows)
    iso = "user,item,time\n" + "".join(f"u{u},i{i},2015-01-0{v}T10:00:00Z\n" for u, i, v, _ in rows)
    quoted = 'user,item,time,note\n"a,b",1,978300760,"say ""x"""\nc,2,978300761,\n'
    frame = pd.DataFrame(rows, columns=["user", "item", "value", "time"])
    parquet = io.BytesIO()
    texts = io.BytesIO()
    frame.to_parquet(parquet, index=False)
    frame.astype({"user": str, "item": str}).to_parquet(texts, index=False, compression="gzip")
    latin = "id::Ren\xe9 (1994)::Drama".encode("latin-1")
    old = {
        "u.data": "".join("\t".join(map(str, row)) + "\n" for row in rows).encode(),
        "u.item": b"10|A (1990)|01-Jan-1990||x|0|1\n3|B\xe9 (1994)|||x|1|0\n20|C|||x|0|0\n",
        "u.genre": b"unknown|0\nDrama|1\n",
        "u.user": b"1|24|M|x|85711\n2|53|F|y|94043\n12|1|F|z|1\n",
    }
    dat = {
        "ratings.dat": "".join("::".join(map(str, row)) + "\n" for row in rows).encode(),
        "movies.dat": b"10::A (1990)::Drama\n3::B::X|Y\n" + latin.replace(b"id", b"20") + b"\n",
    }
    csv = {
        "ratings.csv": text.encode(),
        "movies.csv": b'movieId,title,genres\n10,"A, b (1990)",X\n3,B,Y\n20,C,\n',
    }
    titled = "user,time,item,title,genres,year\n" + "".join(
        f"{u},{t},{i},Film {i} (1990),A|B,{1990 + v}\n" for u, i, v, t in rows
    )
    titles = io.BytesIO()
    pd.read_csv(io.StringIO(titled)).to_parquet(titles, index=False)
    tables = {
        "events.parquet": parquet.getvalue(),
        "items.parquet": _parquet({"id": [10, 3, 20], "title": ["A", "B", ""], "year": [1990, None, 2000]}),
        "users.parquet": _parquet({"id": [1, 2, 12], "age": [20, None, 30]}),
    }
    members = {"events.parquet": parquet.getvalue(), "items.csv": b"", "note.txt": b""}
    return {
        "log.csv": text.encode(),
        "iso.csv": iso.encode(),
        "quoted.csv": quoted.encode(),
        "many.csv": (header + "".join(",".join(map(str, rows[n % 4])) + "\n" for n in range(300))).encode(),
        "wide.csv": text.encode("utf-16"),
        "titled.csv": titled.encode(),
        "titled.parquet": titles.getvalue(),
        "tables/": zipped(tables, zipfile.ZIP_STORED),
        "log.tsv": text.replace(",", "\t").encode(),
        "log.parquet": parquet.getvalue(),
        "text.parquet": texts.getvalue(),
        "log.csv.gz": gzip.compress(text.encode(), mtime=0),
        "log.csv.bz2": bz2.compress(text.encode()),
        "log.csv.xz": lzma.compress(text.encode()),
        "old.zip": zipped(old, zipfile.ZIP_DEFLATED),
        "stored.zip": zipped({f"ml/{name}": content for name, content in dat.items()}, zipfile.ZIP_STORED),
        "old/": zipped(old, zipfile.ZIP_STORED),
        "dat/": zipped(dat, zipfile.ZIP_STORED),
        "csv/": zipped(csv, zipfile.ZIP_STORED),
        "parquet.zip": zipped(members, zipfile.ZIP_DEFLATED),
    }


def _parquet(columns: dict[str, list[object]]) -> bytes:
    made = io.BytesIO()
    pd.DataFrame(columns).to_parquet(made, index=False)
    return made.getvalue()


def zipped(files: dict[str, bytes], method: int) -> bytes:
    """A zip of some files, the same bytes each time."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, compress_type=method)
    return packed.getvalue()


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with one to four mutations."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        start = chance.randrange(len(data) + 1)
        stop = min(len(data), start + chance.choice([0, 1, 1, 2, 5, 20]))
        match chance.randrange(6):
            case 0:
                data[start:stop] = chance.choice(TOKENS)
            case 1:
                data[start:stop] = b""
            case 2:
                data[start:start] = data[start:stop] * chance.choice([1, 2, 50])
            case 3 if data:
                data[min(start, len(data) - 1)] = chance.randrange(256)
            case 4:
                del data[start:]
            case _:
                lines = bytes(data).split(b"\n")
                chance.shuffle(lines)
                data = bytearray(b"\n".join(lines))
    return bytes(data)


def check(log: rimsim.data.EventLog) -> None:
    """The rules of a log."""
    assert len(log) > 0  # noqa: S101 (a fuzz run is a test)
    assert np.isfinite(log.time).all()  # noqa: S101
    assert np.isfinite(log.value).all()  # noqa: S101
    assert (np.diff(log.time) >= 0).all()  # noqa: S101
    assert log.time[0] >= 0  # noqa: S101
    assert log.user.max() < log.n_users  # noqa: S101
    assert log.item.max() < log.n_items  # noqa: S101
    assert len(set(log.users["id"].tolist())) == log.n_users  # noqa: S101
    assert len(set(log.items["id"].tolist())) == log.n_items  # noqa: S101


def one(folder: Path, number: int, seed: int, all_sources: dict[str, bytes], count: Count) -> None:
    """Read one mutated input, and look at the folder afterwards."""
    chance = random.Random(f"{seed}/{number}")
    name = chance.choice(sorted(all_sources))
    content = all_sources[name]
    work = folder / "work"
    work.mkdir()
    if name.endswith("/"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            hit = chance.choice(archive.namelist())
            for member in archive.namelist():
                original = archive.read(member)
                (work / member).write_bytes(mutated(original, chance) if member == hit else original)
        source = work
    else:
        source = work / name
        source.write_bytes(mutated(content, chance))
    before = sorted((path.name, path.stat().st_size) for path in work.iterdir())
    began = time.monotonic()
    try:
        log = rimsim.data.load(
            source,
            skip_bad_rows=chance.random() < 0.3,
            release=chance.choice(["given", "year"]),
            min_item_events=chance.choice([0, 1, 1, 2]),
            min_user_events=chance.choice([0, 1, 1]),
        )
        check(log)
        count.logs += 1
    except RimsimError as error:
        if not str(error) or len(str(error)) > 3000:
            raise AssertionError(f"no message, or a very long one: {str(error)[:300]!r}") from error
        count.errors += 1
        count.kinds[type(error).__name__] += 1
    if time.monotonic() - began > SLOWEST_SECONDS:
        raise AssertionError(f"took {time.monotonic() - began:.0f} s")
    if sorted((path.name, path.stat().st_size) for path in work.iterdir()) != before:
        raise AssertionError("left something behind")
    shutil.rmtree(work)


def run(folder: Path, inputs: int, seed: int) -> Count:
    """Read ``inputs`` mutated inputs in ``folder``, which stays empty.

    Raises:
        RuntimeError: If an input ends in anything but a log or an error of rimsim.
    """
    count = Count()
    all_sources = sources()
    for number in range(inputs):
        try:
            one(folder, number, seed, all_sources, count)
        except BaseException as unexpected:
            raise RuntimeError(f"input {number} of seed {seed}: {unexpected!r}") from unexpected
    return count


if __name__ == "__main__":
    faulthandler.enable()
    wanted, chosen = (int(word) for word in (sys.argv[1:] + ["100000", "0"][len(sys.argv) - 1 :]))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        total = run(Path(place), wanted, chosen)
    print(
        f"{wanted:,} inputs, seed {chosen}: {total.logs:,} logs, {total.errors:,} errors of rimsim "
        f"({dict(total.kinds)}), nothing else, {time.monotonic() - start:.0f} s"
    )
