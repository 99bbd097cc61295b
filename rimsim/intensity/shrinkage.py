"""How much of a personal score to believe: chosen on held-out later sessions of the log at hand."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from rimsim.intensity.held_out import HeldOut

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["HeldOut", "Shrinkage", "best_of", "chosen", "precision", "rescaling", "weighted"]

_ROWS = 256
_FLAT = 1e-4
"""Spread in nats below which a part tells items apart by rounding errors, so that its weight is 0."""
_WORTHLESS = 1e-7
"""Nats a label below which a weight has not helped: no more than sums in single precision are off by."""
_SAME_SPREAD = 1.25
"""How much wider scores may be under the fit to the whole log than under that to its past, and count as alike: fits to
two samples of one law differ by less than this."""


@dataclass(frozen=True)
class Shrinkage:
    """Logits τ·s(x,y) + κ·log popularity_y + κ'·log returning_y, and how hard s was shrunk when it was fitted."""

    strength: float
    """The ridge or weight decay that s is fitted with."""
    personal: float = 1.0
    """τ."""
    popularity: float = 1.0
    """κ."""
    returning: float = 0.0
    """κ'."""
    users: int = 0
    """Held-out users that this was chosen on; 0: too few, and τ = κ = 1, κ' = 0 is taken on trust."""
    log_likelihood: float = 0.0
    """Mean log-likelihood of what those users took, over what they had not consumed, nats an item."""
    impersonal_log_likelihood: float = 0.0
    """The same of the best logits with τ = 0."""
    precision: float = 0.0
    """Share of the ten best unconsumed items that those users took."""
    end_of_grid: bool = False
    """Whether an end of several strengths was chosen, so that a better one may lie beyond."""
    spread: float = 0.0
    """Standard deviation of s over the held-out states and all items under the fit to the past, nats."""
    rescaling: float = 1.0
    """What the chosen τ was multiplied by (:func:`rescaling`); ``personal`` is the product."""

    def line(self) -> str:
        """For a person."""
        if not self.users:
            return f"too few later sessions to choose on: strength {self.strength:g}, personal weight 1"
        where = ", an end of the grid" if self.end_of_grid else ""
        weights = (
            f"{self.personal:.2f} personal, {self.popularity:.2f} popularity, {self.returning:.2f} returning"
        )
        nats = f"{self.log_likelihood:.3f} nats an item, {self.impersonal_log_likelihood:.3f} without the personal part"
        found = f"{self.users} later sessions: precision {self.precision:.3f}, {nats}"
        return f"strength {self.strength:g}{where}; weights {weights}; {found}"


