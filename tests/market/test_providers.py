"""Providers who leave and come: their equation by hand, entrants, tables and refusals."""

import dataclasses
import math

import numpy as np
import pytest
from kit import cases, refused, same_arrays
from kit.markets import play_out, played, resumed, same_ledgers, small_run, small_scenario

from rimsim.agents import make_agent, market_for
from rimsim.config import ProvidersConfig, override
from rimsim.errors import ConfigError, MarketError
from rimsim.market import Market
from rimsim.market.providers import (
    BUILT_IN,
    Changes,
    Fixed,
    Offer,
    Roster,
    RoundOutcome,
    Viability,
    ViabilityOptions,
    _poisson,
    is_fixed,
)
from rimsim.market.world import check_plugs
from rimsim.scenarios.runs.schema import TABLES
from rimsim.testing import ProviderTests, random_log
from rimsim.tracking import event_folder, read_scalars

HARSH = {"decay": 0.5, "per_exposure": 0.1, "penalty": 1.0, "start": 1.0, "threshold": 0.9}
HARSH |= {"reserve": 0.2, "entry": 3.0}


def leaving(rounds=3, **changes):
    """A small market whose providers leave, and others come."""
    providers = ProvidersConfig("viability", tuple((HARSH | changes).items()))
    return small_scenario(rounds=rounds, providers=providers)


class TestBuiltIn(ProviderTests):
    """Who stay, who leave at once or are not there yet, and providers of several items keep what they promise."""

    @pytest.fixture(autouse=True, params=[None, HARSH, {"column": "genres", "threshold": 3.0, "start": 3.0}])
    def _options(self, request):
        self.options = request.param

    def make(self):
        """The providers of the case."""
        return Fixed() if self.options is None else Viability(ViabilityOptions(**self.options))


def test_satisfaction_follows_its_equation():
    """X ← δX + r_e·E + r_c·C − penalty·1[E = 0], by hand; who is below the threshold leaves, at it stays.

    Who comes is there from the next round on.
    """
    on_offer = np.array([True] * 3 + [False, True])
    roster = Roster(np.array([0, 0, 1, 2, 3, 4]), ("a", "b", "c", "d", "e"), on_offer, np.full(5, 2.0))
    # Provider b is not shown. Provider e is shown, but nobody takes its item: that costs no penalty.
    exposure = np.array([3, 1, 0, 5, 9, 8])
    consumption = np.array([1, 0, 0, 2, 4, 0])
    outcome = RoundOutcome(3, 0, roster, Offer.opening(roster), exposure, consumption)
    options = ViabilityOptions(decay=0.5, per_exposure=0.25, per_consumption=2.0, penalty=1.0, threshold=4.0)
    changes = Viability(options).end_of_round(outcome)
    np.testing.assert_array_equal(changes.satisfaction, [1 + 1 + 2, 1 - 1, 1 + 1.25 + 4, 2.0, 1 + 2])
    np.testing.assert_array_equal(changes.leaves, [False, True, False, False, True])
    after = outcome.offer.after(dataclasses.replace(changes, comes=~on_offer), outcome)
    np.testing.assert_array_equal(after.left, [-1, 3, -1, -1, 3])
    np.testing.assert_array_equal(after.came, [0, 0, 0, 4, 0])
    np.testing.assert_array_equal(after.there, [True, False, True, True, False])


def test_entrants_are_as_many_as_the_living_say():
    """Their number has the mean entry × living share and grows with it at every seed; who leaves does not live."""
    log = random_log(n_items=200)
    viability = Viability(ViabilityOptions(reserve=0.5, entry=4.0, threshold=0.0, start=9.0))
    roster = viability.opening(log)
    everyone = Offer.opening(roster)
    counts = np.zeros((3, 300))
    has_left = roster.there & (np.arange(200) % 2 == 0)
    half = dataclasses.replace(everyone, left=np.where(has_left, 0, -1))
    leaving_now = dataclasses.replace(everyone, satisfaction=np.where(has_left, -9.0, everyone.satisfaction))
    nothing = np.zeros(200, np.int64)
    for seed in range(300):
        for row, offer in enumerate((half, leaving_now, everyone)):
            changes = viability.end_of_round(RoundOutcome(0, seed, roster, offer, nothing, nothing))
            counts[row, seed] = changes.comes.sum()
            assert not (changes.comes & roster.there).any()
    shares = np.array([half.there.sum(), half.there.sum(), 100]) / 100
    np.testing.assert_allclose(counts.mean(1), 4 * shares, atol=4 * np.sqrt(4 / 300))
    assert (counts[0] == counts[1]).all()
    assert (counts[0] <= counts[2]).all()
    assert [_poisson(u, 1.0) for u in (0.0, 0.367, 0.368, 0.735, 0.736)] == [0, 0, 1, 1, 2]


