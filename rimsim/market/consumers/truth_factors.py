"""Truth of class ``factors``: each user has fixed factors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled
from rimsim.data.log import EventLog
from rimsim.intensity.contract import BLOCK
from rimsim.intensity.popularity import log_returning
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import rescaling
from rimsim.intensity.sets.factors import Items, fit_items, fold_users
from rimsim.intensity.sets.personal import Cells
from rimsim.intensity.softmax import is_sampled
from rimsim.intensity.states import UserStates
from rimsim.market.consumers.contract import (
    Law,
    Response,
    SlateVisits,
    TruthReport,
    poisson_probability,
    uniform_draw,
)
from rimsim.market.consumers.session_sizes import FittedTruth, SessionSizes
from rimsim.market.consumers.truth_fits import PRIOR, JudgedTruth, judged
from rimsim.market.histories import LoggedPast
from rimsim.market.scores import filled_up

LEAST_MASS = 1e-9
"""Σ p* of what is left to a user who has consumed nearly everything."""
_CHUNK = 4_000_000
"""Numbers of a matrix that is computed at once."""
_STEPS = 150
_FOLD_STEPS = 100
_LEARNING_RATE = 0.05
_CHUNK = 4_000_000
"""Numbers of a matrix that is computed at once."""
_DRAWS = 1024
"""Of a large log: labels drawn for a step, and as many uniform items."""


class FactorArrays(NamedTuple):
    """p*(y|u) = exp(⟨a_u, c_y⟩ + d_y − log Σ) over the whole catalogue."""

    user: Floats
    """(users, rank) a."""
    item: Floats
    """(M, rank) c."""
    bias: Floats
    """(M,) d."""
    log_normaliser: Floats
    """(users,) log Σ_y exp(⟨a_u, c_y⟩ + d_y)."""


@compiled
def _pair_share(user: int, item: int, factors: FactorArrays) -> float:
    """p* of one item over the whole catalogue."""
    # Product and sum per pair: unlike a matrix product, its bits do not depend on how many pairs there are. Eight
    # partial sums, which a processor can add together.
    a, c = factors.user[user], factors.item[item]
    whole = len(a) - len(a) % 8
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for first in range(0, whole, 8):
        s0 += a[first] * c[first]
        s1 += a[first + 1] * c[first + 1]
        s2 += a[first + 2] * c[first + 2]
        s3 += a[first + 3] * c[first + 3]
        s4 += a[first + 4] * c[first + 4]
        s5 += a[first + 5] * c[first + 5]
        s6 += a[first + 6] * c[first + 6]
        s7 += a[first + 7] * c[first + 7]
    total = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
    for factor in range(whole, len(a)):
        total += a[factor] * c[factor]
    return math.exp(total + factors.bias[item] - factors.log_normaliser[user])


@compiled
def pair_shares(users: Ints, items: Ints, factors: FactorArrays) -> Floats:
    """(n,) p* of (user, item) pairs over the catalogue."""
    share = np.empty(len(users), np.float64)
    for pair in range(len(users)):
        share[pair] = _pair_share(users[pair], items[pair], factors)
    return share


@compiled
def _has_consumed(item: int, place: int, items: Ints, following: Ints) -> bool:
    """Check an item against a slot's events, beginning at ``place``."""
    while place >= 0:
        if items[place] == item:
            return True
        place = following[place]
    return False


@compiled
def _consumed_mass(user: int, place: int, items: Ints, following: Ints, factors: FactorArrays) -> float:
    """Σ p* of a slot's events, in order."""
    consumed = 0.0
    while place >= 0:
        consumed += _pair_share(user, items[place], factors)
        place = following[place]
    return consumed


@compiled
def consumed_mass(users: Ints, first: Ints, items: Ints, following: Ints, factors: FactorArrays) -> Floats:
    """(n,) Σ p* of n visitors' events in the market."""
    mass = np.empty(len(users), np.float64)
    for n in range(len(users)):
        mass[n] = _consumed_mass(users[n], first[n], items, following, factors)
    return mass


@compiled
def left_by_past(offsets: Ints, items: Ints, factors: FactorArrays) -> Floats:
    """Σ p* left to users after each of their events."""
    # Items (n,) are by user, then time, and count once. User u after j events is at ``offsets[u] + u + j``.
    left = np.empty(len(items) + len(offsets) - 1, np.float64)
    seen = np.full(len(factors.bias), -1)
    for user in range(len(offsets) - 1):
        mass, row = 1.0, offsets[user] + user
        left[row] = mass
        for place in range(offsets[user], offsets[user + 1]):
            if seen[items[place]] != user:
                seen[items[place]] = user
                mass -= _pair_share(user, items[place], factors)
            left[row + 1 + place - offsets[user]] = mass
    return left


