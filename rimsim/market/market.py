"""Market: opens and closes rounds, and retrains the platform."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from typing import Literal, TypedDict, Unpack

import numpy as np

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints, seconds, ticks
from rimsim.config import ScenarioConfig, Seeds, at_seed
from rimsim.errors import ArrivalsError, ConfigError, MarketError, ProcessError, one_line
from rimsim.intensity.contract import IntensityModel
from rimsim.intensity.impressions import layer_of
from rimsim.market.arrivals.contract import ArrivalCapabilities, ArrivalProcess, RoundsSoFar, checked_schedule
from rimsim.market.clock import Clock, utc
from rimsim.market.closed_round import ClosedRound
from rimsim.market.consumers.contract import Consumer, World
from rimsim.market.consumers.preference import Appeal
from rimsim.market.controls import Control, require_controllable
from rimsim.market.examination import require_uniform
from rimsim.market.fallbacks import UnscoredVisits, fallback_slates
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.ledger import Ledger
from rimsim.market.opening import calibrated, warm_model
from rimsim.market.past_round import PastRound
from rimsim.market.platform import Platform, session_scores
from rimsim.market.processes import Happening, MarketHandle, Process, make_processes
from rimsim.market.processes.effects import Effects, EffectsState, require_saved
from rimsim.market.processes.life import Life
from rimsim.market.providers import (
    Offer,
    Provider,
    ProviderNeeds,
    ProviderView,
    RoundOutcome,
    is_fixed,
    make_providers,
)
from rimsim.market.records import (
    NO_NEEDS,
    Arrivals,
    Feedback,
    Needs,
    RoundView,
    Schedule,
    SlateLike,
    Slates,
    as_slates,
    delay_ticks,
    row_capacity,
)
from rimsim.market.round import OpenRound, RoundContext, RoundTerms
from rimsim.market.scores.past import (
    FoldModels,
    PastStates,
    StateScores,
    always,
    median_kth_score,
    most_states,
)
from rimsim.market.scores.scorer import device_of
from rimsim.market.shared import digest_of, shared_scores
from rimsim.market.simulation import Simulation
from rimsim.market.state import MarketState
from rimsim.market.training_log import LogPart
from rimsim.market.trainings import Training
from rimsim.market.world import (
    build_world,
    initial_model,
    plugs_of,
    read_log,
    weights_of,
    world_of,
)
from rimsim.requirements.on_offer import TimesOnOffer
from rimsim.requirements.rows import CarryOver, ScenarioRequirements, expected
from rimsim.system import give_back, single_thread


class MarketPlugs(TypedDict, total=False):
    """Plugs to use instead of those of the scenario."""

    arrivals: ArrivalProcess | None
    consumer: Consumer | None
    providers: Provider | None
    processes: Mapping[str, Process] | None


class Market:
    """Arm of an experiment: arrivals, consumers, platform and ledger.

    Args:
        seeds: Seeds for arrivals, choices, model and agent.
        world: Parts that arms share, such as the log; None: built from the config (and cached for the next market).
        model: A fitted model instead of the config's own; it is copied before it is retrained. In a replay this model
            also scores the warm-up states, even if it was fitted to them.
        retrain: Overrides ``config.platform.retrain``; false: the platform never retrains, whatever a process asks for.
        control: Source of training data; None: the platform's own rounds.
        barrier_every: Number of arrivals between barriers (no batch crosses a barrier), for agents that learn in a
            round.
        needs: Optional fields that arrivals and round views get.
        plugs: ``arrivals``, ``consumer``, ``providers`` and ``processes`` (by name) to use instead of the config's.

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
        model: IntensityModel | None = None,
        retrain: bool | None = None,
        control: Control | None = None,
        barrier_every: int | None = None,
        needs: Needs = NO_NEEDS,
        **plugs: Unpack[MarketPlugs],
    ) -> None:
        single_thread()
        self.seeds = Seeds() if seeds is None else seeds
        self.config = at_seed(config, self.seeds.choice)
        self.barrier_every = barrier_every
        self.needs = needs
        arrivals = plugs.get("arrivals")
        providers = plugs.get("providers")
        self.arrivals, self.consumer = plugs_of(self.config, arrivals, plugs.get("consumer"))
        self.providers = make_providers(self.config) if providers is None else providers
        kind = f"arrivals.kind {config.arrivals.kind!r}"
        self._arrivals_name = kind if arrivals is None else type(arrivals).__name__
        self.processes = _processes_of(self.config, plugs.get("processes"))
        """Processes by name, in the order in which they start."""
        is_shared = world is None and arrivals is None and plugs.get("consumer") is None and providers is None
        self.world = self._made_world(is_shared=is_shared) if world is None else world
        self._has_given_model = model is not None
        self.platform = self._made_platform(model, control, retrain=retrain, is_shared=is_shared)
        self.device = device_of(self.model)
        self.n_items: int = self.world.log.n_items
        """Size of the catalogue, M."""
        self.closed: list[ClosedRound] = []
        """The rounds that are over, oldest first."""
        self.round = 0
        self.done = False
        self._shared = shared_scores(self.world) if is_shared and not self._has_given_model else None
        self._context = self._round_context()
        self._logged_past = LoggedPast.of(
            self.world.past, empty=config.arrivals.history == "none", rule=self.world.rule
        )
        self._requirements = ScenarioRequirements(
            self.config, self.world.campaign_tables, self.seeds.arrivals
        )
        self._carry_over: CarryOver | None = None
        self._offer = Offer.opening(self.world.roster)
        self.effects = Effects(self.world.times, len(self.processes))
        """Lasting effects of the processes."""
        self._past_states = self._first_states()
        self.simulation = Simulation(int(ticks(self.world.opening)))
        """Calendar of the market's life."""
        self.cost = config.exposure.cost * self._median_score()
        """c, the shortfall cost of one exposure in units of intensity: fixed at the opening, from the warm-up model."""
        self.open = self._open_round()
        """The open round; the last one after the market's end."""
        self._begin_processes()

    def _round_context(self) -> RoundContext:
        """Log, truth and consumer that all rounds share."""
        return RoundContext(
            world=self.world,
            consumer=self.consumer,
            choice_seed=self.seeds.choice,
            delay=delay_ticks(self.config.consumer.delay),
            shared=self._shared,
            opening_model=self.platform.model,
        )

    @property
    def happenings(self) -> list[Happening]:
        """Changes by processes in the open round so far."""
        return self.effects.happenings

    def _begin_processes(self) -> None:
        """Let all processes begin at the current instant."""
        for number, (name, process) in enumerate(self.processes.items()):
            life = Life(name, self.env)
            life.begin(partial(process.run, self.env, MarketHandle(self, number, life)))
        self.env.run_instant()  # so that agents' first prices know the changes at the opening

    def _made_world(self, *, is_shared: bool) -> World:
        """Log and truth of the config."""
        if is_shared:
            return build_world(self.config)
        return world_of(read_log(self.config), self.config, self.arrivals, self.consumer, self.providers)

    def _made_platform(
        self, model: IntensityModel | None, control: Control | None, *, retrain: bool | None, is_shared: bool
    ) -> Platform:
        """Platform with a given model, or the config's model."""
        config = self.config
        if model is None:
            seed = self.seeds.model
            model = warm_model(config, seed) if is_shared else self._own_warm_model(seed)
        if control is not None:
            require_controllable(config, self.arrivals, self.providers, "a control")
        platform = Platform(
            config,
            model,
            self.world.past,
            self.seeds.model,
            consumer=self.consumer,
            retrains=config.platform.retrain if retrain is None else retrain,
            control=control,
            keeps_users=self.arrivals.keeps_users,
        )
        platform.trains_anytime = bool(self.processes)
        return platform

    def _own_warm_model(self, seed: int) -> IntensityModel:
        """Opening model in a world that is not shared."""
        model = initial_model(self.config, self.world.past, seed)
        return calibrated(self.config, self.world, self.consumer, model, seed)

    @property
    def _has_trainer(self) -> bool:
        """True if a process decides when the platform retrains."""
        return any(getattr(process, "decides_retraining", False) for process in self.processes.values())

    @property
    def env(self) -> Clock:
        """Clock of the market, a :class:`simpy.Environment` in seconds."""
        return self.simulation.clock

    @property
    def now(self) -> datetime:
        """Current time of the market in UTC."""
        return utc(self.env.now)

    @property
    def model(self) -> IntensityModel:
        """The model that scores the states of the current round."""
        return self.platform.model

    @property
    def same_for_all_arms(self) -> bool:
        """True if all arms have the same requirements."""
        exogenous = ArrivalCapabilities.of(self.arrivals).exogenous and is_fixed(self.providers)
        return exogenous and self.config.exposure.per == "round" and not self.processes

    @property
    def times(self) -> TimesOnOffer:
        """Times at which items of present providers can be shown."""
        return self._of_present(self.effects.times)

    def _of_present(self, times: TimesOnOffer) -> TimesOnOffer:
        """Times on offer of present providers' items."""
        is_present = self._offer.there
        return times if is_present.all() else times.of_providers(is_present[self.world.roster.of_item])

    @property
    def _appeal(self) -> Appeal:
        """Times and demand by which visitors want items."""
        return Appeal(self.effects.times, self.world.times.has_ends, self.effects.factor)

    @property
    def release(self) -> Ints:
        """Tick from which each item on offer can be shown."""
        return self.times.release

    @property
    def schedule(self) -> Schedule:
        """Arrivals of the current round."""
        return self.open.schedule

    @property
    def n_arrivals(self) -> int:
        """Number N of arrivals of the current round."""
        return len(self.open.schedule)

    @property
    def served(self) -> int:
        """Number of served arrivals of the current round."""
        return self.open.queue.served

    @property
    def ledger(self) -> Ledger:
        """Exposures and consumptions of the current round."""
        return self.open.ledger

    @property
    def exposure(self) -> Floats:
        """Exposures of each item in the current round."""
        return self.open.exposure

    @property
    def required(self) -> Floats:
        """Required exposures b_y of the current round."""
        return self.open.required

    @property
    def capacity(self) -> Ints | None:
        """Positions that each arrival may fill; None: all."""
        return self.open.capacity

    def round_view(self) -> RoundView:
        """View of the current round for an agent."""
        requirements = self.open.requirements
        exposure = self.config.exposure
        past_states = self._past_states.sampled(most_states(self.n_items)).among(requirements)
        return RoundView(
            round=self.round,
            arrivals=expected(self.n_arrivals, exposure.forecast * self.schedule.expected_over_actual),
            slate=self.config.slate,
            required=self.required.copy(),
            exposure=self.exposure.copy(),
            cost=self.cost,
            popularity=self.platform.log_counts.copy(),
            calibration=past_states.for_agent(self.needs),
            n_past_arrivals=len(self._past_states),
            key=rng.derived_seed(self.seeds.agent, rng.Purpose.AGENT, self.round),
            audience=self._audience(),
            position_weights=requirements.position_weights.copy(),
            unit=exposure.unit,
            hard=exposure.hard,
            pace=exposure.pace,
            opens=float(seconds(self.schedule.start)),
            closes=float(seconds(self.schedule.stop)),
            promises=requirements.table,
            delivered=self.open.delivered,
            windows=requirements.windows,
            confidence=self.platform.confidence,
            item_factor=None if self.open.item_factor is None else self.open.item_factor.copy(),
            items=self.world.log.items.copy() if self.needs.items else None,
            log=self.platform.log_events() if self.needs.log else None,
            rounds=self.config.rounds,
            providers=ProviderView.of(self.world.roster, self._offer),
            provider_needs=self._provider_needs() if self.needs.providers else None,
        )

    def _provider_needs(self) -> ProviderNeeds:
        """Exposures that providers need to stay, for bounds."""
        needs_of = getattr(self.providers, "needs", None)
        if needs_of is None:
            raise ConfigError(
                f"providers.kind {self.config.providers.kind!r} states no needs, which the agent uses. Expected "
                "providers with a method needs, such as viability with the option needs"
            )
        needs: ProviderNeeds = needs_of(self.world.roster, self._offer, self.seeds.arrivals)
        return needs

    def next_arrivals(
        self,
        limit: int | None = None,
        *,
        in_waves: bool = False,
        ahead: bool = False,
        barrier_every: int | None = None,
    ) -> Arrivals:
        """Return the next arrivals, and advance the clock.

        Results do not depend on ``limit``. In clock order, a batch ends before any user's second visit,
        because its state depends on the outcome of the first visit. In waves, second visits wait and later
        users go first. Use waves only for an agent that declares ``order_free``.

        Args:
            limit: Largest number of arrivals; None: as many as possible.
            ahead: If true, arrivals after the next wakes of processes may follow, for an agent that declares
                ``order_free``. :meth:`serve` serves only the first arrivals if a process changes the round before the
                others, which the next call then returns again.
            barrier_every: Number of arrivals between barriers; None: that of the market.

        Raises:
            MarketError: If the market is done, the limit is not positive, or the next arrivals must wait because
                earlier arrivals have not been served.
        """
        if self.done:
            raise MarketError("next_arrivals: all rounds are over. Stop when market.done is true")
        size = self.n_arrivals if limit is None else limit
        if size < 1:
            raise MarketError(f"next_arrivals: limit is {limit}. Expected at least 1")
        queue = self.open.queue
        barrier_every = barrier_every or self.barrier_every
        if ahead:
            queue.open_stretch()
            ahead = bool(self.processes) and self.fallback is None and barrier_every is None
        rows = queue.take(size, barrier_every, in_waves=in_waves, ahead=ahead)
        return self.open.arrivals(rows, self.open.scores(rows), self.needs)

    def serve(
        self, arrivals: Arrivals, slates: SlateLike, *, invalid: Literal["error", "empty"] = "error"
    ) -> Feedback:
        """Show slates to waiting arrivals and return the feedback.

        The call that serves the round's last arrivals also retrains the platform and opens the next round.

        Args:
            slates: Items by arrival and position (−1: empty), or :class:`Slates` with prices and propensities.
            invalid: Repeated or inadmissible items raise an error, or leave their positions empty.

        Raises:
            AgentError: If the slates have another shape, or hold inadmissible items.
            MarketError: If the arrivals do not wait for slates, for example because they were served before.
        """
        shown, consumed = self.show(arrivals.row, as_slates(slates), empty=invalid == "empty")
        n_served = len(shown)
        return Feedback(
            arrivals if n_served == len(arrivals) else arrivals.rows(slice(n_served)), shown, consumed
        )

    def show(self, rows: Ints, slates: Slates, *, empty: bool) -> tuple[Ints, Bools]:
        """Shown items and a mask of consumed items, by arrival.

        Raises:
            ConfigError: If γ is estimated from uniform slates, and the agent shows no uniform slates.
        """
        if self.fallback is None:
            require_uniform(slates.uniform, self.config)
        else:
            self.open.queue.require_waiting(rows)
            slates = Slates(self._fallback_slates(self.fallback, rows))
        shown = self.open.serve(rows, slates, empty=empty)
        self._close_if_served()
        return shown

    @property
    def fallback(self) -> str | None:
        """Name of the fallback that answers instead of the agent.

        None while the platform's model is in service.
        """
        return self.effects.fallback

    def _fallback_slates(self, name: str, rows: Ints) -> Ints:
        """Slates of a fallback for arrivals that wait."""
        _, _, admissible = self.open.scores(rows).arrays
        visits = UnscoredVisits(
            rows, admissible, self.platform.log_counts, self.open.ledger, self.seeds.agent
        )
        return fallback_slates(name, visits, self.config.slate)

    def counts(self) -> tuple[Ints, Ints]:
        """Exposures and consumptions of each item since the opening."""
        if self.done:  # the open round is the last one, which is closed and counted already
            return self.effects.exposure.copy(), self.effects.consumption.copy()
        opened = self.open
        exposure = opened.ledger.exposure(self.n_items)
        consumption = opened.ledger.consumption(self.n_items) + opened.free_choices
        return self.effects.exposure + exposure, self.effects.consumption + consumption

    def change_offer(self, items: Ints, *, is_release: bool) -> None:
        """Release or end items from now on."""
        self.effects.change_offer(items, self.env.tick, self.world.times.end, is_release=is_release,
            was_served=self.open.has_served_at(self.env.tick))  # fmt: skip
        self.open.offer(self.times, self._of_present(self.effects.shown_times), self._appeal)

    def scale_demand(self, process: int, items: Ints, factor: float) -> None:
        """Set a process's factor of the demand for items."""
        self.effects.demand[process, items] = factor
        self.open.want(self._appeal)

    def stop_model(self, process: int, fallback: str) -> None:
        """Let a fallback answer on behalf of a process."""
        self.effects.stopped.pop(process, None)  # the fallback that was asked for last answers
        self.effects.stopped[process] = fallback
        self.open.renew()

    def start_model(self, process: int) -> None:
        """Let a process's fallback no longer answer."""
        del self.effects.stopped[process]
        self.open.renew()

    def retrain(self, process: int, takes: int) -> bool:
        """Start a training whose model goes live after ``takes`` ticks.

        The result is false if the platform never retrains.
        """
        if not self.platform.retrains:
            return False
        if self.platform.has_control:
            raise MarketError(
                "retrain: the market has a control, which needs retraining at the end of each round"
            )
        training = self._training(process, takes)
        self.platform.trainings.append(training)
        self.simulation.go_live_at(training.live, self._go_live)
        return True

    def _training(self, process: int = -1, takes: int = 0) -> Training:
        """Training that starts now."""
        is_over = self.open.queue.share == 1.0 and self.env.tick >= self.schedule.stop
        return Training(
            start=self.env.tick,
            live=self.env.tick + takes,
            round=self.open.number + is_over,
            rows=0 if is_over else self.served,
            base=self.model,
            process=process,
        )

    def _go_live(self) -> None:
        """Let the model of a training serve within a round."""
        if self.open.queue.share == 1.0 and self.env.tick >= self.schedule.stop:
            return  # the end of the round retrains
        if self._trained():
            self._past_states = self._last_states() if self.platform.rounds else self._first_states()
            self.open.use_model(self.model, self.env.tick)

    def _trained(self, parts: list[LogPart] | None = None) -> bool:
        """Train the model that goes live now; false without one."""
        platform = self.platform
        training = platform.due(self.env.tick)
        if training is not None:
            # ``parts`` hold the log up to now, but a training learns what was known at its start.
            known = parts if training.start == self.env.tick else None
            platform.go_live(training, self.open, self._states_of, known)
            if training.process >= 0:
                self.note_happening(list(self.processes)[training.process], "live", None, math.nan)
            assert platform.live is not None  # noqa: S101  # the training that has just gone live
            self.simulation.note_live(platform.live.number)
        platform.drop_due(self.env.tick)
        return training is not None

    def note_happening(self, process: str, change: str, items: Ints | None, value: float) -> None:
        """Record a change by a process."""
        changed = [-1] if items is None or len(items) == self.n_items else items.tolist()
        now = self.env.now
        self.effects.happenings += [
            Happening(now, self.round, process, change, item, value) for item in changed
        ]

    @property
    def state(self) -> MarketState:
        """State of the market between two rounds, for :meth:`load_state`.

        Raises:
            MarketError: If the current round has served arrivals, or all rounds are over.
            ProcessError: If the memory of a process cannot be saved.
        """
        if self.done or not self.open.queue.untouched:
            raise MarketError(
                "state: a round is under way, or all rounds are over. Read the state at the beginning of "
                "a round"
            )
        return MarketState(
            round=self.round,
            platform=self.platform.state,
            offer=self._offer,
            carry_over=self._carry_over,
            effects=self._effects_state(),
        )

    def _effects_state(self) -> EffectsState | None:
        """Effects of the processes; None without processes."""
        if not self.processes:
            return None
        for name, memory in zip(self.processes, self.effects.memory, strict=True):
            try:
                require_saved(memory)
            except (TypeError, ValueError) as error:
                raise ProcessError(
                    f"process {name!r}: market.memory cannot be saved ({one_line(error)}). Keep numbers, texts, "
                    "arrays, and lists or mappings of numbers and texts in it"
                ) from error
        return self.effects.state(self.simulation.visits.served)

    def load_state(self, state: MarketState) -> None:
        """Restore a state that an equal market saved.

        Config and seeds of both markets must be equal. Both markets then continue identically.

        Raises:
            MarketError: If the state belongs to another market.
        """
        n_items = len(state.platform.log_counts)
        if not 0 <= state.round < self.config.rounds or n_items != self.n_items:
            raise MarketError(
                f"load_state: the state is from round {state.round} of a market with {n_items} items. Expected "
                f"a round below {self.config.rounds} and {self.n_items} items"
            )
        self.round = state.round
        self.closed = []
        self.done = False
        self._carry_over = state.carry_over
        self._offer = state.offer
        self.platform.load_state(state.platform, self._logged_past)
        past = self.platform.rounds
        start = past[-1].schedule.stop if past else int(ticks(self.world.opening))
        self.effects = Effects(self.world.times, len(self.processes))
        if state.effects is not None:
            self.effects.load_state(state.effects)
        self.simulation = Simulation(start, 0 if state.effects is None else state.effects.served)
        self._past_states = self._last_states() if past else self._first_states()
        self.open = self._open_round()
        for training in self.platform.trainings:
            self.simulation.go_live_at(training.live, self._go_live)
        self._begin_processes()

    def _open_round(self) -> OpenRound:
        """Next round, with its requirements."""
        schedule = self._schedule_of(self.round)
        past = self.platform.rounds
        plan = RoundTerms.of(
            self.round,
            self.config,
            schedule,
            table=self._requirements,
            past=self._logged_past,
            before=self._carry_over,
            position_weights=weights_of(self.config, self.consumer, self.platform.decay),
            times=self.times,
        )
        stay = self.arrivals.keeps_users and past
        histories = past[-1].histories if stay else Histories(schedule, self._logged_past)
        opened = OpenRound(
            plan,
            self._context,
            histories,
            self.model,
            self.simulation,
            self.platform.log_counts,
            self._appeal,
        )
        if self.needs.item_factor:
            coming_round = PastRound(self.round, schedule, opened.known_histories)
            opened.note_item_factor(self._states_of(coming_round, always(self._context.opening_model)))
        return opened

    def _close_if_served(self) -> None:
        """Close the round after its last arrival."""
        if self.open.queue.share == 1.0 and not self.done:
            self.simulation.run_out(self.round)
            self.open.note_organic()
            self._close_round()

    def _close_round(self) -> None:
        """Close the round, retrain and open the next."""
        if self.round + 1 < self.config.rounds:
            give_back()  # retraining allocates large blocks, for which the system needs the freed memory
        served = self.open
        platform = self.platform
        training = self._training()
        past = platform.keep(served)
        parts = platform.next_log()
        outcome = RoundOutcome(
            number=self.round,
            seed=self.seeds.arrivals,
            roster=self.world.roster,
            offer=self._offer,
            exposure=served.ledger.exposure(self.n_items),
            consumption=served.ledger.consumption(self.n_items),
        )
        changes = self.providers.end_of_round(outcome)
        closed = served.close(
            cost=self.cost,
            outcome=outcome,
            changes=changes,
            events=past,
            learnt=platform.learnt[-1],
            log_counts=platform.log_counts,
            states=self._served_states(past).among(served.requirements),
            decay=platform.examined.estimate,
        )
        closed = replace(closed, happenings=tuple(self.happenings))
        self.happenings.clear()
        if self.processes:
            consumption = outcome.consumption + served.free_choices
            self.effects.close_round(outcome.exposure, consumption, served.schedule.start)
        self.closed.append(closed)
        self._carry_over = closed.requirements.carried_over(closed.exposure, closed.delivered)
        self.round += 1
        if self.round == self.config.rounds:
            self.done = True
            return
        if platform.retrains and not self._has_trainer:
            platform.trainings.append(training)
        self._trained(parts)
        # The offer changes only after retraining, which scores the round's impressions with the items then on offer.
        self._offer = closed.next_offer
        self._past_states = self._last_states()
        self.open = self._open_round()

    def _schedule_of(self, number: int) -> Schedule:
        """Checked arrivals of a round."""
        past = tuple(self.platform.rounds)
        so_far = RoundsSoFar(self.world, self.seeds.arrivals, past)
        try:
            schedule = checked_schedule(
                self.arrivals.round(number, so_far), number, so_far, self._logged_past
            )
            if self.arrivals.keeps_users and past:
                _require_same_users(number, past[-1].schedule, schedule)
        except MarketError as error:
            raise ArrivalsError(f"{self._arrivals_name}: {error}") from error
        return schedule

    @cached_property
    def _first_schedule(self) -> Schedule:
        """Arrivals before the opening, or those of round 0."""
        return self._schedule_of(0 if self.arrivals.keeps_users else -1)

    def _first_states(self) -> StateScores:
        """Scores of warm-up states, for the prices of round 0."""
        schedule = self._first_schedule
        if not self.arrivals.keeps_users:
            before_opening = PastRound(-1, schedule, Histories(schedule, self._logged_past))
            return self._states_of(before_opening, always(self.model))
        return session_scores(
            self.config,
            self.world,
            self.model,
            n_states=len(schedule),
            seed=self.seeds.model,
            times=self.times,
            crossed=self.platform.crosses and not self._has_given_model,
        )

    def _median_score(self) -> float:
        """Median over warm-up states of the k-th largest λ(x,y)."""
        model, _ = layer_of(self.model)  # so c does not depend on the calibration of the opening model
        median = partial(median_kth_score, self._past_states, model, self.config.slate)
        if self._shared is None:
            return median()
        return self._shared.of("median", model, digest_of(self._first_schedule), median)

    def _last_states(self) -> StateScores:
        """Scores of the last round's states, for the next prices."""
        return self._states_of(self.platform.rounds[-1], self.platform.scorers_of_last())

    def _served_states(self, past: PastRound) -> StateScores:
        """Scores of the round's states by its serving models."""
        models = self.open.models
        scores = self._states_of(past, lambda: models)
        if len(models) == 1:
            return scores
        return replace(scores, past=replace(scores.past, model=self.open.model_of_arrival))

    def _states_of(self, past: PastRound, models: FoldModels) -> StateScores:
        """Scores of a round's states by given models."""
        schedule = past.schedule
        capacity = row_capacity(schedule.slot, self.config.slate, self.config.user_cap)
        states = PastStates.of_round(past, schedule.visits(self._logged_past.counts), capacity)
        times = self._of_present(self.effects.shown_times)
        return StateScores(states, models, times, self.device, self.seeds.model)

    def _audience(self) -> StateScores | None:
        """Scores of the current round's states; None if unknown."""
        is_known = self.arrivals.known_beforehand or self.needs.future
        return self.foreseen_states().for_agent(self.needs) if is_known else None

    def foreseen_states(self) -> StateScores:
        """Scores of the current round's states, without effects of slates."""
        past = PastRound(self.round, self.schedule, self.open.foreseen_histories())
        return self._states_of(past, always(self.model)).among(self.open.requirements)


def _processes_of(config: ScenarioConfig, processes: Mapping[str, Process] | None) -> dict[str, Process]:
    """Given processes, or those of the config."""
    return make_processes(config) if processes is None else dict(processes)


def _require_same_users(number: int, before: Schedule, now: Schedule) -> None:
    """Refuse a round whose slots differ from the last slots."""
    for name in ("user", "log_user", "shift", "logged"):
        if not np.array_equal(getattr(before, name), getattr(now, name)):
            raise MarketError(
                f"arrivals of round {number}: {name} differs from the previous round. If arrivals set "
                "keeps_users, all rounds must have the same visitors"
            )
