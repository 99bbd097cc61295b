"""Every built-in measure of a made-up round, counted position by position in plain Python."""

import dataclasses
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from rimsim.measures import MEASURES, made_up_round
from rimsim.testing import random_items

N_PROVIDERS = 7


def _round(*, counts_items):
    """A round in which no two facts that a measure could mix up are equal."""
    facts = made_up_round(random_items(20), arrivals=40, filled=0.8)
    price = facts.item_price.copy()
    price[::3] = -facts.cost
    return dataclasses.replace(
        facts,
        counts_items=counts_items,
        relevant=facts.relevant + (0.0 if counts_items else 0.5),
        attraction=1.5,
        decay=0.6,
        item_price=price,
        min_exposure=np.array([15.0, 0.0, 7.0]),
        max_exposure=np.array([np.inf, 30.0, 9.0]),
        counted=np.array([10.5, 50.25, 7.5]),
        due=np.array([12.0, 0.0, 8.5]),
        counted_shown=np.array([11.5, 60.0, 8.0]),
        counted_examined=np.array([9.0, 40.0, 6.5]),
        provider=np.random.default_rng(0).integers(0, N_PROVIDERS, 20),
        sold=facts.sold * (np.arange(20) % 4 > 0),
        there=np.array([True, True, False, True, False, True, False]),
        stays=np.array([True, False, False, True, False, True, False]),
        came=np.array([True, True, True, True, True, True, False]),
        on_offer=np.arange(20) % 7 > 2,
        value_model=3.25,
        bound=4.5,
        gap=0.125,
        estimated_decay=0.71,
        decay_error=0.03,
    )


ROUNDS = {"replay": _round(counts_items=True), "clones": _round(counts_items=False)}


def _positions(facts):
    """Arrival, position and item of everything that was shown."""
    return [(x, r, int(y)) for x, slate in enumerate(facts.slates) for r, y in enumerate(slate) if y >= 0]


def _by_item(facts, amount):
    """Sums over shown positions of some amount, by item."""
    sums = [0.0] * facts.n_items
    for x, r, y in _positions(facts):
        sums[y] += amount(x, r)
    return sums


def _by_provider(facts, amounts):
    sums = [0.0] * N_PROVIDERS
    for y, amount in enumerate(amounts):
        sums[facts.provider[y]] += amount
    return sums


def _exposure(facts):
    return _by_item(facts, lambda x, r: 1)


def _delivered(facts):
    return _by_item(facts, lambda x, r: float(facts.position_weights[r]))


def _consumption(facts):
    return _by_item(facts, lambda x, r: int(facts.consumed[x, r]))


def _missing(exposures, required):
    return sum(max(b - e, 0.0) for e, b in zip(exposures, required, strict=True))


def _shares(amounts):
    return [amount / sum(amounts) for amount in amounts]


def _divergence(first, second):
    return jensenshannon(first, second, base=2) ** 2


def _gini(counts):
    differences = sum(abs(a - b) for a in counts for b in counts)
    return differences / (2 * len(counts) * sum(counts))


def _guaranteed(facts):
    """Delivered and required exposures of each item that has a guarantee."""
    return [(e, b) for e, b in zip(_delivered(facts), facts.required, strict=True) if b > 0]


def _undelivered(facts, weights, counted):
    """Missing part of the exposures that the round adds, over items, groups and campaigns."""
    scale = np.mean(weights) / np.mean(facts.position_weights)
    exposures = [*_by_item(facts, lambda x, r: weights[r]), *counted]
    required = [*facts.required, *facts.min_exposure]
    due = [*facts.due_items, *facts.due]
    missing = sum(max(min(b, a) * scale - e, 0) for e, b, a in zip(exposures, required, due, strict=True))
    return missing / (sum(due) * scale)


def _examined_shortfall(facts):
    return _undelivered(facts, [facts.decay**r for r in range(4)], facts.counted_examined)


def _recall(facts):
    ratios = [sum(hits) / n for hits, n in zip(facts.consumed, facts.relevant, strict=True) if n > 0]
    return sum(ratios) / len(ratios)


def _ndcg(facts):
    if not facts.counts_items:
        return None
    ratios = []
    for hits, n in zip(facts.consumed, facts.relevant, strict=True):
        if n > 0:
            gain = sum(hit / math.log2(r + 2) for r, hit in enumerate(hits))
            ideal = sum(1 / math.log2(r + 2) for r in range(min(len(hits), int(n))))
            ratios.append(gain / ideal)
    return sum(ratios) / len(ratios)


