"""Needs of classes of providers: who stays at a need, who leaves below it, and what a seed permutes."""

import dataclasses

import numpy as np
import pytest
from kit import refused
from kit.logs import log_of

from rimsim.config import ArrivalsConfig, ScenarioConfig, find_scenario
from rimsim.errors import ConfigError
from rimsim.market import Offer, RoundOutcome
from rimsim.market.providers import Viability, ViabilityOptions, is_fixed
from rimsim.testing import ProviderTests

NEEDS = (0.5, 1.0, 2.0)
SCENARIO = ScenarioConfig(slate=2, arrivals=ArrivalsConfig(per_round=60))
FIELDS = {"decay": 0.8, "start": 1.0, "threshold": 1.0, "per_consumption": 0.0, "penalty": 0.0}


def needing(needs=NEEDS, **changes):
    """Providers with needs who begin at the threshold."""
    return Viability(ViabilityOptions(**(FIELDS | {"needs": needs} | changes)), SCENARIO)


def catalogue(n_items=12):
    """Log of some items with two genres."""
    log = log_of([0], [0], [0.0], items=n_items)
    items = log.items.assign(genres=np.where(np.arange(n_items) % 2, "b", "a"))
    return dataclasses.replace(log, items=items)


def outcome_of(providers, exposure, seed=0):
    """Outcome of the first round with given exposures."""
    roster = providers.opening(catalogue(len(exposure)))
    return RoundOutcome(0, seed, roster, Offer.opening(roster), exposure, np.zeros_like(exposure))


class TestNeeds(ProviderTests):
    """The conditions of any providers, for fixed and for permuted needs."""

    @pytest.fixture(autouse=True, params=[False, True])
    def _permuted(self, request):
        self.permuted = request.param

    def make(self):
        """Providers with needs."""
        return needing(permuted=self.permuted)


@pytest.mark.parametrize("seed", [0, 3])
def test_one_exposure_less_than_the_need_makes_a_provider_leave(seed):
    """At a whole need nobody leaves, with one exposure less the class leaves, for each class and permutation."""
    providers = needing(permuted=True)
    roster = providers.opening(catalogue())
    needs = providers.needs(roster, Offer.opening(roster), seed).lasting
    exposure = np.round(needs).astype(np.int64)
    np.testing.assert_allclose(exposure, needs)  # the uniform exposure is 10
    assert sorted(set(exposure.tolist())) == [5, 10, 20]
    assert not providers.end_of_round(outcome_of(providers, exposure, seed)).leaves.any()
    for number in range(len(NEEDS)):
        is_class = roster.of_class == number
        changes = providers.end_of_round(outcome_of(providers, exposure - is_class, seed))
        np.testing.assert_array_equal(changes.leaves, is_class)


def test_needs_of_the_coming_round_are_exact_after_a_surplus():
    """A provider above the threshold needs what its satisfaction lacks, and not one exposure less."""
    providers = needing(start=1.5)
    roster = providers.opening(catalogue())
    offer = dataclasses.replace(Offer.opening(roster), satisfaction=np.linspace(1.0, 1.2, 12))
    now = providers.needs(roster, offer, 0).now
    for exposure, leaves in ((np.ceil(now - 1e-6), False), (np.ceil(now - 1e-6) - 1, True)):
        counts = exposure.astype(np.int64)
        outcome = RoundOutcome(1, 0, roster, offer, counts, 0 * counts)
        assert (providers.end_of_round(outcome).leaves == leaves).all()


def test_keeping_exposure_is_the_least_that_keeps_a_provider():
    """Exposures of the plan keep providers for each number of rounds; no other split of fewer exposures does."""
    providers = needing(start=1.5, decay=0.5)
    roster = providers.opening(catalogue())
    keeping = providers.keeping_exposure(roster, 0, 3)
    per_exposure = providers.per_exposure(roster, 0)
    assert (keeping[0] == 0).all()
    grid = np.linspace(0, 45, 91)
    first, second, third = np.meshgrid(grid, grid, grid, indexing="ij")
    for provider in range(3):
        satisfaction = 1.5
        total = 0.0
        stays = np.ones(first.shape, bool)
        for number, exposure in enumerate((first, second, third)):
            satisfaction = 0.5 * satisfaction + per_exposure[provider] * exposure
            total = total + exposure
            stays &= satisfaction >= 1 - 1e-9
            smallest = total[stays].min()
            assert keeping[number + 1, provider] <= smallest + 1e-6
            assert keeping[number + 1, provider] >= smallest - 1.5  # steps of the grid


def test_classes_are_of_equal_size_or_from_a_column():
    """Providers are dealt evenly to classes, equally in each call, or have the class of a column."""
    dealt = needing().opening(catalogue()).of_class
    np.testing.assert_array_equal(np.bincount(dealt), [4, 4, 4])
    np.testing.assert_array_equal(dealt, needing().opening(catalogue()).of_class)
    by_genre = needing((0.5, 2.0), class_column="genres").opening(catalogue())
    np.testing.assert_array_equal(by_genre.of_class, np.arange(12) % 2)
    refused(
        ConfigError,
        "needs has 3 numbers.*2 classes: a, b",
        needing(class_column="genres").opening,
        catalogue(),
    )


def test_a_seed_permutes_needs_only_if_asked():
    """Fixed needs are the same at each seed; permuted needs are a permutation that differs between seeds."""

    def needs_of(providers, seed):
        roster = providers.opening(catalogue())
        return providers.needs(roster, Offer.opening(roster), seed).lasting

    np.testing.assert_array_equal(needs_of(needing(), 0), needs_of(needing(), 5))
    permuted = [tuple(needs_of(needing(permuted=True), seed)) for seed in range(8)]
    assert {tuple(sorted(needs)) for needs in permuted} == {tuple(sorted(permuted[0]))}
    assert len(set(permuted)) > 2


def test_needs_without_a_threshold_or_arrivals_are_refused():
    """Needs must be above 0 and need a threshold above 0, a decay below 1, and a number of arrivals."""
    refused(ConfigError, "threshold is 0", needing, threshold=0.0)
    refused(ConfigError, "decay is 1", needing, decay=1.0)
    refused(ValueError, "greater than 0", needing, (0.0, 1.0))
    replay = Viability(
        ViabilityOptions(**FIELDS, needs=NEEDS),
        ScenarioConfig(arrivals=ArrivalsConfig(kind="replay", per_round=None)),
    )
    roster = replay.opening(catalogue())
    refused(ConfigError, "arrivals.per_round is null", replay.per_exposure, roster, 0)
    refused(
        ConfigError,
        "exposure alone does not decide",
        needing(penalty=1.0).needs,
        roster,
        Offer.opening(roster),
        0,
    )


def test_the_scenarios_give_five_needs_to_the_films():
    """Both scenarios have 151 sellers, whose needs add up to 1.8 times the exposure."""
    for name in ("sellers", "sellers-hidden"):
        config = find_scenario(name)
        options = dict(config.providers.options)
        assert list(options["needs"]) == [0.3, 0.8, 1.5, 2.5, 4.0]
        assert config.providers.fee == 2.0
        assert not is_fixed(Viability(ViabilityOptions(**options), config))
