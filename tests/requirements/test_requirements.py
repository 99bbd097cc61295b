"""Floors, groups, campaigns and caps of a round: their table, and exposures that count for them."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import markets, same_arrays

from rimsim.agents import make_agent, play_round
from rimsim.arrays import ALWAYS, seconds
from rimsim.config import Seeds, scenario_from
from rimsim.market import Market, build_world
from rimsim.measures import mean_weight, position_weights, undelivered
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements, Row
from rimsim.scenarios.report.comparison import comparison_answer, delivered_of_due, result_tables
from rimsim.scenarios.report.group_figures import figures_of
from rimsim.scenarios.report.group_sentences import group_sentences
from rimsim.scenarios.report.numbers import figure, per_cent
from rimsim.scenarios.report.tables import late_figures, shortfalls
from rimsim.scenarios.report.titles import cost_of_guarantees

DAY = 86_400.0


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
    market = Market(markets.promising(unit=unit), seeds=Seeds.all(3))
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
    market = Market(markets.promising(unit=unit))
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
    market = Market(markets.promising(campaigns=[campaign | {"name": name} for name in ("first", "second")]))
    first, second = (audience.users for audience in market.open.requirements.audiences)
    assert np.mean(first & second) == pytest.approx(np.mean(first) * np.mean(second), abs=0.1)
    assert not np.array_equal(first, second)


def test_floors_of_a_period_are_settled_within_it():
    """With ``per``, a round asks for what its period has promised so far less what was delivered in it."""
    market = Market(markets.promising(per="14d", most=None, campaigns=[]))
    plain = Market(markets.promising(most=None, campaigns=[]))
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
    config = markets.promising(per="14d", most=None, campaigns=[], groups=[])
    run = markets.small_run(tmp_path / "run", ("relevance", "random"), config, rounds=2)
    totals = run.required[run.required["round"] == 1].groupby("agent")["required"].sum()
    assert set(totals.index) == {"relevance", "random"}
    assert totals["relevance"] != totals["random"]


def test_groups_share_one_floor_and_rows_without_a_cap_are_none():
    """A group is promised β of the uniform exposure of its items, for as long as each is there."""
    market = Market(markets.promising(markets.small_cold_start, campaigns=[]))
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
    view = Market(markets.promising(most=0.7, beta=0.5)).round_view()
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
    exposure = scenario_from({"exposure": markets.PROMISES}).exposure
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
    config = markets.promising(per="14d")
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


def test_a_run_tells_what_was_promised(tmp_path):
    """The table of promises, the measures and the report agree with each other."""
    run = markets.small_run(tmp_path / "run", ["relevance"], markets.promising(), rounds=2)
    with markets.drawn("campaigns"):
        run.draw()
    table = run.promises
    values = run.rounds.pivot(index="round", columns="metric", values="value")
    metric, _ = shortfalls(run.scenario.exposure.unit)
    weights = position_weights(run.scenario.consumer.position_decay, run.scenario.slate)
    unit = mean_weight(weights) if metric == "examined_shortfall" else 1.0
    due_items = unit * run.required.groupby("round")["required"].sum()
    assert set(table["round"]) == {0, 1}
    for number, rows in table.groupby("round"):
        # Deficits of the round before are a part of ``least``, but they do not count again.
        missing = np.maximum(np.minimum(rows["least"], rows["due"]) - rows["delivered"], 0).sum()
        beyond = np.maximum(rows["delivered"] - rows["most"], 0).sum()
        share = (missing + values["shortfall_units"][number]) / (rows["due"].sum() + due_items[number])
        assert values[metric][number] == pytest.approx(share)
        assert values["excess"][number] == pytest.approx(beyond)
    shares = delivered_of_due(table).set_index("promise")
    assert (run.folder / "pictures" / "campaigns.png").is_file()
    returning = table[table["name"] == "returning"]
    assert shares.loc["returning", "value"] == pytest.approx(
        returning["delivered"].sum() / returning["due"].sum()
    )


FIRST = {"name": "launch", "items": "new", "exposures": 12, "first": "4d"}


def test_each_released_item_has_a_campaign_in_its_first_days(tmp_path):
    """In the ledger, exposures within 4 days of the release are those of the table; the report adds items up."""
    exposure = scenario_from({"exposure": {"unit": "shown", "beta": 0, "campaigns": [FIRST]}}).exposure
    config = markets.small_cold_start(exposure=exposure, rounds=3)
    agents = ["relevance", "rim-feedback"]
    run = markets.small_run(tmp_path / "run", agents, config)
    world = build_world(config)
    ids = world.log.items["id"].astype(str).tolist()
    release = {ids[item]: world.release[item] / 1e6 for item in np.flatnonzero(world.release != ALWAYS)}
    delivered = run.promises.groupby(["agent", "name"])["delivered"].sum()
    required = run.promises.groupby(["agent", "name"])["due"].sum()
    for agent in agents:
        ledger = run.ledger[run.ledger["agent"] == agent]
        for text, begin in release.items():
            is_counted = (ledger["item"] == ids.index(text)) & (ledger["time"] >= begin)
            n_shown = int((is_counted & (ledger["time"] < begin + 4 * 86_400)).sum())
            name = f"launch in the first 4d of item {text}"
            assert delivered[agent, name] == n_shown
            assert required[agent, name] == pytest.approx(12, abs=1e-6)
    assert len(delivered) == 2 * len(release) > 20
    share = delivered.groupby("agent").sum() / (12 * len(release))
    assert share["relevance"] < 0.3
    assert share["rim-feedback"] > 0.9
    (table,) = (table for table in result_tables(run) if table.title.startswith("Exposures of groups"))
    (row,) = table.rows
    assert row[0] == "launch in the first 4d of each item"
    assert [cell.split()[0] for cell in row[1:]] == [f"{share[agent]:.3f}" for agent in agents]


def test_sentence_table_and_title_have_the_same_undelivered_share(tmp_path):
    """With items, groups and campaigns, all places report one share, in which old deficits count once."""
    agents = ["relevance", "popularity"]
    run = markets.small_run(tmp_path / "run", agents, markets.promising(), rounds=2)
    metric, _ = shortfalls(run.scenario.exposure.unit)
    means = late_figures(run.rounds)[metric]
    assert ((means > 0) & (means < 1)).all()
    sentences = " ".join(comparison_answer(run, run.rounds, agents))
    table = result_tables(run)[0]
    column = next(number for number, name in enumerate(table.columns) if name.startswith("undelivered"))
    for row in table.rows:
        assert f"`{row[0]}` leaves {figure(100 * means[row[0]])}%" in sentences
        assert row[column].split()[0] == f"{means[row[0]]:.3f}"
    assert f"popularity leaves {per_cent(means['popularity'])} " in cost_of_guarantees(run.rounds, "shown")


def test_old_deficits_count_once():
    """A missing exposure counts in the round that adds it; a surplus lowers the next requirement."""
    # The first guarantee has a deficit of 5 from the round before, the second a surplus of 3.
    assert undelivered([4, 6], required=[15, 7], due=[10, 10]) == pytest.approx((10 - 4 + 7 - 6) / 20)
    assert undelivered([15, 7], required=[15, 7], due=[10, 10]) == 0
    assert undelivered([], [], []) == 0


def test_the_sentence_of_a_column_counts_carried_deficits_as_the_table(tmp_path):
    """Groups alone, with a period of a week: sentence, tables of rounds and of groups have one undelivered share."""
    exposure = {"beta": 0.0, "per": "7d", "groups": [{"column": "genres", "beta": 0.6}]}
    config = markets.small_scenario(exposure=scenario_from({"exposure": exposure}).exposure)
    agents = ["relevance", "popularity"]
    run = markets.small_run(tmp_path / "run", agents, config, rounds=2)
    assert (run.promises["least"] > run.promises["due"] + 0.1).any()
    metric, _ = shortfalls(run.scenario.exposure.unit)
    (delivery, *_) = group_sentences(run)
    means = late_figures(run.rounds)[metric]
    table = result_tables(run)[0]
    column = next(number for number, name in enumerate(table.columns) if name.startswith("undelivered"))
    figures = figures_of(run, "genres")
    for row in table.rows:
        agent = row[0]
        assert 0 < means[agent] < 1
        assert figures.undelivered(agent).mean() == pytest.approx(means[agent])
        assert row[column].split()[0] == f"{means[agent]:.3f}"
        assert re.search(rf"`{agent}` (leaves )?{re.escape(per_cent(means[agent]))}", delivery)
