"""Progress of a validation: the estimate of time before it starts, and the bar over its fits."""

import io
import re

import numpy as np
import pytest
from kit.markets import drawn
from rich.console import Console

from rimsim.config import DataConfig
from rimsim.errors import ModelError
from rimsim.scenarios import ValidateConfig, validate
from rimsim.scenarios.kinds.validate import estimate


class Events:
    """A log of users who have ten events each."""

    def __init__(self, user):
        self.user = user

    def __len__(self):
        return len(self.user)

    def rows(self, keep):
        """Some of the events."""
        return Events(self.user[keep])


@pytest.fixture
def past():
    """A log of 120,000 events."""
    return Events(np.repeat(np.arange(12_000), 10))


def test_the_time_of_all_fits_is_extrapolated_from_a_sample(past, monkeypatch):
    """A tenth of the events takes 2 seconds, so five draws take 100; the text has twice and half of it, too."""
    sizes = []
    monkeypatch.setattr(estimate, "cpu_seconds", lambda work: work() or 2.0)
    text = estimate.fits_line(past, 3, 5, lambda log: sizes.append(len(log)))
    assert text.startswith("time: about 1.7 min on an idle core for 15 fits of models (50 s to 3.3 min)")
    assert sizes == [1_500, 12_000]


def test_a_small_log_and_a_failed_sample_have_no_estimate(past):
    """Fits to few events are quick, so nobody waits for a sample; the text says why a sample failed."""

    def fail(_):
        raise ModelError("mine: too few events")

    assert estimate.fits_line(Events(past.user[:20_000]), 3, 5, fail) is None
    expected = "time: no estimate, because a sample failed: mine: too few events"
    assert estimate.fits_line(past, 3, 5, fail) == expected


def test_a_validation_shows_a_bar_and_few_lines(tmp_path):
    """The bar ends at the number of fits, two models and a truth per draw; lines are about users and truths only."""
    console = Console(file=io.StringIO(), width=100)
    lines = []
    models = ("popularity", "random")
    data = DataConfig(min_item_events=120)
    config = ValidateConfig(data=data, models=models, truths=("factors",), draws=2, resamples=100)
    with drawn():
        validate(config, out=tmp_path / "run", report=lines.append, console=console)
    assert re.findall(r"fits of models .* (\d+)/(\d+)", console.file.getvalue())[-1] == ("6", "6")
    assert not [line for line in lines if line.startswith("draw")]
    assert [line.split(":")[0] for line in lines[-2:]] == ["truth factors", "truth factors"]
