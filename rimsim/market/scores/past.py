"""Scores of past states, on which prices are solved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from rimsim.arrays import Bools, Float32s, Ints, seconds
from rimsim.errors import MarketError
from rimsim.intensity.contract import BLOCK, IntensityModel
from rimsim.intensity.states import UserStates
from rimsim.market.past_round import PastRound, fold_of
from rimsim.market.records import Arrivals, Needs, ScoredStates
from rimsim.market.scores.block import ScoreRows
from rimsim.market.scores.scorer import score_states
from rimsim.market.slates import at_items
from rimsim.matching import top_k
from rimsim.requirements.audiences import RoundVisits
from rimsim.requirements.on_offer import TimesOnOffer
from rimsim.requirements.rows import RoundRequirements

FoldModels: TypeAlias = Callable[[], tuple[IntensityModel, ...]]
"""Function that returns a model per fold of users, or one model for all; called at first use."""
MOST_CELLS = 1 << 26
"""Largest number of scores, states times items, on which prices are solved at once: 0.6 GB with the arrays of the
solver."""
_ENCODED = 32 * BLOCK
"""Number of states that are encoded at once. Like ``BLOCK``, it influences the last bits of float32 products."""
_FOR_MEDIAN = 8192
"""Number of states in the sample for a median, whose standard error is then 1.4% of the states' spread."""


