"""Every layout of MovieLens, and logs of other people, give the same log; every observed table gives its answers."""

import bz2
import dataclasses
import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused, same_log, zipped

from rimsim.data import ObservedTable, check, load, load_observed, write
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
    files, there = LAYOUTS[name].items(), tmp_path / "zips"
    zips = [zipped(there / "ml.zip", *files), zipped(there / "aml.zip", *files, folder="a/")]
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
    assert "left out 1 rows of user 0" in log.report.text()
    (tmp_path / "own.csv").write_text("user,item,time\n0,1,5\n1,1,6\n")
    assert load(tmp_path / "own.csv").users["id"].tolist() == [0, 1]


OTHERS = {
    "log.csv": ("visitor_id,SKU,Event Time,score\n", ",", {}),
    "log.tsv": ("user_id:token\titem_id:token\ttimestamp:float\trating:float\n", "\t", {}),
    "semicolons.csv": ("uid;article;ts;stars\n", ";", {}),
    "bars.txt": ("user|item|time|value\n", "|", {}),
    "colons.txt": ("user::item::time::value\n", "::", {}),
    "odd.csv": ("a^b^c^d\n", "^", {"separator": "^", "columns": "user=a,item=b,time=c,value=d"}),
    "bare.csv": ("", ",", {"columns": "user,item,time,value"}),
    "numbered.csv": ("", ",", {"columns": "time=3,user=1,item=2,value=4"}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_logs_of_other_people_are_read(tmp_path, name):
    """Usual names in any writing, named columns, positions, and every usual separator give the same log."""
    header, separator, options = OTHERS[name]
    rows = [separator.join(map(str, (user, item, time, value))) for user, item, value, time in EVENTS]
    (tmp_path / name).write_text(header + "\n".join(rows))
    expected = load(_folder(tmp_path / "ml", {"ratings.csv": _csv()["ratings.csv"]}))
    same_log(load(tmp_path / name, **options), expected)


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_packed_files_are_read(tmp_path, module):
    """A file packed by gzip, bzip2 or xz is the file."""
    path = tmp_path / f"log.csv.{({gzip: 'gz', bz2: 'bz2', lzma: 'xz'})[module]}"
    path.write_bytes(module.compress(_csv()["ratings.csv"]))
    assert len(load(path)) == len(EVENTS)


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


def test_an_option_that_is_none_is_refused():
    """Options outside their range are named with what they may be."""
    for options, message in (
        ({"min_item_events": -1}, "load: field 'min_item_events' is -1; allowed: greater than or equal to 0"),
        ({"release": "never"}, "field 'release' is 'never'. Allowed: first-event, given, year"),
        ({"time_unit": "hours"}, "time_unit is 'hours'"),
        ({"start": "yesterday"}, "field 'start': the time is 'yesterday'"),
        ({"columns": "user,item"}, "says nothing of time"),
        ({"columns": ["user", "item"]}, "columns is .'user', 'item'.; allowed: text"),
    ):
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
    users, items = table.users[table.user].tolist(), table.items[table.item].tolist()
    return list(zip(users, items, table.value.tolist(), strict=True))


def test_kuairec_is_the_small_matrix_of_a_folder(tmp_path):
    """The small matrix is read beside the big one; a missing time is unknown, and the share of a video is the value."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = (
        "14,148,4381,6067,2020-07-05 05:27:48.378,20200705,1593898068.378,0.722\n"
        "14,183,11635,6100,,,,1.9\n"
        "9,148,0,6067,2020-07-05 05:28:00.057,20200705,1593898080.057,0\n"
    )
    (folder / "small_matrix.csv").write_text(KUAIREC + rows)
    (folder / "big_matrix.csv").write_text(KUAIREC + rows)
    (folder / "user_features.csv").write_text("user_id\n14\n")
    table = load_observed(tmp_path)
    assert table.layout == "KuaiRec small matrix"
    assert table.shown_at_random
    assert answers(table) == [(9, 148, 0.0), (14, 148, 0.722), (14, 183, 1.9)]
    np.testing.assert_array_equal(table.time, [1593898080.057, 1593898068.378, np.nan])
    assert table.dense == 0.75
    assert not load_observed(folder / "big_matrix.csv").shown_at_random


def test_kuairand_is_the_random_log_of_a_zip(tmp_path):
    """Clicks on random videos are read from a zip, with times in milliseconds; another answer can be asked for."""
    rows = (
        "0,7,20220422,1200,1650600000000,1,0,0,900,1,1\n"
        "0,3,20220422,1201,1650600060000,0,0,1,9000,1,1\n"
        "0,3,20220421,1201,1650500060000,1,0,0,100,1,1\n"
    )
    names = ("log_random_4_22_to_5_08_1k.csv", "log_standard_4_22_to_5_08_1k.csv")
    members = [(name, KUAIRAND + rows) for name in names]
    table = load_observed(zipped(tmp_path / "KuaiRand-1K.zip", *members, folder="KuaiRand-1K/data/"))
    assert table.shown_at_random
    assert answers(table) == [(0, 3, 1.0), (0, 7, 1.0)]
    assert (table.time.tolist(), table.repeated) == ([1650500060, 1650600000], 1)
    watched = load_observed(tmp_path / "KuaiRand-1K.zip", value="play_time_ms")
    assert answers(watched) == [(0, 3, 100.0), (0, 7, 900.0)]


def test_coat_and_yahoo_are_what_was_shown_at_random(tmp_path):
    """Rows and columns of Coat's matrix, from 0, are users and items, and a zero is no answer; Yahoo has tabs."""
    coat, yahoo = tmp_path / "coat", tmp_path / "yahoo"
    _folder(coat, {"test.ascii": b"0 5 0\n1 0 0\n", "train.ascii": b"3 0 0\n0 0 4\n"})
    table = load_observed(coat)
    assert answers(table) == [(0, 1, 5.0), (1, 0, 1.0)]
    assert table.shown_at_random
    assert table.time is None
    chosen = load_observed(coat / "train.ascii")
    assert answers(chosen) == [(0, 0, 3.0), (1, 2, 4.0)]
    assert not chosen.shown_at_random
    rows = {"train": b"1\t14\t5\n", "test": b"1\t49\t1\n2\t126\t3\n"}
    _folder(yahoo, {f"ydata-ymusic-rating-study-v1_0-{part}.txt": text for part, text in rows.items()})
    table = load_observed(yahoo)
    assert answers(table) == [(1, 49, 1.0), (2, 126, 3.0)]
    assert table.shown_at_random


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


BAD_TABLES = [
    ("t.csv", "user,item,value\na,b,much\n", r"t.csv, line 2: value \(column 'value'\) is 'much'; allowed"),
    ("t.csv", "user,item,value\na,b,1\na,,1\n", r"t.csv, line 3: item .* missing value; allowed"),
    ("t.csv", "user,item,value\na,b\n", r"line 2: has 2 fields; allowed: 3"),
    ("t.csv", "user,item,value,time\na,b,1,soon\na,b,1,5\n", r"line 2: time .*'soon'; allowed"),
    ("t.csv", "user,item,value\n", r"no answers"),
    ("t.csv", "", r"no answers"),
    ("t.csv", "user,thing,value\na,b,1\n", r"line 1: no column for the item; found 'user', 'thing'"),
    ("t.csv", "1,2,3\n", r"looks like data.*columns='user,item,value'"),
    ("t.csv", "user\n1\n", r"has 1 fields; allowed: at least user, item and value"),
    ("test.ascii", "0 1\n6 0\n", r"test.ascii, line 2: column 1 is '6'; allowed: finite numbers up to 5"),
    ("test.ascii", "0 1\n1 0 2\n", r"line 2: has 3 fields; allowed: 2"),
    ("test.ascii", "0 x\n", r"line 1: column 2 is 'x'; allowed"),
    ("test.ascii", "0 0\n", r"no answers"),
    ("small_matrix.csv", "user_id,video_id,ratio\n1,2,3\n", r"no column 'watch_ratio' for the value"),
    ("log_random_1k.csv", KUAIRAND + "0,7,1,1,1650600000000,2,0,0,9,1,1\n", r"value .*'2'; allowed"),
    ("ydata-ymusic-rating-study-v1_0-test.txt", "1\t2\t9\n", r"line 1: value .* is '9'; allowed"),
]


@pytest.mark.parametrize(("name", "text", "said"), BAD_TABLES)
def test_bad_tables_are_refused_by_line(tmp_path, name, text, said):
    """The error names file, line and field, what was found and what is allowed."""
    (tmp_path / name).write_text(text)
    refused(DataError, said, load_observed, tmp_path / name)


def test_bad_parquet_is_refused_by_row(tmp_path):
    """A value that is no number, and a type that can be none, are named with their column."""
    path = tmp_path / "t.parquet"
    pd.DataFrame({"user": [1, 2], "item": [1, 2], "value": [1.0, np.nan]}).to_parquet(path)
    message = r"line 2: value \(column 'value'\) is 'None'; allowed: finite numbers"
    refused(DataError, message, load_observed, path)
    pd.DataFrame({"user": [1.5], "item": [1], "value": [1.0]}).to_parquet(path)
    message = r"user \(column 'user'\) is of type double; allowed: whole numbers"
    refused(DataError, message, load_observed, path)


def test_containers_without_one_table_are_refused(tmp_path):
    """A folder with nothing, or with several tables, is refused with what is in it."""
    refused(DataError, "no observed table in it; found nothing", load_observed, tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("user,item,value\na,b,1\n")
    refused(DataError, r"more than one observed table in it \(a.csv, b.csv\)", load_observed, tmp_path)
    refused(DataError, "no such file or folder", load_observed, tmp_path / "c.csv")
    table, columns = tmp_path / "a.csv", "user=user,item=item"
    refused(ConfigError, "says nothing of value", load_observed, table, columns=columns)
    both = {"columns": f"{columns},value=value", "value": "item"}
    refused(ConfigError, "value is 'item', but columns say", load_observed, table, **both)


def test_a_table_takes_the_numbers_of_a_log(tmp_path):
    """Matching is by the text of ids; strangers fall out, and a table of strangers alone is refused."""
    (tmp_path / "log.csv").write_text("user,item,time\n7,x,1\n7,y,2\nann,x,3\n")
    (tmp_path / "t.csv").write_text("user,item,value\n7,y,0.5\n7,z,1\n8,x,1\n7,x,0.25\n")
    log = load(tmp_path / "log.csv")
    table = load_observed(tmp_path / "t.csv").matched(log)
    assert (answers(table), table.user.tolist()) == ([("7", "x", 0.25), ("7", "y", 0.5)], [0, 0])
    assert len(table.users) == log.n_users
    (tmp_path / "u.csv").write_text("user,item,value\n9,y,0.5\n")
    told = "no answer is of a user and an item of the log; found users such as '9'"
    refused(DataError, told, load_observed(tmp_path / "u.csv").matched, log)


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
    again = load(tmp_path / "part")
    np.testing.assert_array_equal(again.user, log.user)
    np.testing.assert_array_equal(again.item, log.item)
    only = dataclasses.replace(table, user=table.user[:1], item=table.item[:1], value=table.value[:1])
    assert len(only.known_part(load(tmp_path / "log.csv"))) == 1


def test_a_table_can_be_the_log(tmp_path):
    """What reaches the threshold is an event; without times each event of a user is a session of its own."""
    (tmp_path / "train.ascii").write_text("3 5 4\n0 2 4\n")
    log = load_observed(tmp_path / "train.ascii").as_log(4)
    assert sorted(zip(log.user.tolist(), log.item.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2)]
    assert len(log.sessions("30min")) == 3
    assert (np.diff(log.time) >= 0).all()
    said = "no value is at least 6; allowed: at most 5"
    refused(DataError, said, load_observed(tmp_path / "train.ascii").as_log, 6)
