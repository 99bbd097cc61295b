"""Scores that several markets of a world have in common."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np

from rimsim.intensity.contract import IntensityModel
from rimsim.market.consumers.contract import World
from rimsim.market.histories import Histories
from rimsim.market.records import Schedule

_Value = TypeVar("_Value")


class SharedScores:
    """Scores by a warm-up model, cached for the next market.

    Markets of a world often score the same states with the same model: the episodes of a replay, for example, differ in
    their slates alone. The last value of each kind is cached.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[IntensityModel, bytes, Any]] = {}
        """Kind → model, digest of the states, and value."""

    def of(self, kind: str, model: IntensityModel, digest: bytes, make: Callable[[], _Value]) -> _Value:
        """Cached value, made again for another model or digest."""
        entry = self._entries.get(kind)
        if entry is not None:
            entry_model, entry_digest, value = entry
            if entry_model is model and entry_digest == digest:
                return cast("_Value", value)
        new_value = make()
        self._entries[kind] = model, digest, new_value
        return new_value


@lru_cache(maxsize=4)
def shared_scores(_: World) -> SharedScores:
    """Scores that the markets of a world have in common."""
    return SharedScores()


def digest_of(schedule: Schedule, histories: Histories | None = None) -> bytes:
    """Digest of arrivals, and of their visitors' consumptions."""
    parts = [getattr(schedule, field.name) for field in dataclasses.fields(schedule)]
    if histories is not None:
        parts += histories.all_events()
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
        digest.update(b";")
    return digest.digest()
