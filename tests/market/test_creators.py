"""``creators``: providers who upload sooner if their items were shown, and stop if not."""

import math

import numpy as np
import pytest
from kit import refused
from kit.environments import make_env
from kit.markets import (
    facts_of,
    happenings,
    ledgers,
    played,
    resumed,
    same_in_batches,
    same_ledgers,
    same_tables_and_happenings,
    settings_of,
    small_replay,
    small_scenario,
)

from rimsim.agents import make_agent, play_round, rollout
from rimsim.arrays import TICKS
from rimsim.config import ArrivalsConfig, Seeds
from rimsim.errors import ConfigError
from rimsim.market import Market
from rimsim.market.processes import Creators
from rimsim.measures import MEASURES

DAY = 86_400.0


def with_creators(options="", make=small_scenario, **changes):
    """Small market of two rounds with creators."""
    return make(**({"rounds": 2, "processes": (f"creators({options})",)} | changes))


def uploads(market):
    """Uploads of a market: its releases."""
    return [happening for happening in happenings(market) if happening.change == "release"]


def test_without_reaction_uploads_are_a_poisson_process():
    """With reaction 0, counts over ten seeds have the base rate within 4 standard errors, and waits are exponential."""
    process = Creators(reaction=0, threshold=-math.inf, each=10, held_back=0.9, every="5d")
    config = small_scenario(rounds=1, arrivals=ArrivalsConfig(per_round=20))
    counts = []
    waits = []
    for seed in range(10):
        market = Market(config, seeds=Seeds.all(seed), processes={"creators": process})
        while not market.done:
            play_round(market, make_agent("relevance"))
        n_creators = int(np.ceil(market.n_items / 10))
        counts.append(len(uploads(market)))
        waits += np.diff([market.world.opening, *(upload.time for upload in uploads(market))]).tolist()
    mean = n_creators * 7 / 5
    assert abs(np.mean(counts) - mean) < 4 * (mean / 10) ** 0.5
    assert len(set(counts)) > 3
    assert np.std(waits) == pytest.approx(np.mean(waits), rel=0.25)


