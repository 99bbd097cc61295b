"""Scores of a round's arrivals and of past states."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Ints, offsets_of, seconds
from rimsim.compiled import compiled
from rimsim.errors import MarketError, ModelError
from rimsim.intensity.contract import (
    BLOCK,
    STEP,
    Hidden,
    IntensityModel,
    Walk,
    filled_up,
    owns_scores,
    recurrent,
    rows_of,
    walked,
)
from rimsim.intensity.impressions import ImpressionLayer, layer_of
from rimsim.intensity.states import UserStates
from rimsim.market.ledger import Histories, PastRound, fold_of
from rimsim.market.records import Arrivals, Schedule, ScoredStates, at_items
from rimsim.matching import top_k
from rimsim.requirements.audiences import RoundVisits
from rimsim.requirements.rows import RoundRequirements

FoldModels: TypeAlias = Callable[[], tuple[IntensityModel, ...]]
"""Models of each fold of users, or one for all; called when first needed."""
MOST_CELLS = 1 << 26
"""Scores, states times items, that prices are solved on at once at most: 0.6 GB with the arrays of the solver."""
_ENCODED = 32 * BLOCK
"""States that are encoded at once. It decides bits of float32 products, as ``BLOCK`` does."""
_AHEAD, _AHEAD_CELLS = 4, 1 << 21
"""Most blocks that are scored together in advance, and most scores, states times items, in more than one of them."""
_MOST_BYTES = 1 << 26
"""Hidden states that are precomputed at once, bytes."""
KEPT_CELLS = 1 << 24
"""Scores, arrivals times items, of a round that are kept for the next market at most: 84 MB with their masks."""
_FOR_MEDIAN = 8192
"""States of a sampled median: its standard error is 1.4% of their spread."""
_NOWHERE = np.zeros(0, np.int64)
_Tensors: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_Arrays: TypeAlias = tuple[Float32s, Float32s, Bools]


def most_states(n_items: int) -> int:
    """Number of states whose scores fit into memory."""
    return max(1, MOST_CELLS // max(n_items, 1))


# -- blocks -----------------------------------------------------------------------------------------------------------
class ScoreRows:
    """Scored states: relevance p(y|x), λ(x) and admissibility."""

    # On the processor, arrays and tensors share their memory, and either is only made where it is asked for.
    __slots__ = ("_arrays", "_remote", "_tensors")

    def __init__(self, tensors: _Tensors | None, arrays: _Arrays | None = None) -> None:
        self._tensors, self._arrays = tensors, arrays
        self._remote = tensors is not None and tensors[0].device.type != "cpu"
        if tensors is not None and not self._remote:
            self._arrays = tensors[0].numpy(), tensors[1].numpy(), tensors[2].numpy()

    @property
    def tensors(self) -> _Tensors:
        """Relevance, λ(x) and admissibility, as tensors on their device."""
        if self._tensors is None:
            assert self._arrays is not None  # noqa: S101  # one of the two is there
            relevance, ground, admissible = (torch.from_numpy(part) for part in self._arrays)
            self._tensors = relevance, ground, admissible
        return self._tensors

    @property
    def arrays(self) -> _Arrays:
        """Relevance, λ(x) and admissibility, as arrays in main memory."""
        if self._arrays is None:
            relevance, ground, admissible = self.tensors
            self._arrays = relevance.cpu().numpy(), ground.cpu().numpy(), admissible.cpu().numpy()
        return self._arrays

    @property
    def ground(self) -> Float32s:
        """Ground intensities λ(x) as an array."""
        return self.tensors[1].cpu().numpy() if self._arrays is None else self._arrays[1]

    def at(self, items: Ints) -> tuple[Float32s, Bools]:
        """Relevance and admissibility of each slate's items."""
        relevance, _, admissible = self.tensors if self._arrays is None else self._arrays
        return at_items(relevance, items), at_items(admissible, items)

    def cut(self, first: int, n: int) -> ScoreRows:
        """Scores of adjacent states, without a copy."""
        stop = first + n
        if self._arrays is None or self._remote:
            return ScoreRows(tuple(tensor[first:stop] for tensor in self.tensors))  # type: ignore[arg-type]  # three
        relevance, ground, admissible = self._arrays
        return ScoreRows(None, (relevance[first:stop], ground[first:stop], admissible[first:stop]))

    def only(self, rows: Bools) -> ScoreRows:
        """Copy in which only the chosen states have admissible items."""
        relevance, ground, admissible = self.tensors
        chosen = torch.from_numpy(rows).to(relevance.device)[:, None]
        return ScoreRows((relevance * chosen, ground, admissible & chosen))

    def under(self, layer: ImpressionLayer, history: Ints) -> ScoreRows:
        """Scored states with a layer applied to λ(x)·p(y|x).

        Args:
            history: Number of events in each state.
        """
        # The relevance is overwritten.
        relevance, ground, admissible = self.tensors
        applied = layer.apply_(relevance.mul_(ground[:, None]), history)
        if self._remote:
            applied.masked_fill_(~admissible, 0.0)
        else:  # this takes a quarter of the time
            np.copyto(applied.numpy(), 0.0, where=~admissible.numpy())
        total = applied.sum(1)
        applied /= total[:, None].clamp_min(torch.finfo(torch.float32).tiny)
        return ScoreRows((applied, total, admissible))


