"""Steps of several markets, served in one call.

To step a market by its own methods takes some forty Python calls. This module serves markets that need no more than
:func:`rimsim.market.single.serve_by_law` in one compiled call for all, with identical results. The records of such a
market stay where they are: a table has their addresses.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from rimsim.arrays import TICKS, Array, Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled, compiles, pointer
from rimsim.envs.observations import observe
from rimsim.intensity.contract import BLOCK
from rimsim.market.records import observed_gain
from rimsim.market.single import serve_by_hits, serve_by_law

if TYPE_CHECKING:
    from rimsim.envs.market import MarketEnv
    from rimsim.market.round import Arriving

_COLUMNS: dict[str, str] = {
    "i8": "tick id slot session offsets future events true_events places true_places event_first event_last"
    " event_counts event_newest event_tick event_item event_next event_size",
    "f8": "position_weights exposure probability true_intensity required examination",
    "f4": "intensity ground seen_exposure seen_shortfall block_relevance block_ground true_relevance true_ground",
    "?": "consumed block_admissible true_admissible",
    "i4": "item",
    "u8": "keys",
    "O": "blocks true_blocks",
}
_TYPES = {name: np.dtype(kind) for kind, names in _COLUMNS.items() for name in names.split()}
_NUMBERS = "row n m number rounds by_law fixed wait room block true_block fresh now arrival"
_RECORD = np.dtype(
    [(name, np.int64) for name in (*_TYPES, *_NUMBERS.split())]
    + [(name, np.float64) for name in ("attraction", "cost", "missing")]
)
"""Addresses of a market's columns, its numbers, and the arrival that waits."""


@compiled
def _serve_all(table: Array, chosen: Bools, slates: Ints, taken: Bools, useful: Floats) -> None:
    """Serve the slates of chosen markets, and advance to the next arrivals."""
    k = slates.shape[1]
    for market in range(len(table)):
        if not chosen[market]:
            continue
        one, shown = table[market], slates[market]
        n, m, row, by_law = one.n, one.m, one.row, one.by_law
        block, cells = (BLOCK, m), (n, k)
        relevance = carray(pointer(one.block_relevance), block, np.float32)
        ground = carray(pointer(one.block_ground), BLOCK, np.float32)
        admissible = carray(pointer(one.block_admissible), block, np.bool_)
        places = carray(pointer(one.places), n, np.int64)
        weights = carray(pointer(one.position_weights), k, np.float64)
        exposure = carray(pointer(one.exposure), m, np.float64)
        item = carray(pointer(one.item), cells, np.int32)
        consumed = carray(pointer(one.consumed), cells, np.bool_)
        probability = carray(pointer(one.probability), cells, np.float64)
        true_column = carray(pointer(one.true_intensity), cells, np.float64)
        intensity = carray(pointer(one.intensity), cells, np.float32)
        ground_column = carray(pointer(one.ground), n, np.float32)
        slots = carray(pointer(one.slot), n, np.int64)
        ticks = carray(pointer(one.tick), n, np.int64)
        slot = slots[row]
        counts = carray(pointer(one.event_counts), 1, np.int64)
        newest = carray(pointer(one.event_newest), 1, np.int64)
        size = carray(pointer(one.event_size), 1, np.int64)
        true_places = carray(pointer(one.true_places), n, np.int64)
        if by_law:
            serve_by_law(row, slot, ticks[row] + one.wait, shown, relevance, ground, admissible, places[row],
                carray(pointer(one.true_relevance), block, np.float32),
                carray(pointer(one.true_ground), BLOCK, np.float32), true_places[row],
                carray(pointer(one.keys), n, np.uint64), carray(pointer(one.examination), k, np.float64),
                one.attraction, weights, exposure, item, consumed, probability, true_column, intensity,
                ground_column, carray(pointer(one.event_first), 1, np.int64),
                carray(pointer(one.event_last), 1, np.int64), counts, newest,
                carray(pointer(one.event_tick), one.room, np.int64),
                carray(pointer(one.event_item), one.room, np.int64),
                carray(pointer(one.event_next), one.room, np.int64), size)  # fmt: skip
        else:
            sessions = carray(pointer(one.session), n, np.int64)
            serve_by_hits(row, sessions[row], shown, relevance, ground, admissible, places[row],
                carray(pointer(one.offsets), 1, np.int64), carray(pointer(one.future), 1, np.int64), weights,
                exposure, item, consumed, probability, true_column, intensity, ground_column)  # fmt: skip
        taken[market] = consumed[row]
        useful[market] = observed_gain(shown, weights, exposure, carray(pointer(one.required), m, np.float64),
            carray(pointer(one.seen_exposure), m, np.float32),
            carray(pointer(one.seen_shortfall), m, np.float32))  # fmt: skip
        row += 1
        slot, one.row, one.now = slots[row], row, ticks[row]
        one.arrival = carray(pointer(one.id), n, np.int64)[row]
        # Scores are at hand if they are in the same block, and no event has entered the state since.
        fresh = carray(pointer(one.blocks), n, np.int64)[row] == one.block
        if not one.fixed:
            scored = carray(pointer(one.events), n, np.int64)[row]
            fresh &= newest[slot] <= ticks[row] and scored == counts[slot]
        if by_law:
            scored = carray(pointer(one.true_events), n, np.int64)[row]
            fresh &= carray(pointer(one.true_blocks), n, np.int64)[row] == one.true_block
            fresh &= scored == counts[slot] and size[0] + k <= one.room
        one.fresh = fresh


