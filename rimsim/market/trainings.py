"""Trainings of a platform's model."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rimsim.intensity.contract import IntensityModel


@dataclass(frozen=True, eq=False)
class Training:
    """Training of the platform's model until it goes live.

    The training learns the events that are visible before its start. So it is computed only when its model goes live,
    and a market is saved without models that do not serve yet.
    """

    start: int
    """Tick at which the training starts."""
    live: int
    """Tick from which the trained model serves."""
    round: int
    """Number of the first round of which the training does not know all arrivals."""
    rows: int
    """Number of arrivals of this round that were served before the start."""
    base: IntensityModel
    """Model that served at the start, from which the training begins."""
    process: int = -1
    """Number of the process that asked for the training; −1: the market itself."""
    hidden_from: int = 0
    """Number of the first round whose events are hidden from the models of folds; set when the model goes live."""
    number: int = 0
    """Number of models that went live so far; set when the model goes live."""

    @property
    def numbers(self) -> dict[str, int]:
        """Values of the fields without the model, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "base"}