def test_items_held_back_are_in_no_slate_before_their_upload():
    """Half of each creator's items are in no slate until they are uploaded."""
    config = with_creators("each=4")
    market = played(config, "random")
    table = ledgers(market)
    opening = market.world.opening
    held_back = {
        happening.item
        for happening in happenings(market)
        if (happening.change, happening.time) == ("end", opening)
    }
    assert len(held_back) == 2 * (market.n_items // 4) + (market.n_items % 4) // 2
    uploaded = {upload.item: upload.time for upload in uploads(market)}
    assert 0 < len(uploaded) < len(held_back)
    for item in held_back:
        assert (table.time[table.item == item] >= uploaded.get(item, math.inf)).all()


def test_a_share_of_items_is_held_back_rounded_down():
    """Of five items of a creator, half is two, and of one item none."""
    market = Market(with_creators("each=5"))
    of_item = Creators(each=5).creators_of(market.world.log.items)
    sizes = np.bincount(of_item)
    assert 5 in sizes
    held_back = np.bincount(of_item, market.effects.memory[0]["waits"])
    assert held_back.tolist() == (sizes // 2).tolist()


def test_a_creator_without_exposure_stops():
    """A creator who was not shown leaves after the third review, and one who was shown enough stays."""
    market = Market(
        small_scenario(rounds=1), processes={"creators": Creators(each=3, penalty=1.5, per_exposure=0.3)}
    )
    while not market.done:
        play_round(market, make_agent("popularity"))
    ends = {
        happening.item: happening.time
        for happening in happenings(market)
        if happening.change == "end" and happening.time > market.world.opening
    }
    table = ledgers(market)
    n_shown = np.bincount(table.item, minlength=market.n_items)
    memory = market.effects.memory[0]
    assert 0 < (~memory["active"]).sum() < len(memory["active"])
    # X = 5, 3, 1.2, −0.42 without exposure
    third = market.world.opening + 3 * DAY
    gone_first = [item for item, time in ends.items() if time == third]
    assert min(ends.values()) == third
    assert gone_first
    assert all((table.time[table.item == item] > third).sum() == 0 for item in gone_first)
    assert all(n_shown[item] == 0 for item in gone_first)


@pytest.mark.parametrize("per", ["per_exposure", "per_consumption"])
def test_satisfied_creators_upload_sooner(per):
    """With the same draws, more satisfaction brings at least as many uploads of each creator, and more in all."""
    none = {"per_exposure": 0.0, "per_consumption": 0.0, "penalty": 0.0, "decay": 1.0}
    counts = []
    for weight, reaction in ((0.0, 1.0), (1.0, 0.0), (1.0, 0.5), (1.0, 1.0)):
        process = Creators(**(none | {per: weight}), reaction=reaction, every="14d")
        market = Market(small_scenario(rounds=1), processes={"creators": process})
        while not market.done:
            play_round(market, make_agent("random"))
        counts.append(len(uploads(market)))
    assert counts[0] == counts[1] < counts[3]
    assert counts[1] <= counts[2] <= counts[3]


@pytest.mark.parametrize("per", ["per_exposure", "per_consumption"])
def test_an_exposure_or_consumption_satisfies_a_creator_once(per):
    """Without decay and penalty, satisfaction grows by the counts before the last review, over all reviews."""
    weights = {"per_exposure": 0.0, "per_consumption": 0.0} | {per: 1.0}
    process = Creators(**weights, penalty=0.0, decay=1.0, held_back=0.0)
    market = Market(small_scenario(rounds=2), processes={"creators": process})
    while not market.done:
        play_round(market, make_agent("popularity"))
    memory = market.effects.memory[0]
    last_review = memory["next_review"] / TICKS - DAY
    table = ledgers(market)
    counts = {"per_exposure": table.item >= 0, "per_consumption": table.consumed}[per]
    n_counted = counts[table.time < last_review].sum()
    assert n_counted > 100
    assert (memory["satisfaction"] - process.start).sum() == n_counted


@pytest.mark.parametrize("make", [small_scenario, small_replay])
def test_no_result_depends_on_the_batch(make):
    """Batches of 1, 7 and all have the same tables and uploads."""
    config = with_creators("every='2d', penalty=2.0", make)
    assert len(uploads(same_in_batches(config, "rim-feedback"))) > 10


def test_the_environment_has_the_same_tables():
    """An episode of the environment equals the engine, whose first prices know which items are held back."""
    config = with_creators("column='genres'")
    env = make_env(scenario="closed-loop", settings=settings_of(config))
    rollout(env, make_agent("rim-feedback"), seed=0)
    same_ledgers(env.unwrapped.market, played(config, "rim-feedback"))


def test_a_resumed_market_goes_on_alike(tmp_path):
    """A saved market goes on with the same uploads and stops, because its memory is a record."""
    config = with_creators("review='36h', penalty=2.0", rounds=3)
    expected = played(config, "rim-feedback")
    for after in (1, 2):
        market = resumed(config, "rim-feedback", tmp_path / str(after), after)
        same_tables_and_happenings(market, expected)


def test_impossible_options_are_refused():
    """An unknown column and a start that is not positive are refused in one line."""
    refused(ConfigError, "creators.start is 0. Expected a finite number above 0", Creators, start=0)
    refused(ConfigError, "option 'held_back'", Market, with_creators("held_back=1"))
    refused(
        Exception, "creators.column: the table has no column 'genre'", played, with_creators("column='genre'")
    )


def test_the_catalogue_on_offer_is_counted_from_the_happenings():
    """At the end of each round, items that were held back or stopped and not uploaded since are not on offer."""
    market = played(with_creators("each=4"), "random")
    away = set()
    shares = []
    for closed in market.closed:
        for happening in closed.happenings:
            (away.add if happening.change == "end" else away.discard)(happening.item)
        assert set(np.flatnonzero(~closed.on_offer).tolist()) == away
        facts = facts_of(market, closed)
        shares.append(MEASURES["catalogue_on_offer"].value(facts))
        assert shares[-1] == 1 - len(away) / market.n_items
    assert 0 < shares[0] < shares[-1] < 1
