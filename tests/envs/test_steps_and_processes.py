"""Compiled steps of markets whose clocks wake processes."""

from contextlib import suppress
from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
from kit import calls_of, same_arrays
from kit.environments import make_env, short_options
from kit.markets import same_ledgers, settings_of, small_scenario

from rimsim.agents import make_agent, play_round, rollout
from rimsim.config import override
from rimsim.envs import MarketEnv
from rimsim.market import Market, Slates
from rimsim.market.clock import Clock

HOUR = 3600.0


@dataclass(frozen=True)
class Hourly:
    """Process that wakes each hour, or after another time, and does nothing."""

    every: float = HOUR

    def run(self, env, market):
        """Wake each time."""
        while True:
            yield env.timeout(self.every)


@dataclass(frozen=True)
class Changes:
    """Process that changes the market each hour, or after another time, in turn by all its means."""

    demand: bool = True
    """False where no fitted truth answers, such as in a replay."""
    every: float = HOUR

    def run(self, env, market):
        """Change demand, offer and model, or nothing."""
        number = 0
        while True:
            yield env.timeout(self.every)
            number += 1
            if number % 9 == 2:
                market.end([number % 7])
            elif number % 9 == 3 and self.demand:
                market.scale_demand([number % 5], 2.0)
            elif number % 9 == 5:
                market.release(np.arange(7))
                market.retrain()
            elif number % 9 == 7:
                market.stop_model("popularity")
            elif number % 9 == 8:
                market.start_model()


PROCESSES = {
    "hourly": [f"{__file__}:Hourly"],
    "changes": [f"{__file__}:Hourly", f"{__file__}:Changes"],
    # The last sessions of the log span years, so a wake each hour would take most of the time of a replay.
    "offers": [f"{__file__}:Hourly(every=1e5)", f"{__file__}:Changes(demand=False, every=1e5)"],
    "built-in": [
        "training(every='20h', takes='50h')",
        "stock(units=3, lead='1d')",
        "outage(every='1d', lasts='4h')",
    ],
}


def options(kind, name, n=60):
    """Keyword arguments of a small market with processes."""
    return short_options(kind, **{"arrivals.per_round": n, "processes": PROCESSES[name]})


@pytest.mark.parametrize("copies", [0, 2])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("clones", "hourly"),
        ("clones", "changes"),
        ("clones", "built-in"),
        ("replay", "hourly"),
        ("replay", "offers"),
    ],
)
def test_steps_with_processes_are_those_of_the_engine(kind, name, copies):
    """Observations, rewards, infos and feedback are those of a market that serves without compiled steps."""
    kwargs = options(kind, name)
    n = max(copies, 1)
    stepped = gymnasium.make_vec("RIMMarket-v0", num_envs=n, **kwargs) if copies else MarketEnv(**kwargs)
    by_engine = [MarketEnv(**kwargs) for _ in range(n)]
    observation, _ = stepped.reset(seed=4)
    engine_steps = [env.reset(seed=4 + number) for number, env in enumerate(by_engine)]
    singles = stepped.envs if copies else [stepped]
    is_over = False
    while not is_over:
        for part, values in observation.items():
            expected = [step[0][part] for step in engine_steps]
            np.testing.assert_array_equal(values if copies else values[None], np.stack(expected))
        relevance = observation["relevance"] if copies else observation["relevance"][None]
        actions = np.argsort(-relevance, axis=1, kind="stable")[:, :5]
        for env, action in zip(by_engine, actions, strict=True):
            env.annotate(Slates(action[None]))
        engine_steps = [env.step(action) for env, action in zip(by_engine, actions, strict=True)]
        observation, rewards, ends, _, info = stepped.step(actions if copies else actions[0])
        assert np.atleast_1d(rewards).tolist() == [step[1] for step in engine_steps]
        for key in engine_steps[0][4]["market"]:
            values = np.asarray(info["market"][key])
            expected = np.stack([np.asarray(step[4]["market"][key]) for step in engine_steps])
            np.testing.assert_array_equal(values if copies else values[None], expected)
        for env, engine in zip(singles, by_engine, strict=True):
            same_arrays(env.feedback, engine.feedback, "slates", "consumed")
            same_arrays(env.feedback.arrivals, engine.feedback.arrivals, "id", "relevance", "admissible")
        is_over = np.all(ends)
    for env, engine in zip(singles, by_engine, strict=True):
        same_ledgers(env.market, engine.market)


@pytest.mark.parametrize("copies", [0, 2])
def test_a_wake_leaves_steps_in_compiled_code(copies, monkeypatch):
    """An hourly process that changes nothing sends no more steps through the market's own methods."""
    n_answers = []
    for processes in ([], PROCESSES["hourly"]):
        kwargs = short_options("clones", **{"arrivals.per_round": 60, "processes": processes})
        env = gymnasium.make_vec("RIMMarket-v0", num_envs=copies, **kwargs) if copies else MarketEnv(**kwargs)
        env.reset(seed=4)
        with monkeypatch.context() as patch:
            answers = calls_of(patch, MarketEnv, "answer")
            for step in range(100):
                slate = np.arange(5) + step % 20 * 5
                env.step(np.stack([slate] * copies) if copies else slate)
        n_answers.append(len(answers))
    assert n_answers[0] == n_answers[1]


@pytest.mark.parametrize("call", [1, 4, 9])
@pytest.mark.parametrize("copies", [0, 2])
def test_an_interrupt_while_the_clock_goes_on_loses_no_visit(copies, call, monkeypatch):
    """After an interrupt between a slate and the next arrival, the market goes on like an uninterrupted market."""
    kwargs = options("clones", "changes", 90)
    n = max(copies, 1)
    stepped = gymnasium.make_vec("RIMMarket-v0", num_envs=n, **kwargs) if copies else MarketEnv(**kwargs)
    expected = MarketEnv(**kwargs)
    stepped.reset(seed=3)
    expected.reset(seed=3)
    env = stepped.envs[0] if copies else stepped
    n_steps = 60
    with monkeypatch.context() as patch:
        calls = calls_of(patch, Clock, "run_to_turn", interrupted_at=call)
        for step in range(n_steps):
            slate = np.arange(5) + step % 20 * 5
            with suppress(KeyboardInterrupt):
                stepped.step(np.stack([slate] * n) if copies else slate)
    assert len(calls) > call
    for step in range(n_steps):
        expected.step(np.arange(5) + step % 20 * 5)
    assert env.market.served == expected.market.served == n_steps
    np.testing.assert_equal(env.observation(), expected.observation())
    same_arrays(env.market.ledger, expected.market.ledger, "item", "consumed", "intensity")


@pytest.mark.parametrize(
    "training", ["training(visits=30, takes='9h')", "training(every='20h', takes='50h')"]
)
def test_training_through_the_environment_is_that_of_the_engine(training):
    """An episode with models that go live within rounds has the tables of batches, also if trainings overlap."""
    config = override(small_scenario(rounds=2), {"processes": [training]})
    env = make_env(scenario="closed-loop", settings=settings_of(config))
    rollout(env, make_agent("relevance"), seed=0)
    market = Market(config)
    while not market.done:
        play_round(market, make_agent("relevance"))
    same_ledgers(env.unwrapped.market, market)
    changes = [[happening.change for happening in closed.happenings] for closed in market.closed]
    engine_happenings = [closed.happenings for closed in market.closed]
    assert [closed.happenings for closed in env.unwrapped.market.closed] == engine_happenings
    assert all(change.count("live") > 1 for change in changes)
