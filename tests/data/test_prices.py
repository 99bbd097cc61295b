"""Columns of prices: their role, their forms, and words on a price that cannot be read."""

import numpy as np
import pytest
from kit import refused

from rimsim.data import load
from rimsim.data.log import prices_of
from rimsim.data.readers.prices import numbers_of_prices
from rimsim.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["11,37 €", "1.234,50", "1.234"], [11.37, 1234.5, 1234]),
        (["11.37", "1.234", "1,234.50"], [11.37, 1.234, 1234.5]),
        (["$1,234", "$ 5", "$0.5"], [1234, 5, 0.5]),
        (["1'234.50 CHF", "CHF 12.–", "chf 7.05"], [1234.5, 12, 7.05]),
        (["1 234,5 zł", "1\u202f234 zł", "0 zł"], [1234.5, 1234, 0]),
        (["12,-", "1.234.567"], [12, 1_234_567]),
        (["1e3", "3", ".5", "7."], [1000, 3, 0.5, 7]),
    ],
    ids=repr,
)
def test_prices_are_read_as_shops_write_them(texts, numbers):
    """All prices of a column share a decimal mark, which the unambiguous prices decide."""
    prices, problem = numbers_of_prices(texts)
    assert problem is None
    assert prices.tolist() == numbers


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["11,37", "4", "on request"], "'on request' is not a number of at least 0"),
        (["11,37", "12,50", "13.50"], "'13.50' is not a number of at least 0"),
        (["3 €", "4 $"], "'3 €' and '4 $' have different currencies"),
        (["-3 €"], "'-3 €' is not a number of at least 0"),
        (["3 kg"], "'3 kg' is not a number of at least 0"),
        (["€", "-", ","], "',' is not a number of at least 0"),
        (["1,23,456", "1.5"], "'1,23,456' is not a number of at least 0"),
    ],
    ids=repr,
)
def test_a_text_that_is_not_a_price_is_named(texts, problem):
    """Words, other marks, other currencies and negative numbers are not prices."""
    assert numbers_of_prices(texts)[1] == problem


def _shop(path, name="Preis", prices=("11,37 €", "12,63 €", "1.234,50 €", "")):
    """Log of four items with two prices each, but one price for the third item."""
    rows = [f"{n},{n % 4},{978_300_760 + n},{prices[n % 4 if n % 4 > 1 else n // 4 % 2]}" for n in range(16)]
    path.write_text("\n".join([f"user;item;time;{name}", *(row.replace(",", ";", 3) for row in rows)]))
    return path


def test_a_column_with_the_role_of_the_price_becomes_the_price(tmp_path):
    """Items have the median of their prices as attribute ``price``, NaN where no row has a price."""
    for name, columns in (
        ("Betrag", "user=user,item=item,time=time,price=Betrag"),
        ("Betrag", "user,item,time,price"),
    ):
        log = load(_shop(tmp_path / "log.csv", name), columns=columns)
        np.testing.assert_array_equal(log.items["price"], [12, 12, 1234.5, np.nan])
        assert prices_of(log.items).tolist() == [12, 12, 1234.5, 0]
        assert "attribute of items, as price" in log.report.columns_text()
    assert prices_of(load(_shop(tmp_path / "log.csv")).items).tolist() == [12, 12, 1234.5, 0]


def test_a_price_may_stand_in_the_table_of_items(tmp_path):
    """The role names a column of either table; a column in neither is refused."""
    log = _shop(tmp_path / "log.csv", "note")
    (tmp_path / "items.csv").write_text('item,Betrag\n0,"3,50 €"\n1,"4,20 €"\n2,5 €\n3,\n')
    columns = "user=user,item=item,time=time,price=Betrag"
    table = load(log, columns=columns, items=tmp_path / "items.csv").items
    np.testing.assert_array_equal(table["price"], [3.5, 4.2, 5, np.nan])
    refused(DataError, "there is no column 'Betrag' to read the price from", load, log, columns=columns)


def test_a_price_that_is_not_a_number_is_said_or_refused(tmp_path):
    """By its usual name it is ignored with the reason; with the role it is refused; other columns name the role."""
    path = _shop(tmp_path / "log.csv", prices=("11,37 €", "free", "3", "4"))
    text = load(path).report.columns_text()
    assert "ignored: it looks like a price, but 'free' is not a number of at least 0" in text
    columns = "user=user,item=item,time=time,price=Preis"
    refused(DataError, r"price \(column 'Preis'\): 'free' is not a number", load, path, columns=columns)
    text = load(_shop(path, "Betrag")).report.columns_text()
    assert (
        "ignored: it looks like a price (to read it, add price=Betrag to --columns), but it differs" in text
    )


def test_a_column_has_one_role(tmp_path):
    """A price that is the value, and an unknown role, are refused."""
    path = _shop(tmp_path / "log.csv", prices=("1", "2", "3", "4"))
    columns = "user=user,item=item,time=time,value=Preis,price=Preis"
    refused(DataError, "column 'Preis' is named for two roles", load, path, columns=columns)
    refused(ConfigError, "price", load, path, columns="user=user,item=item,time=time,prices=Preis")


def test_a_point_is_the_decimal_mark_if_no_mark_is_more_frequent():
    """Of one text that needs a comma and one that needs a point, the text with the comma is not a number."""
    numbers, problem = numbers_of_prices(["1,50", "1.50"])
    assert numbers[1] == 1.5
    assert problem == "'1,50' is not a number of at least 0"
