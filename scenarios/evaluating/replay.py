"""A run is played again: what one agent showed, what a target would have shown in its states, and in its own world."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rimsim import rng
from rimsim.agents import LearningAgent, StatingAgent, closed_rounds, make_agent, market_for, play_round
from rimsim.arrays import Array, Bools, Floats, Ints
from rimsim.config import Seeds
from rimsim.errors import ConfigError
from rimsim.evaluation import Chances, LoggedSlates
from rimsim.market import Market, Needs
from rimsim.market.learning import positions_of
from rimsim.market.records import VISIT_BITS, as_slates, at_items, within_capacity
from rimsim.measures import predicted_consumption

if TYPE_CHECKING:
    from rimsim.agents import Agent
    from rimsim.config import ScenarioConfig
    from rimsim.market import Arrivals, Feedback, RoundView, Slates


_TARGET = 19
"""Key of the target's draws in the states of the log, apart from those of whoever was logged."""


@dataclass(frozen=True, eq=False)
class ReplayedRound:
    """A round as it was logged, with what a target makes of its n states."""

    log: LoggedSlates
    """Slates, what came of them, and their chances."""
    arrival: Ints
    """(n,) arrival ids."""
    first: Bools
    """(n,) whether a visitor came for the first time, in a state that no slate had moved."""
    worth: Floats
    """(n,) true expected consumptions of the slate that the target drew in the state of the log."""
    supported: Floats
    """(n,) whether that slate could have been logged; NaN where the logged agent cannot say."""


def replayed(
    config: ScenarioConfig, seed: int, logged: str, target: str, report: Callable[[int], None]
) -> list[ReplayedRound]:
    """Play an arm again and look at each of its states with the eyes of a target.

    Args:
        config: The scenario.
        seed: Seed of the arm.
        logged: Text of the agent that shows slates; it has to say their chances.
        target: Text of the agent to be valued. What it shows in a state changes nothing.
        report: Called with numbers of arrivals.

    Raises:
        ConfigError: If the logged agent does not say with which chance it shows its slates, or the target draws its
            own and has no ``chance_of``.
    """
    shows, valued = make_agent(logged), make_agent(target)
    kind = _WatchedLearner if isinstance(shows, LearningAgent) else _Watched
    market = Market(config, seeds=Seeds.all(seed), needs=Needs.of(shows, valued))
    rounds = []
    # A target whose prices follow its own delivery is asked one arrival after the other.
    batch = None if valued.order_free else 1
    while not market.done:
        watched = kind(shows, valued, market)
        play_round(market, watched, batch, report)
        rounds.append(watched.round(market))
        market.closed.pop()
    return rounds


def true_values(
    config: ScenarioConfig, seed: int, target: str, report: Callable[[int], None]
) -> list[tuple[Ints, Floats]]:
    """Play the target in a world of its own, with the arrivals of the log.

    Args:
        config: The scenario.
        seed: Seed of the log.
        target: Text of the agent.
        report: Called with numbers of arrivals.

    Returns:
        For each round the arrival ids (n,) and the true expected consumptions (n,) of the slate that each was shown.
    """
    agent = make_agent(target)
    market = market_for(agent, config, seeds=Seeds.all(seed))
    ledgers = (closed.ledger for closed in closed_rounds(market, agent, report))
    return [(ledger.schedule.id, ledger.probability.sum(1)) for ledger in ledgers]


