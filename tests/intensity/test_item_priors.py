"""Prior and posterior of item effects: conjugate oracles, coverage, draws, and the settings that choose them."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from kit import cases, refused
from kit.markets import market_of, played, resumed, same_ledgers, small_cold_start, small_scenario
from scipy.optimize import minimize

from rimsim.agents import play_round
from rimsim.config import (
    ExposureConfig,
    LearningConfig,
    PlatformConfig,
    Seeds,
    find_scenario,
    override,
    scenario_from,
    to_plain,
)
from rimsim.errors import ConfigError
from rimsim.intensity import impressions
from rimsim.intensity.impressions import (
    KNOTS,
    Impressions,
    LayerFit,
    PriorSettings,
    centred_log_popularity,
    fit_weights,
    layer_of,
    layer_of_fits,
    mean_confidence,
    quantile_layer,
    sampled_layer,
)

K = len(KNOTS)
LENGTHS = np.expm1(KNOTS).round().astype(int)
ESTIMATED = PriorSettings(slope=None)


def _shown(effect, m, *, seed=0, items=None, log_score=-1.5):
    """Impressions of items with effects, scored by a model that is right but for the items."""
    draw = np.random.default_rng(seed)
    shown_items = np.arange(len(effect)) if items is None else items
    item = draw.choice(shown_items, m)
    score = np.exp(draw.normal(log_score, 0.7, m))
    examination = 0.85 ** draw.integers(0, 10, m)
    rate = score * np.exp(effect[item]) * examination
    return Impressions(item, score, examination, draw.random(m) < -np.expm1(-rate), draw.choice(LENGTHS, m))


def _popularity(n, seed=0):
    return centred_log_popularity(np.random.default_rng(seed).geometric(0.02, n))


def _fit(popularity, settings, *rounds, memory=(1.0, 1.0)):
    fit = LayerFit.nothing(np.zeros(len(popularity), bool), memory, popularity, settings)
    for shown in rounds:
        fit = fit.after(shown, settings)
    return fit


def _evidence(fit, shown):
    """Events of each item and those expected without effects, impression by impression."""
    events = np.zeros(len(fit.item))
    expected = np.zeros(len(fit.item))
    for row, item in enumerate(shown.item):
        place = np.log1p(shown.history[row])
        log_rate = np.interp(place, KNOTS, fit.level) + np.interp(place, KNOTS, fit.slope) * np.log(
            shown.score[row]
        )
        bare = np.exp(log_rate) * shown.examination[row]
        rate = bare * np.exp(fit.item[item])
        events[item] += rate / (1 - np.exp(-rate)) if shown.taken[row] else 0.0
        expected[item] += bare
    return events, expected


@cases("slope sd", (0.0, 0.3), (-0.7, 0.5), (0.4, 2.0))
def test_the_posterior_mean_is_that_of_the_conjugate_gamma(slope, sd):
    """Prior weight plus events, over prior exposure plus expected events; items never shown have the prior mean."""
    popularity = _popularity(12)
    shown = _shown(np.random.default_rng(1).normal(0, 0.5, 12), 3000, items=np.arange(8))
    settings = PriorSettings(slope, sd)
    fit = _fit(popularity, settings, shown)
    events, expected = _evidence(fit, shown)
    weight = sd**-2
    prior_mean = np.exp(slope * popularity)
    assert np.exp(fit.item) == pytest.approx((weight + events) / (weight / prior_mean + expected), rel=1e-3)
    assert fit.item[8:] == pytest.approx(slope * popularity[8:], abs=1e-3)
    assert fit.confidence == pytest.approx(weight + events, rel=1e-3)
    assert fit.item_variance == pytest.approx([sd**2, sd**2])


@cases("quantile", (0.1,), (0.5,), (0.9,))
def test_the_quantile_is_that_of_the_posterior_gamma(quantile):
    """For one fit, it is scipy's quantile of the gamma distribution with that shape and mean."""
    fit = _fit(_popularity(9), PriorSettings(-0.3), _shown(np.zeros(9), 2000))
    law = scipy.stats.gamma(fit.confidence, scale=np.exp(fit.item) / fit.confidence)
    assert np.exp(quantile_layer([fit], quantile).item) == pytest.approx(law.ppf(quantile), rel=1e-9)


