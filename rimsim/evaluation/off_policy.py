"""What slates of another policy would have been worth, estimated from a log of slates and their chances.

Of n slates in a log, a target policy's value V is the reward that a slate of its own would bring on average, in the
states of the log. All estimators are means of a number for each arrival, so an interval follows from how those numbers
scatter. With w = π_e/π_b, r the reward of a position, and q̂ a model of it:

    ips              Σ_r w_inclusion·r              right if it makes no difference where in a slate an item stands
    item-position    Σ_r w_position·r               right if a position's reward hangs on its own item alone
    cascade          Σ_r w_prefix·r                 right if it hangs on its item and those above
    slate            w_slate·Σ_r r                  right whatever it hangs on
    pseudo-inverse   qᵀΓ†1_S·Σ_r r                  right if a slate's reward is a sum over items at positions
    product          (Σ_r w_position − k + 1)·Σ_r r the same, if the positions of the logging policy were independent
    doubly-robust    Σ_r (q̂(target) + w_position·(r − q̂))   as item-position, with less variance where q̂ is good
    direct           Σ_r q̂(target)                  right if q̂ is

``snips``, ``sn-item-position`` and ``sn-slate`` divide by the mean weight instead of by n. Sources: Li, Chen, Kleban
and Gupta, WWW 2015 (slates); Swaminathan et al., NeurIPS 2017 (pseudo-inverse); McInerney et al., KDD 2020 (cascade,
RIPS); Li, Abbasi-Yadkori et al., KDD 2018 (item-position); Dudík, Langford and Li, ICML 2011 (doubly robust).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from rimsim.arrays import Array, Bools, Floats, Ints
from rimsim.evaluation.examination import NORMAL_95

if TYPE_CHECKING:
    from rimsim.evaluation.chances import Chances


@dataclass(frozen=True, eq=False)
class LoggedSlates:
    """n slates of a log, with what two policies say of them."""

    reward: Floats
    """(n, k) what came of each position; 0 where it is empty."""
    shown: Bools
    """(n, k) whether anything stands there."""
    logging: Chances
    """Chances of these slates under the policy that showed them."""
    target: Chances
    """Chances of the same slates under the policy to be valued."""
    predicted: Floats
    """(n, k) q̂ of what was shown; 0 where nothing was."""
    predicted_target: Floats
    """(n,) Σ q̂ of a slate that the target drew in the same state."""
    visitor: Ints
    """(n,) whose slates they are: what comes of slates of one visitor is not independent."""
    admissible: Ints
    """(n,) how many items might have been shown."""
    uniform: bool = False
    """Whether the logging policy drew all items in any order alike, which the exact pseudo-inverse needs."""

    def __len__(self) -> int:
        return len(self.reward)

    def rows(self, which: Array) -> LoggedSlates:
        """Some of the slates."""
        parts: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            parts[field.name] = (
                value
                if isinstance(value, bool)
                else value[which]
                if isinstance(value, np.ndarray)
                else value.rows(which)
            )
        return LoggedSlates(**parts)


@dataclass(frozen=True)
class Estimate:
    """A target's value as an estimator has it."""

    value: float
    """Reward of a slate."""
    low: float
    """Where the 95 % interval begins."""
    high: float
    """Where it ends."""
    effective: float
    """Effective sample size, in slates: (Σw)² / Σw², n where all weights are alike."""


@dataclass(frozen=True, eq=False)
class _Numbers:
    """A number for each slate, whose mean is the estimate, and the weights behind it."""

    each: Floats
    """(n,)."""
    weight: Floats
    """(n, k) or (n, 1); NaN where a position is empty."""


def estimated(name: str, log: LoggedSlates) -> Estimate | None:
    """A target's value as one of :data:`ESTIMATORS` has it; None where there is no slate, or it does not apply.

    The interval takes the visitors for independent, not their slates.
    """
    numbers = ESTIMATORS[name](log) if len(log) else None
    if numbers is None:
        return None
    n, value = len(log), float(numbers.each.mean())
    _, visitor = np.unique(log.visitor, return_inverse=True)
    sums = np.bincount(visitor, numbers.each - value)
    c = len(sums)
    error = float(np.sqrt((sums**2).sum() * c / max(c - 1, 1))) / n
    w = numbers.weight[np.isfinite(numbers.weight)]
    squares = float((w**2).sum())
    share = len(w) / n
    effective = float(w.sum()) ** 2 / squares / share if squares > 0 and share > 0 else 0.0
    return Estimate(value, value - NORMAL_95 * error, value + NORMAL_95 * error, effective)


def _ratio(target: Floats, logging: Floats) -> Floats:
    """π_e/π_b; what was shown had a chance, so a chance of 0 is an underflow that counts as nothing."""
    return np.divide(target, logging, out=np.zeros_like(target), where=logging > 0)


