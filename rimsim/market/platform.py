"""Platform: its model, training log and past states."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from rimsim.arrays import Floats, Ints, ticks
from rimsim.config import PlatformConfig, ScenarioConfig
from rimsim.config.records import LearningConfig
from rimsim.data.log import EventLog
from rimsim.intensity.contract import IntensityModel, ModelCapabilities
from rimsim.intensity.impressions import (
    MEMORIES,
    Calibrated,
    ImpressionLayer,
    Impressions,
    LayerFit,
    PriorSettings,
    centred_log_popularity,
    layer_of,
    layer_of_fits,
    mean_confidence,
    quantile_layer,
    sampled_layer,
)
from rimsim.intensity.product import updated
from rimsim.intensity.states import UserStates
from rimsim.market.arrivals.clones import events_before
from rimsim.market.consumers import Consumer
from rimsim.market.consumers.contract import ConsumerCapabilities, World
from rimsim.market.controls import Control
from rimsim.market.examination import Examined
from rimsim.market.histories import LoggedPast, RepeatRule
from rimsim.market.past_round import PastRound, Shown, fold_of
from rimsim.market.records import VISIT_BITS, LogEvents, row_capacity
from rimsim.market.round import OpenRound
from rimsim.market.scores.past import FoldModels, PastStates, StateScores, always
from rimsim.market.scores.scorer import device_of
from rimsim.market.state import KeptRounds, PlatformState
from rimsim.market.training_log import LogPart, joined_log, log_parts, training_log
from rimsim.market.world import examination_of, initial_model, require_weights
from rimsim.requirements.audiences import RoundVisits
from rimsim.requirements.on_offer import TimesOnOffer

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
        self.prior = prior_of(config.platform.learning)
        """Fixed parts of the prior of item effects."""
        self.fits: tuple[LayerFit, ...] = getattr(model, "fits", ()) or first_fits(
            self.prior, self.log_counts
        )
        """Impression layers by how fast they forget."""
        self.waiting: Shown | None = None
        """Scored slates of which not all is known yet."""
        self._config = config
        self._warmup = warmup
        self._seed = seed
        self._consumer = consumer
        self._retrains = retrains
        self._control = control
        self._keeps_users = keeps_users
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
        learns = self._config.platform.learning.data == "impressions"
        return mean_confidence(self.fits) if learns else None

    @property
    def crosses(self) -> bool:
        """True if past states are scored by cross-fitted models."""
        # A model whose p is the same for all states cannot memorise the events that followed one of them. Cross-fitting
        # would only make prices compensate for differences between the models of folds and the serving model.
        return (
            self._config.platform.calibration == "cross-fitted"
            and ModelCapabilities.of(self.model).depends_on_state
        )

    def keep(self, served: OpenRound) -> PastRound:
        """Add a served round, and drop rounds no longer needed."""
        hits_only = ConsumerCapabilities.of(self._consumer).hits_only
        learns = self._config.platform.learning.data != "consumed"
        shown = None
        if learns:
            shown = Shown.of(served.ledger, served.settled(), served.histories, causes=not hits_only)
        past = PastRound(served.number, served.schedule, served.histories, shown)
        self.rounds.append(past)
        if not hits_only:  # a hit in organic behaviour says nothing about the examination of positions
            is_settled = served.settled() < served.schedule.stop
            self.examined = self.examined.after(served.ledger, is_settled, self._config)
        if self._control is not None:
            self._replaced.append(self._control.learnt(past))
        window = self._config.platform.log_window.rounds
        if window is not None and not self._keeps_users:
            del self.rounds[:-window], self._replaced[:-window]
        return past

    def next_log(self) -> list[LogPart]:
        """Parts of the log for the next retraining."""
        # A frozen platform does not retrain on these parts, but measures need the counts of items.
        parts = self._parts()
        items = np.concatenate([part.item[part.target] for part in parts])
        self.log_counts = np.bincount(items, minlength=self._warmup.n_items)
        return parts

    def _parts(self) -> list[LogPart]:
        """Parts of the log after the last round."""
        stop = self.rounds[-1].schedule.stop
        return log_parts(self._config.platform, self._warmup, self.learnt, stop, self._seed)

    def log_events(self) -> LogEvents:
        """Target events of the serving model's training log."""
        if not self.rounds:
            is_target = self._warmup.targets
            return LogEvents(item=self._warmup.item[is_target], time=self._warmup.time[is_target])
        parts = self._parts()
        return LogEvents(
            item=np.concatenate([part.item[part.target] for part in parts]),
            time=np.concatenate([part.time[part.target] for part in parts]),
        )

    def retrained(self, opened: OpenRound, tick: int) -> IntensityModel:
        """Model retrained on the events known within a round.

        The layer of item effects stays, because it is fitted to whole rounds.
        """
        platform = self._config.platform
        coming_round = PastRound(opened.number, opened.schedule, opened.histories)
        model, layer = layer_of(self.model)
        log = training_log(platform, self._warmup, [*self.learnt, coming_round], tick, self._seed)
        if len(log):
            model = updated(model, log, ground=platform.retrain_ground)
        return laid_over(model, layer)

    def retrain(self, parts: list[LogPart], states_of: StatesOf) -> None:
        """Update the model, unless the platform never retrains.

        The ``parts`` of the log are used up.
        """
        self._before = self.model
        platform = self._config.platform
        if not self._retrains:
            return
        model, layer = layer_of(self.model)
        log = joined_log(platform, parts, self._warmup.items, repeatable=self._warmup.repeatable)
        parts.clear()
        if len(log):
            model = updated(model, log, ground=platform.retrain_ground)
        del log  # each fold joins a log of its own, and a large one fills gigabytes
        if platform.learning.data == "impressions":
            last_round = self.learnt[-1]
            if last_round.shown is not None:  # logged sessions without slates have no impressions
                # These models have not seen the outcomes of the slates.
                self._scorers = self._scorers_of(model)
                layer = self._learn(last_round.shown.scored(states_of(last_round, self._scorers)))
        self.model = laid_over(model, layer)

    def _learn(self, scored: Shown) -> ImpressionLayer:
        """Layer, fitted again to slates with known outcomes."""
        slates = scored if self.waiting is None else Shown.joined([self.waiting, scored])
        is_settled = slates.settled < self.rounds[-1].schedule.stop
        self.waiting = slates.rows(np.flatnonzero(~is_settled))
        examination = examination_of(self._config, self._consumer, self.decay)
        shown = impressions_of(slates.rows(np.flatnonzero(is_settled)), examination)
        self.fits = tuple(fit.after(shown, self.prior) for fit in self.fits)
        learning = self._config.platform.learning
        return answered_layer(learning, self.fits, self._seed, self.rounds[-1].number + 1)

    def scorers_of_last(self) -> FoldModels:
        """Models that score last round's states for the next prices."""
        # The market calls this method once per round. It reuses the models that have scored the round's impressions.
        scorers = self._scorers
        self._scorers = None
        if self._control is not None:  # the model has not seen the next events of its own visitors
            return always(self.model)
        model, layer = layer_of(self.model)
        models = scorers or self._scorers_of(model)
        # The platform's layer corrects these models too, so that their scores have the unit of the serving model.
        return lambda: tuple(laid_over(model, layer) for model in models())

    def _scorers_of(self, model: IntensityModel) -> FoldModels:
        """Models without a layer, for states of the last round."""
        if not (self._retrains and self.crosses):
            return always(model)
        before = self._before or self.model
        return cross_fitted(self._config.platform, self._warmup, self.learnt, before, self._seed)

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
        self.model = state.model
        self._before = state.before
        self.log_counts = state.log_counts
        self.examined = state.examined
        self.fits = state.fits
        self.waiting = state.waiting
        self.rounds = state.past.rounds(logged_past, keeps_users=self._keeps_users)
        if state.learnt is not None:
            self._replaced = state.learnt.rounds(logged_past, keeps_users=self._keeps_users)


