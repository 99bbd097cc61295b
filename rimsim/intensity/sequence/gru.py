"""GRU: a recurrent network that reads item ids, for p(y|x)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from rimsim.arrays import Ints
from rimsim.intensity.contract import BLOCK, STEP, Hidden, in_blocks, padded, spans
from rimsim.intensity.sequence import training
from rimsim.intensity.sequence.sequence_model import SequenceConfig, SequenceModel
from rimsim.intensity.states import UserStates


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GRUConfig(SequenceConfig):
    """Size and training of the GRU."""


class GRUNetwork(training.SequenceNetwork):
    """Item vectors (both input and output), GRU layer, item bias."""

    def __init__(self, n_items: int, width: int, dropout: float) -> None:
        super().__init__(n_items, width, dropout)
        # The layer is made without values, because torch would draw them from its global generator.
        self.gru = torch.nn.GRU(width, width, batch_first=True, device="meta").to_empty(device="cpu")

    def _drawn(self, source: torch.Generator) -> None:
        """Draw small normal item vectors, and GRU weights uniform in ±1/√width."""
        width = self.item.shape[1]
        self.item.copy_(torch.randn(self.item.shape, generator=source) / width**0.5)
        for weight in self.gru.parameters():
            weight.copy_((torch.rand(weight.shape, generator=source) * 2 - 1) / width**0.5)

    def hidden(
        self, items: torch.Tensor, start: torch.Tensor, draw: torch.Generator | None = None
    ) -> torch.Tensor:
        """Hidden states before and after each read item."""
        read = training.dropped(self.item[items], self.dropout, draw)
        if not read.shape[1]:  # a batch of first events has no earlier events
            return start[:, None]
        after, _ = self.gru(read, start[None].contiguous())
        return torch.cat([start[:, None], after], dim=1)

    def outputs(
        self, batch: training.Batch, draw: torch.Generator | None, start: torch.Tensor | None = None
    ) -> training.Outputs:
        """Hidden states at the p predicted positions, and item vectors.

        The first hidden state is ``start``, or zero if ``start`` is None.
        """
        if start is None:
            start = self.item.new_zeros((len(batch.items), self.item.shape[1]))
        hidden_at_predicted = self.hidden(batch.items, start, draw)[batch.row, batch.step]
        return training.dropped(hidden_at_predicted, self.dropout, draw), self.item


class GRU(SequenceModel[GRUConfig, GRUNetwork]):
    """``p(y|x) = softmax(W h(x) + b)``, h from a GRU over items.

    The network follows Cho et al. (EMNLP 2014) and GRU4Rec (Hidasi et al., ICLR 2016). The output h(x) is the hidden
    state after the last ``context`` items of a state, or zero without history. The bias b starts at log popularity.
    Input and output item vectors are the same. The model ignores the times of events. λ(x) = 1.

    Hidden states are computed in fixed blocks of rows. The part of each gate that depends on the input is stored in a
    table of items. In an update, gradients reach only ``update_steps_back`` events before the first target. Earlier
    events, up to half the context, are read once with the old parameters (truncated backpropagation through time).
    """

    kind: ClassVar[str] = "gru"
    config_class = GRUConfig

    def _new_network(self, n_items: int) -> GRUNetwork:
        return GRUNetwork(n_items, self.config.width, self.config.dropout)

    def _continued(self, cut: training.Windows) -> training.Forward:
        """Network outputs from the hidden state before each window."""
        network = self.network
        # An update changes all hidden states anyway. So half the context suffices for the state before a window, and
        # takes half the time.
        n_read = max(self.config.context // 2 - self.config.update_steps_back, 0)
        start = self._read(*training.histories(cut.item, cut.origin, cut.begin, n_read))
        return lambda batch, draw: network.outputs(batch, draw, start[torch.from_numpy(batch.rows)])

    def _refresh(self) -> None:
        """Recompute the tables of item vectors and gates for scoring."""
        super()._refresh()
        weights = {name: weight.detach() for name, weight in self.network.gru.named_parameters()}
        self._gates = torch.addmm(weights["bias_ih_l0"], self._item, weights["weight_ih_l0"].T)
        self._recurrent = weights["weight_hh_l0"].T.contiguous()
        self._recurrent_bias = weights["bias_hh_l0"]

    def _cell(self, hidden: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """(n, W) hidden states after one more item each."""
        # The rows of a GRU's weights are those of the reset gate, the update gate and the new state. The result is
        # (1 − update)·new + update·hidden.
        width = hidden.shape[1]
        read = self._gates.index_select(0, items)
        recurrent = torch.addmm(self._recurrent_bias, hidden, self._recurrent)
        gates = (read[:, : 2 * width] + recurrent[:, : 2 * width]).sigmoid_()
        reset_gate = gates[:, :width]
        update_gate = gates[:, width:]
        new = (reset_gate * recurrent[:, 2 * width :]).add_(read[:, 2 * width :]).tanh_()
        return (hidden - new).mul_(update_gate).add_(new)

    @torch.no_grad()
    def _read(self, items: Ints, length: Ints) -> torch.Tensor:
        """(n, W) hidden states after left-aligned histories."""
        n = len(length)
        states = torch.zeros((n, self.config.width), device=self.device)
        # Rows of similar length share a block, because a block is as long as its longest row. A row's bits do not
        # depend on its block.
        order = np.argsort(length, kind="stable")
        all_items = torch.from_numpy(items[order]).to(self.device)
        lengths = torch.from_numpy(length[order]).to(self.device)
        for first, stop in spans(n):
            min_length = int(length[order[first]])
            max_length = int(length[order[stop - 1]])
            block = padded(all_items[first:stop, :max_length])
            count = padded(lengths[first:stop])[:, None]
            hidden = torch.zeros((BLOCK, self.config.width), device=self.device)
            for step in range(max_length):
                next_hidden = self._cell(hidden, block[:, step])
                # Rows whose history has ended keep their hidden state.
                hidden = next_hidden if step < min_length else torch.where(step < count, next_hidden, hidden)
            rows = torch.from_numpy(order[first:stop]).to(self.device)
            states[rows] = hidden[: stop - first]
        return states

    def encode(self, states: UserStates) -> Hidden:
        """(n, W) hidden states after each state's last ``context`` events."""
        _ = self.network  # raises if the model is not fitted
        return (self._read(*training.last_events(states, self.config.context)),)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states after one GRU step each."""
        del times
        return (in_blocks(self._cell, hidden[0], items.to(self.device), height=STEP),)
