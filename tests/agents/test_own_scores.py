"""A guarantee on your own ranker: the scores of a file decide, and prices are added to them."""

import numpy as np
import pytest
from kit import cases, refused
from kit import markets as kit

from rimsim.agents import Agent, LearningAgent, RememberingAgent, RimFeedback, make_agent, market_for
from rimsim.config import scenario_from
from rimsim.errors import AgentError, ConfigError
from rimsim.market import Needs
from rimsim.user_code import code_named, files_of

RANKER = '''\
import numpy as np
import torch
from rimsim.agents import top_k


class Taste:
    """Ranks by likeness to the visitor's history, in a unit of its own."""

    name = "taste"
    order_free = False
    barrier_every = 50
    needs_history = True
    learnt = 0
    unit = 1000.0

    def begin_round(self, view):
        self.k = view.k
        self.vectors = np.random.default_rng(7).normal(size=(len(view.required), 4))

    def scores(self, arrivals):
        history = arrivals.history
        taste = np.zeros((len(arrivals), 4))
        np.add.at(taste, history.owner, self.vectors[history.items])
        liking = taste / np.maximum(history.lengths, 1)[:, None] + np.arange(1, 5) / 10
        return self.unit * np.exp(liking @ self.vectors.T)

    def act(self, arrivals):
        return top_k(torch.from_numpy(self.scores(arrivals)), arrivals.admissible, self.k)

    def learn(self, feedback):
        self.learnt += len(feedback.slates)

    @property
    def state(self):
        return {"learnt": np.array([float(self.learnt)])}

    def load_state(self, state):
        self.learnt = int(state["learnt"][0])


class Wrong(Taste):
    def scores(self, arrivals):
        return super().scores(arrivals) - 1e9


class Flat(Taste):
    def scores(self, arrivals):
        return super().scores(arrivals)[:, :3]
'''


@pytest.fixture
def place(tmp_path):
    """Place of the file with rankers, without the name of a class."""
    (tmp_path / "my_ranker.py").write_text(RANKER, encoding="utf-8")
    return f"{tmp_path}/my_ranker.py"


def small(beta, **exposure):
    """Two rounds of clones with a guarantee of every item."""
    return kit.small_scenario(exposure=scenario_from({"exposure": {"beta": beta} | exposure}).exposure)


def played(text, config):
    """An agent, and its market after all rounds."""
    agent = make_agent(text)
    return agent, kit.play_out(market_for(agent, config), agent)


def missing_share(market):
    """Share of the required exposure that the rounds did not deliver, counted from the ledger."""
    required = np.concatenate([closed.required for closed in market.closed])
    exposure = np.concatenate([kit.weighted_exposures(closed) for closed in market.closed])
    return np.maximum(required - exposure, 0.0).sum() / required.sum()


@cases("agent", ("rim-feedback",), ("rim-ucb",))
def test_without_guarantees_the_slates_are_those_of_the_ranker(agent, place):
    """With floors of 0, each slate of the agent has the items of the ranker played alone, in the same order."""
    config = small(0.0)
    _, alone = played(f"{place}:Taste", config)
    _, priced = played(f"{agent}(scores={place}:Taste)", config)
    slates = kit.ledgers(alone)["item"].to_numpy()
    if agent == "rim-feedback":
        assert kit.ledgers(priced)["item"].tolist() == slates.tolist()
    else:  # larger factors of uncertain items change the ranker's order, but its scores decide on most positions
        assert 0.3 < np.mean(kit.ledgers(priced)["item"].to_numpy() == slates) < 1.0


