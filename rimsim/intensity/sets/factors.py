"""Softmax factors, fitted by penalised likelihood, also for new users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Float32s, Floats, Ints
from rimsim.data.log import EventLog
from rimsim.intensity import softmax
from rimsim.intensity.contract import Hidden, in_blocks, spans
from rimsim.intensity.popularity import fill_cold, learned, log_popularity
from rimsim.intensity.selection.shrinkage import Shrinkage
from rimsim.intensity.sets.bag import Cycle, splits
from rimsim.intensity.sets.personal import Arrays, Cells, PersonalModel, SoftmaxConfig, decks, distinct, sums
from rimsim.intensity.states import UserStates
from rimsim.rng import Purpose, derived_seed, generator

_CELLS = 500_000
"""Number of scores, users times items, that a step of a full fit holds at once."""
_USERS = 256
"""Number of users per step of a sampled fit."""
_STEPS = 240
_TIMES = 4
"""Fewest steps of a sampled fit, and fewest steps in which each user takes part."""
_RATE = 0.05
"""Largest step size in a sampled fit."""
_NEWTON_STEPS = 5
"""Number of Newton steps that fit a user's vector on samples, from 0."""


class Items(NamedTuple):
    """Item parameters c, d of p(y|u) ∝ exp(⟨a_u, c_y⟩ + d_y)."""

    vectors: torch.Tensor
    """(M, R) vector c of each item."""
    bias: torch.Tensor
    """(M,) bias d of each item."""


def _outer(vectors: torch.Tensor) -> torch.Tensor:
    """(n, R²) outer products of vectors with themselves."""
    return (vectors[:, :, None] * vectors[:, None, :]).flatten(1)


def _stepped(
    u: torch.Tensor,
    slope: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    count: torch.Tensor,
    c: torch.Tensor,
    ridge: float,
) -> torch.Tensor:
    """(n, R) user vectors after a Newton step, from moments.

    A step Δ is shortened to log(1 + β)/β of its length, with β = 2·max‖c‖·‖Δ‖, so that it never overshoots. The log of
    a sum of exponentials is self-concordant in the sense of Sun and Tran-Dinh (Mathematical Programming 2019).
    """
    (mean, second) = moments
    rank = u.shape[1]
    spread = second.reshape(-1, rank, rank) - mean[:, :, None] * mean[:, None, :]
    penalty = ridge * torch.eye(rank, dtype=c.dtype, device=c.device)
    delta = torch.linalg.solve(count[:, None, None] * spread + penalty, slope)
    beta = (2.0 * c.norm(dim=1).amax() * delta.norm(dim=1, keepdim=True)).clamp(min=1e-6)
    moved: torch.Tensor = u + delta * (torch.log1p(beta) / beta)
    return moved


def folded(total: torch.Tensor, count: torch.Tensor, items: Items, ridge: float, steps: int) -> torch.Tensor:
    """(n, R) user vectors u from sums of item vectors.

    A user vector u maximises ⟨total, u⟩ − count·log Σ_y exp(⟨u, c_y⟩ + d_y) − ridge/2·‖u‖². This is the penalised
    likelihood of ``count`` items whose vectors sum to ``total``.
    """
    vectors, offset = items
    squares = _outer(vectors)
    u = torch.zeros_like(total)
    for _ in range(steps):
        share = torch.softmax(torch.addmm(offset, u, vectors.T), 1)
        mean = share @ vectors
        slope = total - count[:, None] * mean - ridge * u
        u = _stepped(u, slope, (mean, share @ squares), count, vectors, ridge)
    return u


def _newton(u: torch.Tensor, c: torch.Tensor, shares: softmax.SoftmaxShares, ridge: float) -> torch.Tensor:
    """(b, R) user vectors after a Newton step on users' items."""
    row, item = shares.pairs
    ones = torch.ones_like(shares.pair_share)
    count = u.new_zeros(len(u)).index_add_(0, row, ones)
    mean = shares.mean(shares.pair_share, shares.rest_share, c)
    second = shares.rest_share @ _outer(shares.rows_of(c))
    slope = -shares.mean(*shares.slopes(ones), c) - ridge * u
    # A sparse product of matrices is used, because a table of all squares of vectors takes five times as long.
    is_used = torch.zeros(len(c), dtype=torch.bool, device=c.device).index_fill_(0, item, 1)
    items = is_used.nonzero().squeeze(1)
    place = (is_used.cumsum(0) - 1).index_select(0, item)
    pairs = torch.sparse_coo_tensor(
        torch.stack([row, place]), shares.pair_share, (len(u), len(items)), check_invariants=False
    )
    second += torch.sparse.mm(pairs, _outer(c[items]))
    return _stepped(u, slope, (mean, second), count, c, ridge)