def test_a_provider_that_stays_away_is_unknown_to_the_platform():
    """The warm-up log has no event of what is held back; entrants are shown once they came."""
    config = leaving(threshold=-math.inf, entry=30.0)
    market = market_for(agent := make_agent("random"), config)
    reserved = ~market.world.roster.there
    assert not reserved[market.world.past.item].any()
    play_out(market, agent)
    first = market.closed[0]
    last = market.closed[-1]
    assert not first.ledger.exposure(market.n_items)[reserved].any()
    is_entrant = last.offer.came > 0
    assert is_entrant.any()
    assert last.ledger.exposure(market.n_items)[is_entrant].any()
    assert last.required[is_entrant].all()


def test_a_run_tells_who_left(tmp_path):
    """Leavers add up to what is not alive, and guarantees are each arm's own."""
    run = small_run(tmp_path / "run", ("relevance", "random"), leaving())
    moves = run.providers
    assert list(moves.columns) == list(TABLES["providers"].columns)
    assert "two_sides/providers_alive" in read_scalars(event_folder(run.folder, "random", 0))
    alive = run.rounds.set_index(["metric", "round", "agent"])["value"]["providers_alive", 2]
    opening = round(0.8 * len(run.catalogue))
    for agent in ("relevance", "random"):
        mine = moves[(moves["agent"] == agent) & (moves["round"] < 2)]
        leavers = (mine["event"] == "left").sum()
        entrants = (mine["event"] == "came").sum()
        assert leavers
        assert alive[agent] == pytest.approx((opening + entrants - leavers) / (opening + entrants))
    assert set(run.required["agent"]) == {"relevance", "random"}


@cases(
    "changes message",
    ({"providers.kind": "viable"}, "providers.kind 'viable' is unknown. Did you mean 'viability'"),
    ({"providers.options.decai": 1}, "'decai'.*Did you mean 'decay'"),
    ({"providers.options.decay": 2}, "option 'decay' is 2"),
)
def test_slips_are_told(changes, message):
    """An unknown kind, option or column of the item table, or a value out of range, is one sentence."""
    refused(ConfigError, message, lambda: check_plugs(override(leaving(), changes)))
    pattern = r"providers.options.column.*'genre'.*Did you mean 'genres'"
    refused(ConfigError, pattern, Viability(ViabilityOptions(column="genre")).opening, random_log())


def test_impossible_changes_are_told():
    """Who is not there cannot leave, who has been cannot come again, and no control plays where arms differ.

    Rules of one's own that say nothing of it are taken to let providers leave.
    """
    offer = Offer(np.zeros(2), np.array([0, -1]), np.array([-1, -1]), np.zeros(2), np.zeros(2))
    nobody = np.zeros(2, bool)
    all_leave = Changes(np.zeros(2), ~nobody, nobody)
    all_come = Changes(np.zeros(2), nobody, ~nobody)
    refused(MarketError, "a provider leaves before it came", offer.after, all_leave, 0)
    refused(MarketError, "comes a second time", offer.after, all_come, 0)
    refused(MarketError, "shapes", offer.after, Changes(np.zeros(3), nobody, nobody), 0)
    assert set(BUILT_IN) == {"none", "viability"}
    assert [is_fixed(rules) for rules in (Fixed(), object())] == [True, False]
    refused(ConfigError, "a control: with providers.kind 'viability'", Market, leaving(), control=object())


def test_providers_who_only_come_are_not_fixed():
    """Nobody leaves below a threshold of −∞; the roster is fixed only if, in addition, nobody is expected to come."""
    stay = {"threshold": -math.inf}
    fixed = [
        is_fixed(Viability(ViabilityOptions(**stay, reserve=reserve, entry=entry)))
        for reserve, entry in ((0.2, 5.0), (0.0, 5.0), (0.2, 0.0))
    ]
    assert fixed == [False, True, True]
    message = "a control: with providers.kind 'viability'"
    refused(ConfigError, message, Market, leaving(threshold=-math.inf, entry=5.0), control=object())


def test_a_saved_market_goes_on_with_the_same_providers(tmp_path):
    """Saved are the providers who left and who came; played on in other batches, ledgers and offers agree."""
    config = leaving()
    uninterrupted = played(config, "rim-feedback")
    continued = resumed(config, "rim-feedback", tmp_path / "state", batch_size=7)
    same_ledgers(uninterrupted, continued)
    for closed, continued_round in zip(uninterrupted.closed, continued.closed, strict=True):
        same_arrays(closed.ledger, continued_round.ledger, "probability")
        same_arrays(closed.offer, continued_round.offer, "satisfaction")
    assert uninterrupted.closed[0].changes.leaves.any()
    assert uninterrupted.closed[0].changes.comes.any()
