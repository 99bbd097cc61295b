"""Records of the market that are checked when they are made: slates and rosters."""

import numpy as np
from kit import refused

from rimsim.errors import AgentError, MarketError
from rimsim.market import ClosedRound, Round, Slates
from rimsim.market.providers import Roster
from rimsim.market.records import as_slates


def test_what_is_wrong_with_an_answer_is_told_with_its_shape():
    """One entry a slate, or one for each position: the message says how many were wanted."""
    items = np.zeros((3, 2), np.int64)
    for fields, message in (
        ({"uniform": np.ones(2, bool)}, r"uniform has shape \(2,\). Expected \(3,\), one entry per slate"),
        ({"price": np.zeros((3, 1))}, r"price has shape \(3, 1\). Expected .*\(3, 2\)"),
        ({"propensity": np.zeros((3, 1))}, r"propensity has shape \(3, 1\). Expected .*\(3, 2\)"),
    ):
        refused(AgentError, message, as_slates, Slates(items, **fields))


def test_a_roster_has_no_item_of_nobody():
    """Providers are numbered from 0 to G − 1, and all that is said of them has G entries."""
    for provider, fits in ((-1, False), (0, True), (1, True), (2, False)):
        roster = Roster(np.array([0, provider, 1]), ("a", "b"), np.ones(2, bool), np.zeros(2))
        if fits:
            assert roster.checked(3) is roster
        else:
            refused(MarketError, "Expected provider numbers from 0 to 1", roster.checked, 3)
    uneven = Roster(np.zeros(3, int), ("a", "b"), np.ones(1, bool), np.zeros(2))
    refused(MarketError, r"have the lengths \[1, 2\]", uneven.checked, 3)


def test_the_root_of_the_market_names_the_record_of_a_round():
    """Annotations of users' code may call the record ``Round``."""
    assert Round is ClosedRound
