"""Choice of one item at most."""

from __future__ import annotations

import numpy as np

from rimsim.arrays import Bools, Floats, Ints
from rimsim.market.consumers.contract import SlateVisits, uniform_draws


def one_of(visits: SlateVisits, slates: Ints, worth: Floats, outside: Floats | float) -> tuple[Floats, Bools]:
    """Probabilities and choices of one item at most.

    The item at position r is taken with probability u_r / (u₀ + Σ u), and nothing with probability u₀ / (u₀ + Σ u). The
    option with the largest log u + Gumbel noise is taken (McFadden, 1974). Each pair of arrival and option has its own
    Gumbel variable, for any slate.

    Args:
        worth: (n, k) utilities u_r, 0 at empty positions.
        outside: u₀, one number or (n, 1).
    """
    total = np.broadcast_to(outside + worth.sum(1, keepdims=True), worth.shape)
    probability = np.divide(worth, total, out=np.zeros_like(worth), where=worth > 0)
    outside_option = np.full((len(slates), 1), visits.world.log.n_items)  # a number that no item has
    with np.errstate(divide="ignore"):
        utility = np.log(worth) + _gumbel(visits.uniform(slates))
        outside_draw = uniform_draws(visits.keys[visits.row], outside_option)
        outside_utility = np.log(outside) + _gumbel(outside_draw)
    best = utility.argmax(1)
    consumed = np.zeros(slates.shape, bool)
    rows = np.arange(len(slates))
    consumed[rows, best] = utility[rows, best] > outside_utility[:, 0]
    return probability, consumed & (probability > 0)


def _gumbel(draw: Floats) -> Floats:
    """Gumbel variables from uniform random numbers."""
    return np.asarray(-np.log(-np.log(draw)), np.float64)