class Scorer:
    """Scores of a round's visitors under one model.

    Hidden states are cached by slot; a new event updates them in constant time. Scores of a state do not
    depend on the other states of its batch.
    """

    def __init__(
        self, model: IntensityModel, histories: Histories, release: Ints, device: torch.device
    ) -> None:
        self._model, self._layer = layer_of(model)
        self._histories, self._release, self._device = histories, release, device
        self.n_items = len(release)
        self._recurrent = recurrent(self._model)
        self._hidden: Hidden = ()
        self._known = np.zeros(len(histories), np.int64)
        """(slots,) events of each slot in its hidden state."""

    def encode(self, start: int) -> None:
        """Compute hidden states of all slots from events before ``start``."""
        if self._recurrent is None:
            return
        slots = np.arange(len(self._histories))
        counts = self._histories.visible_at(slots, np.full(len(slots), start - 1))
        states = self._histories.states(slots, counts, np.full(len(slots), start))
        self._hidden, self._known = self._recurrent.encode(states), counts

    def hidden_bytes(self) -> int:
        """Bytes of one hidden state; 0 without hidden states."""
        return sum(part[:1].nbytes for part in self._hidden)

    def hidden_at(self, slots: Ints, counts: Ints) -> Hidden:
        """Hidden states of n arrivals, updated by all their events."""
        # ``counts`` (n,) are no fewer than the events in each slot's hidden state, which takes the most of them.
        if self._recurrent is None:
            return ()
        who, of = np.unique(slots, return_inverse=True)
        known, most = self._known[who], self._known[who]
        np.maximum.at(most, of, counts)
        visible, items = self._histories.between(who, known, most)
        walk = Walk(offsets_of(most - known), items, seconds(visible), of, counts - known[of])
        after, found = walked(self._recurrent, rows_of(self._hidden, who), walk)
        self._store(who, after, most)
        return found

    def _store(self, slots: Ints, hidden: Hidden, known: Ints) -> None:
        """Cache each slot's hidden state after its first ``known`` events."""
        rows = torch.from_numpy(slots).to(self._device)
        for part, new in zip(self._hidden, hidden, strict=True):
            part.index_copy_(0, rows, new[: len(slots)])
        self._known[slots] = known

    def score(
        self, ids: Ints, slots: Ints, ticks: Ints, counts: Ints, hidden: Hidden | None = None
    ) -> ScoreRows:
        """Scores of at most ``BLOCK`` states.

        Raises:
            ModelError: If a score is negative or not a number.
        """
        if self._recurrent is None:
            states = self._histories.states(slots, counts, ticks)
            raw = self._model.score(states.take(filled_up(np.arange(len(slots)))))
        else:
            of = np.arange(len(slots))
            if hidden is None:
                hidden, of = self._hidden, slots
            raw = self._recurrent.score_hidden(rows_of(hidden, filled_up(of)), filled_up(seconds(ticks)))
        take_out = partial(self._take_out, slots, counts)
        rows = _normalised(raw.to(torch.float32), take_out, ids, ticks, self._release, self._model)
        if self._layer is None:
            return rows
        return rows.under(self._layer, filled_up(self._histories.length[slots] + counts))

    def _take_out(self, slots: Ints, counts: Ints, relevance: torch.Tensor, admissible: torch.Tensor) -> None:
        if relevance.device.type == "cpu":
            self._histories.take_out(slots, counts, relevance.numpy(), admissible.numpy())
        else:
            _take_out(self._histories.consumed(slots, counts), relevance, admissible)

    def late(self, slots: Ints, counts: Ints) -> Ints:
        """Indices of slots whose hidden states lack events."""
        return (counts > self._known[slots]).nonzero()[0] if self._hidden else _NOWHERE

    def catch_up(self, slots: Ints, counts: Ints) -> None:
        """Update hidden states of different slots by the latest events."""
        if self._recurrent is None or not len(slots):
            return
        known = self._known[slots]
        visible, items = self._histories.between(slots, known, counts)
        walk = Walk(offsets_of(counts - known), items, seconds(visible), _NOWHERE, _NOWHERE)
        self._store(slots, walked(self._recurrent, rows_of(self._hidden, slots), walk)[0], counts)


