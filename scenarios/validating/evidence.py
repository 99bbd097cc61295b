"""What models recommend at the cuts: their real worth, user by user, beside their worth under each truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Bools, Floats, Ints
from rimsim.intensity.contract import spans
from rimsim.market.consumers.contract import examination
from rimsim.matching import price_slates
from rimsim.scenarios.kinds.scores import ROWS
from rimsim.scenarios.validating.judged import judged, scores_of, unfitted_model

if TYPE_CHECKING:
    from rimsim.market.consumers.contract import Truth
    from rimsim.scenarios.validating.cuts import Cut
    from rimsim.scenarios.validating.judged import Make


ORACLE = "oracle"
"""In place of a model's name: the slate that a truth itself holds for best."""


@dataclass(frozen=True)
class Setting:
    """How slates are made and answered."""

    slate: int = 10
    """k."""
    position_decay: float = 0.85
    """γ."""
    device: str = "auto"
    """Where models score."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Real and simulated worth of m models for n users in d draws."""

    models: tuple[str, ...]
    """Names of the m models."""
    users: Ints
    """(n,) the users, the same in all draws."""
    draws: tuple[int, ...]
    """Seeds of the draws."""
    real: Mapping[str, Floats]
    """Metric → (m, d, n)."""
    utility: Mapping[str, Floats]
    """Truth → (m + 1, d, n) expected consumptions of a slate; the last row is the oracle's."""

    def by_user(self, truth: str = "", metric: str = "precision") -> Floats:
        """(m or m + 1, n) means over draws: of a real metric, or of the utility under a truth."""
        values = self.utility[truth] if truth else self.real[metric]
        there = ~np.isnan(values)
        total, count = np.where(there, values, 0.0).sum(1), there.sum(1)
        return np.asarray(
            np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0), np.float64
        )


def true_shares(truth: Truth, cut: Cut, start: int, stop: int) -> Floats:
    """(stop − start, M) p* of some rows over what may be shown; 0 elsewhere.

    Args:
        truth: The truth.
        cut: The cut.
        start: First row.
        stop: Past the last row.
    """
    states = cut.states.take(np.arange(start, stop))
    return shares_over(truth.preference(cut.later.user[start:stop], states), cut.admissible(start, stop))


def shares_over(preference: Floats, left: Bools) -> Floats:
    """(n, M) p* over some items, each row summing to 1 where it wants any of them; 0 elsewhere.

    Args:
        preference: (n, M) p* over the whole catalogue.
        left: (n, M) the items.
    """
    share = np.where(left, preference, 0.0)
    return np.asarray(share / np.maximum(share.sum(1, keepdims=True), 1e-300), np.float64)


def utilities(truth: Truth, cut: Cut, slates: Sequence[Ints], setting: Setting) -> Floats:
    """(s + 1, n) expected consumptions of s slates for each state under a truth, and of the oracle's slate.

    An item at position r is consumed with probability 1 − exp(−λ*(x)·p*(y|x)·γ^(r−1)), p* over what may be shown.

    Args:
        truth: The truth.
        cut: The cut.
        slates: (n, k) each.
        setting: γ and k.
    """
    n, m = len(cut), len(cut.known)
    worth = np.empty((len(slates) + 1, n))
    expected = truth.expected(cut.later.user, cut.states)
    seen = examination(setting.position_decay, setting.slate)
    for start, stop in spans(n, ROWS):
        share = true_shares(truth, cut, start, stop)
        best = price_slates(
            share,
            np.zeros(m),
            setting.slate,
            admissible=cut.admissible(start, stop),
            tie_seed=cut.draw,
            row_keys=cut.later.user[start:stop],
        )
        for number, slate in enumerate([*(of_all[start:stop] for of_all in slates), best]):
            intensity = expected[start:stop, None] * np.take_along_axis(share, np.maximum(slate, 0), 1) * seen
            worth[number, start:stop] = np.where(slate >= 0, -np.expm1(-intensity), 0.0).sum(1)
    return worth


def gather(
    cuts: Sequence[Cut],
    models: Sequence[str],
    truths: Mapping[str, Truth],
    setting: Setting,
    show: Callable[[str], None] = lambda _: None,
    make: Make = unfitted_model,
) -> Evidence:
    """Fit every model to the past of every cut, and find the worth of what it recommends.

    Args:
        cuts: At least one; all of the same log.
        models: Names or places.
        truths: Name → truth, fitted to the whole log.
        setting: How slates are made and answered.
        show: Called with a line about each model of a draw.
        make: As for :func:`scores_of`.
    """
    real: dict[str, list[list[Floats]]] = {}
    utility: dict[str, list[Floats]] = {name: [] for name in truths}
    for cut in cuts:
        slates = []
        for name in models:
            found = judged(scores_of(name, cut, setting.device, make), cut, setting.slate)
            slates.append(found.slates)
            for metric, values in found.metrics.items():
                real.setdefault(metric, [[] for _ in models])[len(slates) - 1].append(values)
            show(f"draw {cut.draw}: {name}: precision {found.precision.mean():.4f} for {len(cut):,} users")
        for kind, truth in truths.items():
            utility[kind].append(utilities(truth, cut, slates, setting))
    return Evidence(
        models=tuple(models),
        users=cuts[0].later.user,
        draws=tuple(cut.draw for cut in cuts),
        real={metric: np.array(values) for metric, values in real.items()},
        utility={kind: np.stack(values, 1) for kind, values in utility.items()},
    )
