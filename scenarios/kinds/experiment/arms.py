"""Markets of one agent, or of two that share visitors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rimsim import agents as players
from rimsim.agents import Agent, Capabilities, LearningAgent, PacingAgent, make_agent
from rimsim.arrays import Bools, Floats, Ints, seconds
from rimsim.config import ScenarioConfig, Seeds
from rimsim.errors import ConfigError
from rimsim.evaluation.designs import Assignment
from rimsim.intensity.contract import BLOCK
from rimsim.market import Arrivals, Feedback, Market, Needs, RoundView, Slates
from rimsim.market.histories import Histories
from rimsim.market.ledger import Ledger
from rimsim.market.past_round import PastRound
from rimsim.market.records import as_slates, delay_ticks
from rimsim.market.slates import count_items, within_capacity
from rimsim.scenarios.kinds.results import Count


@dataclass(frozen=True, eq=False)
class WorldRound:
    """Round of n arrivals, their slates and consumptions."""

    number: int
    arrival: Ints  # (n,) ids of arrivals
    user: Ints  # (n,) user of each arrival
    time: Floats  # (n,) time of each arrival, in seconds on the market's clock
    item: Ints  # (n, k) items of the slates; −1 for an empty position
    consumed: Bools  # (n, k) True for consumed items
    probability: Floats  # (n, k) true probability of consumption

    @classmethod
    def of(cls, number: int, ledger: Ledger) -> WorldRound:
        """Record of the round that a ledger describes."""
        schedule = ledger.schedule
        return cls(
            number=number,
            arrival=schedule.id,
            user=schedule.user[schedule.slot],
            time=seconds(schedule.tick),
            item=ledger.item.astype(np.int64),
            consumed=ledger.consumed,
            probability=ledger.probability,
        )


def play_world(config: ScenarioConfig, seed: int, agent: str, report: Count) -> list[WorldRound]:
    """Rounds of a market in which one agent answers everyone."""
    actor = make_agent(agent)
    market = players.market_for(actor, config, seeds=Seeds.all(seed))
    rounds = players.closed_rounds(market, actor, report)
    return [WorldRound.of(closed.number, closed.ledger) for closed in rounds]


def play_experiment(
    config: ScenarioConfig,
    seed: int,
    agents: tuple[str, str],
    assignment: Assignment,
    *,
    diverted: bool,
    shared: bool,
    report: Count,
) -> list[WorldRound]:
    """Rounds of a market that two agents share.

    With diverted training, there are two copies of the market with the same visitors, slates and consumptions, but two
    models. Each model learns from its own arm and scores the states for its own agent.
    """
    actors = [make_agent(text) for text in agents]
    wait = 1 + delay_ticks(config.consumer.delay)
    controls = [Diverted(assignment, treated=arm, wait=wait) for arm in (False, True)] if diverted else [None]
    seeds = Seeds.all(seed)
    needs = Needs.of(*actors)
    markets = [Market(config, seeds=seeds, control=control, needs=needs) for control in controls]
    split = TwoArms(actors, assignment, shared=shared, n_items=markets[0].n_items)
    learns = any(isinstance(actor, LearningAgent) for actor in actors)
    rounds = []
    while not markets[0].done:
        number = markets[0].round
        views = [market.round_view() for market in markets]
        split.begin([views[0], views[-1]])
        while markets[0].round == number and not markets[0].done:
            in_waves = split.order_free and not learns
            batches = [
                market.next_arrivals(BLOCK, in_waves=in_waves, barrier_every=split.barrier_every)
                for market in markets
            ]
            for market in markets:
                _require_one_model(market)
            slates = split.answer([batches[0], batches[-1]])
            feedback = [
                market.serve(arrivals, slates) for market, arrivals in zip(markets, batches, strict=True)
            ]
            if learns:
                split.learn(feedback[0])
            report(len(batches[0]) * len(markets))
        closed = [market.closed.pop() for market in markets]
        rounds.append(WorldRound.of(number, closed[0].ledger))
    return rounds


def _require_one_model(market: Market) -> None:
    """Refuse a round in which the model changes or stops."""
    # The two agents would have to solve prices again, each for its own arm, and be told of a fallback's slates.
    if market.fallback is not None or len(market.open.models) > 1:
        processes = ", ".join(repr(name) for name in market.processes)
        raise ConfigError(
            f"experiment: in round {market.round} a process (one of {processes}) stopped the model or let another one "
            "go live, which an experiment cannot have. Leave this process out of the scenario's processes"
        )


class TwoArms:
    """Pair of agents that answer the arrivals of their arms.

    Items may also be assigned to arms. With ``shared`` prices, both agents deliver the same guarantees, and each counts
    the deliveries of the other. Without ``shared``, each agent has half of every guarantee, and ignores the other
    agent's deliveries.

    Raises:
        ConfigError: If an agent cannot count the deliveries of another agent.
    """

    def __init__(
        self, agents: Sequence[Agent], assignment: Assignment, *, shared: bool, n_items: int
    ) -> None:
        self._agents = tuple(agents)
        self._assignment = assignment
        self._shared = shared
        self._treated_item = assignment.items(n_items)
        self.name = "|".join(agent.name for agent in agents)
        # Agents whose slates depend on the order of arrivals, such as those that adapt prices.
        pacing_agents = [agent for agent in agents if not agent.order_free]
        deliver_the_same = shared or assignment.by_item
        for agent in pacing_agents:
            if (
                deliver_the_same
                and Capabilities.of(agent).moves_prices
                and not isinstance(agent, PacingAgent)
            ):
                raise ConfigError(
                    f"experiment: {agent.name!r} adapts its prices to its own deliveries, but here the other agent "
                    "delivers too. Use --prices split with a design other than item, or an agent with the "
                    "method note_delivery (rim-feedback, entropic-dual)"
                )
        self.order_free = not pacing_agents
        # Each agent is told of the other's slates at once, so arrivals are answered one by one.
        self._share_deliveries = bool(pacing_agents) and deliver_the_same
        barrier_lengths = {agent.barrier_every for agent in agents} - {None}
        self.barrier_every = min(barrier_lengths) if barrier_lengths else None  # type: ignore[type-var]  # there is no None

    def begin(self, views: Sequence[RoundView]) -> None:
        """Begin a round; each agent gets its own market's view."""
        self._round = views[0].round
        self._weights = np.ascontiguousarray(views[0].position_weights, np.float64)
        for agent, view in zip(self._agents, views, strict=True):
            if not self._shared and self._assignment.by_arrival:
                view = dataclasses.replace(  # noqa: PLW2901  # each agent serves half of the arrivals, so it gets a view of half
                    view, required=view.required / 2, arrivals=max(1, round(view.arrivals / 2))
                )
            agent.begin_round(view)

    def treated(self, arrivals: Arrivals) -> Bools:
        """(n,) mask of the arrivals of arm B."""
        return self._assignment.arrivals(arrivals.user, arrivals.time, self._round)

    def answer(self, arrivals: Sequence[Arrivals]) -> Slates:
        """Slates of arrivals, given each model's view of the arrivals."""
        n = len(arrivals[0])
        if not self._share_deliveries:
            return self._batch(arrivals)
        slates = [self._batch([view.rows(slice(row, row + 1)) for view in arrivals]) for row in range(n)]
        items = np.concatenate([slate.items for slate in slates])
        prices = [slate.price for slate in slates if slate.price is not None]
        return Slates(items, np.concatenate(prices) if len(prices) == n else None)

    def _batch(self, arrivals: Sequence[Arrivals]) -> Slates:
        """Slates for arrivals, from the agents of their arms."""
        treated = self.treated(arrivals[0])
        items = np.full((len(treated), len(self._weights)), -1)
        price = np.full(items.shape, np.nan, np.float32)
        # Masks of the arrivals that see only the slate of A, and only the slate of B.
        sees_only_a = ~treated
        sees_only_b = treated
        if self._assignment.by_item:
            # If items are assigned, the slates of both agents are merged. In a two-sided design, control visitors see
            # A's slate only.
            no_arrival = np.zeros_like(treated)
            sees_only_a = ~treated if self._assignment.by_arrival else no_arrival
            sees_only_b = no_arrival
        for arm, sees_only_arm in enumerate((sees_only_a, sees_only_b)):
            if sees_only_arm.any():
                slates = self._arm_slates(arm, arrivals[arm].rows(np.flatnonzero(sees_only_arm)))
                items[sees_only_arm] = slates.items
                price[sees_only_arm] = np.nan if slates.price is None else slates.price
        sees_merged = ~(sees_only_a | sees_only_b)
        if sees_merged.any():
            items[sees_merged] = self._merged_slates(
                [view.rows(np.flatnonzero(sees_merged)) for view in arrivals]
            )
        return Slates(items, price)

    def _arm_slates(self, arm: int, arrivals: Arrivals) -> Slates:
        """Slates of one agent.

        If both agents deliver the same guarantees, and the other agent adapts its prices, the other agent is told the
        exposures of these slates.
        """
        slates = as_slates(self._agents[arm].act(arrivals))
        other_agent = self._agents[1 - arm]
        if self._share_deliveries and isinstance(other_agent, PacingAgent):
            other_agent.note_delivery(self._counted(slates.items), arrivals)
        return slates

    def _merged_slates(self, arrivals: Sequence[Arrivals]) -> Ints:
        """(n, k) items merged from both agents' slates."""
        slates_of_agents = [
            as_slates(agent.act(view)).items for agent, view in zip(self._agents, arrivals, strict=True)
        ]
        slates_of_a, slates_of_b = slates_of_agents
        items = within_capacity(merged(slates_of_a, slates_of_b, self._treated_item), arrivals[0].capacity)
        for agent, own_slates in zip(self._agents, slates_of_agents, strict=True):
            # The agent has already counted its own slate, so it is told by how much the merged slate differs.
            if isinstance(agent, PacingAgent):
                agent.note_delivery(self._counted(items) - self._counted(own_slates), None)
        return items

    def _counted(self, items: Ints) -> Floats:
        """(M,) exposures of items in slates, with position weights."""
        exposure = np.zeros(len(self._treated_item))
        count_items(items, self._weights, exposure)
        return exposure

    def learn(self, feedback: Feedback) -> None:
        """Let agents learn from their own arrivals, or from all."""
        treated = self.treated(feedback.arrivals)
        for arm, agent in enumerate(self._agents):
            # If only items are assigned, all arrivals see slates of both agents.
            rows = np.flatnonzero((treated == bool(arm)) | (not self._assignment.by_arrival))
            if isinstance(agent, LearningAgent) and len(rows):
                for row in rows:
                    single_row = slice(int(row), int(row) + 1)
                    agent.learn(
                        Feedback(
                            arrivals=feedback.arrivals.rows(single_row),
                            slates=feedback.slates[single_row],
                            consumed=feedback.consumed[single_row],
                        )
                    )


