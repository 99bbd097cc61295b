"""Providers who are there whatever happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.market.providers.contract import Changes, Roster

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.market.providers.contract import RoundOutcome


class Fixed:
    """Every item is offered by itself, from first to last."""

    fixed = True

    def opening(self, log: EventLog) -> Roster:
        """A provider an item."""
        ids = tuple(log.items["id"].astype(str).tolist())
        return Roster(np.arange(len(ids)), ids, np.ones(len(ids), bool), np.zeros(len(ids)))

    def end_of_round(self, outcome: RoundOutcome) -> Changes:
        """Nobody leaves or comes."""
        nobody = np.zeros(len(outcome.offer.came), bool)
        return Changes(outcome.offer.satisfaction, nobody, nobody)
