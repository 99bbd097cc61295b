"""What the command line says: of itself, before a run, of arms that failed, of other folders, of slips in a command."""

import inspect
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from kit import FAULTY, cases, refused, said_by, write_events
from kit.markets import drawn, small_broadcast, small_replay, small_run, small_scenario
from rich.console import Console

import rimsim
from rimsim import config as records
from rimsim.agents import make_agent, market_for, play_round
from rimsim.errors import ArmsError, ConfigError, DataError, RunFolderError
from rimsim.intensity.ground.contract import Ground
from rimsim.intensity.model_names import GROUNDS, MARKS
from rimsim.intensity.registry import names as model_names
from rimsim.intensity.registry import shipped
from rimsim.market import arrivals, build_world, consumers
from rimsim.measures import MEASURES, weighted_exposure
from rimsim.scenarios import compare, load_run, sweep
from rimsim.scenarios.cli import demo, tools
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.cli.runs import backtest, validate
from rimsim.scenarios.cli.runs import compare as compare_command
from rimsim.scenarios.kinds import backtest as backtesting
from rimsim.scenarios.kinds import validate as validating
from rimsim.scenarios.kinds.backtest.split import BacktestConfig
from rimsim.scenarios.kinds.validate import ValidateConfig
from rimsim.scenarios.report.console import show
from rimsim.scenarios.report.record import Report
from rimsim.scenarios.runs.progress import bar_console, bars
from rimsim.scenarios.runs.status import shown_rounds, status_of
from rimsim.scenarios.runs.store import repeat_command
from rimsim.scenarios.study import estimate
from rimsim.scenarios.study.checks import default_agents
from rimsim.scenarios.study.compare import resume
from rimsim.scenarios.study.notes import undeliverable_notes

RAISES = f"{FAULTY}:Raises"
_FEW = (
    "--rounds 2 --seeds 1 --workers 1 --no-certificate --set platform.model=popularity-hp "
    "--set arrivals.per_round=60 --set slate=5 --set data.min_item_events=120"
)
FEW = _FEW.split()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with a comparison (one) and a sweep (many)."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["compare", *FEW, "--agents", "random,relevance", "--out", str(folder / "one")]) == 0
    swept = ["--agents", "random", "--beta", "0.2,0.4", "--out", str(folder / "many")]
    assert main(["sweep", *FEW, *swept]) == 0
    return folder


def test_the_tables_of_arms_that_went_well_are_printed_beside_those_that_failed(tmp_path, capsys):
    """The other arms' table, then a line a failed arm and a status that is not 0; the report says how many failed."""
    out = str(tmp_path / "run")
    line = ["compare", *FEW, "--agents", f"random,{RAISES}", "--frozen", "none", "--out", out]
    said = said_by(capsys, line, 2)
    assert "closed-loop: round 1, 1 seed" in said.out
    assert "the log is" not in said.out  # of how the embedded log is read, nobody needs to be told
    assert "\nrandom " in said.out
    assert "\n  raises " not in said.out
    assert "rimsim: 1 of 2 arms failed:\n  raises, seed 0: agent 'raises' raised ValueError" in said.err
    assert f"1 of 2 arms failed: {out}/ holds failures/raises-0.txt" in said_by(capsys, ["report", out]).out
    run = load_run(out)
    assert set(shown_rounds(run)["agent"]) == {"random"}
    assert run.config["log"]["rows"] == 100_004


def test_a_sweep_prints_the_points_of_arms_that_went_well(tmp_path, capsys):
    """Arms that failed are told with their point; the table of the others is printed, also by the report."""
    out = tmp_path / "run"
    line = ["sweep", *FEW, "--agents", f"random,{RAISES}", "--beta", "0.2,0.4", "--out", str(out)]
    said = said_by(capsys, line, 2)
    assert "random beta=0.4" in said.out
    assert "2 of 4 arms failed:\n  raises, beta=0.2, seed 0: agent 'raises'" in said.err
    assert not (out / "sweep.parquet").exists()
    said = said_by(capsys, ["report", str(out)]).out
    assert "random beta=0.2" in said
    assert "points/beta=0.4/failures/raises-0.txt" in said


def test_means_over_late_rounds_are_never_of_an_arm_that_stopped_early(tmp_path):
    """Where no arm is complete, tables and pictures are made of the rounds that all have."""
    with drawn("lorenz"):
        refused(ArmsError, "1 of 1 arms failed", small_run, tmp_path / "none", (RAISES,), rounds=2)
    run = load_run(tmp_path / "none")
    assert set(shown_rounds(run)["round"]) == {0}
    assert not status_of(run).complete


