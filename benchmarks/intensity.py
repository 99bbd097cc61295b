"""Speed and quality of the intensity models.

    python benchmarks/intensity.py speed                    fits, updates, encoding, scoring; embedded data
    python benchmarks/intensity.py loss                     held-out loss and calibration; embedded data
    python benchmarks/intensity.py cold                     p of items that no user has met; embedded data
    python benchmarks/intensity.py quality --data FOLDER    item and user recommendation, user-relative time

CPU seconds are of this process, on one thread.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from cpu_and_memory import cpu
from numpy.typing import NDArray

from rimsim.data import load
from rimsim.intensity import (
    GRU,
    RIM,
    EMAConfig,
    GRUConfig,
    HawkesConfig,
    HawkesPoissonConfig,
    Transformer,
    TransformerConfig,
    UserPopularityConfig,
    UserStates,
)
from rimsim.intensity.calibration import calibration, count_calibration
from rimsim.intensity.ground.contract import Ground
from rimsim.intensity.registry import make
from rimsim.intensity.states import count_examples, session_examples
from rimsim.rng import Purpose, generator, uniform

if TYPE_CHECKING:
    from rimsim.data import EventLog


def clones(log: EventLog, arrivals: int, each: int, seed: int) -> EventLog:
    """A round as the closed loop logs it: users with their history as context, and a few new target events."""
    source = generator(seed, Purpose.MEASURE, 1)
    end = float(log.time[-1]) + 86400.0
    states = UserStates.of(log, source.integers(0, log.n_users, arrivals), end)
    counts = source.integers(1, each + 1, arrivals)
    fresh = [source.choice(log.n_items, count, replace=False) for count in counts]
    state = np.arange(arrivals)
    user = np.concatenate([np.repeat(state, states.lengths), np.repeat(state, counts)])
    item = np.concatenate([states.items, *fresh])
    time = np.concatenate([states.times, np.repeat(end + np.arange(arrivals) * 10.0, counts)])
    target = np.arange(len(user)) >= len(states.items)
    order = np.lexsort((item, user, time))
    return replace(
        log,
        user=user[order],
        item=item[order],
        time=time[order],
        value=np.ones(len(user), np.float32),
        target=target[order],
        users=log.users.iloc[np.zeros(arrivals, int)].reset_index(drop=True),
    )


def speed() -> None:
    """Print CPU seconds of every step, on the embedded data and on states of MovieLens-1M's size."""
    log = load("ml-latest-small", min_item_events=30)
    print(f"{len(log)} events, {log.n_users} users x {log.n_items} items")
    states = UserStates.of(log, np.arange(log.n_users), float(log.time[-1]) + 1e6)
    for name in ("popularity", "hp", "popularity-hawkes", "gru", "transformer", "als", "graph"):
        model = make(name)
        fit = cpu(partial(model.fit, log))
        hidden = model.encode(states)
        encode = cpu(partial(model.encode, states))
        items = torch.arange(log.n_users) % log.n_items
        times = torch.from_numpy(states.now + 1.0)
        step = cpu(partial(model.step, hidden, items, times))
        score = cpu(partial(model.score_hidden, hidden, states.now))
        parts = [
            f"{name:18s} fit {fit:6.2f}",
            f"encode {encode:.3f}",
            f"step {step:.4f}",
            f"score {score:.4f}",
        ]
        for arrivals, each in ((1500, 3), (3000, 5)):
            seen = clones(log, arrivals, each, 0)
            took = cpu(partial(model.update, seen))
            parts.append(f"update {int(seen.targets.sum())} targets {took:.2f}")
        print("  ".join(parts), flush=True)
    wide = replace(
        log, item=np.arange(len(log)) % 3706, items=log.items.iloc[np.zeros(3706, int)].reset_index(drop=True)
    )
    rows = UserStates.of(wide, np.arange(6040) % log.n_users, float(log.time[-1]) + 1.0)
    short = wide.before(float(np.quantile(wide.time, 0.1)))
    for large in (GRU(GRUConfig(epochs=1, patience=0)), Transformer(TransformerConfig(epochs=1, patience=0))):
        hidden = large.fit(short).encode(rows)
        encode = cpu(partial(large.encode, rows))
        score = cpu(partial(_in_blocks, large, hidden, rows.now))
        rate = f"score {score:.2f} ({6040 / score:.0f} users/s)"
        print(f"{large.kind}: 6040 states x 3706 items: encode {encode:.2f}, {rate}")


