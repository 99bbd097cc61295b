"""Scenarios: the built-in ones, their fields, files that are refused, paths and durations in files."""

import dataclasses
import typing
from pathlib import Path

import pytest
import yaml
from kit import DOCS, cases, refused

from rimsim import config as records
from rimsim.config.fields import duration_seconds
from rimsim.errors import ConfigError


def test_built_in_scenarios_say_what_they_are():
    """Each reads, carries its own name and a description, and survives a round trip; a misspelt one is told."""
    for name in records.scenario_names():
        config = records.find_scenario(name)
        assert config.name == name
        assert config.description
        assert records.override(config, {}) == config
    refused(ConfigError, "'closed-loop'", records.find_scenario, "closed-lop")


def test_every_field_is_documented(script):
    """Each config field has a text, and the pages written by the script are as the code has them."""
    if not DOCS.is_dir():
        pytest.skip("needs the documentation")
    written = script("write_reference_docs")
    for file in written.PAGES:
        assert (DOCS / file).read_text(encoding="utf-8") == written.written(file), file

    def walk(record):
        kinds = typing.get_type_hints(record)
        texts = written.meanings(record)
        for field in dataclasses.fields(record):
            assert texts.get(field.name), f"{record.__name__}.{field.name}"
            for inner in (kinds[field.name], *typing.get_args(kinds[field.name])):
                if dataclasses.is_dataclass(inner):
                    walk(inner)

    walk(records.ScenarioConfig)


@cases(
    "text message",
    ("rouns: 3", "unknown field 'rouns'. Did you mean 'rounds'[?]$"),
    (
        "platform: {log_window: {round: 3}}",
        "field 'platform.log_window.round'. Did you mean 'platform.log_window.rounds'[?]$",
    ),
    ("rounds: 0", "field 'rounds' is 0. It must be greater than or equal to 1"),
    ("slate: ten", "field 'slate' is 'ten'. It must be a valid integer"),
    ("exposure: {beta: 1.5}", "field 'exposure.beta' is 1.5. It must be less than or equal to 1"),
    ("consumer: {attraction: 0}", "is 0. It must be greater than 0"),
    ("consumer: {position_decay: 2}", "is 2. It must be less than or equal to 1"),
    ("releases: {share: 1}", "is 1. It must be less than 1"),
    ("user_cap: 0", "is 0. It must be greater than or equal to 1"),
    ("platform: {retrain: maybe}", "is 'maybe'. It must be a valid boolean"),
    ("exposure: 3", "is 3. It must be a mapping of field names"),
    ("data: {source: 5}", "field 'data.source' is 5. It must be a valid string"),
    ("beta: 0.3", "unknown field 'beta'. Did you mean 'exposure.beta'[?]$"),
    ("kind: replay", "Did you mean 'arrivals.kind' or 'consumer.kind'"),
    ("exposure: {model: hp}", "Did you mean 'platform.model'"),
    ("arrivals: {round_length: soon}", "not a duration"),
    ("data: {session_gap: 5}", "'5' has no unit. Write a duration such as 30min"),
    ("arrivals: {history: some}", "Use one of logged, none"),
    ("[1, 2]", "a mapping"),
    ("", "holds nothing. Write at least one field"),
    ("# nothing yet\n", "holds nothing. Write at least one field"),
    ("a: b: c", "line 1: not valid YAML"),
    ("slate: 5\nrounds: 2\nslate: 6", "line 3: not valid YAML: field 'slate' occurs twice"),
    ("data:\n  start: 1\n  start: 2", "line 3: not valid YAML: field 'start' occurs twice"),
)
def test_bad_scenarios_are_refused_with_field_and_allowed_values(tmp_path, text, message):
    """A wrong field, type, range or syntax is an error that names file and field."""
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert "mine.yaml" in refused(ConfigError, message, records.read_scenario, path)


def test_paths_in_a_yaml_file_begin_at_that_file(tmp_path, monkeypatch):
    """From whatever folder it is read, a log, files of one's own and a table are found beside the file; names stay."""
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path)
    fields = {
        "data": {"source": "log.csv"},
        "consumer": {"kind": "observed", "options": {"table": "../answers.csv", "value": 1}},
    }
    kinds = {"arrivals": "sub/bursts.py:Bursts", "providers": "leaving.py:Leaving"}
    fields |= {"platform": {"model": "/far/model.py:Model"}} | {name: {"kind": kinds[name]} for name in kinds}
    file = tmp_path / "own" / "shop.yaml"
    file.write_text(yaml.safe_dump(fields))
    config = records.find_scenario("own/shop.yaml")
    assert config.name == "shop"
    assert config.data.source == str(Path("own/log.csv"))
    assert config.arrivals.kind == f"{Path('own/sub/bursts')}.py:Bursts"
    assert dict(config.consumer.options) == {"table": str(Path("own/../answers.csv")), "value": 1}
    assert config.platform.model == "/far/model.py:Model"
    assert config.providers.kind == f"{Path('own/leaving')}.py:Leaving"
    assert records.read_scenario(file).data.source == str(tmp_path / "own" / "log.csv")
    file.write_text("data: {source: shop}\nplatform: {model: mine.pyramid}\n")
    config = records.read_scenario(file)
    assert (config.data.source, config.platform.model) == ("shop", "mine.pyramid")
    (file.parent / "shop").mkdir()
    assert records.read_scenario(file).data.source == str(tmp_path / "own" / "shop")
    monkeypatch.chdir(file.parent)
    file.write_text(yaml.safe_dump(fields))
    scenario = records.find_scenario("shop.yaml")
    here = records.scenario_from({"name": "shop"} | fields)
    assert records.to_plain(scenario) == records.to_plain(here)


@cases(
    "text seconds",
    *(("7d", 604_800), ("1d 12h", 129_600), ("1.5 h", 5_400), ("2 weeks", 14 * 86_400), ("90S", 90)),
    *((text, None) for text in ("-1d", "0h", "1d -2h", "d", "1q", "7", "")),
)
def test_durations_are_sums_of_numbers_with_units(text, seconds):
    """Numbers with units, small or capital, are added up; without a unit, with another, or not above 0 it is none."""
    if seconds is None:
        refused(ValueError, repr(text), duration_seconds, text)
    else:
        assert duration_seconds(text) == seconds
