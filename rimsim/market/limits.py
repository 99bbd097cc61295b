"""How much is held in memory at once."""

from __future__ import annotations

MOST_CELLS = 1 << 26
"""Most scores, states times items, that prices are solved on or a round is certified with at once: .7 GB with their
masks while they are put together."""


def most_states(n_items: int) -> int:
    """How many states may be scored over a catalogue and held at once; at least one."""
    return max(1, MOST_CELLS // max(n_items, 1))
