"""Steps of one or more markets in compiled code.

To serve an arrival by the market's own methods takes some hundred Python calls; here it takes one, for any number of
markets. The results are identical. A market's arrays stay where they are: its record, a row of a table, has their
addresses.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numba
import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.envs.observations import observe
from rimsim.market.consumers.contract import response_to
from rimsim.market.ledger import Events, enter_event
from rimsim.market.records import observed_gain

carray, intrinsic = cast("Any", numba).carray, cast("Any", numba).extending.intrinsic
COMPILES = not cast("Any", numba).config.DISABLE_JIT
_ADDRESSES = (
    "tick id slot session shown keys position_weights exposure required seen_exposure seen_shortfall item consumed "
    "probability true_intensity intensity ground relevance_at ground_at admissible_at events true_relevance_at "
    "true_ground_at true_admissible_at true_events examination offsets future event_first event_last event_counts "
    "event_newest event_tick event_item event_next event_size"
)
_NUMBERS = "n m slots rounds by_law fixed wait room"


class StepOutcome(NamedTuple):
    """StepOutcome of a market's last slate, and its waiting arrival."""

    round: float
    served: float
    """Number of served arrivals in the round, and row of the waiting one."""
    arrival: float
    now: float
    """Tick of the waiting arrival."""
    scored: float
    """1 if its scores are valid; 0 if not; −1 if the market must serve it by its own methods."""
    n_consumed: float
    emptied: float
    reward: float
    shortfall: float


RECORD = np.dtype(
    [(name, np.int64) for name in f"{_ADDRESSES} {_NUMBERS}".split()]
    + [(name, np.float64) for name in ("attraction", "cost", *StepOutcome._fields)]
)
"""Record of a market: addresses of its arrays; its numbers; and the outcome of its last slate. It is free if n is 0."""


def enter(record: Array, terms: dict[str, Any]) -> None:
    """Enter numbers of a market, and addresses of its arrays."""
    for name, value in terms.items():
        record[name] = value.ctypes.data if isinstance(value, np.ndarray) else value


def outcome(record: Array) -> StepOutcome:
    """StepOutcome of the last slate, read from a market's record."""
    return StepOutcome(
        *record.view(np.float64)[-len(StepOutcome._fields) :].tolist()
    )  # the last fields of its record


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(_: object, address: object) -> object:
    def generated(context: Any, builder: Any, signature: Any, arguments: Any) -> object:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return cast("Any", numba).types.voidptr(address), generated


@compiled_part
def _at(address: int, size: int, dtype: Any) -> Any:
    """Array of one axis at an address."""
    return carray(_pointer(address), size, dtype)


@compiled_part
def _row_at(address: int, row: int, size: int, dtype: Any) -> Any:
    """Row of an array whose rows have ``size`` cells."""
    return _at(address, (row + 1) * size, dtype)[row * size :]


@compiled_part
def _scores_of(one: Any, row: int) -> tuple[Float32s, Float32s, Bools]:
    """p(y|x) (M,), λ(x) (1,) and admissibility (M,)."""
    return (_at(_at(one.relevance_at, one.n, np.int64)[row], one.m, np.float32),
        _at(_at(one.ground_at, one.n, np.int64)[row], 1, np.float32),
        _at(_at(one.admissible_at, one.n, np.int64)[row], one.m, np.bool_))  # fmt: skip