@compiled
def _observe_all(table: Array, chosen: Bools, numbers: Float32s, can: NDArray[np.int8]) -> None:
    """Fill in the observations of chosen markets."""
    for market in range(len(table)):
        if chosen[market]:
            one = table[market]
            block, share = (BLOCK, one.m), one.row / one.n
            observe(carray(pointer(one.places), one.n, np.int64)[one.row],
                carray(pointer(one.block_relevance), block, np.float32),
                carray(pointer(one.block_ground), BLOCK, np.float32),
                carray(pointer(one.block_admissible), block, np.bool_),
                carray(pointer(one.seen_exposure), one.m, np.float32),
                carray(pointer(one.seen_shortfall), one.m, np.float32),
                (share, min(1.0, (one.number + share) / one.rounds)), numbers[market], can[market])  # fmt: skip


class JointMarkets:
    """Markets that are stepped together, as far as they can be."""

    def __init__(self, envs: list[MarketEnv]) -> None:
        self._envs = envs
        self._table = np.zeros(len(envs), _RECORD)
        self._joined = np.zeros(len(envs), bool)
        """(n,) markets whose records are in the table."""
        self._kept: list[tuple[object, ...]] = [()] * len(envs)
        """Owners of the columns in the table."""
        self._arriving: dict[int, Arriving] = {}
        self._blocks: list[tuple[object, ...]] = [()] * len(envs)
        """Owners of the scores in the table."""

    def join(self, number: int) -> None:
        """Take a market into the table, if it can be served so."""
        env = self._envs[number]
        columns = env.joint_columns() if compiles() else None
        if columns is None:
            return
        opened, one = env.market.open, self._table[number]
        constants = opened.joint_constants() | {"rounds": env.config.rounds, "cost": env.market.cost}
        constants |= {"row": env.market.served, "missing": env.stock.missing, "room": len(columns["event_item"])}
        for name, value in constants.items():
            one[name] = value
        self._kept[number], self._arriving[number] = (opened, columns), opened.arriving
        if self._enter(number, columns) and self._enter_blocks(number):
            self._joined[number] = True
            env.behind = partial(self._leave, number)

    def _enter(self, number: int, columns: dict[str, Array]) -> bool:
        """Enter addresses of columns; false if compiled code cannot take them."""
        one = self._table[number]
        for name, column in columns.items():
            if column.dtype != _TYPES[name] or not column.flags.c_contiguous:
                return False
            one[name] = column.ctypes.data
        return True

    def _enter_blocks(self, number: int) -> bool:
        """Enter the scores of the arrival that waits."""
        opened, one = self._envs[number].market.open, self._table[number]
        row = int(one["row"])
        block, true = opened.place(row)[0], opened.true_block(row)
        self._blocks[number] = block, true
        one["block"], one["true_block"] = id(block), id(true)
        columns = dict(zip(("block_relevance", "block_ground", "block_admissible"), block.arrays, strict=True))
        if true is not None:
            columns |= dict(zip(("true_relevance", "true_ground", "true_admissible"), true.arrays, strict=True))
        return self._enter(number, columns)

    def _leave(self, number: int) -> None:
        """Let a market go on by itself."""
        env, one = self._envs[number], self._table[number]
        self._joined[number], env.behind = False, None
        env.skip_to(int(one["row"]), float(one["missing"]))

    def serve(self, actions: Ints) -> tuple[Bools, Floats, dict[str, Array]]:
        """Markets that were served, with rewards and ``info["market"]``."""
        table, given, k = self._table, np.asarray(actions), self._envs[0].config.slate
        served, n = self._joined & (table["row"] + 1 < table["n"]), len(table)
        if given.shape != (n, k) or given.dtype.kind not in "iu":
            served[:], given = False, np.zeros((n, k), np.int64)
        asked = given.astype(np.int64, order="C", copy=False)
        shown, taken, useful = asked.copy(), np.zeros((n, k), bool), np.zeros(n)
        _serve_all(table, served, shown, taken, useful)
        consumed = taken.sum(1)
        table["missing"] = np.maximum(table["missing"] - useful, 0.0)
        columns = {
            "round": table["number"].copy(),
            "served": table["row"].copy(),
            "arrival": table["arrival"].copy(),
            "time": table["now"] / TICKS,
            "consumed": consumed,
            "items": shown,
            "taken": taken,
            "emptied": (shown != asked).sum(1),
            "shortfall": table["missing"].copy(),
            "excess": np.zeros(n),
        }
        for number in np.flatnonzero(served).tolist():
            self._arriving[number].served += 1
        for number in np.flatnonzero(served & (table["fresh"] == 0)).tolist():
            self._leave(number)
            self.join(number)
        return served, consumed + table["cost"] * useful, columns

    def observe(self, served: Bools, numbers: Float32s, admissible: NDArray[np.int8]) -> None:
        """Fill in observations of markets that were served."""
        chosen = served & self._joined
        _observe_all(self._table, chosen, numbers, admissible)
        for number in np.flatnonzero(served & ~chosen).tolist():
            self._envs[number].observe(numbers[number], admissible[number])