class _Watched:
    """Acts as one agent does, and notes what another would have done."""

    def __init__(self, shows: Agent, valued: Agent, market: Market) -> None:
        self.name = shows.name
        self.order_free = shows.order_free and valued.order_free
        self.barrier_every = shows.barrier_every
        self._shows, self._valued, self._market = shows, valued, market
        self._parts: list[dict[str, Any]] = []

    def begin_round(self, view: RoundView) -> None:
        """Both get ready, with draws of their own."""
        self._k = view.k
        self._shows.begin_round(view)
        self._valued.begin_round(
            dataclasses.replace(view, key=rng.derived_seed(view.key, rng.Purpose.AGENT, _TARGET))
        )

    def act(self, arrivals: Arrivals) -> Slates:
        """The slates of the agent that shows."""
        slates = as_slates(self._shows.act(arrivals))
        if slates.chances is None:
            raise ConfigError(
                f"--logged: {self.name!r} does not say with which chance it shows its slates; allowed: random, "
                "epsilon-greedy, entropic-dual, or an agent of one's own whose Slates have chances"
            )
        items = within_capacity(slates.items, arrivals.capacity)
        target = self._target_chances(items, arrivals)
        drawn = as_slates(self._valued.act(arrivals))
        if drawn.propensity is not None and target is None:
            raise ConfigError(
                f"--target: {self._valued.name!r} draws its slates and cannot say with which chance it shows those of "
                "another; allowed: an agent that has chance_of, or draws nothing"
            )
        own = within_capacity(drawn.items, arrivals.capacity)
        self._note(arrivals, slates, items, target, own)
        return slates

    def _target_chances(self, items: Ints, arrivals: Arrivals) -> Chances | None:
        return self._valued.chance_of(items, arrivals) if isinstance(self._valued, StatingAgent) else None

    def _note(
        self,
        arrivals: Arrivals,
        slates: Slates,
        items: Ints,
        target: Chances | None,
        own: Ints,
    ) -> None:
        market = self._market
        if target is None:
            target = Chances.certain(own, items)
        visits = market.open.visits(arrivals.index)
        looked_at = positions_of(market.config, market.consumer, market.config.consumer.position_decay)
        ground = arrivals.ground_intensity.cpu().numpy()[:, None]
        predicted = [
            predicted_consumption(
                np.where(some >= 0, at_items(arrivals.relevance, some) * ground, np.nan), looked_at
            )
            for some in (items, own)
        ]
        supported = np.full(len(own), np.nan)
        if isinstance(self._shows, StatingAgent):
            supported = (self._shows.chance_of(own, arrivals).slate > 0).astype(np.float64)
        self._parts.append(
            {
                "index": arrivals.index,
                "logging": slates.chances,
                "target": target,
                "predicted": predicted[0],
                "predicted_target": predicted[1].sum(1),
                "worth": market.open.respond(visits, own).probability.sum(1),
                "supported": supported,
                "admissible": arrivals.admissible.sum(1).cpu().numpy().astype(np.int64),
                "uniform": slates.uniform if slates.uniform is not None else np.zeros(len(own), bool),
            }
        )

    def round(self, market: Market) -> ReplayedRound:
        """What was noted of the round that is over, in clock order."""
        ledger = market.closed[-1].ledger
        order = np.argsort(self._joined("index"))
        log = LoggedSlates(
            reward=ledger.consumed.astype(np.float64),
            shown=ledger.item >= 0,
            visitor=ledger.schedule.user[ledger.schedule.slot],
            uniform=bool(self._joined("uniform").all()),
            logging=self._chances("logging").rows(order),
            target=self._chances("target").rows(order),
            predicted=self._joined("predicted")[order],
            predicted_target=self._joined("predicted_target")[order],
            admissible=self._joined("admissible")[order],
        )
        arrival = ledger.schedule.id
        return ReplayedRound(
            log,
            arrival,
            (arrival & ((1 << VISIT_BITS) - 1)) == 0,
            self._joined("worth")[order],
            self._joined("supported")[order],
        )

    def _chances(self, name: str) -> Chances:
        return Chances.joined([part[name] for part in self._parts])

    def _joined(self, name: str) -> Array:
        return np.concatenate([part[name] for part in self._parts])


class _WatchedLearner(_Watched):
    """The same for an agent that learns."""

    def learn(self, feedback: Feedback) -> None:
        """Let the agent that shows learn; the target sees nothing of what came of another's slates."""
        self._shows.learn(feedback)  # type: ignore[attr-defined]  # it is a LearningAgent
