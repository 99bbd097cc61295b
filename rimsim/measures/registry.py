"""The register of measures: every metric of the tables, each one entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Bools, Floats
from rimsim.errors import ConfigError, nearest
from rimsim.measures.adoption import adopted_share, adoption_median
from rimsim.measures.exposure import (
    average_popularity,
    coverage,
    effective_items,
    examined_shortfall,
    excess,
    gini,
    items_met,
    perplexity,
    prices_at_bound,
    shortfall,
    shortfall_units,
    worst_ratio,
)
from rimsim.measures.loop import genre_drift, jaccard, sample_pairs, sessions_per_user
from rimsim.measures.measure import Measure
from rimsim.measures.relevance import ndcg, penalised_value, per_slate, precision, recall
from rimsim.measures.reliability import calibration_ratio
from rimsim.measures.two_sides import (
    awrf,
    expected_exposure,
    long_tail,
    long_tail_share,
    provider_consumptions,
    provider_exposure,
    provider_welfare,
)

if TYPE_CHECKING:
    from rimsim.measures.facts import RoundFacts


_PAIRS = 1000
"""Pairs of arrivals that ``jaccard`` compares."""


def _merit(facts: RoundFacts) -> Floats:
    """(G,) events of each provider's items in the warm-up log: what its share of exposure is held against."""
    return np.bincount(facts.provider, facts.popularity, len(facts.there)).astype(np.float64)


def _items(facts: RoundFacts) -> Floats:
    """(G,) items of each provider that came, whether it is still there or not."""
    return np.where(facts.came, np.bincount(facts.provider, minlength=len(facts.there)), 0.0)


def _user_welfare(facts: RoundFacts) -> float:
    return float(facts.probability.sum())


def _provider_welfare(facts: RoundFacts) -> float:
    return provider_welfare(provider_consumptions(facts)[facts.came])


def _value(worth: Floats | Bools, facts: RoundFacts) -> float:
    """Σ worth − c for each exposure that items, groups and campaigns miss, and for each above a cap."""
    return penalised_value(
        worth,
        np.concatenate([facts.delivered, facts.counted]),
        np.concatenate([facts.required, facts.least]),
        facts.cost,
        np.concatenate([np.full(facts.n_items, np.inf), facts.most]),
    )


