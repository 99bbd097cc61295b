"""Tables of a run: the opening, delivery by item, users, arrivals, catalogue, exposures and truth."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused
from kit.markets import small_replay, small_run, small_scenario

from rimsim.config import ArrivalsConfig, ExposureConfig
from rimsim.data import load
from rimsim.errors import ConfigError, MissingTableError
from rimsim.market.ledger import LEDGER_COLUMNS
from rimsim.scenarios import load_run
from rimsim.scenarios.kinds.registry import KINDS
from rimsim.scenarios.report import items as of_items
from rimsim.scenarios.report.picture_tables import item_names
from rimsim.scenarios.run import Run
from rimsim.scenarios.runs.records import catalogue_table
from rimsim.scenarios.runs.schema import TABLES
from rimsim.scenarios.runs.store import RunTables
from rimsim.scenarios.study.plan import study_of
from rimsim.scenarios.study.play import AT_OPENING, opening_utilities


def test_the_opening_has_the_utility_of_round_0_where_nobody_comes_twice(tmp_path):
    """Where each visitor comes once, the values at the opening are the utilities of the arms in round 0."""
    config = small_scenario(arrivals=ArrivalsConfig(per_round=120, max_visits=1), rounds=1)
    run = small_run(tmp_path / "run", AT_OPENING, config, seeds=2)
    rounds = run.rounds[run.rounds["metric"] == "utility"].set_index(["agent", "seed"])["value"]
    opening = run.opening.set_index(["agent", "seed"])["utility"]
    assert opening.to_dict() == pytest.approx(rounds.to_dict())


def test_the_opening_counts_hits_of_a_replay_and_keeps_to_a_cap_on_users():
    """The oracle knows the sessions, so no slate hits more than its slates; positions beyond a cap are empty."""
    configs = small_replay(), small_scenario(), small_scenario(user_cap=1)
    replay, uncapped, capped = (
        opening_utilities(config, seed=0).set_index("agent")["utility"] for config in configs
    )
    for name in ("popularity", "relevance"):
        assert 0 < replay[name] <= replay["oracle"]
    assert (capped < 0.7 * uncapped).all()


@cases(
    "config",
    (small_scenario(rounds=2),),
    (small_scenario(rounds=2, exposure=ExposureConfig(unit="shown")),),
    (small_replay(),),
    (small_scenario(exposure=ExposureConfig(examination="harvested", prior_decay=0.9)),),
    ids=["examined", "shown", "replay", "estimated"],
)
def test_delivery_by_item_adds_up_to_the_shortfall_of_each_round(tmp_path, config):
    """Missing exposures of items, in the unit of the guarantee, sum to those of the table of rounds, to the bit.

    Where consumption does not depend on positions, what is examined is what is shown, and so is the shortfall.
    """
    run = small_run(tmp_path / "run", ["relevance", "rim-feedback"], config)
    keys = ["agent", "seed", "round"]
    assert run.delivery.columns.tolist() == [*keys, "item", "id", "required", "delivered"]
    lacking = (run.delivery["required"] - run.delivery["delivered"]).clip(lower=0)
    missing = lacking.groupby([run.delivery[name] for name in keys]).sum()
    rounds = run.rounds.set_index(keys)
    said = rounds.loc[rounds["metric"] == "shortfall_units", "value"].sort_index()
    assert said.sum() > 0
    assert missing.to_dict() == said.to_dict()
    by_metric = run.rounds.set_index([*keys, "metric"])["value"].unstack()
    alike = (by_metric["examined_shortfall"] == by_metric["shortfall"]).all()
    assert alike == (config.consumer.kind == "replay")
    assert set(run.delivery["id"]) <= set(run.catalogue["id"])


def test_users_have_their_id_and_their_consumptions_under_each_agent(run, tmp_path):
    """Ids are the log's own, sums over users those of the ledger per seed; a run without a ledger has ids alone."""
    log = load("ml-latest-small", min_item_events=120)
    assert run.users["id"].tolist() == log.users["id"].astype(str).tolist()
    assert run.users.columns.tolist() == ["log_user", "id", *run.agents]
    taken = run.ledger[run.ledger["consumed"]].groupby("agent").size() / 2
    assert run.users[run.agents].sum().to_dict() == taken.to_dict()
    never = ~run.users["log_user"].isin(run.ledger["log_user"])
    assert never.any()
    assert run.users.loc[never, run.agents].isna().all(axis=None)
    bare = small_run(tmp_path / "bare", config=small_scenario(rounds=1), ledger=False)
    assert bare.users.columns.tolist() == ["log_user", "id"]
    refused(MissingTableError, "neither ledger.parquet", getattr, bare, "delivery")