def score_states(
    model: IntensityModel, states: UserStates, events: Ints, ids: Ints, ticks: Ints, release: Ints
) -> Iterator[ScoreRows]:
    """Scores of n states without cached hidden states."""
    # States with equal ``events`` (n,) are encoded once, and all together, so that those of like length can be read
    # together. Blocks hold at most ``BLOCK`` states, in order.
    model, layer = layer_of(model)
    with_hidden = recurrent(model)
    hidden: Hidden = ()
    if with_hidden is not None:
        _, different, of_state = np.unique(events, return_index=True, return_inverse=True)
        hidden = with_hidden.encode(states.take(different))
    for first in range(0, len(states), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(states)))
        some = filled_up(rows)
        if with_hidden is None:
            raw = model.score(states.take(some))
        else:
            raw = with_hidden.score_hidden(rows_of(hidden, of_state[some]), states.now[some])
        take_out = partial(_take_out, states.rows_of(first, first + len(rows)))
        scored = _normalised(raw.to(torch.float32), take_out, ids[rows], ticks[rows], release, model)
        yield scored if layer is None else scored.under(layer, states.lengths[some])


def _normalised(
    raw: torch.Tensor,
    take_out: Callable[[torch.Tensor, torch.Tensor], None],
    ids: Ints,
    ticks: Ints,
    release: Ints,
    model: IntensityModel,
) -> ScoreRows:
    """Scored states: raw intensities, split into p(y|x) and λ(x)."""
    # ``take_out`` makes consumed items inadmissible and worth nothing, in place.
    n = len(ids)  # the rows beyond are padding
    ground = raw.sum(1)
    wrong = _first_wrong(raw[:n], ground[:n])
    if wrong >= 0:
        raise ModelError(
            f"{type(model).__name__}.score: an intensity is negative or not a number in the state of "
            f"arrival {int(ids[wrong])}. Expected finite intensities of at least 0"
        )
    # Few items are out of reach, so they are taken out one by one: a pass over all for each step costs more.
    admissible = torch.ones(raw.shape, dtype=torch.bool, device=raw.device)
    relevance = raw if owns_scores(model) else raw.clone()
    if int(release.max(initial=0)) > int(ticks.min()):
        late = torch.from_numpy(release[None, :] > filled_up(ticks)[:, None]).to(raw.device)
        admissible[late], relevance[late] = False, 0.0
    take_out(relevance, admissible)
    relevance /= relevance.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return ScoreRows((relevance.contiguous(), ground, admissible))  # compiled code reads adjacent cells


def _first_wrong(raw: torch.Tensor, total: torch.Tensor) -> int:
    """First row with a negative or infinite score, or −1."""
    if raw.device.type == "cpu" and raw.is_contiguous():
        return _first_wrong_row(raw.numpy(), total.numpy())
    wrong = (~torch.isfinite(total) | (raw < 0).any(1)).nonzero()
    return int(wrong[0]) if len(wrong) else -1


@compiled
def _first_wrong_row(raw: Float32s, total: Float32s) -> int:
    for row in range(len(raw)):
        below = False
        for item in range(raw.shape[1]):  # without an exit, so that the processor compares many at once
            below |= raw[row, item] < 0.0
        if below or not np.isfinite(total[row]):
            return row
    return -1


