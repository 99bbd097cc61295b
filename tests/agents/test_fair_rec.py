"""The agent ``fair-rec``: its turns and slates, against sorts and Python sets."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kit.logs import arrivals_of, skewed, view_of

from rimsim.agents import make_agent
from rimsim.agents.fair_rec import _chosen, _turns
from rimsim.matching import tie_rank

BITS = np.uint64(77)

levels = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2)), min_size=1, max_size=9)


@settings(max_examples=150)
@given(levels, st.integers(1, 4), st.integers(0, 4))
@example([(0, 0)] * 9, 2, 0)  # values of nothing, with ties at the end of the slate
@example([(0, 1), (0, 0)] * 4, 3, 2)
def test_turns_take_copies_first_and_slates_stand_in_order(items, k, turns):
    """By sorts: the best items of which copies are left, then the best others, all by value, ties by seeded rank."""
    value = np.array([-np.inf if level < 0 else level / 4.0 for level, _ in items])
    copies = np.array([number / 2.0 for _, number in items])

    def key(item):
        return (-value[item], -int(tie_rank(BITS, item)))

    order = sorted(np.flatnonzero(value > -np.inf).tolist(), key=key)
    with_copies = [item for item in order if copies[item] > 0][: min(turns, k)]
    expected = sorted(
        [*with_copies, *[item for item in order if item not in with_copies][: k - len(with_copies)]], key=key
    )
    slate_found = np.full(k, -1)
    size = _chosen(value, copies, min(turns, k), BITS, slate_found)
    assert slate_found[:size].tolist() == expected


def test_turns_are_as_many_as_deliver_what_is_due():
    """The last positions are added up from the last one on; nothing due needs none, too much needs all."""
    weight = np.array([1.0, 0.5, 0.25])
    table = (3, 0.0, 0), (3, 0.25, 1), (3, 0.26, 2), (3, 0.8, 3), (3, 9.0, 3), (1, 0.1, 1), (0, 1.0, 0)
    for n_positions, due, turns in table:
        assert _turns(due, n_positions, weight) == turns


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_copies_are_handed_out_as_the_adaptation_says(share):
    """Slates of fair-rec equal a transcription with Python sets, copies left and even turns, on short slates too."""
    n = 60
    m = 25
    k = 4
    scores = skewed(n, m, 3)
    admissible = np.random.default_rng(1).random((n, m)) < 0.8
    agent = make_agent("fair-rec")
    view = view_of(n, m, k, share=share)
    agent.begin_round(view)
    capacity = np.random.default_rng(2).integers(0, k + 1, n)
    slates = agent.act(dataclasses.replace(arrivals_of(scores, admissible), capacity=capacity)).items
    copies = view.required.copy()
    for t, n_positions in enumerate(capacity):
        turns = min(n_positions, -(-int(copies.sum()) // (n - t)))
        ranked = [int(i) for i in np.argsort(-scores[t]) if admissible[t, i]]
        chosen = [i for i in ranked if copies[i] > 0][:turns]
        chosen += [i for i in ranked if i not in chosen][: n_positions - len(chosen)]
        assert slates[t][slates[t] >= 0].tolist() == sorted(chosen, key=ranked.index)
        for item in chosen:
            copies[item] = max(copies[item] - 1, 0)
