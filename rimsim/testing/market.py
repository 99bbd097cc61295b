"""Tests for your own arrivals, consumers, providers and processes.

Subclass a test class, define ``make`` and run pytest. Each test is a condition that the market needs::

    from rimsim.testing import ArrivalTests

    class TestMine(ArrivalTests):
        def make(self) -> ArrivalProcess:
            return Mine()
"""

# ruff: noqa: S101 - these are tests, and assert is pytest's language

from __future__ import annotations

import dataclasses
import itertools
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from rimsim import rng
from rimsim.arrays import Ints
from rimsim.config import ArrivalsConfig, PlatformConfig, ScenarioConfig, Seeds
from rimsim.data.log import EventLog
from rimsim.intensity import Popularity
from rimsim.market import Market, consumers
from rimsim.market.arrivals import ArrivalProcess, RoundsSoFar, Schedule, checked_schedule, make_arrivals
from rimsim.market.consumers.contract import ConsumerCapabilities
from rimsim.market.histories import LoggedPast
from rimsim.market.market import MarketPlugs
from rimsim.market.processes import Process
from rimsim.market.providers import Offer, Provider, RoundOutcome
from rimsim.market.world import world_of
from rimsim.matching import top_k
from rimsim.testing.intensity import random_log


@dataclass(frozen=True)
class Taking:
    """Consumer who takes each shown item with a constant probability."""

    probability: float
    """Probability that the consumer takes a shown item."""

    needs_truth = False

    def respond(self, visits: consumers.SlateVisits, slates: Ints) -> consumers.Response:
        """Consumer's response, with the same probability at each position."""
        probability = np.full(slates.shape, self.probability)
        return consumers.drawn(visits, slates, probability, probability)

    def organic(self, visits: consumers.SlateVisits) -> consumers.Organic:  # noqa: ARG002  # the protocol requires this argument
        """No organic consumption."""
        return consumers.NOTHING

    def true_intensity(self, visits: consumers.SlateVisits) -> torch.Tensor:
        """Constant intensity of all items."""
        return torch.full((len(visits), visits.world.log.n_items), self.probability)


def small_scenario() -> ScenarioConfig:
    """Scenario of two rounds, 60 clones each, with four positions."""
    arrivals = ArrivalsConfig(per_round=60, max_visits=3)
    platform = PlatformConfig(model="popularity")
    return ScenarioConfig(rounds=2, slate=4, arrivals=arrivals, platform=platform)


def small_market(
    log: EventLog,
    scenario: ScenarioConfig,
    arrivals: ArrivalProcess | None = None,
    consumer: consumers.Consumer | None = None,
    seed: int = 0,
    providers: Provider | None = None,
) -> Market:
    """Market over a log with a popularity model."""
    arrivals = make_arrivals(scenario) if arrivals is None else arrivals
    consumer = consumers.make_consumer(scenario) if consumer is None else consumer
    world = world_of(log, scenario, arrivals, consumer, providers)
    plugs = MarketPlugs(arrivals=arrivals, consumer=consumer, providers=providers)
    return Market(scenario, seeds=Seeds.all(seed), world=world, model=Popularity().fit(world.past), **plugs)


def serve_round(market: Market, batch_size: int | None = None) -> None:
    """Serve the current round with the most relevant items."""
    number = market.round
    while not market.done and market.round == number:
        arrivals = market.next_arrivals(batch_size)
        market.serve(arrivals, top_k(arrivals.relevance, arrivals.admissible, market.config.slate))


def require_same_in_batches(market: Callable[[], Market]) -> None:
    """Require equal arrivals, slates and consumptions at any batch size."""
    single = market()
    batched = market()
    for played, batch_size in ((single, 1), (batched, None)):
        while not played.done:
            serve_round(played, batch_size)
    ledgers = ([closed.ledger for closed in played.closed] for played in (single, batched))
    for alone, together in zip(*ledgers, strict=True):
        assert len(alone.schedule) == len(alone.item)
        for column in ("tick", "id", "slot"):
            np.testing.assert_array_equal(getattr(alone.schedule, column), getattr(together.schedule, column))
        np.testing.assert_array_equal(alone.item, together.item)
        np.testing.assert_array_equal(alone.consumed, together.consumed)


