"""Every layout of MovieLens, and logs of other people, give the same log; every observed table gives its answers."""

import bz2
import dataclasses
import gzip
import lzma
import os
import stat
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import cases, refused, same_arrays, same_log, zipped

from rimsim.data import ObservedTable, check, load, load_observed, write
from rimsim.data.readers.lines import BLOCK_BYTES
from rimsim.data.readers.values import MISSING
from rimsim.errors import ConfigError, DataError

# Four users, three films; ties in time between users, and one user's rows out of order.
EVENTS = [(1, 20, 5, 978300760), (1, 3, 3, 978300100), (2, 20, 4, 978300760)]
EVENTS += [(3, 100, 1, 978300760), (10, 3, 2, 978400000)]
FILMS = [
    (3, "Café Noir", "Drama|Mystery", 1994),
    (20, "Big, the Second", "Comedy", 1999),
    (100, "No Year", "", None),
    (101, "Never Met", "Drama", 1990),
]
SMALL_100K = {
    "u.data": "".join(f"{user}\t{item}\t{value}\t{time}\n" for user, item, value, time in EVENTS).encode(),
    "u.genre": b"unknown|0\nComedy|1\nDrama|2\nMystery|3\n\n",
    "u.item": (
        "3|Café Noir (1994)|01-Jan-1994||http://x|0|0|1|1\n"
        "20|Big, the Second (1999)|15-Jan-2001||http://x|0|1|0|0\n"
        "100|No Year||||1|0|0|0\n"
        "101|Never Met (1990)|01-Jan-1990||http://x|0|0|1|0\n"
    ).encode("latin-1"),
    "u.user": b"1|24|M|technician|85711\n2|53|F|other|94043\n3|23|M|writer|32067\n10|24|M|other|43537\n",
    "u1.base": b"1\t3\t3\t978300100\n",
    "README": b"MovieLens",
}


def _title(name, year):
    return name if year is None else f"{name} ({year})"


def _dat(encoding="utf-8"):
    films = "".join(f"{key}::{_title(name, year)}::{genres}\n" for key, name, genres, year in FILMS)
    ratings = "".join("::".join(map(str, row)) + "\n" for row in EVENTS)
    return {"ratings.dat": ratings.encode(), "movies.dat": films.encode(encoding)}


def _csv():
    ratings = "userId,movieId,rating,timestamp\n" + "".join(",".join(map(str, row)) + "\n" for row in EVENTS)
    rows = [(key, _title(name, year), genres or "(no genres listed)") for key, name, genres, year in FILMS]
    films = "movieId,title,genres\n" + "".join(f'{key},"{title}",{genres}\n' for key, title, genres in rows)
    tags = b"userId,movieId,tag\n"
    return {"ratings.csv": ratings.encode(), "movies.csv": films.encode(), "tags.csv": tags}


LAYOUTS = {
    "MovieLens 100K": SMALL_100K,
    "MovieLens 1M": _dat("latin-1") | {"users.dat": b"1::F::1::10::48067\n2::M::56::16::70072\n"},
    "MovieLens 10M": _dat(),
    "MovieLens CSV": _csv(),
}


def _folder(path, files):
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def _check(log):
    assert (log.users["id"].tolist(), log.items["id"].tolist()) == ([1, 2, 3, 10], [3, 20, 100])
    assert log.items["title"].tolist() == ["Café Noir", "Big, the Second", "No Year"]
    assert log.items["genres"].tolist() == ["Drama|Mystery", "Comedy", ""]
    assert log.items["year"].tolist()[:2] == [1994, 1999]
    assert log.items["year"].isna().tolist() == [False, False, True]
    assert (log.items["release"].tolist(), log.user.tolist()) == ([0, 0, 0], [0, 0, 1, 2, 3])
    assert (log.item.tolist(), log.value.tolist()) == ([0, 1, 1, 2, 0], [3, 5, 4, 1, 2])
    assert log.time.tolist() == [978300100, 978300760, 978300760, 978300760, 978400000]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_log(tmp_path, name):
    """Ids, titles, genres, years, values and ties are the sources', from folders, files of events and zips."""
    folder = _folder(tmp_path / "data" / "ml", LAYOUTS[name])
    log = load(folder)
    assert (log.report.layout, log.report.backwards) == (name, 1)
    (tmp_path / "zips").mkdir()
    files = LAYOUTS[name].items()
    zip_folder = tmp_path / "zips"
    zips = [zipped(zip_folder / "ml.zip", *files), zipped(zip_folder / "aml.zip", *files, folder="a/")]
    for read in (log, load(folder / next(iter(LAYOUTS[name]))), load(tmp_path / "data"), *map(load, zips)):
        _check(read)
    assert sorted(path.name for path in (tmp_path / "zips").iterdir()) == ["aml.zip", "ml.zip"]