def test_a_report_before_the_first_round_says_what_is_not_finished(folders, tmp_path, capsys):
    """A folder that has a config and no table yet: no traceback, and how to go on."""
    text = (folders / "one" / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text)
    told = said_by(capsys, ["report", str(tmp_path)]).out
    assert "3 of 3 arms are not finished: rimsim compare --resume --out" in told


def test_a_run_of_another_kind_is_refused_with_the_command_that_repeats_it(folders, capsys):
    """Neither --from nor --resume takes a sweep for a comparison; without a folder there is no run to go on with."""
    many = folders / "many"
    said = "holds a sweep. Expected a comparison, .* To repeat .*: "
    refused(RunFolderError, said, load_run, many, "comparison")
    for option in (["--from"], ["--resume", "--out"]):
        assert f"{many}: holds a sweep" in said_by(capsys, ["compare", *option, str(many)], 2).err
    said = said_by(capsys, ["sweep", "--resume", "--out", str(folders / "one")], 2)
    assert "holds a comparison. Expected a sweep" in said.err
    said = said_by(capsys, ["compare", "--resume", "--out", str(folders / "none")], 2)
    assert "no such folder, so there is nothing to resume" in said.err


@cases("entry name", ("experiment", "experiment"), ("validate", "validation"), ("backtest", "back-test"))
def test_what_is_begun_anew_is_not_resumed(entry, name, tmp_path, capsys):
    """The folder of an experiment, a validation or a back-test is refused with the command that repeats it."""
    command = f"rimsim {entry} --seeds 1"
    (tmp_path / "config.yaml").write_text(f"{entry}: {{}}\ncommand: {command}\n", encoding="utf-8")
    said = f"holds an? {name}. Expected a comparison, .* To repeat .*: {command}$"
    refused(RunFolderError, said, resume, tmp_path)
    for job in ("compare --resume --out", "sweep --resume --out", "compare --from"):
        said = said_by(capsys, f"{job} {tmp_path}", 2)
        assert f"To repeat the run in this folder: {command}\n" in said.err


def test_the_repeating_command_leaves_the_folder_out(folders):
    """What is repeated goes to a folder of its own."""
    run = load_run(folders / "many")
    run.config["command"] = "rimsim sweep --beta 0,1 --out here --resume --seeds 2 --out=there"
    assert repeat_command(run) == "rimsim sweep --beta 0,1 --seeds 2"
    run.config.pop("command")
    assert repeat_command(run) == "rimsim sweep"


def test_a_sweep_is_reported_as_digest_and_as_markdown(folders, tmp_path, capsys):
    """Equal sweeps have equal digests, others have not; --markdown writes the answer and the table."""
    scenario = load_run(folders / "many").scenario
    options = {"seeds": 1, "workers": 1, "certify": False}
    again, other = tmp_path / "again", tmp_path / "other"
    sweep(scenario, {"exposure.beta": [0.2, 0.4]}, ("random",), out=again, batch_size=7, **options)
    sweep(scenario, {"exposure.beta": [0.2, 0.5]}, ("random",), out=other, **options)
    places = (folders / "many", again, other)
    said = [said_by(capsys, ["report", str(folder), "--digest"]).out.strip() for folder in places]
    assert said[0] == said[1] != said[2]
    assert len(said[0]) == 64
    lines = said_by(capsys, ["report", str(folders / "many"), "--markdown"]).out.splitlines()
    assert lines[0].startswith("`random`: beta from 0.2 to 0.4 changes ")
    assert any(text.startswith("**closed-loop: means over the late rounds") for text in lines)
    assert lines[-1].startswith("| `random beta=0.4` | ")


