"""Slates of several markets, served in one compiled call.

To step a market by its own methods takes some fifty Python calls. The results are identical. The records of a market
stay where they are: a row of a table has their addresses.
"""

from __future__ import annotations

from typing import Any, cast

import numba
import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.envs.observations import observe
from rimsim.market.records import observed_gain
from rimsim.market.single import serve_by_hits, serve_by_law

carray, intrinsic = cast("Any", numba).carray, cast("Any", numba).extending.intrinsic
COMPILES = not cast("Any", numba).config.DISABLE_JIT
_ADDRESSES = (
    "tick id slot session keys position_weights exposure required seen_exposure seen_shortfall item consumed "
    "probability true_intensity intensity ground relevance_at ground_at admissible_at events true_relevance_at "
    "true_ground_at true_admissible_at true_events examination offsets future event_first event_last event_counts "
    "event_newest event_tick event_item event_next event_size"
)
_NUMBERS = "n m round rounds by_law fixed wait room served tick_now arrival scored"
RECORD = np.dtype(
    [(name, np.int64) for name in f"{_ADDRESSES} {_NUMBERS}".split()]
    + [(name, np.float64) for name in ("attraction", "cost", "shortfall")]
)
"""Addresses of a market's columns; its numbers; and its arrival that waits. Nobody is served where n is 0."""


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(_: object, address: object) -> object:
    def generated(context: Any, builder: Any, signature: Any, arguments: Any) -> object:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return cast("Any", numba).types.voidptr(address), generated


@compiled_part
def _at(address: int, shape: Any, dtype: Any) -> Any:
    return carray(_pointer(address), shape, dtype)


@compiled_part
def _scores_of(one: Any, row: int) -> tuple[Float32s, Float32s, Bools, int]:
    """Block of one arrival's scores, and the place in it."""
    return (_at(_at(one.relevance_at, one.n, np.int64)[row], (1, one.m), np.float32),
        _at(_at(one.ground_at, one.n, np.int64)[row], 1, np.float32),
        _at(_at(one.admissible_at, one.n, np.int64)[row], (1, one.m), np.bool_), 0)  # fmt: skip


@compiled
def serve_all(table: Array, chosen: Bools, slates: Ints, taken: Bools, gain: Floats) -> None:
    """Serve slates of chosen markets, up to the next arrivals."""
    k = slates.shape[1]
    for market in range(len(table)):
        if not chosen[market]:
            continue
        one, shown = table[market], slates[market]
        n, m, row, by_law = one.n, one.m, one.served, one.by_law
        slots, ticks = _at(one.slot, n, np.int64), _at(one.tick, n, np.int64)
        scores, weights = _scores_of(one, row), _at(one.position_weights, k, np.float64)
        exposure, consumed = _at(one.exposure, m, np.float64), _at(one.consumed, (n, k), np.bool_)
        entry = (weights, exposure, _at(one.item, (n, k), np.int32), consumed,
            _at(one.probability, (n, k), np.float64), _at(one.true_intensity, (n, k), np.float64),
            _at(one.intensity, (n, k), np.float32), _at(one.ground, n, np.float32))  # fmt: skip
        counts, newest = _at(one.event_counts, 1, np.int64), _at(one.event_newest, 1, np.int64)
        size = _at(one.event_size, 1, np.int64)
        if by_law:
            serve_by_law(row, slots[row], ticks[row] + one.wait, shown, *scores,
                _at(_at(one.true_relevance_at, n, np.int64)[row], (1, m), np.float32),
                _at(_at(one.true_ground_at, n, np.int64)[row], 1, np.float32), 0,
                _at(one.keys, n, np.uint64), _at(one.examination, k, np.float64), one.attraction,
                *entry, _at(one.event_first, 1, np.int64), _at(one.event_last, 1, np.int64), counts, newest,
                _at(one.event_tick, one.room, np.int64), _at(one.event_item, one.room, np.int64),
                _at(one.event_next, one.room, np.int64), size)  # fmt: skip
        else:
            session = _at(one.session, n, np.int64)[row]
            serve_by_hits(row, session, shown, *scores, _at(one.offsets, 1, np.int64),
                _at(one.future, 1, np.int64), *entry)  # fmt: skip
        taken[market] = consumed[row]
        gain[market] = observed_gain(shown, weights, exposure, _at(one.required, m, np.float64),
            _at(one.seen_exposure, m, np.float32), _at(one.seen_shortfall, m, np.float32))  # fmt: skip
        one.shortfall = max(one.shortfall - gain[market], 0.0)
        row += 1
        slot, one.served, one.tick_now = slots[row], row, ticks[row]
        one.arrival = _at(one.id, n, np.int64)[row]
        events = _at(one.events, n, np.int64)[row]
        scored = events >= 0 if one.fixed else newest[slot] <= ticks[row] and events == counts[slot]
        if by_law:
            scored &= _at(one.true_events, n, np.int64)[row] == counts[slot]
        one.scored = -1 if by_law and size[0] + k > one.room else scored


@compiled
def observe_all(table: Array, chosen: Bools, numbers: Float32s, can: NDArray[np.int8]) -> None:
    """Fill in observations of chosen markets."""
    for market in range(len(table)):
        if chosen[market]:
            one = table[market]
            m, share = one.m, one.served / one.n
            relevance, ground, admissible, place = _scores_of(one, one.served)
            observe(place, relevance, ground, admissible,
                _at(one.seen_exposure, m, np.float32), _at(one.seen_shortfall, m, np.float32),
                (share, min(1.0, (one.round + share) / one.rounds)), numbers[market], can[market])  # fmt: skip