def test_the_quantile_of_several_fits_has_their_mean_effect_and_mean_shape():
    """The gamma distribution of the quantile has the weighted means of effects and of shapes."""
    fits = _two_fits()
    weight = fit_weights(fits)
    shape = weight[0] * fits[0].confidence + weight[1] * fits[1].confidence
    effect = weight[0] * fits[0].item + weight[1] * fits[1].item
    expected = scipy.stats.gamma(shape, scale=np.exp(effect) / shape).ppf(0.8)
    assert np.exp(quantile_layer(fits, 0.8).item) == pytest.approx(expected, rel=1e-9)
    assert mean_confidence(fits) == pytest.approx(shape)


def _two_fits():
    """Fits with two memories whose weights are both far from 0."""
    rounds = [_shown(np.random.default_rng(2).normal(0, 0.6, 6), 600, seed=number) for number in range(3)]
    popularity = _popularity(6)
    fits = [_fit(popularity, ESTIMATED, *rounds, memory=memory) for memory in ((0.5, 0.5), (1.0, 1.0))]
    return [dataclasses.replace(fits[0], loss=0.5), dataclasses.replace(fits[1], loss=0.0)]


def test_samples_have_the_mean_and_the_variance_of_the_posterior():
    """Over many rounds, the draws of each item have the moments of the mixture of gamma distributions."""
    fits = _two_fits()
    n = 20_000
    draws = np.exp([sampled_layer(fits, 5, number).item for number in range(n)])
    weight = fit_weights(fits)[:, None]
    assert weight.min() > 0.3
    means = np.exp([fit.item for fit in fits])
    variances = means**2 / np.array([fit.confidence for fit in fits])
    mean = (weight * means).sum(0)
    variance = (weight * (variances + means**2)).sum(0) - mean**2
    assert draws.mean(0) == pytest.approx(mean, abs=4 * np.sqrt(variance.max() / n))
    assert draws.var(0) == pytest.approx(variance, rel=0.06)
    correlation = np.corrcoef(draws.T) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(n)


def test_samples_of_one_fit_have_its_gamma_distribution():
    """A Kolmogorov-Smirnov test finds no difference, for each item."""
    fit = _two_fits()[1]
    draws = np.exp([sampled_layer([fit], 1, number).item for number in range(3000)])
    for item in range(6):
        law = scipy.stats.gamma(fit.confidence[item], scale=np.exp(fit.item[item]) / fit.confidence[item])
        assert scipy.stats.kstest(draws[:, item], law.cdf).pvalue > 1e-3


def test_levels_and_slopes_are_the_same_for_each_answer():
    """A sample or a quantile changes only the effects of items."""
    fits = _two_fits()
    mean = layer_of_fits(fits)
    for layer in (quantile_layer(fits, 0.9), sampled_layer(fits, 0, 1)):
        assert layer.level.tolist() == mean.level.tolist()
        assert layer.slope.tolist() == mean.slope.tolist()
        assert not np.allclose(layer.item, mean.item)


@cases("settings", (PriorSettings(0.0, 0.5),), (PriorSettings(),), (PriorSettings(None, 0.5),), (ESTIMATED,))
def test_intervals_cover_effects_in_95_percent_of_made_up_logs(settings):
    """Gamma intervals cover 95 ± 3% of factors that are drawn from the prior, at the rates of a market."""
    n = 300
    covered = []
    for log in range(8):
        draw = np.random.default_rng(100 + log)
        popularity = _popularity(n, log)
        slope = 0.0 if settings.slope == 0.0 else -0.4
        factor = draw.gamma(4.0, 0.25, n) * np.exp(slope * popularity)
        shown = _shown(np.log(factor), 40_000, seed=log, log_score=-3.0)
        fit = _fit(popularity, settings, shown)
        law = scipy.stats.gamma(fit.confidence, scale=np.exp(fit.item) / fit.confidence)
        # Levels and a common factor of all items are known only together, so total expected events are made equal.
        relative = factor * (fit.expected * np.exp(fit.item)).sum() / (fit.expected * factor).sum()
        low, high = law.interval(0.95)
        covered.append((low < relative) & (relative < high))
    assert 0.92 <= np.mean(covered) <= 0.98


def test_slope_shape_and_mean_have_the_largest_marginal_likelihood():
    """No other point has a larger negative binomial likelihood by scipy, with the stated normal priors."""
    draw = np.random.default_rng(3)
    n = 300
    popularity = _popularity(n)
    expected = draw.gamma(2.0, 3.0, n)
    count = draw.poisson(expected * draw.gamma(2.0, 0.5, n) * np.exp(0.3 - 0.6 * popularity)).astype(float)
    start = np.array([np.log(3.0), 0.0, 0.0])

    def loss(point):
        shape = np.exp(point[0])
        mean = np.exp(point[1] + point[2] * popularity)
        law = scipy.stats.nbinom(shape, shape / (shape + mean * expected))
        penalty = (point[0] - start[0]) ** 2 + point[1] ** 2 + (point[2] / 0.5) ** 2
        return -law.logpmf(count).sum() + 0.5 * penalty

    best = minimize(
        loss, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000}
    )
    estimate = impressions._prior(count, expected, popularity, start, np.ones(3, bool), 1.0)
    assert estimate == pytest.approx(best.x, abs=3e-3)
    assert estimate == pytest.approx([np.log(2.0), 0.3, -0.6], abs=0.2)


