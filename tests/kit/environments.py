"""Gymnasium environments small enough for tests, and the options that make them."""

import gymnasium

from kit.markets import SMALL, TRUTH, settings_of, small_scenario

SETTINGS = {"platform.model": "popularity-hp", "data.min_item_events": 120, "slate": 5}
SETTINGS |= {"arrivals.per_round": 60, "arrivals.warmup_share": 0.9, "consumer.truth": TRUTH}
CLONES = small_scenario(rounds=2)
EAGER = {"arrivals.max_visits": 9, "consumer.attraction": 30.0}
"""Visitors come back often and take much."""


def make_env(**options):
    """The environment by its name, by default the default scenario in small."""
    return gymnasium.make("RIMMarket-v0", **({"settings": SETTINGS} | options))


def clones_env(config=CLONES):
    """A small market of clones, 120 arrivals a round."""
    return gymnasium.make("RIMMarket-v0", scenario="closed-loop", settings=settings_of(config))


def short_options(kind, **changes):
    """Keyword arguments of a market of some kind that is over soon, with two rounds where it retrains."""
    settings = settings_of(SMALL[kind]()) | {"arrivals.per_round": 12, "rounds": 2, "slate": 5}
    return {"settings": settings | changes}
