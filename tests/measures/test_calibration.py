"""Calibration of predicted consumption: ratios by hand, by history, from the ledger, and reliability curves."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from kit import refused
from kit.markets import facts_of, played, small_scenario

from rimsim import measures
from rimsim.config import ConsumerConfig
from rimsim.errors import DataError
from rimsim.measures import MEASURES, made_up_round
from rimsim.testing import random_items


def test_the_ratio_of_two_slates_by_hand():
    """Three predictions over two consumptions, none over none; where hits are counted all positions are examined."""
    intensity = np.array([[0.5, 2.0], [0.25, np.nan]])
    consumed = np.array([[True, True], [False, False]])
    expected = ((1 - math.exp(-0.5)) + (1 - math.exp(-2.0 * 0.8)) + (1 - math.exp(-0.25))) / 2
    ratio = measures.calibration_ratio(intensity, consumed, [1.0, 0.8])
    assert ratio == pytest.approx(expected, rel=1e-12)
    assert measures.calibration_ratio([[0.5]], [[False]], [1.0]) is None
    counted = made_up_round(random_items())
    drawn = dataclasses.replace(counted, counts_items=False, attraction=2.0)
    assert counted.examination.tolist() == [1.0] * 4
    assert drawn.examination == pytest.approx([2.0, 1.6, 1.28, 1.024])


def test_first_and_returning_visits_are_told_apart():
    """Half of what comes is predicted of first visits, twice as much of returning ones; pooled it looks right."""
    intensity = -np.log1p(-np.array([[0.25], [0.25], [0.5], [0.5], [0.5], [0.5]]))
    consumed = np.array([[True], [False], [True], [False], [False], [False]])
    history = [0, 0, 1, 7, 2, 90]
    assert measures.calibration_by_history(intensity, consumed, [1.0], history) == pytest.approx(0.5 / 2.0)
    fields = {"intensity": intensity.astype(np.float32), "consumed": consumed, "history": np.array(history)}
    facts = made_up_round(random_items())
    facts = dataclasses.replace(facts, slates=np.arange(6)[:, None], counts_items=True, **fields)
    names = ("calibration_first", "calibration_returning", "calibration_by_history", "calibration_ratio")
    values = [MEASURES[name].value(facts) for name in names]
    assert values == pytest.approx([0.5, 2.0, 0.25, 1.25], rel=1e-6)
    for rows in (slice(0, 2), slice(2, 6)):
        ratio = measures.calibration_by_history(intensity[rows], consumed[rows], [1.0], history[rows])
        assert ratio is None
    by_history = measures.calibration_by_history
    refused(DataError, "history and consumed", by_history, intensity, consumed, [1.0], history[:5])


@pytest.mark.parametrize("attraction", [1.0, 2.5])
def test_the_measure_is_recomputed_from_the_ledger(attraction):
    """Row by row over the saved table of a round, in plain Python."""
    config = small_scenario(rounds=1, consumer=ConsumerConfig(position_decay=0.7, attraction=attraction))
    market = played(config)
    closed = market.closed[0]
    predicted = actual = 0.0
    for row in closed.ledger.table("relevance", 0, 0).itertuples():
        predicted += 1 - math.exp(-row.intensity * attraction * 0.7 ** (row.position - 1))
        actual += row.consumed
    ratio = MEASURES["calibration_ratio"].value(facts_of(market, closed))
    assert ratio == pytest.approx(predicted / actual, rel=1e-6)


def test_groups_of_a_reliability_curve_are_quantiles_of_the_prediction():
    """Sums by group equal those of pandas' quantiles, and nothing is lost."""
    draw = np.random.default_rng(0)
    chance = draw.random(200)
    consumed = draw.random(200) < chance
    curve = measures.reliability(chance, consumed, 8)
    groups = pd.DataFrame({"chance": chance, "consumed": consumed}).groupby(pd.qcut(chance, 8))
    assert curve.exposures.tolist() == groups.size().tolist() == [25] * 8
    assert curve.predicted == pytest.approx(groups["chance"].sum().to_numpy())
    assert curve.consumed.tolist() == groups["consumed"].sum().tolist()
    assert len(measures.reliability(chance[:3], consumed[:3]).exposures) == 3