def _total(part: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
    """Σ part·weight, added up in rows and then in float64."""
    return float((part * weight).sum(1).sum(dtype=np.float64))


def weighted(held: HeldOut, parts: tuple[NDArray[np.float32], ...]) -> tuple[NDArray[np.float64], float]:
    """The weights w ≥ 0 that make softmax(Σ_i w_i·part_i) over unconsumed items most likely.

    The problem is concave. Each label counts alike. A part that tells no items apart, or without which the labels are
    as likely, has weight 0.

    Args:
        held: The held-out states.
        parts: Logits, each (n, M) or (M,).

    Returns:
        (len(parts),) weights, and the mean log-likelihood of a label, nats.
    """
    labels = float(held.taken.sum())
    spans = [slice(a, a + _ROWS) for a in range(0, len(held), _ROWS)]
    # In units of its own spread every part is found in as few iterations, whatever its scale.
    spread = np.array([float(part.std()) for part in parts])
    told = spread >= _FLAT
    spread[~told] = 1.0
    units = [part / np.float32(unit) for part, unit in zip(parts, spread, strict=True)]
    wide = [np.broadcast_to(part, held.taken.shape) for part in units]
    observed = np.array([_total(part, held.taken) for part in wide])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = -float(weights @ observed), -observed
        for span in spans:
            logits = np.zeros_like(held.taken[span])
            for weight, part in zip(weights.tolist(), wide, strict=True):
                logits += np.float32(weight) * part[span]
            logits[held.consumed[span]] = -np.inf
            top = logits.max(1, keepdims=True)
            share = np.exp(logits - top)
            norm = share.sum(1, dtype=np.float64)
            count = held.taken[span].sum(1)
            value += float(count @ (top[:, 0] + np.log(norm)))
            share *= (count / norm).astype(np.float32)[:, None]
            slope = slope + np.array([_total(part[span], share) for part in wide])
        return value / labels, slope / labels

    start, bounds = np.where(told, 0.5, 0.0), [(0.0, None if one else 0.0) for one in told]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights, value = np.asarray(found.x, np.float64), float(found.fun)
    for place in np.flatnonzero(weights):
        without = weights.copy()
        without[place] = 0.0
        less = loss(without)[0]
        if less <= value + _WORTHLESS:
            weights, value = without, less
    return weights / spread, -value


def rescaling(past: float, whole: float) -> float:
    """What a weight is to be multiplied by that was chosen for scores of one fit and is given to those of another.

    Where most users are held out, the past is much shorter than the log, and a fit to the log finds larger scores at
    the same states; with the weight as it is, they would be believed more than anything has shown.

    Args:
        past: Standard deviation of the scores at the held-out states under the fit to the past.
        whole: The same under the fit to the whole log.

    Returns:
        The ratio of the two where the second one is larger by more than a quarter; else 1.
    """
    return past / whole if whole > _SAME_SPREAD * past else 1.0


def best_of(hits: Sequence[NDArray[np.float64]], likelihood: Sequence[float]) -> int:
    """Which of several is to be taken: the likeliest of those whose slates are not told to be worse than the best ones.

    The likelihood rewards what is true of the long tail, and slates show ten items; where the two disagree beyond two
    standard errors of the paired difference, slates decide.

    Args:
        hits: For each, (n,) precision of the same n users.
        likelihood: For each, the log-likelihood of what they took.
    """
    first = hits[int(np.argmax([one.mean() for one in hits]))]
    gaps = [first - one for one in hits]
    close = [gap.mean() <= 2.0 * gap.std() / np.sqrt(len(gap)) for gap in gaps]
    return int(np.argmax(np.where(close, likelihood, -np.inf)))


def precision(held: HeldOut, logits: NDArray[np.float32], k: int = 10) -> NDArray[np.float64]:
    """(n,) share of the k best unconsumed items (fewer in a smaller catalogue) that the user took."""
    open_logits = np.where(held.consumed, -np.inf, logits)
    k = min(k, logits.shape[1])
    best = np.argpartition(-open_logits, k - 1, axis=1)[:, :k]
    hits: NDArray[np.float64] = np.take_along_axis(held.taken, best, axis=1).mean(1, dtype=np.float64)
    return hits


def chosen(
    held: HeldOut,
    scored: Iterable[tuple[float, NDArray[np.float32]]],
    log_popularity: NDArray[np.float64],
    log_returning: NDArray[np.float64],
) -> Shrinkage:
    """The strength and the weights with which what held-out users took is best foretold (:func:`best_of`).

    The weights are chosen anew for every strength, by likelihood. Popularity is among what they can make (τ = 0), so a
    model shrunk like this is no worse than popularity but for chance.

    Args:
        held: The held-out states.
        scored: Strengths in order, each with the scores s (n, M) that a fit of the held-out past with it gives.
        log_popularity: (M,) log popularity in the held-out past.
        log_returning: (M,) the same in later sessions.
    """
    base = (log_popularity.astype(np.float32), log_returning.astype(np.float32))
    _, without = weighted(held, base)
    found: list[Shrinkage] = []
    hits: list[NDArray[np.float64]] = []
    for strength, scores in scored:
        weights, value = weighted(held, (scores, *base))
        personal, popularity, returning = weights.tolist()
        logits = personal * scores + (popularity * base[0] + returning * base[1])
        hits.append(precision(held, logits))
        one = Shrinkage(strength, personal, popularity, returning, len(held), spread=float(scores.std()))
        found.append(
            dataclasses.replace(
                one, log_likelihood=value, impersonal_log_likelihood=without, precision=float(hits[-1].mean())
            )
        )
    best = best_of(hits, [one.log_likelihood for one in found])
    at_end = len(found) > 1 and best in {0, len(found) - 1}
    return dataclasses.replace(found[best], end_of_grid=at_end)
