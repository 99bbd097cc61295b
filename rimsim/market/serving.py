"""Serving: compiled rules of exposures, consumptions and responses.

A slate is served in three stages. :func:`rimsim.market.slates.mark_wrong` finds the items that may not be shown, the
visitor responds, and :func:`enter_slates` records exposures and consumptions. A batch calls one stage after the other,
so that a consumer in Python can respond between them. A step of an environment calls all of them in one compiled call,
where :func:`respond` follows the law that the consumer declares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import CompiledRecord, compiled
from rimsim.market.clock import QueueState, mark_served
from rimsim.market.consumers.contract import Hits, Law, answer, mark_hits
from rimsim.market.histories import Events, enter_event
from rimsim.market.ledger import LedgerColumns
from rimsim.market.scores.arrivals import ScoreColumns
from rimsim.market.slates import count_items


@dataclass(frozen=True, eq=False)
class RoundColumns(CompiledRecord):
    """Arrays of an open round that serving reads and writes."""

    tick: Ints
    """(n,) instant of each arrival."""
    slot: Ints
    """(n,) slot of each visitor."""
    position_weights: Floats
    """(k,) weight of an exposure at each position."""
    required: Floats
    """(M,) required exposures."""
    exposure: Floats
    """(M,) exposures in the round so far."""
    ledger: LedgerColumns
    """Columns of the round's ledger."""
    events: Events
    """Consumptions of the round's visitors."""
    queue: QueueState
    """State of each arrival: waiting, served or neither."""
    wait: int
    """Number of ticks after which a consumption becomes visible."""
    enters_events: bool
    """True if consumptions of shown items enter the visitors' histories."""


@dataclass(frozen=True, eq=False)
class Responder(CompiledRecord):
    """Law by which compiled code responds for a consumer."""

    law: Law
    """Law that gives probabilities of consumption; empty if ``draws`` is False."""
    hits: Hits
    """Items of logged sessions, which are taken; empty if ``draws`` is True."""
    draws: bool
    """True if ``law`` draws the responses; False if responses are ``hits`` in sessions."""
    truth: ScoreColumns
    """Scores under the truth, from which responses are drawn."""
    keys: NDArray[np.uint64]
    """(n,) keys of the draws of each arrival."""
    session: Ints
    """(n,) session of the log that each arrival replays, for ``hits``."""


@compiled
def respond(responder: Responder, row: int, slate: Ints, consumed: Bools, probability: Floats,
    true_intensity: Floats) -> None:  # fmt: skip
    """Fill in a visit's response (1, k) by a consumer's law."""
    if responder.draws:
        block = responder.truth.block[row]
        place = responder.truth.place[row]
        answer(block.relevance[place : place + 1], block.ground[place : place + 1], slate,
            responder.keys[row : row + 1], responder.law.examination, responder.law.attraction, consumed,
            probability, true_intensity)  # fmt: skip
    else:
        consumed[:] = False
        mark_hits(slate, responder.session[row : row + 1], responder.hits, consumed)
        for position in range(slate.shape[1]):
            probability[0, position] = consumed[0, position]
            true_intensity[0, position] = consumed[0, position]


@compiled
def enter_slates(columns: RoundColumns, rows: Ints, items: Ints, relevance: Float32s, ground: Float32s,
    consumed: Bools, probability: Floats, true_intensity: Floats) -> None:  # fmt: skip
    """Record exposures and consumptions of served arrivals."""
    # This is one compiled call, which an interrupt cannot divide. Arrays are looked up first, because each look-up
    # counts a reference, which is too slow within a loop.
    ledger = columns.ledger
    item_column = ledger.item
    consumed_column = ledger.consumed
    probability_column = ledger.probability
    true_intensity_column = ledger.true_intensity
    intensity_column = ledger.intensity
    ground_column = ledger.ground
    slot = columns.slot
    queue = columns.queue
    n, k = items.shape
    for arrival in range(n):
        row = rows[arrival]
        ground_column[row] = ground[arrival]
        for position in range(k):
            item = items[arrival, position]
            item_column[row, position] = item
            consumed_column[row, position] = consumed[arrival, position]
            probability_column[row, position] = probability[arrival, position]
            true_intensity_column[row, position] = true_intensity[arrival, position]
            intensity_column[row, position] = np.nan
            if item >= 0:
                intensity_column[row, position] = relevance[arrival, position] * ground[arrival]
        mark_served(row, slot[row], queue)
    count_items(items, columns.position_weights, columns.exposure)
    if columns.enters_events:
        events = columns.events
        for arrival in range(n):
            row = rows[arrival]
            for position in range(k):
                if consumed[arrival, position]:
                    visible_from = columns.tick[row] + columns.wait
                    enter_event(slot[row], visible_from, items[arrival, position], events)
