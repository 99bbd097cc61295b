"""Does λ(x) foretell the size of the session that begins now?

    python benchmarks/session_sizes.py                                              embedded data
    python benchmarks/session_sizes.py ml-1m-positives.zip --min-item-events 20     a log of your own

Ground intensities are fitted to a part of the log's sessions and compared with the sizes of others, first sessions of a
user and later ones apart:

* calendar: fitted to the first half of the events, judged on all sessions after it;
* users: fitted to a half of the users, judged on the others, and the other way round: every session is judged;
* later .3 and later 0: `rimsim.data.later_sessions` with ``after=.3`` and ``after=0``, two draws each: one session of
  each user is judged. With .3 only sessions before which 30% of all the user's events lie can be drawn. That share
  knows the future: sessions that are large against what was before are left out, so that a forecast which is right for
  sessions as they come is too high there. ``after=0`` draws from all later sessions.

Printed are Σλ / Σ events, Spearman's correlation of λ with the events, and the mean Poisson deviance; beside them the
deviance of the judged sessions' own means, one for first sessions and one for later ones. Differences of visits and hp
have standard errors from a bootstrap of users. At last, λ by tenths with the mean events that followed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rimsim.data import EventLog, later_sessions, load
from rimsim.intensity import UserStates
from rimsim.intensity.calibration import count_calibration
from rimsim.intensity.registry import make
from rimsim.rng import Purpose, generator

GROUNDS = ("visits", "hp", "hawkes", "ema", "pop")
DRAWS = 200
"""Bootstrap draws."""


@dataclass(frozen=True, eq=False)
class Judged:
    """n sessions of a log that λ is judged on."""

    user: NDArray[np.int64]
    """(n,) their users."""
    first: NDArray[np.bool_]
    """(n,) whether it is the user's first."""
    count: NDArray[np.int64]
    """(n,) events."""
    rates: dict[str, NDArray[np.float64]]
    """(n,) λ by ground intensity."""

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Judged:
        """Some of the sessions."""
        rates = {name: rate[rows] for name, rate in self.rates.items()}
        return Judged(self.user[rows], self.first[rows], self.count[rows], rates)


def judge(past: EventLog, log: EventLog, rows: NDArray[np.bool_]) -> Judged:
    """λ of models fitted to ``past``, and the events, of the sessions ``rows`` of the whole log."""
    sessions = log.sessions()
    states = UserStates.of(log, sessions.user[rows], sessions.start[rows])
    rates = {}
    for name in GROUNDS:
        rate = make(name, device="cpu").ground.fit(past).intensity(states).double().numpy()
        # λ is float32: what differs by rounding alone must not be ranked.
        rates[name] = np.maximum(rate, 1e-5).round(5)
    return Judged(sessions.user[rows], states.lengths == 0, sessions.count[rows], rates)


def joined(parts: list[Judged]) -> Judged:
    """Sessions of several judgements together."""
    return Judged(
        np.concatenate([part.user for part in parts]),
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.count for part in parts]),
        {name: np.concatenate([part.rates[name] for part in parts]) for name in GROUNDS},
    )


def cuts(log: EventLog) -> Iterator[tuple[str, Judged]]:
    """The sessions of each cut, judged."""
    sessions = log.sessions()
    middle = float(np.median(log.time))
    yield "calendar", judge(log.before(middle), log, sessions.start >= middle)
    half = generator(0, Purpose.MEASURE, log.n_users).random(log.n_users) < 0.5
    folds = [judge(log.rows(side[log.user]), log, ~side[sessions.user]) for side in (half, ~half)]
    yield "users", joined(folds)
    for after in (0.3, 0.0):
        drawn = []
        for seed in (0, 1):
            cut = later_sessions(log, seed=seed, after=after)
            limit = np.full(log.n_users, np.inf)
            limit[cut.user] = cut.time
            drawn.append(judge(cut.past, log, sessions.start == limit[sessions.user]))
        yield f"later {after:g}".replace("0.", "."), joined(drawn)


def spearman(rate: NDArray[np.float64], count: NDArray[np.int64]) -> float:
    """Rank correlation; 0 where λ is the same for all."""
    return float(stats.spearmanr(rate, count).statistic) if len(rate) > 2 and np.ptp(rate) > 0 else 0.0


