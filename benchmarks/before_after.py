"""A whole comparison here and in another checkout, taking turns: ``python benchmarks/before_after.py CHECKOUT``.

Both play the closed loop of the demo with one seed in one process each; CPU seconds of a second run in that process are
compared, so that fits, compiled code and imports do not count, and the ledgers are compared byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

AGENTS = ("relevance", "rim-dual", "rim-feedback", "random")
_PLAY = """
import hashlib, json, resource, sys
from pathlib import Path
import pandas as pd
from rimsim.scenarios import compare

def cpu():
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)

if __name__ == "__main__":
    out, agents, rounds = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])
    for turn in range(2):
        start = cpu()
        compare("closed-loop", agents, rounds, 1, out=out / str(turn), workers=1)
        took = cpu() - start
    digest = {}
    for file in sorted((out / "1" / "ledger").glob("*.parquet")):
        content = pd.read_parquet(file).to_csv(index=False).encode()
        digest[file.stem] = hashlib.sha256(content).hexdigest()
    (out / "found.json").write_text(json.dumps({"seconds": took, "ledgers": digest}))
"""


def play(checkout: Path, rounds: int) -> tuple[float, dict[str, str]]:
    """CPU seconds of a comparison with the code of a checkout, and the digest of each of its ledgers."""
    with tempfile.TemporaryDirectory() as folder:
        cache = {"RIMSIM_CACHE": str(Path(tempfile.gettempdir()) / f"before-after-{checkout.name}")}
        script = Path(folder) / "play.py"
        script.write_text(_PLAY, encoding="utf-8")
        subprocess.run(
            [sys.executable, str(script), folder, ",".join(AGENTS), str(rounds)],
            env=os.environ | cache | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        found = json.loads((Path(folder) / "found.json").read_text(encoding="utf-8"))
    return found["seconds"], found["ledgers"]


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, help="folder of another version of this repository")
    parser.add_argument("--turns", type=int, default=2, help="runs of each (default 2)")
    parser.add_argument("--rounds", type=int, default=8, help="rounds of the loop (default 8)")
    given = parser.parse_args()
    here = Path(__file__).parent.parent
    times: dict[Path, list[float]] = {given.checkout: [], here: []}
    ledgers: dict[Path, dict[str, str]] = {}
    for _ in range(given.turns):
        for checkout, taken in times.items():
            seconds, ledgers[checkout] = play(checkout, given.rounds)
            taken.append(seconds)
            print(f"{checkout}: {seconds:.1f} CPU s", flush=True)
    before, now = (statistics.median(taken) for taken in times.values())
    print(f"there / here: {before / now:.2f}")
    theirs, ours = ledgers[given.checkout], ledgers[here]
    differ = sorted(name for name in ours if theirs.get(name) != ours[name])
    print(
        f"{len(ours) - len(differ)} of {len(ours)} ledgers are equal; the others: {', '.join(differ) or 'none'}"
    )


if __name__ == "__main__":
    main()