def _in_blocks(model: GRU | Transformer, hidden: tuple[torch.Tensor, ...], now: NDArray[np.float64]) -> None:
    for first in range(0, len(now), 128):
        rows = slice(first, first + 128)
        model.score_hidden(tuple(part[rows] for part in hidden), now[rows])


def loss() -> None:
    """Print held-out losses: models are fitted to 80% of the users and judged on the others."""
    log = load("ml-latest-small", min_item_events=30)
    test = uniform(11, Purpose.MEASURE, log.user) < 0.2
    fit = log.rows(~test)
    held = log.rows(test)
    marks = ("popularity", "als", "bpr", "graph", "gru", "transformer")
    for name in (*marks, "hp", "popularity-hawkes", "popularity-ema"):
        model = make(name)
        took = cpu(partial(model.fit, fit))
        print(f"{name} (fit {took:.1f} CPU s)")
        lines = calibration(model, held, session_examples(held)).lines()
        for line in lines if isinstance(model, RIM) else lines[-1:]:
            print("   " + line, flush=True)


def cold() -> None:
    """Print what p says of a tenth of the items, taken out of the log, at events with them."""
    log = load("ml-latest-small", min_item_events=30)
    unmet = uniform(5, Purpose.MEASURE, np.arange(log.n_items)) < 0.1
    warm = log.rows(~unmet[log.item])
    items = np.flatnonzero(unmet)
    rows = np.flatnonzero(unmet[log.item])
    rows = generator(5, Purpose.MEASURE, 1).choice(rows, 3000, replace=False)
    states = UserStates.of(warm, log.user[rows], log.time[rows])
    print(f"{len(items)} items are unmet; {unmet[log.item].mean():.3f} of the events are with them")
    for with_features in (False, True):
        p = GRU(GRUConfig(cold_items=with_features)).fit(warm).score(states).cpu().numpy()
        hit = p[np.arange(len(rows)), log.item[rows]][:, None]
        rest = p[:, items]
        ranked = float(((rest < hit).mean(1) + 0.5 * (rest == hit).mean(1)).mean())
        figures = f"share of p {rest.sum(1).mean():.4f}, nats {-np.log(hit).mean():.2f}, AUC among unmet {ranked:.3f}"
        print(f"genres and year {'on ' if with_features else 'off'}: {figures}", flush=True)


@dataclass(frozen=True)
class Split:
    """User-relative split: half of the users give up their future."""

    train: EventLog
    """What models are fitted to."""
    test: UserStates
    """States of the test users."""
    hits: NDArray[np.int64]
    """(n, M) target events."""
    is_known: NDArray[np.bool_]
    """(M,) items with a training event."""
    horizon: float
    """Seconds."""
    ground_users: NDArray[np.int64]
    """Users whose future λ is fitted to."""
    ground_now: NDArray[np.float64]
    """Their instants."""


def split(log: EventLog, seed: int) -> Split:
    """Second halves of users' events; test users at first event + T, T the median lifetime and horizon."""
    order = np.lexsort((generator(seed, Purpose.MEASURE, 2).random(len(log)), log.time, log.user))
    begin = np.r_[True, np.diff(log.user[order]) != 0]
    size = np.bincount(log.user, minlength=log.n_users)
    rank = np.arange(len(log)) - np.flatnonzero(begin)[np.cumsum(begin) - 1] + 1
    keep = np.zeros(len(log), bool)
    keep[order] = rank / size[log.user[order]] >= 0.5
    log = log.rows(keep)
    first = np.full(log.n_users, np.inf)
    last = np.full(log.n_users, -np.inf)
    np.minimum.at(first, log.user, log.time)
    np.maximum.at(last, log.user, log.time)
    present = np.flatnonzero(np.isfinite(first))
    horizon = float(np.median((last - first)[present]))
    in_a = generator(seed, Purpose.MEASURE, 3).permutation(log.n_users) % 2 == 0
    start = first + horizon
    train = log.rows(in_a[log.user] | (log.time < start[log.user]))
    is_known = np.bincount(train.item, minlength=log.n_items) > 0
    test = present[~in_a[present]]
    place = np.full(log.n_users, -1)
    place[test] = np.arange(len(test))
    future = (place[log.user] >= 0) & (log.time >= start[log.user]) & (log.time < start[log.user] + horizon)
    future &= is_known[log.item]
    hits = np.zeros((len(test), log.n_items), np.int64)
    np.add.at(hits, (place[log.user[future]], log.item[future]), 1)
    group_a = present[in_a[present]]
    return Split(
        train, UserStates.of(log, test, start[test]), hits, is_known, horizon, group_a, start[group_a]
    )


