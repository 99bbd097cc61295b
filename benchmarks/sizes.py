"""A catalogue of news: ``python benchmarks/sizes.py news LOG`` or ``python benchmarks/sizes.py repeats``.

``news`` plays the scenario of this name on your log of clicks. ``repeats`` plays ``closed-loop`` on a made-up log of
10,000 items and 300,000 users, in which a third of the events repeat an item of their user. Both play three agents with
one seed from a cold cache, in a process of their own. The table has CPU seconds and the largest resident memory, in
all and by stage. The target is one CPU hour and 8 GB.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from cpu_and_memory import cpu
from scale_costs import cost_of
from scale_logs import Size, made_up
from speed_stages import Sampler
from speed_tables import Report, peak_memory, resident_memory

import rimsim
from rimsim.data import EventLog, write
from rimsim.system import cache_folder

AGENTS = ["relevance", "rim-feedback", "popularity"]
SIZE = Size(events=3_000_000, users=300_000, items=10_000)
"""Size of the made-up log, like that of Globo's clicks."""
REPEATED = 0.35
"""Share of events that copy an item from an earlier event of their user, if the user has one."""
GLOBO = "user=user_id,item=click_article_id,time=click_timestamp"
"""Names of the columns of Globo's clicks."""
INTERVAL = 0.05
"""CPU seconds between two looks at the stack."""


class MemorySampler(Sampler):
    """CPU seconds and largest resident memory by stage."""

    def __init__(self) -> None:
        super().__init__(INTERVAL, cost_of)
        self.memory: dict[str, float] = defaultdict(float)
        """Largest resident memory that was seen in a stage, MiB."""

    def _look(self, signal_number: int, frame: FrameType | None) -> None:
        super()._look(signal_number, frame)
        stage = cost_of(frame)
        self.memory[stage] = max(self.memory[stage], resident_memory())


def with_repeats(log: EventLog, share: float, seed: int) -> EventLog:
    """Log in which some events copy the item of an earlier event.

    A copied event is drawn evenly from the earlier events of the same user.
    """
    source = np.random.default_rng([seed, len(log)])
    by_user = np.lexsort((log.time, log.user))
    user = log.user[by_user]
    place = np.arange(len(user))
    first = np.flatnonzero(np.diff(user, prepend=-1))
    n_earlier = place - first[np.cumsum(np.diff(user, prepend=-1) > 0) - 1]
    is_copy = (source.random(len(user)) < share) & (n_earlier > 0)
    origin = np.where(is_copy, place - 1 - (source.random(len(user)) * n_earlier).astype(np.int64), place)
    # A copied event may be a copy itself, so origins are followed until nothing changes.
    while not np.array_equal(origin, origin[origin]):
        origin = origin[origin]
    item = np.empty_like(log.item)
    item[by_user] = log.item[by_user][origin]
    return dataclasses.replace(log, item=item, repeatable=True)


def repeats_file() -> Path:
    """Made-up log with repeats as a Parquet file, written once next to the cache."""
    path = cache_folder() / "benchmarks" / "repeats-300000-users.parquet"
    if not path.exists():
        write(with_repeats(made_up(SIZE), REPEATED, seed=1), path)
    return path


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=("news", "repeats"))
    parser.add_argument("log", nargs="?", help="for news: file of clicks with the columns of Globo")
    parser.add_argument("--rounds", type=int, default=8, help="rounds (default 8)")
    parser.add_argument("--min-item-events", type=int, default=10, help="events per item (default 10)")
    parser.add_argument("--set", action="append", default=[], help="setting, such as consumer.truth=fresh")
    parser.add_argument("--limit", type=float, default=16.0, help="address space in GB (default 16)")
    parser.add_argument("--out", type=Path, help="folder of the tables; default runs/sizes-TIME")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case == "news" and options.log is None:
        parser.error("news needs a file of clicks")
    torch.set_num_threads(1)
    if options.in_process:
        json.dump(_measured(options), sys.stdout)
        return
    folder = options.out or Path("runs") / time.strftime("sizes-%Y%m%d-%H%M%S")
    report = Report(folder, "A catalogue of news")
    stages = _alone(options)
    report.table(options.case, options.case, stages)


def _alone(options: argparse.Namespace) -> list[Mapping[str, object]]:
    """Stages of one comparison, in a process with an empty cache of fits."""
    if options.case == "repeats":
        repeats_file()  # the log itself is kept
    with tempfile.TemporaryDirectory() as cache:
        # The log is read from the usual cache folder, so only fits move to the empty one.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RIMSIM_SIZES_CACHE": cache}
        command = [sys.executable, __file__, *sys.argv[1:], "--in-process"]
        interpreter = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    rows: list[Mapping[str, object]] = json.loads(interpreter.stdout.splitlines()[-1])
    return rows


def _measured(options: argparse.Namespace) -> list[dict[str, object]]:
    """Rows of a comparison: all, then its stages from the dearest on."""
    source = options.log if options.case == "news" else str(repeats_file())
    os.environ["RIMSIM_CACHE"] = os.environ["RIMSIM_SIZES_CACHE"]
    address_space = int(options.limit * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    settings: dict[str, object] = {"data.min_item_events": options.min_item_events}
    if options.case == "news":
        settings["data.columns"] = GLOBO
    else:
        settings["platform.model"] = "bag-habits-visits"
    settings |= dict(setting.split("=", 1) for setting in options.set)
    with tempfile.TemporaryDirectory() as out, MemorySampler() as stages:
        seconds = cpu(
            lambda: rimsim.compare(
                "news" if options.case == "news" else "closed-loop",
                AGENTS,
                data=source,
                rounds=options.rounds,
                seeds=1,
                workers=1,
                out=Path(out) / "run",
                settings=settings,
            )
        )
    rows: list[dict[str, object]] = [{"stage": "all", "CPU s": seconds, "peak, MiB": peak_memory()}]
    rows += [
        {"stage": stage, "CPU s": stage_seconds, "peak, MiB": stages.memory[stage]}
        for stage, stage_seconds in stages.largest(100)
    ]
    return rows


if __name__ == "__main__":
    main()
