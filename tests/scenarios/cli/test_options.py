"""Options of commands: slips in them, their defaults, paths, and what the help and the lists say."""

import inspect
import re
import subprocess
import sys

import pytest
from kit import cases, refused, said_by
from kit.commands import FEW
from kit.markets import small_broadcast, small_replay, small_scenario

import rimsim
from rimsim import config as records
from rimsim.errors import ConfigError, DataError
from rimsim.intensity.registry import mark_and_ground
from rimsim.intensity.registry import names as model_names
from rimsim.market import arrivals, consumers
from rimsim.measures import MEASURES
from rimsim.scenarios import compare, load_run, sweep
from rimsim.scenarios.cli import help as help_
from rimsim.scenarios.cli import tools
from rimsim.scenarios.cli.main import _rimsim, main
from rimsim.scenarios.cli.runs import backtest, validate
from rimsim.scenarios.cli.runs import compare as compare_command
from rimsim.scenarios.kinds.backtest.split import BacktestConfig
from rimsim.scenarios.kinds.validate import ValidateConfig
from rimsim.scenarios.study.checks import default_agents


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
    (
        "compare --guarantee item=0.3",
        "--guarantee: 'item=0.3' names no column of groups. For a guarantee of each item, write --set exp",
    ),
    (
        "compare --guarantee a=0.3,b=0.5",
        "--guarantee: 'a=0.3,b=0.5' has several columns. Repeat the option for each of them: --guarantee a=0.3 --guar",
    ),
    (
        "compare --agents relevance, random",
        "scenario 'random' is unknown, but an agent has this name. Leave out the space in the list of",
    ),
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
    for words, message in (
        (line, f"rimsim: {out}: the folder cannot be made: a part"),
        ([f"{tmp_path}/folder.yaml"], "folder.yaml: cannot be read as a scenario: it is a folder\n"),
        ([f"{tmp_path}/bytes.yaml"], "byte 6 is not UTF-8. Expected UTF-8 text"),
    ):
        assert message in said_by(capsys, ["compare", *words], 2).err


def test_paths_may_be_texts_or_paths_and_nothing_else(tmp_path):
    """A folder that is a number is refused; logs and scenarios may be paths, and a file's stem is the default name."""
    loop = "closed-loop"
    random = ("random",)
    file = tmp_path / "mine.yaml"
    refused(ConfigError, "out: 5 is not a path. Expected a path", compare, loop, random, out=5)
    said = "rounds: field 'rounds' is 0. It must be greater than or equal to 1"
    refused(ConfigError, said, compare, loop, random, 0)
    refused(DataError, r"nowhere\.csv", compare, loop, random, data=tmp_path / "nowhere.csv")
    refused(ConfigError, r"nowhere\.yaml", compare, tmp_path / "nowhere.yaml", random)
    for text, name in (("rounds: 2", "mine"), ("name: ours", "ours")):
        file.write_text(text)
        assert records.find_scenario(str(file)).name == name


LIGHT = ("--version", "--help", "compare --help", "data --help", "compare --sedes")
SLIPS = (
    "compare --control froze",
    "agents relevence",
    "report nowhere",
    "scenarios",
)


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
    interpreter = subprocess.run(line, check=False, capture_output=True, text=True)
    assert interpreter.returncode == 0, interpreter.stderr
    assert interpreter.stdout or interpreter.stderr.startswith("rimsim")


