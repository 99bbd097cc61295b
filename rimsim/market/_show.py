"""One slate shown, compiled: checked, answered, entered in the ledger and counted in one call.

A step of an environment is one arrival, and most of its time would go into calls from Python, not into their work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.compiled import compiled
from rimsim.market._response import Appetites, Factors, Visits, answer_slate
from rimsim.market.ledger import Columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["count_shown", "show_slate"]


@compiled
def count_shown(
    shown: NDArray[np.int64],
    exposure: NDArray[np.int64],
    required: NDArray[np.int64],
    seen_exposure: NDArray[np.float32],
    seen_shortfall: NDArray[np.float32],
) -> int:
    """Bring an observed stock up to date after a slate.

    Args:
        shown: (k,) distinct items; −1 for an empty position.
        exposure: (M,) exposures of the round, this slate's included.
        required: (M,) required exposures of the round.
        seen_exposure: (M,) as observed; changed in place.
        seen_shortfall: (M,) as observed; changed in place.

    Returns:
        How many of the exposures reduced the shortfall.
    """
    useful = 0
    for item in shown:
        if item < 0:
            continue
        missing = required[item] - exposure[item]
        seen_exposure[item] = exposure[item]
        seen_shortfall[item] = max(missing, 0)
        if missing >= 0:
            useful += 1
    return useful


@compiled
def _show_slate(
    row: int,
    slate: NDArray[np.int64],
    relevance: NDArray[np.float32],
    ground: np.float32,
    admissible: NDArray[np.bool_],
    seen_exposure: NDArray[np.float32],
    seen_shortfall: NDArray[np.float32],
    waiting: float,
    visits: Visits,
    appetites: Appetites,
    factors: Factors,
    examination: NDArray[np.float64],
    attraction: float,
    ledger: Columns,
    exposure: NDArray[np.int64],
    required: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Show a slate to one arrival; every repeated or inadmissible position stays empty.

    Args:
        row: The arrival.
        slate: (k,) items.
        relevance: (M,) p(y|x).
        ground: λ(x).
        admissible: (M,).
        seen_exposure: As in :func:`count_shown`; changed in place.
        seen_shortfall: Likewise.
        waiting: As in :func:`rimsim.market._response.answer_slate`, like the five that follow.
        visits: Likewise.
        appetites: Likewise.
        factors: Likewise.
        examination: Likewise.
        attraction: Likewise.
        ledger: Of the round; the arrival's row is filled.
        exposure: (M,) exposures of the round, without this slate; changed in place.
        required: (M,) required exposures of the round.

    Returns:
        How many items were consumed, how many exposures reduced the shortfall, how many positions were emptied.
    """
    shown = np.empty(len(slate), np.int64)
    emptied = 0
    for position in range(len(slate)):
        item = slate[position]
        good = 0 <= item < len(admissible) and admissible[item]
        for before in range(position):
            good &= slate[before] != item
        shown[position] = item if good else -1
        ledger.item[row, position] = shown[position]
        ledger.intensity[row, position] = relevance[item] * ground if good else np.nan
        emptied += shown[position] != item
        if good:
            exposure[item] += 1
    ledger.ground[row] = ground
    answer_slate(
        row,
        shown,
        waiting,
        visits,
        appetites,
        factors,
        examination,
        attraction,
        ledger.consumed[row],
        ledger.probability[row],
        ledger.true_intensity[row],
    )
    useful = count_shown(shown, exposure, required, seen_exposure, seen_shortfall)
    return int(np.count_nonzero(ledger.consumed[row])), useful, emptied


@compiled
def show_slate(
    row: int,
    slate: NDArray[np.int64],
    relevance: NDArray[np.float32],
    ground: np.float32,
    admissible: NDArray[np.bool_],
    seen_exposure: NDArray[np.float32],
    seen_shortfall: NDArray[np.float32],
    waiting: float,
    slot_of: NDArray[np.int64],
    user_of: NDArray[np.int64],
    ground_of: NDArray[np.float64],
    key_of: NDArray[np.uint64],
    left: NDArray[np.float64],
    eaten: NDArray[np.float64],
    last: NDArray[np.int64],
    eaten_item: NDArray[np.int64],
    before: NDArray[np.int64],
    size: NDArray[np.int64],
    user_factors: NDArray[np.float64],
    item_factors: NDArray[np.float64],
    bias: NDArray[np.float64],
    log_normaliser: NDArray[np.float64],
    examination: NDArray[np.float64],
    attraction: float,
    item: NDArray[np.int32],
    consumed: NDArray[np.bool_],
    probability: NDArray[np.float64],
    true_intensity: NDArray[np.float64],
    intensity: NDArray[np.float32],
    grounds: NDArray[np.float32],
    exposure: NDArray[np.int64],
    required: NDArray[np.int64],
) -> tuple[int, int, int]:
    """:func:`_show_slate` with its records spread out: handing over a record takes twice as long as its arrays do."""
    return _show_slate(
        row,
        slate,
        relevance,
        ground,
        admissible,
        seen_exposure,
        seen_shortfall,
        waiting,
        Visits(slot_of, user_of, ground_of, key_of),
        Appetites(left, eaten, last, eaten_item, before, size),
        Factors(user_factors, item_factors, bias, log_normaliser),
        examination,
        attraction,
        Columns(item, consumed, probability, true_intensity, intensity, grounds),
        exposure,
        required,
    )
