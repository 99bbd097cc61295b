"""Steps of an environment against batches of the engine: slates, ledgers, feedback and rewards."""

from contextlib import suppress
from dataclasses import fields

import gymnasium
import numpy as np
import pytest
from kit import cases, markets, refused, same_arrays
from kit.environments import make_env, short_options
from kit.markets import PAIRS, SMALL, played, priced, settings_of

from rimsim.agents import make_agent, market_for, play_round, rollout
from rimsim.config import ArrivalsConfig, ConsumerConfig, Seeds
from rimsim.envs import MarketEnv
from rimsim.errors import MarketError
from rimsim.intensity.contract import BLOCK
from rimsim.market import Slates
from rimsim.market.records import Needs


@cases(
    "kind changes",
    *((kind, {}) for kind in sorted(SMALL)),
    ("clones", {"platform.model": "bag-visits(steps=20)"}),
    ("replay", {"exposure.unit": "shown"}),
    ("clones", {"consumer.hidden.rho": 0.3}),
    ("clones", {"consumer.delay": "1d"}),
    ("clones", {"consumer.kind": "logit"}),
    ("clones", {"consumer.dynamics.conformity": 1.0}),
)
def test_the_short_way_of_a_step_is_the_long_way(kind, changes):
    """A step gives the same whether the slate goes through compiled code for one arrival or through the engine."""
    settings = settings_of(SMALL[kind]()) | {"arrivals.per_round": 30, "rounds": 2} | changes
    compiled, by_engine = (MarketEnv("closed-loop", settings=settings) for _ in range(2))
    (observation, *answer) = compiled.reset(seed=5)
    (engine_observation, *engine_answer) = by_engine.reset(seed=5)
    compiled.action_space.seed(0)
    is_over = False
    while not is_over:
        assert answer == engine_answer
        np.testing.assert_equal(observation, engine_observation)
        assert [value.dtype for value in observation.values()] == [
            value.dtype for value in engine_observation.values()
        ]
        action = compiled.action_space.sample()
        action[:3] = np.argsort(-observation["relevance"])[[0, 0, 1]][: len(action[:3])]
        by_engine.annotate(Slates(action[None]))
        (observation, *answer) = compiled.step(action)
        (engine_observation, *engine_answer) = by_engine.step(action)
        is_over = answer[1]
        same_arrays(compiled.feedback, by_engine.feedback, "slates", "consumed")
        same_arrays(compiled.feedback.arrivals, by_engine.feedback.arrivals, "id", "time", "user", "row")
    for closed, engine_closed in zip(compiled.market.closed, by_engine.market.closed, strict=True):
        columns = ("item", "consumed", "intensity", "probability", "true_intensity", "ground")
        same_arrays(closed.ledger, engine_closed.ledger, *columns)
        events = closed.histories.events
        same_arrays(events, engine_closed.histories.events, *(field.name for field in fields(events)))


# Each agent and each market is among these pairs; half of all pairs are in test_market, with batches of one.
@cases("kind name", *PAIRS[2::3], ("promises", "rim-feedback"))
def test_rollout_gives_what_the_engine_gives(kind, name):
    """One arrival at a time through Gymnasium leaves the ledger that the batch engine leaves, bit for bit."""
    config = priced() if kind == "promises" else SMALL[kind](rounds=2)
    env = make_env(scenario="closed-loop", settings=settings_of(config), model_seed=5)
    rollout(env, make_agent(name), seed=5)
    markets.same_ledgers(env.unwrapped.market, played(config, name, seeds=Seeds.all(5)))


