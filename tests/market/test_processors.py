"""One answer on every processor: the same small market with several sets of vector instructions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

MARKET = """
import json
import sys
import rimsim

run = rimsim.compare(
    "closed-loop", ["relevance", "rim-feedback"], rounds=2, seeds=1, workers=1, out=sys.argv[1], certify=False,
    settings={"data.min_item_events": 60, "arrivals.per_round": 150},
)
import torch
from rimsim.market import build_world
from rimsim.market.fitness import fitness

verdict = fitness(build_world(run.scenario).log, gap=1800.0)
rounds = run.rounds.set_index(["agent", "round", "metric"])["value"].unstack("metric")
print(json.dumps({
    "capability": torch.backends.cpu.get_cpu_capability(),
    "answer": [verdict.truth, verdict.verdict, verdict.agreement, verdict.settled, verdict.reversed,
        [[rival.truth, rival.verdict, rival.agreement] for rival in verdict.rivals]],
    "figures": [[*where, row["utility"], row["coverage"]] for where, row in rounds.iterrows()],
}))
"""
"""Program that plays a small market and prints its truth, verdict and figures."""
PROCESSORS = {
    "mkl": {"MKL_CBWR": "COMPATIBLE"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "OPENBLAS_CORETYPE": "SkylakeX"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell"},
    "default": {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Nehalem", "MKL_CBWR": "COMPATIBLE"},
}
"""Set of vector instructions → environment that limits torch, OpenBLAS and MKL to it."""
CLOSE = 0.03
"""Largest relative difference of a figure. Scores differ in their last bits, a bit can turn a click, and a click counts
most where a round has 150 visits."""


def _played(folder, name):
    """Answer and figures with a set of vector instructions, in an empty cache."""
    # A limit of threads keeps this process from disturbing tests on other cores.
    env = os.environ | PROCESSORS[name] | {"OMP_NUM_THREADS": "1", "RIMSIM_CACHE": str(folder / "cache")}
    line = [sys.executable, "-c", MARKET, str(folder / "run")]
    process = subprocess.run(line, env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    played = json.loads(process.stdout.splitlines()[-1])
    capability = played.pop("capability")
    assert capability == name.upper() or "ATEN_CPU_CAPABILITY" not in PROCESSORS[name]
    return played


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The market without vector instructions."""
    return _played(tmp_path_factory.mktemp("plain"), "default")


@pytest.mark.parametrize("name", ["mkl", "avx2", "avx512"])
def test_processors_agree_on_the_truth_the_verdict_and_the_figures(plain, name, tmp_path):
    """Truth, verdict and pairs are equal; figures of all arms and rounds differ by 3% at most."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    if name.startswith("avx") and f"{name}f" not in flags and name not in flags.split():
        pytest.skip(f"this processor has no {name}")
    played = _played(tmp_path, name)
    assert played["answer"] == plain["answer"]
    for figures, plain_figures in zip(played["figures"], plain["figures"], strict=True):
        assert figures[2:] == pytest.approx(plain_figures[2:], rel=CLOSE)
        assert figures[:2] == plain_figures[:2]