def _take_out(pairs: tuple[Ints, Ints], relevance: torch.Tensor, admissible: torch.Tensor) -> None:
    """Make pairs of state and item inadmissible, with intensity 0."""
    if relevance.device.type == "cpu":
        _clear(*pairs, relevance.numpy(), admissible.numpy())
    else:
        rows, items = (torch.from_numpy(part).to(relevance.device) for part in pairs)
        admissible[rows, items], relevance[rows, items] = False, 0.0


@compiled
def _clear(rows: Ints, items: Ints, scores: Float32s, admissible: Bools) -> None:
    for pair in range(len(rows)):
        scores[rows[pair], items[pair]] = 0.0
        admissible[rows[pair], items[pair]] = False


# -- arrivals of a round ----------------------------------------------------------------------------------------------
class ArrivalScores:
    """Scores of a round's arrivals, computed ahead in blocks.

    Methods take arrivals as rows of the schedule. A block has the arrivals that need scores now, and some
    later arrivals. An arrival's scores are valid until another event enters its state.
    """

    _most_returning = 8 * STEP  # users whose hidden states may be updated before they return

    def __init__(self, scorer: Scorer, histories: Histories, schedule: Schedule) -> None:
        self._scorer, self._histories, self._schedule = scorer, histories, schedule
        n = len(schedule)
        self._block = np.full(n, None, object)
        """(n,) block with the scores of each arrival, or None."""
        self._place = np.zeros(n, np.int64)
        """(n,) place in the block."""
        self._counts = np.full(n, -1)
        """(n,) events of its user that they take into account; −1 before an arrival is scored."""
        self._most = BLOCK * min(max(_AHEAD_CELLS // (BLOCK * scorer.n_items), 1), _AHEAD)
        """Most arrivals that are scored together, unless more are asked for at once."""
        self._at: Ints | None = None
        """(3, n) addresses of each arrival's scores; None: nobody asked."""
        self._next_visit = _next_of_same(schedule.slot)
        self._open = np.full(len(histories), -1)
        self._returning: deque[int] = deque(maxlen=self._most_returning)
        """Slots of users who were served and will return, the last of them."""
        backwards = np.arange(n)[::-1]
        self._open[schedule.slot[backwards]] = backwards  # the last that is written is a user's first arrival

    def rows(self, rows: Ints) -> ScoreRows:
        """Scores of arrivals of different users."""
        if len(rows) == 1:
            block, first = self.place(int(rows[0]))
            return block.cut(first, 1)
        self._require(rows)
        blocks, places = self._block[rows], self._place[rows]
        ends = ((blocks[1:] != blocks[:-1]) | (places[1:] != places[:-1] + 1)).nonzero()[0] + 1
        spans = itertools.pairwise([0, *ends.tolist(), len(places)])
        parts: list[ScoreRows] = [
            blocks[first].cut(int(places[first]), stop - first) for first, stop in spans
        ]
        if len(parts) == 1:
            return parts[0]
        relevance, ground, admissible = zip(*(part.tensors for part in parts), strict=True)
        return ScoreRows((torch.cat(relevance), torch.cat(ground), torch.cat(admissible)))

    def place(self, row: int) -> tuple[ScoreRows, int]:
        """Block with an arrival's scores, and the arrival's index."""
        if self._counts[row] != self._events_of(row):
            self._require(np.array([row]))
        return self._block[row], int(self._place[row])

    def columns(self) -> dict[str, NDArray[Any]]:
        """Columns by arrival: addresses of scores; events before them."""
        if self._at is None:
            located = np.zeros((3, len(self._schedule)), np.int64)
            self._locate(np.arange(len(self._schedule)), located)
            self._at = located  # last, so that no interrupt leaves a scored row without addresses
        at, events = self._at, self._counts
        return {"relevance_at": at[0], "ground_at": at[1], "admissible_at": at[2], "events": events}

    def _locate(self, rows: Ints, addresses: Ints | None) -> None:
        """Enter addresses of arrivals' scores, if asked for."""
        if addresses is not None:
            blocks = self._block[rows]
            for block in set(blocks.tolist()) - {None}:
                some = rows[blocks == block]
                for at, part in zip(addresses, block.arrays, strict=True):
                    at[some] = part.ctypes.data + part.strides[0] * self._place[some]

    def drop(self, rows: Ints | int) -> None:
        """Drop the scores of arrivals, served in this order."""
        slots, following = self._schedule.slot[rows], self._next_visit[rows]
        self._open[slots], self._block[rows], self._counts[rows] = following, None, -1
        if isinstance(rows, np.ndarray):
            self._returning.extend(slots[following >= 0].tolist())
        elif following >= 0:
            self._returning.append(int(slots))

    def _require(self, rows: Ints) -> None:
        """Score the arrivals that have no valid scores."""
        counts = self._events(rows)
        stale = rows[self._counts[rows] != counts]
        if not len(stale):
            return
        if len(stale) < BLOCK:
            first, later = self._ahead(stale)
            found = np.concatenate([stale, first])
            whole = min(len(found) // BLOCK * BLOCK, self._most)
            stale = found[:whole] if whole else np.concatenate([found, later])[:BLOCK]
        self._fill(stale, self._events(stale))

    def _events(self, rows: Ints) -> Ints:
        """Number of the round's events in each arrival's state."""
        return self._histories.visible_at(self._schedule.slot[rows], self._schedule.tick[rows])

    def _events_of(self, row: int) -> int:
        """Number of the round's events in an arrival's state."""
        slot, tick = self._schedule.slot[row], self._schedule.tick[row]
        events = self._histories.events
        if events.newest[slot] <= tick:
            return int(events.counts[slot])
        return int(self._events(np.array([row]))[0])

    def _fill(self, chosen: Ints, counts: Ints, hidden: Hidden | None = None) -> None:
        """Score arrivals, in blocks."""
        schedule = self._schedule
        if hidden is None:
            self._catch_up(schedule.slot[chosen], counts)
        for first in range(0, len(chosen), BLOCK):
            rows, known = chosen[first : first + BLOCK], counts[first : first + BLOCK]
            part = None if hidden is None else tuple(one[first : first + BLOCK] for one in hidden)
            block = self._scorer.score(
                schedule.id[rows], schedule.slot[rows], schedule.tick[rows], known, part
            )
            self._block[rows], self._place[rows] = block, np.arange(len(rows))
            self._locate(rows, self._at)
            # Last, so that no interrupt leaves a row that seems scored at an address that is gone.
            self._counts[rows] = known

    def _catch_up(self, slots: Ints, counts: Ints) -> None:
        """Update hidden states, also of some users who will return."""
        # A block of STEP hidden states takes as long for one user as for all, so it is filled up.
        late = self._scorer.late(slots, counts)
        if not len(late):
            return
        slots, counts = slots[late], counts[late]
        if self._returning:
            others = np.array(self._returning)
            others = others[self._open[others] >= 0]
            known = self._events(self._open[others])
            lacking, room = self._scorer.late(others, known), -len(late) % STEP
            self._returning = deque(others[lacking[room:]].tolist(), self._returning.maxlen)
            some = lacking[:room]
            slots, counts = np.concatenate([slots, others[some]]), np.concatenate([counts, known[some]])
        different, first = np.unique(slots, return_index=True)
        self._scorer.catch_up(different, counts[first])

    def _ahead(self, wanted: Ints) -> tuple[Ints, Ints]:
        """Later arrivals to score in advance: next visits, and others."""
        # A later visit is scored as if the visits before it had no effect; if they have one, it is scored again.
        first = int(wanted[0])
        ahead = np.arange(first + 1, min(first + 1 + self._most + 2 * BLOCK, len(self._schedule)))
        following = self._open[self._schedule.slot[ahead]]
        counts = self._events(ahead)
        to_do = (following >= 0) & (ahead >= following) & (self._counts[ahead] != counts)
        to_do[(wanted - first - 1)[(wanted > first) & (wanted <= first + len(ahead))]] = False
        # A hidden state that took events which are not visible at the user's next arrival could not go back.
        to_do &= counts == self._events(following)
        return ahead[to_do & (ahead == following)], ahead[to_do & (ahead != following)]


class PrecomputedScores(ArrivalScores):
    """Scores of arrivals whose states do not depend on slates.

    Arrivals are scored in clock order, block after block. About 64 MiB of hidden states are in memory at
    once. All scores equal those of :class:`ArrivalScores` to the bit.

    Args:
        kept: Blocks by the first arrival of the call that scored them, if markets with equal arrivals share them.
    """

    def __init__(
        self,
        scorer: Scorer,
        histories: Histories,
        schedule: Schedule,
        kept: dict[int, NDArray[np.object_]] | None = None,
    ) -> None:
        super().__init__(scorer, histories, schedule)
        self._kept = kept
        self._states = histories.visible_at(schedule.slot, schedule.tick)
        """Number of the round's events in each arrival's state."""
        self._filled = 0
        """Arrivals that have been scored: whole blocks, or all."""
        self._window = max(_MOST_BYTES // max(scorer.hidden_bytes(), 1) // BLOCK, 1) * BLOCK
        """Arrivals whose states are encoded at once: whole blocks."""
        self._hidden: Hidden = ()
        """Hidden states of the window that was encoded last."""
        self._encoded = -1
        """First arrival of that window."""

    def _events(self, rows: Ints) -> Ints:
        return self._states[rows]

    def _events_of(self, row: int) -> int:
        return int(self._states[row])

    def _require(self, rows: Ints) -> None:
        while self._filled <= int(rows.max()):
            first, n = self._filled, len(self._schedule)
            stop = min(first + self._most, first - first % self._window + self._window, n)
            some = np.arange(first, stop)
            if self._kept is not None and first in self._kept:
                self._block[some], self._place[some] = self._kept[first], (some - first) % BLOCK
                self._locate(some, self._at)
                self._counts[some] = self._states[some]
            else:
                self._fill(some, self._states[some], self._hidden_of(some))
                if self._kept is not None:
                    self._kept[first] = self._block[some]
            self._filled = stop

    def drop(self, rows: Ints | int) -> None:
        """Drop the scores of served arrivals."""
        self._block[rows], self._counts[rows] = None, -1

    def _hidden_of(self, rows: Ints) -> Hidden:
        """Hidden states of adjacent arrivals of one window."""
        begin = int(rows[0]) % self._window
        first = int(rows[0]) - begin
        if self._encoded != first:
            window = slice(first, first + self._window)
            self._hidden = self._scorer.hidden_at(self._schedule.slot[window], self._states[window])
            self._encoded = first
        return tuple(part[begin : begin + len(rows)] for part in self._hidden)


def _next_of_same(values: Ints) -> Ints:
    """Index of each element's next equal element, or −1."""
    order = np.argsort(values, kind="stable")
    following = np.full(len(values), -1, np.int64)
    same = values[order][1:] == values[order][:-1]
    following[order[:-1][same]] = order[1:][same]
    return following


# -- past states ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class PastStates:
    """n states of a past period, in clock order."""

    id: Ints
    """(n,) arrival ids."""
    tick: Ints
    """(n,) instants."""
    user: Ints
    """(n,) market users."""
    states: Callable[[Ints], tuple[UserStates, Ints]]
    """States of chosen rows, and for each a number that is the same where the events are."""
    visits: RoundVisits
    """The n visits as audiences see them, and the period."""
    capacity: Ints | None = None
    """Positions that each state may fill; None: all."""
    audiences: Bools | None = None
    """(n, A) membership in the audiences of the round that the states stand for, within their times."""

    @classmethod
    def of_round(cls, past: PastRound, visits: RoundVisits, capacity: Ints | None = None) -> PastStates:
        """States of a round's arrivals, given the events before each."""
        schedule, histories = past.schedule, past.histories

        def states(rows: Ints) -> tuple[UserStates, Ints]:
            slots, tick = schedule.slot[rows], schedule.tick[rows]
            counts = histories.visible_at(slots, tick)
            return histories.states(slots, counts, tick), slots + len(histories) * counts

        return cls(schedule.id, schedule.tick, schedule.user[schedule.slot], states, visits, capacity)

    def sampled(self, most: int) -> PastStates:
        """At most ``most`` of the states, evenly spaced."""
        n = len(self.id)
        if n <= most:
            return self
        rows = np.floor((np.arange(most) + 0.5) * (n / most)).astype(np.int64)
        whole = self.states
        columns = {name: getattr(self, name) for name in ("id", "tick", "user", "capacity", "audiences")}
        cut: dict[str, Any] = {name: None if part is None else part[rows] for name, part in columns.items()}
        cut["states"] = lambda some: whole(rows[some])
        return dataclasses.replace(self, visits=self.visits.rows(rows), **cut)


@dataclass(frozen=True, eq=False)
class StateScores(ScoredStates):
    """Scores of past states, computed in chunks during iteration."""

    past: PastStates
    models: FoldModels
    """The model of each fold of users, or one for all."""
    release: Ints
    """(M,) tick of each item's release."""
    device: torch.device
    seed: int
    """Model seed, which makes the folds."""

    def __len__(self) -> int:
        return len(self.past.id)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of states and number of items."""
        return len(self), len(self.release)

    @property
    def capacity(self) -> Ints | None:
        """Positions that each state may fill; None: all."""
        return self.past.capacity

    def positions(self, slate: int) -> Ints:
        """Positions of a slate that each state may fill."""
        return np.full(len(self), slate) if self.capacity is None else self.capacity

    @property
    def audiences(self) -> Bools | None:
        """Membership of states in audiences; None without audiences."""
        return self.past.audiences

    def sampled(self, most: int) -> StateScores:
        """At most ``most`` of the states, evenly spaced."""
        past = self.past.sampled(most)
        return self if past is self.past else dataclasses.replace(self, past=past)

    def scored_by(self, models: FoldModels) -> StateScores:
        """Scores of the same states by other models."""
        return dataclasses.replace(self, models=models)

    def among(self, requirements: RoundRequirements) -> StateScores:
        """Scores of the same states, with a round's audiences."""
        counted = requirements.would_count(self.past.visits)
        if counted is None:
            return self
        return dataclasses.replace(self, past=dataclasses.replace(self.past, audiences=counted))

    def __iter__(self) -> Iterator[Arrivals]:
        models = self.models()
        fold = fold_of(self.seed, self.past.user) % len(models)
        for number, model in enumerate(models):
            yield from self._scored(model, np.flatnonzero(fold == number))

    def rows(self, start: int, stop: int) -> Float32s:
        """λ(x,y) of some states in clock order, −inf if inadmissible."""
        # One model must have served the round.
        scores, filled = np.empty((stop - start, len(self.release)), np.float32), 0
        (model,) = self.models()
        for chunk in self._scored(model, np.arange(start, stop)):
            chunk.write_scores(scores[filled : filled + len(chunk)])
            filled += len(chunk)
        return scores

    def _scored(self, model: IntensityModel, chosen: Ints) -> Iterator[Arrivals]:
        past = self.past
        for start in range(0, len(chosen), _ENCODED):
            some = chosen[start : start + _ENCODED]
            states, events = past.states(some)
            blocks = score_states(model, states, events, past.id[some], past.tick[some], self.release)
            for first, block in zip(range(0, len(some), BLOCK), blocks, strict=True):
                rows = some[first : first + BLOCK]
                who = past.id[rows], seconds(past.tick[rows]), past.user[rows]
                capacity = None if past.capacity is None else past.capacity[rows]
                audiences = None if past.audiences is None else past.audiences[rows]
                scores = block.cut(0, len(rows)).tensors
                yield Arrivals(*who, *scores, rows, capacity=capacity, audiences=audiences)


def device_of(model: IntensityModel) -> torch.device:
    """Device of a model's scores."""
    return torch.device(getattr(model, "device", "cpu"))


def always(model: IntensityModel) -> FoldModels:
    """Single model for all users, without cross-fitting."""
    return lambda: (model,)


def median_kth_score(states: StateScores, model: IntensityModel, k: int) -> float:
    """Median over states of the k-th largest λ(x,y).

    The median is computed once, from warm-up states and the warm-up model, so that all arms of a seed have the same
    unit. A state with fewer than k admissible items counts with its smallest intensity. If there are many
    states, an evenly spaced sample is used.

    Raises:
        MarketError: If the median is 0, because a missing exposure would then cost nothing.
    """
    if len(states) > most_states(states.shape[1]):
        states = states.sampled(_FOR_MEDIAN)
    parts = [np.zeros(0)]
    for chunk in states.scored_by(always(model)):
        items = top_k(chunk.relevance, chunk.admissible, k)
        found = np.count_nonzero(items >= 0, axis=1)
        some = np.flatnonzero(found)
        best = at_items(chunk.relevance, items)[some, found[some] - 1]
        parts.append(best * chunk.ground_intensity.cpu().numpy()[some])
    scores = np.concatenate(parts)
    if not len(scores):
        return 1.0  # no past at all: any cost is as good
    median = float(torch.from_numpy(scores).double().quantile(0.5))
    if not median > 0:
        raise MarketError(
            f"the k-th highest intensity of a state has the median {median} over {len(scores)} past states, so "
            "a missing exposure would cost nothing. Use a model that gives k items a positive intensity in "
            "more than half of the states"
        )
    return median
