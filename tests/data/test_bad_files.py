"""Rows and files that are no log: named by line, skipped and counted, or refused whole."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kit import cases, refused, zipped

from rimsim.data import load, load_observed
from rimsim.data.readers import containers
from rimsim.data.readers.containers import file_container
from rimsim.data.readers.lines import BLOCK_BYTES
from rimsim.errors import ConfigError, DataError

PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
HEADER = "user,item,timestamp,rating\n"
ROW = "1,2,978300760,5\n"
BAD_ROWS = {
    "1,2,978300760": "the line has 3 fields. Expected 4",
    "1,2,978300760,5,6": "the line has 5 fields. Expected 4",
    "1,2,soon,5": "time .column 'timestamp'. is 'soon'. Expected",
    "1,2,978300760,good": "value .column 'rating'. is 'good'. Expected a finite number",
    "1,2,nan,5": "time .* is 'nan', a missing value",
    "1,2,978300760,NaN": "value .* is 'NaN', a missing value",
    "1,2,inf,5": "time .* is 'inf'. Expected a finite number",
    "1,2,978300760,-inf": "value .* is '-inf'. Expected",
    "1,2,978300760,1e39": "value .* is '1e39'. Expected finite numbers up to 3.4",
    "1,2,1e400,5": "time .* is '1e400'. Expected finite numbers up to",
    "1,2,-1,5": "time .* is '-1', a negative number",
    "1,2,978300760,-0.5": "value .* is '-0.5', a negative number",
    "1,2,,5": "time .* is '', a missing value",
    ",2,978300760,5": "user .column 'user'. is '', a missing value. Expected any id",
    "1, ,978300760,5": "item .* is '', a missing value",
    "1,NULL,978300760,5": "item .* is 'NULL', a missing value",
    "1,2,1_000,5": "time .* is '1_000'. Expected",
    "1,2,0x10,5": "time .* is '0x10'. Expected",
    "1,2,٣,5": "time .* is '٣'. Expected",
    '"1,2,978300760,5': "a quoted field does not end on its line",
    "1,2,978300760000,5": "time .* is '978300760000'. Expected finite numbers up to 2.53",
    "1,2\0,978300760,5": "the line has a zero byte",
    b"1,\xe9,978300760,5": "byte 0xe9 at position 3 is not UTF-8",
}


@pytest.mark.parametrize("row", BAD_ROWS, ids=repr)
def test_a_bad_row_is_named_by_its_line_or_skipped_and_counted(tmp_path, row):
    """The error says where, what was found and what is allowed, wherever the row stands; skipping loses it alone."""
    path = tmp_path / "log.csv"
    bad = row if isinstance(row, bytes) else row.encode()
    for place in (0, 57, 300):
        rows = [ROW.encode()] * 300
        rows.insert(place, bad + b"\n")
        path.write_bytes(HEADER.encode() + b"".join(rows))
        message = refused(DataError, rf"log.csv, line {place + 2}: {BAD_ROWS[row]}", load, path)
        assert "set skip_bad_rows (--skip-bad-rows)" in message
        log = load(path, skip_bad_rows=True)
        assert (len(log), log.report.skipped, log.report.bad_rows[0].line) == (300, 1, place + 2)
        assert "1 bad row skipped" in log.report.text()
        assert log.users["id"].tolist() == [1]


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("row", ['1,2,978300760,"5', '"1,2,978300760,5', '1,2,978300760,5,"'])
def test_a_quote_that_stays_open_at_the_end_is_a_bad_row(tmp_path, row, end):
    """A file cut short inside quotes does not pass for a whole one."""
    (tmp_path / "log.csv").write_text(HEADER + ROW + row + end)
    refused(DataError, r"line 3: a quoted field does not end on its line", load, tmp_path / "log.csv")


def test_lines_are_counted_across_blocks(tmp_path):
    """The line number holds in a file that is read in several blocks; bad rows alone are refused even if skipped."""
    lines = BLOCK_BYTES // len(ROW) + 1000
    path = tmp_path / "log.csv"
    path.write_text(HEADER + ROW * lines + "1,2,late,3\n" + ROW)
    refused(DataError, f"line {lines + 2:,}: time", load, path)
    log = load(path, skip_bad_rows=True)
    assert (len(log), log.report.skipped) == (lines + 1, 1)
    path.write_text(HEADER + "1,2,x,3\n" * 5)
    refused(DataError, r"no events.*the first of 5 bad rows.*line 2", load, path, skip_bad_rows=True)


BAD_FILES = {
    b"": "is empty",
    b"\n\n": "is empty",
    HEADER.encode(): "no events",
    b"who,what,moment\n1,2,3\n": "line 1: no column for the user and the item and the time was found"
    '.* name them by --columns "user=…,item=…,time=…"',
    b"user,item\n1,2\n": "no column for the time was found .*. Usual names for the time are timestamp",
    b"user,item,time,item\n1,2,3,4\n": "line 1: column 'item' occurs twice",
    b'{"user": 1, "item": 2, "time": 3}\n': "line 1: .* looks like JSON, which rimsim does not read. Expected CSV",
    b'[{"user": "' + b"x" * 200_000 + b'"}]': "line 1: .* looks like JSON, which rimsim does not read",
    b"user,item,time\n1,2,01/31/2015\n": "line 2: time .* is '01/31/2015'. Expected .* ISO 8601 dates",
    b"user^item^time\n1^2^3\n": r"'user\^item\^time' has no known separator. Expected '::'",
    b"1,2,978300760,5\n": "looks like data, so the file has no header. Give the columns by position",
    b"user,item,\xe9,time\n1,2,3,4\n": "line 1: byte 0xe9",
    b"\xff\xfeu\x00s\x00e": "no known separator|not utf-16",
    bytes(range(256)) * 40: "line 1",
    b"user,item,time\n" + b"x" * 3_000_000: "line 2: the line (is longer than|has 1 fields)",
}


@pytest.mark.parametrize("content", BAD_FILES, ids=lambda content: repr(content[:20]))
def test_a_file_that_is_no_log_is_refused(tmp_path, content):
    """Empty files, unknown columns and separators and files that are no text say so."""
    (tmp_path / "log.csv").write_bytes(content)
    refused(DataError, BAD_FILES[content], load, tmp_path / "log.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_blank_lines_are_no_rows_and_ends_of_lines_may_be_mixed(tmp_path):
    """Neither changes the log or the line numbers, and CR LF, CR and LF in one file are noted."""
    (tmp_path / "log.csv").write_text("\n\n" + HEADER + "\n" + ROW + "\n\n" + ROW + "\n")
    assert len(load(tmp_path / "log.csv")) == 2
    (tmp_path / "bad.csv").write_text("\n\n" + HEADER + "\n" + ROW + "\n\nx\n")
    refused(DataError, "line 8: the line has 1 fields", load, tmp_path / "bad.csv")
    (tmp_path / "log.csv").write_bytes(b"user,item,time\r\n1,2,3\r4,5,6\n7,8,x")
    refused(DataError, "line 4: time", load, tmp_path / "log.csv")
    log = load(tmp_path / "log.csv", skip_bad_rows=True)
    assert len(log) == 2
    assert "mixed line ends (1 CR LF, 1 CR, 1 LF)" in log.report.text()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_byte_order_marks_and_encodings_that_are_said_are_read(tmp_path, encoding):
    """A byte-order mark decides the encoding, is no part of the first column, and is noted; a name must be one."""
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    options = {}
    if encoding == "latin-1":
        options = {"encoding": encoding}
    path = tmp_path / "log.csv"
    path.write_bytes((mark + HEADER + "é,2,978300760,5\n").encode(encoding))
    log = load(path, **options)
    assert log.users["id"].tolist() == ["é"]
    assert ("byte-order mark" in log.report.text()) == (not options)
    for wrong in ("klingon", "hex") if options else ():
        refused(ConfigError, f"encoding is '{wrong}'", load, path, encoding=wrong)


@cases(
    "error columns message",
    (DataError, "user=whom,item=what,time=at", "no column 'whom' to read the user from. Did you mean 'who'"),
    (DataError, "user=1,item=2,time=4", "column 4 for the time does not exist. Expected 1 to 3"),
    (DataError, "user=who,item=who,time=at", "column 'who' is named for two roles"),
    (ConfigError, "usr=who,item=what,time=at", "Did you mean 'user'"),
)
def test_columns_that_do_not_fit_are_refused(tmp_path, error, columns, message):
    """A named column must be there, a position within the row, and a column serves one role."""
    (tmp_path / "log.csv").write_text("who,what,at\n1,2,3\n")
    refused(error, message, load, tmp_path / "log.csv", columns=columns)


PARQUET = {"user": [1, 2], "item": ["a", "b"], "time": [5.0, 6.0], "value": [1.0, 2.0]}


@cases(
    "column values message",
    ("user", [1.5, 2.0], "user .column 'user'. is of type double. Expected whole numbers or text"),
    ("item", [[1], [2]], "item .* is of type list"),
    ("time", ["x", "y"], r"line 1: time .* is 'x'. Expected a finite number .* ISO 8601 dates"),
    ("value", [True, False], "value .* is of type bool. Expected numbers"),
    ("user", [1, None], "line 2: user .* is 'None', a missing value. Expected any id"),
    ("item", ["a", "nan"], "line 2: item .* is 'nan', a missing value. Expected any id"),
    ("time", [5.0, float("nan")], "line 2: time .* is 'nan'. Expected finite numbers"),
    ("time", [5, -6], "line 2: time .* is '-6'"),
    ("time", pa.array([-1, 6], pa.timestamp("s")), "line 1: time .* is '1969-12-31 23:59:59'. Expected "),
    ("value", [1.0, float("inf")], "line 2: value .* is 'inf'"),
    ("value", [1.0, None], "line 2: value .* is 'None'"),
)
def test_parquet_of_the_wrong_types_is_refused(tmp_path, column, values, message):
    """A type that cannot be an id, a time or a value is named, and so is a row with a bad field, of both tables."""
    pq.write_table(pa.table(PARQUET | {column: values}), tmp_path / "log.parquet")
    for read in (load, load_observed)[: 1 if column == "time" else 2]:
        refused(DataError, message, read, tmp_path / "log.parquet")


def test_bad_rows_of_parquet_are_skipped_and_counted(tmp_path):
    """Skipping works for Parquet as for text, and ids of skipped rows alone are forgotten."""
    frame = pd.DataFrame({"user": ["1", "x", "3"], "item": 7, "time": [1.0, np.nan, 3.0]})
    frame.to_parquet(tmp_path / "log.parquet")
    log = load(tmp_path / "log.parquet", skip_bad_rows=True)
    assert log.users["id"].tolist() == [1, 3]
    assert log.report.bad_rows[0].line == 2


@pytest.mark.parametrize("name", ["log.parquet", "log.zip", "log.csv.gz", "log.csv.xz"])
def test_containers_cut_short_are_refused(tmp_path, name):
    """A file cut at any of many places is refused, and never crashes or leaves anything behind."""
    text = (HEADER + ROW * 500).encode()
    container = tmp_path / name
    if name.endswith(".parquet"):
        pd.DataFrame(PARQUET).to_parquet(container)
    elif name.endswith(".zip"):
        zipped(container, ("ratings.csv", text))
    else:
        container.write_bytes(PACKED[container.suffix](text))
    content = container.read_bytes()
    for length in range(0, len(content) - 1, 7):
        container.write_bytes(content[:length])
        refused(DataError, "log", load, container)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_the_file_behind_a_compressed_log_is_closed(tmp_path, ending):
    """A stream that unpacks leaves its file open, so the reader closes both."""
    path = tmp_path / f"log.csv{ending}"
    path.write_bytes(PACKED[ending]((HEADER + ROW).encode()))
    container = file_container(path)
    with container.open(path.name) as stream:
        assert stream.read(4) == HEADER[:4].encode()
        assert not stream._file.closed
    assert stream._file.closed


def test_zips_that_escape_swell_link_or_lock_are_refused(tmp_path, monkeypatch):
    """A zip is refused as a whole if a member could do harm, before any is read; a gzip that swells, on the way."""
    monkeypatch.setattr("rimsim.data.readers.containers.FREE_BYTES", 2**20)
    link = zipfile.ZipInfo("ratings.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    good = HEADER + ROW
    for number, (entries, message) in enumerate(
        [
            ([("ratings.csv", good), ("../x", "")], "member '../x' escapes its folder"),
            ([("/etc/x", "")], "escapes its folder"),
            ([("a\\..\\..\\x", "")], "escapes its folder"),
            ([("C:/x", "")], "escapes its folder"),
            ([(link, "/etc/passwd")], "is a symbolic link"),
            ([("ratings.csv", b"0" * 2**21)], "a decompression bomb"),
            ([("readme.md", "")], "no log in it, only readme.md"),
        ]
    ):
        zipped(tmp_path / f"{number}.zip", *entries)
        refused(DataError, message, load, tmp_path / f"{number}.zip")
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(b"user,item,time\n" + b"\n" * 2**24))
    refused(DataError, "decompression bomb", load, tmp_path / "log.csv.gz")


def test_links_pipes_and_missing_files_are_refused(tmp_path, monkeypatch):
    """What is not there is named with the nearest name; links may not lead out; a pipe is not waited for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ratings.csv").write_text(HEADER + ROW)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "ratings.csv").symlink_to("../ratings.csv")
    (tmp_path / "gone.csv").symlink_to("nowhere.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    for name, message in (
        ("rating.csv", "no such file or folder. Did you mean 'ratings.csv'"),
        ("ml-1x", "no such file or folder. Did you mean 'ml-1m'"),
        ("nowhere/ratings.csv", "the folder nowhere does not exist either"),
        ("gone.csv", "is a link to nowhere.csv, which does not exist"),
        ("inside", "is a link that leads out of inside"),
        ("pipe.csv", "is not a regular file"),
        ("a\0b", "no such file|cannot be looked up"),
        ("x" * 5000, "cannot be looked up|no such file"),
    ):
        refused(DataError, message, load, name)
    assert len(load(tmp_path / "inside" / "ratings.csv")) == 1  # a link that the user names is followed


