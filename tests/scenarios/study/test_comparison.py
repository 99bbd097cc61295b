"""Scenarios, the comparison, its run folder, the command line, and what is switched off: it changes no byte."""

import dataclasses
import math
import shutil
import typing
from pathlib import Path

import numpy as np
import pytest
import yaml
from kit import DOCS, FAULTY, cases, refused, said_by
from kit.markets import drawn, small_run, small_scenario

from rimsim import config as records
from rimsim import measures
from rimsim.config.fields import duration_seconds
from rimsim.errors import ConfigError, DataError
from rimsim.market.ledger import LEDGER_COLUMNS
from rimsim.scenarios import compare, load_run
from rimsim.scenarios.runs.digests import digest
from rimsim.tracking import event_folder, read_scalars

_NAMESAKES = tuple(f"{FAULTY}:Named(called='{name}')" for name in ("a+b", "a&b"))
AGENTS = ("relevance", "rim-feedback", "random", "oracle")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small comparison with everything in it."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    with drawn("rounds", "lorenz"):  # of the table of rounds, and of the ledger
        return compare(small_scenario(rounds=2), AGENTS, seeds=2, out=folder, workers=1)


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
        kinds, texts = typing.get_type_hints(record), written.meanings(record)
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


def test_run_folder_holds_config_tables_pictures_and_events(run):
    """Everything that a run promises is there and can be read back; TensorBoard's scalars are those of the table."""
    assert run.scenario == small_scenario(rounds=2)
    assert run.config["versions"]["rimsim"]
    assert run.agents == [*AGENTS, "relevance-frozen"]
    assert list(run.rounds.columns) == ["agent", "seed", "round", "metric", "value"]
    assert list(run.ledger.columns) == list(LEDGER_COLUMNS)
    assert set(run.rounds["metric"]) <= set(measures.MEASURES)
    assert np.isfinite(run.rounds["value"]).all()
    pictures = {path.name for path in (run.folder / "pictures").glob("*.png")}
    assert pictures == {"rounds.png", "lorenz.png"}
    assert not list(run.folder.rglob(".*draft*"))
    tags = read_scalars(event_folder(run.folder, "relevance", 0))
    assert not [tag for tag in tags if "two_sides/" in tag]  # there are no providers
    scalars = tags["exposure/coverage"]
    table = run.rounds.query("agent == 'relevance' and seed == 0 and metric == 'coverage'")
    assert dict(scalars) == pytest.approx(dict(zip(table["round"], table["value"], strict=True)))


def test_rounds_table_follows_from_the_ledger(run):
    """Coverage, Gini, perplexity, shortfall and consumptions recomputed from the saved ledger are those saved."""
    checked, rounds = 0, run.rounds.set_index(["agent", "seed", "round", "metric"])["value"].sort_index()
    n_items = int(run.required["item"].max()) + 1  # every item of the catalogue has a floor
    for (agent, seed, number), part in run.ledger.groupby(["agent", "seed", "round"]):
        counts = np.bincount(part["item"], minlength=n_items)
        need = np.zeros(n_items, np.int64)
        rows = run.required[(run.required["seed"] == seed) & (run.required["round"] == number)]
        need[rows["item"]] = rows["required"]
        saved = rounds.loc[agent, seed, number]
        assert saved["coverage"] == pytest.approx(measures.coverage(counts))
        assert saved["gini"] == pytest.approx(measures.gini(counts))
        assert saved["perplexity"] == pytest.approx(measures.perplexity(counts))
        assert saved["shortfall"] == pytest.approx(measures.shortfall(counts, need))
        assert saved["consumptions"] == pytest.approx(part["consumed"].sum() / 120)
        checked += 1
    assert checked == 5 * 2 * 2


def test_certificates_bound_values_and_random_and_oracle_are_the_ends(run):
    """No value exceeds its bound, pricing comes closer than relevance; utilities lie between the two at every seed."""
    wide = run.rounds.pivot_table(index=["agent", "seed", "round"], columns="metric", values="value")
    assert (wide["value_model"] <= wide["bound"] + 1e-6).all()
    gap = wide["gap"].groupby("agent").mean()
    assert gap["rim-feedback"] < gap["relevance"]
    utility = wide["utility"].groupby(["seed", "agent"]).mean().unstack()
    assert (utility["oracle"] == utility.max(axis=1)).all()
    assert (utility["random"] == utility.min(axis=1)).all()


