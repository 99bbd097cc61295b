"""Comparison of truths and models with known answers.

A log has only items that users saw, so models that are fitted to it and tested on it share its selection. Answers to
randomly shown items, or a full matrix, have no such selection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from rimsim import rng
from rimsim.arrays import Array, Bools, Floats, Ints
from rimsim.data import EventLog, ObservedTable
from rimsim.errors import DataError
from rimsim.evaluation.examination import NORMAL_95
from rimsim.intensity import IntensityModel, UserStates
from rimsim.intensity.contract import spans
from rimsim.market.agreement import RANDOM, ratio, shares_over
from rimsim.market.consumers.truths import Truth
from rimsim.measures import Interval, mean_interval, paired_difference
from rimsim.scenarios.kinds.results import table_of

# Smallest score that is used, as a share of the mean score of a row, so that its logarithm is finite.
_LEAST = 1e-9
_DECILES = 10
_FOLDS = 5  # number of groups of users; the answers of a group are calibrated on those of the other groups
_STEPS = 50  # largest number of Newton steps in a fit
# Ridge penalty of the slope. Without it, a fit does not exist if all scores are equal, or if the scores separate the
# answers.
_RIDGE = 1e-6
# Name of a metric, its value, and both ends of its interval.
_Figure: TypeAlias = tuple[str, float | None, float | None, float | None]


@dataclass(frozen=True, eq=False)
class HeldAnswers:
    """Answers to items outside a log, by user and item."""

    row: Ints  # (n,) user of each answer, as an index of `users`; ascending
    item: Ints
    taken: Bools  # (n,) True if the value is at least `taken_at`, which counts as a consumption
    users: Ints  # (u,) users of the log with an answer; ascending
    # (u,) state of each user before the first answer with a known time. Without such a time, it is the state after all
    # events of the log.
    states: UserStates
    # Number of answers that were left out because they are about items of the user's own log, to which models are
    # fitted.
    left_out: int
    shown_at_random: bool  # True if the items were shown at random, independently of the users' preferences
    source: str

    def __len__(self) -> int:
        return len(self.row)

    def facts(self) -> dict[str, Any]:
        """Facts for ``config.yaml``."""
        return {
            "source": self.source,
            "answers": len(self),
            "users": len(self.users),
            "taken": int(self.taken.sum()),
            "left_out": self.left_out,
            "shown_at_random": self.shown_at_random,
        }


def held_answers(table: ObservedTable, log: EventLog, *, taken_at: float) -> HeldAnswers:
    """Known answers, with the states of their users."""
    matched = table.matched(log)
    pairs_of_log = np.unique(log.user * log.n_items + log.item)
    kept_rows = np.flatnonzero(~np.isin(matched.user * log.n_items + matched.item, pairs_of_log))
    taken = matched.value[kept_rows] >= taken_at
    if not len(kept_rows) or taken.all() or not taken.any():
        raise DataError(
            f"{table.source}: {taken.sum():,} of {len(kept_rows):,} usable answers have a value of at least "
            f"{taken_at:g}. Expected answers on both sides of this limit. Change --taken-at"
        )
    users, row = np.unique(matched.user[kept_rows], return_inverse=True)
    if len(users) < 2:
        raise DataError(
            f"{table.source}: only 1 user answered about items outside their log. Expected at least two "
            "users, because the answers of each user are predicted from the answers of the others"
        )
    end = float(np.nextafter(log.time.max(), np.inf))  # just after the last event of the log
    now = np.full(len(users), np.inf)
    if matched.time is not None:
        np.fmin.at(now, row, matched.time[kept_rows])  # unknown times are NaN, which fmin leaves out
    return HeldAnswers(
        row=row.astype(np.int64),
        item=matched.item[kept_rows],
        taken=taken,
        users=users,
        states=UserStates.of(log, users, np.where(np.isinf(now), end, now)),
        left_out=len(matched) - len(kept_rows),
        shown_at_random=matched.shown_at_random,
        source=table.source,
    )


@dataclass(frozen=True, eq=False)
class ObservedEvidence:
    """Metrics of s truths or models on n answers (u users)."""

    answers: HeldAnswers
    # (s,) sources of scores: (truth, "") or ("", model); the last one is random.
    judges: tuple[tuple[str, str], ...]
    by_user: Mapping[str, Floats]  # metric → (s, u) values; NaN if a user has no such value
    # (s, n) calibrated probability of consumption; the calibration is fitted to other users' answers.
    probability: Floats

    def table(self) -> pd.DataFrame:
        """Table of means with 95% intervals over users.

        ``decile_1_predicted`` and ``decile_1_taken`` are the mean probability and the share of yes answers in the tenth
        with the smallest probabilities. ``calibration_error`` is the mean distance of predicted and realised share over
        all tenths.
        """
        rows = []
        for number, (truth, model) in enumerate(self.judges):
            for metric, values in self.by_user.items():
                interval = mean_interval(values[number])
                rows.append((truth, model, metric, interval.mean, interval.low, interval.high))
            rows += [(truth, model, *row) for row in self._deciles(self.probability[number])]
        columns = ["truth", "model", "metric", "value", "low", "high"]
        return table_of(rows, columns, ("value", "low", "high"))

    def pairs(self) -> pd.DataFrame:
        """Table of differences, paired over users."""
        rows = []
        for first, second in combinations(range(len(self.judges)), 2):
            for metric, values in self.by_user.items():
                difference = paired_difference(values[first], values[second])
                pair = (*self.judges[first], *self.judges[second])
                rows.append(
                    (*pair, metric, difference.mean, difference.low, difference.high, difference.clear)
                )
        names = ["truth", "model", "other_truth", "other_model"]
        columns = [*names, "metric", "difference", "low", "high", "settled"]
        return table_of(rows, columns, ("difference", "low", "high"))

    def _deciles(self, probability: Floats) -> list[_Figure]:
        """Metric, value and interval of each tenth of the answers."""
        n = len(self.answers)
        users = len(self.answers.users)
        tenth = np.empty(n, np.int64)
        tenth[np.argsort(probability, kind="stable")] = np.arange(n) * _DECILES // n
        rows: list[_Figure] = []
        error = 0.0
        for number in range(_DECILES):
            in_tenth = tenth == number
            if not in_tenth.any():
                continue
            user_rows = self.answers.row[in_tenth]
            taken = self.answers.taken[in_tenth]
            n_answers = np.bincount(user_rows, minlength=users).astype(np.float64)
            n_yes = np.bincount(user_rows, weights=taken, minlength=users).astype(np.float64)
            yes_share = ratio_interval(n_yes, n_answers)
            mean = float(probability[in_tenth].mean())
            rows.append((f"decile_{number + 1}_predicted", mean, None, None))
            rows.append((f"decile_{number + 1}_taken", yes_share.mean, yes_share.low, yes_share.high))
            error += float(in_tenth.mean()) * abs(mean - (yes_share.mean or 0.0))
        return [*rows, ("calibration_error", error, None, None)]


def judge_observed(
    answers: HeldAnswers,
    truths: Mapping[str, Truth],
    models: Mapping[str, IntensityModel],
    *,
    k: int = 5,
) -> ObservedEvidence:
    """Compare truths and models with answers outside their log.

    Each truth or model scores all items for each user's state. ``auc`` is the share of a user's pairs of answers (yes
    and no) that the scores order correctly. ``precision`` is the share of yes answers among the user's k answers of
    largest score. ``log_likelihood`` is the log-likelihood of the answers under 1/(1 + exp(−α − β·log score)). α and β
    ≥ 0 are fitted to other users' answers, so that the unit of the scores does not matter. The last entry of the
    result, ``random``, has random scores.
    """
    scores = {(name, ""): _truth_scores(truth, answers) for name, truth in truths.items()}
    scores |= {("", name): _model_scores(model, answers) for name, model in models.items()}
    # Every truth and model should be better than random scores. Here all scores are equal, and equal scores are ordered
    # at random.
    scores[("", RANDOM)] = np.zeros(len(answers))
    row = answers.row
    taken = answers.taken
    n_users = len(answers.users)
    n_folds = max(2, min(_FOLDS, n_users))
    fold = folds_of(answers.users, 0, n_folds)[row]
    ties = rng.bits(0, rng.Purpose.TIES, answers.users[row], answers.item)
    probabilities = [calibrated(score, taken, fold, n_folds) for score in scores.values()]
    by_user = {
        "auc": [user_aucs(row, score, taken, n_users) for score in scores.values()],
        "precision": [precisions(row, score, taken, ties, n_users, k) for score in scores.values()],
        "log_likelihood": [
            answer_likelihoods(row, probability, taken, n_users) for probability in probabilities
        ],
    }
    return ObservedEvidence(
        answers=answers,
        judges=tuple(scores),
        by_user={metric: np.array(values) for metric, values in by_user.items()},
        probability=np.array(probabilities),
    )


def _truth_scores(truth: Truth, answers: HeldAnswers) -> Floats:
    """(n,) log(λ*(x)·p*(y|x)) of each answer."""
    expected = truth.expected(answers.users, answers.states)

    def rows(first: int, last: int, states: UserStates) -> Array:
        """Scores of all items for a block of users."""
        preference = truth.preference(answers.users[first:last], states)
        is_admissible = np.ones(preference.shape, bool)
        is_admissible[states.owner, states.items] = False
        return expected[first:last, None] * shares_over(preference, is_admissible)

    return _log_scores(answers, rows)


def _model_scores(model: IntensityModel, answers: HeldAnswers) -> Floats:
    """(n,) log λ(x,y) of each answer."""
    return _log_scores(answers, lambda _, __, states: model.score(states).detach().cpu().numpy())


def _log_scores(answers: HeldAnswers, score: Callable[[int, int, UserStates], Array]) -> Floats:
    """(n,) logarithms of the answers' scores, computed block by block.

    ``score`` returns the scores of all items for the users from ``first`` to ``last``.
    """
    log_scores = np.empty(len(answers))
    for first, last in spans(len(answers.users)):
        states = answers.states.take(np.arange(first, last))
        scores_of_users = np.asarray(score(first, last, states), np.float64)
        # Answers are sorted by user, so those of the block's users stand together.
        block = slice(*np.searchsorted(answers.row, [first, last]))
        row = answers.row[block] - first
        smallest = _LEAST * np.maximum(scores_of_users.mean(1), 1e-300)
        scores = scores_of_users[row, answers.item[block]]
        log_scores[block] = np.log(np.maximum(scores, smallest[row]))
    return log_scores


def user_aucs(user: Ints, score: Floats, taken: Bools, n_users: int) -> Floats:
    """(n_users,) share of pairs whose taken item scores higher.

    A tie counts half. The share is NaN for users who took all or none of the items that they answered about.
    """
    # Ranks within a user start from 0. Equal scores share their mean rank.
    rank = pd.Series(score).groupby(user).rank().to_numpy() - 1
    n_yes = np.bincount(user, weights=taken, minlength=n_users)
    n_no = np.bincount(user, minlength=n_users) - n_yes
    # Mann–Whitney U: the rank of a taken item is the number of items below it. Taken items among them, 0 + 1 + … over a
    # user's taken items, are subtracted.
    n_ordered_pairs = np.bincount(user, weights=rank * taken, minlength=n_users) - n_yes * (n_yes - 1) / 2
    return ratio(n_ordered_pairs, n_yes * n_no)


def precisions(user: Ints, score: Floats, taken: Bools, ties: Array, n_users: int, k: int) -> Floats:
    """(n_users,) share of yes among each user's k best answers.

    The share is NaN for users with at most k answers. ``user`` must be ascending. Equal scores are ordered by ``ties``.
    """
    best_first = np.lexsort((ties, -score, user))  # answers sorted by user, and within a user from the best
    n_answers = np.bincount(user, minlength=n_users)
    rank = np.arange(len(user)) - np.searchsorted(user, user)  # rank within a user, from 0
    chosen = best_first[rank < k]
    hits = np.bincount(user[chosen], weights=taken[chosen], minlength=n_users)
    return np.asarray(np.where(n_answers > k, hits / k, np.nan), np.float64)


def calibrated(logit: Floats, taken: Bools, fold: Ints, folds: int) -> Floats:
    """Cross-fitted probabilities 1/(1 + exp(−α − β·logit)) of yes answers.

    α and β ≥ 0 maximise the likelihood. A slope below 0 would reverse the scores and make a bad model look good, so
    it is replaced by 0, which predicts the share of yes answers.
    """
    probability = np.empty(len(logit))
    for left_out in range(folds):
        in_fold = fold == left_out
        outside_fold = fold != left_out
        # Standardised logits make the size of Newton steps, and the ridge penalty, independent of the unit.
        mean = logit[outside_fold].mean()
        deviation = max(float(logit[outside_fold].std()), 1e-12)
        intercept, slope = _fit((logit[outside_fold] - mean) / deviation, taken[outside_fold])
        probability[in_fold] = _logistic(intercept + slope * (logit[in_fold] - mean) / deviation)
    return probability


def _fit(x: Floats, taken: Bools) -> tuple[float, float]:
    """Intercept and slope of a logistic regression, by Newton steps.

    If the slope is not above 0, it is 0, and the intercept is the log odds of a yes.
    """
    yes_share = (taken.sum() + 0.5) / (len(taken) + 1)
    log_odds = float(np.log(yes_share / (1 - yes_share)))
    intercept = log_odds
    slope = 0.0
    for _ in range(_STEPS):
        p = _logistic(intercept + slope * x)
        weight = np.maximum(p * (1 - p), 1e-12)
        # Gradient and negative Hessian of the log-likelihood, with a ridge penalty of the slope.
        gradient = np.array([(taken - p).sum(), ((taken - p) * x).sum() - _RIDGE * len(x) * slope])
        cross = (weight * x).sum()
        curvature = np.array([[weight.sum(), cross], [cross, (weight * x * x).sum() + _RIDGE * len(x)]])
        step = np.linalg.solve(curvature, gradient)
        # Far from the optimum, a full Newton step may overshoot and diverge, so long steps are shortened.
        step *= min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))
        intercept = intercept + step[0]
        slope = slope + step[1]
        if np.abs(step).max() < 1e-10:
            break
    return (intercept, slope) if slope > 0 else (log_odds, 0.0)


def _logistic(x: Floats) -> Floats:
    """Logistic function 1/(1 + exp(−x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), np.float64)


