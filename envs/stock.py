"""What a slate changes in the observed exposure and shortfall, compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.matching._compiled import compiled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["count_shown"]


@compiled
def count_shown(
    shown: NDArray[np.int64],
    exposure: NDArray[np.int64],
    required: NDArray[np.int64],
    seen_exposure: NDArray[np.float32],
    seen_shortfall: NDArray[np.float32],
) -> int:
    """Bring the observed stock up to date after a slate.

    Args:
        shown: (k,) distinct items; −1 for an empty position.
        exposure: (M,) exposures of the round, this slate's included.
        required: (M,) required exposures of the round.
        seen_exposure: (M,) as observed; changed in place.
        seen_shortfall: (M,) as observed; changed in place.

    Returns:
        How many of the exposures reduced the shortfall.
    """
    useful = 0
    for item in shown:
        if item < 0:
            continue
        missing = required[item] - exposure[item]
        seen_exposure[item] = exposure[item]
        seen_shortfall[item] = max(missing, 0)
        if missing >= 0:
            useful += 1
    return useful