class _PlugTests:
    """Conditions of any plug of a market."""

    plug: ClassVar[Literal["arrivals", "consumer", "providers"]]

    @abstractmethod
    def make(self) -> Any:
        """The plug under test."""

    def log(self) -> EventLog:
        """Log of the market."""
        return random_log()

    def scenario(self) -> ScenarioConfig:
        """Scenario of the market, with two rounds."""
        return small_scenario()

    def test_a_market_plays_it(self) -> None:
        """A market's results do not depend on the batch size."""
        require_same_in_batches(lambda: small_market(self.log(), self.scenario(), **{self.plug: self.make()}))


class ArrivalTests(_PlugTests):
    """Conditions of arrival processes; subclass this class and define ``make``."""

    plug = "arrivals"

    @abstractmethod
    def make(self) -> ArrivalProcess:
        """Arrival process under test."""

    def rounds(self, seed: int = 0) -> list[Schedule]:
        """Schedules of rounds −1 (if visitors change), 0 and 1."""
        process = self.make()
        so_far = self.before(seed)
        return [process.round(number, so_far) for number in ((0, 1) if process.keeps_users else (-1, 0, 1))]

    def before(self, seed: int = 0) -> RoundsSoFar:
        """Record that the arrival process gets when the market opens."""
        return RoundsSoFar(small_market(self.log(), self.scenario(), self.make()).world, seed)

    def after_a_round(self, taken: float, seed: int = 0) -> RoundsSoFar:
        """Record after a round in which users took items randomly."""
        market = small_market(self.log(), self.scenario(), self.make(), Taking(taken), seed)
        serve_round(market)
        return RoundsSoFar(market.world, seed, tuple(market.platform.rounds))

    def test_follows_the_protocol(self) -> None:
        """The arrival process has the required methods and attributes."""
        process = self.make()
        assert isinstance(process, ArrivalProcess)
        flags = process.known_beforehand, process.keeps_users, getattr(process, "hangs_on_outcomes", True)
        assert all(isinstance(flag, bool) for flag in flags)

    def test_nothing_of_the_past_is_later_than_the_opening(self) -> None:
        """Warm-up logs end before the opening; release times are numbers."""
        log = self.log()
        opening = self.make().opening(log)
        assert len(opening.past)
        assert opening.past.time[-1] <= opening.time
        assert (opening.past.n_users, opening.past.n_items) == (log.n_users, log.n_items)
        if opening.release is not None:
            assert opening.release.shape == (log.n_items,)
            assert np.isfinite(opening.release).all()
        if opening.end is not None:
            assert opening.end.shape == (log.n_items,)
            assert not np.isnan(opening.end).any()

    def test_schedules_can_be_played(self) -> None:
        """Schedules are valid, and their ids are distinct."""
        schedules = self.rounds()
        so_far = self.before()
        past = LoggedPast.of(so_far.world.past, empty=self.scenario().arrivals.history == "none")
        for number, schedule in enumerate(schedules, start=2 - len(schedules)):
            checked_schedule(schedule, number, so_far, past)
            if schedule.logged is not None:
                events = np.bincount(self.make().opening(self.log()).past.user, minlength=self.log().n_users)
                assert (schedule.logged <= events[schedule.log_user]).all()
        for earlier, later in itertools.pairwise(schedules):
            assert earlier.stop <= later.start
        ids = np.concatenate([schedule.id for schedule in schedules])
        assert len(np.unique(ids)) == len(ids)

    def test_users_are_kept_or_new(self) -> None:
        """Persistent visitors keep their slots; other visitors never return."""
        first, second = (schedule.user for schedule in self.rounds()[-2:])
        if self.make().keeps_users:
            np.testing.assert_array_equal(first, second)
        else:
            assert not np.intersect1d(first, second).size

    def test_all_chance_comes_from_the_seed(self) -> None:
        """The same seed gives the same schedules, bit by bit."""
        process = self.make()
        unplayed = self.before(3)
        played = self.after_a_round(0.5, 3)
        calls = ((1, played), (1, unplayed), (0, unplayed))
        schedules = [process.round(number, so_far) for number, so_far in calls]
        for schedule, (number, so_far) in zip(schedules, calls, strict=True):
            _require_equal(self.make().round(number, so_far), schedule)

    def test_outcomes_move_it_only_if_it_says_so(self) -> None:
        """With ``hangs_on_outcomes = False``, outcomes do not change arrivals."""
        if not getattr(self.make(), "hangs_on_outcomes", True):
            nothing, everything = (self.make().round(1, self.after_a_round(taken)) for taken in (0.0, 1.0))
            _require_equal(nothing, everything)


