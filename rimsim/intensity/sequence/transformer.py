"""Transformer: causal self-attention over item ids for p(y|x)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch.nn import functional

from rimsim.arrays import Ints
from rimsim.intensity.contract import Hidden, in_blocks
from rimsim.intensity.sequence.sequence_model import SequenceConfig, SequenceModel
from rimsim.intensity.sequence.training import Batch, Outputs, SequenceNetwork, dropped, last_events
from rimsim.intensity.states import UserStates


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TransformerConfig(SequenceConfig):
    """Size and training of the Transformer."""

    layers: int = Field(default=2, ge=1)
    """Number of blocks, each with attention and a feed-forward network."""
    heads: int = Field(default=2, ge=1)
    """Number of attention heads; twice this number must divide the width."""
    learning_rate: float = Field(default=6e-3, gt=0)
    """Step size of AdamW in a fit."""
    epochs: int = Field(default=20, ge=1)
    """Largest number of passes over the log in a fit."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of dropped values of read items and layer outputs."""
    update_learning_rate: float = Field(default=1e-3, gt=0)
    """Step size of AdamW in an update."""
    update_steps_back: int = Field(default=24, ge=1)
    """Number of events that are read before a target in an update."""

    def __post_init__(self) -> None:
        """Refuse an odd number of hidden units per head."""
        super().__post_init__()
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width is {self.width}. Expected a multiple of twice the number of heads, {2 * self.heads}"
            )


