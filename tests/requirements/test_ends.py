"""Guarantees of items that end: pro-rated to their time on offer, with brute force."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rimsim.arrays import ALWAYS, NEVER, ticks
from rimsim.config import ExposureConfig, scenario_from
from rimsim.requirements.audiences import RoundVisits
from rimsim.requirements.campaigns import CampaignTables
from rimsim.requirements.on_offer import TimesOnOffer
from rimsim.requirements.rows import CarryOver, ScenarioRequirements, item_floors, uniform_share

DAY = int(ticks(86_400.0))
ITEMS = pd.DataFrame({"id": ["a", "b", "c", "d"], "genres": ["x", "x", "y", "y"]})


def visits_at(tick, start, stop):
    """Visits of different users at given ticks."""
    n = len(tick)
    return RoundVisits(np.asarray(tick, np.int64), np.arange(n), np.zeros(n, bool), start, stop)


def week(number, n):
    """Visits of a week, evenly spaced."""
    start = 7 * DAY * number
    return visits_at(start + 7 * DAY * np.arange(n) // n, start, start + 7 * DAY)


def requirements_of(exposure):
    """Requirements of a scenario with slates of two positions and four items."""
    config = scenario_from({"slate": 2, "rounds": 4, "exposure": {"beta": 0.0} | exposure})
    tables = CampaignTables(ITEMS, pd.DataFrame({"id": np.arange(64)}), 0.0, np.full(4, ALWAYS))
    return ScenarioRequirements(config, tables, seed=0)


def test_an_item_that_is_released_again_keeps_its_later_end():
    """The item ends when the log says so, unless this time was over before the release."""
    ends = np.array([100, 30, NEVER])
    times = TimesOnOffer(np.full(3, ALWAYS), ends).ended(np.arange(3), 20)
    again = times.released(np.arange(3), 40, ends)
    assert again.at(np.array([19, 20, 39, 40, 99, 100])).T.tolist() == [
        [True, False, False, True, True, False],
        [True, False, False, True, True, True],
        [True, False, False, True, True, True],
    ]


def opened(requirements, number, end, before=None, n=28, release=None):
    """Requirements of a week in which items end at given ticks."""
    release = np.full(4, ALWAYS) if release is None else release
    return requirements.round(
        number,
        week(number, n),
        before,
        forecast=1.0,
        capacity=None,
        position_weights=np.ones(2),
        times=TimesOnOffer(release, np.asarray(end, np.int64)),
    )


def test_an_item_on_offer_for_half_of_a_round_has_half_of_its_floor():
    """Releases and ends count alike: each half of a round gives half of the floor of a round."""
    middle = int(3.5 * DAY)
    end = np.array([NEVER, NEVER, middle, NEVER])
    release = np.array([ALWAYS, ALWAYS, ALWAYS, middle])
    required = opened(requirements_of({"beta": 0.5}), 0, end, n=84, release=release).required
    assert required.tolist() == [28, 28, 14, 14]
    floors = opened(requirements_of({"each": 6}), 0, end, release=release).required
    assert floors.tolist() == [6, 6, 3, 3]


def test_an_end_within_a_round_counts_without_any_release():
    """An item that ends at half of the round has half of the floor of an item that stays."""
    requirements = requirements_of({"beta": 0.5})
    required = opened(requirements, 0, [NEVER, NEVER, NEVER, int(3.5 * DAY)], n=84).required
    assert required.tolist() == [24, 24, 24, 12]


def test_an_item_is_over_at_the_very_tick_of_its_end():
    """One end among endless items is noticed at its tick, in seconds of a log as between them."""
    times = TimesOnOffer(np.full(3, ALWAYS), np.array([NEVER, 2 * DAY, NEVER]))
    for tick in (2 * DAY - 1, 2 * DAY, 2 * DAY + 1):
        at = np.array([0, tick])
        assert times.at(at)[1].tolist() == [True, tick < 2 * DAY, True]
        assert times.all_at(at) == (tick < 2 * DAY)


def test_a_group_has_the_uniform_exposure_of_its_items_time_on_offer():
    """Of 56 positions, two items that are there all week have a third each, two that are there for half a sixth."""
    middle = int(3.5 * DAY)
    group = {"groups": [{"column": "genres", "beta": 0.5}]}
    result = opened(requirements_of(group), 0, [NEVER, NEVER, middle, middle])
    assert result.due == pytest.approx([0.5 * 56 * 2 / 3, 0.5 * 56 / 3])
    # The second group counts, and is paced, only up to the end of its last item.
    assert result.table.end.tolist() == [7 * DAY, middle]
    assert result.table.arrivals.tolist() == [28, 14]
    assert result.counted[:, result.table.audience[1]].tolist() == [True] * 14 + [False] * 14


def test_a_group_owes_only_what_was_due_while_it_was_on_offer():
    """A group whose items all end after a quarter of the round carries a quarter of its guarantee on."""
    planned = opened(requirements_of({"groups": [{"column": "genres", "beta": 0.5}]}), 0, [NEVER] * 4)
    end = np.array([NEVER, NEVER, 7 * DAY // 4, 7 * DAY // 4])
    always = np.full(4, ALWAYS)
    result = planned.with_offer(TimesOnOffer.endless(always), TimesOnOffer(always, end), week(0, 28))
    assert planned.carry_over.rows == pytest.approx([14, 14])
    assert result.due == pytest.approx([14, 3.5])
    assert result.carry_over.rows == pytest.approx([14, 3.5])


@pytest.mark.parametrize("last_end", [3, 7, 10, 12, 20])
def test_a_campaign_grows_until_the_end_of_its_last_item(last_end):
    """28 exposures from day 3 to day 17 are 2 a day, and none after the items have ended."""
    campaign = {"name": "c", "items": ["a", "d"], "exposures": 28, "start": 3, "stop": 17}
    requirements = requirements_of({"campaigns": [campaign]})
    end = [int(last_end * DAY), NEVER, NEVER, DAY]
    for number in range(3):
        result = opened(requirements, number, end)
        days = [day for day in range(7 * number, 7 * number + 7) if 3 <= day < min(17, last_end)]
        assert result.carry_over.rows[0] == pytest.approx(2 * len(days))
        assert len(result.table) == (len(days) > 0)
        if days:
            assert result.table.end[0] == min(17, last_end, 7 * number + 7) * DAY


def test_nothing_is_carried_over_the_end_of_an_item():
    """A shortfall is due until the end, at most at every visit before it, and then falls away."""
    requirements = requirements_of({"each": 4, "per": "28d"})
    end = [7 * DAY, 9 * DAY, 21 * DAY, NEVER]
    first = opened(requirements, 0, end)
    assert first.required.tolist() == [4, 4, 4, 4]
    second = opened(requirements, 1, end, first.carried_over(np.zeros(4), np.zeros(0)))
    # Item a is over. Item b has 8 of the 28 visits, and a floor of 8/28 of 4, rounded.
    assert second.required.tolist()[:1] + second.required.tolist()[2:] == [0, 8, 8]
    assert 5 <= second.required[1] <= 6
    owed = second.carry_over
    large = CarryOver(np.full(4, 100.0), owed.rows, owed.start)
    assert opened(requirements, 1, end, large).required.tolist() == [0, 8, 28, 28]


instants = st.lists(st.integers(0, 40), min_size=6, max_size=6)


@example(release=[0] * 6, life=[0] * 5 + [30], tick=[10, 10, 10], each=False)
@given(
    release=instants,
    life=instants,
    tick=st.lists(st.integers(10, 29), min_size=1, max_size=12),
    each=st.booleans(),
)
def test_floors_are_in_proportion_to_visits_on_offer(release, life, tick, each):
    """Each floor is within one of its part by brute force, and never above the visits on offer."""
    tick = np.sort(tick)
    visits = visits_at(tick, 10, 30)
    times = TimesOnOffer(np.array(release), np.array(release) + np.array(life))
    counts = np.array(
        [
            sum(begin <= at < begin + length for at in tick)
            for begin, length in zip(release, life, strict=True)
        ]
    )
    assert visits.on_offer(times).tolist() == counts.tolist()
    assert times.at(tick).sum(0).tolist() == counts.tolist()
    assert times.all_at(tick) == bool(times.at(tick).all())
    n_positions = 3 * len(tick)
    assert uniform_share(visits, n_positions, times) == pytest.approx(
        n_positions * counts / max(counts.sum(), 1)
    )
    exposure = dataclasses.replace(ExposureConfig(), beta=0.4, each=5 if each else None)
    part = 5 * counts / len(tick) if each else 0.4 * n_positions * counts / max(counts.sum(), 1)
    floors = item_floors(exposure, visits, n_positions, times, ties=0)
    assert (floors <= counts).all()
    assert (floors <= np.ceil(part)).all()
    assert (floors >= np.minimum(np.floor(part), counts)).all()


def test_windows_of_a_round_with_one_visit_are_empty_or_the_whole_round():
    """The visit lies before an instant or not, so an item is on offer for all of the arrivals or for none."""
    times = TimesOnOffer(np.array([ALWAYS, 2 * DAY, ALWAYS, 0]), np.array([NEVER, NEVER, DAY, 2 * DAY]))
    windows = (
        requirements_of({"each": 1, "pace": "arrivals"})
        .round(
            0,
            visits_at([int(1.5 * DAY)], 0, 7 * DAY),
            None,
            forecast=1.0,
            capacity=None,
            position_weights=np.ones(2),
            times=times,
        )
        .windows
    )
    assert windows.begin.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert windows.end.tolist() == [1.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("pace", ["arrivals", "clock"])
def test_windows_are_the_progress_of_the_round_at_release_and_end(pace):
    """By arrivals, the visits before an instant; by the clock, the share of the time before it."""
    end = [NEVER, int(3.5 * DAY), DAY, -DAY]
    visits = visits_at([0, 1, 2, DAY, 5 * DAY, 6 * DAY, 6 * DAY, 6 * DAY], 0, 7 * DAY)
    requirements = requirements_of({"each": 1, "pace": pace})
    times = TimesOnOffer(np.array([ALWAYS, 2, ALWAYS, ALWAYS]), np.array(end))
    weights = np.ones(2)
    windows = requirements.round(
        0, visits, None, forecast=1.0, capacity=None, position_weights=weights, times=times
    ).windows
    if pace == "arrivals":
        assert windows.begin.tolist() == [0, 2, 0, 0]
        assert windows.end.tolist() == [8, 4, 3, 0]
    else:
        assert windows.begin == pytest.approx([0, 8 * 2 / (7 * DAY), 0, 0])
        assert windows.end == pytest.approx([8, 4, 8 / 7, 0])
    endless = TimesOnOffer.endless(times.release)
    result = requirements.round(
        0, visits, None, forecast=1.0, capacity=None, position_weights=weights, times=endless
    )
    assert result.windows is None
