"""Choice of a truth by held-out likelihood, and storage."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from safetensors import SafetensorError

from rimsim import rng
from rimsim.arrays import Ints, numbered
from rimsim.data.log import EventLog, LaterSessions, later_sessions
from rimsim.errors import ConfigError, DataError, ModelError, nearest
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.market.consumers.contract import Candidate, SizesReport, Truth, TruthReport
from rimsim.market.consumers.session_sizes import fit_sizes
from rimsim.market.consumers.truth_bag import BagTruth, fit_bag, judge_bag
from rimsim.market.consumers.truth_factors import FactorsTruth, fit_factors_truth, judge_factors
from rimsim.market.consumers.truth_fits import JudgedTruth, behind, climb

_NO_FIGURE = float("nan")
_CLASSES: dict[str, type[FactorsTruth | BagTruth]] = {"factors": FactorsTruth, "bag": BagTruth}


@dataclasses.dataclass(frozen=True)
class _Class:
    """Class of truths: judgement of its candidates, and fit."""

    ridges: tuple[float, ...]
    start: int
    """The place of the grid at which the search begins, and what is taken where nothing can be held out."""
    judge: Callable[[HeldOut, float, str, int], JudgedTruth]
    """The candidate of a ridge; also told the gap and the rank."""
    fit: Callable[..., Truth]
    """A truth fitted to a log, for the users of another."""


TRUTHS: dict[str, _Class] = {
    "factors": _Class(
        (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3), 4, judge_factors, fit_factors_truth
    ),
    "bag": _Class((1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2), 4, judge_bag, fit_bag),
}
"""Name to class."""


def fit_truth(
    log: EventLog, *, gap: str | float, kind: str = "auto", rank: int = 16, bootstrap: int | None = None
) -> Truth:
    """Truth chosen on held-out sessions and fitted to a log.

    Candidates are fitted to the past of the cut and judged by the likelihood of items taken after it, among those not
    consumed before. A grid of ridges is followed as long as the likelihood rises. The parts of the best candidate are
    weighted so that it predicts choices from slates.

    Args:
        kind: A class of :data:`TRUTHS`, or ``auto``: the class is chosen too.
        bootstrap: Seed of a bootstrap of the log's users for the fit; every user of the log still has preferences and a
            λ*, and the choice is made on the log itself. None: the whole log.

    Raises:
        ConfigError: If there is no such class.
        ModelError: If the log is empty.
    """
    if kind != "auto" and kind not in TRUTHS:
        known = f"allowed: auto, {', '.join(TRUTHS)}"
        raise ConfigError(f"consumer.truth is {kind!r}{nearest(kind, TRUTHS)}; {known}")
    if not len(log):
        raise ModelError("the truth is fitted to an empty log; allowed: at least one event")
    silence = gap if isinstance(gap, str) else f"{gap}s"
    held = HeldOut.of(log, silence, 0)
    kinds = list(TRUTHS) if kind == "auto" else [kind]
    found, at_end = _judged_all(held, kinds, silence, rank)
    best = found[0].candidate
    weights = None if bootstrap is None else _drawn_users(log.n_users, bootstrap)
    sizes, sizes_report = fit_sizes(log, silence, _later(log, silence), weights)
    per_session = len(log) / len(log.sessions(silence))
    report = _report(found, at_end[best.kind], held, sizes_report, per_session, bootstrap)
    fitted_to = log if weights is None else _resampled(log, weights)
    figures = {"gap": silence, "rank": rank, "sizes": sizes, "report": report}
    return TRUTHS[best.kind].fit(fitted_to, log, found[0], held, **figures)


def _later(log: EventLog, gap: str) -> LaterSessions | None:
    try:
        return later_sessions(log, gap=gap)
    except DataError:
        return None


def _judged_all(
    held: HeldOut | None, kinds: list[str], gap: str, rank: int
) -> tuple[list[JudgedTruth], dict[str, bool]]:
    """Candidates, best first, and classes whose best ends the grid."""
    if held is None:
        first = TRUTHS[kinds[0]]
        ridge = first.ridges[first.start]
        none = Candidate(kinds[0], ridge, 1.0, 1.0, 0.0, _NO_FIGURE, _NO_FIGURE)
        return [JudgedTruth(none, np.zeros(0))], {kinds[0]: False}
    everyone, at_end = [], {}
    for kind in kinds:
        truth = TRUTHS[kind]

        def judge(ridge: float, truth: _Class = truth) -> JudgedTruth:
            return truth.judge(held, ridge, gap, rank)

        found, at_end[kind] = climb(judge, truth.ridges, truth.start)
        everyone += found
    return sorted(everyone, key=lambda one: -one.candidate.log_likelihood), at_end


def _report(
    found: list[JudgedTruth],
    ridge_at_end: bool,  # noqa: FBT001  # one of many figures
    held: HeldOut | None,
    sizes: SizesReport,
    per_session: float,
    bootstrap: int | None,
) -> TruthReport:
    best, bar, gap = found[0].candidate, (_NO_FIGURE, _NO_FIGURE), (_NO_FIGURE, _NO_FIGURE)
    others = [one for one in found if one.candidate.kind != best.kind]
    if held is not None:
        popularity = np.log(np.bincount(held.past.item, minlength=held.past.n_items) + 0.5)
        bar = held.nats(held.log_likelihood(popularity)), float(held.precision(popularity).mean())
        gap = behind(held, found[0], others[0]) if others else gap
    return TruthReport(
        kind=best.kind,
        ridge=best.ridge,
        ridge_at_end=ridge_at_end,
        personal=best.personal,
        popularity=best.popularity,
        returning=best.returning,
        users=0 if held is None else len(held),
        log_likelihood=best.log_likelihood,
        precision=best.precision,
        popularity_log_likelihood=bar[0],
        popularity_precision=bar[1],
        candidates=() if held is None else tuple(one.candidate for one in found),
        behind=gap[0],
        behind_error=gap[1],
        events_per_session=per_session,
        expected_per_session=sizes.mean,
        sizes=sizes,
        bootstrap=bootstrap,
    )


def _drawn_users(n_users: int, seed: int) -> Ints:
    """(users,) multiplicity of each user in a bootstrap."""
    draw = rng.uniform(seed, rng.Purpose.MODEL, 11, np.arange(n_users))
    return np.bincount((draw * n_users).astype(np.int64), minlength=n_users)


def _resampled(log: EventLog, times: Ints) -> EventLog:
    """Log in which each user occurs ``times``, as separate users."""
    first = np.cumsum(times) - times
    often = times[log.user]
    rows, copy = numbered(often)
    drawn = log.rows(rows)
    users = log.users.iloc[np.repeat(np.arange(log.n_users), times)].reset_index(drop=True)
    return dataclasses.replace(drawn, user=first[drawn.user] + copy, users=users)


def save_truth(truth: Truth, folder: Path) -> None:
    """Write a truth into a folder, its report last."""
    truth.save(folder)
    text = json.dumps(dataclasses.asdict(truth.report), indent=2)
    (folder / "truth.json").write_text(text, encoding="utf-8")


def load_truth(folder: Path) -> Truth:
    """Truth that :func:`save_truth` wrote.

    Raises:
        ModelError: If the folder holds no truth, or a damaged one.
    """
    try:
        described = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        report = TypeAdapter(TruthReport).validate_python(described)
        return _CLASSES[report.kind].load(folder, report)
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder}: no truth there, or a damaged one ({error})") from error
