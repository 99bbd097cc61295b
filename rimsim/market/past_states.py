"""The states that prices are solved on, and the models that score them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from rimsim.arrays import Bools, Ints, seconds, ticks
from rimsim.intensity.impressions import layer_of
from rimsim.intensity.product import updated
from rimsim.intensity.states import UserStates
from rimsim.market.arrivals.clones import events_before
from rimsim.market.arrivals.schedule import VISIT_BITS, row_capacity
from rimsim.market.learning import laid_over
from rimsim.market.models import initial_model
from rimsim.market.records import Arrivals, ScoredStates
from rimsim.market.scoring import BLOCK, score_states
from rimsim.market.training_log import fold_of, training_log
from rimsim.requirements.audiences import RoundVisits

if TYPE_CHECKING:
    from rimsim.config import PlatformConfig, ScenarioConfig
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import IntensityModel
    from rimsim.intensity.impressions import ImpressionLayer
    from rimsim.market.training_log import PastRound
    from rimsim.market.world import World
    from rimsim.requirements.carry_over import RoundRequirements

    FoldModels: TypeAlias = Callable[[], tuple[IntensityModel, ...]]


_ENCODED = 32 * BLOCK
"""States that are encoded at once."""


@dataclass(frozen=True, eq=False)
class PastStates:
    """n states of a past period, in clock order."""

    id: Ints
    """(n,) arrival ids."""
    tick: Ints
    """(n,) instants."""
    user: Ints
    """(n,) market users."""
    states: Callable[[Ints], tuple[UserStates, Ints]]
    """The states of some of the n rows, and for each a number that is the same where the events are."""
    visits: RoundVisits
    """The n visits as audiences see them, and the period."""
    capacity: Ints | None = None
    """(n,) positions that each may fill; None: all."""
    audiences: Bools | None = None
    """(n, A) whether each would be of an audience of the round that the states stand for, and within its time."""

    @classmethod
    def of_round(cls, past: PastRound, visits: RoundVisits, capacity: Ints | None = None) -> PastStates:
        """The states in which the arrivals of a round came, or would come if nothing happened before."""
        schedule, histories = past.schedule, past.histories

        def states(rows: Ints) -> tuple[UserStates, Ints]:
            slots, tick = schedule.slot[rows], schedule.tick[rows]
            counts = histories.visible_at(slots, tick)
            return histories.states(slots, counts, tick), slots + len(histories) * counts

        return cls(schedule.id, schedule.tick, schedule.user[schedule.slot], states, visits, capacity)

    def sampled(self, most: int) -> PastStates:
        """At most so many of the states, evenly spaced in clock order: the same for all who look at the period."""
        n = len(self.id)
        if n <= most:
            return self
        rows = np.floor((np.arange(most) + 0.5) * (n / most)).astype(np.int64)
        whole = self.states
        return PastStates(
            id=self.id[rows],
            tick=self.tick[rows],
            user=self.user[rows],
            states=lambda some: whole(rows[some]),
            visits=self.visits.rows(rows),
            capacity=None if self.capacity is None else self.capacity[rows],
            audiences=None if self.audiences is None else self.audiences[rows],
        )


class StateScores(ScoredStates):
    """Past states, scored in chunks by one model for each fold of users; nothing is scored before it is iterated.

    Args:
        past: The states.
        models: A function that yields the model of each fold of users, or one model for all; called when first needed.
        release: (M,) tick of each item's release.
        device: Where scores live.
        seed: Model seed, which makes the folds.
    """

    def __init__(
        self,
        past: PastStates,
        models: Callable[[], tuple[IntensityModel, ...]],
        release: Ints,
        device: torch.device,
        seed: int,
    ) -> None:
        self._past = past
        self._models = models
        self._release = release
        self._device = device
        self._seed = seed

    def __len__(self) -> int:
        return len(self._past.id)

    def sampled(self, most: int) -> StateScores:
        """At most so many of the states, evenly spaced in clock order, under the same models."""
        past = self._past.sampled(most)
        if past is self._past:
            return self
        return StateScores(past, self._models, self._release, self._device, self._seed)

    def scored_by(self, models: Callable[[], tuple[IntensityModel, ...]]) -> StateScores:
        """The same states under other models."""
        return StateScores(self._past, models, self._release, self._device, self._seed)

    def among(self, promised: RoundRequirements) -> StateScores:
        """The same states with what each would count for in a round that they stand for."""
        past = self._past
        counted = promised.would_count(past.visits)
        if counted is None:
            return self
        past = dataclasses.replace(past, audiences=counted)
        return StateScores(past, self._models, self._release, self._device, self._seed)

    @property
    def capacity(self) -> Ints | None:
        """(n,) positions that each may fill; None: all."""
        return self._past.capacity

    @property
    def audiences(self) -> Bools | None:
        """(n, A) whether each counts for an audience of the round that they stand for; None: no row asks."""
        return self._past.audiences

    def between(self, start: int, stop: int) -> Iterator[Arrivals]:
        """The states of rows ``start`` to ``stop`` − 1 in clock order, where one model scores all."""
        (model,) = self._models()
        for first in range(start, stop, _ENCODED):
            yield from self._scored(model, np.arange(first, min(first + _ENCODED, stop)))

    def __iter__(self) -> Iterator[Arrivals]:
        past = self._past
        models = self._models()
        fold = fold_of(self._seed, past.user) % len(models)
        for number, model in enumerate(models):
            mine = np.flatnonzero(fold == number)
            for first in range(0, len(mine), _ENCODED):
                yield from self._scored(model, mine[first : first + _ENCODED])

    def _scored(self, model: IntensityModel, some: Ints) -> Iterator[Arrivals]:
        past = self._past
        states, events = past.states(some)
        blocks = score_states(model, states, events, past.id[some], past.tick[some], self._release)
        for first, block in zip(range(0, len(some), BLOCK), blocks, strict=True):
            rows = some[first : first + BLOCK]
            relevance, ground, admissible = block.cut(0, len(rows)).tensors
            yield Arrivals(
                id=past.id[rows],
                time=seconds(past.tick[rows]),
                user=past.user[rows],
                relevance=relevance,
                ground_intensity=ground,
                admissible=admissible,
                index=rows,
                capacity=None if past.capacity is None else past.capacity[rows],
                audiences=None if past.audiences is None else past.audiences[rows],
            )


def always(model: IntensityModel) -> FoldModels:
    """One model for the states of all users."""
    return lambda: (model,)


def cross_fitted(
    platform: PlatformConfig, warmup: EventLog, past: list[PastRound], before: IntensityModel, seed: int
) -> FoldModels:
    """A model for each fold of users that has not seen what that fold did in the last round; none has a layer.

    Both are retrained, when first asked for, from the model that served that round.
    """
    kept, stop = list(past), past[-1].schedule.stop
    base, _ = layer_of(before)

    @lru_cache(maxsize=1)
    def models() -> tuple[IntensityModel, ...]:
        return tuple(
            updated(
                base,
                training_log(platform, warmup, kept, stop, seed, without_fold=fold),
                ground=platform.retrain_ground,
            )
            for fold in (0, 1)
        )

    return models


def under(models: FoldModels, layer: ImpressionLayer | None) -> FoldModels:
    """The models under a layer, so that what they score is in the unit of the model that serves under it."""
    return lambda: tuple(laid_over(model, layer) for model in models())


def session_scores(
    config: ScenarioConfig,
    world: World,
    model: IntensityModel,
    most: int,
    seed: int,
    release: Ints,
    *,
    crossed: bool,
) -> StateScores:
    """The states at the last sessions of a replay's warm-up.

    Args:
        config: The scenario.
        world: Its log.
        model: The model that will serve; it has seen those sessions.
        most: At most so many sessions.
        seed: Model seed.
        release: (M,) tick of each item's release.
        crossed: Score each fold of users by a model that has not seen what it did in those sessions.
    """
    sessions, past_log = world.past_sessions, world.past
    rows = np.arange(max(0, len(sessions) - most), len(sessions))
    users, starts = sessions.user[rows], sessions.start[rows]
    past = PastStates(
        id=(users << VISIT_BITS) + np.arange(len(rows)),
        tick=ticks(starts),
        user=users,
        states=lambda some: (UserStates.of(past_log, users[some], starts[some]), some),
        visits=RoundVisits(
            ticks(starts),
            users,
            events_before(sessions)[rows] == 0,
            start=int(ticks(starts[:1]).sum()),
            stop=int(ticks(starts[-1:]).sum()) + 1,
        ),
        capacity=row_capacity(users, config.slate, config.user_cap),
    )

    @lru_cache(maxsize=1)
    def models() -> tuple[IntensityModel, ...]:
        recent = past_log.time >= starts[0]
        held = fold_of(seed, past_log.user)
        base, _ = layer_of(model)
        return tuple(
            initial_model(config, past_log.rows(~(recent & (held == fold))), seed, base) for fold in (0, 1)
        )

    device = torch.device(getattr(model, "device", "cpu"))
    fold_models = models if crossed and len(rows) else always(model)
    return StateScores(past, fold_models, release, device, seed)
