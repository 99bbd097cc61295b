"""Every built-in agent keeps the promises that agents of one's own are tested for; agents that break one are caught."""

import dataclasses

import numpy as np
import pytest
from kit import DOCS, cases, documented, refused

from rimsim.agents import BUILT_IN, EpsilonGreedy, Random, Relevance, RimDual, make_agent
from rimsim.evaluation.off_policy import Chances
from rimsim.market import Slates
from rimsim.measures import mean_weight, position_weights
from rimsim.testing import AgentTests

OPTIONS = (
    "rim-dual(spend=False)",
    "rim-feedback(closing=0)",
    "rim-resolve(every=20)",
    "entropic-dual(gain=0)",
)


class TestBuiltIn(AgentTests):
    """Each of them by name, and some with options that change their kind."""

    @pytest.fixture(autouse=True, params=[*BUILT_IN, *OPTIONS])
    def _called(self, request):
        self.called = request.param

    def make(self):
        """The agent of the name."""
        return make_agent(self.called)


class TestBuiltInHard(TestBuiltIn):
    """The same, where requirements are hard, in examined exposures, paced by the clock, N a quarter too large."""

    # An item that is unlikely for the first rows alone has too few draws to judge.
    test_propensities_are_frequencies = None

    def view(self, arrivals):
        """The view of such a round."""
        plain = super().view(arrivals)
        weights = position_weights(0.8, self.k)
        guarantee = {"position_weights": weights, "unit": "examined", "hard": True}
        required = plain.required * mean_weight(weights)
        return dataclasses.replace(plain, arrivals=75, required=required, **guarantee)


@pytest.mark.skipif(not DOCS.is_dir(), reason="not a source checkout")
class TestDocumented(AgentTests):
    """The agents that the documentation writes."""

    AGENTS = (
        "your-own my_agent.py:FreshFirst",
        "your-own my_prices.py:HalfPrice",
        "tutorial rare_first.py:RareFirst",
        "tutorial keep.py:Keep",
    )

    @pytest.fixture(autouse=True, params=AGENTS)
    def _written(self, request, tmp_path):
        page, place = request.param.split()
        file = place.partition(":")[0]
        (tmp_path / file).write_text(documented(file, page))
        self.place = f"{tmp_path}/{place}"

    def make(self):
        """The agent of the page."""
        return make_agent(self.place)


class _Learner(Relevance):
    """Rotates slates by one position while an odd number of items has been consumed."""

    name = "learner"
    order_free = False
    barrier_every = 16

    def begin_round(self, view):
        super().begin_round(view)
        self.consumed = 0

    def act(self, arrivals):
        return np.roll(super().act(arrivals), self.consumed % 2, axis=1)

    def learn(self, feedback):
        assert feedback.slates.shape == (1, 5)
        self.consumed += int(feedback.consumed.sum())


class TestLearner(AgentTests):
    """An agent that learns at its barriers, whose slates change there."""

    def make(self):
        """The learner."""
        return _Learner()

    def test_it_learns(self):
        """What it shows after its barriers is not what relevance shows."""
        arrivals = self.arrivals()
        first = Relevance()
        first.begin_round(self.view(arrivals))
        assert not np.array_equal(self.served(arrivals, 7).items, first.act(arrivals))


def spoilt(change=None, *, base=Relevance, write=id, begin=id):
    """A class whose slates are changed, or which writes into its arrivals or into the view of a round."""

    class Spoilt(base):
        def begin_round(self, view):
            super().begin_round(view)
            begin(view)

        def act(self, arrivals):
            slates = super().act(arrivals)
            write(arrivals)
            return slates if change is None else change(slates)

    return Spoilt


def having(base=Relevance, **attributes):
    """A class with other attributes."""
    return type("Having", (base,), attributes)


def remembering(load, state=lambda self: {"rounds": self.rounds}):
    """A class that turns its slates by rounds, and has a state."""
    return having(_Rounds, state=property(state), load_state=load)


def one_per_cent_less(slates):
    """Slates whose propensities are a little too small."""
    return dataclasses.replace(slates, propensity=slates.propensity * np.float32(0.99))


def unsure(items):
    """Slates whose chances depend on the size of the batch."""
    certain = Chances.certain(items, items)
    return Slates(items, chances=Chances.mixed(1 / len(items), certain, Chances.none(items.shape)))


