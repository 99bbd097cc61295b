"""Is λ a count? λ*(x) of a truth and λ(x) of a model against the sizes of held-out sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from rimsim.intensity.cache import fitted
from rimsim.intensity.calibration import GroundCalibration, count_calibration
from rimsim.intensity.registry import make

if TYPE_CHECKING:
    from rimsim.intensity import RIM
    from rimsim.market.consumers.truths import Truth
    from rimsim.scenarios.validating.cuts import Cut

__all__ = ["calibration_figures", "rate_of_ground", "rate_of_truth"]

_LEAST = 1e-9


def rate_of_truth(truth: Truth, cut: Cut) -> GroundCalibration:
    """λ*(x) at the cuts against the events of the sessions that began there.

    Args:
        truth: Fitted to the past of the cut alone.
        cut: The cut.
    """
    return count_calibration(np.maximum(truth.expected(cut.later.user, cut.states), _LEAST), cut.later.count)


def rate_of_ground(ground: str, cut: Cut, device: str) -> GroundCalibration:
    """λ(x) of a ground intensity, fitted to the past, likewise.

    Args:
        ground: Its name, such as ``hp``.
        cut: The cut.
        device: Where it is computed.
    """
    model = fitted(cast("RIM", make(ground, device=device)).ground, cut.later.past)
    rate = model.intensity_hidden(model.encode(cut.states), cut.states.now).double().cpu().numpy()
    return count_calibration(np.maximum(rate, _LEAST), cut.later.count)


def calibration_figures(of_rate: GroundCalibration) -> dict[str, float]:
    """Metric → value: means, ratio and fit over all; ``rate_predicted_1``, ``rate_realised_1`` of the lowest tenth."""
    figures = {
        "rate_predicted": of_rate.predicted / of_rate.examples,
        "rate_realised": of_rate.realised / of_rate.examples,
        "rate_ratio": of_rate.predicted / max(of_rate.realised, 1),
        "rate_rank_correlation": of_rate.rank_correlation,
        "rate_deviance": of_rate.deviance,
        "rate_deviance_constant": of_rate.deviance_constant,
    }
    for number, tenth in enumerate(of_rate.deciles, 1):
        figures[f"rate_predicted_{number}"] = tenth.predicted
        figures[f"rate_realised_{number}"] = tenth.realised
    return figures
