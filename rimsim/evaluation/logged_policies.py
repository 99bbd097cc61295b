"""Worth of policies from logged impressions with propensities.

A log of impressions does not say which impressions formed a slate. So each impression counts as a slate of one item at
a known position, and the worth of a policy is the mean number of taken items per impression.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.data.impressions import LoggedImpressions
from rimsim.errors import DataError, refuse
from rimsim.evaluation.off_policy import Chances, Estimate, LoggedSlates, estimated

SINGLE: Final = ("ips", "snips", "doubly-robust", "direct")
"""Names of the estimators that differ for slates of one item."""
_FOLDS: Final = 2
"""Number of folds of visitors; the predicted rates of a fold are means over the other folds."""


def random_from_log(impressions: LoggedImpressions, n_items: int) -> LoggedSlates:
    """Logged impressions, with the chances of uniformly random items.

    The predicted reward of an item at a position is a mean over visitors of other folds.

    Args:
        impressions: Impressions with propensities.
        n_items: Number of items that the random policy chooses from.

    Raises:
        DataError: If a propensity is unknown.
    """
    propensity = impressions.propensity
    if propensity is None or not np.isfinite(propensity).all():
        unknown = len(impressions) if propensity is None else int((~np.isfinite(propensity)).sum())
        problem = f"the propensity of {unknown:,} of {len(impressions):,} impressions is unknown"
        refuse(
            DataError, "impressions", problem, "a column of propensities (--columns ...,propensity=COLUMN)"
        )
    predicted, predicted_target = _predicted(impressions, n_items)
    return LoggedSlates(
        reward=impressions.taken[:, None].astype(np.float64),
        shown=np.ones((len(impressions), 1), bool),
        logging=_of_single_items(propensity),
        target=_of_single_items(np.full(len(impressions), 1.0 / n_items)),
        predicted=predicted[:, None],
        predicted_target=predicted_target,
        visitor=impressions.visitor,
        admissible=np.full(len(impressions), n_items),
    )


def click_rate(impressions: LoggedImpressions) -> Estimate:
    """Share of impressions that were taken, under the logging policy."""
    certain = _of_single_items(np.ones(len(impressions)))
    log = LoggedSlates(
        reward=impressions.taken[:, None].astype(np.float64),
        shown=np.ones((len(impressions), 1), bool),
        logging=certain,
        target=certain,
        predicted=np.zeros((len(impressions), 1)),
        predicted_target=np.zeros(len(impressions)),
        visitor=impressions.visitor,
        admissible=np.ones(len(impressions), np.int64),
    )
    rate = estimated("ips", log)
    if rate is None:
        refuse(DataError, "impressions", "there are none", "at least one impression")
    return rate


def _of_single_items(chance: Floats) -> Chances:
    """Chances of slates of one item."""
    column = chance[:, None]
    return Chances(inclusion=column, position=column, prefix=column, slate=chance)


def _predicted(impressions: LoggedImpressions, n_items: int) -> tuple[Floats, Floats]:
    """Predicted reward of each impression, and of random items."""
    n = len(impressions)
    position = np.zeros(n, np.int64) if impressions.position is None else impressions.position
    predicted = np.empty(n)
    predicted_target = np.empty(n)
    fold = impressions.visitor % _FOLDS
    for number in range(_FOLDS):
        is_held = fold == number
        rates = _rates(
            impressions.rows(~is_held), position[~is_held], n_items, int(position.max(initial=0)) + 1
        )
        predicted[is_held] = rates[impressions.item[is_held], position[is_held]]
        predicted_target[is_held] = rates.mean(0)[position[is_held]]
    return predicted, predicted_target


def _rates(impressions: LoggedImpressions, position: Ints, n_items: int, n_positions: int) -> Floats:
    """(M, positions) rates, as products of two factors.

    The mean rate is multiplied by a factor of the item and one of the position. A factor is the number of taken items
    divided by the number expected at the mean rate, with one more of each.
    """
    mean_rate = (impressions.taken.sum() + 0.5) / (len(impressions) + 1.0)

    def factors(group: Ints, n_groups: int) -> Floats:
        """(groups,) ratio of taken to expected items."""
        taken = np.bincount(group, impressions.taken, n_groups)
        expected = np.bincount(group, minlength=n_groups) * mean_rate
        return np.asarray((taken + 1.0) / (expected + 1.0), np.float64)

    rates = mean_rate * np.outer(factors(impressions.item, n_items), factors(position, n_positions))
    return np.asarray(np.minimum(rates, 1.0), np.float64)
