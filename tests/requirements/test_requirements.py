"""Groups, campaigns, caps and periods: the table of requirements, what is counted, and agents that price them."""

import dataclasses
import re

import gymnasium
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import DOCS, cases, markets, refused, same_arrays
from kit.logs import arrivals_of, skewed, view_of
from kit.markets import facts_of, priced
from kit.problems import relaxed

from rimsim.agents import make_agent, market_for, play_round
from rimsim.agents.past_states import joined_states
from rimsim.agents.prices import solved_prices, solved_rows
from rimsim.agents.row_table import RowTable, spread_prices
from rimsim.arrays import seconds
from rimsim.config import ArrivalsConfig, Seeds, find_scenario, scenario_from, to_plain
from rimsim.errors import ConfigError
from rimsim.market import Market
from rimsim.market.world import check_promises
from rimsim.matching import Rows
from rimsim.measures import find_measure, mean_weight
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements, Row
from rimsim.scenarios.report.comparison import delivered_of_due
from rimsim.scenarios.study.certificates import HindsightPrices, certified

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


def promising(make=markets.small_scenario, **changes):
    """A small market with everything that can be promised."""
    exposure = scenario_from({"exposure": PROMISES | changes}).exposure
    return make(exposure=exposure)


def counted_by_hand(market, closed, row):
    """Exposures of a row of a closed round, counted position by position."""
    table = closed.promises
    schedule = closed.ledger.schedule
    weights = closed.position_weights
    begin = table.begin[row]
    end = table.end[row]
    items = set(table.items(row).tolist())
    users = market.world.log.users["id"].astype(str)
    exposure = 0.0
    for n in range(len(schedule)):
        if not begin <= schedule.tick[n] < end:
            continue
        slot = schedule.slot[n]
        n_earlier = int(schedule.logged[slot]) + int(schedule.id[n] & 0xFFFF)
        is_drawn = n_earlier > 0 and users[schedule.log_user[slot]] in market.drawn
        if table.name[row] == "returning" and not is_drawn:
            continue
        if table.name[row] == "first" and n_earlier > 0:
            continue
        exposure += sum(weights[r] for r, item in enumerate(closed.ledger.item[n].tolist()) if item in items)
    return exposure


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_delivered_is_what_the_ledger_holds_within_window_and_audience(unit):
    """Every row's count is the sum over its items, its time and its audience, nothing outside of them."""
    market = Market(promising(unit=unit), seeds=Seeds.all(3))
    audience = next(
        candidate for candidate in market.open.requirements.audiences if candidate.visits == "returning"
    )
    market.drawn = set(market.world.log.users["id"].astype(str)[audience.users])
    assert 0.4 < len(market.drawn) / market.world.log.n_users < 0.8
    agent = make_agent("random")
    windows = {"returning": (3.0, 17.0), "first": (8.0, 21.0)}
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


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_what_is_missing_is_carried_until_the_window_ends(unit):
    """A campaign's parts sum to its number and carry what is missing; a share is of the arrivals that count, k each.

    In examined exposure, one exposure at an average position counts as much as the mean weight of the positions.
    """
    market = Market(promising(unit=unit))
    average = mean_weight(market.open.requirements.position_weights)
    assert (average < 1.0) == (unit == "examined")
    agent = make_agent("popularity")
    due = 0.0
    delivered = 0.0
    n_shares = 0
    while not market.done:
        requirements = market.round_view().promises
        play_round(market, agent)
        closed = market.closed[-1]
        row = closed.promises.name.index("returning")
        due += closed.due[row]
        missing = max(due - delivered, 0.0) / average
        assert closed.promises.min_exposure[row] == np.floor(missing + 0.5) * average
        delivered += closed.delivered[row]
        if "first" in closed.promises.name:
            row = closed.promises.name.index("first")
            n_shares = n_shares + 1
            assert closed.due[row] == pytest.approx(0.1 * 5 * requirements.arrivals[row] * average)
    assert due == pytest.approx(150.0 * average)
    assert n_shares


def test_each_campaign_with_a_share_of_the_users_draws_its_own():
    """Two campaigns that ask for half of the users ask for different halves, which overlap as by chance."""
    campaign = {"items": {"genres": ["Horror"]}, "share": 0.1, "audience": {"share": 0.5}}
    market = Market(promising(campaigns=[campaign | {"name": name} for name in ("first", "second")]))
    first, second = (audience.users for audience in market.open.requirements.audiences)
    assert np.mean(first & second) == pytest.approx(np.mean(first) * np.mean(second), abs=0.1)
    assert not np.array_equal(first, second)