def test_what_a_layout_has_besides_events_is_kept(tmp_path):
    """Attributes of users, items without events if asked for, and releases by date or by the first event."""
    old = _folder(tmp_path / "old", SMALL_100K)
    assert load(old).users["occupation"].tolist() == ["technician", "other", "writer", "other"]
    new = load(_folder(tmp_path / "new", LAYOUTS["MovieLens 1M"]))
    assert new.users["gender"].tolist()[:2] == ["F", "M"]
    assert new.users["gender"].isna().tolist() == [False, False, True, True]
    log = load(_folder(tmp_path / "csv", _csv()), min_item_events=0)
    assert log.items["title"].tolist()[-1] == "Never Met"
    assert np.bincount(log.item, minlength=log.n_items).tolist() == [2, 2, 1, 0]
    stated = load(old, release="year").items["release"].tolist()
    assert stated == [757382400, 978300760, 0]  # 1 January 1994; stated later than its first event; unknown
    first = load(old, release="first-event").items["release"].tolist()
    assert first == [978300100, 978300760, 978300760]


def test_the_stray_user_of_a_common_copy_of_100k_is_left_out(tmp_path):
    """Rows of a user 0, which MovieLens 100K never had, are left out and said; other logs keep a user 0."""
    stray = SMALL_100K | {"u.data": b"0\t50\t5\t881250949\n" + SMALL_100K["u.data"]}
    log = load(_folder(tmp_path / "ml", stray))
    _check(log)
    assert "left out 1 row of user 0" in log.report.text()
    (tmp_path / "own.csv").write_text("user,item,time\n0,1,5\n1,1,6\n")
    assert load(tmp_path / "own.csv").users["id"].tolist() == [0, 1]


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
USUAL = ("user,item,time,value\n", ",", {})
OTHERS = {
    "log.csv": ("visitor_id,SKU,Event Time,score\n", ",", {}),
    "log.tsv": ("user_id:token\titem_id:token\ttimestamp:float\trating:float\n", "\t", {}),
    "semicolons.csv": ("uid;article;ts;stars\n", ";", {}),
    "bars.txt": ("user|item|time|value\n", "|", {}),
    "colons.txt": ("user::item::time::value\n", "::", {}),
    "odd.csv": ("a^b^c^d\n", "^", {"separator": "^", "columns": "user=a,item=b,time=c,value=d"}),
    "bare.csv": ("", ",", {"columns": "user,item,time,value"}),
    "numbered.csv": ("", ",", {"columns": "time=3,user=1,item=2,value=4"}),
} | {f"log.csv{ending}": USUAL for ending in PACKED}


@pytest.mark.parametrize("name", OTHERS)
def test_logs_of_other_people_are_read(tmp_path, name):
    """Usual names in any writing, named columns, positions, usual separators and packed files give the same log."""
    header, separator, options = OTHERS[name]
    rows = [separator.join(map(str, (user, item, time, value))) for user, item, value, time in EVENTS]
    pack = PACKED.get(Path(name).suffix, bytes)
    text = header + "\n".join(rows)
    (tmp_path / name).write_bytes(pack(text.encode()))
    expected = load(_folder(tmp_path / "ml", {"ratings.csv": _csv()["ratings.csv"]}))
    same_log(load(tmp_path / name, **options), expected)


