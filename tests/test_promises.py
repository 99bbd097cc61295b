"""Groups, campaigns, caps and periods: the table of requirements, and what is counted for it."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import DOCS, refused
from small_markets import drawn, small_broadcast, small_cold_start, small_replay, small_run, small_scenario

from rimsim.agents import make_agent, market_for, play_round
from rimsim.arrays import seconds
from rimsim.config import Seeds, find_scenario, scenario_from, to_plain
from rimsim.errors import ConfigError
from rimsim.market import Market, MarketState
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements, Row
from rimsim.scenarios.report.comparison import delivered_of_due

SHARE = {"name": "a", "items": [1], "share": 0.1}
DAY = 86_400.0
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
    """A small market with everything that can be promised."""
    exposure = scenario_from({"exposure": PROMISES | changes}).exposure
    return make(exposure=exposure)


def counted_by_hand(market, closed, row):
    """Exposures of a row of a closed round, counted position by position."""
    table, schedule, weights = closed.promises, closed.ledger.schedule, closed.position_weights
    begin, end, items = table.begin[row], table.end[row], set(table.items(row).tolist())
    users = market.world.log.users["id"].astype(str)
    found = 0.0
    for n in range(len(schedule)):
        if not begin <= schedule.tick[n] < end:
            continue
        slot = schedule.slot[n]
        known = int(schedule.logged[slot]) + int(schedule.id[n] & 0xFFFF)
        asked = known > 0 and users[schedule.log_user[slot]] in market.drawn
        if table.name[row] == "returning" and not asked:
            continue
        if table.name[row] == "first" and known > 0:
            continue
        found += sum(weights[r] for r, item in enumerate(closed.ledger.item[n].tolist()) if item in items)
    return found


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_delivered_is_what_the_ledger_holds_within_window_and_audience(unit):
    """Every row's count is the sum over its items, its time and its audience, nothing outside of them."""
    market = Market(promising(unit=unit), seeds=Seeds.all(3))
    audience = next(one for one in market.open.promised.audiences if one.visits == "returning")
    market.drawn = set(market.world.log.users["id"].astype(str)[audience.users])
    assert 0.4 < len(market.drawn) / market.world.log.n_users < 0.8
    agent, windows = make_agent("random"), {"returning": (3.0, 17.0), "first": (8.0, 21.0)}
    while not market.done:
        play_round(market, agent)
        closed = market.closed[-1]
        table = closed.promises
        for row in range(len(table)):
            assert closed.delivered[row] == pytest.approx(counted_by_hand(market, closed, row), abs=1e-9)
            if table.name[row] in windows:
                first, last = windows[table.name[row]]
                assert seconds(table.begin[row]) >= market.world.opening + first * DAY - 1e-6
                assert seconds(table.end[row]) <= market.world.opening + last * DAY + 1e-6
    assert "first" not in market.closed[0].promises.name


def test_what_is_missing_is_carried_until_the_window_ends():
    """A campaign's parts sum to its number, and each round asks for its part and for what is missing.

    A share is one of the positions of the arrivals that count, k each.
    """
    market = Market(promising())
    agent, due, got, shares = make_agent("popularity"), 0.0, 0.0, 0
    while not market.done:
        counted = market.round_view().promises
        play_round(market, agent)
        closed = market.closed[-1]
        row = closed.promises.name.index("returning")
        due += closed.due[row]
        assert closed.promises.least[row] == np.floor(max(due - got, 0.0) + 0.5)
        got += closed.delivered[row]
        if "first" in closed.promises.name:
            row, shares = closed.promises.name.index("first"), shares + 1
            assert closed.due[row] == pytest.approx(0.1 * 5 * counted.arrivals[row])
    assert due == pytest.approx(150.0)
    assert shares


def test_floors_of_a_period_are_settled_within_it():
    """With ``per``, a round asks for what its period has promised so far less what was delivered in it."""
    market = Market(promising(per="14d", most=None, campaigns=[]))
    plain = Market(promising(most=None, campaigns=[]))
    agent = make_agent("relevance")
    due, got = np.zeros(market.n_items), np.zeros(market.n_items)
    for number in range(3):
        play_round(plain, agent)
        play_round(market, agent)
        closed = market.closed[-1]
        if number == 2:  # two rounds a period
            due, got = 0 * due, 0 * got
        due, before = due + plain.closed[-1].required, got
        assert np.array_equal(closed.required, np.clip(due - before, 0, None))
        got = got + closed.ledger.exposure(market.n_items)
    assert not np.array_equal(market.closed[1].required, plain.closed[1].required)
    assert np.array_equal(market.closed[2].required, plain.closed[2].required)


def test_arms_whose_floors_hang_on_what_they_delivered_have_tables_of_their_own(tmp_path):
    """With ``per``, no arm's required exposures are written over another's: the table says whose they are."""
    config = promising(per="14d", most=None, campaigns=[], groups=[])
    found = small_run(tmp_path / "run", ("relevance", "random"), config, rounds=2)
    later = found.required[found.required["round"] == 1].groupby("agent")["required"].sum()
    assert set(later.index) == {"relevance", "random"}
    assert later["relevance"] != later["random"]


