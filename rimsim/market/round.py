"""One open round: who is next, what is known of him, what he is shown, and what comes of it."""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints
from rimsim.durations import seconds
from rimsim.errors import AgentError, MarketError
from rimsim.market.clock import Rank
from rimsim.market.consumers.answers import organic_of, response_of, true_intensity_of
from rimsim.market.consumers.contract import NOTHING, Response, Visits
from rimsim.market.foretold import ScoreForetold
from rimsim.market.ledger import Ledger
from rimsim.market.records import Arrivals
from rimsim.market.score_cache import ScoreAhead
from rimsim.market.scoring import Scorer
from rimsim.market.serving import beyond_capacity, count_items, emptied, wrong_positions

if TYPE_CHECKING:
    import torch

    from rimsim.intensity.contract import IntensityModel
    from rimsim.intensity.states import UserStates
    from rimsim.market.arrivals.schedule import Schedule
    from rimsim.market.clock import Clock, Process
    from rimsim.market.consumers.contract import Consumer, Organic
    from rimsim.market.histories import Histories
    from rimsim.market.needs import Needs
    from rimsim.market.records import Slates
    from rimsim.market.scoring import ScoreRows
    from rimsim.market.world import World
    from rimsim.requirements.carry_over import RoundRequirements


class OpenRound:
    """A round whose arrivals are being served.

    Args:
        number: Its number, from 0.
        world: The log.
        consumer: Who decides what is consumed.
        schedule: The arrivals.
        histories: What the visitors have consumed so far; lengthened by what they consume.
        model: Scores states.
        device: Where scores live.
        clock: Moves on as arrivals come.
        k: Positions of a slate.
        capacity: (n,) positions that each visit may fill; None: all.
        delay: Ticks after which a consumption becomes known, beside the one that it always takes.
        choice_seed: Seed of consumers' draws.
        promised: What is asked for.
        release: (M,) tick from which each item can be shown.
        popularity: (M,) events of each item in the platform's log.
    """

    def __init__(
        self,
        number: int,
        world: World,
        consumer: Consumer,
        schedule: Schedule,
        histories: Histories,
        model: IntensityModel,
        device: torch.device,
        clock: Clock,
        *,
        k: int,
        capacity: Ints | None,
        delay: int,
        choice_seed: int,
        promised: RoundRequirements,
        release: Ints,
        popularity: Ints,
    ) -> None:
        self.number = number
        self.schedule = schedule
        self.histories = histories
        self.promised = promised
        self.required = promised.required
        """(M,) required exposures, in the unit of the guarantee."""
        self.exposure = np.zeros(world.log.n_items)
        """(M,) exposures so far, in the unit of the guarantee."""
        self.capacity = capacity
        self.ledger = Ledger(schedule, k)
        self._world = world
        self._consumer = consumer
        self._popularity = popularity
        self._device = device
        self._wait = delay + 1
        self.hits_only = bool(getattr(consumer, "hits_only", False))
        """Consumption is a hit in what visitors do anyway, and does not enter their histories."""
        self._foretold = bool(getattr(consumer, "foretold", False))
        """All that enters the histories of the round is known as it opens, and is entered when it is over."""
        self._keys = rng.bits(choice_seed, rng.Purpose.CHOICE, schedule.id)
        self._user = schedule.user[schedule.slot]
        self._slot: list[int] = schedule.slot.tolist()
        self._shown = np.zeros(len(schedule), bool)
        """(n,) which arrivals have been served."""
        self._foreseen: Histories | None = None
        self._known = histories
        """What the platform knows of the visitors when they come."""
        if self._foretold:
            self._known = self._foreseen = self.foreseen_histories()
        scorer = Scorer(model, self._known, release, device)
        scorer.encode(schedule.start)
        self._scores: ScoreAhead | ScoreForetold = (ScoreForetold if self._foretold else ScoreAhead)(
            scorer, self._known, schedule
        )
        self._told: tuple[Ints, ScoreRows] | None = None
        """The arrivals whose scores were asked for last, and these."""
        self._arrived: deque[int] = deque()
        self._held: dict[int, deque[int]] = {}
        """By slot, rows that arrived and wait for an earlier visit of the same user."""
        self._ready: list[int] = []
        """A heap of the first held row of each slot that is not busy."""
        self._handed: set[int] = set()
        """Rows that wait for their slates."""
        self._busy: set[int] = set()
        """Their slots."""
        self._n_arrived = self.served = 0
        """Arrivals that have come, and that have been served."""
        self._entered_before = int(histories.events.size[0])
        self._over = False
        self._clock = clock
        clock.start(self._arrive())
        clock.start(self._end())

    def _arrive(self) -> Process:
        """The arrivals, each at its tick."""
        for row, tick in enumerate(self.schedule.tick.tolist()):
            yield self._clock.moment(tick, Rank.ARRIVAL)
            self._arrived.append(row)

    def _end(self) -> Process:
        """The retraining that ends the round."""
        yield self._clock.moment(self.schedule.stop, Rank.RETRAIN)
        self._over = True

    @property
    def untouched(self) -> bool:
        """Nobody has arrived yet."""
        return not self._n_arrived and not self._held

    @property
    def all_served(self) -> bool:
        """No arrival is left."""
        return self.served == len(self.schedule)

    @property
    def entered(self) -> int:
        """Events that have entered the visitors' histories since the round began."""
        return int(self.histories.events.size[0]) - self._entered_before

    def run_out(self) -> None:
        """Let the clock run to the retraining that ends the round."""
        while not self._over:
            self._clock.step()
        if self._foretold:
            self._append(self.histories, self._organic(self.visits(np.arange(len(self.schedule)))))

    def delivered(self) -> Floats:
        """(J,) exposures so far that count for each row of the promises."""
        return self.promised.delivered(self.ledger.item)

    def visits(self, rows: Ints) -> Visits:
        """Arrivals of the round as consumers see them."""
        return Visits(rows, self.schedule, self.histories, self._world, self._keys, self._popularity)

    def settled(self) -> Ints:
        """(n,) tick from which the platform knows what came of each slate of the round."""
        tells = getattr(self._consumer, "settled", None)
        known = self.schedule.tick if tells is None else tells(self.visits(np.arange(len(self.schedule))))
        return np.asarray(known + self._wait, np.int64)

    # -- who is next --------------------------------------------------------------------------------------------------

    def hand_out(self, limit: int, barrier_every: int | None = None, *, in_waves: bool = False) -> Ints:
        """The rows of the next arrivals, which then wait for their slates.

        Args:
            limit: At most so many.
            barrier_every: None of them crosses a multiple of so many.
            in_waves: Visits of a user who waits for a slate are held back, and later users go first.

        Raises:
            MarketError: If all that could come next waits for arrivals that were handed out.
        """
        rows = self._next_rows(limit, barrier_every, in_waves=in_waves)
        if not rows:
            raise MarketError(
                f"next_arrivals: {len(self._handed)} arrivals were handed out and not served; "
                "allowed: serve them first"
            )
        self._handed.update(rows)
        return np.array(rows)

    def scores(self, rows: Ints) -> ScoreRows:
        """What the model says of some arrivals, of different users each."""
        scores = self._scores.rows(rows)
        if self.capacity is not None:
            scores = scores.only(self.capacity[rows] > 0)
        self._told = rows, scores
        return scores

    def _scores_told(self, rows: Ints) -> ScoreRows:
        """What was said of some arrivals that wait; most often they are those that were asked about last."""
        if self._told is not None and (self._told[0] is rows or np.array_equal(self._told[0], rows)):
            return self._told[1]
        return self.scores(rows)

    def arrivals(self, rows: Ints, scores: ScoreRows, needs: Needs) -> Arrivals:
        """Some arrivals as agents see them, with copies of their scores: what an agent writes into them is its own.

        Args:
            rows: (n,) which.
            scores: What the model says of them.
            needs: What else is filled in.
        """
        relevance, ground, admissible = scores.tensors
        true = None
        if needs.truth:
            true = true_intensity_of(self._consumer, self.visits(rows), len(self.exposure))
        return Arrivals(
            id=self.schedule.id[rows],
            time=seconds(self.schedule.tick[rows]),
            user=self._user[rows],
            relevance=relevance.clone(),
            ground_intensity=ground.clone(),
            admissible=admissible.clone(),
            index=rows.copy(),
            true_intensity=None if true is None else true.to(self._device),
            capacity=None if self.capacity is None else self.capacity[rows],
            audiences=None if self.promised.counted is None else self.promised.counted[rows],
            history=self._known_of(rows) if needs.history else None,
        )

    def _known_of(self, rows: Ints) -> UserStates:
        """The states of arrivals, as the platform knows them when they come."""
        slots, ticks = self.schedule.slot[rows], self.schedule.tick[rows]
        return self._known.states(slots, self._known.visible_at(slots, ticks), ticks)

    def _next_rows(self, limit: int, barrier_every: int | None, *, in_waves: bool) -> list[int]:
        barrier = len(self.schedule)
        if barrier_every is not None:
            barrier = min(barrier, (self.served // barrier_every + 1) * barrier_every)
        chosen: list[int] = []
        blocked = math.inf if in_waves else self._first_blocked()
        while len(chosen) < limit and self._ready and self._ready[0] < blocked:
            row = heapq.heappop(self._ready)
            slot = self._slot[row]
            later = self._held[slot]
            later.popleft()
            if not later:
                del self._held[slot]
            elif not in_waves:
                blocked = min(blocked, later[0])
            self._busy.add(slot)
            chosen.append(row)
        while len(chosen) < limit and blocked == math.inf and self._n_arrived < barrier:
            while not self._arrived:
                self._clock.step()
            row = self._arrived.popleft()
            self._n_arrived += 1
            slot = self._slot[row]
            if slot not in self._busy:
                self._busy.add(slot)
                chosen.append(row)
                continue
            self._held.setdefault(slot, deque()).append(row)
            if not in_waves:
                break
        return chosen

    def _first_blocked(self) -> float:
        """The earliest row that waits for an earlier visit of its user; ∞ where none does."""
        return min((rows[0] for slot, rows in self._held.items() if slot in self._busy), default=math.inf)

    # -- what is shown, and what comes of it --------------------------------------------------------------------------

    def show(self, rows: Ints, slates: Slates, *, empty: bool) -> tuple[Ints, Bools]:
        """Show slates to arrivals that wait, write down what is consumed, and let it have its effects.

        Args:
            rows: (n,) the arrivals.
            slates: Their slates.
            empty: Empty a repeated or inadmissible position; false refuses it.

        Returns:
            (n, k) the items shown, and whether each was consumed.

        Raises:
            AgentError: If the slates have another shape, or hold what is no admissible item.
            MarketError: If the arrivals were not handed out or were served before.
        """
        waiting = set(rows.tolist())
        if not self._handed.issuperset(waiting) or len(waiting) != len(rows):
            raise MarketError(
                "serve: found arrivals that are not waiting; allowed: those of next_arrivals, once"
            )
        self._require_shape(slates, rows)
        if not len(rows):
            return slates.items, np.zeros(slates.items.shape, bool)
        scores = self._scores_told(rows)
        relevance, admissible = scores.at(slates.items)
        wrong = wrong_positions(slates.items, admissible, len(self.exposure))
        if wrong is not None:
            if not empty:
                raise self._refusal(rows, slates, admissible, wrong)
            slates = emptied(slates, wrong)
        if self.capacity is not None:
            slates = emptied(slates, beyond_capacity(slates.items, self.capacity[rows]))
        visits = self.visits(rows)
        response = self.respond(visits, slates.items)
        organic = NOTHING if self._foretold else self._organic(visits)
        self.ledger.write(rows, slates, response, relevance, scores.ground)
        count_items(slates.items, self.promised.weights, self.exposure)
        if not self.hits_only and np.count_nonzero(response.consumed):
            known = self.schedule.tick[rows] + self._wait
            self.histories.append_marked(visits.slot, known, slates.items, response.consumed)
        self._append(self.histories, organic)
        self._shown[rows] = True
        self._handed -= waiting
        for slot in self.schedule.slot[rows].tolist():
            self._busy.discard(slot)
            if slot in self._held:
                heapq.heappush(self._ready, self._held[slot][0])
        self._scores.drop(rows)
        self.served += len(rows)
        return slates.items, response.consumed

    def respond(self, visits: Visits, slates: Ints) -> Response:
        """What visits make of their slates.

        Raises:
            MarketError: If the consumer answers anything else.
        """
        response = response_of(self._consumer, visits, slates)
        if self._wait > 1 and not self.hits_only:
            return self._without_repeats(visits, slates, response)
        return response

    def _without_repeats(self, visits: Visits, slates: Ints, response: Response) -> Response:
        """The response without what a visitor has consumed before; with a delay, agents may show it again."""
        row, item = visits.in_market()
        n_items = len(self.exposure)
        pairs = np.arange(len(slates))[:, None] * n_items + slates
        fresh = ~np.isin(pairs, row * n_items + item)
        return Response(response.consumed & fresh, response.probability * fresh, response.intensity * fresh)

    def _organic(self, visits: Visits) -> Organic:
        """What visitors do by themselves."""
        return organic_of(self._consumer, visits, len(self.exposure))

    def _append(self, histories: Histories, organic: Organic) -> None:
        """Enter what visitors do by themselves."""
        if len(organic.row):
            histories.append(self.schedule.slot[organic.row], organic.tick + self._wait, organic.item)

    def _require_shape(self, slates: Slates, rows: Ints) -> None:
        shape = (len(rows), self.ledger.item.shape[1])
        if slates.items.shape != shape:
            first = f", the first {int(self.schedule.id[rows[0]])}" if len(rows) else ""
            raise AgentError(
                f"slates have shape {slates.items.shape}; allowed: {shape}, a row an arrival{first}"
            )

    def _refusal(self, rows: Ints, slates: Slates, admissible: Bools, wrong: Bools) -> AgentError:
        """The error that names the first item which may not be shown."""
        row, position = np.argwhere(wrong)[0].tolist()
        item, most = int(slates.items[row, position]), len(self.exposure)
        kind = "repeated" if 0 <= item < most and admissible[row, position] else "inadmissible"
        return AgentError(
            f"slate of arrival {int(self.schedule.id[rows[row]])} in round {self.number}: position {position + 1} "
            f"holds {kind} item {item}; allowed: distinct admissible items from 0 to {most - 1}, or -1 for empty"
        )

    def foreseen_histories(self) -> Histories:
        """The histories as they will be at the round's end as far as slates do not move them."""
        if self._foreseen is not None:
            return self._foreseen
        histories = self.histories.copy()
        self._append(histories, self._organic(self.visits(np.flatnonzero(~self._shown))))
        return histories