def quality_of(score: NDArray[np.float32], cut: Split) -> str:
    """Precision, recall and item perplexity at 1% of the items, precision and recall at 1% of the users."""
    score = score.copy()
    score[:, ~cut.is_known] = -1.0
    score[cut.test.owner, cut.test.items] = -1.0
    n = len(score)
    items = int(cut.is_known.sum())
    k = -(-items // 100)
    c = -(-n // 100)
    chosen = np.argpartition(-score, k, axis=1)[:, :k]
    share = np.bincount(chosen.ravel(), minlength=score.shape[1]) / chosen.size
    spread = float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()))
    item_hits = np.take_along_axis(cut.hits, chosen, 1)
    columns = np.flatnonzero(cut.is_known)
    users = np.argpartition(-score[:, columns], c, axis=0)[:c]
    user_hits = np.take_along_axis(cut.hits[:, columns], users, 0)
    wanted = cut.hits.sum(1)
    has_target = wanted > 0
    recall = float((item_hits.sum(1)[has_target] / wanted[has_target]).mean())
    item = f"ItemRec@{k} {item_hits.sum() / (n * k):.4f} (recall {recall:.3f}, perplexity {spread:.0f})"
    return f"{item}  UserRec@{c} {user_hits.sum() / (items * c):.4f} (recall {user_hits.sum() / wanted.sum():.3f})"


def quality(data: str, marks: list[str], grounds: list[str], seeds: int) -> None:
    """Print precision of every mark model alone and times every ground intensity."""
    for seed in range(seeds):
        cut = split(load(data), seed)
        n = len(cut.test)
        items = int(cut.is_known.sum())
        sizes = f"{n} states x {items} items, {len(cut.train)} events, {cut.hits.sum()} targets"
        print(f"seed {seed}: {sizes}, horizon {cut.horizon:.0f} s", flush=True)
        configs = {
            "hp": HawkesPoissonConfig(horizon=cut.horizon),
            "pop": UserPopularityConfig(horizon=cut.horizon),
            "ema": EMAConfig(horizon=cut.horizon, scale=cut.horizon),
            "hawkes": HawkesConfig(horizon=cut.horizon),
        }
        rates: dict[str, NDArray[np.float32]] = {"-": np.ones(n, np.float32)}
        counts = cut.hits.sum(1)
        for name in grounds:
            model = make(name, ground=configs[name])
            ground = model.ground if isinstance(model, RIM) else None
            if not isinstance(ground, Ground):
                continue
            examples = count_examples(cut.train, cut.ground_users, cut.ground_now, cut.horizon)
            took = cpu(partial(ground.fit, cut.train)) + cpu(partial(ground.fit_examples, examples))
            rates[name] = ground.intensity(cut.test).cpu().numpy()
            calibration = count_calibration(rates[name], counts)
            fit = f"deviance {calibration.deviance:.2f} against {calibration.deviance_constant:.2f}"
            rank = f"Spearman {calibration.rank_correlation:.3f}"
            print(
                f"  {name}: fit {took:.2f} CPU s, count ratio {calibration.ratio:.3f}, {rank}, {fit}",
                flush=True,
            )
        for name in marks:
            model = make(name, seed=seed)
            took = cpu(partial(model.fit, cut.train))
            p = model.score(cut.test).cpu().numpy()
            for ground_name, rate in rates.items():
                quality = quality_of(p * rate[:, None], cut)
                print(f"  {name} x {ground_name}: {quality}  fit {took:.0f} CPU s", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", default="speed", choices=("speed", "loss", "cold", "quality"))
    parser.add_argument("--data", default="ml-latest-small", help="what rimsim.data.load reads")
    parser.add_argument("--marks", default="popularity,gru,transformer")
    parser.add_argument("--grounds", default="hp,pop,ema,hawkes")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "quality":
        quality(options.data, options.marks.split(","), options.grounds.split(","), options.seeds)
    else:
        {"speed": speed, "loss": loss, "cold": cold}[options.what]()


if __name__ == "__main__":
    main()
