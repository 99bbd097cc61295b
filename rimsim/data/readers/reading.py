"""Form of a file of events, as it was read."""

from __future__ import annotations

from dataclasses import dataclass

from rimsim.data.readers.values import TimeKind


@dataclass(frozen=True)
class Reading:
    """Form of a file that was read."""

    kind: str
    """Kind of file, such as ``Parquet``."""
    columns: tuple[tuple[str, str], ...] = ()
    """Pairs of a role and the name of its column in the file."""
    times: TimeKind = "number"
    """Form of times: numbers, or ISO dates and timestamps."""
    notes: tuple[str, ...] = ()
    """Sentences about byte-order marks and mixed line ends."""
    is_repeatable: bool | None = None
    """True if a log that rimsim wrote lets users take items again; None: the file does not say it."""
