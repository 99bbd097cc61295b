"""Mark model chosen when fitted, by held-out later sessions."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Float32s, Floats
from rimsim.data.log import EventLog
from rimsim.errors import ConfigError, refuse
from rimsim.intensity import contract
from rimsim.intensity.persistence import Stored, load, save_model
from rimsim.intensity.product import settled
from rimsim.intensity.selection.held_out import HeldOut, best_of
from rimsim.intensity.states import UserStates

CANDIDATES = ("popularity", "returning", "bag", "ease", "factors")
"""Names of the models that are compared by default."""
_ROWS = 512
"""Number of states that are scored at once."""


@dataclasses.dataclass(frozen=True)
class RankedModel:
    """Worth of a candidate on held-out later sessions."""

    name: str
    """Name of the model."""
    precision: float
    """Mean over users: share of the ten best unconsumed items that a held-out user consumed after the cut."""
    log_likelihood: float
    """Mean log-likelihood, in nats, of items that held-out users consumed after the cut, over unconsumed items."""
    users: int
    """Number of held-out users."""


def ranked(
    log: EventLog, names: Sequence[str], models: Sequence[contract.IntensityModel], gap: str, seed: int
) -> tuple[RankedModel, ...]:
    """Models ranked by their predictions of later sessions, best first.

    Each model is fitted to the events before the cuts of :func:`rimsim.data.later_sessions`. With fewer than 20
    held-out users there is no ranking. Among the models whose precision@10 is within two standard errors of the best,
    the model with the largest likelihood comes first. The other models follow in order of precision.
    """
    held = HeldOut.of(log, gap, seed)
    if held is None or not models:
        return ()
    worths = [held.worth(log_scores(model.fit(held.past), held.states)) for model in models]
    candidates = [
        RankedModel(name=name, precision=worth.precision, log_likelihood=worth.nats, users=len(held))
        for name, worth in zip(names, worths, strict=True)
    ]
    first = candidates[best_of(worths)]
    other_candidates = [model for model in candidates if model is not first]
    by_precision = sorted(other_candidates, key=lambda model: -model.precision)
    return (first, *by_precision)


def log_scores(model: contract.IntensityModel, states: UserStates) -> Float32s:
    """(n, M) log λ(x,y), at least log 1e-30."""
    blocks = []
    for first, stop in contract.spans(len(states), _ROWS):
        scores = model.score(states[first:stop])
        blocks.append(scores.clamp(min=1e-30).log().cpu().numpy())
    return np.concatenate(blocks).astype(np.float32)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AutoConfig:
    """Candidate models, and options of their comparison."""

    candidates: tuple[str, ...] = Field(default=CANDIDATES, min_length=1)
    """Names of the mark models to choose from."""
    fallback: str = "bag"
    """Model that is used if too few users have a later session."""
    session_gap: str = "30min"
    """Inactivity gap that ends a session."""
    seed: int = Field(default=0, ge=0)
    """Seed of held-out sessions and of models."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""


