"""Every layout of MovieLens, and logs of other people, give the same log."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import refused, same_log, zipped

from rimsim.data import load
from rimsim.errors import ConfigError, DataError

# Four users, three films; ties in time between users, and one user's rows out of order.
EVENTS = [
    (1, 20, 5, 978300760),
    (1, 3, 3, 978300100),
    (2, 20, 4, 978300760),
    (3, 100, 1, 978300760),
    (10, 3, 2, 978400000),
]
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
    films = "movieId,title,genres\n" + "".join(
        f'{key},"{_title(name, year)}",{genres or "(no genres listed)"}\n'
        for key, name, genres, year in FILMS
    )
    return {
        "ratings.csv": ratings.encode(),
        "movies.csv": films.encode(),
        "tags.csv": b"userId,movieId,tag\n",
    }


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
    assert log.users["id"].tolist() == [1, 2, 3, 10]
    assert log.items["id"].tolist() == [3, 20, 100]
    assert log.items["title"].tolist() == ["Café Noir", "Big, the Second", "No Year"]
    assert log.items["genres"].tolist() == ["Drama|Mystery", "Comedy", ""]
    assert log.items["year"].tolist()[:2] == [1994, 1999]
    assert log.items["year"].isna().tolist() == [False, False, True]
    assert log.items["release"].tolist() == [0, 0, 0]
    assert log.user.tolist() == [0, 0, 1, 2, 3]
    assert log.item.tolist() == [0, 1, 1, 2, 0]
    assert log.value.tolist() == [3, 5, 4, 1, 2]
    assert log.time.tolist() == [978300100, 978300760, 978300760, 978300760, 978400000]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_log(tmp_path, name):
    """Ids, titles without years, genres, years, values and ties are the sources', from folder, file of events and zip.

    A folder may be one further up, and a zip may hold a folder; it is read in place and leaves nothing behind.
    """
    folder = _folder(tmp_path / "data" / "ml", LAYOUTS[name])
    log = load(folder)
    assert (log.report.layout, log.report.backwards) == (name, 1)
    (tmp_path / "zips").mkdir()
    zips = [
        zipped(tmp_path / f"zips/{inner}ml.zip", *LAYOUTS[name].items(), folder=inner and f"{inner}/")
        for inner in ("", "a")
    ]
    for read in (log, load(folder / next(iter(LAYOUTS[name]))), load(tmp_path / "data"), *map(load, zips)):
        _check(read)
    assert sorted(path.name for path in (tmp_path / "zips").iterdir()) == ["aml.zip", "ml.zip"]


def test_users_of_100k_and_1m_keep_their_attributes(tmp_path):
    """The tables of users are read where the layout has them; a user without a row has no attributes."""
    old = load(_folder(tmp_path / "old", LAYOUTS["MovieLens 100K"]))
    assert old.users["occupation"].tolist() == ["technician", "other", "writer", "other"]
    new = load(_folder(tmp_path / "new", LAYOUTS["MovieLens 1M"]))
    assert new.users["gender"].tolist()[:2] == ["F", "M"]
    assert new.users["gender"].isna().tolist() == [False, False, True, True]


def test_the_stray_user_of_a_common_copy_of_100k_is_left_out(tmp_path):
    """Rows of a user 0, which MovieLens 100K never had, are left out and said; other logs keep a user 0."""
    stray = SMALL_100K | {"u.data": b"0\t50\t5\t881250949\n" + SMALL_100K["u.data"]}
    log = load(_folder(tmp_path / "ml", stray))
    _check(log)
    assert "left out 1 rows of user 0" in log.report.text()
    (tmp_path / "own.csv").write_text("user,item,time\n0,1,5\n1,1,6\n")
    assert load(tmp_path / "own.csv").users["id"].tolist() == [0, 1]


def test_items_never_met_stay_if_asked(tmp_path):
    """With min_item_events=0 the whole catalogue of the source is there."""
    log = load(_folder(tmp_path / "ml", _csv()), min_item_events=0)
    assert log.items["title"].tolist()[-1] == "Never Met"
    assert np.bincount(log.item, minlength=log.n_items).tolist() == [2, 2, 1, 0]


def test_release_times_follow_dates_and_first_events(tmp_path):
    """An item is released at its stated date if that precedes its first event, else with its first event."""
    folder = _folder(tmp_path / "ml", SMALL_100K)
    stated = load(folder, release="year").items["release"].tolist()
    assert stated == [757382400, 978300760, 0]  # 1 January 1994; stated later than its first event; unknown
    first = load(folder, release="first-event").items["release"].tolist()
    assert first == [978300100, 978300760, 978300760]


OTHERS = {
    "log.csv": ("visitor_id,SKU,Event Time,score\n", ",", {}),
    "log.tsv": ("user_id:token\titem_id:token\ttimestamp:float\trating:float\n", "\t", {}),
    "semicolons.csv": ("uid;article;ts;stars\n", ";", {}),
    "bars.txt": ("user|item|time|value\n", "|", {}),
    "colons.txt": ("user::item::time::value\n", "::", {}),
    "odd.csv": (
        "who^what^when_^how\n",
        "^",
        {"separator": "^", "columns": "user=who,item=what,time=when_,value=how"},
    ),
    "bare.csv": ("", ",", {"columns": "user,item,time,value"}),
    "numbered.csv": ("", ",", {"columns": "time=3,user=1,item=2,value=4"}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_logs_of_other_people_are_read(tmp_path, name):
    """Usual names in any writing, named columns, positions, and every usual separator give the same log."""
    header, separator, options = OTHERS[name]
    rows = "".join(
        separator.join(map(str, (user, item, time, value))) + "\n" for user, item, value, time in EVENTS
    )
    (tmp_path / name).write_text(header + rows)
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
    (tmp_path / "a.csv").write_text(
        "user,item,time\n" + "".join(f"u,{n},{time}\n" for n, time in enumerate(times))
    )
    assert load(tmp_path / "a.csv").time.tolist() == [978307200, 978307201.5]


def test_dates_written_as_numbers_are_dates(tmp_path):
    """20150131 is the last of January 2015, not a second of August 1970; seconds of 1970 stay seconds."""
    text = "user,item,time\na,x,20150131\nb,y,20160229\n"
    (tmp_path / "a.csv").write_text(text)
    pd.read_csv(tmp_path / "a.csv").to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        log = load(tmp_path / name)
        assert log.time.tolist() == [1422662400, 1456704000]
        assert log.report.time_unit == "yyyymmdd"
    assert load(tmp_path / "a.csv", time_unit="s").time.tolist() == [20150131, 20160229]
    (tmp_path / "b.csv").write_text(text + "c,z,20150230\n")
    wrong = "2 times are dates such as 20150131, but 1 are not, such as 20150230"
    refused(DataError, wrong, load, tmp_path / "b.csv")
    rows = "".join(f"a,{n},{19_700_000 + n}\n" for n in range(500))
    (tmp_path / "c.csv").write_text("user,item,time\n" + rows)
    assert load(tmp_path / "c.csv").time[0] == 19_700_000


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        (["7", "10", "-3"], [-3, 7, 10]),
        (["7", "07", "10"], ["07", "10", "7"]),
        (["a", "B", "é"], ["B", "a", "é"]),
        (["9223372036854775807", "1"], [1, 9223372036854775807]),
        (["9223372036854775808", "1"], ["1", "9223372036854775808"]),
        (["1.0", "2"], ["1.0", "2"]),
        ([" x y ", "z"], ["x y", "z"]),
    ],
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
    assert log.items["title"].tolist() == ["Ex", "Why"]
    assert log.items["release"].tolist() == [400, 0]
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
    """The log that ships with rimsim has the counts of its notice, and films have titles and genres."""
    log = load()
    assert (len(log), log.n_users, log.n_items) == (100_004, 671, 9_066)
    assert log.items["title"][0] == "Toy Story"
    assert log.items["year"][0] == 1995
    assert log.items["genres"][0].split("|")[0] == "Adventure"
    assert (log.items["title"] == "").sum() == 5
    assert log.value.min() == 0.5


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
