"""A seller's question from one CSV: attributes of items, guarantees of groups, and each group's figures."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pandas as pd
import pytest
from kit import ROOT, cases, refused, said_by, same_log

import rimsim
from rimsim import config as records
from rimsim.config.guarantees import with_guarantees
from rimsim.data import load, write
from rimsim.data.log import own_attributes, prices_of
from rimsim.errors import ConfigError, DataError
from rimsim.intensity.cache import log_digest
from rimsim.market import build_world
from rimsim.measures import MEASURES, made_up_round
from rimsim.measures.groups import figures_of_groups
from rimsim.requirements.campaigns import groups_of, members_of
from rimsim.scenarios import compare, load_run, sweep
from rimsim.scenarios.report import group_figures
from rimsim.scenarios.report.group_chart import picture
from rimsim.scenarios.report.group_figures import figures_of
from rimsim.scenarios.report.group_section import group_table
from rimsim.scenarios.study.checks import LogArguments, resolved
from rimsim.scenarios.study.repetition import digests
from rimsim.tracking import read_scalars

COLUMNS = "user=customer,item=sku,time=bought at"
_QUICK = (
    "--rounds 2 --seeds 2 --workers 1 --no-certificate --frozen none --agents relevance,rim-feedback "
    "--set platform.model=popularity-hp --set consumer.truth=factors --set consumer.rank=4 "
    "--set arrivals.per_round=300 --set data.min_item_events=1"
)
QUICK = _QUICK.split()
SETTINGS = {
    "platform.model": "popularity-hp",
    "consumer.truth": "factors",
    "consumer.rank": 4,
    "arrivals.per_round": 60,
    "data.min_item_events": 1,
    "data.columns": COLUMNS,
}


def _shop(**sizes):
    """Purchases that the example of the documentation makes up."""
    file = ROOT / "examples" / "shop.py"
    spec = spec_from_file_location("made_up_shop", file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.shop(**sizes)


@pytest.fixture(scope="module")
def purchases():
    """Purchases of a small shop with 24 sellers."""
    return _shop(customers=300, items=120)


@pytest.fixture(scope="module")
def csv(purchases, tmp_path_factory):
    """The purchases as a CSV file."""
    path = tmp_path_factory.mktemp("shop") / "shop.csv"
    purchases.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(csv, tmp_path_factory):
    """Run of the one command that answers a seller's question."""
    from rimsim.scenarios.cli.main import main

    out = tmp_path_factory.mktemp("runs") / "shop"
    words = ["compare", "--data", str(csv), "--columns", COLUMNS, "--guarantee", "seller=0.5", *QUICK]
    assert main([*words, "--groups", "category", "--out", str(out)]) == 0
    return load_run(out)


def _with_times(purchases):
    """Purchases with times in place of texts."""
    return purchases.assign(
        **{"bought at": pd.to_datetime(purchases["bought at"], utc=True, format="ISO8601")}
    )


def _table(rows, path):
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


# -- attributes of items ----------------------------------------------------------------------------------------------
def test_data_check_names_the_use_of_every_column(csv, capsys):
    """Each column of the file has a line: a role, an attribute of items, or the reason why it is ignored."""
    text = said_by(capsys, ["data", "check", str(csv), "--columns", COLUMNS]).out
    block = text.split("\ncolumns\n")[1].split("\n\n")[0]
    use = {line[:12].strip(): line[12:] for line in block.splitlines()}
    assert list(use) == ["customer", "sku", "bought at", "price", "seller", "category", "channel"]
    assert [use[name] for name in ("customer", "sku", "bought at")] == ["user", "item", "time"]
    assert use["seller"] == "attribute of items"
    assert use["category"] == "attribute of items: also the genres of items"
    assert use["price"].startswith(
        "attribute of items: the median of an item's prices, because it differs within "
    )
    assert use["channel"].startswith("ignored: it differs within ")
    assert "'app' and 'web' of item SKU-" in use["channel"]


def test_attributes_are_those_of_a_plain_grouping(csv, purchases):
    """Sellers are constant per item, and the price is the median of the item's rows, doubled rows included."""
    items = load(csv, columns=COLUMNS).items.set_index("id")
    of_item = purchases.groupby("sku")
    pd.testing.assert_series_equal(
        items["price"], of_item["price"].median(), check_names=False, check_index_type=False
    )
    assert items["seller"].to_dict() == of_item["seller"].first().to_dict()
    assert items["category"].to_dict() == items["genres"].to_dict() == of_item["category"].first().to_dict()
    assert own_attributes(items.reset_index()) == ["price", "seller", "category"]


