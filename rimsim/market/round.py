"""Round: its plan, its arrivals and their slates."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from rimsim import rng
from rimsim.arrays import Array, Bools, Float32s, Floats, Ints, seconds
from rimsim.config import ScenarioConfig
from rimsim.errors import AgentError, MarketError
from rimsim.evaluation import DecayEstimate
from rimsim.intensity.contract import IntensityModel, rescale_of
from rimsim.market.consumers.contract import (
    NOTHING,
    Consumer,
    ConsumerCapabilities,
    Hits,
    Law,
    Organic,
    SlateVisits,
    World,
    law_of,
    organic_of,
    relevant_items,
    response_of,
    true_intensity_of,
)
from rimsim.market.consumers.preference import TruthScores
from rimsim.market.ledger import Histories, Ledger, LoggedPast, PastRound
from rimsim.market.providers import Changes, Offer
from rimsim.market.records import (
    Arrivals,
    Needs,
    Response,
    Schedule,
    Slates,
    beyond_capacity,
    count_items,
    emptied,
    require_numbers,
    row_capacity,
    wrong_positions,
)
from rimsim.market.scores import (
    KEPT_CELLS,
    ArrivalScores,
    PrecomputedScores,
    Scorer,
    ScoreRows,
    StateScores,
    device_of,
)
from rimsim.market.shared import SharedScores, digest_of
from rimsim.matching.certificates import BestValues
from rimsim.renamed import renamed_attribute
from rimsim.requirements.rows import CarryOver, RoundRequirements, ScenarioRequirements


# -- the clock --------------------------------------------------------------------------------------------------------
class Rank(IntEnum):
    """Ranks that order events of the same tick.

    SimPy reserves ranks 0 and 1. Of two events with the same rank, the one that was scheduled first goes
    first. Releases of items, and consumptions that become visible, need no events. An arrival sees releases
    and consumptions of its own tick. A retraining ignores consumptions that become visible at its tick.
    """

    RETRAIN = 2
    ARRIVAL = 3


_ARRIVAL = Rank.ARRIVAL  # a look-up in the class takes as long as an event


class Moment(simpy.Event):
    """SimPy event at an absolute tick, with a rank."""

    def __init__(self, env: simpy.Environment, tick: int, rank: Rank) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        # Whole ticks: now + (tick - now) is exactly tick, so the order never depends on rounding.
        env.schedule(self, rank, tick - env.now)  # type: ignore[arg-type]


class Arriving:
    """Arrivals in clock order, with one open visit per user."""

    def __init__(self, schedule: Schedule, env: simpy.Environment) -> None:
        self._schedule, self._env = schedule, env
        self.slot: list[int] = schedule.slot.tolist()
        self.tick: list[int] = schedule.tick.tolist()
        self._held: dict[int, deque[int]] = {}
        """By slot, rows that arrived and wait for an earlier visit of the same user."""
        self._ready: list[int] = []
        """A heap of the first held row of each slot that is not busy."""
        self._handed: set[int] = set()
        """Rows that wait for their slates."""
        self._busy: set[int] = set()
        """Their slots."""
        self._n_come = self._n_arrived = self._served = 0
        """Arrivals that have come, that were taken off the clock, and that have been served."""
        self._record: Array | None = None
        """Record (1,) of compiled steps, which serve the arrivals in their order; None: there are none."""
        self._end = Moment(env, schedule.stop, Rank.RETRAIN)
        self._callbacks: list[Any] = [self._arrive]
        self._schedule_event: Any = env.schedule
        if self.tick:
            Moment(env, self.tick[0], Rank.ARRIVAL).callbacks = self._callbacks

    def _arrive(self, moment: simpy.Event) -> None:
        """Count an arrival, and schedule the event of the next."""
        # All arrivals share one event of SimPy: to make a new one takes as long as the rest of the clock.
        self._n_come = come = self._n_come + 1
        if come < len(self.tick):
            moment.callbacks = self._callbacks
            self._schedule_event(moment, _ARRIVAL, self.tick[come] - self.tick[come - 1])

    @property
    def served(self) -> int:
        """Number of served arrivals."""
        self._follow()
        return self._served

    def _follow(self) -> None:
        """Enter what compiled steps have served since the last look."""
        if self._record is not None:
            row = int(self._record["served"][0])
            if row > self._served:
                self._advance(row + 1)
                self._handed, self._busy, self._served = {row}, {self.slot[row]}, row

    def attach(self, record: Array) -> None:
        """Let compiled steps serve the waiting arrival and later ones."""
        self._record = record

    def keep_record(self) -> None:
        """Leave the record to another round, as compiled steps end."""
        if self._record is not None:
            self._record = self._record.copy()

    def detach(self) -> None:
        """End compiled steps."""
        self._follow()
        if self._record is not None:
            self._record["n"], self._record = 0, None

    @property
    def share(self) -> float:
        """Share of the round's arrivals that have been served."""
        return self.served / len(self.tick) if self.tick else 1.0

    @property
    def untouched(self) -> bool:
        """True if no arrival was handed to an agent yet."""
        return not self._n_arrived and not self._held

    def run_out(self) -> None:
        """Advance the clock to the end of the round."""
        while not self._end.processed:
            self._env.step()

    def take(self, limit: int, barrier_every: int | None = None, *, in_waves: bool = False) -> Ints:
        """Rows of the next arrivals, which now wait for slates.

        Args:
            in_waves: If true, other users go before the later visits of a user who waits for a slate.

        Raises:
            MarketError: If the next arrivals must wait for arrivals that have not been served.
        """
        rows = self._next_rows(limit, barrier_every, in_waves=in_waves)
        if not rows:
            raise MarketError(
                f"next_arrivals: {len(self._handed)} arrivals of the last call have not been served. "
                "Serve them first"
            )
        self._handed.update(rows)
        return np.array(rows)

    def _next_rows(self, limit: int, barrier_every: int | None, *, in_waves: bool) -> list[int]:
        barrier = len(self._schedule)
        if barrier_every is not None:
            barrier = min(barrier, (self._served // barrier_every + 1) * barrier_every)
        chosen: list[int] = []
        slots, busy, held = self.slot, self._busy, self._held
        waiting = (rows[0] for slot, rows in held.items() if slot in busy)
        blocked = math.inf if in_waves else min(waiting, default=math.inf)  # by an earlier visit
        while len(chosen) < limit and self._ready and self._ready[0] < blocked:
            row = heapq.heappop(self._ready)
            slot = slots[row]
            later = held[slot]
            later.popleft()
            if not later:
                del held[slot]
            elif not in_waves:
                blocked = min(blocked, later[0])
            busy.add(slot)
            chosen.append(row)
        if blocked < math.inf:
            return chosen
        row, left = self._n_arrived, limit - len(chosen)
        while left and row < barrier:
            slot = slots[row]
            if slot not in busy:
                busy.add(slot)
                chosen.append(row)
                left -= 1
            else:
                held.setdefault(slot, deque()).append(row)
                left = left if in_waves else 0
            row += 1
        self._advance(row)
        return chosen

    def _advance(self, n: int) -> None:
        """Take the round's first ``n`` arrivals off the clock."""
        step = self._env.step
        while self._n_come < n:
            step()
        self._n_arrived = n

    def require_waiting(self, rows: Ints) -> None:
        """Refuse rows that do not wait for slates."""
        waiting = set(rows.tolist())
        if not self._handed.issuperset(waiting) or len(waiting) != len(rows):
            raise MarketError(
                "serve: some of these arrivals are not waiting. Serve each arrival of next_arrivals once"
            )

    @property
    def in_order(self) -> bool:
        """True if the arrivals before the waiting one were served."""
        return not self._held and self._n_arrived == self.served + 1

    def finish(self, rows: Ints) -> None:
        """Allow the next visits of served users."""
        self._handed.difference_update(rows.tolist())
        slots = self._schedule.slot[rows].tolist()
        self._busy.difference_update(slots)
        for slot in self._held.keys() & slots:
            heapq.heappush(self._ready, self._held[slot][0])
        self._served += len(rows)


# -- the round --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class RoundTerms:
    """Plan of a round: its arrivals and requirements."""

    number: int
    slate: int
    """k, positions of a slate."""
    schedule: Schedule
    capacity: Ints | None
    """(n,) positions that each arrival may fill; None: all."""
    requirements: RoundRequirements
    release: Ints
    """(M,) tick from which each item can be shown."""

    @classmethod
    def of(
        cls,
        number: int,
        config: ScenarioConfig,
        schedule: Schedule,
        *,
        table: ScenarioRequirements,
        past: LoggedPast,
        before: CarryOver | None,
        position_weights: Floats,
        release: Ints,
    ) -> RoundTerms:
        """Plan of the round ``number`` with the arrivals of ``schedule``."""
        capacity = row_capacity(schedule.slot, config.slate, config.user_cap)
        requirements = table.round(
            number,
            schedule.visits(past.counts),
            before,
            forecast=schedule.expected_over_actual,
            capacity=capacity,
            position_weights=position_weights,
            release=release,
        )
        return cls(number, config.slate, schedule, capacity, requirements, release)

    @property
    def positions(self) -> Ints:
        """Positions that each arrival may fill."""
        return np.full(len(self.schedule), self.slate) if self.capacity is None else self.capacity


@dataclass(frozen=True, eq=False)
class RoundContext:
    """Log, truth and consumer that a market's rounds share."""

    world: World
    """The log, its past and the truth."""
    consumer: Consumer
    choice_seed: int
    """Seed of the consumer's draws."""
    delay: int
    """Ticks after which a consumption becomes known, in addition to the tick that it always takes."""
    shared: SharedScores | None
    """Scores of the world's other markets; None if the market has a model or a plug of its own."""


class Round:
    """Round of a market, from its opening to its close."""

    cost: float
    """c, shortfall cost of one exposure, in units of intensity. Known when the round is closed, like the rest."""
    offer: Offer
    """Providers who were there in the round."""
    changes: Changes
    """Providers who leave or come at its end."""
    log_counts: Ints
    """(M,) target events of each item in the log that the platform retrains on (or would, if it is frozen)."""
    relevant: Floats
    """(n,) items that each arrival would have consumed of the whole catalogue, or their expectation λ*(x)."""
    states: StateScores
    """States of the arrivals under the model that served them, scored on demand."""
    decay: DecayEstimate | None
    """The platform's estimate of γ at the round's end; None if γ is known, or before any evidence."""
    best: BestValues | None = None
    """Largest λ − v of each arrival, to be noted as batches are scored; None: they are not noted."""
    learnt: PastRound
    """Training data of the round: its own events, or a control's replacement."""
    learnt_events: int
    """Number of events in it, known by the round's end or later."""

    promised = renamed_attribute("promised", "requirements")

    def __init__(
        self,
        plan: RoundTerms,
        context: RoundContext,
        histories: Histories,
        model: IntensityModel,
        env: simpy.Environment,
        popularity: Ints,
    ) -> None:
        schedule = plan.schedule
        self.number = plan.number
        self.schedule = schedule
        self.histories = histories
        self.requirements = plan.requirements
        """Requirements of the round."""
        self.required, self.due = plan.requirements.required, plan.requirements.due
        """(M,) required exposures b_y and (J,) those that the round adds to each row's guarantee."""
        self.promises, self.position_weights = plan.requirements.table, plan.requirements.position_weights
        """Requirements in addition to ``required``, and (k,) weight of an exposure at each position."""
        self.capacity = plan.capacity
        """(n,) positions that each arrival may fill; None: all."""
        self.rescale = rescale_of(model)
        """Factor by which a refitted λ(x) was brought back to its old mean; 1 where it was not refitted."""
        self.exposure = np.zeros(len(plan.release))
        """(M,) exposures so far, in the unit of the guarantee."""
        self.ledger = Ledger(schedule, plan.slate)
        """All exposures and consumptions so far."""
        self._world, self._consumer = context.world, context.consumer
        self._can = ConsumerCapabilities.of(context.consumer)
        self.counts_items = self._can.hits_only
        """True if consumption is a hit in organic behaviour."""
        self._popularity = popularity
        self._device = device_of(model)
        self._wait = context.delay + 1
        self._keys = rng.bits(context.choice_seed, rng.Purpose.CHOICE, schedule.id)
        self._user = schedule.user[schedule.slot]
        self._shown = np.zeros(len(schedule), bool)
        """(n,) arrivals that have been served."""
        self._foreseen: Histories | None = None
        self._known = histories
        """Histories as the platform knows them when visitors come."""
        if self._can.exogenous:  # all that enters the histories of the round is known as it opens
            self._known = self._foreseen = self.foreseen_histories()
        scorer = Scorer(model, self._known, plan.release, self._device)
        scorer.encode(schedule.start)
        self._scores: ArrivalScores | None = self._scores_of_arrivals(scorer, model, context.shared)
        self._truth: TruthScores | None = None
        """Scores under the truth; None before it is asked."""
        self._reported: tuple[Ints, ScoreRows] | None = None
        """The arrivals whose scores were asked for last, and these scores."""
        self._law = self._law_of_answers()
        self._terms: dict[str, Any] = {}
        """Terms of compiled steps, which keep their arrays in memory; empty without such steps."""
        self._dropped = 0
        """Row before which scores of arrivals are dropped that compiled steps served."""
        self._entered_before = int(histories.events.size[0])
        self.arriving = Arriving(schedule, env)
        """Arrivals that come, wait for a slate, or are served."""

    def _scores_of_arrivals(
        self, scorer: Scorer, model: IntensityModel, shared: SharedScores | None
    ) -> ArrivalScores:
        """Scores of the round's arrivals, before any is computed."""
        known, schedule = self._known, self.schedule
        if not self._can.exogenous:
            return ArrivalScores(scorer, known, schedule)
        if shared is None or self.number or len(schedule) * scorer.n_items > KEPT_CELLS:
            return PrecomputedScores(scorer, known, schedule)
        kept: dict[int, NDArray[np.object_]] = shared.of("arrivals", model, digest_of(schedule, known), dict)
        return PrecomputedScores(scorer, known, schedule, kept)

    @property
    def delivered(self) -> Floats:
        """Exposures of each requirement so far in the round."""
        return self.requirements.delivered(self.ledger.item)

    def scores(self, rows: Ints) -> ScoreRows:
        """Scores of arrivals of different users."""
        assert self._scores is not None  # noqa: S101  # the round is open
        scores = self._scores.rows(rows)
        if self.best is not None:
            self.best.note_best(rows, *scores.arrays)
        if self.capacity is not None:
            scores = scores.only(self.capacity[rows] > 0)
        self._reported = rows, scores
        return scores

    def place(self, row: int) -> tuple[ScoreRows, int]:
        """Block with an arrival's scores, and the arrival's index."""
        if self.capacity is not None:
            return self.scores(np.array([row])), 0
        assert self._scores is not None  # noqa: S101  # the round is open
        return self._scores.place(row)

    def take(self, limit: int, barrier_every: int | None = None, *, in_waves: bool = False) -> Ints:
        """Rows of the next arrivals; see :meth:`Arriving.take`."""
        self.detach()
        return self.arriving.take(limit, barrier_every, in_waves=in_waves)

    def arrivals(self, rows: Ints, scores: ScoreRows, needs: Needs) -> Arrivals:
        """Arrivals as agents see them, with copies of their scores."""
        relevance, ground, admissible = scores.tensors
        true, history = None, None
        if needs.truth:
            true = true_intensity_of(self._consumer, self.visits(rows), len(self.exposure)).to(self._device)
        if needs.history:
            slots, ticks = self.schedule.slot[rows], self.schedule.tick[rows]
            history = self._known.states(slots, self._known.visible_at(slots, ticks), ticks)
        counted = self.requirements.counted
        return Arrivals(
            id=self.schedule.id[rows],
            time=seconds(self.schedule.tick[rows]),
            user=self._user[rows],
            relevance=relevance.clone(),
            ground_intensity=ground.clone(),
            admissible=admissible.clone(),
            row=rows.copy(),
            true_intensity=true,
            capacity=None if self.capacity is None else self.capacity[rows],
            audiences=None if counted is None else counted[rows],
            history=history,
        )

    def visits(self, rows: Ints) -> SlateVisits:
        """Arrivals as consumers see them."""
        return SlateVisits(
            rows, self.schedule, self.histories, self._world, self._keys, self._popularity, self._true_scores
        )

    def _true_scores(self, rows: Ints) -> tuple[Float32s, Float32s]:
        """True scores of arrivals: p* and λ*."""
        return self._truth_scores().of(rows)

    def _truth_scores(self) -> TruthScores:
        if self._truth is None:
            world = self._world
            assert world.truth is not None  # noqa: S101  # the consumer needs it
            given = self.histories, self.schedule, self._wait - 1, world.release
            self._truth = TruthScores.of_round(world.truth, *given)
        return self._truth

    # -- slates and their outcome -------------------------------------------------------------------------------------
    def show(self, rows: Ints, slates: Slates, *, empty: bool) -> tuple[Ints, Bools]:
        """Show slates to waiting arrivals, and record consumptions.

        Raises:
            AgentError: If the slates have another shape, or hold inadmissible items.
            MarketError: If the arrivals do not wait for slates, for example because they were served before.
        """
        self.detach()
        self.arriving.require_waiting(rows)
        shape = (len(rows), self.ledger.item.shape[1])
        if slates.items.shape != shape:
            first = f", the first {int(self.schedule.id[rows[0]])}" if len(rows) else ""
            raise AgentError(
                f"slates have shape {slates.items.shape}. Expected {shape}, one row per arrival{first}"
            )
        if not len(rows):
            return slates.items, np.zeros(slates.items.shape, bool)
        last = self._reported  # most often it was just asked for
        same = last is not None and (last[0] is rows or np.array_equal(last[0], rows))
        scores = last[1] if last is not None and same else self.scores(rows)
        relevance, admissible = scores.at(slates.items)
        wrong = wrong_positions(slates.items, admissible, len(self.exposure))
        if wrong is not None:
            if not empty:
                raise self._refusal(rows, slates, admissible, wrong)
            slates = emptied(slates, wrong)
        if self.capacity is not None:
            slates = emptied(slates, beyond_capacity(slates.items, self.capacity[rows]))
        require_numbers(slates)
        visits = self.visits(rows)
        response = self.respond(visits, slates.items)
        organic = NOTHING if self._can.exogenous else organic_of(self._consumer, visits, len(self.exposure))
        self.ledger.write(rows, slates, response, relevance, scores.ground)
        count_items(slates.items, self.requirements.position_weights, self.exposure)
        if not self._can.hits_only and np.count_nonzero(response.consumed):
            known = self.schedule.tick[rows] + self._wait
            self.histories.append_marked(visits.slot, known, slates.items, response.consumed)
        self._append(self.histories, organic)
        self._shown[rows] = True
        self.arriving.finish(rows)
        assert self._scores is not None  # noqa: S101  # the round is open
        self._scores.drop(rows)
        if self._truth is not None:
            self._truth.drop(rows)
        return slates.items, response.consumed

    def _law_of_answers(self) -> Law | Hits | None:
        """Law by which compiled steps sample consumption, or None."""
        delayed = self._wait > 1 and not self._can.hits_only
        if delayed or self.capacity is not None or self._device.type != "cpu":
            return None
        return law_of(self._consumer, self._world, self.ledger.item.shape[1], self.schedule.session)

    def record_terms(self) -> dict[str, Any] | None:
        """Terms of compiled steps; None if only :meth:`show` can serve."""
        law, scores, schedule = self._law, self._scores, self.schedule
        if law is None or scores is None or not self.arriving.in_order:
            return None
        self.histories.make_room(2 * self.ledger.item.shape[1])
        of_ledger = ("item", "consumed", "probability", "true_intensity", "intensity", "ground")
        terms: dict[str, Any] = {name: getattr(self.ledger, name) for name in of_ledger}
        terms |= scores.columns() | {"shown": self._shown, "exposure": self.exposure, "keys": self._keys}
        terms |= {f"event_{name}": column for name, column in self.histories.events._asdict().items()}
        whole = {name: getattr(schedule, name) for name in ("tick", "id", "slot", "session")}
        real = {"required": self.required, "position_weights": self.position_weights}
        if isinstance(law, Law):
            real["examination"], terms["attraction"] = law.examination, law.attraction
            terms |= {f"true_{name}": column for name, column in self._truth_scores().columns().items()}
        else:
            whole |= {"offsets": law.offsets, "future": law.item}
        terms |= {name: np.ascontiguousarray(column, np.int64) for name, column in whole.items()}
        terms |= {name: np.ascontiguousarray(column, np.float64) for name, column in real.items()}
        sizes = {"n": len(schedule), "m": len(self.exposure), "slots": len(self.histories)}
        terms |= sizes | {"round": self.number}
        terms |= {"by_law": isinstance(law, Law), "fixed": self._can.exogenous, "wait": self._wait}
        return terms | {"room": len(terms["event_item"]), "served": self.arriving.served}

    @property
    def attached(self) -> bool:
        """True if compiled steps serve the arrivals."""
        return bool(self._terms)

    def attach(self, record: Array, terms: dict[str, Any]) -> None:
        """Let compiled steps serve, by a record with these terms."""
        self._terms, self._dropped = terms, self.arriving.served
        self.arriving.attach(record)
        self.score_waiting()

    def detach(self) -> None:
        """End compiled steps, so that :meth:`show` serves."""
        if self.attached:
            self._drop_served()
            self._terms = {}
            self.arriving.detach()

    def score_waiting(self) -> None:
        """Score the arrival that waits for a compiled step."""
        self._drop_served()
        row = self.arriving.served
        self.place(row)
        if isinstance(self._law, Law):
            self._truth_scores().place(row)

    def _drop_served(self) -> None:
        """Drop the scores of arrivals that compiled steps have served."""
        row = self.arriving.served - 1  # its scores belong to its feedback
        rows, self._dropped = np.arange(self._dropped, row), max(self._dropped, row)
        for scores in (self._scores, self._truth):
            if scores is not None:
                scores.drop(rows)

    def respond(self, visits: SlateVisits, slates: Ints) -> Response:
        """Response of the visits to their slates.

        Raises:
            MarketError: If the consumer does not return a valid response.
        """
        response = response_of(self._consumer, visits, slates)
        if self._wait == 1 or self._can.hits_only:
            return response
        # With a delay, agents may show again what a visitor has consumed; it is not consumed twice.
        row, item = visits.in_market()
        n_items = len(self.exposure)
        pairs = np.arange(len(slates))[:, None] * n_items + slates
        fresh = ~np.isin(pairs, row * n_items + item)
        return Response(response.consumed & fresh, response.probability * fresh, response.intensity * fresh)

    def _organic(self, rows: Ints) -> Organic:
        return organic_of(self._consumer, self.visits(rows), len(self.exposure))

    def _append(self, histories: Histories, organic: Organic) -> None:
        """Add organic consumptions to histories."""
        if len(organic.row):
            histories.append(self.schedule.slot[organic.row], organic.tick + self._wait, organic.item)

    def _refusal(self, rows: Ints, slates: Slates, admissible: Bools, wrong: Bools) -> AgentError:
        """Error that names the first inadmissible item."""
        row, position = np.argwhere(wrong)[0].tolist()
        item, most = int(slates.items[row, position]), len(self.exposure)
        kind = "repeated" if 0 <= item < most and admissible[row, position] else "inadmissible"
        return AgentError(
            f"slate of arrival {int(self.schedule.id[rows[row]])} in round {self.number}: position {position + 1} "
            f"holds {kind} item {item}. Expected distinct admissible items from 0 to {most - 1}, or -1 for empty"
        )

    def foreseen_histories(self) -> Histories:
        """Histories at the round's end, without effects of slates."""
        if self._foreseen is not None:
            return self._foreseen
        histories = self.histories.copy()
        self._append(histories, self._organic(np.flatnonzero(~self._shown)))
        return histories

    # -- the end ------------------------------------------------------------------------------------------------------
    def run_out(self) -> None:
        """Advance the clock to the end of the round."""
        self.arriving.run_out()
        if self._can.exogenous:
            self._append(self.histories, self._organic(np.arange(len(self.schedule))))

    def settled(self) -> Ints:
        """Tick from which the platform knows each slate's outcome."""
        settled = self._can.settled
        known = self.schedule.tick if settled is None else settled(self.visits(np.arange(len(self.schedule))))
        return np.asarray(known + self._wait, np.int64)

    def _require_drawn(self) -> None:
        """Refuse consumptions that are implausible under their probabilities."""
        came, chance = int(self.ledger.consumed.sum()), self.ledger.probability
        expected, spread = float(chance.sum()), float(np.sqrt((chance * (1 - chance)).sum()))
        if abs(came - expected) > 10 * spread + 5 and not expected / 2 <= came <= 2 * expected:
            raise MarketError(
                f"{type(self._consumer).__name__}.respond: it returned {came:,} consumptions, but its probabilities "
                f"add up to {expected:,.1f}. Draw the consumptions with the same probabilities that respond returns"
            )

    def close(
        self,
        *,
        cost: float,
        offer: Offer,
        changes: Changes,
        own: PastRound,
        learnt: PastRound,
        log_counts: Ints,
        states: StateScores,
        decay: DecayEstimate | None,
    ) -> None:
        """Close the round: keep its records and drop its scores."""
        # ``own`` are the events of the round itself; the others become attributes.
        self.cost, self.offer, self.changes = cost, offer, changes
        self.learnt, self.log_counts, self.states, self.decay = learnt, log_counts, states, decay
        self.learnt_events = int(learnt.histories.events.size[0])
        if learnt is own:  # users who persist bring the events of earlier rounds
            self.learnt_events -= self._entered_before
        self._require_drawn()
        everyone = self.visits(np.arange(len(self.schedule)))
        self.relevant = relevant_items(self._consumer, everyone, len(self.exposure))
        self._scores = self._truth = self._reported = self._foreseen = None
        self._known = self.histories
