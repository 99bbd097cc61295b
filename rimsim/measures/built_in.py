"""Built-in measures, in the order of the documentation."""

from __future__ import annotations

from typing import Any

import numpy as np

from rimsim.arrays import Bools, Floats
from rimsim.data.log import prices_of
from rimsim.measures import exposure, loop, relevance, two_sides
from rimsim.measures.facts import RoundFacts
from rimsim.measures.measure import Measure

_PAIRS = 1000
"""Number of pairs of arrivals that ``jaccard`` compares."""


def _of_providers(facts: RoundFacts, amounts: Any = None) -> Floats:
    """Sum of items' amounts per provider; by default, item counts."""
    return np.bincount(facts.provider, amounts, len(facts.there)).astype(np.float64)


def _merit(facts: RoundFacts) -> Floats:
    """Warm-up events of each provider, the target of its exposure."""
    return _of_providers(facts, facts.popularity)


def _provider_exposure(facts: RoundFacts) -> Floats:
    """Exposures of each provider, in the unit of the guarantee."""
    return _of_providers(facts, facts.delivered)


def _calibration(facts: RoundFacts, visits: Bools) -> float | None:
    """Ratio of predicted to actual consumptions, for the given visits."""
    return relevance.calibration_ratio(facts.intensity[visits], facts.consumed[visits], facts.examination)


def _user_welfare(facts: RoundFacts) -> float:
    """Expected consumptions of all arrivals."""
    return float(facts.probability.sum())


def _provider_welfare(facts: RoundFacts) -> float:
    """Mean of log(1 + expected consumptions) over providers that ever came."""
    filled = facts.slates >= 0
    provider = facts.provider[facts.slates[filled]]
    consumptions = np.bincount(provider, facts.probability[filled], len(facts.there)).astype(np.float64)
    return two_sides.provider_welfare(consumptions[facts.came])


def _revenue(facts: RoundFacts) -> float | None:
    """Prices of consumed items per slate; None without prices."""
    price = prices_of(facts.items)
    return None if price is None else relevance.per_slate(price[facts.slates] * facts.consumed)


def _value(worth: Floats | Bools, facts: RoundFacts) -> float:
    """Total worth minus c times the missing and excess exposures."""
    # Items come first, then groups, campaigns and caps. A single item has a floor, but no cap of its own.
    no_caps = np.full(facts.n_items, np.inf)
    return relevance.penalised_value(
        worth,
        exposure=np.concatenate([facts.delivered, facts.counted]),
        required=np.concatenate([facts.required, facts.min_exposure]),
        cost=facts.cost,
        most=np.concatenate([no_caps, facts.max_exposure]),
    )


def _of_new(facts: RoundFacts, worth: Floats | Bools) -> float | None:
    """Worth per slate of items new to their visitors."""
    return None if facts.repeats is None else relevance.per_slate(worth * ~facts.repeats)


def _of_repeats(facts: RoundFacts, worth: Floats | Bools) -> float | None:
    """Worth per slate of items consumed before."""
    return None if facts.repeats is None else relevance.per_slate(worth * facts.repeats)


