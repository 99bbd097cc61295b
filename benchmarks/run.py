"""Measure again what the README and the pages quote: ``make bench``, or ``python benchmarks/run.py [PAGE …]``.

Each page of the benchmark log that is quoted has its commands here. All of them take many CPU hours, so name pages to
measure a part. Some scripts write their tables into the log. The folder ``runs/bench-COMMIT`` keeps the output of every
command. A command whose output is there is not run again.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from log_pages import ROOT, commit

_OF_AGENTS = (
    "--agents 'relevance,rim-dual(spend=False),rim-dual,flat-budget,rim-feedback,entropic-dual(gain=0)'"
)
_RETRAINING = (
    "rimsim compare closed-loop --rounds 30 --agents relevance,rim-feedback --frozen relevance "
    "--control frozen,organic,random,static --seeds 5 --no-certificate --no-ledger --out runs/retraining"
)
_CAMPAIGNS = (
    "rimsim compare campaigns --agents relevance,rim-dual,rim-feedback,rim-resolve,hindsight --seeds 1 "
    "--out runs/campaigns"
)
_PAYBACK_OF_SHOP = (
    "rimsim payback --data shop --set data.repeats=drop --min-item-events 100 "
    "--learners estimated,estimated-slope,sd-2,ucb --beta 0.1,0.5"
)
_LOOP_OF_AGENTS = (
    "rimsim compare closed-loop --seeds 1 --rounds 8 --set arrivals.per_round=1000 --frozen none "
    f"--no-certificate {_OF_AGENTS}"
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "speed": (
        "python benchmarks/speed.py",
        "python benchmarks/speed.py beside --peers --repeats 5 --log",
        "python benchmarks/speed.py processes --log",
        "python benchmarks/speed.py million",
    ),
    "matching": ("python benchmarks/matching.py",),
    "data": ("python benchmarks/data.py --large",),
    "scale": ("python benchmarks/scale.py",),
    "validity": ("rimsim validate",),
    "environment": (
        "python examples/ppo.py --steps 100000 --seeds 10",
        "python examples/learn.py",
        "python examples/ppo.py --residual --steps 19200 --seeds 1",
    ),
    "processes": ("python benchmarks/processes.py",),
    "findings": ("python benchmarks/findings.py",),
    "leaderboard": ("python benchmarks/leaderboard.py",),
    "two-sides": ("python benchmarks/two_sides.py",),
    "closed-loop": (_RETRAINING,),
    "guarantees": (_CAMPAIGNS,),
    "agents": (
        f"rimsim compare online-match --seeds 2 --frozen none --no-certificate {_OF_AGENTS}",
        _LOOP_OF_AGENTS,
    ),
    "backtest": ("rimsim backtest",),
    "payback": ("rimsim payback", _PAYBACK_OF_SHOP),
    "pictures": ("rimsim demo", "python benchmarks/picture_tables.py", "python tools/pictures.py"),
}
"""Page of the log, or ``pictures`` for the tables behind pictures → commands that measure what others quote of it."""


def measure(command: str, output: Path) -> bool:
    """Run a command in the folder of its output, print and keep what it prints; whether it ended well."""
    unfinished = output.with_suffix(".unfinished")
    program, *arguments = shlex.split(command)
    words = [sys.executable, str(ROOT / arguments[0]), *arguments[1:]] if program == "python" else None
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with unfinished.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            words or [str(Path(sys.executable).with_name(program)), *arguments],
            cwd=output.parent,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in process.stdout or ():
            print(line, end="", flush=True)
            file.write(line)
    if process.wait():
        return False
    unfinished.rename(output)
    return True


def main() -> int:
    """Run the commands of the named pages, or all; the exit status is the number of failures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", choices=[*COMMANDS, []], metavar="PAGE", help=", ".join(COMMANDS))
    asked = parser.parse_args().pages or list(COMMANDS)
    folder = ROOT / "runs" / f"bench-{commit()}"
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for page in asked:
        for number, command in enumerate(COMMANDS[page], start=1):
            output = folder / f"{page}-{number}.txt"
            print(f"\n## {page}: {command}\n", flush=True)
            if output.is_file():
                print(f"measured: {output}", flush=True)
            elif not measure(command, output):
                failed.append(command)
    if failed:
        print("\n".join(["failed:", *failed]), file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
