"""Measures, built-in or your own, and facts that they read."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.data.log import prices_of
from rimsim.entry_points import places
from rimsim.errors import ConfigError, MeasureError, has_type, nearest, one_line, refuse, require_known
from rimsim.measures import exposure, loop, relevance, two_sides
from rimsim.measures.exposure import exposure_counts, mean_weight, weighted_exposure
from rimsim.measures.loop import AdoptionTimes
from rimsim.plugs import imported, own_code, without_name
from rimsim.renamed import renamed_attribute
from rimsim.rng import Purpose, generator

if TYPE_CHECKING:
    import pandas as pd

Better: TypeAlias = Literal["higher", "lower", "neither"]
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LINE = re.compile(r"\S.*")


@dataclass(frozen=True)
class Measure:
    """Measure whose values are in tables, TensorBoard and pictures.

    Example:
        >>> from rimsim.measures import Measure
        >>> empty = Measure("empty", "share", "#{positions: -1} / (n·k)", of=lambda facts: (facts.slates < 0).mean())
        >>> empty.tag
        'own/empty'
    """

    name: str
    unit: str
    """Unit; ``share`` = a part of 1, written in per cent; ``index`` = from 0 to 1, but no part."""
    formula: str
    """One line."""
    of: Callable[[RoundFacts], float | None]
    """The value in a round; None where the round has none, which leaves a gap."""
    title: str = ""
    """For the axis of a picture; empty: made of the name."""
    group: str = "own"
    """First half of the TensorBoard tag ``group/name``."""
    better: Better = "neither"
    """Direction that is good, if there is one."""
    band: int = 0
    """Place among the bands over seeds on TensorBoard's page; 0: none. A user's own measures always have a band."""
    retrained: bool = False
    """True if TensorBoard shows the parts of its change by retraining, as for a user's own measures."""

    def __post_init__(self) -> None:
        for field, allowed in (("name", _WORD), ("group", _WORD), ("unit", _LINE), ("formula", _LINE)):
            text = getattr(self, field)
            if not isinstance(text, str) or not allowed.fullmatch(text):
                words = (
                    "letters, digits and _, beginning with a letter" if allowed is _WORD else "a line of text"
                )
                self._refuse(f"{field} is {text!r}", words)
        if self.better not in get_args(Better):
            self._refuse(f"better is {self.better!r}", ", ".join(get_args(Better)))
        if not has_type(self.of, Callable):  # type: ignore[arg-type]  # an abstract class
            self._refuse(f"of is a {type(self.of).__name__}", "a function of a round's record")
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " ").capitalize())

    def _refuse(self, found: str, allowed: str) -> None:
        refuse(ConfigError, f"measure {self.name!r}", found, allowed)

    @property
    def tag(self) -> str:
        """TensorBoard tag, ``group/name``."""
        return f"{self.group}/{self.name}"

    def value(self, facts: RoundFacts) -> float | None:
        """Value in a round; None if not finite."""
        try:
            result = self.of(facts)
        except Exception as error:  # whatever a user's function does
            raise MeasureError(
                f"measure {self.name!r} raised {type(error).__name__} in round {facts.round}: "
                f"{one_line(error)}"
            ) from error
        if result is None:
            return None
        if not has_type(result, Real):
            raise MeasureError(
                f"measure {self.name!r} returned a {type(result).__name__}. Expected a number, or None "
                "for a round without a value"
            )
        number = float(result)
        return number if math.isfinite(number) else None


