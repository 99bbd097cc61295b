"""How the factors of users and items are fitted: penalised maximum likelihood."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from rimsim import rng
from rimsim.arrays import Floats, Ints
from rimsim.intensity.popularity import log_returning
from rimsim.intensity.selection.shrinkage import rescaling
from rimsim.intensity.sets.factors import Items, fit_items, fold_users
from rimsim.intensity.sets.personal import Cells
from rimsim.intensity.softmax import is_sampled
from rimsim.market.consumers.truths.factors import FactorsTruth
from rimsim.market.consumers.truths.held_out import PRIOR, judged

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.selection.held_out import HeldOut
    from rimsim.market.consumers.truths.contract import TruthReport
    from rimsim.market.consumers.truths.held_out import Judged
    from rimsim.market.consumers.truths.sizes import SessionSizes


_STEPS = 150
_FOLD_STEPS = 100
_LEARNING_RATE = 0.05
_CHUNK = 4_000_000
"""Numbers of a matrix that is computed at once."""
_DRAWS = 1024
"""Of a large log: labels drawn for a step, and as many uniform items."""


class FittedFactors(NamedTuple):
    """log p(y|u) = ⟨a_u, c_y⟩ + d_y − log Σ."""

    user: Floats
    """(users, rank) a."""
    item: Floats
    """(M, rank) c."""
    bias: Floats
    """(M,) d."""


def judge_factors(held: HeldOut, ridge: float, gap: str, rank: int) -> Judged:
    """The candidate of a ridge."""
    a, c, d = fit_factors(held.past, rank, ridge, held.user, whole=held.whole)
    return judged(held, "factors", ridge, a[held.user] @ c.T, d, gap)


def fit_factors_truth(
    log: EventLog,
    about: EventLog,
    first: Judged,
    held: HeldOut | None,
    *,
    gap: str,
    rank: int,
    sizes: SessionSizes,
    report: TruthReport,
) -> FactorsTruth:
    """The truth of a candidate.

    Args:
        log: What it is fitted to.
        about: The log whose users it is about; over the same items.
        first: What was chosen.
        held: The states on which it was; None where there are none.
        gap: A silence longer than this ends a session.
        rank: Number of factors.
        sizes: λ*.
        report: How it was chosen.
    """
    best, times = first.candidate, 1.0
    own = None if about is log else np.zeros(0, np.int64)
    fitted = fit_factors(log, rank, best.ridge, own, whole=about)
    if held is not None:
        # The same users with the same past, so that nothing but the items' factors differs.
        a, c, _ = fold_in(held.past, fitted, best.ridge, held.user, whole=held.whole)
        times = rescaling(first.spread, float((a[held.user] @ c.T).std()))
    if about is not log:
        fitted = fold_in(about, fitted, best.ridge)
    a, c, d = fitted
    bias = best.popularity * d + best.returning * log_returning(log, gap, PRIOR)
    personal = best.personal * times
    return FactorsTruth(personal * a, c, bias, sizes, dataclasses.replace(report, personal=personal))


def fit_factors(
    log: EventLog,
    rank: int,
    ridge: float,
    users: Ints | None = None,
    *,
    whole: EventLog | None = None,
) -> FittedFactors:
    """Fit a, c and d to a log with a ridge on a and c, on the full softmax; of a large log on samples.

    Args:
        log: The log.
        rank: Number of factors.
        ridge: Weight of ½(|a|² + |c|²).
        users: Whose a is wanted: of a large log, others' may be 0. None: everyone's.
        whole: The log that it is a part or a bootstrap of, by whose size it is decided whether to look at samples.
            None: the log itself.
    """
    generator = torch.Generator().manual_seed(rng.derived_seed(0, rng.Purpose.MODEL, rank))
    counts = torch.from_numpy(np.bincount(log.item, minlength=log.n_items)).to(torch.float32)
    a = 0.1 * torch.randn(log.n_users, rank, generator=generator)
    c = 0.1 * torch.randn(log.n_items, rank, generator=generator)
    d = torch.log(counts + 0.5)
    if is_sampled(log if whole is None else whole):
        c, d = fit_items(Cells.of(log), Items(c, d), ridge, _DRAWS, 0, learn_bias=True)
        a = _folded(log, Items(c, d), ridge, users)
    else:
        free = [table.requires_grad_() for table in (a, c, d)]
        _maximise(log, a, c, d, free, ridge, _STEPS)
    bias = d.detach().numpy().astype(np.float64)
    bias = np.where(counts.numpy() > 0, bias, bias.min(initial=0.0) - 10.0)
    return FittedFactors(_plain(a), _plain(c), bias)


def fold_in(
    log: EventLog,
    fitted: FittedFactors,
    ridge: float,
    users: Ints | None = None,
    *,
    whole: EventLog | None = None,
) -> FittedFactors:
    """Factors of the users of a log for items whose factors stay as they were fitted to another one.

    Args:
        log: The log whose users are wanted; over the same items.
        fitted: Item factors and biases.
        ridge: Weight of ½|a|².
        users: As for :func:`fit_factors`, like what follows.
        whole: See there.
    """
    c, d = (torch.from_numpy(array.astype(np.float32)) for array in (fitted.item, fitted.bias))
    if is_sampled(log if whole is None else whole):
        return fitted._replace(user=_plain(_folded(log, Items(c, d), ridge, users)))
    a = torch.zeros(log.n_users, fitted.item.shape[1]).requires_grad_()
    _maximise(log, a, c, d, [a], ridge, _FOLD_STEPS)
    return fitted._replace(user=_plain(a))


def _folded(log: EventLog, items: Items, ridge: float, users: Ints | None) -> torch.Tensor:
    """(users, R) the a of some users of a large log, on samples of items; 0 for the others."""
    known = np.unique(log.user)  # those that cells have rows for, in order
    wanted = known if users is None else np.intersect1d(users, known)
    a = torch.zeros(log.n_users, items.vectors.shape[1])
    a[wanted] = fold_users(Cells.of(log), np.searchsorted(known, wanted), items, ridge, _DRAWS, 0)
    return a


def _plain(tensor: torch.Tensor) -> Floats:
    return tensor.detach().numpy().astype(np.float64)


def _maximise(
    log: EventLog,
    a: torch.Tensor,
    c: torch.Tensor,
    d: torch.Tensor,
    free: list[torch.Tensor],
    ridge: float,
    steps: int,
) -> None:
    """Adam on the penalised likelihood of a log's events, users in chunks; changes the ``free`` parameters in place."""
    optimiser = torch.optim.Adam(free, lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2 * _LEARNING_RATE, total_steps=steps)
    order = np.argsort(log.user, kind="stable")
    user, item = torch.from_numpy(log.user[order]), torch.from_numpy(log.item[order])
    totals = torch.bincount(user, minlength=log.n_users).to(torch.float32)
    height = max(1, _CHUNK // log.n_items)
    edges = [*range(0, log.n_users, height), log.n_users]
    cuts = torch.searchsorted(user, torch.tensor(edges)).tolist()
    for _ in range(steps):
        optimiser.zero_grad()
        for first, last, begin, end in zip(edges, edges[1:], cuts, cuts[1:], strict=False):
            u, y = user[begin:end], item[begin:end]
            normaliser = torch.logsumexp(a[first:last] @ c.T + d, 1)
            observed = (a[u] * c[y]).sum() + d[y].sum()
            ((normaliser * totals[first:last]).sum() - observed).backward()  # type: ignore[no-untyped-call]  # torch
        penalty = a.square().sum() + (c.square().sum() if c.requires_grad else 0.0)
        (0.5 * ridge * penalty).backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
        schedule.step()
