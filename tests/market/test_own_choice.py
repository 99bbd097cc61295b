"""Free choice: consumptions that visitors make from the whole catalogue, unseen by slates."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import cases, markets, refused, same_arrays

from rimsim import rng
from rimsim.agents import market_for, play_round
from rimsim.config import (
    ArrivalsConfig,
    ConsumerConfig,
    DataConfig,
    DynamicsConfig,
    ExposureConfig,
    LearningConfig,
    PlatformConfig,
    ProvidersConfig,
    Seeds,
    override,
)
from rimsim.errors import ConfigError
from rimsim.market import Market, Needs
from rimsim.market import consumers as kinds
from rimsim.market.consumers.contract import NOTHING, first_instants
from rimsim.market.controls import Shadowed
from rimsim.measures import MEASURES
from rimsim.scenarios.study.controls import shadow_of

HAWKES = ArrivalsConfig(kind="hawkes", per_round=150)
MOVED = DynamicsConfig(satiation=0.5, drift=1.0, conformity=0.5)


def choosing(share, make=markets.small_scenario, **consumer):
    """A small market in which visitors choose a share freely, and change nothing else."""
    return make(consumer=ConsumerConfig(own_choice=share, **consumer))


def events_of(market):
    """Events of each closed round: slot, tick of visibility and item."""
    return [np.column_stack(closed.histories.all_events()) for closed in market.closed]


@pytest.fixture(scope="module")
def visited():
    """A market of users who return, in its last round, and visits that have yet to come."""
    config = dataclasses.replace(choosing(0.3), arrivals=HAWKES)
    agent, market = markets.market_of("random", config)
    while market.round < 2:
        play_round(market, agent)
    _, rows = np.unique(market.schedule.slot, return_index=True)
    return market, market.open.visits(rows)


@given(
    rates=st.lists(st.floats(0, 50) | st.floats(0, 1e-6), min_size=1, max_size=20),
    seed=st.integers(0, 2**63),
)
def test_an_item_has_an_event_in_the_session_as_its_law_says(rates, seed):
    """The first instant is −log(1 − u) / r, counted one by one, and is within the session if u < 1 − exp(−r)."""
    keys = rng.bits(seed, rng.Purpose.OWN_CHOICE, np.zeros(1, np.int64))
    instants = first_instants(np.array([rates]), keys)[0]
    for item, (rate, instant) in enumerate(zip(rates, instants, strict=True)):
        draw = rng.uniform(seed, rng.Purpose.OWN_CHOICE, 0, item).item()
        with np.errstate(over="ignore"):
            expected = -np.log1p(-draw) / rate if rate > 0 else np.inf
        if expected < 1:
            np.testing.assert_allclose(instant, expected, rtol=1e-12)
        else:
            assert instant == np.inf


def test_each_item_is_chosen_by_its_own_draw(visited):
    """By brute force: item by item, u(seed, arrival, item) < 1 − exp(−share·λ*·p*), in the order of the instants."""
    market, visits = visited
    preference, ground = visits.true_scores
    organic = market.consumer.organic(visits)
    assert len(organic.row) > 100
    np.testing.assert_array_equal(organic.tick, market.schedule.tick[organic.row])
    for n, row in enumerate(visits.row):
        draw = rng.uniform(
            market.seeds.choice,
            rng.Purpose.OWN_CHOICE,
            market.schedule.id[row],
            np.arange(market.n_items),
        )
        rate = 0.3 * preference[n].astype(np.float64) * ground[n]
        expected = np.flatnonzero(draw < -np.expm1(-rate))
        instant = -np.log1p(-draw[expected]) / rate[expected]
        np.testing.assert_array_equal(organic.item[organic.row == row], expected[np.argsort(instant)])
    row, item = visits.histories.consumed(visits.slot)
    consumed = set(zip(visits.row[row].tolist(), item.tolist(), strict=True))
    assert consumed.isdisjoint(zip(organic.row.tolist(), organic.item.tolist(), strict=True))


def test_free_choices_are_as_many_as_the_closed_form_says(visited):
    """Over seeds, Σ 1 − exp(−share·λ*·p*) per visit and per item; the χ² of both is that of chance."""
    market, visits = visited
    n_seeds = 300
    chance = -np.expm1(-0.3 * market.consumer.of_catalogue(visits))
    counts = np.zeros_like(chance)
    index_of_row = np.zeros(len(market.schedule), np.int64)
    index_of_row[visits.row] = np.arange(len(visits))
    for seed in range(n_seeds):
        keys = rng.bits(seed, rng.Purpose.OWN_CHOICE, market.schedule.id)
        organic = market.consumer.organic(dataclasses.replace(visits, own_keys=keys))
        counts[index_of_row[organic.row], organic.item] += 1
    for axis in (0, 1):
        expected = n_seeds * chance.sum(axis)
        variance = n_seeds * (chance * (1 - chance)).sum(axis)
        is_large = expected > 10
        n = int(is_large.sum())
        assert n > 40
        chi_square = ((counts.sum(axis) - expected)[is_large] ** 2 / variance[is_large]).sum()
        assert abs(chi_square - n) < 5 * np.sqrt(2 * n)
    assert (counts[chance == 0] == 0).all()


@pytest.mark.parametrize("kind", ["intensity", "logit", "cascade"])
@pytest.mark.parametrize("moves", [False, True])
def test_the_slate_gets_the_remaining_share(visited, kind, moves):
    """A slate is answered as where attraction is the share that is left, to the bit, and draws are other draws."""
    market, visits = visited
    dynamics = dataclasses.asdict(MOVED) if moves else {}
    config = override(market.config, {"consumer.kind": kind, "consumer.dynamics": dynamics})
    consumer = kinds.make_consumer(config)
    fewer = override(config, {"consumer.own_choice": 0.0, "consumer.attraction": 0.7})
    slates = np.tile(np.arange(5), (len(visits), 1))
    response = consumer.respond(visits, slates)
    assert response.probability.any()
    other = kinds.make_consumer(fewer).respond(visits, slates)
    same_arrays(response, other, *(field.name for field in dataclasses.fields(response)))
    redrawn = dataclasses.replace(visits, own_keys=visits.own_keys + np.uint64(1))
    np.testing.assert_array_equal(consumer.respond(redrawn, slates).consumed, response.consumed)
    assert not np.array_equal(consumer.organic(redrawn).item, consumer.organic(visits).item)


@pytest.mark.parametrize("kind", ["intensity", "logit", "cascade"])
def test_without_free_choice_the_market_is_as_it_was(visited, kind):
    """At share 0 nothing is organic, the law is the compiled one, and no factor changes by a bit."""
    market, visits = visited
    config = override(market.config, {"consumer.kind": kind, "consumer.own_choice": 0.0})
    plain = override(config, {"consumer.attraction": 1.7})
    assert plain.consumer.slate_attraction == 1.7
    consumer = kinds.make_consumer(config)
    assert consumer.organic(visits) is NOTHING
    if kind == "intensity":
        assert consumer.law(market.world) is not None
        assert kinds.make_consumer(market.config).law(market.world) is None
    without = Market(config)
    assert without.open.follows_law == (kind == "intensity")
    arrivals = without.next_arrivals(20)
    without.serve(arrivals, arrivals.relevance.topk(5).indices)
    assert not without.ledger.organic.any()
    assert len(without.open.histories.all_events()[0]) == without.ledger.consumed.sum()


ALONE = {
    "clones": choosing(1.0),
    "logit": choosing(1.0, kind="logit"),
    "cascade": choosing(1.0, kind="cascade"),
    "dynamics": choosing(1.0, dynamics=MOVED),
    "delay": choosing(1.0, delay="1d"),
    "hawkes": dataclasses.replace(choosing(1.0), arrivals=HAWKES),
    "cold-start": choosing(1.0, markets.small_cold_start),
    "capped": choosing(1.0, markets.small_capped),
}


@pytest.mark.parametrize("kind", ALONE)
def test_slates_are_irrelevant_if_all_choice_is_free(kind):
    """No shown item is taken as such; events, training log and visits are those of any other agent."""
    first = markets.played(ALONE[kind], "relevance")
    second = markets.played(ALONE[kind], "random", batch_size=7)
    for market in (first, second):
        assert not any(closed.ledger.consumed.any() for closed in market.closed)
        assert not any(closed.ledger.probability.any() for closed in market.closed)
    for of_first, of_second in zip(events_of(first), events_of(second), strict=True):
        assert len(of_first) > 50
        np.testing.assert_array_equal(of_first, of_second)
    for one_round, other_round in zip(first.closed, second.closed, strict=True):
        np.testing.assert_array_equal(one_round.log_counts, other_round.log_counts)
        np.testing.assert_array_equal(one_round.schedule.tick, other_round.schedule.tick)
        np.testing.assert_array_equal(one_round.ledger.organic, other_round.ledger.organic)
        assert one_round.learnt_events == one_round.ledger.organic.sum()
    assert not np.array_equal(first.closed[-1].ledger.item, second.closed[-1].ledger.item)


def test_what_is_shown_and_chosen_counts_once_for_the_slate():
    """Draw by draw: what the slate brings is that of its law, and the rest of what is chosen freely is organic."""
    config = choosing(0.5, attraction=40.0)
    market = Market(config)
    n_twice = 0
    while market.round == 0:
        arrivals = market.next_arrivals(16)
        opened = market.open
        chosen = market.consumer.organic(opened.visits(arrivals.row))
        before = opened.histories.events.counts[opened.schedule.slot[arrivals.row]]
        slates = arrivals.relevance.topk(5).indices.numpy()
        consumed = market.serve(arrivals, slates).consumed
        for n, row in enumerate(arrivals.row):
            taken = slates[n][consumed[n]].tolist()
            free = [item for item in chosen.item[chosen.row == row].tolist() if item not in taken]
            n_twice += (chosen.row == row).sum() - len(free)
            slot = opened.schedule.slot[[row]]
            ticks, items = opened.histories.between(slot, before[[n]], opened.histories.events.counts[slot])
            assert items.tolist() == taken + free
            assert (ticks == opened.schedule.tick[row] + 1).all()
            assert opened.ledger.organic[row] == len(free)
    assert n_twice > 20


def test_only_what_is_on_offer_can_be_chosen():
    """Items are chosen from their release on, and not while their provider is away."""
    config = override(choosing(0.8, markets.small_cold_start), {"rounds": 2})
    market = markets.played(config)
    late = 0
    for closed in market.closed:
        _, ticks, items = closed.histories.all_events()
        assert (ticks > market.world.release[items]).all()
        late += (market.world.release[items] > closed.schedule.start).sum()
    assert late > 0
    options = {"threshold": 3.0, "per_exposure": 0.1}
    providers = ProvidersConfig(kind="viability", options=options)
    leaving = dataclasses.replace(choosing(0.8), providers=providers)
    market = markets.played(leaving)
    n_away = 0
    for closed in market.closed:
        is_away = ~closed.offer.there[market.world.roster.of_item]
        n_away += is_away.sum()
        assert not is_away[closed.histories.all_events()[2]].any()
    assert n_away > 0


def test_no_item_is_chosen_after_its_end():
    """In a log whose items end with their last event, nobody chooses an item from that tick on."""
    data = DataConfig(min_item_events=120, end="last-event")
    config = markets.small_replay(consumer=ConsumerConfig(own_choice=0.8), data=data)
    market = markets.played(config)
    end = market.world.end
    for closed in market.closed:
        _, ticks, items = closed.histories.all_events()
        assert len(items) > 50
        assert (ticks - 1 < end[items]).all()
    assert (end < market.closed[-1].schedule.stop).sum() > 3


def test_free_choices_are_known_after_the_delay():
    """All events come that much later, and nobody takes an item twice, though the platform may show it again."""
    market = markets.played(choosing(0.4, attraction=20.0, delay="2d"))
    wait = 1 + 2 * 86_400 * 10**6
    shown_again = 0
    for closed in market.closed:
        slots, ticks, items = closed.histories.all_events()
        schedule = closed.schedule
        visits = set(zip(schedule.slot.tolist(), schedule.tick.tolist(), strict=True))
        assert set(zip(slots.tolist(), (ticks - wait).tolist(), strict=True)) <= visits
        pairs = slots * market.n_items + items
        assert len(np.unique(pairs)) == len(pairs)
        row, position = np.nonzero(closed.ledger.item >= 0)
        shown = schedule.slot[row] * market.n_items + closed.ledger.item[row, position]
        order = np.argsort(pairs)
        place = order[np.minimum(np.searchsorted(pairs[order], shown), len(pairs) - 1)]
        is_before = (pairs[place] == shown) & (ticks[place] - wait < schedule.tick[row])
        shown_again += is_before.sum()
        assert not closed.ledger.consumed[row, position][is_before].any()
    assert shown_again > 0


MIXED = {
    "clones": choosing(0.4, attraction=5.0),
    "dynamics": choosing(0.4, attraction=5.0, dynamics=MOVED),
    "hawkes": dataclasses.replace(choosing(0.4), arrivals=HAWKES),
    "broadcast": choosing(0.4, markets.small_broadcast),
    "delay": choosing(0.4, delay="1d"),
}


@pytest.mark.parametrize("kind", MIXED)
def test_batches_and_resumed_runs_bring_the_same(kind, tmp_path):
    """Ledger and events do not depend on batches, nor on a stop between two rounds."""
    config = MIXED[kind]
    uninterrupted = markets.played(config)
    assert all(
        closed.ledger.organic.any() and closed.ledger.consumed.any() for closed in uninterrupted.closed
    )
    for other in (
        markets.played(config, batch_size=1),
        markets.resumed(config, "relevance", tmp_path / "state"),
    ):
        markets.same_ledgers(uninterrupted, other)
        # Users who stay have the events of all rounds in one record.
        np.testing.assert_array_equal(events_of(uninterrupted)[-1], events_of(other)[-1])


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_future_states_follow_from_free_choice(share):
    """Foreseen events are those of the round if all choice is free, and else those that come without slates."""
    config = choosing(share)
    agent, market = markets.market_of("relevance", config)
    opened = market.open
    foreseen = np.column_stack(opened.foreseen_histories().all_events())
    assert not len(opened.histories.all_events()[0])
    slots, _, items = foreseen.T
    assert len(np.unique(slots * market.n_items + items)) == len(foreseen)
    empty = market_for(agent, config)
    while empty.round == 0:
        arrivals = empty.next_arrivals(9)
        empty.serve(arrivals, np.full((len(arrivals), 5), -1))
    np.testing.assert_array_equal(events_of(empty)[0], foreseen)
    play_round(market, agent)
    assert np.array_equal(events_of(market)[0], foreseen) == (share == 1.0)


@pytest.mark.parametrize("name", ["hindsight", "oracle", "informed", "rim-ucb", "rim-resolve"])
def test_bounds_and_learners_play_with_free_choice(name):
    """Agents that read true intensities, the future or feedback fill their slates."""
    config = dataclasses.replace(choosing(0.4), exposure=ExposureConfig(beta=0.3), rounds=2)
    market = markets.played(config, name)
    assert all((closed.ledger.item >= 0).mean() > 0.9 for closed in market.closed)


def test_satiation_counts_free_choices():
    """Who is tired of what was chosen freely chooses otherwise."""
    tired = markets.played(choosing(1.0, dynamics=DynamicsConfig(satiation=5.0)))
    fresh = markets.played(choosing(1.0))
    _, first_rows = np.unique(fresh.closed[0].schedule.slot, return_index=True)
    is_later = np.ones(len(fresh.closed[0].schedule), bool)
    is_later[first_rows] = False
    counts = [market.closed[0].ledger.organic for market in (tired, fresh)]
    np.testing.assert_array_equal(counts[0][first_rows], counts[1][first_rows])
    assert counts[0][is_later].sum() < 0.7 * counts[1][is_later].sum()


def test_measures_tell_both_kinds_apart():
    """Organic consumptions are a measure of their own, without a value where there are none; utility is of slates."""
    market = markets.played(choosing(0.4))
    closed = market.closed[1]
    facts = markets.facts_of(market, closed)
    n_events = len(closed.histories.all_events()[0])
    n_organic = n_events - int(closed.ledger.consumed.sum())
    assert MEASURES["organic_consumptions"].value(facts) == n_organic / len(closed.schedule)
    utility = closed.ledger.probability.sum() / len(closed.schedule)
    assert MEASURES["utility"].value(facts) == pytest.approx(utility)
    for config in (choosing(0.0), markets.small_replay()):
        plain = markets.played(config)
        assert MEASURES["organic_consumptions"].value(markets.facts_of(plain, plain.closed[0])) is None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_predictions_are_of_slates(share):
    """True intensities, times the examination that measures and the platform use, give the true probabilities."""
    market = markets.played(choosing(share, attraction=3.0))
    for closed in market.closed:
        facts = markets.facts_of(market, closed)
        expected = -np.expm1(-closed.ledger.true_intensity * facts.examination)
        np.testing.assert_allclose(expected, closed.ledger.probability, rtol=1e-12)
    ratio = MEASURES["calibration_ratio"].value(markets.facts_of(market, market.closed[-1]))
    assert 2 / 3 < ratio < 1.5


def test_a_platform_opens_as_if_nothing_was_chosen_freely():
    """The warm-up log has whole sessions, so its calibration does not depend on the share."""
    scores = []
    for share in (0.0, 0.5, 1.0):
        market = Market(choosing(share))
        scores.append(market.next_arrivals(10).intensity.numpy())
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


@pytest.mark.parametrize("data", ["impressions", "consumed", "ips"])
def test_a_platform_learns_from_free_choices(data):
    """They are targets of its training log; slates that bring nothing leave the layer as it was."""
    platform = PlatformConfig(model="popularity-hp", learning=LearningConfig(data=data))
    config = dataclasses.replace(choosing(1.0), platform=platform)
    market = markets.played(config, "epsilon-greedy")
    for number, closed in enumerate(market.closed):
        recent = market.closed[max(0, number - 2) : number + 1]
        market_counts = sum(
            np.bincount(events[:, 2], minlength=market.n_items) for events in events_of_rounds(recent)
        )
        assert (closed.log_counts >= market_counts).all()
        assert market_counts.sum() > 100
    if data == "impressions":
        assert all(len(fit.layer.item) == market.n_items for fit in market.platform.fits)
        assert not any(fit.layer.item.any() for fit in market.platform.fits)


def events_of_rounds(rounds):
    """Events of closed rounds that are known before each round's end."""
    tables = [np.column_stack(closed.histories.all_events()) for closed in rounds]
    return [table[table[:, 1] < closed.schedule.stop] for table, closed in zip(tables, rounds, strict=True)]


