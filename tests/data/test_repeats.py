"""Repeated events of a log: their share, what each treatment makes of them, and that logs keep it on every way."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import cases, same_log
from kit.logs import log_of

import rimsim.data
from rimsim.data import EventLog, load
from rimsim.data.log import later_sessions
from rimsim.data.repeats import is_repeated, repeated_share
from rimsim.intensity.cache import log_digest
from rimsim.market.consumers.truths import resampled

ROWS = ["a,x,0,1", "a,y,0,2", "a,x,5000,3", "b,x,100,1", "b,z,900000,1", "b,x,1900000,5", "b,x,1900000,4"]
"""Seven events of which two are repeated: the last but one has a copy at its own time."""


@pytest.fixture
def path(tmp_path):
    """A log with repeated events, as a file."""
    (tmp_path / "log.csv").write_text("user,item,time,value\n" + "".join(f"{row}\n" for row in ROWS))
    return tmp_path / "log.csv"


EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_an_event_is_repeated_if_its_user_took_the_item_earlier(events):
    """Against a comparison of every two events; copies at the same time count once at most."""
    log = log_of(*map(list, zip(*events, strict=True)), users=4, items=5)
    rows = list(zip(log.user.tolist(), log.item.tolist(), log.time.tolist(), strict=True))
    for row, (user, item, time) in enumerate(rows):
        has_earlier = any(event[:2] == (user, item) and event[2] < time for event in rows)
        is_copy = (user, item, time) in rows[:row]
        assert is_repeated(log)[row] == (has_earlier and not is_copy)


@cases(
    "repeats n is_repeatable",
    ("drop", 4, False),
    ("history", 7, False),
    ("consume", 7, True),
    ("auto", 7, True),
)
def test_each_treatment_keeps_its_events_and_says_its_rule(path, repeats, n, is_repeatable):
    """Two of seven events are repeated, which is more than a tenth; drop leaves the first event of each pair."""
    log = load(path, repeats=repeats)
    assert (len(log), log.repeatable) == (n, is_repeatable)
    description = rimsim.data.describe(log)
    share = "" if repeats == "drop" else "28.6% of events are repeated"
    rule = repeats if repeats != "auto" else "consume"
    assert f"(data.repeats: {rule})" in log.report.text()
    assert share in description.text()
    assert (repeats == "drop") == (description.repeats == 0)
    if repeats == "drop":
        first_values = dict(zip(zip(log.user, log.item, strict=True), log.value, strict=True))
        assert first_values == {(0, 0): 1, (0, 1): 2, (1, 0): 1, (1, 2): 1}


def test_of_copies_at_one_time_the_smallest_value_stays(tmp_path):
    """Dropping repeats keeps the smallest value of a pair's earliest time, wherever it stands in the file."""
    (tmp_path / "log.csv").write_text(
        "user,item,time,value\na,x,9,1\na,x,0,5\na,x,0,4\na,y,2,3\nb,x,1,2\nb,y,3,2\n"
    )
    log = load(tmp_path / "log.csv", repeats="drop")
    assert log.value[(log.user == 0) & (log.item == 0)].tolist() == [4.0]


def test_a_dropped_event_does_not_count_towards_the_events_of_its_item(path):
    """Item x has five events and two users; the others have one event each."""
    assert load(path, min_item_events=3).n_items == 1
    assert load(path, min_item_events=2, repeats="drop").item.tolist() == [0, 0]


@cases("n is_repeatable", (1, True), (2, False))
def test_a_tenth_of_repeated_events_decides(tmp_path, n, is_repeatable):
    """One repeat among ten events lets users take items again; one among eleven does not."""
    rows = [f"u,{item},{item},1" for item in range(8 + n)] + ["u,0,99,1"]
    (tmp_path / "log.csv").write_text("user,item,time,value\n" + "".join(f"{row}\n" for row in rows))
    assert load(tmp_path / "log.csv").repeatable == is_repeatable


def test_every_cut_of_a_log_keeps_its_rule(path):
    """Rows, earlier events, later sessions, resampled users and copies with other fields."""
    for repeats in ("history", "consume"):
        log = load(path, repeats=repeats)
        cut = later_sessions(log)
        parts = [log.rows(slice(3)), log.before(1000), cut.past, cut.future, cut.every(2).future]
        parts += [resampled(log, np.array([2, 1])), dataclasses.replace(log, value=log.value * 2)]
        assert [part.repeatable for part in parts] == [repeats == "consume"] * len(parts)


def test_models_of_the_two_rules_are_cached_apart_and_the_old_rule_keeps_its_digest(path):
    """The digest of a log that is not repeatable has no part for it."""
    log = load(path, repeats="history")
    built_log = EventLog(
        **{name: getattr(log, name) for name in ("user", "item", "time", "value", "users", "items")}
    )
    assert log_digest(log) == log_digest(built_log)
    assert log_digest(log) != log_digest(load(path, repeats="consume"))


@pytest.mark.parametrize("ending", ["", ".parquet"])
@pytest.mark.parametrize("repeats", ["history", "consume"])
def test_a_saved_log_keeps_its_rule(path, tmp_path, ending, repeats):
    """As a folder or a file, and as an object of the session; another rule can still be asked for."""
    log = load(path, repeats=repeats)
    rimsim.data.write(log, tmp_path / f"saved{ending}")
    for source in (tmp_path / f"saved{ending}", log):
        again = load(source)
        same_log(log, again)
        assert again.repeatable == (repeats == "consume")
        assert not load(source, repeats="history").repeatable
        assert load(source, repeats="consume").repeatable


def test_a_log_without_repeats_is_never_repeatable_by_itself():
    """The embedded log has no repeated event, so nothing changes for it."""
    log = load()
    assert repeated_share(log) == 0
    assert not log.repeatable
    assert log.report.repeats_text() == ""