@cases(
    "options message",
    ({"agents": ()}, "at least one"),
    ({"agents": ("random", "random")}, "two agents are called 'random'. Give them different names"),
    ({"agents": _NAMESAKES}, r"a\+b.* and .*a&b.* would write to the same files"),
    ({"seeds": 0}, "positive number of seeds"),
    ({"seeds": [1, 1]}, "distinct seeds"),
    ({"workers": 0}, "workers is 0"),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"frozen": ["oracle"]}, "not among the agents"),
    ({"settings": {"slate": 5000}}, "5000 positions"),
    ({"data": "one.csv", "settings": {"data.min_item_events": 1, "slate": 1}}, "1 event"),
)
def test_bad_comparisons_are_refused_before_anything_is_written(tmp_path, monkeypatch, options, message):
    """Wrong agents, seeds and sizes, and a log that is too small to fit, are errors, and no folder appears."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.csv").write_text("user,item,timestamp\nu,a,0\n")
    asked = {"agents": ("random",), "out": tmp_path / "run"} | options
    refused((ConfigError, DataError), message, compare, small_scenario(), **asked)
    assert not (tmp_path / "run").exists()


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
    there, here = records.find_scenario("shop.yaml"), records.scenario_from({"name": "shop"} | fields)
    assert records.to_plain(there) == records.to_plain(here)


@cases("column value", ("agent", "other"), ("value", 1e-12))
def test_a_digest_is_of_all_names_and_digits(run, tmp_path, column, value):
    """A name in the table of rounds, or the last digits of a value, give the run another digest."""
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    assert digest(load_run(copy)) == digest(run)
    table = run.rounds.astype({"agent": str})
    table.loc[0, column] = value if column == "agent" else table["value"][0] + value
    table.to_parquet(copy / "rounds.parquet")
    assert digest(load_run(copy)) != digest(run)


def test_the_command_line_lists_and_checks_logs(tmp_path, capsys):
    """List names the embedded log, check describes it with a picture; a missing or useless log ends with status 2."""
    assert "ml-latest-small" in said_by(capsys, "data list").out
    check = ["data", "check"]
    assert "100,004" in said_by(capsys, [*check, "ml-latest-small", "--picture", f"{tmp_path}/log.png"]).out
    assert (tmp_path / "log.png").stat().st_size > 10_000
    assert "nowhere.csv" in said_by(capsys, [*check, f"{tmp_path}/nowhere.csv"], 2).err
    (tmp_path / "one.csv").write_text("user,item,time\nann,tea,5\n")
    said = said_by(capsys, [*check, f"{tmp_path}/one.csv"], 2)
    assert "rimsim cannot\n  - fit or simulate anything: 1 user with events" in said.out
    assert "one.csv: the log is too small to fit and simulate. It has 1 user with events" in said.err


DEAF = """
import numpy as np

from rimsim.market.arrivals import HawkesArrivals, HawkesOptions


class Deaf(HawkesArrivals):
    '''The process of the log's sessions, to which nobody tells what was shown or taken.'''

    def __init__(self, scenario):
        super().__init__(HawkesOptions(), scenario)

    def satisfaction(self, so_far):
        return np.full(so_far.world.past.n_users, 0.5)
"""
SWITCHES = {
    "providers": ("providers.options.threshold", -math.inf, 1.0),
    "users": ("arrivals.options.kappa", 0.0, 0.8),
    "satiation": ("consumer.dynamics.satiation", 0.0, 1.0),
    "drift": ("consumer.dynamics.drift", 0.0, 1.0),
    "conformity": ("consumer.dynamics.conformity", 0.0, 0.5),
}
"""What is switched → setting, off, on."""
VIABILITY = {"start": 1.0, "decay": 0.5, "entry": 2.0}
BESIDE = {
    "providers": {"providers.kind": "viability"}
    | {f"providers.options.{key}": value for key, value in VIABILITY.items()},
    "users": {"arrivals.options.neutral": 0.1, "arrivals.options.memory": 0.3},
    "satiation": {"consumer.dynamics.satiation_half_life": "1d"},
}
"""Settings that have a say only where the switch beside them is on."""


def returning(**settings):
    """Two rounds in which users persist, and nothing that moves is on."""
    market = small_scenario(rounds=2, arrivals=records.ArrivalsConfig(kind="hawkes", per_round=120))
    return records.override(market, settings)


def tables(config, folder):
    """Path → bytes of each table of a comparison."""
    run = small_run(folder, ("relevance", "rim-feedback"), config, reveal=["truth"])
    return {str(path.relative_to(run.folder)): path.read_bytes() for path in run.folder.rglob("*.parquet")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Tables of the market in which nothing is on."""
    found = tables(returning(), tmp_path_factory.mktemp("plain") / "run")
    names = {name.partition("/")[0].partition(".")[0] for name in found}
    assert {"rounds", "ledger", "truth", "arrivals", "required"} <= names
    return found


def differing(one, other):
    """Tables that are not the same bytes in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@pytest.mark.parametrize("name", SWITCHES)
def test_a_strength_that_is_on_changes_measures(name, plain, tmp_path):
    """With a threshold, κ or a strength above nothing the table of rounds is not that without."""
    setting, _, on = SWITCHES[name]
    with_it = tables(returning(**BESIDE.get(name, {}), **{setting: on}), tmp_path / "run")
    assert "rounds.parquet" in differing(plain, with_it)


def test_strengths_of_nothing_change_no_byte(plain, tmp_path):
    """At threshold −∞, κ = 0 and strengths of 0 all tables are those without; so are those of arrivals told nothing."""
    beside = {key: value for some in BESIDE.values() for key, value in some.items()}
    off = {setting: value for setting, value, _ in SWITCHES.values()}
    assert differing(plain, tables(returning(**beside, **off), tmp_path / "off")) == []
    place = tmp_path / "deaf.py"
    place.write_text(DEAF)
    deaf = returning(**{"arrivals.kind": f"{place}:Deaf"})
    assert differing(plain, tables(deaf, tmp_path / "run")) == []


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