def test_a_market_can_be_served_outside_of_its_environment():
    """Arrivals that somebody serves or takes between two steps are not served a second time."""
    env = MarketEnv(**short_options("clones"))
    slates = np.arange(10).reshape(2, 5)
    for service in ("served", "taken", "taken and served later"):
        env.reset(seed=3)
        market = env.market
        for _ in range(4):
            env.step(slates[0])
        if service == "taken":
            market.serve(market.next_arrivals(2), slates, invalid="empty")
            env.step(slates[1])
        elif service == "taken and served later":
            waiting = market.next_arrivals(2)
            env.step(slates[1])
            market.serve(waiting, slates, invalid="empty")
        else:
            market.serve(env.arrivals, slates[:1], invalid="empty")
            refused(MarketError, "some of these arrivals are not waiting", env.step, slates[1])
            market.serve(market.next_arrivals(2), slates, invalid="empty")
        assert market.served == 7
        assert market.open.queue.state.is_served.sum() == 7


@pytest.mark.parametrize("kind", ["clones", "replay"])
def test_feedback_outlives_what_others_do_with_the_market(kind):
    """Feedback of a step is the same if arrivals were asked of the market after it."""
    feedbacks = []
    for asks_market in (False, True):
        env = MarketEnv(**short_options(kind))
        env.reset(seed=3)
        market = env.market
        for _ in range(4):
            env.step(np.arange(5))
        if asks_market:
            with suppress(MarketError):  # the next arrival may have to wait
                market.next_arrivals(1)
        feedbacks.append(env.feedback.arrivals)
    same_arrays(*feedbacks, "id", "relevance", "admissible")


def test_what_an_agent_needs_can_be_set_between_steps():
    """Feedback holds histories from the step on before which they were asked for, as they were before the slate."""
    env = MarketEnv(**short_options("clones"))
    env.reset(seed=3)
    env.step(np.arange(5))
    assert env.feedback.arrivals.history is None
    env.needs = Needs(history=True)
    env.step(np.arange(5))
    assert env.feedback.arrivals.history is not None
    before = env.arrivals.history.items.tolist()
    env.step(np.flatnonzero(env.arrivals.admissible[0].numpy())[:5])
    assert env.feedback.arrivals.history.items.tolist() == before


@pytest.mark.parametrize("delay", [None, "1d"], ids=["compiled", "general"])
def test_feedback_can_be_written_over(delay):
    """What a user does to the feedback of a step changes neither the ledger nor a state that is loaded."""
    config = markets.small_scenario(rounds=1, consumer=ConsumerConfig(delay=delay))
    env = gymnasium.make("RIMMarket-v0", settings=settings_of(config)).unwrapped
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.arange(config.slate))
        env.feedback.slates[:] = -9
        env.feedback.consumed[:] = True
    before = env.market.ledger
    env.load_state(env.state)
    assert env.market.ledger is not before
    same_arrays(env.market.ledger, before, "item", "consumed")
    assert not before.consumed[:5].all()


@cases("kind unit", *((kind, "examined") for kind in sorted(SMALL)), ("capped", "shown"))
def test_an_episode_counts_its_arrivals_and_its_rewards(kind, unit):
    """Steps are the arrivals of all rounds, the reward is consumptions + c·Σ_y min(E_y, b_y), in the unit of b."""
    env = make_env(settings=settings_of(SMALL[kind]()) | {"exposure.unit": unit}).unwrapped
    episode = rollout(env, make_agent("popularity"), seed=2)
    closed = env.market.closed
    assert episode.steps == sum(len(past.ledger.item) for past in closed)
    expected = 0.0
    for past in closed:
        met = np.minimum(markets.weighted_exposures(past), past.required).sum()
        expected += past.ledger.consumed.sum() + past.cost * met
    assert episode.reward == pytest.approx(expected, rel=1e-9)


@cases("batch_size largest", (7, 7), (None, BLOCK))
def test_batches_hold_no_more_arrivals_than_asked_for(batch_size, largest):
    """So many at once, or as many as are scored together; a round of many who could all be served at once has both."""
    config = markets.small_broadcast(rounds=1, arrivals=ArrivalsConfig(kind="broadcast", per_round=150))
    agent = make_agent("relevance")
    sizes = []
    play_round(market_for(agent, config), agent, batch_size, report=sizes.append)
    assert sum(sizes) == 150
    assert max(sizes) == largest
