"""Softmax factors: penalised maximum likelihood, with users folded in from what they consumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Float32s, Floats
from rimsim.intensity.adamw import AdamW
from rimsim.intensity.blocks import in_blocks
from rimsim.intensity.cold import fill_cold
from rimsim.intensity.popularity import log_popularity
from rimsim.intensity.sampled_softmax import is_sampled
from rimsim.intensity.sets.cells import Cells, distinct, sums
from rimsim.intensity.sets.denoising import UNLIKELY, Cycle, matrices
from rimsim.intensity.sets.folding import folded
from rimsim.intensity.sets.personal import PersonalModel, SoftmaxConfig, learned
from rimsim.intensity.sets.sampled_factors import Items, fit_items
from rimsim.rng import Purpose, derived_seed, generator

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.selection.shrinkage import Shrinkage
    from rimsim.intensity.sets.personal import Arrays
    from rimsim.intensity.states import UserStates


_CELLS = 500_000
"""Scores that a step of a fit holds at once, users times items."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FactorsConfig(SoftmaxConfig):
    """Size and training of softmax factors."""

    rank: int = Field(default=16, ge=1, description="Length of user and item vectors.")
    ridge: float | None = Field(
        default=None, gt=0, description="Penalty on squared vectors; none: chosen on later sessions."
    )
    steps: int = Field(default=120, ge=1, description="Steps of Adam in a fit, each on the whole log.")
    further_steps: int = Field(
        default=40, ge=1, description="Steps from one ridge of the grid to the next, where it is chosen."
    )
    learning_rate: float = Field(default=0.1, gt=0, description="Largest step size in a fit.")
    newton_steps: int = Field(default=6, ge=1, description="Newton steps that fold a user in.")
    update_steps: int = Field(default=20, ge=0, description="Steps of Adam in an update.")
    update_batch_size: int = Field(default=128, ge=1, description="Users a step of an update.")
    update_learning_rate: float = Field(default=0.01, gt=0, description="Largest step size in an update.")
    memory: float = Field(
        default=10_000.0, gt=0, description="Events that the popularity known so far counts for in an update."
    )


