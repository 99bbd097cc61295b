"""Messages between a market and an agent: feedback, needs, diagnostics, errors and resumed runs."""

import gymnasium
import numpy as np
import pytest
from kit import cases, markets, refused
from kit.markets import settings_of, small_capped, small_scenario

from rimsim.agents import LinUCB, Random, Relevance, diagnostics_of, make_agent, play_round, rollout
from rimsim.config import ArrivalsConfig
from rimsim.errors import AgentError, ArmsError
from rimsim.market import Market, Needs
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.study.compare import resume
from rimsim.tracking import event_folder, read_scalars


def test_learning_agents_get_all_feedback_in_clock_order_at_barriers():
    """Feedback comes once for each arrival, in clock order, at every 50th and at a round's end, for any batch size."""

    class Learner(Random):
        barrier_every = 50

        def __init__(self):
            self.learnt = []
            self.known_when_acting = []

        def act(self, arrivals):
            self.known_when_acting += [len(self.learnt)] * len(arrivals)
            return super().act(arrivals)

        def learn(self, feedback):
            assert ((feedback.slates >= 0).sum(1) <= feedback.arrivals.capacity).all()
            self.learnt += feedback.arrivals.row.tolist()
            capacities_learnt.extend(feedback.arrivals.capacity.tolist())

    ledgers = []
    capacities_learnt = []
    for size in (1, 7, 1000):
        agent = Learner()
        market = Market(small_capped(rounds=2))
        for _ in range(2):
            play_round(market, agent, size)
        assert agent.learnt == [*range(120)] * 2
        expected = np.repeat([0, 50, 100, 120, 170, 220], [50, 50, 20] * 2)
        assert agent.known_when_acting == expected.tolist()
        ledgers.append(market.closed[0].ledger.item.tolist())
    agent = Learner()
    rollout(gymnasium.make("RIMMarket-v0", settings=settings_of(small_capped(rounds=2))), agent, seed=0)
    assert agent.learnt == [*range(120)] * 2
    assert agent.known_when_acting == expected.tolist()
    assert ledgers[0] == ledgers[1] == ledgers[2]
    assert set(capacities_learnt) == {0, 2, 5}


@cases(
    "method answer message",
    ("begin_round", None, "'faulty' raised KeyError before round 0"),
    ("act", None, "'faulty' raised KeyError in round 0, at arrival .*lost"),
    ("act", [[1, 2], [3]], "'faulty' in round 0.*cannot be turned into an array"),
    ("act", [[0.5] * 5], "'faulty' in round 0.*whole numbers"),
    ("learn", None, "'faulty' raised KeyError learning in round"),
)
def test_every_call_of_an_agent_is_guarded(method, answer, message):
    """Whichever method fails, and however, the error is ours and names agent and round."""

    class Faulty(Random):
        name = "faulty"
        barrier_every = 40

        def learn(self, feedback):
            pass

    def fail(*_):
        if answer is None:
            raise KeyError("lost")
        return answer

    agent = Faulty()
    setattr(agent, method, fail)
    refused(AgentError, message, play_round, Market(small_scenario(rounds=1)), agent)


@pytest.mark.parametrize("scenario", [markets.small_scenario, markets.small_replay])
def test_an_agent_that_asks_is_told_what_visitors_consumed(scenario):
    """The history of an arrival holds what the platform knows: exactly what may not be shown any more."""
    market = Market(scenario(rounds=1), needs=Needs(history=True, items=True))
    assert market.round_view().items["id"].tolist() == market.world.log.items["id"].tolist()
    n_consumed = 0
    for arrivals in markets.batches(market, 7):
        states = arrivals.history
        assert states.now.tolist() == arrivals.time.tolist()
        for row in range(len(arrivals)):
            consumed = states.items[states.offsets[row] : states.offsets[row + 1]]
            assert (np.diff(states.times[states.offsets[row] : states.offsets[row + 1]]) >= 0).all()
            assert set(consumed.tolist()) == set(np.flatnonzero(~arrivals.admissible[row].numpy()).tolist())
            n_consumed += len(consumed)
        turned = arrivals.rows(np.arange(len(arrivals))[::-1].copy()).history
        assert turned.lengths.tolist() == states.lengths[::-1].tolist()
    assert n_consumed > 100


def test_an_agent_that_does_not_ask_is_told_nothing():
    """Without a declared need all stay None; needs of several agents add up, and a given catalogue is its own."""
    market = Market(markets.small_scenario(rounds=1))
    arrivals = market.next_arrivals(3)
    assert (arrivals.history, arrivals.true_intensity, market.round_view().items) == (None, None, None)
    assert Needs.of(LinUCB(), Relevance()) == Needs(items=True, history=True)
    assert Needs.of(make_agent("oracle"), make_agent("hindsight")) == Needs(truth=True, future=True)
    assert Needs.of(Relevance()) == Needs()
    market = Market(markets.small_scenario(rounds=1), needs=Needs(items=True))
    items = market.round_view().items
    items["genres"] = "spoilt"
    assert "spoilt" not in set(market.world.log.items["genres"]) | set(market.round_view().items["genres"])


def test_what_it_has_learnt_outlives_an_interruption_and_is_told(tmp_path, monkeypatch):
    """A resumed run has the same content; each round's ``diagnostics`` are metrics ``agent/<name>`` and scalars."""
    uninterrupted = markets.small_run(tmp_path / "whole", ["lin-ucb"])
    stopped = tmp_path / "stopped"
    with markets.stopped_after_a_round(monkeypatch):
        refused(ArmsError, "enough", markets.small_run, stopped, ["lin-ucb"])
    assert digest(resume(stopped, workers=1)) == digest(uninterrupted)
    learnt = uninterrupted.rounds[uninterrupted.rounds["metric"] == "agent/slates_learnt"]
    assert learnt["value"].tolist() == [120, 240, 360]
    scalars = read_scalars(event_folder(uninterrupted.folder, "lin-ucb", 0))
    assert [point.value for point in scalars["agent/slates_learnt"]] == [120, 240, 360]


def test_diagnostics_that_are_no_numbers_are_refused():
    """An agent whose diagnostics are not names with numbers is named."""
    agent = Relevance()
    agent.name = "wordy"
    agent.diagnostics = {"mood": "good"}
    refused(AgentError, "'wordy'.*Expected a mapping of names to numbers", diagnostics_of, agent)


def test_past_states_have_the_histories_of_their_visitors():
    """In each block of past states, histories are those before the time of the state; without a need there are none."""
    config = markets.small_scenario(rounds=1, arrivals=ArrivalsConfig(per_round=300))
    market = Market(config, needs=Needs(history=True))
    chunks = list(market.round_view().past)
    assert len(chunks) > 2
    for chunk in chunks:
        assert chunk.history.now.tolist() == pytest.approx(chunk.time.tolist())
    assert next(iter(Market(config).round_view().past)).history is None
