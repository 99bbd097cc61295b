"""Periods of arrivals for ``online.py``: states of a log's users, drawn as a market draws them, scored by one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rimsim import rng
from rimsim.config import ArrivalsConfig, DataConfig, PlatformConfig, ScenarioConfig
from rimsim.market import Arrivals, RoundView, build_world, initial_model
from rimsim.market.arrivals import BUILT_IN, RoundsSoFar
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.past_round import PastRound
from rimsim.market.scores.past import PastStates, StateScores, always
from rimsim.matching import required_exposure

__all__ = ["MIXES", "Calibrated", "Period", "Source", "rows_of"]

MIXES = ("stationary", "drifting")
# the share of mainstream arrivals is .5 ± .4, back where it was after 2.7 periods
_SWING = 0.4
_CYCLE = 2.7
_DRAWN = 6  # candidates drawn for each arrival of a drifting mix


def rows_of(arrivals: Arrivals, rows: slice) -> Arrivals:
    """Some arrivals as a batch of their own, without a copy."""
    return Arrivals(
        id=arrivals.id[rows],
        time=arrivals.time[rows],
        user=arrivals.user[rows],
        relevance=arrivals.relevance[rows],
        ground_intensity=arrivals.ground_intensity[rows],
        admissible=arrivals.admissible[rows],
        row=arrivals.row[rows],
    )


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A period's states as the calibration of the next one."""

    arrivals: Arrivals

    def __len__(self) -> int:
        return len(self.arrivals)

    def __iter__(self) -> Iterator[Arrivals]:
        yield self.arrivals


@dataclass(frozen=True, eq=False)
class Period:
    """N arrivals with their scores, and what an agent may know before them."""

    arrivals: Arrivals
    view: RoundView

    @property
    def scores(self) -> NDArray[np.float32]:
        """(N, M) λ(x,y)."""
        return np.asarray(self.arrivals.intensity.numpy())

    @property
    def admissible(self) -> NDArray[np.bool_]:
        """(N, M)."""
        return np.asarray(self.arrivals.admissible.numpy())


class Source:
    """Draws periods of one log.

    Args:
        data: Source of the log.
        min_item_events: Fewest events of an item.
        n: Arrivals of a period.
        k: Positions of a slate.
        beta: β.
        cost: Cost of one missing exposure, as a multiple of the median k-th score of the period before.
        model: Name of the model, fitted to the whole log.
        seed: Seed of arrivals, model and agents.
    """

    def __init__(
        self, data: str, min_item_events: int, n: int, k: int, beta: float, cost: float, model: str, seed: int
    ) -> None:
        config = ScenarioConfig(
            slate=k,
            data=DataConfig(source=data, min_item_events=min_item_events),
            arrivals=ArrivalsConfig(weight="sessions"),
            platform=PlatformConfig(model=model),
        )
        self.n = n
        self.k = k
        self.beta = beta
        self.cost = cost
        self.seed = seed
        self._world = build_world(config)
        self._model = initial_model(config, self._world.past, seed)
        past = self._world.past
        self._logged_past = LoggedPast.of(past)
        self.items = past.n_items
        popularity = np.log1p(np.bincount(past.item, minlength=past.n_items))
        events = np.bincount(past.user, minlength=past.n_users)
        taste = np.bincount(past.user, popularity[past.item], past.n_users) / np.maximum(events, 1)
        self._mainstream = taste > np.median(taste[events > 0])

    def periods(self, mix: str, number: int) -> Iterator[Period]:
        """So many periods of a mix, one after the other; the states of period −1 are the first calibration."""
        before = self._arrivals(mix, -1)
        for period in range(number):
            now = self._arrivals(mix, period)
            worst = before.intensity.topk(self.k, 1).values[:, -1]
            view = RoundView(
                round=period,
                arrivals=self.n,
                slate=self.k,
                required=required_exposure(
                    self.beta, self.n, self.k, np.ones(self.items, bool), self.seed + period
                ),
                exposure=np.zeros(self.items, np.int64),
                cost=self.cost * float(worst.double().quantile(0.5)),
                popularity=np.bincount(self._world.past.item, minlength=self.items),
                calibration=Calibrated(before),
                key=rng.derived_seed(self.seed, rng.Purpose.AGENT, period),
            )
            yield Period(now, view)
            before = now

    def _arrivals(self, mix: str, period: int) -> Arrivals:
        """States of the log's users, drawn like the clones of a market's round."""
        drawn = self.n if mix == "stationary" else self.n * _DRAWN
        scenario = ScenarioConfig(arrivals=ArrivalsConfig(per_round=drawn, weight="sessions"))
        schedule = BUILT_IN["clones"](scenario).round(period, RoundsSoFar(self._world, self.seed))
        rows = np.arange(drawn)
        if mix == "drifting":
            rows = self._mixed(self._mainstream[schedule.log_user[schedule.slot]], period)
        visits = schedule.visits(self._logged_past.counts)
        all_states = PastStates.of_round(
            PastRound(period, schedule, Histories(schedule, self._logged_past)), visits
        )
        past = dataclasses.replace(
            all_states,
            id=all_states.id[rows],
            tick=all_states.tick[rows],
            user=all_states.user[rows],
            states=lambda visit_rows: all_states.states(rows[visit_rows]),
            visits=visits.rows(rows),
        )
        scored = list(
            StateScores(past, always(self._model), self._world.times, torch.device("cpu"), self.seed)
        )
        return Arrivals(
            id=past.id,
            time=np.concatenate([chunk.time for chunk in scored]),
            user=past.user,
            relevance=torch.cat([chunk.relevance for chunk in scored]),
            ground_intensity=torch.cat([chunk.ground_intensity for chunk in scored]),
            admissible=torch.cat([chunk.admissible for chunk in scored]),
            row=np.arange(self.n),
        )

    def _mixed(self, mainstream: NDArray[np.bool_], period: int) -> NDArray[np.int64]:
        """(N,) candidates such that the share of mainstream users moves as a wave within and over the periods."""
        time = period + np.arange(self.n) / self.n
        share = 0.5 + _SWING * np.sin(2 * np.pi * time / _CYCLE)
        wanted = rng.uniform(self.seed, rng.Purpose.ARRIVALS, 20, period + 1, np.arange(self.n)) < share
        rows = np.empty(self.n, np.int64)
        for group in (False, True):
            mine = np.flatnonzero(mainstream == group)
            rows[wanted == group] = mine[: int((wanted == group).sum())]
        return rows
