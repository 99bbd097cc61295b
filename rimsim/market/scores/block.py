"""Blocks of scored states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numba
import numpy as np
import torch

from rimsim.arrays import Bools, Float32s, Ints
from rimsim.compiled import CompiledRecord, compiled
from rimsim.intensity.impressions import ImpressionLayer
from rimsim.market.slates import at_items

_Tensors: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_Arrays: TypeAlias = tuple[Float32s, Float32s, Bools]

List = cast("Any", numba).typed.List


@dataclass(frozen=True, eq=False)
class ScoreArrays(CompiledRecord):
    """Scored states for compiled code."""

    relevance: Float32s
    """(n, M) relevance p(y|x)."""
    ground: Float32s
    """(n,) ground intensity λ(x)."""
    admissible: Bools
    """(n, M) True for items that may be shown."""


NO_SCORES = ScoreArrays(np.zeros((0, 0), np.float32), np.zeros(0, np.float32), np.zeros((0, 0), bool))
"""Scores of zero states."""


@compiled
def repeated(scores: ScoreArrays, n: int) -> list[ScoreArrays]:
    """List of ``n`` references to the same scores."""
    references = List()
    for _ in range(n):
        references.append(scores)
    return references  # type: ignore[no-any-return]  # lists of Numba have no types


class ScoreRows:
    """Scored states: relevance p(y|x), λ(x) and admissibility."""

    # On a CPU, arrays and tensors share their memory. On a GPU, arrays are copied to main memory when first read.
    __slots__ = ("_arrays", "_compiled", "_tensors", "is_remote")

    def __init__(self, tensors: _Tensors | None, arrays: _Arrays | None = None) -> None:
        self._tensors = tensors
        self._arrays = arrays
        self._compiled: ScoreArrays | None = None
        self.is_remote = tensors is not None and tensors[0].device.type != "cpu"
        """True if the scores are on another device than the CPU."""
        if tensors is not None and not self.is_remote:
            self._arrays = tensors[0].numpy(), tensors[1].numpy(), tensors[2].numpy()

    @property
    def tensors(self) -> _Tensors:
        """Relevance, λ(x) and admissibility, as tensors on their device."""
        if self._tensors is None:
            assert self._arrays is not None  # noqa: S101  # either arrays or tensors exist
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
    def compiled(self) -> ScoreArrays:
        """The arrays as a record for compiled code."""
        if self._compiled is None:
            relevance, ground, admissible = self.arrays
            self._compiled = ScoreArrays(
                np.ascontiguousarray(relevance),
                np.ascontiguousarray(ground),
                np.ascontiguousarray(admissible),
            )
        return self._compiled

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
        if self._arrays is None or self.is_remote:
            return ScoreRows(tuple(tensor[first:stop] for tensor in self.tensors))  # type: ignore[arg-type]  # a batch has exactly three tensors
        relevance, ground, admissible = self._arrays
        return ScoreRows(None, (relevance[first:stop], ground[first:stop], admissible[first:stop]))

    def only(self, rows: Bools) -> ScoreRows:
        """Copy in which only the chosen states have admissible items."""
        relevance, ground, admissible = self.tensors
        is_chosen = torch.from_numpy(rows).to(relevance.device)[:, None]
        return ScoreRows((relevance * is_chosen, ground, admissible & is_chosen))

    def under(self, layer: ImpressionLayer, history: Ints) -> ScoreRows:
        """Scored states with a layer applied to λ(x)·p(y|x).

        Args:
            history: Number of events in each state.
        """
        # The result overwrites the relevance, which saves a copy.
        relevance, ground, admissible = self.tensors
        if layer.only_scales:  # all items of a state get the same factor, so p(y|x) stays
            scale = torch.from_numpy(layer.scale(history).astype(np.float32)).to(ground.device)
            return ScoreRows((relevance, ground * scale, admissible))
        applied = layer.apply_(relevance.mul_(ground[:, None]), history)
        if self.is_remote:
            applied.masked_fill_(~admissible, 0.0)
        else:  # NumPy takes a quarter of the time of torch here
            np.copyto(applied.numpy(), 0.0, where=~admissible.numpy())
        total = applied.sum(1)
        applied /= total[:, None].clamp_min(torch.finfo(torch.float32).tiny)
        return ScoreRows((applied, total, admissible))


def joined(parts: list[ScoreRows]) -> ScoreRows:
    """Scored states of several parts, in their order."""
    if any(part.is_remote for part in parts):
        relevance, ground, admissible = zip(*(part.tensors for part in parts), strict=True)
        return ScoreRows((torch.cat(relevance), torch.cat(ground), torch.cat(admissible)))
    # Parts of a few states are many, and NumPy takes less time for each.
    arrays = tuple(np.concatenate(columns) for columns in zip(*(part.arrays for part in parts), strict=True))
    return ScoreRows(None, arrays)  # type: ignore[arg-type]  # a batch has exactly three arrays
