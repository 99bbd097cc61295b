"""Logs whose rows are impressions: which rows are events, and what is kept of the others."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused

from rimsim.data import Columns, describe, load, write
from rimsim.errors import ConfigError, DataError
from rimsim.intensity.cache import log_digest

ROWS = pd.DataFrame(
    {
        "user_id": ["ann", "ann", "bob", "cat", "bob", "ann"],
        "item_id": ["tea", "jam", "tea", "jam", "jam", "tea"],
        "time": [10, 20, 30, 40, 50, 60],
        "is_click": [1, 0, 0, 0, 1, 1],
        "shown": [1, 1, 1, 1, 1, 0],
        "rank": [1, 2, 1, 3, 1, None],
        "policy": ["new", "old", "old", "new", "new", None],
        "propensity_score": [0.5, 0.25, 1.0, 0.125, 0.5, None],
    }
)
"""Five impressions, of which two were taken, and an event that ann found herself."""
SHARED = os.environ.get("RIMSIM_DEV_DATA")


def _log(folder, rows=ROWS, name="log.csv", **options):
    path = folder / name
    if path.suffix == ".parquet":
        rows.to_parquet(path)
    else:
        rows.to_csv(path, index=False)
    return load(path, **options)


def _rows(log):
    """Impressions as rows of ids, with their answers."""
    shown = log.impressions
    ids = (shown.visitors[shown.visitor], log.items["id"].to_numpy()[shown.item])
    return list(zip(*(column.tolist() for column in (*ids, shown.time, shown.taken)), strict=True))


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_rows_with_answers_are_impressions_and_taken_rows_are_events(tmp_path, name):
    """Columns are found by usual names; cat, who took nothing, is among the visitors but not among the users."""
    log = _log(tmp_path, name=name)
    assert [log.users["id"][user] for user in log.user] == ["ann", "bob", "ann"]
    assert log.time.tolist() == [10, 50, 60]
    assert dict(log.report.columns) | {"taken": "is_click", "position": "rank"} == dict(log.report.columns)
    assert _rows(log) == [
        ("ann", "tea", 10, True),
        ("ann", "jam", 20, False),
        ("bob", "tea", 30, False),
        ("cat", "jam", 40, False),
        ("bob", "jam", 50, True),
    ]
    shown = log.impressions
    assert shown.user.tolist() == [0, 0, 1, -1, 1]
    assert shown.position.tolist() == [1, 2, 1, 3, 1]
    assert [shown.policies[code] for code in shown.policy] == ["new", "old", "old", "new", "new"]
    assert shown.propensity.tolist() == [0.5, 0.25, 1.0, 0.125, 0.5]


def test_the_order_of_rows_does_not_change_the_impressions(tmp_path):
    """Visitors and policies are numbered by sorted names; flags may be true and false; positions may begin at 0."""
    log = _log(tmp_path)
    mixed = ROWS.sample(frac=1, random_state=1).assign(rank=lambda rows: rows["rank"] - 1)
    mixed["is_click"] = mixed["is_click"] == 1
    for name in ("mixed.csv", "mixed.parquet"):
        other = _log(tmp_path, mixed, name)
        assert other.impressions.policies == log.impressions.policies == ("new", "old")
        for column, values in log.impressions.arrays.items():
            np.testing.assert_array_equal(other.impressions.arrays[column], values)
        assert log_digest(other) == log_digest(log)


@cases(
    "dropped added",
    (["is_click"], {}),
    ([], {"click": 1}),
)
def test_other_roles_need_one_column_of_answers(tmp_path, dropped, added):
    """Without a column for taken, or with two, all rows are events and a rank is an ordinary column."""
    log = _log(tmp_path, ROWS.drop(columns=dropped).assign(**added))
    assert (len(log), log.impressions) == (6, None)
    assert [role for role, _ in log.report.columns] == ["user", "item", "time"]


def test_columns_can_be_named(tmp_path):
    """By name or by position; named columns alone have roles, and all roles but taken need it."""
    text = "user=user_id,item=item_id,time=time,taken=is_click"
    log = _log(tmp_path, columns=text)
    assert (len(log), len(log.impressions), log.impressions.position) == (3, 6, None)
    by_position = _log(tmp_path, columns=Columns(1, 2, 3, taken=4, shown=5))
    assert (len(by_position), len(by_position.impressions)) == (3, 5)
    unread = load(tmp_path / "log.csv", columns="user=user_id,item=item_id,time=time")
    assert (len(unread), unread.impressions) == (6, None)
    message = "a column is named for the position, but none for taken. Add taken=COLUMN"
    refused(ConfigError, message, Columns.parse, "user,item,time,position")


@cases(
    "column value problem",
    ("is_click", 2, "taken .column 'is_click'. is '2'. Expected 0 or 1"),
    ("is_click", "", "taken .column 'is_click'. is ''. Expected 0 or 1"),
    ("shown", 0, "is 0 where shown .column 'shown'. is 0. An event without an impression must be taken"),
    ("rank", 1.5, "position .column 'rank'. is 1.5. Expected a whole number"),
    ("rank", "top", "position .column 'rank'. is 'top'. Expected a finite number"),
    ("propensity_score", 0, "is 0. Expected a probability of at least 1e-12"),
    ("propensity_score", 1e-300, "is 1e-300. Expected a probability of at least 1e-12"),
    ("rank", 1e7, "position .column 'rank'. is '10000000.0'. Expected finite numbers up to 100000"),
    ("propensity_score", 1.5, "is '1.5'. Expected finite numbers up to 1"),
)
def test_a_wrong_answer_is_an_error_with_its_line(tmp_path, column, value, problem):
    """The message names the line, the column and the value; such rows can be left out."""
    rows = ROWS.astype({column: object})
    rows.loc[1, column] = value
    refused(DataError, f"line 3: .*{problem}", _log, tmp_path, rows)
    rows[column] = rows[column].astype(str)
    refused(DataError, "line 2: ", _log, tmp_path, rows, "log.parquet")
    log = load(tmp_path / "log.csv", skip_bad_rows=True)
    assert (len(log.impressions), log.report.skipped) == (4, 1)


def test_selection_keeps_visitors_who_took_nothing(tmp_path):
    """Items without events fall out and are counted, times and values select, and min_user_events leaves users out."""
    rows = ROWS.assign(rating=[5, 1, 1, 1, 2, 5])
    rows.loc[2, "item_id"] = "egg"
    log = _log(tmp_path, rows)
    assert (len(log.impressions), log.impressions.n_outside) == (4, 1)
    assert "1 of the shown are of items outside the catalogue" in log.impressions.text()
    everything = _log(tmp_path, rows, min_item_events=0)
    assert (len(everything.impressions), everything.items["id"].tolist()) == (5, ["egg", "jam", "tea"])
    liked = _log(tmp_path, rows, min_value=4, min_item_events=0)
    assert (len(liked), liked.impressions.taken.sum(), len(liked.impressions)) == (2, 1, 5)
    loyal = _log(tmp_path, rows, min_user_events=2, min_item_events=0)
    assert set(loyal.impressions.visitors[loyal.impressions.visitor]) == {"ann"}
    part = _log(tmp_path, rows, start=20, min_item_events=0)
    assert part.impressions.time.tolist() == [20, 30, 40, 50]


def test_the_least_value_is_taken_by_events_and_impressions_alike(tmp_path):
    """With stars 3, 4 and 5, a least value of 4 leaves as many taken impressions as events that were shown."""
    rows = ROWS.assign(is_click=1, rating=[3, 4, 5, 4, 3, 5])
    log = _log(tmp_path, rows, min_value=4)
    assert (len(log), log.impressions.taken.sum(), len(log.impressions)) == (4, 3, 5)


def test_the_stop_is_exclusive_for_events_and_impressions(tmp_path):
    """An impression at the stop falls out with its event."""
    log = _log(tmp_path, stop=50, min_item_events=0)
    assert (log.time.tolist(), log.impressions.time.tolist()) == ([10], [10, 20, 30, 40])
    assert _log(tmp_path, stop=51, min_item_events=0).impressions.time.tolist() == [10, 20, 30, 40, 50]


def test_a_selection_does_not_renumber_positions(tmp_path):
    """Positions from 0 are recognised in the whole log, even if the selection has no position 0."""
    rows = ROWS.assign(rank=[0, 1, 0, 2, 3, None])
    positions = _log(tmp_path, rows).impressions.position
    assert positions.tolist() == [1, 2, 1, 3, 4]
    assert _log(tmp_path, rows, start=40).impressions.position.tolist() == positions[3:].tolist()


def test_placeholders_of_events_without_impressions_shift_no_position(tmp_path):
    """A position 0 where nothing was shown does not make a log count from 0."""
    positions = _log(tmp_path, ROWS.assign(rank=[2, 3, 1, 2, 4, 0])).impressions.position
    assert positions.tolist() == [2, 3, 1, 2, 4]


def test_a_column_of_propensities_without_a_value_is_described(tmp_path):
    """The description of the log says that no propensity is known."""
    log = _log(tmp_path, ROWS.assign(propensity_score=None))
    assert "propensities unknown" in log.impressions.text()
    assert "propensities unknown" in describe(log).text()


def test_a_log_without_taken_items_is_refused(tmp_path):
    """A log needs events."""
    rows = ROWS[ROWS["is_click"] == 0]
    refused(
        DataError,
        "leaving out items that were shown and not taken removes all of its 3",
        _log,
        tmp_path,
        rows,
    )


def test_impressions_are_cut_with_the_log(tmp_path):
    """The log before a time has the impressions before it; another choice of events has none."""
    log = _log(tmp_path)
    assert log.before(30).impressions.time.tolist() == [10, 20]
    assert log.rows(slice(0, 2)).impressions is None


@pytest.mark.parametrize("name", ["folder", "log.csv", "log.parquet"])
def test_a_written_log_has_its_impressions(tmp_path, name):
    """What is written comes back, with events that no impression caused, and repeated ones."""
    repeated = pd.concat([ROWS, ROWS.iloc[[0, 0, 5]].assign(shown=[1, 0, 0])])
    log = _log(tmp_path, repeated, "source.csv")
    write(log, tmp_path / name)
    again = load(tmp_path / name)
    assert log_digest(again) == log_digest(log)
    assert (len(log), len(log.impressions)) == (6, 6)
    assert again.impressions.visitors.tolist() == log.impressions.visitors.tolist()


def test_a_log_of_the_session_keeps_its_impressions(tmp_path):
    """A log that is passed as an object is stored with its impressions."""
    log = _log(tmp_path)
    assert log_digest(load(log)) == log_digest(log)


def test_the_digest_covers_the_answers(tmp_path):
    """Two logs with the same events but other impressions have different digests."""
    log = _log(tmp_path)
    other = _log(tmp_path, ROWS.drop(index=3))
    assert log_digest(other) != log_digest(log)


def test_the_description_counts_what_was_shown_and_taken(tmp_path):
    """Shown, taken and the share; policies with their sizes; ranges of positions and propensities."""
    text = describe(_log(tmp_path)).text()
    line = next(line for line in text.splitlines() if line.startswith("impressions"))
    assert "5 shown, 2 taken (40.0%); 3 visitors, 1 of them took nothing" in line
    assert "2 policies: new (3; 66.7% taken), old (2; 0.0% taken)" in line
    assert line.endswith("positions 1 to 3; propensities 0.12 to 1")


@pytest.mark.skipif(SHARED is None, reason="RIMSIM_DEV_DATA names no folder with kuairand-pure-part")
def test_a_feed_is_read_by_its_usual_names():
    """KuaiRand: clicks are events; the tab is the policy; shown and clicked are what the file counts."""
    path = Path(SHARED) / "kuairand-pure-part" / "exposures_0425_0508.parquet"
    if not path.exists():
        pytest.skip("no kuairand-pure-part")
    rows = pd.read_parquet(path)
    log = load(path)
    assert len(log) == log.impressions.taken.sum() == rows["is_click"].sum()
    assert len(log.impressions) + log.impressions.n_outside == len(rows)
    assert len(log.impressions.policies) == rows["tab"].nunique()


def test_click_rates_count_items_that_nobody_took(tmp_path):
    """Rates, in all and by policy, are those of the file, though items outside the catalogue are left out."""
    chance = np.random.default_rng(3)
    rows = pd.DataFrame(
        {
            "user_id": chance.integers(30, size=900),
            "item_id": chance.integers(200, size=900),
            "time": np.arange(900),
            "is_click": chance.random(900) < 0.05,
            "policy": np.where(np.arange(900) % 3 == 0, "random", "ours"),
        }
    ).astype({"is_click": int})
    rows.to_csv(tmp_path / "log.csv", index=False)
    text = load(tmp_path / "log.csv", min_item_events=2).impressions.text()
    clicks = rows["is_click"]
    assert f"900 shown, {clicks.sum()} taken ({clicks.mean():.1%})" in text
    for policy, rate in clicks.groupby(rows["policy"]).mean().items():
        assert f"{policy} ({(rows['policy'] == policy).sum()}; {rate:.1%} taken)" in text


def test_the_hint_on_rare_items_counts_events(tmp_path):
    """A row that was shown and not taken is not an event, in the hint as in the log."""
    chance = np.random.default_rng(4)
    rows = pd.DataFrame(
        {
            "user_id": chance.integers(40, size=3000),
            "item_id": chance.integers(100, size=3000),
            "time": np.arange(3000),
        }
    )
    rows["is_click"] = ((rows["item_id"] < 20) | (chance.random(3000) < 0.02)).astype(int)
    rows.to_csv(tmp_path / "log.csv", index=False)
    log = load(tmp_path / "log.csv", min_item_events=10)
    events = rows[rows["is_click"] == 1]
    share = len(log) / len(events)
    assert share > 0.9
    (warning,) = (text for text in log.report.warnings if "min_item_events" in text)
    assert f"leaves 20 of {events['item_id'].nunique()} items ({share:.0%} of events)" in warning
