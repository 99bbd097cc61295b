"""What judges of held-out answers come to: figures by user, calibrated probabilities, and tables of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim import rng
from rimsim.arrays import Floats
from rimsim.measures import mean_interval, paired_difference
from rimsim.scenarios.validating.answer_scores import (
    answer_likelihoods,
    calibrated,
    folds_of,
    precisions,
    ratio_interval,
    user_aucs,
)

if TYPE_CHECKING:
    from rimsim.scenarios.validating.held_answers import HeldAnswers


_DECILES = 10


@dataclass(frozen=True, eq=False)
class ObservedEvidence:
    """What s judges (truths and models) make of n answers of u users."""

    answers: HeldAnswers
    """What is judged."""
    judges: tuple[tuple[str, str], ...]
    """(truth, model) of each judge, one of them empty; the last model is ``random``."""
    by_user: Mapping[str, Floats]
    """Metric (``auc``, ``precision``, ``log_likelihood``) → (s, u); NaN where it does not exist."""
    probability: Floats
    """(s, n) calibrated probabilities of a yes, each from other users' answers."""

    def table(self) -> pd.DataFrame:
        """Columns truth, model, metric, value, low, high: means over users, with 95 % intervals over users.

        ``decile_1_predicted`` and ``decile_1_taken`` are the mean probability and the share of yes of the tenth of the
        answers with the smallest probabilities; ``calibration_error`` is the mean distance of the two.
        """
        rows = []
        for number, (truth, model) in enumerate(self.judges):
            for metric, values in self.by_user.items():
                found = mean_interval(values[number])
                rows.append((truth, model, metric, found.mean, found.low, found.high))
            rows += [(truth, model, *row) for row in self._deciles(self.probability[number])]
        columns = ["truth", "model", "metric", "value", "low", "high"]
        return pd.DataFrame(rows, columns=columns).astype({"value": float, "low": float, "high": float})

    def pairs(self) -> pd.DataFrame:
        """Columns truth, model, other_truth, other_model, metric, difference, low, high, settled.

        Differences are paired over users; ``settled`` says that 0 lies outside the 95 % interval.
        """
        rows = []
        for one, other in combinations(range(len(self.judges)), 2):
            for metric, values in self.by_user.items():
                found = paired_difference(values[one], values[other])
                names = (*self.judges[one], *self.judges[other])
                rows.append((*names, metric, found.mean, found.low, found.high, found.clear))
        columns = [
            "truth",
            "model",
            "other_truth",
            "other_model",
            "metric",
            "difference",
            "low",
            "high",
            "settled",
        ]
        return pd.DataFrame(rows, columns=columns).astype({"difference": float, "low": float, "high": float})

    def _deciles(self, probability: Floats) -> list[tuple[str, float | None, float | None, float | None]]:
        """(metric, value, low, high) of each tenth of the answers, by their probability."""
        n, users = len(self.answers), len(self.answers.users)
        tenth = np.empty(n, np.int64)
        tenth[np.argsort(probability, kind="stable")] = np.arange(n) * _DECILES // n
        rows: list[tuple[str, float | None, float | None, float | None]] = []
        error = 0.0
        for number in range(_DECILES):
            there = tenth == number
            if not there.any():
                continue
            who = self.answers.row[there]
            count = np.bincount(who, minlength=users).astype(np.float64)
            yes = np.bincount(who, weights=self.answers.taken[there], minlength=users).astype(np.float64)
            share, mean = ratio_interval(yes, count), float(probability[there].mean())
            rows.append((f"decile_{number + 1}_predicted", mean, None, None))
            rows.append((f"decile_{number + 1}_taken", share.mean, share.low, share.high))
            error += float(there.mean()) * abs(mean - (share.mean or 0.0))
        return [*rows, ("calibration_error", error, None, None)]


def judge_answers(
    answers: HeldAnswers,
    scores: Mapping[tuple[str, str], Floats],
    *,
    k: int,
    folds: int,
    seed: int,
) -> ObservedEvidence:
    """Judge scores of answers; see :func:`judge_observed`.

    Args:
        answers: n answers.
        scores: (truth, model) → (n,) logarithms of intensities.
        k: Items that are chosen for ``precision``.
        folds: Parts of the users, at least 2 and at most one a user.
        seed: Seed of the parts and of ties.
    """
    row, taken, n_users = answers.row, answers.taken, len(answers.users)
    folds = max(2, min(folds, n_users))  # each is foretold from the others
    fold = folds_of(answers.users, seed, folds)[row]
    ties = rng.bits(seed, rng.Purpose.TIES, answers.users[row], answers.item)
    by_user: dict[str, list[Floats]] = {"auc": [], "precision": [], "log_likelihood": []}
    probabilities = []
    for score in scores.values():
        probability = calibrated(score, taken, fold, folds)
        by_user["auc"].append(user_aucs(row, score, taken, n_users))
        by_user["precision"].append(precisions(row, score, taken, ties, n_users, k))
        by_user["log_likelihood"].append(answer_likelihoods(row, probability, taken, n_users))
        probabilities.append(probability)
    return ObservedEvidence(
        answers=answers,
        judges=tuple(scores),
        by_user={metric: np.array(values) for metric, values in by_user.items()},
        probability=np.array(probabilities),
    )
