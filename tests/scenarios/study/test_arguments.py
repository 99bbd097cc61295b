"""Arguments of compare and sweep: names, defaults, help."""

import inspect
import re
from dataclasses import fields

import pytest
from kit import refused

import rimsim
from rimsim.errors import ConfigError
from rimsim.scenarios.runs.arms import StudyOptions
from rimsim.scenarios.runs.execution import Execution
from rimsim.scenarios.study.arguments import StudyArguments
from rimsim.scenarios.study.checks import LogArguments, resolved

STUDIES = [rimsim.compare, rimsim.sweep]


@pytest.mark.parametrize("study", STUDIES)
def test_an_unknown_argument_is_refused_with_the_nearest_name(study, tmp_path):
    """Names of the typed dictionary and those of the signature are offered, and nothing is written."""
    folder = tmp_path / "run"
    name = study.__name__
    for wrong, right in (("worker", "workers"), ("agnts", "agents"), ("guarantees", "guarantee")):
        message = f"{name}: '{wrong}' is not an argument. Did you mean '{right}'?"
        refused(ConfigError, message, study, "closed-loop", out=folder, **{wrong: 1})
    # Only the list of values is collected under this name, so a caller cannot use it.
    refused(ConfigError, f"{name}: 'options' is not an argument", study, options={})
    assert not folder.exists()


@pytest.mark.parametrize("study", STUDIES)
def test_the_signature_names_every_argument_with_its_default(study):
    """Defaults are those of the records that get the arguments; sweeps have neither ledgers nor controls."""
    parameters = inspect.signature(study).parameters
    assert set(StudyArguments.__annotations__) < set(parameters)
    assert "options" not in parameters
    defaults = {
        field.name: field.default
        for record in (LogArguments, StudyOptions, Execution)
        for field in fields(record)
    }
    is_sweep = study is rimsim.sweep
    if is_sweep:
        defaults |= {"ledger": False, "control": None}
    assert parameters["ledger"].default is not is_sweep
    for name, default in defaults.items():
        assert parameters[name].default == default, name
    for name in ("settings", "out", "command", "progress", "console"):
        assert parameters[name].default is None
    assert parameters["backend"].annotation == "str"
    assert parameters["backend"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("study", STUDIES)
def test_help_describes_every_argument_once(study):
    """The arguments of help are those of the signature, in its order."""
    described = re.findall(
        r"^        (\w+): ", inspect.getdoc(study).replace("\n    ", "\n        "), re.MULTILINE
    )
    arguments = described[: described.index("console") + 1]
    assert arguments == list(inspect.signature(study).parameters)
    assert "Unpack" not in study.__doc__
    assert "options" not in arguments


def test_each_argument_about_the_log_sets_a_field_of_the_scenario():
    """No argument about the log is dropped: its field in the scenario has its value."""
    values = {
        "columns": "user=who,item=what,time=at",
        "separator": ";",
        "encoding": "cp1252",
        "time_unit": "ms",
        "skip_bad_rows": True,
        "drop_returns": True,
        "min_item_events": 7,
        "items": "sellers.csv",
    }
    assert {"data", *values} == {field.name for field in fields(LogArguments)}
    data = resolved("closed-loop", log=LogArguments(**values)).data
    assert {name: getattr(data, name) for name in values} == values
