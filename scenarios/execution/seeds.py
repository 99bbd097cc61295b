"""Which seeds a run has."""

from __future__ import annotations

from collections.abc import Sequence

from rimsim.errors import ConfigError


def chosen_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """The seeds of a run.

    Args:
        seeds: How many, from 0, or which.

    Raises:
        ConfigError: If there is none, or one stands twice or is negative.
    """
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise ConfigError(
            f"seeds: {seeds!r}; allowed: a positive number of seeds, or distinct seeds from 0 up"
        )
    return numbers
