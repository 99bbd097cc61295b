"""Best items of a row, and items between two values, against full sorts."""

import numpy as np
import pytest

from rimsim import matching


@pytest.mark.parametrize("m", [1, 5, 37, 200, 1031])
@pytest.mark.parametrize("levels", [2, 40, 10**9])
@pytest.mark.parametrize("width", [0.0, 0.01, 0.4, 3.0])
def test_best_items_are_a_sort_by_value_and_seeded_rank(m, levels, width):
    """With many ties and few items, and values raised by seeded numbers, the list is the head of a full sort."""
    draw = np.random.default_rng(m + levels)
    for k in {1, min(3, m), min(m, 20)}:
        value = draw.integers(0, levels, m) / (1.0 if width == 0 else levels)
        value[draw.random(m) < 0.3] = -np.inf
        row = np.uint64(draw.integers(0, 2**63))
        items = np.empty(k, np.int64)
        best = np.empty(k)
        size = matching.best_items(value, row, items, best, *([width] if width else []))
        rank = np.array([int(matching.tie_rank(row, item)) for item in range(m)], object)
        raised = value + width * np.array([matching.uniform_of(np.uint64(number)) for number in rank])
        order = sorted(np.flatnonzero(value > -np.inf), key=lambda item: (-raised[item], -rank[item]))
        assert items[:size].tolist() == [int(item) for item in order[:k]]
        assert best[:size].tolist() == raised[items[:size]].tolist()


@pytest.mark.parametrize("m", [1, 5, 200, 1031])
def test_items_between_are_a_mask(m):
    """All items from one value up to another are found, those that may not be shown never; k reach the lowest."""
    draw = np.random.default_rng(m)
    for dtype in (np.float64, np.float32):
        value = draw.random(m).astype(dtype)
        value[draw.random(m) < 0.3] = -np.inf
        items = np.empty(m, np.int64)
        for k in {1, min(3, m), min(m, 20)}:
            highest = matching.part_maxima(value, k)
            lowest = matching.kth_of_parts(highest, k)
            assert lowest == -np.inf or np.count_nonzero(value >= lowest) >= k
            for below in (np.inf, 0.7):
                size = matching.items_between(value, highest, lowest, below, items)
                mask = (value >= lowest) & (value < below) & (value > -np.inf)
                assert sorted(items[:size].tolist()) == np.flatnonzero(mask).tolist()
