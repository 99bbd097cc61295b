"""Off-policy evaluation of a random policy from logged impressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rimsim.data import EventLog, LoggedImpressions, load
from rimsim.data.session_logs import LogSource
from rimsim.errors import ConfigError, DataError, refuse
from rimsim.evaluation import (
    SINGLE,
    Estimate,
    LoggedSlates,
    click_rate,
    estimated,
    random_from_log,
)
from rimsim.evaluation.examination import NORMAL_95
from rimsim.scenarios.report.record import Report, Section, TextTable

RANDOM = "random"
"""Only target whose chances follow from the log alone."""
_FEW = 30.0
"""Effective number of impressions below which the report warns about an estimate."""
_FAR = 3.0
"""Distance of the mean weight from 1, in standard errors, beyond which the report doubts the propensities."""
_SENTENCE = "snips"
"""Estimator whose value the answer reports."""


@dataclass(frozen=True, eq=False)
class LoggedEvaluation:
    """Estimated worth of a random policy, from another policy's log."""

    source: str
    """Name of the log."""
    impressions: int
    """Number of logged impressions."""
    items: int
    """Number of items that the random policy chooses from."""
    table: pd.DataFrame
    """Table with a row per estimator, and columns estimator, estimate, low, high and effective."""
    logged: Estimate
    """Share of impressions that were taken under the logging policy."""
    mean_weight: float
    """Mean ratio of the target's to the logging policy's probability; 1 is expected."""
    weight_error: float
    """Standard error of ``mean_weight``."""
    against: tuple[str, Estimate] | None = None
    """Name and taken share of a log that the random policy made, if there is one."""

    def estimate(self, name: str) -> pd.Series:
        """Row of an estimator."""
        return self.table[self.table["estimator"] == name].iloc[0]


def ope_from_log(
    log: LogSource,
    target: str = RANDOM,
    *,
    columns: str | None = None,
    against: LogSource | None = None,
    show: Callable[[str], None] | None = None,
) -> LoggedEvaluation:
    """Estimate the worth of a random policy from logged impressions.

    The random policy chooses all items of the log with equal probability at each position.

    Args:
        log: Log of impressions with propensities; see :func:`rimsim.data.load`.
        target: Name of the policy; only ``random``.
        columns: Columns of the log, such as ``user=uid,item=sku,time=at,taken=click,propensity=p``.
        against: Log that the random policy made, with the same columns, whose taken share is compared.
        show: Function that gets the descriptions of the logs; None: they are not shown.

    Raises:
        DataError: If a log has no impressions, or a propensity is unknown.
        ConfigError: If the target is not ``random``.
    """
    if target != RANDOM:
        raise ConfigError(
            f"--target: {target!r} chooses items by scores, which a log of impressions has not. Use random, or pass "
            "the folder of a comparison"
        )
    source, shown, n_items = _impressions(log, columns, show)
    slates = random_from_log(shown, n_items)
    weights = slates.target.slate / slates.logging.slate
    return LoggedEvaluation(
        source=source,
        impressions=len(shown),
        items=n_items,
        table=_estimates(slates),
        logged=click_rate(shown),
        mean_weight=float(weights.mean()),
        weight_error=float(weights.std() / np.sqrt(len(weights))),
        against=None if against is None else _rate_of(against, columns, show),
    )


def _impressions(
    source: LogSource, columns: str | None, show: Callable[[str], None] | None
) -> tuple[str, LoggedImpressions, int]:
    """Name, impressions and number of items of a log."""
    # A policy also shows items that nobody takes, so all items stay.
    log: EventLog = load(source, columns=columns, min_item_events=0, min_user_events=0)
    name = "the log" if log.report is None else log.report.source
    if show is not None and log.report is not None:
        show(log.report.text(columns=False))
    if log.impressions is None or not len(log.impressions):
        problem = "its rows are not impressions"
        refuse(
            DataError,
            name,
            problem,
            "a column that tells which items were taken (--columns ...,taken=COLUMN)",
        )
    return name, log.impressions, len(np.unique(log.impressions.item))