def prior_of(learning: LearningConfig) -> PriorSettings:
    """Fixed parts of the prior of item effects."""
    return PriorSettings(
        slope=None if learning.slope == "estimated" else learning.slope,
        sd=None if learning.sd == "estimated" else learning.sd,
    )


def first_fits(prior: PriorSettings, log_counts: Ints) -> tuple[LayerFit, ...]:
    """Layer fits without impressions, one for each memory.

    Args:
        prior: Fixed parts of the prior of item effects.
        log_counts: (M,) events of each item in the warm-up log.
    """
    popularity = centred_log_popularity(log_counts)
    return tuple(LayerFit.nothing(log_counts == 0, memory, popularity, prior) for memory in MEMORIES)


def answered_layer(
    learning: LearningConfig, fits: tuple[LayerFit, ...], seed: int, number: int
) -> ImpressionLayer:
    """Layer that serves a round, with the chosen answer."""
    if learning.answer == "quantile":
        return quantile_layer(fits, learning.quantile)
    if learning.answer == "sample":
        return sampled_layer(fits, seed, number)
    return layer_of_fits(fits)


def cross_fitted(
    platform: PlatformConfig, warmup: EventLog, past: list[PastRound], before: IntensityModel, seed: int
) -> FoldModels:
    """Model of each user fold, without the fold's latest events."""
    # ``before`` is the model that served the last round, without its layer. The models of both folds are retrained from
    # it at the first call.
    rounds = list(past)
    stop = past[-1].schedule.stop
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
    n_states: int,
    seed: int,
    times: TimesOnOffer,
    *,
    crossed: bool,
) -> StateScores:
    """Scores of states at the last sessions of the warm-up."""
    # ``model`` was fitted to these sessions. With ``crossed``, each fold of users is scored by a model that was not.
    sessions = world.past_sessions
    past_log = world.past
    rows = np.arange(max(0, len(sessions) - n_states), len(sessions))
    users = sessions.user[rows]
    starts = sessions.start[rows]

    def states_of(chosen: Ints) -> UserStates:
        """States of users at the begin of chosen sessions."""
        return UserStates.of(past_log, users[chosen], starts[chosen])

    past = PastStates(
        id=(users << VISIT_BITS) + np.arange(len(rows)),
        tick=ticks(starts),
        user=users,
        states=lambda chosen: (states_of(chosen), chosen),
        visits=RoundVisits(
            ticks(starts),
            users,
            events_before(sessions)[rows] == 0,
            start=int(ticks(starts[:1]).sum()),
            stop=int(ticks(starts[-1:]).sum()) + 1,
        ),
        capacity=row_capacity(users, config.slate, config.user_cap),
        excluded=excluded_by(world.rule, states_of),
    )

    fold_models = (
        blind_models(config, past_log, starts[0], model, seed) if crossed and len(rows) else always(model)
    )
    return StateScores(past, fold_models, times, device_of(model), seed)


