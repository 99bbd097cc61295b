"""Scores of states in blocks: p(y|x) over what is admissible, and λ(x)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Ints, seconds
from rimsim.compiled import compiled
from rimsim.errors import ModelError
from rimsim.intensity.contract import BLOCK, STEP, ModelCapabilities, RecurrentModel, Walk, recurrent, walked
from rimsim.intensity.impressions import layer_of
from rimsim.market.serving import at_items

if TYPE_CHECKING:
    from rimsim.intensity.contract import Hidden, IntensityModel
    from rimsim.intensity.impressions import ImpressionLayer
    from rimsim.intensity.states import UserStates
    from rimsim.market.histories import Histories

    Tensors: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    Arrays: TypeAlias = tuple[Float32s, Float32s, Bools]

__all__ = ["BLOCK", "ScoreRows", "Scorer", "filled_up", "joined", "score_states"]


class ScoreRows:
    """Scored states: p(y|x) over admissible items (n, M) float32, λ(x) (n,) float32, what is admissible (n, M) bool.

    On the processor, arrays and tensors share their memory, and either is only made where it is asked for.
    """

    __slots__ = ("_arrays", "_remote", "_tensors")

    def __init__(self, tensors: Tensors | None, arrays: Arrays | None = None) -> None:
        self._tensors = tensors
        self._arrays = arrays
        self._remote = tensors is not None and tensors[0].device.type != "cpu"
        if tensors is not None and not self._remote:
            self._arrays = tensors[0].numpy(), tensors[1].numpy(), tensors[2].numpy()

    @property
    def tensors(self) -> Tensors:
        """Relevance, λ(x) and admissible where they were computed."""
        if self._tensors is None:
            assert self._arrays is not None  # noqa: S101  # one of the two is there
            relevance, ground, admissible = self._arrays
            self._tensors = (
                torch.from_numpy(relevance),
                torch.from_numpy(ground),
                torch.from_numpy(admissible),
            )
        return self._tensors

    @property
    def arrays(self) -> Arrays:
        """The same as arrays; fetched once where the scores are on another device."""
        if self._arrays is None:
            relevance, ground, admissible = self.tensors
            self._arrays = relevance.cpu().numpy(), ground.cpu().numpy(), admissible.cpu().numpy()
        return self._arrays

    @property
    def ground(self) -> Float32s:
        """(n,) λ(x) as an array."""
        return self.tensors[1].cpu().numpy() if self._arrays is None else self._arrays[1]

    def at(self, items: Ints) -> tuple[Float32s, Bools]:
        """(n, k) relevance of the items of each row, and whether they are admissible; see :func:`at_items`."""
        relevance, _, admissible = self.tensors if self._arrays is None else self._arrays
        return at_items(relevance, items), at_items(admissible, items)

    def cut(self, first: int, n: int) -> ScoreRows:
        """Some rows that follow one another, without a copy."""
        stop = first + n
        if self._arrays is None or self._remote:
            return ScoreRows(tuple(tensor[first:stop] for tensor in self.tensors))  # type: ignore[arg-type]  # three
        relevance, ground, admissible = self._arrays
        return ScoreRows(None, (relevance[first:stop], ground[first:stop], admissible[first:stop]))

    def only(self, rows: Bools) -> ScoreRows:
        """A copy in which nothing is admissible or relevant in the other rows."""
        relevance, ground, admissible = self.tensors
        kept = torch.from_numpy(rows).to(relevance.device)[:, None]
        return ScoreRows((relevance * kept, ground, admissible & kept))

    def under(self, layer: ImpressionLayer) -> ScoreRows:
        """The rows under a layer, which is laid over λ(x)·p(y|x) of admissible items; writes to the relevance."""
        relevance, ground, admissible = self.tensors
        kept = layer.apply_(relevance.mul_(ground[:, None])).masked_fill_(~admissible, 0.0)
        total = kept.sum(1)
        kept /= total[:, None].clamp_min(torch.finfo(torch.float32).tiny)
        return ScoreRows((kept, total, admissible))


def joined(parts: list[ScoreRows]) -> ScoreRows:
    """The rows of some parts, one part below the other."""
    if len(parts) == 1:
        return parts[0]
    relevance, ground, admissible = zip(*(part.tensors for part in parts), strict=True)
    return ScoreRows((torch.cat(relevance), torch.cat(ground), torch.cat(admissible)))


class Scorer:
    """Scores states of a round's visitors with one model.

    The hidden state of each slot (what a recurrent model knows of its user) is kept and takes a new event in O(1); a
    model without one gets the whole state each time. A score depends on the state alone: never on which rows share its
    block.
    """

    def __init__(
        self,
        model: IntensityModel,
        histories: Histories,
        release: Ints,
        device: torch.device,
    ) -> None:
        self._model, self._layer = layer_of(model)
        self._histories = histories
        self._device = device
        self._release = release
        self._recurrent = recurrent(self._model)
        self._hidden: Hidden = ()
        self._known = np.zeros(len(histories), np.int64)
        """(slots,) how many events of each slot its hidden state knows of."""

    def encode(self, start: int) -> None:
        """Encode every slot in user order, with what is visible before tick ``start``."""
        if self._recurrent is None:
            return
        slots = np.arange(len(self._histories))
        counts = self._histories.visible_at(slots, np.full(len(slots), start - 1))
        states = self._histories.states(slots, counts, np.full(len(slots), start))
        self._hidden = self._recurrent.encode(states)
        self._known = counts

    def hidden_bytes(self) -> int:
        """Bytes of one hidden state; 0 where the model keeps none."""
        return sum(part[:1].nbytes for part in self._hidden)

    def hidden_at(self, slots: Ints, counts: Ints) -> Hidden:
        """The hidden states of n arrivals whose events are all entered; nothing where the model keeps none.

        Args:
            slots: (n,) slots; some may occur more than once.
            counts: (n,) events of each slot that are in the state; at least those that its hidden state knows of,
                which afterwards knows of the most that are asked for.
        """
        if self._recurrent is None:
            return ()
        who, of = np.unique(slots, return_inverse=True)
        known = self._known[who]
        most = known.copy()
        np.maximum.at(most, of, counts)
        visible, items = self._histories.between(who, known, most)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(most - known)])
        walk = Walk(offsets, items, seconds(visible), of, counts - known[of])
        after, found = walked(self._recurrent, _rows_of(self._hidden, who), walk)
        rows = torch.from_numpy(who).to(self._device)
        for part, new in zip(self._hidden, after, strict=True):
            part.index_copy_(0, rows, new)
        self._known[who] = most
        return found

    def score(
        self,
        ids: Ints,
        slots: Ints,
        ticks: Ints,
        counts: Ints,
        hidden: Hidden | None = None,
    ) -> ScoreRows:
        """Score at most ``BLOCK`` states.

        Args:
            ids: (n,) arrivals that the states are of, for errors.
            slots: (n,) slots; one that occurs more than once has the same count each time, unless hidden states are
                given.
            ticks: (n,) instants.
            counts: (n,) events of each slot that are in the state; at least those that its hidden state knows of.
            hidden: Hidden states of the n, as from :meth:`hidden_at`; None: those of the slots, which take what they
                lack.

        Raises:
            ModelError: If a score is negative or no number.
        """
        if self._recurrent is None:
            states = self._histories.states(slots, counts, ticks)
            raw = self._model.score(states.take(filled_up(np.arange(len(slots)))))
        else:
            if hidden is None:
                self._catch_up(self._recurrent, slots, counts)
                hidden = _rows_of(self._hidden, filled_up(slots))
            else:
                hidden = _rows_of(hidden, filled_up(np.arange(len(slots))))
            raw = self._recurrent.score_hidden(hidden, filled_up(seconds(ticks)))
        consumed = self._histories.consumed(slots, counts)
        rows = _normalised(raw.to(torch.float32), consumed, ids, ticks, self._release, self._model)
        return rows if self._layer is None else rows.under(self._layer)

    def _catch_up(self, model: RecurrentModel, slots: Ints, counts: Ints) -> None:
        """Let hidden states take the events that they lack, one event of each of many slots at a time."""
        while len(behind := np.unique(slots[counts > self._known[slots]])):
            for first in range(0, len(behind), STEP):
                self._take_event(model, behind[first : first + STEP])

    def _take_event(self, model: RecurrentModel, slots: Ints) -> None:
        """Let the hidden states of at most ``STEP`` slots take one more event each."""
        known = self._known[slots]
        visible, items = self._histories.between(slots, known, known + 1)
        hidden = model.step(
            _rows_of(self._hidden, filled_up(slots, STEP)),
            torch.from_numpy(filled_up(items, STEP)).to(self._device),
            torch.from_numpy(filled_up(seconds(visible), STEP)).to(self._device),
        )
        rows = torch.from_numpy(slots).to(self._device)
        for part, new in zip(self._hidden, hidden, strict=True):
            part.index_copy_(0, rows, new[: len(slots)])
        self._known[slots] = known + 1


def score_states(
    model: IntensityModel,
    states: UserStates,
    events: Ints,
    ids: Ints,
    ticks: Ints,
    release: Ints,
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
            raw = with_hidden.score_hidden(_rows_of(hidden, of_state[some]), states.now[some])
        consumed = states.rows_of(first, first + len(rows))
        scored = _normalised(raw.to(torch.float32), consumed, ids[rows], ticks[rows], release, model)
        yield scored if layer is None else scored.under(layer)


def _rows_of(hidden: Hidden, rows: Ints) -> Hidden:
    """The hidden states of some rows."""
    return tuple(part.index_select(0, torch.from_numpy(rows).to(part.device)) for part in hidden)


_Number = TypeVar("_Number", np.int64, np.float64)


def filled_up(values: NDArray[_Number], height: int = BLOCK) -> NDArray[_Number]:
    """Values filled up to ``height`` with the first of them."""
    return np.concatenate([values, np.repeat(values[:1], height - len(values))])


def _normalised(
    raw: torch.Tensor,
    consumed: tuple[Ints, Ints],
    ids: Ints,
    ticks: Ints,
    release: Ints,
    model: IntensityModel,
) -> ScoreRows:
    """Split raw intensities into p(y|x) over admissible items and λ(x).

    Args:
        raw: (BLOCK, M) what the model says; written to if the model hands it over.
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
    kept = raw if ModelCapabilities.of(model).caller_owns_scores else raw.clone()
    if int(release.max(initial=0)) > int(ticks.min()):
        late = torch.from_numpy(release[None, :] > filled_up(ticks)[:, None]).to(raw.device)
        admissible[late], kept[late] = False, 0.0
    if raw.device.type == "cpu":
        _take_out(*consumed, kept.numpy(), admissible.numpy())
    else:
        rows, items = (torch.from_numpy(part).to(raw.device) for part in consumed)
        admissible[rows, items], kept[rows, items] = False, 0.0
    kept /= kept.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return ScoreRows((kept, ground, admissible))


@compiled
def _take_out(
    rows: Ints,
    items: Ints,
    scores: Float32s,
    admissible: Bools,
) -> None:
    """Make (row, item) pairs inadmissible and worth nothing, in place."""
    for pair in range(len(rows)):
        scores[rows[pair], items[pair]] = 0.0
        admissible[rows[pair], items[pair]] = False
