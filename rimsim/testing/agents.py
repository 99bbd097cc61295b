"""Tests for your own agents.

Subclass :class:`AgentTests`, define ``make`` and run pytest::

    from rimsim.testing import AgentTests

    class TestMine(AgentTests):
        def make(self) -> Agent:
            return Mine()
"""

# ruff: noqa: S101 - these are tests, and assert is pytest's language

from __future__ import annotations

import dataclasses
import io
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from rimsim.agents import Agent, LearningAgent, PricingAgent, RememberingAgent, diagnostics_of
from rimsim.arrays import Array, Ints
from rimsim.evaluation.off_policy import Chances
from rimsim.intensity.states import UserStates
from rimsim.market import Arrivals, Feedback, Needs, RoundView, Slates
from rimsim.market.providers import ProviderNeeds, ProviderView
from rimsim.market.records import LogEvents, as_slates
from rimsim.rng import Purpose, generator


@dataclasses.dataclass(frozen=True)
class _Chunks:
    """Scores of states, in chunks of 32 that share memory."""

    states: Arrivals

    def __len__(self) -> int:
        return len(self.states)

    def __iter__(self) -> Iterator[Arrivals]:
        for rows in np.array_split(np.arange(len(self)), -(-len(self) // 32)):
            yield self.states.rows(slice(rows[0], rows[-1] + 1))


class AgentTests:
    """Conditions of any agent; subclass this class and define ``make``."""

    n_items: ClassVar[int] = 40
    k: ClassVar[int] = 5
    draws: ClassVar[int] = 40_000
    """Number of arrivals with the same state, for comparing frequencies with stated propensities."""

    @abstractmethod
    def make(self) -> Agent:
        """New agent under test."""

    def arrivals(self, seed: int = 0) -> Arrivals:
        """Round of 60 arrivals with skewed scores.

        A tenth of the (visitor, item) pairs is consumed. Arrival 5 has no admissible item; arrival 8 gets no item.
        """
        n = 60
        draw = generator(seed, Purpose.MEASURE, self.n_items)
        admissible = draw.random((n, self.n_items)) < 0.9
        admissible[5] = False
        weight = admissible * draw.lognormal(draw.standard_normal(self.n_items), 1.0, (n, self.n_items))
        relevance = torch.from_numpy(weight / np.maximum(weight.sum(1, keepdims=True), 1e-300)).float()
        return Arrivals(
            id=np.arange(n, dtype=np.int64) + 1000 * seed,
            time=np.linspace(0.0, 60.0 * n, n),
            user=np.arange(n, dtype=np.int64),
            relevance=relevance,
            ground_intensity=torch.from_numpy(draw.lognormal(size=n)).float(),
            admissible=torch.from_numpy(admissible),
            row=np.arange(n, dtype=np.int64),
            true_intensity=torch.sqrt(relevance),
            capacity=np.where(np.arange(n) == 8, 0, self.k),
            opening_intensity=relevance**2,
            history=self._histories(n) if Needs.of(self.make()).history else None,
        )

    def _histories(self, n: int) -> UserStates:
        """States of n visitors with 0, 1, 2, … consumed items."""
        lengths = np.arange(n) % 4
        offsets = np.append(0, np.cumsum(lengths))
        event = np.arange(offsets[-1])
        return UserStates(
            offsets=offsets,
            items=event % self.n_items,
            times=event.astype(np.float64),
            now=np.full(n, 1.0 * len(event)),
        )

    def view(self, arrivals: Arrivals) -> RoundView:
        """View of the round; every third item has a guarantee."""
        n = len(arrivals)
        item = np.arange(self.n_items)
        genres = [f"g{number % 3}" for number in item]
        return RoundView(
            round=1,
            arrivals=n,
            slate=self.k,
            required=np.where(item % 3 == 0, n * self.k // (2 * self.n_items), 0),
            exposure=np.zeros(self.n_items, np.int64),
            cost=0.1,
            popularity=item[::-1].copy(),
            calibration=_Chunks(self.arrivals(seed=1)),
            key=7,
            audience=_Chunks(arrivals),
            item_factor=np.asarray(1 + item % 5, np.float64),
            providers=ProviderView(
                of_item=item,
                classes=np.zeros(self.n_items, np.int64),
                came=np.zeros(self.n_items, np.int64),
                left=np.full(self.n_items, -1),
                exposure=np.ones(self.n_items),
                consumption=np.zeros(self.n_items),
            ),
            provider_needs=ProviderNeeds(
                now=np.asarray(1 + item % 3, np.float64), lasting=np.asarray(2 + item % 3, np.float64)
            ),
            items=pd.DataFrame({"id": item.astype(str), "title": "", "genres": genres}),
            log=LogEvents(item=np.repeat(item, item[::-1]), time=np.arange(item.sum(), dtype=np.float64)),
            opens=float(item.sum()),
        )

    def served(self, arrivals: Arrivals, batch: int, order: Ints | None = None) -> Slates:
        """Slates by a new agent for a round; see :meth:`played`."""
        return self.played(self.make(), self.view(arrivals), arrivals, batch, order)

    def played(
        self, agent: Agent, view: RoundView, arrivals: Arrivals, batch: int, order: Ints | None = None
    ) -> Slates:
        """Slates of a round, in batches that end at barriers.

        A learning agent gets feedback in which items with even numbers are consumed.
        """
        agent.begin_round(view)
        order = np.arange(len(arrivals)) if order is None else order
        n = len(arrivals)
        barriers = {*range(0, n, agent.barrier_every or n), n}
        answers: list[Slates] = []
        unlearnt: list[Arrivals] = []
        batch_ends = sorted({*range(0, n, batch), *barriers})[1:-1]  # without 0 and n
        for batch_rows in np.split(order, batch_ends):
            rows = arrivals.rows(batch_rows)
            answers.append(as_slates(agent.act(rows)))
            if isinstance(agent, LearningAgent):
                unlearnt += [rows.rows(slice(row, row + 1)) for row in range(len(rows))]
                slates = np.concatenate([answer.items for answer in answers])[:, None]
                if len(slates) in barriers:
                    for row, items in zip(unlearnt, slates[-len(unlearnt) :], strict=True):
                        agent.learn(Feedback(row, items, (items % 2 == 0) & (items >= 0)))
                    unlearnt = []
        columns: dict[str, Any] = {}
        for name in ("items", "price", "propensity", "uniform"):
            parts = [getattr(answer, name) for answer in answers]
            columns[name] = None if parts[0] is None else np.concatenate(parts)
        chances = [answer.chances for answer in answers if answer.chances is not None]
        return Slates(**columns, chances=Chances.joined(chances) if chances else None)

    def next_round(self) -> tuple[RoundView, Arrivals]:
        """View and arrivals of the next round, with changed popularity."""
        arrivals = self.arrivals(seed=2)
        view = self.view(arrivals)
        popularity = np.roll(view.popularity, 1)
        return dataclasses.replace(view, round=view.round + 1, popularity=popularity), arrivals

    def test_follows_the_protocol(self) -> None:
        """The agent has all required methods and attributes."""
        agent = self.make()
        assert isinstance(agent, Agent)
        assert len(agent.name) > 0
        assert isinstance(agent.order_free, bool)
        assert agent.barrier_every is None or agent.barrier_every >= 1

    def test_slates_hold_distinct_admissible_items(self) -> None:
        """Slates hold distinct admissible items or −1."""
        arrivals = self.arrivals()
        items = self.served(arrivals, 60).items
        assert items.shape == (len(arrivals), self.k)
        assert -1 <= items.min() <= items.max() < self.n_items
        for row, slate in enumerate(items):
            assert len(np.unique(slate[slate >= 0])) == (slate >= 0).sum()
            assert arrivals.admissible[row, slate[slate >= 0]].all()

    def test_a_row_where_nothing_may_be_shown_stays_empty(self) -> None:
        """A slate without admissible items is −1 at all positions."""
        assert (self.served(self.arrivals(), 60).items[5] == -1).all()

    def test_the_batch_does_not_matter(self) -> None:
        """Slates are identical in batches of any size."""
        arrivals = self.arrivals()
        for batch in (1, 7):
            _assert_same(self.served(arrivals, batch), self.served(arrivals, 60), np.arange(60))

    def test_rows_may_come_in_any_order_if_it_says_so(self) -> None:
        """An ``order_free`` agent gives the same slates in any order."""
        if not self.make().order_free:
            return
        arrivals = self.arrivals()
        order = generator(2, Purpose.MEASURE).permutation(60)
        _assert_same(self.served(arrivals, 7, order), self.served(arrivals, 7), order)

    def test_the_same_key_gives_the_same_slates(self) -> None:
        """Equal agents answer equally; global random states do not matter."""
        arrivals = self.arrivals()
        answers = []
        for seed in (1, 2):
            np.random.seed(seed)  # noqa: NPY002  # the test sees that NumPy's global seed has no effect
            torch.manual_seed(seed)
            answers.append(self.served(arrivals, 7))
        _assert_same(answers[0], answers[1], np.arange(60))

    def test_it_leaves_what_it_is_told_as_it_was(self) -> None:
        """The agent does not change views, arrivals and feedback."""
        arrivals = self.arrivals()
        agent = self.make()
        view = self.view(arrivals)
        batch = arrivals.rows(slice(agent.barrier_every))
        # The weights differ from 1, so that the test notices an agent that overwrites them with ones.
        weights = view.position_weights * 0.9 ** np.arange(view.slate)
        view = dataclasses.replace(view, position_weights=weights)
        before = _copies(view), _copies(batch)
        agent.begin_round(view)
        items = as_slates(agent.act(batch)).items
        if isinstance(agent, LearningAgent):
            for row, slate in enumerate(items.copy()):
                feedback = Feedback(batch.rows(slice(row, row + 1)), slate[None], slate[None] % 2 == 0)
                copies_of_feedback = _copies(feedback)
                agent.learn(feedback)
                _assert_unchanged(feedback, copies_of_feedback)
        for record, copies in zip((view, batch), before, strict=True):
            _assert_unchanged(record, copies)

    def test_it_goes_on_where_a_run_is_resumed(self) -> None:
        """A new agent with ``load_state(state)`` continues like the old agent."""
        arrivals = self.arrivals()
        old = self.make()
        new = self.make()
        self.played(old, self.view(arrivals), arrivals, 60)
        # A run also reads diagnostics before it saves the state, which must not change the agent.
        _ = getattr(old, "diagnostics", None)
        if isinstance(old, RememberingAgent):
            assert isinstance(new, RememberingAgent)
            new.load_state(_from_disk(old.state))
        elif isinstance(old, LearningAgent):
            return
        view, later = self.next_round()
        _assert_same(self.played(new, view, later, 60), self.played(old, view, later, 60), np.arange(60))

    def test_diagnostics_are_names_with_numbers(self) -> None:
        """Diagnostics map texts to numbers."""
        arrivals = self.arrivals()
        agent = self.make()
        self.played(agent, self.view(arrivals), arrivals, 60)
        diagnostics = getattr(agent, "diagnostics", {})
        assert isinstance(diagnostics, Mapping), f"they are {diagnostics!r}"
        for name, value in diagnostics.items():
            assert isinstance(name, str), f"a name is {name!r}"
            assert not isinstance(value, str), f"{name} is {value!r}"
        diagnostics_of(agent)  # this raises an error, as in a run, if a value is not a number

    def test_prices_are_bonuses(self) -> None:
        """Item prices are finite and not above 0."""
        arrivals = self.arrivals()
        agent = self.make()
        agent.begin_round(self.view(arrivals))
        answer = as_slates(agent.act(arrivals.rows(slice(20))))
        if isinstance(agent, PricingAgent):
            assert agent.item_price.shape == (self.n_items,)
            assert np.isfinite(agent.item_price).all()
            assert agent.item_price.max() <= 0
        assert answer.price is None or (answer.price[answer.items >= 0] <= 0).all()

    def test_propensities_are_frequencies(self) -> None:
        """Frequencies of items in slates agree with their propensities."""
        arrivals = self.arrivals()
        number = np.arange(self.draws)
        if self.served(arrivals, 60).propensity is None:
            return
        state = arrivals.rows(np.zeros(self.draws, np.int64))
        slates = self.served(dataclasses.replace(state, id=number, row=number), 512)
        assert slates.propensity is not None
        shown = slates.items >= 0
        stated = slates.propensity[shown].astype(np.float64)
        items = slates.items[shown]
        assert 0 < stated.min() <= stated.max() <= 1
        is_frequent = np.bincount(items, minlength=self.n_items) >= 0.01 * self.draws
        # Horvitz–Thompson: each exposure counts 1/propensity, so the sum of each item estimates the number of arrivals.
        estimate = np.bincount(items, 1.0 / stated, self.n_items)
        standard_error = np.sqrt(np.bincount(items, (1.0 - stated) / stated**2, self.n_items))
        tolerance = 4.5 * standard_error + 1e-3 * np.sqrt(self.draws)
        assert (np.abs(estimate - self.draws)[is_frequent] <= tolerance[is_frequent]).all()


def _assert_same(answer: Slates, expected: Slates, order: Ints) -> None:
    """Require answers to equal expected answers in rows ``order``."""
    for name in ("items", "price", "propensity", "uniform"):
        column = getattr(answer, name)
        expected_column = getattr(expected, name)
        np.testing.assert_array_equal(
            column, expected_column if expected_column is None else expected_column[order], name
        )
    assert (answer.chances is None) == (expected.chances is None)
    if answer.chances is not None and expected.chances is not None:
        for chance_column, expected_column in zip(
            answer.chances.columns, expected.chances.rows(order).columns, strict=True
        ):
            np.testing.assert_array_equal(chance_column, expected_column, "chances")


def _copies(record: Any, within: str = "") -> dict[str, Array]:
    """Copies of all arrays and tables in a record."""
    copies = {}
    for field in dataclasses.fields(record):
        name = f"{within}{field.name}"
        value = getattr(record, field.name)
        if isinstance(value, torch.Tensor):
            copies[name] = value.detach().cpu().numpy().copy()
        elif isinstance(value, np.ndarray):
            copies[name] = value.copy()
        elif isinstance(value, pd.DataFrame):
            copies |= {f"{name}.{column}": value[column].to_numpy(copy=True) for column in value}
        elif dataclasses.is_dataclass(value):
            copies |= _copies(value, f"{name}.")
    return copies


def _assert_unchanged(record: Any, before: dict[str, Array]) -> None:
    """Require a record to equal its copies."""
    after = _copies(record)
    assert list(after) == list(before)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, f"{name} was written to")


def _from_disk(state: Mapping[str, Any]) -> dict[str, Array]:
    """State of an agent, as a resumed run reads it."""
    file = io.BytesIO()
    named: dict[str, Any] = {f"agent-{name}": np.asarray(value) for name, value in state.items()}
    np.savez(file, **named)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return {name.removeprefix("agent-"): arrays[name] for name in arrays}
