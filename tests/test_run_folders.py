"""Run folders that cannot be taken for a new run, or that are damaged, are told in one line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_markets import drawn, small_scenario

from rimsim.config import ConsumerConfig
from rimsim.errors import AgentError, ConfigError, MissingTableError, RunFolderError
from rimsim.market import Market
from rimsim.scenarios import compare
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.runs.checkpoint import Checkpoint
from rimsim.scenarios.runs.store import Run, folder_for, require_free


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of one agent and one round."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    compare(small_scenario(), ("relevance",), 1, 1, frozen=(), out=folder, workers=1)
    return folder


@pytest.mark.parametrize(
    ("damaged", "options"),
    [
        ("ledger/relevance-0-000.parquet", []),
        ("ledger/relevance-0-000.parquet", ["--digest"]),
        ("rounds.parquet", ["--markdown"]),
        ("catalogue.parquet", []),
        ("config.yaml", []),
    ],
)
def test_a_damaged_run_is_told_by_its_file(run, capsys, damaged, options):
    """A table or config that is cut off or overwritten ends the report with one line that names the file."""
    path = run / damaged
    whole = path.read_bytes()
    for content in (whole[:-9] if path.suffix == ".parquet" else b"a: [", b"\x00\xff"):
        path.write_bytes(content)
        with drawn():  # pictures read the ledger
            status = main(["report", str(run), *options])
        path.write_bytes(whole)
        assert status == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith(f"rimsim: {path}: cannot be read")


def test_an_empty_path_is_no_folder_of_a_run(tmp_path, monkeypatch, capsys):
    """A variable of the shell that is not set does not put the run among the files of the current folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="out: '' is no path"):
        folder_for("", "usual")
    with pytest.raises(SystemExit):
        main(["compare", "--out", ""])
    assert "--out: ''; allowed: a path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_of_others_is_refused(tmp_path):
    """A run goes into a folder of its own, which may hold what a run left that was killed at its very beginning."""
    killed = tmp_path / "killed"
    (killed / "state").mkdir(parents=True)
    for name in (".lock", "catalogue.parquet", ".draft-12ab"):
        (killed / name).touch()
    require_free(killed)
    require_free(tmp_path / "new")
    killed.rename(tmp_path / "thesis.tex")
    with pytest.raises(
        RunFolderError, match=r"holds 'thesis.tex', which is no run's; allowed: an empty or new"
    ):
        compare(small_scenario(), ("random",), 1, 1, frozen=(), out=tmp_path, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_holds_a_run_says_how_to_go_on_with_it(run):
    """The command that resumes the run that is there stands in the message."""
    with pytest.raises(
        RunFolderError, match=rf"already holds a run; .*: rimsim compare --resume --out {run}$"
    ):
        require_free(run)


def test_a_table_of_drafts_alone_is_none(tmp_path):
    """A run that was killed while it wrote its first part has no such table; read anew, it has what was written."""
    (tmp_path / "promises").mkdir()
    (tmp_path / "promises" / ".draft-0.parquet").write_bytes(b"half")
    assert Run(tmp_path).promises is None
    with pytest.raises(MissingTableError, match=r"holds neither prices\.parquet nor prices/"):
        Run(tmp_path).prices  # noqa: B018
    pd.DataFrame({"agent": ["random"], "due": [1.0]}).to_parquet(
        tmp_path / "promises" / "random-0-000.parquet"
    )
    assert Run(tmp_path).promises["due"].tolist() == [1.0]


def test_what_an_agent_remembers_is_kept_by_any_name(tmp_path):
    """Arrays come back as they were, also under names that NumPy's writer takes for itself; objects are refused."""
    market = Market(small_scenario(rounds=1, consumer=ConsumerConfig(truth="factors")))
    names = ("file", "allow_pickle", "args", "weights")
    remembered = {name: np.arange(3.0) + number for number, name in enumerate(names)}
    Checkpoint(market.state, {"served": np.array(7)}, remembered).save(tmp_path, "arm")
    found = Checkpoint.latest(tmp_path, "arm", ["served"])
    assert found.arm["served"] == 7
    assert {name: array.tolist() for name, array in found.agent.items()} == {
        name: array.tolist() for name, array in remembered.items()
    }
    with pytest.raises(AgentError, match="'notes' holds Python objects; allowed: numbers and text"):
        Checkpoint(market.state, {}, {"notes": np.array([{}])}).save(tmp_path, "arm")
