"""What a comparison spends its CPU time on, by the outermost function that has a name here."""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["Costs"]

_NAMES = {
    "fit_truth": "fit of the truth",
    "agreement_of": "short validation",
    "warm_model": "fit of the model",
    "_retrained": "retraining",
    "cross_fitted": "retraining",
    "models": "cross-fitted models",
    "certified": "certificates",
    "begin_round": "prices",
    "_median_kth_score": "cost c",
    "_open_round": "opening rounds",
    "_close_round": "closing rounds",
    "next_arrivals": "states and scores",
    "hand_out": "clock",
    "scores": "states and scores",
    "act": "slates",
    "show": "responses",
    "serve": "responses",
    "load_log": "reading the log",
    "measured": "measures",
    "draw_pictures": "pictures",
}
"""Functions; the innermost of these on a stack decides."""


class Costs:
    """Looks at the stack every 10 ms of CPU time; a context manager."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()
        self._last = 0.0

    def __enter__(self) -> Self:
        self._last = time.process_time()
        self._before = signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, 0.01, 0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, self._before)

    def _look(self, _: int, frame: FrameType | None) -> None:
        now = time.process_time()
        while frame is not None and frame.f_code.co_name not in _NAMES:
            frame = frame.f_back
        self._seconds["all else" if frame is None else _NAMES[frame.f_code.co_name]] += now - self._last
        self._last = now

    def largest(self, n: int) -> list[tuple[str, float]]:
        """The n largest costs, CPU seconds each."""
        return self._seconds.most_common(n)
