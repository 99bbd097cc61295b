"""Logs that look mistaken: copies, wrong times, few items; each warning has a remedy, and runs repeat it."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused
from kit.markets import small_run, small_scenario

from rimsim import data
from rimsim.config import DataConfig
from rimsim.errors import DataError


@pytest.fixture(scope="module")
def events():
    """2,500 events over a year, most of few of 150 items, as a table."""
    draw = np.random.default_rng(0)
    share = 1 / np.arange(1, 151) ** 0.8
    table = {"user": draw.integers(0, 150, 2500), "item": draw.choice(150, 2500, p=share / share.sum())}
    table["time"] = 1.5e9 + np.sort(draw.integers(0, 365 * 86_400, 2500))
    return pd.DataFrame(table).drop_duplicates(["user", "item"])


def _copies(events, n):
    return pd.concat([events] * n)


def _moved(events, time):
    return events.assign(time=[time, *events["time"][1:]])


@cases(
    "change min_item_events said",
    (
        partial(_copies, n=1),
        30,
        r"min_item_events=30 leaves \d+ of 1\d\d items .*lower data.min_item_events \(--min-item-events\):",
    ),
    (partial(_copies, n=5), 1, r"events \(80%\) repeat another in all columns.* remove the copies"),
    (partial(_moved, time=0), 1, r"1 event, of 1970-01-01, 17,\d+ days before .* set data.start=2017-07-"),
    (partial(_moved, time=4e9), 1, r"1 event, of 2096-10-02, 28,\d+ days after .* set data.stop=2018-07-"),
)
def test_a_log_that_looks_mistaken_is_warned_of(events, tmp_path, change, min_item_events, said):
    """The warning has a remedy, and stands wherever the log is described."""
    path = tmp_path / "log.csv"
    change(events).to_csv(path, index=False)
    described = data.check(path, min_item_events=min_item_events)
    (warning,) = described.log.report.warnings
    assert pd.Series([warning]).str.contains(said).all(), warning
    assert f"warning: {warning}" in described.text()


def test_the_remedy_of_a_small_catalogue_keeps_what_it_says(events, tmp_path):
    """The check of a log and a run of it name the same threshold; without signs of mistakes no log is warned of."""
    path = tmp_path / "log.csv"
    events.to_csv(path, index=False)
    (warning,) = data.load(path, min_item_events=30).report.warnings
    remedy = warning.rpartition(": ")[2]
    assert remedy in data.check(path).text()
    threshold, kept_items = (int(word) for word in remedy.removeprefix("min_item_events=").split(" keeps "))
    assert data.load(path, min_item_events=threshold).n_items == kept_items
    assert data.load(path).report.warnings == data.load(min_item_events=120).report.warnings == ()


def test_times_in_two_units_are_refused(events, tmp_path):
    """Half a log would else lie in January 1970."""
    path = tmp_path / "log.csv"
    time = events["time"].to_numpy() * np.where(np.arange(len(events)) % 2, 1000, 1)
    events.assign(time=time).to_csv(path, index=False)
    said = "time values look like m?s since 1970, .* like m?s. Write all times in one unit, or"
    refused(DataError, said, data.load, path)
    assert data.load(path, time_unit="ms").report.time_unit == "ms"


def test_a_log_to_which_nobody_comes_back_is_said_to_tell_nothing_of_its_truth(tmp_path, events):
    """Each run says how far its truth agrees with the log, or why nothing is known of it."""
    path = tmp_path / "log.csv"
    some_users = events[events["user"] < 60]
    some_users.assign(time=1.5e9 + some_users["user"] * 10_000 + some_users["item"]).to_csv(path, index=False)
    log = DataConfig(source=str(path), min_item_events=1, session_gap="1d")
    run = small_run(tmp_path / "run", ("random",), small_scenario(rounds=1, data=log))
    said = "The truth `factors` cannot be judged on this log: fewer than two users have a later session."
    assert run.report().answer[0].startswith(said)


def test_a_seller_whose_name_means_missing_is_told(tmp_path):
    """Items with the text None or nan have no seller, and the use of the column says so."""
    rows = [f"{n % 20},{n % 9},{1_400_000_000 + n},{('None', 'nan', 'A')[n % 9 % 3]}" for n in range(180)]
    (tmp_path / "log.csv").write_text("user,item,time,seller\n" + "\n".join(rows) + "\n", encoding="utf-8")
    log = data.load(tmp_path / "log.csv")
    assert sorted(set(log.items["seller"].fillna(""))) == ["", "A"]
    assert "items whose value is 'None' and 'nan' have no seller" in log.report.text()


def test_a_mark_of_shown_items_alone_is_warned_of(tmp_path):
    """Without a column of what was taken, each row is an event; the warning names the column."""
    rows = [f"{n % 20},{n % 9},{1_400_000_000 + n},{n % 2}" for n in range(180)]
    for name, is_warned in (("shown", True), ("flag", False)):
        (tmp_path / "log.csv").write_text(
            f"user,item,time,{name}\n" + "\n".join(rows) + "\n", encoding="utf-8"
        )
        log = data.load(tmp_path / "log.csv")
        assert len(log) == 180
        assert ("the column 'shown' seems to mark shown items" in log.report.text()) == is_warned
