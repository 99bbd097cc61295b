"""Refusals of floors that cannot be met, or were not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np

from rimsim.arrays import Ints
from rimsim.errors import InfeasibleError
from rimsim.matching._flow import violated_items_weighted
from rimsim.matching._terms import missing

if TYPE_CHECKING:
    from rimsim.matching._terms import Terms
    from rimsim.matching._whole import Whole
    from rimsim.matching.problem import Problem
    from rimsim.matching.solution import DualSolution


def refuse_short(problem: Problem, solution: DualSolution, after: str) -> None:
    """Raise if slates of positions that count alike miss hard floors ``after`` what was tried.

    Raises:
        InfeasibleError: If so.
    """
    short = np.flatnonzero(np.isinf(problem.cost) & (solution.exposure < problem.floor))
    if len(short):
        raise InfeasibleError(
            f"solve_dual: {len(short)} items stay {solution.shortfall} exposures short of their floors {after}; lower "
            "min_exposure or give `cost`",
            tuple(int(item) for item in short),
            int(solution.shortfall),
        )


def refuse_violated(terms: Terms, order: Ints, where: str) -> None:
    """Raise if the floors of the first items of an order, however many, exceed what can reach them.

    Args:
        terms: The problem.
        order: Items, those of the highest floors first.
        where: The function that was called.

    Raises:
        InfeasibleError: If so.
    """
    items, lacking = violated_items_weighted(terms.scores, terms.capacity, terms.weights, terms.least, order)
    if lacking > 0.0:
        raise InfeasibleError(
            f"{where}: the floors of {len(items)} items ({names_of(items)}) ask for {lacking:.6g} more exposure than "
            "can reach them within capacity and `admissible`; lower min_exposure or give `cost`",
            tuple(int(item) for item in items),
            lacking,
        )


def names_of(items: Ints) -> str:
    """Numbers of the first ten of some items (n,), for a message."""
    return ", ".join(str(item) for item in items[:10]) + (", …" if len(items) > 10 else "")


def refuse_unmet(terms: Terms, whole: Whole, where: str) -> NoReturn:
    """Raise since no whole slates were found that meet hard floors.

    Args:
        terms: The problem.
        whole: The slates that come nearest.
        where: The function that was called.

    Raises:
        InfeasibleError: In any case.
    """
    m = terms.scores.shape[1]
    lacking = np.where(np.isinf(terms.cost), missing(terms, whole.exposure), 0.0)
    items, groups = np.flatnonzero(lacking[:m]), np.flatnonzero(lacking[m:])
    whose = [f"{name} {names_of(of)}" for name, of in (("items", items), ("rows", groups)) if len(of)]
    raise InfeasibleError(
        f"{where}: no whole slates were found that meet the floors of {' and '.join(whose)}, "
        f"{lacking.sum():.6g} is missing; lower them or give `cost`",
        tuple(int(item) for item in items),
        float(lacking.sum()),
    )
