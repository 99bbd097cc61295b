"""True scores of arrivals, and consumers that act by them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np
import torch

from rimsim.arrays import ALWAYS, TICKS, Bools, Float32s, Floats, Ints, seconds
from rimsim.config import ScenarioConfig
from rimsim.config.fields import duration_seconds
from rimsim.intensity.contract import BLOCK, Hidden
from rimsim.market.consumers.contract import (
    NOTHING,
    Law,
    Organic,
    SlateVisits,
    World,
    answer,
    drawn,
    examination,
    first_instants,
    poisson_probabilities,
    uniform_draws,
)
from rimsim.market.consumers.one_item import one_of
from rimsim.market.consumers.truths import Truth
from rimsim.market.histories import Histories
from rimsim.market.records import Response, Schedule, delay_ticks
from rimsim.market.scores.arrivals import ArrivalScores
from rimsim.market.scores.block import ScoreRows
from rimsim.market.scores.scorer import Scorer
from rimsim.measures import genre_weights
from rimsim.requirements.on_offer import TimesOnOffer

_ALL_EVENTS = np.iinfo(np.int64).max
"""Number of events that a fixed hidden state is said to contain, so that no event updates it."""


@dataclass(frozen=True, eq=False)
class Appeal:
    """Times on offer and demand by which visitors want items."""

    times: TimesOnOffer
    """Times at which items are on offer."""
    normalised: bool
    """True if p* sums to 1 over the items on offer; False: over the catalogue, whatever is on offer."""
    demand: Float32s | None = None
    """(M,) factor of each item's true intensity; None: all are 1."""

    @property
    def shared(self) -> TimesOnOffer:
        """Times of the items among which p* sums to 1."""
        # SlateVisits.true_scores says why these may be all items of the catalogue.
        return self.times if self.normalised else TimesOnOffer.endless(np.full(len(self.times), ALWAYS))


class _TruthScorer(Scorer):
    """Scorer with a truth's p* and λ*."""

    def __init__(self, truth: Truth, histories: Histories, delay: int, appeal: Appeal) -> None:
        super().__init__(truth.model, histories, appeal.shared, torch.device("cpu"))
        self._truth = truth
        self._delay = delay
        self._appeal = appeal
        self._last = np.zeros(len(histories), np.int64)
        """(slots,) tick of the last event in each hidden state."""

    def appeal(self, appeal: Appeal) -> None:
        """Score states with another appeal of items from now on."""
        self.offer(appeal.shared)
        self._appeal = appeal

    def encode(self, start: int) -> None:
        """Compute hidden states of all slots, unless they are fixed."""
        self._last[:] = start - 1
        if not self._truth.users:
            super().encode(start)
            return
        log_user = torch.from_numpy(self._histories.log_user)
        self._hidden = tuple(part[log_user] for part in self._truth.users)
        self._n_encoded[:] = _ALL_EVENTS

    def catch_up(self, slots: Ints, counts: Ints) -> None:
        """Update hidden states by all events, in their order."""
        # An event can become visible before an event that a hidden state already contains, such as organic consumption
        # after a visit. Then the hidden state is computed again.
        last = self._last[slots]
        self._last[slots] = self._histories.events.newest[slots]
        is_changed = self._histories.visible_at(slots, last) != self._n_encoded[slots]
        if self._recurrent is not None and is_changed.any():
            changed = slots[is_changed]
            states = self._histories.states(changed, counts[is_changed], last[is_changed])
            self._store(changed, self._recurrent.encode(states), counts[is_changed])
            slots = slots[~is_changed]
            counts = counts[~is_changed]
        super().catch_up(slots, counts)

    def score(
        self, ids: Ints, slots: Ints, ticks: Ints, counts: Ints, hidden: Hidden | None = None
    ) -> ScoreRows:
        """Scores p* and λ* of at most ``BLOCK`` states."""
        preference, _, admissible = super().score(ids, slots, ticks, counts, hidden).tensors
        # This is a view of ``preference`` without its padding, so writing to it changes ``preference``.
        shares = preference.numpy()[: len(slots)]
        if self._truth.trend is not None:
            shares[:] = self._truth.trend.timed(shares.astype(np.float64), seconds(ticks))
            _normalise(shares)
        if self._truth.habit is not None:
            states = self._histories.states(slots, counts, ticks)
            shares[:] = self._truth.habit.mixed(shares, states)
            shares[~admissible.numpy()[: len(slots)]] = 0.0
            _normalise(shares)
        if (factor := self._truth.item_factor) is not None:
            shares *= factor
            _normalise(shares)
        if not self._appeal.times.all_at(ticks):
            shares[~self._appeal.times.at(ticks)] = 0.0
        if self._appeal.demand is not None:
            shares *= self._appeal.demand
        ground = self._truth.sizes.of_visits(self._histories, slots, ticks, self._delay)
        return ScoreRows((preference, torch.from_numpy(ground.astype(np.float32)), admissible))


