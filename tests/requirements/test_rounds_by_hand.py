"""Requirements of single rounds, from a few visits, items and earlier deliveries, counted by hand."""

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused

from rimsim.arrays import ALWAYS, NEVER, ticks
from rimsim.config import scenario_from
from rimsim.errors import ConfigError
from rimsim.measures import mean_weight
from rimsim.requirements.audiences import RoundVisits
from rimsim.requirements.campaigns import CampaignTables
from rimsim.requirements.on_offer import TimesOnOffer
from rimsim.requirements.rows import ScenarioRequirements

DAY = int(ticks(86_400.0))
WEIGHTS = np.array([1.0, 0.5])
ITEMS = pd.DataFrame({"id": ["a", "b", "c", "d"], "genres": ["x", "x|y", "y", ""]})
RELEASED = np.full(4, ALWAYS)


def requirements_of(exposure, release=RELEASED):
    """Requirements of a scenario with slates of two positions, four items and eight users."""
    config = scenario_from({"slate": 2, "rounds": 4, "exposure": {"beta": 0.0} | exposure})
    tables = CampaignTables(ITEMS, pd.DataFrame({"id": np.arange(8)}), 0.0, release)
    return ScenarioRequirements(config, tables, seed=0)


def week(number, n=8):
    """Visits of a week, evenly spaced from its beginning on; the later half are first visits."""
    start = 7 * DAY * number
    tick = start + 7 * DAY * np.arange(n) // n
    return RoundVisits(tick, np.arange(n), np.arange(n) >= n // 2, start, start + 7 * DAY)


def opened(
    requirements, number, before=None, *, forecast=1.0, capacity=None, weights=WEIGHTS, release=RELEASED, n=8
):
    """Requirements of a week after given carry-over."""
    return requirements.round(
        number,
        week(number, n),
        before,
        forecast=forecast,
        capacity=capacity,
        position_weights=weights,
        times=TimesOnOffer.endless(release),
    )


@pytest.mark.parametrize("weights", [np.ones(2), WEIGHTS])
def test_a_campaign_is_due_in_proportion_to_its_days(weights):
    """Of 28 exposures from day 3 to day 17 a week has 2 a day; what is missing is added to the next week's."""
    campaign = {"name": "c", "items": ["a", "d"], "exposures": 28, "start": 3, "stop": 17}
    requirements = requirements_of({"campaigns": [campaign]})
    before = None
    average = mean_weight(weights)
    delivered = [5.0, 20.0, 0.0]
    # The first week leaves 3 of 8 undelivered; the second delivers 3 more than its 17.
    required = [8, 14 + 3, 6 - 3]
    for number, n_days in enumerate((4, 7, 3)):
        opening = opened(requirements, number, before, weights=weights)
        assert opening.due == pytest.approx([2 * n_days * average])
        assert opening.table.min_exposure == pytest.approx([required[number] * average])
        window = [max(3, 7 * number), min(17, 7 * number + 7)]
        assert [opening.table.begin[0], opening.table.end[0]] == [day * DAY for day in window]
        before = opening.carried_over(np.zeros(4), np.array([delivered[number] * average]))
    assert len(opened(requirements, 3, before).table) == 0
    assert before.rows.tolist() == [3.0]  # 28 less 5 and 20


@cases("forecast floor", (0.0, 0.0), (0.5, 1.0), (1.0, 2.0), (1.5, 3.0))
def test_floors_are_shares_of_the_forecast_positions(forecast, floor):
    """Each of four items is due an eighth of the sixteen positions times the forecast, so nothing if nobody comes."""
    opening = opened(requirements_of({"beta": 0.5}), 0, forecast=forecast, weights=np.ones(2))
    assert opening.required.tolist() == [floor] * 4


def test_a_share_is_of_the_positions_that_the_audience_is_expected_to_have():
    """Caps of users and both forecasts count, and only visits of the audience within its days do."""
    audience = {"visits": "first"}
    campaign = {"name": "c", "items": ["a"], "share": 0.5, "start": 3.5, "stop": 5.25, "audience": audience}
    requirements = requirements_of({"beta": 0.5, "campaigns": [campaign], "forecast": 1.5})
    capacity = np.array([2, 2, 2, 2, 1, 0, 2, 1])
    opening = opened(requirements, 0, forecast=2.0, capacity=capacity, weights=np.ones(2))
    # Visit 4 comes at the first tick that counts, visit 6 at the first that does not; 4 and 5 have one position.
    assert opening.counted[:, 0].tolist() == [False] * 4 + [True, True, False, False]
    assert opening.due == pytest.approx([0.5 * 3.0 * (1 + 0)])
    assert opening.table.arrivals == pytest.approx([3.0 * 2])
    assert opening.table.min_exposure.tolist() == [2.0]  # 1.5, rounded half up
    assert opening.required.sum() == 0.5 * 3.0 * 12  # of items, from all positions


@pytest.mark.parametrize("per", ["round", "14d"])
def test_a_group_carries_its_deficit_within_its_period_alone(per):
    """Per round, each week asks for its own part; per fortnight, the second week also for what the first missed."""
    groups = [{"column": "genres", "beta": 0.5}]
    requirements = requirements_of({"groups": groups, "per": per})
    # Uniform exposure is 8·2/4 = 4 per item; both genres have two items.
    first = opened(requirements, 0)
    assert first.table.name == ("genres x", "genres y")
    assert first.due == pytest.approx([4.0 * 0.75] * 2)
    second = opened(requirements, 1, first.carried_over(np.zeros(4), 0.75 * np.array([1.0, 6.0])))
    extra = np.array([3.0, -2.0]) if per == "14d" else np.zeros(2)
    assert second.table.min_exposure == pytest.approx((4.0 + extra) * 0.75)
    assert second.due == pytest.approx([4.0 * 0.75] * 2)
    third = opened(requirements, 2, second.carried_over(np.zeros(4), np.zeros(2)))
    assert third.table.min_exposure == pytest.approx([4.0 * 0.75] * 2)


def test_items_carry_no_more_than_arrivals_and_nothing_once_withdrawn():
    """A deficit of a fortnight is paid by one exposure per arrival at most; over-delivery asks for nothing."""
    requirements = requirements_of({"beta": 0.5, "per": "28d"})
    first = opened(requirements, 0)
    assert first.required == pytest.approx(np.full(4, 2.0 * 0.75))
    delivered = 0.75 * np.array([0.0, 9.0, 1.0, 0.0])
    second = opened(requirements, 1, first.carried_over(delivered, np.zeros(0)))
    assert second.required == pytest.approx(0.75 * np.array([4.0, 0.0, 3.0, 4.0]))
    release = np.array([ALWAYS, ALWAYS, ALWAYS, NEVER])
    later = opened(requirements, 2, second.carried_over(np.zeros(4), np.zeros(0)), release=release, n=3)
    # Three arrivals: floors of 3·2/3·0.5 = 1 for three items; a has 4 + 1 due and gets at most 3.
    assert later.required == pytest.approx(0.75 * np.array([3.0, 0.0, 3.0, 0.0]))
    assert later.carry_over.items == pytest.approx([5.0, -4.0, 4.0, 0.0])


def test_floors_of_items_released_within_a_round_count_the_arrivals_after_it():
    """β shares out positions by arrivals to come; ``each`` is scaled by them; no floor exceeds them."""
    release = np.array([ALWAYS, ALWAYS, int(3.5 * DAY), int(6.5 * DAY)])
    n_remaining = np.array([8, 8, 4, 0])
    required = opened(requirements_of({"beta": 0.5}), 0, weights=np.ones(2), release=release).required
    assert required.sum() == 8
    assert (np.abs(required - 8 * n_remaining / 20) < 1).all()
    floors = opened(requirements_of({"each": 6}), 0, weights=np.ones(2), release=release).required
    assert floors.tolist() == [6, 6, 3, 0]
    large_floors = opened(requirements_of({"each": 20}), 0, weights=np.ones(2), release=release).required
    assert large_floors.tolist() == [8, 8, 4, 0]
    groups = requirements_of({"groups": [{"column": "genres", "beta": 0.5}]})
    group_floors = opened(groups, 0, weights=np.ones(2), release=release).due
    assert group_floors == pytest.approx([0.5 * 16 * (8 + 8) / 20, 0.5 * 16 * (8 + 4) / 20])


def test_caps_are_rounded_up_in_the_unit_and_last_all_round():
    """A cap of 0.6 times the uniform exposure of 4 positions is 3 positions, in examined exposure 3 average ones."""
    table = opened(requirements_of({"most": 0.6}), 1).table
    assert table.name == tuple(f"most of item {item}" for item in "abcd")
    assert table.max_exposure == pytest.approx(np.full(4, 3 * 0.75))
    assert (table.begin == 7 * DAY).all()
    assert (table.end == 14 * DAY).all()
    assert (table.arrivals == 8).all()


def test_an_item_to_be_released_later_has_room_for_a_campaign():
    """Its cap is then that of an average item: 3 exposures a week, of which a campaign may ask for 3 and not for 4."""
    release = np.array([ALWAYS, ALWAYS, ALWAYS, 10 * DAY])
    for exposures in (3, 4):
        campaign = {"name": "c", "items": ["d"], "exposures": exposures, "start": 7, "stop": 14}
        requirements = requirements_of({"most": 0.6, "campaigns": [campaign]}, release)
        if exposures == 3:
            assert len(opened(requirements, 0, release=release).table) == 4
        else:
            refused(ConfigError, "only about 3 positions", opened, requirements, 0, release=release)


def test_items_with_floors_are_drawn_again_each_round():
    """Two of four items have a floor; over sixty rounds every pair of items is drawn."""
    requirements = requirements_of({"items": 2, "each": 3})
    pairs = {
        tuple(np.flatnonzero(opened(requirements, number, weights=np.ones(2)).required))
        for number in range(60)
    }
    assert pairs == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}


