"""Guarantees that cannot be delivered, named with their reason, by plain counts."""

from dataclasses import replace

import numpy as np
import pytest
from kit import cases
from kit.logs import Chunks, arrivals_of, skewed, view_of

from rimsim.agents import Undeliverable, make_agent, undeliverable
from rimsim.arrays import ticks
from rimsim.requirements.rows import Requirements, Row

N = 60
M = 20
K = 4


def _view(required, admissible=None, capacity=None, **fields):
    """A round of an hour after one of the same states, with given requirements."""
    past = arrivals_of(skewed(N, M), admissible)
    past = replace(past, time=np.linspace(-3600.0, -1.0, N), capacity=capacity)
    view = view_of(N, M, K, past=past, hard=True, **fields)
    return replace(view, required=np.asarray(required, np.float64), opens=0.0, closes=3600.0)


@cases("unit decay reachable", ("shown", 1.0, 240.0), ("examined", 0.5, 112.5))
def test_too_few_positions_are_named_in_the_unit_of_the_guarantee(unit, decay, reachable):
    """N slates hold N·Σw; with a cap on users, what last round's states could fill."""
    (reason,) = undeliverable(_view(np.full(M, 0.6 * N), unit=unit, decay=decay))
    assert (reason.why, len(reason.items)) == ("positions", M)
    assert reason.reachable == pytest.approx(reachable, rel=1e-5)
    assert reason.required == pytest.approx(0.6 * N * M)
    capped = _view(np.full(M, 9.0), capacity=np.where(np.arange(N) % 2, K, 1))
    (reason,) = undeliverable(capped)
    assert reason.reachable == pytest.approx(N * 2.5)
    assert undeliverable(replace(_view(np.full(M, 9.0)), calibration=Chunks())) == ()  # nobody came


def test_an_item_that_is_not_released_in_time_is_named():
    """With a tenth of the round left after its release, an item can have N/10 exposures and no more."""
    released = np.full(M, -np.inf)
    released[3] = 3240.0
    required = np.where(np.arange(M) == 3, 7.0, 5.0)
    (reason,) = undeliverable(_view(required), released)
    assert (reason.why, reason.items) == ("release", (3,))
    assert reason.reachable == pytest.approx(6.0)
    assert undeliverable(_view(np.where(np.arange(M) == 3, 6.0, 5.0)), released) == ()
    message = "asked for 7.0, at most 6.0, since it is not released in time"
    assert str(reason) == f"item 3 cannot be delivered in full: {message}"


def test_an_item_that_most_have_consumed_is_named_and_is_indeed_missed():
    """What a twelfth of the states may be shown cannot have a tenth of them; what is delivered is what was foreseen."""
    admissible = np.ones((N, M), bool)
    admissible[:, 5] = np.arange(N) % 12 == 0
    view = _view(np.where(np.arange(M) == 5, 6.0, 4.0), admissible)
    (reason,) = undeliverable(view)
    assert (reason.why, reason.items, reason.reachable) == ("consumed", (5,), 5.0)
    agent = make_agent("rim-feedback")
    agent.begin_round(view)
    items = agent.act(arrivals_of(skewed(N, M, 1), admissible)).items
    exposure = np.bincount(items.ravel(), minlength=M)
    assert exposure[5] == 5
    assert (np.delete(exposure, 5) >= 4).all()


def _with_row(row, admissible=None):
    """The same round with one group or campaign, and nothing asked of items."""
    view = _view(np.zeros(M), admissible)
    counts = np.ones((N, 1), bool) if row.audience < 0 else (np.arange(N) % 3 == 0)[:, None]
    (chunk,) = list(view.past)
    past = Chunks([replace(chunk, audiences=counts)])
    return replace(view, promises=Requirements.of([row]), delivered=np.zeros(1), calibration=past)


@cases(
    "row why reachable",
    (Row("a", np.array([1, 2]), 121.0, arrivals=60.0), "positions", 120.0),
    (Row("a", np.arange(9), 241.0, arrivals=60.0), "positions", 240.0),
    (Row("a", np.array([1, 2]), 41.0, arrivals=20.0, audience=0), "positions", 40.0),
    (Row("a", np.array([1, 2]), 120.0, arrivals=60.0), None, None),
    (Row("a", np.array([1, 2]), 1.0, arrivals=0.0, audience=0), "positions", 0.0),
)
def test_a_row_has_as_many_positions_as_items_at_each_arrival_that_counts(row, why, reachable):
    """A group or campaign can have min(k, items) positions at an arrival of its audience; beyond that it is named."""
    reasons_found = undeliverable(_with_row(row))
    reasons = [(reason.why, reason.name, reason.reachable) for reason in reasons_found]
    assert reasons == ([] if why is None else [(why, "a", reachable)])


