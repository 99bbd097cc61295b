"""Layouts of MovieLens and logs of other people, which all give the same log; and the embedded log."""

import bz2
import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
from kit import refused, same_log, zipped

from rimsim.data import check, load
from rimsim.errors import DataError

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


@pytest.mark.skipif("RIMSIM_DEV_DATA" not in os.environ, reason="needs a folder of larger logs")
def test_movielens_1m_positives_are_read():
    """The development copy of MovieLens 1M has the counts of its own description."""
    log = load(Path(os.environ["RIMSIM_DEV_DATA"]) / "ml-1m-positives.zip")
    assert (len(log), log.n_users, log.n_items) == (575_281, 6_038, 3_533)