def test_the_order_and_the_format_of_a_log_do_not_change_its_attributes(
    csv, purchases, tmp_path, monkeypatch
):
    """Shuffled rows, small blocks and Parquet give the same log."""
    log = load(csv, columns=COLUMNS)
    purchases.sample(frac=1, random_state=5).to_csv(tmp_path / "other.csv", index=False)
    table = _with_times(purchases).astype({"seller": "category"})
    table.to_parquet(tmp_path / "shop.parquet")
    same_log(log, load(tmp_path / "shop.parquet", columns=COLUMNS))
    monkeypatch.setattr("rimsim.data.readers.lines.BLOCK_BYTES", 4000)
    same_log(log, load(tmp_path / "other.csv", columns=COLUMNS))


@cases(
    "column values attribute note",
    ("brand", ["Own", "", "nan", "Own"], "Own", ""),
    (
        "brand",
        ["Own", "Own", "Other", "Own"],
        None,
        "it differs within 1 of 2 items",
    ),
    ("brand", ["", "", "", ""], None, "it is empty"),
    ("unit price", ["1.5", "4", "2.5", "9"], 2.5, "the median of an item's prices"),
    ("price", ["2,50", "2,50", "2,50", "9"], "2,50", "'2,50' is not a number of at least 0"),
    ("price", ["2,50", "3", "2,50", "9"], None, "it differs within 1 of 2 items"),
    ("release", ["1", "1", "1", "1"], None, "the item table has its own column of this name"),
    ("amount", ["1", "2", "1", "1"], None, "it differs within 1 of 2 items"),
)
def test_a_column_of_events_becomes_an_attribute_or_tells_why_not(tmp_path, column, values, attribute, note):
    """Three rows of item a and one of item b decide, row by row, about one further column."""
    rows = {"user": [1, 2, 3, 4], "item": ["a", "a", "a", "b"], "time": [1, 2, 3, 4], column: values}
    log = load(_table(rows, tmp_path / "log.csv"))
    (use,) = log.report.others
    assert note in use.note
    if attribute is None:
        assert use.attribute is None
        assert own_attributes(log.items) == []
    else:
        assert log.items[column][0] == attribute
    assert f"{column}" in log.report.text()


def test_a_category_that_differs_gives_genres_but_no_groups(tmp_path):
    """Of several categories of an item, the first counts as its genre; the column itself is no attribute."""
    rows = {"user": [1, 2, 3], "item": ["x", "x", "y"], "time": [1, 2, 3], "category": ["b", "a", "c"]}
    log = load(_table(rows, tmp_path / "log.csv"))
    assert log.items["genres"].tolist() == ["a", "c"]
    assert own_attributes(log.items) == []
    assert log.report.others[0].text() == (
        "attribute of items, as genres: of several, the first in the alphabet counts, because it differs within 1 of "
        "2 items, such as 'a' and 'b' of item x"
    )


def test_columns_with_the_names_of_roles_are_kept_apart(tmp_path):
    """A column called 'user' that is not the user's column is read as itself."""
    rows = {"customer": [1, 2], "item": [7, 8], "time": [1, 2], "user": ["x", "y"]}
    log = load(_table(rows, tmp_path / "log.csv"), columns="user=customer,item=item,time=time")
    assert log.items["user"].tolist() == ["x", "y"]
    assert log.users["id"].tolist() == [1, 2]


def test_a_column_that_differs_within_many_items_is_given_up(tmp_path):
    """A column such as an order's number is no longer read once it differs within a thousand items."""
    item = np.repeat(np.arange(1500), 2)
    rows = {"user": np.arange(3000), "item": item, "time": np.arange(3000), "order": np.arange(3000)}
    log = load(_table(rows | {"brand": item % 7}, tmp_path / "log.csv"))
    notes = {use.column: use.note for use in log.report.others}
    assert notes == {"order": "it differs within 1,500 items or more", "brand": ""}
    assert log.items["brand"].tolist() == [str(number % 7) for number in range(1500)]


def test_nested_columns_of_parquet_are_ignored_with_their_type(tmp_path):
    """A column of lists has no text, so the report gives its type."""
    rows = {"user": [1, 2], "item": [1, 2], "time": [1, 2], "tags": [["a"], ["b"]], "width": [1.0, 2.5]}
    pd.DataFrame(rows).to_parquet(tmp_path / "log.parquet")
    log = load(tmp_path / "log.parquet")
    assert own_attributes(log.items) == ["width"]
    assert log.items["width"].tolist() == ["1", "2.5"]
    assert "tags (its type is list" in log.report.text()


