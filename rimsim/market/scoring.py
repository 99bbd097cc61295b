"""Scores of coming arrivals: filled ahead in blocks, kept by state version, dropped when an event makes them stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from rimsim.errors import ModelError
from rimsim.intensity.contract import RecurrentModel
from rimsim.market.clock import seconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.intensity.contract import Code, IntensityModel
    from rimsim.intensity.states import UserStates
    from rimsim.market.population import Population
    from rimsim.market.schedule import Schedule

__all__ = ["BLOCK", "ScoreAhead", "ScoreRows", "Scorer", "padded", "score_states"]

BLOCK = 128
"""Rows of a scoring block. Always so many, padded: a matrix product of another height differs in its last bits."""


_LOOK_AHEAD = 8 * BLOCK
"""How many coming arrivals are looked through to fill a block."""


class ScoreRows:
    """A block of scored states."""

    __slots__ = ("admissible", "ground", "relevance")

    def __init__(self, relevance: torch.Tensor, ground: torch.Tensor, admissible: torch.Tensor) -> None:
        self.relevance = relevance
        """(BLOCK, M) float32 p(y|x) over admissible items."""
        self.ground = ground
        """(BLOCK,) float32 λ(x)."""
        self.admissible = admissible
        """(BLOCK, M) bool."""


class Scorer:
    """Scores states of one population with one model.

    The code of each slot (what a recurrent model knows of its user) is kept and advanced by new events in O(1); a
    model without codes gets the whole state each time. A score depends on the state alone: never on which rows
    share its block.
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
        self._code: Code = ()
        self._coded = np.zeros(len(population), np.int64)

    def encode(self, start: int) -> None:
        """Encode every slot in user order, with what its mailbox holds by tick ``start``."""
        if self._recurrent is None:
            return
        slots = np.arange(len(self._population))
        counts = self._population.visible_at(slots, np.full(len(slots), start))
        states = self._population.states(slots, counts, np.full(len(slots), start))
        self._code = self._recurrent.encode(states)
        self._coded = counts

    def score(
        self,
        ids: NDArray[np.int64],
        slots: NDArray[np.int64],
        ticks: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> ScoreRows:
        """Score at most ``BLOCK`` states.

        Args:
            ids: (n,) arrivals that the states are of, for errors.
            slots: (n,) distinct slots.
            ticks: (n,) instants.
            counts: (n,) events of each mailbox that are in the state; at least those already encoded.

        Raises:
            ModelError: If a score is negative or no number.
        """
        now = padded(seconds(ticks))
        raw = self._raw_scores(slots, ticks, counts, now)
        rows, items = self._population.consumed_pairs(slots, counts)
        mask = _admissible(rows, items, ticks, self._release, raw.shape[1])
        return _normalised(raw, torch.from_numpy(mask).to(self._device), ids, self._model)

    def _raw_scores(
        self,
        slots: NDArray[np.int64],
        ticks: NDArray[np.int64],
        counts: NDArray[np.int64],
        now: NDArray[np.float64],
    ) -> torch.Tensor:
        if self._recurrent is None:
            states = self._population.states(slots, counts, ticks)
            return self._model.score(states.take(padded(np.arange(len(slots))))).to(torch.float32)
        rows = torch.zeros(BLOCK, dtype=torch.int64, device=self._device)
        rows[: len(slots)] = torch.from_numpy(np.ascontiguousarray(slots)).to(self._device)
        code = tuple(part[rows] for part in self._code)
        behind = counts - self._coded[slots]
        if behind.any():
            code = self._advance(self._recurrent, code, slots, behind)
            kept = rows[: len(slots)]
            for part, new in zip(self._code, code, strict=True):
                part[kept] = new[: len(slots)]
            self._coded[slots] = counts
        return self._recurrent.score_codes(code, now).to(torch.float32)

    def _advance(
        self, model: RecurrentModel, code: Code, slots: NDArray[np.int64], behind: NDArray[np.int64]
    ) -> Code:
        """Take the events of the mailboxes that the codes lack, one step of all rows at a time."""
        for step in range(int(behind.max())):
            items = np.zeros(BLOCK, np.int64)
            times = np.zeros(BLOCK)
            active = np.zeros(BLOCK, bool)
            for row in np.flatnonzero(behind > step).tolist():
                slot = int(slots[row])
                event = int(self._coded[slot]) + step
                items[row] = self._population.box[slot][event]
                times[row] = self._population.due[slot][event] / 1e6
                active[row] = True
            stepped = model.advance(
                code,
                torch.from_numpy(items).to(self._device),
                torch.from_numpy(times).to(self._device),
            )
            mask = torch.from_numpy(active).to(self._device)
            code = tuple(
                torch.where(mask.reshape(-1, *[1] * (old.dim() - 1)), new, old)
                for new, old in zip(stepped, code, strict=True)
            )
        return code


def score_states(
    model: IntensityModel,
    states: UserStates,
    ids: NDArray[np.int64],
    ticks: NDArray[np.int64],
    release: NDArray[np.int64],
    device: torch.device,
) -> ScoreRows:
    """Score at most ``BLOCK`` states of their own, without codes kept from before; see :meth:`Scorer.score`."""
    n = len(states)
    raw = model.score(states.take(padded(np.arange(n)))).to(torch.float32)
    rows = np.repeat(np.arange(n), states.lengths)
    mask = _admissible(rows, states.items, ticks, release, raw.shape[1])
    return _normalised(raw, torch.from_numpy(mask).to(device), ids, model)


_Number = TypeVar("_Number", np.int64, np.float64)


def padded(values: NDArray[_Number]) -> NDArray[_Number]:
    """Values filled up to ``BLOCK`` with the first of them."""
    return np.concatenate([values, np.repeat(values[:1], BLOCK - len(values))])


def _admissible(
    rows: NDArray[np.int64],
    items: NDArray[np.int64],
    ticks: NDArray[np.int64],
    release: NDArray[np.int64],
    n_items: int,
) -> NDArray[np.bool_]:
    """(BLOCK, M) released by each row's tick and not among its consumed (row, item) pairs."""
    mask = np.ones((BLOCK, n_items), bool)
    if int(release.max(initial=0)) > int(ticks.min()):
        mask[: len(ticks)] = release <= ticks[:, None]
    mask[rows, items] = False
    return mask


def _normalised(
    raw: torch.Tensor, admissible: torch.Tensor, ids: NDArray[np.int64], model: IntensityModel
) -> ScoreRows:
    """Split raw intensities into p(y|x) over admissible items and λ(x)."""
    ground = raw.sum(1)
    n = len(ids)
    wrong = ~torch.isfinite(ground[:n]) | (raw[:n] < 0).any(1)
    if bool(wrong.any()):
        raise ModelError(
            f"{type(model).__name__}.score: found a negative intensity or one that is no number in the state of "
            f"arrival {int(ids[int(wrong.nonzero()[0])])}; allowed: finite intensities of at least 0"
        )
    kept = torch.where(admissible, raw, 0.0)
    relevance = kept / kept.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return ScoreRows(relevance, ground, admissible)


class ScoreAhead:
    """Score rows of the coming arrivals of a round.

    When an arrival has no valid row, a block is filled with it and with arrivals after it, one a user. A row is valid
    while its user's mailbox shows as many events at the arrival's tick as the row was scored with.
    """

    def __init__(self, scorer: Scorer, population: Population, schedule: Schedule) -> None:
        self._scorer = scorer
        self._population = population
        self._schedule = schedule
        self._slot = schedule.slot.tolist()
        self._tick = schedule.tick.tolist()
        self._rows: dict[int, tuple[ScoreRows, int, int]] = {}
        self._next_visit = _next_of_same(schedule.slot).tolist()
        self._open = [-1] * len(population)
        for row in range(len(schedule) - 1, -1, -1):
            self._open[self._slot[row]] = row

    def row(self, arrival: int) -> tuple[ScoreRows, int]:
        """The block and the row in it that hold the scores of an arrival."""
        found = self._rows.get(arrival)
        if found is None or found[2] != self._population.visible(self._slot[arrival], self._tick[arrival]):
            self._fill(arrival)
            found = self._rows[arrival]
        return found[0], found[1]

    def drop(self, arrival: int) -> None:
        """Forget an arrival that was served."""
        self._open[self._slot[arrival]] = self._next_visit[arrival]
        self._rows.pop(arrival, None)

    def _fill(self, first: int) -> None:
        """Score ``first`` and coming arrivals that have no row yet, each its user's next."""
        chosen = [first]
        for arrival in range(first + 1, min(first + 1 + _LOOK_AHEAD, len(self._slot))):
            # What comes after a user's next arrival depends on it.
            if self._open[self._slot[arrival]] == arrival and arrival not in self._rows:
                chosen.append(arrival)
                if len(chosen) == BLOCK:
                    break
        rows = np.array(chosen)
        slots, ticks = self._schedule.slot[rows], self._schedule.tick[rows]
        counts = self._population.visible_at(slots, ticks)
        block = self._scorer.score(self._schedule.id[rows], slots, ticks, counts)
        for row, (arrival, count) in enumerate(zip(chosen, counts.tolist(), strict=True)):
            self._rows[arrival] = (block, row, count)


def _next_of_same(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the next place at which each value occurs again; −1 where there is none."""
    order = np.argsort(values, kind="stable")
    following = np.full(len(values), -1, np.int64)
    same = values[order][1:] == values[order][:-1]
    following[order[:-1][same]] = order[1:][same]
    return following
