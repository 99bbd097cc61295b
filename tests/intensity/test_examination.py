"""Estimates of the decay γ of examination: from counts and slates, pooled over rounds, in a market and a run."""

import dataclasses
import itertools

import numpy as np
import pytest
from kit import cases, refused
from kit.markets import market_of, play_out, played, resumed, small_replay, small_run, small_scenario
from scipy.optimize import minimize

from rimsim.agents import play_round
from rimsim.arrays import ticks
from rimsim.config import ConsumerConfig, ExposureConfig
from rimsim.config.fields import duration_seconds
from rimsim.errors import ConfigError, DataError
from rimsim.evaluation import DecayEstimate, decay_of_counts, decay_of_slates, taken_by_position
from rimsim.intensity.impressions import (
    layer_of,
    layer_of_fits,
)
from rimsim.market.platform import impressions_of
from rimsim.measures import position_weights
from rimsim.rng import Purpose, generator
from rimsim.scenarios.report.sentences import examination_note


def drawn(seed: int) -> np.random.Generator:
    """The generator of a made-up ledger."""
    return generator(seed, Purpose.MEASURE, 15)


def confounded_ledger(seed: int, *, decay: float, n: int = 1500, m: int = 40, k: int = 8):
    """Items, what is taken of them, and scores, of slates of the largest erring scores of two models in many states."""
    draw = drawn(seed)
    worth = draw.normal(0, 0.5, m) + draw.normal(0, 0.5, (n, m)) + draw.normal(-2.5, 0.7, (n, 1))
    model = np.where(draw.random((n, 1)) < 0.5, draw.normal(0, 0.3, m), draw.normal(0, 0.3, m))
    score = 0.7 * worth + model + draw.normal(0, 0.3, (n, m)) - 0.5
    item = np.argsort(-score, 1)[:, :k]
    rate = np.exp(np.take_along_axis(worth, item, 1)) * decay ** np.arange(k)
    taken = draw.random((n, k)) < -np.expm1(-rate)
    return item, taken, np.exp(np.take_along_axis(score, item, 1))


def test_the_estimate_and_its_error_are_those_of_the_likelihood():
    """The estimate minimises the binomial likelihood, by closed form at two positions; its error is by the Hessian."""
    shown, taken = np.array([[300, 280, 310, 200], [60, 41, 33, 25]])

    def loss(theta):
        rate = np.exp(theta[0] + theta[1] * np.arange(4))
        return (-taken * np.log(-np.expm1(-rate)) + (shown - taken) * rate).sum()

    best = minimize(loss, [-1.0, 0.0], method="BFGS", options={"gtol": 1e-8}).x
    estimate = decay_of_counts([shown, taken])
    step = 1e-3
    hessian = np.zeros((2, 2))
    for (i, a), (j, b) in itertools.product(enumerate(np.eye(2) * step), repeat=2):
        hessian[i, j] = loss(best + a + b) - loss(best + a - b) - loss(best - a + b) + loss(best - a - b)
    error = np.sqrt(np.linalg.inv(hessian / (4 * step**2))[1, 1])
    assert estimate.log_decay == pytest.approx(best[1], abs=1e-4)
    assert estimate.error == pytest.approx(error, rel=1e-3)
    estimate = decay_of_counts([[400, 500], [120, 90]])
    assert estimate.decay == pytest.approx(np.log1p(-90 / 500) / np.log1p(-120 / 400), rel=1e-4)


@pytest.mark.parametrize("decay", [0.7, 0.85])
def test_harvested_positions_give_the_decay_where_better_items_stand_above(decay):
    """At least 90% of confounded ledgers have the true γ in its interval, where rates by position hardly ever do."""
    n_covered = 0
    naive = 0
    estimates = []
    for seed in range(60):
        item, taken, score = confounded_ledger(seed, decay=decay)
        estimate = decay_of_slates(item, taken, score)
        estimates.append(estimate)
        n_covered += estimate.interval[0] <= decay <= estimate.interval[1]
        low, high = decay_of_counts(taken_by_position(item, taken)).interval
        naive += low <= decay <= high
    assert n_covered >= 54
    assert naive <= 6
    assert DecayEstimate.pooled(estimates).decay == pytest.approx(decay, abs=0.01)


