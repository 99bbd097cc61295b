"""Scenarios, the comparison, its run folder, and the command line."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from small_markets import drawn, small_cold_start, small_replay, small_scenario
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rimsim import measures
from rimsim.config import (
    PlatformConfig,
    ScenarioConfig,
    find_scenario,
    override,
    read_scenario,
    scenario_from,
    scenario_names,
    to_plain,
)
from rimsim.errors import ConfigError, DataError
from rimsim.market.ledger import LEDGER_COLUMNS
from rimsim.scenarios import compare, load_run
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.runs.status import digest

DOCS = Path(__file__).resolve().parent.parent / "docs"
_NAMESAKES = tuple(
    f"{Path(__file__).with_name('faulty_agents.py')}:Named(called='{name}')" for name in ("a+b", "a&b")
)
AGENTS = ("relevance", "rim-dual", "rim-feedback", "random", "oracle")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small comparison with everything in it."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    with drawn():
        return compare(small_scenario(), AGENTS, seeds=2, out=folder, workers=1)


@pytest.mark.parametrize("name", scenario_names())
def test_built_in_scenarios_say_what_they_are(name):
    """Every built-in scenario reads, carries its own name and a description, and survives a round trip."""
    config = find_scenario(name)
    assert config.name == name
    assert config.description
    assert override(config, {}) == config


def test_every_field_is_documented():
    """Each field of each config record has a description, and stands in the documentation."""
    page = (DOCS / "scenarios.md").read_text(encoding="utf-8") if DOCS.is_dir() else None

    def walk(record):
        kinds = typing.get_type_hints(record)
        for field in dataclasses.fields(record):
            described = record.__pydantic_fields__[field.name].description
            assert described, f"{record.__name__}.{field.name}"
            assert page is None or f"`{field.name}`" in page, field.name
            for inner in (kinds[field.name], *typing.get_args(kinds[field.name])):
                if dataclasses.is_dataclass(inner):
                    walk(inner)

    walk(ScenarioConfig)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rouns: 3", "unknown field 'rouns'. Did you mean 'rounds'[?]$"),
        (
            "platform: {log_window: {round: 3}}",
            "field 'platform.log_window.round'. Did you mean 'platform.log_window.rounds'[?]$",
        ),
        ("rounds: 0", "field 'rounds' is 0; allowed: greater than or equal to 1"),
        ("slate: ten", "field 'slate' is 'ten'; allowed: a valid integer"),
        ("exposure: {beta: 1.5}", "field 'exposure.beta' is 1.5; allowed: less than or equal to 1"),
        ("consumer: {attraction: 0}", "is 0; allowed: greater than 0"),
        ("consumer: {position_decay: 2}", "is 2; allowed: less than or equal to 1"),
        ("releases: {share: 1}", "is 1; allowed: less than 1"),
        ("user_cap: 0", "is 0; allowed: greater than or equal to 1"),
        ("platform: {retrain: maybe}", "is 'maybe'; allowed: a valid boolean"),
        ("exposure: 3", "is 3; allowed: a mapping of field names"),
        ("data: {source: 5}", "field 'data.source' is 5; allowed: a valid string"),
        ("beta: 0.3", "unknown field 'beta'. Did you mean 'exposure.beta'[?]$"),
        ("kind: replay", "Did you mean 'arrivals.kind' or 'consumer.kind'"),
        ("exposure: {model: hp}", "Did you mean 'platform.model'"),
        ("arrivals: {round_length: soon}", "no duration"),
        ("data: {session_gap: 5}", "'5' has no unit; allowed: such as '30min'"),
        ("arrivals: {history: some}", "Allowed: logged, none"),
        ("[1, 2]", "a mapping"),
        ("a: b: c", "line 1: not valid YAML"),
    ],
)
def test_bad_scenarios_are_refused_with_field_and_allowed_values(tmp_path, text, message):
    """A wrong field, type, range or syntax is an error that names file and field."""
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_scenario(path)
    assert "mine.yaml" in str(caught.value)


def test_unknown_scenario_names_the_nearest():
    """A misspelt scenario is refused with the nearest name."""
    with pytest.raises(ConfigError, match="'closed-loop'"):
        find_scenario("closed-lop")


def test_run_folder_holds_config_tables_pictures_and_events(run):
    """Everything that a run promises is there and can be read back."""
    assert run.scenario == small_scenario()
    assert run.config["versions"]["rimsim"]
    assert run.agents == [*AGENTS, "relevance-frozen"]
    assert list(run.rounds.columns) == ["agent", "seed", "round", "metric", "value"]
    assert list(run.ledger.columns) == list(LEDGER_COLUMNS)
    assert set(run.rounds["metric"]) <= set(measures.MEASURES)
    assert np.isfinite(run.rounds["value"]).all()
    pictures = {path.name for path in (run.folder / "pictures").glob("*.png")}
    assert {"rounds.png", "front.png", "lorenz.png", "who-pays.png", "retraining.png"} <= pictures
    assert not list(run.folder.rglob(".*draft*"))


def test_rounds_table_follows_from_the_ledger(run):
    """Coverage, Gini, perplexity, shortfall and consumptions recomputed from the saved ledger are those saved."""
    checked = 0
    n_items = int(run.required["item"].max()) + 1  # every item of the catalogue has a floor
    for (agent, seed, number), part in run.ledger.groupby(["agent", "seed", "round"]):
        counts = np.bincount(part["item"], minlength=n_items)
        need = np.zeros(n_items, np.int64)
        rows = run.required[(run.required["seed"] == seed) & (run.required["round"] == number)]
        need[rows["item"]] = rows["required"]
        saved = run.rounds[
            (run.rounds["agent"] == agent) & (run.rounds["seed"] == seed) & (run.rounds["round"] == number)
        ].set_index("metric")["value"]
        assert saved["coverage"] == pytest.approx(measures.coverage(counts))
        assert saved["gini"] == pytest.approx(measures.gini(counts))
        assert saved["perplexity"] == pytest.approx(measures.perplexity(counts))
        assert saved["shortfall"] == pytest.approx(measures.shortfall(counts, need))
        assert saved["consumptions"] == pytest.approx(part["consumed"].sum() / 120)
        checked += 1
    assert checked == 6 * 2 * 3


def test_certificates_bound_values(run):
    """The model's value never exceeds its certified bound, and pricing agents come closer to it than relevance."""
    wide = run.rounds.pivot_table(index=["agent", "seed", "round"], columns="metric", values="value")
    assert (wide["value_model"] <= wide["bound"] + 1e-6).all()
    gap = wide["gap"].groupby("agent").mean()
    assert gap["rim-feedback"] < gap["relevance"]


