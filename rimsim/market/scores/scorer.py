"""Scorer of visitors' states under one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from rimsim.arrays import Bools, Float32s, Ints, offsets_of, seconds
from rimsim.compiled import compiled
from rimsim.errors import ModelError
from rimsim.intensity.contract import (
    BLOCK,
    Hidden,
    IntensityModel,
    Walk,
    filled_up,
    fits_into_memory,
    owns_scores,
    recurrent,
    rows_of,
    walked,
)
from rimsim.intensity.impressions import layer_of
from rimsim.intensity.states import UserStates
from rimsim.market.histories import Histories
from rimsim.market.scores.block import ScoreRows
from rimsim.requirements.on_offer import TimesOnOffer

_NOWHERE = np.zeros(0, np.int64)
"""Indices of no slots."""


def device_of(model: IntensityModel) -> torch.device:
    """Device of a model's scores."""
    return torch.device(getattr(model, "device", "cpu"))


class Scorer:
    """Scores of a round's visitors under one model.

    Hidden states are cached by slot; a new event updates them in constant time. Scores of a state do not
    depend on the other states of its batch. If the hidden states of all slots do not fit into memory, none is cached.
    A state is then encoded from its events whenever it is scored.
    """

    def __init__(
        self, model: IntensityModel, histories: Histories, times: TimesOnOffer, device: torch.device
    ) -> None:
        self._model, self._layer = layer_of(model)
        self._histories = histories
        self._times = times
        self._device = device
        self.n_items = len(times)
        self._recurrent = recurrent(self._model)
        """Model with cached hidden states; None: states are scored from their events."""
        self._hidden: Hidden = ()
        self._n_encoded = np.zeros(len(histories), np.int64)
        """(slots,) events of each slot in its hidden state."""
        self._n_at_start = np.zeros(len(histories), np.int64)
        """(slots,) events of each slot in its hidden state at the start, which was encoded as a whole."""

    def offer(self, times: TimesOnOffer) -> None:
        """Score states with other times on offer from now on."""
        self._times = times

    def encode(self, start: int) -> None:
        """Compute hidden states of all slots from events before ``start``."""
        if self._recurrent is None:
            return
        slots = np.arange(len(self._histories))
        counts = self._histories.visible_at(slots, np.full(len(slots), start - 1))
        states = self._histories.states(slots, counts, np.full(len(slots), start))
        if not fits_into_memory(self._recurrent, states):
            self._recurrent = None
            return
        self._hidden = self._recurrent.encode(states)
        self._n_encoded = counts
        self._n_at_start = counts.copy()

    def hidden_bytes(self) -> int:
        """Bytes of one hidden state; 0 without hidden states."""
        return sum(part[:1].nbytes for part in self._hidden)

    def hidden_at(self, slots: Ints, counts: Ints) -> Hidden:
        """Hidden states of n arrivals, updated by all their events."""
        # ``counts`` (n,) are at least the numbers of events in the cached hidden states. Afterwards, a cached state has
        # as many events as the largest count of its slot.
        if self._recurrent is None:
            return ()
        users, user_of_arrival = np.unique(slots, return_inverse=True)
        begin = self._n_encoded[users]
        end = begin.copy()
        np.maximum.at(end, user_of_arrival, counts)
        visible_from, items = self._histories.between(users, begin, end)
        walk = Walk(
            offsets=offsets_of(end - begin),
            items=items,
            times=seconds(visible_from),
            row=user_of_arrival,
            count=counts - begin[user_of_arrival],
        )
        hidden_at_end, hidden_at_arrivals = walked(self._recurrent, rows_of(self._hidden, users), walk)
        self._store(users, hidden_at_end, end)
        self._encode_repeats(users, end)
        has_repeat = self._have_repeats(slots, counts)
        if has_repeat.any():
            rows = torch.from_numpy(np.flatnonzero(has_repeat)).to(self._device)
            encoded = self._encoded(slots[has_repeat], counts[has_repeat])
            for part, new in zip(hidden_at_arrivals, encoded, strict=True):
                part.index_copy_(0, rows, new[: len(rows)])
        return hidden_at_arrivals

    def _have_repeats(self, slots: Ints, counts: Ints) -> Bools:
        """Mask of states with a repeated item since the start."""
        return self._histories.have_repeats(slots, self._n_at_start[slots], counts, self.n_items)

    def _encoded(self, slots: Ints, counts: Ints) -> Hidden:
        """Hidden states after ``counts`` events, encoded as a whole."""
        assert self._recurrent is not None  # noqa: S101  # only hidden states are encoded
        states = self._histories.states(slots, counts, self._histories.events.newest[slots])
        return self._recurrent.encode(states)

    def _encode_repeats(self, slots: Ints, counts: Ints) -> Bools:
        """Encode slots with a repeated item, and return their mask."""
        # The steps of a model over sets add an item at each event, but its encoding adds each item once. So a state is
        # encoded as a whole as soon as an event repeats an item, whatever the batches were.
        has_repeat = self._have_repeats(slots, counts)
        if has_repeat.any():
            repeated = slots[has_repeat]
            self._store(repeated, self._encoded(repeated, counts[has_repeat]), counts[has_repeat])
        return has_repeat

    def _store(self, slots: Ints, hidden: Hidden, counts: Ints) -> None:
        """Cache each slot's hidden state after its first ``counts`` events."""
        rows = torch.from_numpy(slots).to(self._device)
        for cached, new in zip(self._hidden, hidden, strict=True):
            cached.index_copy_(0, rows, new[: len(slots)])  # the remaining rows of ``new`` are padding
        self._n_encoded[slots] = counts

    def score(
        self, ids: Ints, slots: Ints, ticks: Ints, counts: Ints, hidden: Hidden | None = None
    ) -> ScoreRows:
        """Scores of at most ``BLOCK`` states.

        Raises:
            ModelError: If a score is negative or not a number.
        """
        if self._recurrent is None:
            states = self._histories.states(slots, counts, ticks)
            raw_scores = self._model.score(states.take(filled_up(np.arange(len(slots)))))
        else:
            hidden_rows = np.arange(len(slots))
            if hidden is None:
                hidden = self._hidden
                hidden_rows = slots
            raw_scores = self._recurrent.score_hidden(
                rows_of(hidden, filled_up(hidden_rows)), filled_up(seconds(ticks))
            )
        exclude = partial(self._exclude_consumed, slots, counts, ticks)
        rows = _normalised(raw_scores.to(torch.float32), exclude, ids, ticks, self._times, self._model)
        if self._layer is None:
            return rows
        return rows.under(self._layer, filled_up(self._histories.length[slots] + counts))

    def _exclude_consumed(
        self, slots: Ints, counts: Ints, now: Ints, relevance: torch.Tensor, admissible: torch.Tensor
    ) -> None:
        """Exclude items that may not be taken again, in place."""
        if relevance.device.type == "cpu":
            self._histories.exclude_consumed(slots, counts, now, relevance.numpy(), admissible.numpy())
        else:
            _exclude_pairs(self._histories.inadmissible(slots, counts, now), relevance, admissible)

    def late(self, slots: Ints, counts: Ints) -> Ints:
        """Indices of slots whose hidden states lack events."""
        return (counts > self._n_encoded[slots]).nonzero()[0] if self._hidden else _NOWHERE

    def catch_up(self, slots: Ints, counts: Ints) -> None:
        """Update hidden states of different slots by the latest events."""
        if self._recurrent is None or not len(slots):
            return
        has_repeat = self._encode_repeats(slots, counts)
        slots = slots[~has_repeat]
        counts = counts[~has_repeat]
        if not len(slots):
            return
        begin = self._n_encoded[slots]
        visible_from, items = self._histories.between(slots, begin, counts)
        walk = Walk(
            offsets=offsets_of(counts - begin),
            items=items,
            times=seconds(visible_from),
            row=_NOWHERE,
            count=_NOWHERE,
        )
        hidden_at_end, _ = walked(self._recurrent, rows_of(self._hidden, slots), walk)
        self._store(slots, hidden_at_end, counts)