def _rate_of(
    source: LogSource, columns: str | None, show: Callable[[str], None] | None
) -> tuple[str, Estimate]:
    """Name of a log, and its taken share."""
    name, shown, _ = _impressions(source, columns, show)
    return name, click_rate(shown)


def _estimates(slates: LoggedSlates) -> pd.DataFrame:
    """Row per estimator that fits slates of one item."""
    rows = [
        (name, estimate.value, estimate.low, estimate.high, estimate.effective)
        for name in SINGLE
        if (estimate := estimated(name, slates)) is not None
    ]
    return pd.DataFrame(rows, columns=["estimator", "estimate", "low", "high", "effective"])


def logged_report(evaluation: LoggedEvaluation) -> Report:
    """Report of an evaluation from logged impressions."""
    rows = [
        (name, f"{value:.5f}", f"{low:.5f} to {high:.5f}", f"{effective:.0f}")
        for name, value, low, high, effective in evaluation.table.itertuples(index=False)
    ]
    rows.append((f"the log itself ({evaluation.source})", *_rate_cells(evaluation.logged)))
    if evaluation.against is not None:
        name, rate = evaluation.against
        rows.append((f"log of the random policy ({name})", *_rate_cells(rate)))
    title = (
        f"Items taken per impression by a random policy over {evaluation.items:,} items, from "
        f"{evaluation.impressions:,} impressions"
    )
    table = TextTable(title, ("estimator", "estimate", "95% interval", "effective impressions"), tuple(rows))
    return Report(
        question=f"What is `{RANDOM}` worth, estimated from {evaluation.source}?",
        answer=_answer(evaluation),
        cautions=_cautions(evaluation),
        sections=(Section("Estimates", tables=(table,)),),
    )


def _rate_cells(rate: Estimate) -> tuple[str, str, str]:
    """Cells of a taken share: value, interval, effective size."""
    return f"{rate.value:.5f}", f"{rate.low:.5f} to {rate.high:.5f}", f"{rate.effective:.0f}"


def _answer(evaluation: LoggedEvaluation) -> tuple[str, ...]:
    """Sentence on the estimate, and on the random policy's log."""
    row = evaluation.estimate(_SENTENCE)
    text = (
        f"The random policy would take {row['estimate']:.5f} items per impression (95% CI {row['low']:.5f} to "
        f"{row['high']:.5f}, {_SENTENCE})."
    )
    sentences = [text]
    if evaluation.against is not None:
        name, rate = evaluation.against
        place = "inside" if row["low"] <= rate.value <= row["high"] else "outside"
        error = np.hypot((row["high"] - row["low"]) / 2, (rate.high - rate.low) / 2) / NORMAL_95
        distance = (row["estimate"] - rate.value) / error
        sentences.append(
            f"In {name}, visitors took {rate.value:.5f}, which is {place} this interval. The estimate is "
            f"{distance:+.1f} standard errors of the difference from it."
        )
    return tuple(sentences)


def _cautions(evaluation: LoggedEvaluation) -> tuple[str, ...]:
    """Sentences on few effective impressions and doubtful propensities."""
    cautions = []
    effective = float(evaluation.estimate(_SENTENCE)["effective"])
    if effective < _FEW:
        cautions.append(
            f"The estimates rest on {effective:.3g} effective impressions of {evaluation.impressions:,}, and so do "
            "their intervals. The logging policy rarely showed some items."
        )
    if abs(evaluation.mean_weight - 1.0) > _FAR * evaluation.weight_error:
        cautions.append(
            f"The mean weight is {evaluation.mean_weight:.2f} instead of 1 (standard error "
            f"{evaluation.weight_error:.2f}). The propensities may be wrong, or not all items could be shown at all "
            "times."
        )
    return tuple(cautions)