@pytest.mark.parametrize(
    "times",
    [
        ["2001-01-01T00:00:00Z", "2001-01-01 00:00:01.5+00:00"],
        ["2001-01-01", "2001-01-01T00:00:01.5"],
        ["978307200", "978307201.5"],
        ["978307200000", "978307201500"],
        ["978307200000000", "978307201500000"],
        ["978307200000000000", "978307201500000000"],
        ["2001-01-01T02:00:00+02:00", "2001-01-01T00:00:01.500000Z"],
    ],
)
def test_times_in_any_unit_are_seconds(tmp_path, times):
    """Seconds, milli-, micro- and nanoseconds and ISO dates with and without zones name the same instants."""
    rows = (f"u,{n},{time}\n" for n, time in enumerate(times))
    (tmp_path / "a.csv").write_text("user,item,time\n" + "".join(rows))
    assert load(tmp_path / "a.csv").time.tolist() == [978307200, 978307201.5]


def test_dates_written_as_numbers_are_dates(tmp_path):
    """20150131 is the last of January 2015, not a second of August 1970; seconds of 1970 stay seconds."""
    text = "user,item,time\na,x,20150131\nb,y,20160229\n"
    (tmp_path / "a.csv").write_text(text)
    pd.read_csv(tmp_path / "a.csv").to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        log = load(tmp_path / name)
        assert (log.time.tolist(), log.report.time_unit) == ([1422662400, 1456704000], "yyyymmdd")
    assert load(tmp_path / "a.csv", time_unit="s").time.tolist() == [20150131, 20160229]
    (tmp_path / "b.csv").write_text(text + "c,z,20150230\n")
    wrong = "2 times are dates such as 20150131, but 1 are not, such as 20150230"
    refused(DataError, wrong, load, tmp_path / "b.csv")
    rows = "".join(f"a,{n},{19_700_000 + n}\n" for n in range(500))
    (tmp_path / "c.csv").write_text("user,item,time\n" + rows)
    assert load(tmp_path / "c.csv").time[0] == 19_700_000


@cases(
    "texts ids",
    (["7", "10", "-3"], [-3, 7, 10]),
    (["7", "07", "10"], ["07", "10", "7"]),
    (["a", "B", "é"], ["B", "a", "é"]),
    (["9223372036854775807", "1"], [1, 9223372036854775807]),
    (["9223372036854775808", "1"], ["1", "9223372036854775808"]),
    (["1.0", "2"], ["1.0", "2"]),
    ([" x y ", "z"], ["x y", "z"]),
)
def test_ids_of_any_type_are_kept(tmp_path, texts, ids):
    """Ids are whole numbers, sorted by size, if all are written so; else the texts, sorted by code points."""
    (tmp_path / "a.csv").write_text("user,item,time\n" + "".join(f"{text},1,5\n" for text in texts))
    pd.DataFrame({"user": texts, "item": 1, "time": 5}).to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        assert load(tmp_path / name).users["id"].tolist() == ids


def test_a_table_of_items_can_be_given(tmp_path):
    """Any log takes titles, genres, years and release times from a file of items."""
    (tmp_path / "log.csv").write_text("user,item,time\na,x,500\nb,y,600\n")
    (tmp_path / "items.csv").write_text("id,title,genre,year,release\nx,Ex,Fun,1990,400\ny,Why,,,\n")
    log = load(tmp_path / "log.csv", items=tmp_path / "items.csv")
    assert (log.items["title"].tolist(), log.items["release"].tolist()) == (["Ex", "Why"], [400, 0])
    assert log.items["genres"].tolist() == ["Fun", ""]