def test_order_of_slates_and_names_of_items_do_not_matter():
    """Neither the order of the slates nor the items' numbers move the estimate; empty positions count nothing."""
    item, taken, score = confounded_ledger(3, decay=0.8)
    estimate = decay_of_slates(item, taken, score)
    order = drawn(4).permutation(len(item))
    shuffled = decay_of_slates(1000 - 7 * item[order], taken[order], score[order])
    assert shuffled.log_decay == pytest.approx(estimate.log_decay, abs=1e-6)
    empty = np.full((5, item.shape[1]), -1)
    more_items = np.concatenate([item, empty])
    more_taken = np.concatenate([taken, empty < 0])
    more_scores = np.concatenate([score, np.full(empty.shape, np.nan)])
    padded = decay_of_slates(more_items, more_taken, more_scores)
    assert padded.log_decay == pytest.approx(estimate.log_decay, abs=1e-6)
    assert taken_by_position(more_items, more_taken).tolist() == taken_by_position(item, taken).tolist()


def test_the_unit_of_scores_does_not_matter_to_slates_of_unequal_length():
    """Scores a hundred times as large give the same γ, though every other slate has three of its eight positions."""
    item, taken, score = confounded_ledger(3, decay=0.8)
    item[::2, 3:] = -1
    taken[::2, 3:] = False
    estimate = decay_of_slates(item, taken, score)
    assert decay_of_slates(item, taken, 100 * score).log_decay == pytest.approx(estimate.log_decay, abs=1e-3)


def test_estimates_are_pooled_by_precision_and_brought_into_their_bounds():
    """Of errors 1 and 1/2 the weights are 1 and 4; γ is from .2 to 1, its interval is what data say; none without."""
    item = np.arange(6).reshape(2, 3)
    assert decay_of_counts([[5, 5], [0, 0]]) is None
    assert decay_of_slates(item, np.zeros((2, 3), bool), np.ones((2, 3))) is None
    assert DecayEstimate.pooled([]) is None
    pooled = DecayEstimate.pooled([DecayEstimate(-0.5, 1.0), DecayEstimate(-0.25, 0.5)])
    assert (pooled.log_decay, pooled.error) == pytest.approx((-0.3, 5**-0.5))
    assert (DecayEstimate(0.2, 0.1).decay, DecayEstimate(-9.0, 0.1).decay) == (1.0, 0.2)
    assert DecayEstimate(0.2, 0.1).interval[1] > 1.2


def test_bad_ledgers_are_refused():
    """Arrays that do not belong together, impossible counts and scores that are no intensities are errors."""
    item = np.arange(6).reshape(2, 3)
    taken = np.ones((2, 3), bool)
    refused(DataError, "item and taken", taken_by_position, item, taken[:, :2])
    refused(DataError, "taken ≤ shown", decay_of_counts, [[1, 1], [2, 0]])
    for score in (np.full((2, 3), -1.0), np.ones((2, 2))):
        refused(DataError, "score", decay_of_slates, item, taken, score)


def unknowing(examination, prior=0.6, **changes):
    """A small market whose platform is not told γ."""
    exposure = ExposureConfig(examination=examination, prior_decay=prior)
    return small_scenario(**({"exposure": exposure, "consumer": ConsumerConfig(attraction=4.0)} | changes))


def of_ledger(ledger, rows=slice(None)):
    """The harvested estimate of one round."""
    return decay_of_slates(ledger.item[rows], ledger.consumed[rows], ledger.intensity[rows])


def test_harvested_estimates_are_those_of_the_ledgers_pooled_over_rounds():
    """γ is the mean by precision of ledgers so far, and positions weigh by the guess before them."""
    exposure = ExposureConfig(unit="examined", examination="harvested", prior_decay=0.6)
    agent, market = market_of("rim-feedback", unknowing("harvested", exposure=exposure))
    assert market.platform.decay == 0.6
    decays = [0.6]
    estimates = []
    while not market.done:
        weights = market.round_view().position_weights
        assert weights.tolist() == position_weights(decays[-1], 5).tolist()
        play_round(market, agent)
        closed = market.closed[-1]
        assert closed.position_weights.tolist() == weights.tolist()
        estimates.append(of_ledger(closed.ledger))
        expected = DecayEstimate.pooled(estimates)
        assert closed.decay.log_decay == pytest.approx(expected.log_decay, rel=1e-12)
        assert closed.decay.error == pytest.approx(expected.error, rel=1e-12)
        decays.append(closed.decay.decay)
    assert len(set(decays)) == 4


