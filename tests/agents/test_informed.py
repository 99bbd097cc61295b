"""The ceiling of item learning: exact where the model lacks item effects alone, and blind to retraining."""

import dataclasses

import numpy as np
import pytest
from kit import refused
from kit.logs import arrivals_of, skewed, view_of
from kit.markets import market_of, play_out, resumed, same_ledgers, small_scenario

import rimsim
from rimsim.agents import make_agent, market_for
from rimsim.config import ArrivalsConfig, ConsumerConfig, HiddenConfig, PlatformConfig
from rimsim.errors import AgentError, ConfigError
from rimsim.intensity import RIM, HawkesPoisson
from rimsim.market import Market, Needs, build_world
from rimsim.measures import late_rounds

NEW_VISITORS = ArrivalsConfig(per_round=150, max_visits=3, history="none")
HIDDEN = ConsumerConfig(truth="factors", hidden=HiddenConfig(rho=0.0, sd=1.0))
INFORMED = Needs(item_factor=True)


def _exact_market(name, arrivals=NEW_VISITORS, **options):
    """An agent in a market whose platform has the truth's p(y|x), up to effects of items; and the log effects."""
    config = small_scenario(
        consumer=ConsumerConfig(truth="bag"),
        arrivals=arrivals,
        rounds=2,
        platform=PlatformConfig(model="bag-hp"),
    )
    usual = build_world(config)
    effects = np.random.default_rng(0).normal(0, 0.7, usual.log.n_items)
    world = dataclasses.replace(usual, truth=dataclasses.replace(usual.truth, item_bias=effects))
    model = RIM(mark=usual.truth.model, ground=HawkesPoisson().fit(usual.past))
    agent = make_agent(name)
    return agent, market_for(agent, config, world=world, model=model, **options), effects


def test_an_exact_model_with_the_true_effects_is_the_state_oracle():
    """Slates agree, of new visitors and of those who come back; the effects are the made-up ones up to one factor."""
    informed, market, effects = _exact_market("informed", retrain=False)
    deviation = np.log(market.round_view().item_factor) - effects
    np.testing.assert_allclose(deviation, deviation.mean(), atol=2e-5)
    played = play_out(market, informed)
    state_oracle, oracle_market, _ = _exact_market("state-oracle", retrain=False)
    oracle_played = play_out(oracle_market, state_oracle)
    for ours, theirs in zip(played.closed, oracle_played.closed, strict=True):
        np.testing.assert_array_equal(ours.ledger.item, theirs.ledger.item)
        assert (np.bincount(ours.schedule.slot) > 1).any()
    relevance, plain, _ = _exact_market("relevance", retrain=False)
    assert (play_out(plain, relevance).closed[0].ledger.item != played.closed[0].ledger.item).any()


@pytest.mark.parametrize(
    "changes",
    [{"hidden": HiddenConfig()}, {"hidden": HiddenConfig(rho=0.0)}, {"own_choice": 0.5}],
    ids=["plain", "hidden", "free choice"],
)
def test_effects_are_ratios_of_sums_over_the_arrivals(changes):
    """By hand, one arrival after the other: true intensities over those of the opening model, where admissible."""
    config = small_scenario(consumer=dataclasses.replace(HIDDEN, **changes), rounds=2)
    agent, market = market_of("random", config)
    market = Market(config, needs=INFORMED)
    opening_model = market.model
    for number in range(2):
        sums = np.zeros((2, market.n_items))
        for row in range(market.n_arrivals):
            slot = market.schedule.slot[[row]]
            tick = market.schedule.tick[[row]]
            histories = market.open.histories
            states = histories.states(slot, histories.visible_at(slot, tick), tick)
            score = opening_model.score(states)[0].double().numpy()
            admissible = np.ones(market.n_items, bool)
            admissible[states.items] = False
            sums[0] += market.consumer.true_intensity(market.open.visits(np.array([row])))[0].double().numpy()
            sums[1] += np.where(admissible, score / score[admissible].sum() * score.sum(), 0.0)
        np.testing.assert_allclose(market.round_view().item_factor, sums[0] / sums[1], rtol=1e-4)
        while market.round == number and not market.done:
            arrivals = market.next_arrivals()
            market.serve(arrivals, agent_slates(agent, market, arrivals))


def agent_slates(agent, market, arrivals):
    """Slates of an agent that begins a round at each batch."""
    agent.begin_round(market.round_view())
    return agent.act(arrivals)


