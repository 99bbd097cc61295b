"""Sentences on the fitness of a run's truth."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rimsim.config import DataConfig, to_plain
from rimsim.market.consumers.truths import AUTO, HABITS, base_of
from rimsim.market.fitness import READER, Fitness
from rimsim.measures import FIT, UNFIT, UNFIT_VERDICT
from rimsim.scenarios.report.tables import signed
from rimsim.scenarios.runs.store import RunFolder

_NAMED = 3  # largest number of reversed pairs that a sentence lists
_MENTIONED = 0.005  # smallest share of untested events that a sentence mentions
_COMPARED = ("bag", "factors", "ease", "gru")
"""Truths that a validation should compare if no truth is known to be fit."""
_SLOW = ("gru", "transformer")
"""Truths to compare after ``auto`` has tried all truths that are fitted quickly."""


def fitness_of(run: RunFolder) -> Fitness | None:
    """Verdict on a comparison's truth, if it was recorded."""
    record = run.config.get("fitness")
    return None if record is None else READER.validate_python(record)


def verdicts_of(run: RunFolder) -> dict[str, Fitness]:
    """Verdict on each truth of a validation, if recorded."""
    records: Mapping[str, Any] = run.config.get("fitness") or {}
    return {name: READER.validate_python(record) for name, record in records.items()}


def with_verdict(answer: Sequence[str], runs: Sequence[RunFolder]) -> list[str]:
    """Answer with the verdict on each truth behind it.

    A verdict stands after the answer if the truth is fit. Otherwise it stands before, so that nobody reads the answer
    without it.
    """
    verdicts_before: list[str] = []
    verdicts_after: list[str] = []
    for run in runs:
        verdict = fitness_of(run)
        if verdict is not None:
            step = next_step(verdict, run.scenario.consumer.truth, run.scenario.data)
            place = verdicts_after if verdict.verdict == FIT else verdicts_before
            place.append(verdict_sentence(verdict, step))
    return list(dict.fromkeys([*verdicts_before, *answer, *verdicts_after]))


def verdict_sentence(verdict: Fitness, step: str = "") -> str:
    """Verdict on a truth, its evidence, and the next step."""
    name = f"The truth `{verdict.truth}`"
    if verdict.verdict == FIT:
        text = f"{name} is fit for this log: {_evidence(verdict)}"
    elif verdict.verdict == UNFIT_VERDICT:
        text = f"{name} is unfit for this log, so do not use it to compare recommenders: {_evidence(verdict)}"
    elif not verdict.users:
        text = f"{name} cannot be judged on this log: fewer than two users have a later session"
        if verdict.is_after_cut:
            text += " after a cut in time"
    elif verdict.too_few_pairs:
        text = (
            f"Evidence cannot tell if the truth `{verdict.truth}` is fit for this log: {_sessions(verdict)} tell "
            f"only {verdict.settled} of {verdict.pairs} pairs of recommenders apart, and a verdict needs "
            f"{verdict.needed}"
        )
    else:
        text = (
            f"Evidence cannot tell if the truth `{verdict.truth}` is fit for this log: {_evidence(verdict)}, and "
            f"{_doubt(verdict)}"
        )
    return " ".join(
        part
        for part in (
            f"{text}.",
            _trend(verdict),
            _reversed(verdict),
            _last_share(verdict),
            _untested(verdict),
            step,
        )
        if part
    )


def _trend(verdict: Fitness) -> str:
    """Sentence on a cut in time that decided the verdict."""
    if not verdict.is_after_cut:
        return ""
    return (
        "The judgement after the cut decided, because it is worse: the truth has a trend, and a market plays it after "
        "the end of the log, where the trend is not known."
    )


def _last_share(verdict: Fitness) -> str:
    """Sentence on consumption that rests on the log's last days."""
    if verdict.last_share is None or verdict.half_life is None:
        return ""
    hours = verdict.half_life / 3600
    length = f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"
    return (
        f"At the market's opening, {verdict.last_share:.0%} of the expected consumption rests on the last {length} of "
        "the log, the half-life of the truth's trend."
    )