def deviance(rate: NDArray[np.float64], count: NDArray[np.int64]) -> float:
    """Mean Poisson deviance; a session has at least one event."""
    return float(2 * np.mean(count * np.log(count / rate) - (count - rate)))


def figures(sessions: Judged, name: str) -> list[float]:
    """Σλ / Σ events, deviance and rank correlation of first and of later sessions, rank correlation of all."""
    row = []
    for rows in (sessions.first, ~sessions.first):
        part = sessions.take(rows)
        if len(part.count) == 0:
            row += [np.nan] * 3
            continue
        rate = part.rates[name]
        row += [rate.sum() / part.count.sum(), deviance(rate, part.count), spearman(rate, part.count)]
    return [*row, spearman(sessions.rates[name], sessions.count)]


def means(sessions: Judged) -> Judged:
    """The same with the judged sessions' own means as λ of every model."""
    rate = np.zeros(len(sessions.count))
    for rows in (sessions.first, ~sessions.first):
        rate[rows] = sessions.count[rows].mean() if rows.any() else 0.0
    return replace(sessions, rates=dict.fromkeys(GROUNDS, rate))


def line(cut: str, name: str, row: list[float]) -> str:
    """A row of the table."""
    ratio, deviance, _, later_ratio, later_deviance, later_rho, rho = row
    cells = (
        f"{ratio:.2f}",
        f"{later_ratio:.2f}",
        f"{deviance:.1f}",
        f"{later_deviance:.1f}",
        f"{later_rho:.3f}",
        f"{rho:.3f}",
    )
    return f"| {cut} | `{name}` | " + " | ".join(cells).replace("nan", "") + " |"


def differences(sessions: Judged) -> str:
    """Visits less Hawkes-Poisson on later and on all sessions, with standard errors over users."""

    def measured(part: Judged) -> list[float]:
        rows = [figures(part, name) for name in ("visits", "hp")]
        return [rows[0][column] - rows[1][column] for column in (4, 5, 6)]

    order = np.argsort(sessions.user, kind="stable")
    users, begin = np.unique(sessions.user[order], return_index=True)
    rows = np.split(order, begin[1:])
    source = generator(1, Purpose.MEASURE, len(users))
    drawn = [
        measured(sessions.take(np.concatenate([rows[i] for i in source.integers(0, len(users), len(users))])))
        for _ in range(DRAWS)
    ]
    words = ("deviance, later", "Spearman, later", "Spearman, all")
    pairs = zip(words, measured(sessions), np.std(drawn, axis=0), strict=True)
    return "; ".join(f"{word} {value:+.3f} ±{error:.3f}" for word, value, error in pairs)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", default="ml-latest-small")
    parser.add_argument("--min-item-events", type=int, default=30)
    arguments = parser.parse_args()
    began = time.process_time()
    log = load(arguments.data, min_item_events=arguments.min_item_events)
    sessions = log.sessions()
    is_first = np.zeros(len(sessions), bool)
    is_first[np.unique(sessions.user, return_index=True)[1]] = True
    first = sessions.count[is_first]
    later = sessions.count[~is_first]
    print(f"{len(log):,} events, {log.n_users:,} users;", end=" ")
    print(
        f"{len(first):,} first sessions of {first.mean():.1f}, {len(later):,} later ones of {later.mean():.1f} events\n"
    )
    print("| cut | λ | Σλ/Σn, first | later | deviance, first | later | Spearman, later | all |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    judged = list(cuts(log))
    for cut, cut_sessions in judged:
        for name in GROUNDS:
            print(line(cut, name, figures(cut_sessions, name)))
        print(line(cut, "its means", figures(means(cut_sessions), "visits")).replace("`", ""))
    print("\nvisits − hp, ± standard error over users:\n")
    for cut, cut_sessions in judged:
        print(f"* {cut}, {len(cut_sessions.count):,} sessions: {differences(cut_sessions)}")
    print("\nλ by tenths and the mean events that followed, cut by users:\n")
    for name in ("visits", "hp"):
        tenths = count_calibration(judged[1][1].rates[name], judged[1][1].count).deciles
        print(f"* {name}: " + ", ".join(f"{tenth.predicted:.1f} → {tenth.realised:.1f}" for tenth in tenths))
    print(f"\n{time.process_time() - began:.0f} CPU seconds")


if __name__ == "__main__":
    main()
