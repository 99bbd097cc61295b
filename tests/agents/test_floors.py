"""Floors of classes, the planner and the rule that infers needs, in a small market of sellers."""

import dataclasses

import numpy as np
import pytest
from kit import refused
from kit.logs import view_of
from kit.markets import play_out

from rimsim.agents import AdaptiveFloors, ClassFloors, RoundPolicyAgent, Triage, make_agent, market_for
from rimsim.agents.floors import affordable, class_floors, item_floors, natural_exposure
from rimsim.agents.round_policy import levels_of
from rimsim.config import Seeds, find_scenario, override
from rimsim.envs.rounds import objective
from rimsim.errors import AgentError, ConfigError
from rimsim.market import ProviderNeeds, ProviderView

SMALL = {
    "rounds": 6,
    "arrivals.per_round": 100,
    "platform.model": "popularity-hp",
    "data.min_item_events": 120,
}


def config_of(name="sellers", **changes):
    """Small market of sellers."""
    return override(find_scenario(name), SMALL | changes)


def closed_rounds_of(agent, name="sellers", seed=0, **changes):
    """Rounds of a small market that an agent serves."""
    market = market_for(agent, config_of(name, **changes), seeds=Seeds.all(seed))
    play_out(market, agent)
    return market.closed


def objective_of(agent, name="sellers", seed=0, **changes):
    """Objective of all rounds."""
    rounds = closed_rounds_of(agent, name, seed, **changes)
    return sum(objective(closed, config_of(name)) for closed in rounds)


def view_with(classes, left, past=None):
    """View of a round with one provider per item."""
    n_items = len(classes)
    view = view_of(20, n_items, 2, past=past)
    providers = ProviderView(
        of_item=np.arange(n_items),
        classes=np.array(classes),
        came=np.zeros(n_items, np.int64),
        left=np.array(left),
        exposure=np.zeros(n_items),
        consumption=np.zeros(n_items),
    )
    return dataclasses.replace(view, providers=providers)


def test_floors_are_whole_exposures_of_present_providers():
    """A level of a class is a multiple of N·k/M, rounded up; providers who left have no floor."""
    view = view_with([0, 1, 0, 1], [-1, -1, 3, -1])
    np.testing.assert_array_equal(class_floors(view, np.array([0.25, 1.01]), 1.0), [3, 11, 0, 11])
    np.testing.assert_array_equal(class_floors(view, np.array([0.5]), 1.0), [5, 5, 0, 5])
    refused(
        AgentError,
        "levels has 3 numbers. Expected 1, or one per class, 2",
        class_floors,
        view,
        np.ones(3),
        1.0,
    )


def test_the_cheapest_providers_come_first():
    """Providers are kept in the order of their extra exposures, while the sum fits into the share of positions."""
    view = view_with([0, 0, 0, 0], [-1, -1, -1, 0])
    natural = natural_exposure(view)
    target = natural + np.array([4.0, 1.0, 2.0, 0.0])
    n_positions = view.arrivals * view.k
    for share, expected in ((0.5, []), (1.0, [1]), (3.0, [1, 2]), (6.9, [1, 2]), (7.0, [0, 1, 2])):
        is_kept = affordable(view, target, share / n_positions)
        assert np.flatnonzero(is_kept).tolist() == expected


def test_floors_of_a_provider_are_shared_by_its_items():
    """Two items of a provider get half of its exposures each."""
    view = view_with([0, 0], [-1, -1])
    two_items = dataclasses.replace(view.providers, of_item=np.array([0, 0, 1]))
    view = dataclasses.replace(view, providers=two_items, required=np.zeros(3))
    np.testing.assert_array_equal(item_floors(view, np.array([7.0, 2.0])), [4, 4, 2])


