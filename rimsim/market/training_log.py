"""Training log: consumptions and warm-up users to retrain on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints, seconds, ticks
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
    hidden_from: int | None = None,
) -> EventLog:
    """Log to retrain on: recent consumptions, and warm-up users.

    Models are fitted to the ``target`` events of the training log; all other events serve only as history.
    The log's user table has only users of this log. With ``learning: ips`` and an agent with propensities,
    target events of the market are weighted by their inverse propensity. All other events have weight 1.

    Args:
        rounds: Cached rounds, oldest first; only rounds within the log window are used. The sample of warm-up
            users depends on the number of used rounds. The sample stays the same once the log window is full.
        now: Tick of the retraining. The log has only events that become visible before this tick.
        without_fold: Fold of users whose latest events are left out, for cross-fitted prices.
        hidden_from: Number of the first round whose events of this fold are left out; None: the last round.
    """
    parts = log_parts(config, warmup, rounds, now, seed, without_fold, hidden_from)
    return joined_log(config, parts, warmup.items, repeatable=warmup.repeatable)


@dataclass(frozen=True, eq=False)
class LogPart:
    """Part of a training log, with its own user numbers."""

    user: Ints
    """(n,) user of each event, by the numbers of this part."""
    item: Ints
    """(n,) consumed items."""
    time: Floats
    """(n,) time of each event, in seconds."""
    target: Bools
    """(n,) True for events to which models are fitted; the others serve only as history."""
    propensity: Floats | None = None
    """(n,) propensity of items that were consumed because they were shown; NaN for other items."""


def log_parts(
    config: PlatformConfig,
    warmup: EventLog,
    rounds: list[PastRound],
    now: int,
    seed: int,
    without_fold: int | None = None,
    hidden_from: int | None = None,
) -> list[LogPart]:
    """Parts of :func:`training_log`: rounds, then warm-up users."""
    window = config.log_window
    recent = rounds if window.rounds is None else rounds[-window.rounds :]
    if hidden_from is None:
        hidden_from = rounds[-1].number if rounds else 0
    parts = _own_log(recent, now, seed, without_fold, hidden_from, warmup.n_items)
    n_targets = sum(int(part.target.sum()) for part in parts)
    return [*parts, _warmup_users(config, warmup, n_targets, seed, len(recent))]


def _own_log(
    rounds: list[PastRound], now: int, seed: int, without_fold: int | None, hidden_from: int, n_items: int
) -> list[LogPart]:
    """Parts of the log from the platform's own rounds."""
    parts: list[LogPart] = []
    seen_ids: set[int] = set()
    for past in reversed(rounds):
        histories = past.histories
        # Users who stay have one history for all rounds, which is added once, in its latest state.
        if id(histories) in seen_ids:
            continue
        seen_ids.add(id(histories))
        sharing = [sharer for sharer in rounds if sharer.histories is histories]
        window_start = min(sharer.schedule.start for sharer in sharing)
        # Tick from which the events of the fold are left out.
        starts = [sharer.schedule.start for sharer in sharing if sharer.number >= hidden_from]
        hidden_tick = min(starts, default=now + 1)
        counts = histories.visible_at(np.arange(len(histories)), np.full(len(histories), now - 1))
        if without_fold is not None:
            fold_slots = np.flatnonzero((counts > 0) & (fold_of(seed, histories.user) == without_fold))
            n_before = histories.visible_at(fold_slots, np.full(len(fold_slots), hidden_tick - 1))
            counts[fold_slots] = np.minimum(counts[fold_slots], n_before)
        slots = np.flatnonzero(counts)
        states = histories.states(slots, counts[slots], np.full(len(slots), now))
        owner = states.owner
        # In each state, events of the log come first, and the last ``counts`` events are from the market.
        from_end = states.offsets[1:][owner] - np.arange(len(owner))
        in_market = from_end <= counts[slots][owner]
        pairs = np.where(in_market, slots[owner] * n_items + states.items, -1)
        visible_from = ticks(states.times)
        part = LogPart(
            user=owner,
            item=states.items,
            time=states.times,
            target=in_market & (states.times >= seconds(window_start)),
            propensity=_propensities(sharing, pairs, visible_from, n_items),
        )
        parts.append(part)
    return parts


