"""The tables of run folders have the columns that docs/tables.md says, and name items and users as the log does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_markets import small_cold_start

from rimsim.data import load
from rimsim.scenarios import compare
from rimsim.scenarios.kinds.registry import KINDS
from rimsim.scenarios.report.items import group_shares, item_exposures, item_names, items_table
from rimsim.scenarios.runs.schema import TABLES, markdown_tables
from rimsim.scenarios.runs.store import Run, RunTables, catalogue_table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two agents in a small market with releases."""
    folder = tmp_path_factory.mktemp("tables") / "run"
    return compare(small_cold_start(rounds=2), ["relevance", "rim-feedback"], seeds=1, workers=1, out=folder)


def test_the_page_is_made_of_the_code():
    """docs/tables.md holds what the schema says; remade with ``markdown_tables()``."""
    page = Path(__file__).parent.parent / "docs" / "tables.md"
    assert page.read_text(encoding="utf-8").endswith(markdown_tables())


def test_every_table_of_a_run_is_described(run):
    """Every Parquet file of a comparison is in the schema, with its columns in order."""
    found = {
        path.relative_to(run.folder).parts[0].removesuffix(".parquet")
        for path in run.folder.rglob("*.parquet")
    }
    assert found <= set(TABLES)
    assert {"rounds", "ledger", "arrivals", "catalogue", "users", "required", "prices", "adoption"} <= found
    for name in sorted(found):
        columns = list(getattr(run, name).columns)
        described = list(TABLES[name].columns)
        assert columns[: len(described)] == described, name
        assert len(columns) == len(described) or TABLES[name].more, name


def test_every_table_is_an_attribute_of_a_run():
    """The schema names what ``Run`` reads."""
    named = {name: kind for name, kind in RunTables.__annotations__.items() if name != "folder"}
    assert named.keys() == TABLES.keys()
    assert {name for name, kind in named.items() if "None" in kind} == {
        name for name, table in TABLES.items() if table.optional
    }
    with pytest.raises(AttributeError):
        Run(Path("run")).nothing  # noqa: B018


def test_every_table_of_a_digest_is_described():
    """What equal comparisons have equal is in the schema, with the columns that its rows are ordered by."""
    for kind in KINDS.values():
        assert set(kind.tables) <= set(TABLES)
    for name in KINDS["comparison"].tables:
        assert TABLES[name].order, name
    for name, table in TABLES.items():
        assert set(table.order) <= set(table.columns), name


def test_arrivals_know_the_logs_users(run):
    """The log's user of an arrival is the same for all agents and in the ledger, and its id is the log's own."""
    log = load("ml-latest-small", min_item_events=120)
    assert run.users["id"].tolist() == log.users["id"].astype(str).tolist()
    by_arrival = run.arrivals.groupby(["round", "arrival"])["log_user"].nunique()
    assert (by_arrival == 1).all()
    keys = ["agent", "seed", "round", "arrival"]
    both = run.ledger.merge(run.arrivals[[*keys, "log_user"]], on=keys)
    assert (both["log_user_x"] == both["log_user_y"]).all()
    assert run.arrivals["log_user"].between(0, log.n_users - 1).all()


def test_the_catalogue_keeps_what_the_log_knows():
    """Items have their number, their events, their id as text, and all columns of the log's table, own ones too."""
    items = pd.DataFrame({"id": [7, "b"], "title": ["A", ""], "provider": ["x", "y"]}, index=[3, 4])
    table = catalogue_table(items, np.array([1, 1, 0]))
    assert table.to_dict("list") == {
        "item": [0, 1],
        "events": [1, 2],
        "id": ["7", "b"],
        "title": ["A", ""],
        "provider": ["x", "y"],
    }
    assert item_names(table) == ["A", "b"]
    assert item_names(table[["item", "events"]]) == ["item 0", "item 1"]


def _exposures():
    """Two agents, one late round of two, three items: a is shown 4 and 1 times, c never and 3 times."""
    rows = (
        [("relevance", 1, 0)] * 4
        + [("relevance", 1, 1)]
        + [("mine", 1, 0), ("mine", 1, 1)]
        + [("mine", 1, 2)] * 3
    )
    rows += [("mine", 0, 2)] * 9  # an early round does not count
    ledger = pd.DataFrame(rows, columns=["agent", "round", "item"]).assign(seed=0, consumed=False)
    ledger.loc[0, "consumed"] = True
    return item_exposures(ledger, {(0, 1): np.array([2, 2, 2])}, 3, 2)


def test_exposures_of_items_are_counted_in_late_rounds():
    """Exposures, consumptions and the delivered share of each item, by hand."""
    table = _exposures().set_index(["agent", "item"])
    assert table["exposures"].to_dict() == {
        ("relevance", 0): 4,
        ("relevance", 1): 1,
        ("relevance", 2): 0,
        ("mine", 0): 1,
        ("mine", 1): 1,
        ("mine", 2): 3,
    }
    assert table.loc[("relevance", 0), "consumed"] == 1
    assert table.loc["relevance"]["delivered"].tolist() == [1.0, 0.5, 0.0]


def test_who_gained_and_who_lost():
    """Items come by their change against the baseline, those that gained first, and only those that changed."""
    catalogue = pd.DataFrame({"item": [0, 1, 2], "events": [9, 5, 1], "title": ["Head", "Mid", "Tail"]})
    table = items_table(_exposures(), catalogue, ["relevance", "mine"], 2)
    assert [row[0] for row in table.rows] == ["Tail", "Head"]
    assert [row[table.columns.index("change")] for row in table.rows] == ["3.0", "−3.0"]


def test_groups_share_the_exposure():
    """A group's share is that of its items; an item of two groups counts in both, and the largest group comes first."""
    catalogue = pd.DataFrame({"item": [0, 1, 2], "events": [9, 5, 1], "genres": ["x", "y|x", ""]})
    shares = group_shares(_exposures(), catalogue, "genres")
    assert list(shares.index) == [("x", 2), ("y", 1)]
    assert shares.loc[("x", 2)].to_dict() == pytest.approx({"relevance": 1.0, "mine": 0.4})
    assert shares.loc[("y", 1)].to_dict() == pytest.approx({"relevance": 0.2, "mine": 0.2})