def test_every_table_of_a_run_is_described(run):
    """Every Parquet file of a comparison is in the schema, with its columns in order."""
    files = [path.relative_to(run.folder).parts[0] for path in run.folder.rglob("*.parquet")]
    tables = {name.removesuffix(".parquet") for name in files}
    assert tables <= set(TABLES)
    assert {"rounds", "ledger", "arrivals", "catalogue", "users", "required", "prices", "adoption"} <= tables
    for name in sorted(tables):
        columns = list(getattr(run, name).columns)
        described = list(TABLES[name].columns)
        if name == "catalogue":  # no item of this run ends
            described.remove("end")
        assert columns[: len(described)] == described, name
        assert len(columns) == len(described) or TABLES[name].further_columns, name


def test_the_schema_names_what_a_run_reads_and_a_digest_holds():
    """Tables are attributes of ``Run``; equal ones have columns to order rows by; docs/tables.md says the same."""
    named = {name: kind for name, kind in RunTables.__annotations__.items() if name != "folder"}
    assert named.keys() == TABLES.keys()
    optional = {name for name, table in TABLES.items() if table.optional}
    assert {name for name, kind in named.items() if "None" in kind} == optional
    assert set(TABLES) <= set(dir(Run(Path("run"))))
    refused(AttributeError, "nothing", getattr, Run(Path("run")), "nothing")
    for kind in KINDS.values():
        assert set(kind.tables) <= set(TABLES)
    for name in KINDS["comparison"].tables:
        assert TABLES[name].order, name
    for name, table in TABLES.items():
        assert set(table.order) <= set(table.columns), name


def test_arrivals_know_the_logs_users(run):
    """The log's user of an arrival is the same for all agents, and in the ledger."""
    by_arrival = run.arrivals.groupby(["round", "arrival"])["log_user"].nunique()
    assert (by_arrival == 1).all()
    keys = ["agent", "seed", "round", "arrival"]
    merged = run.ledger.merge(run.arrivals[[*keys, "log_user"]], on=keys)
    assert (merged["log_user_x"] == merged["log_user_y"]).all()
    assert run.arrivals["log_user"].isin(run.users["log_user"]).all()


def test_the_catalogue_keeps_what_the_log_knows():
    """Items have their number, their events, their id as text, and all columns of the log's table, own ones too."""
    items = pd.DataFrame({"id": [7, "b"], "title": ["A", ""], "provider": ["x", "y"]}, index=[3, 4])
    table = catalogue_table(items, np.array([1, 1, 0]))
    expected = {
        "item": [0, 1],
        "events": [1, 2],
        "id": ["7", "b"],
        "title": ["A", ""],
        "provider": ["x", "y"],
    }
    assert table.to_dict("list") == expected
    assert item_names(table) == ["A", "b"]
    assert item_names(table[["item", "events"]]) == ["item 0", "item 1"]