def _jaccard(facts):
    slates = [set(slate[slate >= 0].tolist()) for slate in facts.slates]
    ratios = [
        len(slates[a] & slates[b]) / max(len(slates[a] | slates[b]), 1)
        for b in range(len(slates))
        for a in range(b)
        if facts.user[a] != facts.user[b]
    ]
    assert len(ratios) < 1000  # so that all pairs are compared
    return sum(ratios) / len(ratios)


def _adoption_median(facts):
    alive = Fraction(1)
    times = list(zip(facts.adoption.duration.tolist(), facts.adoption.observed.tolist(), strict=True))
    for time in sorted({duration for duration, observed in times if observed}):
        at_risk = sum(duration >= time for duration, _ in times)
        alive *= 1 - Fraction(times.count((time, True)), at_risk)
        if alive <= Fraction(1, 2):
            return time
    return None


def _calibration(facts, is_counted=lambda history: True):
    predicted = 0.0
    actual = 0
    for x, r, _ in _positions(facts):
        if is_counted(facts.history[x]):
            factor = 1.0 if facts.counts_items else facts.attraction * facts.decay**r
            predicted += 1 - math.exp(-float(facts.intensity[x, r]) * factor)
            actual += int(facts.consumed[x, r])
    return predicted / actual


def _first_visits(facts):
    return _calibration(facts, lambda history: history == 0)


def _returning_visits(facts):
    return _calibration(facts, lambda history: history > 0)


def _excess(facts):
    return sum(max(e - cap, 0.0) for e, cap in zip(facts.counted, facts.max_exposure, strict=True))


def _penalty(facts):
    missing = _missing(_delivered(facts), facts.required) + _missing(facts.counted, facts.min_exposure)
    return facts.cost * (missing + _excess(facts))


def _user_welfare(facts):
    return sum(facts.probability[x, r] for x, r, _ in _positions(facts))


def _provider_welfare(facts):
    sold = _by_provider(facts, _by_item(facts, lambda x, r: facts.probability[x, r]))
    logs = [math.log(1 + amount) for amount, has_come in zip(sold, facts.came, strict=True) if has_come]
    return sum(logs) / len(logs)


def _fairness(facts):
    """Shares of providers in exposure and in the warm-up log."""
    return (
        _shares(_by_provider(facts, _delivered(facts))),
        _shares(_by_provider(facts, facts.popularity.tolist())),
    )


def _awrf(facts):
    catalogue = [
        n if has_come else 0 for n, has_come in zip(_by_provider(facts, [1] * 20), facts.came, strict=True)
    ]
    return 1 - _divergence(_shares(_by_provider(facts, _delivered(facts))), _shares(catalogue))


def _aplt(facts):
    tail = set()
    events = 0
    for y in sorted(range(20), key=lambda y: -facts.popularity[y]):
        if events >= 0.8 * facts.popularity.sum():
            tail.add(y)
        events += facts.popularity[y]
    slates = [slate[slate >= 0].tolist() for slate in facts.slates if (slate >= 0).any()]
    return sum(sum(y in tail for y in slate) / len(slate) for slate in slates) / len(slates)


def _effective_items(facts):
    counts = _consumption(facts)
    return sum(counts) * (sum(counts) - 1) / sum(n * (n - 1) for n in counts)


def _average_popularity(facts):
    exposure = _exposure(facts)
    shown = sum(e * q for e, q in zip(exposure, facts.popularity, strict=True)) / sum(exposure)
    return shown / (sum(facts.popularity) / 20)


def _genre_drift(facts):
    now = np.array(_exposure(facts)) @ facts.genre_weights
    then = facts.first_exposure @ facts.genre_weights
    return _divergence(_shares(now), _shares(then))


def _revenue(facts):
    price = facts.items["price"].tolist()
    return sum(price[y] for x, r, y in _positions(facts) if facts.consumed[x, r]) / 40