def test_a_row_whose_items_come_late_were_consumed_or_are_capped_is_named():
    """What is not released in time, may be shown to few of the audience, or has caps below cannot be delivered."""
    row = Row("late", np.array([3, 4]), 100.0, arrivals=60.0)
    released = np.where(np.arange(M) == 3, 2700.0, -np.inf)  # there for a quarter of the round
    (reason,) = undeliverable(_with_row(row), released)
    assert (reason.why, reason.reachable) == ("release", pytest.approx(60 * 1.25))
    admissible = np.ones((N, M), bool)
    admissible[::2, 3:5] = False
    (reason,) = undeliverable(_with_row(row, admissible))
    assert (reason.why, reason.reachable) == ("consumed", pytest.approx(60.0))
    message = "asked for 100.0, at most 60.0, since those who come have consumed it"
    assert str(reason) == f"late cannot be delivered in full: {message}"
    view = _with_row(Row("a", np.array([3, 4]), 30.0, arrivals=60.0))
    caps = [Row(f"most of {item}", np.array([item]), max_exposure=14.0, arrivals=60.0) for item in (3, 4)]
    table = Requirements.of([Row("a", np.array([3, 4]), 30.0, arrivals=60.0), *caps])
    (reason,) = undeliverable(replace(view, promises=table, delivered=np.zeros(3)))
    assert (reason.why, reason.name, reason.reachable) == ("caps", "a", 28.0)
    large_row = Row(
        "many", np.arange(3, 9), 240.0, arrivals=60.0
    )  # more items than positions, two of them late
    assert undeliverable(_with_row(large_row), np.where(np.isin(np.arange(M), (3, 4)), 2700.0, -np.inf)) == ()


def _relayed(begin, end):
    """A view and its bound for a row that asks for too much of items 3 to 8 with given times on offer in seconds."""
    released = np.full(M, -np.inf)
    ended = np.full(M, np.inf)
    released[3:9] = begin
    ended[3:9] = end
    row = Row("relay", np.arange(3, 9), 500.0, arrivals=60.0, begin=0, end=int(ticks(3600.0)))
    (reason,) = undeliverable(_with_row(row), released, ended=ended)
    return reason


def test_items_that_take_turns_fill_a_position_all_the_time():
    """Six items, each on offer for its own sixth of the round, can have one position at all 60 arrivals."""
    begin = 600.0 * np.arange(6)
    reason = _relayed(begin, begin + 600.0)
    assert (reason.why, reason.reachable) == ("end", pytest.approx(60.0))


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_of_a_row_is_what_its_items_can_fill_at_each_instant(seed):
    """With any times on offer, a row can have min(k, items on offer) positions at an arrival, by a grid of time."""
    rng = np.random.default_rng(seed)
    begin = rng.integers(-10, 36, 6) * 100.0
    end = begin + rng.integers(1, 20, 6) * 100.0
    instants = np.arange(3600) + 0.5
    n_on_offer = ((begin[:, None] <= instants) & (instants < end[:, None])).sum(0)
    assert _relayed(begin, end).reachable == pytest.approx(60.0 * np.minimum(n_on_offer, K).mean())


def test_five_items_are_named_and_what_fits_is_not():
    """A reason names its first five items, the number of the rest, what is asked for and can be."""
    five_items = Undeliverable("release", tuple(range(5)), 5.0, 2.0)
    seven_items = Undeliverable("release", tuple(range(7)), 1234.5, 2.0)
    assert str(five_items).startswith(
        "item 0, 1, 2, 3, 4 cannot be delivered in full: asked for 5.0, at most 2.0"
    )
    assert str(seven_items).startswith(
        "item 0, 1, 2, 3, 4 and 2 more cannot be delivered in full: asked for 1,234.5"
    )
    for decay in (1.0, 0.8):
        view = view_of(N, M, K, unit="examined", decay=decay, past=arrivals_of(skewed(N, M)))
        assert undeliverable(view) == ()
