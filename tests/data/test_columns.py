"""Columns of a log: times in any unit, ids of any type, and items from a table or beside the events."""

import time

import pandas as pd
import pytest
from kit import cases, refused

from rimsim.data import load
from rimsim.data.readers.values import epoch_seconds
from rimsim.errors import ConfigError, DataError


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


def test_an_ignored_column_of_the_table_of_items_has_its_reason_and_its_table(tmp_path):
    """The report names the table of an ignored column; the path of the table is no example of its values."""
    (tmp_path / "log.csv").write_text("user,item,time\na,x,500\nb,y,600\n")
    items = tmp_path / "items.csv"
    items.write_text("id,note,released\nx,,400\ny,,\n")
    report = load(tmp_path / "log.csv", items=items).report
    (use,) = (use for use in report.others if use.column == "note")
    assert use.text() == "ignored: it is empty"
    assert f"ignored: it is empty (of {items})" in report.columns_text()


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


@cases("titles", (["b", "a", "c"],), (["c", "b", "a"],), (["a", "c", "b"],))
def test_the_title_of_an_item_does_not_depend_on_the_order_of_rows(titles, tmp_path):
    """Of several titles, the first in the alphabet counts."""
    table = {"user": [1, 2, 3, 4], "item": [7, 7, 7, 8], "time": [1.5e9] * 4, "title": [*titles, "z"]}
    pd.DataFrame(table).to_csv(tmp_path / "log.csv", index=False)
    log = load(tmp_path / "log.csv")
    assert log.items["title"].tolist() == ["a", "z"]


@pytest.fixture
def new_york(monkeypatch):
    """A process in the time zone of New York."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs a process whose time zone can be set")
@pytest.mark.usefixtures("new_york")
def test_times_without_a_zone_are_utc_in_every_zone(tmp_path):
    """On a laptop as on a server, in a column as in a setting."""
    utc = pd.Timestamp("2020-05-01T09:00:00Z").timestamp()
    assert epoch_seconds("2020-05-01T09:00:00", "start") == utc
    times = [
        "2020-05-01T09:00:00",
        "2020-05-01T09:00:00Z",
        "2020-05-01T11:00:00+02:00",
        "2020-05-01T09:00:00",
    ]
    table = pd.DataFrame({"user": [1, 2, 3, 4], "item": [1, 2, 3, 4], "time": times})
    table.to_csv(tmp_path / "log.csv", index=False)
    assert set(load(tmp_path / "log.csv").time) == {utc}
    assert set(load(table).time) == {utc}