def test_floors_of_a_period_are_settled_within_it():
    """With ``per``, a round asks for what its period has promised so far less what was delivered in it."""
    market = Market(promising(per="14d", most=None, campaigns=[]))
    plain = Market(promising(most=None, campaigns=[]))
    agent = make_agent("relevance")
    due = np.zeros(market.n_items)
    delivered = np.zeros(market.n_items)
    for number in range(3):
        play_round(plain, agent)
        play_round(market, agent)
        closed = market.closed[-1]
        if number == 2:  # two rounds a period
            due = 0 * due
            delivered = 0 * delivered
        due = due + plain.closed[-1].required
        delivered_before = delivered
        assert np.array_equal(closed.required, np.clip(due - delivered_before, 0, None))
        delivered = delivered + closed.ledger.exposure(market.n_items)
    assert not np.array_equal(market.closed[1].required, plain.closed[1].required)
    assert np.array_equal(market.closed[2].required, plain.closed[2].required)


def test_arms_whose_floors_hang_on_what_they_delivered_have_tables_of_their_own(tmp_path):
    """With ``per``, no arm's required exposures are written over another's: the table says whose they are."""
    config = promising(per="14d", most=None, campaigns=[], groups=[])
    run = markets.small_run(tmp_path / "run", ("relevance", "random"), config, rounds=2)
    totals = run.required[run.required["round"] == 1].groupby("agent")["required"].sum()
    assert set(totals.index) == {"relevance", "random"}
    assert totals["relevance"] != totals["random"]


def test_groups_share_one_floor_and_rows_without_a_cap_are_none():
    """A group is promised β of the uniform exposure of its items, for as long as each is there."""
    market = Market(promising(markets.small_cold_start, campaigns=[]))
    requirements = market.open.requirements
    row = requirements.table.name.index("genres Comedy")
    genres = market.world.log.items["genres"].astype(str)
    items = np.flatnonzero([("Comedy" in text.split("|")) for text in genres])
    assert np.array_equal(requirements.table.items(row), items)
    n_arrivals = np.array([(market.schedule.tick >= tick).sum() for tick in market.world.release], np.float64)
    assert requirements.due[row] == pytest.approx(0.5 * 120 * 5 * n_arrivals[items].sum() / n_arrivals.sum())
    # A group of one item that asks for nothing has no item's price: it would be charged twice.
    rows = [
        Row("cap", np.array([1]), max_exposure=3.0, begin=0, end=9),
        Row("group", np.array([1]), begin=0, end=9),
    ]
    assert Requirements.of(rows).item_caps.tolist() == [True, False]


def test_caps_are_multiples_of_the_uniform_exposure():
    """Rounded up, and never below an item's floor; a scenario without promises has an empty table."""
    view = Market(promising(most=0.7, beta=0.5)).round_view()
    caps = view.promises.max_exposure_of_items(len(view.required))
    assert (caps == np.ceil(0.7 * 120 * 5 / len(caps))).all()
    assert (view.required <= caps).all()
    market = Market(markets.small_scenario())
    view = market.round_view()
    assert len(view.promises) == len(view.delivered) == 0
    assert market.next_arrivals().audiences is None
    assert len(NO_REQUIREMENTS) == 0


@pytest.mark.parametrize("make", [make for kind, make in markets.SMALL.items() if kind != "capped"])
def test_past_states_have_audiences_of_the_coming_round(make):
    """States of the round before are active as if they came after the same share of this round, in every market."""
    exposure = scenario_from({"exposure": PROMISES}).exposure
    campaigns = tuple(
        dataclasses.replace(campaign, start=0.0, stop=5000.0) for campaign in exposure.campaigns
    )
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
        play_round(market, make_agent("p-mmf"))  # which prices no rows


def test_batches_and_resume_leave_all_bits(tmp_path):
    """What is promised and delivered is the same for every batch size, and after a resume."""
    config = promising(per="14d")
    name = "rim-feedback"
    at_once = markets.played(config, name)
    for market in (
        markets.played(config, name, 7),
        *(markets.resumed(config, name, tmp_path / str(after), after, 50) for after in (1, 2)),
    ):
        markets.same_ledgers(at_once, market)
        for closed, closed_again in zip(at_once.closed, market.closed, strict=True):
            same_arrays(closed, closed_again, "required", "delivered", "due")
            same_arrays(closed.promises, closed_again.promises, "min_exposure")


