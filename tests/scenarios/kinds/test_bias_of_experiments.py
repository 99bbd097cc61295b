"""Bias of an experiment over seeds: its figures, its margin, and the sentence that claims it."""

import numpy as np
import pandas as pd
import pytest
from kit import cases
from scipy import stats

from rimsim.scenarios.kinds.experiment import effects
from rimsim.scenarios.kinds.experiment import report as experiment_report


def _experiment(naive, total):
    columns = {"design": "user", "training": "shared", "prices": "shared", "metric": "utility"}
    table = pd.DataFrame({"seed": range(len(naive)), "naive": naive, "total_effect": total})
    return table.assign(low=table["naive"] - 0.1, high=table["naive"] + 0.1, **columns)


def test_a_seed_without_an_estimate_counts_for_no_figure():
    """Bias is the difference of the means beside it, and an estimate that is not there has no wrong sign."""
    summary = effects.summary(_experiment([0.3, np.nan, 0.5], [0.2, 0.25, 0.3])).iloc[0]
    assert summary["bias"] == pytest.approx(summary["naive"] - summary["total_effect"]) == pytest.approx(0.15)
    assert (summary["seeds"], summary["half"]) == (2, pytest.approx(12.706 * 0.05, rel=1e-3))
    assert summary["sign"] == 1.0
    (said,) = experiment_report._sentences(effects.summary(_experiment([0.3, np.nan], [0.2, 0.2])))
    assert said.startswith("fewer than two seeds have an estimate")


@cases(
    "naive said",
    ([0.3, 0.301, 0.299], "utility: biased beyond chance"),
    ([0.19, 0.2, 0.21], "utility: no bias found"),
    (
        [0.17, 0.2, 0.23],
        "utility: these seeds cannot tell if there is a bias of 20%",
    ),  # 90% CI ±25% of the effect
    ([-1.0, 0.2, 1.0], "utility: these seeds cannot tell if there is a bias of 20%"),
)
def test_no_bias_is_found_only_where_it_is_within_the_margin(naive, said):
    """The interval of the bias must lie within 20% of the effect; otherwise nothing is claimed."""
    (sentence,) = experiment_report._sentences(effects.summary(_experiment(naive, [0.2, 0.2, 0.2])))
    assert sentence.startswith(said)
    assert "of the total effect (95% CI ±" in sentence


def test_a_bias_has_percent_and_signs_only_beside_an_effect():
    """The relative bias by hand, with the interval of a ratio; beside an effect of 0 there is none, nor a sign."""
    naive = np.array([0.31, 0.27, 0.29, 0.34])
    total = np.array([0.20, 0.21, 0.19, 0.22])
    summary = effects.summary(_experiment(naive, total)).iloc[0]
    ratio = (naive - total).mean() / total.mean()
    rest = (naive - total) - ratio * total
    half = stats.t.ppf(0.975, 3) * rest.std(ddof=1) / 2 / total.mean()
    assert (summary["relative"], summary["relative_half"]) == pytest.approx((ratio, half))
    assert summary["sign"] == 1.0
    around_zero = effects.summary(_experiment(naive, [0.2, -0.2, 0.1, -0.1])).iloc[0]
    assert np.isnan(around_zero[["relative", "relative_half", "sign"]].astype(float)).all()
    (said,) = experiment_report._sentences(effects.summary(_experiment(naive / 10, [0.2, -0.2, 0.1, -0.1])))
    assert "cannot tell" in said
    assert "total effect does not differ from 0" in said
    table = experiment_report._table("utility", effects.summary(_experiment(naive, [0.0] * 4)), ("a", "b"))
    assert [table.rows[0][table.columns.index(name)] for name in ("bias / effect", "right sign")] == [
        "–",
        "–",
    ]


def test_a_bias_that_is_the_same_in_all_seeds_is_not_claimed():
    """Equal biases have no interval; the table marks them, and the sentence says that nothing can be told."""
    summed = effects.summary(_experiment([0.31, 0.32, 0.30], [0.307, 0.317, 0.297]))
    assert np.isnan(summed["half"].item())
    assert not summed["significant"].item()
    table = experiment_report._table("utility", summed, ("a", "b"))
    assert table.rows[0][table.columns.index("bias")] == "+0.0030="
    assert "= the same in all 3 seeds" in table.title
    (said,) = experiment_report._sentences(summed)
    assert "cannot tell" in said
    assert "+1% of the total effect (the same in all 3 seeds)" in said
