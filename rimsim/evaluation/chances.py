"""With which chance a policy shows some slates: of each exposure, of each beginning, and of a slate as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from rimsim.arrays import Array, Floats, Ints
from rimsim.errors import AgentError


@dataclass(frozen=True, eq=False)
class Chances:
    """Chances of n slates under one policy, at the decision; what is said of an empty position means nothing.

    A policy that never shows a slate in such an order, or of such a length, has a chance of 0 for it.
    """

    inclusion: Floats
    """(n, k) that the item is in the slate, anywhere."""
    position: Floats
    """(n, k) that the item stands at the position where it stands."""
    prefix: Floats
    """(n, k) that the slate begins with just these items, up to this position."""
    slate: Floats
    """(n,) that just this slate is shown."""

    def __len__(self) -> int:
        return len(self.slate)

    @property
    def columns(self) -> tuple[Floats, ...]:
        """Inclusion, position, prefix and slate, the very arrays."""
        return self.inclusion, self.position, self.prefix, self.slate

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Self:
        """Chances of (n, k) slates, all 0."""
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape[0]))

    @classmethod
    def joined(cls, parts: Sequence[Chances]) -> Self:
        """Chances of some batches of slates, one after the other."""
        return cls(*(np.concatenate([getattr(one, field.name) for one in parts]) for field in fields(cls)))

    @classmethod
    def certain(cls, shown: Ints, slates: Ints) -> Self:
        """Chances, 0 or 1, of slates (n, k) under a policy that shows ``shown`` (n, k) for sure."""
        among = (slates[:, :, None] == shown[:, None, :]).any(2) & (slates >= 0)
        same = slates == shown
        whole = same.all(1)
        prefix = np.logical_and.accumulate(same, axis=1)
        return cls(*(part.astype(np.float64) for part in (among, same & (slates >= 0), prefix, whole)))

    @classmethod
    def mixed(cls, share: Floats | float, one: Chances, other: Chances) -> Self:
        """Chances under a policy that does as ``one`` with a probability, and otherwise as ``other``."""
        return cls(
            *(
                share * getattr(one, field.name) + (1.0 - share) * getattr(other, field.name)
                for field in fields(cls)
            )
        )

    def rows(self, which: Array | slice) -> Chances:
        """Chances of some of the slates."""
        return Chances(*(getattr(self, field.name)[which] for field in fields(self)))

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse chances that are not of slates of a shape (n, k).

        Raises:
            AgentError: If they are not.
        """
        for field in fields(self):
            wanted = shape[:1] if field.name == "slate" else shape
            if np.shape(getattr(self, field.name)) != wanted:
                raise AgentError(
                    f"chances.{field.name} has shape {np.shape(getattr(self, field.name))}; allowed: {wanted}"
                )
