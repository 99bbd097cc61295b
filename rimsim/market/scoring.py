"""Scores of coming arrivals: filled ahead in blocks, kept by state version, dropped when an event makes them stale."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from rimsim.compiled import compiled
from rimsim.errors import ModelError
from rimsim.intensity.blocks import BLOCK, STEP
from rimsim.intensity.contract import RecurrentModel, caller_owns_scores
from rimsim.market.clock import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from numpy.typing import NDArray

    from rimsim.intensity.contract import Hidden, IntensityModel
    from rimsim.intensity.states import UserStates
    from rimsim.market.population import Population
    from rimsim.market.schedule import Schedule

    NextVisits: TypeAlias = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.int64]]]

__all__ = ["BLOCK", "ScoreAhead", "ScoreRows", "Scorer", "padded", "score_states"]

_LOOK_AHEAD = 3 * BLOCK
"""How many coming arrivals are looked through to fill a block."""


class ScoreRows:
    """Scored states: a block of them, or some of its rows."""

    __slots__ = ("_host", "admissible", "ground", "relevance")

    def __init__(self, relevance: torch.Tensor, ground: torch.Tensor, admissible: torch.Tensor) -> None:
        self.relevance = relevance
        """(BLOCK, M) float32 p(y|x) over admissible items."""
        self.ground = ground
        """(BLOCK,) float32 λ(x)."""
        self.admissible = admissible
        """(BLOCK, M) bool."""
        self._host: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]] | None = None

    def host(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Relevance, λ(x) and admissible as arrays; fetched once where the scores are on another device."""
        if self._host is None:
            self._host = (
                self.relevance.cpu().numpy(),
                self.ground.cpu().numpy(),
                self.admissible.cpu().numpy(),
            )
        return self._host

    def cut(self, first: int, n: int) -> ScoreRows:
        """Some rows that follow one another, without a copy."""
        return ScoreRows(
            self.relevance.narrow(0, first, n),
            self.ground.narrow(0, first, n),
            self.admissible.narrow(0, first, n),
        )

    def only(self, rows: NDArray[np.bool_]) -> ScoreRows:
        """A copy in which nothing is admissible or relevant in the other rows."""
        some = torch.from_numpy(rows).to(self.relevance.device)[:, None]
        return ScoreRows(self.relevance * some, self.ground, self.admissible & some)


class Scorer:
    """Scores states of one population with one model.

    The hidden state of each slot (what a recurrent model knows of its user) is kept and stepped by new events in O(1);
    a model without a hidden state gets the whole state each time. A score depends on the state alone: never on which
    rows share its block.
    """

    def __init__(
        self,
        model: IntensityModel,
        population: Population,
        release: NDArray[np.int64],
        device: torch.device,
    ) -> None:
        self._model = model
        self._population = population
        self._device = device
        self._release = release
        self._recurrent = model if isinstance(model, RecurrentModel) else None
        self._hidden: Hidden = ()
        self._coded = np.zeros(len(population), np.int64)
        """(slots,) how many events of each mailbox the hidden states know of."""
        self._looked = len(population.mail)
        """So many posted events were looked at."""
        self._behind = np.zeros(0, np.int64)
        """Slots whose hidden states lacked events of their next visit when last looked at."""

    def encode(self, start: int) -> None:
        """Encode every slot in user order, with what its mailbox holds by tick ``start``."""
        if self._recurrent is None:
            return
        slots = np.arange(len(self._population))
        counts = self._population.mail.visible_at(slots, np.full(len(slots), start))
        states = self._population.states(slots, counts, np.full(len(slots), start))
        self._hidden = self._recurrent.encode(states)
        self._coded = counts

    def score(
        self,
        ids: NDArray[np.int64],
        slots: NDArray[np.int64],
        ticks: NDArray[np.int64],
        counts: NDArray[np.int64],
        next_visits: NextVisits,
    ) -> ScoreRows:
        """Score at most ``BLOCK`` states.

        Args:
            ids: (n,) arrivals that the states are of, for errors.
            slots: (n,) slots; one that occurs more than once has the same count each time.
            ticks: (n,) instants.
            counts: (n,) events of each mailbox that are in the state; at least those already encoded.
            next_visits: Of some slots, those that come again, and how many events they will have then.

        Raises:
            ModelError: If a score is negative or no number.
        """
        now = padded(seconds(ticks))
        raw = self._raw_scores(slots, ticks, counts, now, next_visits)
        consumed = self._population.consumed_pairs(slots, counts)
        return _normalised(raw, consumed, ids, ticks, self._release, self._model)

    def _raw_scores(
        self,
        slots: NDArray[np.int64],
        ticks: NDArray[np.int64],
        counts: NDArray[np.int64],
        now: NDArray[np.float64],
        next_visits: NextVisits,
    ) -> torch.Tensor:
        if self._recurrent is None:
            states = self._population.states(slots, counts, ticks)
            return self._model.score(states.take(padded(np.arange(len(slots))))).to(torch.float32)
        self._catch_up(self._recurrent, slots, counts, next_visits)
        hidden = _rows_of(self._hidden, padded(slots))
        return self._recurrent.score_hidden(hidden, now).to(torch.float32)

    def _catch_up(
        self,
        model: RecurrentModel,
        slots: NDArray[np.int64],
        counts: NDArray[np.int64],
        next_visits: NextVisits,
    ) -> None:
        """Let hidden states take the events of their mailboxes that they lack, one event of many slots at a time.

        A block costs the same full or not, so slots that will need their events later fill it up.
        """
        if not (counts > self._coded[slots]).any():
            return
        posted = self._population.mail.posted(self._looked)
        self._looked += len(posted)
        later = next_visits(np.concatenate([self._behind, posted]))
        who, lacks, urgent = _lacking(slots, counts, *later, self._coded)
        while len(some := _first_behind(lacks, urgent)):
            self._take_event(model, who[some])
        self._behind = who[lacks > 0]

    def _take_event(self, model: RecurrentModel, slots: NDArray[np.int64]) -> None:
        """One more event of each of at most ``STEP`` mailboxes into the hidden states."""
        known = self._coded[slots]
        dues, items = self._population.mail.between(slots, known, known + 1)
        hidden = model.step(
            _rows_of(self._hidden, padded(slots, STEP)),
            torch.from_numpy(padded(items, STEP)).to(self._device),
            torch.from_numpy(padded(seconds(dues), STEP)).to(self._device),
        )
        rows = torch.from_numpy(slots).to(self._device)
        for part, new in zip(self._hidden, hidden, strict=True):
            part.index_copy_(0, rows, new[: len(slots)])
        self._coded[slots] = known + 1


