"""Run folders with damaged or missing files: the file is named with a remedy, and the run can be resumed."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from kit import cases, refused
from kit.markets import small_run, small_scenario, stopped_after_a_round

from rimsim.errors import ArmsError, RunFolderError
from rimsim.intensity.cache import kept
from rimsim.scenarios import load_run
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.runs.files import read_arrays
from rimsim.scenarios.study.compare import resume


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A finished run of one agent over two rounds."""
    return small_run(tmp_path_factory.mktemp("whole") / "run", ("relevance",), small_scenario(rounds=2))


@pytest.fixture(scope="module")
def _stopped(tmp_path_factory):
    """The same, ended after its first round."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch, stopped_after_a_round(patch), pytest.raises(ArmsError):
        small_run(folder, ("relevance",), small_scenario(rounds=2))
    return folder


@pytest.fixture
def stopped(_stopped, tmp_path):
    """A copy of the stopped run, to be damaged."""
    return shutil.copytree(_stopped, tmp_path / "run")


def _cut(path):
    path.write_bytes(path.read_bytes()[:12])


def _rob(path):
    """Take an array out of an archive, as an older version would have left it."""
    with np.load(path) as arrays:
        rest = {name: arrays[name] for name in arrays.files if name != "bound_price"}
    np.savez(path, **rest)


@cases(
    "file damage said",
    ("state/relevance-0/round-0001/arm.npz", _cut, "the state of the arm cannot be read: .*zip file"),
    ("state/relevance-0/round-0001/arm.npz", _rob, "the state of the arm cannot be read: .*bound_price"),
    ("state/relevance-0/round-0001/state.npz", _cut, "cannot be read: .*state of a market"),
    ("state/relevance-0/round-0001/model/model.json", _cut, "the state of the arm cannot be read: .*model"),
    ("ledger/relevance-0-000.parquet", _cut, "cannot be read as a table"),
    ("ledger/relevance-0-000.parquet", lambda path: path.unlink(), "is missing"),
    ("rounds/relevance-0.parquet", _cut, "cannot be read as a table"),
)
def test_a_run_with_a_damaged_arm_is_resumed_once_its_folder_is_removed(
    stopped, finished_run, file, damage, said
):
    """The file is named before any arm is played, with what to remove; then the arm is played again."""
    damage(stopped / file)
    arm = stopped / "state" / "relevance-0"
    said = f"{said}.*Remove {arm} and resume"
    either = (RunFolderError, ArmsError)
    text = refused(either, said, resume, stopped, workers=1)
    assert str(stopped / file).removesuffix("state.npz").removesuffix("model/model.json") in text
    shutil.rmtree(arm)
    assert digest(resume(stopped, workers=1)) == digest(finished_run)


def test_an_empty_table_of_the_opening_is_named_and_made_again(stopped, finished_run):
    """No arm is played before the file has been named; once it is removed, the run is resumed."""
    opening = stopped / "opening" / "0.parquet"
    opening.write_bytes(b"")
    refused(RunFolderError, f"{opening}: cannot be read as a table. Remove it and", resume, stopped)
    opening.unlink()
    assert digest(resume(stopped, workers=1)) == digest(finished_run)


def test_a_missing_part_of_a_finished_table_is_named(finished_run, tmp_path):
    """A table with a hole is not read, drawn or digested as if it were whole."""
    folder = shutil.copytree(finished_run.folder, tmp_path / "run")
    part = folder / "ledger" / "relevance-0-001.parquet"
    part.unlink()
    said = f"{part}: is missing. Restore it, or make the run again: rimsim"
    refused(RunFolderError, said, lambda: load_run(folder).ledger)
    refused(RunFolderError, said, digest, load_run(folder))
    assert len(load_run(folder).arrivals) == len(finished_run.arrivals)


def _edit_metadata(path):
    """Name an index in the metadata of pandas that the table lacks."""
    table = pyarrow.parquet.read_table(path)
    metadata = json.loads(table.schema.metadata[b"pandas"])
    metadata["index_columns"] = [{"kind": "nonsense"}]
    pyarrow.parquet.write_table(table.replace_schema_metadata({"pandas": json.dumps(metadata)}), path)


def _edit_table(edit):
    """Damage that replaces a table by its edited copy."""
    return lambda path: edit(pd.read_parquet(path)).to_parquet(path)


@cases(
    "damage said",
    (_edit_metadata, "cannot be read as a table"),
    (_edit_table(lambda table: table.assign(agent="nobody")), "names no arm 'nobody'"),
    (_edit_table(lambda table: table.drop(columns="seed")), "column 'seed' is missing"),
)
def test_an_edited_table_of_rounds_is_named(damage, said, finished_run, tmp_path):
    """Rounds of other arms, or without a column, are refused by the report with the file's name."""
    folder = shutil.copytree(finished_run.folder, tmp_path / "run")
    damage(folder / "rounds.parquet")
    text = refused(RunFolderError, said, lambda: load_run(folder).report())
    assert "rounds.parquet" in text
    assert "Restore the file that the run wrote" in text


def test_a_config_of_another_program_is_no_run(tmp_path):
    """The message says who makes such folders."""
    (tmp_path / "config.yaml").write_text("a: b")
    refused(RunFolderError, "rimsim did not write it.*a folder that rimsim compare", load_run, tmp_path)


def test_a_cached_entry_with_one_wrong_byte_is_made_again(tmp_path):
    """A checksum finds what no reader of the format notices."""
    made = []

    def entry():
        return kept(
            tmp_path / "entry",
            lambda folder: (folder / "value").read_text(),
            lambda: made.append(1) or "100",
            lambda value, folder: (folder / "value").write_text(value),
        )

    assert [entry(), entry()] == ["100", "100"]
    assert len(made) == 1
    (tmp_path / "entry" / "value").write_text("101")
    assert entry() == "100"
    assert len(made) == 2


@cases("content", (b"",), (b"PK\x03\x04 and then nothing",), (b"nothing of the kind",))
def test_a_damaged_archive_that_arms_share_is_made_again(tmp_path, content):
    """Solutions and shadows of other arms are read as if they were not there."""
    path = tmp_path / "shared.npz"
    np.savez(path, a=np.arange(3))
    assert read_arrays(path)["a"].tolist() == [0, 1, 2]
    path.write_bytes(content)
    assert read_arrays(path) is None