def merged(control: Ints, treatment: Ints, treated_item: Bools) -> Ints:
    """Slates merged from the slates of both arms.

    Items of arm A keep their rank in A's slate, and items of arm B keep their rank in B's slate. Of equal ranks, arm A
    is first in even rows, and arm B in odd rows. Positions that stay empty are filled from A's slate, then from B's.
    """
    n, k = control.shape
    slates = np.full((n, k), -1)
    for row in range(n):
        ranked = []
        for arm, slate in enumerate((control[row], treatment[row])):
            is_second = arm != row % 2  # of equal ranks, the item of this arm comes second
            for rank, item in enumerate(slate):
                if item >= 0 and treated_item[item] == bool(arm):
                    ranked.append((rank, is_second, int(item)))
        chosen = [item for _, _, item in sorted(ranked)]
        fill_items = [int(item) for item in (*control[row], *treatment[row]) if item >= 0]
        items = list(dict.fromkeys([*chosen, *fill_items]))[:k]
        slates[row, : len(items)] = items
    return slates


class Diverted:
    """Control whose platform learns from its own arm alone.

    ``wait`` is the number of ticks after a visit at which its consumptions become known.
    """

    def __init__(self, assignment: Assignment, *, treated: bool, wait: int = 1) -> None:
        self._assignment = assignment
        self._treated = treated
        self._wait = wait

    def learnt(self, past_round: PastRound) -> PastRound:
        """Round without events and impressions of the other arm."""
        schedule = past_round.schedule
        slot, tick, item = past_round.histories.all_events()
        # An event belongs to the block of its visit, even if it becomes known after the end of the block.
        is_own_event = self._is_own(schedule.user[slot], tick - self._wait, past_round.number)
        histories = Histories(schedule, past_round.histories.past)
        own_slot = slot[is_own_event]
        own_tick = tick[is_own_event]
        own_item = item[is_own_event]
        order = np.lexsort((own_tick, own_slot))
        histories.append(own_slot[order], own_tick[order], own_item[order])
        shown = past_round.shown
        if shown is not None:
            visitor = schedule.user[schedule.slot]
            is_own_arrival = self._is_own(visitor, schedule.tick, past_round.number)[:, None]
            shown = dataclasses.replace(
                shown,
                item=np.where(is_own_arrival, shown.item, -1).astype(np.int32),
                taken=shown.taken & is_own_arrival,
            )
        return PastRound(past_round.number, schedule, histories, shown)

    def _is_own(self, user: Ints, tick: Ints, number: int) -> Bools:
        """Mask of visits that belong to this platform's arm."""
        return np.asarray(self._assignment.arrivals(user, seconds(tick), number) == self._treated)
