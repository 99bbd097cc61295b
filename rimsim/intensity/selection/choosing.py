"""Which model foretells best what a returning user takes: candidates judged on held-out later sessions of a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Float32s, Floats
from rimsim.intensity.blocks import spans
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import best_of

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import IntensityModel
    from rimsim.intensity.states import UserStates


CANDIDATES = ("popularity", "returning", "bag", "ease", "factors")
"""Who is judged where nobody else is named."""
_ROWS = 512


@dataclass(frozen=True)
class Judged:
    """A candidate's worth on held-out later sessions."""

    name: str
    """Its name."""
    precision: float
    """Share of the ten best unconsumed items that the users took from the cut on."""
    log_likelihood: float
    """Mean log-likelihood of what they took, over what they had not consumed, nats an item."""
    users: int
    """Held-out users."""


def judged(
    log: EventLog,
    names: Sequence[str] = CANDIDATES,
    *,
    gap: str = "30min",
    seed: int = 0,
    device: str | None = None,
) -> tuple[Judged, ...]:
    """What candidates are worth on later sessions of a log, the one to take first.

    Each is fitted to what lies before the cuts of :func:`rimsim.data.later_sessions`. First comes the likeliest of
    those whose precision@10 is not below the best one's by more than two standard errors of the paired difference;
    the others follow by precision.

    Args:
        log: The log.
        names: Names of the registry.
        gap: A silence longer than this ends a session.
        seed: Seed of the cut and of the models.
        device: Where models compute; None: as their configs say.

    Returns:
        One entry a name; none if fewer than 20 users came back.

    Raises:
        ConfigError: If a name is unknown.
    """
    from rimsim.intensity.registry import make  # noqa: PLC0415 - the registry knows this module's model

    held = HeldOut.of(log, gap, seed)
    models = [make(name, seed=seed, device=device, gap=gap) for name in names]
    if held is None or not models:
        return ()
    hits: list[Floats] = []
    found: list[Judged] = []
    for name, model in zip(names, models, strict=True):
        logits = _logits(model.fit(held.past), held.states)
        hits.append(held.precision(logits))
        nats = held.nats(held.log_likelihood(logits))
        found.append(Judged(name, float(hits[-1].mean()), nats, len(held)))
    first = found[best_of(hits, [one.log_likelihood for one in found])]
    others = sorted((one for one in found if one is not first), key=lambda one: -one.precision)
    return (first, *others)


def _logits(model: IntensityModel, states: UserStates) -> Float32s:
    """(n, M) log λ(x,y), with what cannot be told from 0 far down."""
    parts = []
    for first, stop in spans(len(states), _ROWS):
        parts.append(model.score(states[first:stop]).clamp(min=1e-30).log().cpu().numpy())
    return np.concatenate(parts).astype(np.float32)
