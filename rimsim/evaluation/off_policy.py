"""Off-policy estimates of another policy's worth, from logged slates.

The value V of a target policy is the mean reward of its own slates in the n states of a log. An estimate is the mean of
one number per arrival. Its interval comes from the variance of these numbers. Let w = π_e/π_b be the ratio of chances
(target policy over logging policy), r the reward of a position, and q̂ a model of r:

    ips              Σ_r w_inclusion·r              right if an item's position makes no difference
    item-position    Σ_r w_position·r               right if a position's reward depends on its own item alone
    cascade          Σ_r w_prefix·r                 right if it depends on its item and the items above
    slate            w_slate·Σ_r r                  always right
    pseudo-inverse   qᵀΓ†1_S·Σ_r r                  right if a slate's reward is a sum over items at positions
    product          (Σ_r w_position − k + 1)·Σ_r r the same, if the positions of the logging policy were independent
    doubly-robust    Σ_r (q̂(target) + w_position·(r − q̂))   as item-position, with less variance where q̂ is good
    direct           Σ_r q̂(target)                  right if q̂ is

``snips``, ``sn-item-position`` and ``sn-slate`` divide by the mean weight instead of by n. Sources: Li, Chen, Kleban
and Gupta, WWW 2015 (slates); Swaminathan et al., NeurIPS 2017 (pseudo-inverse); McInerney et al., KDD 2020 (cascade,
RIPS); Li, Abbasi-Yadkori et al., KDD 2018 (item-position); Dudík, Langford and Li, ICML 2011 (doubly robust).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from rimsim.arrays import Array, Bools, Floats, Ints
from rimsim.errors import AgentError
from rimsim.evaluation.examination import NORMAL_95


@dataclass(frozen=True, eq=False)
class Chances:
    """Probabilities of n slates under one policy, at the decision.

    Probabilities at empty positions have no meaning. A slate has the chance 0 if the policy never shows it in this
    order or length.
    """

    inclusion: Floats
    """(n, k) probability that the item is anywhere in the slate."""
    position: Floats
    """(n, k) probability that the item is at its position."""
    prefix: Floats
    """(n, k) probability that the slate has exactly these items up to this position."""
    slate: Floats
    """(n,) probability of the whole slate."""

    def __len__(self) -> int:
        return len(self.slate)

    @property
    def columns(self) -> tuple[Floats, ...]:
        """Chances of inclusion, position, prefix and slate, without copies."""
        return self.inclusion, self.position, self.prefix, self.slate

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Self:
        """Chances of 0 for all slates."""
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape[0]))

    @classmethod
    def joined(cls, parts: Sequence[Chances]) -> Self:
        """Chances of batches of slates, one after the other."""
        return cls(
            inclusion=np.concatenate([part.inclusion for part in parts]),
            position=np.concatenate([part.position for part in parts]),
            prefix=np.concatenate([part.prefix for part in parts]),
            slate=np.concatenate([part.slate for part in parts]),
        )

    @classmethod
    def certain(cls, shown: Ints, slates: Ints) -> Self:
        """Chances, 0 or 1, under a policy that shows ``shown``."""
        is_filled = slates >= 0
        is_included = (slates[:, :, None] == shown[:, None, :]).any(2) & is_filled
        is_same = slates == shown
        is_same_prefix = np.logical_and.accumulate(is_same, axis=1)
        return cls(
            inclusion=is_included.astype(np.float64),
            position=(is_same & is_filled).astype(np.float64),
            prefix=is_same_prefix.astype(np.float64),
            slate=is_same.all(1).astype(np.float64),
        )

    @classmethod
    def mixed(cls, share: Floats | float, first: Chances, second: Chances) -> Self:
        """Chances under a mixture of two policies.

        The policy of ``first`` chooses the slate with probability ``share``, the policy of ``second`` otherwise.
        """

        def mixture(first_chance: Floats, second_chance: Floats) -> Floats:
            return np.asarray(share * first_chance + (1.0 - share) * second_chance, np.float64)

        return cls(
            inclusion=mixture(first.inclusion, second.inclusion),
            position=mixture(first.position, second.position),
            prefix=mixture(first.prefix, second.prefix),
            slate=mixture(first.slate, second.slate),
        )

    def rows(self, rows: Array | slice) -> Chances:
        """Chances of the slates at given indices."""
        return Chances(*(column[rows] for column in self.columns))

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse chances unless they are for slates of given shape."""
        for field in fields(self):
            column_shape = np.shape(getattr(self, field.name))
            expected_shape = shape[:1] if field.name == "slate" else shape
            if column_shape != expected_shape:
                raise AgentError(
                    f"chances.{field.name} has shape {column_shape}. It must be {expected_shape}"
                )