_ALL = (
    Measure("precision", "share", "Σ hits / (n·k)",
        lambda f: precision(f.consumed), "Precision", "relevance", "higher"),
    Measure("recall", "share", "mean of hits / relevant (counted, or λ*(x)), over arrivals with a relevant item",
        lambda f: recall(f.consumed, f.relevant), "Recall", "relevance", "higher"),
    Measure("ndcg", "share",
        "mean of Σ_hits 1/log₂(r+1) / the same of the ideal slate, over arrivals with a relevant item",
        lambda f: ndcg(f.consumed, f.relevant) if f.counts_items else None, "NDCG", "relevance", "higher"),
    Measure("utility", "expected consumptions per slate",
        "mean over arrivals of Σ_r true P(consume y_r at position r)",
        lambda f: per_slate(f.probability), "Utility", "relevance", "higher"),
    Measure("consumptions", "consumptions per slate", "mean over arrivals of Σ_r consumed",
        lambda f: per_slate(f.consumed), "Consumptions", "relevance", "higher"),
    Measure("coverage", "share", "#{y: E_y > 0} / M",
        lambda f: coverage(f.exposure), "Catalogue coverage", "exposure", "higher"),
    Measure("gini", "index", "Σ_i (2i − M − 1)·E_(i) / (M·ΣE), E ascending, zeros included",
        lambda f: gini(f.exposure), "Gini of exposure", "exposure", "lower"),
    Measure("perplexity", "items", "exp(−Σ p ln p), p = E/ΣE",
        lambda f: perplexity(f.exposure), "Exposure perplexity", "exposure", "higher"),
    Measure("average_popularity", "× catalogue mean", "(Σ E·q / ΣE) / (Σ q / M), q = popularity at round 0",
        lambda f: average_popularity(f.exposure, f.popularity), "Popularity of shown items", "exposure"),
    Measure("shortfall", "share", "Σ (b − E)₊ / Σ b, E and b counted as positions; 0 if Σ b = 0",
        lambda f: shortfall(f.exposure, f.required_positions), "Undelivered, as shown", "guarantee", "lower"),
    Measure("examined_shortfall", "share", "Σ (b̃ − Ẽ)₊ / Σ b̃, Ẽ = Σ γ^(r−1), b̃ = b·mean_r γ^(r−1)",
        lambda f: examined_shortfall(f.slates, f.required_positions, f.gamma),
        "Undelivered, as examined", "guarantee", "lower"),
    Measure("shortfall_units", "exposures", "Σ (b − E)₊ in the unit of the guarantee (`exposure.unit`)",
        lambda f: shortfall_units(f.delivered, f.required), "Missing exposures", "guarantee", "lower"),
    Measure("items_met", "share", "#{y: E ≥ b > 0} / #{y: b > 0} in the unit of the guarantee",
        lambda f: items_met(f.delivered, f.required), "Guarantees met", "guarantee", "higher"),
    Measure("worst_ratio", "exposures per required one", "min E/b over b > 0 in the unit of the guarantee",
        lambda f: worst_ratio(f.delivered, f.required), "Worst delivery", "guarantee", "higher"),
    Measure("prices_at_bound", "share", "#{y: v_y = −c, b_y > 0} / #{y: b_y > 0} at the round's end",
        lambda f: None if f.item_price is None else prices_at_bound(f.item_price, f.required, f.cost),
        "Prices at the bound", "guarantee", "lower"),
    Measure("promises_missed", "share", "Σ (least − E)₊ / Σ least over groups and campaigns, in that unit",
        lambda f: shortfall(f.counted, f.least) if f.least.any() else None,
        "Undelivered groups and campaigns", "guarantee", "lower"),
    Measure("excess", "exposures", "Σ (E − most)₊ over caps, in that unit",
        lambda f: excess(f.counted, f.most) if np.isfinite(f.most).any() else None,
        "Exposures above caps", "guarantee", "lower"),
    Measure("effective_items", "items", "N(N−1) / Σ n(n−1), n = consumptions per item in the round, N = Σ n",
        lambda f: effective_items(f.consumption), "Effective consumed items", "loop", "higher"),
    Measure("log_gini", "index", "Gini of events per item in the log that the platform trains on",
        lambda f: gini(f.log_counts), "Gini of the training log", "loop", "lower"),
    Measure("jaccard", "index", "mean of |A ∩ B| / |A ∪ B| over a fixed sample of pairs of arrivals",
        lambda f: jaccard(f.slates, sample_pairs(len(f.slates), _PAIRS, f.seed, f.user)),
        "Likeness of slates", "loop", "lower"),
    Measure("genre_drift", "bits",
        "Jensen-Shannon divergence (base 2) of genre shares of exposure, now and in round 0",
        lambda f: genre_drift(f.exposure, f.first_exposure, f.genre_weights), "Genre drift", "loop"),
    Measure("sessions_per_user", "arrivals", "arrivals / distinct users among them",
        lambda f: sessions_per_user(f.user), "Sessions per user", "loop", "higher"),
    Measure("adopted", "share", "#{released items consumed at least once so far} / #{items released so far}",
        lambda f: None if f.adoption is None else adopted_share(f.adoption),
        "Released items adopted", "loop", "higher"),
    Measure("adoption_median", "arrivals", "Kaplan-Meier median of arrivals from release to the m-th consumption",
        lambda f: None if f.adoption is None else adoption_median(f.adoption),
        "Median adoption time", "loop", "lower"),
    Measure("estimated_decay", "share per position", "γ̂, as the platform estimates it from its rounds so far",
        lambda f: f.estimated_decay, "Estimated decay of examination", "loop"),
    Measure("decay_error", "share per position", "half the 95 % interval of γ̂",
        lambda f: f.decay_error, "Error of the estimated decay", "loop", "lower"),
    Measure("calibration_ratio", "predicted per actual consumption",
        "Σ (1 − exp(−λ(x,y)·a·γ^(r−1))) / Σ consumed over shown items, λ of the serving model; γ = a = 1 in a replay",
        lambda f: calibration_ratio(f.intensity, f.consumed, f.examination), "Predicted / actual consumptions", "loop"),
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
    Measure("catalogue_on_offer", "share", "#{y: its provider is in the market} / M",
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
        lambda f: expected_exposure(provider_exposure(f), _merit(f)).disparity, "EE-D", "two_sides", "lower"),
    Measure("ee_r", "index", "EE-R = 2·Σ_g ε_g·ε*_g, ε* = shares of providers in the warm-up log's events",
        lambda f: expected_exposure(provider_exposure(f), _merit(f)).relevance, "EE-R", "two_sides", "higher"),
    Measure("ee_l", "index", "EE-L = Σ_g (ε_g − ε*_g)²",
        lambda f: expected_exposure(provider_exposure(f), _merit(f)).loss, "EE-L", "two_sides", "lower"),
    Measure("awrf", "index",
        "1 − JS(ε, p) (base 2), p = shares of providers that ever came in the catalogue's items",
        lambda f: awrf(provider_exposure(f), _items(f)), "AWRF", "two_sides", "higher"),
    Measure("aplt", "share", "mean over slates of the share of items outside the head that has 80 % of logged events",
        lambda f: long_tail_share(f.slates, long_tail(f.popularity)), "APLT", "two_sides", "higher"),
    Measure("bound", "model score",
        "least D(w) = Σ_x Σ_r w_r·(r-th largest (s − v)₊) + v₋·b + v₊·most over the v of the round "
        "in hindsight; no slates within caps are worth more",
        lambda f: f.bound, "Dual bound", "allocation"),
    Measure("gap", "share", "(D − V) / |D|; none where a cap is exceeded",
        lambda f: f.gap, "Certified gap", "allocation", "lower"),
)  # fmt: skip

MEASURES: Mapping[str, Measure] = MappingProxyType({measure.name: measure for measure in _ALL})
"""Every built-in measure by the name of its metric, in the order of the documentation."""


def find_measure(name: str, among: Mapping[str, Measure] = MEASURES) -> Measure:
    """The measure of that name.

    Raises:
        ConfigError: If there is none; the message names the nearest.
    """
    if name not in among:
        raise ConfigError(f"metric {name!r} is unknown.{nearest(name, among)}")
    return among[name]


def measured(facts: RoundFacts, measures: Iterable[Measure] = MEASURES.values()) -> dict[str, float]:
    """Metric name → value of each measure that has one in a round.

    Raises:
        MeasureError: If a measure raised, or returned something that is no number.
    """
    values = {measure.name: measure.value(facts) for measure in measures}
    return {name: value for name, value in values.items() if value is not None}


def markdown_table() -> str:
    """The table of all measures as it stands in ``docs/measures.md``."""
    lines = ["| metric | title | group | formula | unit | better |", "|---|---|---|---|---|---|"]
    for measure in MEASURES.values():
        row = (
            f"`{measure.name}`",
            measure.title,
            measure.group,
            measure.formula.replace("|", "\\|"),
            measure.unit,
            "–" if measure.better == "neither" else measure.better,
        )
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"
