"""Open round: its plan, its arrivals and their slates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rimsim import rng
from rimsim.arrays import Array, Bools, Float32s, Floats, Ints, seconds
from rimsim.config import ScenarioConfig
from rimsim.errors import AgentError, MarketError
from rimsim.evaluation import DecayEstimate
from rimsim.intensity.contract import IntensityModel, rescale_of
from rimsim.market.closed_round import ClosedRound
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
from rimsim.market.consumers.preference import Appeal, RoundTruths, TruthScores
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.ledger import Ledger
from rimsim.market.past_round import PastRound
from rimsim.market.providers import Changes, RoundOutcome
from rimsim.market.records import (
    Arrivals,
    Needs,
    Response,
    Schedule,
    ScoredStates,
    Slates,
    emptied,
    require_numbers,
    row_capacity,
    running_count,
)
from rimsim.market.scores.arrivals import KEPT_CELLS, ArrivalScores, PrecomputedScores, ScoreColumns
from rimsim.market.scores.block import ScoreRows
from rimsim.market.scores.past import StateScores
from rimsim.market.scores.scorer import Scorer, device_of
from rimsim.market.serving import Responder, RoundColumns, enter_slates
from rimsim.market.shared import SharedScores, digest_of
from rimsim.market.simulation import Simulation
from rimsim.market.slates import beyond_capacity, wrong_positions
from rimsim.matching.certificates import BestValues
from rimsim.requirements.audiences import RoundVisits
from rimsim.requirements.on_offer import TimesOnOffer
from rimsim.requirements.rows import CarryOver, RoundRequirements, ScenarioRequirements


@dataclass(frozen=True, eq=False)
class RoundTerms:
    """Plan of a round: its arrivals and requirements."""

    number: int
    """Number of the round, from 0."""
    slate: int
    """k, the number of positions of a slate."""
    schedule: Schedule
    """Arrivals of the round."""
    visits: RoundVisits
    """The arrivals as requirements see them."""
    capacity: Ints | None
    """(n,) positions that each arrival may fill; None: all k positions."""
    requirements: RoundRequirements
    """Requirements of the round."""
    times: TimesOnOffer
    """Times at which items can be shown."""

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
        times: TimesOnOffer,
    ) -> RoundTerms:
        """Plan of the round ``number`` with the arrivals of ``schedule``."""
        capacity = row_capacity(schedule.slot, config.slate, config.user_cap)
        visits = schedule.visits(past.counts)
        requirements = table.round(
            number,
            visits,
            before,
            forecast=schedule.expected_over_actual,
            capacity=capacity,
            position_weights=position_weights,
            times=times,
        )
        return cls(
            number=number,
            slate=config.slate,
            schedule=schedule,
            visits=visits,
            capacity=capacity,
            requirements=requirements,
            times=times,
        )

    @property
    def positions(self) -> Ints:
        """Positions that each arrival may fill."""
        return np.full(len(self.schedule), self.slate) if self.capacity is None else self.capacity


@dataclass(frozen=True, eq=False)
class RoundContext:
    """Log, truth and consumer that a market's rounds share."""

    world: World
    """World of the market: the log, its past and the truth."""
    consumer: Consumer
    """Choice model of the visitors."""
    choice_seed: int
    """Seed of the consumer's draws."""
    delay: int
    """Number of ticks until a consumption is known, in addition to the tick that always passes."""
    shared: SharedScores | None
    """Scores that the world's markets share; None if the market has a model or a plug of its own."""
    opening_model: IntensityModel
    """Model with which the platform opened, before any retraining."""


@dataclass(frozen=True, eq=False)
class _Reported:
    """Arrivals whose scores were asked for last, and these scores."""

    rows: Ints
    """Rows of the arrivals in the schedule."""
    scores: ScoreRows
    """Scores of these arrivals."""