def _weights(log: LoggedSlates, part: str) -> Floats:
    """(n, k) weights of the exposures, NaN where a position is empty."""
    ratio = _ratio(getattr(log.target, part), getattr(log.logging, part))
    return np.where(log.shown, ratio, np.nan)


def _by_position(log: LoggedSlates, part: str) -> _Numbers:
    weight = _weights(log, part)
    return _Numbers(np.nansum(weight * log.reward, axis=1), weight)


def _by_slate(log: LoggedSlates) -> _Numbers:
    weight = _ratio(log.target.slate, log.logging.slate)
    return _Numbers(weight * log.reward.sum(1), weight[:, None])


def _self_normalised(log: LoggedSlates, part: str, *, together: bool) -> _Numbers:
    """Sums of weighted rewards over sums of weights, of each position or of all together, to first order.

    A slate's number is what it adds to the ratio: the estimate, and its share of the error.
    """
    weight = np.nan_to_num(_weights(log, part))
    groups = [np.ones(log.shown.shape, bool)] if together else _positions(log.shown.shape)
    each = np.zeros(len(log))
    for among in groups:
        some = np.where(among, weight, 0.0)
        total, filled = some.sum(), (log.shown & among).sum() / len(log)
        if total > 0:
            ratio = (some * log.reward).sum() / total
            each += filled * (ratio + (some * (log.reward - ratio)).sum(1) * len(log) / total)
    return _Numbers(each, _weights(log, part))


def _positions(shape: tuple[int, ...]) -> list[Bools]:
    return [np.broadcast_to(np.arange(shape[1]) == place, shape) for place in range(shape[1])]


def _self_normalised_slate(log: LoggedSlates) -> _Numbers:
    weight, reward = _ratio(log.target.slate, log.logging.slate), log.reward.sum(1)
    mean = weight.mean()
    if not mean > 0:
        return _Numbers(np.zeros(len(log)), weight[:, None])
    ratio = (weight * reward).mean() / mean
    return _Numbers(ratio + weight * (reward - ratio) / mean, weight[:, None])


def _pseudo_inverse(log: LoggedSlates) -> _Numbers | None:
    """The estimator with Γ† of a uniform draw without replacement, in closed form.

    Γ = E[1_S 1_Sᵀ] over (position, item) is (1/m)·I⊗I + (J − I)⊗(J − I)/(m(m − 1)), whose eigenspaces are products of
    the constants and their complements: the weight is 1 + m(m − 1)/(m − k)·(c̄ − k/m) + (m − 1)·(Σ_r q_r − c̄), with q_r
    the target's chance of the item at position r, and c̄ the mean over the slate of its chance of each item anywhere.
    """
    if not log.uniform:
        return None
    k, m = log.shown.sum(1), log.admissible
    mean = np.where(log.shown, log.target.inclusion, 0.0).sum(1) / np.maximum(k, 1)
    here = np.where(log.shown, log.target.position, 0.0).sum(1)
    anywhere = np.where(m > k, m * (m - 1) / np.maximum(m - k, 1), 0.0) * (mean - k / np.maximum(m, 1))
    weight = np.where(k > 0, 1.0 + anywhere + (m - 1) * (here - mean), 1.0)
    return _Numbers(weight * log.reward.sum(1), weight[:, None])


def _product(log: LoggedSlates) -> _Numbers:
    weight = np.nansum(_weights(log, "position") - 1.0, axis=1) + 1.0
    return _Numbers(weight * log.reward.sum(1), weight[:, None])


def _doubly_robust(log: LoggedSlates) -> _Numbers:
    weight = _weights(log, "position")
    return _Numbers(log.predicted_target + np.nansum(weight * (log.reward - log.predicted), axis=1), weight)


def _direct(log: LoggedSlates) -> _Numbers:
    return _Numbers(log.predicted_target, np.ones((len(log), 1)))


ESTIMATORS: dict[str, Callable[[LoggedSlates], _Numbers | None]] = {
    "ips": lambda log: _by_position(log, "inclusion"),
    "snips": lambda log: _self_normalised(log, "inclusion", together=True),
    "item-position": lambda log: _by_position(log, "position"),
    "sn-item-position": lambda log: _self_normalised(log, "position", together=False),
    "cascade": lambda log: _by_position(log, "prefix"),
    "slate": _by_slate,
    "sn-slate": _self_normalised_slate,
    "pseudo-inverse": _pseudo_inverse,
    "product": _product,
    "doubly-robust": _doubly_robust,
    "direct": _direct,
}
"""Name → numbers whose mean is the estimate; None where it does not apply."""