@compiled
def serve_all(table: Array, chosen: Bools, slates: Ints, taken: Bools) -> None:
    """Serve slates of chosen markets, up to the next arrivals."""
    # Positions of wrong items are emptied in ``slates`` (n, k); ``taken`` (n, k) tells what is consumed.
    k = slates.shape[1]
    for market in range(len(table)):
        if not chosen[market]:
            continue
        one, shown = table[market], slates[market]
        n, m, row = one.n, one.m, int(one.served)
        weights, exposure = _at(one.position_weights, k, np.float64), _at(one.exposure, m, np.float64)
        one.emptied = _enter_slate(one, row, shown, weights, exposure)
        _at(one.shown, n, np.bool_)[row] = True
        slots, ticks = _at(one.slot, n, np.int64), _at(one.tick, n, np.int64)
        slot, consumed = slots[row], _row_at(one.consumed, row, k, np.bool_)
        counts, size = _at(one.event_counts, one.slots, np.int64), _at(one.event_size, 1, np.int64)
        if one.by_law:
            first, last = _at(one.event_first, one.slots, np.int64), _at(one.event_last, one.slots, np.int64)
            events = Events(first, last, counts, _at(one.event_newest, one.slots, np.int64),
                _at(one.event_tick, one.room, np.int64), _at(one.event_item, one.room, np.int64),
                _at(one.event_next, one.room, np.int64), size)  # fmt: skip
            _consume_by_law(one, row, shown, consumed, slot, ticks[row] + one.wait, events)
        else:
            _consume_hits(one, row, shown, consumed)
        one.n_consumed = 0.0
        for position in range(k):
            taken[market, position] = consumed[position]
            one.n_consumed += consumed[position]
        gain = observed_gain(shown, weights, exposure, _at(one.required, m, np.float64),
            _at(one.seen_exposure, m, np.float32), _at(one.seen_shortfall, m, np.float32))  # fmt: skip
        one.reward, one.shortfall = one.n_consumed + one.cost * gain, max(one.shortfall - gain, 0.0)
        row += 1
        slot, one.served, one.now = slots[row], row, ticks[row]
        one.arrival = _at(one.id, n, np.int64)[row]
        known = _at(one.events, n, np.int64)[row]
        valid = known >= 0 if one.fixed else known == counts[slot]
        if one.by_law:
            valid &= _at(one.true_events, n, np.int64)[row] == counts[slot]
        one.scored = 1 if valid else 0
        if row + 1 == n or (one.by_law and size[0] + k > one.room):
            one.scored = -1


@compiled_part
def _enter_slate(one: Any, row: int, shown: Ints, weights: Floats, exposure: Floats) -> int:
    """Record a slate; return its number of emptied positions."""
    relevance, ground, admissible = _scores_of(one, row)
    k, emptied = len(shown), 0
    items, intensity = _row_at(one.item, row, k, np.int32), _row_at(one.intensity, row, k, np.float32)
    _at(one.ground, one.n, np.float32)[row] = ground[0]
    for position in range(k):
        item = shown[position]
        wrong = not (0 <= item < one.m and admissible[item])
        for before in range(position):
            wrong |= shown[before] == item
        if wrong:
            emptied += item != -1
            shown[position] = items[position] = -1
            intensity[position] = np.nan
        else:
            items[position] = item
            intensity[position] = relevance[item] * ground[0]
            exposure[item] += weights[position]
    return emptied


@compiled_part
def _consume_by_law(one: Any, row: int, shown: Ints, consumed: Bools, slot: int, tick: int,
    events: Events) -> None:  # fmt: skip
    """Sample consumptions of a slate, and enter them."""
    n, k = one.n, len(shown)
    share = _at(_at(one.true_relevance_at, n, np.int64)[row], one.m, np.float32)
    size = _at(_at(one.true_ground_at, n, np.int64)[row], 1, np.float32)[0]
    key, examination = np.uint64(_at(one.keys, n, np.int64)[row]), _at(one.examination, k, np.float64)
    probability = _row_at(one.probability, row, k, np.float64)
    true_intensity = _row_at(one.true_intensity, row, k, np.float64)
    for position in range(k):
        item = shown[position]
        if item >= 0:
            taken, chance, worth = response_to(share[item], size, key, item, examination[position],
                one.attraction)  # fmt: skip
            consumed[position], probability[position], true_intensity[position] = taken, chance, worth
            if taken:
                enter_event(slot, tick, item, events)


@compiled_part
def _consume_hits(one: Any, row: int, shown: Ints, consumed: Bools) -> None:
    """Mark a slate's items that the session holds."""
    k, session = len(shown), _at(one.session, one.n, np.int64)[row]
    probability = _row_at(one.probability, row, k, np.float64)
    true_intensity = _row_at(one.true_intensity, row, k, np.float64)
    offsets = _at(one.offsets, session + 2, np.int64)
    future = _at(one.future, offsets[session + 1], np.int64)
    for event in range(offsets[session], offsets[session + 1]):
        for position in range(k):
            if shown[position] == future[event]:
                consumed[position], probability[position], true_intensity[position] = True, 1.0, 1.0


@compiled
def observe_all(table: Array, chosen: Bools, numbers: Float32s, can: NDArray[np.int8]) -> None:
    """Fill in observations of chosen markets."""
    for market in range(len(table)):
        if chosen[market]:
            one = table[market]
            m, share = one.m, one.served / one.n
            relevance, ground, admissible = _scores_of(one, int(one.served))
            observe(relevance, ground, admissible,
                _at(one.seen_exposure, m, np.float32), _at(one.seen_shortfall, m, np.float32),
                (share, min(1.0, (one.round + share) / one.rounds)), numbers[market], can[market])  # fmt: skip
