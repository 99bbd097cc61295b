"""Platforms that learn less from their own rounds: models for ``platform.model=benchmarks/updates.py:NAME``.

``rimsim sweep closed-loop --agents relevance,rim-feedback --seeds 3 --no-certificate
--grid platform.model=bag-visits,benchmarks/updates.py:slow,benchmarks/updates.py:still``

The default platform trains its item vectors for some steps a round on what was consumed of its own slates; what was
shown in vain reaches only the layer of impressions above them. How much of what a guarantee costs in late rounds is
that? ``still`` leaves the vectors as they were fitted to the warm-up, ``slow`` takes a tenth of the step size; layer
and λ(x) are as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.intensity import RIM, Bag, BagConfig, Visits

if TYPE_CHECKING:
    from rimsim.intensity import IntensityModel

__all__ = ["slow", "still"]


def still(seed: int, device: str) -> IntensityModel:
    """The default platform, but for vectors that stay as they were fitted."""
    return RIM(mark=Bag(BagConfig(seed=seed, device=device, update_steps=0)), ground=Visits())


def slow(seed: int, device: str) -> IntensityModel:
    """The default platform with a tenth of the step size of updates."""
    usual = BagConfig().update_learning_rate
    mark = Bag(BagConfig(seed=seed, device=device, update_learning_rate=usual / 10))
    return RIM(mark=mark, ground=Visits())
