"""Scores that need not fit into memory: computed in blocks of users whenever they are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rimsim.errors import ConfigError


@runtime_checkable
class ChunkedScores(Protocol):
    """Anything that scores consecutive users on demand, always with the same result."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M), users and items."""
        ...

    def rows(self, start: int, stop: int) -> NDArray[np.floating]:
        """(stop − start, M) scores of users ``start`` to ``stop`` − 1; −inf for pairs that are not admissible."""
        ...


@dataclass(frozen=True, eq=False)
class FactorScores:
    """Scores s = U·Vᵀ of rank r, or exp(U·Vᵀ).

    Raises:
        ConfigError: If the factors are no matrices of the same rank, or are not finite.
    """

    users: NDArray[np.floating]
    """(n, r) user factors, U."""
    items: NDArray[np.floating]
    """(M, r) item factors, V."""
    link: Literal["identity", "exp"] = "identity"
    """Function applied to the product."""

    def __post_init__(self) -> None:
        if self.users.ndim != 2 or self.items.ndim != 2 or self.users.shape[1] != self.items.shape[1]:
            raise ConfigError(
                f"FactorScores: users have shape {self.users.shape} and items {self.items.shape}; "
                "allowed: (n, r) and (M, r)"
            )
        if not (np.isfinite(self.users).all() and np.isfinite(self.items).all()):
            raise ConfigError("FactorScores: users or items hold a number that is not finite")
        if self.link not in ("identity", "exp"):
            raise ConfigError(f"FactorScores: link is {self.link!r}; allowed: 'identity', 'exp'")

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M), users and items."""
        return len(self.users), len(self.items)

    def rows(self, start: int, stop: int) -> NDArray[np.floating]:
        """(stop − start, M) scores in float32."""
        block = self.users[start:stop].astype(np.float32, copy=False) @ self.items.T.astype(
            np.float32, copy=False
        )
        if self.link == "exp":
            np.exp(block, out=block)
        return np.asarray(block, np.float32)