def _normalise(shares: Float32s) -> None:
    """Divide each row by its sum, in place."""
    shares /= np.maximum(shares.sum(1, keepdims=True), np.finfo(np.float32).tiny)


class TruthScores(ArrivalScores):
    """True scores of a round's arrivals, given all earlier consumptions."""

    # Updates in advance take the states of many users together, which is faster for a neural network. Hidden states of
    # a truth are mostly sums, so their update can wait until the user returns.
    _most_returning = 0
    _truth_scorer: _TruthScorer

    @classmethod
    def of_round(
        cls, truth: Truth, histories: Histories, schedule: Schedule, delay: int, appeal: Appeal
    ) -> Self:
        """True scores of a round's arrivals; ``delay`` is in ticks."""
        scorer = _TruthScorer(truth, histories, delay, appeal)
        scorer.encode(schedule.start)
        scores = cls(scorer, histories, schedule)
        scores._truth_scorer = scorer
        return scores

    def appeal(self, appeal: Appeal, served: int) -> None:
        """Score arrivals with another appeal of items from now on."""
        self._truth_scorer.appeal(appeal)
        self.forget(served)

    def _events(self, rows: Ints) -> Ints:
        """Number of visitors' events, known to the platform or not."""
        return self._histories.events.counts[self._schedule.slot[rows]]

    def _events_of(self, row: int) -> int:
        return int(self._histories.events.counts[self._schedule.slot[row]])

    def of(self, rows: Ints) -> tuple[Float32s, Float32s]:
        """True scores of arrivals: p* and λ*."""
        preference, ground, _ = self.rows(rows).arrays
        return preference, ground


_MOST_TRUTHS = 3
"""Largest number of truths whose scores of a round are cached: the world's own, and the last others in use."""


class RoundTruths:
    """True scores of a round's arrivals, by truth.

    A consumer of your own may replace the truth of the world that its visits have.
    """

    def __init__(self, histories: Histories, schedule: Schedule, delay: int, appeal: Appeal) -> None:
        self._histories = histories
        self._schedule = schedule
        self._delay = delay
        self._appeal = appeal
        self._scores: dict[Truth, TruthScores] = {}

    def scores(self, truth: Truth) -> TruthScores:
        """Scores of the round's arrivals under a truth."""
        scores = self._scores.get(truth)
        if scores is None:
            if len(self._scores) == _MOST_TRUTHS:
                # The second oldest scores are dropped. Compiled code may refer to the oldest, those of the world's own
                # truth.
                del self._scores[list(self._scores)[1]]
            scores = TruthScores.of_round(truth, self._histories, self._schedule, self._delay, self._appeal)
            self._scores[truth] = scores
        return scores

    def appeal(self, appeal: Appeal, served: int) -> None:
        """Score arrivals with another appeal of items from now on."""
        self._appeal = appeal
        for scores in self._scores.values():
            scores.appeal(appeal, served)

    def of(self, truth: Truth, rows: Ints) -> tuple[Float32s, Float32s]:
        """True scores of arrivals under a truth: p* and λ*."""
        return self.scores(truth).of(rows)

    def drop(self, rows: Ints) -> None:
        """Drop the scores of arrivals, served in this order."""
        for scores in self._scores.values():
            scores.drop(rows)


