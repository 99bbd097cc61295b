"""How a truth of class ``bag`` is fitted: the mark model of that name, its shrinkage chosen as that of any truth."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rimsim.intensity.selection.shrinkage import Shrinkage
from rimsim.intensity.sets.bag import Bag, BagConfig
from rimsim.market.consumers.truths.bag import BagTruth
from rimsim.market.consumers.truths.held_out import judged

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.selection.held_out import HeldOut
    from rimsim.market.consumers.truths.contract import TruthReport
    from rimsim.market.consumers.truths.held_out import Judged
    from rimsim.market.consumers.truths.sizes import SessionSizes


class _Chosen(Bag):
    """A bag whose shrinkage is given: a log in which users occur several times must not choose it for itself."""

    @classmethod
    def of(cls, gap: str) -> _Chosen:
        """A bag that is not fitted yet, on the processor."""
        return cls(BagConfig(session_gap=gap, device="cpu"))

    def judged(self, held: HeldOut, decay: float) -> Judged:
        """The candidate of a weight decay."""
        (fit,) = self._fits(held.past, (decay,), held.whole)
        scores = self._scores(fit, held.states).astype(np.float64)
        popular, _ = self._impersonal(held.past)
        return judged(held, "bag", decay, scores, popular, self.config.session_gap)

    def fit_as(self, log: EventLog, whole: EventLog, first: Judged, held: HeldOut | None) -> _Chosen:
        """Fit to a whole log, or to a bootstrap of it, with what was chosen."""
        best = first.candidate
        given = Shrinkage(best.ridge, best.personal, best.popularity, best.returning, spread=first.spread)
        return self._fit_with(given, log, whole, held)


def judge_bag(held: HeldOut, ridge: float, gap: str, rank: int) -> Judged:  # noqa: ARG001  # of all classes
    """The candidate of a weight decay; the bag's width is its own, not ``rank``."""
    return _Chosen.of(gap).judged(held, ridge)


def fit_bag(
    log: EventLog,
    about: EventLog,
    first: Judged,
    held: HeldOut | None,
    *,
    gap: str,
    rank: int,
    sizes: SessionSizes,
    report: TruthReport,
) -> BagTruth:
    """The truth of a candidate.

    Args:
        log: What it is fitted to.
        about: The log whose users it is about, of whom a bag needs only the states; by its size it is decided whether
            to look at samples.
        first: What was chosen.
        held: The states on which it was; None where there are none.
        gap: A silence longer than this ends a session.
        rank: Of no use to a bag.
        sizes: λ*.
        report: How it was chosen.
    """
    del rank
    model = _Chosen.of(gap).fit_as(log, about, first, held)
    read, predicted, bias = (model.served(name).numpy() for name in ("read", "predicted", "bias"))
    if model.shrinkage is not None:
        report = dataclasses.replace(report, personal=model.shrinkage.personal)
    return BagTruth(read.copy(), predicted.T.copy(), bias.copy(), sizes, report)
