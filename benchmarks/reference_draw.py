"""The back-test on the very draw of the public implementation, to compare like with like on MovieLens-1M.

    python benchmarks/reference_draw.py ml-1m.zip --models transformer-hp,transformer,gru-hp,gru

RIME (awslabs/recurrent-intensity-model-experiments) shuffles the rows of ``ratings.dat`` with pandas and seed 0, sorts
them by time, keeps the last half of each user's, and draws group A with seed 888. Here the same events, users and
instants make a split; prices are those of its own variant, ``seen``. The zip is MovieLens-1M as GroupLens gives it
out, or the same with some ratings left out.
"""

from __future__ import annotations

import argparse
import io
import math
import zipfile

import numpy as np
import pandas as pd
import torch

from rimsim.data import EventLog, load
from rimsim.scenarios import BacktestConfig
from rimsim.scenarios.kinds.backtest.models import Models
from rimsim.scenarios.kinds.backtest.split import LogSplit, assembled
from rimsim.scenarios.kinds.backtest.tasks import (
    Matching,
    Pricing,
    item_recommendation,
    user_recommendation,
)

_COLUMNS = ["user", "item", "value", "time"]
_SHUFFLE = 0
_GROUPS = 888


def reference_split(path: str) -> LogSplit:
    """The split of the public implementation; it has no folds."""
    log = load(path)
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("ratings.dat"))
        text = archive.read(name).decode("latin-1")
    rows = pd.read_csv(io.StringIO(text), sep="::", names=_COLUMNS, engine="python")
    rows = rows.sample(frac=1, random_state=_SHUFFLE).sort_values("time", kind="mergesort")
    rows = rows[rows.groupby("user")["time"].rank(method="first", pct=True) >= 0.5]
    span = rows.groupby("user")["time"].agg(["min", "max"])
    in_a = span.index.isin(span.sample(frac=0.5, random_state=_GROUPS).index)
    horizon = float((span["max"] - span["min"]).quantile(0.5))
    drawn = log.rows(_pairs(log, rows))
    first = np.full(log.n_users, np.inf)
    np.minimum.at(first, drawn.user, drawn.time)
    start = first + horizon
    place = {int(user): row for row, user in enumerate(log.users["id"])}
    group_a, group_b = (np.sort([place[int(user)] for user in span.index[mask]]) for mask in (in_a, ~in_a))
    train = drawn.rows(~((drawn.time >= start[drawn.user]) & np.isin(drawn.user, group_b)))
    return assembled(drawn, train, group_b, start[group_b], group_a, start[group_a], (), horizon)


def _pairs(log: EventLog, rows: pd.DataFrame) -> np.ndarray:
    """(n,) which events of the log are among the rows; nobody rates a film twice."""
    users = log.users["id"].astype(int)
    items = log.items["id"].astype(int)
    pairs = pd.MultiIndex.from_arrays([users.to_numpy()[log.user], items.to_numpy()[log.item]])
    return np.asarray(pairs.isin(pd.MultiIndex.from_frame(rows[["user", "item"]])), bool)


def main() -> None:
    """Read the command line and print a line a figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="a zip with ratings.dat")
    parser.add_argument("--models", default="transformer-hp,transformer,gru-hp,gru")
    parser.add_argument("--seeds", type=int, default=1, help="seeds of the models; the draw is one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = BacktestConfig(models=tuple(options.models.split(",")), prices="seen")
    split = reference_split(options.path)
    k = math.ceil(0.01 * split.n_known)
    c = math.ceil(0.01 * len(split.test.user))
    sizes = f"{len(split.test.user)} users x {split.n_known} items, {len(split.train)} training events"
    print(f"{sizes}, {len(split.targets.key)} targets, k {k}, c {c}", flush=True)
    for seed in range(options.seeds):
        models = Models(split, config, seed, lambda line: print(line, flush=True))
        for report in models.reports():
            print("\n".join(f"seed {seed}: {report.part}: {line}" for line in report.lines), flush=True)
        for name in config.models:
            scores = models.test(name)
            rate = models.judging_rate(name)
            item = item_recommendation(scores, split, k, seed)
            user = user_recommendation(scores, split, c, seed)
            pricing = Pricing(seed, config.tol, config.dither)
            online = Matching(scores, models.past(name), split, k, pricing)
            floors = online.with_floors(config.beta, rate)
            fronts = " ".join(
                f"{beta:g}: {values['precision']:.4f}/{values['perplexity']:.0f}"
                for beta, values in floors.items()
            )
            said = f"item {item['precision']:.4f} ({item['perplexity']:.0f}), user {user['precision']:.4f}"
            print(f"seed {seed}: {name}: {said}, floors {fronts}", flush=True)


if __name__ == "__main__":
    main()