def test_random_and_oracle_are_the_ends(run):
    """The oracle's utility is highest and random's lowest, at every seed."""
    utility = run.rounds[run.rounds["metric"] == "utility"].pivot_table(
        index="seed", columns="agent", values="value"
    )
    assert (utility["oracle"] == utility.max(axis=1)).all()
    assert (utility["random"] == utility.min(axis=1)).all()


def test_events_read_back_as_the_table(run):
    """TensorBoard's scalars are those of the table, by round."""
    events = EventAccumulator(str(run.folder / "events" / "relevance" / "seed-0"))
    events.Reload()
    scalars = {event.step: event.value for event in events.Scalars("exposure/coverage")}
    table = run.rounds.query("agent == 'relevance' and seed == 0 and metric == 'coverage'").set_index(
        "round"
    )["value"]
    assert scalars == pytest.approx(table.to_dict())


def test_workers_and_batches_change_nothing(run, tmp_path):
    """Two processes with batches of 13 leave tables of the same digest as one process with large batches."""
    other = compare(small_scenario(), AGENTS, seeds=2, out=tmp_path / "other", workers=2, batch_size=13)
    assert digest(other) == digest(run)


@pytest.mark.parametrize("config", [small_replay(), small_cold_start()])
def test_other_markets_compare_too(config, tmp_path):
    """A replay and a market with releases go through the comparison."""
    found = compare(config, ("popularity", "rim-feedback"), seeds=1, out=tmp_path / "run", workers=1)
    assert found.rounds["round"].nunique() == config.rounds
    assert load_run(found.folder).rounds.equals(found.rounds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agents": ()}, "at least one"),
        ({"agents": ("random", "random")}, "distinct names"),
        ({"agents": _NAMESAKES}, r"a\+b.* and .*a&b.* would share their files"),
        ({"seeds": 0}, "positive number of seeds"),
        ({"seeds": [1, 1]}, "distinct seeds"),
        ({"workers": 0}, "workers is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"frozen": ["oracle"]}, "not among the agents"),
        ({"settings": {"slate": 5000}}, "5000 positions"),
    ],
)
def test_bad_comparisons_are_refused_before_anything_is_written(tmp_path, options, message):
    """Wrong agents, seeds and sizes are errors, and no folder appears."""
    with pytest.raises(ConfigError, match=message):
        compare(small_scenario(), **({"agents": ("random",), "out": tmp_path / "run"} | options))
    assert not (tmp_path / "run").exists()


