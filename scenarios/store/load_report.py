"""What was read of a log: printed before anything is fitted, and kept in the config of a run."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rimsim.data import EMBEDDED

if TYPE_CHECKING:
    from rimsim.data import EventLog


def load_text(log: EventLog) -> str | None:
    """What was read, left out and noticed, in a few lines; None for the embedded log, which never changes.

    Args:
        log: The log, as :func:`rimsim.data.load` gave it.
    """
    if log.report is None or log.report.source == EMBEDDED:
        return None
    return (
        f"{log.report.text()}\n"
        f"the log is {len(log):,} events of {log.n_users:,} users with {log.n_items:,} items"
    )


def load_facts(log: EventLog) -> dict[str, Any]:
    """For ``config.yaml``: rows read, bad ones left out, times that went backwards, what is left.

    Args:
        log: The log, as :func:`rimsim.data.load` gave it.
    """
    left = {"events": len(log), "users": log.n_users, "items": log.n_items}
    if log.report is None:
        return left
    facts = dataclasses.asdict(log.report)
    facts["columns"] = dict(log.report.columns)
    facts["bad_rows"] = [str(row) for row in log.report.bad_rows]
    facts["notes"] = list(log.report.notes)
    return facts | left