def score_states(
    model: IntensityModel,
    states: UserStates,
    events: Ints,
    ids: Ints,
    ticks: Ints,
    times: TimesOnOffer,
    excluded: tuple[Ints, Ints] | None = None,
) -> Iterator[ScoreRows]:
    """Scores of n states without cached hidden states.

    ``excluded`` are pairs of a state, ascending, and an item that is inadmissible in it; None: all consumed items are.
    """
    # States with equal ``events`` (n,) are equal, so they are encoded once. All are encoded together, because states of
    # similar length can be read together. Blocks have at most ``BLOCK`` states, in order.
    model, layer = layer_of(model)
    recurrent_model = recurrent(model)
    hidden: Hidden = ()
    if recurrent_model is not None:
        _, distinct, number = np.unique(events, return_index=True, return_inverse=True)
        hidden = recurrent_model.encode(states.take(distinct))
    for first in range(0, len(states), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(states)))
        padded_rows = filled_up(rows)
        if recurrent_model is None:
            raw_scores = model.score(states.take(padded_rows))
        else:
            raw_scores = recurrent_model.score_hidden(
                rows_of(hidden, number[padded_rows]), states.now[padded_rows]
            )
        if excluded is None:
            pairs = states.rows_of(first, first + len(rows))
        else:
            pair_range = slice(*np.searchsorted(excluded[0], [first, first + len(rows)]).tolist())
            pairs = excluded[0][pair_range] - first, excluded[1][pair_range]
        exclude = partial(_exclude_pairs, pairs)
        scored = _normalised(raw_scores.to(torch.float32), exclude, ids[rows], ticks[rows], times, model)
        yield scored if layer is None else scored.under(layer, states.lengths[padded_rows])


