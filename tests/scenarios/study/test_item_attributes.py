"""Attributes of items, from columns of events and from a table of items."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused, said_by, same_log
from kit.shop import COLUMNS

import rimsim
from rimsim import config as records
from rimsim.data import load, write
from rimsim.data.log import own_attributes
from rimsim.errors import DataError
from rimsim.intensity.cache import log_digest
from rimsim.scenarios.study.checks import LogArguments, resolved
from rimsim.scenarios.study.repetition import digests


def _with_times(purchases):
    """Purchases with times in place of texts."""
    return purchases.assign(
        **{"bought at": pd.to_datetime(purchases["bought at"], utc=True, format="ISO8601")}
    )


def _table(rows, path):
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


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
    ("price", ["2,50", "3", "2,50", "9"], 2.5, "the median of an item's prices"),
    ("price", ["free", "free", "free", "9"], "free", "price, but 'free' is not a number of at least 0"),
    ("price", ["free", "3", "free", "9"], None, "price, but 'free' is not a number of at least 0"),
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
    assert set(digests(records.ScenarioConfig(), [])) == {"log", "scenario"}


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
