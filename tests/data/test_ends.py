"""End times of items: from tables, last events and lives."""

import numpy as np
import pandas as pd
import pytest
from kit import refused
from kit.news import news_source, news_tables

from rimsim import data
from rimsim.data import check, load, write
from rimsim.errors import ConfigError

HOUR = 3600.0


def shop(folder, ends):
    """Three items with events at 0, 1 and 2 hours, and a table of items with written ends."""
    (folder / "events.csv").write_text(
        "user,item,time\n" + "".join(f"u{n},{item},{1e9 + HOUR * n:.0f}\n" for n, item in enumerate("abcab"))
    )
    (folder / "items.csv").write_text("id,release,end\n" + "".join(f"{row}\n" for row in ends))
    return {"source": folder / "events.csv", "items": folder / "items.csv"}


def test_ends_are_read_from_the_item_table(tmp_path):
    """Seconds and dates are times; an empty cell, or no column, is no end."""
    log = load(**shop(tmp_path, ["a,,1000003600", "b,,2001-09-09T03:46:40Z", "c,,"]))
    assert log.items["end"].tolist() == [1000003600.0, 1000007200.0, np.inf]
    assert log.end.tolist() == log.items["end"].tolist()
    (tmp_path / "items.csv").unlink()
    assert (load(tmp_path / "events.csv").end == np.inf).all()
    assert (load("ml-latest-small", min_item_events=200).items["end"] == np.inf).all()


def test_ends_by_last_event_and_by_life(tmp_path):
    """The item is on offer at its last event; a life counts from the release, and needs one."""
    source = shop(tmp_path, ["a,1000000000,5", "b,,5", "c,1000000000,5"])
    log = load(**source, end="last-event")
    last = [log.time[log.item == item].max() for item in range(3)]
    assert log.end.tolist() == [time + 1.0 for time in last]
    log = load(**source, end="life", life="20h")
    assert log.end.tolist() == [1e9 + 20 * HOUR, np.inf, 1e9 + 20 * HOUR]
    log = load(**source, release="first-event", end="life", life="30min")
    first = [log.time[log.item == item].min() for item in range(3)]
    assert log.end.tolist() == [time + 1800.0 for time in first]


def test_a_life_and_its_rule_belong_together(tmp_path):
    """The message names the field that is missing."""
    source = shop(tmp_path, ["a,,"])
    refused(ConfigError, "data.life is not set. Set life to a duration", load, **source, end="life")
    refused(ConfigError, "but data.life is 20h. Set data.end to 'life'", load, **source, life="20h")


def test_ends_survive_writing(tmp_path):
    """A written log has the same ends; without ends its table of items has no such column."""
    log = load(news_source(tmp_path))
    write(log, tmp_path / "copy")
    assert load(tmp_path / "copy").end.tolist() == log.end.tolist()
    write(load(**shop(tmp_path, ["a,,", "b,,", "c,,"])), tmp_path / "endless")
    assert "end" not in pd.read_parquet(tmp_path / "endless" / "items.parquet")


def test_the_check_tells_of_ends(tmp_path):
    """The number of items that end and their usual life; nothing where no item ends."""
    described = check(news_source(tmp_path))
    lives = np.median(news_tables()[1]["end"] - news_tables()[1]["release"]) / HOUR
    n_items = described.log.n_items
    assert f"{n_items} of {n_items} items end, half of them within {lives:g} hours" in described.text()
    assert "ends " not in check(**shop(tmp_path, ["a,,"])).text()


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (
            ["a,,1000003600", "b,,1000003600", "c,,"],
            "3 of the 4 events of items that end (75%) come after the end",
        ),
        (["a,1000000000,999999999", "b,,", "c,,"], "never shows 1 item with an end before the release"),
    ],
)
def test_suspicious_ends_are_named(tmp_path, ends, message):
    """Events after the end, and items that are over before they begin."""
    log = load(**shop(tmp_path, ends))
    assert any(message in warning for warning in log.report.warnings)


def test_the_made_up_news_is_always_the_same():
    """A name in the list of logs, read with its titles, categories and times."""
    log = data.load("news")
    assert (len(log), log.n_items) == (52_692, 1_148)
    assert log.items["genres"].nunique() == 8
    assert log.user[0] == data.load("news").user[0]
