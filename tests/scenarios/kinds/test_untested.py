"""Behaviour of a log that a validation asks nothing about."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit.logs import log_of

from rimsim.market.agreement import make_cut
from rimsim.scenarios.kinds.validate import value_table
from rimsim.scenarios.kinds.validate.untested import untested, untested_sentence

HOUR = 3600.0


@pytest.fixture
def log():
    """Users 0 and 1 come twice and user 2 once. Only later sessions have item 3; user 1 takes item 0 again.

    A quarter of the eight events is by user 2.
    """
    user = [0, 0, 1, 2, 2, 0, 1, 1]
    item = [0, 1, 0, 1, 2, 3, 0, 3]
    time = [1.0, 2.0, 3.0, 4.0, 5.0, 10 * HOUR, 11 * HOUR, 11 * HOUR + 1]
    return log_of(user, item, time, items=pd.DataFrame({"release": np.zeros(4)}))


def with_end(log, end):
    """The log with an end of item 0."""
    return dataclasses.replace(log, items=log.items.assign(end=[end, np.inf, np.inf, np.inf]))


def shares_of(log):
    """Shares in the order of the sentence."""
    return tuple(untested(log, make_cut(log, 0, gap="30min", after=0.3)).values())


def test_untested_events_are_counted_by_their_reason(log):
    """By hand: two of eight events by a user who came once, one repeat, two of three later events with a new item."""
    assert shares_of(log) == (2 / 8, 1 / 8, 2 / 3)


def test_repeats_are_tested_where_users_can_take_items_again(log):
    """No repeat is left out if the log is repeatable."""
    assert shares_of(dataclasses.replace(log, repeatable=True)) == (2 / 8, 0.0, 2 / 3)


def test_events_of_items_that_are_not_on_offer_at_the_cut_are_untested(log):
    """An item whose end is the instant of the cut is not asked about; one that ends a second later is."""
    assert shares_of(with_end(log, 11 * HOUR))[2] == 1.0
    assert shares_of(with_end(log, 11 * HOUR + 1))[2] == 2 / 3
    late = log.items.assign(release=[11 * HOUR + 1, 0.0, 0.0, 0.0])
    assert shares_of(dataclasses.replace(log, items=late))[2] == 1.0


def test_the_sentence_names_what_was_left_out(log):
    """Shares are means over draws; a share below half a percent is not mentioned."""
    rows = [("", "", 0, "untested_once", 0.2), ("", "", 1, "untested_once", 0.3)]
    rows += [("", "", draw, "untested_repeats", 0.004) for draw in (0, 1)]
    rows += [("", "", draw, "untested_unknown", 0.04) for draw in (0, 1)]
    assert untested_sentence(value_table(rows)) == (
        "Nothing was asked about 25% of the log's events, by users who do not come back; about 4% of later events, "
        "with items that were new or not on offer."
    )
    assert untested_sentence(value_table(rows[2:4])) == ""
