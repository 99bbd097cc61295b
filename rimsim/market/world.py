"""What all arms of an experiment share: the log, its past, the truth, release times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rimsim.arrays import Ints
from rimsim.requirements.campaigns import CampaignTables

if TYPE_CHECKING:
    from rimsim.data.log import EventLog, Sessions
    from rimsim.market.consumers.truths.contract import Truth
    from rimsim.market.providers import Roster


@dataclass(frozen=True, eq=False)
class World:
    """A scenario's log, cut at the opening of the market."""

    log: EventLog
    """The whole log, its future included; only the truth, the arrivals and the consumers look at it."""
    sessions: Sessions
    """Sessions of the whole log."""
    past: EventLog
    """The warm-up log: what the platform knows when the market opens."""
    past_sessions: Sessions
    """Sessions of the warm-up log."""
    opening: float
    """Seconds at which the market opens."""
    release: Ints
    """(M,) tick of each item's release; ALWAYS for those that are there from the start."""
    last_release: int
    """Tick of the last release; ALWAYS where all items are there from the start."""
    truth: Truth | None
    """The fitted truth; None where the consumer needs none."""
    roster: Roster
    """Who offers which items, and who is there at the opening."""
    most_arrivals: int | None
    """No round has more arrivals; None: unknown."""

    @property
    def campaign_tables(self) -> CampaignTables:
        """Catalogue and users as campaigns see them."""
        return CampaignTables(self.log.items, self.log.users, self.opening, self.release)