class _Layer(torch.nn.Module):
    """Pre-norm attention with rotary positions, then a SwiGLU feed-forward network."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        inner = 2 * width
        self.heads = heads
        self.attention_norm = torch.nn.Parameter(torch.ones(width))
        self.forward_norm = torch.nn.Parameter(torch.ones(width))
        self.query_key_value = torch.nn.Parameter(torch.empty(3 * width, width))
        self.output = torch.nn.Parameter(torch.empty(width, width))
        self.gate_up = torch.nn.Parameter(torch.empty(2 * inner, width))
        self.down = torch.nn.Parameter(torch.empty(width, inner))

    def forward(
        self,
        x: torch.Tensor,
        turn: tuple[torch.Tensor, torch.Tensor],
        rate: float,
        draw: torch.Generator | None,
    ) -> torch.Tensor:
        """Output of the layer, of the shape of its input.

        ``turn`` has the cosines and sines of the positions' angles, and ``rate`` is the share of dropped values.
        """
        b, length, width = x.shape
        normed = functional.rms_norm(x, (width,), self.attention_norm, 1e-6)
        read = (normed @ self.query_key_value.T).view(b, length, 3, self.heads, width // self.heads)
        q, k, v = read.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(_turned(q, turn), _turned(k, turn), v, is_causal=True)
        attention = mixed.transpose(1, 2).reshape(b, length, width) @ self.output.T
        x = x + dropped(attention, rate, draw)
        normed = functional.rms_norm(x, (width,), self.forward_norm, 1e-6)
        gate, up = (normed @ self.gate_up.T).chunk(2, dim=-1)
        return x + dropped((functional.silu(gate) * up) @ self.down.T, rate, draw)


def _turned(x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Hidden units rotated in pairs by position (Su et al., 2021)."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = turn
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class TransformerNetwork(SequenceNetwork):
    """Tied item vectors, start vector, causal layers, item bias."""

    def __init__(self, n_items: int, config: TransformerConfig) -> None:
        super().__init__(n_items, config.width, config.dropout)
        self.start = torch.nn.Parameter(torch.empty(config.width))
        self.layers = torch.nn.ModuleList(_Layer(config.width, config.heads) for _ in range(config.layers))
        self.norm = torch.nn.Parameter(torch.ones(config.width))
        self._pairs = config.width // config.heads // 2

    def _drawn(self, source: torch.Generator) -> None:
        """Initialise weights with normal values of variance 1/width.

        Weights that add to the residual stream start smaller in deeper networks.
        """
        width = self.item.shape[1]
        depth = len(self.layers)
        for name, weight in self.named_parameters():
            if name == "bias" or name.endswith("norm"):
                continue
            scale = 1.0 / width**0.5
            if name.endswith(("output", "down")):
                scale /= (2 * depth) ** 0.5
            weight.copy_(torch.randn(weight.shape, generator=source) * scale)

    def hidden(self, items: torch.Tensor, draw: torch.Generator | None = None) -> torch.Tensor:
        """Outputs before and after each read item."""
        b, length = items.shape
        width = self.item.shape[1]
        x = torch.cat([self.start.expand(b, 1, width), self.item[items]], dim=1) * width**0.5
        x = dropped(x, self.dropout, draw)
        position = torch.arange(length + 1, device=items.device, dtype=torch.float32)[:, None]
        step = torch.arange(self._pairs, device=items.device, dtype=torch.float32)
        angle = position * 10_000.0 ** (-step / self._pairs)
        turn = (angle.cos(), angle.sin())
        for layer in self.layers:
            x = layer(x, turn, self.dropout, draw)
        return functional.rms_norm(x, (width,), self.norm, 1e-6)

    def outputs(self, batch: Batch, draw: torch.Generator | None) -> Outputs:
        """Outputs at the p predicted positions, and item vectors."""
        hidden_at_predicted = self.hidden(batch.items, draw)[batch.row, batch.step]
        return dropped(hidden_at_predicted, self.dropout, draw), self.item


class Transformer(SequenceModel[TransformerConfig, TransformerNetwork]):
    """``p(y|x) = softmax(W h(x) + b)``, h from causal self-attention.

    The network follows SASRec (Kang and McAuley, ICDM 2018), with a loss over the full catalogue. It has pre-norm
    layers with RMSNorm (Zhang and Sennrich, 2019), rotary positions (Su et al., 2021) and SwiGLU (Shazeer, 2020). Input
    and output item vectors are the same. The bias b starts at log popularity, and the model ignores the times of
    events. λ(x) = 1. A hidden state is the last ``context`` items, their number, and the output h. After each new
    event, the network reads the last items again. Each history is padded to a power of two that depends on its length
    alone, and read in fixed blocks of rows. So the output of a state does not depend on the batch.
    """

    kind: ClassVar[str] = "transformer"
    config_class = TransformerConfig

    def _new_network(self, n_items: int) -> TransformerNetwork:
        return TransformerNetwork(n_items, self.config)

    @torch.no_grad()
    def _read(self, items: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """(n, W) outputs after left-aligned histories of the given lengths."""
        network = self.network
        context = self.config.context
        states = torch.zeros((len(length), self.config.width), device=self.device)
        # Histories of a length from 0 to 8, 9 to 16, 17 to 32, … are padded to 8, 16, 32, … items.
        low = -1
        high = 8
        while low < context:
            rows = torch.nonzero((length > low) & (length <= high))[:, 0]
            size = min(high, context)

            def last(block: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
                """Output after the last of ``count`` items of each row."""
                return network.hidden(block)[torch.arange(len(count), device=count.device), count]

            if len(rows):
                states[rows] = in_blocks(last, items[rows, :size], length[rows])
            low = high
            high = 2 * high
        return states

    def encode(self, states: UserStates) -> Hidden:
        """Hidden states: last items, their number, and h."""
        _ = self.network  # raises if the model is not fitted
        read, count = last_events(states, self.config.context)
        # The window has the full context in any batch, so that hidden states of batches can be joined.
        window: Ints = np.zeros((len(count), self.config.context), np.int64)
        window[:, : read.shape[1]] = read
        items = torch.from_numpy(window).to(self.device)
        length = torch.from_numpy(count).to(self.device)
        return items, length, self._read(items, length)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states after one more item."""
        del times
        window, length, _ = hidden
        # A full window drops its first item.
        is_full = length == self.config.context
        next_window = torch.where(is_full[:, None], torch.roll(window, -1, 1), window)
        position = torch.clamp(length, max=self.config.context - 1)
        next_window[torch.arange(len(length), device=self.device), position] = items.to(self.device)
        next_length = torch.clamp(length + 1, max=self.config.context)
        return next_window, next_length, self._read(next_window, next_length)
