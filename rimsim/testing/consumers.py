"""Tests for consumers (user choice models) of one's own: subclass, say how it is made, run pytest.

    from rimsim.testing import ConsumerTests

    class TestMine(ConsumerTests):
        def make(self) -> Consumer:
            return Mine()

Every test states a promise that the market relies on.
"""

# ruff: noqa: S101 - these are tests, and assert is pytest's language

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim import rng
from rimsim.arrays import Ints
from rimsim.market.consumers import Consumer, relevant_items
from rimsim.testing.intensity import random_log
from rimsim.testing.markets import require_same_in_batches, small_market, small_scenario

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.data.log import EventLog
    from rimsim.market import Market
    from rimsim.market.consumers import Visits


class ConsumerTests:
    """What any consumer must do; subclass it in a test module and say how the consumer is made."""

    @abstractmethod
    def make(self) -> Consumer:
        """The consumer."""

    def log(self) -> EventLog:
        """The log that the market is made of."""
        return random_log(n_users=200)

    def scenario(self) -> ScenarioConfig:
        """The rest of the market."""
        return small_scenario()

    def market(self) -> Market:
        """A market with the consumer, in its second round, so that visitors may have consumed before."""
        market = small_market(self.log(), self.scenario(), consumer=self.make())
        while market.round == 0 or market.served < market.n_arrivals // 2:
            arrivals = market.next_arrivals(8)
            market.serve(arrivals, arrivals.relevance.topk(market.config.slate).indices)
        return market

    def visits(self, market: Market) -> tuple[Visits, Ints]:
        """One visit of each visitor of the open round, and a random slate for each, its last position empty."""
        _, rows = np.unique(market.schedule.slot, return_index=True)
        chance = rng.uniform(7, rng.Purpose.MEASURE, rows[:, None], np.arange(market.n_items))
        slates = np.argsort(chance, axis=1)[:, : market.config.slate].astype(np.int64)
        slates[:, -1] = -1
        return market.open.visits(rows), slates

    def test_follows_the_protocol(self) -> None:
        """The consumer responds, does things by itself, and says its true intensities."""
        assert isinstance(self.make(), Consumer)

    def test_responses_are_probabilities_and_what_was_drawn(self) -> None:
        """Shapes are those of the slates, probabilities from 0 to 1 and 0 where nothing is shown; inputs stay."""
        market = self.market()
        visits, slates = self.visits(market)
        before = slates.copy()
        response = market.consumer.respond(visits, slates)
        np.testing.assert_array_equal(slates, before)
        assert (
            response.consumed.shape == response.probability.shape == response.intensity.shape == slates.shape
        )
        assert response.consumed.dtype == np.bool_
        assert ((response.probability >= 0) & (response.probability <= 1)).all()
        assert (response.intensity >= 0).all()
        assert not response.consumed[response.probability == 0].any()
        assert response.consumed[response.probability == 1].all()
        assert not response.probability[slates < 0].any()

    def test_answers_do_not_depend_on_the_batch(self) -> None:
        """Asked again, one visit at a time, the same is consumed with the same probabilities, to the last bit."""
        market = self.market()
        visits, slates = self.visits(market)
        consumer = market.consumer
        together = consumer.respond(visits, slates)
        for n, row in enumerate(visits.row):
            alone = consumer.respond(market.open.visits(np.array([row])), slates[n : n + 1])
            np.testing.assert_array_equal(alone.consumed[0], together.consumed[n])
            np.testing.assert_array_equal(alone.probability[0], together.probability[n])
            np.testing.assert_array_equal(alone.intensity[0], together.intensity[n])

    def test_consumptions_are_as_frequent_as_their_probabilities(self) -> None:
        """Over all visits, consumptions are within five standard errors of the sum of their probabilities."""
        market = self.market()
        visits, slates = self.visits(market)
        response = market.consumer.respond(visits, slates)
        spread = np.sqrt((response.probability * (1 - response.probability)).sum())
        assert abs(response.consumed.sum() - response.probability.sum()) <= 5 * spread + 1e-9

    def test_another_seed_draws_otherwise(self) -> None:
        """With other keys, as another seed has them, probabilities are the same, and what is drawn is not."""
        market = self.market()
        visits, slates = self.visits(market)
        first, likely = market.consumer.respond(visits, slates), 0.0
        for seed in range(1, 21):
            keys = rng.bits(seed, rng.Purpose.MEASURE, np.arange(len(visits.keys)))
            other = market.consumer.respond(dataclasses.replace(visits, keys=keys), slates)
            np.testing.assert_array_equal(other.probability, first.probability)
            if (other.consumed != first.consumed).any():
                return
            likely += 2 * float((first.probability * (1 - first.probability)).sum())
        # That none of so many differ has a chance below e^-20.
        assert likely < 20, "it draws the same with every seed; draw with visits.keys, as drawn does"

    def test_true_intensities_are_intensities(self) -> None:
        """They are finite, not negative, (n, M) float32, row by row, 0 for what was consumed; so is relevance."""
        market = self.market()
        visits, _ = self.visits(market)
        true = market.consumer.true_intensity(visits)
        assert true.shape == (len(visits), market.n_items)
        assert true.dtype == torch.float32
        assert bool(torch.isfinite(true).all())
        assert float(true.min()) >= 0
        assert not bool(true[visits.consumed()].any()), "what was consumed is no longer admissible"
        alone = market.consumer.true_intensity(market.open.visits(visits.row[:1]))
        torch.testing.assert_close(alone[0], true[0])
        assert (relevant_items(market.consumer, visits, market.n_items) >= 0).all()

    def test_what_is_organic_is_in_order(self) -> None:
        """What visitors do by themselves is told for the visits asked for, each not before it begins."""
        market = self.market()
        visits, _ = self.visits(market)
        organic = market.consumer.organic(visits)
        assert len(organic.row) == len(organic.tick) == len(organic.item)
        assert np.isin(organic.row, visits.row).all()
        assert (organic.tick >= market.schedule.tick[organic.row]).all()

    def test_a_market_plays_it(self) -> None:
        """The batch size changes nothing that is shown or consumed."""
        require_same_in_batches(lambda: small_market(self.log(), self.scenario(), consumer=self.make()))
