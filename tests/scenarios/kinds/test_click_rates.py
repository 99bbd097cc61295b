"""Predicted against observed click rates: known rates of made-up impressions, and the report of a validation."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy
from kit import cases

from rimsim import scenarios
from rimsim.config import DataConfig
from rimsim.data import load
from rimsim.intensity.impression_factors import FactorFit, GroupFactors, fit_by_turns
from rimsim.intensity.impressions import Impressions, LayerFit
from rimsim.intensity.registry import make
from rimsim.market.logged_impressions import logged_states
from rimsim.market.past_round import fold_of
from rimsim.scenarios.kinds.validate import clicks

N_USERS = 250
N_ITEMS = 150


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    """12,000 impressions whose rates are products of an item's worth, a user's level, a policy and a position."""
    draw = np.random.default_rng(3)
    n = 12_000
    rows = pd.DataFrame(
        {
            "user": draw.integers(N_USERS, size=n),
            "item": (N_ITEMS * draw.random(n) ** 1.5).astype(int),
            "time": np.sort(draw.integers(0, 100 * 86_400, n)) + 1_450_000_000,
            "policy": draw.choice(["feed", "search"], n, p=[0.7, 0.3]),
            "position": draw.integers(1, 4, n),
        }
    )
    worth = draw.gamma(6.0, 1 / 6, N_ITEMS)
    level = draw.gamma(1.5, 1 / 1.5, N_USERS)
    rate = 0.5 * worth[rows["item"]] * level[rows["user"]] * 0.6 ** (rows["position"] - 1)
    rate *= np.where(rows["policy"] == "feed", 1.0, 0.4)
    rows["taken"] = (draw.random(n) < -np.expm1(-rate)).astype(int)
    path = tmp_path_factory.mktemp("clicks") / "feed.parquet"
    rows.to_parquet(path)
    return path


def _table(feed):
    log = load(feed)
    return clicks.click_rates(log, serving="popularity-hp", gap="30min", device="cpu", show=lambda _: None)


def test_predicted_rates_are_those_of_held_out_impressions(feed):
    """With factors of users, policies and positions, all deciles are right within error; the layer alone is not."""
    table = _table(feed)
    assert list(table.columns) == list(clicks.COLUMNS)
    sizes = table.groupby("predictor")["impressions"].sum()
    assert (sizes == sizes.iloc[0]).all()
    assert sizes.iloc[0] == pytest.approx(0.2 * 12_000, rel=0.01)
    errors = (table["predicted"] - table["observed"]).abs()
    standard_errors = (table["predicted"] * (1 - table["predicted"]) / table["impressions"]) ** 0.5
    is_full = table["predictor"] == clicks.FULL
    assert (errors < 3 * standard_errors)[is_full].all()
    assert (errors > 3 * standard_errors)[~is_full].any()
    totals = table[is_full][["predicted", "observed"]].sum()
    assert totals["predicted"] == pytest.approx(totals["observed"], rel=0.1)
    losses = table.groupby("predictor")["log_loss"].mean()
    assert losses[clicks.FULL] < losses[clicks.LAYER] - 0.02
    spread = table[table["predictor"] == clicks.FULL]["observed"]
    assert spread.iloc[-1] > 4 * spread.iloc[0]


def test_nothing_after_the_cut_is_known(feed):
    """Events and impressions of the fit end before the first held-out impression."""
    log = load(feed)
    cut = clicks.held_impressions(log)
    assert cut.past.time.max() < cut.held.time.min()
    assert cut.earlier.time.max() < cut.held.time.min()
    assert len(cut.earlier) + len(cut.held) == len(log.impressions)
    assert clicks.held_impressions(load(feed, columns="user=user,item=item,time=time")) is None
    assert clicks.held_impressions(log.before(log.time[100])) is None


def test_the_layer_learns_from_scores_that_do_not_know_the_answers(feed, monkeypatch):
    """Earlier impressions of each fold of users have the scores of a model fitted to the other fold alone."""
    evidence = []

    def recorded(first, shown, groupings, prior):
        """Fit by turns, whose impressions are recorded."""
        evidence.append(shown)
        return fit_by_turns(first, shown, groupings, prior)

    monkeypatch.setattr(clicks, "fit_by_turns", recorded)
    _table(feed)
    cut = clicks.held_impressions(load(feed))
    past = cut.past.rows(slice(None))
    fold = fold_of(0, np.maximum(cut.earlier.user, 0))
    for number in (0, 1):
        model = make("popularity-hp", seed=0, device="cpu", gap="30min")
        model.fit(past.rows(fold_of(0, past.user) != number))
        rows = np.flatnonzero(fold == number)
        scores = model.score(logged_states(cut.earlier.rows(rows), past)).numpy()
        expected = scores[np.arange(len(rows)), cut.earlier.item[rows]]
        assert len(rows) > 1000
        np.testing.assert_allclose(evidence[0].score[rows], expected, rtol=1e-4)


@cases("count expected", (0.0, 0.0), (3.0, 1.0), (0.0, 8.0))
def test_a_chance_is_a_mean_over_the_users_posterior(count, expected):
    """1 − (1 + μ/s)^(−s) is the integral of 1 − exp(−rate·factor) over the gamma posterior."""
    fit = LayerFit.nothing(np.zeros(1, bool), (1.0, 1.0))
    factors = GroupFactors(1.5, np.array([count]), np.array([expected]))
    shown = Impressions(np.array([0]), np.array([0.7]), np.ones(1), np.array([True]), np.zeros(1, np.int64))
    chance = clicks.predicted_chance(FactorFit(fit, {"user": factors}), shown, {"user": np.array([0])})
    posterior = scipy.stats.gamma(1.5 + count, scale=1 / (1.5 + expected))
    assert chance[0] == pytest.approx(posterior.expect(lambda factor: -np.expm1(-0.7 * factor)), rel=1e-6)
    without = clicks.predicted_chance(FactorFit(fit, {}), shown, {})
    assert without[0] == pytest.approx(-np.expm1(-0.7))


def _made_up(observed):
    rows = [
        (name, number, 50, 0.1 * number, share * 0.1 * number, 0.5)
        for name in (clicks.LAYER, clicks.FULL)
        for number, share in enumerate(observed, 1)
    ]
    return pd.DataFrame(rows, columns=list(clicks.COLUMNS))


def test_sentences_count_right_deciles():
    """Eight deciles within a tenth are a finding, seven are a limit; without impressions there is neither."""
    good, bad = clicks.click_sentences(_made_up([1.0] * 8 + [0.5, 2.0]))
    assert not bad
    assert "On 500 held-out impressions" in good[0]
    assert "in 8 of 10 deciles" in good[0]
    good, bad = clicks.click_sentences(_made_up([1.0] * 7 + [0.5, 2.0, 0.8]))
    assert not good
    assert "in 7 of 10 deciles" in bad[0]
    assert clicks.click_sentences(None) == ([], [])
    assert not clicks.click_table(None).rows
    assert clicks.click_plot(None) is None


def test_a_ratio_is_predicted_over_observed():
    """Predicted 11% for observed 10% is the ratio 1.10; the row of ratios has the same numbers."""
    table = _made_up([1 / 1.1, 1 / 0.91, 2.0])
    assert clicks.ratios(table, clicks.FULL).tolist() == pytest.approx([1.1, 0.91, 0.5])
    assert clicks.right_deciles(table, clicks.FULL) == 2
    row = {cells[0]: cells[1:4] for cells in clicks.click_table(table).rows}[f"{clicks.FULL}: ratio"]
    assert row == ("1.10", "0.91", "0.50")


def test_unknown_positions_have_no_factor(feed):
    """Impressions without a position are in no group, so positions 1 to 3 are three groups."""
    shown = load(feed).impressions
    partly = dataclasses.replace(shown, position=np.where(np.arange(len(shown)) % 5, shown.position, 0))
    grouping = clicks._groupings(partly)["position"]
    assert grouping.n_groups == 3
    assert (grouping.group[::5] == -1).all()
    assert (grouping.group[1::5] == shown.position[1::5] - 1).all()


def test_a_validation_reports_click_rates(feed, tmp_path):
    """The table, the picture and the sentence are in the run folder, and the terminal prints the ratios."""
    config = scenarios.ValidateConfig(
        data=DataConfig(source=str(feed)),
        models=("popularity", "bag"),
        truths=("factors",),
        draws=1,
        resamples=100,
        rank=2,
        serving="popularity-hp",
    )
    run = scenarios.validate(config, out=tmp_path / "run").run
    pd.testing.assert_frame_equal(run.click_rates, _table(feed), check_exact=False)
    assert "held-out impressions, predicted click rates are within 10%" in run.summary()
    assert f"{clicks.FULL}: ratio" in (run.folder / "README.md").read_text(encoding="utf-8")
    axes = run.plot("click-rates").axes[0]
    assert axes.get_xlabel() == "predicted click rate"
    assert sorted(len(line.get_xdata()) for line in axes.lines) == [2, 10, 10]
