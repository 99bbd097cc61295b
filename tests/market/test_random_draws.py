"""Draws by seed, purpose and key: their laws, and values that results depend on."""

import numpy as np
from scipy import stats

from rimsim.rng import Purpose, bits, derived_seed, exponential, generator, uniform


def test_a_draw_is_a_function_of_seed_purpose_and_key():
    """Any subset of keys in any order gets its draws; every word matters; values that results hang on are pinned."""
    draws = uniform(3, Purpose.CHOICE, np.arange(100)[:, None], np.arange(7))
    part = uniform(3, Purpose.CHOICE, np.array([[41], [5]]), np.array([6, 0]))
    assert part.tolist() == [[draws[41, 6], draws[41, 0]], [draws[5, 6], draws[5, 0]]]
    choice = Purpose.CHOICE
    keys = [(1, choice, 2, 3), (2, choice, 2, 3), (1, Purpose.AGENT, 2, 3), (1, choice, 3, 2)]
    assert len({int(bits(*key)) for key in (*keys, (1, choice, 2, 4), (1, choice, 2))}) == 6
    pinned = [18171665359712530786, 9934605676627802470]
    assert bits(0, Purpose.ARRIVALS, np.arange(2)).tolist() == pinned


def test_draws_follow_their_laws_and_any_integer_is_a_seed():
    """Kolmogorov-Smirnov rejects neither law, neighbouring keys do not correlate; derived seeds fit libraries."""
    draw = uniform(0, Purpose.ARRIVALS, np.arange(50_000))
    assert stats.kstest(draw, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(draw[1:], draw[:-1])[0, 1]) < 4 / np.sqrt(50_000)
    assert 0 <= draw.min() <= draw.max() < 1
    assert stats.kstest(exponential(0, Purpose.ARRIVALS, np.arange(50_000)), "expon").pvalue > 1e-3
    seed = derived_seed(5, Purpose.MODEL, 1)
    assert 0 <= seed < 2**63
    assert generator(5, Purpose.MODEL, 1).random() == generator(5, Purpose.MODEL, 1).random()
    for any_seed in (-1, 2**70):
        assert uniform(any_seed, Purpose.AGENT, 0) >= 0
