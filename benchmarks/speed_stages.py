"""Where CPU time goes, by stage of the market: a sampling profiler that leaves the code as it is."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

__all__ = ["STAGES", "Sampler", "check_names"]

STAGES = (
    "SimPy",
    "state update",
    "scoring",
    "top-k",
    "response",
    "ledger",
    "observation",
    "market",
    "prices",
    "round's ends",
    "measures",
    "tracking",
    "other",
)
"""In the order of a market's day. ``market``: checks and hand-overs. ``round's ends``: opening and closing one."""

_WHOLE = {
    "begin_round": "prices",
    "_open_round": "round's ends",
    "_close_round": "round's ends",
}
"""Functions whose whole time is one stage, whatever they call; the outermost on the stack decides."""
_FUNCTIONS = {
    "_take_held": "SimPy",
    "_take_new": "SimPy",
    "_arrive": "SimPy",
    "catch_up": "state update",
    "_catch_up": "state update",
    "_cell": "state update",
    "enter_event": "state update",
    "visible_at": "state update",
    "_events_of": "state update",
    "exclude_consumed": "state update",
    "score_hidden": "scoring",
    "_normalised": "scoring",
    "score_states": "scoring",
    "_fill": "state update",
    "_ahead": "state update",
    "write_round": "ledger",
    "act": "top-k",
    "observation": "observation",
    "observe": "observation",
    "_summary": "observation",
    "measured": "measures",
    "certified": "measures",
    "facts_of": "measures",
}
"""Functions, whatever their file."""
_FILES = (
    ("/simpy/", "SimPy"),
    ("market/scores/", "market"),
    ("market/consumers/", "response"),
    ("market/ledger.py", "ledger"),
    ("market/serving.py", "ledger"),
    ("market/histories.py", "state update"),
    ("market/clock.py", "SimPy"),
    ("market/market.py", "market"),
    ("market/round.py", "market"),
    ("market/records.py", "market"),
    ("/intensity/", "scoring"),
    ("matching/ranking.py", "top-k"),
    ("/agents/", "top-k"),
    ("/measures/", "measures"),
    ("scenarios/study/play.py", "measures"),
    ("scenarios/study/recorder.py", "measures"),
    ("scenarios/study/facts.py", "measures"),
    ("scenarios/study/certificates.py", "measures"),
    ("scenarios/study/round_tables.py", "measures"),
    ("rimsim/tracking/", "tracking"),
    ("/envs/", "observation"),
    ("/gymnasium/", "observation"),
)
"""Parts of a path, first match."""
_HELPERS = ("intensity/contract.py", "rimsim/rng.py")
"""Files that work for whoever calls them."""


_ROOT = Path(__file__).resolve().parent.parent


def check_names(functions: Iterable[str], files: Iterable[str] = ()) -> None:
    """Refuse names that the code does not have: what they stood for would be counted as something else, unseen.

    Args:
        functions: Names of functions.
        files: Parts of paths.
    """
    modules = [
        file for room in ("rimsim", "agents", "envs", "scenarios") for file in (_ROOT / room).rglob("*.py")
    ]
    defined = {
        name for file in modules for name in re.findall(r"def (\w+)\(", file.read_text(encoding="utf-8"))
    }
    missing = [name for name in functions if name not in defined]
    missing += [part for part in files if not any(part in file.as_posix() for file in modules)]
    if missing:
        raise SystemExit(
            f"no function or file of rimsim is called {', '.join(missing)}. Expected those it has"
        )


def stage_of(frame: FrameType | None) -> str:
    """The stage that a stack is in: that of the innermost function or file that is known."""
    inner_stage = ""
    outer_stage = ""
    while frame is not None:
        code = frame.f_code
        outer_stage = _WHOLE.get(code.co_name, outer_stage) or outer_stage
        path = code.co_filename
        if not inner_stage and not path.endswith(_HELPERS):
            inner_stage = _FUNCTIONS.get(code.co_name) or next(
                (stage for part, stage in _FILES if part in path), ""
            )
        frame = frame.f_back
    return outer_stage or inner_stage or "other"


class Sampler:
    """Looks at the stack every few milliseconds of CPU time; a context manager.

    A signal waits until a call into compiled code returns, so each sample is weighed with the CPU time since the last.
    """

    def __init__(self, interval: float = 0.001, stage: Callable[[FrameType | None], str] = stage_of) -> None:
        self.seconds: Counter[str] = Counter()
        """CPU seconds by stage."""
        self._interval = interval
        self._stage = stage

    def __enter__(self) -> Self:
        self._last = time.process_time()
        self._before = signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, self._interval, self._interval)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, self._before)

    def _look(self, _: int, frame: FrameType | None) -> None:
        now = time.process_time()
        self.seconds[self._stage(frame)] += now - self._last
        self._last = now

    def shares(self) -> dict[str, float]:
        """Share of the CPU time by stage, for all of :data:`STAGES`."""
        total = sum(self.seconds.values()) or 1.0
        return {stage: self.seconds[stage] / total for stage in STAGES}

    def largest(self, n: int) -> list[tuple[str, float]]:
        """The n stages that took most, CPU seconds each."""
        return self.seconds.most_common(n)


_LIBRARIES = ("/simpy/", "/gymnasium/")
check_names((*_WHOLE, *_FUNCTIONS), [*(part for part, _ in _FILES if part not in _LIBRARIES), *_HELPERS])