@settings(max_examples=60)
@given(st.data())
def test_counts_are_sums_over_the_ledger(data):
    """For any table, slates and audiences, each count is a brute sum, and rows of all items hold all that was shown."""
    m = data.draw(st.integers(2, 6))
    n = data.draw(st.integers(1, 6))
    k = data.draw(st.integers(1, 2))
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
    selection = draw.random(len(table)) < 0.5
    assert np.array_equal(table.rows(selection).delivered(slates, masks, weights, m), counts[selection])


@cases(
    "change message",
    ({"items": {"genre": "Horror"}}, "the table has no column 'genre'. Did you mean 'genres'"),
    ({"items": {"genres": "Horor"}}, "column 'genres' has no value 'Horor'. Did you mean 'Horror'"),
    ({"items": ["26O"]}, "the catalogue has no item '26O'"),
    ({"items": {"genres": "Western", "year": 1994}}, "no item matches the filter"),
    ({"items": "new"}, "no item is released after the opening"),
    ({"audience": {"users": {"sex": "F"}}}, "audience: the table has no column 'sex'"),
    ({"audience": {"share": 1e-9}}, "the audience has no user"),
    ({"exposures": 10_000}, "10,000 exposures, but .* its audience has only about 120 positions"),
    ({"exposures": 100, "caps": 4}, "100 exposures, .* about 24 positions .* or higher caps"),
)
def test_rows_that_cannot_be_are_refused_by_name(change, message):
    """Without items, users or positions, beyond caps, or with unknown names, a market is refused with the name."""
    campaign = {"name": "a", "items": [260], "exposures": 10, "stop": 7} | change
    config = promising(campaigns=[campaign], groups=[], most=campaign.pop("caps", None))
    refused(ConfigError, f"campaign 'a'.*{message}", Market, config)
    refused(ConfigError, f"campaign 'a'.*{message}", check_promises, config, 0)


@cases(
    "exposure message",
    ({"campaigns": [{"items": [1], "share": 0.1}]}, "field 'exposure.campaigns.name' is missing"),
    ({"campaigns": [{"name": "a", "items": [1]}]}, "neither exposures nor share is set"),
    ({"campaigns": [{"name": "a", "items": [1], "exposures": 3}]}, "it has exposures .3. but no stop"),
    ({"campaigns": [SHARE | {"start": 3, "stop": 2}]}, "stop 2 is not after start 3"),
    ({"campaigns": [SHARE | {"start": 99}]}, "last round ends on day 56"),
    ({"campaigns": [{"name": "a", "item": [1], "share": 0.1}]}, "Did you mean .*items"),
    ({"campaigns": [SHARE] * 2}, "'a' occurs twice"),
    ({"groups": [{"colum": "genres", "beta": 0.1}]}, "Did you mean .*column"),
    ({"groups": [{"column": "genres", "beta": 2}]}, "less than or equal to 1"),
    ({"most": 0.1}, "exposure.most is 0.1, below exposure.beta"),
    ({"per": "week"}, "'week' has no unit|'week' is not a duration"),
)
def test_a_wrong_config_says_what_is_allowed(exposure, message):
    """Each fault of a promise is named with what is allowed, before anything is built."""
    refused(ConfigError, message, scenario_from, {"exposure": exposure})


def test_a_config_with_promises_survives_a_round_trip_and_examples_open():
    """What a YAML says is the same record when read again; of each example of the page a market opens."""
    for config in (promising(per="7d"), find_scenario("campaigns")):
        assert scenario_from(yaml.safe_load(yaml.safe_dump(to_plain(config)))) == config
    page = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(examples) >= 5
    small = to_plain(markets.small_scenario())
    for text in examples:
        plain = yaml.safe_load(text)
        assert set(plain) <= {"rounds", "arrivals", "releases", "exposure"}
        merged = small | plain | {"arrivals": small["arrivals"] | plain.get("arrivals", {})}
        view = Market(scenario_from(merged)).round_view()
        assert view.required.any() or len(view.promises)


