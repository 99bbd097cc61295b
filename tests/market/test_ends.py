"""Items that end: never shown, never wanted and never recommended outside of their time on offer."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from kit import refused
from kit.news import news_scenario, news_source

from rimsim import config as records
from rimsim.arrays import NEVER, ticks
from rimsim.config import Seeds
from rimsim.data import load
from rimsim.envs import MarketEnv
from rimsim.errors import AgentError, ConfigError
from rimsim.market import Market
from rimsim.market.agreement import counts_one_session, make_cut
from rimsim.market.world import build_world


def on_offer(market, tick):
    """Mask of the items on offer at a tick, item by item from the log's table."""
    table = market.world.log.items
    is_past = np.isin(np.arange(len(table)), market.world.past.item)
    return np.array(
        [
            (is_past[item] or ticks(row.release) <= tick) and tick < ticks(row.end)
            for item, row in enumerate(table.itertuples())
        ]
    )


def played(config, limit, choose):
    """Market whose slates are drawn by arrival, and the mask of what each arrival may be shown."""
    market = Market(config, seeds=Seeds(1, 2, 3, 4))
    while not market.done:
        arrivals = market.next_arrivals(limit)
        admissible = arrivals.admissible.numpy()
        ticks_of = market.schedule.tick[arrivals.row]
        slates = np.full((len(arrivals), config.slate), -1)
        for row in range(len(arrivals)):
            consumed = market.open.histories.consumed(market.schedule.slot[arrivals.row[row : row + 1]])[1]
            expected = on_offer(market, ticks_of[row])
            expected[consumed] = False
            assert admissible[row].tolist() == expected.tolist()
            items = np.flatnonzero(admissible[row])
            order = np.random.default_rng(int(arrivals.id[row])).permutation(items)
            slates[row, : len(order)] = order[: config.slate]
        choose(market, arrivals)
        market.serve(arrivals, slates)
    return market


def test_an_item_is_never_shown_after_its_end_in_batches_or_steps(tmp_path):
    """What may be shown is released, not ended and not consumed; batches and steps have the same outcomes."""
    config = news_scenario(tmp_path)

    def check(market, arrivals):
        share, _ = market.open.visits(arrivals.row).true_scores
        admissible = arrivals.admissible.numpy()
        assert (share[~admissible] == 0).all()
        assert (arrivals.relevance.numpy()[~admissible] == 0).all()
        assert share.sum(1) == pytest.approx(admissible.any(1).astype(float), rel=1e-5)

    at_once = played(config, None, check)
    stepped = played(config, 1, check)
    assert (at_once.world.end < NEVER).all()
    for first, second in zip(at_once.closed, stepped.closed, strict=True):
        assert first.ledger.item.tolist() == second.ledger.item.tolist()
        assert first.ledger.consumed.tolist() == second.ledger.consumed.tolist()
        row, position = np.nonzero(first.ledger.item >= 0)
        tick = first.schedule.tick[row]
        item = first.ledger.item[row, position]
        assert (tick < at_once.world.end[item]).all()
        assert (at_once.world.release[item] <= tick).all()


def test_an_agent_that_shows_an_item_after_its_end_is_refused(tmp_path):
    """The error names the inadmissible item."""
    market = Market(news_scenario(tmp_path))
    arrivals = market.next_arrivals(1)
    over = int(np.flatnonzero(market.world.end <= market.schedule.tick[0])[0])
    refused(AgentError, f"holds inadmissible item {over}", market.serve, arrivals, np.array([[over, -1, -1]]))


def test_nobody_is_shown_an_item_at_the_very_instant_of_its_end(tmp_path):
    """Where all other items are endless, the item is inadmissible at its end, and its true intensity is 0."""
    config = news_scenario(tmp_path)
    events, items = (pd.read_parquet(tmp_path / "log" / f"{name}.parquet") for name in ("events", "items"))

    def opened(name, end):
        """Market whose items end at given times, and the last arrival of its first round."""
        folder = tmp_path / name
        folder.mkdir()
        events.to_parquet(folder / "events.parquet")
        items.assign(release=np.nan, end=end).to_parquet(folder / "items.parquet")
        market = Market(replace(config, data=records.DataConfig(source=str(folder))))
        # States are scored ahead, so only the last arrival is never scored with later instants.
        for _ in range(len(market.schedule) - 1):
            market.serve(market.next_arrivals(1), np.full((1, config.slate), -1))
        return market, market.next_arrivals(1)

    endless, last = opened("endless", np.nan)
    row = int(np.flatnonzero(last.admissible[0])[0])
    instant = int(endless.schedule.tick[-1])
    is_item = items["id"] == endless.world.log.items["id"][row]
    market, arrivals = opened("one-end", np.where(is_item, instant / ticks(1.0), np.nan))
    assert market.schedule.tick[-1] == market.world.end[row] == instant
    assert (market.world.end == NEVER).sum() == market.n_items - 1
    expected = last.admissible[0].numpy().copy()
    expected[row] = False
    assert arrivals.admissible[0].tolist() == expected.tolist()
    share, _ = market.open.visits(arrivals.row).true_scores
    assert share[0, row] == 0.0
    assert endless.open.visits(last.row).true_scores[0][0, row] > 0.0


