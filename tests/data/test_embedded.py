"""The log of a shop that rimsim contains: its counts, its source, and its names on the command line."""

import os
from pathlib import Path

import pandas as pd
import pytest
from kit import ROOT, refused, said_by

from rimsim.data import load
from rimsim.data.log import prices_of
from rimsim.data.readers import containers
from rimsim.errors import DataError

SOURCE = Path(os.environ.get("RIMSIM_DEV_DATA", "")) / "online-retail" / "online_retail.parquet"


def test_the_shop_has_its_events_names_prices_and_countries():
    """Counts are those of the notice; each product has a name and a price, and 30 purchases or more."""
    log = load("shop")
    assert (len(log), log.n_users, log.n_items) == (371_264, 4_318, 2_217)
    events_of_item = pd.Series(log.item).value_counts()
    assert events_of_item.min() == 30
    assert (log.items["title"] != "").all()
    assert (prices_of(log.items) > 0).all()
    lantern = log.items[log.items["id"] == "71053"].iloc[0]
    assert (lantern["title"], lantern["price"]) == ("WHITE METAL LANTERN", 3.75)
    assert log.users["country"].value_counts().index[:3].tolist() == ["United Kingdom", "Germany", "France"]
    pairs = pd.DataFrame({"user": log.user, "item": log.item})
    assert pairs.duplicated().sum() == 118_318
    assert not pairs.assign(time=log.time).duplicated().any()


def test_the_shop_is_read_by_its_name_whatever_folder_has_that_name(tmp_path, monkeypatch, capsys):
    """Scenarios mean the embedded log on every machine; a folder of the name is read by its path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "log.csv").write_text("user,item,time\na,b,5\na,c,6\n")
    assert len(load("shop")) == 371_264
    assert len(load("./shop")) == 2
    assert "371,264" in said_by(capsys, "data check shop").out
    assert "UCI Online Retail" in said_by(capsys, "data list").out
    assert "is part of rimsim" in said_by(capsys, "data download shop", 2).err


def test_a_build_without_any_log_says_what_to_install(tmp_path, monkeypatch):
    """Without files there is nothing to offer; with the shop alone, the shop is offered."""
    monkeypatch.setattr(containers.resources, "files", lambda _: tmp_path)
    refused(DataError, "does not contain this log. Install a wheel that contains it", load, "shop")
    (tmp_path / "embedded" / "shop").mkdir(parents=True)
    (tmp_path / "embedded" / "shop" / "events.parquet").touch()
    refused(DataError, r"Use the log 'shop' \(--data shop\), or install", load, "ml-latest-small", start=1)


def _line(customer, code, minute, **changes):
    """A line of an invoice."""
    line = {
        "InvoiceNo": "1",
        "StockCode": code,
        "Description": f"thing {code}",
        "Quantity": 1,
        "UnitPrice": 2.0,
    }
    line |= {"CustomerID": customer, "InvoiceDate": f"2011-01-01 10:{minute:02}:00", "Country": "France"}
    return line | changes


def test_purchases_are_chosen_named_and_priced_as_the_notice_says(script, tmp_path, monkeypatch):
    """Cancellations, charges, lines without a customer and rare products go; a line twice in a minute is a purchase."""
    maker = script("make_embedded_log")
    monkeypatch.setattr(maker, "MIN_PURCHASES", 2)
    lines = [
        _line(2.0, "10001", 5, UnitPrice=4.0, Description="  big  thing "),
        _line(1.0, "10001", 5, Country="Spain"),
        _line(1.0, "10001", 5),
        _line(1.0, "10001", 7, UnitPrice=0.0, Description="big thing"),
        _line(1.0, "10002A", 9),
        _line(1.0, "10002A", 10, UnitPrice=3.0),
        _line(1.0, "10003", 9),
        _line(1.0, "POST", 9),
        _line(1.0, "POST", 10),
        _line(1.0, "10003", 11, Quantity=-1, InvoiceNo="C2"),
        _line(None, "10003", 12),
    ]
    pd.DataFrame(lines).to_parquet(tmp_path / "lines.parquet")
    maker.make_shop(tmp_path / "lines.parquet", tmp_path / "shop")
    log = load(tmp_path / "shop")
    assert log.items["id"].tolist() == ["10001", "10002A"]
    assert log.items["title"].tolist() == ["big thing", "thing 10002A"]
    assert log.items["price"].tolist() == [3.0, 2.5]
    assert log.users["id"].tolist() == [1, 2]
    assert log.users["country"].tolist() == ["France", "France"]
    assert log.user.tolist() == [0, 1, 0, 0, 0]
    assert log.item.tolist() == [0, 0, 0, 1, 1]
    assert ((log.time - log.time[0]) / 60).tolist() == [0, 0, 2, 4, 5]


@pytest.mark.skipif(not SOURCE.is_file(), reason="needs the table of UCI Online Retail")
def test_the_shop_is_made_of_its_source(script, tmp_path):
    """Files made again of the donor's table have the same tables as those in rimsim."""
    script("make_embedded_log").make_shop(SOURCE, tmp_path)
    for name in containers.EMBEDDED_FILES["shop"]:
        made = pd.read_parquet(tmp_path / name)
        pd.testing.assert_frame_equal(
            made, pd.read_parquet(ROOT / "rimsim" / "data" / "embedded" / "shop" / name)
        )
