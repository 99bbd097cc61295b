"""Base of the models over sequences of item ids."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.data.log import EventLog
from rimsim.errors import ModelError, refuse
from rimsim.intensity.contract import FromHidden, Hidden, caller_owns, in_blocks, require_targets, resolved
from rimsim.intensity.persistence import Stored
from rimsim.intensity.popularity import fill_cold, log_popularity
from rimsim.intensity.sequence import training
from rimsim.intensity.softmax import MANY_ITEMS, Softmax, is_sampled, softmax_
from rimsim.rng import Purpose, derived_seed


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SequenceConfig:
    """Size and training of a model over item sequences."""

    width: int = Field(default=64, ge=1)
    """Number of hidden units, and length of item vectors."""
    context: int = Field(default=64, ge=2)
    """Number of the latest events of a history that are read."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial values, batches, dropout and held-out users."""
    epochs: int = Field(default=14, ge=1)
    """Largest number of passes over the log in a fit."""
    batch_size: int = Field(default=64, ge=1)
    """Number of windows per batch in a fit."""
    learning_rate: float = Field(default=0.016, gt=0)
    """Step size of AdamW in a fit."""
    final_rate: float = Field(default=0.1, gt=0, le=1)
    """Final step size as a share of the first."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of AdamW in a fit."""
    dropout: float = Field(default=0.4, ge=0, lt=1)
    """Share of dropped values of read items and hidden units."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of users that are held out for early stopping."""
    patience: int = Field(default=2, ge=0)
    """Number of epochs without improvement that ends a fit; 0: a fit never ends early."""
    burn: int = Field(default=16, ge=0)
    """Number of events that are read before the first prediction in a window."""
    ahead: int = Field(default=1, ge=1)
    """Number of next events that p(y|x) is fitted to predict after each event of a sequence."""
    target: Literal["next-event", "next-session"] = "next-event"
    """Events that p(y|x) is fitted to predict. next-event: the next event. next-session: all events of a session, from
    the events before the session."""
    session_gap: str = "30min"
    """Inactivity gap that ends a session."""
    sampled: float = Field(default=1.0, gt=0, le=1)
    """Share of the positions for which a batch computes the loss in a fit."""
    softmax: Softmax = "auto"
    """Items in the loss. full: all items. sampled: a sample of items, with corrected logits. auto: sampled if there are
    more than 4,096 items and more than 3·10⁹ pairs of a predicted event and an item."""
    negatives: int = Field(default=1024, ge=1)
    """softmax sampled: number of a batch's labels that are drawn into the sample. As many items again are drawn
    uniformly."""
    smoothing: float = Field(default=0.5, gt=0)
    """Number of events that are added to each item's count before the initial bias is computed."""
    cold_items: bool = True
    """Predict the vectors of unseen items from genres and year."""
    update_epochs: int = Field(default=3, ge=0)
    """Number of passes over the new log in an update."""
    update_batch_size: int = Field(default=128, ge=1)
    """Number of windows per batch in an update."""
    update_learning_rate: float = Field(default=6e-3, gt=0)
    """Step size of AdamW in an update."""
    update_steps_back: int = Field(default=8, ge=1)
    """Number of events before a target that are read with gradients in an update."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        """Refuse a burn-in that is not shorter than the context."""
        for name in ("burn", "update_steps_back"):
            if getattr(self, name) >= self.context:
                raise ValueError(
                    f"{name} is {getattr(self, name)}. Expected a number below context, which is "
                    f"{self.context}"
                )


Network = TypeVar("Network", bound=training.SequenceNetwork)
Config = TypeVar("Config", bound=SequenceConfig)


class SequenceModel(FromHidden, Stored, Generic[Config, Network]):
    """Base of the mark models over sequences: ``softmax(W h(x) + b)``.

    The last tensor of a hidden state is h(x), of shape (n, W).

    ``last_run`` has the losses of the last fit or update; None after a load.
    """

    config: Config
    config_class: ClassVar[type[Any]]
    """Class of the model's config."""
    takes_weights: ClassVar[bool] = True

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.config_class()
        self.device = resolved(self.config.device)
        self.last_run: training.TrainingRun | None = None
        self._updates = 0
        self._network: Network | None = None

    @abstractmethod
    def _new_network(self, n_items: int) -> Network:
        """Network before initialisation, on the CPU."""

    def fit(self, log: EventLog) -> Self:
        """Fit from scratch, with early stopping on held-out users."""
        config = self.config
        require_targets(log, self.kind)
        network = self._new_network(log.n_items)
        network.draw(config.seed)
        with torch.no_grad():
            network.bias.copy_(torch.from_numpy(log_popularity(log, config.smoothing)))
        self._network = network.to(self.device)
        cut = training.windows(log, config.context, config.burn, self._gap)
        held_out_share = config.held_out if config.patience else 0.0
        is_held_out = training.held_out(cut.user, held_out_share, config.seed)
        if is_held_out.all():  # nobody would be left to learn from
            is_held_out[:] = False
        options = training.TrainingOptions(
            epochs=config.epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            seed=config.seed,
            patience=config.patience,
            final_rate=config.final_rate,
            ahead=config.ahead,
            sampled=config.sampled,
            negatives=self._negatives(log),
        )
        self.last_run = training.train(
            network, cut.take(~is_held_out), options, self.device, check=cut.take(is_held_out)
        )
        if config.cold_items:
            fill_cold(network.item.data, network.bias.data, log)
        self._updates = 0
        self._refresh()
        return self

    def update(self, log: EventLog) -> Self:
        """Train a few epochs on the new log.

        Gradients reach ``update_steps_back`` events before a target, so the time of an update grows with the number of
        targets, not with the length of histories. A log without target events changes nothing.
        """
        config = self.config
        network = self.network
        n_items = len(network.bias)
        if log.n_items != n_items:
            refuse(ModelError, self.kind, f"found a log of {log.n_items} items", f"{n_items}, as fitted")
        cut = training.windows(log, config.context, config.update_steps_back, self._gap)
        if len(cut):
            self._updates += 1
            options = training.TrainingOptions(
                epochs=config.update_epochs,
                batch_size=config.update_batch_size,
                learning_rate=config.update_learning_rate,
                weight_decay=0.0,
                seed=derived_seed(config.seed, Purpose.MODEL, 5, self._updates),
                ahead=config.ahead,
                negatives=self._negatives(log),
            )
            self.last_run = training.train(network, cut, options, self.device, outputs=self._continued(cut))
            self._refresh()
        return self

    def _negatives(self, log: EventLog) -> int | None:
        """Number of items sampled for the softmax; None: all items."""
        sampled = is_sampled(log, self.config.softmax, many_items=MANY_ITEMS)
        return self.config.negatives if sampled else None

    @property
    def _gap(self) -> str | None:
        """Session gap if whole sessions are predicted, else None."""
        return self.config.session_gap if self.config.target == "next-session" else None

    def _continued(self, cut: training.Windows) -> training.Forward:
        """Network outputs for new events, given the events before them."""
        del cut
        return self.network.outputs

    @property
    def network(self) -> Network:
        """Fitted network."""
        return self._after_fit(self._network)

    def _refresh(self) -> None:
        """Recompute the tables for scoring after a change of parameters."""
        self._item = self.network.item.detach().contiguous()
        self._bias = self.network.bias.detach()

    def _probabilities(self, hidden: torch.Tensor) -> torch.Tensor:
        """(BLOCK, M) p(y|x) of a block of hidden states."""
        return softmax_(torch.addmm(self._bias, hidden, self._item.T))

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32: p(y|x) of each state; rows sum to 1."""
        del now
        _ = self.network  # raises if the model is not fitted
        return in_blocks(self._probabilities, hidden[-1])

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parameters."""
        return {} if self._network is None else dict(self._network.state_dict())

    def extra(self) -> dict[str, Any]:
        """Number of updates, which seeds the next update."""
        return {"updates": self._updates}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Load the parameters."""
        self._updates = int(extra["updates"])
        if "bias" in tensors:
            network = self._new_network(len(tensors["bias"]))
            network.load_state_dict(dict(tensors))
            self._network = network.to(self.device)
            self._refresh()