def test_attributes_survive_writing_and_the_cache(csv, purchases, tmp_path):
    """A written folder, a table and a log that compare gets have the attributes of the file."""
    log = load(csv, columns=COLUMNS)
    write(log, tmp_path / "written")
    again = load(tmp_path / "written")
    same_log(log, again)
    assert log_digest(log) == log_digest(again)
    for data, columns in ((purchases, COLUMNS), (log, None)):
        config = resolved("closed-loop", log=LogArguments(data, columns))
        same_log(log, load_log_of(config))
    assert log.rows(slice(0, 50)).items is log.items


def load_log_of(config):
    """Log of a scenario with all its items."""
    return rimsim.data.load_log(replace(config.data, min_item_events=1))


# -- tables of items --------------------------------------------------------------------------------------------------
@pytest.fixture
def bare(purchases, tmp_path):
    """A log without attributes, with a table of items next to it, and a scenario that names both."""
    purchases[["customer", "sku", "bought at"]].to_csv(tmp_path / "log.csv", index=False)
    table = purchases.groupby("sku", as_index=False)[["seller", "price"]].first()
    table.assign(seller="Shop " + table["seller"]).to_csv(tmp_path / "items.csv", index=False)
    (tmp_path / "shop.yaml").write_text(
        f"data: {{source: log.csv, items: items.csv, columns: '{COLUMNS}', min_item_events: 1}}\n"
    )
    return tmp_path


def test_a_table_of_items_is_read_in_python_scenarios_and_on_the_command_line(bare, capsys):
    """The id's column has the name of the log's column of items; paths in a scenario begin at its folder."""
    log = load(bare / "log.csv", columns=COLUMNS, items=bare / "items.csv")
    assert own_attributes(log.items) == ["seller", "price"]
    assert log.items["seller"].str.startswith("Shop Seller ").all()
    same_log(log, load_log_of(resolved(bare / "shop.yaml")))
    words = ["data", "check", str(bare / "log.csv"), "--columns", COLUMNS, "--items", str(bare / "items.csv")]
    assert f"seller      attribute of items (of {bare / 'items.csv'})" in said_by(capsys, words).out


def test_a_run_that_goes_on_notices_a_changed_table_of_items(bare):
    """The digest of the log covers the attributes."""
    config = resolved(bare / "shop.yaml", settings={"consumer.kind": "logit"} | {"consumer.truth": "bag"})
    before = log_digest(load_log_of(config))
    text = (bare / "items.csv").read_text()
    (bare / "items.csv").write_text(text.replace("Shop Seller A", "Shop Seller B"))
    assert log_digest(load_log_of(config)) != before
    assert set(digests(records.ScenarioConfig(), [])) == {"log"}


def test_a_table_of_items_adds_to_the_columns_of_events(csv, tmp_path):
    """The table wins where both have a column; items that only one side has keep what is known."""
    rows = {"sku": ["SKU-000", "SKU-999"], "seller": ["Mine", "Other"], "brand": ["B", "C"]}
    log = load(csv, columns=COLUMNS, items=_table(rows, tmp_path / "items.csv"), min_item_events=0)
    items = log.items.set_index("id")
    assert items.loc["SKU-000", ["seller", "brand"]].tolist() == ["Mine", "B"]
    assert items.loc["SKU-001", ["seller", "brand"]].tolist() == ["", ""]
    assert items.loc["SKU-001", "category"] == items.loc["SKU-001", "genres"] != ""
    assert np.isnan(items.loc["SKU-999", "price"])
    assert "the table of items has this column too" in log.report.text()


def test_a_table_of_items_without_ids_is_refused(csv, tmp_path):
    """The message names the columns of the table and the name that the log uses."""
    table = _table({"code": ["SKU-000"], "seller": ["Mine"]}, tmp_path / "items.csv")
    text = refused(DataError, r"no column for the item", load, csv, columns=COLUMNS, items=table)
    assert "among 'code', 'seller'. Name the column 'sku' or 'id'" in text