def test_columns_of_the_events_can_name_the_items(tmp_path):
    """Titles, genres and years that stand beside each event make the item table, in any order of rows."""
    rows = ["a,1,x,Ex (1990),Fun", "b,2,y,,", "c,3,x,Ex (1990),Fun", "c,4,y,Why,Sad"]
    for number, order in enumerate((rows, rows[::-1])):
        path = tmp_path / f"{number}.csv"
        path.write_text("user,time,item,title,genres\n" + "\n".join(order) + "\n")
        pd.read_csv(path).to_parquet(path.with_suffix(".parquet"))
        for name in (path, path.with_suffix(".parquet")):
            log = load(name)
            assert log.items["title"].tolist() == ["Ex", "Why"]
            assert log.items["genres"].tolist() == ["Fun", "Sad"]
            assert log.items["year"].tolist()[0] == 1990
    (tmp_path / "bad.csv").write_text("user,time,item,year\na,1,x,soon\n")
    refused(DataError, "item 'x': year is 'soon'", load, tmp_path / "bad.csv")


def test_a_member_of_a_zip_can_be_named(tmp_path):
    """A zip with two logs is refused by listing them, and either can be read by its path."""
    members = ("a/ratings.csv", _csv()["ratings.csv"]), ("b/ratings.dat", _dat()["ratings.dat"])
    two = zipped(tmp_path / "two.zip", *members)
    refused(DataError, r"more than one log.*a/ratings.csv, b/ratings.dat", load, two)
    assert len(load(two / "b/ratings.dat")) == len(EVENTS)


def test_the_embedded_log_is_complete():
    """The log that ships with rimsim has the counts of its notice, films titles and genres; its description says so."""
    log = load()
    assert (len(log), log.n_users, log.n_items) == (100_004, 671, 9_066)
    assert (log.items["title"][0], log.items["year"][0]) == ("Toy Story", 1995)
    assert log.items["genres"][0].split("|")[0] == "Adventure"
    assert ((log.items["title"] == "").sum(), log.value.min()) == (5, 0.5)
    text = check().text()
    counts = ("671", "9,066", "100,004", "1995-01-09", "2016-10-16", "Gini 0.719")
    assert [part for part in (*counts, "rimsim can", "follow genres") if part not in text] == []


@cases(
    "options message",
    ({"min_item_events": -1}, "load: field 'min_item_events' is -1. It must be greater than or equal to 0"),
    ({"release": "never"}, "field 'release' is 'never'. Use one of first-event, given, year"),
    ({"time_unit": "hours"}, "time_unit is 'hours'"),
    ({"start": "yesterday"}, "field 'start': the time is 'yesterday'"),
    ({"columns": "user,item"}, "does not name time"),
    ({"columns": ["user", "item"]}, "columns is .'user', 'item'.. Expected text"),
)
def test_an_option_that_is_none_is_refused(options, message):
    """Options outside their range are named with what they may be."""
    refused(ConfigError, message, load, **options)


@pytest.mark.skipif("RIMSIM_DEV_DATA" not in os.environ, reason="needs a folder of larger logs")
def test_movielens_1m_positives_are_read():
    """The development copy of MovieLens 1M has the counts of its own description."""
    log = load(Path(os.environ["RIMSIM_DEV_DATA"]) / "ml-1m-positives.zip")
    assert (len(log), log.n_users, log.n_items) == (575_281, 6_038, 3_533)


KUAIREC = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
KUAIRAND = "user_id,video_id,date,hourmin,time_ms,is_click,is_like,long_view,play_time_ms,is_rand,tab\n"


def answers(table: ObservedTable) -> list[tuple[object, object, float]]:
    """The answers of a table by their ids."""
    users = table.users[table.user].tolist()
    items = table.items[table.item].tolist()
    return list(zip(users, items, table.value.tolist(), strict=True))