@cases(
    "line said",
    ("compare --sedes 3", "compare: No such option '--sedes'. Did you mean '--seeds'?"),
    ("report here --digets", "report: No such option '--digets'. Did you mean '--digest'?"),
    ("data check x --coloumns=a", "data check: No such option '--coloumns'. Did you mean '--columns'?"),
    ("comprae", "No such command 'comprae'. Did you mean 'compare'?"),
    ("data chek", "data: No such command 'chek'. Did you mean 'check'?"),
    ("backtest --recipe quik", "backtest: --recipe: 'quik' is not one of 'thorough', 'quick'."),
    ("backtest --tol small", "backtest: --tol: 'small' is not a number. Write"),
    ("report one two", "report: Got unexpected extra argument (two). rimsim report --help"),
    ("report one --digest --markdown", "report: --markdown cannot be combined with --digest. Give only one"),
    ("data check", "data check: Missing argument 'PATH'. rimsim data check --help"),
    ("compare --out", "Option '--out' requires an argument. rimsim --help"),
    ("compare --out=", "compare: --out: '' is not a path. Name"),
    ("backtest --out=", "backtest: --out: '' is not a path. Name"),
    ("demo --out=", "demo: --out: '' is not a path. Name"),
    ("compare --rounds 0", "compare: --rounds: '0' is not a whole number of at least 1. Write a"),
    ("compare --workers 0", "compare: --workers: '0' is not a whole number of at least 1. Write a"),
    ("sweep --workers -2", "sweep: --workers: '-2' is not a whole number of at least 1. Write a"),
    ("sweep --batch-size 1.5", "sweep: --batch-size: '1.5' is not a whole number of at least 1. Write a"),
    ("compare --seeds 0", "--seeds: '0' is not a choice of seeds. Give a number"),
    ("backtest --seeds few", "--seeds: 'few' is not a choice of seeds. Give "),
    ("backtest --users 1", "--users: 1. It must be greater than or equal to 2"),
    ("sweep --beta 0,2", "--beta: field 'exposure.beta' is 2. It must be less than or equal to 1"),
    ("sweep --beta 0 --grid exposure.beta=1", "--beta and --grid exposure.beta set the same field"),
    ("sweep --grid exposure.cost=[", "--grid: exposure.cost: '[' cannot be read: "),
    ("compare --set slate=[", "--set: 'slate=[': '[' cannot be read: "),
    ("compare --set slate=0", "--set: field 'slate' is 0. It must be greater than or equal to 1"),
    ("compare --set beta=0.3", "--set: unknown field 'beta'. Did you mean 'exposure.beta'?"),
    ("compare --agents ,", "agents: the list is empty. Name at least one agent"),
    ("compare nowhere.yaml", "nowhere.yaml: no such file."),
    ("compare none/mine.yaml", "none/mine.yaml: no such file. There is no folder 'none'."),
)
def test_a_slip_is_answered_in_one_line_with_the_nearest_name(line, said, tmp_path, monkeypatch, capsys):
    """Status 2 and one line in our own words that names the option; no page of usage, no folder."""
    monkeypatch.chdir(tmp_path)
    refused(SystemExit, "^2$", lambda: sys.exit(main(line.split())))
    (err,) = capsys.readouterr().err.splitlines()
    assert err.startswith("rimsim")
    assert err.removeprefix("rimsim").lstrip(": ").startswith(said)
    assert not list(tmp_path.iterdir())


def test_what_the_system_refuses_is_told_in_words(tmp_path, capsys):
    """A run folder below a file, a scenario that is a folder or no text: the reason, and no number of an error."""
    (tmp_path / "file").touch()
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff")
    out = tmp_path / "file" / "run"
    line = [*FEW, "--agents", "random", "--out", f"{out}"]
    for words, told in (
        (line, f"rimsim: {out}: the folder cannot be made: a part"),
        ([f"{tmp_path}/folder.yaml"], "folder.yaml: cannot be read as a scenario: it is a folder\n"),
        ([f"{tmp_path}/bytes.yaml"], "byte 6 is not UTF-8. Expected UTF-8 text"),
    ):
        assert told in said_by(capsys, ["compare", *words], 2).err


def test_paths_may_be_texts_or_paths_and_nothing_else(tmp_path):
    """A folder that is a number is refused; logs and scenarios may be paths, and a file's stem is the default name."""
    loop, random, file = "closed-loop", ("random",), tmp_path / "mine.yaml"
    refused(ConfigError, "out: 5 is not a path. Expected a path", compare, loop, random, out=5)
    said = "rounds: field 'rounds' is 0. It must be greater than or equal to 1"
    refused(ConfigError, said, compare, loop, random, 0)
    refused(DataError, r"nowhere\.csv", compare, loop, random, data=tmp_path / "nowhere.csv")
    refused(ConfigError, r"nowhere\.yaml", compare, tmp_path / "nowhere.yaml", random)
    for text, name in (("rounds: 2", "mine"), ("name: ours", "ours")):
        file.write_text(text)
        assert records.find_scenario(str(file)).name == name


def test_a_command_may_be_repeated_with_resume_and_from(folders, tmp_path, capsys):
    """The same options are welcome beside the folder that holds them, in whole or in part."""
    one, resumed = str(folders / "one"), ["--resume", "--out", str(folders / "one")]
    for line in (
        ["compare", "--resume", one],
        ["compare", "closed-loop", *FEW, "--agents", "random,relevance", *resumed],
        ["compare", "--seeds", "0,", "--rounds", "2", *resumed],
        ["sweep", *FEW, "--beta", "0.2,0.4", "--resume", "--out", str(folders / "many")],
    ):
        assert main(line) == 0
    again = ["--out", str(tmp_path / "again"), "--workers", "1"]
    assert f"equal to {one}" in said_by(capsys, ["compare", "--rounds", "2", "--from", one, *again]).out


