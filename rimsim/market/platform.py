"""Platform: its model, training log and past states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import pandas as pd

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints, seconds, ticks
from rimsim.config import PlatformConfig, ScenarioConfig
from rimsim.data.log import EventLog
from rimsim.intensity.contract import IntensityModel, ModelCapabilities
from rimsim.intensity.impressions import (
    MEMORIES,
    Calibrated,
    ImpressionLayer,
    Impressions,
    LayerFit,
    fit_weights,
    layer_of,
    layer_of_fits,
)
from rimsim.intensity.product import updated
from rimsim.intensity.states import UserStates
from rimsim.market.arrivals.clones import events_before
from rimsim.market.consumers import Consumer
from rimsim.market.consumers.contract import ConsumerCapabilities, World
from rimsim.market.controls import Control
from rimsim.market.ledger import Examined, LoggedPast, PastRound, Shown, fold_of
from rimsim.market.records import VISIT_BITS, row_capacity
from rimsim.market.round import Round
from rimsim.market.scores import FoldModels, PastStates, StateScores, always, device_of
from rimsim.market.state import KeptRounds, PlatformState
from rimsim.market.world import examination_of, initial_model, require_weights
from rimsim.requirements.audiences import RoundVisits

StatesOf: TypeAlias = Callable[[PastRound, FoldModels], StateScores]


class Platform:
    """Model that scores states, and its training data.

    Args:
        control: Source of other training data; None: the platform learns from its own rounds.
        keeps_users: True if all rounds have the same visitors, so that no round may be dropped.
    """

    def __init__(
        self,
        config: ScenarioConfig,
        model: IntensityModel,
        warmup: EventLog,
        seed: int,
        *,
        consumer: Consumer,
        retrains: bool,
        control: Control | None,
        keeps_users: bool,
    ) -> None:
        require_weights(config.platform, model)
        self.model = model
        self.rounds: list[PastRound] = []
        """Rounds that the log window or prices still need, oldest first."""
        self.examined = Examined.nothing(config.slate)
        """Evidence of the decay of examination so far."""
        self.log_counts = np.bincount(warmup.item, minlength=warmup.n_items)
        """(M,) target events of each item in the log that the model is retrained on."""
        unseen = np.bincount(warmup.item, minlength=warmup.n_items) == 0
        self.fits = tuple(LayerFit.nothing(unseen, memory) for memory in MEMORIES)
        """Impression layers by how fast they forget."""
        self.waiting: Shown | None = None
        """Scored slates of which not all is known yet."""
        self._config, self._warmup, self._seed, self._consumer = config, warmup, seed, consumer
        self._retrains, self._control, self._keeps_users = retrains, control, keeps_users
        self._replaced: list[PastRound] = []
        """Training data that a control has instead of each of the rounds."""
        self._before: IntensityModel | None = None
        """The model that served the round before; None in the first one."""
        self._scorers: FoldModels | None = None
        """Models that scored the last round's impressions, until its states are to be scored too."""

    @property
    def learnt(self) -> list[PastRound]:
        """Training data, oldest first: the rounds, or a control's replacement."""
        return self.rounds if self._control is None else self._replaced

    @property
    def decay(self) -> float:
        """Value of γ that the platform uses."""
        return self.examined.decay(self._config)

    @property
    def confidence(self) -> Floats | None:
        """Certainty of each item's effect; None without a layer."""
        learns = self._config.platform.learning == "impressions"
        return (
            np.average([fit.confidence for fit in self.fits], 0, fit_weights(self.fits)) if learns else None
        )

    @property
    def crosses(self) -> bool:
        """True if past states are scored by cross-fitted models."""
        # A model whose p is the same for all states cannot remember the next event of one of them. Prices would not
        # bear the crossing either: they would make up for how its items differ between the fold and the model that
        # serves.
        return (
            self._config.platform.calibration == "cross-fitted"
            and ModelCapabilities.of(self.model).depends_on_state
        )

    # -- at the end of a round ----------------------------------------------------------------------------------------
    def keep(self, served: Round) -> PastRound:
        """Add a served round, and drop rounds no longer needed."""
        hits_only = ConsumerCapabilities.of(self._consumer).hits_only
        learns = self._config.platform.learning != "consumed"
        shown = None
        if learns:
            shown = Shown.of(served.ledger, served.settled(), served.histories, causes=not hits_only)
        past = PastRound(served.number, served.schedule, served.histories, shown)
        self.rounds.append(past)
        if not hits_only:  # a hit in what visitors do anyway is no evidence of positions
            known = served.settled() < served.schedule.stop
            self.examined = self.examined.after(served.ledger, known, self._config)
        if self._control is not None:
            self._replaced.append(self._control.learnt(past))
        window = self._config.platform.log_window.rounds
        if window is not None and not self._keeps_users:
            del self.rounds[:-window], self._replaced[:-window]
        return past

    def next_log(self) -> list[LogPart]:
        """Parts of the log for the next retraining."""
        # A frozen platform needs the counts of its items alone.
        platform, warmup = self._config.platform, self._warmup
        parts = log_parts(platform, warmup, self.learnt, self.rounds[-1].schedule.stop, self._seed)
        items = np.concatenate([part.item[part.target] for part in parts])
        self.log_counts = np.bincount(items, minlength=warmup.n_items)
        return parts

    def retrain(self, parts: list[LogPart], states_of: StatesOf) -> None:
        """Update the model, unless the platform never retrains.

        The ``parts`` of the log are used up.
        """
        self._before, platform = self.model, self._config.platform
        if not self._retrains:
            return
        (model, layer), log = layer_of(self.model), joined_log(platform, parts, self._warmup.items)
        parts.clear()
        if len(log):
            model = updated(model, log, ground=platform.retrain_ground)
        del log  # each fold has another, and one of a large log fills gigabytes
        if platform.learning == "impressions":
            last = self.learnt[-1]
            if last.shown is not None:  # logged sessions without slates have no impressions
                self._scorers = self._scorers_of(model)  # blind to the outcomes
                layer = self._learn(last.shown.scored(states_of(last, self._scorers)))
        self.model = laid_over(model, layer)

    def _learn(self, scored: Shown) -> ImpressionLayer:
        """Layer, fitted again to slates with known outcomes."""
        everything = scored if self.waiting is None else Shown.joined([self.waiting, scored])
        known = everything.settled < self.rounds[-1].schedule.stop
        self.waiting = everything.rows(np.flatnonzero(~known))
        examination = examination_of(self._config, self._consumer, self.decay)
        shown = impressions_of(everything.rows(np.flatnonzero(known)), examination)
        self.fits = tuple(fit.after(shown) for fit in self.fits)
        return layer_of_fits(self.fits)

    # -- models that score the states on which prices are solved ------------------------------------------------------
    def scorers_of_last(self) -> FoldModels:
        """Models that score last round's states for the next prices."""
        # To be called once per round.
        scorers, self._scorers = self._scorers, None
        if self._control is not None:  # the model has not seen the next events of its own visitors
            return always(self.model)
        model, layer = layer_of(self.model)
        models = scorers or self._scorers_of(model)
        # The platform's layer corrects these models too, so that their scores have the unit of the serving model.
        return lambda: tuple(laid_over(one, layer) for one in models())

    def _scorers_of(self, model: IntensityModel) -> FoldModels:
        """Models without a layer, for states of the last round."""
        if not (self._retrains and self.crosses):
            return always(model)
        before = self._before or self.model
        return cross_fitted(self._config.platform, self._warmup, self.learnt, before, self._seed)

    # -- between rounds -----------------------------------------------------------------------------------------------
    @property
    def state(self) -> PlatformState:
        """State at the beginning of a round, for :meth:`load_state`."""
        keeps = self._keeps_users
        past = KeptRounds.of(self.rounds, keeps_users=keeps)
        learnt = None if self._control is None else KeptRounds.of(self._replaced, keeps_users=keeps)
        return PlatformState(
            self.model, self._before, self.log_counts, self.examined, past, self.fits, self.waiting, learnt
        )

    def load_state(self, state: PlatformState, logged_past: LoggedPast) -> None:
        """Restore a state that a platform with equal settings saved."""
        self.model, self._before = state.model, state.before
        self.log_counts, self.examined = state.log_counts, state.examined
        self.fits, self.waiting = state.fits, state.waiting
        self.rounds = state.past.rounds(logged_past, keeps_users=self._keeps_users)
        if state.learnt is not None:
            self._replaced = state.learnt.rounds(logged_past, keeps_users=self._keeps_users)