def test_paths_in_a_yaml_file_begin_at_that_file(tmp_path, monkeypatch):
    """From whatever folder it is read, a log, files of one's own and a table are found beside the file; names stay."""
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path)
    fields = {
        "data": {"source": "log.csv"},
        "arrivals": {"kind": "sub/bursts.py:Bursts"},
        "consumer": {"kind": "observed", "options": {"table": "../answers.csv", "value": 1}},
        "platform": {"model": "/far/model.py:Model"},
        "providers": {"kind": "leaving.py:Leaving"},
    }
    file = tmp_path / "own" / "shop.yaml"
    file.write_text(yaml.safe_dump(fields))
    config = find_scenario("own/shop.yaml")
    assert config.name == "shop"
    assert config.data.source == str(Path("own/log.csv"))
    assert config.arrivals.kind == f"{Path('own/sub/bursts')}.py:Bursts"
    assert dict(config.consumer.options) == {"table": str(Path("own/../answers.csv")), "value": 1}
    assert config.platform.model == "/far/model.py:Model"
    assert config.providers.kind == f"{Path('own/leaving')}.py:Leaving"
    assert read_scenario(file).data.source == str(tmp_path / "own" / "log.csv")
    file.write_text("data: {source: shop}\nplatform: {model: mine.pyramid}\n")
    assert (read_scenario(file).data.source, read_scenario(file).platform.model) == ("shop", "mine.pyramid")
    (file.parent / "shop").mkdir()
    assert read_scenario(file).data.source == str(tmp_path / "own" / "shop")
    monkeypatch.chdir(file.parent)
    file.write_text(yaml.safe_dump(fields))
    assert to_plain(find_scenario("shop.yaml")) == to_plain(scenario_from({"name": "shop"} | fields))


def example(name):
    """A code block of the documentation, by the file name in its first line."""
    text = "".join(
        (DOCS / f"{page}.md").read_text(encoding="utf-8") for page in ("your-own", "your-own-market")
    )
    return text.split(f"# {name}\n", 1)[1].split("```", 1)[0]


@pytest.mark.skipif(not DOCS.is_dir(), reason="not a source checkout")
def test_the_documented_agent_and_log_go_through_compare(tmp_path, capsys):
    """The 20-line agent and the user's own CSV of the documentation run through the command line."""
    agent = example("my_agent.py")
    assert len(agent.strip().splitlines()) <= 20
    (tmp_path / "my_agent.py").write_text(agent)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "user": [f"u{n}" for n in rng.integers(0, 60, 3000)],
            "item": [f"film-{n}" for n in (40 * rng.random(3000) ** 2).astype(int)],
            "timestamp": 1_600_000_000 + np.sort(rng.integers(0, 90 * 86_400, 3000)),
        }
    )
    rows.to_csv(tmp_path / "mine.csv", index=False)
    line = f"compare closed-loop --data {tmp_path / 'mine.csv'} --rounds 2 --seeds 1 --workers 1"
    line += (
        f" --agents relevance,{tmp_path / 'my_agent.py'}:FreshFirst --out {tmp_path / 'run'} --set slate=5"
    )
    status = main(f"{line} --set arrivals.per_round=100 --set platform.model=popularity-hp".split())
    assert status == 0, capsys.readouterr().err
    assert "fresh-first" in set(load_run(tmp_path / "run").rounds["agent"])