@cases("slope", (-0.8,), (0.0,), (0.5,))
def test_the_slope_is_recovered_from_impressions(slope):
    """The estimate is near the slope from which effects were made, and it predicts items that were never shown."""
    n = 200
    popularity = _popularity(n)
    effect = np.log(np.random.default_rng(4).gamma(8.0, 1 / 8, n)) + slope * popularity
    rounds = [_shown(effect, 20_000, seed=number, items=np.arange(150)) for number in range(2)]
    fit = _fit(popularity, ESTIMATED, *rounds)
    assert fit.popularity_slope == pytest.approx(slope, abs=0.1)
    assert np.polyfit(popularity[150:], fit.item[150:], 1)[0] == pytest.approx(slope, abs=0.1)


def test_the_slope_is_recovered_when_mostly_popular_items_are_shown():
    """A recommender shows popular items; the level of these does not hide the slope."""
    n = 300
    popularity = _popularity(n)
    effect = np.log(np.random.default_rng(4).gamma(8.0, 1 / 8, n)) - 0.6 * popularity
    popular = np.argsort(-popularity)[:120]
    rounds = [_shown(effect, 20_000, seed=number, items=popular) for number in range(3)]
    assert _fit(popularity, ESTIMATED, *rounds).popularity_slope == pytest.approx(-0.6, abs=0.15)


def test_unseen_items_have_a_mean_of_their_own():
    """The slope does not apply to items without events in the warm-up log, whose mean is estimated separately."""
    events = np.random.default_rng(0).geometric(0.02, 200)
    events[150:] = 0
    popularity = centred_log_popularity(events)
    assert popularity[150:].tolist() == [0.0] * 50
    assert popularity[:150] == pytest.approx(np.log(events[:150] + 1) - np.log(events[:150] + 1).mean())
    effect = np.where(events == 0, np.log(2.0), -0.5 * popularity)
    fit = LayerFit.nothing(events == 0, (1.0, 1.0), popularity, ESTIMATED).after(
        _shown(effect, 60_000), ESTIMATED
    )
    level = fit.mean[0]  # levels take up a common factor of seen items
    assert fit.popularity_slope == pytest.approx(-0.5, abs=0.1)
    assert fit.mean[1] / level == pytest.approx(2.0, rel=0.25)


def test_a_log_without_events_has_no_popularity():
    """A catalogue whose items are all new has popularity 0 everywhere."""
    assert centred_log_popularity(np.zeros(4, int)).tolist() == [0.0] * 4


def _with(make=small_scenario, **learning):
    return make(platform=PlatformConfig(model="ease-hp", learning=LearningConfig(**learning)))


SAMPLE = {"answer": "sample", "slope": "estimated"}


@pytest.mark.parametrize("after", [1, 2])
def test_a_resumed_market_draws_the_same_samples(tmp_path, after):
    """Saved and loaded after any round, and in batches of any size, slates are the same to the bit."""
    config = _with(**SAMPLE)
    uninterrupted = played(config, "relevance", 7)
    continued = resumed(config, "relevance", tmp_path, after)
    for first, second in zip(uninterrupted.closed, continued.closed, strict=True):
        np.testing.assert_array_equal(first.ledger.item, second.ledger.item)


def test_samples_depend_on_round_and_model_seed_alone():
    """Rounds and model seeds differ in their samples; seeds of agents do not matter."""
    fits = _two_fits()
    assert sampled_layer(fits, 0, 1).item.tolist() == sampled_layer(fits, 0, 1).item.tolist()
    for seed, number in ((0, 2), (1, 1)):
        assert not np.isin(sampled_layer(fits, seed, number).item, sampled_layer(fits, 0, 1).item).any()
    config = _with(**SAMPLE)
    usual = played(config, seeds=Seeds())
    same_ledgers(usual, played(config, seeds=Seeds(agent=5)))
    effects = layer_of(usual.model)[1].item
    assert effects == pytest.approx(sampled_layer(usual.platform.fits, 0, 2).item)