@compiled
def answer_slates(slates: Ints, users: Ints, keys: NDArray[np.uint64], ground: Floats, left: Floats,
    waiting: Floats, first: Ints, items: Ints, following: Ints, user_factors: Floats, item_factors: Floats,
    bias: Floats, log_normaliser: Floats, examination: Floats, attraction: float, consumed: Bools,
    probability: Floats, intensity: Floats) -> None:  # fmt: skip
    """Fill in responses (n, k) of visits of different visitors."""
    # Arrays come one by one: to hand a record to compiled code takes longer than its work for one slate. ``left`` is
    # Σ p* not consumed before the market, ``waiting`` of items not yet released; ``first`` (n,), ``items`` and
    # ``following`` are the linked events of :class:`rimsim.market.histories.Events`.
    factors = FactorArrays(user_factors, item_factors, bias, log_normaliser)
    for n in range(len(slates)):
        consumed_before = _consumed_mass(users[n], first[n], items, following, factors)
        scale = ground[n] / max(left[n] - consumed_before - waiting[n], LEAST_MASS)
        for position in range(slates.shape[1]):
            item = slates[n, position]
            if item < 0 or _has_consumed(item, first[n], items, following):
                consumed[n, position], probability[n, position], intensity[n, position] = False, 0.0, 0.0
                continue
            intensity[n, position] = _pair_share(users[n], item, factors) * scale
            probability[n, position] = poisson_probability(
                intensity[n, position], examination[position], attraction
            )
            consumed[n, position] = uniform_draw(keys[n], item) < probability[n, position]


@dataclass(frozen=True, eq=False)
class FactorsTruth(FittedTruth):
    """Truth with fixed factors of every user.

    p*(y|u) ∝ exp(⟨a_u, c_y⟩ + d_y) over admissible items.
    """

    kind: ClassVar[str] = "factors"
    arrays: ClassVar[tuple[str, ...]] = ("user_factors", "item_factors", "item_bias")

    user_factors: Floats
    """(users, rank) a."""
    item_factors: Floats
    """(M, rank) c."""
    item_bias: Floats
    """(M,) d."""
    sizes: SessionSizes
    """λ*."""
    report: TruthReport
    log_normaliser: Floats = dataclasses.field(init=False)
    """(users,) log Σ_y exp(⟨a_u, c_y⟩ + d_y) over the whole catalogue."""

    def __post_init__(self) -> None:
        normaliser = log_normaliser(self.user_factors, self.item_factors, self.item_bias)
        object.__setattr__(self, "log_normaliser", normaliser)

    @property
    def factors(self) -> FactorArrays:
        """p* as compiled code takes it."""
        return FactorArrays(self.user_factors, self.item_factors, self.item_bias, self.log_normaliser)

    def preference(self, users: Ints, states: UserStates) -> Floats:  # noqa: ARG002  # the protocol's
        """(n, M) p* over the whole catalogue; of the user alone."""
        return self._rows(users)

    def answer(self, visits: SlateVisits, slates: Ints, ground: Floats, law: Law, response: Response) -> None:
        """Fill in the response in one compiled pass."""
        slot, histories = visits.slot, visits.histories
        events = histories.events
        answer_slates(slates, histories.log_user[slot], visits.keys[visits.row], ground,
            _left_by_past(self, histories.past)[histories.row_of_past[slot]], self._waiting(visits),
            events.first[slot], events.item, events.next, *self.factors, law.examination, law.attraction,
            response.consumed, response.probability, response.intensity)  # fmt: skip

    def shares(self, visits: SlateVisits) -> Floats:
        """(n, M) p* over admissible items, in blocks of fixed height."""
        release, parts = visits.world.release, []
        for first in range(0, len(visits), BLOCK):
            rows = visits.row[first : first + BLOCK]
            block = dataclasses.replace(visits, row=filled_up(rows))
            histories, slot = block.histories, block.slot
            user, events = histories.log_user[slot], histories.events
            consumed = consumed_mass(user, events.first[slot], events.item, events.next, self.factors)
            share = self._rows(user)
            share[release[None, :] > visits.schedule.tick[block.row][:, None]] = 0.0
            share[block.consumed()] = 0.0
            left = _left_by_past(self, histories.past)[histories.row_of_past[slot]]
            left = left - consumed - self._waiting(block)
            parts.append((share / np.maximum(left, LEAST_MASS)[:, None])[: len(rows)])
        return np.concatenate(parts) if parts else np.zeros((0, len(release)))

    def _rows(self, users: Ints) -> Floats:
        """(n, M) p* over the catalogue; its bits depend on n."""
        logit = self.user_factors[users] @ self.item_factors.T + self.item_bias
        return np.asarray(np.exp(logit - self.log_normaliser[users][:, None]), np.float64)

    def _waiting(self, visits: SlateVisits) -> Floats:
        """(n,) Σ p* over items released after the visits."""
        # The sum has the items that are late at the round's beginning, as many for every batch, so that its last bits
        # are the same.
        schedule, release = visits.schedule, visits.world.release
        if schedule.start >= visits.world.last_release:
            return np.zeros(len(visits.row))
        late = np.flatnonzero(release > schedule.start)
        users = np.repeat(visits.log_user, len(late))
        share = pair_shares(users, np.tile(late, len(visits.row)), self.factors).reshape(-1, len(late))
        unreleased = release[late][None, :] > schedule.tick[visits.row][:, None]
        return np.asarray((share * unreleased).sum(1), np.float64)