@compiled
def _lacking(
    slots: NDArray[np.int64],
    counts: NDArray[np.int64],
    later: NDArray[np.int64],
    later_counts: NDArray[np.int64],
    coded: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Slots whose hidden states lack events, each once, with how many they lack; so many in front are wanted at once.

    Args:
        slots: (n,) slots that are wanted at once.
        counts: (n,) how many events their hidden states are to know of.
        later: (m,) slots that will be wanted; those that are wanted at once too have the same count.
        later_counts: (m,) likewise.
        coded: (slots,) how many they know of; as before when this returns.
    """
    who = np.empty(len(slots) + len(later), np.int64)
    lacks = np.empty(len(who), np.int64)
    found = urgent = 0
    for place in range(len(who)):
        now = place < len(slots)
        slot = slots[place] if now else later[place - len(slots)]
        missing = (counts[place] if now else later_counts[place - len(slots)]) - coded[slot]
        if missing > 0:
            who[found], lacks[found] = slot, missing
            coded[slot] += missing  # a slot that comes again lacks nothing
            found += 1
            urgent += now
    for place in range(found):
        coded[who[place]] -= lacks[place]
    return who[:found], lacks[:found], urgent


@compiled
def _first_behind(lacks: NDArray[np.int64], urgent: int) -> NDArray[np.int64]:
    """Places of at most ``STEP`` slots that take an event next; none once the urgent ones lack nothing.

    Args:
        lacks: (n,) events that each lacks; one less for the chosen ones when this returns.
        urgent: So many in front are urgent: those that lack most go first, and others fill up.
    """
    chosen = np.empty(STEP, np.int64)
    size = 0
    for level in range(max(lacks[:urgent]) if urgent else 0, 0, -1):
        for place in range(urgent):
            if lacks[place] == level and size < STEP:
                chosen[size] = place
                size += 1
    if size:
        for place in range(urgent, len(lacks)):
            if lacks[place] > 0 and size < STEP:
                chosen[size] = place
                size += 1
    lacks[chosen[:size]] -= 1
    return chosen[:size]


def score_states(
    model: IntensityModel,
    states: UserStates,
    events: NDArray[np.int64],
    ids: NDArray[np.int64],
    ticks: NDArray[np.int64],
    release: NDArray[np.int64],
) -> Iterator[ScoreRows]:
    """Score states of their own, without hidden states kept from before; see :meth:`Scorer.score`.

    Args:
        model: Who scores.
        states: n of them.
        events: (n,) the same number where states have the same events, which are then encoded once.
        ids: (n,) arrivals that the states are of, for errors.
        ticks: (n,) instants.
        release: (M,) tick of each item's release.

    Yields:
        At most ``BLOCK`` of them at a time, in order. A model with hidden states encodes all at once: it can then read
        those of like length together.
    """
    recurrent = model if isinstance(model, RecurrentModel) else None
    hidden: Hidden = ()
    if recurrent is not None:
        _, different, of_state = np.unique(events, return_index=True, return_inverse=True)
        hidden = recurrent.encode(states.take(different))
    for first in range(0, len(states), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(states)))
        some = padded(rows)
        if recurrent is None:
            raw = model.score(states.take(some))
        else:
            raw = recurrent.score_hidden(_rows_of(hidden, of_state[some]), states.now[some])
        begin, end = states.offsets[rows[0]], states.offsets[rows[-1] + 1]
        consumed = np.repeat(rows - first, states.lengths[rows]), states.items[begin:end]
        yield _normalised(raw.to(torch.float32), consumed, ids[rows], ticks[rows], release, model)


def _rows_of(hidden: Hidden, rows: NDArray[np.int64]) -> Hidden:
    """The hidden states of some rows."""
    return tuple(part.index_select(0, torch.from_numpy(rows).to(part.device)) for part in hidden)


_Number = TypeVar("_Number", np.int64, np.float64)


def padded(values: NDArray[_Number], height: int = BLOCK) -> NDArray[_Number]:
    """Values filled up to ``height`` with the first of them."""
    return np.concatenate([values, np.repeat(values[:1], height - len(values))])


def _normalised(
    raw: torch.Tensor,
    consumed: tuple[NDArray[np.int64], NDArray[np.int64]],
    ids: NDArray[np.int64],
    ticks: NDArray[np.int64],
    release: NDArray[np.int64],
    model: IntensityModel,
) -> ScoreRows:
    """Split raw intensities into p(y|x) over admissible items and λ(x).

    Args:
        raw: (BLOCK, M) what the model says; written to if the caller owns it.
        consumed: (row, item) pairs that are not admissible.
        ids: (n,) arrivals of the rows that count, for errors; the rest is padding.
        ticks: (n,) their instants.
        release: (M,) tick of each item's release.
        model: Who said it, for errors.
    """
    n = len(ids)
    ground = raw.sum(1)
    if not bool(torch.isfinite(ground[:n]).all()) or not float(raw[:n].amin()) >= 0:
        wrong = ~torch.isfinite(ground[:n]) | (raw[:n] < 0).any(1)
        raise ModelError(
            f"{type(model).__name__}.score: found a negative intensity or one that is no number in the state of "
            f"arrival {int(ids[int(wrong.nonzero()[0])])}; allowed: finite intensities of at least 0"
        )
    # Few items are out of reach, so they are taken out one by one: a pass over all for each step costs more.
    admissible = torch.ones(raw.shape, dtype=torch.bool, device=raw.device)
    kept = raw if caller_owns_scores(model) else raw.clone()
    if int(release.max(initial=0)) > int(ticks.min()):
        late = torch.from_numpy(release[None, :] > padded(ticks)[:, None]).to(raw.device)
        admissible[late], kept[late] = False, 0.0
    if raw.device.type == "cpu":
        _take_out(*consumed, kept.numpy(), admissible.numpy())
    else:
        rows, items = (torch.from_numpy(part).to(raw.device) for part in consumed)
        admissible[rows, items], kept[rows, items] = False, 0.0
    kept /= kept.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return ScoreRows(kept, ground, admissible)


@compiled
def _take_out(
    rows: NDArray[np.int64],
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    admissible: NDArray[np.bool_],
) -> None:
    """Make (row, item) pairs inadmissible and worth nothing, in place."""
    for pair in range(len(rows)):
        scores[rows[pair], items[pair]] = 0.0
        admissible[rows[pair], items[pair]] = False


class ScoreAhead:
    """Score rows of the coming arrivals of a round.

    When arrivals have no valid rows, a block is filled with them and with arrivals after them. A row is valid while
    its user's mailbox shows as many events at the arrival's tick as the row was scored with.
    """

    def __init__(self, scorer: Scorer, population: Population, schedule: Schedule) -> None:
        self._scorer = scorer
        self._mail = population.mail
        self._schedule = schedule
        self._slot = schedule.slot.tolist()
        self._tick = schedule.tick.tolist()
        n = len(schedule)
        self._block = np.full(n, None, object)
        """(n,) where the scores of an arrival lie; None where there are none."""
        self._row = np.zeros(n, np.int64)
        """(n,) the row there."""
        self._counts = np.full(n, -1)
        """(n,) how many events of its mailbox they know of; −1 where it was never scored."""
        # Views: one number of an array is read faster through them.
        self._row_of, self._count_of = self._row.data, self._counts.data
        self._next_visit = _next_of_same(schedule.slot)
        self._open = np.full(len(population), -1)
        backwards = np.arange(n)[::-1]
        self._open[schedule.slot[backwards]] = backwards  # the last that is written is a user's first arrival

    def rows(self, arrivals: NDArray[np.int64]) -> ScoreRows:
        """The scores of some arrivals, of different users each; without a copy where they lie side by side."""
        counts = self._mail.visible_at(self._schedule.slot[arrivals], self._schedule.tick[arrivals])
        missing = arrivals[self._counts[arrivals] != counts]
        for first in range(0, len(missing), BLOCK):
            self._fill(missing[first : first + BLOCK])
        blocks, rows = self._block[arrivals], self._row[arrivals]
        ends = np.flatnonzero((blocks[1:] != blocks[:-1]) | (rows[1:] != rows[:-1] + 1)) + 1
        parts: list[ScoreRows] = [
            blocks[first].cut(int(rows[first]), int(stop - first))
            for first, stop in itertools.pairwise([0, *ends.tolist(), len(arrivals)])
        ]
        if len(parts) == 1:
            return parts[0]
        return ScoreRows(
            torch.cat([part.relevance for part in parts]),
            torch.cat([part.ground for part in parts]),
            torch.cat([part.admissible for part in parts]),
        )

    def row(self, arrival: int) -> tuple[ScoreRows, int]:
        """The block that holds the scores of an arrival, and its row there."""
        if self._count_of[arrival] != self._mail.visible(self._slot[arrival], self._tick[arrival]):
            self._fill(np.array([arrival]))
        block: ScoreRows = self._block[arrival]
        return block, self._row_of[arrival]

    def drop(self, arrivals: int | NDArray[np.int64]) -> None:
        """Forget arrivals, of different users each, that were served: nobody asks for them again."""
        self._open[self._schedule.slot[arrivals]] = self._next_visit[arrivals]
        self._block[arrivals] = None

    def _fill(self, wanted: NDArray[np.int64]) -> None:
        """Score at most ``BLOCK`` arrivals, and with them coming arrivals that have no valid row yet."""
        chosen = wanted
        if len(chosen) < BLOCK:
            chosen = np.concatenate([chosen, self._ahead(chosen)[: BLOCK - len(chosen)]])
        slots, ticks = self._schedule.slot[chosen], self._schedule.tick[chosen]
        counts = self._mail.visible_at(slots, ticks)
        block = self._scorer.score(self._schedule.id[chosen], slots, ticks, counts, self._next_visits)
        self._block[chosen], self._row[chosen], self._counts[chosen] = block, np.arange(len(chosen)), counts

    def _next_visits(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Those of some slots that come again, and how many events their states will have then."""
        following = self._open[slots]
        again = following >= 0
        slots = slots[again]
        return slots, self._mail.visible_at(slots, self._schedule.tick[following[again]])

    def _ahead(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Arrivals after some that are worth scoring with them: first each user's next, then later visits.

        A later visit is scored as if nothing came of those before it. Often nothing does, and a block costs the same
        full or not; where something does, the row is stale and is scored again.
        """
        schedule, visible_at = self._schedule, self._mail.visible_at
        first = int(wanted[0])
        ahead = np.arange(first + 1, min(first + 1 + _LOOK_AHEAD, len(schedule)))
        slots = schedule.slot[ahead]
        following = self._open[slots]
        counts = visible_at(slots, schedule.tick[ahead])
        to_do = (following >= 0) & (ahead >= following) & (self._counts[ahead] != counts)
        to_do &= ~np.isin(ahead, wanted)
        # A hidden state that took events which are not due at the user's next arrival could not go back.
        to_do &= counts == visible_at(slots, schedule.tick[following])
        later = ahead != following
        return np.concatenate([ahead[to_do & ~later], ahead[to_do & later]])


def _next_of_same(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the next place at which each value occurs again; −1 where there is none."""
    order = np.argsort(values, kind="stable")
    following = np.full(len(values), -1, np.int64)
    same = values[order][1:] == values[order][:-1]
    following[order[:-1][same]] = order[1:][same]
    return following