@dataclass(frozen=True, eq=False)
class RoundFacts:
    """Round of one agent at one seed, for measures.

    There are n arrivals with k positions each, over a catalogue of M items. Arrays are read-only, because the market
    uses them too.
    """

    round: int
    """Number of the round, from 0."""
    seed: int
    """Seed of the arm; all agents at a seed see the same arrivals and random numbers."""
    slates: NDArray[np.integer]
    """(n, k) items shown, in order of position; −1 where a position stayed empty. Rows are arrivals by time."""
    consumed: Bools
    """(n, k) consumed items."""
    probability: Floats
    """(n, k) true probability of consumption; 0 where a position is empty."""
    true_intensity: Floats
    """(n, k) true λ*(x)·p*(y|x) of what was shown; 0 where a position is empty."""
    intensity: Float32s
    """(n, k) the platform's λ(x,y) at the decision; NaN where a position is empty."""
    price: Float32s
    """(n, k) item price v at the decision; NaN for an agent without prices."""
    propensity: Float32s
    """(n, k) inclusion probability at the decision; NaN for a deterministic agent."""
    user: Ints
    """(n,) visitor of each arrival."""
    time: Floats
    """(n,) time of each arrival, seconds on the market's clock."""
    history: Ints
    """(n,) events in each visitor's state; 0 on a first visit."""
    ground_intensity: Float32s
    """(n,) the platform's λ(x)."""
    relevant: Floats
    """(n,) items that the arrival would have consumed of a catalogue shown whole."""
    counts_items: bool
    """True if ``relevant`` counts items (a replay); otherwise it is an expectation, λ*(x)."""
    required: Floats
    """(M,) required exposures b, in the unit of the guarantee."""
    position_weights: Floats
    """(k,) what an exposure at each position counts in that unit: γ^(r−1) where it is examined, 1 where it is shown."""
    min_exposure: Floats
    """(J,) exposures that each other requirement (group, campaign, cap) asks for at least, in that unit; 0: none."""
    max_exposure: Floats
    """(J,) exposures that it allows at most, in that unit; ∞: any number."""
    counted: Floats
    """(J,) exposures that counted for it, in that unit."""
    first_exposure: Ints
    """(M,) exposures in round 0 of the same arm."""
    log_counts: Ints
    """(M,) events of each item in the log that the platform trains on at the round's end."""
    popularity: Ints
    """(M,) events of each item in the log at the market's opening: a ruler that the loop does not bend."""
    release: Floats
    """(M,) release of each item, seconds on the market's clock; −∞ = it has always been there."""
    genre_weights: Floats
    """(M, G) share of each genre in each item, from :func:`rimsim.measures.genre_weights`."""
    provider: Ints
    """(M,) provider of each item, from 0 to G − 1; items themselves where nobody leaves."""
    there: Bools
    """(G,) providers that were in the market."""
    came: Bools
    """(G,) providers that have come by now, also those that left since."""
    sold: Ints
    """(M,) consumptions of each item in this round and those before it."""
    items: pd.DataFrame
    """The item table of the log, M rows: ``id``, ``title``, ``genres``, ``year``, ``release``."""
    cost: float
    """c, the cost of one exposure of shortfall, in units of intensity."""
    decay: float
    """γ, the chance that the next position is examined; 1 in a replay, which sees all positions."""
    attraction: float = 1.0
    """a, the factor of consumers on the intensity of an item that is examined."""
    item_price: Floats | None = None
    """(M,) item prices v at the round's end; None for an agent without prices."""
    adoption: AdoptionTimes | None = None
    """Times to the first consumption, up to this round's end, of the items released so far; None without any."""
    value_model: float | None = None
    """Σ w_r·model score − c·(what is missing, and what is above caps); None without certificates, as the next two."""
    bound: float | None = None
    """D(w), lowest computed upper bound of the value V of any slates that keep all caps."""
    gap: float | None = None
    """``(D − V) / |D|``; None where a cap is exceeded."""
    estimated_decay: float | None = None
    """γ of examination as the platform estimates it at the round's end; None where it is given or unknown."""
    decay_error: float | None = None
    """Half the 95% interval of that estimate."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                guarded = value.view()
                guarded.flags.writeable = False
                object.__setattr__(self, field.name, guarded)

    @property
    def n_items(self) -> int:
        """Size of the catalogue, M."""
        return len(self.required)

    gamma = renamed_attribute("gamma", "decay")

    @property
    def on_offer(self) -> Bools:
        """Mask of items, released or not, whose provider is present."""
        return np.asarray(self.there[self.provider], np.bool_)

    @property
    def examination(self) -> Floats:
        """Factors a·γ^(r−1) by which positions multiply an intensity."""
        positions = self.slates.shape[1]
        if self.counts_items:  # a replay, which sees all positions
            return np.ones(positions)
        return np.asarray(self.attraction * self.decay ** np.arange(positions), np.float64)

    @cached_property
    def exposure(self) -> Ints:
        """Exposures E of each item."""
        return exposure_counts(self.slates, self.n_items)

    @property
    def required_positions(self) -> Floats:
        """Required exposures of each item, at average positions."""
        return np.asarray(self.required / mean_weight(self.position_weights), np.float64)

    @cached_property
    def delivered(self) -> Floats:
        """Exposures of each item, in the unit of the guarantee."""
        return weighted_exposure(self.slates, self.position_weights, self.n_items)

    @cached_property
    def consumption(self) -> Ints:
        """Consumptions of each item."""
        return np.bincount(self.slates[self.consumed], minlength=self.n_items)


# -- the measures -----------------------------------------------------------------------------------------------------
_PAIRS = 1000  # pairs of arrivals that ``jaccard`` compares
_DAY = 86_400.0
_DECAY = 0.8  # of made-up rounds
_RECORDED = ("name", "unit", "formula", "title", "group", "better")  # fields of a measure in a run folder


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
    return float(facts.probability.sum())


def _provider_welfare(facts: RoundFacts) -> float:
    filled = facts.slates >= 0
    owner = facts.provider[facts.slates[filled]]
    consumptions = np.bincount(owner, facts.probability[filled], len(facts.there)).astype(np.float64)
    return two_sides.provider_welfare(consumptions[facts.came])


def _revenue(facts: RoundFacts) -> float | None:
    price = prices_of(facts.items)
    return None if price is None else relevance.per_slate(price[facts.slates] * facts.consumed)


def _value(worth: Floats | Bools, facts: RoundFacts) -> float:
    """Total worth minus c times the missing and excess exposures."""
    return relevance.penalised_value(
        worth,
        np.concatenate([facts.delivered, facts.counted]),
        np.concatenate([facts.required, facts.min_exposure]),
        facts.cost,
        np.concatenate([np.full(facts.n_items, np.inf), facts.max_exposure]),
    )


_ALL = (
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
    Measure("revenue", "revenue per slate", "mean over arrivals of Σ_r price of consumed items; none without prices",
        _revenue, "Revenue", "relevance", "higher"),
    Measure("coverage", "share", "#{y: E_y > 0} / M",
        lambda f: exposure.coverage(f.exposure), "Catalogue coverage", "exposure", "higher", band=4, retrained=True),
    Measure("gini", "index", "Σ_i (2i − M − 1)·E_(i) / (M·ΣE), E ascending, zeros included",
        lambda f: exposure.gini(f.exposure), "Gini of exposure", "exposure", "lower", band=7),
    Measure("perplexity", "items", "exp(−Σ p ln p), p = E/ΣE",
        lambda f: exposure.perplexity(f.exposure), "Exposure perplexity", "exposure", "higher", band=6),
    Measure("average_popularity", "× catalogue mean", "(Σ E·q / ΣE) / (Σ q / M), q = popularity at round 0",
        lambda f: exposure.average_popularity(f.exposure, f.popularity), "Popularity of shown items", "exposure"),
    Measure("shortfall", "share", "Σ (b − E)₊ / Σ b, E and b counted as positions; 0 if Σ b = 0",
        lambda f: exposure.shortfall(f.exposure, f.required_positions),
        "Undelivered (shown)", "guarantee", "lower", band=3),
    Measure("examined_shortfall", "share", "Σ (b̃ − Ẽ)₊ / Σ b̃, Ẽ = Σ γ^(r−1), b̃ = b·mean_r γ^(r−1)",
        lambda f: exposure.examined_shortfall(f.slates, f.required_positions, f.decay),
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
    Measure("promises_missed", "share", "Σ (least − E)₊ / Σ least over groups and campaigns, in that unit",
        lambda f: exposure.shortfall(f.counted, f.min_exposure) if f.min_exposure.any() else None,
        "Undelivered groups and campaigns", "guarantee", "lower"),
    Measure("excess", "exposures", "Σ (E − most)₊ over caps, in that unit",
        lambda f: exposure.excess(f.counted, f.max_exposure) if np.isfinite(f.max_exposure).any() else None,
        "Exposures above caps", "guarantee", "lower"),
    Measure("effective_items", "items", "N(N−1) / Σ n(n−1), n = consumptions per item in the round, N = Σ n",
        lambda f: exposure.effective_items(f.consumption),
        "Effective consumed items", "loop", "higher", band=5, retrained=True),
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

MEASURES: Mapping[str, Measure] = MappingProxyType({measure.name: measure for measure in _ALL})
"""Every built-in measure by the name of its metric, in the order of the documentation."""


def find_measure(name: str, among: Mapping[str, Measure] = MEASURES) -> Measure:
    """Measure with a given name; unknown names are refused."""
    require_known("metric {} is unknown", [name], among)
    return among[name]


def measured(facts: RoundFacts, measures: Iterable[Measure] = MEASURES.values()) -> dict[str, float]:
    """Values of measures by name, without those that are undefined."""
    values = {measure.name: measure.value(facts) for measure in measures}
    return {name: value for name, value in values.items() if value is not None}


def own_measures(places: Sequence[str]) -> dict[str, Measure]:
    """Your own measures, imported from their places.

    A place is ``path/to/file.py:name`` or ``module:name`` of a :class:`Measure`. Two measures cannot have the same
    name.
    """
    measures: dict[str, Measure] = {}
    for place in places:
        if place in measures:
            raise ConfigError(f"measure {place!r} is given twice. Give it once")
        measure = _measure(place)
        names = {other.name: there for there, other in measures.items()}
        if measure.name in MEASURES or measure.name in names:
            which = repr(names[measure.name]) if measure.name in names else "a built-in measure"
            raise ConfigError(
                f"measure {place!r} is called {measure.name!r}, which is the name of {which}. Choose another name"
            )
        measures[place] = measure
    return measures


def _measure(place: str) -> Measure:
    if place in MEASURES:
        raise ConfigError(
            f"measure {place!r} is built in, so every run has it. Give a measure of your own as file.py:name"
        )
    if place.endswith(".py"):
        raise without_name(place, "measure", Measure)
    installed = places("measures")
    if ":" not in place and place not in installed:
        near = nearest(place, installed) if installed else ""
        raise ConfigError(f"measure {place!r} is unknown.{near} Give a measure of your own as file.py:name")
    measure: Measure = imported(installed.get(place, place), "measure", Measure)
    return measure


def try_measures(measures: Mapping[str, Measure], items: pd.DataFrame, slate: int) -> None:
    """Compute measures on made-up rounds, before anything runs.

    Raises:
        MeasureError: If a measure raised an error (the message has the line) or did not return a number.
    """
    if not measures:
        return
    usual, empty = (made_up_round(items, slate=slate, filled=share) for share in (0.9, 0.0))
    for place, measure in measures.items():
        with own_code([place]), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measure.value(empty)
            if measure.value(usual) is None and (found := measure.of(usual)) is not None:
                raise MeasureError(
                    f"measure {place!r} returned {found} for a made-up round. Expected a finite number, "
                    "or None for a round without a value"
                )


def records(measures: Mapping[str, Measure]) -> dict[str, dict[str, str]]:
    """Fields of each measure except its function, by its name."""
    return {
        place: {field: getattr(measure, field) for field in _RECORDED} for place, measure in measures.items()
    }


def recorded(record: Mapping[str, Any]) -> Measure:
    """Measure restored from the record of a run folder.

    Raises:
        MeasureError: If the record is not one that :func:`records` made.
    """
    fields = {field.name for field in dataclasses.fields(Measure)} - {"of"}
    if not has_type(record, Mapping) or not {"name", "unit", "formula"} <= record.keys() <= fields:
        found = sorted(map(str, record)) if has_type(record, Mapping) else repr(record)
        raise MeasureError(f"measures: found {found}, which is no record of a measure")
    return Measure(of=_from_the_tables, **record)


def _from_the_tables(_: RoundFacts) -> float | None:
    raise MeasureError(
        "a measure that was read from a run folder cannot be computed again. Read its values from the tables"
    )


def made_up_round(
    items: pd.DataFrame,
    *,
    arrivals: int = 24,
    slate: int = 4,
    seed: int = 0,
    filled: float = 0.9,
    complete: bool = True,
) -> RoundFacts:
    """Round of random slates and consumptions over a catalogue.

    Your own measures are tried on made-up rounds before a run begins. ``filled`` is the share of positions
    with an item. A ``complete`` round has released items, counts of relevant items and a certificate.
    """
    draw = generator(seed, Purpose.MEASURE, arrivals, slate)
    n = arrivals
    m = len(items)
    chosen = np.argsort(draw.random((n, m)), axis=1)[:, :slate]
    shown = draw.random(chosen.shape) < filled
    probability = np.where(shown, draw.random(chosen.shape), 0.0)
    consumed = draw.random(chosen.shape) < probability
    time = np.sort(1e9 + 7 * _DAY * draw.random(n))
    released = (draw.random(m) < 0.25) & complete
    first = draw.poisson(n * slate / m, m)
    number = int(released.sum())
    came = draw.random(m) < (0.9 if complete else 1.0)
    weights = exposure.position_weights(_DECAY, slate)
    return RoundFacts(
        round=1,
        seed=seed,
        slates=np.where(shown, chosen, -1).astype(np.int32),
        consumed=consumed,
        probability=probability,
        true_intensity=-np.log1p(-probability),
        intensity=np.where(shown, draw.random(chosen.shape), np.nan).astype(np.float32),
        price=np.where(shown, -draw.random(chosen.shape), np.nan).astype(np.float32),
        propensity=np.where(shown, 1 - draw.random(chosen.shape), np.nan).astype(np.float32),
        user=draw.integers(0, max(1, n // 2), n),
        time=time,
        history=draw.poisson(1.0, n),
        ground_intensity=draw.gamma(2.0, 5.0, n).astype(np.float32),
        relevant=(consumed.sum(axis=1) + draw.poisson(1.0, n) + (0.0 if complete else 0.5)).astype(
            np.float64
        ),
        counts_items=complete,
        required=draw.poisson(n * slate / (2 * m), m).astype(np.float64) * exposure.mean_weight(weights),
        position_weights=weights,
        min_exposure=draw.poisson(n * slate / 4, 2).astype(np.float64) if complete else np.zeros(0),
        max_exposure=np.array([np.inf, n * slate / 8]) if complete else np.zeros(0),
        counted=draw.poisson(n * slate / 4, 2).astype(np.float64) if complete else np.zeros(0),
        first_exposure=first,
        log_counts=first + draw.poisson(5.0, m),
        popularity=draw.poisson(20.0, m),
        release=np.where(released, 1e9 - 30 * _DAY * draw.random(m), -np.inf),
        genre_weights=loop.genre_weights([str(text) for text in items["genres"]])[0],
        provider=np.arange(m),
        there=came & (draw.random(m) < (0.8 if complete else 1.0)),
        came=came,
        sold=np.bincount(chosen[consumed], minlength=m) + draw.poisson(0.5, m),
        items=items,
        cost=float(draw.random()),
        decay=_DECAY,
        item_price=-draw.random(m) if complete else None,
        adoption=loop.AdoptionTimes(draw.integers(1, n + 2, number), draw.random(number) < 0.7)
        if number
        else None,
        value_model=float(probability.sum()) if complete else None,
        bound=float(probability.sum()) + 1.0 if complete else None,
        gap=0.5 if complete else None,
        estimated_decay=0.75 if complete else None,
        decay_error=0.25 if complete else None,
    )
