"""Properties of any log: sorted, written and read again, and cut to its minima."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import refused, same_log

from rimsim.data import load, write
from rimsim.data.readers.values import MISSING
from rimsim.errors import DataError

LETTERS = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters="\x85")
TEXTS = st.text(LETTERS, min_size=1, max_size=6).filter(lambda text: text.strip() == text not in MISSING)
WHOLE = st.integers(-(2**63), 2**63 - 1)
IDS = st.one_of(st.lists(WHOLE, min_size=1, max_size=5), st.lists(TEXTS, min_size=1, max_size=5))
SOME = st.sampled_from([0, 978300760])
TIMES = st.one_of(st.integers(0, 2**33), st.floats(0, 2**33, allow_subnormal=False), SOME)
VALUES = st.floats(0, 2.0**120, width=32, allow_subnormal=False)


@st.composite
def frames(draw):
    """Events with ids of either type, ties, repeats and values of any size."""
    row = st.tuples(st.sampled_from(draw(IDS)), st.sampled_from(draw(IDS)), TIMES, VALUES)
    rows = draw(st.lists(row, min_size=1, max_size=25))
    return pd.DataFrame(rows, columns=["user", "item", "timestamp", "value"])


def _loaded(folder, frame, suffix):
    path = Path(folder) / f"log{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep={".csv": ",", ".tsv": "\t"}[suffix])
    return load(path, time_unit="s")


@settings(max_examples=60)
@given(frames(), st.randoms(use_true_random=False))
def test_a_log_is_sorted_and_complete_whatever_the_container_and_the_order_of_rows(frame, chance):
    """CSV, TSV and Parquet in any order give one log, by (time, user, item, value), that is the source's rows."""
    order = list(range(len(frame)))
    chance.shuffle(order)
    with tempfile.TemporaryDirectory() as folder:
        log = _loaded(folder, frame, ".csv")
        for suffix in (".tsv", ".parquet"):
            same_log(log, _loaded(folder, frame, suffix))
            same_log(log, _loaded(folder, frame.iloc[order], suffix))
    rows = list(zip(log.time, log.user, log.item, log.value, strict=True))
    assert rows == sorted(rows)
    users = log.users["id"].tolist()
    items = log.items["id"].tolist()
    assert users == sorted(set(users))
    read = sorted((str(users[u]), str(items[i]), float(t), float(v)) for t, u, i, v in rows)
    source_rows = frame.itertuples(index=False)
    assert read == sorted((str(u), str(i), float(t), float(np.float32(v))) for u, i, t, v in source_rows)


@settings(max_examples=40)
@given(frames())
def test_write_then_load_gives_the_log_back(frame):
    """A log comes back from a CSV, TSV and Parquet file, and from a folder with its tables."""
    with tempfile.TemporaryDirectory() as folder:
        log = _loaded(folder, frame, ".csv")
        log.items["title"] = [f"Title, {number}" for number in range(log.n_items)]
        log.items["genres"] = "A|B"
        log.items["year"] = pd.array([1990] * log.n_items, "Int64")
        log.items["release"] = np.arange(log.n_items) / 2
        for name in ("a.csv", "a.tsv", "a.parquet", "whole"):
            write(log, Path(folder) / name)
        year = pd.array([None] * log.n_items, "Int64")
        bare = log.items.assign(title="", genres="", year=year, release=0.0)
        for name in ("a.csv", "a.tsv", "a.parquet"):
            same_log(load(Path(folder) / name, time_unit="s"), dataclasses.replace(log, items=bare))
        same_log(load(Path(folder) / "whole", time_unit="s"), log)
        written = {path.name for path in Path(folder).iterdir()}
        assert written == {"a.csv", "a.parquet", "a.tsv", "log.csv", "whole"}


def test_a_folder_keeps_what_has_no_events(tmp_path):
    """Items and users without events come back from a folder if they are asked for."""
    log = load(min_item_events=30)
    early = log.before(float(np.median(log.time)))
    write(early, tmp_path / "early")
    same_log(load(tmp_path / "early", min_item_events=0, min_user_events=0), early)
    assert load(tmp_path / "early").n_users < log.n_users


def test_writing_is_whole_or_not_at_all(tmp_path):
    """A log that could not be read again, or a folder that is there, leaves nothing behind."""
    (tmp_path / "log.csv").write_text("user,item,time\na,x,1\n")
    log = load(tmp_path / "log.csv")
    bad = dataclasses.replace(log, users=pd.DataFrame({"id": ["two\nlines"]}))
    refused(DataError, "would change on reading", write, bad, tmp_path / "bad.csv")
    refused(DataError, "exists already", write, log, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


@settings(max_examples=40)
@given(frames(), st.sampled_from([2, 3]), st.sampled_from([2, 3]))
def test_both_minima_hold_and_nothing_more_is_lost(frame, least_item, least_user):
    """What is kept is the largest part of the log in which every item and every user has its minimum."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        frame.to_parquet(path)
        remaining = frame.astype({"user": str, "item": str})
        while True:
            items = remaining["item"].value_counts()
            users = remaining["user"].value_counts()
            frequent = remaining[
                (remaining["item"].map(items) >= least_item) & (remaining["user"].map(users) >= least_user)
            ]
            if len(frequent) == len(remaining):
                break
            remaining = frequent
        options = {"min_item_events": least_item, "min_user_events": least_user, "time_unit": "s"}
        if remaining.empty:
            refused(DataError, "removes all", load, path, **options)
            return
        log = load(path, **options)
    assert len(log) == len(remaining)
    assert np.bincount(log.item).min() >= least_item
    assert np.bincount(log.user).min() >= least_user
