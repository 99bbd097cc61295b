"""The answers that a validation is given: read before anything is fitted, then foretold by what is fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from rimsim.data import load_observed
from rimsim.scenarios.validating.config import RANDOM
from rimsim.scenarios.validating.held_answers import held_answers
from rimsim.scenarios.validating.judged import fitted_model, unfitted_model
from rimsim.scenarios.validating.observed import judge_held

if TYPE_CHECKING:
    from rimsim.data import EventLog
    from rimsim.market.consumers.contract import Truth
    from rimsim.scenarios.validating.config import ValidateConfig
    from rimsim.scenarios.validating.held_answers import HeldAnswers
    from rimsim.scenarios.validating.observed_evidence import ObservedEvidence


def known_answers(config: ValidateConfig, log: EventLog, show: Callable[[str], None]) -> HeldAnswers | None:
    """The answers that a config names, held out of a log; None where it names none.

    Args:
        config: The validation's.
        log: Its log.
        show: Called with what was read.

    Raises:
        DataError: If the table cannot be read, or says nothing of what the log leaves open.
        ConfigError: If its columns are not understood.
    """
    wanted = config.observed
    if wanted.table is None:
        return None
    table = load_observed(wanted.table, columns=wanted.columns, value=wanted.value)
    show(table.text())
    return held_answers(table, log, taken_at=wanted.taken_at)


def judged_answers(
    answers: HeldAnswers,
    log: EventLog,
    truths: Mapping[str, Truth],
    config: ValidateConfig,
    show: Callable[[str], None],
) -> ObservedEvidence:
    """Judge the truths of a validation on answers, and its models fitted to the whole log.

    Args:
        answers: The answers.
        log: The log.
        truths: Name → truth, fitted to the log.
        config: The validation's.
        show: Called with a line of progress.
    """
    told, models = partial(unfitted_model, gap=config.data.session_gap), {}
    for name in config.chosen:
        if name != RANDOM:
            show(f"known answers: {name}, fitted to the whole log")
            models[name] = fitted_model(name, 0, config.device, log, told)
    return judge_held(answers, truths, models, k=config.observed.k)
