"""Markets small enough for tests, on the embedded log, and runs of them that draw no pictures."""

import dataclasses
from contextlib import contextmanager

import numpy as np
import pandas as pd
import yaml

from rimsim import config as records
from rimsim.agents import BUILT_IN, make_agent, market_for, play_round, top_k
from rimsim.config.reading import flat
from rimsim.errors import MarketError
from rimsim.market import MarketState
from rimsim.measures import weighted_exposure
from rimsim.scenarios import compare
from rimsim.scenarios.report import charts
from rimsim.scenarios.study import facts

TRUTH = "factors"
"""Truth of small markets. It is fitted and scored in a fraction of the time of the truth that ``auto`` chooses."""
SEQUENCE_TRUTH = "gru"
"""Truth of the small markets with releases. ``auto`` chooses it for the small log; it reads histories in order."""


def small_scenario(**changes):
    """Clones of the embedded log's users, 120 arrivals a round over some 90 items."""
    fields = {"name": "small", "rounds": 3, "slate": 5, "data": records.DataConfig(min_item_events=120)}
    fields["arrivals"] = records.ArrivalsConfig(per_round=120, max_visits=3)
    fields["platform"] = records.PlatformConfig(model="popularity-hp")
    fields |= changes
    consumer = fields.get("consumer", records.ConsumerConfig())
    if consumer.truth == "auto" and "data" not in changes:
        fields["consumer"] = dataclasses.replace(consumer, truth=TRUTH)
    return records.ScenarioConfig(**fields)


def small_replay(**changes):
    """The log's own sessions, the last 150 of them or so, in two rounds."""
    fields = {"name": "small-replay", "rounds": 2, "consumer": records.ConsumerConfig(kind="replay")}
    fields["arrivals"] = records.ArrivalsConfig(kind="replay", per_round=80, warmup_share=0.9)
    return small_scenario(**(fields | changes))


def small_cold_start(**changes):
    """A fifth of the catalogue comes within rounds 0 and 1; the truth reads sequences."""
    releases = records.ReleasesConfig(share=0.2, first_round=0, last_round=1)
    consumer = records.ConsumerConfig(truth=SEQUENCE_TRUTH)
    return small_scenario(**({"releases": releases, "consumer": consumer} | changes))


def small_broadcast(**changes):
    """Everyone at once, 100 users a round, with a guarantee for ten items."""
    fields = {"slate": 2, "exposure": records.ExposureConfig(items=10, each=12)}
    fields["arrivals"] = records.ArrivalsConfig(kind="broadcast", per_round=100)
    return small_scenario(**(fields | changes))


def small_capped(**changes):
    """Clones, back up to three times, that may be shown seven items a round: a slate and two positions of a second."""
    arrivals = records.ArrivalsConfig(per_round=120, max_visits=3, draw="users")
    return small_scenario(**({"user_cap": 7, "arrivals": arrivals} | changes))


RETURNING = {"audience": {"visits": "returning"}}
CAMPAIGNS = [
    {"name": "some", "items": {"genres": "Horror"}, "exposures": 120, "start": 0, "stop": 14} | RETURNING,
    {"name": "share", "items": {"genres": "Western"}, "share": 0.02, "start": 2},
]
PRICED = {"unit": "shown", "beta": 0.3, "most": 4, "campaigns": CAMPAIGNS}
PRICED |= {"groups": [{"column": "genres", "beta": 0.6, "values": ["Musical", "Fantasy"]}]}


def priced(make=small_scenario, **changes):
    """Two rounds of a small market with groups, campaigns and caps."""
    return make(exposure=records.scenario_from({"exposure": PRICED | changes}).exposure, rounds=2)


PROMISES = {
    "unit": "shown",
    "beta": 0.3,
    "most": 4,
    "groups": [{"column": "genres", "beta": 0.5, "values": ["Comedy", "Horror"]}],
    "campaigns": [
        {"name": "returning", "items": {"genres": ["Horror", "Thriller"]}, "exposures": 150}
        | {"start": 3, "stop": 17}
        | {"audience": {"visits": "returning", "share": 0.6}},
        {"name": "first", "items": [260, 296], "share": 0.1, "start": 8, "audience": {"visits": "first"}},
    ],
}


def promising(make=small_scenario, **changes):
    """A small scenario with everything that can be promised."""
    exposure = records.scenario_from({"exposure": PROMISES | changes}).exposure
    return make(exposure=exposure)


SMALL = {
    "clones": small_scenario,
    "replay": small_replay,
    "cold-start": small_cold_start,
    "broadcast": small_broadcast,
    "capped": small_capped,
}
"""Each kind of market in small."""

