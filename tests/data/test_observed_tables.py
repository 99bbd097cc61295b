"""Observed tables: the answers of each known data set, their matching to a log, and refusals."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused, same_arrays, zipped

from rimsim.data import ObservedTable, load, load_observed, write
from rimsim.errors import ConfigError, DataError

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
        (tmp_path / "data").mkdir()
        for name, text in members:
            (tmp_path / "data" / name).write_text(text)
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