def test_only_uniform_slates_are_counted_where_gamma_comes_from_them():
    """With epsilon-greedy the estimate is that of its uniform slates, added up over rounds; others need not apply."""
    agent, market = market_of("epsilon-greedy(epsilon=0.4)", unknowing("random"))
    counts = 0
    seen = 0
    play_out(market, agent)
    for closed in market.closed:
        ledger = closed.ledger
        counts = counts + taken_by_position(ledger.item[ledger.uniform], ledger.consumed[ledger.uniform])
        seen += ledger.uniform.sum()
        assert closed.decay == decay_of_counts(counts)
    assert market.platform.decay == closed.decay.decay
    assert 0.3 * 360 < seen < 0.5 * 360
    agent, market = market_of("relevance", unknowing("random"))
    refused(ConfigError, r"examination is 'random'.*random, epsilon-greedy", play_round, market, agent)


def test_the_layer_over_impressions_weighs_positions_by_what_the_platform_takes_for_gamma():
    """With an estimate the layer is fitted at the estimate, not at the γ of the consumers."""
    platform = dataclasses.replace(small_scenario().platform, learning="impressions")
    agent, market = market_of("relevance", unknowing("harvested", platform=platform))
    play_round(market, agent)
    estimated = market.closed[0].decay.decay
    past = market.platform.rounds[-1]
    positions = market.config.consumer.attraction * estimated ** np.arange(market.config.slate)
    states = market.closed[0].states.scored_by(market.platform.scorers_of_last())
    served = past.shown.scored(market.closed[0].states).score  # by the model that served them
    np.testing.assert_array_equal(served, market.closed[0].ledger.intensity)
    bare = dataclasses.replace(states, models=lambda: tuple(layer_of(model)[0] for model in states.models()))
    learnt = impressions_of(past.shown.scored(bare), positions)
    fits = [
        fit.after(learnt, market.platform.prior)
        for fit in market_of("relevance", market.config)[1].platform.fits
    ]
    assert layer_of(market.model)[1].slope == pytest.approx(layer_of_fits(fits).slope, rel=1e-6)
    assert estimated != market.config.consumer.position_decay


def test_what_is_not_known_yet_tells_nothing():
    """Slates of unknown outcome at the round's end are left out, with a year's delay all; a replay has no positions."""
    delayed = ConsumerConfig(attraction=4.0, delay="3d")
    agent, market = market_of("relevance", unknowing("harvested", consumer=delayed))
    play_round(market, agent)
    closed = market.closed[0]
    schedule = closed.ledger.schedule
    is_settled = schedule.tick + ticks(duration_seconds("3d")) + 1 < schedule.stop
    assert 0 < is_settled.sum() < len(is_settled)
    assert closed.decay == of_ledger(closed.ledger, is_settled)
    late = dataclasses.replace(delayed, delay="365d")
    agent, market = market_of("relevance", unknowing("harvested", consumer=late))
    play_round(market, agent)
    assert market.closed[0].decay is None
    assert market.platform.decay == 0.6
    exposure = ExposureConfig(examination="harvested")
    agent, market = market_of("relevance", small_replay(exposure=exposure))  # hits count wherever they stand
    play_round(market, agent)
    assert market.closed[0].decay is None


@cases("examination name", ("harvested", "relevance"), ("random", "epsilon-greedy(epsilon=0.5)"))
def test_a_market_goes_on_from_its_state_with_the_same_estimates(tmp_path, examination, name):
    """Saved and loaded after any round, and in batches of any size, estimates and slates are the same to the bit."""
    config = unknowing(examination)
    uninterrupted = played(config, name, 7).closed
    for after in (1, 2):
        for closed, resumed_round in zip(
            uninterrupted, resumed(config, name, tmp_path / str(after), after).closed, strict=True
        ):
            assert closed.decay == resumed_round.decay
            np.testing.assert_array_equal(closed.ledger.item, resumed_round.ledger.item)


def test_a_run_says_how_gamma_was_found_and_what_it_came_to(tmp_path):
    """The report names the way, the first guess, each estimate and the truth; a run that is told γ says nothing."""
    run = small_run(tmp_path / "run", ["relevance"], unknowing("harvested"))
    last = run.rounds[run.rounds["round"] == 2].set_index("metric")["value"]
    note = examination_note(run)
    assert "is 0.6 in round 0" in note
    assert "exposure.examination: harvested" in note
    assert f"relevance {last['estimated_decay']:.3f} ± {last['decay_error']:.3f}; the truth is 0.85" in note
    told_run = small_run(tmp_path / "t", ["relevance"], small_scenario(rounds=1))
    assert examination_note(told_run) is None
    assert "estimated_decay" not in set(told_run.rounds["metric"])
