"""Learning of the platform: training log, impressions and examination."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints, seconds
from rimsim.config import PlatformConfig, ScenarioConfig
from rimsim.data.log import EventLog
from rimsim.errors import ConfigError
from rimsim.evaluation import DecayEstimate, decay_of_counts, decay_of_slates, taken_by_position
from rimsim.intensity.contract import IntensityModel
from rimsim.intensity.impressions import Calibrated, ImpressionLayer, Impressions
from rimsim.market.consumers.contract import Consumer, ConsumerCapabilities, examination
from rimsim.market.ledger import Ledger, PastRound, Shown, fold_of
from rimsim.measures import position_weights


# -- the training log -------------------------------------------------------------------------------------------------
def training_log(
    config: PlatformConfig,
    warmup: EventLog,
    rounds: list[PastRound],
    now: int,
    seed: int,
    without_fold: int | None = None,
) -> EventLog:
    """Log to retrain on: recent consumptions, and warm-up users.

    Its ``target`` events are fitted; the other events are history of their users. Its user table numbers the users of
    this log alone. With ``learning: ips`` and an agent that has propensities, each of the platform's own target events
    weighs by its inverse propensity, and others weigh 1.

    Args:
        rounds: Cached rounds, oldest first; only those within the log window are used. Their number keys the sample
            of warm-up users, so the sample stays once the window is full.
        now: Tick of the retraining; events that become visible then or later are not known yet.
        without_fold: Leave out the events of this fold of users in the last round, for cross-fitted prices.
    """
    parts = log_parts(config, warmup, rounds, now, seed, without_fold)
    return joined_log(config, parts, warmup.items)


@dataclass(frozen=True, eq=False)
class LogPart:
    """Events of a part of the log, users numbered separately."""

    user: Ints
    item: Ints
    time: Floats
    target: Bools
    propensity: Floats | None = None
    """Inclusion probability of items consumed because they were shown; NaN for others."""


def log_parts(
    config: PlatformConfig,
    warmup: EventLog,
    rounds: list[PastRound],
    now: int,
    seed: int,
    without_fold: int | None = None,
) -> list[LogPart]:
    """Events of :func:`training_log`: rounds, then warm-up users."""
    window = config.log_window
    recent = rounds if window.rounds is None else rounds[-window.rounds :]
    parts = _own_log(recent, now, seed, without_fold, warmup.n_items)
    own = sum(int(part.target.sum()) for part in parts)
    return [*parts, _warmup_users(config, warmup, own, seed, len(rounds))]


def _own_log(
    rounds: list[PastRound], now: int, seed: int, without_fold: int | None, n_items: int
) -> list[LogPart]:
    parts: list[LogPart] = []
    done: set[int] = set()
    last = rounds[-1] if rounds else None
    for past in reversed(rounds):
        histories = past.histories
        if id(histories) in done:  # users who persist have one history for all rounds: once, as of now
            continue
        done.add(id(histories))
        sharing = [other for other in rounds if other.histories is histories]
        since = min(other.schedule.start for other in sharing)
        hidden_from = last.schedule.start if last is not None and last.histories is histories else now + 1
        counts = histories.visible_at(np.arange(len(histories)), np.full(len(histories), now - 1))
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
        pairs = np.where(in_market, slots[rows] * n_items + states.items, -1)
        propensity = _propensities(sharing, pairs, n_items)
        parts.append(LogPart(rows, states.items, states.times, target, propensity))
    return parts


def _propensities(rounds: list[PastRound], wanted: Ints, n_items: int) -> Floats:
    """(n,) inclusion probability of consumed pairs slot · M + item, or NaN."""
    # The rounds share one store of histories, in which no slot knowingly consumes an item twice; −1 is no pair.
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


def _event_weights(parts: list[LogPart], clip: float) -> Floats | None:
    """Weights of the events of all parts; None without propensities."""
    known = [np.where(part.target, part.propensity, np.nan) for part in parts if part.propensity is not None]
    propensity = np.concatenate(known) if known else np.zeros(0)
    return inverse_propensity_weights(propensity, clip) if (propensity > 0).any() else None


def inverse_propensity_weights(propensity: Floats, clip: float) -> Floats:
    """(n,) w ∝ min(1/π, clip·mean(1/π)), with a mean of 1."""
    # Events without a propensity π (NaN) weigh 1. Clipping trades variance for bias.
    weight, known = np.ones(len(propensity)), propensity > 0
    if known.any():
        inverse = 1.0 / propensity[known]
        inverse = np.minimum(inverse, clip * inverse.mean())
        weight[known] = inverse / inverse.mean()
    return weight


def _warmup_users(config: PlatformConfig, warmup: EventLog, own: int, seed: int, number: int) -> LogPart:
    window = config.log_window
    if window.warmup == "all":
        chosen = np.ones(warmup.n_users, bool)
    elif window.warmup == "none" or own >= window.size:
        chosen = np.zeros(warmup.n_users, bool)
    else:
        order = np.argsort(rng.bits(seed, rng.Purpose.MODEL, 8, number, np.arange(warmup.n_users)))
        filled = np.cumsum(np.bincount(warmup.user, minlength=warmup.n_users)[order])
        chosen = np.zeros(warmup.n_users, bool)
        chosen[order[: int(np.searchsorted(filled, window.size - own)) + 1]] = True
    rows = chosen[warmup.user]
    return LogPart(warmup.user[rows], warmup.item[rows], warmup.time[rows], warmup.targets[rows])


def joined_log(config: PlatformConfig, parts: list[LogPart], items: pd.DataFrame) -> EventLog:
    """Log of parts in the order of time."""
    weight = _event_weights(parts, config.ips_clip) if config.learning == "ips" else None
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


# -- positions and impressions ----------------------------------------------------------------------------------------
def weights_of(config: ScenarioConfig, consumer: Consumer, decay: float) -> Floats:
    """(k,) weight of an exposure at each position under γ = ``decay``."""
    # It is in the unit of the guarantee. Where consumption is a hit, positions make no difference.
    if config.exposure.unit == "shown" or ConsumerCapabilities.of(consumer).hits_only:
        return np.ones(config.slate)
    return position_weights(decay, config.slate)


def examination_of(config: ScenarioConfig, consumer: Consumer, decay: float) -> Floats:
    """(k,) factor of each position on intensities, under γ = ``decay``."""
    # a·γ^(r−1), as consumers answer; 1 where consumption is a hit, wherever the item was shown.
    if ConsumerCapabilities.of(consumer).hits_only:
        return np.ones(config.slate)
    return np.asarray(config.consumer.attraction * examination(decay, config.slate), np.float64)


def impressions_of(shown: Shown, examination: Floats) -> Impressions:
    """Impressions of slates, one for each filled position."""
    filled = shown.item >= 0
    return Impressions(
        item=shown.item[filled].astype(np.int64),
        score=shown.score[filled].astype(np.float64),
        examination=np.broadcast_to(examination, filled.shape)[filled],
        taken=shown.taken[filled],
        history=np.broadcast_to(shown.history[:, None], filled.shape)[filled],
    )


def laid_over(model: IntensityModel, layer: ImpressionLayer | None) -> IntensityModel:
    """Model under a layer, if there is one."""
    return model if layer is None else Calibrated(model, layer)


@dataclass(frozen=True, eq=False)
class Examined:
    """Evidence of γ, the decay of examination."""

    counts: Ints
    """(2, k) items shown in uniform slates, and taken of them, at each position; zeros unless they are used."""
    estimate: DecayEstimate | None = None
    """Estimate of γ from all rounds so far; None before the first, or where γ is known."""

    @classmethod
    def nothing(cls, slate: int) -> Examined:
        """Evidence before the first round is over."""
        return cls(np.zeros((2, slate), np.int64))

    def decay(self, config: ScenarioConfig) -> float:
        """Value of γ that the platform uses next."""
        if config.exposure.examination == "known":
            return config.consumer.position_decay
        return config.exposure.prior_decay if self.estimate is None else self.estimate.decay

    def after(self, ledger: Ledger, known: Bools, config: ScenarioConfig) -> Examined:
        """Evidence after another round, from its known (n,) slates."""
        # Uniform slates of all rounds are counted together. Harvested estimates of rounds are independent, since each
        # has levels, slopes and items of its own, so they are averaged by their precision.
        how = config.exposure.examination
        if how == "random":
            rows = known & ledger.uniform
            counts = self.counts + taken_by_position(ledger.item[rows], ledger.consumed[rows])
            return Examined(counts, decay_of_counts(counts))
        if how == "harvested":
            found = decay_of_slates(ledger.item[known], ledger.consumed[known], ledger.intensity[known])
            pooled = [estimate for estimate in (self.estimate, found) if estimate is not None]
            return dataclasses.replace(self, estimate=DecayEstimate.pooled(pooled))
        return self


def require_uniform(uniform: Bools | None, config: ScenarioConfig) -> None:
    """Refuse an agent without uniform slates if γ needs them.

    Raises:
        ConfigError: If it is such an agent.
    """
    if config.exposure.examination == "random" and uniform is None:
        raise ConfigError(
            "exposure.examination is 'random', and this agent shows no uniform slates; allowed: an agent that does "
            "(random, epsilon-greedy, or one's own with Slates.uniform), or examination: harvested, known"
        )