def test_the_documented_model_serves(tmp_path):
    """A platform takes its model from a file of one's own, which belongs to what a run hangs on."""
    mine = tmp_path / "my_model.py"
    mine.write_text(example("my_model.py"))
    config = small_scenario(rounds=1, platform=PlatformConfig(model=f"{mine}:Bestsellers"))
    run = compare(config, ("relevance",), seeds=1, out=tmp_path / "run", workers=1, frozen=[], certify=False)
    assert str(mine) in run.config["digests"]
    with pytest.raises(ConfigError, match="no 'Bestseller'.*Did you mean 'Bestsellers'"):
        compare(override(config, {"platform.model": f"{mine}:Bestseller"}), ("random",), out=tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_command_line_compares_reports_and_digests(tmp_path, capsys):
    """Compare prints the table and where things are; report prints it again; --digest is the digest."""
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(yaml.safe_dump(to_plain(small_scenario(rounds=1))))
    folder = tmp_path / "run"
    line = f"compare {scenario} --agents random,relevance --seeds 3,5 --workers 1 --out {folder}"
    assert main(line.split()) == 0
    told = capsys.readouterr().out
    assert "utility" in told
    assert "tensorboard --logdir" in told
    assert load_run(folder).seeds == [3, 5]
    assert main(["report", str(folder)]) == 0
    assert "utility" in capsys.readouterr().out
    assert main(["report", str(folder), "--digest"]) == 0
    assert capsys.readouterr().out.strip() == digest(load_run(folder))


def test_a_bad_log_is_told_before_a_folder_is_made(tmp_path):
    """A missing file is an error that names it, and nothing is written."""
    with pytest.raises(DataError, match="nowhere"):
        compare("closed-loop", ("random",), data=str(tmp_path / "nowhere.csv"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_repeated_from_its_folder(tmp_path, capsys):
    """Compare --from says that the repetition is equal, and refuses options that the folder holds."""
    compare(small_scenario(rounds=1), ("random",), seeds=1, out=tmp_path / "one", workers=1, frozen=[])
    assert (
        main(["compare", "--from", str(tmp_path / "one"), "--out", str(tmp_path / "two"), "--workers", "1"])
        == 0
    )
    assert "equal to" in capsys.readouterr().out
    assert main(["compare", "--from", str(tmp_path / "one"), "--rounds", "2"]) == 2
    assert "rounds" in capsys.readouterr().err


def test_a_repetition_with_another_content_is_told(tmp_path, capsys):
    """One value that differs in its last digits ends compare --from with status 2, both digests and the table."""
    one, two = tmp_path / "one", tmp_path / "two"
    compare(small_scenario(rounds=1), ("random",), seeds=1, out=one, workers=1, frozen=[])
    table = pd.read_parquet(one / "rounds.parquet")
    table.loc[0, "value"] += 1e-12
    table.to_parquet(one / "rounds.parquet")
    assert main(["compare", "--from", str(one), "--out", str(two), "--workers", "1"]) == 2
    told = capsys.readouterr().err
    before, after = digest(load_run(one)), digest(load_run(two))
    assert before != after
    assert f"{two} differs from {one} in rounds (digests {after} and {before})" in told


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("u,a,0\n", "1 event"),
        ("u,a,0\nu,b,5000\nu,c,9000\nu,d,20000\nu,e,50000\n", "1 user"),
        ("u,a,0\nv,a,5000\nu,a,9000\nw,a,20000\n", "1 item"),
        ("u,a,7\nv,b,7\nw,a,7\nx,b,7\nu,b,7\n", "time"),
    ],
)
def test_degenerate_logs_are_refused_before_any_fit(tmp_path, rows, message):
    """One event, one user, one item or one instant: refused with the reason, and nothing is written."""
    log = tmp_path / "log.csv"
    log.write_text("user,item,timestamp\n" + rows)
    settings = {"data.min_item_events": 1, "slate": 1}
    with pytest.raises(DataError, match=message):
        compare("closed-loop", ("random",), data=str(log), settings=settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_log_with_gaps_of_years_goes_through(tmp_path):
    """Years of silence between the sessions of a small log change nothing about its being simulated."""
    rng = np.random.default_rng(1)
    years = rng.integers(0, 4, 600) * 5 * 365 * 86_400
    rows = pd.DataFrame(
        {
            "user": rng.integers(0, 30, 600),
            "item": rng.integers(0, 20, 600),
            "timestamp": 900_000_000 + years + rng.integers(0, 86_400, 600),
        }
    ).drop_duplicates(["user", "item"])
    path = tmp_path / "log.csv"
    rows.to_csv(path, index=False)
    settings = {
        "data.min_item_events": 1,
        "slate": 3,
        "arrivals.per_round": 50,
        "platform.model": "popularity-hp",
    }
    out = tmp_path / "run"
    found = compare("closed-loop", ("rim-dual",), 2, 1, data=str(path), settings=settings, out=out, workers=1)
    assert found.rounds["round"].nunique() == 2


def test_the_command_line_lists_and_checks_logs(tmp_path, capsys):
    """List names the embedded log, check describes it with a picture; a missing or useless log ends with status 2."""
    assert main(["data", "list"]) == 0
    assert "ml-latest-small" in capsys.readouterr().out
    assert main(["data", "check", "ml-latest-small", "--picture", str(tmp_path / "log.png")]) == 0
    assert "100,004" in capsys.readouterr().out
    assert (tmp_path / "log.png").stat().st_size > 10_000
    assert main(["data", "check", str(tmp_path / "nowhere.csv")]) == 2
    assert "nowhere.csv" in capsys.readouterr().err
    (tmp_path / "one.csv").write_text("user,item,time\nann,tea,5\n")
    assert main(["data", "check", str(tmp_path / "one.csv")]) == 2
    said = capsys.readouterr()
    assert "rimsim cannot\n  - fit or simulate anything: 1 users with events" in said.out
    assert "one.csv: too little to fit and simulate: 1 users with events" in said.err
