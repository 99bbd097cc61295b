"""The hidden worth of items: its correlation, its sums, its settings and what it leaves as it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import refused
from kit.markets import small_cold_start, small_scenario

from rimsim.arrays import ALWAYS, NEVER
from rimsim.config import (
    ConsumerConfig,
    HiddenConfig,
    at_seed,
    override,
    to_plain,
)
from rimsim.errors import ConfigError
from rimsim.market import Market, Needs, build_world
from rimsim.market.consumers.hidden_quality import hidden_bias
from rimsim.market.consumers.preference import Appeal, TruthScores
from rimsim.measures import long_tail
from rimsim.requirements.on_offer import TimesOnOffer

SEEN = np.arange(200) % 5 > 0  # items that a made-up warm-up log has met


def _events(seed):
    """Events of 200 items, a few of them with most."""
    return np.random.default_rng(seed).geometric(0.02, 200) * np.arange(1, 201) // 60


def _played(hidden, scenario=small_cold_start):
    """A market, its truth revealed, and the first batch of its arrivals."""
    config = scenario(rounds=1, consumer=ConsumerConfig(truth="factors", rank=4, hidden=hidden))
    market = Market(config, needs=Needs(truth=True))
    return market, market.next_arrivals(64)


@given(
    rho=st.floats(-1, 0.99),
    sd=st.one_of(st.none(), st.floats(0.05, 3)),
    of=st.sampled_from(["all", "new", "tail"]),
    seed=st.integers(0, 99),
)
def test_correlation_and_spread_are_those_asked_for(rho, sd, of, seed):
    """Among the items chosen both are exact and their events' worth adds up; other items keep theirs."""
    events = _events(seed)
    bias = hidden_bias(HiddenConfig(rho=rho, sd=sd, of=of, seed=seed), events, SEEN)
    chosen = {"all": SEEN | True, "new": ~SEEN, "tail": long_tail(events)}[of]
    popularity = np.log(events[chosen] + 1.0)
    worth = popularity + bias[chosen]
    assert worth.std() == pytest.approx(sd or popularity.std())
    assert np.corrcoef(worth, popularity)[0, 1] == pytest.approx(rho, abs=1e-9)
    assert np.exp(worth).sum() == pytest.approx(np.exp(popularity).sum())
    assert not bias[~chosen].any()


def test_nothing_hidden_is_the_truth_as_it_was_fitted():
    """At ρ = 1, whatever the spread, no item has a factor and scores have the same bits; the rest moves them."""
    _, plain = _played(HiddenConfig())
    market, off = _played(HiddenConfig(sd=2.0, seed=3))
    assert market.world.truth.item_factor is None
    np.testing.assert_array_equal(plain.true_intensity, off.true_intensity)
    _, moved = _played(HiddenConfig(rho=0.0))
    assert not np.allclose(plain.true_intensity, moved.true_intensity)


def test_the_sum_of_intensities_stays():
    """Items are worth something else, but every visitor takes as many of the catalogue, and new ones alone may move."""
    _, plain = _played(HiddenConfig(), small_scenario)
    for hidden in (HiddenConfig(rho=0.0), HiddenConfig(rho=0.3, sd=2.0, of="tail")):
        _, moved = _played(hidden, small_scenario)
        sums = [arrivals.true_intensity.double().sum(1).numpy() for arrivals in (plain, moved)]
        np.testing.assert_allclose(*sums, rtol=1e-5)
    market, _ = _played(HiddenConfig(rho=0.0, of="new"))
    met = np.bincount(market.world.past.item, minlength=market.n_items) > 0
    assert market.world.truth.item_bias[~met].all()
    assert not market.world.truth.item_bias[met].any()


def test_hidden_quality_is_set_like_any_field():
    """``--set consumer.hidden.rho=0`` reaches the truth, and ``seed: seed`` draws another world at each seed."""
    base = small_scenario(consumer=ConsumerConfig(truth="factors", rank=4))
    config = override(base, {"consumer.hidden.rho": 0, "consumer.hidden.seed": "seed"})
    assert to_plain(config)["consumer"]["hidden"] == {"rho": 0.0, "sd": None, "of": "all", "seed": "seed"}
    biases = [build_world(at_seed(config, seed)).truth.item_bias for seed in (0, 1)]
    popularity = np.log(np.bincount(build_world(base).log.item) + 1.0)
    for bias in biases:
        assert np.corrcoef(popularity + bias, popularity)[0, 1] == pytest.approx(0, abs=1e-9)
    assert not np.allclose(*biases)


def test_what_cannot_be_hidden_is_refused():
    """No item is new, or the consumer has no truth whose items could be worth anything else."""
    hidden = HiddenConfig(rho=0.5, of="new")
    new = small_scenario(consumer=ConsumerConfig(truth="factors", rank=4, hidden=hidden))
    refused(ConfigError, "consumer.hidden.of: 'new' selects only 0 items of this market", build_world, new)
    replay = small_scenario(consumer=ConsumerConfig(kind="replay", hidden=HiddenConfig(rho=0.0)))
    refused(ConfigError, "consumer.hidden: consumer.kind 'replay' has no fitted truth", Market, replay)


@given(late=st.lists(st.booleans(), min_size=20, max_size=20), rho=st.sampled_from([1.0, 0.5]))
def test_what_nobody_can_be_shown_takes_nothing_from_what_is_shown(late, rho):
    """Whichever items are still to come, the others are worth the same to the bit, and the rest is outside."""
    market, arrivals = _played(HiddenConfig(rho=rho), small_scenario)
    visits = market.open.visits(arrivals.row)
    share, size = visits.true_scores
    release = np.where(np.resize(late, market.n_items), NEVER, ALWAYS)
    scores = TruthScores.of_round(
        market.world.truth,
        visits.histories,
        visits.schedule,
        0,
        Appeal(TimesOnOffer.endless(release), normalised=False),
    )
    shares, sizes = scores.of(visits.row)
    np.testing.assert_array_equal(size, sizes)
    np.testing.assert_array_equal(shares, np.where(release == NEVER, np.float32(0), share))
    assert share.sum(1) == pytest.approx(np.ones(len(share)), rel=1e-5)
