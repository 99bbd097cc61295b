"""The platform: the model that serves, the rounds that it learns from, and how it is retrained on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from rimsim.intensity.contract import ModelCapabilities
from rimsim.intensity.impressions import layer_of
from rimsim.intensity.product import updated
from rimsim.market.examining import Examined
from rimsim.market.kept_rounds import KeptRounds
from rimsim.market.learning import Shown, laid_over, layer_from, positions_of
from rimsim.market.models import require_weights
from rimsim.market.past_states import always, cross_fitted, under
from rimsim.market.state import PlatformState
from rimsim.market.training_log import PastRound, training_log

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import IntensityModel
    from rimsim.market.consumers import Consumer
    from rimsim.market.controls import Control
    from rimsim.market.histories import LoggedPast
    from rimsim.market.past_states import FoldModels, StateScores
    from rimsim.market.round import OpenRound

    StatesOf: TypeAlias = Callable[[PastRound, FoldModels], StateScores]


class Platform:
    """What scores states, and what it has learnt so far.

    Args:
        config: The scenario.
        model: The fitted model that serves first.
        warmup: The log before the market opened.
        seed: Model seed.
        consumer: Who consumes: what the platform makes of positions hangs on it.
        retrains: The model is updated at the end of each round.
        control: Says what is learnt from in place of the platform's own rounds; None: those.
        keeps_users: Visitors are the same in all rounds, so that no round is ever forgotten.
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
        """The rounds that are still looked at, oldest first."""
        self.examined = Examined.nothing(config.slate)
        """What the rounds so far have told of examination by position."""
        self.log_counts = np.bincount(warmup.item, minlength=warmup.n_items)
        """(M,) target events of each item in the log that the model is retrained on."""
        self._config = config
        self._warmup = warmup
        self._seed = seed
        self._consumer = consumer
        self._retrains = retrains
        self._control = control
        self._keeps_users = keeps_users
        self._handed: list[PastRound] = []
        """What a control has in place of each of the rounds."""
        self._before: IntensityModel | None = None
        """The model that served the round before; None in the first one."""
        self._judges: FoldModels | None = None
        """What scored the last round's impressions, until its states are to be scored too."""

    @property
    def learnt(self) -> list[PastRound]:
        """What the platform learns from, oldest first: the rounds themselves, or what a control has in their place."""
        return self.rounds if self._control is None else self._handed

    @property
    def decay(self) -> float:
        """γ of examination as the platform takes it."""
        return self.examined.decay(self._config)

    @property
    def crosses(self) -> bool:
        """True if past states are to be scored by models that have not seen what they did next.

        A model whose p is the same for all states cannot remember what one of them did next. Prices would not bear the
        crossing either: they would make up for how its items differ between the fold and the model that serves.
        """
        return (
            self._config.platform.calibration == "cross-fitted"
            and ModelCapabilities.of(self.model).depends_on_state
        )

    # -- at the end of a round ----------------------------------------------------------------------------------------

    def keep(self, opened: OpenRound) -> PastRound:
        """Take up a round that is over, and forget those that neither the log window nor the prices look at."""
        learns = self._config.platform.learning != "consumed"
        shown = Shown.of(opened.ledger, opened.settled(), causes=not opened.hits_only) if learns else None
        past = PastRound(opened.number, opened.schedule, opened.histories, shown)
        self.rounds.append(past)
        if not opened.hits_only:  # a hit in what visitors do anyway tells nothing of positions
            known = opened.settled() < opened.schedule.stop
            self.examined = self.examined.after(opened.ledger, known, self._config)
        if self._control is not None:
            self._handed.append(self._control.learnt(past))
        window = self._config.platform.log_window.rounds
        if window is not None and not self._keeps_users:
            del self.rounds[:-window], self._handed[:-window]
        return past

    def log(self) -> EventLog:
        """The log to retrain on at the end of the last round, whose items are counted."""
        now = self.rounds[-1].schedule.stop
        log = training_log(self._config.platform, self._warmup, self.learnt, now, self._seed)
        self.log_counts = np.bincount(log.item[log.targets], minlength=log.n_items)
        return log

    def retrain(self, log: EventLog, states_of: StatesOf) -> None:
        """Let the model that serves the next round be the one that is updated on a log, if it is updated at all.

        Args:
            log: What :meth:`log` gave.
            states_of: The states of a round under some models.
        """
        self._before = self.model
        if self._retrains:
            self.model = self._updated(log, states_of)

    def _updated(self, log: EventLog, states_of: StatesOf) -> IntensityModel:
        """The model updated on a log, under a layer where impressions are learnt from."""
        platform = self._config.platform
        model, layer = layer_of(self.model)
        if len(log):
            model = updated(model, log, ground=platform.retrain_ground)
        if platform.learning == "impressions":
            learnt = self.learnt
            learnt[-1] = self._with_scores(learnt[-1], model, states_of)
            rounds = learnt[-(platform.log_window.rounds or len(learnt)) :]
            shown = [past.shown for past in rounds if past.shown is not None]
            if shown:  # what is logged without slates has no impressions
                now = self.rounds[-1].schedule.stop
                positions = positions_of(self._config, self._consumer, self.decay)
                layer = layer_from(shown, now, positions, len(self.log_counts))
        return laid_over(model, layer)

    def _with_scores(self, past: PastRound, model: IntensityModel, states_of: StatesOf) -> PastRound:
        """A round that is learnt from with scores of what it showed, by models that have not seen what came of it."""
        if past.shown is None:
            return past
        self._judges = self._judges_of(model)
        return dataclasses.replace(past, shown=past.shown.scored(states_of(past, self._judges)))

    # -- who scores the states that prices are solved on --------------------------------------------------------------

    def judges_of_last(self) -> FoldModels:
        """The models that score the states of the last round for the prices of the next; asked for once a round."""
        judges, self._judges = self._judges, None
        if self._control is not None:  # the model has not seen what its own visitors did next
            return always(self.model)
        model, layer = layer_of(self.model)
        return under(judges or self._judges_of(model), layer)

    def _judges_of(self, model: IntensityModel) -> FoldModels:
        """The models without a layer that score the states of the round learnt from last, once ``model`` serves."""
        if not (self._retrains and self.crosses):
            return always(model)
        before = self._before or self.model
        return cross_fitted(self._config.platform, self._warmup, self.learnt, before, self._seed)

    # -- between rounds -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> PlatformState:
        """What the platform is at the beginning of a round, for :meth:`load_state`."""
        return PlatformState(
            model=self.model,
            before=self._before,
            log_counts=self.log_counts,
            examined=self.examined,
            past=KeptRounds.of(self.rounds, keeps_users=self._keeps_users),
            learnt=None
            if self._control is None
            else KeptRounds.of(self._handed, keeps_users=self._keeps_users),
        )

    def load_state(self, state: PlatformState, logged_past: LoggedPast) -> None:
        """Go on from a state of a platform of the same scenario and seed.

        Args:
            state: What :attr:`state` gave.
            logged_past: What visitors consumed before the market opened.
        """
        self.model, self._before = state.model, state.before
        self.log_counts, self.examined = state.log_counts, state.examined
        self.rounds = state.past.rounds(logged_past, keeps_users=self._keeps_users)
        if state.learnt is not None:
            self._handed = state.learnt.rounds(logged_past, keeps_users=self._keeps_users)