def test_groups_share_one_floor_and_rows_without_a_cap_are_none():
    """A group is promised β of the uniform exposure of its items, for as long as each is there."""
    market = Market(promising(small_cold_start, campaigns=[]))
    shares = market.open.promised
    row = shares.table.name.index("genres Comedy")
    genres = market.world.log.items["genres"].astype(str)
    mine = np.flatnonzero([("Comedy" in text.split("|")) for text in genres])
    assert np.array_equal(shares.table.items(row), mine)
    there = np.array([(market.schedule.tick >= tick).sum() for tick in market.world.release], np.float64)
    assert shares.due[row] == pytest.approx(0.5 * 120 * 5 * there[mine].sum() / there.sum())
    # A group of one item that asks for nothing has no item's price: it would be charged twice.
    rows = [Row("cap", np.array([1]), most=3.0, begin=0, end=9), Row("group", np.array([1]), begin=0, end=9)]
    assert Requirements.of(rows).item_caps.tolist() == [True, False]


def test_caps_are_multiples_of_the_uniform_exposure():
    """Rounded up, and never below an item's floor; a scenario without promises has an empty table."""
    view = Market(promising(most=0.5, beta=0.5)).round_view()
    most = view.promises.most_of_items(len(view.required))
    assert (most == np.ceil(0.5 * 120 * 5 / len(most))).all()
    assert (view.required <= most).all()
    market = Market(small_scenario())
    view = market.round_view()
    assert len(view.promises) == len(view.delivered) == 0
    assert market.next_arrivals().audiences is None
    assert len(NO_REQUIREMENTS) == 0


@pytest.mark.parametrize("make", [small_scenario, small_replay, small_broadcast, small_cold_start])
def test_past_states_have_audiences_of_the_coming_round(make):
    """States of the round before are active as if they came after the same share of this round, in every market."""
    exposure = scenario_from({"exposure": PROMISES}).exposure
    campaigns = tuple(dataclasses.replace(one, start=0.0, stop=5000.0) for one in exposure.campaigns)
    market = Market(make(exposure=dataclasses.replace(exposure, campaigns=campaigns), rounds=2))
    while not market.done:
        view = market.round_view()
        masks = np.concatenate([chunk.audiences for chunk in view.past])
        assert masks.shape == (len(view.past), 2)
        expected = view.promises.arrivals[view.promises.audience >= 0] / view.arrivals
        assert np.abs(masks.mean(0) - expected).max() < 0.3
        active = view.promises.active(masks, len(masks))
        assert active[:, view.promises.audience < 0].all()
        arrivals = market.next_arrivals(limit=3)
        assert arrivals.audiences.shape == (len(arrivals), 2)
        market.serve(arrivals, np.full((len(arrivals), market.config.slate), -1))
        play_round(market, make_agent("random"))


def tables(config, batch_size=None, resume_at=None, folder=None):
    """What every round promised and delivered, played in batches, and from a saved state on."""
    agent = make_agent("rim-feedback")
    market = market_for(agent, config)
    found = []
    while not market.done:
        if market.round == resume_at:
            market.state.save(folder)
            market = market_for(agent, config)
            market.load_state(MarketState.load(folder))
        play_round(market, agent, batch_size)
        closed = market.closed[-1]
        asked = closed.required, closed.promises.least
        found.append((*asked, closed.delivered, closed.due, closed.ledger.item))
    return found


