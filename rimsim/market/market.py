"""The market: arrivals come on the clock, slates are served, the platform retrains at the end of a round."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rimsim import rng
from rimsim.config import ScenarioConfig, Seeds
from rimsim.durations import duration_seconds
from rimsim.errors import MarketError
from rimsim.intensity.contract import depends_on_state, rescale_of
from rimsim.intensity.product import updated
from rimsim.market.calibration import (
    PastStates,
    StateScores,
    always,
    cross_fitted,
    session_scores,
)
from rimsim.market.clock import Clock, Rank, seconds, ticks
from rimsim.market.consumer import Consumer, IntensityConsumer, ReplayConsumer
from rimsim.market.deliveries import Deliveries, Post
from rimsim.market.ledger import Ledger
from rimsim.market.platform import PastRound, training_log
from rimsim.market.population import History, Population
from rimsim.market.records import Arrivals, Feedback, RoundView, as_slates
from rimsim.market.required import required_by_release
from rimsim.market.schedule import (
    Schedule,
    broadcast_schedule,
    clone_schedule,
    replay_schedules,
    row_capacity,
)
from rimsim.market.scoring import ScoreAhead, Scorer
from rimsim.market.slates import at_items, checked_slates, count_items, within_capacity
from rimsim.market.state import MarketState
from rimsim.market.world import World, build_world, initial_model, warm_model
from rimsim.matching import top_k

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import NDArray

    from rimsim.intensity.contract import IntensityModel
    from rimsim.market.calibration import FoldModels
    from rimsim.market.clock import Process
    from rimsim.market.consumer import Response
    from rimsim.market.records import SlateLike, Slates

__all__ = ["ClosedRound", "Market"]


@dataclass(frozen=True, eq=False)
class ClosedRound:
    """A round that is over."""

    number: int
    """Its number, from 0."""
    ledger: Ledger
    """Every exposure of the round."""
    required: NDArray[np.int64]
    """(M,) required exposures b_y."""
    cost: float
    """c, the shortfall cost of one exposure, in units of intensity."""
    log_counts: NDArray[np.int64]
    """(M,) target events of each item in the log that the platform retrains on (or would, if it is frozen)."""
    relevant: NDArray[np.float64]
    """(n,) how many items each arrival would have consumed of a catalogue shown whole."""
    counts_items: bool
    """``relevant`` counts items (a replay); otherwise it is λ*(x), an expectation that need not be a whole number."""
    states: StateScores
    """The states in which the arrivals came, under the model that served them, with their capacities; scored when
    iterated."""
    rescale: float
    """Factor by which a refitted λ(x) was brought back to its old mean; 1 where it was not refitted."""


def _numbered(
    posts: list[tuple[int, tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]],
) -> NDArray[np.int64]:
    """(n, 4) slots, due ticks and items of some rounds, with the round's number in front."""
    parts = [np.column_stack(np.broadcast_arrays(number, *columns)) for number, columns in posts]
    return np.concatenate([np.zeros((0, 4), np.int64), *parts])


