"""Hidden quality: item worth beyond the log."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints
from rimsim.config import HiddenConfig
from rimsim.errors import ConfigError
from rimsim.measures import long_tail

_LEAST = 3
"""Items from which a correlation can be any number."""


def hidden_bias(config: HiddenConfig, events: Ints, met: Bools) -> Floats:
    """(M,) change of each item's log worth, or 0.

    Let z be the standardised log popularity of the chosen items, and s its spread. The part s·z of the log worth is
    replaced by sd·(ρ·z + √(1 − ρ²)·ε). ε is normal noise that is standardised and uncorrelated with z, so ρ and sd are
    exact. Then all log worths are shifted by a constant, so that the sum of events · exp(change) stays the same.

    Args:
        events: (M,) events of each item in the log that the truth is fitted to.
        met: (M,) items that the warm-up log has seen.

    Raises:
        ConfigError: If too few items are chosen.
    """
    bias = np.zeros(len(events))
    if config.rho == 1:
        return bias
    chosen = np.flatnonzero({"all": np.ones_like(met), "new": ~met, "tail": long_tail(events)}[config.of])
    if len(chosen) < _LEAST:
        raise ConfigError(
            f"consumer.hidden.of: {config.of!r} selects only {len(chosen)} items of this market. Expected "
            f"at least {_LEAST}. Set it to 'all', or choose a scenario that releases items"
        )
    count = events[chosen] + 1.0
    popularity = np.log(count) - np.log(count).mean()
    spread = popularity.std()
    z = popularity / spread if spread else popularity
    seed = 0 if config.seed == "seed" else config.seed
    noise = ndtri(rng.uniform(seed, rng.Purpose.CHOICE, 12, chosen))
    noise -= noise.mean()
    noise -= z * (noise * z).mean()
    sd = spread if config.sd is None else config.sd
    change = sd * (config.rho * z + np.sqrt(1 - config.rho**2) * noise / noise.std()) - popularity
    bias[chosen] = change - np.log((count * np.exp(change)).sum() / count.sum())
    return bias
