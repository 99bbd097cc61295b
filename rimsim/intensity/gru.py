"""GRU: a recurrent network over item ids for p(y|x)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.errors import ModelError
from rimsim.intensity.blocks import BLOCK, in_blocks, padded, spans
from rimsim.intensity.device import resolved
from rimsim.intensity.persistence import Stored
from rimsim.intensity.popularity import log_popularity
from rimsim.intensity.sequences import Batch, Windows, histories, last_events, windows
from rimsim.intensity.training import Schedule, SequenceNetwork, TrainingRun, dropped, held_out, train
from rimsim.rng import Purpose, derived_seed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Code
    from rimsim.intensity.states import UserStates

__all__ = ["GRU", "GRUConfig"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GRUConfig:
    """Size and training of the GRU."""

    width: int = Field(default=64, ge=1, description="Hidden units; items have vectors of the same size.")
    context: int = Field(default=64, ge=2, description="Last events of a history that are read.")
    seed: int = Field(
        default=0, ge=0, description="Seed of initial values, batches, dropout and held-out users."
    )
    epochs: int = Field(default=30, ge=1, description="Most passes over the log in a fit.")
    batch_size: int = Field(default=32, ge=1, description="Windows a batch in a fit.")
    learning_rate: float = Field(default=4e-3, gt=0, description="Step size of AdamW in a fit.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's decoupled weight decay in a fit.")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Dropout on read items and on hidden units.")
    held_out: float = Field(default=0.1, ge=0, lt=1, description="Share of users kept for early stopping.")
    patience: int = Field(
        default=2, ge=0, description="Epochs without improvement before a fit stops; 0: never."
    )
    burn: int = Field(default=16, ge=0, description="Events read before a window's first prediction.")
    smoothing: float = Field(default=0.5, gt=0, description="Events added to each item for the initial bias.")
    update_epochs: int = Field(default=3, ge=0, description="Passes over the new log in an update.")
    update_batch_size: int = Field(default=128, ge=1, description="Windows a batch in an update.")
    update_learning_rate: float = Field(default=4e-3, gt=0, description="Step size of AdamW in an update.")
    update_steps_back: int = Field(
        default=8, ge=1, description="Events before a target that gradients reach."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")

    def __post_init__(self) -> None:
        """Keep a window longer than what it reads before its first prediction."""
        if self.burn >= self.context:
            raise ValueError(f"burn is {self.burn}; allowed: less than context, which is {self.context}")


class _Network(SequenceNetwork):
    """Tied item vectors, one GRU layer, and an item bias."""

    def __init__(self, n_items: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.item = torch.nn.Parameter(torch.empty(n_items, width))
        self.bias = torch.nn.Parameter(torch.empty(n_items))
        # Made without values, because torch would draw them from its global generator.
        self.gru = torch.nn.GRU(width, width, batch_first=True, device="meta").to_empty(device="cpu")

    def draw(self, seed: int, bias: NDArray[np.float64]) -> None:
        """Initial values: small normal item vectors, GRU weights uniform in ±1/√width, the given bias."""
        source = torch.Generator()
        source.manual_seed(derived_seed(seed, Purpose.MODEL, 4))
        width = self.item.shape[1]
        with torch.no_grad():
            self.item.copy_(torch.randn(self.item.shape, generator=source) / width**0.5)
            for weight in self.gru.parameters():
                weight.copy_((torch.rand(weight.shape, generator=source) * 2 - 1) / width**0.5)
            self.bias.copy_(torch.from_numpy(bias))

    def hidden(
        self, items: torch.Tensor, start: torch.Tensor, draw: torch.Generator | None = None
    ) -> torch.Tensor:
        """(b, L + 1, W) hidden states before and after each of the read items (b, L)."""
        read = dropped(self.item[items], self.dropout, draw)
        after, _ = self.gru(read, start[None].contiguous())
        return torch.cat([start[:, None], after], dim=1)

    def logits(
        self, batch: Batch, draw: torch.Generator | None, start: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(p, M) logits at the predicted positions, from hidden states ``start`` (b, W) or from zero."""
        if start is None:
            start = self.item.new_zeros((len(batch.items), self.item.shape[1]))
        at = self.hidden(batch.items, start, draw)[batch.row, batch.step]
        return torch.addmm(self.bias, dropped(at, self.dropout, draw), self.item.T)