class Market:
    """One arm of an experiment: arrivals, truth, platform and ledger, moved on by a SimPy clock.

    Args:
        config: The scenario.
        seeds: Separate seeds for arrivals, choices, model and agent.
        world: What arms share; None: built from the config (and kept for the next market).
        model: A fitted model in place of the config's own; it is copied before it is retrained. In a replay it also
            scores the states of the warm-up, which it may have seen.
        retrain: Overrides ``config.platform.retrain``; false is the frozen arm.
        barrier_every: No batch crosses a multiple of so many arrivals, for agents that learn within a round.
        reveal_truth: Fill ``Arrivals.true_intensity``; for bounds such as the oracle only.
        reveal_future: Fill ``RoundView.audience`` where arrivals are not known beforehand; for bounds only.

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
        barrier_every: int | None = None,
        reveal_truth: bool = False,
        reveal_future: bool = False,
    ) -> None:
        torch.set_num_threads(1)  # bits of a matrix product depend on the number of threads
        self.config = config
        self.seeds = Seeds() if seeds is None else seeds
        self.world = build_world(config) if world is None else world
        self._handed_in = model is not None
        if model is not None:
            self.model = model
        elif world is None:
            self.model = warm_model(config, self.seeds.model)
        else:
            self.model = initial_model(config, world.past, self.seeds.model)
        self.retrain = config.platform.retrain if retrain is None else retrain
        self.barrier_every = barrier_every
        self.reveal_truth = reveal_truth
        self.reveal_future = reveal_future
        self.device = torch.device(getattr(self.model, "device", "cpu"))
        self.n_items: int = self.world.log.n_items
        """Size of the catalogue, M."""
        delay = config.consumer.delay
        self._delay = 0 if delay is None else int(ticks(duration_seconds(delay)))
        self.closed: list[ClosedRound] = []
        self.round = 0
        self.done = False
        self._history = History.of(self.world.past, empty=config.arrivals.history == "none")
        self._past: list[PastRound] = []
        self._replay: list[Schedule] = []
        if config.arrivals.kind == "replay":
            self._replay = replay_schedules(
                config.arrivals, self.world.log, self.world.sessions, self.world.opening, config.rounds
            )
        self._before: IntensityModel | None = None
        self._log_counts = np.bincount(self.world.past.item, minlength=self.n_items)
        self._calibration: StateScores = self._first_scores()
        self._start_clock(int(ticks(self.world.opening)))
        self._open_round()

    # -- between rounds ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> MarketState:
        """The state between two rounds, for :meth:`load_state`.

        Raises:
            MarketError: If a round is under way, or all are over.
        """
        if self.done or self._n_arrived or self._held:
            raise MarketError(
                "state: a round is under way or all are over; allowed: at the beginning of a round"
            )
        populations = {0 if self._replay else past.number: past.population for past in self._past}
        boxes = [(number, population.mail) for number, population in populations.items()]
        return MarketState(
            round=self.round,
            model=self.model,
            before=self._before,
            log_counts=self._log_counts,
            past=np.array([past.number for past in self._past], np.int64),
            posts=_numbered([(number, mail.posts()) for number, mail in boxes]),
            pending=_numbered([(number, self._deliveries.pending(mail)) for number, mail in boxes]),
        )

    def load_state(self, state: MarketState) -> None:
        """Go on from a state of a market with the same config and seeds; what follows is the same to the last bit.

        Args:
            state: What :attr:`state` gave.

        Raises:
            MarketError: If the state is not of such a market.
        """
        if not 0 <= state.round < self.config.rounds or len(state.log_counts) != self.n_items:
            raise MarketError(
                f"load_state: found round {state.round} over {len(state.log_counts)} items; "
                f"allowed: a round below {self.config.rounds} over {self.n_items} items"
            )
        self.round, self.model, self._before = state.round, state.model, state.before
        self.closed, self.done, self._log_counts = [], False, state.log_counts
        populations: dict[int, Population] = {}
        self._past = []
        for number in state.past.tolist():
            schedule = self._schedule_of(number)
            key = 0 if self._replay else number
            if key not in populations:
                populations[key] = Population(schedule, self._history)
            self._past.append(PastRound(number, schedule, populations[key]))
        for number, population in populations.items():
            slots, dues, items = state.posts[state.posts[:, 0] == number, 1:].T.copy()
            population.mail.post_all(slots, dues, items)
        self._start_clock(self._past[-1].schedule.stop if self._past else int(ticks(self.world.opening)))
        if not self._past:
            self._calibration = self._first_scores()
        else:
            for number, slot, due, item in state.pending.tolist():
                self._deliveries.schedule(Post(populations[number].mail, slot, due, np.array([item])))
            self._calibration = self._past_scores()
        self._open_round()

    # -- the clock ------------------------------------------------------------------------------------------------

    def _start_clock(self, tick: int) -> None:
        """A clock at a tick, with the releases that are still to come."""
        self._clock = Clock(tick)
        self._deliveries = Deliveries(self._clock, self._delay)
        self.released = self.world.release <= tick
        self._clock.start(self._release_items())

    def _release_items(self) -> Process:
        """Items come onto the market at their release ticks."""
        release = self.world.release
        for item in np.argsort(release, kind="stable").tolist():
            if release[item] > self._clock.now:
                yield self._clock.moment(int(release[item]), Rank.RELEASE)
            self.released[item] = True

    def _arrive(self, schedule: Schedule) -> Process:
        """The arrivals of a round, each at its tick."""
        for row, tick in enumerate(schedule.tick.tolist()):
            yield self._clock.moment(tick, Rank.ARRIVAL)
            self._arrived.append(row)

    def _retrain_at(self, tick: int) -> Process:
        """The end of a round."""
        yield self._clock.moment(tick, Rank.RETRAIN)
        self._over = True

    # -- rounds ---------------------------------------------------------------------------------------------------

    @property
    def n_arrivals(self) -> int:
        """Arrivals of the open round, N."""
        return len(self.schedule)

    @property
    def served(self) -> int:
        """Arrivals of the open round that have been served."""
        return self._n_served

    def _schedule_of(self, number: int) -> Schedule:
        if self._replay:
            return self._replay[number]
        config, world = self.config.arrivals, self.world
        draw = broadcast_schedule if config.kind == "broadcast" else clone_schedule
        return draw(config, world.past, world.past_sessions, world.opening, number, self.seeds.arrivals)

    def _capacity(self, schedule: Schedule) -> NDArray[np.int64] | None:
        return row_capacity(schedule.slot, self.config.slate, self.config.user_cap)

    def _open_round(self) -> None:
        config, world = self.config, self.world
        self.schedule = self._schedule_of(self.round)
        self.capacity = self._capacity(self.schedule)
        if self._replay and self._past:
            self._population = self._past[-1].population
        else:
            self._population = Population(self.schedule, self._history)
        self._consumer = self._make_consumer()
        if self._replay:
            slots, _, items = self._deliveries.pending(self._population.mail)
            self._consumer.take(slots, items)
        self._user = self.schedule.user[self.schedule.slot]
        self._slot: list[int] = self.schedule.slot.tolist()
        self._scorer = Scorer(self.model, self._population, world.release, self.device)
        self._scorer.encode(self.schedule.start)
        self._rows = ScoreAhead(self._scorer, self._population, self.schedule)
        self.ledger = Ledger(self.schedule, config.slate)
        self.short_way: tuple[Any, ...] | None = None
        """What :mod:`rimsim.market.lockstep` hands to compiled code at every arrival of the round."""
        self.exposure = np.zeros(self.n_items, np.int64)
        positions = len(self.schedule) * config.slate if self.capacity is None else int(self.capacity.sum())
        self.required = required_by_release(
            config.exposure, self.schedule, positions, world.release, self.seeds.arrivals, self.round
        )
        self.cost = config.exposure.cost * self._median_kth_score()
        self.popularity = self._log_counts
        self._arrived: deque[int] = deque()
        self._held: list[int] = []
        self._busy: set[int] = set()
        self._handed: set[int] = set()
        self._n_arrived = 0
        self._n_served = 0
        self._over = False
        self._clock.start(self._arrive(self.schedule))
        self._clock.start(self._retrain_at(self.schedule.stop))

    def _make_consumer(self) -> Consumer:
        config, world = self.config.consumer, self.world
        if world.truth is None:
            horizon = None if config.horizon is None else duration_seconds(config.horizon)
            return ReplayConsumer(world.log, world.sessions, self.schedule, horizon)
        return IntensityConsumer(
            world.truth,
            config,
            self.config.slate,
            self._population,
            self.schedule,
            world.release,
            self.seeds.choice,
        )

    def _close_round(self) -> None:
        """The platform retrains on its log; the states of the round become those that prices are solved on."""
        past = PastRound(self.round, self.schedule, self._population)
        self._past.append(past)
        self._forget()
        log = training_log(
            self.config.platform, self.world.past, self._past, self.schedule.stop, self.seeds.model
        )
        self._log_counts = np.bincount(log.item[log.targets], minlength=self.n_items)
        everyone = np.arange(len(self.schedule))
        self.closed.append(
            ClosedRound(
                number=self.round,
                ledger=self.ledger,
                required=self.required,
                cost=self.cost,
                log_counts=self._log_counts,
                relevant=self._consumer.relevant(everyone),
                counts_items=bool(self._replay) and self.world.truth is None,
                states=self._states_of(past, always(self.model)),
                rescale=rescale_of(self.model),
            )
        )
        self.round += 1
        if self.round == self.config.rounds:
            self.done = True
            return
        self._before = self.model
        if self.retrain and len(log):
            self.model = updated(self.model, log, ground=self.config.platform.retrain_ground)
        self._calibration = self._past_scores()
        self._open_round()

    def _first_scores(self) -> StateScores:
        """Warm-up states, for the prices of round 0."""
        if self._replay:
            crossed = self._crosses and not self._handed_in
            most = len(self._replay[0])
            return session_scores(
                self.config, self.world, self.model, most, self.seeds.model, crossed=crossed
            )
        schedule = self._schedule_of(-1)
        past = PastRound(-1, schedule, Population(schedule, self._history))
        return self._states_of(past, always(self.model))

    def _states_of(self, past: PastRound, models: FoldModels) -> StateScores:
        """The states of a round under some models."""
        states = PastStates.of_round(past, self._capacity(past.schedule))
        return StateScores(states, models, self.world.release, self.device, self.seeds.model)

    def _audience(self) -> StateScores | None:
        """The states of the open round, where they may be known beforehand."""
        if self.config.arrivals.kind != "broadcast" and not self.reveal_future:
            return None
        population = self._population
        if self._replay:  # what users do by themselves is known to those who know the future
            population = Population(self.schedule, self._history)
            everyone = np.arange(len(self.schedule))
            nothing = np.full((len(everyone), self.config.slate), -1)
            taken = self._consumer.taken(everyone, nothing, nothing >= 0)
            posts = [
                self._population.mail.posts(),
                self._deliveries.pending(self._population.mail),
                (self.schedule.slot[taken.row], self._deliveries.due(taken.tick), taken.item),
            ]
            slots, dues, items = (np.concatenate(part) for part in zip(*posts, strict=True))
            order = np.argsort(dues, kind="stable")
            population.mail.post_all(slots[order], dues[order], items[order])
        return self._states_of(PastRound(self.round, self.schedule, population), always(self.model))

    @property
    def _crosses(self) -> bool:
        """True if past states are to be scored by models that have not seen what they did next.

        A model whose p is the same for all states cannot remember what one of them did next. Prices would not bear the
        crossing either: they would make up for how its items differ between the fold and the model that serves.
        """
        return self.config.platform.calibration == "cross-fitted" and depends_on_state(self.model)

    def _past_scores(self) -> StateScores:
        """The states of the last round, with the models that score them for the prices of the next."""
        models = always(self.model)
        if self.retrain and self._crosses:
            models = cross_fitted(
                self.config.platform,
                self.world.past,
                self._past,
                self._before or self.model,
                self.seeds.model,
            )
        return self._states_of(self._past[-1], models)

    def _forget(self) -> None:
        """Let go of rounds that neither the log window nor the prices look at."""
        keep = self.config.platform.log_window.rounds
        if keep is not None and not self._replay:
            del self._past[:-keep]

    def _median_kth_score(self) -> float:
        """Median over last round's states of the k-th largest λ(x,y), scored by the serving model."""
        k, parts = self.config.slate, []
        for chunk in self._calibration.scored_by(always(self.model)):
            items = top_k(chunk.relevance, chunk.admissible, k)
            found = np.count_nonzero(items >= 0, axis=1)  # a row with fewer than k has its last for its k-th
            some = np.flatnonzero(found)
            best = at_items(chunk.relevance, items)[some, found[some] - 1]
            parts.append(best * chunk.ground_intensity.cpu().numpy()[some])
        scores = np.concatenate(parts) if parts else np.zeros(0)
        if not len(scores):
            return 1.0  # no past at all: any cost is as good
        median = float(torch.from_numpy(scores).double().quantile(0.5))
        if not median > 0:
            raise MarketError(
                f"the median k-th score of {len(scores)} past states is {median}: shortfall would cost nothing; "
                "allowed: a model that gives more than half of the states k items of positive intensity"
            )
        return median

    def round_view(self) -> RoundView:
        """What an agent may know of the open round."""
        return RoundView(
            round=self.round,
            arrivals=len(self.schedule),
            slate=self.config.slate,
            required=self.required.copy(),
            exposure=self.exposure.copy(),
            cost=self.cost,
            popularity=self.popularity.copy(),
            calibration=self._calibration,
            key=rng.derived_seed(self.seeds.agent, rng.Purpose.AGENT, self.round),
            audience=self._audience(),
        )

    # -- arrivals and slates --------------------------------------------------------------------------------------

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
        return self._arrivals(self._hand_out(limit, in_waves=in_waves))

    def _hand_out(self, limit: int | None, *, in_waves: bool = False) -> list[int]:
        """The rows of the next arrivals, which now wait for their slates."""
        if self.done:
            raise MarketError("next_arrivals: all rounds are over; allowed: while market.done is false")
        size = len(self.schedule) if limit is None else limit
        if size < 1:
            raise MarketError(f"next_arrivals: limit is {limit}; allowed: at least 1")
        rows = self._next_rows(size, in_waves=in_waves)
        if not rows:
            raise MarketError(
                f"next_arrivals: {len(self._handed)} arrivals were handed out and not served; "
                "allowed: serve them first"
            )
        self._handed.update(rows)
        return rows

    def _hand_out_one(self) -> int:
        """The row of the next arrival, which now waits for its slate; the short way where all others were served."""
        if self._handed or self._held or self.done:
            return self._hand_out(1)[0]
        while not self._arrived:
            self._clock.step()
        row = self._arrived.popleft()
        self._n_arrived += 1
        self._busy.add(self._slot[row])
        self._handed.add(row)
        return row

    def _let_go_of(self, rows: NDArray[np.int64]) -> None:
        """Arrivals that were served wait no longer."""
        self._handed.difference_update(rows.tolist())
        self._busy.difference_update(self.schedule.slot[rows].tolist())
        self._rows.drop(rows)

    def _let_go_of_one(self, row: int) -> None:
        """:meth:`_let_go_of` for one."""
        self._handed.discard(row)
        self._busy.discard(self._slot[row])
        self._rows.drop(row)

    def _next_rows(self, size: int, *, in_waves: bool) -> list[int]:
        slot = self._slot
        barrier = len(self.schedule)
        if self.barrier_every is not None:
            barrier = min(barrier, (self._n_served // self.barrier_every + 1) * self.barrier_every)
        chosen: list[int] = []
        waiting: list[int] = []
        held = iter(self._held)
        while len(chosen) < size:
            row = next(held, None)
            if row is None:
                if self._n_arrived == barrier:
                    break
                while not self._arrived:
                    self._clock.step()
                row = self._arrived.popleft()
                self._n_arrived += 1
            who = slot[row]
            if who not in self._busy:
                self._busy.add(who)
                chosen.append(row)
                continue
            waiting.append(row)
            if not in_waves:
                break
        self._held = waiting + list(held)
        return chosen

    def _arrivals(self, rows: list[int]) -> Arrivals:
        index = np.array(rows)
        scores = self._rows.rows(index)
        capacity = None if self.capacity is None else self.capacity[index]
        if capacity is not None:
            scores = scores.only(capacity > 0)
        return Arrivals(
            id=self.schedule.id[index],
            time=seconds(self.schedule.tick[index]),
            user=self._user[index],
            relevance=scores.relevance,
            ground_intensity=scores.ground,
            admissible=scores.admissible,
            index=index,
            true_intensity=self._consumer.true_intensity(index).to(self.device)
            if self.reveal_truth
            else None,
            capacity=capacity,
        )

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
        rows = arrivals.index
        if not self._handed.issuperset(rows.tolist()) or len(set(rows.tolist())) != len(rows):
            raise MarketError(
                "serve: found arrivals that are not waiting; allowed: those of next_arrivals, once"
            )
        answer = checked_slates(
            arrivals, as_slates(slates), self.config.slate, self.n_items, self.round, empty=invalid == "empty"
        )
        if arrivals.capacity is not None:
            answer = within_capacity(answer, arrivals.capacity)
        response = self._consumer.respond(rows, answer.items)
        relevance = at_items(arrivals.relevance, answer.items)
        ground = arrivals.ground_intensity.cpu().numpy()
        self._enter(rows, answer, response, relevance * ground[:, None], ground)
        return Feedback(arrivals, answer.items, response.consumed)

    def _enter(
        self,
        rows: NDArray[np.int64],
        answer: Slates,
        response: Response,
        intensity: NDArray[np.float32],
        ground: NDArray[np.float32],
    ) -> None:
        """Write down what was shown and consumed, and let it have its effects."""
        self.ledger.write(rows, answer, response, intensity, ground)
        count_items(answer.items, self.exposure)
        self._let_go_of(rows)
        taken = self._consumer.taken(rows, answer.items, response.consumed)
        slots = self.schedule.slot[taken.row]
        self._deliveries.send_all(self._population.mail, slots, taken.tick, taken.item)
        self._count_served(len(rows))

    def _count_served(self, n: int) -> None:
        """Go on to the next round if these were the last arrivals of this one."""
        self._n_served += n
        if self._n_served == len(self.schedule):
            self._finish_round()

    def _finish_round(self) -> None:
        """Let the clock run to the retraining that ends the round."""
        while not self._over:
            self._clock.step()
        self._close_round()
