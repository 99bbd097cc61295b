"""Names: a misspelt one is answered in one line, and none leads out of a folder or into a terminal."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from kit import cases, refused, said_by
from kit.markets import small_run, small_scenario

from rimsim import entry_points
from rimsim.config.reading import read_scenario
from rimsim.data.readers.containers import existing
from rimsim.errors import ConfigError, DataError, ModelError, RunFolderError
from rimsim.evaluation.designs import DESIGNS
from rimsim.intensity.ground.contract import Ground
from rimsim.intensity.model_names import GROUNDS, MARKS
from rimsim.intensity.registry import shipped
from rimsim.measures import own_measures
from rimsim.scenarios import compare, export, load_run
from rimsim.scenarios.cli import tools
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds.experiment import PRICES, TRAINING
from rimsim.scenarios.kinds.payback.learners import LEARNERS
from rimsim.scenarios.report.console import text
from rimsim.scenarios.report.html import write_page
from rimsim.scenarios.runs.arms import CONTROLS
from rimsim.scenarios.runs.execution import BACKENDS
from rimsim.scenarios.runs.locks import folder_for
from rimsim.scenarios.study.checks import REVEALED, checked_agents
from rimsim.scenarios.study.notes import notes_of
from rimsim.user_code import own_code

MINE = """
import torch


class Good:
    def __init__(self, depth=3):
        pass
