"""Markets small enough for tests, on the embedded log."""

from __future__ import annotations

from rimsim.config import (
    ArrivalsConfig,
    ConsumerConfig,
    DataConfig,
    PlatformConfig,
    ReleasesConfig,
    ScenarioConfig,
)


def small_scenario(**changes):
    """Clones of the embedded log's users, 120 arrivals a round over some 90 items."""
    fields = {
        "name": "small",
        "rounds": 3,
        "slate": 5,
        "data": DataConfig(min_item_events=120),
        "arrivals": ArrivalsConfig(per_round=120, max_visits=3),
        "platform": PlatformConfig(model="popularity-hp"),
    }
    return ScenarioConfig(**(fields | changes))


def small_replay(**changes):
    """The log's own sessions, the last 150 of them or so, in two rounds."""
    return small_scenario(
        **{
            "name": "small-replay",
            "rounds": 2,
            "arrivals": ArrivalsConfig(kind="replay", per_round=80, warmup_share=0.9),
            "consumer": ConsumerConfig(kind="replay"),
        }
        | changes
    )


def small_cold_start(**changes):
    """A fifth of the catalogue comes within rounds 0 and 1."""
    return small_scenario(**{"releases": ReleasesConfig(share=0.2, first_round=0, last_round=1)} | changes)


SMALL = {"clones": small_scenario, "replay": small_replay, "cold-start": small_cold_start}
