"""Worth of a random policy from another policy's logged impressions, against sums by hand and known worths."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused, said_by

from rimsim import scenarios
from rimsim.data import LoggedImpressions, load
from rimsim.errors import ConfigError, DataError
from rimsim.evaluation import click_rate, estimated, random_from_log
from rimsim.scenarios.kinds.logged_policies import logged_report

M = 6
POSITIONS = 3
COLUMNS = (
    "user=Unnamed: 0,item=item_id,time=timestamp,taken=click,position=position,propensity=propensity_score"
)
FOLDER_COLUMNS = COLUMNS.replace("Unnamed: 0", "user").replace("item_id", "item")
_TASTE = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.4])
_LOOK = np.array([1.0, 0.7, 0.4])
WORTH = float(np.outer(_TASTE, _LOOK).mean())
"""Chance that a random item is taken at a random position."""
SHARED = os.environ.get("RIMSIM_DEV_DATA")


def _drawn(seed, n, *, uniform=False):
    """Impressions of a policy that learns which items are taken, in the layout of the Open Bandit Dataset."""
    chance = np.random.default_rng(seed)
    progress = np.linspace(0, 1, n)[:, None]
    weights = np.ones((n, M)) if uniform else 0.3 + progress * _TASTE / _TASTE.mean()
    law = weights / weights.sum(1, keepdims=True)
    item = (chance.random(n)[:, None] > law.cumsum(1)[:, :-1]).sum(1)
    position = chance.integers(POSITIONS, size=n)
    return pd.DataFrame(
        {
            "Unnamed: 0": np.arange(n),
            "timestamp": pd.date_range("2019-11-24", periods=n, freq="min", tz="UTC").astype(str),
            "item_id": item,
            "position": position + 1,
            "click": (chance.random(n) < _TASTE[item] * _LOOK[position]).astype(int),
            "propensity_score": law[np.arange(n), item],
            "user_feature_0": "a",
        }
    )


def _impressions(rows):
    n = len(rows)
    return LoggedImpressions(
        visitor=np.arange(n),
        visitors=np.arange(n),
        user=np.full(n, -1),
        item=rows["item_id"].to_numpy(),
        time=np.arange(n, dtype=float),
        taken=rows["click"].to_numpy() == 1,
        position=rows["position"].to_numpy(),
        propensity=rows["propensity_score"].to_numpy(),
    )


def test_estimates_are_the_sums_of_weighted_clicks():
    """Ips is the mean of click/(M·propensity), snips divides by the mean weight, and direct is the mean prediction."""
    rows = _drawn(0, 400)
    log = random_from_log(_impressions(rows), M)
    weight = 1 / (M * rows["propensity_score"])
    assert estimated("ips", log).value == pytest.approx((weight * rows["click"]).mean())
    assert estimated("snips", log).value == pytest.approx((weight * rows["click"]).sum() / weight.sum())
    corrected = log.predicted_target + weight * (rows["click"] - log.predicted[:, 0])
    assert estimated("doubly-robust", log).value == pytest.approx(corrected.mean())
    assert estimated("direct", log).value == pytest.approx(log.predicted_target.mean())
    rate = click_rate(_impressions(rows))
    half = 1.959963984540054 * rows["click"].std(ddof=1) / 20
    assert (rate.value, rate.high - rate.value) == pytest.approx((rows["click"].mean(), half))


def test_predictions_are_rates_of_other_visitors():
    """The prediction of a visitor's item does not depend on the answer of that visitor's fold."""
    shown = _impressions(_drawn(1, 60))
    before = random_from_log(shown, M).predicted
    answers = shown.taken.copy()
    answers[::2] = ~answers[::2]
    after = random_from_log(dataclasses.replace(shown, taken=answers), M).predicted
    np.testing.assert_array_equal(after[::2], before[::2])
    assert (after[1::2] != before[1::2]).all()


def test_a_random_policy_has_its_known_worth():
    """Over 200 logs, means of unbiased estimators are the known worth, and about 95% of intervals hold it."""
    names = ("ips", "snips", "doubly-robust")
    values = {name: [] for name in names}
    hits = dict.fromkeys(names, 0)
    for seed in range(200):
        log = random_from_log(_impressions(_drawn(seed, 1500)), M)
        for name in names:
            estimate = estimated(name, log)
            values[name].append(estimate.value)
            hits[name] += estimate.low <= WORTH <= estimate.high
    for name in names:
        mean = np.mean(values[name])
        assert abs(mean - WORTH) < 4 * np.std(values[name]) / 200**0.5
        assert 180 <= hits[name] <= 199
    rates = [click_rate(_impressions(_drawn(seed, 1500))).value for seed in range(20)]
    assert np.mean(rates) > WORTH + 10 * np.std(rates) / 20**0.5


def test_the_command_reads_both_logs(tmp_path, capsys):
    """One command estimates the random policy from the log of another, and compares its own log."""
    _drawn(3, 3000).to_csv(tmp_path / "bts.csv", index=False)
    _drawn(4, 3000, uniform=True).to_csv(tmp_path / "random.csv", index=False)
    options = ["--target", "random", "--columns", COLUMNS, "--against", str(tmp_path / "random.csv")]
    text = said_by(capsys, ["ope", str(tmp_path / "bts.csv"), *options]).out
    assert "which is inside this interval" in text
    assert "random policy over 6 items, from 3,000 impressions" in text
    evaluation = scenarios.ope_from_log(
        tmp_path / "bts.csv", columns=COLUMNS, against=tmp_path / "random.csv"
    )
    low, high = evaluation.estimate("snips")[["low", "high"]]
    assert low <= WORTH <= high
    assert evaluation.against[1].value == pytest.approx(_drawn(4, 3000, uniform=True)["click"].mean())
    assert evaluation.mean_weight == pytest.approx(1.0, abs=5 * evaluation.weight_error)


def test_the_distance_of_two_logs_is_the_textbooks_z(tmp_path):
    """Uniform logs of 400 and 900 impressions with rates 0.3 and 0.2: (p − q) / √(p(1−p)/n + q(1−q)/m)."""

    def source(name, n, rate):
        rows = _drawn(0, n, uniform=True)
        rows["click"] = (np.arange(n) < rate * n).astype(int)
        rows.to_parquet(tmp_path / name)
        return tmp_path / name

    first = source("first.parquet", 400, 0.3)
    evaluation = scenarios.ope_from_log(first, columns=COLUMNS, against=source("other.parquet", 900, 0.2))
    z = 0.1 / np.sqrt(0.3 * 0.7 / 400 + 0.2 * 0.8 / 900)
    answer = " ".join(logged_report(evaluation).answer)
    distance = float(answer.partition("The estimate is ")[2].split()[0])
    assert distance == pytest.approx(z, abs=0.06)
    assert "0.20000, which is outside this interval" in answer


def test_an_item_that_no_policy_showed_changes_nothing(tmp_path):
    """A row more in the item table leaves the number of items and the worth of the random policy as they are."""
    rows = _drawn(0, 300).rename(columns={"Unnamed: 0": "user", "item_id": "item"})
    results = []
    for n_items in (M, M + 1):
        folder = tmp_path / str(n_items)
        folder.mkdir()
        rows.to_parquet(folder / "events.parquet")
        pd.DataFrame({"id": np.arange(n_items), "genres": "a"}).to_parquet(folder / "items.parquet")
        results.append(scenarios.ope_from_log(folder, columns=FOLDER_COLUMNS))
    assert load(tmp_path / str(M + 1), columns=FOLDER_COLUMNS, min_item_events=0).n_items == M + 1
    first, second = results
    assert first.items == second.items == M
    pd.testing.assert_frame_equal(first.table, second.table)


def test_wrong_propensities_are_doubted(tmp_path, capsys):
    """If weights do not have the mean 1, the report says that propensities may be wrong."""
    rows = _drawn(5, 1000)
    rows["propensity_score"] /= 2
    rows.to_parquet(tmp_path / "bts.parquet")
    text = said_by(
        capsys, ["ope", str(tmp_path / "bts.parquet"), "--target", "random", "--columns", COLUMNS]
    ).out
    assert "The propensities may be wrong" in text
    rows.loc[0, "propensity_score"] = 1e-6
    rows.to_parquet(tmp_path / "bts.parquet")
    text = said_by(
        capsys, ["ope", str(tmp_path / "bts.parquet"), "--target", "random", "--columns", COLUMNS]
    ).out
    assert "effective impressions of 1,000" in text


@cases(
    "options error message",
    ({"target": "relevance"}, ConfigError, "'relevance' chooses items by scores"),
    (
        {"columns": COLUMNS.replace(",propensity=propensity_score", "")},
        DataError,
        "of 50 impressions is unknown",
    ),
    ({"columns": "user=Unnamed: 0,item=item_id,time=timestamp"}, DataError, "its rows are not impressions"),
)
def test_a_log_that_does_not_suffice_is_refused(tmp_path, options, error, message):
    """Another target, no propensities, no answers."""
    _drawn(6, 50).to_csv(tmp_path / "bts.csv", index=False)
    refused(error, message, scenarios.ope_from_log, tmp_path / "bts.csv", **{"columns": COLUMNS, **options})


def test_options_of_runs_and_of_logs_do_not_mix(tmp_path, capsys):
    """A log has no seeds, and a run no columns."""
    _drawn(6, 50).to_csv(tmp_path / "bts.csv", index=False)
    of_log = ["ope", str(tmp_path / "bts.csv"), "--target", "random", "--seeds", "3"]
    assert "--seeds: " in said_by(capsys, of_log, 2).err
    of_run = ["ope", str(tmp_path), "--target", "random", "--columns", COLUMNS]
    assert "is not a file of impressions" in said_by(capsys, of_run, 2).err


@pytest.mark.skipif(SHARED is None, reason="RIMSIM_DEV_DATA names no folder with open-bandit-sample")
@pytest.mark.parametrize("campaign", ["all", "men", "women"])
def test_the_random_policy_of_a_real_shop_has_the_clicks_of_its_own_log(campaign):
    """From the log of Thompson sampling, the interval holds the click rate of the random policy's own log."""
    folder = Path(SHARED) / "open-bandit-sample"
    if not folder.exists():
        pytest.skip("no open-bandit-sample")
    evaluation = scenarios.ope_from_log(
        folder / f"bts-{campaign}.parquet", columns=COLUMNS, against=folder / f"random-{campaign}.parquet"
    )
    row = evaluation.estimate("snips")
    assert row["low"] <= evaluation.against[1].value <= row["high"]
