"""Single arrivals, whose slates are served in one call.

An environment serves arrivals one by one. The general code makes about a hundred Python calls per arrival.
This module calls the compiled functions of the general code for a single arrival, so results are identical.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints, Ints32
from rimsim.compiled import compiled
from rimsim.market.consumers.contract import answer, mark_hits
from rimsim.market.histories import enter_marked
from rimsim.market.ledger import Ledger, write_rows
from rimsim.market.records import count_items, fetch_items, mark_wrong


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
        """Arrays of the current round."""
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


@compiled
def _valid(items: Ints, relevance: Float32s, admissible: Bools, place: int) -> tuple[Ints, Float32s]:
    """Slate without invalid items, and the relevance of its items."""
    slate = items.copy().reshape(1, len(items))
    found, can = np.empty(slate.shape, np.float32), np.empty(slate.shape, np.bool_)
    fetch_items(relevance[place : place + 1], slate, found)
    fetch_items(admissible[place : place + 1], slate, can)
    wrong = np.empty(slate.shape, np.bool_)
    if mark_wrong(slate, can, relevance.shape[1], wrong):
        for position in range(len(items)):
            if wrong[0, position]:
                slate[0, position] = -1
    return slate, found


@compiled
def _entered(row: int, slate: Ints, found: Float32s, ground: Float32s, place: int, position_weights: Floats, exposure:
    Floats, consumed: Bools, probability: Floats, intensity: Floats, item_column: Ints32, consumed_column: Bools,
    probability_column: Floats, true_column: Floats, intensity_column: Float32s,
    ground_column: Float32s) -> None:  # fmt: skip
    """Record a slate in the ledger and in the exposures."""
    write_rows(np.full(1, row), slate, consumed, probability, intensity, found, ground[place : place + 1],
        item_column, consumed_column, probability_column, true_column, intensity_column,
        ground_column)  # fmt: skip
    count_items(slate, position_weights, exposure)


@compiled
def serve_by_law(row: int, slot: int, tick: int, items: Ints, relevance: Float32s, ground: Float32s,
    admissible: Bools, place: int, share: Float32s, size: Float32s, true_place: int, keys: NDArray[np.uint64],
    examination: Floats, attraction: float, position_weights: Floats, exposure: Floats, item_column: Ints32,
    consumed_column: Bools, probability_column: Floats, true_column: Floats, intensity_column: Float32s,
    ground_column: Float32s, first: Ints, last: Ints, counts: Ints, newest: Ints, event_tick: Ints,
    event_item: Ints, following: Ints, size_of_events: Ints) -> tuple[Ints, Bools]:  # fmt: skip
    """Items shown, and a mask of randomly sampled consumption."""
    slate, found = _valid(items, relevance, admissible, place)
    consumed, probability = np.empty(slate.shape, np.bool_), np.empty(slate.shape, np.float64)
    intensity = np.empty(slate.shape, np.float64)
    answer(share[true_place : true_place + 1], size[true_place : true_place + 1], slate, keys[row : row + 1],
        examination, attraction, consumed, probability, intensity)  # fmt: skip
    _entered(row, slate, found, ground, place, position_weights, exposure, consumed, probability, intensity,
        item_column, consumed_column, probability_column, true_column, intensity_column,
        ground_column)  # fmt: skip
    enter_marked(np.full(1, slot), np.full(1, tick), slate, consumed, first, last, counts, newest, event_tick,
        event_item, following, size_of_events)  # fmt: skip
    return slate[0], consumed[0]


@compiled
def serve_by_hits(row: int, session: int, items: Ints, relevance: Float32s, ground: Float32s, admissible: Bools,
    place: int, offsets: Ints, future: Ints, position_weights: Floats, exposure: Floats, item_column: Ints32,
    consumed_column: Bools, probability_column: Floats, true_column: Floats, intensity_column: Float32s,
    ground_column: Float32s) -> tuple[Ints, Bools]:  # fmt: skip
    """Items shown, and a mask of hits in the session."""
    slate, found = _valid(items, relevance, admissible, place)
    hits, certain = np.zeros(slate.shape, np.bool_), np.empty(slate.shape, np.float64)
    mark_hits(slate, np.full(1, session), offsets, future, hits)
    for position in range(len(items)):
        certain[0, position] = 1.0 if hits[0, position] else 0.0
    _entered(row, slate, found, ground, place, position_weights, exposure, hits, certain, certain, item_column,
        consumed_column, probability_column, true_column, intensity_column, ground_column)  # fmt: skip
    return slate[0], hits[0]
