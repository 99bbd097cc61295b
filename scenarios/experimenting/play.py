"""An experiment is played: one market with both arms, and a whole world of each agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents import LearningAgent, closed_rounds, make_agent, market_for
from rimsim.arrays import Bools, Floats, Ints, seconds
from rimsim.config import Seeds
from rimsim.intensity.contract import BLOCK
from rimsim.market import Market, Needs
from rimsim.scenarios.experimenting.diverted import Diverted
from rimsim.scenarios.experimenting.split import Split

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.market.ledger import Ledger
    from rimsim.scenarios.experimenting.designs import Assignment


@dataclass(frozen=True, eq=False)
class PlayedRound:
    """A round: n arrivals, what they were shown and what came of it."""

    number: int
    arrival: Ints
    """(n,) arrival ids."""
    user: Ints
    """(n,) visitors."""
    time: Floats
    """(n,) seconds."""
    item: Ints
    """(n, k) items; −1 for an empty position."""
    consumed: Bools
    """(n, k) what was consumed."""
    probability: Floats
    """(n, k) with which true probability."""

    @classmethod
    def of(cls, number: int, ledger: Ledger) -> PlayedRound:
        """What a ledger holds of it."""
        schedule = ledger.schedule
        return cls(
            number,
            schedule.id,
            schedule.user[schedule.slot],
            seconds(schedule.tick),
            ledger.item.astype(np.int64),
            ledger.consumed,
            ledger.probability,
        )


def play_world(
    config: ScenarioConfig, seed: int, agent: str, report: Callable[[int], None]
) -> list[PlayedRound]:
    """All rounds of a market in which one agent answers everyone."""
    actor = make_agent(agent)
    market = market_for(actor, config, seeds=Seeds.all(seed))
    return [PlayedRound.of(closed.number, closed.ledger) for closed in closed_rounds(market, actor, report)]


def play_experiment(
    config: ScenarioConfig,
    seed: int,
    agents: tuple[str, str],
    assignment: Assignment,
    *,
    diverted: bool,
    shared: bool,
    report: Callable[[int], None],
) -> list[PlayedRound]:
    """All rounds of one market on which two agents have arms.

    Where training is diverted, the market is kept twice, in step: the same visitors, slates and consumptions, under two
    models, each of which learns from its own arm and scores the states for its own agent.

    Args:
        config: The scenario.
        seed: Seed of the market.
        agents: Texts of A and B.
        assignment: Who is in which arm.
        diverted: Whether each arm's model learns from its own arm alone.
        shared: Whether floors are one budget.
        report: Called with numbers of arrivals.
    """
    actors = [make_agent(text) for text in agents]
    controls = [Diverted(assignment, treated=arm) for arm in (False, True)] if diverted else [None]
    markets = [
        Market(config, seeds=Seeds.all(seed), control=control, needs=Needs.of(*actors))
        for control in controls
    ]
    split = Split(actors, assignment, shared=shared, n_items=markets[0].n_items)
    learns = any(isinstance(one, LearningAgent) for one in actors)
    for market in markets:
        market.barrier_every = split.barrier_every
    rounds = []
    while not markets[0].done:
        number = markets[0].round
        views = [market.round_view() for market in markets]
        split.begin([views[0], views[-1]])
        while not markets[0].done and markets[0].round == number:
            came = [
                market.next_arrivals(BLOCK, in_waves=split.order_free and not learns) for market in markets
            ]
            slates = split.answer([came[0], came[-1]])
            feedback = [market.serve(one, slates) for market, one in zip(markets, came, strict=True)]
            if learns:
                split.learn(feedback[0])
            report(len(came[0]) * len(markets))
        closed = [market.closed.pop() for market in markets]
        rounds.append(PlayedRound.of(number, closed[0].ledger))
    return rounds