def excluded_by(
    rule: RepeatRule, states_of: Callable[[Ints], UserStates]
) -> Callable[[Ints], tuple[Ints, Ints]] | None:
    """Function that finds inadmissible items by a rule of repeats.

    The function returns pairs of an index of chosen rows and an item that the user may not take again. None: all
    consumed items are inadmissible.
    """

    def excluded(chosen: Ints) -> tuple[Ints, Ints]:
        """Pairs of a state and an item inadmissible in it."""
        states = states_of(chosen)
        owner = states.owner
        is_excluded = rule.excludes(ticks(states.times), ticks(states.now)[owner])
        return owner[is_excluded], states.items[is_excluded]

    return None if rule.forbids else excluded


def blind_models(
    config: ScenarioConfig, log: EventLog, since: float, model: IntensityModel, seed: int
) -> FoldModels:
    """Model of each fold, fitted without the fold's recent events.

    The models are fitted when first asked for.

    Args:
        log: Events before the opening.
        since: Time of the first recent event, in seconds.
        model: Model from which the fits copy hyperparameters and the layer.
        seed: Model seed, which decides the folds.
    """

    @lru_cache(maxsize=1)
    def models() -> tuple[IntensityModel, ...]:
        recent = log.time >= since
        fold_of_event = fold_of(seed, log.user)
        base, layer = layer_of(model)
        logs = (log.rows(~(recent & (fold_of_event == fold))) for fold in (0, 1))
        return tuple(laid_over(initial_model(config, part, seed, base), layer) for part in logs)

    return models


def impressions_of(shown: Shown, examination: Floats) -> Impressions:
    """Impressions from slates, one for each filled position."""
    # If no visitor examines a position, for example because all choice is free, it says nothing about its item.
    filled = (shown.item >= 0) & (examination > 0)
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