ROWS_KUAIREC = (
    "14,148,4381,6067,2020-07-05 05:27:48.378,20200705,1593898068.378,0.722\n"
    "14,183,11635,6100,,,,1.9\n"
    "9,148,0,6067,2020-07-05 05:28:00.057,20200705,1593898080.057,0\n"
)
ROWS_KUAIRAND = (
    "0,7,20220422,1200,1650600000000,1,0,0,900,1,1\n"
    "0,3,20220422,1201,1650600060000,0,0,1,9000,1,1\n"
    "0,3,20220421,1201,1650500060000,1,0,0,100,1,1\n"
)
YAHOO = "ydata-ymusic-rating-study-v1_0"
SOURCES = {
    "small_matrix.csv": KUAIREC + ROWS_KUAIREC,
    "big_matrix.csv": KUAIREC + ROWS_KUAIREC,
    "user_features.csv": "user_id\n14\n",
    "log_random_4_22_to_5_08_1k.csv": KUAIRAND + ROWS_KUAIRAND,
    "log_standard_4_22_to_5_08_1k.csv": KUAIRAND + ROWS_KUAIRAND,
    "test.ascii": "0 5 0\n1 0 0\n",
    "train.ascii": "3 0 0\n0 0 4\n",
    f"{YAHOO}-train.txt": "1\t14\t5\n",
    f"{YAHOO}-test.txt": "1\t49\t1\n2\t126\t3\n",
}
ANSWERED = [(9, 148, 0.0), (14, 148, 0.722), (14, 183, 1.9)]


@cases(
    "kind place options expected shown time",
    ("small big user", "", {}, ANSWERED, True, [1593898080.057, 1593898068.378, np.nan]),
    ("small big", "big_matrix.csv", {}, ANSWERED, False, [1593898080.057, 1593898068.378, np.nan]),
    ("log", "", {}, [(0, 3, 1.0), (0, 7, 1.0)], True, [1650500060, 1650600000]),
    ("log", "", {"value": "play_time_ms"}, [(0, 3, 100.0), (0, 7, 900.0)], True, [1650500060, 1650600000]),
    ("test train", "", {}, [(0, 1, 5.0), (1, 0, 1.0)], True, None),
    ("test train", "train.ascii", {}, [(0, 0, 3.0), (1, 2, 4.0)], False, None),
    ("ydata", "", {}, [(1, 49, 1.0), (2, 126, 3.0)], True, None),
)
@pytest.mark.parametrize("packed", [False, True])
def test_known_tables_are_read_by_their_files(tmp_path, kind, place, options, expected, shown, time, packed):
    """Of a folder or a zip, the file that was shown at random is the table; a missing time or a zero is no answer."""
    members = [(name, text) for name, text in SOURCES.items() if name.startswith(tuple(kind.split()))]
    if packed:
        zipped(tmp_path / "data.zip", *members, folder="inside/")
    else:
        _folder(tmp_path / "data", {name: text.encode() for name, text in members})
    source = tmp_path / ("data.zip/inside" if packed and place else "data.zip" if packed else "data")
    table = load_observed(source / place, **options)
    assert (answers(table), table.shown_at_random) == (expected, shown)
    assert (table.time is None) == (time is None)
    if time is not None:
        np.testing.assert_array_equal(table.time, time)
    if kind == "small big user":
        assert (table.layout, table.dense) == ("KuaiRec small matrix", 0.75)
    assert table.repeated == (kind == "log")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_plain_table_is_the_same_in_text_and_parquet(tmp_path, ending):
    """A header with usual names says which column is which; a full table counts as one without selection."""
    table = {"customer": ["b", "b", "a", "a"], "sku": [2, 1, 2, 1], "rating": [0.5, 1.0, 0.25, 0.0], "n": 1}
    frame = pd.DataFrame(table)
    path = tmp_path / f"liked.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    table = load_observed(path)
    assert answers(table) == [("a", 1, 0.0), ("a", 2, 0.25), ("b", 1, 1.0), ("b", 2, 0.5)]
    assert table.shown_at_random
    assert table.time is None
    assert not load_observed(path, shown_at_random=False).shown_at_random
    named = load_observed(path, columns="user=customer,item=sku,value=n")
    assert named.value.tolist() == [1.0] * 4


def test_columns_by_position_need_no_header(tmp_path):
    """A table without a header is read by positions, with times in the unit that fits; ISO dates may be missing."""
    path = tmp_path / "bare.txt"
    path.write_text("ann;tea;1;1714557600000\nbob;tea;0;1714557601000\n")
    table = load_observed(path, columns="user,item,value,time")
    assert answers(table) == [("ann", "tea", 1.0), ("bob", "tea", 0.0)]
    assert table.time.tolist() == [1714557600, 1714557601]
    path.write_text("user,item,value,time\nann,tea,1,\nann,milk,1,1970-01-02\n")
    np.testing.assert_array_equal(load_observed(path).time, [86_400, np.nan])


