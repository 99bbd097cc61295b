"""What a consumer (a user choice model) is to the market: it answers slates, and does things by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.durations import seconds
from rimsim.market.consumers.kernels import uniform_draws

if TYPE_CHECKING:
    import torch

    from rimsim.market.arrivals.schedule import Schedule
    from rimsim.market.histories import Histories
    from rimsim.market.world import World


@dataclass(frozen=True, eq=False)
class Visits:
    """n arrivals of a round, as a consumer sees them: who they are, and all that they consumed."""

    row: Ints
    """(n,) their rows in the round's schedule."""
    schedule: Schedule
    """All arrivals of the round."""
    histories: Histories
    """What the visitors of the round have consumed, in the log and in the market."""
    world: World
    """The log with its item table, and the fitted truth."""
    keys: NDArray[np.uint64]
    """(N,) keys of the draws of all arrivals of the round."""
    popularity: Ints
    """(M,) events of each item in the platform's log, as of the last barrier."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def slot(self) -> Ints:
        """(n,) whose visits they are, as slots of the round."""
        return self.schedule.slot[self.row]

    @property
    def tick(self) -> Ints:
        """(n,) when they come, on the market's clock."""
        return self.schedule.tick[self.row]

    @property
    def log_user(self) -> Ints:
        """(n,) the log's user behind each visit."""
        return self.schedule.log_user[self.slot]

    @property
    def time(self) -> Floats:
        """(n,) seconds on the market's clock."""
        return seconds(self.tick)

    def consumed(self) -> tuple[Ints, Ints]:
        """(visit, item) pairs of all that the visitors consumed before, even what the platform does not know yet."""
        return self.histories.consumed(self.slot)

    def in_market(self) -> tuple[Ints, Ints]:
        """(visit, item) pairs of what the visitors consumed in the market before, in order of consumption."""
        visit, item, _ = self.events_in_market()
        return visit, item

    def events_in_market(self) -> tuple[Ints, Ints, Ints]:
        """Visit, item and tick from which it is visible (m,) of the same."""
        counts = self.histories.events.counts[self.slot]
        known, items = self.histories.between(self.slot, np.zeros_like(counts), counts)
        return np.repeat(np.arange(len(counts)), counts), items, known

    def uniform(self, slates: Ints) -> Floats:
        """(n, k) uniform draws, one for each pair of a visit and an item, whatever else is shown."""
        return uniform_draws(self.keys[self.row], slates)


@dataclass(frozen=True, eq=False)
class Response:
    """What n visits made of their slates."""

    consumed: Bools
    """(n, k) what was consumed."""
    probability: Floats
    """(n, k) with which probability; 0 at empty positions."""
    intensity: Floats
    """(n, k) true intensity λ*(x)·p*(y|x) of each shown item; 0 at empty positions."""


class Organic(NamedTuple):
    """m items that visitors consume by themselves, whatever they are shown."""

    row: Ints
    """(m,) rows in the round's schedule: some of the visits that were asked for."""
    tick: Ints
    """(m,) when each is consumed, not before its visit."""
    item: Ints
    """(m,) what."""


NOTHING = Organic(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))
"""Nobody does anything by himself."""


@runtime_checkable
class Consumer(Protocol):
    """Decides what is consumed; agents and models never see it. A visit occurs once among those that are asked for.

    It keeps no state of its own: what visitors consumed stands in their histories. It may also have:

    * ``hits_only = True``: consumption of a slate is a hit in what the visitor does anyway. It does not enter the
      history; what is organic does. Relevant items are then counted, and NDCG is defined,
    * ``foretold = True``, which goes with ``hits_only``: what is organic hangs on nothing that happens in the market,
      so no slate moves a state. It is asked for once, for all visits of a round that opens, and enters the histories
      when the round is over; states are then encoded and scored ahead, many at once,
    * ``settled(visits)``: (n,) tick at which it is decided what comes of each slate, where that is not the visit's,
    * ``takes_dynamics = True``: it heeds ``consumer.dynamics``,
    * ``needs_truth = False``: no truth is fitted, ``visits.world.truth`` is None,
    * ``needs_sessions = True``: only a replay of the log's sessions can be answered,
    * ``relevant(visits)``: (n,) how many items each visit would consume of a catalogue shown whole, the denominator of
      recall; otherwise the sum of :meth:`true_intensity`,
    * ``note(log)``: a sentence that is printed before a run over a log,
    * ``digest()``: a text that changes with what its answers hang on beside the config, such as a file.
    """

    def respond(self, visits: Visits, slates: Ints) -> Response:
        """What visits make of their slates (n, k), −1 being an empty position."""
        ...

    def organic(self, visits: Visits) -> Organic:
        """What visitors consume by themselves; :data:`NOTHING` where they only consume what they are shown."""
        ...

    def true_intensity(self, visits: Visits) -> torch.Tensor:
        """(n, M) float32 λ*(x)·p*(y|x) over admissible items, for bounds and recall."""
        ...


def drawn(visits: Visits, slates: Ints, probability: Floats, intensity: Floats) -> Response:
    """The response that has given probabilities: an item is consumed if its draw is below its probability.

    Args:
        visits: n visits.
        slates: (n, k) what they are shown.
        probability: (n, k) with which probability each item is consumed; taken for 0 at empty positions.
        intensity: (n, k) true intensities; likewise.
    """
    shown = slates >= 0
    probability = np.where(shown, probability, 0.0)
    return Response(visits.uniform(slates) < probability, probability, np.where(shown, intensity, 0.0))