def _require_equal(left: Schedule, right: Schedule) -> None:
    """Require two schedules to be equal in every bit."""
    for field in dataclasses.fields(left):
        np.testing.assert_array_equal(getattr(left, field.name), getattr(right, field.name), field.name)


class ConsumerTests(_PlugTests):
    """Conditions of any consumer; subclass this class and define ``make``."""

    plug = "consumer"

    @abstractmethod
    def make(self) -> consumers.Consumer:
        """Consumer under test."""

    def log(self) -> EventLog:
        """Log of the market."""
        return random_log(n_users=200)

    def market(self) -> Market:
        """Market with the consumer under test, in the second round."""
        market = small_market(self.log(), self.scenario(), consumer=self.make())
        while market.round == 0 or market.served < market.n_arrivals // 2:
            arrivals = market.next_arrivals(8)
            market.serve(arrivals, arrivals.relevance.topk(market.config.slate).indices)
        return market

    def visits(self, market: Market) -> tuple[consumers.SlateVisits, Ints]:
        """First visits, and random slates whose last positions are empty."""
        _, rows = np.unique(market.schedule.slot, return_index=True)
        chance = rng.uniform(7, rng.Purpose.MEASURE, rows[:, None], np.arange(market.n_items))
        slates = np.argsort(chance, axis=1)[:, : market.config.slate].astype(np.int64)
        slates[:, -1] = -1
        return market.open.visits(rows), slates

    def test_follows_the_protocol(self) -> None:
        """The consumer has the required methods."""
        assert isinstance(self.make(), consumers.Consumer)

    def test_responses_are_probabilities_and_what_was_drawn(self) -> None:
        """Responses have the shape of slates, and valid probabilities."""
        market = self.market()
        visits, slates = self.visits(market)
        before = slates.copy()
        response = market.consumer.respond(visits, slates)
        np.testing.assert_array_equal(slates, before)
        columns = response.consumed, response.probability, response.intensity
        assert {column.shape for column in columns} == {slates.shape}
        assert response.consumed.dtype == np.bool_
        assert ((response.probability >= 0) & (response.probability <= 1)).all()
        assert (response.intensity >= 0).all()
        assert not response.consumed[response.probability == 0].any()
        assert response.consumed[response.probability == 1].all()
        assert not response.probability[slates < 0].any()

    def test_answers_do_not_depend_on_the_batch(self) -> None:
        """Responses are the same if visits come one by one."""
        market = self.market()
        (visits, slates) = self.visits(market)
        consumer = market.consumer
        together = consumer.respond(visits, slates)
        for n, row in enumerate(visits.row):
            alone = consumer.respond(market.open.visits(np.array([row])), slates[n : n + 1])
            for column in ("consumed", "probability", "intensity"):
                np.testing.assert_array_equal(getattr(alone, column)[0], getattr(together, column)[n])

    def test_consumptions_are_as_frequent_as_their_probabilities(self) -> None:
        """Consumptions are within five standard errors of their probabilities."""
        market = self.market()
        visits, slates = self.visits(market)
        response = market.consumer.respond(visits, slates)
        standard_error = np.sqrt((response.probability * (1 - response.probability)).sum())
        assert abs(response.consumed.sum() - response.probability.sum()) <= 5 * standard_error + 1e-9

    def test_another_seed_draws_otherwise(self) -> None:
        """Another seed changes outcomes, but no probability."""
        market = self.market()
        visits, slates = self.visits(market)
        first = market.consumer.respond(visits, slates)
        expected_differences = 0.0
        for seed in range(1, 21):
            keys = rng.bits(seed, rng.Purpose.MEASURE, np.arange(len(visits.keys)))
            redrawn = market.consumer.respond(dataclasses.replace(visits, keys=keys), slates)
            np.testing.assert_array_equal(redrawn.probability, first.probability)
            if (redrawn.consumed != first.consumed).any():
                return
            # Two independent draws with probability p differ with probability 2p(1 − p).
            expected_differences += 2 * float((first.probability * (1 - first.probability)).sum())
        # If more than 20 differences are expected, the chance of none is below e^-20.
        assert expected_differences < 20, (
            "it draws the same with every seed; draw with visits.keys, as drawn does"
        )

    def test_true_intensities_are_intensities(self) -> None:
        """True intensities are finite float32, and 0 for inadmissible items."""
        market = self.market()
        visits, _ = self.visits(market)
        intensity = market.consumer.true_intensity(visits)
        assert intensity.shape == (len(visits), market.n_items)
        assert intensity.dtype == torch.float32
        assert bool(torch.isfinite(intensity).all())
        assert float(intensity.min()) >= 0
        assert not bool(intensity[visits.inadmissible()].any()), "these items may not be taken again"
        alone = market.consumer.true_intensity(market.open.visits(visits.row[:1]))
        torch.testing.assert_close(alone[0], intensity[0])
        assert (consumers.relevant_items(market.consumer, visits, market.n_items) >= 0).all()

    def test_what_is_organic_is_in_order(self) -> None:
        """Organic consumptions belong to the visits, and follow them."""
        market = self.market()
        visits, _ = self.visits(market)
        organic = market.consumer.organic(visits)
        assert len(organic.row) == len(organic.tick) == len(organic.item)
        assert np.isin(organic.row, visits.row).all()
        assert (organic.tick >= market.schedule.tick[organic.row]).all()
        capabilities = ConsumerCapabilities.of(market.consumer)
        # With a law, compiled code serves single arrivals without a call of the consumer. So it would miss organic
        # consumptions, unless the round adds them when it opens.
        assert capabilities.exogenous or capabilities.law is None or not len(organic.row)


