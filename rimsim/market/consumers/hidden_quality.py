"""Hidden quality: worth of items that logs cannot show."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints
from rimsim.config import HiddenConfig
from rimsim.errors import ConfigError
from rimsim.measures import long_tail

_LEAST = 3
"""Fewest items for a correlation; with two items it is always 1 or −1."""


def hidden_bias(config: HiddenConfig, events: Ints, met: Bools) -> Floats:
    """Change of the logarithm of each item's worth.

    Only the worth of chosen items changes. Let s·z be the centred logarithm of the popularity of these items, with
    standard deviation s. In the log worth of a chosen item, s·z is replaced by sd·(ρ·z + √(1 − ρ²)·ε). The normal noise
    ε is standardised and uncorrelated with z, so the correlation is exactly ρ and the standard deviation is exactly sd.
    Then a constant is added to the change, so that the sum of events · exp(change) equals the sum of events.

    Args:
        events: Number of events of each item in the log to which the truth is fitted.
        met: True for items that occur in the warm-up log.

    Raises:
        ConfigError: If there are too few chosen items.
    """
    bias = np.zeros(len(events))
    if config.rho == 1:
        return bias
    is_chosen = {"all": np.ones_like(met), "new": ~met, "tail": long_tail(events)}[config.of]
    chosen = np.flatnonzero(is_chosen)
    if len(chosen) < _LEAST:
        raise ConfigError(
            f"consumer.hidden.of: {config.of!r} selects only {len(chosen)} items of this market. Expected "
            f"at least {_LEAST} items. Set consumer.hidden.of to 'all', or choose a scenario that releases items"
        )
    count = events[chosen] + 1.0
    popularity = np.log(count) - np.log(count).mean()
    spread = popularity.std()
    z = popularity / spread if spread else popularity
    # A market has replaced the text "seed" by its own seed before this call.
    seed = 0 if config.seed == "seed" else config.seed
    noise = ndtri(rng.uniform(seed, rng.Purpose.CHOICE, 12, chosen))
    noise -= noise.mean()
    noise -= z * (noise * z).mean()  # the part that correlates with z
    sd = spread if config.sd is None else config.sd
    change = sd * (config.rho * z + np.sqrt(1 - config.rho**2) * noise / noise.std()) - popularity
    bias[chosen] = change - np.log((count * np.exp(change)).sum() / count.sum())
    return bias