def _normalised(
    raw: torch.Tensor,
    exclude: Callable[[torch.Tensor, torch.Tensor], None],
    ids: Ints,
    ticks: Ints,
    times: TimesOnOffer,
    model: IntensityModel,
) -> ScoreRows:
    """Scored states: raw intensities, split into p(y|x) and λ(x)."""
    # ``exclude`` is a function that makes consumed items inadmissible, with intensity 0, in place.
    n = len(ids)  # the remaining rows are padding
    ground = raw.sum(1)
    wrong_row = _first_wrong(raw[:n], ground[:n])
    if wrong_row >= 0:
        raise ModelError(
            f"{type(model).__name__}.score: an intensity is negative or not a number in the state of "
            f"arrival {int(ids[wrong_row])}. Expected finite intensities of at least 0"
        )
    # Only few items are inadmissible. Setting these one by one is faster than several passes over all items.
    admissible = torch.ones(raw.shape, dtype=torch.bool, device=raw.device)
    relevance = raw if owns_scores(model) else raw.clone()
    if not times.all_at(ticks):
        is_absent = torch.from_numpy(~times.at(filled_up(ticks))).to(raw.device)
        admissible[is_absent] = False
        relevance[is_absent] = 0.0
    exclude(relevance, admissible)
    relevance /= relevance.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return ScoreRows((relevance.contiguous(), ground, admissible))  # compiled code reads adjacent memory only


def _first_wrong(raw: torch.Tensor, total: torch.Tensor) -> int:
    """First row with a negative or infinite score, or −1."""
    if raw.device.type == "cpu" and raw.is_contiguous():
        return _first_wrong_row(raw.numpy(), total.numpy())
    wrong_rows = (~torch.isfinite(total) | (raw < 0).any(1)).nonzero()
    return int(wrong_rows[0]) if len(wrong_rows) else -1


@compiled
def _first_wrong_row(raw: Float32s, total: Float32s) -> int:
    """First row with a negative or infinite score, or −1."""
    for row in range(len(raw)):
        is_negative = False
        # The loop has no early exit, so that the processor compares many items at once.
        for item in range(raw.shape[1]):
            is_negative |= raw[row, item] < 0.0
        if is_negative or not np.isfinite(total[row]):
            return row
    return -1


def _exclude_pairs(pairs: tuple[Ints, Ints], relevance: torch.Tensor, admissible: torch.Tensor) -> None:
    """Make pairs of state and item inadmissible, with intensity 0."""
    if relevance.device.type == "cpu":
        _clear(*pairs, relevance.numpy(), admissible.numpy())
    else:
        rows, items = (torch.from_numpy(part).to(relevance.device) for part in pairs)
        admissible[rows, items] = False
        relevance[rows, items] = 0.0


@compiled
def _clear(rows: Ints, items: Ints, scores: Float32s, admissible: Bools) -> None:
    """Make pairs of state and item inadmissible, with score 0."""
    for pair in range(len(rows)):
        scores[rows[pair], items[pair]] = 0.0
        admissible[rows[pair], items[pair]] = False