def test_a_run_tells_what_was_promised(tmp_path):
    """The table of promises, the measures and the report agree with each other."""
    with markets.drawn("campaigns"):
        run = markets.small_run(tmp_path / "run", ["relevance"], promising(), rounds=2)
    table = run.promises
    values = run.rounds.pivot(index="round", columns="metric", values="value")
    assert set(table["round"]) == {0, 1}
    for number, rows in table.groupby("round"):
        missing = np.maximum(rows["least"] - rows["delivered"], 0).sum() / rows["least"].sum()
        beyond = np.maximum(rows["delivered"] - rows["most"], 0).sum()
        assert values["promises_missed"][number] == pytest.approx(missing)
        assert values["excess"][number] == pytest.approx(beyond)
    shares = delivered_of_due(table).set_index("promise")
    assert (run.folder / "pictures" / "campaigns.png").is_file()
    returning = table[table["name"] == "returning"]
    assert shares.loc["returning", "value"] == pytest.approx(
        returning["delivered"].sum() / returning["due"].sum()
    )


AGENTS = ("rim-feedback", "rim-resolve(every=30)")


def missed(rounds):
    """Share of what groups, campaigns and caps ask for that closed rounds have not delivered."""
    short = sum(np.maximum(closed.promises.min_exposure - closed.delivered, 0).sum() for closed in rounds)
    return short / sum(closed.promises.min_exposure.sum() for closed in rounds)


@cases(
    "make unit", *((make, "examined") for make in markets.SMALL.values()), (markets.small_scenario, "shown")
)
def test_no_item_is_shown_above_its_cap(make, unit):
    """An agent that keeps promises never exceeds a cap, in any market, unit or batch; relevance does."""
    campaigns = markets.CAMPAIGNS[1:] if make is markets.small_scenario else []
    config = priced(make, unit=unit, most=1.5, campaigns=campaigns)
    for name in AGENTS:
        for closed in markets.played(config, name, 17).closed:
            assert (closed.delivered <= closed.promises.max_exposure).all()
    rounds = markets.played(config).closed
    assert any((closed.delivered > closed.promises.max_exposure).any() for closed in rounds)


@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", AGENTS)
def test_groups_and_campaigns_are_delivered_beside_floors(name, unit):
    """Nearly all that groups, campaigns and floors ask for is delivered, where relevance leaves much of it."""
    config = priced(unit=unit)
    rounds = markets.played(config, name).closed
    assert missed(rounds) < 0.03
    assert missed(markets.played(config).closed) > 0.15
    floors = sum(closed.required.sum() for closed in rounds)
    deficits = [
        np.maximum(closed.required - markets.weighted_exposures(closed), 0).sum() for closed in rounds
    ]
    assert sum(deficits) / floors < 0.05


@pytest.mark.parametrize("pace", ["arrivals", "clock"])
@pytest.mark.parametrize("name", AGENTS)
def test_batches_change_no_bit(name, pace):
    """Slates, prices and the prices of rows are the same for every batch size."""
    config = priced(pace=pace, unit="examined")
    agent, at_once = markets.played_by(name, config)
    for size in (1, 23):
        second_agent, in_batches = markets.played_by(name, config, size)
        markets.same_ledgers(at_once, in_batches)
        same_arrays(agent, second_agent, "row_price")


def test_prices_of_a_campaign_are_for_its_audience_alone():
    """The bonus of a campaign's items is paid at arrivals that count for it, and at no others."""
    config = priced(beta=0.0, most=None, groups=[], campaigns=markets.CAMPAIGNS[:1], items=None)
    agent, market = markets.market_of("rim-feedback", config)
    is_counted = market.open.requirements.counted[:, 0]
    table = market.round_view().promises
    play_round(market, agent)
    ledger = market.closed[0].ledger
    in_campaign = np.isin(ledger.item, table.items(0))
    assert (ledger.price[~is_counted] == 0).all()
    assert (ledger.price[~in_campaign] == 0).all()
    assert (ledger.price[in_campaign & is_counted[:, None]] < 0).any()


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_the_optimum_in_hindsight_keeps_promises(unit):
    """Who knows who comes delivers all that is asked for in a broadcast, within every cap."""
    config = priced(markets.small_broadcast, unit=unit, campaigns=[], items=None, beta=0.2)
    for name in ("hindsight", "offline-match"):
        for closed in markets.played(config, name).closed:
            missing = np.maximum(closed.promises.min_exposure - closed.delivered, 0).sum()
            assert missing <= 0.02 * closed.promises.min_exposure.sum() + 1.0
            assert (closed.delivered <= closed.promises.max_exposure).all()


