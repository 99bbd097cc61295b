"""What a comparison spends its CPU time on, by the innermost function that has a name here."""

from __future__ import annotations

from types import FrameType

from speed_stages import check_names

__all__ = ["cost_of"]

_COSTS = {
    "fit_truth": "fit of the truth",
    "_kept_fitness": "fitness of the truth",
    "warm_model": "fit of the model",
    "retrain": "retraining",
    "cross_fitted": "retraining",
    "models": "cross-fitted models",
    "certified": "certificates",
    "note_best": "certificates",
    "prepare_certificate": "certificates",
    "begin_round": "prices",
    "median_kth_score": "cost c",
    "_open_round": "opening rounds",
    "_close_round": "closing rounds",
    "next_arrivals": "states and scores",
    "_take_held": "clock",
    "_take_new": "clock",
    "scores": "states and scores",
    "act": "slates",
    "show": "responses",
    "serve": "responses",
    "load_log": "reading the log",
    "measured": "measures",
    "write_png": "pictures",
}
"""Function → what it is counted as; the innermost of these on a stack decides."""


def cost_of(frame: FrameType | None) -> str:
    """What a stack is counted as."""
    while frame is not None and frame.f_code.co_name not in _COSTS:
        frame = frame.f_back
    return "all else" if frame is None else _COSTS[frame.f_code.co_name]


check_names(_COSTS)
