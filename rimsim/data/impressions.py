"""Impressions of a log: shown items and their answers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from rimsim.arrays import Bools, Floats, Ints
from rimsim.data.readers.values import Ids


@dataclass(frozen=True, eq=False)
class LoggedImpressions:
    """m impressions of a log, sorted by (time, visitor, item).

    Each taken impression is also an event of the log. The events of the log that no impression caused are not here.
    """

    visitor: Ints
    """(m,) position in ``visitors``."""
    visitors: Ids
    """Sorted ids of all visitors who were shown an item."""
    user: Ints
    """(m,) visitor as a row of the log's table of users; −1 for visitors without events."""
    item: Ints
    """(m,) shown item, as a row of the log's table of items."""
    time: Floats
    """(m,) seconds since 1970, ascending."""
    taken: Bools
    """(m,) True if the item was taken."""
    position: Ints | None = None
    """(m,) position in the slate, from 1; 0 where unknown. None: no position is known."""
    policy: Ints | None = None
    """(m,) position in ``policies``; −1 where unknown. None: no policy is known."""
    policies: tuple[str, ...] = ()
    """Names of the policies, sorted."""
    propensity: Floats | None = None
    """(m,) probability with which the policy showed the item at its position; NaN where unknown. None: no propensity
    is known."""
    n_outside: int = 0
    """Number of impressions that were left out because their items are not in the catalogue."""
    n_taken_outside: int = 0
    """Number of these impressions that were taken."""
    outside_of_policy: tuple[tuple[int, int], ...] = ()
    """For each of ``policies``, the number of its impressions that were left out, and of those that were taken; empty
    if none is known."""

    def __len__(self) -> int:
        return len(self.item)

    @property
    def rate(self) -> float:
        """Share of impressions that were taken; NaN without impressions."""
        return float(self.taken.mean()) if len(self) else float("nan")

    @property
    def arrays(self) -> dict[str, Ints | Floats | Bools]:
        """Name → column of m values, for known columns."""
        names = ("visitor", "user", "item", "time", "taken", "position", "policy", "propensity")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def rows(self, rows: Bools | Ints | slice) -> LoggedImpressions:
        """Chosen impressions, in the same order."""
        chosen_columns: dict[str, Any] = {name: column[rows] for name, column in self.arrays.items()}
        return dataclasses.replace(self, **chosen_columns)

    def before(self, time: float) -> LoggedImpressions:
        """Impressions strictly before ``time`` (seconds)."""
        return self.rows(slice(0, int(np.searchsorted(self.time, time, "left"))))

    def text(self) -> str:
        """Counts of shown and taken items, positions and policies.

        Impressions of items outside the catalogue count, because rates without them are too high.
        """
        n_shown = len(self) + self.n_outside
        n_taken = int(self.taken.sum()) + self.n_taken_outside
        parts = [f"{n_shown:,} shown, {n_taken:,} taken ({n_taken / max(n_shown, 1):.1%})"]
        visitors = len(np.unique(self.visitor))
        takers = len(np.unique(self.visitor[self.taken]))
        parts.append(f"{visitors:,} visitors, {visitors - takers:,} of them took nothing")
        if self.policy is not None:
            parts.append(self._policies_text(self.policy))
        if self.position is not None:
            known_positions = self.position[self.position > 0]
            parts.append(
                f"positions {known_positions.min()} to {known_positions.max()}"
                if len(known_positions)
                else "positions unknown"
            )
        if self.propensity is not None:
            known_propensity = self.propensity[np.isfinite(self.propensity)]
            parts.append(
                f"propensities {known_propensity.min():.2g} to {known_propensity.max():.2g}"
                if len(known_propensity)
                else "propensities unknown"
            )
        if self.n_outside:
            parts.append(
                f"{self.n_outside:,} of the shown are of items outside the catalogue, which models and the market do "
                "not see"
            )
        return "; ".join(parts)

    def _policies_text(self, policy: Ints) -> str:
        """Number of policies; size and share taken of the largest."""
        n_policies = len(self.policies)
        outside = np.array(self.outside_of_policy or [(0, 0)] * n_policies, np.int64).reshape(-1, 2)
        shown = np.bincount(policy[policy >= 0], minlength=n_policies) + outside[:, 0]
        taken = np.bincount(policy[(policy >= 0) & self.taken], minlength=n_policies) + outside[:, 1]
        largest = np.argsort(-shown, kind="stable")[:_POLICIES_NAMED]
        texts = [
            f"{self.policies[code]} ({shown[code]:,}; {taken[code] / shown[code]:.1%} taken)"
            for code in largest.tolist()
            if shown[code]
        ]
        ellipsis = ", …" if n_policies > _POLICIES_NAMED else ""
        noun = "policy" if n_policies == 1 else "policies"
        return f"{n_policies} {noun}: {', '.join(texts)}{ellipsis}"


_POLICIES_NAMED = 4
"""Largest number of policies that a description names."""
