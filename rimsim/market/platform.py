"""Platform: its model, training log and past states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from rimsim.arrays import NEVER, Floats, Ints, ticks
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
from rimsim.market.histories import Histories, LoggedPast, RepeatRule
from rimsim.market.past_round import PastRound, Shown, fold_of
from rimsim.market.records import VISIT_BITS, LogEvents, row_capacity
from rimsim.market.round import OpenRound
from rimsim.market.scores.past import FoldModels, PastStates, StateScores, always
from rimsim.market.scores.scorer import device_of
from rimsim.market.state import KeptRounds, PlatformState
from rimsim.market.training_log import LogPart, joined_log, log_parts, training_log
from rimsim.market.trainings import Training
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
        self.live: Training | None = None
        """Training of the serving model; None: the platform has not retrained yet."""
        self.trainings: list[Training] = []
        """Trainings whose models are not live yet, in the order of their starts."""
        self.retrains = retrains
        """False if the platform never retrains."""
        self._config = config
        self._warmup = warmup
        self._seed = seed
        self._consumer = consumer
        self.trains_anytime = False
        """True if the platform may be asked to train within a round."""
        self._control = control
        self._keeps_users = keeps_users
        self._replaced: list[PastRound] = []
        """Training data that a control has instead of each of the rounds."""
        self._scorers: FoldModels | None = None
        """Models of folds without a layer, trained like the serving model; None before they are asked for."""

    @property
    def learnt(self) -> list[PastRound]:
        """Training data, oldest first: the rounds, or a control's replacement."""
        return self.rounds if self._control is None else self._replaced

    @property
    def has_control(self) -> bool:
        """True if a control replaces the training data."""
        return self._control is not None

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
        past = self._past_of(served, served.histories)
        self.rounds.append(past)
        if not ConsumerCapabilities.of(
            self._consumer
        ).hits_only:  # a hit in organic behaviour says nothing about the examination of positions
            is_settled = served.settled() < served.schedule.stop
            self.examined = self.examined.after(served.ledger, is_settled, self._config)
        if self._control is not None:
            self._replaced.append(self._control.learnt(past))
        window = self._config.platform.log_window.rounds
        if window is not None and not self._keeps_users:
            n_kept = window + self._n_rounds_back(served.number)
            del self.rounds[:-n_kept], self._replaced[:-n_kept]
        return past

    def _n_rounds_back(self, number: int) -> int:
        """Number of rounds before the last that trainings still need."""
        if not self.trains_anytime:
            return 0
        trainings = self.trainings if self.live is None else [self.live, *self.trainings]
        return max((number + 1 - training.round for training in trainings), default=0)

    def _past_of(self, opened: OpenRound, histories: Histories) -> PastRound:
        """Events and impressions of a round so far."""
        shown = None
        if self._config.platform.learning.data != "consumed":
            causes = not ConsumerCapabilities.of(self._consumer).hits_only
            shown = Shown.of(opened.ledger, opened.settled(), histories, causes=causes)
        return PastRound(opened.number, opened.schedule, histories, shown)

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

    def due(self, tick: int) -> Training | None:
        """Newest training whose model goes live by a tick.

        None if there is none, or if a newer model serves already.
        """
        due = [training for training in self.trainings if training.live <= tick]
        if not due or (self.live is not None and due[-1].start < self.live.start):
            return None
        return due[-1]

    def drop_due(self, tick: int) -> None:
        """Drop the trainings whose models go live by a tick."""
        self.trainings = [training for training in self.trainings if training.live > tick]

    def go_live(
        self, training: Training, opened: OpenRound, states_of: StatesOf, parts: list[LogPart] | None = None
    ) -> None:
        """Train a model, which serves from now on.

        Args:
            opened: The open round, or the round that has just been closed.
            parts: Parts of the training log, which are used up; None: they are collected.
        """
        platform = self._config.platform
        rounds = self._rounds_of(training, opened)
        learns = platform.learning.data == "impressions"
        first = self.live.round if self.live is not None and learns else 0 if learns else training.round
        training = replace(
            training,
            # Models of folds must not have seen the outcomes of the states and impressions that they score.
            hidden_from=min(training.round - 1, first),
            number=1 if self.live is None else self.live.number + 1,
        )
        model, _ = layer_of(training.base)
        _, layer = layer_of(self.model)  # the newest layer, if another model went live during the training
        if parts is None:
            parts = log_parts(platform, self._warmup, rounds, training.start, self._seed)
        log = joined_log(platform, parts, self._warmup.items, repeatable=self._warmup.repeatable)
        parts.clear()
        if len(log):
            model = updated(model, log, ground=platform.retrain_ground)
        del log  # each fold joins a log of its own, and a large one fills gigabytes
        scorers = None
        if learns:
            # These models have not seen the outcomes of the slates.
            scorers = self._scorers_of(model, training, rounds)
            scored, n_rounds = self._scored(training, rounds, states_of, scorers)
            if scored is not None:
                layer = self._learn(scored, training, n_rounds)
        self._scorers = scorers
        self.live = training
        self.model = laid_over(model, layer)

    def _rounds_of(self, training: Training, opened: OpenRound) -> list[PastRound]:
        """Rounds from which a training learns, oldest first."""
        stop = training.round + (training.rows > 0)
        rounds = [past for past in self.learnt if past.number < stop]
        if (not rounds or rounds[-1].number < opened.number) and opened.number < stop:
            rounds.append(self._past_of(opened, opened.known_histories))
        return rounds

    def _scored(
        self, training: Training, rounds: list[PastRound], states_of: StatesOf, scorers: FoldModels
    ) -> tuple[Shown | None, float]:
        """Scored impressions to learn, and their number in rounds.

        There are none of logged sessions without slates.
        """
        parts = []
        n_rounds = 0.0
        window = self._config.platform.log_window.rounds
        for past in rounds if window is None else rounds[-window:]:
            first = self._first_unlearnt(past.number)
            n_arrivals = len(past.schedule)
            stop = training.rows if past.number == training.round else n_arrivals
            if past.shown is not None and first < stop:
                rows = np.arange(first, stop)
                scored = past.shown.rows(rows).scored(states_of(past, scorers).chosen(rows))
                # An item of an earlier round that is no longer on offer has no score.
                parts.append(scored if past is rounds[-1] else scored.with_scores())
                n_rounds += len(rows) / n_arrivals
        return (Shown.joined(parts) if parts else None), n_rounds

    def _first_unlearnt(self, number: int) -> int:
        """First row of a round that is not learnt."""
        if self.live is None or self.live.round < number:
            return 0
        return self.live.rows if self.live.round == number else NEVER

    def _learn(self, scored: Shown, training: Training, n_rounds: float) -> ImpressionLayer:
        """Layer, fitted again to slates with known outcomes."""
        slates = scored if self.waiting is None else Shown.joined([self.waiting, scored])
        is_settled = slates.settled < training.start
        self.waiting = slates.rows(np.flatnonzero(~is_settled))
        examination = examination_of(self._config, self._consumer, self.decay)
        shown = impressions_of(slates.rows(np.flatnonzero(is_settled)), examination)
        self.fits = tuple(fit.after(shown, self.prior, n_rounds) for fit in self.fits)
        # Each training has other samples. At a round's end they are those of the next round.
        key = training.start if training.rows else training.round
        return answered_layer(self._config.platform.learning, self.fits, self._seed, key)

    def scorers_of_last(self) -> FoldModels:
        """Models that score last round's states for the next prices."""
        # The market calls this method once per round. It reuses the models that have scored the round's impressions.
        scorers = self._scorers
        if not self.trains_anytime:
            self._scorers = None
        if self._control is not None:  # the model has not seen the next events of its own visitors
            return always(self.model)
        model, layer = layer_of(self.model)
        if scorers is None:
            scorers = always(model) if self.live is None else self._scorers_of(model, self.live, self.learnt)
        models = scorers
        # The platform's layer corrects these models too, so that their scores have the unit of the serving model.
        return lambda: tuple(laid_over(model, layer) for model in models())

    def _scorers_of(self, model: IntensityModel, training: Training, rounds: list[PastRound]) -> FoldModels:
        """Models of folds without a layer, which a training gives."""
        if not self.crosses:
            return always(model)
        return cross_fitted(self._config.platform, self._warmup, rounds, training, self._seed)

    @property
    def state(self) -> PlatformState:
        """State at the beginning of a round, for :meth:`load_state`."""
        keeps = self._keeps_users
        past = KeptRounds.of(self.rounds, keeps_users=keeps)
        learnt = None if self._control is None else KeptRounds.of(self._replaced, keeps_users=keeps)
        return PlatformState(
            model=self.model,
            live=self.live,
            trainings=tuple(self.trainings),
            log_counts=self.log_counts,
            examined=self.examined,
            past=past,
            fits=self.fits,
            waiting=self.waiting,
            learnt=learnt,
        )

    def load_state(self, state: PlatformState, logged_past: LoggedPast) -> None:
        """Restore a state that a platform with equal settings saved."""
        self.model = state.model
        self.live = state.live
        self.trainings = list(state.trainings)
        self._scorers = None
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
    platform: PlatformConfig, warmup: EventLog, rounds: list[PastRound], training: Training, seed: int
) -> FoldModels:
    """Model of each fold, trained without its latest events."""
    # The models of both folds are retrained at the first call, from the same model as the serving model.
    stop = training.round + (training.rows > 0)
    known = [past for past in rounds if past.number < stop]
    base, _ = layer_of(training.base)

    @lru_cache(maxsize=1)
    def models() -> tuple[IntensityModel, ...]:
        logs = (
            training_log(platform, warmup, known, training.start, seed, fold, training.hidden_from)
            for fold in (0, 1)
        )
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