class _Counting(Relevance):
    def begin_round(self, view):
        super().begin_round(view)
        self.batches = 0

    def act(self, arrivals):
        self.batches += 1
        return np.roll(super().act(arrivals), self.batches % 2, axis=1)


class _Ordered(Relevance):
    def begin_round(self, view):
        super().begin_round(view)
        self.rows = 0

    def act(self, arrivals):
        items = super().act(arrivals)
        for row in range(len(items)):
            self.rows += 1
            items[row] = np.roll(items[row], self.rows % 2)
        return items


class _Positive(RimDual):
    @property
    def item_price(self):
        return -super().item_price


class _Rounds(Relevance):
    """Turns its slates by one position in each round but the first."""

    def __init__(self):
        self.rounds = np.zeros(1)

    def begin_round(self, view):
        super().begin_round(view)
        self.rounds = self.rounds + 1

    def act(self, arrivals):
        return np.roll(super().act(arrivals), int(self.rounds[0]), axis=1)


BREAKING = {
    "test_follows_the_protocol": {"nameless": having(Random, name="")},
    "test_slates_hold_distinct_admissible_items": {
        "repeating": spoilt(lambda items: items[:, [0, 0, 2, 3, 4]]),
        "inadmissible": spoilt(lambda items: np.tile(np.arange(5), (len(items), 1))),
        "short": spoilt(lambda items: items[:, :-1]),
    },
    "test_a_row_where_nothing_may_be_shown_stays_empty": {
        "padded": spoilt(lambda items: Slates(np.maximum(items, 0)))
    },
    "test_the_batch_does_not_matter": {
        "counting": _Counting,
        "sometimes": spoilt(lambda items: Slates(items, uniform=np.full(len(items), len(items) > 1))),
        "unsure": spoilt(unsure),
    },
    "test_rows_may_come_in_any_order_if_it_says_so": {"ordered": _Ordered},
    "test_the_same_key_gives_the_same_slates": {
        "global": spoilt(lambda items: items if np.random.random() < 0.5 else items[:, ::-1])  # noqa: NPY002
    },
    "test_prices_are_bonuses": {"positive": _Positive},
    "test_propensities_are_frequencies": {"one per cent": spoilt(one_per_cent_less, base=EpsilonGreedy)},
    "test_it_goes_on_where_a_run_is_resumed": {
        "rounds": _Rounds,
        "forgetful": remembering(lambda self, state: None),
        "misnamed": remembering(lambda self, state: state["round"]),
        "objects": remembering(lambda self, state: None, lambda self: {"rounds": np.array([{}])}),
    },
    "test_diagnostics_are_names_with_numbers": {
        "wording": having(diagnostics={"mood": "good"}),
        "listing": having(diagnostics=(1.0, 2.0)),
    },
    "test_it_leaves_what_it_is_told_as_it_was": {
        "opening": spoilt(write=lambda arrivals: arrivals.admissible.fill_(value=True)),
        "scaling": spoilt(write=lambda arrivals: arrivals.relevance.numpy().__imul__(0.5)),
        "releasing": spoilt(begin=lambda view: view.required.fill(0)),
        "evening": spoilt(begin=lambda view: view.position_weights.fill(1)),
        "fading": spoilt(begin=lambda view: [states.ground_intensity.mul_(0.5) for states in view.past]),
        "rewriting": having(_Learner, learn=lambda self, feedback: feedback.consumed.fill(0)),
    },
}


@cases("promise name", *((promise, name) for promise, agents in BREAKING.items() for name in agents))
def test_an_agent_that_breaks_a_promise_is_caught(promise, name):
    """The test of a promise fails for an agent that breaks it, propensities one per cent too small included."""
    tests = having(AgentTests, make=lambda self: BREAKING[promise][name]())
    refused((AssertionError, KeyError, ValueError), None, getattr(tests(), promise))


def test_an_agent_that_remembers_over_rounds_goes_on():
    """An agent whose state says how many rounds it has seen passes where agents that do not say so are caught."""
    agent = remembering(lambda self, state: setattr(self, "rounds", state["rounds"]))
    having(AgentTests, make=lambda self: agent())().test_it_goes_on_where_a_run_is_resumed()