@dataclass(frozen=True, eq=False)
class _Answered:
    """Visits with their slates and responses, before they are recorded."""

    rows: Ints
    """(n,) rows of the visits in the schedule."""
    slates: Slates
    """Slates of the visits."""
    relevance: Float32s
    """(n, k) the platform's p(y|x) of the shown items."""
    ground: Float32s
    """(n,) the platform's λ(x)."""
    response: Response
    """Responses to the slates."""
    organic: Organic
    """Consumptions without a slate."""

    def rows_of(self, part: slice) -> _Answered:
        """Adjacent visits of these."""
        rows = self.rows[part]
        response = self.response
        organic = self.organic
        if len(organic.row):
            is_in_part = np.isin(organic.row, rows)
            organic = Organic(*(column[is_in_part] for column in organic))
        return _Answered(
            rows,
            self.slates.rows(part),
            self.relevance[part],
            self.ground[part],
            Response(response.consumed[part], response.probability[part], response.intensity[part]),
            organic,
        )


class OpenRound:
    """Round of a market, from its opening to its close."""

    def __init__(
        self,
        plan: RoundTerms,
        context: RoundContext,
        histories: Histories,
        model: IntensityModel,
        simulation: Simulation,
        popularity: Ints,
        appeal: Appeal,
    ) -> None:
        schedule = plan.schedule
        self._plan = plan
        self.schedule = schedule
        self.histories = histories
        self.requirements = plan.requirements
        """Requirements of the round."""
        self.exposure = np.zeros(len(plan.times))
        """(M,) exposures so far, in the unit of the guarantee."""
        self.ledger = Ledger(schedule, plan.slate)
        """All exposures and consumptions so far."""
        self.free_choices = np.zeros(len(plan.times), np.int64)
        """(M,) items that visitors have taken without a slate."""
        self.queue = simulation.queue_of(schedule)
        """Arrivals that come, wait for a slate, or are served."""
        self.item_factor: Floats | None = None
        """(M,) true effect of each item, as a factor; None unless :meth:`note_item_factor` was called."""
        self._rescale = rescale_of(model)
        self._world = context.world
        self._consumer = context.consumer
        self._can = ConsumerCapabilities.of(context.consumer)
        self._popularity = popularity
        self._device = device_of(model)
        self._wait = context.delay + 1
        """Ticks from a consumption until it is visible to the platform."""
        self._keys = rng.bits(context.choice_seed, rng.Purpose.CHOICE, schedule.id)
        self._own_keys = rng.bits(context.choice_seed, rng.Purpose.OWN_CHOICE, schedule.id)
        self._user = schedule.user[schedule.slot]
        self._n_events_at_opening = int(histories.events.size[0])
        self._appeal = appeal
        self._truths = self._new_truths()
        self._columns = self._columns_of_serving()
        self._n_changes = 0  # changes of the round by processes
        self._foreseen: Histories | None = None
        self._known = histories
        """Histories as the platform knows them when visitors come."""
        self._times = plan.times
        # All events of the round are known when it opens, because slates do not change them.
        if self._can.exogenous:
            self._foreseen = self.foreseen_histories()
            self._known = self._foreseen
        self._scores: ArrivalScores | None = self._scores_of_arrivals(model, context.shared)
        self._models = [(0, model)]  # a model, after the first row that it scores
        self._opening_model = context.opening_model
        self._opening_scores: ArrivalScores | None = None
        """Scores under the opening model; None before they are asked for, or if that model serves the round."""
        self._reported: _Reported | None = None
        self._best: BestValues | None = None
        self._law = self._law_of_responses()
        self._n_dropped = 0
        """Row before which the scores of served arrivals have been dropped."""

    @property
    def number(self) -> int:
        """Number of the round, from 0."""
        return self._plan.number

    @property
    def capacity(self) -> Ints | None:
        """(n,) positions that each arrival may fill; None: all."""
        return self._plan.capacity

    def _scores_of_arrivals(self, model: IntensityModel, shared: SharedScores | None) -> ArrivalScores:
        """Scores of the round's arrivals, before any is computed."""
        histories = self._known
        schedule = self.schedule
        scorer = Scorer(model, histories, self._times, self._device)
        scorer.encode(schedule.start)
        if not self._can.exogenous:
            return ArrivalScores(scorer, histories, schedule)
        if shared is None or self.number or len(schedule) * scorer.n_items > KEPT_CELLS:
            return PrecomputedScores(scorer, histories, schedule)
        blocks: dict[int, NDArray[np.object_]] = shared.of(
            "arrivals", model, digest_of(schedule, histories), dict
        )
        return PrecomputedScores(scorer, histories, schedule, blocks)

    def use_model(self, model: IntensityModel, tick: int) -> None:
        """Score arrivals by another model from a tick on.

        All arrivals before now must be served.
        """
        served = self.queue.served
        scorer = Scorer(model, self._known, self._times, self._device)
        # Precomputed scores encode states window by window, from the events before the round on.
        scorer.encode(self.schedule.start if self._can.exogenous else tick)
        self._models.append((served, model))
        self._reported = None
        self._open_scores.replace_scorer(scorer, served)
        self.renew()

    @property
    def models(self) -> tuple[IntensityModel, ...]:
        """Models that have served the round, oldest first."""
        return tuple(model for _, model in self._models)

    @property
    def model_of_arrival(self) -> Ints:
        """(n,) number of the model that serves each arrival."""
        first_rows = [first_row for first_row, _ in self._models]
        rows = np.arange(len(self.schedule))
        return np.asarray(np.searchsorted(first_rows, rows, side="right") - 1, np.int64)

    def _columns_of_serving(self) -> RoundColumns:
        """Arrays that serving reads and writes."""
        return RoundColumns(
            tick=_writable(self.schedule.tick, np.int64),
            slot=_writable(self.schedule.slot, np.int64),
            position_weights=_writable(self.requirements.position_weights, np.float64),
            required=_writable(self.required, np.float64),
            exposure=self.exposure,
            ledger=self.ledger.columns,
            events=self.histories.events,
            queue=self.queue.state,
            wait=self._wait,
            enters_events=not self._can.hits_only,
        )

    @property
    def columns(self) -> RoundColumns:
        """Arrays that serving reads and writes."""
        # When their arrays are full, histories replace the record of events by a larger one.
        if self._columns.events is not self.histories.events:
            self._columns = replace(self._columns, events=self.histories.events)
        return self._columns

    @property
    def required(self) -> Floats:
        """Required exposures b_y of each item."""
        return self.requirements.required

    @property
    def delivered(self) -> Floats:
        """Exposures of each requirement so far in the round."""
        return self.requirements.delivered(self.ledger.item)

    def note_best(self, price: Floats) -> None:
        """Note each arrival's largest λ − v, for prices v."""
        self._best = BestValues(price, np.full(self.ledger.item.shape, np.nan))

    @property
    def _open_scores(self) -> ArrivalScores:
        assert self._scores is not None  # noqa: S101  # an open round has scores
        return self._scores

    def scores(self, rows: Ints) -> ScoreRows:
        """Scores of arrivals of different users."""
        scores = self._open_scores.rows(rows)
        if self._best is not None:
            self._best.note_best(rows, *scores.arrays)
        if self.capacity is not None:
            scores = scores.only(self.capacity[rows] > 0)
        self._reported = _Reported(rows, scores)
        return scores

    def place(self, row: int) -> tuple[ScoreRows, int]:
        """Block with an arrival's scores, and the arrival's index."""
        if self.capacity is not None:
            return self.scores(np.array([row])), 0
        return self._open_scores.place(row)

    def known_place(self, row: int) -> tuple[ScoreRows, int]:
        """The same of an arrival whose scores are known."""
        return self._open_scores.known_place(row)

    def arrivals(self, rows: Ints, scores: ScoreRows, needs: Needs) -> Arrivals:
        """Arrivals as agents see them, with copies of their scores."""
        relevance, ground, admissible = scores.tensors
        true_intensity = None
        if needs.truth:
            true_intensity = true_intensity_of(self._consumer, self.visits(rows), len(self.exposure))
            true_intensity = true_intensity.to(self._device)
        opening_intensity = None
        if needs.item_factor:
            opening_intensity = self._opening_intensity(rows, scores)
        history = None
        if needs.history:
            slots = self.schedule.slot[rows]
            ticks = self.schedule.tick[rows]
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
            true_intensity=true_intensity,
            capacity=None if self.capacity is None else self.capacity[rows],
            audiences=None if counted is None else counted[rows],
            history=history,
            opening_intensity=opening_intensity,
        )

    def _opening_intensity(self, rows: Ints, scores: ScoreRows) -> torch.Tensor:
        """Intensities λ(x,y) of arrivals under the opening model."""
        if self._models[-1][1] is not self._opening_model:
            if self._opening_scores is None:
                self._opening_scores = self._scores_of_arrivals(self._opening_model, None)
            scores = self._opening_scores.rows(rows)
        relevance, ground, _ = scores.tensors
        return relevance * ground[:, None]

    def note_item_factor(self, states: ScoredStates) -> None:
        """Note true effects of items, from opening scores of arrivals."""
        truths = self._new_truths()  # the round's own would keep the scores of all arrivals at once
        n_items = len(self.exposure)
        true_sum = np.zeros(n_items)
        opening_sum = np.zeros(n_items)
        for chunk in states:
            visits = replace(self.visits(chunk.row), score=truths.of)
            true = true_intensity_of(self._consumer, visits, n_items).cpu().double().numpy()
            true_sum += (true * chunk.admissible.cpu().numpy()).sum(0)
            opening_sum += chunk.intensity.cpu().double().numpy().sum(0)
            truths.drop(chunk.row)
        self.item_factor = np.divide(true_sum, opening_sum, out=np.ones(n_items), where=opening_sum > 0)

    def visits(self, rows: Ints) -> SlateVisits:
        """Arrivals as consumers see them."""
        return SlateVisits(
            row=rows,
            schedule=self.schedule,
            histories=self.histories,
            world=self._world,
            keys=self._keys,
            own_keys=self._own_keys,
            release=self._times.release,
            popularity=self._popularity,
            score=self._truths.of,
        )

    def _new_truths(self, histories: Histories | None = None) -> RoundTruths:
        """True scores of the round's arrivals, before any is computed."""
        if histories is None:
            histories = self.histories
        return RoundTruths(histories, self.schedule, self._wait - 1, self._appeal)

    def has_served_at(self, tick: int) -> bool:
        """True if an arrival of a tick has been served."""
        served = self.queue.served
        return served > 0 and int(self.schedule.tick[served - 1]) == tick

    def offer(self, times: TimesOnOffer, shown_times: TimesOnOffer, appeal: Appeal) -> None:
        """Change times on offer, and reduce guarantees of absent items.

        All arrivals before now must be served. ``shown_times`` are the times at which their slates could show items.
        """
        served = self.queue.served
        self._times = times
        self._reported = None
        self._open_scores.offer(times, served)
        if self._opening_scores is not None:
            self._opening_scores.offer(times, served)
        plan = self._plan
        self.requirements = plan.requirements.with_offer(plan.times, shown_times, plan.visits)
        self.want(appeal)

    def want(self, appeal: Appeal) -> None:
        """Let visitors want items by another appeal from now on."""
        self._appeal = appeal
        self._truths.appeal(appeal, self.queue.served)
        self.renew()

    def renew(self) -> None:
        """Renew the record for compiled steps after a change."""
        self._n_changes += 1
        self._columns = self._columns_of_serving()

    def _truth_scores(self) -> TruthScores:
        """Scores under the world's own truth."""
        truth = self._world.truth
        assert truth is not None  # noqa: S101  # a consumer that asks for scores needs a truth
        return self._truths.scores(truth)

    def serve(self, rows: Ints, slates: Slates, *, empty: bool) -> tuple[Ints, Bools]:
        """Show slates to arrivals, and record consumptions.

        The clock goes on between the stretches of arrivals that were taken ahead. If a process then changes the round,
        later arrivals are not served. The result has a row for each served arrival.

        Args:
            empty: If true, repeated or inadmissible items leave their positions empty; otherwise they raise an error.

        Raises:
            AgentError: If the slates have another shape, or hold inadmissible items.
            MarketError: If the arrivals do not wait for slates, for example because they were served before.
        """
        n_ahead = self.queue.n_ahead(rows)
        self._require_shape(rows, slates)
        if not len(rows):
            return slates.items, np.zeros(slates.items.shape, bool)
        answered = self._answered(rows, slates, empty=empty)
        self.histories.make_room(slates.items.size)
        served = 0
        n_now = len(rows) - n_ahead
        n_changes = self._n_changes
        try:
            while n_now:
                self._enter(answered.rows_of(slice(served, served + n_now)) if n_ahead else answered)
                served += n_now
                n_now = 0
                if served < len(rows):
                    self.queue.open_stretch()
                    if self._n_changes == n_changes:
                        n_now = self.queue.hand_out_ahead(rows[served:])
        finally:
            self._drop(rows[:served])
        return answered.slates.items[:served], answered.response.consumed[:served]

    def _answered(self, rows: Ints, slates: Slates, *, empty: bool) -> _Answered:
        """Visits with their slates and responses."""
        scores = self._scores_of_serving(rows)
        relevance, admissible = scores.at(slates.items)
        is_wrong = wrong_positions(slates.items, admissible, len(self.exposure))
        if is_wrong is not None:
            if not empty:
                raise self._refusal(rows, slates, admissible, is_wrong)
            slates = emptied(slates, is_wrong)
        if self.capacity is not None:
            slates = emptied(slates, beyond_capacity(slates.items, self.capacity[rows]))
        require_numbers(slates)
        visits = self.visits(rows)
        response = self.respond(visits, slates.items)
        organic = NOTHING if self._can.exogenous else self._organic(visits)
        if len(organic.row) and not self._can.hits_only:
            organic = _without_taken(organic, self.schedule.tick, rows, slates.items, response.consumed)
        return _Answered(rows, slates, relevance, scores.ground, response, organic)

    def _enter(self, answered: _Answered) -> None:
        """Record exposures and consumptions of served visits."""
        rows = answered.rows
        response = answered.response
        organic = answered.organic
        if len(organic.row) and not self._can.hits_only:
            np.add.at(self.ledger.organic, organic.row, 1)
            np.add.at(self.free_choices, organic.item, 1)
        self.ledger.note(rows, answered.slates)
        enter_slates(self.columns, rows, answered.slates.items, answered.relevance, answered.ground,
            response.consumed, response.probability, response.intensity)  # fmt: skip
        self.queue.release_held(self.schedule.slot[rows])
        self._append(self.histories, organic)

    def _require_shape(self, rows: Ints, slates: Slates) -> None:
        """Refuse slates of another number or length."""
        shape = (len(rows), self.ledger.item.shape[1])
        if slates.items.shape != shape:
            first = f", the first {int(self.schedule.id[rows[0]])}" if len(rows) else ""
            raise AgentError(
                f"slates have shape {slates.items.shape}. Expected {shape}, one row per arrival{first}"
            )

    def _scores_of_serving(self, rows: Ints) -> ScoreRows:
        """Scores of arrivals that get slates."""
        reported = self._reported  # the agent has usually just asked for these scores
        if reported is not None and (reported.rows is rows or np.array_equal(reported.rows, rows)):
            return reported.scores
        return self.scores(rows)

    def _drop(self, rows: Ints) -> None:
        """Drop the scores of served arrivals."""
        self._open_scores.drop(rows)
        self._truths.drop(rows)
        if self._opening_scores is not None:
            self._opening_scores.drop(rows)

    def _law_of_responses(self) -> Law | Hits | None:
        """Law by which compiled code responds; None if it cannot."""
        is_delayed = self._wait > 1 and not self._can.hits_only
        if is_delayed or self.capacity is not None or self._device.type != "cpu":
            return None
        return law_of(self._consumer, self._world, self.ledger.item.shape[1], self.schedule.session)

    @property
    def follows_law(self) -> bool:
        """True if compiled code can respond instead of the consumer."""
        return self._law is not None

    def responder(self) -> Responder:
        """Law of responses for compiled code."""
        # Compiled code needs all of these records, even those that it does not read. Records that it does not read are
        # empty, and the model's scores stand in for those of the truth.
        law = Law(examination=np.zeros(0), attraction=0.0)
        hits = Hits(offsets=np.zeros(0, np.int64), item=np.zeros(0, np.int64))
        truth = self._open_scores
        if isinstance(self._law, Law):
            law = Law(_writable(self._law.examination, np.float64), float(self._law.attraction))
            truth = self._truth_scores()
        elif self._law is not None:
            hits = Hits(_writable(self._law.offsets, np.int64), _writable(self._law.item, np.int64))
        return Responder(
            law=law,
            hits=hits,
            draws=isinstance(self._law, Law),
            truth=truth.columns,
            keys=_writable(self._keys, np.uint64),
            session=_writable(self.schedule.session, np.int64),
        )

    @property
    def score_columns(self) -> ScoreColumns:
        """Scores of the round's arrivals for compiled code."""
        return self._open_scores.columns

    @property
    def has_fixed_states(self) -> bool:
        """True if slates change no state of later arrivals."""
        return self._can.exogenous

    def score_ahead(self, row: int, last_row: int) -> None:
        """Score the arrival of the next step.

        Scores of served arrivals before ``last_row`` are dropped.
        """
        if last_row > self._n_dropped:  # the scores of the last arrival stay for its feedback
            is_served = self.queue.state.is_served[self._n_dropped : last_row]
            self._drop(np.flatnonzero(is_served) + self._n_dropped)
            self._n_dropped = last_row
        self.place(row)
        if isinstance(self._law, Law):
            self._truth_scores().place(row)

    def respond(self, visits: SlateVisits, slates: Ints) -> Response:
        """Response of the visits to their slates.

        Raises:
            MarketError: If the consumer does not return a valid response.
        """
        response = response_of(self._consumer, visits, slates)
        if self._wait == 1 or self._can.hits_only:
            return response
        # With a delay, agents may show an item that the visitor has just consumed. Only the rule of repeats decides
        # whether the visitor consumes it twice.
        row, item = visits.inadmissible_from_market()
        n_items = len(self.exposure)
        pairs = np.arange(len(slates))[:, None] * n_items + slates
        is_new = ~np.isin(pairs, row * n_items + item)
        return Response(
            consumed=response.consumed & is_new,
            probability=response.probability * is_new,
            intensity=response.intensity * is_new,
        )

    def _organic(self, visits: SlateVisits) -> Organic:
        """Organic consumptions of visits."""
        return organic_of(self._consumer, visits, len(self.exposure))

    def _append(self, histories: Histories, organic: Organic) -> None:
        """Add organic consumptions to histories."""
        if len(organic.row):
            histories.append(self.schedule.slot[organic.row], organic.tick + self._wait, organic.item)

    def _refusal(self, rows: Ints, slates: Slates, admissible: Bools, wrong: Bools) -> AgentError:
        """Error that names the first inadmissible item."""
        row, position = np.argwhere(wrong)[0].tolist()
        item = int(slates.items[row, position])
        n_items = len(self.exposure)
        kind = "repeated" if 0 <= item < n_items and admissible[row, position] else "inadmissible"
        return AgentError(
            f"slate of arrival {int(self.schedule.id[rows[row]])} in round {self.number}: position {position + 1} "
            f"holds {kind} item {item}. Expected distinct admissible items from 0 to {n_items - 1}, or -1 for empty"
        )

    @property
    def known_histories(self) -> Histories:
        """Histories as the platform knows them when visitors come."""
        return self._known

    def foreseen_histories(self) -> Histories:
        """Histories at the round's end, without effects of slates."""
        if self._foreseen is not None:
            return self._foreseen
        histories = self.histories.copy()
        coming = np.flatnonzero(~self.queue.state.is_served)
        if self._can.exogenous:
            self._append(histories, self._organic(self.visits(coming)))
            return histories
        # Free choices depend on a visitor's earlier ones. So all visitors' next visits come first, then the visits
        # after these, and so on.
        truths = self._new_truths(histories)
        visit_number = running_count(self.schedule.slot[coming])
        for number in range(int(visit_number.max(initial=-1)) + 1):
            rows = coming[visit_number == number]
            visits = replace(self.visits(rows), histories=histories, score=truths.of)
            self._append(histories, self._organic(visits))
            truths.drop(rows)
        return histories

    def note_organic(self) -> None:
        """Add the round's exogenous consumptions to histories."""
        if self._can.exogenous:
            self._append(self.histories, self._organic(self.visits(np.arange(len(self.schedule)))))

    def settled(self) -> Ints:
        """Tick from which the platform knows each slate's outcome."""
        outcome_tick = self.schedule.tick
        if self._can.settled is not None:
            outcome_tick = self._can.settled(self.visits(np.arange(len(self.schedule))))
        return np.asarray(outcome_tick + self._wait, np.int64)

    def _require_drawn(self) -> None:
        """Refuse consumptions that are implausible under their probabilities."""
        n_consumed = int(self.ledger.consumed.sum())
        chance = self.ledger.probability
        expected = float(chance.sum())
        sd = float(np.sqrt((chance * (1 - chance)).sum()))
        # Wide bounds, so that chance alone never crosses them: 10 standard deviations, and a factor of 2.
        if abs(n_consumed - expected) > 10 * sd + 5 and not expected / 2 <= n_consumed <= 2 * expected:
            raise MarketError(
                f"{type(self._consumer).__name__}.respond: it returned {n_consumed:,} consumptions, but its "
                f"probabilities add up to {expected:,.1f}. Draw the consumptions with the same probabilities that "
                "respond returns"
            )

    def close(
        self,
        *,
        cost: float,
        outcome: RoundOutcome,
        changes: Changes,
        events: PastRound,
        learnt: PastRound,
        log_counts: Ints,
        states: StateScores,
        decay: DecayEstimate | None,
    ) -> ClosedRound:
        """Record of the round, whose scores are dropped.

        Args:
            events: The events of the round itself.
        """
        n_learnt = int(learnt.histories.events.size[0])
        if learnt is events:  # users who stay bring the events of earlier rounds
            n_learnt -= self._n_events_at_opening
        self._require_drawn()
        all_visits = self.visits(np.arange(len(self.schedule)))
        relevant = relevant_items(self._consumer, all_visits, len(self.exposure))
        self._scores = None
        self._opening_scores = None
        self._truths = self._new_truths()
        self._reported = None
        self._foreseen = None
        self._known = self.histories
        return ClosedRound(
            number=self.number,
            schedule=self.schedule,
            capacity=self.capacity,
            requirements=self.requirements,
            exposure=self.exposure,
            ledger=self.ledger,
            histories=self.histories,
            rescale=self._rescale,
            counts_items=self._can.hits_only,
            cost=cost,
            outcome=outcome,
            on_offer=self._times.at(np.array([self.schedule.stop - 1]))[0],
            changes=changes,
            log_counts=log_counts,
            relevant=relevant,
            states=states,
            decay=decay,
            best=self._best,
            learnt=learnt,
            learnt_events=n_learnt,
        )


def _without_taken(organic: Organic, visit_tick: Ints, rows: Ints, slates: Ints, consumed: Bools) -> Organic:
    """Organic consumptions without items that slates brought as well."""
    # An item that is both chosen freely and taken from the slate is one consumption, which counts for the slate. So
    # free choice does not change the law of the slate.
    visit, position = np.nonzero(consumed)
    stride = int(max(organic.item.max(), slates.max())) + 1
    taken = rows[visit] * stride + slates[visit, position]
    is_taken = np.isin(organic.row * stride + organic.item, taken) & (organic.tick == visit_tick[organic.row])
    return Organic(*(column[~is_taken] for column in organic))


def _writable(column: Array, kind: Any) -> Array:
    """Adjacent, writable column of one type, for compiled code."""
    return np.require(column, kind, ["C", "W"])