def most_states(n_items: int) -> int:
    """Number of states whose scores fit into memory."""
    return max(1, MOST_CELLS // max(n_items, 1))


@dataclass(frozen=True, eq=False)
class PastStates:
    """n states of a past period, in clock order."""

    id: Ints
    """(n,) ids of arrivals."""
    tick: Ints
    """(n,) tick of each state."""
    user: Ints
    """(n,) user of each state."""
    states: Callable[[Ints], tuple[UserStates, Ints]]
    """Function that returns the states of chosen rows, and a number for each state; states with equal events have equal
    numbers."""
    visits: RoundVisits
    """The n visits, as audiences see them, with the period of the round."""
    capacity: Ints | None = None
    """(n,) number of positions that each state may fill; None: all k positions."""
    audiences: Bools | None = None
    """(n, A) True if the state belongs to an audience of the round that the states represent, within its time."""
    excluded: Callable[[Ints], tuple[Ints, Ints]] | None = None
    """Function that returns pairs of an index of chosen rows and an inadmissible item; None: all consumed items are
    inadmissible."""
    offer_tick: Ints | None = None
    """(n,) tick at which an item must be on offer in each state; None: the tick of the state."""
    model: Ints | None = None
    """(n,) number of the model that scores each state; None: that of the user's fold."""

    @classmethod
    def of_round(cls, past: PastRound, visits: RoundVisits, capacity: Ints | None = None) -> PastStates:
        """States of a round's arrivals, given the events before each."""
        schedule = past.schedule
        histories = past.histories

        def states(rows: Ints) -> tuple[UserStates, Ints]:
            """States of arrivals; number per slot and count of events."""
            slots = schedule.slot[rows]
            tick = schedule.tick[rows]
            counts = histories.visible_at(slots, tick)
            return histories.states(slots, counts, tick), slots + len(histories) * counts

        def excluded(rows: Ints) -> tuple[Ints, Ints]:
            """Pairs of an arrival and an item inadmissible for it."""
            slots = schedule.slot[rows]
            tick = schedule.tick[rows]
            return histories.inadmissible(slots, histories.visible_at(slots, tick), tick)

        return cls(
            id=schedule.id,
            tick=schedule.tick,
            user=schedule.user[schedule.slot],
            states=states,
            visits=visits,
            capacity=capacity,
            excluded=None if histories.rule.forbids else excluded,
        )

    def sampled(self, limit: int) -> PastStates:
        """At most ``limit`` of the states, evenly spaced."""
        n = len(self.id)
        if n <= limit:
            return self
        return self.chosen(np.floor((np.arange(limit) + 0.5) * (n / limit)).astype(np.int64))

    def chosen(self, rows: Ints) -> PastStates:
        """Chosen states, in clock order."""
        all_states = self.states
        all_excluded = self.excluded
        return PastStates(
            id=self.id[rows],
            tick=self.tick[rows],
            user=self.user[rows],
            states=lambda chosen: all_states(rows[chosen]),
            visits=self.visits.rows(rows),
            capacity=None if self.capacity is None else self.capacity[rows],
            audiences=None if self.audiences is None else self.audiences[rows],
            excluded=None if all_excluded is None else lambda chosen: all_excluded(rows[chosen]),
            offer_tick=None if self.offer_tick is None else self.offer_tick[rows],
            model=None if self.model is None else self.model[rows],
        )

    def arrivals(self, rows: Ints, scores: ScoreRows, history: UserStates | None) -> Arrivals:
        """Scored states as an agent sees arrivals."""
        relevance, ground_intensity, admissible = scores.tensors
        return Arrivals(
            id=self.id[rows],
            time=seconds(self.tick[rows]),
            user=self.user[rows],
            relevance=relevance,
            ground_intensity=ground_intensity,
            admissible=admissible,
            row=rows,
            capacity=None if self.capacity is None else self.capacity[rows],
            audiences=None if self.audiences is None else self.audiences[rows],
            history=history,
        )


@dataclass(frozen=True, eq=False)
class StateScores(ScoredStates):
    """Scores of past states, computed in chunks during iteration."""

    past: PastStates
    """Past states, not yet scored."""
    models: FoldModels
    """Function that returns the model of each fold of users, one model for all, or the models of ``past.model``."""
    times: TimesOnOffer
    """Times at which items are on offer."""
    device: torch.device
    """Device of the scores."""
    seed: int
    """Model seed, which decides the folds."""
    with_history: bool = False
    """True if chunks have the histories of visitors, which only some agents need."""

    def __len__(self) -> int:
        return len(self.past.id)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of states and number of items."""
        return len(self), len(self.times)

    @property
    def capacity(self) -> Ints | None:
        """Positions that each state may fill; None: all."""
        return self.past.capacity

    def positions(self, slate: int) -> Ints:
        """Positions of a slate that each state may fill."""
        return np.full(len(self), slate) if self.capacity is None else self.capacity

    @property
    def audiences(self) -> Bools | None:
        """Membership of states in audiences; None without audiences."""
        return self.past.audiences

    def sampled(self, limit: int) -> StateScores:
        """At most ``limit`` of the states, evenly spaced."""
        past = self.past.sampled(limit)
        return self if past is self.past else dataclasses.replace(self, past=past)

    def for_agent(self, needs: Needs) -> StateScores:
        """Scores of the same states, with histories if needed."""
        return dataclasses.replace(self, with_history=True) if needs.history else self

    def chosen(self, rows: Ints) -> StateScores:
        """Scores of chosen states, in clock order."""
        return self if len(rows) == len(self) else dataclasses.replace(self, past=self.past.chosen(rows))

    def scored_by(self, models: FoldModels) -> StateScores:
        """Scores of the same states by other models."""
        return dataclasses.replace(self, past=dataclasses.replace(self.past, model=None), models=models)

    def among(self, requirements: RoundRequirements) -> StateScores:
        """Scores of the same states, with a round's terms.

        If items end, a state of another period admits the items that are on offer at the same share of the round.
        Otherwise the prices of a round would be solved without its new items, and with items that are over.
        """
        past = self.past
        counted = requirements.would_count(past.visits)
        if counted is not None:
            past = dataclasses.replace(past, audiences=counted)
        if self.times.has_ends:
            past = dataclasses.replace(past, offer_tick=requirements.moved(past.visits).tick)
        return self if past is self.past else dataclasses.replace(self, past=past)

    def __iter__(self) -> Iterator[Arrivals]:
        models = self.models()
        number_of_state = self.past.model
        if number_of_state is None:
            number_of_state = fold_of(self.seed, self.past.user) % len(models)
        for number, model in enumerate(models):
            yield from self._scored(model, np.flatnonzero(number_of_state == number))

    def rows(self, start: int, stop: int) -> Float32s:
        """λ(x,y) of adjacent states in clock order, −inf if inadmissible."""
        # Models that served the round one after the other score rows in clock order, but models of folds would not.
        scores = np.empty((stop - start, len(self.times)), np.float32)
        n_filled = 0
        models = self.models()
        numbers = np.zeros(len(self), np.int64) if self.past.model is None else self.past.model
        for number in np.unique(numbers[start:stop]).tolist():
            rows = start + np.flatnonzero(numbers[start:stop] == number)
            for chunk in self._scored(models[number], rows):
                chunk.write_scores(scores[n_filled : n_filled + len(chunk)])
                n_filled += len(chunk)
        return scores

    def _scored(self, model: IntensityModel, chosen: Ints) -> Iterator[Arrivals]:
        """Blocks of chosen past states, scored by a model."""
        past = self.past
        offer_tick = past.tick if past.offer_tick is None else past.offer_tick
        for start in range(0, len(chosen), _ENCODED):
            encoded = chosen[start : start + _ENCODED]
            states, state_numbers = past.states(encoded)
            blocks = score_states(
                model,
                states,
                events=state_numbers,
                ids=past.id[encoded],
                ticks=offer_tick[encoded],
                times=self.times,
                excluded=None if past.excluded is None else past.excluded(encoded),
            )
            for first, block in zip(range(0, len(encoded), BLOCK), blocks, strict=True):
                rows = encoded[first : first + BLOCK]
                history = states[first : first + BLOCK] if self.with_history else None
                yield past.arrivals(rows, block.cut(0, len(rows)), history)


def always(model: IntensityModel) -> FoldModels:
    """Single model for all users, without cross-fitting."""
    return lambda: (model,)


def median_kth_score(states: StateScores, model: IntensityModel, k: int) -> float:
    """Median over states of the k-th largest λ(x,y).

    The median is the unit in which a scenario gives the cost c of a missing exposure. It is computed once, from warm-up
    states and the warm-up model, so that c is the same in all arms of a seed. A state with fewer than k admissible
    items counts with its smallest intensity. If there are many states, an evenly spaced sample is used.

    Raises:
        MarketError: If the median is 0, because a missing exposure would then cost nothing.
    """
    if len(states) > most_states(states.shape[1]):
        states = states.sampled(_FOR_MEDIAN)
    parts = [np.zeros(0)]
    for chunk in states.scored_by(always(model)):
        # The items of largest relevance come first, then −1 if fewer than k are admissible.
        items = top_k(chunk.relevance, chunk.admissible, k)
        n_filled = np.count_nonzero(items >= 0, axis=1)
        rows = np.flatnonzero(n_filled)
        last_relevance = at_items(chunk.relevance, items)[rows, n_filled[rows] - 1]
        parts.append(last_relevance * chunk.ground_intensity.cpu().numpy()[rows])
    scores = np.concatenate(parts)
    if not len(scores):
        return 1.0  # without past states, the unit of the cost does not matter
    median = float(torch.from_numpy(scores).double().quantile(0.5))
    if not median > 0:
        raise MarketError(
            f"the k-th highest intensity of a state has the median {median} over {len(scores)} past states, so "
            "a missing exposure would cost nothing. Use a model that gives k items a positive intensity in "
            "more than half of the states"
        )
    return median
