"""Mark models over sets, mixed with users' habits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats
from rimsim.data.log import EventLog
from rimsim.intensity.contract import FromHidden, Hidden, caller_owns, in_blocks, resolved, spans
from rimsim.intensity.habits.law import HabitFit, HabitLaw
from rimsim.intensity.habits.next_sessions import NextSessions
from rimsim.intensity.habits.own_history import OwnCounts
from rimsim.intensity.habits.recent_popularity import RateMemory
from rimsim.intensity.persistence import Stored
from rimsim.intensity.selection.auto import log_scores
from rimsim.intensity.sets.bag import Bag, BagConfig
from rimsim.intensity.sets.ease import EASE, EASEConfig
from rimsim.intensity.sets.factors import Factors, FactorsConfig
from rimsim.intensity.sets.personal import PersonalModel
from rimsim.intensity.softmax import softmax_
from rimsim.intensity.states import UserStates
from rimsim.system import report_progress

_TINY = 1e-30
"""Smallest probability or count whose logarithm is taken."""
_N_OWN = 3
"""Number of tensors of own counts in a hidden state."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class BagHabitsConfig(BagConfig):
    """Options of the bag with habits."""

    law: HabitLaw | None = None
    """Law of habits from another fit; none: chosen on held-out next sessions."""
    memory: float = Field(default=10_000.0, gt=0)
    """Weight of the usual popularity before an update, as a number of events."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EASEHabitsConfig(EASEConfig):
    """Options of EASE with habits."""

    law: HabitLaw | None = None
    """Law of habits from another fit; none: chosen on held-out next sessions."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FactorsHabitsConfig(FactorsConfig):
    """Options of softmax factors with habits."""

    law: HabitLaw | None = None
    """Law of habits from another fit; none: chosen on held-out next sessions."""


class HabitMixture(FromHidden, Stored):
    """``p(y|x,t) = ρ(x)·own + (1 − ρ(x))·new``, λ(x) = 1.

    The parts are those of :class:`~rimsim.intensity.habits.law.HabitLaw`, with a model over sets of items as p(y|x). In
    a log whose items are not repeatable there is no own part, and the base model is the part ``new`` of all items. A
    law without parts gives exactly the base model. An update updates the base model, replaces the events of local
    rates by those of the new log, and leaves the law as it is.
    """

    base_class: ClassVar[type[PersonalModel[Any]]]
    """Class of the base model."""
    config_class: ClassVar[type[Any]]
    """Class of the config, which has the fields of the base model's config."""
    takes_weights: ClassVar[bool] = True

    def __init__(self, config: Any = None) -> None:
        self.config = config or self.config_class()
        self.device = resolved(self.config.device)
        self.base = self.base_class(self._base_config())
        self.law: HabitLaw | None = None
        self._n_items = 0
        self._memory: RateMemory | None = None

    def _base_config(self) -> Any:
        """Config of the base model."""
        base_config_class = self.base_class.config_class
        names = [field.name for field in dataclasses.fields(base_config_class)]
        return base_config_class(**{name: getattr(self.config, name) for name in names})

    def fit(self, log: EventLog) -> Self:
        """Fit the base model, choose the law, then count events."""
        self.base.fit(log)
        self.law = self.config.law or self._chosen_law(log)
        self._n_items = log.n_items
        self._memory = RateMemory.of(log, self.law.rate.half_life) if self.law.needs_rate else None
        return self

    def _chosen_law(self, log: EventLog) -> HabitLaw:
        """Law of next sessions; without parts if sessions are few."""
        held = NextSessions.of(log, self.config.session_gap, self.config.seed)
        if held is None:
            return HabitLaw()
        report_progress(f"{self.kind}: fits the law of habits to {len(held)} next sessions")
        logits = log_scores(of_past(self.base, held.past), held.states)
        return HabitFit(held, logits, repeatable=log.repeatable).law()

    def settled(self) -> HabitMixture:
        """Unfitted model with the same law and regularisation."""
        law = self._after_fit(self.law)
        return type(self)(dataclasses.replace(self.config, shrinkage=self.base.shrinkage, law=law))

    def update(self, log: EventLog) -> Self:
        """Update the base model and rates to a log."""
        self.base.update(log)
        if self._memory is not None and log.targets.any():
            self._memory = self._memory.after(log, self.config.memory)
        return self

    @property
    def _own(self) -> OwnCounts | None:
        """Own counts in hidden states; None without an own part."""
        law = self._after_fit(self.law)
        if law.repeats is None:
            return None
        return OwnCounts(self._n_items, law.decay.half_life, self.device)

    def encode(self, states: UserStates) -> Hidden:
        """Own counts, if any, and states of the base."""
        own_part = self._own
        counts = () if own_part is None else own_part.encode(states)
        return (*counts, *self.base.encode(states))

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """Hidden states after one more event each."""
        own_part = self._own
        if own_part is None:
            return self.base.step(hidden, items, times)
        counts = hidden[0]
        rows = torch.arange(len(items), device=counts.device)
        is_repeat = counts[rows, items.to(counts.device)] > 0
        # The base model reads the set of items, so a repeat leaves its state as it is.
        base_hidden = tuple(
            torch.where(is_repeat.view(-1, *[1] * (before.dim() - 1)), before, after)
            for before, after in zip(
                hidden[_N_OWN:], self.base.step(hidden[_N_OWN:], items, times), strict=True
            )
        )
        return (*own_part.step(hidden[:_N_OWN], items, times), *base_hidden)

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) float32: p(y|x,t) of each state; rows sum to 1."""
        law = self._after_fit(self.law)
        own_hidden = hidden[:_N_OWN] if law.repeats is not None else ()
        base_hidden = hidden[len(own_hidden) :]
        if not len(now) or not (own_hidden or law.needs_rate):
            return self.base.score_hidden(base_hidden, now)
        blocks = []
        # Rates of all items at each instant are large, so they are computed for one block at a time.
        for first, stop in spans(len(now)):
            base_p = self.base.score_hidden(tuple(part[first:stop] for part in base_hidden), now[first:stop])
            own_part = tuple(part[first:stop] for part in own_hidden)
            blocks.append(self._mixed(law, base_p, own_part, now[first:stop]))
        return torch.cat(blocks)

    def _mixed(self, law: HabitLaw, base_p: torch.Tensor, own_hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) p(y|x,t) of at most one block of states."""
        log_base = base_p.clamp(min=_TINY).log()
        new_logits = log_base
        log_lift = torch.zeros_like(log_base)
        if self._memory is not None:
            popularity = self._memory.popularity
            rate = law.rate.rates(self._memory.history.before(now), popularity)
            new_logits = law.rate.base * log_base + self._on_device(law.rate.log_factor(rate, popularity))
            log_lift = self._on_device(np.log(rate / popularity))
        if law.repeats is None:
            return in_blocks(softmax_, new_logits)
        own_counts, _, n_events = own_hidden
        n_distinct = (own_counts > 0).sum(1).cpu().numpy().astype(np.float64)
        share = law.repeats.share(n_events.cpu().numpy().astype(np.float64), n_distinct)
        log_counts = own_counts.clamp(min=_TINY).log()
        own_logits = law.own_items.counts * log_counts + law.own_items.base * log_base
        own_logits = own_logits + law.own_items.lift * log_lift
        return in_blocks(_joined, new_logits, own_logits, own_counts, self._on_device(share))

    def _on_device(self, values: Floats) -> torch.Tensor:
        """Values as float32, on the device of the model."""
        return torch.from_numpy(values.astype(np.float32)).to(self.device)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Arrays of the base model and of local rates."""
        base_tensors = {f"base.{name}": tensor for name, tensor in self.base.tensors().items()}
        return base_tensors | ({} if self._memory is None else self._memory.tensors())

    def extra(self) -> dict[str, Any]:
        """Law, values of the base model, and number of items."""
        law = None if self.law is None else dataclasses.asdict(self.law)
        return {"base": self.base.extra(), "law": law, "n_items": self._n_items}

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Load the base model, the law and local rates."""
        prefix = "base."
        base_tensors = {
            name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)
        }
        self.base.restore(base_tensors, extra["base"])
        self._n_items = int(extra["n_items"])
        record = extra["law"]
        self.law = None if record is None else TypeAdapter(HabitLaw).validate_python(record)
        needs_rate = self.law is not None and self.law.needs_rate
        half_life = self.law.rate.half_life if self.law is not None else np.inf
        self._memory = RateMemory.restored(tensors, half_life) if needs_rate else None