def cross_fitted(
    platform: PlatformConfig, warmup: EventLog, past: list[PastRound], before: IntensityModel, seed: int
) -> FoldModels:
    """Model of each user fold, without the fold's latest events."""
    # Both are retrained, when first asked for, from the model that served that round; neither has a layer.
    rounds, stop = list(past), past[-1].schedule.stop
    base, _ = layer_of(before)

    @lru_cache(maxsize=1)
    def models() -> tuple[IntensityModel, ...]:
        logs = (training_log(platform, warmup, rounds, stop, seed, without_fold=fold) for fold in (0, 1))
        return tuple(updated(base, log, ground=platform.retrain_ground) for log in logs)

    return models


def session_scores(
    config: ScenarioConfig,
    world: World,
    model: IntensityModel,
    most: int,
    seed: int,
    release: Ints,
    *,
    crossed: bool,
) -> StateScores:
    """Scores of states at the last sessions of the warm-up."""
    # ``model`` has seen those sessions; ``crossed`` scores each fold of users by a model that has not.
    sessions, past_log = world.past_sessions, world.past
    rows = np.arange(max(0, len(sessions) - most), len(sessions))
    users, starts = sessions.user[rows], sessions.start[rows]
    past = PastStates(
        id=(users << VISIT_BITS) + np.arange(len(rows)),
        tick=ticks(starts),
        user=users,
        states=lambda some: (UserStates.of(past_log, users[some], starts[some]), some),
        visits=RoundVisits(
            ticks(starts),
            users,
            events_before(sessions)[rows] == 0,
            start=int(ticks(starts[:1]).sum()),
            stop=int(ticks(starts[-1:]).sum()) + 1,
        ),
        capacity=row_capacity(users, config.slate, config.user_cap),
    )

    @lru_cache(maxsize=1)
    def models() -> tuple[IntensityModel, ...]:
        recent = past_log.time >= starts[0]
        held = fold_of(seed, past_log.user)
        base, _ = layer_of(model)
        logs = (past_log.rows(~(recent & (held == fold))) for fold in (0, 1))
        return tuple(initial_model(config, log, seed, base) for log in logs)

    fold_models = models if crossed and len(rows) else always(model)
    return StateScores(past, fold_models, release, device_of(model), seed)


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
    """Propensity of items that were consumed because they were shown; NaN for other items."""


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
    """Propensity of each consumed item for its visitor, or NaN."""
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
    """Weights of all parts' events; None without propensities."""
    known = [np.where(part.target, part.propensity, np.nan) for part in parts if part.propensity is not None]
    propensity = np.concatenate(known) if known else np.zeros(0)
    return inverse_propensity_weights(propensity, clip) if (propensity > 0).any() else None


def inverse_propensity_weights(propensity: Floats, clip: float) -> Floats:
    """Clipped inverse-propensity weights with a mean of 1."""
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
    """Log of all parts, sorted by time."""
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


# -- impressions ------------------------------------------------------------------------------------------------------
def impressions_of(shown: Shown, examination: Floats) -> Impressions:
    """Impressions from slates, one for each filled position."""
    filled = shown.item >= 0
    return Impressions(
        item=shown.item[filled].astype(np.int64),
        score=shown.score[filled].astype(np.float64),
        examination=np.broadcast_to(examination, filled.shape)[filled],
        taken=shown.taken[filled],
        history=np.broadcast_to(shown.history[:, None], filled.shape)[filled],
    )


def laid_over(model: IntensityModel, layer: ImpressionLayer | None) -> IntensityModel:
    """Model corrected by a layer, or uncorrected without a layer."""
    return model if layer is None else Calibrated(model, layer)
