"""The market: rounds that open, are served, close and are learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from rimsim import rng
from rimsim.arrays import NEVER, Bools, Floats, Ints, seconds, ticks
from rimsim.config import ScenarioConfig, Seeds, at_seed
from rimsim.errors import ArrivalsError, MarketError
from rimsim.intensity.contract import rescale_of
from rimsim.market.arrivals import RoundsSoFar, checked_schedule
from rimsim.market.arrivals.schedule import row_capacity
from rimsim.market.build import build_world, plugs_of, read_log, warm_model, world_of
from rimsim.market.clock import Clock, delay_ticks
from rimsim.market.closed_round import ClosedRound
from rimsim.market.consumers import relevant_items
from rimsim.market.controls import require_controllable
from rimsim.market.currency import median_kth_score
from rimsim.market.examining import require_uniform
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.learning import weights_of
from rimsim.market.limits import most_states
from rimsim.market.models import initial_model
from rimsim.market.needs import NO_NEEDS, Needs
from rimsim.market.past_states import PastStates, StateScores, always, session_scores
from rimsim.market.platform import Platform
from rimsim.market.providers import Offer, RoundOutcome, is_fixed, make_providers
from rimsim.market.records import Feedback, RoundView, as_slates
from rimsim.market.round import OpenRound
from rimsim.market.state import MarketState
from rimsim.market.training_log import PastRound
from rimsim.requirements.carry_over import CarryOver, ScenarioRequirements, expected
from rimsim.system import give_back, single_thread

if TYPE_CHECKING:
    from rimsim.intensity.contract import IntensityModel
    from rimsim.market.arrivals import ArrivalProcess, Schedule
    from rimsim.market.consumers import Consumer
    from rimsim.market.controls import Control
    from rimsim.market.ledger import Ledger
    from rimsim.market.past_states import FoldModels
    from rimsim.market.providers import Changes, Provider
    from rimsim.market.records import Arrivals, SlateLike, Slates
    from rimsim.market.world import World

__all__ = ["ClosedRound", "Market"]


class Market:
    """One arm of an experiment: arrivals, truth, platform and ledger, moved on by a SimPy clock.

    Args:
        config: The scenario.
        seeds: Separate seeds for arrivals, choices, model and agent.
        world: What arms share; None: built from the config (and kept for the next market).
        arrivals: Who arrives; None: as the config says.
        consumer: Who consumes; None: as the config says.
        providers: Who offers the items; None: as the config says.
        model: A fitted model in place of the config's own; it is copied before it is retrained. In a replay it also
            scores the states of the warm-up, which it may have seen.
        retrain: Overrides ``config.platform.retrain``; false is the frozen arm.
        control: Says what the platform learns from in place of its own rounds; None: from those.
        barrier_every: No batch crosses a multiple of so many arrivals, for agents that learn within a round.
        needs: What is filled in beside what every agent is told.

    Example:
        >>> from rimsim.config import ArrivalsConfig, DataConfig, PlatformConfig, ScenarioConfig
        >>> config = ScenarioConfig(
        ...     rounds=1, slate=3, data=DataConfig(min_item_events=100),
        ...     arrivals=ArrivalsConfig(per_round=4), platform=PlatformConfig(model="hp"),
        ... )
        >>> market = Market(config)
        >>> while not market.done:
        ...     arrivals = market.next_arrivals(limit=2)
        ...     feedback = market.serve(arrivals, arrivals.relevance.topk(3).indices)
        >>> market.closed[0].ledger.item.shape
        (4, 3)
    """

    def __init__(
        self,
        config: ScenarioConfig,
        *,
        seeds: Seeds | None = None,
        world: World | None = None,
        arrivals: ArrivalProcess | None = None,
        consumer: Consumer | None = None,
        providers: Provider | None = None,
        model: IntensityModel | None = None,
        retrain: bool | None = None,
        control: Control | None = None,
        barrier_every: int | None = None,
        needs: Needs = NO_NEEDS,
    ) -> None:
        single_thread()
        self.seeds = Seeds() if seeds is None else seeds
        self.config = config = at_seed(config, self.seeds.choice)
        self.arrivals, self.consumer = plugs_of(config, arrivals, consumer)
        kind = f"arrivals.kind {config.arrivals.kind!r}"
        self._who_arrives = kind if arrivals is None else type(arrivals).__name__
        shared = world is None and arrivals is None and consumer is None and providers is None
        self.providers = make_providers(config) if providers is None else providers
        if world is None:
            plugs = self.arrivals, self.consumer, self.providers
            world = build_world(config) if shared else world_of(read_log(config), config, *plugs)
        self.world = world
        self._handed_in = model is not None
        if model is None:
            seed = self.seeds.model
            model = warm_model(config, seed) if shared else initial_model(config, world.past, seed)
        if control is not None:
            require_controllable(config, self.arrivals, self.providers, "a control")
        self.platform = Platform(
            config,
            model,
            world.past,
            self.seeds.model,
            consumer=self.consumer,
            retrains=config.platform.retrain if retrain is None else retrain,
            control=control,
            keeps_users=self.arrivals.keeps_users,
        )
        self.barrier_every = barrier_every
        self.needs = needs
        self.device = torch.device(getattr(model, "device", "cpu"))
        self.n_items: int = self.world.log.n_items
        """Size of the catalogue, M."""
        self._delay = delay_ticks(config.consumer.delay)
        self._logged_past = LoggedPast.of(self.world.past, empty=config.arrivals.history == "none")
        self._requirements = ScenarioRequirements(config, world.campaign_tables, self.seeds.arrivals)
        self._carry_over: CarryOver | None = None
        self._offer = Offer.opening(self.world.roster)
        self.closed: list[ClosedRound] = []
        self.round = 0
        self.done = False
        self._past_states: StateScores = self._first_states()
        self._clock = Clock(int(ticks(self.world.opening)))
        self.cost = config.exposure.cost * median_kth_score(
            self._past_states, model, config.slate, self.n_items
        )
        """c, the shortfall cost of one exposure in units of intensity: fixed at the opening, from the warm-up model."""
        self.open = self._open_round()
        """The open round; the last one where all are over."""

    @property
    def model(self) -> IntensityModel:
        """Who scores the states of the open round."""
        return self.platform.model

    @property
    def same_for_all_arms(self) -> bool:
        """All arms of a seed are asked for the same guarantees, whatever they show; not over periods of rounds."""
        return (
            self.config.exposure.per == "round"
            and is_fixed(self.providers)
            and not getattr(self.arrivals, "hangs_on_outcomes", True)  # one that says nothing may do so
        )

    @property
    def release(self) -> Ints:
        """(M,) tick from which each item can be shown in the open round; NEVER for what nobody offers."""
        there = self._offer.there
        if there.all():
            return self.world.release
        return np.where(there[self.world.roster.of_item], self.world.release, NEVER)

    # -- the open round -----------------------------------------------------------------------------------------------

    @property
    def schedule(self) -> Schedule:
        """The arrivals of the open round."""
        return self.open.schedule

    @property
    def n_arrivals(self) -> int:
        """Arrivals of the open round, N."""
        return len(self.open.schedule)

    @property
    def served(self) -> int:
        """Arrivals of the open round that have been served."""
        return self.open.served

    @property
    def ledger(self) -> Ledger:
        """What was shown in the open round and what came of it."""
        return self.open.ledger

    @property
    def exposure(self) -> Floats:
        """(M,) exposures of the open round, in the unit of the guarantee."""
        return self.open.exposure

    @property
    def required(self) -> Floats:
        """(M,) required exposures b_y of the open round, in the unit of the guarantee."""
        return self.open.required

    @property
    def capacity(self) -> Ints | None:
        """(n,) positions that each visit of the open round may fill; None: all."""
        return self.open.capacity

    def round_view(self) -> RoundView:
        """What an agent may know of the open round."""
        return RoundView(
            round=self.round,
            arrivals=expected(
                self.n_arrivals, self.config.exposure.forecast * self.schedule.expected_over_actual
            ),
            slate=self.config.slate,
            required=self.required.copy(),
            exposure=self.exposure.copy(),
            cost=self.cost,
            popularity=self.platform.log_counts.copy(),
            calibration=self._past_states.sampled(most_states(self.n_items)).among(self.open.promised),
            came=len(self._past_states),
            key=rng.derived_seed(self.seeds.agent, rng.Purpose.AGENT, self.round),
            audience=self._audience(),
            position_weights=self.open.promised.weights.copy(),
            unit=self.config.exposure.unit,
            hard=self.config.exposure.hard,
            pace=self.config.exposure.pace,
            opens=float(seconds(self.schedule.start)),
            closes=float(seconds(self.schedule.stop)),
            promises=self.open.promised.table,
            delivered=self.open.delivered(),
            items=self.world.log.items.copy() if self.needs.items else None,
        )

    def next_arrivals(self, limit: int | None = None, *, in_waves: bool = False) -> Arrivals:
        """Move the clock on and return the next arrivals of the open round.

        Results do not depend on the limit. In clock order a batch ends before a user's second visit, whose state
        hangs on what comes of the first; in waves such visits are held back and later users go first, which changes
        nothing for an agent that declares ``order_free``.

        Args:
            limit: At most so many; None: as many as can be.
            in_waves: Serve out of clock order.

        Raises:
            MarketError: If the market is done, the limit is not positive, or all that could come next waits for
                arrivals that were handed out and not served.
        """
        if self.done:
            raise MarketError("next_arrivals: all rounds are over; allowed: while market.done is false")
        size = self.n_arrivals if limit is None else limit
        if size < 1:
            raise MarketError(f"next_arrivals: limit is {limit}; allowed: at least 1")
        rows = self.open.hand_out(size, self.barrier_every, in_waves=in_waves)
        return self.open.arrivals(rows, self.open.scores(rows), self.needs)

    def serve(
        self, arrivals: Arrivals, slates: SlateLike, *, invalid: Literal["error", "empty"] = "error"
    ) -> Feedback:
        """Show slates to arrivals that were handed out, and return what came of it.

        The round's last call retrains the platform and opens the next round.

        Args:
            arrivals: What :meth:`next_arrivals` returned.
            slates: (n, k) items, −1 for an empty position, or :class:`Slates` with prices and propensities.
            invalid: What to do with a repeated or inadmissible item: an error, or an empty position.

        Raises:
            AgentError: If the slates have another shape, or hold what is no admissible item.
            MarketError: If the arrivals were not handed out or were served before.
        """
        shown, consumed = self.show(arrivals.index, as_slates(slates), empty=invalid == "empty")
        return Feedback(arrivals, shown, consumed)

    def show(self, rows: Ints, slates: Slates, *, empty: bool) -> tuple[Ints, Bools]:
        """:meth:`serve` for rows of the open round that were handed out; see :meth:`OpenRound.show`.

        Raises:
            ConfigError: If γ is to be estimated from uniform slates, and the agent shows none.
        """
        require_uniform(slates, self.config)
        shown = self.open.show(rows, slates, empty=empty)
        if self.open.all_served:
            self.open.run_out()
            self._close_round()
        return shown

    # -- between rounds -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> MarketState:
        """The state between two rounds, for :meth:`load_state`.

        Raises:
            MarketError: If a round is under way, or all are over.
        """
        if self.done or not self.open.untouched:
            raise MarketError(
                "state: a round is under way or all are over; allowed: at the beginning of a round"
            )
        return MarketState(self.round, self.platform.state, self._offer, self._carry_over)

    def load_state(self, state: MarketState) -> None:
        """Go on from a state of a market with the same config and seeds; what follows is the same to the last bit.

        Args:
            state: What :attr:`state` gave.

        Raises:
            MarketError: If the state is not of such a market.
        """
        n_items = len(state.platform.log_counts)
        if not 0 <= state.round < self.config.rounds or n_items != self.n_items:
            raise MarketError(
                f"load_state: found round {state.round} over {n_items} items; "
                f"allowed: a round below {self.config.rounds} over {self.n_items} items"
            )
        self.round, self.closed, self.done = state.round, [], False
        self._carry_over, self._offer = state.carry_over, state.offer
        self.platform.load_state(state.platform, self._logged_past)
        past = self.platform.rounds
        self._clock = Clock(past[-1].schedule.stop if past else int(ticks(self.world.opening)))
        self._past_states = self._last_states() if past else self._first_states()
        self.open = self._open_round()

    def _schedule_of(self, number: int) -> Schedule:
        """The arrivals of a round.

        Raises:
            ArrivalsError: If the market cannot play them.
        """
        past = tuple(self.platform.rounds)
        so_far = RoundsSoFar(self.world, self.seeds.arrivals, past)
        try:
            schedule = checked_schedule(
                self.arrivals.round(number, so_far), number, so_far, self._logged_past
            )
            if self.arrivals.keeps_users and past:
                _require_same_users(number, past[-1].schedule, schedule)
        except MarketError as error:
            raise ArrivalsError(f"{self._who_arrives}: {error}") from error
        return schedule

    def _capacity(self, schedule: Schedule) -> Ints | None:
        return row_capacity(schedule.slot, self.config.slate, self.config.user_cap)

    def _open_round(self) -> OpenRound:
        """The round that comes next, with its guarantees and its cost of a missing exposure."""
        config, world, schedule = self.config, self.world, self._schedule_of(self.round)
        past = self.platform.rounds
        stay = self.arrivals.keeps_users and past
        histories = past[-1].histories if stay else Histories(schedule, self._logged_past)
        capacity = self._capacity(schedule)
        weights = weights_of(config, self.consumer, self.platform.decay)
        return OpenRound(
            self.round,
            world,
            self.consumer,
            schedule,
            histories,
            self.model,
            self.device,
            self._clock,
            k=config.slate,
            capacity=capacity,
            delay=self._delay,
            choice_seed=self.seeds.choice,
            promised=self._requirements.round(
                self.round,
                schedule.visits(self._logged_past.counts),
                self._carry_over,
                forecast=schedule.expected_over_actual,
                capacity=capacity,
                weights=weights,
                release=self.release,
            ),
            release=self.release,
            popularity=self.platform.log_counts,
        )

    def _close_round(self) -> None:
        """The platform retrains on its log; the states of the round become those that prices are solved on."""
        give_back()
        opened, platform, delivered = self.open, self.platform, self.open.delivered()
        past = platform.keep(opened)
        log = platform.log()
        learnt, changes = platform.learnt[-1], self._changes()
        self.closed.append(
            ClosedRound(
                number=self.round,
                ledger=opened.ledger,
                required=opened.required,
                position_weights=opened.promised.weights,
                promises=opened.promised.table,
                delivered=delivered,
                due=opened.promised.due,
                cost=self.cost,
                log_counts=platform.log_counts,
                relevant=relevant_items(
                    self.consumer, opened.visits(np.arange(len(opened.schedule))), self.n_items
                ),
                counts_items=opened.hits_only,
                states=self._states_of(past, always(self.model)).among(opened.promised),
                rescale=rescale_of(self.model),
                decay=platform.examined.estimate,
                learnt=learnt,
                learnt_events=opened.entered if learnt is past else int(learnt.histories.events.size[0]),
                offer=self._offer,
                changes=changes,
            )
        )
        self._carry_over = opened.promised.carried_over(opened.exposure, delivered)
        self.round += 1
        if self.round == self.config.rounds:
            self.done = True
            return
        platform.retrain(log, self._states_of)
        # What was shown is scored as it was on offer.
        self._offer = self._offer.after(changes, self.round - 1)
        self._past_states = self._last_states()
        self.open = self._open_round()

    def _changes(self) -> Changes:
        """Who leaves and who comes after the open round."""
        ledger = self.open.ledger
        outcome = RoundOutcome(
            number=self.round,
            seed=self.seeds.arrivals,
            roster=self.world.roster,
            offer=self._offer,
            exposure=ledger.exposure(self.n_items),
            consumption=ledger.consumption(self.n_items),
        )
        return self.providers.end_of_round(outcome)

    # -- states that prices are solved on -----------------------------------------------------------------------------

    def _first_states(self) -> StateScores:
        """Warm-up states, for the prices of round 0."""
        schedule = self._schedule_of(0 if self.arrivals.keeps_users else -1)
        if self.arrivals.keeps_users:
            crossed = self.platform.crosses and not self._handed_in
            return session_scores(
                self.config,
                self.world,
                self.model,
                len(schedule),
                self.seeds.model,
                self.release,
                crossed=crossed,
            )
        past = PastRound(-1, schedule, Histories(schedule, self._logged_past))
        return self._states_of(past, always(self.model))

    def _last_states(self) -> StateScores:
        """The states of the last round, with the models that score them for the prices of the next."""
        return self._states_of(self.platform.rounds[-1], self.platform.judges_of_last())

    def _states_of(self, past: PastRound, models: FoldModels) -> StateScores:
        """The states of a round under some models."""
        visits = past.schedule.visits(self._logged_past.counts)
        states = PastStates.of_round(past, visits, self._capacity(past.schedule))
        return StateScores(states, models, self.release, self.device, self.seeds.model)

    def _audience(self) -> StateScores | None:
        """The states of the open round, where they may be known beforehand."""
        if not self.arrivals.known_beforehand and not self.needs.future:
            return None
        past = PastRound(self.round, self.schedule, self.open.foreseen_histories())
        return self._states_of(past, always(self.model)).among(self.open.promised)


def _require_same_users(number: int, before: Schedule, now: Schedule) -> None:
    """Refuse a round whose slots are not those of the round before."""
    for name in ("user", "log_user", "shift", "logged"):
        if not np.array_equal(getattr(before, name), getattr(now, name)):
            raise MarketError(
                f"arrivals of round {number}: {name} of the slots is not that of the round before; allowed "
                "with keeps_users: the same slots in every round"
            )