@cases(
    "name text message",
    ("t.csv", "user,item,value\na,b,much\n", r"t.csv, line 2: value \(column 'value'\) is 'much'. Expected"),
    ("t.csv", "user,item,value\na,b,1\na,,1\n", r"t.csv, line 3: item .* missing value. Expected"),
    ("t.csv", "user,item,value\na,b\n", r"line 2: the line has 2 fields. Expected 3"),
    ("t.csv", "user,item,value,time\na,b,1,soon\na,b,1,5\n", r"line 2: time .*'soon'. Expected"),
    ("t.csv", "user,item,value\n", r"no answers"),
    ("t.csv", "", r"no answers"),
    ("t.csv", "user,thing,value\na,b,1\n", r"line 1: no column for the item was found among 'user', 'thing'"),
    ("t.csv", "1,2,3\n", r"looks like data.*columns='user,item,value'"),
    ("t.csv", "user\n1\n", r"has 1 fields. Expected at least user, item and value"),
    ("test.ascii", "0 1\n6 0\n", r"test.ascii, line 2: column 1 is '6'. Expected finite numbers up to 5"),
    ("test.ascii", "0 1\n1 0 2\n", r"line 2: the line has 3 fields. Expected 2"),
    ("test.ascii", "0 x\n", r"line 1: column 2 is 'x'. Expected"),
    ("test.ascii", "0 0\n", r"no answers"),
    ("small_matrix.csv", "user_id,video_id,ratio\n1,2,3\n", r"no column 'watch_ratio' to read the value"),
    ("log_random_1k.csv", KUAIRAND + "0,7,1,1,1650600000000,2,0,0,9,1,1\n", r"value .*'2'. Expected"),
    ("ydata-ymusic-rating-study-v1_0-test.txt", "1\t2\t9\n", r"line 1: value .* is '9'. Expected"),
)
def test_bad_tables_are_refused_by_line(tmp_path, name, text, message):
    """The error names file, line and field, what was found and what is allowed."""
    (tmp_path / name).write_text(text)
    refused(DataError, message, load_observed, tmp_path / name)


