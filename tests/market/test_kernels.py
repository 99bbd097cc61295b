"""Compiled pieces of the market against what they stand for, in plain NumPy."""

import copy
import pickle

import numpy as np
import pytest
import torch

from rimsim import rng
from rimsim.market.clock import QueueState
from rimsim.market.consumers.contract import answer, uniform_draws
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.ledger import Ledger
from rimsim.market.records import Schedule
from rimsim.market.serving import RoundColumns, enter_slates
from rimsim.market.slates import observed_gain
from rimsim.matching import top_k
from rimsim.matching.kernels import best_rows


def test_answers_are_the_closed_form_of_each_position():
    """Intensities λ*·p*, probabilities 1 − exp(−intensity·γ^(r−1)·a), and what the keyed draws make of them."""
    draw = np.random.default_rng(0)
    rows = np.arange(5)
    share = draw.random((5, 90)) * (draw.random((5, 90)) < 0.7)  # some items may not be consumed
    share = (share / share.sum(1, keepdims=True)).astype(np.float32)
    ground = np.float32([20, 90, 150, 200, 300])
    slates = draw.permuted(np.tile(np.arange(90), (5, 1)), axis=1)[:, :7].copy()
    slates[:, 1] = -1
    key = rng.bits(3, rng.Purpose.CHOICE, rows)
    consumed = np.empty((5, 7), bool)
    probability = np.empty((5, 7))
    intensity = np.empty((5, 7))
    answer(share, ground, slates, key, 0.8 ** np.arange(7), 1.5, consumed, probability, intensity)
    is_filled = slates >= 0
    shown_share = np.where(is_filled, np.take_along_axis(share, slates.clip(0), 1), 0.0)
    want = shown_share * ground[:, None].astype(float)
    np.testing.assert_allclose(intensity, want, rtol=1e-15)
    np.testing.assert_allclose(probability, 1 - np.exp(-want * 0.8 ** np.arange(7) * 1.5), rtol=1e-12)
    drawn = rng.uniform(3, rng.Purpose.CHOICE, rows[:, None], slates)
    np.testing.assert_array_equal(consumed, (drawn < probability) & is_filled)
    assert consumed.any(0)[2:].all()
    np.testing.assert_array_equal(uniform_draws(key, slates)[is_filled], drawn[is_filled])


@pytest.mark.parametrize("k", [1, 9])
@pytest.mark.parametrize("levels", [3, 40, 10**6])
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_best_rows_are_those_of_a_sort_and_ties_are_told(levels, share, k):
    """Rows without ties equal a full sort; those with a tie among the best or at their end are marked, no others."""
    draw = np.random.default_rng(levels)
    scores = (draw.integers(levels, size=(50, 333)) / 7).astype(np.float32)
    scores -= np.float32(levels / 21)
    scores[draw.random(scores.shape) < 0.05] = -0.0  # equal to 0, and of other bits
    scores[::5] = np.abs(scores[::5]) * -1.0
    admissible = draw.random((50, 333)) < share
    items = np.empty((50, k), np.int64)
    tied = best_rows(scores, admissible, items)
    for row in range(50):
        allowed = np.flatnonzero(admissible[row])
        order = allowed[np.argsort(-scores[row][allowed], kind="stable")]
        values = scores[row][order[: k + 1]]
        assert tied[row] == (len(np.unique(values)) < len(values))
        assert (items[row] == -1).sum() == max(0, k - len(order))
        if not tied[row]:
            assert items[row][items[row] >= 0].tolist() == order[:k].tolist()


def test_top_k_of_tied_rows_is_the_same_in_any_batch():
    """Rows full of equal scores get one slate of best items, alone or among others."""
    draw = np.random.default_rng(1)
    scores = torch.from_numpy((draw.integers(4, size=(40, 200)) / 4).astype(np.float32))
    admissible = torch.from_numpy(draw.random((40, 200)) < 0.9)
    together = top_k(scores, admissible, 7)
    for row in range(40):
        assert (top_k(scores[row : row + 1], admissible[row : row + 1], 7)[0] == together[row]).all()
        best = np.sort(scores[row][admissible[row]].numpy())[::-1][:7]
        assert scores[row].numpy()[together[row]].tolist() == best.tolist()
        assert admissible[row].numpy()[together[row]].all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_top_k_of_arrays_is_that_of_tensors(dtype):
    """Also with a mask of int8, as environments observe it, of all rows, no position, or more than there are items."""
    draw = np.random.default_rng(2)
    scores = draw.random((30, 120)).astype(dtype)
    admissible = draw.random((30, 120)) < 0.8
    want = top_k(torch.from_numpy(scores), torch.from_numpy(admissible), 5)
    assert (top_k(scores, admissible, 5) == want).all()
    assert (top_k(scores, admissible.astype(np.int8), 5) == want).all()
    two_rows = np.array([[0.3, 0.1, 0.2], [0.1, 0.1, 0.0]], dtype)
    assert top_k(two_rows, np.ones((2, 3), bool), 0).shape == (2, 0)
    assert top_k(two_rows[:1], np.array([[True, False, True]]), 5).tolist() == [[0, 2, -1, -1, -1]]
    assert top_k(two_rows, np.ones((2, 3), bool), 4)[:, 3].tolist() == [-1, -1]
    assert top_k(two_rows, np.array([[False, True, True]]), 1).tolist() == [[2], [1]]