def _untested(verdict: Fitness) -> str:
    """Sentence on the behaviour that was not tested, if any."""
    if verdict.untested < _MENTIONED:
        return ""
    return (
        f"The test asks nothing about {verdict.untested:.0%} of the log's events, because they repeat an item of their "
        "user."
    )


def _evidence(verdict: Fitness) -> str:
    """Settled pairs in order, with the agreement and its interval."""
    other = ""
    if verdict.other_agreement is not None:
        kind = "among other users' events" if verdict.is_after_cut else "after a cut in time"
        other = f"; {kind}, {signed(verdict.other_agreement)}"
    of_whole_log = "" if verdict.played is None else f"; fitted to the whole log, {signed(verdict.played)}"
    return (
        f"it orders {verdict.concordant} of {verdict.settled} pairs of recommenders as {_sessions(verdict)} do "
        f"(agreement {signed(verdict.agreement)}, 95% interval {signed(verdict.low)} to {signed(verdict.high)}; fit "
        f"from {UNFIT} on{of_whole_log}{other})"
    )


def _sessions(verdict: Fitness) -> str:
    """Words for the sessions that decided the verdict."""
    return "sessions after a cut in time" if verdict.is_after_cut else "held-out later sessions"


def _doubt(verdict: Fitness) -> str:
    """Reason for an open verdict in spite of enough pairs."""
    agreement = verdict.agreement or 0.0
    if agreement < UNFIT:
        return f"its interval includes {UNFIT}"
    if verdict.low is not None and verdict.low <= 0:
        return "its interval includes 0, the agreement of chance"
    return f"the same truth with wrong tastes agrees as well ({signed(verdict.best_false)})"


def _reversed(verdict: Fitness) -> str:
    """Sentence that names reversed pairs; empty for a fit truth."""
    pairs = [f"`{worse}` above `{better}`" for better, worse in verdict.reversed]
    if not pairs or verdict.verdict == FIT:
        return ""
    n_unnamed = len(pairs) - _NAMED
    if n_unnamed > 0:
        pairs = [*pairs[:_NAMED], f"{n_unnamed} more"]
    *first_pairs, last_pair = pairs
    listed = f"{', '.join(first_pairs)} and {last_pair}" if first_pairs else last_pair
    return f"Against these sessions it puts {listed}."


def next_step(verdict: Fitness, asked: str, data: DataConfig) -> str:
    """Advice on a truth that is not fit, else empty.

    Args:
        asked: The setting ``consumer.truth``.
        data: Log of the run, for the command that compares truths.
    """
    if verdict.verdict == FIT:
        return ""
    if verdict.too_few_pairs:
        events = (
            "Use a log with more events of users who come back, or a lower `data.min_item_events`"
            if data.min_item_events > 1
            else "Use a log with more events of users who come back"
        )
        return f"{events}."
    if asked != AUTO:
        command = validate_command(data, [*dict.fromkeys([verdict.truth, *_COMPARED])])
        return (
            f"Set `--set consumer.truth=auto`, which looks for a fit truth, or compare truths by `{command}`."
        )
    tried_truths = [verdict.truth, *(rival.truth for rival in verdict.rivals)]
    untried_truths = [name for name in (base_of(verdict.truth) + HABITS, *_SLOW) if name not in tried_truths]
    command = validate_command(data, untried_truths)
    names = ", ".join(f"`{name}`" for name in tried_truths)
    return f"`auto` has tried {names}. Judge other truths by `{command}`, or use a log with more events."


def validate_command(data: DataConfig, truths: Sequence[str]) -> str:
    """Command that judges truths on a run's log."""
    defaults = to_plain(DataConfig())
    words = ["rimsim", "validate", "--data", str(data.source), "--min-item-events", str(data.min_item_events)]
    for field, value in to_plain(data).items():
        if field not in {"source", "min_item_events"} and value != defaults[field]:
            words += ["--set", f"data.{field}={value}"]
    return shlex.join([*words, "--truths", ",".join(truths)])
