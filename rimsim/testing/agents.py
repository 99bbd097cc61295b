"""Tests for agents of one's own: subclass, name the agent, run pytest.

    from rimsim.testing import AgentTests

    class TestMine(AgentTests):
        def make(self) -> Agent:
            return Mine()

Every test states a promise that the market relies on. States and scores are made up, from counter-based random
numbers; override :meth:`AgentTests.arrivals` or :meth:`AgentTests.view` to use others.
"""

# ruff: noqa: S101 - these are tests, and assert is pytest's language

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch

from rimsim.agents import Agent, LearningAgent, PricingAgent
from rimsim.intensity.states import UserStates
from rimsim.market import Arrivals, Feedback, Needs, RoundView, Slates
from rimsim.market.records import as_slates
from rimsim.rng import Purpose, generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["AgentTests"]


@dataclasses.dataclass(frozen=True)
class _Chunks:
    """Scored states in chunks of 32."""

    states: Arrivals

    def __len__(self) -> int:
        return len(self.states)

    def __iter__(self) -> Iterator[Arrivals]:
        for rows in np.array_split(np.arange(len(self)), -(-len(self) // 32)):
            yield self.states.rows(rows)


class AgentTests:
    """What any agent must do; subclass it in a test module and say how the agent is made."""

    n_items: ClassVar[int] = 40
    k: ClassVar[int] = 5
    draws: ClassVar[int] = 40_000
    """Arrivals of one state, to compare frequencies with stated propensities."""

    @abstractmethod
    def make(self) -> Agent:
        """The agent, newly made."""

    def arrivals(self, seed: int = 0) -> Arrivals:
        """The 60 arrivals of a round: skewed scores, a tenth consumed, nothing left for row 5, no room for row 8."""
        n, draw = 60, generator(seed, Purpose.MEASURE, self.n_items)
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
            index=np.arange(n, dtype=np.int64),
            true_intensity=torch.sqrt(relevance),
            capacity=np.where(np.arange(n) == 8, 0, self.k),
            history=self._histories(n) if Needs.of(self.make()).history else None,
        )

    def _histories(self, n: int) -> UserStates:
        """States of n visitors who consumed none, one, two, … items."""
        lengths = np.arange(n) % 4
        offsets = np.append(0, np.cumsum(lengths))
        items = np.arange(offsets[-1]) % self.n_items
        return UserStates(
            offsets, items, np.arange(offsets[-1], dtype=np.float64), np.full(n, float(offsets[-1]))
        )

    def view(self, arrivals: Arrivals) -> RoundView:
        """A round in which these arrivals come, after one with 60 others; every third item lacks exposures."""
        n, item = len(arrivals), np.arange(self.n_items)
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
            items=pd.DataFrame(
                {"id": item.astype(str), "title": "", "genres": [f"g{one % 3}" for one in item]}
            ),
        )

    def served(self, arrivals: Arrivals, batch: int, order: NDArray[np.int64] | None = None) -> Slates:
        """Slates of a round, in batches that end at barriers; even items are consumed, for an agent that learns."""
        agent = self.make()
        agent.begin_round(self.view(arrivals))
        order, n = np.arange(len(arrivals)) if order is None else order, len(arrivals)
        barriers = {*range(0, n, agent.barrier_every or n), n}
        answers: list[Slates] = []
        untold: list[Arrivals] = []
        for which in np.split(order, sorted({*range(0, n, batch), *barriers})[1:-1]):
            rows = arrivals.rows(which)
            answers.append(as_slates(agent.act(rows)))
            if isinstance(agent, LearningAgent):
                untold += [rows.rows(slice(row, row + 1)) for row in range(len(rows))]
                done = np.concatenate([answer.items for answer in answers])[:, None]
                if len(done) in barriers:
                    for row, items in zip(untold, done[-len(untold) :], strict=True):
                        agent.learn(Feedback(row, items, (items % 2 == 0) & (items >= 0)))
                    untold = []
        columns = zip(*((one.items, one.price, one.propensity, one.uniform) for one in answers), strict=True)
        joined: list[Any] = [None if part[0] is None else np.concatenate(part) for part in columns]
        return Slates(*joined)

    def test_follows_the_protocol(self) -> None:
        """The agent has a name, says whether rows may come in any order, and where its barriers are."""
        agent = self.make()
        assert isinstance(agent, Agent)
        assert len(agent.name) > 0
        assert isinstance(agent.order_free, bool)
        assert agent.barrier_every is None or agent.barrier_every >= 1

    def test_slates_hold_distinct_admissible_items(self) -> None:
        """Slates are (n, k) whole numbers from −1 to M − 1; in a row none stands twice or may not be shown."""
        arrivals = self.arrivals()
        items = self.served(arrivals, 60).items
        assert items.shape == (len(arrivals), self.k)
        assert items.min() >= -1
        assert items.max() < self.n_items
        for row, slate in enumerate(items):
            assert len(np.unique(slate[slate >= 0])) == (slate >= 0).sum()
            assert arrivals.admissible[row, slate[slate >= 0]].all()

    def test_a_row_where_nothing_may_be_shown_stays_empty(self) -> None:
        """The row without an admissible item is answered with −1 alone."""
        assert (self.served(self.arrivals(), 60).items[5] == -1).all()

    def test_the_batch_does_not_matter(self) -> None:
        """Slates, prices and propensities are the same bits in batches of one, of seven and of all."""
        arrivals = self.arrivals()
        for batch in (1, 7):
            _assert_same(self.served(arrivals, batch), self.served(arrivals, 60), np.arange(60))

    def test_rows_may_come_in_any_order_if_it_says_so(self) -> None:
        """An agent that is ``order_free`` answers each row alike in whatever order they come."""
        arrivals = self.arrivals()
        if not self.make().order_free:
            return
        order = generator(2, Purpose.MEASURE).permutation(60)
        _assert_same(self.served(arrivals, 7, order), self.served(arrivals, 7), order)

    def test_the_same_key_gives_the_same_slates(self) -> None:
        """Two agents made alike answer alike, whatever the state of NumPy's and torch's global generators."""
        arrivals, answers = self.arrivals(), []
        for seed in (1, 2):
            np.random.seed(seed)  # noqa: NPY002 - it must make no difference
            torch.manual_seed(seed)
            answers.append(self.served(arrivals, 7))
        _assert_same(answers[0], answers[1], np.arange(60))

    def test_prices_are_bonuses(self) -> None:
        """Item prices are (M,) finite numbers, and neither they nor those of shown items are above 0."""
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
        """Over arrivals of one state, Σ 1/π over an item's exposures is their number, within 4.5 standard errors."""
        few, number = self.arrivals(), np.arange(self.draws)
        if self.served(few, 60).propensity is None:
            return
        state = few.rows(np.zeros(self.draws, np.int64))
        slates = self.served(dataclasses.replace(state, id=number, index=number), 512)
        assert slates.propensity is not None
        shown = slates.items >= 0
        stated, items = slates.propensity[shown].astype(np.float64), slates.items[shown]
        assert stated.min() > 0
        assert stated.max() <= 1
        often = np.bincount(items, minlength=self.n_items) >= 0.01 * self.draws
        total = np.bincount(items, 1.0 / stated, self.n_items)
        error = np.sqrt(np.bincount(items, (1.0 - stated) / stated**2, self.n_items))
        assert (np.abs(total - self.draws)[often] <= 4.5 * error[often] + 1e-3 * np.sqrt(self.draws)).all()


def _assert_same(found: Slates, expected: Slates, order: NDArray[np.int64]) -> None:
    """Slates, prices and propensities of served rows are those of the rows ``order`` of others."""
    for name in ("items", "price", "propensity"):
        one, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(one, other if other is None else other[order])
