"""Does a truth accept what users really took, among items that they did not take?

The test of Agent4Rec (Zhang et al., SIGIR 2024) and SimUSER (ACL 2025, industry track): a user is asked about twenty
items, of which one in 1 + m is a held-out positive and the others are m times as many that it did not take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints
from rimsim.intensity.contract import spans
from rimsim.scenarios.kinds.scores import ROWS
from rimsim.scenarios.validating.evidence import true_shares

if TYPE_CHECKING:
    from rimsim.market.consumers.contract import Truth
    from rimsim.scenarios.validating.cuts import Cut


NEGATIVES = (1, 3, 9)
"""Negatives a positive, m."""
_ASKED = 20
"""Items that a user is asked about at most."""


@dataclass(frozen=True)
class Acceptance:
    """How well accepted items are told from others."""

    accuracy: float
    """Share of items that are answered rightly."""
    f1: float
    """Harmonic mean of precision and recall, which are equal here: as many are accepted as there are positives."""
    auc: float
    """Share of (positive, negative) pairs of a user whose positive the truth wants more; ties count half."""
    users: int
    """Users who were asked."""


def answers(share: Floats, positive: Bools) -> Bools:
    """Which of the items that a user is asked about are accepted: those of largest p*, as many as there are positives.

    So every answer is relative: p* says which items are wanted most, and no threshold of its own is claimed. Accepted
    items are as many as positives, so that precision equals recall.

    Args:
        share: (items,) p* of each; of equal ones the first is accepted.
        positive: (items,) which were really taken.
    """
    accepted = np.zeros(len(share), bool)
    accepted[np.argsort(-share, kind="stable")[: int(positive.sum())]] = True
    return accepted


def acceptance(truth: Truth, cut: Cut) -> dict[int, Acceptance]:
    """Ask a truth about positives and negatives of every user.

    Positives are items that the user took from the cut on, 20 / (1 + m) of them or all that there are; negatives are m
    times as many items that may be shown and that it did not take. Both are drawn by seed, each user's on its own.

    Args:
        truth: Fitted to the past of the cut alone, so that it has not seen what is asked.
        cut: The cut.

    Returns:
        m → the figures over all items that were asked about.
    """
    total = {m: np.zeros(4, np.int64) for m in NEGATIVES}  # accepted positives, accepted, positives, items
    ordered: dict[int, list[float]] = {m: [] for m in NEGATIVES}
    items = np.arange(len(cut.known))
    edges = np.searchsorted(cut.taken_row, np.arange(len(cut) + 1))
    for start, stop in spans(len(cut), ROWS):
        share, shown = true_shares(truth, cut, start, stop), cut.admissible(start, stop)
        for row in range(start, stop):
            taken = cut.taken_item[edges[row] : edges[row + 1]]
            lot = rng.uniform(cut.draw, rng.Purpose.MEASURE, 12, cut.later.user[row], items)
            others = shown[row - start].copy()
            others[taken] = False
            liked, left = taken[np.argsort(lot[taken])], np.flatnonzero(others)
            left = left[np.argsort(lot[left])]
            for m in NEGATIVES:
                count = min(_ASKED // (1 + m), len(liked), len(left) // m)
                if not count:
                    continue
                asked = np.concatenate([left[: m * count], liked[:count]])
                positive = np.arange(len(asked)) >= m * count
                worth = share[row - start, asked]
                accepted = answers(worth, positive)
                total[m] += np.array([(accepted & positive).sum(), accepted.sum(), count, len(asked)])
                over = worth[positive][:, None] - worth[~positive][None, :]
                ordered[m].append(float((over > 0).mean() + 0.5 * (over == 0).mean()))
    return {m: _figures(total[m], ordered[m]) for m in NEGATIVES if ordered[m]}


def _figures(counts: Ints, ordered: list[float]) -> Acceptance:
    right, accepted, positives, items = counts.tolist()
    wrong = (accepted - right) + (positives - right)
    return Acceptance(
        accuracy=1 - wrong / items,
        f1=2 * right / (accepted + positives),
        auc=float(np.mean(ordered)),
        users=len(ordered),
    )