@cases("learning", ({"answer": "sample"},), ({"answer": "quantile", "quantile": 0.8},))
def test_prices_are_solved_with_the_scores_that_rank(learning):
    """Models of past states have the layer of the model that serves, whatever the answer."""
    agent, market = market_of("rim-feedback", _with(**learning))
    play_round(market, agent)
    serving = layer_of(market.model)[1]
    for model in market._past_states.models():
        assert layer_of(model)[1].item.tolist() == serving.item.tolist()
    mean = layer_of_fits(market.platform.fits)
    assert not np.allclose(serving.item, mean.item)


def test_the_quantile_ranks_as_rim_ucb_does():
    """Any agent on a platform with that answer shows the slates of `rim-ucb` on a platform that answers the mean."""
    config = dataclasses.replace(_with(answer="quantile", quantile=0.8), exposure=ExposureConfig(beta=0))
    usual = dataclasses.replace(_with(), exposure=ExposureConfig(beta=0))
    ours = played(config, "relevance").closed
    theirs = played(usual, "rim-ucb(quantile=0.8)").closed
    plain = played(usual, "relevance").closed
    for first, second in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(first.ledger.item, second.ledger.item)
    assert (ours[-1].ledger.item != plain[-1].ledger.item).any()


@cases("make", (small_scenario,), (small_cold_start,))
def test_the_settings_reach_the_fits(make):
    """A fixed slope and a fixed deviation are those of every fit after every round."""
    market = played(_with(make, slope=-0.5, sd=0.4))
    for fit in market.platform.fits:
        assert fit.popularity_slope == -0.5
        assert fit.item_variance == pytest.approx([0.16, 0.16])
        assert fit.mean[0] == 1.0
    counts = np.bincount(market.world.past.item, minlength=market.n_items)
    assert fit.popularity == pytest.approx(centred_log_popularity(counts))
    estimated = played(_with(make, slope="estimated")).platform.fits
    assert all(fit.popularity_slope != 0 for fit in estimated)


@cases("data", ("consumed",), ("impressions",), ("ips",))
def test_a_text_is_short_for_the_data(data):
    """In Python, in YAML and in changes, a text sets `data` and leaves the defaults."""
    expected = LearningConfig(data=data)
    assert PlatformConfig(learning=data).learning == expected
    config = scenario_from({"platform": {"learning": data, "model": "ease-hp"}})
    assert config.platform.learning == expected
    usual = find_scenario("closed-loop")
    assert override(usual, {"platform.learning": data}).platform.learning == expected
    assert scenario_from(to_plain(config)) == config


def test_a_part_of_the_learner_is_set_by_its_name():
    """A change of one field leaves the others, in a scenario that uses the short form."""
    changed = override(find_scenario("closed-loop"), {"platform.learning.answer": "sample"}).platform.learning
    assert changed == LearningConfig(answer="sample")
    fixed = {"platform.learning.slope": -1, "platform.learning.sd": 0.3}
    assert override(find_scenario("closed-loop"), fixed).platform.learning == LearningConfig(
        slope=-1.0, sd=0.3
    )


@cases(
    "changes message",
    ({"platform.learning": "impresions"}, "Did you mean 'impressions'"),
    ({"platform.learning": 3}, "be a mapping of field names"),
    ({"platform.learning.answer": "sampel"}, "Did you mean 'sample'"),
    ({"platform.learning.anser": "mean"}, "Did you mean 'platform.learning.answer'"),
    ({"platform.learning.slope": 9}, "'platform.learning.slope': found 9. Give a number from -5 to 5"),
    ({"platform.learning.slope": "steep"}, "found 'steep'.*or estimated"),
    ({"platform.learning.slope": True}, "found True"),
    ({"platform.learning.sd": 0}, "'platform.learning.sd': found 0. Give a number from 0.01 to 3"),
    ({"platform.learning.quantile": 1}, "quantile' is 1. It must be less than 1"),
)
def test_values_out_of_range_are_refused(changes, message):
    """The error names the field, what was found and what is expected."""
    refused(ConfigError, message, override, find_scenario("closed-loop"), changes)


@cases("name value", ("slope", -1.0), ("sd", 0.3), ("answer", "sample"), ("quantile", 0.8))
@pytest.mark.parametrize("data", ["consumed", "ips"])
def test_settings_without_effect_are_refused(name, value, data):
    """A platform that learns no effects of items has no prior of them."""
    message = f"platform.learning.{name} is .* platform.learning.data is '{data}'.*leave {name} out"
    refused(ConfigError, message, LearningConfig, data=data, **{name: value})
