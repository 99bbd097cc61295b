"""What truths and models say of answers that are known without selection, against what the users answered.

A log says what users took of what they saw, so all that is fitted to it and judged on it shares its selection. Answers
to items that were shown at random, or a matrix without gaps, do not: here truths and models are judged on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.intensity.contract import spans
from rimsim.scenarios.validating.config import RANDOM
from rimsim.scenarios.validating.evidence import shares_over
from rimsim.scenarios.validating.held_answers import held_answers
from rimsim.scenarios.validating.observed_evidence import judge_answers

if TYPE_CHECKING:
    from rimsim.data import EventLog, ObservedTable
    from rimsim.intensity import IntensityModel, UserStates
    from rimsim.scenarios.validating.held_answers import HeldAnswers
    from rimsim.scenarios.validating.observed_evidence import ObservedEvidence


_LEAST = 1e-9
"""The smallest score, as a share of the mean score of a row, so that its logarithm is finite."""


class Preference(Protocol):
    """What is asked of a truth."""

    def preference(self, users: Ints, states: UserStates) -> Floats:
        """(n, M) p*(y|x) over the whole catalogue."""
        ...

    def expected(self, users: Ints, states: UserStates) -> Floats:
        """(n,) λ*(x) of sessions that begin at ``states.now``."""
        ...


def judge_observed(
    table: ObservedTable,
    log: EventLog,
    truths: Mapping[str, Preference],
    models: Mapping[str, IntensityModel],
    *,
    taken_at: float,
    k: int = 5,
    folds: int = 5,
    seed: int = 0,
) -> ObservedEvidence:
    """Judge truths and models on answers that their log says nothing of.

    A judge scores all items for the state of each user. ``auc`` is the share of pairs of a taken and another answer of
    a user that the scores put in order. ``precision`` is the share taken of the k best of the items that the user was
    asked about. ``log_likelihood`` is that of the answers under 1/(1 + exp(−α − β·log score)), α and β ≥ 0 fitted to
    other users' answers, so that only what the scores know counts, not their unit.

    Args:
        table: The answers.
        log: What truths and models are fitted to.
        truths: Name → truth; its score is λ*(x)·p*(y|x), p* over what the user has not consumed.
        models: Name → fitted model.
        taken_at: Values from here on are yes.
        k: Items that are chosen for ``precision``.
        folds: Parts of the users; each is foretold from the others.
        seed: Seed of the parts and of ties.

    Returns:
        The evidence, with a judge ``random`` that knows nothing at the end.

    Raises:
        DataError: If no answer is of a user and an item of the log, or all are the same.
    """
    answers = held_answers(table, log, taken_at=taken_at)
    return judge_held(answers, truths, models, k=k, folds=folds, seed=seed)


def judge_held(
    answers: HeldAnswers,
    truths: Mapping[str, Preference],
    models: Mapping[str, IntensityModel],
    *,
    k: int = 5,
    folds: int = 5,
    seed: int = 0,
) -> ObservedEvidence:
    """Judge truths and models on answers that were held out before; see :func:`judge_observed`."""
    scores = {(name, ""): _truth_scores(truth, answers) for name, truth in truths.items()}
    scores |= {("", name): _model_scores(model, answers) for name, model in models.items()}
    scores[("", RANDOM)] = np.zeros(len(answers))  # the bar to be above
    return judge_answers(answers, scores, k=k, folds=folds, seed=seed)


def _truth_scores(truth: Preference, answers: HeldAnswers) -> Floats:
    """(n,) log λ*(x)·p*(y|x) of each answer."""
    expected = truth.expected(answers.users, answers.states)
    found = np.empty(len(answers))
    for first, last in spans(len(answers.users)):
        states = answers.states.take(np.arange(first, last))
        preference = truth.preference(answers.users[first:last], states)
        left = np.ones(preference.shape, bool)
        left[states.owner, states.items] = False
        _fill(found, expected[first:last, None] * shares_over(preference, left), answers, first, last)
    return found


def _model_scores(model: IntensityModel, answers: HeldAnswers) -> Floats:
    """(n,) log λ(x,y) of each answer."""
    found = np.empty(len(answers))
    for first, last in spans(len(answers.users)):
        rows = model.score(answers.states.take(np.arange(first, last))).detach().cpu().numpy()
        _fill(found, rows.astype(np.float64), answers, first, last)
    return found


def _fill(found: Floats, rows: Floats, answers: HeldAnswers, first: int, last: int) -> None:
    """Write the log scores of the answers of some users, given the scores of all items (last − first, M)."""
    begin, end = np.searchsorted(answers.row, [first, last])
    row = answers.row[begin:end] - first
    least = _LEAST * np.maximum(rows.mean(1), 1e-300)
    found[begin:end] = np.log(np.maximum(rows[row, answers.item[begin:end]], least[row]))
