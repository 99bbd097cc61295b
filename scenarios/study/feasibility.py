"""Guarantees that no agent can keep, told before anybody tries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.market import build_world
from rimsim.market.build import expected_arrivals
from rimsim.market.clock import ALWAYS

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig

__all__ = ["undeliverable"]


def undeliverable(config: ScenarioConfig) -> str | None:
    """What a round's guarantees ask for beyond the positions that it has; None where there are enough.

    Only ``exposure.each`` can ask for too much: a share β is one of the positions there are. Items that come on the way
    are not counted, so that what is told holds in every round.

    Args:
        config: The scenario.
    """
    each = config.exposure.each
    if each is None:
        return None
    arrivals = expected_arrivals(config) // config.rounds
    items = int(np.count_nonzero(build_world(config).release == ALWAYS))
    items = min(items, config.exposure.items or items)
    asked, there = items * min(each, arrivals), arrivals * min(config.slate, config.user_cap or config.slate)
    if asked <= there:
        return None
    return (
        f"guarantees ask for {asked:,} exposures a round ({items} items, {each} each), the slates have {there:,}: at "
        f"least {100 * (asked - there) // asked} % stays undelivered; set exposure.each or exposure.items lower"
    )