EXPECTED = {
    "precision": lambda f: sum(_consumption(f)) / (40 * 4),
    "recall": _recall,
    "ndcg": _ndcg,
    "utility": lambda f: _user_welfare(f) / 40,
    "consumptions": lambda f: sum(_consumption(f)) / 40,
    "revenue": _revenue,
    "coverage": lambda f: sum(e > 0 for e in _exposure(f)) / 20,
    "gini": lambda f: _gini(_exposure(f)),
    "perplexity": lambda f: math.exp(-sum(p * math.log(p) for p in _shares(_exposure(f)) if p > 0)),
    "average_popularity": _average_popularity,
    "shortfall": lambda f: _undelivered(f, [1.0] * 4, f.counted_shown),
    "examined_shortfall": _examined_shortfall,
    "shortfall_units": lambda f: _missing(_delivered(f), f.required),
    "items_met": lambda f: sum(e >= b for e, b in _guaranteed(f)) / len(_guaranteed(f)),
    "worst_ratio": lambda f: min(e / b for e, b in _guaranteed(f)),
    "prices_at_bound": lambda f: (f.item_price[f.required > 0] == -f.cost).mean(),
    "excess": _excess,
    "effective_items": _effective_items,
    "log_gini": lambda f: _gini(f.log_counts.tolist()),
    "jaccard": _jaccard,
    "genre_drift": _genre_drift,
    "sessions_per_user": lambda f: 40 / len(set(f.user.tolist())),
    "adopted": lambda f: sum(f.adoption.observed.tolist()) / len(f.adoption.observed),
    "adoption_median": _adoption_median,
    "estimated_decay": lambda f: 0.71,
    "utility_new": lambda f: sum(f.probability[x, r] for x, r, y in _positions(f) if y % 3) / 40,
    "utility_repeat": lambda f: sum(f.probability[x, r] for x, r, y in _positions(f) if y % 3 == 0) / 40,
    "consumptions_new": lambda f: sum(f.consumed[x, r] for x, r, y in _positions(f) if y % 3) / 40,
    "consumptions_repeat": lambda f: sum(f.consumed[x, r] for x, r, y in _positions(f) if y % 3 == 0) / 40,
    "organic_consumptions": lambda f: sum(n % 3 for n in range(40)) / 40,
    "decay_error": lambda f: 0.03,
    "calibration_ratio": _calibration,
    "calibration_first": _first_visits,
    "calibration_returning": _returning_visits,
    "calibration_by_history": lambda f: _first_visits(f) / _returning_visits(f),
    "value_model": lambda f: 3.25,
    "value_true": lambda f: (
        sum(f.true_intensity[x, r] * f.position_weights[r] for x, r, _ in _positions(f)) - _penalty(f)
    ),
    "return": lambda f: sum(_consumption(f)) - _penalty(f),
    "providers_alive": lambda f: 4 / 6,
    "objective": lambda f: sum(_consumption(f)) + 2.0 * 3,
    "catalogue_on_offer": lambda f: sum(n % 7 > 2 for n in range(20)) / 20,
    "items_sold": lambda f: sum(n > 0 for n in f.sold.tolist()) / 20,
    "users_active": lambda f: len(Counter(f.user.tolist())),
    "user_welfare": _user_welfare,
    "provider_welfare": _provider_welfare,
    "nash_welfare": lambda f: _user_welfare(f) * _provider_welfare(f),
    "ee_d": lambda f: sum(e * e for e in _fairness(f)[0]),
    "ee_r": lambda f: 2 * sum(e * t for e, t in zip(*_fairness(f), strict=True)),
    "ee_l": lambda f: sum((e - t) ** 2 for e, t in zip(*_fairness(f), strict=True)),
    "awrf": _awrf,
    "aplt": _aplt,
    "bound": lambda f: 4.5,
    "gap": lambda f: 0.125,
}
"""The formula of each measure as its entry states it."""


@pytest.mark.parametrize("kind", ROUNDS)
@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_its_formula(name, kind):
    """A measure that reads another fact, or sums over other positions, has another value."""
    facts = ROUNDS[kind]
    expected = EXPECTED[name](facts)
    value = MEASURES[name].value(facts)
    assert value == (expected if expected is None else pytest.approx(expected, rel=1e-5))


def test_the_made_up_rounds_tell_measures_apart():
    """No two measures have one value in both rounds, but those that are one formula where all is known."""
    values = Counter(
        tuple(None if value is None else round(value, 9) for value in map(measure.value, ROUNDS.values()))
        for measure in MEASURES.values()
    )
    assert [value for value, count in values.items() if count > 1] == []
