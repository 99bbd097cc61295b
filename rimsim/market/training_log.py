"""Training log: consumptions and warm-up users to retrain on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints, seconds
from rimsim.config import PlatformConfig
from rimsim.data.log import EventLog
from rimsim.market.past_round import PastRound, fold_of


def training_log(
    config: PlatformConfig,
    warmup: EventLog,
    rounds: list[PastRound],
    now: int,
    seed: int,
    without_fold: int | None = None,
) -> EventLog:
    """Log to retrain on: recent consumptions, and warm-up users.

    Models are fitted to the ``target`` events of the training log; all other events serve only as history.
    The log's user table has only users of this log. With ``learning: ips`` and an agent with propensities,
    target events of the market are weighted by their inverse propensity. All other events have weight 1.

    Args:
        rounds: Cached rounds, oldest first; only rounds within the log window are used. The sample of warm-up
            users depends on the number of used rounds. The sample stays the same once the log window is full.
        now: Tick of the retraining. The log has only events that become visible before this tick.
        without_fold: Fold of users whose events in the last round are left out, for cross-fitted prices.
    """
    parts = log_parts(config, warmup, rounds, now, seed, without_fold)
    return joined_log(config, parts, warmup.items)


@dataclass(frozen=True, eq=False)
class LogPart:
    """Part of a training log, with its own user numbers."""

    user: Ints
    item: Ints
    time: Floats
    target: Bools
    propensity: Floats | None = None
    """(n,) propensity of items that were consumed because they were shown; NaN for other items."""


def log_parts(
    config: PlatformConfig,
    warmup: EventLog,
    rounds: list[PastRound],
    now: int,
    seed: int,
    without_fold: int | None = None,
) -> list[LogPart]:
    """Parts of :func:`training_log`: rounds, then warm-up users."""
    window = config.log_window
    recent = rounds if window.rounds is None else rounds[-window.rounds :]
    parts = _own_log(recent, now, seed, without_fold, warmup.n_items)
    n_targets = sum(int(part.target.sum()) for part in parts)
    return [*parts, _warmup_users(config, warmup, n_targets, seed, len(rounds))]


def _own_log(
    rounds: list[PastRound], now: int, seed: int, without_fold: int | None, n_items: int
) -> list[LogPart]:
    """Parts of the log from the platform's own rounds."""
    parts: list[LogPart] = []
    seen_ids: set[int] = set()
    last = rounds[-1] if rounds else None
    for past in reversed(rounds):
        histories = past.histories
        # Users who stay have one history for all rounds, which is added once, in its latest state.
        if id(histories) in seen_ids:
            continue
        seen_ids.add(id(histories))
        sharing = [sharer for sharer in rounds if sharer.histories is histories]
        since = min(sharer.schedule.start for sharer in sharing)
        hidden_from = last.schedule.start if last is not None and last.histories is histories else now + 1
        counts = histories.visible_at(np.arange(len(histories)), np.full(len(histories), now - 1))
        if without_fold is not None:
            held = np.flatnonzero((counts > 0) & (fold_of(seed, histories.user) == without_fold))
            n_before = histories.visible_at(held, np.full(len(held), hidden_from - 1))
            counts[held] = np.minimum(counts[held], n_before)
        slots = np.flatnonzero(counts)
        states = histories.states(slots, counts[slots], np.full(len(slots), now))
        rows = states.owner
        from_end = states.offsets[1:][rows] - np.arange(len(rows))
        in_market = from_end <= counts[slots][rows]
        target = in_market & (states.times >= seconds(since))
        pairs = np.where(in_market, slots[rows] * n_items + states.items, -1)
        propensity = _propensities(sharing, pairs, n_items)
        parts.append(LogPart(rows, states.items, states.times, target, propensity))
    return parts


def _propensities(rounds: list[PastRound], wanted: Ints, n_items: int) -> Floats:
    """Propensity of each consumed item for its visitor, or NaN."""
    # Rounds share one store of histories. A slot consumes an item twice only if the platform does not know it yet. −1
    # does not occur as a pair.
    keys = [np.zeros(0, np.int64)]
    values = [np.zeros(0)]
    for past in rounds:
        if past.shown is None:
            continue
        row, position = np.nonzero(past.shown.taken & (past.shown.propensity > 0))
        keys.append(past.schedule.slot[row] * n_items + past.shown.item[row, position])
        values.append(past.shown.propensity[row, position].astype(np.float64))
    key = np.concatenate(keys)
    value = np.concatenate(values)
    propensity = np.full(len(wanted), np.nan)
    if len(key):
        order = np.argsort(key, kind="stable")
        at = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
        is_found = key[order][at] == wanted
        propensity[is_found] = value[order][at[is_found]]
    return propensity


def _event_weights(parts: list[LogPart], clip: float) -> Floats | None:
    """Weights of all parts' events; None without propensities."""
    propensities = [
        np.where(part.target, part.propensity, np.nan) for part in parts if part.propensity is not None
    ]
    propensity = np.concatenate(propensities) if propensities else np.zeros(0)
    return inverse_propensity_weights(propensity, clip) if (propensity > 0).any() else None


def inverse_propensity_weights(propensity: Floats, clip: float) -> Floats:
    """Clipped inverse-propensity weights with a mean of 1."""
    # Events without a propensity π (NaN) have the weight 1. Clipping reduces variance at the price of bias.
    weight = np.ones(len(propensity))
    has_propensity = propensity > 0
    if has_propensity.any():
        inverse = 1.0 / propensity[has_propensity]
        inverse = np.minimum(inverse, clip * inverse.mean())
        weight[has_propensity] = inverse / inverse.mean()
    return weight


def _warmup_users(
    config: PlatformConfig, warmup: EventLog, n_targets: int, seed: int, number: int
) -> LogPart:
    """Part of the log from users of the warm-up log."""
    window = config.log_window
    if window.warmup == "all":
        chosen = np.ones(warmup.n_users, bool)
    elif window.warmup == "none" or n_targets >= window.size:
        chosen = np.zeros(warmup.n_users, bool)
    else:
        order = np.argsort(rng.bits(seed, rng.Purpose.MODEL, 8, number, np.arange(warmup.n_users)))
        filled = np.cumsum(np.bincount(warmup.user, minlength=warmup.n_users)[order])
        chosen = np.zeros(warmup.n_users, bool)
        chosen[order[: int(np.searchsorted(filled, window.size - n_targets)) + 1]] = True
    rows = chosen[warmup.user]
    return LogPart(warmup.user[rows], warmup.item[rows], warmup.time[rows], warmup.targets[rows])


def joined_log(config: PlatformConfig, parts: list[LogPart], items: pd.DataFrame) -> EventLog:
    """Log of all parts, sorted by time."""
    weight = _event_weights(parts, config.ips_clip) if config.learning.data == "ips" else None
    users = []
    offset = 0
    for part in parts:
        is_user = np.bincount(part.user) > 0
        users.append((np.cumsum(is_user) + (offset - 1))[part.user])
        offset += int(is_user.sum())
    time = np.concatenate([part.time for part in parts])
    order = np.argsort(time, kind="stable")
    if weight is not None:
        weight = np.concatenate([weight, np.ones(len(order) - len(weight))])[order]
    # Each column is sorted on its own, so that at most one column of a large log is held twice.
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
