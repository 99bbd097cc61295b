"""The bag: a softmax over items, linear in the set of items that a user has consumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.intensity.cold import fill_cold
from rimsim.intensity.popularity import log_popularity
from rimsim.intensity.sampled_softmax import MANY_ITEMS, is_sampled
from rimsim.intensity.sets.cells import Cells, distinct, sums
from rimsim.intensity.sets.denoising import Cycle, Tables, trained
from rimsim.intensity.sets.personal import PersonalModel, SoftmaxConfig
from rimsim.intensity.sets.sampled_denoising import trained_on_samples
from rimsim.intensity.walking import stepped
from rimsim.rng import Purpose, derived_seed, generator

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Hidden
    from rimsim.intensity.selection.shrinkage import Shrinkage
    from rimsim.intensity.sets.personal import Arrays
    from rimsim.intensity.states import UserStates
    from rimsim.intensity.walking import Walk


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class BagConfig(SoftmaxConfig):
    """Size and training of the bag."""

    width: int = Field(default=64, ge=1, description="Length of item vectors.")
    steps: int = Field(default=150, ge=1, description="Steps of Adam in a fit.")
    further_steps: int = Field(
        default=40,
        ge=1,
        description="Steps from one weight decay of the grid to the next, where it is chosen.",
    )
    batch_size: int = Field(default=256, ge=1, description="Users a step.")
    learning_rate: float = Field(default=0.05, gt=0, description="Largest step size in a fit.")
    weight_decay: float | None = Field(
        default=None, ge=0, description="Penalty on squared vectors; none: chosen on later sessions."
    )
    update_steps: int = Field(default=20, ge=0, description="Steps of Adam in an update.")
    update_learning_rate: float = Field(default=0.003, gt=0, description="Largest step size in an update.")


class Bag(PersonalModel[BagConfig]):
    """p(y|x) = softmax(W·Σ_{i ∈ x} E_i/√(n + 1) + b) with n the items of x, λ(x) = 1.

    Trained as a denoising autoencoder (Liang et al., WWW 2018) without hidden layers: a random 5 to 95 % of each user's
    items are read, the target events among the others are what the full softmax is fitted to. Events that are no
    targets are only ever read. On a large log each user is read at least once in a fit, and the softmax is over what is
    foretold and a sample of the other items. b is κ log popularity + κ' log returning, and τ is in the tables. A hidden
    state is a sum and a number, so it takes an event by an addition. An update trains all three for a few steps.
    """

    kind: ClassVar[str] = "bag"
    config_class = BagConfig
    summed = "read"
    grid, usual, strength = (3e-5, 1e-4, 2e-4, 4e-4, 1e-3), 1e-4, "weight_decay"

    def _fits(self, log: EventLog, strengths: tuple[float, ...], whole: EventLog) -> Iterator[Arrays]:
        config, cells = self.config, Cells.of(log)
        source = generator(config.seed, Purpose.MODEL, 20)
        shape = (2, log.n_items, config.width)
        drawn = torch.from_numpy(source.normal(0, config.width**-0.5, shape).astype(np.float32)).to(
            self.device
        )
        bias = torch.from_numpy(log_popularity(log, config.smoothing).astype(np.float32))
        tables, steps = Tables(drawn[0], drawn[1], bias.to(self.device)), config.steps
        sampled = self._sampled(whole)
        times = max(1.0, len(cells) / (config.batch_size * steps)) if sampled else 1.0
        for decay in strengths:
            cycle = Cycle(round(times * steps), config.batch_size, config.learning_rate, decay, config.seed)
            tables, steps = self._trained(tables, cells, cycle, sampled=sampled), config.further_steps
            yield {"read": tables.read.cpu().numpy(), "predicted": tables.predicted.cpu().numpy()}

    def _sampled(self, whole: EventLog) -> bool:
        return is_sampled(whole, self.config.softmax, many_items=MANY_ITEMS)

    def _trained(self, tables: Tables, cells: Cells, cycle: Cycle, *, sampled: bool) -> Tables:
        if sampled:
            return trained_on_samples(tables, cells, cycle, self.config.negatives)
        return trained(tables, cells, cycle)

    def _scores(self, fit: Arrays, states: UserStates) -> Float32s:
        states = distinct(states)
        scale = 1.0 / np.sqrt(states.lengths.astype(np.float32) + 1.0)
        return np.asarray((sums(states, fit["read"]) * scale[:, None]) @ fit["predicted"].T, np.float32)

    def _serving(self, fit: Arrays, chosen: Shrinkage, base: Floats, log: EventLog) -> Arrays:
        root = np.float32(np.sqrt(chosen.personal))
        both = np.concatenate([fit["read"], fit["predicted"]], axis=1) * root
        vectors, bias = torch.from_numpy(both), torch.from_numpy(base.astype(np.float32))
        if self.config.cold_items:
            fill_cold(vectors, bias, log)
        read, predicted = np.split(vectors.numpy(), 2, axis=1)
        return {"read": read, "predicted": predicted, "bias": bias.numpy()}

    def _updated(self, log: EventLog) -> Arrays:
        config = self.config
        begin = Tables(self.served("read"), self.served("predicted"), self.served("bias"))
        cycle = Cycle(
            config.update_steps,
            config.batch_size,
            config.update_learning_rate,
            self.shrinkage.strength if self.shrinkage else self.usual,
            derived_seed(config.seed, Purpose.MODEL, 22, self._updates),
            learn_bias=True,
            centred=True,
            read_history=True,
        )
        tables = self._trained(begin, Cells.of(log), cycle, sampled=self._sampled(log))
        found = {"read": tables.read, "predicted": tables.predicted, "bias": tables.bias}
        return {name: table.cpu().numpy() for name, table in found.items()}

    def walk(self, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]:
        """Sums after all events and at the points; see :func:`rimsim.intensity.walking.walked`."""
        if self.device.type != "cpu":
            return stepped(self, hidden, walk)
        after = hidden[0].clone()
        order, edges = walk.points()
        at = hidden[0].new_empty((len(order), after.shape[1]))
        read = self.served("read").numpy()
        _add_up(after.numpy(), read, walk.items, walk.offsets, order, edges, walk.count, at.numpy())
        taken = torch.from_numpy(np.diff(walk.offsets).astype(np.float32))
        known = torch.from_numpy(walk.count.astype(np.float32))
        return (after, hidden[1] + taken), (at, hidden[1][torch.from_numpy(walk.row)] + known)

    def _probabilities(self, *hidden: torch.Tensor) -> torch.Tensor:
        total, count = hidden
        h = total * (count + 1.0).rsqrt()[:, None]
        return torch.softmax(torch.addmm(self.served("bias"), h, self.served("predicted").T), 1)


@compiled
def _add_up(
    sums: Float32s,
    table: Float32s,
    items: Ints,
    offsets: Ints,
    order: Ints,
    edges: Ints,
    count: Ints,
    at: Float32s,
) -> None:
    """Add rows of a table to sums (u, W) one after another, in place, and fill in what they are at some points (n, W).

    Other arguments are those of :class:`~rimsim.intensity.walking.Walk` and its points.
    """
    for state in range(len(sums)):
        point, first = edges[state], offsets[state]
        for event in range(first, offsets[state + 1] + 1):
            while point < edges[state + 1] and count[order[point]] == event - first:
                for column in range(sums.shape[1]):  # a whole row at once takes seconds to compile
                    at[order[point], column] = sums[state, column]
                point += 1
            if event < offsets[state + 1]:
                for column in range(sums.shape[1]):
                    sums[state, column] += table[items[event], column]