@cases("unit", (1000.0,), (1e-6,))
def test_a_guarantee_on_a_ranker_is_delivered_whatever_the_unit_of_its_scores(unit, place):
    """The ranker alone leaves most of the guarantee undelivered, the agent with its scores a small part of it."""
    config = small(0.5)
    _, alone = played(f"{place}:Taste", config)
    text = f'rim-feedback(scores="{place}:Taste")'
    agent = make_agent(text)
    agent._own_scores.ranker.unit = unit
    market = kit.play_out(market_for(agent, config), agent)
    before = missing_share(alone)
    after = missing_share(market)
    assert before > 0.3
    assert after < before / 4
    is_same = kit.ledgers(alone)["item"].to_numpy() == kit.ledgers(market)["item"].to_numpy()
    assert is_same.mean() > 0.1
    assert agent.state["learnt"].item() == len(kit.ledgers(market)["arrival"].unique())


def test_the_agent_has_the_name_of_the_class_and_what_the_ranker_needs(place):
    """The name holds no path; the ranker's needs, barriers, memory and learning are those of the agent."""
    agent = make_agent(f"rim-feedback(gain=0.2, scores={place}:Taste)")
    assert (agent.name, agent.gain, agent.barrier_every) == ("rim-feedback(gain=0.2,scores=Taste)", 0.2, 50)
    assert Needs.of(agent) == Needs(history=True)
    assert isinstance(agent, Agent)
    assert isinstance(agent, LearningAgent)
    agent.load_state({"learnt": np.array([3.0])})
    assert isinstance(agent, RememberingAgent)
    assert agent.state["learnt"].tolist() == [3.0]
    plain = make_agent("rim-feedback")
    assert (plain.barrier_every, Needs.of(plain)) == (None, Needs())
    assert not isinstance(plain, LearningAgent)
    in_python = RimFeedback(scores=agent._own_scores.ranker)
    assert in_python._own_scores.ranker is agent._own_scores.ranker


@cases(
    "name message",
    ("Wrong", r"scores of Wrong hold -\S+ for an admissible item"),
    ("Flat", r"scores of Flat have shape \(\d+, 3\)"),
)
def test_scores_that_are_none_are_refused(name, message, place):
    """Negative scores and wrong shapes end the arm with an error that names the ranker."""
    refused(AgentError, message, played, f"rim-feedback(scores={place}:{name})", small(0.5))


@cases(
    "scores message",
    ("relevance", "has no scores"),
    ("'nowhere.py:Mine'", "no file"),
    ("Mine", "agent 'Mine' is unknown"),
)
def test_a_ranker_without_scores_is_refused(scores, message):
    """A built-in agent has no scores of its own, a place must exist, and a word alone is read as an agent's name."""
    text = scores if scores != "relevance" else "'relevance'"
    refused(ConfigError, message, make_agent, f"rim-feedback(scores={text})")


def test_files_of_options_count_as_files_of_the_user():
    """A resumed run notices a changed ranker, because its file is among those with a digest."""
    texts = ["rim-feedback(gain=0.2,scores=a/b.py:Mine)", "x.py:A(depth=1)", "rim-ucb(scores='pkg.mod:C')"]
    assert [str(path) for path in files_of(texts)] == ["a/b.py", "x.py"]
    assert code_named(texts) == ["a/b.py:Mine", "x.py:A", "pkg.mod:C"]


def test_intensities_are_the_scores_times_one_factor(place):
    """Nothing of the platform's intensities is left, but on average the best items have as much intensity."""
    agent, market = kit.market_of(f"rim-feedback(scores={place}:Taste)", small(0.5))
    view = market.round_view()
    agent.begin_round(view)
    own_scores = agent._own_scores
    ranker = own_scores.ranker
    ratios = []
    best = np.zeros(2)
    for chunk in view.past:
        scores = np.where(chunk.admissible.numpy(), ranker.scores(chunk), 0.0)
        intensity = own_scores.arrivals(chunk).intensity.numpy()
        ratios.append((intensity / np.maximum(scores, 1e-9))[scores > 0])
        best += [np.sort(values, 1)[:, -view.k :].sum() for values in (chunk.intensity.numpy(), intensity)]
    ratio = np.concatenate(ratios)
    assert ratio == pytest.approx(np.full(len(ratio), ratio[0]), rel=1e-5)
    assert best[0] == pytest.approx(best[1], rel=1e-4)
