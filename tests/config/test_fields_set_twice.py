"""A field that is set twice: the message names both places, and nothing is run."""

import pandas as pd
from kit import cases, refused, said_by

import rimsim
from rimsim.errors import ConfigError


@cases(
    "line settings",
    (
        "compare --min-item-events 60 --set data.min_item_events=5",
        "--min-item-events and --set data.min_item_events=5",
    ),
    ("compare --rounds 4 --set rounds=3", "--rounds and --set rounds=3"),
    ("compare --data a --set data.source=b", "--data and --set data.source=b"),
    ("compare --set slate=4 --set slate=5", "--set slate=4 and --set slate=5"),
    ("compare --set exposure={} --set exposure.beta=0.3", "--set exposure={} and --set exposure.beta=0.3"),
    ("compare --columns user,item,time --set data.columns=x", "--columns and --set data.columns=x"),
    ("sweep --beta 0,1 --grid exposure.beta=0,1", "--beta and --grid exposure.beta"),
    ("sweep --grid slate=3,4 --grid slate=5", "--grid slate and --grid slate"),
    ("sweep --grid slate=3,4 --set slate=5", "--set slate=5 and --grid slate"),
    ("sweep --rounds 3 --grid rounds=2,3", "--rounds and --grid rounds"),
    ("experiment random relevance --rounds 3 --set rounds=2", "--rounds and --set rounds=2"),
    ("backtest --data a --set data.source=b", "--data and --set data.source=b"),
    ("validate --slate 4 --set slate=3", "--slate and --set slate=3"),
)
def test_two_options_for_a_field_are_refused(line, settings, capsys):
    """Of two values one would win without a word."""
    assert f"{settings} set the same field" in said_by(capsys, line, 2).err


@cases("line option", ("--rounds 3 --rounds 4", "--rounds"), ("--out a --seeds 1 --out b", "--out"))
def test_an_option_that_is_given_twice_is_refused(line, option, capsys):
    """An option that takes several values, such as --set, can be repeated."""
    try:
        printed = said_by(capsys, f"compare {line}", 2).err
    except SystemExit:
        printed = capsys.readouterr().err
    assert f"{option} is given twice. Give it once" in printed


@cases(
    "call options settings",
    (rimsim.compare, {"rounds": 3, "settings": {"rounds": 4}}, r"rounds and settings\['rounds'\]"),
    (rimsim.compare, {"data": "a", "settings": {"data.source": "b"}}, r"data and settings\['data.source'\]"),
    (
        rimsim.compare,
        {"columns": "user,item,time", "settings": {"data.columns": "x"}},
        r"columns and settings",
    ),
    (
        rimsim.compare,
        {"min_item_events": 5, "settings": {"data.min_item_events": 6}},
        "min_item_events and settings",
    ),
    (rimsim.sweep, {"beta": [0], "grid": {"exposure.beta": [1]}}, r"beta and grid\['exposure.beta'\]"),
    (
        rimsim.sweep,
        {"grid": {"slate": [4]}, "settings": {"slate": 5}},
        r"grid\['slate'\] and settings\['slate'\]",
    ),
)
def test_two_arguments_for_a_field_are_refused(call, options, settings):
    """The same holds in Python."""
    refused(ConfigError, f"{settings}.* set the same field", call, **options)


def test_a_frame_and_a_source_are_two_logs():
    """A data frame is the log as much as a path is."""
    frame = pd.DataFrame({"user": [1], "item": [1], "time": [1.5e9]})
    message = r"data and settings\['data.source'\]"
    refused(ConfigError, message, rimsim.compare, data=frame, settings={"data.source": "b"})