def test_a_carried_deficit_of_a_group_stays_below_its_cap():
    """With a cap of 5 exposures, a group that missed 3 of 4 is owed 5 of 7 in the second week."""
    groups = [{"column": "genres", "beta": 0.5, "most": 0.6}]
    requirements = requirements_of({"groups": groups, "per": "14d"})
    first = opened(requirements, 0)
    second = opened(requirements, 1, first.carried_over(np.zeros(4), 0.75 * np.array([1.0, 4.0])))
    assert second.table.max_exposure == pytest.approx([5.0 * 0.75] * 2)
    assert second.table.min_exposure == pytest.approx([5.0 * 0.75, 4.0 * 0.75])


def test_first_days_are_those_of_items_released_in_the_time_of_the_campaign():
    """Of items released never, on day 1, 3 and 5, a campaign from day 2 to 5 has the third, from day 3 to 7."""
    release = np.array([ALWAYS, DAY, 3 * DAY, 5 * DAY])
    campaign = {"name": "new", "items": "new", "share": 0.1, "start": 2, "stop": 5, "first": "4d"}
    table = opened(requirements_of({"campaigns": [campaign]}, release), 0, release=release).table
    assert table.item.tolist() == [2]
    assert (table.begin.tolist(), table.end.tolist()) == ([3 * DAY], [7 * DAY])
