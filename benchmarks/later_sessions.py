"""What a returning user takes: every mark model judged on held-out later sessions.

    python benchmarks/later_sessions.py                            embedded data, five draws
    python benchmarks/later_sessions.py --data ml-1m.zip --min-item-events 20 --draws 1
    python benchmarks/later_sessions.py --models bag,ease,gru --draws 2
    python benchmarks/later_sessions.py --models bag,bag@sampled,factors,factors@sampled --minus bag,factors

A name with ``@sampled`` is the model fitted to samples, whatever the size of the log.

Each draw cuts every user of several sessions where one of its later sessions begins (rimsim.data.later_sessions).
Models are fitted to what lies before the cuts. Precision@10 is the share of the ten best items, among those that the
user has not consumed at its cut, that it took from the cut on; the log-likelihood is that of an item so taken, over
what was not consumed, in nats. Differences from popularity (``--minus``: from others) are paired by user, over all
draws; the interval is of 95%. CPU seconds are of the fit, the choice of its shrinkage included; start with
OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import defaultdict

import numpy as np
import torch

from rimsim.data import load
from rimsim.intensity.registry import make
from rimsim.intensity.selection.held_out import HeldOut

MODELS = "popularity,returning,bag,ease,factors"


def judged(name: str, held: HeldOut, seed: int, *, show: bool) -> tuple[np.ndarray, float, float]:
    """(n,) precision@10 of a model's states, mean log-likelihood of an item, CPU seconds of the fit."""
    start = time.process_time()
    kind, _, softmax = name.partition("@")
    model = make(kind, seed=seed)
    if softmax:
        model = make(kind, mark=dataclasses.replace(model.config, softmax=softmax), seed=seed)
    model.fit(held.past)
    seconds = time.process_time() - start
    shrinkage = getattr(model, "shrinkage", None)
    if show and shrinkage is not None:
        print(f"  {name}: {shrinkage.line()}", flush=True)
    hits = []
    total = 0.0
    for first in range(0, len(held), 512):
        rows = np.arange(first, min(first + 512, len(held)))
        p = model.score(held.states.take(rows)).double().cpu().numpy()
        p[held.consumed[rows]] = 0.0
        taken = held.taken[rows]
        best = np.argpartition(-p, 10, axis=1)[:, :10]
        hits.append(np.take_along_axis(taken, best, axis=1).mean(1))
        share = p / p.sum(1, keepdims=True)
        total += float(np.log(np.maximum(share, 1e-12))[taken > 0].sum())
    return np.concatenate(hits), total / float(held.taken.sum()), seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="ml-latest-small")
    parser.add_argument("--min-item-events", type=int, default=30)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--minus", default="popularity", help="those that the others are compared with")
    parser.add_argument("--show", action="store_true", help="also what was chosen at each fit")
    options = parser.parse_args()
    torch.set_num_threads(1)
    log = load(options.data, min_item_events=options.min_item_events)
    print(f"{log.n_users} users, {log.n_items} items, {len(log)} events")
    names = options.models.split(",")
    hits = defaultdict(list)
    likelihood = defaultdict(list)
    seconds = defaultdict(list)
    users = []
    for seed in range(options.draws):
        held = HeldOut.of(log, "30min", seed, most_cells=None)
        if held is None:
            raise SystemExit("fewer than 20 users of this log came back")
        users.append(held.user)
        for name in names:
            precision, value, cpu = judged(name, held, seed, show=options.show)
            hits[name].append(precision)
            likelihood[name].append(value)
            seconds[name].append(cpu)
    user, place = np.unique(np.concatenate(users), return_inverse=True)
    beside = [name for name in options.minus.split(",") if name in names]
    columns = ["model", "P@10", "by draw", *(f"minus {name}" for name in beside), "nats an item", "CPU s"]
    print(f"| {' | '.join(columns)} |\n|---|---:|---|{'---:|' * (len(beside) + 2)}")
    for name in names:
        mine = np.concatenate(hits[name])
        by_draw = " ".join(f"{part.mean():.3f}" for part in hits[name])
        gaps = []
        for subtrahend in beside:
            # A user who is in several draws is one user: its mean difference counts once, weighted by its draws.
            difference = mine - np.concatenate(hits[subtrahend])
            mean = difference.mean()
            by_user = np.bincount(place, difference - mean, len(user))
            error = np.sqrt((by_user**2).sum()) / len(difference)
            gaps.append(f"{mean:+.4f} ± {1.96 * error:.4f}")
        cells = [f"`{name}`", f"{mine.mean():.4f}", by_draw, *gaps]
        cells += [f"{np.mean(likelihood[name]):.3f}", f"{np.mean(seconds[name]):.2f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