"""
SLIPS = {
    "compare closed-lop": "Did you mean 'closed-loop'",
    "compare --agents relevence": "Did you mean 'relevance'",
    "compare --agents mine.py:Goood": "mine.py has no 'Goood'. Did you mean 'Good'?",
    "compare --agents mine.py:Good(dept=1)": "has no option 'dept'. Did you mean 'depth'?",
    "compare --agents epsilon-greedy(epsilo=0.2)": "has no option 'epsilo'. Did you mean 'epsilon'?",
    "compare --agents min.py:Good": "there is no file 'min.py'. Did you mean 'mine.py'?",
    "compare --agents mine:Good": "there is no module 'mine'. Did you mean mine.py:Good?",
    "compare --agents torn.py:Good": "cannot import 'torn.py', line 1: SyntaxError",
    "compare --set platform.model=gru4rec": "platform.model 'gru4rec' is unknown. Did you mean 'gru'?",
    "compare --set platform.model=mine.py:Goood": "mine.py has no 'Goood'",
    "compare --set arrivals.kind=mine.py:Nope": "arrivals.kind 'mine.py:Nope': mine.py has no 'Nope'",
    "compare --set slate=0": "field 'slate' is 0. It must be greater than or equal to 1",
    "compare --measures mine.py:nope": "measure 'mine.py:nope': mine.py has no 'nope'",
    "compare --measures nope": "measure 'nope' is unknown",
    "compare --control froze": "--control: 'froze' is unknown. Did you mean 'frozen'?",
    "compare --reveal all": "--reveal: 'all' is unknown. Use one of truth",
    "compare --backend rey": "--backend: 'rey' is not one of",
    "compare --from nowhere": "nowhere: no such folder",
    "compare --beta 0.3": "No such option '--beta'. Write --set exposure.beta=0.3",
    "sweep --start=2015-01-01": "No such option '--start'. Write --set data.start=2015-01-01",
    "experiment relevance randm": "Did you mean 'random'",
    "experiment relevance random --design usr": "--design: 'usr' is unknown. Did you mean 'user'?",
    "experiment relevance random --training divert": "--training: 'divert' is unknown. Did you mean 'diverted'?",
    "experiment relevance random --prices spilt": "--prices: 'spilt' is unknown. Did you mean 'split'?",
    "payback closed-lop": "Did you mean 'closed-loop'",
    "payback --learners thomson": "--learners: 'thomson' is unknown. Did you mean 'thompson'?",
    "ope nowhere --target random": "nowhere: no such folder",
    "backtest --models gruu": "model 'gruu' is unknown. Did you mean 'gru'?",
    "validate --models bag,nope": "model 'nope' is unknown",
    "validate --serving gru-hq": "model 'gru-hq' is unknown. Did you mean 'gru-hp'?",
}
"""Command line → answer."""


@cases("line", *((line,) for line in SLIPS))
def test_a_slip_in_a_name_is_answered_in_one_line(line, tmp_path, monkeypatch, capsys):
    """The line has the nearest name, and no folder is made."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    Path("torn.py").write_text("class Good(:\n")
    refused(SystemExit, "^2$", lambda: sys.exit(main(line.split())))
    said = capsys.readouterr().err
    assert SLIPS[line] in said
    assert said.count("\n") == 1
    assert not any(path.is_dir() for path in tmp_path.iterdir() if path.name != "__pycache__")


def test_names_that_are_known_before_torch_are_those_of_the_code():
    """Models, controls and designs are listed twice, for speed."""
    assert set(MARKS) | set(GROUNDS) == shipped().keys()
    assert {name for name, model in shipped().items() if issubclass(model, Ground)} == set(GROUNDS)
    declared = {
        ("study", "--control"): CONTROLS,
        ("study", "--reveal"): REVEALED,
        ("experiment", "--design"): DESIGNS,
        ("experiment", "--training"): TRAINING,
        ("experiment", "--prices"): PRICES,
        ("payback", "--learners"): LEARNERS,
    }
    for (group, option), names in declared.items():
        assert tools._DECLARED[group][option][1] == f"names of {'|'.join(names)}"
    assert tools._DECLARED["study"]["--backend"][1].split("|") == list(BACKENDS)


def test_a_measure_that_is_given_twice_is_told_so(tmp_path, monkeypatch):
    """It is not said to have the name of itself."""
    monkeypatch.chdir(tmp_path)
    measure = "x = Measure('x', 'share', '1', of=lambda facts: 1.0)"
    Path("own.py").write_text(f"from rimsim.measures import Measure\n\n{measure}\n")
    refused(ConfigError, "measure 'own.py:x' is given twice", own_measures, ["own.py:x", "own.py:x"])


def test_a_missing_log_is_answered_with_logs_alone(tmp_path):
    """A Python file beside it is no log."""
    for name in ("g1.py", "notes.md", "shop.csv"):
        (tmp_path / name).touch()
    message = refused(DataError, "nope.csv: no such file", existing, str(tmp_path / "nope.csv"))
    assert "shop.csv" in message
    assert "g1.py" not in message
    assert "notes.md" not in message


# Folders, cells and terminals.


@cases(
    "name folder",
    ("../../../esc", "runs/_.._.._esc-"),
    ("/etc/passwd", "runs/_etc_passwd-"),
    ("..", "runs/run-"),
    ("a b-1.2", "runs/a b-1.2-"),
)
def test_the_name_of_a_scenario_stays_in_the_folder_of_runs(name, folder, tmp_path):
    """A scenario from elsewhere cannot write where it likes."""
    path = tmp_path / "scenario.yaml"
    path.write_text(f"name: '{name}'\n")
    place = folder_for(None, read_scenario(path).name)
    assert place.parts[0] == "runs"
    assert len(place.parts) == 2
    assert place.as_posix().startswith(folder)


_NAMED = """
from rimsim.agents import Random


class Mine(Random):
    name = {name!r}
"""


@cases("name", ("<img src=x>",), ("../../x",), ("",), ("a\x1b[31mb",), ("a\nb",), ("about",))
def test_an_agent_whose_name_cannot_be_a_folder_is_refused_before_the_run(name, tmp_path, monkeypatch):
    """Nothing has been written by then."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(_NAMED.format(name=name))
    said = "its name cannot be the name of a folder. Expected letters, digits"
    message = refused(ConfigError, said, checked_agents, ["mine.py:Mine"])
    assert message.isprintable()
    refused(ConfigError, said, compare, agents=["mine.py:Mine"], out="run")
    assert not Path("run").exists()


@cases(
    "words shown",
    (["agents", "a\x1b[31mb"], r"a\x1b[31mb"),
    (["compare", "\x1b]0;title\x07"], r"\x1b]0;title\x07"),
)
def test_escape_sequences_do_not_reach_the_terminal(words, shown, capsys):
    """A terminal would obey them."""
    said = said_by(capsys, words, 2).err
    assert shown.replace("\\\\", "\\") in said
    assert "\x1b" not in said


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run in a folder whose name a shell would cut."""
    return small_run(tmp_path_factory.mktemp("a b'c") / "run", ("random",), small_scenario(rounds=1))


def test_commands_that_a_report_offers_can_be_pasted(run):
    """A folder with a blank or a quote is quoted."""
    import shlex

    printed = text(run.report())
    for begin in ("rimsim report ", "tensorboard --logdir "):
        line = next(line for line in printed.splitlines() if begin in line)
        words = shlex.split(line[line.index(begin) :])
        assert str(run.folder) in words or f"{run.folder}/events" in words


def test_no_cell_of_an_exported_table_is_a_formula(run, tmp_path):
    """A spreadsheet would run a title that begins with an equals sign; negative numbers stay."""
    folder = shutil.copytree(run.folder, tmp_path / "run")
    catalogue = pd.read_parquet(folder / "catalogue.parquet")
    texts = ["=cmd|'/C calc'!A0", "@SUM(A1)", "+1+1", "-2+3", "\tx", "-5", "plain = 1"]
    catalogue["title"] = [texts[number % len(texts)] for number in range(len(catalogue))]
    catalogue["id"] = [f"={number}" for number in range(len(catalogue))]
    catalogue.to_parquet(folder / "catalogue.parquet", index=False)
    place, _ = export(folder, "csv")
    table = pd.read_csv(place, dtype=str)
    assert set(table["title"]) <= {*(f"'{text}" for text in texts[:5]), "-5", "plain = 1"}
    assert table["item_id"].str.startswith("'=").all()


def test_a_page_that_cannot_be_written_is_named_as_it_was_asked_for(run, tmp_path):
    """Not by its draft."""
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "x.html"
    said = f"^{target}: the page cannot be written .*Name another file with --out"
    message = refused(RunFolderError, said, write_page, run.report(), run, target)
    assert "draft" not in message


@cases(
    "measures said",
    ("{mine.py:x: {name: x, unit: share, formula: '1', extra: 3}}", "which is no record of a measure"),
    ("{mine.py:x: {name: x}}", "which is no record of a measure"),
    ("{mine.py:x: 3}", "found 3, which is no record of a measure"),
    ("[1]", r"measures: found \[1\]. Expected a mapping"),
)
def test_a_config_with_a_wrong_record_of_a_measure_is_named(measures, said, run, tmp_path):
    """The message has the file, and what to do."""
    folder = shutil.copytree(run.folder, tmp_path / "run")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("measures: {}", f"measures: {measures}"))
    message = refused(RunFolderError, said, lambda: load_run(folder).report())
    assert str(config) in message