@pytest.mark.parametrize("examination", ["random", "harvested"])
def test_examination_is_estimated_where_slates_bring_little_or_nothing(examination):
    """The platform has an estimate with a half of the choice, and none without any consumption of a slate."""
    for share in (0.5, 1.0):
        config = dataclasses.replace(
            choosing(share, attraction=5.0), exposure=ExposureConfig(examination=examination), rounds=2
        )
        market = markets.played(config, "random")
        assert market.closed[-1].ledger.consumed.any() == (share < 1)
        assert 0 < market.platform.decay <= 1


def test_a_random_arm_is_still_its_own_control(tmp_path):
    """Organic events come from replicas like others, in the same number, to the last bit."""
    seeds = Seeds.all(3)
    config = choosing(0.5, attraction=3.0)
    arm = markets.played(config, "random", seeds=seeds)
    sizes = [closed.learnt_events for closed in arm.closed]
    shadow = Shadowed(shadow_of(config, 3, tmp_path, lambda _: None), sizes)
    control = markets.played(config, "random", seeds=seeds, control=shadow)
    markets.same_ledgers(control, arm)
    for control_round, arm_round in zip(control.closed, arm.closed, strict=True):
        np.testing.assert_array_equal(control_round.log_counts, arm_round.log_counts)
    of_relevance = markets.played(config, "relevance", seeds=seeds)
    sizes = [closed.learnt_events for closed in of_relevance.closed]
    shadow = Shadowed(shadow_of(config, 3, tmp_path, lambda _: None), sizes)
    control = markets.played(config, "relevance", seeds=seeds, control=shadow)
    assert [closed.learnt_events for closed in control.closed] == sizes


@cases(
    "changes problem",
    ({"consumer.kind": "replay", "arrivals.kind": "replay"}, "'replay' has no free choice"),
    ({"consumer.own_choice": 1.1}, "own_choice"),
    ({"consumer.own_choice": -0.1}, "own_choice"),
)
def test_slips_are_told(changes, problem):
    """A share outside 0 to 1, and a consumer without free choice, are refused by name."""
    config = choosing(0.5)
    refused(ConfigError, problem, lambda: kinds.make_consumer(override(config, changes)))


def test_true_intensities_are_those_of_the_session(visited):
    """What bounds see does not depend on the share, as the ledger does not."""
    market, visits = visited
    plain = kinds.make_consumer(override(market.config, {"consumer.own_choice": 0.0}))
    assert bool((plain.true_intensity(visits) == market.consumer.true_intensity(visits)).all())
    seen = Market(market.config, needs=Needs(truth=True)).next_arrivals(3)
    assert bool((seen.true_intensity.sum(1) > 0).all())