class ProcessTests:
    """Conditions of any process; subclass this class and define ``make``."""

    @abstractmethod
    def make(self) -> Process:
        """Process under test, made again for each market."""

    def log(self) -> EventLog:
        """Log of the market."""
        return random_log(n_users=200)

    def scenario(self) -> ScenarioConfig:
        """Scenario of the market, with three rounds."""
        return dataclasses.replace(small_scenario(), rounds=3)

    def market(self) -> Market:
        """Market with the process under test."""
        scenario = self.scenario()
        arrivals = make_arrivals(scenario)
        consumer = consumers.make_consumer(scenario)
        world = world_of(self.log(), scenario, arrivals, consumer)
        model = Popularity().fit(world.past)
        return Market(
            scenario,
            world=world,
            model=model,
            arrivals=arrivals,
            consumer=consumer,
            processes={"tested": self.make()},
        )

    def test_follows_the_protocol(self) -> None:
        """The process has the method ``run``."""
        assert isinstance(self.make(), Process)

    def test_a_market_plays_it(self) -> None:
        """Results and changes do not depend on the batch size."""
        require_same_in_batches(self.market)
        changes = []
        for batch_size in (1, None):
            market = self.market()
            while not market.done:
                serve_round(market, batch_size)
            changes.append([closed.happenings for closed in market.closed])
        assert changes[0] == changes[1]

    def test_a_resumed_market_goes_on_alike(self) -> None:
        """A loaded market repeats the changes of an uninterrupted market."""
        uninterrupted = self.market()
        while not uninterrupted.done:
            serve_round(uninterrupted)
        for number in range(1, self.scenario().rounds):
            first = self.market()
            while first.round < number:
                serve_round(first)
            resumed = self.market()
            resumed.load_state(first.state)
            while not resumed.done:
                serve_round(resumed)
            for expected, closed in zip(uninterrupted.closed[number:], resumed.closed, strict=True):
                np.testing.assert_array_equal(expected.ledger.item, closed.ledger.item)
                assert expected.happenings == closed.happenings


