"""The comparison: its run folder, its tables, its certificates, and what it refuses."""

import shutil

import numpy as np
import pytest
from kit import FAULTY, cases, refused, said_by
from kit.markets import drawn, small_scenario

from rimsim import measures
from rimsim.data import load
from rimsim.errors import ConfigError, DataError
from rimsim.market.ledger import LEDGER_COLUMNS
from rimsim.scenarios import compare, load_run
from rimsim.scenarios.runs.digests import digest
from rimsim.tracking import event_folder, read_scalars

_NAMESAKES = tuple(f"{FAULTY}:Named(called='{name}')" for name in ("a+b", "a&b"))
AGENTS = ("relevance", "rim-feedback", "random", "oracle")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small comparison with everything in it."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    with drawn():
        return compare(small_scenario(rounds=2), AGENTS, seeds=2, out=folder, workers=1)


def test_run_folder_holds_config_tables_pictures_and_events(run):
    """Everything that a run promises is there and can be read back; TensorBoard's scalars are those of the table."""
    assert run.scenario == small_scenario(rounds=2)
    assert run.config["versions"]["rimsim"]
    assert run.agents == [*AGENTS, "relevance-frozen"]
    assert list(run.rounds.columns) == ["agent", "seed", "round", "metric", "value"]
    assert list(run.ledger.columns) == list(LEDGER_COLUMNS)
    assert set(run.rounds["metric"]) <= set(measures.MEASURES)
    assert np.isfinite(run.rounds["value"]).all()
    pictures = [path.name for path in (run.folder / "pictures").iterdir()]
    assert pictures == ["rounds.png"]  # the overview; a report draws the others
    assert not list(run.folder.rglob(".*draft*"))
    tags = read_scalars(event_folder(run.folder, "relevance", 0))
    assert not [tag for tag in tags if "two_sides/" in tag]  # there are no providers
    scalars = tags["exposure/coverage"]
    table = run.rounds.query("agent == 'relevance' and seed == 0 and metric == 'coverage'")
    assert dict(scalars) == pytest.approx(dict(zip(table["round"], table["value"], strict=True)))


def test_rounds_table_follows_from_the_ledger(run):
    """Coverage, Gini, perplexity, shortfall and consumptions recomputed from the saved ledger are those saved."""
    checked = 0
    rounds = run.rounds.set_index(["agent", "seed", "round", "metric"])["value"].sort_index()
    n_items = int(run.required["item"].max()) + 1  # every item of the catalogue has a floor
    for (agent, seed, number), part in run.ledger.groupby(["agent", "seed", "round"]):
        counts = np.bincount(part["item"], minlength=n_items)
        need = np.zeros(n_items, np.int64)
        rows = run.required[(run.required["seed"] == seed) & (run.required["round"] == number)]
        need[rows["item"]] = rows["required"]
        saved = rounds.loc[agent, seed, number]
        assert saved["coverage"] == pytest.approx(measures.coverage(counts))
        assert saved["gini"] == pytest.approx(measures.gini(counts))
        assert saved["perplexity"] == pytest.approx(measures.perplexity(counts))
        assert saved["shortfall"] == pytest.approx(measures.shortfall(counts, need))
        assert saved["consumptions"] == pytest.approx(part["consumed"].sum() / 120)
        checked += 1
    assert checked == 5 * 2 * 2


def test_certificates_bound_values_and_random_and_oracle_are_the_ends(run):
    """No value exceeds its bound, pricing comes closer than relevance; utilities lie between the two at every seed."""
    wide = run.rounds.pivot_table(index=["agent", "seed", "round"], columns="metric", values="value")
    assert (wide["value_model"] <= wide["bound"] + 1e-6).all()
    gap = wide["gap"].groupby("agent").mean()
    assert gap["rim-feedback"] < gap["relevance"]
    utility = wide["utility"].groupby(["seed", "agent"]).mean().unstack()
    assert (utility["oracle"] == utility.max(axis=1)).all()
    assert (utility["random"] == utility.min(axis=1)).all()


@cases(
    "options message",
    ({"agents": ()}, "at least one"),
    ({"agents": ("random", "random")}, "two agents are called 'random'. Give them different names"),
    ({"agents": _NAMESAKES}, r"a\+b.* and .*a&b.* would write to the same files"),
    ({"seeds": 0}, "positive number of seeds"),
    ({"seeds": [1, 1]}, "distinct seeds"),
    ({"workers": 0}, "workers is 0"),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"frozen": ["oracle"]}, "not among the agents"),
    (
        {"frozen": "none"},
        r"frozen is the text 'none'. Expected a list of agents, such as .*, or \[\] for no controls",
    ),
    ({"settings": {"slate": 5000}}, "5000 positions"),
    ({"data": "one.csv", "settings": {"data.min_item_events": 1, "slate": 1}}, "1 event"),
)
def test_bad_comparisons_are_refused_before_anything_is_written(tmp_path, monkeypatch, options, message):
    """Wrong agents, seeds and sizes, and a log that is too small to fit, are errors, and no folder appears."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.csv").write_text("user,item,timestamp\nu,a,0\n")
    asked = {"agents": ("random",), "out": tmp_path / "run"} | options
    refused((ConfigError, DataError), message, compare, small_scenario(), **asked)
    assert not (tmp_path / "run").exists()


@cases("column value", ("agent", "other"), ("value", 1e-12))
def test_a_digest_is_of_all_names_and_digits(run, tmp_path, column, value):
    """A name in the table of rounds, or the last digits of a value, give the run another digest."""
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    assert digest(load_run(copy)) == digest(run)
    table = run.rounds.astype({"agent": str})
    table.loc[0, column] = value if column == "agent" else table["value"][0] + value
    table.to_parquet(copy / "rounds.parquet")
    assert digest(load_run(copy)) != digest(run)


def test_the_command_line_lists_and_checks_logs(tmp_path, capsys):
    """List names the embedded log, check describes it with a picture; a missing or useless log ends with status 2."""
    assert "ml-latest-small" in said_by(capsys, "data list").out
    check = ["data", "check"]
    assert "100,004" in said_by(capsys, [*check, "ml-latest-small", "--picture", f"{tmp_path}/log.png"]).out
    assert (tmp_path / "log.png").stat().st_size > 10_000
    assert "nowhere.csv" in said_by(capsys, [*check, f"{tmp_path}/nowhere.csv"], 2).err
    (tmp_path / "one.csv").write_text("user,item,time\nann,tea,5\n")
    said = said_by(capsys, [*check, f"{tmp_path}/one.csv"], 2)
    assert "rimsim cannot\n  - fit or simulate anything: 1 user with events" in said.out
    assert "one.csv: the log is too small to fit and simulate. It has 1 user with events" in said.err


def test_the_shop_plays_under_its_name_with_prices(tmp_path, capsys):
    """The scenario needs no file: customers of the log buy at its prices, and may buy a product again."""
    play = f"compare shop --agents relevance,random --rounds 1 --seeds 1 --workers 1 --out {tmp_path / 'run'}"
    settings = ("arrivals.per_round=60", "data.min_item_events=800", "platform.model=popularity")
    choices = [word for setting in settings for word in ("--set", setting)]
    shown = said_by(
        capsys, [*play.split(), *choices, "--set", "consumer.truth=popularity", "--no-certificate"]
    )
    assert "revenue" in shown.out
    played = load_run(tmp_path / "run")
    assert played.scenario.data.source == "shop"
    assert played.rounds.query("metric == 'revenue'")["value"].min() > 0
    assert set(played.catalogue["price"]) <= set(load("shop").items["price"])
