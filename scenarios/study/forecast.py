"""What a comparison or sweep is expected to take, from the size of its log and what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rimsim.market.world import plugs_of, shared_log
from rimsim.scenarios.execution.forecast import (
    Forecast,
    fit_seconds,
    linear,
    log_bytes,
    state_bytes,
    update_seconds,
)
from rimsim.scenarios.execution.rates import RATES
from rimsim.threads import cores

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.data import EventLog


def foreseen(
    configs: Sequence[ScenarioConfig], arms: int, seeds: int, *, certify: bool, workers: int | None
) -> Forecast:
    """Foresee a run from cold caches: agents of the closed loop's kind, that rank by prices or not.

    Args:
        configs: The scenario, or those of all points of a sweep.
        arms: Agents and controls at each seed.
        seeds: How many.
        certify: Certificates of every round are computed.
        workers: Arms at once; None: one a core.
    """
    alone = shared = each = 0.0
    unknown: list[str] = []
    states: list[int] = []
    for data in dict.fromkeys(config.data for config in configs):
        of_log = [config for config in configs if config.data == data]
        log = shared_log(of_log[0])
        if any(getattr(plugs_of(config)[1], "needs_truth", True) for config in of_log):
            alone += linear(RATES.truth, len(log)) + linear(RATES.agreement, len(log))
        fits, without = fit_seconds((config.platform.model for config in of_log), log)
        shared += seeds * RATES.crossed * fits
        unknown += without
        for config in of_log:
            served = _arrivals(config, log)
            spent = served * linear(RATES.served, log.n_items) + update_seconds(config.platform.model)
            if certify:
                spent += RATES.certified[0] * served
                cells = served * log.n_items
                spent += RATES.certified[1] * min(cells, RATES.states)
                spent += RATES.bounded * cells if cells > RATES.states else 0.0
            alone += RATES.pictures
            shared += arms * seeds * config.rounds * spent
            states.append(served)
        each = max(each, log_bytes(log) + state_bytes(states, log.n_items))
    many = min(workers or cores(), arms * seeds * len(configs))
    shared += RATES.imports * many
    return Forecast(alone, shared, many, each + RATES.main, each, tuple(dict.fromkeys(unknown)))


def _arrivals(config: ScenarioConfig, log: EventLog) -> int:
    """About how many arrive in a round: what is asked for, or the log's sessions that are not past at the opening."""
    if config.arrivals.per_round is not None:
        return config.arrivals.per_round
    first, last = float(log.time[0]), float(log.time[-1])
    opening = first + config.arrivals.warmup_share * (last - first)
    later = int((log.sessions(config.data.session_gap).start >= opening).sum())
    return max(1, round(later / config.rounds))
