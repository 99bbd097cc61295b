"""What estimators say of a target beside what is true, for each part of a log, and over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy

from rimsim.arrays import Bools, Floats, Ints
from rimsim.evaluation import ESTIMATORS, LoggedSlates, estimated

if TYPE_CHECKING:
    from rimsim.evaluation import Estimate
    from rimsim.scenarios.evaluating.replay import ReplayedRound


PARTS = {
    "first visits": "round 0, visitors who come for the first time: no slate has moved their state",
    "later visits": "round 0, visitors who come again: what they were shown and took before has moved their state",
    "later rounds": "after a retraining: the platform has learnt from what the logged agent showed",
}
"""Part of a log → which arrivals it has, and what a single-step estimate leaves out there."""


_COLUMNS = (
    "estimator",
    "target",
    "seed",
    "estimate",
    "low",
    "high",
    "truth",
    "logged",
    "part",
    "truth_at_log",
    "effective",
    "support",
    "slates",
)


def estimates(
    rounds: Sequence[ReplayedRound],
    world: Sequence[tuple[Ints, Floats]],
    *,
    logged: str,
    target: str,
    seed: int,
) -> pd.DataFrame:
    """Every estimator on every part of a log.

    Args:
        rounds: The log, as a target sees it.
        world: For each round the arrival ids and the worth of slates in the target's own world.
        logged: Name of the agent that showed slates.
        target: Name of the agent that is valued.
        seed: Seed of both.

    Returns:
        Columns estimator, target, seed, estimate, low, high, truth, and beside them logged, part, truth_at_log (what
        the target's slates are worth in the states of the log), effective (sample size, in slates), support (share
        of the target's slates that might have been logged) and slates.
    """
    rows = []
    for part in PARTS:
        chosen = [
            (one, own, _of_part(part, number, one))
            for number, (one, own) in enumerate(zip(rounds, world, strict=True))
        ]
        chosen = [(one, own, rows_of) for one, own, rows_of in chosen if rows_of.any()]
        if not chosen:
            continue
        log = _joined([one.log.rows(some) for one, _, some in chosen])
        truth = np.concatenate([own[1][np.isin(own[0], one.arrival[some])] for one, own, some in chosen])
        worth = np.concatenate([one.worth[some] for one, _, some in chosen])
        supported = np.concatenate([one.supported[some] for one, _, some in chosen])
        common = {
            "target": target,
            "seed": seed,
            "truth": float(truth.mean()),
            "logged": logged,
            "part": part,
            "truth_at_log": float(worth.mean()),
            "support": float(supported.mean()),
            "slates": len(log),
        }
        found = {name: estimated(name, log) for name in ESTIMATORS}
        rows += [_row(name, one, common) for name, one in found.items() if one is not None]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _row(name: str, found: Estimate, common: Mapping[str, object]) -> dict[str, object]:
    said = {"estimate": found.value, "low": found.low, "high": found.high, "effective": found.effective}
    return {"estimator": name, **said, **common}


def _of_part(part: str, number: int, one: ReplayedRound) -> Bools:
    """(n,) arrivals of a round that are of a part."""
    if part == "later rounds":
        return np.full(len(one.first), number > 0)
    return (one.first if part == "first visits" else ~one.first) & (number == 0)


def _joined(logs: Sequence[LoggedSlates]) -> LoggedSlates:
    """Logs of some rounds as one; visitors of different rounds are different."""
    offset, users = 0, []
    for log in logs:
        users.append(log.visitor + offset)
        offset += int(log.visitor.max(initial=-1)) + 1
    columns = ("reward", "shown", "predicted", "predicted_target", "admissible")
    return LoggedSlates(
        **{name: np.concatenate([getattr(log, name) for log in logs]) for name in columns},
        logging=type(logs[0].logging).joined([log.logging for log in logs]),
        target=type(logs[0].target).joined([log.target for log in logs]),
        visitor=np.concatenate(users),
        uniform=all(log.uniform for log in logs),
    )


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Estimators over seeds, for each part.

    Args:
        table: What :func:`estimates` gives, of one target or more, some seeds each.

    Returns:
        Columns logged, target, part, estimator, estimate, truth, bias (mean of estimate − truth), error (its standard
        error over seeds; NaN for one seed), half (half a 95 % interval of the bias, by Student's t), rmse, coverage
        (share of seeds whose interval holds the truth), width (of the interval), moved (mean of truth − truth_at_log:
        what no single-step estimate can see), effective, support, seeds.
    """
    off = table["estimate"] - table["truth"]
    work = table.assign(
        off=off,
        square=off**2,
        covered=(table["low"] <= table["truth"]) & (table["truth"] <= table["high"]),
        width=table["high"] - table["low"],
        moved=table["truth"] - table["truth_at_log"],
    )
    groups = work.groupby(["logged", "target", "part", "estimator"], sort=False)
    found = groups.agg(
        estimate=("estimate", "mean"),
        truth=("truth", "mean"),
        bias=("off", "mean"),
        error=("off", "sem"),
        rmse=("square", "mean"),
        coverage=("covered", "mean"),
        width=("width", "mean"),
        moved=("moved", "mean"),
        effective=("effective", "mean"),
        support=("support", "mean"),
        seeds=("seed", "nunique"),
    )
    half = found["error"] * scipy.stats.t.ppf(0.975, (found["seeds"] - 1).clip(lower=1))
    return found.assign(rmse=np.sqrt(found["rmse"]), half=half).reset_index()
