"""Every built-in agent keeps the promises that agents of one's own are tested for; agents that break one are caught."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from rimsim.agents import BUILT_IN, EpsilonGreedy, Random, Relevance, RimDual, make_agent
from rimsim.evaluation.off_policy import Chances
from rimsim.market import Slates
from rimsim.measures import mean_weight, position_weights
from rimsim.testing import AgentTests

DOCS = Path(__file__).resolve().parent.parent / "docs"
OPTIONS = ("rim-feedback(closing=0)", "rim-resolve(every=20)", "entropic-dual(gain=0)")


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

    # Drawing is the same in every unit; an item that is unlikely for the first rows alone has too few draws to judge.
    test_propensities_are_frequencies = None

    def view(self, arrivals):
        """The view of such a round."""
        plain, weights = super().view(arrivals), position_weights(0.8, self.k)
        return dataclasses.replace(
            plain,
            arrivals=75,
            required=plain.required * mean_weight(weights),
            position_weights=weights,
            unit="examined",
            hard=True,
        )


@pytest.mark.skipif(not DOCS.is_dir(), reason="not a source checkout")
class TestDocumented(AgentTests):
    """The agents that the documentation writes."""

    @pytest.fixture(
        autouse=True,
        params=[
            ("your-own.md", "my_agent.py:FreshFirst"),
            ("your-own.md", "my_prices.py:HalfPrice"),
            ("tutorial.md", "fresh.py:TwoForTheRest"),
        ],
        ids=lambda page_and_place: page_and_place[1],
    )
    def _written(self, request, tmp_path):
        page, place = request.param
        text = (DOCS / page).read_text(encoding="utf-8")
        file = place.partition(":")[0]
        (tmp_path / file).write_text(text.split(f"# {file}\n", 1)[1].split("```", 1)[0])
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


class _Repeating(Relevance):
    def act(self, arrivals):
        items = super().act(arrivals)
        items[:, 1] = items[:, 0]
        return items


class _Inadmissible(Relevance):
    def act(self, arrivals):
        return np.tile(np.arange(5), (len(arrivals), 1))


class _Short(Relevance):
    def act(self, arrivals):
        return super().act(arrivals)[:, :-1]


class _Global(Relevance):
    def act(self, arrivals):
        items = super().act(arrivals)
        return items if np.random.random() < 0.5 else items[:, ::-1]  # noqa: NPY002 - what must be caught


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
    def begin_round(self, view):
        super().begin_round(view)
        self.item_price = -self.item_price


class _OnePerCent(EpsilonGreedy):
    def act(self, arrivals):
        answer = super().act(arrivals)
        return dataclasses.replace(answer, propensity=answer.propensity * np.float32(0.99))


class _Rounds(Relevance):
    """Turns its slates by one position in each round but the first."""

    def __init__(self):
        self.rounds = np.zeros(1)

    def begin_round(self, view):
        super().begin_round(view)
        self.rounds = self.rounds + 1

    def act(self, arrivals):
        return np.roll(super().act(arrivals), int(self.rounds[0]), axis=1)


class _Forgetful(_Rounds):
    @property
    def state(self):
        return {"rounds": self.rounds}

    def load_state(self, state):
        pass


class _Misnamed(_Forgetful):
    def load_state(self, state):
        self.rounds = state["round"]


class _Objects(_Forgetful):
    @property
    def state(self):
        return {"rounds": np.array([self])}


class _Remembering(_Forgetful):
    def load_state(self, state):
        self.rounds = state["rounds"]


class _Wording(Relevance):
    diagnostics = {"mood": "good"}  # noqa: RUF012 - one of its kind


class _Listing(Relevance):
    diagnostics = (1.0, 2.0)


class _Opening(Relevance):
    def act(self, arrivals):
        items = super().act(arrivals)
        arrivals.admissible[:] = True
        return items


class _Scaling(Relevance):
    def act(self, arrivals):
        items = super().act(arrivals)
        arrivals.relevance.numpy()[:] *= 0.5
        return items


class _Releasing(Relevance):
    def begin_round(self, view):
        super().begin_round(view)
        view.required[:] = 0


class _Evening(Relevance):
    def begin_round(self, view):
        super().begin_round(view)
        view.position_weights[:] = 1


class _Fading(Relevance):
    def begin_round(self, view):
        super().begin_round(view)
        for states in view.past:
            states.ground_intensity.mul_(0.5)


class _Rewriting(_Learner):
    def learn(self, feedback):
        feedback.consumed[:] = False


class _Sometimes(Relevance):
    def act(self, arrivals):
        return Slates(super().act(arrivals), uniform=np.full(len(arrivals), len(arrivals) > 1))


class _Unsure(Relevance):
    def act(self, arrivals):
        items = super().act(arrivals)
        same = Chances.certain(items, items)
        return Slates(items, chances=Chances.mixed(1 / len(items), same, Chances.none(items.shape)))


class _Nameless(Random):
    name = ""


class _Padded(Relevance):
    def act(self, arrivals):
        return Slates(np.maximum(super().act(arrivals), 0))


@pytest.mark.parametrize(
    ("agent", "promise"),
    [
        (_Nameless, "test_follows_the_protocol"),
        (_Repeating, "test_slates_hold_distinct_admissible_items"),
        (_Inadmissible, "test_slates_hold_distinct_admissible_items"),
        (_Short, "test_slates_hold_distinct_admissible_items"),
        (_Padded, "test_a_row_where_nothing_may_be_shown_stays_empty"),
        (_Counting, "test_the_batch_does_not_matter"),
        (_Ordered, "test_rows_may_come_in_any_order_if_it_says_so"),
        (_Global, "test_the_same_key_gives_the_same_slates"),
        (_Positive, "test_prices_are_bonuses"),
        (_OnePerCent, "test_propensities_are_frequencies"),
        (_Rounds, "test_it_goes_on_where_a_run_is_resumed"),
        (_Forgetful, "test_it_goes_on_where_a_run_is_resumed"),
        (_Misnamed, "test_it_goes_on_where_a_run_is_resumed"),
        (_Objects, "test_it_goes_on_where_a_run_is_resumed"),
        (_Wording, "test_diagnostics_are_names_with_numbers"),
        (_Listing, "test_diagnostics_are_names_with_numbers"),
        (_Opening, "test_it_leaves_what_it_is_told_as_it_was"),
        (_Scaling, "test_it_leaves_what_it_is_told_as_it_was"),
        (_Releasing, "test_it_leaves_what_it_is_told_as_it_was"),
        (_Evening, "test_it_leaves_what_it_is_told_as_it_was"),
        (_Fading, "test_it_leaves_what_it_is_told_as_it_was"),
        (_Rewriting, "test_it_leaves_what_it_is_told_as_it_was"),
        (_Sometimes, "test_the_batch_does_not_matter"),
        (_Unsure, "test_the_batch_does_not_matter"),
    ],
)
def test_an_agent_that_breaks_a_promise_is_caught(agent, promise):
    """The test of a promise fails for an agent that breaks it, propensities one per cent too small included."""

    class Mine(AgentTests):
        def make(self):
            return agent()

    with pytest.raises((AssertionError, KeyError, ValueError)):
        getattr(Mine(), promise)()


def test_an_agent_that_remembers_over_rounds_goes_on():
    """One whose state says how many rounds it has seen passes where one that does not say so is caught."""

    class Mine(AgentTests):
        def make(self):
            return _Remembering()

    Mine().test_it_goes_on_where_a_run_is_resumed()
