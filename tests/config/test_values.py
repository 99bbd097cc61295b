"""Values of settings: YAML is read as users mean it, and numbers that no market can use are refused."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kit import cases, refused, said_by

from rimsim.config import ScenarioConfig, override, read_scenario
from rimsim.config.documents import read_yaml, written_yaml
from rimsim.errors import ConfigError

LETTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
"""Letters without line ends, which YAML folds."""


@cases(
    "text value",
    ("1:30", "1:30"),
    ("0:1:0.1", "0:1:0.1"),
    ("010", 10),
    ("0o10", 8),
    ("0x1F", 31),
    ("-7", -7),
    ("1_000", "1_000"),
    ("1e5", 100_000.0),
    ("+.5", 0.5),
    ("on", "on"),
    ("off", "off"),
    ("yes", "yes"),
    ("No", "No"),
    ("true", True),
    ("FALSE", False),
    ("2015-01-01", "2015-01-01"),
    ("null", None),
    ("~", None),
    ("", None),
    ("[a, on, 1]", ["a", "on", 1]),
    ("{a: 1:30}", {"a": "1:30"}),
)
def test_yaml_has_the_types_of_version_1_2(text, value):
    """Sexagesimal numbers, octal numbers, dates and words for truth of version 1.1 are texts or decimals."""
    parsed = read_yaml(text)
    assert parsed == value
    assert type(parsed) is type(value)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.from_regex(r"[-+0-9a-fox_:.eE~ ]{0,8}", fullmatch=True)
        | st.sampled_from(
            ["on", "yes", "no", "1:30", "010", "1e5", "2015-01-01", "null", "~", ".inf", "0o7"]
        ),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(LETTERS, max_size=4), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_what_is_written_as_yaml_is_read_again(content):
    """Both by rimsim and by readers of version 1.1, so that no text becomes a number."""
    text = written_yaml(content)
    assert read_yaml(text) == content
    assert yaml.safe_load(text) == content


@cases(
    "text problem",
    ("[" * 60 + "]" * 60, "nested more than 50 levels"),
    ("[" * 5000 + "]" * 5000, "nest"),
    ("{a: 1, a: 2}", "field 'a' occurs twice. Keep one of them"),
    ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ("9" * 5000, "digits"),
)
def test_yaml_that_cannot_be_meant_is_refused(text, problem, tmp_path, capsys):
    """In a file and on the command line, in one line."""
    path = tmp_path / "deep.yaml"
    path.write_text(f"rounds: {text}\n")
    message = refused(ConfigError, "deep.yaml.*not valid YAML", read_scenario, path)
    assert problem in message
    printed = said_by(capsys, ["compare", "--set", f"rounds={text}"], 2).err
    assert problem in printed
    assert printed.count("\n") == 1


@cases(
    "field value result",
    ("platform.retrain", "no", False),
    ("platform.retrain", "off", False),
    ("exposure.hard", "yes", True),
    ("arrivals.per_round", "1_000", 1000),
    ("arrivals.per_round", "010", 10),
    ("exposure.beta", "1e-1", 0.1),
    ("data.start", "2015-01-01", "2015-01-01"),
    ("data.start", "1420070400", 1_420_070_400.0),
)
def test_a_field_takes_what_users_mean(field, value, result):
    """The type of the field decides, where YAML 1.1 would have."""
    config = override(ScenarioConfig(), {field: read_yaml(value)})
    part, name = field.split(".")
    assert getattr(getattr(config, part), name) == result


@cases(
    "field value message",
    ("arrivals.per_round", "1:30", "is '1:30'. It must be a valid integer"),
    ("exposure.beta", "0:1:0.1", "is '0:1:0.1'. It must be a valid number"),
    ("exposure.beta", "yes", "is 'yes'. It must be a valid number"),
    ("exposure.beta", "0,3", "is '0,3'. It must be a valid number"),
    (
        "exposure",
        "{beta: 0,3}",
        "field 'exposure': 3 is not the name of a field. A decimal point .* beta: 0.3",
    ),
    ("exposure", "{1: 2}", "field 'exposure': 1 is not the name of a field. Write NAME: VALUE"),
    ("data.start", "2015", "2015 is second 2,015 of 1970, but looks like a date. Write .* 2015-01-01"),
    ("data.stop", "201503", "looks like a date. Write an ISO date such as 2015-03-01"),
    ("data.start", "20150131", "looks like a date. Write an ISO date such as 2015-01-31"),
    ("exposure.cost", ".inf", "is inf. It must be a finite number"),
    ("exposure.cost", "1e308", "is 1e.308. It must be less than or equal to 1000000"),
    ("exposure.forecast", ".inf", "is inf. It must be a finite number"),
    ("consumer.attraction", ".inf", "is inf. It must be a finite number"),
    ("consumer.attraction", "1e30", "It must be less than or equal to 1000000"),
    ("exposure.beta", ".nan", "is nan. It must be a finite number"),
    ("data.min_value", "-.inf", "is -inf. It must be a finite number"),
    ("consumer.dynamics.drift", "1e300", "It must be less than or equal to 50"),
    (
        "arrivals.round_length",
        "100000000d",
        "'100000000d' is longer than 1,000 years. Write a duration such as",
    ),
    ("rounds", "1000000000", "arrivals.round_length is 7d, so 1,000,000,000 rounds last 19,164,956 years"),
    ("arrivals.per_round", "10000000000", "It must be less than or equal to 1000000000"),
)
def test_a_value_that_nobody_can_mean_is_refused(field, value, message, capsys):
    """The line names the field and what is expected."""
    refused(ConfigError, message, lambda: override(ScenarioConfig(), {field: read_yaml(value)}))
    printed = said_by(capsys, ["compare", "--set", f"{field}={value}"], 2).err
    assert printed.startswith("rimsim: ")
    assert printed.count("\n") == 1


def test_a_long_value_is_cut_in_the_message():
    """A message stays one line of a terminal or two."""
    text = refused(ConfigError, "exposure.beta", override, ScenarioConfig(), {"exposure.beta": ["x"] * 500})
    assert len(text) < 250


@pytest.mark.parametrize("command", ["backtest", "data check ml-latest-small", "validate"])
def test_a_year_for_a_time_is_refused_by_every_command(command, capsys):
    """The second 2015 of 1970 would keep all events."""
    message = said_by(capsys, f"{command} --start 2015", 2).err
    assert "looks like a date. Write an ISO date such as 2015-01-01" in message
