"""Tests for providers of one's own: subclass, say how they are made, run pytest.

    from rimsim.testing import ProviderTests

    class TestMine(ProviderTests):
        def make(self) -> Provider:
            return Mine()

Every test states a promise that the market relies on.
"""

# ruff: noqa: S101 - these are tests, and assert is pytest's language

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from rimsim import rng
from rimsim.market.providers import Offer, Provider, RoundOutcome
from rimsim.testing.intensity import random_log
from rimsim.testing.markets import require_same_in_batches, small_market, small_scenario

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.data.log import EventLog
    from rimsim.market.providers import Changes


class ProviderTests:
    """What providers must do; subclass it in a test module and say how they are made."""

    @abstractmethod
    def make(self) -> Provider:
        """The providers."""

    def log(self) -> EventLog:
        """The log that the market is made of."""
        return random_log()

    def scenario(self) -> ScenarioConfig:
        """The rest of the market."""
        return dataclasses.replace(small_scenario(), rounds=3)

    def outcome(self, seed: int = 0) -> RoundOutcome:
        """A round of made-up exposures, of which a third of the items had none."""
        log = self.log()
        roster, items = self.make().opening(log), np.arange(log.n_items)
        shown = (9 * rng.uniform(seed, rng.Purpose.MEASURE, 1, items) - 3).clip(0).astype(np.int64)
        sold = (shown * rng.uniform(seed, rng.Purpose.MEASURE, 2, items)).astype(np.int64)
        return RoundOutcome(0, seed, roster, Offer.opening(roster), shown, sold)

    def changes(self, outcome: RoundOutcome) -> Changes:
        """What comes of it."""
        return self.make().end_of_round(outcome)

    def test_follows_the_protocol(self) -> None:
        """Every item has a provider, somebody is there at the opening, and the roster is the same each time."""
        assert isinstance(self.make(), Provider)
        first, again = (self.make().opening(self.log()) for _ in range(2))
        first.checked(self.log().n_items)
        assert first.there.any()
        np.testing.assert_array_equal(first.of_item, again.of_item)
        np.testing.assert_array_equal(first.there, again.there)

    def test_who_leaves_was_there_and_who_comes_was_not(self) -> None:
        """The market can enter the changes of a round, and satisfactions are numbers."""
        outcome = self.outcome()
        changes = self.changes(outcome)
        after = outcome.offer.after(changes, 0)
        assert np.isfinite(after.satisfaction).all()
        assert (after.there == (outcome.offer.there & ~changes.leaves | changes.comes)).all()

    def test_all_chance_comes_from_the_seed(self) -> None:
        """Asked again with the same outcome, the changes are the same to the last bit, and the outcome stays."""
        outcome = self.outcome(3)
        before = outcome.offer.satisfaction.copy()
        first, again = self.changes(outcome), self.changes(outcome)
        np.testing.assert_array_equal(outcome.offer.satisfaction, before)
        for field in dataclasses.fields(first):
            np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))

    def test_what_is_not_on_offer_is_not_shown(self) -> None:
        """In a market, an item is shown in rounds alone in which its provider is there, and owed nothing else."""
        market = small_market(self.log(), self.scenario(), providers=self.make())
        while not market.done:
            arrivals = market.next_arrivals()
            market.serve(arrivals, arrivals.relevance.topk(market.config.slate).indices, invalid="empty")
        for closed in market.closed:
            there = closed.offer.there[market.world.roster.of_item]
            shown = closed.ledger.item[closed.ledger.item >= 0]
            assert there[shown].all()
            assert not closed.required[~there].any()

    def test_a_market_plays_it(self) -> None:
        """The batch size changes nothing that is shown or consumed."""
        require_same_in_batches(lambda: small_market(self.log(), self.scenario(), providers=self.make()))