@dataclass(frozen=True, eq=False)
class LoggedSlates:
    """Slates of a log, with their chances under two policies."""

    reward: Floats
    """(n, k) reward of each position; 0 where the position is empty."""
    shown: Bools
    """(n, k) positions that are filled."""
    logging: Chances
    """Chances of the logged slates under the policy that showed them."""
    target: Chances
    """Chances of the same slates under the target, the policy whose value is estimated."""
    predicted: Floats
    """(n, k) q̂, the predicted reward of each shown item; 0 where a position is empty."""
    predicted_target: Floats
    """(n,) Σ q̂, the predicted reward of a slate that the target draws in the same state."""
    visitor: Ints
    """(n,) visitor of each slate; rewards of a visitor's slates are not independent."""
    admissible: Ints
    """(n,) number of admissible items."""
    uniform: bool = False
    """True if the logging policy drew all items with equal probability; the exact pseudo-inverse estimator needs
    this."""

    def __len__(self) -> int:
        return len(self.reward)

    def rows(self, rows: Array) -> LoggedSlates:
        """Log of the slates at given indices."""
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in parts.items():
            if not isinstance(value, bool):
                parts[name] = value[rows] if isinstance(value, np.ndarray) else value.rows(rows)
        return LoggedSlates(**parts)

    @classmethod
    def joined(cls, logs: Sequence[LoggedSlates]) -> Self:
        """Joint log, in which different logs have different visitors."""
        columns = ("reward", "shown", "predicted", "predicted_target", "admissible")
        return cls(
            **{name: np.concatenate([getattr(log, name) for log in logs]) for name in columns},
            logging=Chances.joined([log.logging for log in logs]),
            target=Chances.joined([log.target for log in logs]),
            visitor=apart([log.visitor for log in logs]),
            uniform=all(log.uniform for log in logs),
        )


@dataclass(frozen=True)
class Estimate:
    """Value of a target policy by an estimator."""

    value: float
    """Mean reward of a slate."""
    low: float
    """Lower end of the 95% interval."""
    high: float
    """Upper end of the 95% interval."""
    effective: float
    """Effective sample size (Σw)² / Σw², in slates; n if all weights are equal."""


@dataclass(frozen=True, eq=False)
class _Numbers:
    """Estimates from single slates, whose mean is the estimate; weights."""

    each: Floats  # (n,) estimate from each slate
    weight: Floats  # (n, k) or (n, 1); NaN where a position is empty


def estimated(name: str, log: LoggedSlates) -> Estimate | None:
    """Value of a target policy by one of :data:`ESTIMATORS`.

    None if there is no slate, or the estimator does not apply. The interval treats visitors as independent, but allows
    for dependence among the slates of a visitor.
    """
    numbers = ESTIMATORS[name](log) if len(log) else None
    if numbers is None:
        return None
    n = len(log)
    value = float(numbers.each.mean())
    error = float(np.sqrt(clustered_variance(numbers.each - value, log.visitor)[0])) / n
    half_width = NORMAL_95 * error
    weights = numbers.weight[np.isfinite(numbers.weight)]
    squares = float((weights**2).sum())
    # (Σw)² / Σw² counts weights. A slate may have several, one per filled position, so it is converted to slates.
    weights_per_slate = len(weights) / n
    effective = (
        float(weights.sum()) ** 2 / squares / weights_per_slate
        if squares > 0 and weights_per_slate > 0
        else 0.0
    )
    return Estimate(value=value, low=value - half_width, high=value + half_width, effective=effective)


def clustered_variance(deviation: Floats, unit: Ints) -> tuple[float, int]:
    """Variance of a sum over independent units; number of units.

    ``deviation`` has differences from a mean. Differences of the same unit may depend on each other.
    """
    _, unit_number = np.unique(unit, return_inverse=True)
    sum_of_unit = np.bincount(unit_number, deviation)
    n_units = len(sum_of_unit)
    return float((sum_of_unit**2).sum()) * n_units / max(n_units - 1, 1), n_units


def apart(visitors: Sequence[Ints]) -> Ints:
    """Visitors of several rounds, numbered separately."""
    offset = 0  # numbers that the visitors of earlier rounds have
    numbered = []
    for round_visitors in visitors:
        numbered.append(round_visitors + offset)
        offset += int(round_visitors.max(initial=-1)) + 1
    return np.concatenate(numbered)


def _ratio(target: Floats, logging: Floats) -> Floats:
    """Ratio π_e/π_b of the target's to the logging policy's chances."""
    # A logged slate had a positive probability. So a probability of 0 is an underflow, and the slate gets the weight 0.
    return np.divide(target, logging, out=np.zeros_like(target), where=logging > 0)