class ProviderTests(_PlugTests):
    """Conditions of any providers; subclass this class and define ``make``."""

    plug = "providers"

    @abstractmethod
    def make(self) -> Provider:
        """Providers under test."""

    def scenario(self) -> ScenarioConfig:
        """Scenario of the market, with three rounds."""
        return dataclasses.replace(small_scenario(), rounds=3)

    def outcome(self, seed: int = 0) -> RoundOutcome:
        """Outcome of a round; a third of items is unexposed."""
        log = self.log()
        roster = self.make().opening(log)
        items = np.arange(log.n_items)
        shown = (9 * rng.uniform(seed, rng.Purpose.MEASURE, 1, items) - 3).clip(0).astype(np.int64)
        sold = (shown * rng.uniform(seed, rng.Purpose.MEASURE, 2, items)).astype(np.int64)
        return RoundOutcome(
            number=0,
            seed=seed,
            roster=roster,
            offer=Offer.opening(roster),
            exposure=shown,
            consumption=sold,
        )

    def test_follows_the_protocol(self) -> None:
        """Every item has a provider, the same in each call."""
        assert isinstance(self.make(), Provider)
        first, again = (self.make().opening(self.log()) for _ in range(2))
        first.checked(self.log().n_items)
        assert first.there.any()
        np.testing.assert_array_equal(first.of_item, again.of_item)
        np.testing.assert_array_equal(first.there, again.there)

    def test_who_leaves_was_there_and_who_comes_was_not(self) -> None:
        """The market accepts changes of providers; satisfactions are numbers."""
        outcome = self.outcome()
        changes = self.make().end_of_round(outcome)
        after = outcome.offer.after(changes, outcome)
        assert np.isfinite(after.satisfaction).all()
        assert (after.there == (outcome.offer.there & ~changes.leaves | changes.comes)).all()

    def test_all_chance_comes_from_the_seed(self) -> None:
        """Providers act equally after equal outcomes, and leave outcomes unchanged."""
        outcome = self.outcome(3)
        before = outcome.offer.satisfaction.copy()
        first, again = (self.make().end_of_round(outcome) for _ in range(2))
        np.testing.assert_array_equal(outcome.offer.satisfaction, before)
        for field in dataclasses.fields(first):
            np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))

    def test_what_is_not_on_offer_is_not_shown(self) -> None:
        """Items of absent providers are neither shown nor required."""
        market = small_market(self.log(), self.scenario(), providers=self.make())
        while not market.done:
            arrivals = market.next_arrivals()
            market.serve(arrivals, arrivals.relevance.topk(market.config.slate).indices, invalid="empty")
        for closed in market.closed:
            is_offered = closed.offer.there[market.world.roster.of_item]
            assert is_offered[closed.ledger.item[closed.ledger.item >= 0]].all()
            assert not closed.required[~is_offered].any()
