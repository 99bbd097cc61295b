"""Logs that are read otherwise than they were meant: each is warned of, or refused, with a remedy."""

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused, said_by

from rimsim.data import load
from rimsim.errors import DataError
from rimsim.scenarios.report.sentences import comparison_sentences


@pytest.fixture(scope="module")
def events():
    """4,000 events of 100 users and 60 items over a year, with a category of each item."""
    draw = np.random.default_rng(0)
    user = draw.integers(0, 100, 4000)
    item = draw.integers(0, 60, 4000)
    times = 1_500_000_000 + np.sort(draw.integers(0, 365, 4000)) * 86_400
    return pd.DataFrame(
        {"user": user, "item": item, "time": times, "category": [f"c{number % 5}" for number in item]}
    )


def _written(path, table):
    table.to_csv(path, index=False)
    return path


@cases(
    "unit noun length",
    ("min", "minutes", 60),
    ("h", "hours", 3600),
    ("d", "days", 86_400),
)
def test_minutes_hours_and_days_are_not_taken_for_seconds_in_silence(unit, noun, length, events, tmp_path):
    """The warning names the setting that reads them; with it the log is that of the seconds."""
    path = _written(tmp_path / "log.csv", events.assign(time=events["time"] // length))
    (warning,) = load(path).report.warnings
    assert f"As {noun} since 1970 they run from 2017-07-14 to 2018-07-1" in warning
    assert f"set data.time_unit={unit} (--time-unit {unit})" in warning
    named = load(path, time_unit=unit)
    assert named.report.warnings == load(path, time_unit="s").report.warnings == ()
    in_seconds = load(_written(tmp_path / "seconds.csv", events))
    np.testing.assert_array_equal(named.time, in_seconds.time // length * length)


@cases("unit length", ("min", 60), ("h", 3600), ("d", 86_400))
def test_one_stray_time_does_not_hide_the_unit_of_the_others(unit, length, events, tmp_path):
    """A time in seconds among times in longer units lies beyond the calendar, and the warning says so."""
    times = events["time"].to_numpy() // length
    times[-1] = 9_000_000_000
    path = _written(tmp_path / "log.csv", events.assign(time=times))
    (warning,) = [text for text in load(path).report.warnings if "were read as seconds" in text]
    assert "from 2017-07-14 to a day after the year 9999" in warning
    assert f"set data.time_unit={unit}" in warning


@cases(
    "times",
    (np.arange(4000) * 3600,),
    (np.arange(4000),),
    (1_500_000_000_000 + 1000 * np.arange(4000),),
    (1_500_000_000 + np.arange(4000),),
)
def test_times_in_seconds_have_no_warning_of_their_unit(times, events, tmp_path):
    """Nor do times that count from 0, or milliseconds."""
    warnings = load(_written(tmp_path / "log.csv", events.assign(time=times))).report.warnings
    assert not any("were read as seconds" in warning for warning in warnings)


def test_the_unit_of_times_is_an_option_of_every_command(events, tmp_path, capsys):
    """The message on mixed units names an option that exists."""
    mixed = events["time"] * np.where(np.arange(4000) % 2, 1000, 1)
    path = _written(tmp_path / "mixed.csv", events.assign(time=mixed))
    text = refused(DataError, r"name the unit: data.time_unit=m?s \(--time-unit m?s\)$", load, path)
    assert "\n" not in text
    output = said_by(capsys, ["data", "check", str(path), "--time-unit", "ms"]).out
    assert "times in ms" in output


@cases(
    "column text pattern",
    ("time", "13/02/2024", "'13/02/2024' may have its day or its month first. Write .*: 2024-02-13"),
    ("time", "13.02.2024 10:00", "may have its day or its month first"),
    ("rating", "2,50", "'2,50' has a decimal comma. Write 2.50"),
)
def test_a_whole_column_in_another_form_is_told_the_form(column, text, pattern, events, tmp_path):
    """To leave out all rows is no remedy."""
    path = _written(tmp_path / "log.csv", events.assign(**{column: text}))
    message = refused(DataError, pattern, load, path)
    assert "skip_bad_rows" not in message


def test_a_single_bad_row_can_be_left_out(events, tmp_path):
    """The message says how."""
    path = tmp_path / "log.csv"
    events.assign(time=["13/02/2024", *events["time"][1:]]).to_csv(path, index=False)
    refused(DataError, r"Write dates as .*To leave bad rows out, set skip_bad_rows", load, path)
    assert len(load(path, skip_bad_rows=True)) == 3999


def test_users_and_items_in_the_wrong_place_are_warned_of(events, tmp_path):
    """A category that each user has once, and each item several times, belongs to what is called user."""
    swapped = events.rename(columns={"user": "item", "item": "user"})
    (warning,) = load(_written(tmp_path / "swapped.csv", swapped)).report.warnings
    assert warning.startswith("users and items look exchanged: each user has one ")
    assert 'name the columns the other way round by --columns "user=…,item=…,time=…" (in Python' in warning
    assert load(_written(tmp_path / "right.csv", events)).report.warnings == ()


def test_a_category_of_each_event_tells_nothing_of_users_and_items(events, tmp_path):
    """Neither does one that all events share."""
    draw = np.random.default_rng(1)
    for category in ([f"c{number}" for number in draw.integers(0, 5, 4000)], "all"):
        warnings = load(_written(tmp_path / "log.csv", events.assign(category=category))).report.warnings
        assert not any("exchanged" in warning for warning in warnings)


def _catalogue(n_items, n_kept):
    """Events of items, of which some have 40 events and all others 10."""
    item = np.repeat(np.arange(n_items), [40] * n_kept + [10] * (n_items - n_kept))
    user = np.arange(len(item)) % 50
    return pd.DataFrame({"user": user, "item": item, "time": 1_500_000_000 + 1000 * np.arange(len(item))})


@cases("n_kept is_said", (60, True), (129, True), (200, True), (250, False), (300, False))
def test_a_default_that_leaves_out_a_third_of_the_items_is_said(n_kept, is_said, tmp_path):
    """However many items are left, and however many events."""
    path = _written(tmp_path / "log.csv", _catalogue(300, n_kept))
    warnings = load(path, min_item_events=30).report.warnings
    assert len(warnings) == is_said
    for warning in warnings:
        assert warning.startswith(f"min_item_events=30 leaves {n_kept} of 300 items (")
        assert "lower data.min_item_events (--min-item-events): min_item_events=" in warning


def test_a_share_of_the_catalogue_says_of_how_many_items():
    """The catalogue of a run is what a threshold left of the log."""
    rows = [
        {"agent": agent, "seed": seed, "round": 0, "metric": metric, "value": value + 0.01 * seed}
        for agent, value in (("relevance", 0.2), ("mine", 0.3))
        for seed in (0, 1)
        for metric in ("utility", "coverage", "effective_items", "examined_shortfall")
    ]
    agents = ["relevance", "mine"]
    sentence = comparison_sentences(pd.DataFrame(rows), agents, "examined", n_items=1264)[-1]
    assert " of the 1,264 items of the catalogue, `relevance` " in sentence


def test_the_advised_stop_keeps_the_last_good_day(tmp_path):
    """The day after the last good event leaves out the stray event alone."""
    day = pd.Timestamp("2020-05-01T09:00:00Z").timestamp()
    n = 300
    times = np.append(day + 3600.0 * np.arange(n), 4e9)
    table = {"user": np.arange(n + 1) % 20, "item": np.arange(n + 1) % 30, "time": times}
    path = _written(tmp_path / "log.csv", pd.DataFrame(table))
    (warning,) = load(path).report.warnings
    stop = warning.rpartition("data.stop=")[2]
    assert len(load(path, stop=stop)) == n
