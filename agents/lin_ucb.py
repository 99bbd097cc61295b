"""``lin-ucb``: learns corrections by genre, and shows uncertain items more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.contract import OPTIONS
from rimsim.arrays import Floats, Ints
from rimsim.matching import top_k
from rimsim.measures import genre_weights

if TYPE_CHECKING:
    from rimsim.intensity import UserStates
    from rimsim.market import Arrivals, Feedback, RoundView

# Feature 0 is the platform's own probability of consumption. A pair of features per genre follows.
_OWN = 1  # number of features before those of genres


@dataclass(config=OPTIONS, eq=False)
class LinUCB:
    """Shows the items with the highest upper bounds of consumption.

    The model is linear. Its features for a visitor and an item are multiples of the chance of consumption that the
    platform predicts, 1 − exp(−λ(x,y)). The first is the chance itself. Every genre of the item adds two features: the
    chance, and the chance times the genre's share in the visitor's consumptions. So genres correct the platform's
    prediction, but do not raise an item with a predicted chance of 0. A ridge regression learns from every slate. The
    weight of the first feature begins at 1, all other weights at 0. An exposure has the weight of its position in the
    unit of guarantees, by default γ^(r−1). The agent keeps its weights from round to round.

    This is algorithm 2 of Li, Chu, Langford and Schapire (WWW 2010), but all items share the weights, because a
    catalogue has too many items for separate weights.

    Args:
        width: α, the width of the bonus in standard errors.
        ridge: Weight of the prior, in observations of a unit feature.
        every: Number of arrivals after which the weights are updated.
    """

    name = "lin-ucb"
    order_free = False
    needs_items = True
    needs_history = True

    width: float = Field(default=0.1, ge=0)
    ridge: float = Field(default=100.0, gt=0)
    every: int = Field(default=100, ge=1)

    def __post_init__(self) -> None:
        self.barrier_every: int | None = self.every
        self._genres = np.zeros((0, 0))
        self._precision = np.zeros((0, 0))
        self._evidence = np.zeros(0)
        self._learnt = 0

    def begin_round(self, view: RoundView) -> None:
        """Read genres and position weights; keep the regression weights."""
        assert view.items is not None  # noqa: S101  # the agent declares needs_items
        self._k = view.k
        self._examination = view.position_weights
        self._genres, _ = genre_weights([str(text) for text in view.items["genres"]])
        size = _OWN + 2 * self._genres.shape[1]
        if not len(self._evidence):
            # These are the matrix A and the vector b of the paper: sums of x·xᵀ and of x·(1 if consumed) over shown
            # items with features x. The ridge adds prior weights: 1 for the first feature, 0 for all others.
            self._precision = self.ridge * np.eye(size)
            self._evidence = self.ridge * np.eye(size)[0]
        self._solved = False

    def act(self, arrivals: Arrivals) -> Ints:
        """Slates of the items with the highest bounds."""
        if not self._solved:
            self._solve()
        tastes = self._tastes(arrivals)
        chance = _chance(arrivals)
        bound = np.stack(
            [
                self._bounds(visitor_chance, taste)
                for visitor_chance, taste in zip(chance, tastes, strict=True)
            ]
        )
        return top_k(torch.from_numpy(bound), arrivals.admissible.cpu(), self._k)

    def learn(self, feedback: Feedback) -> None:
        """Add the shown items of one arrival to the regression."""
        # Markets call this once per arrival, in clock order, so the feedback has one row.
        shown = feedback.slates[0] >= 0
        items = feedback.slates[0][shown]
        chance = _chance(feedback.arrivals)[0, items]
        taste = self._tastes(feedback.arrivals)[0]
        examination = self._examination[shown]
        # Examination multiplies the chance of consumption at a position, and therefore the features.
        features = examination[:, None] * self._simple(chance, items) @ self._spread(taste).T
        self._precision = self._precision + features.T @ features
        self._evidence = self._evidence + features.T @ feedback.consumed[0][shown]
        self._learnt += 1
        self._solved = False

    @property
    def state(self) -> Mapping[str, Floats]:
        """Regression sums A and b, and number of slates."""
        return {
            "precision": self._precision,
            "evidence": self._evidence,
            "learnt": np.array(self._learnt, np.float64),
        }

    def load_state(self, state: Mapping[str, Floats]) -> None:
        """Copy the regression sums of another agent."""
        self._precision = state["precision"]
        self._evidence = state["evidence"]
        self._learnt = int(state["learnt"])

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """Diagnostics: weights of chance and genres, and number of slates."""
        if not self._solved:
            self._solve()
        return {
            "weight_of_chance": float(self._weights[0]),
            "weight_of_genres": float(np.linalg.norm(self._weights[_OWN:])),
            "slates_learnt": float(self._learnt),
        }

    def _solve(self) -> None:
        """Solve the ridge regression for its weights θ = A⁻¹·b."""
        self._inverse = np.linalg.inv(self._precision)
        self._weights = self._inverse @ self._evidence
        self._solved = True

    def _tastes(self, arrivals: Arrivals) -> Floats:
        """Genre shares of each visitor's consumptions; 0 without consumptions."""
        history: UserStates | None = arrivals.history
        assert history is not None  # noqa: S101  # the agent declares needs_history
        sums = np.zeros((len(arrivals), self._genres.shape[1]))
        np.add.at(sums, history.owner, self._genres[history.items])
        return sums / np.maximum(history.lengths, 1)[:, None]

    def _simple(self, chance: Floats, items: Ints | slice) -> Floats:
        """Features without visitors' tastes: chance, and chance × genres."""
        return chance[:, None] * np.column_stack([np.ones(len(chance)), self._genres[items]])

    def _spread(self, taste: Floats) -> Floats:
        """Matrix that appends genre features multiplied by tastes."""
        n_genres = len(taste)
        spread = np.zeros((_OWN + 2 * n_genres, _OWN + n_genres))
        spread[: _OWN + n_genres] = np.eye(_OWN + n_genres)
        spread[_OWN + n_genres :, _OWN:] = np.diag(taste)
        return spread

    def _bounds(self, chance: Floats, taste: Floats) -> Floats:
        """Items' upper bounds θᵀφ + α·√(φᵀA⁻¹φ) for one visitor."""
        # Each visitor is computed alone, because a product over a batch could differ in its last bits.
        spread = self._spread(taste)
        simple = self._simple(chance, slice(None))
        # φ = spread·simple, so A⁻¹ and θ are projected to the smaller space of ``simple`` once for all items.
        variance = ((simple @ (spread.T @ self._inverse @ spread)) * simple).sum(1)
        mean = simple @ (spread.T @ self._weights)
        return np.asarray(mean + self.width * np.sqrt(np.maximum(variance, 0.0)), np.float64)


def _chance(arrivals: Arrivals) -> Floats:
    """Chance 1 − exp(−λ(x,y)) of consumption for each arrival and item."""
    return -np.expm1(-arrivals.intensity.cpu().numpy().astype(np.float64))