class _Draw:
    """Items of users, and a sample of other items."""

    def __init__(self, cells: Cells, draws: int, seed: int, device: torch.device) -> None:
        self._cells = cells
        self._device = device
        self._negatives = softmax.Negatives.of(cells.item, cells.n_items, draws, device)
        self._source = torch.Generator(device)
        self._source.manual_seed(derived_seed(seed, Purpose.MODEL, 27))

    def of(self, users: Ints) -> tuple[softmax.RowItems, torch.Tensor, softmax.Sample]:
        """Items of users, their labels, and sampled items."""
        row, place = self._cells.pairs_of(users)
        parts = row, self._cells.item[place], self._cells.label[place]
        of_row, item, label = (torch.from_numpy(part).to(self._device) for part in parts)
        return softmax.RowItems(of_row, item), label, self._negatives.draw(item, self._source)


@torch.no_grad()
def fit_items(cells: Cells, begin: Items, ridge: float, draws: int, seed: int) -> torch.Tensor:
    """Item vectors c that nearly maximise the penalised likelihood.

    The penalised likelihood is Σ log p(y|u) over labels, minus ridge/2·(‖a‖² + ‖c‖²). In each step of the fit, a Newton
    step on the likelihood of all their items improves the vectors a of some users. An Adam step on the likelihood of
    their labels improves the item vectors c. Sums over items use the users' own items and a sample of ``draws`` labels
    and as many uniform items. So the time of a step does not depend on the size of the catalogue.
    """
    n = len(cells)
    device = begin.vectors.device
    size = min(_USERS, n)
    steps = max(_STEPS, -(-_TIMES * n // max(size, 1)))
    c = torch.nn.Parameter(begin.vectors.clone())
    d = begin.bias
    a = torch.zeros(n, c.shape[1], device=device)
    optimizer = softmax.AdamW([c])
    order = generator(seed, Purpose.MODEL, 26)
    draw = _Draw(cells, draws, seed, device)
    for step, batch in enumerate(decks(np.arange(n), size, steps, order)):
        pairs, label, sample = draw.of(batch)
        rows = torch.from_numpy(batch).to(device)
        a[rows] = u = _newton(a[rows], c, softmax.softmax_shares(a[rows], c, d, pairs, sample), ridge)
        shares = softmax.softmax_shares(u, c, d, pairs, sample)
        slopes = shares.slopes(label)
        c.grad = shares.spread(*slopes, u, len(c)) * (n / size) + ridge * c
        optimizer.step(softmax.one_cycle(step, steps, _RATE))
    return c.detach()


@torch.no_grad()
def fold_users(cells: Cells, users: Ints, items: Items, ridge: float, draws: int, seed: int) -> torch.Tensor:
    """(users, R) user vectors a, by Newton's method on samples.

    Arguments are those of :func:`fit_items`.
    """
    c, d = items
    draw = _Draw(cells, draws, seed, c.device)
    vectors = c.new_zeros(len(users), c.shape[1])
    for first, last in spans(len(users), _USERS):
        pairs, _, sample = draw.of(users[first:last])
        for _ in range(_NEWTON_STEPS):
            u = vectors[first:last]
            vectors[first:last] = _newton(u, c, softmax.softmax_shares(u, c, d, pairs, sample), ridge)
    return vectors


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FactorsConfig(SoftmaxConfig):
    """Size and training of softmax factors."""

    rank: int = Field(default=16, ge=1)
    """Length of user and item vectors."""
    ridge: float | None = Field(default=None, gt=0)
    """Penalty on squared vectors; none: chosen on held-out later sessions."""
    steps: int = Field(default=120, ge=1)
    """Number of steps of Adam in a fit, each on the whole log."""
    further_steps: int = Field(default=40, ge=1)
    """Number of steps from one ridge penalty of the grid to the next, if the ridge penalty is chosen."""
    learning_rate: float = Field(default=0.1, gt=0)
    """Largest step size in a fit."""
    newton_steps: int = Field(default=6, ge=1)
    """Number of Newton steps that fit a user's vector to the user's events."""
    update_steps: int = Field(default=20, ge=0)
    """Number of steps of Adam in an update."""
    update_batch_size: int = Field(default=128, ge=1)
    """Number of users per step of an update."""
    update_learning_rate: float = Field(default=0.01, gt=0)
    """Largest step size in an update."""
    memory: float = Field(default=10_000.0, gt=0)
    """Number of events that the popularity before an update counts as."""


class Factors(PersonalModel[FactorsConfig]):
    """``p(y|x) = softmax(τ ⟨u(x), c_y⟩ + κ log popularity_y + κ' log returning_y)``.

    Users' vectors a and items' vectors c maximise Σ log softmax(⟨a_u, c_y⟩ + log popularity_y) over all events, minus a
    ridge on both. For a large log, the maximum is approximate (:func:`fit_items`). The model also scores users outside
    the log. Their vector u(x) maximises the penalised likelihood of the items of x with fixed c (:func:`folded`). λ(x)
    = 1.
    """

    kind: ClassVar[str] = "factors"
    config_class = FactorsConfig
    summed = "vectors"
    grid = (100.0, 30.0, 10.0, 3.0)
    usual = 10.0
    strength = "ridge"

    @torch.no_grad()
    def _fits(self, log: EventLog, strengths: tuple[float, ...], full_log: EventLog) -> Iterator[Arrays]:
        config = self.config
        cells = Cells.of(log)
        source = generator(config.seed, Purpose.MODEL, 23)
        offset = log_popularity(log, config.smoothing).astype(np.float32)
        first = [
            source.normal(0, 0.1, (n, config.rank)).astype(np.float32) for n in (len(cells), log.n_items)
        ]
        a, c = (torch.nn.Parameter(torch.from_numpy(table).to(self.device)) for table in first)
        items = Items(c, torch.from_numpy(offset).to(self.device))
        sampled = softmax.is_sampled(full_log, config.softmax)
        for number, ridge in enumerate(strengths):
            if sampled:
                c.copy_(fit_items(cells, items, ridge, config.negatives, config.seed))
            else:
                self._train(a, items, cells, ridge, config.further_steps if number else config.steps)
            vectors = c.detach().cpu().numpy().copy()
            yield {"vectors": vectors, "offset": offset, "ridge": np.array([ridge], np.float32)}

    def _train(self, a: torch.Tensor, items: Items, cells: Cells, ridge: float, steps: int) -> None:
        """Maximise the whole penalised likelihood by Adam."""
        c, offset = items
        optimizer = softmax.AdamW([a, c])  # type: ignore[list-item]  # both tensors are parameters
        height = max(1, _CELLS // cells.n_items)
        labels = cells.matrix(cells.label)
        plain = bool((cells.label == 1.0).all())
        parts = np.diff(cells.offsets).astype(np.float32)[:, None], cells.user * cells.n_items + cells.item
        count, place = (torch.from_numpy(part).to(self.device) for part in parts)
        for step in range(steps):
            a.grad = ridge * a
            c.grad = ridge * c
            for begin, end in spans(len(cells), height):
                rows = slice(begin, end)
                of_rows = slice(*cells.offsets[[begin, end]].tolist())
                share = softmax.softmax_(torch.addmm(offset, a[rows], c.T))
                of_user = share.mul_(count[rows]) if plain else share * count[rows]
                taken = place[of_rows] - begin * cells.n_items
                of_item = of_user.view(-1).index_add_(0, taken, -share.new_ones(len(taken))).view_as(share)
                if not plain:
                    y = torch.from_numpy(labels[rows].toarray()).to(self.device)
                    of_item = share.mul_(y.sum(1, keepdim=True)).sub_(y)
                a.grad[rows] += of_user @ c
                c.grad += of_item.T @ a[rows]
            optimizer.step(softmax.one_cycle(step, steps, self.config.learning_rate))

    def _scores(self, fit: Arrays, states: UserStates) -> Float32s:
        states = distinct(states)
        items = Items(*(torch.from_numpy(fit[name]).double() for name in ("vectors", "offset")))
        total = torch.from_numpy(sums(states, fit["vectors"])).double()
        count = torch.from_numpy(states.lengths.astype(np.float64))
        ridge = float(fit["ridge"][0])
        steps = self.config.newton_steps
        users = in_blocks(lambda t, n: folded(t, n, items, ridge, steps), total, count)
        return np.asarray((users @ items.vectors.T).numpy(), np.float32)

    def _serving(self, fit: Arrays, chosen: Shrinkage, base: Floats, log: EventLog) -> Arrays:
        vectors = torch.from_numpy(fit["vectors"].copy())
        bias = torch.from_numpy(base.astype(np.float32))
        if self.config.cold_items:
            fill_cold(vectors, bias, log)
        weights = np.array([chosen.personal, chosen.strength], np.float32)
        return {"vectors": vectors.numpy(), "offset": fit["offset"], "bias": bias.numpy(), "weights": weights}

    @torch.no_grad()
    def _updated(self, log: EventLog) -> Arrays:
        config = self.config
        personal, ridge = self._array("weights").tolist()
        offset = self.served("offset").double()
        bias = self.served("bias")
        begin = self.served("vectors")
        vectors = torch.nn.Parameter(begin.clone())
        optimizer = softmax.AdamW([vectors])
        seed = derived_seed(config.seed, Purpose.MODEL, 24, self._updates)
        steps = config.update_steps
        rate = config.update_learning_rate
        cycle = Cycle(steps, config.update_batch_size, rate, ridge, seed, read_history=True)
        for step, split in enumerate(splits(Cells.of(log), cycle, self.device)):
            now = vectors.double()
            total, count = split.sums(now)
            users = folded(total, count.double(), Items(now, offset), ridge, config.newton_steps)
            shares = softmax.softmax_shares(users, now, offset, split.predicted, None, barred=split.read)
            slopes = shares.slopes(split.label.double())
            vectors.grad = shares.spread(*slopes, users, len(now)).float() + ridge * (vectors - begin)
            optimizer.step(softmax.one_cycle(step, steps, rate))
        return {
            "vectors": vectors.detach().cpu().numpy(),
            "offset": learned(self._array("offset"), log, config.memory),
            "bias": learned(bias.cpu().numpy(), log, config.memory),
            "weights": np.array([personal, ridge], np.float32),
        }

    def _users(self, *hidden: torch.Tensor) -> torch.Tensor:
        """(BLOCK, R) vectors u(x) of a block of hidden states."""
        total, count = (part.double() for part in hidden)
        items = Items(self.served("vectors").double(), self.served("offset").double())
        ridge = float(self.served("weights")[1])
        return folded(total, count, items, ridge, self.config.newton_steps).float()

    def _softmax(self, users: torch.Tensor) -> torch.Tensor:
        vectors = self.served("vectors")
        bias = self.served("bias")
        return softmax.softmax_(torch.addmm(bias, users, vectors.T, alpha=float(self.served("weights")[0])))

    def _probabilities(self, *hidden: torch.Tensor) -> torch.Tensor:
        return self._softmax(self._users(*hidden))


class UserFactors(Factors):
    """Softmax factors of users with fixed vectors.

    A hidden state is the vector u(x) of the encoded state, and further events do not change it. A truth encodes all
    logged events of a user, which gives the user's fitted vector a.
    """

    kind: ClassVar[str] = "user-factors"

    @torch.no_grad()
    def encode(self, states: UserStates) -> Hidden:
        """Hidden states: (n, R) vectors u(x)."""
        return (in_blocks(self._users, *super().encode(states)),)

    @torch.no_grad()
    def users_of(self, log: EventLog) -> Hidden:
        """(users, R) vectors of a log's users; large logs are sampled."""
        everyone = np.arange(log.n_users)
        if not softmax.is_sampled(log, self.config.softmax):
            return self.encode(UserStates.of(log, everyone, np.inf))
        vectors = self.served("vectors").new_zeros(log.n_users, self.config.rank)
        users = np.unique(log.user)
        items = Items(self.served("vectors"), self.served("offset"))
        ridge = float(self.served("weights")[1])
        draws = self.config.negatives
        seed = self.config.seed
        rows = torch.from_numpy(users).to(vectors.device)
        vectors[rows] = fold_users(Cells.of(log), np.arange(len(users)), items, ridge, draws, seed)
        return (vectors,)

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:  # noqa: ARG002  # the protocol requires this argument
        """Unchanged hidden states."""
        return hidden

    def _probabilities(self, *hidden: torch.Tensor) -> torch.Tensor:
        return self._softmax(*hidden)
