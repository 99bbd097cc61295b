"""What a reader may be asked for."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.data.readers.rows import RowProblemError, moment
from rimsim.errors import ConfigError

__all__ = ["Selection", "seconds"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Selection:
    """Which events, users and items of a source become the log.

    The order is fixed: value, then time, then the two minima. Of the minima, items go first, then users, and
    both are repeated until nothing more falls out, so that both hold in the log that is returned.
    """

    min_item_events: int = Field(
        default=1, ge=0, description="items with fewer events fall out; 0 keeps items never met"
    )
    min_user_events: int = Field(
        default=1, ge=0, description="users with fewer events fall out; 0 keeps users without events"
    )
    min_value: float | None = Field(
        default=None, allow_inf_nan=False, description="events below this value fall out"
    )
    start: float | None = Field(
        default=None, allow_inf_nan=False, description="events before this time (seconds) fall out"
    )
    stop: float | None = Field(
        default=None, allow_inf_nan=False, description="events at or after this time (seconds) fall out"
    )
    release: Literal["given", "first-event", "year"] = Field(
        default="given",
        description="when items come: as the source says (always there if it says nothing), with their first "
        "event in the log, or with their year (never later than their first event)",
    )


def seconds(time: float | str | None, name: str) -> float | None:
    """A time as a person gives it, in seconds since the epoch.

    Args:
        time: Seconds, as a number or a text, or an ISO 8601 date or time; None stays None.
        name: What it is, for the error.

    Raises:
        ConfigError: If it is none of them.
    """
    if time is None:
        return None
    try:
        found = float(time)
    except (TypeError, ValueError):
        found = math.nan
    if math.isfinite(found) and not isinstance(time, bool):
        return found
    try:
        return moment(str(time), name)
    except RowProblemError as problem:
        raise ConfigError(f"{problem}, or seconds since 1970") from None