# Plugs of installed packages.


@pytest.fixture
def installed(monkeypatch):
    """Names that an installed package offers."""
    offered = {"agents": {"relevance": "pkg:Better"}, "models": {"best": "pkg:Best", "bag": "pkg:Bag"}}
    monkeypatch.setattr("rimsim.plugs.places", lambda kind: offered.get(kind, {}))
    monkeypatch.setattr("rimsim.scenarios.cli.tools.places", lambda kind: offered.get(kind, {}))
    monkeypatch.setattr(entry_points, "places", lambda kind: offered.get(kind, {}))


@pytest.mark.usefixtures("installed")
def test_an_installed_plug_with_a_built_in_name_is_said_to_be_ignored(capsys):
    """In the list, and in the first lines of a run that names it."""
    said = "relevance is built into rimsim, so pkg:Better, which an installed package offers"
    assert said in said_by(capsys, "agents").out
    (note,) = [
        note for note in notes_of(small_scenario(rounds=1), ["relevance"]) if "installed package" in note
    ]
    assert note.startswith(said)
    assert note.endswith("write pkg:Better")
    assert not any("installed package" in note for note in notes_of(small_scenario(rounds=1), ["random"]))


@pytest.mark.usefixtures("installed")
def test_an_error_of_an_installed_plug_with_options_is_an_error_of_rimsim():
    """Else it would end the run."""
    assert entry_points.place_of("best(smooth=1.0)") == "pkg:Best"

    def failing():
        with own_code(["best(smooth=1.0)"]):
            raise ZeroDivisionError

    refused(ModelError, "ZeroDivisionError", failing)