def test_a_constant_policy_is_the_agent_floors_to_the_bit():
    """The policy of one action, and the agent with its levels, show the same items, round by round."""
    action = np.array([-0.9, -0.7, -0.4, 0.0, 0.6, 0.1], np.float32)
    levels, share = levels_of(action)
    policy = closed_rounds_of(RoundPolicyAgent(lambda _: action))
    constant = closed_rounds_of(ClassFloors(levels=tuple(levels), share=share))
    for first, second in zip(policy, constant, strict=True):
        np.testing.assert_array_equal(first.ledger.item, second.ledger.item)
        np.testing.assert_array_equal(first.ledger.price, second.ledger.price)


SHOP = {"data.source": "shop", "data.min_item_events": 400}


@pytest.mark.parametrize("changes", [{}, SHOP], ids=["films", "shop"])
@pytest.mark.parametrize("name", ["sellers", "sellers-hidden"])
def test_the_planner_beats_the_rule_and_the_rule_beats_relevance(name, changes):
    """Planner, rule and relevance have one order, with fixed and permuted needs, of films and of products."""
    agents = (Triage, AdaptiveFloors, lambda: make_agent("relevance"))
    planner, rule, relevance = (
        np.mean([objective_of(make(), name, seed, **changes) for seed in range(2)]) for make in agents
    )
    assert planner > rule > relevance


def test_the_planner_keeps_exactly_the_providers_it_chose():
    """A provider with a floor of what it needs now stays; the market reveals needs only to the planner."""
    needs = ProviderNeeds(now=np.array([3.2, 0.0, 9.0]), lasting=np.array([4.0, 1.0, 20.0]))
    view = dataclasses.replace(view_with([0, 0, 0], [-1, -1, -1]), provider_needs=needs)
    floors = Triage(share=1.0).floors(view)
    np.testing.assert_array_equal(floors, [4, 0, 9])
    blind = market_for(make_agent("relevance"), config_of()).round_view()
    assert blind.provider_needs is None
    assert not hasattr(blind.providers, "satisfaction")
    refused(AgentError, "which the market does not reveal", Triage().floors, blind)
    without_needs = override(config_of(), {"providers.kind": "none", "providers.options": {}})
    refused(ConfigError, "states no needs", market_for(Triage(), without_needs).round_view)


def test_the_rule_estimates_the_least_need_at_which_all_stayed():
    """The estimate of a class is above its need once someone left, and the same after a resumed run."""
    agent = AdaptiveFloors()
    config = config_of("sellers-hidden", rounds=8)
    market = market_for(agent, config, seeds=Seeds.all(1))
    play_out(market, agent)
    roster = market.world.roster
    per_item = config.arrivals.per_round * config.slate / market.n_items
    lasting = market.providers.needs(roster, market.closed[0].offer, 1).lasting / per_item
    true_needs = np.array([lasting[roster.of_class == number][0] for number in range(5)])
    assert (agent.needs >= true_needs - 1e-9).all()
    assert agent.needs[true_needs.argmin()] < 1.5
    again = AdaptiveFloors()
    again.load_state(agent.state)
    np.testing.assert_array_equal(again.needs, agent.needs)


@pytest.mark.filterwarnings("error")
def test_a_class_that_stays_without_exposure_gets_no_floor():
    """The rule bounds its need by nothing, and divides by no need."""
    agent = AdaptiveFloors(decay=0.4)
    view = dataclasses.replace(view_with([0, 0, 0], [-1, -1, -1]), round=3)
    agent.load_state({"mean": np.zeros(3), "bound": np.full(5, np.inf)})
    np.testing.assert_array_equal(agent.floors(view), [0, 0, 0])
    assert (agent.needs == 0).any()


def test_floors_of_an_own_class_are_delivered():
    """A class with a method ``floors`` decides for each item and round."""
    from rimsim.agents import FloorsAgent

    class Alternating(FloorsAgent):
        name = "alternating"

        def floors(self, view):
            return np.where((np.arange(len(view.required)) + view.round) % 10 == 0, 12.0, 0.0)

    for closed in closed_rounds_of(Alternating())[:3]:
        is_chosen = (np.arange(len(closed.exposure)) + closed.number) % 10 == 0
        chosen = closed.exposure[is_chosen & closed.on_offer]
        assert (chosen >= 11).mean() > 0.9
