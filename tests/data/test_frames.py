"""Data frames as logs: the same log as the CSV, in every place where a log is given, under a name of its own."""

import gymnasium
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest
from kit import cases, refused, same_log

import rimsim
from rimsim.data import load
from rimsim.data.session_logs import source_name
from rimsim.errors import ConfigError, DataError
from rimsim.scenarios import experiment, load_run, validate
from rimsim.scenarios.report.html import html

COLUMNS = "user=customer,item=sku,time=bought at,value=stars"
SMALL = {
    "arrivals.per_round": 30,
    "platform.model": "popularity",
    "slate": 3,
    "consumer.truth": "factors",
    "consumer.rank": 1,
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop's log as a CSV file, with ISO times of a zone."""
    draw = np.random.default_rng(0)
    n = 900
    times = pd.to_datetime(1.5e9 + np.sort(draw.integers(0, 10**7, n)), unit="s")
    table = {
        "customer": [f"c{user}" for user in draw.integers(0, 40, n)],
        "sku": draw.integers(0, 31, n),
        "bought at": times.strftime("%Y-%m-%dT%H:%M:%S+02:00"),
        "stars": draw.integers(1, 6, n),
    }
    path = tmp_path_factory.mktemp("shop") / "shop.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    return path


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    """A cache whose path no message may have."""
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path_factory.mktemp("hidden-cache")))


def _polars(path, **options):
    return pytest.importorskip("polars").read_csv(path, **options)


class Exchanged:
    """A frame that has the interchange protocol alone."""

    def __init__(self, frame):
        self._frame = frame

    def __dataframe__(self, **options):
        return self._frame.__dataframe__(**options)


FRAMES = {
    "pandas": pd.read_csv,
    "pandas with texts": lambda path: pd.read_csv(path, dtype=str),
    "pandas with times": lambda path: pd.read_csv(path, parse_dates=["bought at"]),
    "pandas with categories": lambda path: pd.read_csv(path).astype({"customer": "category"}),
    "pandas with objects": lambda path: pd.read_csv(path).astype(object),
    "Polars": _polars,
    "Polars with times": lambda path: _polars(path, try_parse_dates=True),
    "Arrow": pyarrow.csv.read_csv,
    "interchange protocol": lambda path: Exchanged(pa.Table.from_pandas(pd.read_csv(path))),
}


@cases("kind", *((kind,) for kind in FRAMES))
def test_a_frame_is_the_same_log_as_its_csv(kind, shop):
    """Times as texts, with a zone, included."""
    same_log(load(FRAMES[kind](shop), columns=COLUMNS), load(shop, columns=COLUMNS))


def test_a_log_of_the_session_is_itself_when_loaded():
    """An EventLog can be given wherever a path can."""
    log = load(min_item_events=150)
    loaded = load(log)
    same_log(log, loaded)
    assert loaded.report.source == f"EventLog of {len(log):,} events"


def test_equal_frames_have_one_name_and_others_another(shop):
    """A run is repeated on the frame that it was made with."""
    frame = pd.read_csv(shop)
    assert source_name(frame) == source_name(frame.copy())
    assert source_name(frame) != source_name(frame[:-1])


@cases(
    "change message",
    ({"bought at": "soon"}, r"line 1: time \(column 'bought at'\) is 'soon'. Expected"),
    ({"bought at": "13/02/2024"}, "Write dates as year-month-day: 2024-02-13$"),
    ({"stars": "2,50"}, r"value \(column 'stars'\) is '2,50'.* has a decimal comma. Write 2.50$"),
    ({"customer": 1.5}, r"user \(column 'customer'\) is of type double. Expected whole numbers or text"),
    ({"sku": None}, r"item \(column 'sku'\) is of type null. Expected whole numbers or text"),
)
def test_a_wrong_frame_is_named_with_its_column(change, message, shop):
    """The message has the frame and the column, and no file of the cache."""
    text = refused(DataError, message, load, pd.read_csv(shop).assign(**change), columns=COLUMNS)
    assert text.startswith("DataFrame of 900 rows")
    assert "hidden-cache" not in text


def test_a_frame_without_a_column_is_told_which(shop):
    """The names that the frame has are listed."""
    frame = pd.read_csv(shop).drop(columns="sku").rename(columns={"bought at": "time"})
    message = "^DataFrame of 900 rows: no column for the item was found among 'customer', 'time', 'stars'"
    refused(DataError, message, load, frame)