class Dynamics:
    """Preference dynamics: satiation, taste drift and conformity.

    Factors on true intensities; w_y is the share of each genre in item y. A factor is off if its parameter is 0:

    * satiation: exp(−σ·⟨s, w_y⟩), s = Σ_i w_i·2^(−age_i / half-life),
    * drift: exp(η·n/(n + 1)·⟨q, w_y − w̄⟩), with the mean q of w over n consumptions and w̄ over the catalogue,
    * conformity: (1 + c_y)^κ, divided by its mean over the warm-up log's events; c_y is the number of events of item y
      in the platform's log at the last barrier.
    """

    def __init__(self, scenario: ScenarioConfig) -> None:
        config = scenario.consumer.dynamics
        self._config = config
        self._half_life = duration_seconds(config.satiation_half_life)
        self._wait = 1 + delay_ticks(scenario.consumer.delay)
        """Ticks from a consumption until it is visible to the platform."""

    @property
    def moves(self) -> bool:
        """True if any factor of the dynamics is on."""
        config = self._config
        return config.satiation > 0 or config.drift > 0 or config.conformity > 0

    def of_slates(self, visits: SlateVisits, slates: Ints) -> Floats:
        """Dynamics' factors of shown items; arbitrary at empty positions."""
        weights = _genre_weights(visits.world)
        items = np.maximum(slates, 0)  # an empty position gets the factor of item 0, which nobody reads
        taste = self._taste(visits, weights)
        factor = np.exp((weights[items] * taste[:, None, :]).sum(2))
        if self._config.drift > 0:
            level = (weights.mean(0) * self._drifted(visits, weights)).sum(1)  # the term with w̄
            factor *= np.exp(-level)[:, None]
        return np.asarray(factor * self._conforming(visits)[items], np.float64)

    def of_catalogue(self, visits: SlateVisits) -> Floats:
        """Dynamics' factors of all items."""
        # Each row is computed from its visit alone, so its bits do not depend on other visits.
        weights = _genre_weights(visits.world)
        taste = self._taste(visits, weights)
        level = (weights.mean(0) * self._drifted(visits, weights)).sum(1)  # the term with w̄
        conforming = self._conforming(visits)
        rows = [np.exp(weights @ taste[n] - level[n]) * conforming for n in range(len(visits))]
        return np.stack(rows) if rows else np.zeros((0, len(weights)))

    def _taste(self, visits: SlateVisits, weights: Floats) -> Floats:
        """Drift minus satiation of each genre, in log intensity."""
        taste = self._drifted(visits, weights)
        if self._config.satiation > 0:
            row, item, age = self._consumed(visits)
            remaining_share = 2.0 ** (-age / self._half_life)
            satiation = np.zeros_like(taste)
            np.add.at(satiation, row, weights[item] * remaining_share[:, None])
            taste -= self._config.satiation * satiation
        return taste

    def _drifted(self, visits: SlateVisits, weights: Floats) -> Floats:
        """Drift η·n/(n + 1)·q towards each consumed genre."""
        taste = np.zeros((len(visits), weights.shape[1]))
        if self._config.drift > 0:
            row, item, _ = self._consumed(visits)
            np.add.at(taste, row, weights[item])
            count = np.bincount(row, minlength=len(visits))
            taste *= self._config.drift / (count + 1.0)[:, None]
        return taste

    def _conforming(self, visits: SlateVisits) -> Floats:
        """Factor of conformity for each item."""
        if not self._config.conformity > 0:
            return np.ones(visits.world.log.n_items)
        factor = (1.0 + visits.popularity) ** self._config.conformity
        n_logged = np.bincount(visits.world.past.item, minlength=len(factor))  # events of the warm-up log
        return np.asarray(factor * n_logged.sum() / (factor * n_logged).sum(), np.float64)

    def _consumed(self, visits: SlateVisits) -> tuple[Ints, Ints, Floats]:
        """Visit, item and age (in seconds) of earlier consumptions."""
        row, item, visible_from = visits.events_in_market()
        age = visits.tick[row] - (visible_from - self._wait)
        is_earlier = age > 0
        return row[is_earlier], item[is_earlier], age[is_earlier] / TICKS