def test_containers_without_one_table_are_refused(tmp_path):
    """A folder with nothing, or with several tables, is refused with what is in it."""
    refused(DataError, "no observed table in it. Expected", load_observed, tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("user,item,value\na,b,1\n")
    refused(DataError, r"more than one observed table \(a.csv, b.csv\)", load_observed, tmp_path)
    refused(DataError, "no such file or folder", load_observed, tmp_path / "c.csv")
    table = tmp_path / "a.csv"
    columns = "user=user,item=item"
    refused(ConfigError, "does not name value", load_observed, table, columns=columns)
    value_named_twice = {"columns": f"{columns},value=value", "value": "item"}
    refused(
        ConfigError,
        "two columns are given for the value of an answer, 'item' by value=",
        load_observed,
        table,
        **value_named_twice,
    )


def test_a_table_takes_the_numbers_of_a_log(tmp_path):
    """Matching is by the text of ids; strangers fall out, and a table of strangers alone is refused."""
    (tmp_path / "log.csv").write_text("user,item,time\n7,x,1\n7,y,2\nann,x,3\n")
    (tmp_path / "t.csv").write_text("user,item,value\n7,y,0.5\n7,z,1\n8,x,1\n7,x,0.25\n")
    log = load(tmp_path / "log.csv")
    table = load_observed(tmp_path / "t.csv").matched(log)
    assert (answers(table), table.user.tolist()) == ([("7", "x", 0.25), ("7", "y", 0.5)], [0, 0])
    assert len(table.users) == log.n_users
    (tmp_path / "u.csv").write_text("user,item,value\n9,y,0.5\n")
    message = "no answer belongs to a user and an item of the log. It has users such as '9'"
    refused(DataError, message, load_observed(tmp_path / "u.csv").matched, log)


def test_a_log_is_cut_to_what_a_table_knows(tmp_path):
    """Events of users or items without an answer fall out, and what is left is a log that can be written."""
    rows = "a,x,1,3\nb,x,2,3\nb,y,3,4\nc,y,4,3\nb,w,5,5\nc,x,6,1\n"
    (tmp_path / "log.csv").write_text("user,item,time,value\n" + rows)
    (tmp_path / "t.csv").write_text("user,item,value\nb,y,1\nc,x,0\nc,z,1\nd,w,1\n")
    table = load_observed(tmp_path / "t.csv")
    log = table.known_part(load(tmp_path / "log.csv"))
    events = zip(log.users["id"][log.user], log.items["id"][log.item], log.value.tolist(), strict=True)
    assert list(events) == [("b", "x", 3), ("b", "y", 4), ("c", "y", 3), ("c", "x", 1)]
    write(log, tmp_path / "part")
    loaded = load(tmp_path / "part")
    same_arrays(loaded, log, "user", "item")
    only = dataclasses.replace(table, user=table.user[:1], item=table.item[:1], value=table.value[:1])
    assert len(only.known_part(load(tmp_path / "log.csv"))) == 1


def test_a_table_can_be_the_log(tmp_path):
    """What reaches the threshold is an event; without times each event of a user is a session of its own."""
    (tmp_path / "train.ascii").write_text("3 5 4\n0 2 4\n")
    log = load_observed(tmp_path / "train.ascii").as_log(4)
    assert sorted(zip(log.user.tolist(), log.item.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2)]
    assert len(log.sessions("30min")) == 3
    assert (np.diff(log.time) >= 0).all()
    message = "no value is at least 6. Expected a number of at most 5"
    refused(DataError, message, load_observed(tmp_path / "train.ascii").as_log, 6)


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
    b"who,what,moment\n1,2,3\n": "line 1: no column for the user and the item and the time was found",
    b"user,item\n1,2\n": "no column for the time was found .*. Usual names for the time are timestamp",
    b"user,item,time,item\n1,2,3,4\n": "line 1: column 'item' occurs twice",
    b'{"user": 1, "item": 2, "time": 3}\n': "line 1: .* looks like JSON. Expected CSV",
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


LETTERS = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters="\x85")
TEXTS = st.text(LETTERS, min_size=1, max_size=6).filter(lambda text: text.strip() == text not in MISSING)
WHOLE = st.integers(-(2**63), 2**63 - 1)
IDS = st.one_of(st.lists(WHOLE, min_size=1, max_size=5), st.lists(TEXTS, min_size=1, max_size=5))
SOME = st.sampled_from([0, 978300760])
TIMES = st.one_of(st.integers(0, 2**33), st.floats(0, 2**33, allow_subnormal=False), SOME)
VALUES = st.floats(0, 2.0**120, width=32, allow_subnormal=False)


@st.composite
def frames(draw):
    """Events with ids of either type, ties, repeats and values of any size."""
    row = st.tuples(st.sampled_from(draw(IDS)), st.sampled_from(draw(IDS)), TIMES, VALUES)
    rows = draw(st.lists(row, min_size=1, max_size=25))
    return pd.DataFrame(rows, columns=["user", "item", "timestamp", "value"])


def _loaded(folder, frame, suffix):
    path = Path(folder) / f"log{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep={".csv": ",", ".tsv": "\t"}[suffix])
    return load(path, time_unit="s")


@settings(max_examples=60)
@given(frames(), st.randoms(use_true_random=False))
def test_a_log_is_sorted_and_complete_whatever_the_container_and_the_order_of_rows(frame, chance):
    """CSV, TSV and Parquet in any order give one log, by (time, user, item, value), that is the source's rows."""
    order = list(range(len(frame)))
    chance.shuffle(order)
    with tempfile.TemporaryDirectory() as folder:
        log = _loaded(folder, frame, ".csv")
        for suffix in (".tsv", ".parquet"):
            same_log(log, _loaded(folder, frame, suffix))
            same_log(log, _loaded(folder, frame.iloc[order], suffix))
    rows = list(zip(log.time, log.user, log.item, log.value, strict=True))
    assert rows == sorted(rows)
    users = log.users["id"].tolist()
    items = log.items["id"].tolist()
    assert users == sorted(set(users))
    read = sorted((str(users[u]), str(items[i]), float(t), float(v)) for t, u, i, v in rows)
    source_rows = frame.itertuples(index=False)
    assert read == sorted((str(u), str(i), float(t), float(np.float32(v))) for u, i, t, v in source_rows)


