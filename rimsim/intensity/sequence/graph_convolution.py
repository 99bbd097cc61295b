"""Graph convolution: item vectors smoothed over the user-item graph."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.data.log import EventLog
from rimsim.intensity.contract import Hidden, in_blocks
from rimsim.intensity.sequence.sequence_model import SequenceConfig, SequenceModel
from rimsim.intensity.sequence.training import Batch, Outputs, SequenceNetwork, dropped
from rimsim.intensity.states import UserStates


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GraphConvolutionConfig(SequenceConfig):
    """Size and training of the graph convolution."""

    layers: int = Field(default=2, ge=0)
    """Number of graph layers; each passes vectors from item to item through shared users."""
    context: int = Field(default=256, ge=2)
    """Largest number of events in a window of a history, which training reads at once."""
    burn: int = Field(default=64, ge=0)
    """Number of events that are read before the first prediction in a window."""
    update_steps_back: int = Field(default=128, ge=1)
    """Number of events that are read before a target in an update."""


class GraphNetwork(SequenceNetwork):
    """Item vectors, a graph that smooths them, and biases."""

    graph: torch.Tensor

    def __init__(self, n_items: int, config: GraphConvolutionConfig, graph: torch.Tensor) -> None:
        super().__init__(n_items, config.width, config.dropout)
        self.hops = config.layers
        self.register_buffer("graph", graph)

    def _drawn(self, source: torch.Generator) -> None:
        """Initialise item vectors with small normal values."""
        self.item.copy_(torch.randn(self.item.shape, generator=source) / self.item.shape[1] ** 0.5)

    def smoothed(self) -> torch.Tensor:
        """(M, W) mean of the item vectors over all hops."""
        if not self.hops or not self.graph.shape[1]:
            return self.item
        user, item = self.graph
        users = int(user.max()) + 1
        user_degree = torch.bincount(user, minlength=users).float()
        item_degree = torch.bincount(item, minlength=len(self.item)).float()
        weight = (user_degree[user] * item_degree[item]).rsqrt()
        # S = D_u^{-1/2} R D_i^{-1/2}, a matrix of users by items, with the degrees D of users and items.
        scaled_graph = torch.sparse_coo_tensor(
            self.graph, weight, (users, len(self.item)), check_invariants=False
        ).coalesce()
        layer = self.item
        total = self.item
        for _ in range(self.hops):
            layer = torch.sparse.mm(scaled_graph.t(), torch.sparse.mm(scaled_graph, layer))
            total = total + layer
        return total / (self.hops + 1)

    def outputs(self, batch: Batch, draw: torch.Generator | None) -> Outputs:
        """Outputs at the p predicted positions, and item vectors."""
        vectors = self.smoothed()
        read = vectors[batch.items]
        # Sum of the first 0, 1, … items of each window.
        sums = torch.cat([read.new_zeros((len(read), 1, read.shape[2])), read.cumsum(1)], dim=1)
        count = batch.step.clamp(min=1).to(read.dtype)
        hidden_at_predicted = sums[batch.row, batch.step] * count.rsqrt()[:, None]
        return dropped(hidden_at_predicted, self.dropout, draw), vectors


class GraphConvolution(SequenceModel[GraphConvolutionConfig, GraphNetwork]):
    """``p(y|x) = softmax(E' h(x) + b)``, ``h(x) = Σ_{i ∈ x} e'_i / √|x|``, λ(x) = 1.

    The smoothed item vectors are E' = mean_l (SᵀS)^l E with S = D_u^{-1/2} R D_i^{-1/2}. This is the linear propagation
    of LightGCN (He et al., SIGIR 2020) from item to item through users. Unlike in LightGCN, users have no vectors, and
    a full softmax predicts each event. An update trains the vectors, but keeps the graph.
    """

    kind: ClassVar[str] = "graph"
    config_class = GraphConvolutionConfig

    def _new_network(self, n_items: int, log: EventLog | None) -> GraphNetwork:
        """Network with the graph of users and their target items."""
        graph = np.zeros((2, 0), np.int64)
        if log is not None:
            is_target = log.targets
            graph = np.unique(np.stack([log.user[is_target], log.item[is_target]]), axis=1)
        return GraphNetwork(n_items, self.config, torch.from_numpy(graph.astype(np.int64)))

    @torch.no_grad()
    def _refresh(self) -> None:
        """Recompute the smoothed item vectors for scoring."""
        super()._refresh()
        self._item = self.network.smoothed().detach().contiguous()

    def encode(self, states: UserStates) -> Hidden:
        """Sums of item vectors, numbers of items, and outputs h."""
        _ = self.network  # raises if the model is not fitted
        vectors = self._item.cpu().numpy()
        lengths = states.lengths
        sums = np.zeros((len(states), vectors.shape[1]), np.float32)
        active = np.flatnonzero(lengths)
        if len(active):
            sums[active] = np.add.reduceat(vectors[states.items], states.offsets[active], axis=0)
        total = torch.from_numpy(sums).to(self.device)
        return self._hidden(total, torch.from_numpy(lengths.astype(np.float32)).to(self.device))

    @staticmethod
    def _hidden(total: torch.Tensor, count: torch.Tensor) -> Hidden:
        """Hidden states: sums, counts, and outputs h = sum / √count."""

        def output(block_total: torch.Tensor, block_count: torch.Tensor) -> torch.Tensor:
            return block_total * block_count.clamp(min=1.0).rsqrt()[:, None]

        return total, count, in_blocks(output, total, count)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states after one more event each."""
        del times
        return self._hidden(hidden[0] + self._item[items.to(self.device)], hidden[1] + 1.0)