PAIRS = [
    (kind, name)
    for kind in sorted(SMALL)
    for name in sorted(BUILT_IN)
    if kind == "broadcast" or not getattr(BUILT_IN[name], "needs_audience", False)
    if not getattr(BUILT_IN[name], "needs_providers", False)  # these markets have no providers
]
"""Every kind of market with every built-in agent that can act in it."""


def play_out(market, agent, batch_size=None):
    """Let an agent serve a market to its end; the market, which has all closed rounds."""
    while not market.done:
        play_round(market, agent, batch_size)
    return market


def market_of(name, config, **options):
    """A built-in agent and its market."""
    agent = make_agent(name)
    return agent, market_for(agent, config, **options)


def played_by(name, config, batch_size=None, **options):
    """A built-in agent, and its market, of which it has played all rounds."""
    agent, market = market_of(name, config, **options)
    return agent, play_out(market, agent, batch_size)


def played(config, name="relevance", batch_size=None, **options):
    """All rounds of a market under a built-in agent."""
    return played_by(name, config, batch_size, **options)[1]


def batches(market, limit, **options):
    """Arrivals to the end of a market, so many at once; each batch is then served what is most relevant to it."""
    while not market.done:
        arrivals = market.next_arrivals(limit, **options)
        yield arrivals
        market.serve(arrivals, top_k(arrivals.relevance, arrivals.admissible, market.config.slate))


def resumed(config, name, folder, after=1, batch_size=None):
    """The same, saved after some rounds and loaded into a new market with a new agent; all rounds are closed."""
    agent = make_agent(name)
    second_agent = make_agent(name)
    market = market_for(agent, config)
    second_market = market_for(second_agent, config)
    for _ in range(after):
        play_round(market, agent)
    market.state.save(folder)
    second_market.load_state(MarketState.load(folder))
    play_out(second_market, second_agent, batch_size)
    second_market.closed[:0] = market.closed
    return second_market


def ledgers(market):
    """The whole ledger of a market as one table."""
    tables = [closed.ledger.table("a", 0, closed.number) for closed in market.closed]
    return pd.concat(tables, ignore_index=True)


def happenings(market):
    """All happenings of a market, in the order of time."""
    return [happening for closed in market.closed for happening in closed.happenings]


def weighted_exposures(closed):
    """(M,) exposures of a closed round in the unit of its guarantee."""
    return weighted_exposure(closed.ledger.item, closed.position_weights, len(closed.required))


def facts_of(market, closed, proof=None):
    """The record of a closed round, from which measures are computed."""
    adoption = facts.AdoptionCount(market.world.release)
    adoption.enter(closed)
    shared = facts.shared_facts(market.world, market.config, 0)
    return facts.facts_of(shared, closed, np.zeros(market.n_items, np.int64), adoption, proof, None)


def same_ledgers(first, second):
    """Check that two markets have the same ledger, bit for bit."""
    pd.testing.assert_frame_equal(ledgers(first), ledgers(second), check_exact=True)


def same_tables_and_happenings(first, second):
    """Check that two markets have the same ledger and happenings."""
    same_ledgers(first, second)
    np.testing.assert_equal(happenings(first), happenings(second))


def same_in_batches(config, name):
    """Check that batches of 1 and 7 change nothing; return the market that is played at once."""
    expected = played(config, name)
    for size in (1, 7):
        same_tables_and_happenings(played(config, name, size), expected)
    return expected


def small_run(folder, agents=("random",), config=None, **options):
    """A comparison at one seed in this process, of a small scenario, without controls and certificates."""
    defaults = {"seeds": 1, "frozen": [], "workers": 1, "certify": False}
    return compare(config or small_scenario(), agents, out=folder, **(defaults | options))


def settings_of(config):
    """All fields of a scenario as dotted settings."""
    return flat(records.to_plain(config))


def in_file(config, folder):
    """The place of a file of a scenario, which is written into a folder."""
    place = folder / "small.yaml"
    place.write_text(yaml.safe_dump(records.to_plain(config)))
    return place


@contextmanager
def stopped_after_a_round(monkeypatch, error=MarketError):
    """Within it, each arm that is run ends with an error, "enough", once a round has been saved."""
    from rimsim.scenarios.runs.checkpoint import Checkpoint

    save = Checkpoint.save

    def save_and_stop(*progress):
        save(*progress)
        raise error("enough")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_stop)
        yield


WRITE_PNG = charts.write_png


@contextmanager
def _drawing_by(write_png):
    before = charts.write_png
    charts.write_png = write_png
    try:
        yield
    finally:
        charts.write_png = before


def without_pictures():
    """Within it, runs end without pictures and do not read the tables for them."""
    return _drawing_by(lambda plot, folder: None)


def drawn(*names):
    """Within it, runs draw their pictures as a user's do, or those of some names."""
    return _drawing_by(
        lambda plot, folder: WRITE_PNG(plot, folder) if not names or plot.name in names else None
    )