def test_frozen_prices_of_rows_move_slates():
    """Prices of rows that are solved once bring groups and campaigns more than they get without."""
    config = priced(most=None)
    agent, market = markets.played_by("rim-dual", config)
    assert missed(market.closed) < 0.7 * missed(markets.played(config).closed)
    assert (agent.row_price <= 0).all()


def test_solved_prices_of_rows_are_those_of_the_audience_problem():
    """A row of one item that everyone counts for has the price that the item's own floor would have."""
    base = {"beta": 0.0, "most": None, "groups": [], "campaigns": []}
    campaign = {"name": "one", "items": {"genres": "Western"}, "share": 0.1}
    view = market_for(make_agent("rim-dual"), priced(**base | {"campaigns": [campaign]})).round_view()
    table = RowTable.of(view)
    item_price, row_price = table.split(solved_rows(view, table, 1e-4)[0])
    item = int(view.promises.items(0)[0])
    required = np.zeros(len(view.required))
    required[item] = view.promises.min_exposure[0]
    alone = dataclasses.replace(view, required=required, promises=NO_REQUIREMENTS, delivered=np.zeros(0))
    item_floor_price, _ = solved_prices(alone, 1e-4)
    assert row_price[0] == pytest.approx(item_floor_price[item], abs=0.05 * view.cost)
    assert row_price[0] < 0 == item_price.min()
    spread = spread_prices(view, row_price, next(iter(view.past)))
    assert (spread[:, item] == row_price[0]).all()
    assert np.count_nonzero(spread) == len(spread)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", AGENTS)
def test_promised_rows_of_one_item_are_floors(name, unit, hard):
    """Floors asked for as rows of one item give the same slates and prices to the bit, and prices of rows."""
    n = 60
    m = 12
    k = 3
    past = arrivals_of(skewed(n, m, 1))
    arrivals = arrivals_of(skewed(n, m, 2), first=500)
    decay = 0.7 if unit == "examined" else 1.0
    view = view_of(n, m, k, past=past, unit=unit, decay=decay, hard=hard)
    item_floors = [(item, b) for item, b in enumerate(view.required) if b > 0]
    table = Requirements.of([Row(f"row {item}", np.array([item]), b, arrivals=n) for item, b in item_floors])
    promised = dataclasses.replace(
        view, required=np.zeros(m), promises=table, delivered=np.zeros(len(item_floors))
    )
    floors = []
    agents = [make_agent(name), make_agent(name)]
    for agent, agent_view in zip(agents, (view, promised), strict=True):
        agent.begin_round(agent_view)
        floors.append([agent.act(arrivals.rows(slice(start, start + 30))) for start in (0, 30)])
    for of_floors, of_rows in zip(*floors, strict=True):
        same_arrays(of_floors, of_rows, "items", "price")
    assert np.array_equal(agents[1].row_price, agents[0].item_price[table.item])
    assert (agents[1].item_price == 0).all()


def owed_and_beyond(closed):
    """What items, groups and campaigns miss in a closed round, and what was shown above caps."""
    items = closed.required - markets.weighted_exposures(closed)
    rows = closed.promises.min_exposure - closed.delivered
    missing = np.maximum(items, 0).sum() + np.maximum(rows, 0).sum()
    return missing, np.maximum(closed.delivered - closed.promises.max_exposure, 0).sum()


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_rewards_and_returns_count_groups_campaigns_and_caps(tmp_path, unit):
    """A missing exposure of a row and one above a cap cost c; rewards sum to the return and c × all that is asked."""
    place = markets.in_file(priced(unit=unit), tmp_path)
    env = gymnasium.make("rimsim:RIMMarket-v0", scenario=str(place)).unwrapped
    env.reset(seed=0)
    market = env.market
    totals = []
    states_noted = []
    total = 0.0
    while not market.done:
        number = market.round
        action = np.argsort(-env.arrivals.relevance[0].numpy(), kind="stable")[:5]
        _, reward, _, _, info = env.step(action)
        total += reward
        if market.round == number and not market.done:
            states_noted.append((number, info["market"]["shortfall"], info["market"]["excess"]))
        else:
            totals.append(total)
            total = 0.0
    for number, (closed, rewarded) in enumerate(zip(market.closed, totals, strict=True)):
        missing, beyond = owed_and_beyond(closed)
        assert missing > 0 < beyond
        required = closed.required.sum() + closed.promises.min_exposure.sum()
        expected = closed.ledger.consumed.sum() + closed.cost * (required - missing - beyond)
        assert rewarded == pytest.approx(expected)
        measured = find_measure("return").value(facts_of(market, closed))
        assert measured == pytest.approx(rewarded - closed.cost * required)
        last_note = [note for note in states_noted if note[0] == number][-1]
        assert missing <= last_note[1] + 1e-9
        assert last_note[1] - missing <= 5 * 3 + 1e-9  # the last slate alone came after it
        assert 0 <= beyond - last_note[2] <= 5 + 1e-9