def _joined(
    new_logits: torch.Tensor, own_logits: torch.Tensor, own_counts: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    """(BLOCK, M) mixture of own items and new items."""
    is_consumed = own_counts > 0
    new_logits = new_logits.masked_fill(is_consumed, -torch.inf)
    own_logits = own_logits.masked_fill(~is_consumed, -torch.inf)
    has_own = is_consumed.any(1)
    has_new = ~is_consumed.all(1)
    share = torch.where(has_new, torch.where(has_own, share, 0.0), 1.0)
    # The softmax of a row without items is not a number; its share is 0.
    new_part = torch.where(has_new[:, None], torch.softmax(new_logits, 1), 0.0)
    own_part = torch.where(has_own[:, None], torch.softmax(own_logits, 1), 0.0)
    return share[:, None] * own_part + (1.0 - share[:, None]) * new_part


def of_past(base: PersonalModel[Any], past: EventLog) -> PersonalModel[Any]:
    """Model with the base model's weights, fitted to the past."""
    shrinkage = base.shrinkage
    if shrinkage is not None:
        # The weight of personal scores was adapted to the fit to the whole log, so the adaptation is undone.
        personal = shrinkage.personal / shrinkage.rescaling
        shrinkage = dataclasses.replace(shrinkage, personal=personal, rescaling=1.0)
    return type(base)(dataclasses.replace(base.config, shrinkage=shrinkage)).fit(past)


class BagHabits(HabitMixture):
    """Bag, mixed with own counts and local rates."""

    kind: ClassVar[str] = "bag-habits"
    base_class = Bag
    config_class = BagHabitsConfig


class EASEHabits(HabitMixture):
    """EASE, mixed with own counts and local rates."""

    kind: ClassVar[str] = "ease-habits"
    base_class = EASE
    config_class = EASEHabitsConfig


class FactorsHabits(HabitMixture):
    """Softmax factors, mixed with own counts and local rates."""

    kind: ClassVar[str] = "factors-habits"
    base_class = Factors
    config_class = FactorsHabitsConfig