@lru_cache(maxsize=4)
def _genre_weights(world: World) -> Floats:
    """Share of each genre in each item."""
    return genre_weights([str(text) for text in world.log.items["genres"]])[0]


class PreferenceConsumer:
    """Base of consumers with the intensities of the truth.

    The intensity λ*(x)·p*(y|x) is multiplied by the dynamics. Of this intensity, the share ``consumer.own_choice`` is
    free choice: the visitor takes each item of the catalogue that is on offer with probability 1 −
    exp(−own_choice·λ*(x)·p*(y|x)), whether it is shown or not. The slate gets the remaining share. The two are
    independent, so together they have the intensity of the truth.
    """

    needs_truth = True
    takes_dynamics = True
    takes_own_choice = True

    def __init__(self, scenario: ScenarioConfig) -> None:
        self.dynamics = Dynamics(scenario)
        self._own_choice = scenario.consumer.own_choice
        self._delay = delay_ticks(scenario.consumer.delay)
        self._plain = Law(examination=np.ones(scenario.slate), attraction=1.0)
        """Law without examination and attraction, for intensities alone."""

    def organic(self, visits: SlateVisits) -> Organic:
        """Free choices, each at the instant of its visit."""
        if not self._own_choice or not len(visits):
            return NOTHING
        # Intensities of all items are held for one block of visits at a time.
        parts = [
            self._free_choices(replace(visits, row=visits.row[first : first + BLOCK]))
            for first in range(0, len(visits), BLOCK)
        ]
        return Organic(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _free_choices(self, visits: SlateVisits) -> Organic:
        """Free choices of at most ``BLOCK`` visits, in order."""
        intensity = self._own_choice * self._of_present(visits)
        instant = first_instants(intensity, visits.own_keys[visits.row])
        visit, item = np.nonzero(np.isfinite(instant))
        order = np.lexsort((instant[visit, item], visit))
        row = visits.row[visit[order]]
        return Organic(row=row, tick=visits.schedule.tick[row], item=item[order])

    def _of_present(self, visits: SlateVisits) -> Floats:
        """Intensities of items that can be taken freely."""
        intensity = self.of_catalogue(visits)
        # Items of providers who are not in the market have a share of p*, but nobody can take them.
        intensity[visits.release > visits.tick[:, None]] = 0.0
        return intensity

    def true_intensity(self, visits: SlateVisits) -> torch.Tensor:
        """True intensities λ*(x)·p*(y|x) with dynamics."""
        return torch.from_numpy(self.of_catalogue(visits).astype(np.float32))

    def relevant(self, visits: SlateVisits) -> Floats:
        """Ground intensity λ*(x) of each visit, without dynamics."""
        truth = visits.world.truth
        assert truth is not None  # noqa: S101  # the consumer declares needs_truth
        return truth.sizes.of_visits(visits.histories, visits.slot, visits.tick, self._delay)

    def answer(self, visits: SlateVisits, slates: Ints, law: Law) -> Response:
        """Poisson response of the truth, in one compiled call."""
        shape = slates.shape
        response = Response(np.empty(shape, bool), np.empty(shape), np.empty(shape))
        preference, ground = visits.true_scores
        answer(preference, ground, slates, visits.keys[visits.row], law.examination, law.attraction,
            response.consumed, response.probability, response.intensity)  # fmt: skip
        return response

    def of_slates(self, visits: SlateVisits, slates: Ints) -> Floats:
        """Intensities of shown items."""
        # Intensities are 0 at empty positions, and for items that this visitor has consumed. The platform can show such
        # items if it learns of consumptions with a delay.
        intensity = self.answer(visits, slates, self._plain).intensity
        return intensity * self.dynamics.of_slates(visits, slates) if self.dynamics.moves else intensity

    def of_catalogue(self, visits: SlateVisits) -> Floats:
        """Intensities of admissible items."""
        preference, ground = visits.true_scores
        intensity = preference.astype(np.float64) * ground[:, None]
        return intensity * self.dynamics.of_catalogue(visits) if self.dynamics.moves else intensity


class Intensity(PreferenceConsumer):
    """Consumers with the Poisson-intensity response.

    An item shown at position r is consumed with probability 1 − exp(−λ*(x)·p*(y|x)·γ^(r−1)·a). Each pair of arrival and
    item has its own random number, which does not depend on the slate.

    If nearly all sessions of the log have one event (``Truth.takes_one``), a visit takes one item at most. The visitor
    wants one item of the catalogue, which p* draws, and takes it if it is shown and looked at. So with a = 1 the
    probability is v_r = λ*(x)·p*(y|x)·γ^(r−1). In general, the weights of the shown items are a·v_r, and the weight of
    taking nothing is (1 − Σ v)₊ (:func:`rimsim.market.consumers.one_item.one_of`). With ``own_choice``, this share of
    the visitors chooses among all items instead, and takes nothing from the slate.
    """

    def __init__(self, scenario: ScenarioConfig) -> None:
        super().__init__(scenario)
        config = scenario.consumer
        self._law = Law(examination(config.position_decay, scenario.slate), config.slate_attraction)
        self._attraction = config.attraction

    def law(self, world: World) -> Law | None:
        """Law of consumption; None where compiled code cannot respond."""
        is_plain = type(self) is Intensity and not self.dynamics.moves and not self._own_choice
        return self._law if is_plain and not _takes_one(world) else None

    def respond(self, visits: SlateVisits, slates: Ints) -> Response:
        """Response of visits to their slates."""
        if _takes_one(visits.world):
            return self._one_item(visits, slates)
        if not self.dynamics.moves:  # without dynamics, one compiled pass answers
            return self.answer(visits, slates, self._law)
        intensity = self.of_slates(visits, slates)
        probability = poisson_probabilities(intensity, self._law.examination, self._law.attraction)
        return drawn(visits, slates, probability, intensity)

    def _one_item(self, visits: SlateVisits, slates: Ints) -> Response:
        """Response of visits that take one item at most."""
        intensity = self.of_slates(visits, slates)
        seen = intensity * self._law.examination
        outside = np.maximum(1.0 - seen.sum(1, keepdims=True), 0.0)
        probability, consumed = one_of(visits, slates, self._attraction * seen, outside)
        if self._own_choice:
            probability *= 1.0 - self._own_choice
            consumed &= ~self._chooses_freely(visits)[:, None]
        return Response(consumed, probability, intensity)

    def _free_choices(self, visits: SlateVisits) -> Organic:
        """Free choices of at most ``BLOCK`` visits, in order."""
        if not _takes_one(visits.world):
            return super()._free_choices(visits)
        free = replace(visits, row=visits.row[self._chooses_freely(visits)], keys=visits.own_keys)
        intensity = self._of_present(free)
        outside = np.maximum(1.0 - intensity.sum(1, keepdims=True), 0.0)
        catalogue = np.broadcast_to(np.arange(intensity.shape[1]), intensity.shape)
        visit, item = np.nonzero(one_of(free, catalogue, intensity, outside)[1])
        row = free.row[visit]
        return Organic(row=row, tick=free.schedule.tick[row], item=item)

    def _chooses_freely(self, visits: SlateVisits) -> Bools:
        """Mask of visits that choose among all items."""
        # The number after the catalogue's is that of the option to take nothing.
        option = np.full((len(visits), 1), visits.world.log.n_items + 1)
        return uniform_draws(visits.own_keys[visits.row], option)[:, 0] < self._own_choice


def _takes_one(world: World) -> bool:
    """True if a visit takes one item at most."""
    return world.truth is not None and world.truth.takes_one