def test_the_mask_of_the_environment_ends_with_the_item(tmp_path):
    """Observation by observation, the mask has only items on offer."""
    settings = {
        "slate": 3,
        "data.min_item_events": 1,
        "arrivals.per_round": None,
        "platform.model": "fresh-hp",
    }
    environment = MarketEnv("online-match", data=news_source(tmp_path), rounds=2, settings=settings)
    observation, _ = environment.reset(seed=0)
    for step in range(40):
        market = environment.unwrapped.market
        tick = market.schedule.tick[step]
        mask = np.asarray(observation["admissible"], bool)
        assert mask.any()
        assert not (mask & ~on_offer(market, tick)).any()
        slate = np.full(3, -1)
        slate[: min(3, mask.sum())] = np.flatnonzero(mask)[:3]
        observation, *_ = environment.step(slate)


def test_prices_are_solved_for_the_items_of_the_coming_round(tmp_path):
    """Each past state admits what is on offer at the same share of the coming round."""
    market = Market(news_scenario(tmp_path))
    schedule = market.schedule
    while market.round == 0:
        arrivals = market.next_arrivals()
        market.serve(arrivals, np.full((len(arrivals), 3), -1))
    coming = market.schedule
    share = (schedule.tick - schedule.start) / (schedule.stop - schedule.start)
    moved = coming.start + np.floor(share * (coming.stop - coming.start)).astype(np.int64)
    n_states = 0
    for chunk in market.round_view().past:
        for row, admissible in zip(chunk.row, chunk.admissible.numpy(), strict=True):
            expected = on_offer(market, moved[row])
            assert not (admissible & ~expected).any()
            user = market.platform.rounds[-1].schedule.slot[row]
            consumed = np.isin(np.arange(market.n_items), market.open.histories.consumed(np.array([user]))[1])
            assert admissible[~consumed].tolist() == expected[~consumed].tolist()
            n_states += 1
    assert n_states == len(schedule)


def test_certificates_and_floors_know_the_ends(tmp_path):
    """A floor is at most the visits before the end, and states of the certificate admit nothing after it."""
    exposure = records.ExposureConfig(beta=0.8)
    market = Market(news_scenario(tmp_path, exposure=exposure))
    tick = market.schedule.tick
    release = market.world.release
    end = market.world.end
    counts = np.array(
        [((first <= tick) & (tick < last)).sum() for first, last in zip(release, end, strict=True)]
    )
    required = market.open.requirements.carry_over.items
    part = 0.8 * 3 * len(tick) * counts / counts.sum()
    assert (np.abs(required - part) < 1).all()
    assert (required <= counts).all()
    while market.round == 0:
        arrivals = market.next_arrivals()
        market.serve(arrivals, np.full((len(arrivals), 3), -1))
    for chunk in market.closed[0].states:
        for row, admissible in zip(chunk.row, chunk.admissible.numpy(), strict=True):
            assert not (admissible & ~on_offer(market, tick[row])).any()


def test_clones_live_after_the_log(tmp_path):
    """Ends within the log leave no item; a life counts from the market's own releases."""
    arrivals = records.ArrivalsConfig(per_round=20, round_length="1d")
    data = records.DataConfig(source=news_source(tmp_path), end="last-event")
    config = news_scenario(tmp_path, arrivals=arrivals, data=data)
    refused(ConfigError, "all items end before the market opens", build_world, config)
    data = records.DataConfig(source=news_source(tmp_path), end="life", life="6h")
    releases = records.ReleasesConfig(share=0.25, first_round=0, last_round=0)
    world = build_world(news_scenario(tmp_path, arrivals=arrivals, data=data, releases=releases))
    is_late = world.release > ticks(world.opening)
    assert is_late.sum() == 12
    assert (world.end[is_late] - world.release[is_late] == 6 * 3_600 * 10**6).all()
    assert (world.end[~is_late] == NEVER).all()


def test_agreement_compares_items_on_offer(tmp_path):
    """Admissible and taken items of a cut are those on offer at the cut."""
    log = load(news_source(tmp_path))
    cut = make_cut(log, 0, gap="30min", after=0.3)
    admissible = cut.admissible(0, len(cut))
    for row, now in enumerate(cut.states.now):
        is_there = (log.items["release"].to_numpy() <= now) & (now < log.items["end"].to_numpy())
        assert not (admissible[row] & ~is_there).any()
    assert admissible[cut.taken_row, cut.taken_item].all()


def test_where_items_end_a_truth_is_judged_by_one_session(tmp_path):
    """Items taken after the drawn session count only if no item ends, because other items are on offer by then."""
    with_ends = load(news_source(tmp_path))
    without_ends = replace(with_ends, items=with_ends.items.drop(columns="end"))
    assert counts_one_session(with_ends)
    assert not counts_one_session(without_ends)
    assert make_cut(with_ends, 0, gap="30min", after=0.3).first_session.all()
    assert not make_cut(without_ends, 0, gap="30min", after=0.3).first_session.all()
