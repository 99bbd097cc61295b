"""The gap between sessions, which a scenario tells its models."""

import numpy as np
import pytest
import torch
from kit.logs import log_of
from kit.markets import small_scenario

from rimsim import intensity
from rimsim.config import DataConfig, PlatformConfig
from rimsim.intensity.popularity import log_returning
from rimsim.intensity.registry import Auto, make
from rimsim.market.agreement import unfitted_model
from rimsim.market.world import initial_model
from rimsim.scenarios.kinds.validate.checks import rate_of_ground

HOUR = 3600.0


def hourly():
    """A log of 60 users who come three times, a fortnight between, and consume four items, an hour between."""
    source = np.random.default_rng(0)
    items = np.concatenate([source.permutation(40)[:12] for _ in range(60)])
    user = np.repeat(np.arange(60), 12)
    place = np.tile(np.arange(12), 60)
    time = 1e6 + (place // 4) * 14 * 24 * HOUR + (place % 4) * HOUR + user
    return log_of(user, items, time, items=40)


def test_a_scenario_tells_its_model_what_ends_a_session():
    """Events an hour apart are one session by six hours: later sessions are counted so, and their size is four."""
    log = hourly()
    data = DataConfig(session_gap="6h")
    platform = PlatformConfig(model="returning-visits")
    model = initial_model(small_scenario(data=data, platform=platform), log, 0)
    states = intensity.UserStates.of(log, np.arange(60), log.time[-1] + 14 * 24 * HOUR)
    score = model.score(states)
    np.testing.assert_allclose(score.sum(1), 4.0, rtol=0.1)
    expected = np.exp(log_returning(log, "6h", 0.5))
    np.testing.assert_allclose(score[0] / score[0].sum(), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["bag-visits", "ease-hp", "gru-ema", "returning-hawkes", "auto-pop"])
def test_every_config_that_says_what_ends_a_session_is_told(name):
    """Marks are told as text and grounds in seconds; half an hour changes no config, however it is written."""
    for model in (make(name, gap="6h"), unfitted_model(name, 0, "cpu", "6h")):
        assert (model.mark.config.session_gap, model.ground.config.gap) == ("6h", 6 * HOUR)
    plain = make(name)
    with_gap = make(name, gap="0.5h")
    assert (plain.mark.config, plain.ground.config) == (with_gap.mark.config, with_gap.ground.config)


def test_auto_tells_what_it_chooses_among_and_a_validation_its_rates():
    """The chosen model has auto's own gap, and λ(x) of held-out users is about four a session, as they consume."""
    model = Auto(intensity.AutoConfig(candidates=("ease", "returning"), session_gap="6h")).fit(hourly())
    assert model.ranking
    assert model.chosen.config.session_gap == "6h"
    assert isinstance(model.chosen.score(intensity.UserStates.of(hourly(), [0], 1e9)), torch.Tensor)
    rates = rate_of_ground("visits", hourly(), gap=6 * HOUR, device="cpu")
    assert rates["rate_ratio_later"] == pytest.approx(1.0, abs=0.1)
