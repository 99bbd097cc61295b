"""A mark model that is chosen when it is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.errors import ConfigError
from rimsim.intensity.contract import (
    RecurrentModel,
    caller_owns,
    caller_owns_scores,
    depends_on_state,
    takes_weights,
)
from rimsim.intensity.device import resolved
from rimsim.intensity.persistence import Stored, load
from rimsim.intensity.product import save_model, settled
from rimsim.intensity.refusals import not_fitted, require_targets
from rimsim.intensity.selection.choosing import CANDIDATES, Judged, judged
from rimsim.intensity.walking import walked

if TYPE_CHECKING:
    import torch

    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import Hidden, IntensityModel
    from rimsim.intensity.states import UserStates
    from rimsim.intensity.walking import Walk


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AutoConfig:
    """Who may be chosen."""

    candidates: tuple[str, ...] = Field(
        default=CANDIDATES, min_length=1, description="Names of mark models to choose from."
    )
    fallback: str = Field(default="bag", description="What is taken where too few users came back.")
    session_gap: str = Field(default="30min", description="A silence longer than this ends a session.")
    seed: int = Field(default=0, ge=0, description="Seed of the held-out sessions and of the models.")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")


class Auto(Stored):
    """The mark model that foretells a log's later sessions best, chosen when it is fitted.

    Candidates are judged by :func:`judged`; the first one is fitted to the whole log and is this model from then on,
    through updates, saving and loading. A candidate whose λ(x) is not 1 is not a mark model and is refused.

    Attributes:
        name: The chosen name; empty before a fit.
        ranking: What the candidates were worth at the last fit.
    """

    kind: ClassVar[str] = "auto"

    def __init__(self, config: AutoConfig | None = None) -> None:
        self.config = config or AutoConfig()
        self.device = resolved(self.config.device)
        self.name = ""
        self.ranking: tuple[Judged, ...] = ()
        self._chosen: RecurrentModel | None = None

    def fit(self, log: EventLog) -> Self:
        """Judge the candidates on held-out later sessions, then fit the one to take to the whole log.

        Raises:
            ModelError: If the log has no target event.
            ConfigError: If a candidate is unknown or no mark model.
        """
        from rimsim.intensity.registry import parts  # noqa: PLC0415 - the registry knows this class

        config = self.config
        require_targets(log, self.kind)
        for name in (*config.candidates, config.fallback):
            joined = parts(name)
            if name == self.kind or (joined is not None and joined[1] is not None):
                raise ConfigError(
                    f"auto: found the candidate {name!r}; allowed: mark models, such as bag or gru"
                )
        device = str(self.device)
        names = config.candidates
        self.ranking = (
            judged(log, names, gap=config.session_gap, seed=config.seed, device=device)
            if len(names) > 1
            else ()
        )
        alone = names[0] if len(names) == 1 else config.fallback
        self.name = self.ranking[0].name if self.ranking else alone
        model = self._made()
        if not isinstance(model, RecurrentModel):
            raise ConfigError(
                f"auto: found the candidate {self.name!r}; allowed: models with encode and step"
            )
        self._chosen = model.fit(log)
        return self

    def settled(self) -> IntensityModel:
        """A model that is not fitted, whose fit chooses nothing: of the chosen kind, with what that has chosen."""
        return settled(self._made(), self.chosen)

    def _made(self) -> IntensityModel:
        """A model of the chosen name that is not fitted."""
        from rimsim.intensity.registry import make  # noqa: PLC0415 - the registry knows this class

        config = self.config
        return make(self.name, seed=config.seed, device=str(self.device), gap=config.session_gap)

    @property
    def _candidates(self) -> tuple[IntensityModel, ...]:
        """All who may be chosen, not fitted."""
        from rimsim.intensity.registry import make  # noqa: PLC0415 - the registry knows this class

        names = dict.fromkeys((*self.config.candidates, self.config.fallback))
        return tuple(make(name, device=str(self.device)) for name in names if name != self.kind)

    @property
    def stored_parts(self) -> tuple[object, ...]:
        """The models that it may be saved with."""
        return self._candidates if self._chosen is None else (self._chosen,)

    @property
    def takes_weights(self) -> bool:
        """Whether whoever may be chosen takes weights."""
        return all(takes_weights(model) for model in self._candidates)

    @property
    def chosen(self) -> RecurrentModel:
        """The chosen model.

        Raises:
            ModelError: Before a fit.
        """
        if self._chosen is None:
            raise not_fitted(self.kind)
        return self._chosen

    def take(self, model: RecurrentModel) -> None:
        """Be this fitted model from now on."""
        self._chosen = model

    @property
    def depends_on_state(self) -> bool:
        """Whether the chosen model's p(y|x) differs from state to state."""
        return self._chosen is None or depends_on_state(self._chosen)

    def update(self, log: EventLog) -> Self:
        """Update the chosen model; the choice stays."""
        self.chosen.update(log)
        return self

    def encode(self, states: UserStates) -> Hidden:
        """The chosen model's hidden states."""
        return self.chosen.encode(states)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """The chosen model's hidden states after one more event each."""
        return self.chosen.step(hidden, items, times)

    def walk(self, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]:
        """The chosen model's hidden states after all events and at the points."""
        return walked(self.chosen, hidden, walk)

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32 p(y|x) of the chosen model."""
        scores = self.chosen.score_hidden(hidden, now)
        return scores if caller_owns_scores(self.chosen) else scores.clone()

    def score(self, states: UserStates) -> torch.Tensor:
        """(n, M) float32 p(y|x); rows sum to 1."""
        return self.chosen.score(states)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Nothing of its own: the chosen model is in a folder of its own."""
        return {}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Take over the choice."""
        del tensors
        self.name = str(extra["name"])
        self.ranking = tuple(Judged(**one) for one in extra["ranking"])

    def extra(self) -> dict[str, Any]:
        """The choice."""
        return {"name": self.name, "ranking": [vars(one) for one in self.ranking]}

    def save(self, folder: str | Path) -> None:
        """Write the choice, and the chosen model into the subfolder ``chosen``.

        Raises:
            ModelError: If the chosen model cannot be saved.
        """
        if self._chosen is not None:  # first: a record without its model would be no model
            save_model(self._chosen, Path(folder) / "chosen")
        super().save(folder)

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Read what :meth:`save` wrote; ``device`` replaces the saved configs' device.

        Raises:
            ModelError: If the folder holds no such model, or a damaged one.
        """
        model = super().load(folder, device)
        if model.name:
            model.take(load(Path(folder) / "chosen", device))
        return model
