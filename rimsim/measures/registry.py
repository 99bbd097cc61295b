"""The register of measures: the metric names of the tables, each with its formula, unit and place."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

from rimsim.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MEASURES", "Better", "Measure", "find_measure", "markdown_table", "tag"]

Better: TypeAlias = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Measure:
    """One metric of the tables."""

    name: str
    """Metric name in the tables."""
    title: str
    """For the axis of a picture."""
    group: str
    """First half of the TensorBoard tag ``group/name``."""
    unit: str
    """Unit; ``share`` = a part of 1, written in per cent; ``index`` = from 0 to 1, but no part."""
    better: Better
    """Which direction is good, if one is."""
    function: str
    """The function that computes it: a name in ``rimsim.measures``, or a dotted path elsewhere."""
    formula: str
    """One line."""


_ALL = (
    Measure("precision", "Precision", "relevance", "share", "higher", "precision", "Σ hits / (n·k)"),
    Measure("recall", "Recall", "relevance", "share", "higher", "recall",
        "mean of hits / relevant (counted, or λ*(x)), over arrivals with a relevant item"),
    Measure("ndcg", "NDCG", "relevance", "share", "higher", "ndcg",
        "mean of Σ_hits 1/log₂(r+1) / the same of the ideal slate, over arrivals with a relevant item"),
    Measure("utility", "Utility", "relevance", "expected consumptions per slate", "higher", "per_slate",
        "mean over arrivals of Σ_r true P(consume y_r at position r)"),
    Measure("utility_share", "Utility / oracle", "relevance", "share", "higher", "utility_share",
        "utility / utility of the oracle, same round and seed"),
    Measure("consumptions", "Consumptions", "relevance", "consumptions per slate", "higher", "per_slate",
        "mean over arrivals of Σ_r consumed"),
    Measure("coverage", "Catalogue coverage", "exposure", "share", "higher", "coverage", "#{y: E_y > 0} / M"),
    Measure("gini", "Gini of exposure", "exposure", "index", "lower", "gini",
        "Σ_i (2i − M − 1)·E_(i) / (M·ΣE), E ascending, zeros included"),
    Measure("perplexity", "Exposure perplexity", "exposure", "items", "higher", "perplexity",
        "exp(−Σ p ln p), p = E/ΣE"),
    Measure("average_popularity", "Popularity of shown items", "exposure", "× catalogue mean", "neither",
        "average_popularity", "(Σ E·q / ΣE) / (Σ q / M), q = popularity at round 0"),
    Measure("shortfall", "Undelivered guarantees", "guarantee", "share", "lower", "shortfall",
        "Σ (b − E)₊ / Σ b; 0 if Σ b = 0"),
    Measure("shortfall_units", "Missing exposures", "guarantee", "exposures", "lower", "shortfall_units",
        "Σ (b − E)₊"),
    Measure("examined_shortfall", "Undelivered looks", "guarantee", "share", "lower", "examined_shortfall",
        "Σ (b̃ − Ẽ)₊ / Σ b̃, Ẽ = Σ γ^(r−1), b̃ = b·mean_r γ^(r−1)"),
    Measure("items_met", "Guarantees met", "guarantee", "share", "higher", "items_met",
        "#{y: E ≥ b > 0} / #{y: b > 0}"),
    Measure("worst_ratio", "Worst delivery", "guarantee", "exposures per required one", "higher",
    "worst_ratio",
        "min E/b over b > 0"),
    Measure("effective_items", "Effective consumed items", "loop", "items", "higher", "effective_items",
        "N(N−1) / Σ n(n−1), n = consumptions per item in the round, N = Σ n"),
    Measure("log_gini", "Gini of the training log", "loop", "index", "lower", "gini",
        "Gini of events per item in the log that the platform trains on"),
    Measure("jaccard", "Likeness of slates", "loop", "index", "lower", "jaccard",
        "mean of |A ∩ B| / |A ∪ B| over a fixed sample of pairs of arrivals"),
    Measure("genre_drift", "Genre drift", "loop", "bits", "neither", "genre_drift",
        "Jensen-Shannon divergence (base 2) of genre shares of exposure, now and in round 0"),
    Measure("sessions_per_user", "Sessions per user", "loop", "arrivals", "higher", "sessions_per_user",
        "arrivals / distinct users among them"),
    Measure("adoption_median", "Median adoption time", "loop", "arrivals", "lower", "adoption_median",
        "Kaplan-Meier median of arrivals from release to the m-th consumption"),
    Measure("value_model", "Value (model)", "allocation", "model score", "higher", "penalised_value",
        "Σ model score − c·Σ (b − E)₊"),
    Measure("value_true", "Value (true)", "allocation", "true intensity", "higher", "penalised_value",
        "Σ true intensity − c·Σ (b − E)₊"),
    Measure("return", "Return", "allocation", "consumptions", "higher", "penalised_value",
        "Σ consumed − c·Σ (b − E)₊"),
    Measure("bound", "Dual bound", "allocation", "model score", "neither", "rimsim.matching.certificate",
        "least D(w) = Σ_x TopSum_k(s + w)₊ − w·b over w = −v of the agent and of the round solved in hindsight"),
    Measure("gap", "Certified gap", "allocation", "share", "lower", "relative_gap", "(D − V) / |D|"),
)  # fmt: skip

MEASURES: Mapping[str, Measure] = MappingProxyType({measure.name: measure for measure in _ALL})
"""Every metric of the tables by name, in the order of the documentation."""


def find_measure(name: str) -> Measure:
    """The measure of that name.

    Raises:
        ConfigError: If there is none; the message names the nearest.
    """
    if name not in MEASURES:
        raise ConfigError(f"metric {name!r} is unknown.{nearest(name, MEASURES)}")
    return MEASURES[name]


def tag(name: str) -> str:
    """TensorBoard tag of a metric, ``group/name``.

    Raises:
        ConfigError: If there is no such metric.
    """
    return f"{find_measure(name).group}/{name}"


def markdown_table() -> str:
    """The table of all measures as it stands in ``docs/measures.md``."""
    lines = ["| metric | group | formula | unit | better | function |", "|---|---|---|---|---|---|"]
    for measure in MEASURES.values():
        formula = measure.formula.replace("|", "\\|")
        row = (
            f"`{measure.name}`",
            measure.group,
            formula,
            measure.unit,
            "–" if measure.better == "neither" else measure.better,
            f"`{measure.function}`",
        )
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"