@cases(
    "value message",
    ([1, 2], "data is a list. Expected the name or path of a log, a data frame with columns"),
    (pd.Series([1]), "data is a Series"),
    (pd.DataFrame, "data is a type"),
    (None, "data is a NoneType"),
    ("", "data is ''"),
)
def test_what_is_no_log_is_refused(value, message):
    """A column, a class or a list is not a log."""
    refused(ConfigError, message, load, value)


def test_a_lazy_frame_is_told_to_collect(shop):
    """A lazy frame has no rows yet."""
    lazy = _polars(shop).lazy()
    refused(ConfigError, r"data is a LazyFrame.*Call collect\(\) on the LazyFrame", load, lazy)


def test_a_frame_that_has_left_the_cache_is_asked_for_again(shop, tmp_path, monkeypatch):
    """The name tells what the log was, though its content is gone."""
    name = source_name(pd.read_csv(shop))
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path / "another"))
    refused(DataError, "^DataFrame of 900 rows: it is no longer in the cache.*Pass it again", load, name)


def test_a_cache_that_cannot_be_written_is_named(shop, tmp_path, monkeypatch):
    """The remedy is a variable of the environment."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("RIMSIM_CACHE", str(tmp_path / "file"))
    message = "DataFrame of 900 rows: the cache .* cannot be written to .*Set RIMSIM_CACHE to another folder"
    refused(DataError, message, load, pd.read_csv(shop))


def test_a_page_and_a_config_name_the_frame_and_no_path(shop, tmp_path):
    """A page for colleagues shows neither the cache nor the home folder."""
    run = rimsim.compare(
        data=pd.read_csv(shop),
        columns=COLUMNS,
        skip_bad_rows=True,
        min_item_events=1,
        agents=["random"],
        rounds=1,
        seeds=1,
        settings=SMALL,
        workers=1,
        out=tmp_path / "run",
    )
    assert run.config["scenario"]["data"]["source"] == source_name(pd.read_csv(shop))
    assert run.config["log"]["source"] == "DataFrame of 900 rows"
    page = html(run.report(), run)
    assert "<code>DataFrame of 900 rows</code>" in page
    assert "hidden-cache" not in page
    assert "hidden-cache" not in (tmp_path / "run" / "config.yaml").read_text()
    assert len(load_run(tmp_path / "run").ledger) > 0


def _environment(frame, columns):
    env = gymnasium.make("rimsim:RIMMarket-v0", data=frame, settings=SMALL | {"data.columns": columns})
    return env.unwrapped.config


def _experiment(frame, columns, out):
    options = {"rounds": 1, "seeds": 1, "settings": SMALL, "workers": 1, "min_item_events": 1, "out": out}
    return experiment("random", "popularity", data=frame, columns=columns, **options).run.scenario


def _sweep(frame, columns, out):
    options = {"rounds": 1, "seeds": 1, "settings": SMALL, "workers": 1, "min_item_events": 1, "out": out}
    swept = rimsim.sweep(data=frame, columns=columns, beta=[0.0, 0.5], agents=["random"], **options)
    assert sorted(set(swept.table["beta"])) == [0.0, 0.5]
    return swept.scenario


PLACES = {
    "load": lambda frame, columns, _: load(frame, columns=columns),
    "check": lambda frame, columns, _: rimsim.data.check(frame, columns=columns).log,
    "environment": lambda frame, columns, _: _environment(frame, columns),
    "sweep": _sweep,
    "experiment": _experiment,
}


@cases("place", *((place,) for place in PLACES))
def test_a_frame_is_a_log_wherever_a_path_is(place, shop, tmp_path):
    """Each takes the columns' names too."""
    frame = pd.read_csv(shop)
    log_or_scenario = PLACES[place](frame, COLUMNS, tmp_path / "run")
    if hasattr(log_or_scenario, "report"):
        assert len(log_or_scenario) == 900
    else:
        assert log_or_scenario.data.source == source_name(frame)


@cases("make", (validate,), (rimsim.backtest,))
def test_validations_and_back_tests_read_a_frame_by_its_columns(make, shop):
    """A wrong column is answered in the frame's name, so the frame was read."""
    columns = "user=nobody,item=sku,time=bought at"
    message = "^DataFrame of 900 rows: there is no column 'nobody'"
    refused(DataError, message, make, data=pd.read_csv(shop), columns=columns)
