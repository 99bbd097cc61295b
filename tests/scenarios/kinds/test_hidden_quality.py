"""Hidden quality of items: its spread and its correlation with popularity, from random exposures of a known law."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from kit.logs import log_of

from rimsim import rng
from rimsim.data import ObservedTable, load_observed
from rimsim.evaluation.appeal import hidden_quality
from rimsim.testing.intensity import random_items

DRAW = rng.Purpose.MEASURE
COAT = Path(os.environ.get("RIMSIM_DEV_DATA", "")) / "coat"


def exposed(rho, seed, items=120, users=150):
    """Random exposures of items whose log worth has a spread of .8 and a correlation ρ with popularity, and a log."""
    draw = rng.generator(seed, DRAW)
    count = draw.poisson(np.exp(4 + draw.standard_normal(items)))
    popularity = np.log(count + 1.0)
    z = (popularity - popularity.mean()) / popularity.std()
    worth = -1.8 + 0.8 * (rho * z + np.sqrt(1 - rho**2) * draw.standard_normal(items))
    user = np.repeat(np.arange(users), 20)
    item = np.argsort(draw.random((users, items)))[:, :20].ravel()
    yes = draw.random(len(item)) < -np.expm1(-np.exp(worth[item]))
    ids = np.arange(users), np.arange(items)
    table = ObservedTable(user, item, yes * 1.0, *ids, None, shown_at_random=True)
    event = np.repeat(np.arange(items), count)
    return table, log_of(event % users, event, 1e9 + np.arange(len(event)), users, random_items(items))


def estimates(rho, draws, resamples=100):
    """Estimates from so many draws of exposures, by name."""
    qualities = [
        hidden_quality(*exposed(rho, seed), taken_at=1.0, resamples=resamples) for seed in range(draws)
    ]
    return np.array([quality.rho for quality in qualities]).T, np.array(
        [quality.sd for quality in qualities]
    ).T


def test_hidden_quality_of_a_known_law_lies_in_its_interval():
    """Binomial noise does not pull the estimates to 0, and most intervals cover the law."""
    for rho in (0.0, 0.8):
        for (value, low, high), parameter in zip(estimates(rho, 12, 50), (rho, 0.8), strict=True):
            assert value.mean() == pytest.approx(parameter, abs=0.1)
            assert ((low <= parameter) & (parameter <= high)).sum() >= 10


@pytest.mark.findings
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_intervals_of_hidden_quality_cover_in_95_of_100(rho):
    """Of 200 draws at least 190 intervals cover ρ."""
    (_, low, high), _ = estimates(rho, 200)
    assert ((low <= rho) & (rho <= high)).sum() >= 190


def test_what_users_chose_says_nothing_of_hidden_quality():
    """Answers that may be selected, and items that are all alike in the log, give no estimate."""
    table, log = exposed(0.5, 0)
    assert hidden_quality(dataclasses.replace(table, shown_at_random=False), log, taken_at=1.0) is None
    assert hidden_quality(table, log.rows(np.unique(log.item, return_index=True)[1]), taken_at=1.0) is None


@pytest.mark.skipif(not COAT.is_dir(), reason="Coat is not there")
@pytest.mark.parametrize(("taken_at", "rho"), [(4, 0.81), (1, 0.33)])
def test_the_world_is_not_what_its_log_says(taken_at, rho):
    """On Coat the interval covers the correlation of likes, and of choices, that halves of the users give."""
    log = load_observed(COAT / "train.ascii").as_log(taken_at)
    quality = hidden_quality(load_observed(COAT / "test.ascii"), log, taken_at=4, resamples=100)
    assert quality.rho[1] < rho < quality.rho[2] < 0.95
