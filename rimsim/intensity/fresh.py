"""Model ``fresh``: popularity by age."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats, Ints
from rimsim.data.log import EventLog
from rimsim.intensity.contract import (
    FromHidden,
    Hidden,
    WithoutUserState,
    caller_owns,
    require_targets,
    resolved,
)
from rimsim.intensity.persistence import Stored

_HOURS: Final = (0.0, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 36, 48, 72, 168)
"""Lower bounds of the classes of ages, in hours."""
EDGES: Final = np.array(_HOURS) * 3600.0
"""Lower bounds of the classes of ages, in seconds; the last class has no upper bound."""
_ROUNDS: Final = 100
"""Largest number of updates of rates and levels."""
_TOLERANCE: Final = 1e-10
"""Relative change of the rates below which the updates end."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FreshConfig:
    """Options of popularity by age."""

    prior: float = Field(default=3.0, gt=0)
    """Weight, as a number of events, of the prior that draws an item's level to 1, the level of a usual item."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""


def age_class(age: Floats) -> Ints:
    """Class of each age in seconds; the first for negative."""
    return np.maximum(np.searchsorted(EDGES, age, "right") - 1, 0)


def traffic(time: Floats, release: Floats, end: Floats) -> Floats:
    """(M, A) events of the log by items' classes of ages.

    Entry (y, a) counts all events while item y is on offer and has an age of class a.

    Args:
        time: (n,) times of all events, ascending.
        release: (M,) release of each item; −∞: it has the last class of ages all the time.
        end: (M,) end of each item.
    """
    last = np.inf if not len(time) else np.nextafter(time[-1], np.inf)
    bound = np.concatenate([release[:, None] + EDGES, np.full((len(release), 1), np.inf)], axis=1)
    bound[~np.isfinite(release), :-1] = -np.inf
    bound = np.minimum(bound, np.minimum(end, last)[:, None])
    return np.asarray(np.diff(np.searchsorted(time, bound, "left"), axis=1), np.float64)


def fitted_rates(events: Floats, exposure: Floats, prior: float) -> tuple[Floats, Floats]:
    """Rates of classes of ages, and levels of items.

    Events are Poisson with mean level·rate·exposure. Levels have a gamma prior with mean 1 and the weight of ``prior``
    events. Both are maximised in turn, and each update has a closed form.
    """
    by_age = events.sum(0)
    by_item = events.sum(1)
    rate = by_age / np.maximum(exposure.sum(0), 1.0)
    level = np.ones(len(events))
    for _ in range(_ROUNDS):
        level = (by_item + prior) / (exposure @ rate + prior)
        new_rate = by_age / np.maximum(level @ exposure, 1e-300)
        is_settled = np.abs(new_rate - rate).max() <= _TOLERANCE * new_rate.max()
        rate = new_rate
        if is_settled:
            break
    return rate, level


class Fresh(WithoutUserState, FromHidden, Stored):
    """``p(y|x, t) ∝ level_y · rate(t − release_y)`` for every state x, λ(x) = 1.

    The rate is constant within each class of ages. It is the number of events of items of that age, per event of the
    log at that time and per unit of level. So the daily rhythm of a log does not count as an effect of age. The level
    of an item compares its events with those of a usual item at the same ages. An item without events has level 1.
    Items without a release time have the last class of ages, so on a log without release times the model equals
    ``popularity``, smoothed by ``prior``. :meth:`update` is exact: it equals a fit on the new log.
    """

    kind: ClassVar[str] = "fresh"
    config_class: ClassVar[type[Any]] = FreshConfig
    depends_on_state: ClassVar[bool] = False
    takes_weights: ClassVar[bool] = False

    def __init__(self, config: FreshConfig | None = None) -> None:
        self.config = config or FreshConfig()
        self.device = resolved(self.config.device)
        self._parts: dict[str, torch.Tensor] = {}

    def fit(self, log: EventLog) -> Self:
        """Estimate rates by age and levels of items."""
        require_targets(log, self.kind)
        target = log.rows(log.targets)
        release = np.where(log.release == 0, -np.inf, log.release)
        exposure = traffic(target.time, release, log.end)
        age = age_class(target.time - release[target.item])
        events = np.zeros_like(exposure)
        np.add.at(events, (target.item, age), 1.0)
        # An event before the release of its item, or after its end, shows that the item was there.
        exposure = np.maximum(exposure, events)
        rate, level = fitted_rates(events, exposure, self.config.prior)
        # A class of ages without events gets the smallest positive rate, so that its items keep an order.
        rate = np.where(rate > 0, rate, rate[rate > 0].min())
        self._parts = {
            "rate": torch.from_numpy(rate),
            "level": torch.from_numpy(level),
            "release": torch.from_numpy(release),
        }
        return self

    def update(self, log: EventLog) -> Self:
        """Count only the new log's target events, if any."""
        return self.fit(log) if log.targets.any() else self

    @property
    def rate(self) -> Floats:
        """(A,) rate of each class of ages."""
        return self._after_fit(self._parts.get("rate")).numpy()

    @property
    def level(self) -> Floats:
        """(M,) level of each item."""
        return self._after_fit(self._parts.get("level")).numpy()

    @caller_owns
    def score_hidden(self, hidden: Hidden, now: Floats) -> torch.Tensor:
        """(n, M) p(y) at the time of each state."""
        del hidden
        release = self._after_fit(self._parts.get("release")).numpy()
        weight = self.level * self.rate[age_class(now[:, None] - release[None, :])]
        weight /= weight.sum(1, keepdims=True)
        return torch.from_numpy(weight.astype(np.float32)).to(self.device)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Rates, levels and release times."""
        return dict(self._parts)

    def restore(self, tensors: Mapping[str, torch.Tensor], extra: Mapping[str, Any]) -> None:
        """Load rates, levels and release times."""
        del extra
        self._parts = {name: tensor.cpu() for name, tensor in tensors.items()}