def test_hidden_worth_is_found_again():
    """Over logged visitors, effects follow the hidden worth; without it they vary far less."""
    config = small_scenario(consumer=HIDDEN, platform=PlatformConfig(model="bag-visits"))
    market = Market(config, needs=INFORMED)
    worth = market.world.truth.item_bias
    log_factor = np.log(market.round_view().item_factor)
    assert np.corrcoef(log_factor, worth)[0, 1] > 0.8
    plain = Market(dataclasses.replace(config, consumer=ConsumerConfig(truth="factors")), needs=INFORMED)
    assert np.log(plain.round_view().item_factor).std() < 0.5 * log_factor.std()


def _utilities(config, names):
    """Expected consumptions per slate, by agent and round."""
    utilities = {}
    for name in names:
        agent, market = market_of(name, config)
        closed = play_out(market, agent).closed
        utilities[name] = np.array([served.ledger.probability.sum(1).mean() for served in closed])
    return utilities


@pytest.mark.parametrize("rho", [1.0, 0.0])
def test_it_stands_between_relevance_and_the_state_oracle(rho):
    """Late utility in both worlds; where the log hides all worth, the distance from relevance is large."""
    arrivals = ArrivalsConfig(per_round=400, max_visits=3)
    consumer = dataclasses.replace(HIDDEN, hidden=HiddenConfig(rho=rho, sd=1.0))
    config = small_scenario(
        consumer=consumer, arrivals=arrivals, rounds=4, platform=PlatformConfig(model="bag-visits")
    )
    names = ("relevance", "informed", "state-oracle")
    late = {name: values[late_rounds(4)].mean() for name, values in _utilities(config, names).items()}
    assert late["relevance"] < late["informed"] < late["state-oracle"]
    gain = late["informed"] / late["relevance"]
    assert gain > 1.2 if rho == 0 else gain < 1.1


def test_it_does_not_depend_on_what_the_platform_learnt():
    """Slates under a platform that retrains are those under one that never does, in all rounds."""
    config = small_scenario(consumer=HIDDEN, platform=PlatformConfig(model="bag-visits"))
    agent, market = market_of("informed", config)
    second_agent = make_agent("informed")
    frozen = play_out(market_for(second_agent, config, retrain=False), second_agent)
    for ours, theirs in zip(play_out(market, agent).closed, frozen.closed, strict=True):
        np.testing.assert_array_equal(ours.ledger.item, theirs.ledger.item)
    assert (market.closed[-1].ledger.intensity != frozen.closed[-1].ledger.intensity).any()


def test_batches_and_resumed_markets_agree(tmp_path):
    """A whole market, one in batches of seven, and one resumed after a round have one ledger."""
    config = small_scenario(consumer=HIDDEN, rounds=2)
    agent, market = market_of("informed", config)
    single_batch = play_out(market, agent)
    agent, market = market_of("informed", config)
    same_ledgers(single_batch, play_out(market, agent, 7))
    same_ledgers(single_batch, resumed(config, "informed", tmp_path))


def test_a_comparison_plays_it_and_gives_it_no_controls(tmp_path):
    """Its utility is in the tables; a frozen control of it is refused, because it uses the truth."""
    config = small_scenario(consumer=HIDDEN, rounds=2)
    options = {"seeds": 1, "workers": 1, "certify": False}
    run = rimsim.compare(config, ["relevance", "informed"], frozen=[], out=tmp_path / "run", **options)
    utility = run.rounds.query("metric == 'utility'").groupby("agent", observed=True)["value"].mean()
    assert utility["informed"] > utility["relevance"]
    refused(
        ConfigError,
        "uses the truth",
        rimsim.compare,
        config,
        ["informed"],
        frozen=["informed"],
        out=tmp_path / "no",
        **options,
    )


def test_without_the_truth_it_says_how_to_get_it():
    """A view without effects, and arrivals without opening intensities, are refused."""
    agent = make_agent("informed")
    refused(AgentError, r"Needs\(item_factor=True\)", agent.begin_round, view_of(4, 9, 3))
    agent.begin_round(view_of(4, 9, 3, item_factor=np.ones(9)))
    arrivals = arrivals_of(skewed(4, 9))
    refused(AgentError, "opening_intensity", agent.act, arrivals)
    factor = np.arange(1.0, 10.0)
    agent.begin_round(view_of(4, 9, 3, item_factor=factor))
    slates = agent.act(dataclasses.replace(arrivals, opening_intensity=arrivals.intensity))
    np.testing.assert_array_equal(slates, np.argsort(-arrivals.intensity.numpy() * factor, 1)[:, :3])