@cases(
    "options said",
    ("--rounds 3", "rounds 3 instead of 2. Give the same options, or none"),
    ("--seeds 2", "seeds [0, 1] instead of [0]"),
    ("--agents random", "agents ['random'] instead of ['random', 'relevance']"),
    ("--frozen none", "frozen [] instead of ['relevance']"),
    ("--set exposure.beta=0.3", "exposure.beta 0.3 instead of 0.5"),
    ("--no-ledger", "ledger False instead of True"),
    ("no-retrain", "name 'no-retrain' instead of 'closed-loop'"),
)
def test_other_options_beside_a_run_folder_are_refused_with_the_difference(folders, options, said, capsys):
    """What differs is named, with both values, for --resume and --from alike."""
    for before in (["--resume", "--out"], ["--from"]):
        told = said_by(capsys, ["compare", *options.split(), *before, str(folders / "one")], 2).err
        assert "some options differ from those that the run began with: " in told
        assert said in told


def test_a_repetition_that_differs_names_what_has_changed(tmp_path, capsys):
    """After an edit of an agent's file, --from says so before it runs, and with the tables that differ after."""
    mine, out = tmp_path / "mine.py", str(tmp_path / "run")
    text = "from rimsim.agents import Random, Relevance\n\n\nclass Mine(Random):\n    name = 'mine'\n"
    mine.write_text(text)
    assert main(["compare", *FEW, "--agents", f"{mine}:Mine", "--frozen", "none", "--out", out]) == 0
    mine.write_text(text.replace("(Random)", "(Relevance)"))
    again = ["compare", "--from", out, "--workers", "1", "--out"]
    said = said_by(capsys, [*again, str(tmp_path / "again")], 2)
    assert f"note: {out}: changed since the run began: {mine}" in said.out
    assert f"again differs from {out} in rounds, arrivals, learnt, ledger, reliability (digests " in said.err
    assert said.err.rstrip().endswith(f"changed since the run began: {mine}")
    mine.unlink()
    assert "mine.py" in said_by(capsys, [*again, str(tmp_path / "third")], 2).err