def answer_likelihoods(user: Ints, probability: Floats, taken: Bools, n_users: int) -> Floats:
    """(n_users,) mean log-likelihood (nats) of a user's answers; NaN without answers."""
    log_likelihood = np.log(np.maximum(np.where(taken, probability, 1 - probability), 1e-300))
    sums = np.bincount(user, weights=log_likelihood, minlength=n_users)
    return ratio(sums, np.bincount(user, minlength=n_users))


def ratio_interval(total: Floats, count: Floats) -> Interval:
    """Quotient of sums with its linearised 95% interval."""
    is_counted = count > 0
    n = int(is_counted.sum())
    count_of_all = float(count.sum())
    if not n:
        return mean_interval(np.zeros(0))
    ratio = float(total.sum()) / count_of_all
    if n == 1:
        return Interval(ratio, None, None, n)
    residual = total[is_counted] - ratio * count[is_counted]
    # The variance of a quotient of sums is about n times that of the residuals, over the square of the denominator.
    half = NORMAL_95 * float(np.sqrt((residual**2).sum() * n / (n - 1))) / count_of_all
    return Interval(ratio, ratio - half, ratio + half, n)


def folds_of(users: Ints, seed: int, folds: int) -> Ints:
    """Random fold of each of n users."""
    rank = np.empty(len(users), np.int64)
    rank[np.argsort(rng.uniform(seed, rng.Purpose.SPLIT, users), kind="stable")] = np.arange(len(users))
    return np.asarray(rank * folds // max(len(users), 1), np.int64)