# -- guarantees -------------------------------------------------------------------------------------------------------
def test_a_guarantee_replaces_that_of_single_items():
    """β of items becomes 0, unless it is set too, and a group of the same column is replaced."""
    scenario = records.scenario_from({"exposure": {"groups": [{"column": "genres", "beta": 0.9}]}})
    config = resolved(scenario, guarantee={"genres": 0.2, "seller": 0.5})
    pairs = [(group.column, group.beta) for group in config.exposure.groups]
    assert (config.exposure.beta, pairs) == (0.0, [("genres", 0.2), ("seller", 0.5)])
    both = resolved(scenario, settings={"exposure.beta": 0.3}, guarantee={"seller": 0.5})
    assert both.exposure.beta == 0.3
    varied = records.override(config, {"exposure.groups.seller.beta": 0.7})
    assert [group.beta for group in varied.exposure.groups] == [0.2, 0.7]
    refused(ConfigError, "unknown field", records.override, config, {"exposure.groups.brand.beta": 0.7})


@cases("share", (0,), (1.2,), (-0.5,), (True,), ("0.5",), (float("nan"),))
def test_a_share_that_is_none_is_refused(share):
    """A share is a number above 0, at most 1."""
    message = "guarantee: found seller="
    refused(
        ConfigError, message, with_guarantees, records.ScenarioConfig(), {"seller": share}, keeps_items=False
    )


