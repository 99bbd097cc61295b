"""The order in which waiting visits are handed out, against a plain queue."""

import random
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import cases, refused, same_arrays
from kit.markets import small_scenario

from rimsim.agents import top_k
from rimsim.errors import MarketError
from rimsim.market import Market
from rimsim.market.clock import (
    CLOCK_FIRST,
    NO_ROW,
    ArrivalQueue,
    Clock,
    QueueState,
    hand_out,
    mark_served,
    next_after,
)
from rimsim.market.records import Schedule


class _Plain:
    """The rule itself: the earliest visits first, none while its user waits for a slate."""

    def __init__(self, slots):
        self.slots = slots
        self.held = []
        self.come = 0
        self.busy = set()

    def next(self, limit, *, in_waves):
        """The rows that are handed out, at most so many."""
        chosen = []
        waiting = []
        held = list(self.held)
        while len(chosen) < limit:
            if held:
                row = held.pop(0)
            elif self.come < len(self.slots):
                row = self.come
                self.come += 1
            else:
                break
            if self.slots[row] not in self.busy:
                self.busy.add(self.slots[row])
                chosen.append(row)
                continue
            waiting.append(row)
            if not in_waves:
                break
        self.held = waiting + held
        return chosen


@pytest.mark.parametrize("waves", [True, False, None], ids=["waves", "in order", "now this, now that"])
@pytest.mark.parametrize("seed", range(3))
def test_the_earliest_visits_come_first_and_no_user_waits_twice(waves, seed):
    """Whatever is served when, rows are handed out as by a look through all that have come and wait."""
    draw = random.Random(seed)
    market = Market(small_scenario(rounds=1))
    plain = _Plain(market.schedule.slot.tolist())
    waiting = []
    while not market.done:
        in_waves = draw.random() < 0.5 if waves is None else waves
        limit = draw.randint(1, 12)
        expected = plain.next(limit, in_waves=in_waves)
        if expected:
            waiting.append(market.next_arrivals(limit, in_waves=in_waves))
            assert waiting[-1].row.tolist() == expected
        else:
            refused(MarketError, "Serve them first", market.next_arrivals, limit, in_waves=in_waves)
        draw.shuffle(waiting)
        for _ in range(draw.randint(0 if expected else 1, len(waiting))):
            served = waiting.pop()
            plain.busy -= {plain.slots[row] for row in served.row.tolist()}
            market.serve(served, top_k(served.relevance, served.admissible, market.config.slate))
    assert plain.come == len(plain.slots)
    assert not plain.held


def _queue_of(slots):
    """Queue of a round in which the users of these slots arrive in turn."""
    columns = {name: np.arange(len(slots)) for name in ("tick", "id", "session")}
    columns |= {name: np.arange(4) for name in ("user", "log_user", "shift")}
    schedule = Schedule(slot=np.array(slots), start=0, stop=len(slots), **columns)
    return ArrivalQueue(schedule, Clock(0))


@settings(max_examples=200)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=14), st.randoms(use_true_random=False))
def test_many_visits_of_few_users_go_in_turn(slots, draw):
    """The order of the rule holds if several visits of a user wait at once, and waves begin or end meanwhile."""
    n = len(slots)
    queue = _queue_of(slots)
    plain = _Plain(slots)
    waiting = []
    while queue.served < n:
        in_waves = draw.random() < 0.5
        limit = draw.randint(1, 4)
        expected = plain.next(limit, in_waves=in_waves)
        if expected:
            assert queue.take(limit, in_waves=in_waves).tolist() == expected
        else:
            refused(MarketError, "Serve them first", queue.take, limit, in_waves=in_waves)
        waiting += expected
        draw.shuffle(waiting)
        for _ in range(draw.randint(0 if expected else 1, len(waiting))):
            row = waiting.pop()
            plain.busy.remove(slots[row])
            mark_served(row, slots[row], queue.state)
            queue.release_held(np.array([slots[row]]))
    assert not plain.held


@cases(
    "slots limit following",
    ([0, 1], 1, 1),
    ([0, 0], 1, 1),
    ([0, 1, 2], 2, 2),
    ([0, 1, 1], 2, -1),
    ([0, 0, 1], 2, -1),
    ([0], 1, -1),
    ids=["another user", "the same user", "two wait", "a user who waits", "a held visit", "the end"],
)
def test_compiled_code_hands_out_the_row_that_the_queue_would(slots, limit, following):
    """Compiled code stops where a visit is held or would be; else the queue is left as if it had given the row."""
    queue = _queue_of(slots)
    queue.take(limit)
    assert next_after(0, np.array(slots), queue.state) == following
    if following >= 0:
        by_python = _queue_of(slots)
        by_python.take(limit)
        for state in (queue.state, by_python.state):
            mark_served(0, slots[0], state)
        hand_out(following, slots[following], queue.state)
        assert by_python.take(1).tolist() == [following]
        same_arrays(queue.state, by_python.state, *(field.name for field in fields(QueueState)))


@cases(
    "slots limit following",
    ([0, 1, 2], 1, NO_ROW),
    ([0, 1, 2], 2, CLOCK_FIRST),
    ([0, 1, 1], 2, CLOCK_FIRST),
    ([0, 1], 2, NO_ROW),
    ids=["another waits", "the clock", "a user who waits", "the end"],
)
def test_compiled_code_waits_for_the_clock_where_the_queue_would_advance_it(slots, limit, following):
    """Only the last arrival before an event of the clock may be served before the clock goes on."""
    queue = _queue_of(slots)
    queue.take(limit)
    queue.stop_before(limit)
    if following == CLOCK_FIRST:
        mark_served(0, slots[0], queue.state)
    elif limit == 1:
        queue.state.n_arrived[0] = 2
        queue.state.n_open[0] = 2
    assert next_after(queue.served, np.array(slots), queue.state) == following
