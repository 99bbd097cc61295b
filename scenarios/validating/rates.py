"""Is λ a count? λ(x) of a model and λ*(x) of a truth against the sizes of sessions that they were not fitted to."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from rimsim import rng
from rimsim.arrays import Floats, Ints
from rimsim.intensity.cache import fitted
from rimsim.intensity.calibration import count_calibration
from rimsim.intensity.registry import make
from rimsim.intensity.states import session_examples

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.data import EventLog
    from rimsim.intensity import RIM
    from rimsim.market.consumers.contract import Truth


_LEAST = 1e-5


def rate_of_ground(ground: str, log: EventLog, gap: str | float, device: str) -> dict[str, float]:
    """λ(x) of every session of a log, by a ground intensity that is fitted to the half of the users without it.

    So sessions are judged as they come, first ones and later ones; a draw of later sessions after a share of a user's
    events would leave out sessions that are large against what was before them.

    Args:
        ground: Its name, such as ``hp``.
        log: The log.
        gap: A silence longer than this ends a session.
        device: Where it is computed.

    Returns:
        Metric → value: ``rate_ratio`` (Σλ / Σ events), the same of first and of later sessions,
        ``rate_rank_correlation`` (NaN where it does not exist), and by tenth, from the lowest λ, ``rate_predicted_1``
        and ``rate_realised_1``.
    """
    draw = rng.uniform(0, rng.Purpose.MEASURE, 14, np.arange(log.n_users))
    half = draw < 0.5
    if half.all() or not half.any():  # few users may all be drawn into one half
        half = draw < np.median(draw)
    examples = session_examples(log, gap)
    rate = np.empty(len(examples.counts))
    for side in (half, ~half):
        hybrid = cast("RIM", make(ground, device=device, gap=gap if isinstance(gap, str) else f"{gap}s"))
        model = fitted(hybrid.ground, log.rows(side[log.user]))
        judged = np.flatnonzero(~side[examples.user])
        states = examples.states.take(judged)
        rate[judged] = model.intensity_hidden(model.encode(states), states.now).double().cpu().numpy()
    rate = np.maximum(rate, _LEAST).round(
        5
    )  # λ is float32: what differs by rounding alone must not be ranked
    first, count = examples.states.lengths == 0, examples.counts
    found = count_calibration(rate, count)
    varied = np.ptp(rate) > 0 and np.ptp(count) > 0
    figures = {
        "rate_ratio": _ratio(rate, count),
        "rate_ratio_first": _ratio(rate[first], count[first]),
        "rate_ratio_later": _ratio(rate[~first], count[~first]),
        "rate_rank_correlation": found.rank_correlation if varied else float("nan"),
    }
    return figures | _tenths([(tenth.predicted, tenth.realised) for tenth in found.deciles])


def _ratio(rate: Floats, count: Ints) -> float:
    """Σλ / Σ events; NaN where there are none."""
    return float(rate.sum() / count.sum()) if count.sum() else float("nan")


def rate_of_truth(truth: Truth) -> dict[str, float]:
    """λ*(x) of sessions of the truth's log, each fitted without it: what the truth's report has; as for a model."""
    found = truth.report.sizes
    tenths = np.array(found.left_out_deciles, np.float64).reshape(-1, 2)
    sizes = [
        len(tenth) for tenth in np.array_split(np.arange(found.left_out_sessions), len(tenths))
    ]  # as the report's
    predicted, realised = np.array(sizes, np.float64) @ tenths
    figures = {
        "rate_ratio": float(predicted / realised),
        "rate_ratio_first": found.left_out_ratio_first,
        "rate_ratio_later": found.left_out_ratio_later,
        "rate_rank_correlation": found.left_out_spearman,
    }
    return figures | _tenths(list(found.left_out_deciles))


def _tenths(tenths: list[tuple[float, float]]) -> dict[str, float]:
    figures = {}
    for number, (predicted, realised) in enumerate(tenths, 1):
        figures[f"rate_predicted_{number}"] = predicted
        figures[f"rate_realised_{number}"] = realised
    return figures


def rate_curves(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The rates of a validation by name: of the model's λ, and of each truth's λ*; truths with the same λ* together.

    Args:
        table: Columns model, truth, draw, metric, value.

    Returns:
        Name → metric of :func:`rate_of_ground` → value.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    rates = table[table["metric"].str.startswith("rate_")]
    for model, truth, metric, value in rates[["model", "truth", "metric", "value"]].to_numpy().tolist():
        found.setdefault((str(model), str(truth)), {})[str(metric)] = float(value)
    curves = {f"λ of {model}": figures for (model, truth), figures in found.items() if not truth}
    alike: dict[tuple[str, ...], list[str]] = {}
    for (_, truth), figures in found.items():
        if truth:
            alike.setdefault(tuple(map(repr, figures.values())), []).append(truth)  # NaN is like NaN
    for truths in alike.values():
        curves[f"λ* of {' and '.join(truths)}"] = found["", truths[0]]
    return curves
