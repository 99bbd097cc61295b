"""What every intensity model refuses, in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.errors import ModelError

if TYPE_CHECKING:
    from rimsim.data.log import EventLog


def not_fitted(kind: str) -> ModelError:
    """The error of a model of a kind that is asked for something before a fit."""
    return ModelError(f"{kind}: not fitted yet; allowed: score after fit or load")


def require_targets(log: EventLog, kind: str) -> None:
    """Refuse a log in which there is nothing that a model of a kind can be fitted to, or compared with.

    Raises:
        ModelError: If the log has no target event.
    """
    if not log.targets.any():
        raise ModelError(f"{kind}: found no target event in the log; allowed: at least one")
