"""Single arrivals, whose slates are served in one call.

An environment serves arrivals one by one, for each of which the general code makes about a hundred Python calls. The
functions of this module serve an arrival in one compiled call, with identical results. They allocate no memory: results
are written into the columns of the ledger.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints, Ints32
from rimsim.compiled import compiled, compiled_part
from rimsim.market.consumers.contract import response_to
from rimsim.market.histories import Events, enter_event
from rimsim.market.ledger import Ledger


class EntryColumns(NamedTuple):
    """Arrays that compiled functions fill in to record a slate."""

    position_weights: Floats
    """(k,) weight of an exposure at each position."""
    exposure: Floats
    """(M,) exposures of the round."""
    item: Ints32
    consumed: Bools
    probability: Floats
    true_intensity: Floats
    intensity: Float32s
    ground: Float32s

    @classmethod
    def of(cls, position_weights: Floats, exposure: Floats, ledger: Ledger) -> EntryColumns:
        """Arrays of the open round."""
        return cls(
            position_weights,
            exposure,
            ledger.item,
            ledger.consumed,
            ledger.probability,
            ledger.true_intensity,
            ledger.intensity,
            ledger.ground,
        )


@compiled_part
def _record(row: int, shown: Ints, relevance: Float32s, ground: Float32s, admissible: Bools, place: int,
    position_weights: Floats, exposure: Floats, item_column: Ints32, intensity_column: Float32s,
    ground_column: Float32s) -> None:  # fmt: skip
    """Empty a slate's wrong positions, then count and record it."""
    ground_column[row] = ground[place]
    for position in range(len(shown)):
        item = shown[position]
        wrong = not (0 <= item < relevance.shape[1] and admissible[place, item])
        for before in range(position):
            wrong |= shown[before] == item
        if wrong:
            shown[position] = item_column[row, position] = -1
            intensity_column[row, position] = np.nan
        else:
            item_column[row, position] = item
            intensity_column[row, position] = relevance[place, item] * ground[place]
            exposure[item] += position_weights[position]


@compiled
def serve_by_law(row: int, slot: int, tick: int, shown: Ints, relevance: Float32s, ground: Float32s,
    admissible: Bools, place: int, share: Float32s, size: Float32s, true_place: int, keys: NDArray[np.uint64],
    examination: Floats, attraction: float, position_weights: Floats, exposure: Floats, item_column: Ints32,
    consumed_column: Bools, probability_column: Floats, true_column: Floats, intensity_column: Float32s,
    ground_column: Float32s, first: Ints, last: Ints, counts: Ints, newest: Ints, event_tick: Ints,
    event_item: Ints, following: Ints, size_of_events: Ints) -> None:  # fmt: skip
    """Serve a slate; consumptions are sampled from a law."""
    _record(row, shown, relevance, ground, admissible, place, position_weights, exposure, item_column,
        intensity_column, ground_column)  # fmt: skip
    events = Events(first, last, counts, newest, event_tick, event_item, following, size_of_events)
    for position in range(len(shown)):
        item = shown[position]
        if item >= 0:
            taken, chance, worth = response_to(share[true_place, item], size[true_place], keys[row], item,
                examination[position], attraction)  # fmt: skip
            consumed_column[row, position] = taken
            probability_column[row, position] = chance
            true_column[row, position] = worth
            if taken:
                enter_event(slot, tick, item, events)


@compiled
def serve_by_hits(row: int, session: int, shown: Ints, relevance: Float32s, ground: Float32s, admissible: Bools,
    place: int, offsets: Ints, future: Ints, position_weights: Floats, exposure: Floats, item_column: Ints32,
    consumed_column: Bools, probability_column: Floats, true_column: Floats, intensity_column: Float32s,
    ground_column: Float32s) -> None:  # fmt: skip
    """Serve a slate; consumptions are the items of a session."""
    _record(row, shown, relevance, ground, admissible, place, position_weights, exposure, item_column,
        intensity_column, ground_column)  # fmt: skip
    for event in range(offsets[session], offsets[session + 1]):
        for position in range(len(shown)):
            if shown[position] == future[event]:
                consumed_column[row, position] = True
                probability_column[row, position] = true_column[row, position] = 1.0