def _weights(log: LoggedSlates, part: str) -> Floats:
    """Ratio of the chances named ``part``; NaN at empty positions."""
    ratio = _ratio(getattr(log.target, part), getattr(log.logging, part))
    return np.where(log.shown, ratio, np.nan)


def _by_position(log: LoggedSlates, part: str) -> _Numbers:
    """Rewards of positions, weighted by the ratio of a chance."""
    weight = _weights(log, part)
    return _Numbers(np.nansum(weight * log.reward, axis=1), weight)


def _by_slate(log: LoggedSlates) -> _Numbers:
    """Rewards of slates, weighted by the ratio of their chances."""
    weight = _ratio(log.target.slate, log.logging.slate)
    return _Numbers(weight * log.reward.sum(1), weight[:, None])


def _self_normalised(log: LoggedSlates, part: str, *, together: bool) -> _Numbers:
    """Weighted rewards divided by sums of weights.

    With ``together``, all positions have one ratio; otherwise, each position has its own. Each slate has one number:
    its contribution to this ratio and to the first-order error of the ratio.
    """
    weight = np.nan_to_num(_weights(log, part))
    n_positions = log.shown.shape[1]
    positions = np.broadcast_to(np.arange(n_positions), log.shown.shape)
    masks = [positions >= 0] if together else [positions == position for position in range(n_positions)]
    each = np.zeros(len(log))
    for mask in masks:
        masked_weight = np.where(mask, weight, 0.0)
        total = masked_weight.sum()
        filled_per_slate = (log.shown & mask).sum() / len(log)
        if total > 0:
            ratio = (masked_weight * log.reward).sum() / total
            error = (masked_weight * (log.reward - ratio)).sum(1) * len(log) / total
            each += filled_per_slate * (ratio + error)
    return _Numbers(each, _weights(log, part))


def _self_normalised_slate(log: LoggedSlates) -> _Numbers:
    """Weighted rewards of slates divided by the mean weight."""
    weight = _ratio(log.target.slate, log.logging.slate)
    reward = log.reward.sum(1)
    mean = weight.mean()
    if not mean > 0:
        return _Numbers(np.zeros(len(log)), weight[:, None])
    ratio = (weight * reward).mean() / mean
    return _Numbers(ratio + weight * (reward - ratio) / mean, weight[:, None])


def _pseudo_inverse(log: LoggedSlates) -> _Numbers | None:
    """Pseudo-inverse estimator for uniformly random slates, in closed form.

    For m admissible items, Γ = E[1_S 1_Sᵀ] over (position, item) is (1/m)·I⊗I + (J − I)⊗(J − I)/(m(m − 1)), whose
    eigenspaces are products of the constants and their complements. So the weight is 1 + m(m − 1)/(m − k)·(c̄ − k/m) +
    (m − 1)·(Σ_r q_r − c̄). Here q_r is the target's chance of the item at position r, and c̄ is the mean, over items of
    the slate, of the target's chance to show the item anywhere.
    """
    if not log.uniform:
        return None
    k = log.shown.sum(1)
    m = log.admissible
    c_mean = np.where(log.shown, log.target.inclusion, 0.0).sum(1) / np.maximum(k, 1)
    q_sum = np.where(log.shown, log.target.position, 0.0).sum(1)
    # If a slate shows all admissible items, the factor of c̄ − k/m has no value, but c̄ is always k/m.
    inclusion_factor = np.where(m > k, m * (m - 1) / np.maximum(m - k, 1), 0.0)
    inclusion_part = inclusion_factor * (c_mean - k / np.maximum(m, 1))
    weight = np.where(k > 0, 1.0 + inclusion_part + (m - 1) * (q_sum - c_mean), 1.0)
    return _Numbers(weight * log.reward.sum(1), weight[:, None])


def _product(log: LoggedSlates) -> _Numbers:
    """Rewards of slates, weighted by Σ_r w_position − k + 1."""
    weight = np.nansum(_weights(log, "position") - 1.0, axis=1) + 1.0
    return _Numbers(weight * log.reward.sum(1), weight[:, None])


def _doubly_robust(log: LoggedSlates) -> _Numbers:
    """Predicted rewards, corrected by the weighted errors of predictions."""
    weight = _weights(log, "position")
    return _Numbers(log.predicted_target + np.nansum(weight * (log.reward - log.predicted), axis=1), weight)


def _direct(log: LoggedSlates) -> _Numbers:
    """Predicted rewards of the target's slates."""
    return _Numbers(log.predicted_target, np.ones((len(log), 1)))


# An estimator returns None where it does not apply.
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
