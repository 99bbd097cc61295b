"""Closed loops on large made-up logs: ``python benchmarks/scale.py [XS|S|M|L …]``, all sizes by default.

Each size is a whole comparison of two agents, one seed and three rounds, from a cold cache, in a process of its own.
The table has CPU seconds and the largest resident memory. The sizes XS and S take minutes, L takes half an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from cpu_and_memory import cpu
from scale_logs import SIZES, log_file
from speed_tables import Report, peak_memory

import rimsim

AGENTS = ["relevance", "rim-dual"]


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", choices=[*SIZES, []], metavar="SIZE", help=", ".join(SIZES))
    parser.add_argument("--out", type=Path, help="folder of the tables; default runs/scale-TIME")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.in_process:
        json.dump(_measured(options.sizes[0]), sys.stdout)
        return
    folder = options.out or Path("runs") / time.strftime("scale-%Y%m%d-%H%M%S")
    report = Report(folder, "Closed loops on large logs")
    report.table("closed-loop", "closed-loop", [_alone(size) for size in options.sizes or SIZES])


def _alone(size: str) -> Mapping[str, object]:
    """One comparison in a process of its own, with an empty cache of fits."""
    log_file(size)  # the log itself is kept in the usual cache
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RIMSIM_SCALE_CACHE": cache}
        command = [sys.executable, __file__, size, "--in-process"]
        interpreter = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, object] = json.loads(interpreter.stdout.splitlines()[-1])
    return row


def _measured(size: str) -> dict[str, object]:
    """Events, CPU seconds and peak memory of one comparison."""
    source = str(log_file(size))
    os.environ["RIMSIM_CACHE"] = os.environ["RIMSIM_SCALE_CACHE"]
    with tempfile.TemporaryDirectory() as out:
        seconds = cpu(
            lambda: rimsim.compare(
                "closed-loop",
                AGENTS,
                data=source,
                rounds=3,
                seeds=1,
                workers=1,
                out=Path(out) / "run",
                settings={"platform.model": "bag-visits"},
            )
        )
    return {
        "size": size,
        "events": SIZES[size].events,
        "CPU s": seconds,
        "peak, GB": peak_memory() * 2**20 / 1e9,
    }


if __name__ == "__main__":
    main()
