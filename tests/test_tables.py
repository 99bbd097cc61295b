"""The tables of run folders: columns as docs/tables.md says, items and users as in the log, and the truth apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import refused
from small_markets import small_cold_start, small_run

from rimsim.data import load
from rimsim.errors import ConfigError, MissingTableError
from rimsim.market.ledger import LEDGER_COLUMNS
from rimsim.scenarios import load_run
from rimsim.scenarios.kinds.registry import KINDS
from rimsim.scenarios.report.items import group_shares, item_exposures, item_names, items_table
from rimsim.scenarios.runs.schema import TABLES, markdown_tables
from rimsim.scenarios.runs.store import Run, RunTables, catalogue_table
from rimsim.scenarios.study.plan import study_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two agents in a small market with releases, which reveals the truth."""
    config, folder = small_cold_start(rounds=2), tmp_path_factory.mktemp("tables") / "run"
    return load_run(small_run(folder, ["relevance", "rim-feedback"], config, reveal=["truth"]).folder)


def test_every_table_of_a_run_is_described(run):
    """Every Parquet file of a comparison is in the schema, with its columns in order."""
    files = [path.relative_to(run.folder).parts[0] for path in run.folder.rglob("*.parquet")]
    found = {name.removesuffix(".parquet") for name in files}
    assert found <= set(TABLES)
    assert {"rounds", "ledger", "arrivals", "catalogue", "users", "required", "prices", "adoption"} <= found
    for name in sorted(found):
        columns, described = list(getattr(run, name).columns), list(TABLES[name].columns)
        assert columns[: len(described)] == described, name
        assert len(columns) == len(described) or TABLES[name].more, name


def test_the_schema_names_what_a_run_reads_and_a_digest_holds():
    """Tables are attributes of ``Run``; equal ones have columns to order rows by; docs/tables.md says the same."""
    named = {name: kind for name, kind in RunTables.__annotations__.items() if name != "folder"}
    assert named.keys() == TABLES.keys()
    optional = {name for name, table in TABLES.items() if table.optional}
    assert {name for name, kind in named.items() if "None" in kind} == optional
    refused(AttributeError, "nothing", getattr, Run(Path("run")), "nothing")
    for kind in KINDS.values():
        assert set(kind.tables) <= set(TABLES)
    for name in KINDS["comparison"].tables:
        assert TABLES[name].order, name
    for name, table in TABLES.items():
        assert set(table.order) <= set(table.columns), name
    page = Path(__file__).parent.parent / "docs" / "tables.md"
    assert page.read_text(encoding="utf-8").endswith(markdown_tables())


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
    known = {"item": [0, 1], "events": [1, 2], "id": ["7", "b"], "title": ["A", ""], "provider": ["x", "y"]}
    assert table.to_dict("list") == known
    assert item_names(table) == ["A", "b"]
    assert item_names(table[["item", "events"]]) == ["item 0", "item 1"]


def _exposures():
    """Two agents, one late round of two, three items: a is shown 4 and 1 times, c never and 3 times."""
    rows = [("relevance", 1, item) for item in (0, 0, 0, 0, 1)] + [
        ("mine", 1, item) for item in (0, 1, 2, 2, 2)
    ]
    rows += [("mine", 0, 2)] * 9  # an early round does not count
    ledger = pd.DataFrame(rows, columns=["agent", "round", "item"]).assign(seed=0, consumed=False)
    ledger.loc[0, "consumed"] = True
    return item_exposures(ledger, {(0, 1): np.array([2, 2, 2])}, 3, 2)


def test_exposures_of_items_are_counted_in_late_rounds():
    """Exposures, consumptions and the delivered share of each item, by hand."""
    table = _exposures().set_index(["agent", "item"])
    assert table.loc["relevance"]["exposures"].to_dict() == {0: 4, 1: 1, 2: 0}
    assert table.loc["mine"]["exposures"].to_dict() == {0: 1, 1: 1, 2: 3}
    assert table.loc[("relevance", 0), "consumed"] == 1
    assert table.loc["relevance"]["delivered"].tolist() == [1.0, 0.5, 0.0]


def test_who_gained_and_who_lost_and_what_groups_share():
    """Items come by their change against the baseline, if any; groups by size, an item of two counts in both."""
    catalogue = pd.DataFrame({"item": [0, 1, 2], "events": [9, 5, 1], "title": ["Head", "Mid", "Tail"]})
    table = items_table(_exposures(), catalogue, ["relevance", "mine"], 2)
    assert [row[0] for row in table.rows] == ["Tail", "Head"]
    assert [row[table.columns.index("change")] for row in table.rows] == ["3.0", "−3.0"]
    shares = group_shares(_exposures(), catalogue.assign(genres=["x", "y|x", ""]), "genres")
    assert list(shares.index) == [("x", 2), ("y", 1)]
    assert shares.loc[("x", 2)].to_dict() == pytest.approx({"relevance": 1.0, "mine": 0.4})
    assert shares.loc[("y", 1)].to_dict() == pytest.approx({"relevance": 0.2, "mine": 0.2})


def test_the_truth_has_a_row_an_exposure_and_chances_of_what_was_consumed(run):
    """It joins the ledger one to one and tells what neither it nor arrivals do; consumptions are within 5 errors."""
    keys = ["agent", "seed", "round", "arrival", "position", "item"]
    both = run.ledger.merge(run.truth, on=keys, validate="1:1")
    assert len(both) == len(run.ledger) == len(run.truth) > 1000
    assert not {"probability", "true_intensity"} & {*LEDGER_COLUMNS, *run.arrivals.columns}
    chance = both["probability"].to_numpy()
    assert ((chance >= 0) & (chance < 1)).all()
    assert (chance <= 1 - np.exp(-both["true_intensity"].to_numpy()) + 1e-12).all()
    error = np.sqrt((chance * (1 - chance)).sum())
    assert abs(both["consumed"].sum() - chance.sum()) < 5 * error
    utility = run.rounds.set_index(["metric", "agent", "round"])["value"]["utility"]
    expected = run.truth.groupby(["agent", "round"], observed=True)["probability"].sum() / 120
    assert utility.to_dict() == pytest.approx(expected.to_dict())


def test_a_run_that_was_not_asked_reveals_nothing(run, tmp_path):
    """An unknown thing is refused; a folder whose config does not say, as of an earlier version, has no such table."""
    refused(ConfigError, "reveal: 'thruth'.*truth", small_run, tmp_path / "b", reveal=["thruth"])
    shutil.copytree(run.folder, tmp_path / "old", ignore=shutil.ignore_patterns("truth*"))
    config = tmp_path / "old" / "config.yaml"
    told = config.read_text(encoding="utf-8")
    assert "reveal:\n- truth\n" in told
    config.write_text(told.replace("reveal:\n- truth\n", ""), encoding="utf-8")
    old = load_run(tmp_path / "old")
    refused(MissingTableError, "truth", getattr, old, "truth")
    (plan,) = study_of(old).plans
    assert plan.options.reveal == ()
    assert all(arm.options.reveal == () for arm in plan.arms)
    assert not list(small_run(tmp_path / "a", rounds=1).folder.glob("truth*"))
