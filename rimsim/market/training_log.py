"""The log that the platform retrains on: what its visitors consumed, and warm-up users as its window says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints, seconds
from rimsim.data.log import EventLog
from rimsim.market.learning import inverse_propensity_weights

if TYPE_CHECKING:
    from rimsim.config import PlatformConfig
    from rimsim.market.arrivals.schedule import Schedule
    from rimsim.market.histories import Histories
    from rimsim.market.learning import Shown


@dataclass(frozen=True, eq=False)
class PastRound:
    """A round that is over: who arrived and what they had consumed by when."""

    number: int
    schedule: Schedule
    histories: Histories
    shown: Shown | None = None
    """What was shown, where the platform learns from it."""


def fold_of(seed: int, users: Ints) -> Ints:
    """(n,) the fold, 0 or 1, of market users: a model of one fold has not seen the last round of the other."""
    return (rng.bits(seed, rng.Purpose.MODEL, 7, users) & np.uint64(1)).astype(np.int64)


def training_log(
    config: PlatformConfig,
    warmup: EventLog,
    rounds: list[PastRound],
    now: int,
    seed: int,
    without_fold: int | None = None,
) -> EventLog:
    """What the platform retrains on: consumptions of the last rounds, and warm-up users as the log window says.

    Args:
        config: The platform of the scenario.
        warmup: The warm-up log.
        rounds: The rounds that are kept, oldest first; only those within the log window are looked at. Their number
            keys the sample of warm-up users, so the sample stays once the window is full.
        now: Tick of the retraining; what is visible from then on, or later, is not known yet.
        seed: Model seed, for the sample of warm-up users and for the folds.
        without_fold: Leave out what this fold of users did in the last round, for cross-fitted prices.

    Returns:
        A log whose ``target`` events are what models fit; the other events are history of their users. Its user
        table numbers the users of this log alone. With ``learning: ips`` and an agent that has propensities, each of
        the platform's own target events weighs by its inverse propensity, and others weigh 1.
    """
    window = config.log_window
    recent = rounds if window.rounds is None else rounds[-window.rounds :]
    parts = _own_log(recent, now, seed, without_fold, warmup.n_items)
    own = sum(int(part.target.sum()) for part in parts)
    weight = None
    if config.learning == "ips":
        weight = _weights(parts, config.ips_clip)
    parts.append(_warmup_users(config, warmup, own, seed, len(rounds)))
    return _joined(parts, warmup.items, weight)


@dataclass(frozen=True, eq=False)
class _Events:
    """Events of some users, not yet in order; ``user`` is a number of the part's own."""

    user: Ints
    item: Ints
    time: Floats
    target: Bools
    propensity: Floats | None = None
    """Inclusion probability of what was consumed because it was shown; NaN where there is none."""


def _own_log(
    rounds: list[PastRound], now: int, seed: int, without_fold: int | None, n_items: int
) -> list[_Events]:
    parts = []
    done: set[int] = set()
    for past in reversed(
        rounds
    ):  # users who are kept have one history for all rounds: take it once, as of now
        histories = past.histories
        if id(histories) in done:
            continue
        done.add(id(histories))
        since = min(other.schedule.start for other in rounds if other.histories is histories)
        last = rounds[-1]
        hidden_from = last.schedule.start if last.histories is histories else now + 1
        everyone = np.arange(len(histories))
        counts = histories.visible_at(everyone, np.full(len(histories), now - 1))
        if without_fold is not None:
            held = np.flatnonzero((counts > 0) & (fold_of(seed, histories.user) == without_fold))
            known = histories.visible_at(held, np.full(len(held), hidden_from - 1))
            counts[held] = np.minimum(counts[held], known)
        slots = np.flatnonzero(counts)
        states = histories.states(slots, counts[slots], np.full(len(slots), now))
        rows = states.owner
        from_end = states.offsets[1:][rows] - np.arange(len(rows))
        in_market = from_end <= counts[slots][rows]
        target = in_market & (states.times >= seconds(since))
        propensity = _propensities(
            [other for other in rounds if other.histories is histories],
            np.where(in_market, slots[rows] * n_items + states.items, -1),
            n_items,
        )
        parts.append(_Events(rows, states.items, states.times, target, propensity))
    return parts


def _propensities(rounds: list[PastRound], wanted: Ints, n_items: int) -> Floats:
    """(n,) with which probability each event's item was shown when it was consumed; NaN where that is not known.

    Args:
        rounds: Rounds of one store of histories, in which no slot consumes an item twice that it is known to have.
        wanted: (n,) slot · M + item of each event; −1 for one that is not of the market.
        n_items: M.
    """
    keys, values = [np.zeros(0, np.int64)], [np.zeros(0)]
    for past in rounds:
        if past.shown is None:
            continue
        row, position = np.nonzero(past.shown.taken & (past.shown.propensity > 0))
        keys.append(past.schedule.slot[row] * n_items + past.shown.item[row, position])
        values.append(past.shown.propensity[row, position].astype(np.float64))
    key, value = np.concatenate(keys), np.concatenate(values)
    found = np.full(len(wanted), np.nan)
    if len(key):
        order = np.argsort(key, kind="stable")
        at = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
        same = key[order][at] == wanted
        found[same] = value[order][at[same]]
    return found


def _weights(parts: list[_Events], clip: float) -> Floats | None:
    """Weights of the events of some parts, one part after the other; None where no target event has a propensity."""
    known = [np.where(part.target, part.propensity, np.nan) for part in parts if part.propensity is not None]
    propensity = np.concatenate(known) if known else np.zeros(0)
    return inverse_propensity_weights(propensity, clip) if (propensity > 0).any() else None


def _warmup_users(config: PlatformConfig, warmup: EventLog, own: int, seed: int, number: int) -> _Events:
    window = config.log_window
    if window.warmup == "all":
        keep = np.ones(warmup.n_users, bool)
    elif window.warmup == "none" or own >= window.size:
        keep = np.zeros(warmup.n_users, bool)
    else:
        order = np.argsort(rng.bits(seed, rng.Purpose.MODEL, 8, number, np.arange(warmup.n_users)))
        filled = np.cumsum(np.bincount(warmup.user, minlength=warmup.n_users)[order])
        keep = np.zeros(warmup.n_users, bool)
        keep[order[: int(np.searchsorted(filled, window.size - own)) + 1]] = True
    rows = keep[warmup.user]
    return _Events(warmup.user[rows], warmup.item[rows], warmup.time[rows], warmup.targets[rows])


def _joined(parts: list[_Events], items: pd.DataFrame, weight: Floats | None) -> EventLog:
    users, offset = [], 0
    for part in parts:
        there = np.bincount(part.user) > 0
        users.append((np.cumsum(there) + (offset - 1))[part.user])
        offset += int(there.sum())
    time = np.concatenate([part.time for part in parts])
    order = np.argsort(time, kind="stable")
    if weight is not None:
        weight = np.concatenate([weight, np.ones(len(order) - len(weight))])[order]
    # Of a large log no more than one column is held twice.
    return EventLog(
        user=np.concatenate(users).astype(np.int64)[order],
        item=np.concatenate([part.item for part in parts])[order],
        time=time[order],
        value=np.ones(len(order), np.float32),
        users=pd.DataFrame({"id": np.arange(offset)}),
        items=items,
        target=np.concatenate([part.target for part in parts])[order],
        weight=weight,
    )