def test_exposures_of_items_are_counted_in_late_rounds_and_shared_by_groups():
    """Two agents, one late round of two: a is shown 4 and 1 times, c never and 3 times.

    Items come by their change against the baseline, if any; groups by size, an item of two counts in both.
    """
    rows = [("relevance", 1, item) for item in (0, 0, 0, 0, 1)]
    rows += [("mine", 1, item) for item in (0, 1, 2, 2, 2)]
    rows += [("mine", 0, 2)] * 9  # an early round does not count
    ledger = pd.DataFrame(rows, columns=["agent", "round", "item"]).assign(seed=0, consumed=False)
    ledger.loc[0, "consumed"] = True
    exposures = of_items.item_exposures(ledger, {(0, 1): np.array([2, 2, 2])}, 3, 2)
    table = exposures.set_index(["agent", "item"])
    assert table.loc["relevance"]["exposures"].to_dict() == {0: 4, 1: 1, 2: 0}
    assert table.loc["mine"]["exposures"].to_dict() == {0: 1, 1: 1, 2: 3}
    assert table.loc[("relevance", 0), "consumed"] == 1
    assert table.loc["relevance"]["delivered"].tolist() == [1.0, 0.5, 0.0]
    catalogue = pd.DataFrame({"item": [0, 1, 2], "events": [9, 5, 1], "title": ["Head", "Mid", "Tail"]})
    printed = of_items.items_table(exposures, catalogue, ["relevance", "mine"], 2)
    assert [row[0] for row in printed.rows] == ["Tail", "Head"]
    assert [row[printed.columns.index("change")] for row in printed.rows] == ["3.0", "−3.0"]
    shares = of_items.group_shares(exposures, catalogue.assign(genres=["x", "y|x", ""]), "genres")
    assert list(shares.index) == [("x", 2), ("y", 1)]
    assert shares.loc[("x", 2)].to_dict() == pytest.approx({"relevance": 1.0, "mine": 0.4})
    assert shares.loc[("y", 1)].to_dict() == pytest.approx({"relevance": 0.2, "mine": 0.2})


def test_the_truth_has_a_row_an_exposure_and_chances_of_what_was_consumed(run):
    """It joins the ledger one to one and tells what neither it nor arrivals do; consumptions are within 5 errors."""
    keys = ["agent", "seed", "round", "arrival", "position", "item"]
    merged = run.ledger.merge(run.truth, on=keys, validate="1:1")
    assert len(merged) == len(run.ledger) == len(run.truth) > 1000
    assert not {"probability", "true_intensity"} & {*LEDGER_COLUMNS, *run.arrivals.columns}
    chance = merged["probability"].to_numpy()
    assert ((chance >= 0) & (chance < 1)).all()
    assert (chance <= 1 - np.exp(-merged["true_intensity"].to_numpy()) + 1e-12).all()
    error = np.sqrt((chance * (1 - chance)).sum())
    assert abs(merged["consumed"].sum() - chance.sum()) < 5 * error
    utility = run.rounds.set_index(["metric", "agent", "seed", "round"])["value"]["utility"]
    expected = run.truth.groupby(["agent", "seed", "round"], observed=True)["probability"].sum() / 120
    assert utility.to_dict() == pytest.approx(expected.to_dict())


def test_a_run_that_was_not_asked_reveals_nothing(run, tmp_path):
    """An unknown thing is refused; a folder whose config does not say, as of an earlier version, has no such table."""
    refused(ConfigError, "reveal: 'thruth'.*truth", small_run, tmp_path / "b", reveal=["thruth"])
    shutil.copytree(run.folder, tmp_path / "old", ignore=shutil.ignore_patterns("truth*"))
    config = tmp_path / "old" / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "reveal:\n- truth\n" in text
    config.write_text(text.replace("reveal:\n- truth\n", ""), encoding="utf-8")
    old = load_run(tmp_path / "old")
    refused(MissingTableError, "truth", getattr, old, "truth")
    (plan,) = study_of(old).plans
    assert plan.options.reveal == ()
    assert all(arm.options.reveal == () for arm in plan.arms)
    assert not list(small_run(tmp_path / "a", rounds=1).folder.glob("truth*"))