class SelectedModel(Stored):
    """Mark model that predicts later sessions best.

    A fit ranks the candidates (:func:`ranked`), fits the best candidate to the whole log and keeps it in later updates.
    Candidates must be mark models, with λ(x) = 1. A subclass defines how candidates are made by name.
    """

    kind: ClassVar[str] = "selected"

    def __init__(self, config: AutoConfig | None = None) -> None:
        self.config = config or AutoConfig()
        self.device = contract.resolved(self.config.device)
        self.name = ""
        self.ranking: tuple[RankedModel, ...] = ()
        self._chosen: contract.RecurrentModel | None = None

    @abstractmethod
    def _make(self, name: str, **options: Any) -> contract.IntensityModel:
        """Unfitted model with a given name, seed, device and gap."""

    @abstractmethod
    def _is_mark(self, name: str) -> bool:
        """True if a known name stands for a mark model."""

    def fit(self, log: EventLog) -> Self:
        """Rank the candidates, then fit the best to the log."""
        config = self.config
        contract.require_targets(log, self.kind)
        names = config.candidates
        for name in (*names, config.fallback):
            if name == self.kind or not self._is_mark(name):
                refuse(
                    ConfigError, "auto", f"found the candidate {name!r}", "mark models, such as bag or gru"
                )
        self.ranking = ()
        if len(names) > 1:
            models = [self._made(name) for name in names]
            self.ranking = ranked(log, names, models, config.session_gap, config.seed)
        without_ranking = names[0] if len(names) == 1 else config.fallback
        self.name = self.ranking[0].name if self.ranking else without_ranking
        model = contract.recurrent(self._made(self.name))
        if model is None:
            refuse(ConfigError, "auto", f"found the candidate {self.name!r}", "models with encode and step")
        self._chosen = model.fit(log)
        return self

    def settled(self) -> contract.IntensityModel:
        """Unfitted model of the chosen kind and settings."""
        return settled(self._made(self.name), self.chosen)

    def _made(self, name: str) -> contract.IntensityModel:
        """Unfitted candidate with the config's seed, device and gap."""
        config = self.config
        return self._make(name, seed=config.seed, device=str(self.device), gap=config.session_gap)

    @property
    def _candidates(self) -> tuple[contract.IntensityModel, ...]:
        """Unfitted candidates, and the fallback for small logs."""
        names = dict.fromkeys((*self.config.candidates, self.config.fallback))
        return tuple(self._make(name, device=str(self.device)) for name in names if name != self.kind)

    @property
    def stored_parts(self) -> tuple[object, ...]:
        """Models that may be saved with this model."""
        return self._candidates if self._chosen is None else (self._chosen,)

    @property
    def takes_weights(self) -> bool:
        """True if every candidate accepts weights of events."""
        return all(contract.ModelCapabilities.of(model).takes_weights for model in self._candidates)

    @property
    def chosen(self) -> contract.RecurrentModel:
        """Chosen model."""
        return self._after_fit(self._chosen)

    @property
    def depends_on_state(self) -> bool:
        """True if the chosen model's p(y|x) depends on x."""
        return self._chosen is None or contract.ModelCapabilities.of(self._chosen).depends_on_state

    def update(self, log: EventLog) -> Self:
        """Update the chosen model; no new model is chosen."""
        self.chosen.update(log)
        return self

    def encode(self, states: UserStates) -> contract.Hidden:
        """Hidden states of the chosen model."""
        return self.chosen.encode(states)

    def step(self, hidden: contract.Hidden, items: torch.Tensor, times: torch.Tensor) -> contract.Hidden:
        """Hidden states of the chosen model after another event."""
        return self.chosen.step(hidden, items, times)

    def walk(self, hidden: contract.Hidden, walk: contract.Walk) -> tuple[contract.Hidden, contract.Hidden]:
        """Hidden states of the chosen model after and between events."""
        return contract.walked(self.chosen, hidden, walk)

    @contract.caller_owns
    def score_hidden(self, hidden: contract.Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32: p(y|x) of the chosen model."""
        scores = self.chosen.score_hidden(hidden, now)
        return scores if contract.owns_scores(self.chosen) else scores.clone()

    def score(self, states: UserStates) -> torch.Tensor:
        """(n, M) float32: p(y|x) of each state; rows sum to 1."""
        return self.chosen.score(states)

    def tensors(self) -> dict[str, torch.Tensor]:
        """No array, because the chosen model has its own folder."""
        return {}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Load the chosen name and the ranking."""
        del tensors
        self.name = str(extra["name"])
        self.ranking = tuple(RankedModel(**record) for record in extra["ranking"])

    def extra(self) -> dict[str, Any]:
        """Chosen name and ranking."""
        return {"name": self.name, "ranking": [vars(model) for model in self.ranking]}

    def save(self, folder: str | Path) -> None:
        """Write the choice, and the chosen model in subfolder ``chosen``."""
        # The model is saved before its record, because the record is useless without the model.
        if self._chosen is not None:
            save_model(self._chosen, Path(folder) / "chosen")
        super().save(folder)

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Read a chosen model that :meth:`save` wrote."""
        model = super().load(folder, device)
        if model.name:
            model._chosen = load(Path(folder) / "chosen", device)  # noqa: SLF001  # the object is of this class
        return model
