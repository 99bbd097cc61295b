"""Rows with a negative quantity: counted as events with a warning, or left out and counted."""

import pandas as pd
import pytest
from kit import refused, said_by

from rimsim.data import load
from rimsim.errors import DataError

HEADER = "user,item,time,Menge,price\n"
ROWS = "".join(f"{n % 7},{n % 5},{978_300_760 + n},{-2 if n % 10 == 3 else 1},4\n" for n in range(100))
RETURNS = 10


@pytest.fixture
def shop(tmp_path):
    """100 rows, of which 10 have a negative quantity."""
    path = tmp_path / "log.csv"
    path.write_text(HEADER + ROWS)
    return path


def test_returns_are_named_and_counted_as_events_until_they_are_dropped(shop):
    """Without the option the report warns; with it the log lacks the returns, and the report counts them."""
    log = load(shop)
    assert (len(log), log.report.returns.rows) == (100, RETURNS)
    assert "warning: 10 rows have a negative Menge, as returns have" in log.report.text()
    log = load(shop, drop_returns=True)
    assert (len(log), log.report.returns.rows) == (90, RETURNS)
    assert "10 returns left out (rows with a negative Menge)" in log.report.text()
    assert "warning" not in log.report.text()


def test_a_log_without_negative_quantities_says_nothing_of_returns(shop):
    """Quantities of at least 0 are not mentioned, and the option leaves nothing out."""
    shop.write_text(HEADER + ROWS.replace(",-2,", ",2,"))
    for drop in (False, True):
        log = load(shop, drop_returns=drop)
        assert len(log) == 100
        assert "return" not in log.report.text()


def test_a_column_of_quantities_is_named_or_asked_for(shop):
    """Another name needs ``quantity=``; without it, leaving returns out is refused with the way to name the column."""
    shop.write_text((HEADER + ROWS).replace("Menge", "n_sold"))
    assert load(shop).report.returns.rows == 0
    refused(
        DataError, r"no column has a usual name of quantities.*quantity=COLUMN", load, shop, drop_returns=True
    )
    named = load(shop, columns="user=user,item=item,time=time,quantity=n_sold", drop_returns=True)
    by_position = load(shop, columns="user,item,time,quantity", drop_returns=True)
    assert len(named) == len(by_position) == 90
    shop.write_text(ROWS)
    assert len(load(shop, columns="user,item,time,quantity", drop_returns=True)) == 90


def test_a_return_with_a_negative_value_is_no_bad_row(shop):
    """If quantities are the values, a return ends reading with both remedies, and is left out as a return."""
    columns = "user=user,item=item,time=time,value=Menge"
    message = refused(DataError, "'-2', a negative number", load, shop, columns=columns)
    assert "To leave returns out, set drop_returns (--drop-returns)" in message
    log = load(shop, columns=columns, drop_returns=True)
    assert (len(log), log.report.returns.rows, log.report.skipped) == (90, RETURNS, 0)


def test_returns_of_a_frame_are_those_of_its_text(shop):
    """Parquet, with quantities as whole or real numbers, drops the same rows as text."""
    text = load(shop, drop_returns=True)
    for kind in ("int32", "float64"):
        frame = pd.read_csv(shop).astype({"Menge": kind})
        log = load(frame, drop_returns=True)
        assert (log.time == text.time).all()
        assert log.report.returns.rows == RETURNS


def test_data_check_counts_returns(shop, capsys):
    """The command warns of returns, and leaves them out on request."""
    assert "warning: 10 rows have a negative Menge" in said_by(capsys, f"data check {shop}").out
    output = said_by(capsys, f"data check {shop} --drop-returns").out
    assert "10 returns left out" in output
    assert "events      90 (" in output


def test_a_bad_row_is_not_counted_as_a_return(shop):
    """A row that is skipped because its time is wrong is no return, although its quantity is negative."""
    shop.write_text(HEADER + ROWS + "1,2,soon,-1,4\n")
    report = load(shop, skip_bad_rows=True).report
    assert (report.skipped, report.returns.rows) == (1, RETURNS)