def _propensities(rounds: list[PastRound], pairs: Ints, visible_from: Ints, n_items: int) -> Floats:
    """Propensities of consumptions, or NaN."""
    # A pair is slot·M + item, or −1 for an event of the log. All rounds have the same histories, so a slot is the same
    # visitor in each of them. Where visitors take an item once, the platform may still show it before it knows of the
    # first consumption; the propensity is then that of the earliest round.
    rule = rounds[0].histories.rule
    tick_parts = [np.zeros(0, np.int64)]
    keys = [np.zeros(0, np.int64)]
    values = [np.zeros(0)]
    for past in rounds:
        if past.shown is None:
            continue
        row, position = np.nonzero(past.shown.taken & (past.shown.propensity > 0))
        keys.append(past.schedule.slot[row] * n_items + past.shown.item[row, position])
        tick_parts.append(past.schedule.tick[row] + rule.wait)
        values.append(past.shown.propensity[row, position].astype(np.float64))
    tick = np.concatenate(tick_parts)
    distinct_ticks = np.unique(tick)
    key = rule.keys(np.concatenate(keys), tick, distinct_ticks)
    value = np.concatenate(values)
    wanted_keys = rule.keys(pairs, visible_from, distinct_ticks)
    propensity = np.full(len(pairs), np.nan)
    if len(key):
        order = np.argsort(key, kind="stable")
        index = np.minimum(np.searchsorted(key[order], wanted_keys), len(key) - 1)
        is_known = key[order][index] == wanted_keys
        propensity[is_known] = value[order][index[is_known]]
    return propensity


def _event_weights(parts: list[LogPart], clip: float) -> Floats | None:
    """Weights of events in the platform's rounds; None without propensities."""
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
        n_events = np.cumsum(np.bincount(warmup.user, minlength=warmup.n_users)[order])
        n_chosen = int(np.searchsorted(n_events, window.size - n_targets)) + 1
        chosen = np.zeros(warmup.n_users, bool)
        chosen[order[:n_chosen]] = True
    rows = chosen[warmup.user]
    return LogPart(
        user=warmup.user[rows],
        item=warmup.item[rows],
        time=warmup.time[rows],
        target=warmup.targets[rows],
    )


def joined_log(
    config: PlatformConfig, parts: list[LogPart], items: pd.DataFrame, *, repeatable: bool
) -> EventLog:
    """Log of all parts, sorted by time."""
    weight = _event_weights(parts, config.ips_clip) if config.learning.data == "ips" else None
    # Users with events are numbered from 0, part after part.
    users = []
    n_users = 0
    for part in parts:
        has_events = np.bincount(part.user) > 0
        new_number = np.cumsum(has_events) + (n_users - 1)
        users.append(new_number[part.user])
        n_users += int(has_events.sum())
    time = np.concatenate([part.time for part in parts])
    order = np.argsort(time, kind="stable")
    if weight is not None:  # the remaining events are those of warm-up users, with weight 1
        weight = np.concatenate([weight, np.ones(len(order) - len(weight))])[order]
    # Each column is sorted on its own, so that at most one column of a large log is held twice.
    return EventLog(
        user=np.concatenate(users).astype(np.int64)[order],
        item=np.concatenate([part.item for part in parts])[order],
        time=time[order],
        value=np.ones(len(order), np.float32),
        users=pd.DataFrame({"id": np.arange(n_users)}),
        items=items,
        target=np.concatenate([part.target for part in parts])[order],
        weight=weight,
        repeatable=repeatable,
    )
