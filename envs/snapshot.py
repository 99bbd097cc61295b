"""An episode at a moment, from which the environment can go on more than once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rimsim.config import Seeds
    from rimsim.market import Slates
    from rimsim.market.state import MarketState


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What an episode is made of: since draws depend on seeds and arrivals alone, slates bring it back to the bit."""

    seeds: Seeds
    """Of the market."""
    begun: MarketState
    """The market when the open round began."""
    answers: tuple[Slates, ...]
    """What the round's arrivals were answered so far."""
    np_random: np.random.Generator
    """What a reset without a seed draws from."""