# Each entry has, in this order: name, unit, formula, function of the round's facts, title, group, better direction.
BUILT_IN = (
    Measure("precision", "share", "Σ hits / (n·k)",
        lambda f: relevance.precision(f.consumed), "Precision", "relevance", "higher"),
    Measure("recall", "share", "mean of hits / relevant (counted, or λ*(x)), over arrivals with a relevant item",
        lambda f: relevance.recall(f.consumed, f.relevant), "Recall", "relevance", "higher"),
    Measure("ndcg", "share",
        "mean of Σ_hits 1/log₂(r+1) / the same of the ideal slate, over arrivals with a relevant item",
        lambda f: relevance.ndcg(f.consumed, f.relevant) if f.counts_items else None, "NDCG", "relevance", "higher"),
    Measure("utility", "expected consumptions per slate",
        "mean over arrivals of Σ_r true P(consume y_r at position r)",
        lambda f: relevance.per_slate(f.probability), "Utility", "relevance", "higher", band=1, retrained=True),
    Measure("consumptions", "consumptions per slate", "mean over arrivals of Σ_r consumed",
        lambda f: relevance.per_slate(f.consumed), "Consumptions", "relevance", "higher"),
    Measure("utility_new", "expected consumptions per slate", "utility of items that are new to the visitor",
        lambda f: _of_new(f, f.probability), "Utility of new items", "relevance", "higher"),
    Measure("utility_repeat", "expected consumptions per slate", "utility of items that the visitor had consumed",
        lambda f: _of_repeats(f, f.probability), "Utility of repeats", "relevance", "higher"),
    Measure("consumptions_new", "consumptions per slate", "consumptions of items that are new to the visitor",
        lambda f: _of_new(f, f.consumed), "Consumptions of new items", "relevance", "higher"),
    Measure("consumptions_repeat", "consumptions per slate", "consumptions of items that the visitor had consumed",
        lambda f: _of_repeats(f, f.consumed), "Consumed repeats", "relevance", "higher"),
    Measure("organic_consumptions", "consumptions per arrival",
        "mean over arrivals of the consumptions that no slate brought; none in a round without organic consumptions",
        lambda f: None if f.organic is None else float(f.organic.mean()), "Organic consumptions", "relevance"),
    Measure("revenue", "revenue per slate", "mean over arrivals of Σ_r price of consumed items; none without prices",
        _revenue, "Revenue", "relevance", "higher"),
    Measure("coverage", "share", "#{y: E_y > 0} / M",
        lambda f: exposure.coverage(f.exposure), "Catalogue coverage", "exposure", "higher", band=4, retrained=True),
    Measure("gini", "index", "Σ_i (2i − M − 1)·E_(i) / (M·ΣE), E ascending, zeros included",
        lambda f: exposure.gini(f.exposure), "Gini of exposure", "exposure", "lower", band=7),
    Measure("perplexity", "items", "exp(−Σ p ln p), p = E/ΣE",
        lambda f: exposure.perplexity(f.exposure), "Exposure perplexity", "exposure", "higher", band=6,
        is_number_of_items=True),
    Measure("average_popularity", "× catalogue mean", "(Σ E·q / ΣE) / (Σ q / M), q = popularity at round 0",
        lambda f: exposure.average_popularity(f.exposure, f.popularity), "Popularity of shown items", "exposure"),
    Measure("shortfall", "share",
        "Σ (min(least, due) − E)₊ / Σ due over items, groups and campaigns, as positions; 0 if Σ due = 0",
        lambda f: f.undelivered(np.ones(f.slates.shape[1]), f.counted_shown),
        "Undelivered (shown)", "guarantee", "lower", band=3),
    Measure("examined_shortfall", "share",
        "the same with Ẽ = Σ γ^(r−1) for E; least and due (as positions) times mean_r γ^(r−1)",
        lambda f: f.undelivered(exposure.position_weights(f.decay, f.slates.shape[1]), f.counted_examined),
        "Undelivered (examined)", "guarantee", "lower", band=2),
    Measure("shortfall_units", "exposures", "Σ (b − E)₊ in the unit of the guarantee (`exposure.unit`)",
        lambda f: exposure.shortfall_units(f.delivered, f.required), "Undelivered exposures", "guarantee", "lower"),
    Measure("items_met", "share", "#{y: E ≥ b > 0} / #{y: b > 0} in the unit of the guarantee",
        lambda f: exposure.items_met(f.delivered, f.required), "Guarantees met", "guarantee", "higher", band=9),
    Measure("worst_ratio", "exposures per required one", "min E/b over b > 0 in the unit of the guarantee",
        lambda f: exposure.worst_ratio(f.delivered, f.required), "Worst delivery", "guarantee", "higher"),
    Measure("prices_at_bound", "share", "#{y: v_y = −c, b_y > 0} / #{y: b_y > 0} at the round's end",
        lambda f: None if f.item_price is None else exposure.prices_at_bound(f.item_price, f.required, f.cost),
        "Prices at the bound", "guarantee", "lower"),
    Measure("excess", "exposures", "Σ (E − most)₊ over caps, in that unit",
        lambda f: exposure.excess(f.counted, f.max_exposure) if np.isfinite(f.max_exposure).any() else None,
        "Exposures above caps", "guarantee", "lower"),
    Measure("effective_items", "items", "N(N−1) / Σ n(n−1), n = consumptions per item in the round, N = Σ n",
        lambda f: exposure.effective_items(f.consumption),
        "Effective consumed items", "loop", "higher", band=5,
        is_number_of_items=True, retrained=True),
    Measure("log_gini", "index", "Gini of events per item in the log that the platform trains on",
        lambda f: exposure.gini(f.log_counts), "Gini of the training log", "loop", "lower", band=8, retrained=True),
    Measure("jaccard", "index", "mean of |A ∩ B| / |A ∪ B| over a fixed sample of pairs of arrivals",
        lambda f: loop.jaccard(f.slates, loop.sample_pairs(len(f.slates), _PAIRS, f.seed, f.user)),
        "Likeness of slates", "loop", "lower"),
    Measure("genre_drift", "bits",
        "Jensen-Shannon divergence (base 2) of genre shares of exposure, now and in round 0",
        lambda f: loop.genre_drift(f.exposure, f.first_exposure, f.genre_weights), "Genre drift", "loop"),
    Measure("sessions_per_user", "arrivals", "arrivals / distinct users among them",
        lambda f: loop.sessions_per_user(f.user), "Sessions per user", "loop", "higher"),
    Measure("adopted", "share", "#{released items consumed at least once so far} / #{items released so far}",
        lambda f: None if f.adoption is None else loop.adopted_share(f.adoption),
        "Released items adopted", "loop", "higher"),
    Measure("adoption_median", "arrivals", "Kaplan-Meier median of arrivals from release to the m-th consumption",
        lambda f: None if f.adoption is None else loop.adoption_median(f.adoption),
        "Median adoption time", "loop", "lower"),
    Measure("estimated_decay", "share per position", "γ̂, as the platform estimates it from its rounds so far",
        lambda f: f.estimated_decay, "Estimated decay of examination", "loop"),
    Measure("decay_error", "share per position", "half the 95% interval of γ̂",
        lambda f: f.decay_error, "Error of the estimated decay", "loop", "lower"),
    Measure("calibration_ratio", "predicted per actual consumption",
        "Σ (1 − exp(−λ(x,y)·a·γ^(r−1))) / Σ consumed over shown items, λ of the serving model; γ = a = 1 in a replay",
        lambda f: relevance.calibration_ratio(f.intensity, f.consumed, f.examination),
        "Predicted / actual consumptions", "loop"),
    Measure("calibration_first", "predicted per actual consumption", "calibration_ratio of visits without history",
        lambda f: _calibration(f, f.history == 0), "Predicted / actual, first visits", "loop"),
    Measure("calibration_returning", "predicted per actual consumption", "calibration_ratio of visits with a history",
        lambda f: _calibration(f, f.history > 0), "Predicted / actual, returning visits", "loop"),
    Measure("calibration_by_history", "ratio", "calibration_first / calibration_returning",
        lambda f: relevance.calibration_by_history(f.intensity, f.consumed, f.examination, f.history),
        "Calibration of first / returning visits", "loop"),
    Measure("value_model", "model score",
        "Σ w_r·model score − c·(Σ (b − E)₊ + Σ (E − most)₊) over items, groups, campaigns and caps, "
        "w and E in the unit of the guarantee",
        lambda f: f.value_model, "Value (model)", "allocation", "higher"),
    Measure("value_true", "true intensity", "Σ w_r·true intensity − c·(Σ (b − E)₊ + Σ (E − most)₊), likewise",
        lambda f: _value(f.true_intensity * f.position_weights, f), "Value (true)", "allocation", "higher"),
    Measure("return", "consumptions", "Σ consumed − c·(Σ (b − E)₊ + Σ (E − most)₊), likewise",
        lambda f: _value(f.consumed, f), "Return", "allocation", "higher"),
    Measure("providers_alive", "share", "#{providers in the market} / #{providers that ever came}",
        lambda f: float(f.there.sum() / f.came.sum()) if f.came.any() else None,
        "Providers alive", "two_sides", "higher"),
    Measure("objective", "consumptions", "Σ consumed + fee·#{providers who stay}; none without `providers.fee`",
        lambda f: float(f.consumed.sum() + f.fee * f.stays.sum()) if f.fee else None,
        "Objective with fees", "two_sides", "higher"),
    Measure("catalogue_on_offer", "share", "#{y: on offer at the end of the round} / M",
        lambda f: float(f.on_offer.mean()), "Catalogue on offer", "two_sides", "higher"),
    Measure("items_sold", "share", "#{y: consumed in this round or before} / M",
        lambda f: float((f.sold > 0).mean()), "Items that ever sold", "two_sides", "higher"),
    Measure("users_active", "users", "distinct users among the arrivals",
        lambda f: float(len(np.unique(f.user))), "Active users", "two_sides", "higher"),
    Measure("user_welfare", "expected consumptions", "Σ over all arrivals and positions of true P(consume)",
        _user_welfare, "Users' welfare", "two_sides", "higher"),
    Measure("provider_welfare", "log(1 + consumptions)",
        "mean over providers that ever came of log(1 + C), C = Σ true P(consume) of their items in the round",
        _provider_welfare, "Providers' welfare", "two_sides", "higher"),
    Measure("nash_welfare", "product", "users' welfare × providers' welfare",
        lambda f: _user_welfare(f) * _provider_welfare(f), "Nash product of welfare", "two_sides", "higher"),
    Measure("ee_d", "index", "EE-D = Σ_g ε_g², ε = shares of providers in exposure, in the unit of the guarantee",
        lambda f: two_sides.expected_exposure(_provider_exposure(f), _merit(f)).disparity,
        "EE-D", "two_sides", "lower"),
    Measure("ee_r", "index", "EE-R = 2·Σ_g ε_g·ε*_g, ε* = shares of providers in the warm-up log's events",
        lambda f: two_sides.expected_exposure(_provider_exposure(f), _merit(f)).relevance,
        "EE-R", "two_sides", "higher"),
    Measure("ee_l", "index", "EE-L = Σ_g (ε_g − ε*_g)²",
        lambda f: two_sides.expected_exposure(_provider_exposure(f), _merit(f)).loss, "EE-L", "two_sides", "lower"),
    Measure("awrf", "index",
        "1 − JS(ε, p) (base 2), p = shares of providers that ever came in the catalogue's items",
        lambda f: two_sides.awrf(_provider_exposure(f), np.where(f.came, _of_providers(f), 0.0)),
        "AWRF", "two_sides", "higher"),
    Measure("aplt", "share", "mean over slates of the share of items outside the head that has 80% of logged events",
        lambda f: two_sides.long_tail_share(f.slates, two_sides.long_tail(f.popularity)),
        "APLT", "two_sides", "higher"),
    Measure("bound", "model score",
        "least D(w) = Σ_x Σ_r w_r·(r-th largest (s − v)₊) + v₋·b + v₊·most over the v of the round "
        "in hindsight; no slates within caps are worth more",
        lambda f: f.bound, "Dual bound", "allocation"),
    Measure("gap", "share", "(D − V) / |D|; none where a cap is exceeded",
        lambda f: f.gap, "Certified gap", "allocation", "lower"),
)  # fmt: skip
