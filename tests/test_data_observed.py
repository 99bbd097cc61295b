"""Observed tables: every layout gives the answers that were written, and bad ones are refused by file and line."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit import refused, zipped

from rimsim.data import ObservedTable, load, load_observed, write
from rimsim.errors import ConfigError, DataError

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
    assert table.time.tolist() == [1650500060, 1650600000]
    assert table.repeated == 1
    watched = load_observed(tmp_path / "KuaiRand-1K.zip", value="play_time_ms")
    assert answers(watched) == [(0, 3, 100.0), (0, 7, 900.0)]


def test_coat_is_the_matrix_of_random_coats(tmp_path):
    """Rows and columns of the matrix, from 0, are users and items; a zero is no answer."""
    (tmp_path / "test.ascii").write_text("0 5 0\n1 0 0\n")
    (tmp_path / "train.ascii").write_text("3 0 0\n0 0 4\n")
    table = load_observed(tmp_path)
    assert answers(table) == [(0, 1, 5.0), (1, 0, 1.0)]
    assert table.shown_at_random
    assert table.time is None
    chosen = load_observed(tmp_path / "train.ascii")
    assert answers(chosen) == [(0, 0, 3.0), (1, 2, 4.0)]
    assert not chosen.shown_at_random


def test_yahoo_is_the_random_songs(tmp_path):
    """Users, songs and ratings stand between tabs, without a header."""
    (tmp_path / "ydata-ymusic-rating-study-v1_0-train.txt").write_text("1\t14\t5\n")
    (tmp_path / "ydata-ymusic-rating-study-v1_0-test.txt").write_text("1\t49\t1\n2\t126\t3\n")
    table = load_observed(tmp_path)
    assert answers(table) == [(1, 49, 1.0), (2, 126, 3.0)]
    assert table.shown_at_random


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_plain_table_is_the_same_in_text_and_parquet(tmp_path, ending):
    """A header with usual names says which column is which; a full table counts as one without selection."""
    frame = pd.DataFrame(
        {"customer": ["b", "b", "a", "a"], "sku": [2, 1, 2, 1], "rating": [0.5, 1.0, 0.25, 0.0], "n": 1}
    )
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
    ("t.csv", "user,item,value\na,b,1\na,,1\n", r"t.csv, line 3: item .* missing; allowed"),
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
    assert answers(table) == [("7", "x", 0.25), ("7", "y", 0.5)]
    assert table.user.tolist() == [0, 0]
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
    with pytest.raises(DataError, match="no value is at least 6; allowed: at most 5"):
        load_observed(tmp_path / "train.ascii").as_log(6)