def test_a_log_that_is_filtered_away_says_by_what(tmp_path):
    """The error names the step that took the last event and what the log holds."""
    (tmp_path / "log.csv").write_text(HEADER + ROW * 3)
    for options, message in (
        ({"min_value": 6}, "min_value=6 removes all of its 3 events. Values run from 5 to 5"),
        ({"start": "2015-01-01"}, "start=2015-01-01 00:00:00 UTC removes all"),
        ({"stop": 5.0}, "stop=1970-01-01 00:00:05 UTC removes all"),
        ({"min_item_events": 4}, "min_item_events=4 .*an item has up to 3 events"),
        ({"min_user_events": 4}, "min_user_events=4 .*a user up to 3"),
    ):
        refused(DataError, message, load, tmp_path / "log.csv", **options)


def test_a_bad_row_of_the_item_table_is_named_or_skipped(tmp_path):
    """Tables beside the events are read with the same care."""
    (tmp_path / "ratings.csv").write_text(HEADER + ROW)
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n2,A (1990),X\n3,B\n2,C,X\n")
    refused(DataError, r"movies.csv, line 3: the line has 2 fields. Expected 3", load, tmp_path)
    log = load(tmp_path, skip_bad_rows=True)
    assert log.items["title"].tolist() == ["A"]
    assert [row.line for row in log.report.bad_rows] == [3, 4]


