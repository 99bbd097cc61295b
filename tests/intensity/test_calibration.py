"""Calibration of counts, and a report that separates λ(x) from p(y|x)."""

import numpy as np
import pytest
from kit import refused

from rimsim import intensity
from rimsim.errors import ModelError
from rimsim.intensity.calibration import calibration, count_calibration
from rimsim.intensity.registry import make
from rimsim.testing import random_log


def test_count_calibration_knows_a_perfect_and_a_wrong_prediction():
    """Poisson counts are calibrated against their own means, and not against twice them."""
    rng = np.random.default_rng(1)
    rate = rng.gamma(2.0, 2.0, 5000) + 0.1
    counts = rng.poisson(rate)
    exact = count_calibration(rate, counts)
    doubled = count_calibration(2 * rate, counts)
    assert exact.ratio == pytest.approx(1.0, abs=0.03)
    assert exact.dispersion == pytest.approx(1.0, abs=0.08)
    assert doubled.ratio == pytest.approx(0.5, abs=0.02)
    assert exact.deviance < exact.deviance_constant < doubled.deviance
    assert exact.rank_correlation == doubled.rank_correlation > 0.5
    assert [d.predicted for d in exact.deciles] == sorted(d.predicted for d in exact.deciles)
    assert sum(d.examples for d in exact.deciles) == 5000
    refused(ModelError, r"λ\(x\) > 0", count_calibration, np.zeros(3), np.ones(3, np.int64))


def test_the_report_separates_the_factors():
    """P of popularity has the entropy of the counts as its loss, whatever λ(x) is; λ is judged on its own."""
    log = random_log()
    share = np.bincount(log.item, minlength=log.n_items) / len(log)
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    plain = calibration(intensity.Popularity(intensity.PopularityConfig(smoothing=1e-9)).fit(log), log)
    product = calibration(make("hp", mark=intensity.PopularityConfig(smoothing=1e-9)).fit(log), log)
    assert plain.mark.nll == pytest.approx(entropy, rel=1e-4)
    assert plain.mark.perplexity == pytest.approx(np.exp(entropy), rel=1e-3)
    assert product.mark.nll == pytest.approx(plain.mark.nll, rel=1e-5)
    assert plain.mark.nll_admissible < plain.mark.nll
    assert product.ground.ratio == pytest.approx(1.0, abs=0.05)
    assert product.ground.deviance < product.ground.deviance_constant
    assert plain.ground.predicted == pytest.approx(plain.ground.examples, rel=1e-5)
    assert len(product.lines()) == 4