@settings(max_examples=40)
@given(frames())
def test_write_then_load_gives_the_log_back(frame):
    """A log comes back from a CSV, TSV and Parquet file, and from a folder with its tables."""
    with tempfile.TemporaryDirectory() as folder:
        log = _loaded(folder, frame, ".csv")
        log.items["title"] = [f"Title, {number}" for number in range(log.n_items)]
        log.items["genres"] = "A|B"
        log.items["year"] = pd.array([1990] * log.n_items, "Int64")
        log.items["release"] = np.arange(log.n_items) / 2
        for name in ("a.csv", "a.tsv", "a.parquet", "whole"):
            write(log, Path(folder) / name)
        year = pd.array([None] * log.n_items, "Int64")
        bare = log.items.assign(title="", genres="", year=year, release=0.0)
        for name in ("a.csv", "a.tsv", "a.parquet"):
            same_log(load(Path(folder) / name, time_unit="s"), dataclasses.replace(log, items=bare))
        same_log(load(Path(folder) / "whole", time_unit="s"), log)
        written = {path.name for path in Path(folder).iterdir()}
        assert written == {"a.csv", "a.parquet", "a.tsv", "log.csv", "whole"}


def test_a_folder_keeps_what_has_no_events(tmp_path):
    """Items and users without events come back from a folder if they are asked for."""
    log = load(min_item_events=30)
    early = log.before(float(np.median(log.time)))
    write(early, tmp_path / "early")
    same_log(load(tmp_path / "early", min_item_events=0, min_user_events=0), early)
    assert load(tmp_path / "early").n_users < log.n_users


def test_writing_is_whole_or_not_at_all(tmp_path):
    """A log that could not be read again, or a folder that is there, leaves nothing behind."""
    (tmp_path / "log.csv").write_text("user,item,time\na,x,1\n")
    log = load(tmp_path / "log.csv")
    bad = dataclasses.replace(log, users=pd.DataFrame({"id": ["two\nlines"]}))
    refused(DataError, "would change on reading", write, bad, tmp_path / "bad.csv")
    refused(DataError, "exists already", write, log, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


@settings(max_examples=40)
@given(frames(), st.sampled_from([2, 3]), st.sampled_from([2, 3]))
def test_both_minima_hold_and_nothing_more_is_lost(frame, least_item, least_user):
    """What is kept is the largest part of the log in which every item and every user has its minimum."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        frame.to_parquet(path)
        remaining = frame.astype({"user": str, "item": str})
        while True:
            items = remaining["item"].value_counts()
            users = remaining["user"].value_counts()
            frequent = remaining[
                (remaining["item"].map(items) >= least_item) & (remaining["user"].map(users) >= least_user)
            ]
            if len(frequent) == len(remaining):
                break
            remaining = frequent
        options = {"min_item_events": least_item, "min_user_events": least_user, "time_unit": "s"}
        if remaining.empty:
            refused(DataError, "removes all", load, path, **options)
            return
        log = load(path, **options)
    assert len(log) == len(remaining)
    assert np.bincount(log.item).min() >= least_item
    assert np.bincount(log.user).min() >= least_user


def test_mutated_input_ends_in_a_log_or_in_an_error_of_ours(tmp_path, script):
    """Seeded mutations of every kind of file never end in a foreign traceback or a stray file."""
    count = script("fuzz_data").run(tmp_path, inputs=800, seed=1)
    assert count.logs + count.errors == 800
    assert min(count.logs, count.errors) > 50
    assert list(tmp_path.iterdir()) == []