def test_a_report_needs_no_log(tmp_path, monkeypatch, capsys):
    """A run on a log with gaps of years, by a relative path, is reported from elsewhere, and after the log has gone."""
    log, here = tmp_path / "log.csv", tmp_path / "elsewhere"
    at = np.arange(900)
    write_events(log, 7 * at % 40, 11 * at % 31, 900_000_000 + 9000 * at + at // 300 * 5 * 365 * 86_400)
    monkeypatch.chdir(tmp_path)
    line = (
        "compare --data log.csv --agents random --out run --rounds 1 --seeds 3,5 --workers 1 --no-certificate"
    )
    line += (
        " --set platform.model=popularity-hp --set arrivals.per_round=60 --min-item-events 1 --set slate=3"
    )
    line += " --set consumer.truth=factors --set consumer.rank=1"
    assert "tensorboard --logdir" in said_by(capsys, line).out
    log.unlink()
    here.mkdir()
    monkeypatch.chdir(here)
    build_world.cache_clear()
    assert "random" in said_by(capsys, ["report", "../run"]).out
    assert load_run("../run").catalogue["events"].sum() > 0
    assert load_run("../run").seeds == [3, 5]


LIGHT = ("--version", "--help", "compare --help", "data --help", "compare --sedes")
SLIPS = ("compare closed-lop", "compare --agents relevence", "agents relevence", "report nowhere")
SLIPS += ("scenarios", "sweep --set platform.modle=bag")


@cases(
    "words heavy",
    *((words, {"torch", "pandas", "numba", "pydantic", "rich", "matplotlib", "seaborn"}) for words in LIGHT),
    *((words, {"torch", "scipy", "matplotlib", "seaborn"}) for words in SLIPS),
)
def test_command_line_answers_without_what_work_needs(words, heavy):
    """Version, help and slips of options load no large package; slips of names and lists neither torch nor SciPy."""
    code = (
        "import contextlib, sys; from rimsim.scenarios.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
        f"assert not {heavy} & sys.modules.keys(), sys.modules.keys()"
    )
    line = [sys.executable, "-c", code, *words.split()]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout or done.stderr.startswith("rimsim")


@cases(
    "kind names",
    ("scenarios", records.scenario_names()),
    ("agents", rimsim.agents.BUILT_IN),
    ("models", {part for name in model_names() for part in name.split("-")}),
    ("arrivals", arrivals.BUILT_IN),
    ("consumers", consumers.BUILT_IN),
    ("measures", MEASURES),
)
def test_what_has_a_name_is_listed_with_a_line(kind, names, capsys):
    """Each kind of thing has a command that prints every built-in name and what it is."""
    assert main([kind]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(names) == set(listed) - {"MARK-GROUND"}
    assert all(len(line) > 5 and "`" not in line for line in listed.values())


def _told(command):
    """Name of each option → the default that its help tells."""
    texts = [(option.opts[0], option.help or "") for option in command.params]
    defaults = {name: re.search(r"\(default: (.*?)[);]", text) for name, text in texts}
    return {name: match[1] for name, match in defaults.items() if match and name.startswith("--")}


def _written(value):
    """A value as one writes it on a command line."""
    if isinstance(value, tuple):
        return ",".join(map(_written, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_help_tells_the_defaults_that_are_taken():
    """Where an option is left out, the configs of back-tests and validations, and compare, take what help says."""
    config, told = BacktestConfig(), _told(backtest)
    for name in ("models", "beta", "recipe", "prices", "tol", "dither", "device"):
        assert told[f"--{name}"] == _written(getattr(config, name)), name
    split, seeds = config.split, len(config.seeds)
    others = {"--caps": config.cap, "--seeds": seeds, "--split": split.kind, "--recent": split.recent}
    assert others.keys() <= told.keys()
    for name, value in others.items():
        assert told[name] == _written(value), name
    config, told = ValidateConfig(), _told(validate)
    for name in ("draws", "after", "slate", "resamples", "device"):
        assert told[f"--{name}"] == _written(getattr(config, name)), name
    taken, told = inspect.signature(rimsim.compare).parameters, _told(compare_command)
    assert told["--agents"] == ", ".join(default_agents(records.ScenarioConfig()))
    assert told["--seeds"] == str(taken["seeds"].default)
    assert told["--backend"] == taken["backend"].default
    assert told["--frozen"] == "relevance"
    assert told["--control"] == ",".join(taken["control"].default)


def test_the_default_agents_of_a_scenario_include_the_agent_of_its_name():
    """A scenario's namesake takes part without being asked for; clones and replays have the same four agents."""
    for name in records.scenario_names():
        chosen = default_agents(records.find_scenario(name))
        assert ("offline-match" in chosen) == (name in {"offline-match", "user-rec"})
        assert ("user-rec" in chosen) == (name == "user-rec")
    four = ("relevance", "rim-dual", "rim-feedback", "random")
    assert default_agents(small_scenario()) == default_agents(small_replay()) == four


def test_compare_and_sweep_take_the_default_agents_of_their_scenario(tmp_path):
    """Without agents, a broadcast is played by the planners too; a sweep takes those that can play at every point."""
    arrivals = records.ArrivalsConfig(kind="broadcast", per_round=20)
    config = small_broadcast(rounds=1, arrivals=arrivals, exposure=records.ExposureConfig(beta=0.5))
    run = compare(config, seeds=1, out=tmp_path / "one", workers=1, certify=False)
    assert run.agents == ["relevance", "rim-dual", "rim-feedback", "offline-match", "random"]
    grid = {"arrivals.kind": ["broadcast", "clones"]}
    sweep(config, grid, seeds=1, out=tmp_path / "many", workers=1, certify=False)
    assert load_run(tmp_path / "many").agents == ["relevance", "rim-dual", "rim-feedback", "random"]


@cases(
    "make fields",
    (small_broadcast, {}),
    (small_broadcast, {"exposure": records.ExposureConfig(items=30, each=12)}),
    (small_broadcast, {"exposure": records.ExposureConfig(each=500)}),
    (small_scenario, {"exposure": records.ExposureConfig(items=40, each=120), "user_cap": 4}),
    (small_replay, {"exposure": records.ExposureConfig(each=9)}),
    (small_scenario, {"exposure": records.ExposureConfig(beta=1.0)}),
)
def test_a_note_is_there_where_a_round_asks_for_more_than_it_has(make, fields):
    """The note is what the market that opens asks for and its slates hold, and no agent can do better than it says."""
    config = make(rounds=1, **fields)
    market = market_for(make_agent("random"), config)
    required, weights = market.required, market.open.requirements.position_weights
    filled = market.capacity if market.capacity is not None else np.full(len(market.schedule), config.slate)
    there = np.concatenate([[0.0], np.cumsum(weights)])[filled].sum()
    notes = undeliverable_notes(config)
    if required.sum() <= there * (1 + 1e-5):
        assert notes == []
        return
    asked = f"asked for {required.sum():,.1f}, at most {there:,.1f}, since there are too few positions"
    assert notes[0] == f"in the first round, all items cannot be delivered in full: {asked}"
    play_round(market, make_agent("random"))
    given = weighted_exposure(market.closed[-1].ledger.item, weights, market.n_items)
    assert np.maximum(required - given, 0).sum() >= required.sum() - there - 1e-9


def test_the_note_is_printed_once_before_the_run(tmp_path):
    """Compare and sweep say it on the console, a sweep once for all points that ask alike."""
    arrivals = records.ArrivalsConfig(kind="broadcast", per_round=20)
    config, text = small_broadcast(rounds=1, arrivals=arrivals), io.StringIO()
    options = {"seeds": 1, "workers": 1, "certify": False, "console": Console(file=text, width=200)}
    sweep(config, {"exposure.cost": [1.0, 2.0]}, ("random",), out=tmp_path / "many", **options)
    said = "all items cannot be delivered in full: asked for 111.0, at most 37.0, since there are too few positions"
    assert text.getvalue().count(said) == 1
    compare(config, ("random",), out=tmp_path / "one", **options)
    assert text.getvalue().count(said) == 2


def test_a_quick_demo_replaces_its_own_folder_only(tmp_path, monkeypatch):
    """A whole demo beside it stays; a folder that holds anything else is refused untouched."""
    for part in ("quick", "closed-loop"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "old").touch()
    made = []
    monkeypatch.setattr(demo.scenarios, "compare", lambda *_, out, **__: made.append(out))
    monkeypatch.setattr(tools, "print_run", lambda run: None)
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 0
    assert made == [tmp_path / "quick"]
    assert not made[0].exists()
    assert (tmp_path / "closed-loop" / "old").exists()
    (tmp_path / "mine").touch()
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 2
    assert (tmp_path / "closed-loop" / "old").exists()


@cases(
    "line said",
    ("compare --agents random,relevance", "arms       random, relevance, relevance-frozen\n"),
    ("compare --agents random", "arrivals   about 60 per round; 240 in 2 arms and seeds\n"),
    ("sweep --agents random --grid exposure.cost=1,2", "points     cost=1, cost=2\n"),
    ("sweep --agents random", "points     beta=0, beta=0.1, beta=0.3, beta=0.5, beta=0.7, beta=1\n"),
)
def test_a_dry_run_prints_the_plan_and_makes_no_folder(line, said, tmp_path, monkeypatch, capsys):
    """Arms, points, arrivals and memory are there; nothing lies in the folder that the run would have."""
    monkeypatch.chdir(tmp_path)
    command, *words = line.split()
    told = said_by(capsys, [command, *FEW, *words, "--out", "run", "--dry-run"]).out
    assert said in told
    assert "\nmemory     about " in told
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_is_not_of_a_run_that_has_begun(folders, capsys):
    """With --resume or a folder in use it is refused; a wrong agent is refused as ever."""
    one = str(folders / "one")
    for words, said in (
        (["--resume", "--out", one], "--dry-run cannot be used for a run that has begun"),
        (["--out", one], "already holds a run"),
        (["--agents", "randm"], "Did you mean 'random'"),
    ):
        assert said in said_by(capsys, ["compare", *FEW, "--dry-run", *words], 2).err


def test_thresholds_and_fields_have_options_where_they_were_missing(capsys):
    """Compare and sweep take --min-item-events, validate and backtest take --set, as a field of their config."""
    small = ["--set", "slate=5", "--set", "platform.model=popularity-hp", "--agents", "random", "--dry-run"]
    assert "with 100 items" in said_by(capsys, ["compare", "--min-item-events", "120", *small]).out
    assert "with 100 items" in said_by(capsys, ["sweep", "--min-item-events", "120", *small]).out
    for command in ("validate", "backtest"):
        said = said_by(capsys, [command, "--set", "data.sesion_gap=2h"], 2).err
        assert "Did you mean 'data.session_gap'?" in said
        said = said_by(capsys, [command, "--set", "data.session_gap=soon"], 2).err
        assert "field 'data.session_gap': 'soon' is not a duration" in said


def completed(monkeypatch, capsys, line):
    """Words that bash offers for the last word of a line, less the kind of each."""
    monkeypatch.setenv("_RIMSIM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    return said_by(capsys, []).out.split()


@cases(
    "line words",
    ("rimsim valid", ["plain,validate"]),
    ("rimsim compare online", ["plain,online-match"]),
    ("rimsim compare --agents relevance,rim-d", ["plain,relevance,rim-dual"]),
    ("rimsim compare --agents relevance,relev", []),
    ("rimsim backtest --models gru-h", ["plain,gru-hawkes", "plain,gru-hp"]),
    ("rimsim agents orac", ["plain,oracle"]),
    ("rimsim compare --from ", ["plain,runs/deep/one", "plain,runs/two"]),
    ("rimsim report runs/t", ["plain,runs/two"]),
    ("rimsim report elsewhere/", ["dir,elsewhere/"]),
    ("rimsim compare mine", ["file,mine"]),
)
def test_a_shell_completes_names_and_run_folders(line, words, tmp_path, monkeypatch, capsys):
    """Commands, scenarios, agents and models by name, the last of a list too; run folders where ``runs`` has some."""
    for place in ("runs/deep/one", "runs/two", "runs/none"):
        (tmp_path / place).mkdir(parents=True)
    for place in ("runs/deep/one", "runs/two"):
        (tmp_path / place / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert completed(monkeypatch, capsys, line) == words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_for_words(shell, capsys):
    """The script sets the variable by which rimsim answers a shell."""
    assert f"_RIMSIM_COMPLETE={shell}_complete" in said_by(capsys, ["completion", shell]).out


def test_completion_knows_the_names_of_the_registry():
    """The names that need no PyTorch are those of the shipped models, in their order."""
    assert tuple(shipped()) == (*MARKS, *GROUNDS)
    assert {*GROUNDS} == {name for name, model in shipped().items() if issubclass(model, Ground)}


@pytest.mark.parametrize("kind", ["agents", "models", "arrivals", "consumers", "providers", "measures"])
def test_lists_of_names_have_no_marks_of_markup(kind, capsys):
    """Neither backticks nor roles of reStructuredText are printed, in the list or about a name."""
    lines = said_by(capsys, [kind]).out
    assert not re.search("`|:class:|:func:", lines)
    name = lines.split()[0]
    assert not re.search("`|:class:|:func:", said_by(capsys, [kind, name]).out)


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """As of a terminal."""
        return True


def test_a_terminal_gets_lines_that_are_broken_between_words(monkeypatch):
    """A long message has no line beyond the width, a command to copy stays whole, and a pipe gets the text as it is."""
    monkeypatch.setenv("COLUMNS", "40")
    command = "  rimsim compare --resume --out a/folder/with/a/long/name"
    text = f"{'no-such-word ' * 9}end\n{command}"
    *lines, last = tools.broken_between_words(text, Screen()).splitlines()
    assert last == command
    assert max(map(len, lines)) <= 40
    assert " ".join(lines).split() == text.partition("\n")[0].split()
    assert tools.broken_between_words(text, io.StringIO()) == text


def test_a_report_on_a_terminal_ends_with_the_answer():
    """Names of pictures are not cut, commands stay whole, and in a file the answer comes first."""
    pictures = ", ".join(f"picture-{number}.png" for number in range(20))
    command = f"tensorboard --logdir {'long/' * 20}events"
    report = Report(
        question="A question?",
        answer=("The answer.",),
        places=lambda: [("pictures", pictures), ("events", command)],
    )
    texts = []
    for terminal in (True, False):
        file = io.StringIO()
        show(report, Console(file=file, width=80, force_terminal=terminal, color_system=None))
        texts.append(file.getvalue())
    lines = texts[0].strip().splitlines()
    assert lines[-1] == "The answer."
    assert max(len(line) for line in lines if command not in line) <= 80
    assert [word.strip(",") for line in lines for word in line.split() if ".png" in word] == pictures.split(
        ", "
    )
    assert f"events     {command}" in lines
    assert texts[1].strip().startswith("The answer.")
    assert f"pictures   {pictures}\n" in texts[1]


def test_bars_leave_room_for_an_echoed_interrupt():
    """No line of the bars reaches the last four columns of a terminal."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    progress = bars(console)
    progress.add_task("fitting the platform's model", total=2, completed=1)
    progress.add_task("arrivals served", total=72_000, completed=36_000)
    console.print(progress.get_renderable())
    assert [len(line) for line in console.file.getvalue().splitlines()] == [76, 76]


def test_bars_are_shown_in_terminals_and_on_request():
    """Without a console, the standard output decides; a given console shows bars unless it is told not to."""
    console = Console(file=io.StringIO())
    assert bar_console(None, show=None) is None  # the output of tests is no terminal
    assert bar_console(None, show=True) is not None
    assert bar_console(console, show=None) is console
    assert bar_console(console, show=False) is None


FIRST_TIME = """
from pathlib import Path
from rimsim.agents import Random

class Late(Random):
    name = "late"

    def begin_round(self, view):
        super().begin_round(view)
        if view.round == 1 and not Path(__file__).with_suffix(".go").exists():
            raise ValueError("not yet")
"""


def test_the_bar_of_a_resumed_run_ends_at_its_total(tmp_path):
    """Arms that were complete are no part of the total, so that the bar is full at the end."""
    agent = tmp_path / "late.py"
    agent.write_text(FIRST_TIME)
    config = small_scenario(rounds=2)
    options = {"seeds": 1, "workers": 1, "certify": False, "frozen": ()}
    with drawn("lorenz"):
        refused(
            ArmsError,
            "not yet",
            compare,
            config,
            ("random", f"{agent}:Late"),
            out=tmp_path / "run",
            **options,
        )
        agent.with_suffix(".go").touch()
        console = Console(file=io.StringIO(), width=100)
        resume(tmp_path / "run", workers=1, console=console)
    counts = re.findall(r"arrivals served .* (\d+)/(\d+)", console.file.getvalue())
    assert counts[-1] == (
        "240",
        "240",
    )  # two rounds of 120: that of the first, of which its round 0 is read back


def test_an_interrupted_validation_says_that_nothing_is_saved(monkeypatch, tmp_path, capsys):
    """Runs that are written as a whole say so; the status is 130."""
    for module, words in ((validating, "validate"), (backtesting, "backtest")):

        def stopped(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "usable_log", stopped)
        told = said_by(capsys, [words, "--out", str(tmp_path / "run")], 130).err
        assert (
            "interrupted; nothing is saved, because such a run is written when all of it is finished" in told
        )
    assert not (tmp_path / "run").exists()


def test_an_interrupted_demo_names_the_command_that_resumes_all_of_it(tmp_path, monkeypatch, capsys):
    """The hint is of the demo, not of one of its runs; --resume goes on with what has begun and keeps the folder."""

    def stopped(*_, out, **__):
        out.mkdir(parents=True)
        (out / "config.yaml").touch()
        raise KeyboardInterrupt("of one run")

    resumed = []
    monkeypatch.setattr(demo.scenarios, "compare", stopped)
    monkeypatch.setattr(demo.scenarios, "resume", lambda folder, **_: resumed.append(folder))
    monkeypatch.setattr(tools, "print_run", lambda run: None)
    out = tmp_path / "demo"
    told = said_by(capsys, ["demo", "--quick", "--out", str(out)], 130).err
    command = f"rimsim demo --quick --resume --out {out}"
    assert told == f"rimsim: interrupted; finished rounds are saved in {out}. To continue:\n  {command}\n"
    said_by(capsys, command.split()[1:])
    assert resumed == [out / "quick"]
    assert (out / "quick" / "config.yaml").exists()
    none = str(tmp_path / "none")
    assert "nothing to resume" in said_by(capsys, ["demo", "--resume", "--out", none], 2).err


def test_a_plot_without_a_name_lists_the_names_and_dir_has_no_doubles(folders):
    """The message has every picture of the report, and each table is in dir once."""
    run = load_run(folders / "one")
    refused(ConfigError, "plot: the name of a picture is missing. Use one of .*rounds", run.plot)
    assert len(dir(run)) == len(set(dir(run)))
    assert {"rounds", "ledger", "plot"} <= set(dir(run))


@cases(
    "factor per_arrival per_round setup", (1.0, 0.002, 0.5, 3.0), (0.0, 0.0, 0.0, 0.0), (2.0, 0.004, 1.0, 6.0)
)
def test_the_cost_of_an_arm_is_what_its_samples_add_up_to(factor, per_arrival, per_round, setup, monkeypatch):
    """From three samples of a linear cost, its three parts are found; the whole is their sum."""

    def sample(_, *, rounds, arrivals):
        return factor * (3.0 + rounds * (0.5 + 0.002 * arrivals))

    monkeypatch.setattr(estimate, "_sample", sample)
    cost = estimate._arm_cost(None)
    assert (cost.setup, cost.per_round, cost.per_arrival) == pytest.approx((setup, per_round, per_arrival))
    assert cost.of(10, 20_000) == pytest.approx(setup + 10 * per_round + 20_000 * per_arrival)


def test_a_dry_run_estimates_the_time(tmp_path, monkeypatch, capsys):
    """The last line has a time and its range for the given workers; Ray and an agent that fails have no estimate."""
    monkeypatch.chdir(tmp_path)
    line = ["compare", *FEW, "--dry-run", "--agents"]
    last = said_by(capsys, [*line, "random"]).out.splitlines()[-1]
    assert re.match(
        r"time       about [\d.]+ (s|min) on 1 idle core \([\d.]+ (s|min) to [\d.]+ (s|min)\) and then the pictures",
        last,
    )
    last = said_by(capsys, [*line, RAISES]).out.splitlines()[-1]
    assert last.startswith("time       no estimate, because a sample failed: agent 'raises'")
    assert list(tmp_path.iterdir()) == []


@cases(
    "seconds text", (4.04, "4.0 s"), (42.4, "42 s"), (132.0, "2.2 min"), (1234.0, "21 min"), (9000.0, "2.5 h")
)
def test_durations_have_two_digits(seconds, text):
    """Seconds below 90, minutes below 90, and then hours."""
    assert estimate._duration(seconds) == text