def rows_by_hand(closed):
    """Groups and campaigns of a closed round for the linear programme, and (M,) caps of items."""
    table = closed.promises
    n = len(closed.ledger.item)
    m = len(closed.required)
    first = [0]
    item = []
    floors = []
    active = []
    caps = np.full(m, np.inf)
    ticks = closed.ledger.schedule.tick
    audiences = closed.states.audiences
    for row in range(len(table)):
        items = table.items(row)
        if np.isfinite(table.max_exposure[row]):
            caps[items] = table.max_exposure[row]
            continue
        item += items.tolist()
        first.append(len(item))
        floors.append(table.min_exposure[row])
        is_counted = np.ones(n, bool) if table.audience[row] < 0 else audiences[:, table.audience[row]]
        active.append(is_counted & (ticks >= table.begin[row]) & (ticks < table.end[row]))
    first = np.array(first)
    item = np.array(item, np.int64)
    floors = np.array(floors)
    no_caps = np.full(len(floors), np.inf)
    rows = Rows(first, item, floors, no_caps, np.full(len(floors), closed.cost), np.stack(active, axis=1))
    return rows, np.minimum(caps, n)


SHARES = [
    {"name": "some", "items": {"genres": "Horror"}, "share": 0.1, "stop": 5} | markets.RETURNING,
    {"name": "late", "items": {"genres": "Western"}, "share": 0.2, "start": 2},
]


@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", ["rim-feedback", "hindsight", "relevance"])
def test_the_certificate_of_a_round_is_the_linear_programme_with_all_rows(name, unit):
    """The bound is HiGHS' optimum within caps; V is below it, and there is no gap where a cap is exceeded."""
    config = priced(markets.small_scenario, unit=unit, most=2, campaigns=SHARES)
    arrivals = ArrivalsConfig(per_round=30, max_visits=3)
    market = markets.played(dataclasses.replace(config, slate=3, rounds=1, arrivals=arrivals), name)
    closed = market.closed[0]
    states = joined_states(closed.states, 3)
    rows, caps = rows_by_hand(closed)
    scores = np.maximum(states.scores, 0.0).astype(np.float64)
    problem = scores, states.capacity, closed.position_weights, closed.required
    best = relaxed(*problem, caps, states.scores > -np.inf, closed.cost, rows)
    proof = certified(closed, HindsightPrices())
    assert best - 1e-9 <= proof.bound <= best + 2e-3 * abs(best)
    missing, beyond = owed_and_beyond(closed)
    assert (proof.shortfall, proof.excess) == pytest.approx((missing, beyond), abs=1e-9)
    facts = facts_of(market, closed, proof)
    assert facts.value_model == pytest.approx(proof.score - closed.cost * (missing + beyond))
    assert (beyond > 0) == (name == "relevance") == (facts.gap is None)
    if not beyond:
        assert facts.value_model == proof.value <= best + 1e-9
        assert facts.gap == proof.gap >= 0


@pytest.mark.parametrize("forecast", [0.5, 1.5])
def test_a_plan_of_the_whole_round_keeps_caps_whatever_was_forecast(forecast):
    """Caps are numbers of exposures: who plans for those who come exceeds none, though others were expected."""
    config = priced(markets.small_cold_start, most=1.5, campaigns=[], forecast=forecast)
    closed = markets.played(dataclasses.replace(config, rounds=1), "hindsight(tol=0.02)").closed[0]
    assert (closed.delivered <= closed.promises.max_exposure).all()
