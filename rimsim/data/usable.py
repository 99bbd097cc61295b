"""Whether a log is enough of a log, asked before anything is fitted to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.errors import DataError

if TYPE_CHECKING:
    from rimsim.data.log import EventLog


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Needs:
    """What a use of a log asks of it; the defaults are what any fit and any market ask."""

    users: int = Field(default=2, ge=1, description="users with events")
    items: int = Field(
        default=2, ge=1, description="items with events; a market needs more than a slate holds"
    )
    events: int = Field(default=4, ge=1, description="events")
    sessions: int = Field(default=2, ge=1, description="sessions, each of which is an arrival")
    instants: int = Field(default=2, ge=1, description="different times")
    transitions: int = Field(
        default=1,
        ge=0,
        description="events that follow an earlier one of the same user: what a state can predict",
    )
    gap: float = Field(default=1800.0, gt=0, description="seconds of silence that end a session")


def shortcomings(log: EventLog, needs: Needs | None = None) -> tuple[str, ...]:
    """What a log lacks, a sentence each; nothing if it is usable."""
    needs = Needs() if needs is None else needs
    # An event has a past if it is later than the first event of its user; ties with the first do not count.
    first = np.full(log.n_users, np.inf)
    np.minimum.at(first, log.user, log.time)
    counts = {
        "users": len(np.unique(log.user)),
        "items": len(np.unique(log.item)),
        "events": len(log),
        "sessions": len(log.sessions(needs.gap)),
        "instants": len(np.unique(log.time)),
        "transitions": int((log.time > first[log.user]).sum()),
    }
    words = {
        "users": "users with events",
        "items": "items with events",
        "events": "events",
        "sessions": f"sessions (a silence of {needs.gap / 60:g} minutes ends one)",
        "instants": "different times (all events are ties)" if counts["instants"] == 1 else "different times",
        "transitions": "events that follow an earlier one of the same user",
    }
    return tuple(
        f"{counts[name]:,} {words[name]}; at least {getattr(needs, name):,} needed"
        for name in counts
        if counts[name] < getattr(needs, name)
    )


def require_usable(log: EventLog, needs: Needs | None = None, *, use: str = "fit and simulate") -> None:
    """Refuse a log that is too little for what is to be done with it, before any of it is done.

    Args:
        log: The log, selected as it will be used.
        needs: What is asked of it; the defaults suit any fit.
        use: What is to be done, for the message.

    Raises:
        DataError: If something is lacking; the message lists all of it.
    """
    lacking = shortcomings(log, needs)
    if lacking:
        name = log.report.source if log.report is not None else "the log"
        raise DataError(f"{name}: too little to {use}: {'; '.join(lacking)}")