def test_mutated_input_ends_in_a_log_or_in_an_error_of_ours(tmp_path, script):
    """Seeded mutations of every kind of file never end in a foreign traceback or a stray file."""
    count = script("fuzz_data").run(tmp_path, inputs=800, seed=1)
    assert count.logs + count.errors == 800
    assert min(count.logs, count.errors) > 50
    assert list(tmp_path.iterdir()) == []


def _tar(path, *members):
    """A packed tar of entries with contents."""
    with tarfile.open(path, "w:gz") as archive:
        for entry, content in members:
            archive.addfile(entry, io.BytesIO(content))
    return path


def _entry(name, size=0, **fields):
    """Entry of a tar."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry


def test_a_tar_is_read_like_a_folder_and_refused_like_a_zip(tmp_path):
    """A tar with one log is that log; paths outside, links, bombs and cut files are refused before they are read."""
    text = (HEADER + ROW + "2,3,978300760,5\n").encode()
    path = _tar(
        tmp_path / "log.tar.gz",
        (_entry("a", type=tarfile.DIRTYPE), b""),
        (_entry("a/l.csv", len(text)), text),
    )
    assert len(load(path)) == 2
    for entry, message in (
        (_entry("../x"), "member '../x' escapes its folder"),
        (_entry("/etc/x"), "escapes its folder"),
        (_entry("x", type=tarfile.SYMTYPE, linkname="a/l.csv"), "member 'x' is a link or a device"),
        (_entry("x", type=tarfile.FIFOTYPE), "member 'x' is a link or a device"),
    ):
        bad = _tar(tmp_path / "bad.tar.gz", (_entry("a/l.csv", len(text)), text), (entry, b""))
        refused(DataError, message, load, bad)
    (tmp_path / "cut.tar.gz").write_bytes(path.read_bytes()[:-30])
    refused(DataError, "not a readable tar, or it is incomplete|damaged", load, tmp_path / "cut.tar.gz")
    refused(
        DataError, "holds more than one log", load, _tar(path, *[(_entry(f"{n}.csv"), b"") for n in "ab"])
    )


def test_a_tar_that_expands_too_much_is_refused_by_its_header(tmp_path, monkeypatch):
    """The size that the header states is enough to refuse it."""
    monkeypatch.setattr(containers, "FREE_BYTES", 10)
    content = bytes(2**21)
    bomb = _tar(tmp_path / "bomb.tar.gz", (_entry("log.csv", len(content)), content))
    refused(DataError, "a decompression bomb", load, bomb)


def test_bad_rows_are_counted_by_kind_of_problem(tmp_path):
    """Each kind has one line, with the number of its rows and the first of them."""
    rows = [f"{n},7,{'soon' if n % 2 else 1_400_000_000 + n}" for n in range(40)]
    rows += ["1,,1400000000", "2,'',3", "3,None,1400000001", "4,7"]
    (tmp_path / "log.csv").write_text("user,item,time\n" + "\n".join(rows) + "\n", encoding="utf-8")
    report = load(tmp_path / "log.csv", skip_bad_rows=True, time_unit="s").report
    counts = {row.line: row.count for row in report.bad_rows}
    assert counts == {3: 20, 42: 2, 45: 1}
    assert report.skipped == 23
    assert "  20 rows: " in report.text()
    assert "log.csv, line 3: time (column 'time') is 'soon'" in report.text()
