"""Smallest numbers of users, items and events for a purpose."""

from __future__ import annotations

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from rimsim.data.log import EventLog
from rimsim.errors import DataError, many


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LogNeeds:
    """Minimum numbers of users, items and events for a purpose."""

    users: int = Field(default=2, ge=1)
    """Fewest users with events."""
    items: int = Field(default=2, ge=1)
    """Fewest items with events; a market needs more items than a slate holds."""
    events: int = Field(default=4, ge=1)
    """Fewest events."""
    sessions: int = Field(default=2, ge=1)
    """Fewest sessions, each of which is an arrival."""
    instants: int = Field(default=2, ge=1)
    """Fewest different times of events."""
    transitions: int = Field(default=1, ge=0)
    """Fewest events that follow an earlier event of the same user, because only these can be predicted from a
    state."""
    gap: float = Field(default=1800.0, gt=0)
    """Inactivity gap that ends a session, in seconds."""


Needs = LogNeeds


def shortcomings(log: EventLog, needs: LogNeeds | None = None) -> tuple[str, ...]:
    """Sentences about numbers of a log that are too small."""
    needs = LogNeeds() if needs is None else needs
    # An event has a history if it is later than its user's first event. An event at the same time has none.
    first_time = np.full(log.n_users, np.inf)
    np.minimum.at(first_time, log.user, log.time)
    instants = len(np.unique(log.time))
    n_later = int((log.time > first_time[log.user]).sum())
    gap = f" ({needs.gap / 60:g} minutes without events end a session)"
    # Field of the needs → number in the log, its noun, and further words about it.
    counts = {
        "users": (len(np.unique(log.user)), "user", " with events"),
        "items": (len(np.unique(log.item)), "item", " with events"),
        "events": (len(log), "event", ""),
        "sessions": (len(log.sessions(needs.gap)), "session", gap),
        "instants": (instants, "different time", " (all events are ties)" * (instants == 1)),
        "transitions": (n_later, "event", " with an earlier one of the same user"),
    }
    return tuple(
        f"{many(count, noun)}{words}, but needs {getattr(needs, name):,}"
        for name, (count, noun, words) in counts.items()
        if count < getattr(needs, name)
    )


def require_usable(log: EventLog, needs: LogNeeds | None = None, *, use: str = "fit and simulate") -> None:
    """Refuse a log that is too small for its purpose.

    Raises:
        DataError: If the log has too few users, items or events; the message lists everything that is too few.
    """
    problems = shortcomings(log, needs)
    if problems:
        name = log.report.source if log.report is not None else "the log"
        raise DataError(f"{name}: the log is too small to {use}. It has {'; '.join(problems)}")
