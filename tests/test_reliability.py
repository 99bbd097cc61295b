"""What the platform predicts of shown items, against hand-made rounds and the ledger of a market."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from small_markets import small_scenario

from rimsim import measures
from rimsim.agents import make_agent, play_round
from rimsim.config import ConsumerConfig
from rimsim.errors import DataError
from rimsim.market import Market
from rimsim.measures import MEASURES, made_up_round
from rimsim.scenarios.study.facts import AdoptionCount, facts_of, shared_facts
from rimsim.testing import random_items


def test_the_ratio_of_two_slates_by_hand():
    """Two slates with an empty position: three predictions over two consumptions."""
    intensity = np.array([[0.5, 2.0], [0.25, np.nan]])
    consumed = np.array([[True, True], [False, False]])
    expected = ((1 - math.exp(-0.5)) + (1 - math.exp(-2.0 * 0.8)) + (1 - math.exp(-0.25))) / 2
    found = measures.calibration_ratio(intensity, consumed, [1.0, 0.8])
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_round_without_consumptions_has_no_ratio():
    """Nothing can be divided by no consumption at all."""
    assert measures.calibration_ratio([[0.5]], [[False]], [1.0]) is None


def test_a_position_without_its_examination_is_refused():
    """As many factors as positions are asked for."""
    with pytest.raises(DataError, match=r"\(n, k\) and \(k,\)"):
        measures.calibration_ratio([[0.5, 0.5]], [[True, False]], [1.0])


def test_first_and_returning_visits_are_told_apart():
    """Half of what comes is predicted of first visits, twice as much of returning ones; pooled it looks right."""
    intensity = -np.log1p(-np.array([[0.25], [0.25], [0.5], [0.5], [0.5], [0.5]]))
    consumed, history = np.array([[True], [False], [True], [False], [False], [False]]), [0, 0, 1, 7, 2, 90]
    assert measures.calibration_by_history(intensity, consumed, [1.0], history) == pytest.approx(0.5 / 2.0)
    facts = dataclasses.replace(
        made_up_round(random_items()),
        slates=np.arange(6)[:, None],
        intensity=intensity.astype(np.float32),
        consumed=consumed,
        history=np.array(history),
        counts_items=True,
    )
    names = ("calibration_first", "calibration_returning", "calibration_by_history", "calibration_ratio")
    found = [MEASURES[name].value(facts) for name in names]
    assert found == pytest.approx([0.5, 2.0, 0.25, 1.25], rel=1e-6)
    for rows in (slice(0, 2), slice(2, 6)):
        known = intensity[rows], consumed[rows], [1.0], history[rows]
        assert measures.calibration_by_history(*known) is None
    with pytest.raises(DataError, match="history and consumed"):
        measures.calibration_by_history(intensity, consumed, [1.0], history[:5])


@pytest.mark.parametrize("attraction", [1.0, 2.5])
def test_the_measure_is_recomputed_from_the_ledger(attraction):
    """Row by row over the saved table of a round, in plain Python."""
    config = small_scenario(rounds=1, consumer=ConsumerConfig(position_decay=0.7, attraction=attraction))
    market = Market(config)
    play_round(market, make_agent("relevance"))
    closed = market.closed[0]
    adoption = AdoptionCount(market.world.release)
    adoption.enter(closed)
    shared, first = shared_facts(market.world, config, 0), closed.ledger.exposure(market.n_items)
    facts = facts_of(shared, closed, first, adoption, None, None)
    predicted = actual = 0.0
    for row in closed.ledger.table("relevance", 0, 0).itertuples():
        predicted += 1 - math.exp(-row.intensity * attraction * 0.7 ** (row.position - 1))
        actual += row.consumed
    assert MEASURES["calibration_ratio"].value(facts) == pytest.approx(predicted / actual, rel=1e-6)


def test_a_replay_sees_all_positions():
    """Where hits are counted, no position is examined less than another."""
    counted = made_up_round(random_items())
    drawn = dataclasses.replace(counted, counts_items=False, attraction=2.0)
    assert counted.examination.tolist() == [1.0] * 4
    assert drawn.examination == pytest.approx([2.0, 1.6, 1.28, 1.024])


def test_groups_of_a_reliability_curve_are_quantiles_of_the_prediction():
    """Sums by group equal those of pandas' quantiles, and nothing is lost."""
    draw = np.random.default_rng(0)
    chance = draw.random(200)
    came = draw.random(200) < chance
    curve = measures.reliability(chance, came, 8)
    groups = pd.DataFrame({"chance": chance, "came": came}).groupby(pd.qcut(chance, 8))
    assert curve.exposures.tolist() == groups.size().tolist() == [25] * 8
    assert curve.predicted == pytest.approx(groups["chance"].sum().to_numpy())
    assert curve.consumed.tolist() == groups["came"].sum().tolist()
    assert len(measures.reliability(chance[:3], came[:3]).exposures) == 3


def test_a_curve_needs_an_outcome_for_each_prediction():
    """Arrays of two lengths are refused."""
    with pytest.raises(DataError, match="3 and 2 rows"):
        measures.reliability([0.1, 0.2, 0.3], [True, False])