@cases(
    "kind names",
    ("scenarios", records.scenario_names()),
    ("agents", rimsim.agents.BUILT_IN),
    ("models", {part for name in model_names() for part in mark_and_ground(name) if part}),
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


def _defaults(command):
    """Name of each option → the default in its help."""
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
    config = BacktestConfig()
    defaults = _defaults(backtest)
    for name in ("models", "beta", "recipe", "prices", "tol", "dither", "device"):
        assert defaults[f"--{name}"] == _written(getattr(config, name)), name
    split = config.split
    seeds = len(config.seeds)
    values = {"--caps": config.cap, "--seeds": seeds, "--split": split.kind, "--recent": split.recent}
    assert values.keys() <= defaults.keys()
    for name, value in values.items():
        assert defaults[name] == _written(value), name
    config = ValidateConfig()
    defaults = _defaults(validate)
    for name in ("draws", "after", "slate", "resamples", "device"):
        assert defaults[f"--{name}"] == _written(getattr(config, name)), name
    taken = inspect.signature(rimsim.compare).parameters
    defaults = _defaults(compare_command)
    assert defaults["--agents"] == ", ".join(default_agents(records.ScenarioConfig()))
    assert defaults["--seeds"] == str(taken["seeds"].default)
    assert defaults["--backend"] == taken["backend"].default
    assert defaults["--frozen"] == "relevance"
    assert defaults["--control"] == ",".join(taken["control"].default)


def test_the_default_agents_of_a_scenario_include_the_agent_of_its_name():
    """A scenario's namesake takes part without being asked for; clones and replays have the same five agents."""
    for name in records.scenario_names():
        chosen = default_agents(records.find_scenario(name))
        assert ("offline-match" in chosen) == (name in {"offline-match", "user-rec"})
        assert ("user-rec" in chosen) == (name == "user-rec")
    five = ("relevance", "flat-budget", "rim-dual", "rim-feedback", "random")
    assert default_agents(small_scenario()) == default_agents(small_replay()) == five


def test_compare_and_sweep_take_the_default_agents_of_their_scenario(tmp_path):
    """Without agents, a broadcast is played by the planners too; a sweep takes those that can play at every point."""
    arrivals = records.ArrivalsConfig(kind="broadcast", per_round=20)
    config = small_broadcast(rounds=1, arrivals=arrivals, exposure=records.ExposureConfig(beta=0.5))
    run = compare(config, seeds=1, out=tmp_path / "one", workers=1, certify=False)
    assert run.agents == ["relevance", "flat-budget", "rim-dual", "rim-feedback", "offline-match", "random"]
    grid = {"arrivals.kind": ["broadcast", "clones"]}
    sweep(config, grid, seeds=1, out=tmp_path / "many", workers=1, certify=False)
    assert load_run(tmp_path / "many").agents == [
        "relevance",
        "flat-budget",
        "rim-dual",
        "rim-feedback",
        "random",
    ]


def test_thresholds_and_fields_have_options_where_they_were_missing(capsys):
    """Compare and sweep take --min-item-events, validate and backtest take --set, as a field of their config."""
    settings = ("slate=5", "platform.model=popularity-hp", "consumer.truth=factors", "consumer.rank=1")
    small = [
        *(word for setting in settings for word in ("--set", setting)),
        "--agents",
        "random",
        "--dry-run",
    ]
    assert "with 100 items" in said_by(capsys, ["compare", "--min-item-events", "120", *small]).out
    assert "with 100 items" in said_by(capsys, ["sweep", "--min-item-events", "120", *small]).out
    for command in ("validate", "backtest"):
        said = said_by(capsys, [command, "--set", "data.sesion_gap=2h"], 2).err
        assert "Did you mean 'data.session_gap'?" in said
        said = said_by(capsys, [command, "--set", "data.session_gap=soon"], 2).err
        assert "field 'data.session_gap': 'soon' is not a duration" in said


@pytest.mark.parametrize("kind", ["agents", "models", "arrivals", "consumers", "providers", "measures"])
def test_lists_of_names_have_no_marks_of_markup(kind, capsys):
    """Neither backticks nor roles of reStructuredText are printed, in the list or about a name."""
    lines = said_by(capsys, [kind]).out
    assert not re.search("`|:class:|:func:", lines)
    name = lines.split()[0]
    assert not re.search("`|:class:|:func:", said_by(capsys, [kind, name]).out)


def test_help_lists_every_command_once_in_sections(capsys):
    """The help of rimsim has each command in one section, cuts no line, and names a first command."""
    listed = [name for names in help_.COMMANDS.values() for name in names]
    assert sorted(listed) == sorted(_rimsim.commands)
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "..." not in text.partition("\n")[2]
    assert text.splitlines()[-1] == "Begin with: rimsim demo --quick"
    assert [text.index(f"\n{section}:") for section in help_.COMMANDS] == sorted(
        text.index(f"\n{section}:") for section in help_.COMMANDS
    )


def test_help_of_a_comparison_has_sections_placeholders_and_examples(capsys):
    """Each option is in one section, placeholders say what to write, and the examples can be read."""
    assert main(["compare", "--help"]) == 0
    text = capsys.readouterr().out
    sections = dict(re.findall(r"^(\w[\w ]*):\n((?:  .*\n|\n)*)", text, re.MULTILINE))
    assert [*sections] == ["Market", "Log", "Run", "Output", "Other options", "Examples"]
    assert re.findall(r"^  (--\S+)", sections["Other options"], re.MULTILINE) == ["--help"]
    names = re.findall(r"^  (--\S+)", text, re.MULTILINE)
    assert sorted(names) == sorted(
        ["--help", *(param.opts[0] for param in compare_command.params if param.opts[0] != "scenario")]
    )
    for words in ("--set FIELD=VALUE", "--guarantee COLUMN=SHARE", "--data LOG", "--columns ROLE=COLUMN,…"):
        assert words in text
    examples = sections["Examples"].strip().splitlines()
    assert len(examples) == len(help_.EXAMPLES["compare"])
    for example in examples:
        compare_command.make_context("compare", example.split()[2:])


def test_placeholders_and_sections_name_options_that_exist():
    """No placeholder and no section of the help is left over from an option that no command has."""
    declared = {name for group in tools._DECLARED.values() for name, entry in group.items() if entry}
    assert set(help_.METAVARS) <= declared
    assert {name for names in help_.OPTIONS.values() for name in names} <= declared
