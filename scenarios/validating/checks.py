"""What else is asked of the truths: acceptance of held-out items, distributions, calibration of λ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rimsim.config.fields import duration_seconds
from rimsim.intensity.registry import mark_and_ground
from rimsim.intensity.states import session_examples
from rimsim.market.world import kept_truth
from rimsim.scenarios.validating.acceptance import acceptance
from rimsim.scenarios.validating.distributions import logged, simulated
from rimsim.scenarios.validating.rates import rate_of_ground, rate_of_truth

if TYPE_CHECKING:
    from rimsim.data import EventLog
    from rimsim.market.consumers.contract import Truth
    from rimsim.scenarios.validating.config import ValidateConfig
    from rimsim.scenarios.validating.cuts import Cut
    from rimsim.scenarios.validating.tables import Row


def check_rows(
    log: EventLog,
    cuts: Sequence[Cut],
    truths: Mapping[str, Truth],
    config: ValidateConfig,
    show: Callable[[str], None],
) -> list[Row]:
    """Rows (model, truth, draw, metric, value) of all checks.

    Distributions are those of the truths as they are, fitted to the whole log. Acceptance is asked of the same class of
    truth fitted to the past of the first draw, which has not seen the answers; λ and λ* are of sessions that they were
    not fitted to, and stand under the first draw.

    Args:
        log: The whole log.
        cuts: The draws.
        truths: Name → truth, fitted to the whole log.
        config: The validation's.
        show: Called with each line of progress.
    """
    rows: list[Row] = []
    gap = duration_seconds(config.data.session_gap)

    def add(model: str, truth: str, cut: Cut, values: Mapping[str, float]) -> None:
        rows.extend((model, truth, cut.draw, metric, value) for metric, value in values.items())

    sizes = session_examples(log, gap)
    for cut in cuts:
        add("", "", cut, logged(cut, sizes))
        for name, truth in truths.items():
            add("", name, cut, simulated(truth, cut, sizes))
    first, (_, ground) = cuts[0], mark_and_ground(config.serving)
    if ground is not None:
        add(ground, "", first, rate_of_ground(ground, log, gap, config.device))
    for name, truth in truths.items():
        add("", name, first, rate_of_truth(truth))
        blind = kept_truth(first.later.past, gap=gap, kind=name, rank=config.rank)
        show(f"truth {name}: fitted to the past of draw {first.draw}, for acceptance")
        for negatives, found in acceptance(blind, first).items():
            figures = asdict(found)
            add(
                "",
                name,
                first,
                {f"acceptance_{figure}_{negatives}": float(v) for figure, v in figures.items()},
            )
    return rows