@lru_cache(maxsize=4)
def _left_by_past(truth: FactorsTruth, past: LoggedPast) -> Floats:
    """Cached :func:`left_by_past` of a logged past."""
    return left_by_past(past.offsets, past.items, truth.factors)


def log_normaliser(a: Floats, c: Floats, d: Floats) -> Floats:
    """(users,) log Σ_y exp(⟨a_u, c_y⟩ + d_y), users in chunks."""
    height = max(1, _CHUNK // len(d))
    parts = []
    for first in range(0, len(a), height):
        logit = a[first : first + height] @ c.T + d
        top = logit.max(1)
        parts.append(top + np.log(np.exp(logit - top[:, None]).sum(1)))
    return np.concatenate(parts) if parts else np.zeros(0)


class FittedFactors(NamedTuple):
    """log p(y|u) = ⟨a_u, c_y⟩ + d_y − log Σ."""

    user: Floats
    """(users, rank) a."""
    item: Floats
    """(M, rank) c."""
    bias: Floats
    """(M,) d."""


def judge_factors(held: HeldOut, ridge: float, gap: str, rank: int) -> JudgedTruth:
    """Candidate of a ridge."""
    a, c, d = fit_factors(held.past, rank, ridge, held.user, whole=held.whole)
    return judged(held, "factors", ridge, a[held.user] @ c.T, d, gap)


def fit_factors_truth(
    log: EventLog,
    about: EventLog,
    first: JudgedTruth,
    held: HeldOut | None,
    *,
    gap: str,
    rank: int,
    sizes: SessionSizes,
    report: TruthReport,
) -> FactorsTruth:
    """Truth of factors of a candidate, fitted to a log."""
    # ``about`` is the log whose users it describes, over the same items; ``held`` are the states it was chosen on.
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
    log: EventLog, rank: int, ridge: float, users: Ints | None = None, *, whole: EventLog | None = None
) -> FittedFactors:
    """Factors of a log under a ridge.

    The full softmax is fitted, or samples of a large log.

    Args:
        users: Users whose a is needed: of a large log, others' may be 0. None: all.
        whole: The log that it is a part or a bootstrap of, whose size decides about samples. None: the log itself.
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
        _maximise(log, [table.requires_grad_() for table in (a, c, d)], ridge, _STEPS)
    bias = d.detach().numpy().astype(np.float64)
    bias = np.where(counts.numpy() > 0, bias, bias.min(initial=0.0) - 10.0)
    return FittedFactors(_plain(a), _plain(c), bias)


def fold_in(
    log: EventLog, base: FittedFactors, ridge: float, users: Ints | None = None, whole: EventLog | None = None
) -> FittedFactors:
    """Factors of a log's users for given items."""
    # Arguments are those of :func:`fit_factors`.
    c, d = (torch.from_numpy(array.astype(np.float32)) for array in (base.item, base.bias))
    if is_sampled(log if whole is None else whole):
        return base._replace(user=_plain(_folded(log, Items(c, d), ridge, users)))
    a = torch.zeros(log.n_users, base.item.shape[1]).requires_grad_()
    _maximise(log, (a, c, d), ridge, _FOLD_STEPS)
    return base._replace(user=_plain(a))


def _folded(log: EventLog, items: Items, ridge: float, users: Ints | None) -> torch.Tensor:
    """(users, R) a of chosen users, on samples; 0 for others."""
    known = np.unique(log.user)  # those that cells have rows for, in order
    wanted = known if users is None else np.intersect1d(users, known)
    a = torch.zeros(log.n_users, items.vectors.shape[1])
    a[wanted] = fold_users(Cells.of(log), np.searchsorted(known, wanted), items, ridge, _DRAWS, 0)
    return a


def _plain(tensor: torch.Tensor) -> Floats:
    return tensor.detach().numpy().astype(np.float64)


def _maximise(log: EventLog, tables: Sequence[torch.Tensor], ridge: float, steps: int) -> None:
    """Maximise the penalised likelihood of a log's events by Adam."""
    # Users come in chunks; tables with gradients change in place.
    a, c, d = tables
    optimiser = torch.optim.Adam([part for part in tables if part.requires_grad], lr=_LEARNING_RATE)
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