def test_what_a_slate_takes_off_the_shortfall_is_what_was_missing_of_its_items():
    """An exposure counts as far as its item had less than it requires; the observed figures follow."""
    exposure = np.array([1.0, 0, 0, 3, 0])
    required = np.array([1.0, 0, 0, 2, 4])
    weights = np.array([1.0, 0.5, 0.25])
    seen_exposure = np.float32([0, 0, 0, 2, 0])
    seen_shortfall = np.float32([1, 0, 0, 0, 4])
    shown = np.array([3, -1, 0])  # item 3 had its two before
    assert observed_gain(shown, weights, exposure, required, seen_exposure, seen_shortfall) == 0.25
    assert seen_exposure.tolist() == exposure.tolist()
    assert seen_shortfall.tolist() == [0, 0, 0, 0, 4]


def test_a_served_slate_is_entered_with_its_exposures_and_consumptions():
    """Ledger, exposures, histories and queue of two arrivals equal what a count by hand gives; others stay empty."""
    schedule = Schedule(
        tick=np.array([10, 20, 30]),
        id=np.array([0, 1 << 16, 2 << 16]),
        slot=np.array([0, 1, 2]),
        user=np.arange(3),
        log_user=np.zeros(3, np.int64),
        shift=np.zeros(3),
        session=np.full(3, -1),
        start=0,
        stop=100,
    )
    past = LoggedPast(np.array([0, 0]), np.zeros(0, np.int64), np.zeros(0))
    histories = Histories(schedule, past)
    ledger = Ledger(schedule, 2)
    queue = QueueState.of(schedule)
    columns = RoundColumns(
        tick=schedule.tick,
        slot=schedule.slot,
        position_weights=np.array([1.0, 0.5]),
        required=np.zeros(4),
        exposure=np.zeros(4),
        ledger=ledger.columns,
        events=histories.events,
        queue=queue,
        wait=1,
        enters_events=True,
    )
    items = np.array([[3, 1], [-1, 3]])
    consumed = np.array([[True, False], [False, True]])
    relevance = np.float32([[0.5, 0.25], [0.1, 0.2]])
    ground = np.float32([2, 4])
    chance = np.array([[0.9, 0.1], [0.0, 0.7]])
    worth = np.array([[1.0, 0.5], [0.0, 0.8]])
    enter_slates(columns, np.array([2, 0]), items, relevance, ground, consumed, chance, worth)
    assert columns.exposure.tolist() == [0.0, 0.5, 0.0, 1.5]
    assert ledger.item.tolist() == [[-1, 3], [-1, -1], [3, 1]]
    assert ledger.consumed.tolist() == [[False, True], [False, False], [True, False]]
    np.testing.assert_array_equal(ledger.intensity, np.float32([[np.nan, 0.8], [np.nan, np.nan], [1.0, 0.5]]))
    assert ledger.ground.tolist() == [4.0, 0.0, 2.0]
    assert (ledger.probability[2].tolist(), ledger.true_intensity[0].tolist()) == ([0.9, 0.1], [0.0, 0.8])
    assert [column.tolist() for column in histories.all_events()] == [[0, 2], [11, 31], [3, 3]]
    assert (queue.is_served.tolist(), int(queue.n_served[0])) == ([True, False, True], 2)


def test_copies_of_a_record_share_no_memory():
    """A kernel that enters an event into a copy, also one that was pickled, leaves the record as it was."""
    schedule = Schedule(
        *np.zeros((2, 1), np.int64), *np.zeros((3, 1), np.int64), np.zeros(1), np.zeros(1, np.int64), 0, 9
    )
    past = LoggedPast(np.array([0, 0]), np.zeros(0, np.int64), np.zeros(0))
    histories = Histories(schedule, past)
    event = np.zeros(1, np.int64)
    histories.append(event, event, event)
    for copied in (copy.deepcopy(histories), pickle.loads(pickle.dumps(histories)), histories.copy()):  # noqa: S301
        copied.append(event, event, event)
        assert (copied.events.size.tolist(), histories.events.size.tolist()) == ([2], [1])