def test_batches_and_resume_leave_all_bits(tmp_path):
    """What is promised and delivered is the same for every batch size, and after a resume."""
    config = promising(per="14d")
    whole = tables(config)
    for other in (tables(config, 7), tables(config, None, 1, tmp_path), tables(config, 50, 2, tmp_path)):
        for one, two in zip(whole, other, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_counts_are_sums_over_the_ledger(data):
    """For any table, slates and audiences, each count is a brute sum, and rows of all items hold all that was shown."""
    m, n, k = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 6)), data.draw(st.integers(1, 2))
    draw = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    columns = data.draw(st.integers(0, 2))
    rows = [Row("all", np.arange(m))]
    for number in range(data.draw(st.integers(0, 4))):
        items = np.union1d(np.flatnonzero(draw.random(m) < 0.5), draw.integers(m))
        rows.append(Row(str(number), items, audience=int(draw.integers(-1, columns))))
    table = Requirements.of(rows)
    slates = np.stack([draw.permutation(m)[:k] for _ in range(n)])
    slates[draw.random(slates.shape) < 0.2] = -1
    masks = draw.random((n, columns)) < 0.5 if columns else None
    weights = np.array([1.0, 0.75])[:k]
    counts = table.delivered(slates, masks, weights, m)
    active = table.active(masks, n)
    for row in range(len(table)):
        member = np.isin(slates, table.items(row))
        assert counts[row] == (member * weights * active[:, [row]]).sum()
    assert counts[0] == ((slates >= 0) * weights).sum()
    some = draw.random(len(table)) < 0.5
    assert np.array_equal(table.rows(some).delivered(slates, masks, weights, m), counts[some])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": {"genre": "Horror"}}, "the table has no column 'genre'. Did you mean 'genres'"),
        ({"items": {"genres": "Horor"}}, "column 'genres' has no value 'Horor'. Did you mean 'Horror'"),
        ({"items": ["26O"]}, "the catalogue has no item '26O'"),
        ({"items": {"genres": "Western", "year": 1994}}, "no item has all that it asks for"),
        ({"items": "new"}, "no item is released after the opening"),
        ({"audience": {"users": {"sex": "F"}}}, "audience: the table has no column 'sex'"),
        ({"audience": {"share": 1e-9}}, "its audience has no user"),
        ({"exposures": 10_000}, "10,000 exposures, where its audience has about 120 positions"),
        ({"exposures": 100, "caps": 4}, "100 exposures, .* about 24 positions .* or higher caps"),
    ],
)
def test_rows_that_cannot_be_are_refused_by_name(change, message):
    """Without items, users or positions, beyond caps, or with unknown names, a market is refused with the name."""
    campaign = {"name": "a", "items": [260], "exposures": 10, "stop": 7} | change
    config = promising(campaigns=[campaign], groups=[], most=campaign.pop("caps", None))
    refused(ConfigError, f"campaign 'a'.*{message}", Market, config)


@pytest.mark.parametrize(
    ("exposure", "message"),
    [
        ({"campaigns": [{"items": [1], "share": 0.1}]}, "field 'exposure.campaigns.name' is missing"),
        ({"campaigns": [{"name": "a", "items": [1]}]}, "found neither of exposures and share"),
        ({"campaigns": [{"name": "a", "items": [1], "exposures": 3}]}, "exposures 3 without a stop"),
        ({"campaigns": [SHARE | {"start": 3, "stop": 2}]}, "stop is 2 with start 3"),
        ({"campaigns": [SHARE | {"start": 99}]}, "last round ends on day 56"),
        ({"campaigns": [{"name": "a", "item": [1], "share": 0.1}]}, "Did you mean .*items"),
        ({"campaigns": [SHARE] * 2}, "'a' is there twice"),
        ({"groups": [{"colum": "genres", "beta": 0.1}]}, "Did you mean .*column"),
        ({"groups": [{"column": "genres", "beta": 2}]}, "less than or equal to 1"),
        ({"most": 0.1}, "exposure.most is 0.1, below exposure.beta"),
        ({"per": "week"}, "'week' has no unit|'week' is no duration"),
    ],
)
def test_a_wrong_config_says_what_is_allowed(exposure, message):
    """Each fault of a promise is named with what is allowed, before anything is built."""
    refused(ConfigError, message, scenario_from, {"exposure": exposure})


def test_a_config_with_promises_survives_a_round_trip():
    """What a YAML says of promises is the same record after it was written out and read again."""
    for config in (promising(per="7d"), find_scenario("campaigns")):
        assert scenario_from(yaml.safe_load(yaml.safe_dump(to_plain(config)))) == config


def test_every_example_of_the_page_is_a_scenario_that_opens():
    """Each YAML example of the page on guarantees reads, and a market of it opens its first round."""
    page = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(examples) >= 5
    small = to_plain(small_scenario())
    for text in examples:
        plain = yaml.safe_load(text)
        assert set(plain) <= {"rounds", "arrivals", "releases", "exposure"}
        merged = small | plain | {"arrivals": small["arrivals"] | plain.get("arrivals", {})}
        view = Market(scenario_from(merged)).round_view()
        assert view.required.any() or len(view.promises)


def test_a_run_tells_what_was_promised(tmp_path):
    """The table of promises, the measures and the report agree with each other."""
    with drawn("campaigns"):
        run = small_run(tmp_path / "run", ["relevance"], promising(), rounds=2)
    table, values = run.promises, run.rounds.pivot(index="round", columns="metric", values="value")
    assert set(table["round"]) == {0, 1}
    for number, rows in table.groupby("round"):
        missing = np.maximum(rows["least"] - rows["delivered"], 0).sum() / rows["least"].sum()
        beyond = np.maximum(rows["delivered"] - rows["most"], 0).sum()
        assert values["promises_missed"][number] == pytest.approx(missing)
        assert values["excess"][number] == pytest.approx(beyond)
    shares = delivered_of_due(table).set_index("promise")
    assert (run.folder / "pictures" / "campaigns.png").is_file()
    one = table[table["name"] == "returning"]
    assert shares.loc["returning", "value"] == pytest.approx(one["delivered"].sum() / one["due"].sum())