class GRU(Stored):
    """p(y|x) = softmax(W h(x) + b), h from a GRU over item ids.

    After Cho et al. (EMNLP 2014) and GRU4Rec (Hidasi et al., ICLR 2016).

    h is the hidden state after the last ``context`` items of a state, zero for a state without history, whose
    p is softmax(b); b starts at log popularity. Input and output item vectors are the same. The loss is the
    full softmax cross-entropy at the log's target events; times are no input. λ(x) = 1.

    Inference reads and steps in fixed row blocks (:mod:`rimsim.intensity.blocks`), with the input half of
    every gate looked up in a table of items.

    Attributes:
        last_run: Losses of the last fit or update; None after a load.
    """

    kind: ClassVar[str] = "gru"

    def __init__(self, config: GRUConfig | None = None) -> None:
        self.config = config or GRUConfig()
        self.device = resolved(self.config.device)
        self.last_run: TrainingRun | None = None
        self._updates = 0
        self._network: _Network | None = None

    def fit(self, log: EventLog) -> Self:
        """Fit from scratch, with early stopping on held-out users.

        Raises:
            ModelError: If the log has no target event.
        """
        config = self.config
        if not log.targets.any():
            raise ModelError("gru: found no target event in the log; allowed: at least one")
        self._build(log.n_items).draw(config.seed, log_popularity(log, config.smoothing))
        cut = windows(log, config.context, config.burn)
        aside = held_out(cut.user, config.held_out if config.patience else 0.0, config.seed)
        if aside.all():
            aside[:] = False
        schedule = Schedule(
            config.epochs,
            config.batch_size,
            config.learning_rate,
            config.weight_decay,
            config.seed,
            config.patience,
        )
        self.last_run = train(self.network, cut.take(~aside), schedule, self.device, check=cut.take(aside))
        self._updates = 0
        self._refresh()
        return self

    def update(self, log: EventLog) -> Self:
        """Train a few epochs on the new log's target events, starting from the present parameters.

        The history up to ``update_steps_back`` events before the first target is read once, with the
        parameters of before; gradients reach no further back (truncated backpropagation through time). So the
        cost grows with the targets, not with the histories. A log without target events changes nothing.

        Raises:
            ModelError: Before a fit, or if the log has another catalogue.
        """
        config, network = self.config, self.network
        if log.n_items != network.item.shape[0]:
            raise ModelError(
                f"gru: found a log of {log.n_items} items; allowed: {network.item.shape[0]}, as fitted"
            )
        cut = windows(log, config.context, config.update_steps_back)
        if len(cut):
            start = self._starts(cut)
            self._updates += 1
            seed = derived_seed(config.seed, Purpose.MODEL, 5, self._updates)
            schedule = Schedule(
                config.update_epochs, config.update_batch_size, config.update_learning_rate, 0.0, seed
            )
            self.last_run = train(
                network,
                cut,
                schedule,
                self.device,
                logits=lambda batch, draw: network.logits(batch, draw, start[torch.from_numpy(batch.rows)]),
            )
            self._refresh()
        return self

    def _starts(self, cut: Windows) -> torch.Tensor:
        """(w, W) hidden states before each window, read from what precedes it within the context."""
        room = max(self.config.context - self.config.update_steps_back, 0)
        return self._read(*histories(cut.item, cut.origin, cut.begin, room))

    @property
    def network(self) -> _Network:
        """The network.

        Raises:
            ModelError: Before a fit.
        """
        if self._network is None:
            raise ModelError("gru: not fitted yet; allowed: score after fit or load")
        return self._network

    def _build(self, n_items: int) -> _Network:
        self._network = _Network(n_items, self.config.width, self.config.dropout).to(self.device)
        return self._network

    def _refresh(self) -> None:
        """Recompute what inference looks up, after the parameters changed."""
        network = self.network
        weights = {name: weight.detach() for name, weight in network.gru.named_parameters()}
        self._item = network.item.detach().contiguous()
        self._bias = network.bias.detach()
        self._gates = torch.addmm(weights["bias_ih_l0"], self._item, weights["weight_ih_l0"].T)
        self._recurrent = weights["weight_hh_l0"].T.contiguous()
        self._recurrent_bias = weights["bias_hh_l0"]

    def _cell(self, hidden: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """(BLOCK, W) hidden states after one more item each."""
        width = hidden.shape[1]
        read = self._gates[items]
        kept = torch.addmm(self._recurrent_bias, hidden, self._recurrent)
        gate = torch.sigmoid(read[:, : 2 * width] + kept[:, : 2 * width])
        new = torch.tanh(read[:, 2 * width :] + gate[:, :width] * kept[:, 2 * width :])
        return new + gate[:, width:] * (hidden - new)

    def _read(self, items: NDArray[np.int64], length: NDArray[np.int64]) -> torch.Tensor:
        """(n, W) hidden states after left-aligned histories (n, L) of the given lengths."""
        n = len(length)
        out = torch.zeros((n, self.config.width), device=self.device)
        # Rows of like length share a block, which then stops at its longest; a row's bits do not depend on
        # it.
        order = np.argsort(length, kind="stable")
        every = torch.from_numpy(items[order]).to(self.device)
        lengths = torch.from_numpy(length[order]).to(self.device)
        for a, b in spans(n):
            longest = int(length[order[b - 1]])
            block, count = padded(every[a:b, :longest]), padded(lengths[a:b])[:, None]
            hidden = torch.zeros((BLOCK, self.config.width), device=self.device)
            for step in range(longest):
                hidden = torch.where(step < count, self._cell(hidden, block[:, step]), hidden)
            out[torch.from_numpy(order[a:b]).to(self.device)] = hidden[: b - a]
        return out

    @torch.no_grad()
    def encode(self, states: UserStates) -> Code:
        """One tensor (n, W): the hidden states after the last ``context`` events of each state."""
        self.network  # noqa: B018 - raises before a fit
        return (self._read(*last_events(states, self.config.context)),)

    @torch.no_grad()
    def advance(self, code: Code, items: torch.Tensor, times: torch.Tensor) -> Code:
        """One GRU step."""
        del times
        return (in_blocks(self._cell, code[0], items.to(self.device)),)

    @torch.no_grad()
    def score_codes(self, code: Code, now: NDArray[np.float64]) -> torch.Tensor:
        """(n, M) float32 p(y|x) of the coded states; rows sum to 1."""
        del now
        self.network  # noqa: B018 - raises before a fit
        return in_blocks(
            lambda hidden: torch.softmax(torch.addmm(self._bias, hidden, self._item.T), dim=1), code[0]
        )

    def score(self, states: UserStates) -> torch.Tensor:
        """(n, M) float32 p(y|x); rows sum to 1."""
        return self.score_codes(self.encode(states), states.now)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The parameters."""
        return {} if self._network is None else dict(self._network.state_dict())

    def extra(self) -> dict[str, Any]:
        """How often the model was updated since its fit, which seeds the next update."""
        return {"updates": self._updates}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Take over the parameters."""
        self._updates = int(extra["updates"])
        if "bias" in tensors:
            self._build(len(tensors["bias"])).load_state_dict(dict(tensors))
            self._refresh()