class Factors(PersonalModel[FactorsConfig]):
    """p(y|x) = softmax(τ ⟨u(x), c_y⟩ + κ log popularity_y + κ' log returning_y), λ(x) = 1.

    Users' vectors a and items' vectors c maximise Σ log softmax(⟨a_u, c_y⟩ + log popularity_y) over all events, less a
    ridge on both; of a large log nearly (:func:`rimsim.intensity.sets.sampled_factors.fit_items`). When it serves, a
    user need not be known: u(x) solves the same problem for the items of x with c as they are
    (:func:`rimsim.intensity.sets.folding.folded`). It depends on x by Σ c_i and the number of items alone, so a hidden
    state takes an event by an addition; the Newton steps are made when it is scored.
    """

    kind: ClassVar[str] = "factors"
    config_class = FactorsConfig
    summed = "vectors"
    grid, usual, strength = (100.0, 30.0, 10.0, 3.0), 10.0, "ridge"

    @torch.no_grad()
    def _fits(self, log: EventLog, strengths: tuple[float, ...], whole: EventLog) -> Iterator[Arrays]:
        config, cells = self.config, Cells.of(log)
        source = generator(config.seed, Purpose.MODEL, 23)
        offset = log_popularity(log, config.smoothing).astype(np.float32)
        first = [
            source.normal(0, 0.1, (n, config.rank)).astype(np.float32) for n in (len(cells), log.n_items)
        ]
        a, c = (torch.nn.Parameter(torch.from_numpy(table).to(self.device)) for table in first)
        bias, sampled = torch.from_numpy(offset).to(self.device), is_sampled(whole, config.softmax)
        for number, ridge in enumerate(strengths):
            if sampled:
                c.copy_(fit_items(cells, Items(c, bias), ridge, config.negatives, config.seed).vectors)
            else:
                steps = config.further_steps if number else config.steps
                self._train(a, c, bias, cells, ridge, steps)
            yield {
                "vectors": c.detach().cpu().numpy().copy(),
                "offset": offset,
                "ridge": np.array([ridge], np.float32),
            }

    def _train(
        self,
        a: torch.nn.Parameter,
        c: torch.nn.Parameter,
        offset: torch.Tensor,
        cells: Cells,
        ridge: float,
        steps: int,
    ) -> None:
        """Adam on the whole penalised likelihood; history that is no target moves a alone."""
        cycle = Cycle(steps, 0, self.config.learning_rate, 0.0, 0)
        optimizer = AdamW([a, c], weight_decay=0.0, largest=float("inf"))
        height = max(1, _CELLS // cells.n_items)
        matrix, labels = cells.matrix(), cells.matrix(cells.label)
        plain = bool((cells.label == 1.0).all())
        for step in range(steps):
            a.grad, c.grad = ridge * a, ridge * c
            for begin in range(0, len(cells), height):
                rows = slice(begin, begin + height)
                share = torch.softmax(torch.addmm(offset, a[rows], c.T), 1)
                x = torch.from_numpy(matrix[rows].toarray()).to(self.device)
                of_user = share * x.sum(1, keepdim=True) - x
                of_item = of_user
                if not plain:
                    y = torch.from_numpy(labels[rows].toarray()).to(self.device)
                    of_item = share * y.sum(1, keepdim=True) - y
                a.grad[rows] += of_user @ c
                c.grad += of_item.T @ a[rows]
            optimizer.step(cycle.rate(step))

    def _users(self, total: torch.Tensor, count: torch.Tensor, ridge: float) -> torch.Tensor:
        """(BLOCK, R) float64 u(x) of a block of hidden states."""
        vectors, offset = self.served("vectors").double(), self.served("offset").double()
        return folded(total.double(), count.double(), vectors, offset, ridge, self.config.newton_steps)

    def _scores(self, fit: Arrays, states: UserStates) -> Float32s:
        states = distinct(states)
        vectors, offset = (torch.from_numpy(fit[name]).double() for name in ("vectors", "offset"))
        total = torch.from_numpy(sums(states, fit["vectors"])).double()
        count = torch.from_numpy(states.lengths.astype(np.float64))
        ridge, steps = float(fit["ridge"][0]), self.config.newton_steps
        users = in_blocks(lambda t, n: folded(t, n, vectors, offset, ridge, steps), total, count)
        return np.asarray((users @ vectors.T).numpy(), np.float32)

    def _serving(self, fit: Arrays, chosen: Shrinkage, base: Floats, log: EventLog) -> Arrays:
        vectors, bias = torch.from_numpy(fit["vectors"].copy()), torch.from_numpy(base.astype(np.float32))
        if self.config.cold_items:
            fill_cold(vectors, bias, log)
        weights = np.array([chosen.personal, chosen.strength], np.float32)
        return {"vectors": vectors.numpy(), "offset": fit["offset"], "bias": bias.numpy(), "weights": weights}

    @torch.no_grad()
    def _updated(self, log: EventLog) -> Arrays:
        config = self.config
        personal, ridge = self._array("weights").tolist()
        offset, bias = self.served("offset").double(), self.served("bias")
        begin = self.served("vectors")
        vectors = torch.nn.Parameter(begin.clone())
        optimizer = AdamW([vectors], weight_decay=0.0, largest=float("inf"))
        cells = Cells.of(log)
        seed = derived_seed(config.seed, Purpose.MODEL, 24, self._updates)
        cycle = Cycle(
            config.update_steps,
            config.update_batch_size,
            config.update_learning_rate,
            ridge,
            seed,
            read_history=True,
        )
        for step, (read, label) in enumerate(matrices(cells, cycle)):
            x, y = read.to(self.device), label.to(self.device)
            now = vectors.double()
            users = folded((x.double() @ now), x.sum(1).double(), now, offset, ridge, config.newton_steps)
            logits = torch.addmm(offset, users, now.T).masked_fill_(x > 0, UNLIKELY)
            slope = torch.softmax(logits, 1) * y.sum(1, keepdim=True) - y
            vectors.grad = (slope.T @ users).float() + ridge * (vectors - begin)
            optimizer.step(cycle.rate(step))
        return {
            "vectors": vectors.detach().cpu().numpy(),
            "offset": learned(self._array("offset"), log, config.memory),
            "bias": learned(bias.cpu().numpy(), log, config.memory),
            "weights": np.array([personal, ridge], np.float32),
        }

    def _probabilities(self, *hidden: torch.Tensor) -> torch.Tensor:
        total, count = hidden
        personal, ridge = self.served("weights").tolist()
        users = self._users(total, count, ridge)
        return torch.softmax(
            torch.addmm(self.served("bias"), users.float(), self.served("vectors").T, alpha=personal), 1
        )
