"""Files that are damaged, written over or half-written: results do not change, and what is lost is made again."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from kit import cases
from safetensors.torch import save_file

from rimsim.intensity.persistence import read_tensors
from rimsim.scenarios.runs.checkpoint import Checkpoint
from rimsim.scenarios.runs.files import write_table
from rimsim.scenarios.runs.store import STATES

KERNEL = """
from rimsim.compiled import compiled


@compiled
def doubled(x):
    return x + x
"""
_CALL = "import kernel; assert kernel.doubled(21) == 42; print(sum(kernel.doubled.stats.cache_hits.values()))"


def _hits(folder):
    """Number of functions that a new process reads from the cache."""
    environment = os.environ | {"NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
    line = [sys.executable, "-c", _CALL]
    interpreter = subprocess.run(
        line, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return int(interpreter.stdout)


def _flip(content):
    """Change a bit in the middle."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = {
    "a wrong bit": _flip,
    "a wrong beginning": lambda content: b"\xff\xfe" + content[2:],
    "half of it": lambda content: content[: len(content) // 2],
    "nothing": lambda _: b"",
}


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """A folder with a kernel and its cached machine code."""
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "kernel.py").write_text(KERNEL)
    assert _hits(folder) == 0
    assert _hits(folder) == 1
    return folder


@cases("ending damage", *((ending, damage) for ending in ("nbi", "nbc") for damage in DAMAGES))
def test_damaged_machine_code_is_compiled_again(ending, damage, compiled_once):
    """It neither ends the process nor changes what a function returns; the next process reads it again."""
    (file,) = compiled_once.glob(f"__pycache__/*.{ending}")
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert _hits(compiled_once) == 0
    assert _hits(compiled_once) == 1


def test_machine_code_without_a_checksum_is_compiled_again(compiled_once):
    """As another version of rimsim left it."""
    for file in compiled_once.glob("__pycache__/*.sha256"):
        file.unlink()
    assert _hits(compiled_once) == 0
    assert _hits(compiled_once) == 1


def test_a_model_does_not_change_with_its_file(tmp_path):
    """A program that writes over a fitted truth in place changes no run that has read it."""
    file = tmp_path / "truth.safetensors"
    save_file({"bias": torch.arange(4096, dtype=torch.float32)}, file)
    tensors = read_tensors(file)
    with file.open("r+b") as stream:
        stream.seek(-4096 * 4, os.SEEK_END)
        stream.write(b"\xff" * 4096 * 4)
    assert torch.equal(tensors["bias"], torch.arange(4096, dtype=torch.float32))


class _Killed(BaseException):
    """End of a process, which no handler sees."""


class _Market:
    """A market whose save is killed."""

    round = 2

    def save(self, folder):
        (folder / "state.npz").write_bytes(b"half")
        raise _Killed


def test_a_kill_while_a_state_is_written_keeps_the_state_before(tmp_path):
    """The old state goes only when the new one is complete."""
    old = tmp_path / STATES / "arm-0" / "round-0001"
    old.mkdir(parents=True)
    (old / "state.npz").write_bytes(b"whole")
    with pytest.raises(_Killed):
        Checkpoint(_Market(), {}, {}).save(tmp_path, "arm-0")
    assert (old / "state.npz").read_bytes() == b"whole"
    assert [place.name for place in old.parent.glob("round-*")] == ["round-0001"]


def test_a_kill_while_a_table_is_written_keeps_the_table_before(tmp_path, monkeypatch):
    """A reader finds the old table or the new one."""
    path = tmp_path / "rounds.parquet"
    table = pd.DataFrame({"round": [0, 1]})
    write_table(path, table)
    write = pd.DataFrame.to_parquet

    def half(self, target, **options):
        write(self, target, **options)
        with Path(target).open("r+b") as file:
            file.truncate(20)
        raise _Killed

    monkeypatch.setattr(pd.DataFrame, "to_parquet", half)
    with pytest.raises(_Killed):
        write_table(path, pd.DataFrame({"round": [0, 1, 2]}))
    monkeypatch.undo()
    pd.testing.assert_frame_equal(pd.read_parquet(path), table)
