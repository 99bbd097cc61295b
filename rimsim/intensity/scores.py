"""Scores of many states, computed in blocks of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from rimsim.arrays import Bools, Float32s, Floats
from rimsim.errors import ModelError, has_type
from rimsim.intensity.contract import Hidden, IntensityModel, RecurrentModel, fits_into_memory
from rimsim.intensity.states import UserStates

ROWS = 1024
"""Number of states per block."""


@dataclass(frozen=True, eq=False)
class ModelScores:
    """Intensities λ(x)·p(y|x) of n states; −∞ for inadmissible items.

    The scores are :class:`rimsim.matching.ChunkedScores`.
    """

    model: IntensityModel
    """Model that scores the states."""
    states: UserStates
    """The n states."""
    is_offered: Bools
    """(M,) True for items that may be shown."""
    rate: Float32s | None = None
    """(n,) factor by which the scores of each state are multiplied; None: no factor."""
    hidden: Hidden | None = None
    """Hidden states of the model; None: computed at first use, or block by block if they do not fit into memory."""
    repeatable: bool = False
    """True if consumed items may be shown again; otherwise they are inadmissible."""
    offer_times: tuple[Floats, Floats] | None = None
    """(M,) release and (M,) end of each item in seconds; None: all items are on offer at all times."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M): numbers of states and items."""
        return len(self.states), len(self.is_offered)

    @cached_property
    def _hidden(self) -> Hidden | None:
        """Hidden states of all states, or None."""
        if self.hidden is not None or not isinstance(self.model, RecurrentModel):
            return self.hidden
        return self.model.encode(self.states) if fits_into_memory(self.model, self.states) else None

    def _raw(self, start: int, stop: int) -> Float32s:
        """Unchecked scores of consecutive states, as the model gives them."""
        if isinstance(self.model, RecurrentModel) and self._hidden is not None:
            hidden = tuple(part[start:stop] for part in self._hidden)
            scores = self.model.score_hidden(hidden, self.states.now[start:stop])
        else:
            scores = self.model.score(self.states.take(np.arange(start, stop)))
        return np.array(scores.detach().cpu().numpy(), np.float32)

    def rows(self, start: int, stop: int) -> Float32s:
        """Checked scores of consecutive states."""
        scores = self._raw(start, stop)
        valid = np.isfinite(scores) & (scores >= 0)
        if scores.shape != (stop - start, len(self.is_offered)) or not valid.all():
            raise ModelError(
                f"{type(self.model).__name__}: the scores of {stop - start} states are an array of shape "
                f"{scores.shape} with {np.sum(~valid)} values that are negative or not finite. Expected shape "
                f"({stop - start}, {len(self.is_offered)}) and finite intensities of at least 0"
            )
        if self.rate is not None:
            scores *= self.rate[start:stop, None]
        scores[:, ~self.is_offered] = -np.inf
        if not self.repeatable:
            scores[self.states.rows_of(start, stop)] = -np.inf
        if self.offer_times is not None:
            release, end = self.offer_times
            now = self.states.now[start:stop, None]
            scores[(now < release[None, :]) | (now >= end[None, :])] = -np.inf
        return scores


@dataclass(frozen=True, eq=False)
class JoinedScores:
    """Scores of several sets of states, joined row by row."""

    parts: Sequence[ModelScores]
    """Scores of each set of states."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M): numbers of all states and of items."""
        return sum(part.shape[0] for part in self.parts), self.parts[0].shape[1]

    def rows(self, start: int, stop: int) -> Float32s:
        """Scores of consecutive states."""
        blocks = []
        first = 0  # index of the first state of a part among all states
        for part in self.parts:
            n = part.shape[0]
            low = max(start - first, 0)
            high = min(stop - first, n)
            if low < high:
                blocks.append(part.rows(low, high))
            first += n
        return np.concatenate(blocks) if blocks else np.empty((0, self.shape[1]), np.float32)


def require_steady(model: IntensityModel, states: UserStates, n_events: int, name: str) -> None:
    """Refuse scores that depend on more than the state.

    Args:
        n_events: Number of events in the log, the upper limit for λ(x) of a visit.
        name: Name of the model in messages.

    Raises:
        ModelError: If scores change from call to call or with the batch, or an intensity is too large.
    """
    scores = model.score(states)
    second_call = model.score(states)
    single_scores = [model.score(states.take([row])) for row in range(len(states))]
    if any(
        not has_type(result, torch.Tensor) or result.ndim != 2
        for result in (scores, second_call, *single_scores)
    ):
        return  # a run refuses such results where it scores states
    for other_scores, cause in (
        (second_call, "from call to call"),
        (torch.cat(single_scores), "with the other states of a batch"),
    ):
        if scores.shape != other_scores.shape or not torch.allclose(
            scores, other_scores, rtol=1e-3, equal_nan=True
        ):
            raise ModelError(
                f"{name}: its scores change {cause}. Let the scores of a state depend on that state only"
            )
    if (max_sum := float(scores.sum(1).max())) > n_events:
        raise ModelError(
            f"{name}: the intensity λ(x) of a state is {max_sum:.3g}, more than the {n_events:,} events of the whole "
            "log. It must be the expected number of events of one session, such as 0.5"
        )
