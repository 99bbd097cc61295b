"""Completion of commands, names and run folders in a shell."""

import pytest
from kit import cases, said_by

from rimsim.intensity.ground.contract import Ground
from rimsim.intensity.model_names import GROUNDS, MARKS
from rimsim.intensity.registry import shipped


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
