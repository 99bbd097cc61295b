"""How much of a personal score to believe: chosen on held-out later sessions of the log at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Float32s, Floats
from rimsim.intensity.selection.weights import for_all, for_slates

if TYPE_CHECKING:
    from rimsim.intensity.selection.held_out import HeldOut


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
    slates: bool = False
    """Whether the weights are those that foretell slates best, and not those that make all that was taken likely."""
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
        weights += " for slates" if self.slates else ""
        nats = f"{self.log_likelihood:.3f} nats an item, {self.impersonal_log_likelihood:.3f} without the personal part"
        found = f"{self.users} later sessions: precision {self.precision:.3f}, {nats}"
        return f"strength {self.strength:g}{where}; weights {weights}; {found}"


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


def best_of(hits: Sequence[Floats], likelihood: Sequence[float]) -> int:
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


def chosen(
    held: HeldOut,
    scored: Iterable[tuple[float, Float32s]],
    log_popularity: Floats,
    log_returning: Floats,
) -> Shrinkage:
    """The strength and the weights with which what held-out users took is best foretold (:func:`best_of`).

    For every strength there are weights that make all that was taken most likely, and weights that foretell best which
    items of a slate are taken (:mod:`rimsim.intensity.selection.weights`); both are candidates. Popularity is among
    what either can make (τ = 0), so a model shrunk like this is no worse than popularity but for chance.

    Args:
        held: The held-out states.
        scored: Strengths in order, each with the scores s (n, M) that a fit of the held-out past with it gives.
        log_popularity: (M,) log popularity in the held-out past.
        log_returning: (M,) the same in later sessions.
    """
    base = (log_popularity.astype(np.float32), log_returning.astype(np.float32))
    ways = {False: for_all, True: for_slates}
    without = {}
    for slates, way in ways.items():
        popularity, returning = way(held, base).tolist()
        without[slates] = held.nats(held.log_likelihood(popularity * base[0] + returning * base[1]))
    found: list[Shrinkage] = []
    hits: list[Floats] = []
    for strength, scores in scored:
        for slates, way in ways.items():
            personal, popularity, returning = way(held, (scores, *base)).tolist()
            logits = personal * scores + (popularity * base[0] + returning * base[1])
            hits.append(held.precision(logits))
            found.append(
                Shrinkage(
                    strength,
                    personal,
                    popularity,
                    returning,
                    slates=slates,
                    users=len(held),
                    log_likelihood=held.nats(held.log_likelihood(logits)),
                    impersonal_log_likelihood=without[slates],
                    precision=float(hits[-1].mean()),
                    spread=float(scores.std()),
                )
            )
    best = found[best_of(hits, [one.log_likelihood for one in found])]
    ends = {found[0].strength, found[-1].strength}
    return dataclasses.replace(best, end_of_grid=len(ends) > 1 and best.strength in ends)