def test_a_wrong_column_is_refused_before_models_are_imported(csv):
    """The message has the nearest column; torch and pandas are not needed for it."""
    code = (
        "import sys\nfrom rimsim.scenarios.cli.main import main\n"
        f"status = main(['compare', '--data', {str(csv)!r}, '--guarantee', 'sellr=0.5'])\n"
        "print(status, sorted({'torch', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 []"
    assert "groups of 'sellr'" in done.stderr
    assert "Did you mean 'seller'?" in done.stderr


def test_a_column_that_is_no_attribute_is_refused_with_the_reason(csv, tmp_path):
    """Nothing is written, and the message says why the column is ignored."""
    out = tmp_path / "run"
    call = {"data": csv, "settings": SETTINGS, "guarantee": {"channel": 0.5}, "out": out}
    text = refused(ConfigError, "groups of 'channel'", compare, "closed-loop", **call)
    assert "the column is ignored: it differs within" in text
    assert "such as 'app' and 'web' of item SKU-" in text
    assert not out.exists()


def test_members_of_groups_are_the_items_with_a_value():
    """An item with several values is in each group; items without a value are in none."""
    items = pd.DataFrame({"genres": ["b|a", "", "a", "<NA>", "b|b"]})
    assert {name: list(of) for name, of in members_of(items, "genres").items()} == {"a": [0, 2], "b": [0, 4]}
    guarantees = groups_of(items, records.GroupConfig("genres", 0.5, ("b",)))
    assert [(one.name, list(one.items)) for one in guarantees] == [("genres b", [0, 4])]


def test_providers_are_those_of_a_column_of_the_log(csv):
    """Sellers can leave the market: a column of the events serves as the providers' column."""
    config = resolved("closed-loop", log=LogArguments(csv), settings=SETTINGS)
    providers = records.ProvidersConfig("viability", (("column", "seller"),))
    world = build_world(replace(config, providers=providers))
    assert [world.roster.names[one] for one in world.roster.of_item] == world.log.items["seller"].tolist()


# -- figures of groups ------------------------------------------------------------------------------------------------
def test_each_sellers_figures_are_those_of_the_ledger(run, purchases):
    """A recount by plain pandas gives the same exposures, consumptions, revenues and bonuses."""
    price = purchases.groupby("sku")["price"].median()
    catalogue = run.catalogue.assign(price=run.catalogue["id"].map(price))
    decay = run.scenario.consumer.position_decay
    ledger = run.ledger.merge(catalogue[["item", "seller", "price"]], on="item", suffixes=("", "_of_item"))
    weight = decay ** (ledger["position"] - 1)
    ledger = ledger.assign(
        exposures=1.0,
        delivered=weight,
        consumptions=ledger["consumed"].astype(float),
        revenue=ledger["price_of_item"] * ledger["consumed"],
        bonus=weight * (-ledger["price"]).clip(lower=0),
    )
    metrics = ["exposures", "delivered", "consumptions", "revenue", "bonus"]
    keys = ["agent", "seed", "round", "seller"]
    recount = ledger.groupby(keys)[metrics].sum()
    table = run.groups[run.groups["column"] == "seller"]
    wide = table.pivot(index=["agent", "seed", "round", "group"], columns="metric", values="value")
    for metric in metrics:
        expected = recount[metric].reindex(wide.index.set_names(keys)).fillna(0.0).to_numpy()
        found = wide[metric].to_numpy()
        has_bonus = metric != "bonus" or wide.index.get_level_values("agent") == "rim-feedback"
        np.testing.assert_allclose(found[has_bonus], expected[has_bonus], rtol=1e-6, atol=1e-9)
    assert recount["consumptions"].sum() > 20
    assert wide["bonus"].isna().groupby("agent").all().to_dict() == {"relevance": True, "rim-feedback": False}


def test_the_guarantee_is_half_of_the_uniform_exposure(run):
    """A seller with n of M items is owed half of n/M of all positions, in whole examined exposures."""
    table = run.groups[(run.groups["column"] == "seller")]
    wide = table.pivot_table(index=["agent", "seed", "round", "group"], columns="metric", values="value")
    scenario = run.scenario
    weights = scenario.consumer.position_decay ** np.arange(scenario.slate)
    owed = 0.5 * wide["items"] / len(run.catalogue) * 300 * weights.sum()
    np.testing.assert_allclose(wide["required"], owed, atol=1.0)
    missing = (wide["required"] - wide["delivered"]).clip(lower=0)
    np.testing.assert_allclose(wide["undelivered"], missing, atol=1e-9)
    assert table["group"].nunique() == 24


def test_prices_deliver_what_relevance_withholds_from_sellers(run):
    """rim-feedback leaves next to nothing undelivered in the last round, while relevance starves sellers."""
    last = run.groups[(run.groups["column"] == "seller") & (run.groups["round"] == 1)]
    sums = last.groupby(["agent", "metric"])["value"].sum().unstack()
    undelivered = sums["undelivered"] / sums["required"]
    assert undelivered["rim-feedback"] < 0.03
    assert undelivered["relevance"] > 0.3
    wide = last[last["agent"] == "relevance"].pivot_table(index="group", columns="metric", values="value")
    assert (wide["delivered"] < 0.1 * wide["required"]).sum() >= 5


def test_groups_without_a_guarantee_are_reported_too(run):
    """--groups category adds the six categories, without required exposures."""
    table = run.groups[run.groups["column"] == "category"]
    assert table["group"].nunique() == 6
    assert set(table["metric"]) == {
        "items",
        "exposures",
        "delivered",
        "utility",
        "consumptions",
        "revenue",
        "bonus",
    }
    both = (
        run.groups[run.groups["metric"] == "exposures"]
        .groupby(["column", "agent", "seed", "round"])["value"]
        .sum()
    )
    assert set(both) == {both.iloc[0]}


def test_revenue_is_a_measure_where_items_have_prices(run):
    """Revenue per slate is the sellers' revenue over the arrivals; a log without prices has no such measure."""
    table = run.groups[(run.groups["column"] == "seller") & (run.groups["metric"] == "revenue")]
    of_groups = table.groupby(["agent", "seed", "round"])["value"].sum()
    measured = run.rounds[run.rounds["metric"] == "revenue"].set_index(["agent", "seed", "round"])["value"]
    arrivals = run.arrivals.groupby(["agent", "seed", "round"]).size()
    pd.testing.assert_series_equal(measured.sort_index(), of_groups / arrivals, check_names=False)
    items = pd.DataFrame({"id": [1, 2, 3, 4], "genres": "", "cost": [1.0, 2.0, 3.0, 4.0]})
    assert MEASURES["revenue"].value(made_up_round(items, slate=2)) is None
    priced = made_up_round(items.assign(price=[10.0, 20.0, np.nan, 40.0]), slate=2)
    expected = [[10, 20, 0, 40][item] for item in priced.slates[priced.consumed]]
    assert MEASURES["revenue"].value(priced) == pytest.approx(sum(expected) / len(priced.slates))


def test_figures_of_overlapping_groups_count_an_item_in_each():
    """Two groups that share item 1 both have its exposures; a group with a guarantee has what is missing."""
    facts = made_up_round(pd.DataFrame({"id": range(6), "genres": ""}), slate=3)
    rows = figures_of_groups(facts, {"a": np.array([0, 1]), "b": np.array([1])}, {"b": (7.5, 5.0)})
    values = {(group, metric): value for group, metric, value in rows}
    assert values["a", "exposures"] == facts.exposure[:2].sum()
    assert values["b", "exposures"] == facts.exposure[1]
    assert (values["b", "required"], values["b", "undelivered"]) == (7.5, 2.5)
    assert ("a", "required") not in values
    assert ("a", "revenue") not in values


def test_prices_are_numbers_under_a_usual_name():
    """A price is read by its name and only if it is a number; an unknown price is 0."""
    items = pd.DataFrame({"id": [1, 2], "Unit Price": [2.5, np.nan], "price": ["a", "b"]})
    assert prices_of(items).tolist() == [2.5, 0.0]
    assert prices_of(items[["id", "price"]]) is None


# -- reports ----------------------------------------------------------------------------------------------------------
def test_the_report_answers_the_sellers_question(run, capsys):
    """The answer has delivery, starved sellers, cost and revenue; a table has a row per seller and one of all."""
    said = said_by(capsys, ["report", str(run.folder), "--markdown"]).out
    assert "of the exposure guaranteed to groups of seller undelivered, `rim-feedback` " in said
    assert "of the 24 groups less than the guarantee" in said
    assert "cost users at most" in said
    assert "revenue per slate" in said
    table = next(table for table in run.report().tables if table.title.startswith("Groups of seller"))
    assert len(table.rows) == 25
    assert [row[0] for row in table.rows][-1] == "all"
    assert {"required", "delivered, relevance", "revenue, change", "bonus paid"} <= set(table.columns)
    changes = [
        float(row[table.columns.index("exposures, change")].split(" ")[0].rstrip("=").replace("−", "-"))
        for row in table.rows[:-1]
    ]
    assert changes == sorted(changes, reverse=True)


def test_all_of_a_row_of_sums_is_what_sellers_add_up_to(run):
    """The last row has the sums of all sellers, and the delivered share of all guarantees."""
    figures = figures_of(run, "seller")
    rows = {
        row[0]: dict(zip(group_table(figures, 2).columns, row, strict=True))
        for row in group_table(figures, 2).rows
    }
    late = run.groups[(run.groups["round"] == 1) & (run.groups["column"] == "seller")]
    sums = late.groupby(["agent", "metric"])["value"].sum() / 2
    assert rows["all"]["items"] == "120"
    assert float(rows["all"]["required"]) == pytest.approx(sums["relevance", "required"], rel=0.01)
    share = 1 - sums["relevance", "undelivered"] / sums["relevance", "required"]
    assert rows["all"]["delivered, relevance"] == f"{100 * share:.0f}%"


def test_more_groups_than_fit_are_cut_to_gainers_and_losers(run, monkeypatch):
    """With many groups the table has those that gained most and those that lost most, and says of how many."""
    monkeypatch.setattr(group_figures, "MAX_GROUPS", 6)
    table = group_table(figures_of(run, "seller"), 2)
    assert "the 3 that gained most and the 3 that lost most of 24" in table.title
    assert len(table.rows) == 7


def test_the_picture_draws_names_with_dollar_signs(run):
    """Names of sellers come from a log, so no text of the picture is read as a formula."""
    figures = figures_of(run, "seller")
    named = figures.late.assign(group="$x_" + figures.late["group"] + "$")
    drawn = picture(replace(figures, late=named))
    drawn.canvas.draw()
    labels = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert len(labels) == 24
    assert labels[0].startswith("$x_Seller ")
    assert "relevance" in drawn.texts[0].get_text().replace("\n", " ")


def test_tensorboard_has_a_tag_per_group_and_figure(run):
    """A point per round, with the value of the table."""
    scalars = read_scalars(run.folder / "events" / "relevance" / "seed-0")
    points = scalars["groups/seller Seller A/exposures"]
    table = run.groups
    mine = table[(table["agent"] == "relevance") & (table["seed"] == 0) & (table["group"] == "Seller A")]
    expected = mine[mine["metric"] == "exposures"].sort_values("round")["value"].tolist()
    assert [value for _, value in points] == pytest.approx(expected)
    assert not [name for name in scalars if name.startswith("zz_by_arrivals/groups/")]


def test_a_sweep_varies_a_guarantee(csv, tmp_path):
    """Several shares of a column are points of a sweep, each with its groups."""
    swept = sweep(
        "closed-loop",
        agents="random",
        rounds=1,
        seeds=1,
        data=csv,
        settings=SETTINGS,
        guarantee={"seller": (0.2, 0.5)},
        certify=False,
        workers=1,
        out=tmp_path / "sweep",
    )
    points = [load_run(path) for path in sorted((tmp_path / "sweep" / "points").iterdir())]
    owed = [one.groups.query("metric == 'required'")["value"].sum() for one in points]
    assert owed[1] == pytest.approx(2.5 * owed[0], rel=0.05)  # in whole exposures
    assert set(swept.sweep["beta"]) == {0.2, 0.5}
