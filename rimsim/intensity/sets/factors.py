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

_EXACT = np.float64
"""Precision of a full fit. The likelihood has many maxima, and Adam turns a last bit of a float32 sum, which depends on
the processor's vector instructions, into other vectors of items. In float64, fits on different processors round to
nearly the same float32 vectors."""
_CELLS = 500_000
"""Number of scores, users times items, that a step of a full fit holds at once."""
_USERS = 256
"""Number of users per step of a sampled fit."""
_STEPS = 240
"""Fewest steps of a sampled fit."""
_TIMES = 4
"""Fewest steps of a sampled fit in which each user takes part."""
_RATE = 0.05
"""Largest step size in a sampled fit."""
_NEWTON_STEPS = 5
"""Number of Newton steps that fit a user's vector on samples of items; the first step starts at the vector 0."""


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
    gradient: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    count: torch.Tensor,
    c: torch.Tensor,
    ridge: float,
) -> torch.Tensor:
    """(n, R) user vectors after a Newton step on the likelihood.

    The likelihood has a ridge penalty. ``moments`` are the means, under each user's softmax, of the item vectors and of
    their outer products. ``count`` is the number of items of each user. A step Δ is shortened to log(1 + β)/β of its
    length, with β = 2·max‖c‖·‖Δ‖, so that it never overshoots. The log of a sum of exponentials is self-concordant in
    the sense of Sun and Tran-Dinh (Mathematical Programming 2019).
    """
    mean, second = moments
    rank = u.shape[1]
    covariance = second.reshape(-1, rank, rank) - mean[:, :, None] * mean[:, None, :]
    penalty = ridge * torch.eye(rank, dtype=c.dtype, device=c.device)
    negative_hessian = count[:, None, None] * covariance + penalty
    delta = torch.linalg.solve(negative_hessian, gradient)
    beta = (2.0 * c.norm(dim=1).amax() * delta.norm(dim=1, keepdim=True)).clamp(min=1e-6)
    u_after: torch.Tensor = u + delta * (torch.log1p(beta) / beta)
    return u_after


def folded(total: torch.Tensor, count: torch.Tensor, items: Items, ridge: float, steps: int) -> torch.Tensor:
    """(n, R) user vectors u from sums of item vectors.

    A user vector u maximises ⟨total, u⟩ − count·log Σ_y exp(⟨u, c_y⟩ + d_y) − ridge/2·‖u‖². This is the penalised
    likelihood of ``count`` items whose vectors sum to ``total``.
    """
    vectors, offset = items
    outer_products = _outer(vectors)
    u = torch.zeros_like(total)
    for _ in range(steps):
        probability = torch.softmax(torch.addmm(offset, u, vectors.T), 1)
        mean = probability @ vectors
        gradient = total - count[:, None] * mean - ridge * u
        u = _stepped(u, gradient, (mean, probability @ outer_products), count, vectors, ridge)
    return u


def _newton(u: torch.Tensor, c: torch.Tensor, shares: softmax.SoftmaxShares, ridge: float) -> torch.Tensor:
    """(b, R) user vectors after a Newton step on users' items.

    ``shares`` are the softmax at the present vectors u, over each user's own items and a sample of other items.
    """
    row, item = shares.pairs
    ones = torch.ones_like(shares.pair_share)
    count = u.new_zeros(len(u)).index_add_(0, row, ones)
    mean = shares.mean(shares.pair_share, shares.rest_share, c)
    second = shares.rest_share @ _outer(shares.rows_of(c))
    own_gradient, other_gradient = shares.slopes(ones)
    gradient = -shares.mean(own_gradient, other_gradient, c) - ridge * u
    # The own items enter the second moment by a sparse product of matrices, because a table of the outer products of
    # all pairs takes five times as long.
    is_used = torch.zeros(len(c), dtype=torch.bool, device=c.device).index_fill_(0, item, 1)
    items = is_used.nonzero().squeeze(1)
    column = (is_used.cumsum(0) - 1).index_select(0, item)  # position of each own item in `items`
    pair_shares = torch.sparse_coo_tensor(
        torch.stack([row, column]), shares.pair_share, (len(u), len(items)), check_invariants=False
    )
    second += torch.sparse.mm(pair_shares, _outer(c[items]))
    return _stepped(u, gradient, (mean, second), count, c, ridge)


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
        row, pair = self._cells.pairs_of(users)
        item = torch.from_numpy(self._cells.item[pair]).to(self._device)
        label = torch.from_numpy(self._cells.label[pair]).to(self._device)
        row_items = softmax.RowItems(torch.from_numpy(row).to(self._device), item)
        return row_items, label, self._negatives.draw(item, self._source)


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
        shares_before = softmax.softmax_shares(a[rows], c, d, pairs, sample)
        u = _newton(a[rows], c, shares_before, ridge)
        a[rows] = u
        shares = softmax.softmax_shares(u, c, d, pairs, sample)
        own_gradient, other_gradient = shares.slopes(label)
        # The batch stands for all users, so its gradient counts n / size times.
        c.grad = shares.spread(own_gradient, other_gradient, u, len(c)) * (n / size) + ridge * c
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
            shares = softmax.softmax_shares(u, c, d, pairs, sample)
            vectors[first:last] = _newton(u, c, shares, ridge)
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
    """Weight of the popularity before an update, as a number of events."""


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
        """Item vectors c, fitted with each ridge penalty in turn."""
        config = self.config
        cells = Cells.of(log)
        source = generator(config.seed, Purpose.MODEL, 23)
        offset = log_popularity(log, config.smoothing).astype(np.float32)
        sampled = softmax.is_sampled(full_log, config.softmax)
        dtype = np.dtype(np.float32 if sampled else _EXACT)
        user_table = source.normal(0, 0.1, (len(cells), config.rank)).astype(dtype)
        item_table = source.normal(0, 0.1, (log.n_items, config.rank)).astype(dtype)
        a = torch.nn.Parameter(torch.from_numpy(user_table).to(self.device))
        c = torch.nn.Parameter(torch.from_numpy(item_table).to(self.device))
        items = Items(c, torch.from_numpy(offset.astype(dtype)).to(self.device))
        for n_fits, ridge in enumerate(strengths):
            if sampled:
                c.copy_(fit_items(cells, items, ridge, config.negatives, config.seed))
            else:
                self._train(a, items, cells, ridge, config.further_steps if n_fits else config.steps)
            vectors = c.detach().cpu().numpy().astype(np.float32)  # a copy, which later steps leave alone
            yield {"vectors": vectors, "offset": offset, "ridge": np.array([ridge], np.float32)}

    def _train(self, a: torch.Tensor, items: Items, cells: Cells, ridge: float, steps: int) -> None:
        """Train user vectors a and item vectors c by Adam.

        A user's vector is fitted to all items of the user, as it is when a state is scored. The item vectors are fitted
        to the labels of :class:`Cells`: they count target events by their weights, and no other events. If every label
        is 1, both have the same gradient in the logits.
        """
        c, offset = items
        optimizer = softmax.AdamW([a, c])  # type: ignore[list-item]  # both tensors are parameters
        n_users_per_block = max(1, _CELLS // cells.n_items)
        labels = cells.matrix(cells.label)
        is_unweighted = bool((cells.label == 1.0).all())
        n_user_items = torch.from_numpy(np.diff(cells.offsets)[:, None]).to(a).to(self.device)
        # Position of each pair in the flat (n, M) table of users by items.
        position = torch.from_numpy(cells.user * cells.n_items + cells.item).to(self.device)
        for step in range(steps):
            a.grad = ridge * a
            c.grad = ridge * c
            for begin, end in spans(len(cells), n_users_per_block):
                rows = slice(begin, end)
                pairs = slice(int(cells.offsets[begin]), int(cells.offsets[end]))
                probability = softmax.softmax_(torch.addmm(offset, a[rows], c.T))
                # The gradient of −log likelihood in the logits is n·p, minus 1 at each item of the user.
                if is_unweighted:
                    user_gradient = probability.mul_(n_user_items[rows])  # in place: p is not needed again
                else:
                    user_gradient = probability * n_user_items[rows]
                position_in_block = position[pairs] - begin * cells.n_items
                minus_ones = -probability.new_ones(len(position_in_block))
                user_gradient.view(-1).index_add_(0, position_in_block, minus_ones)
                item_gradient = user_gradient
                if not is_unweighted:
                    y = torch.from_numpy(labels[rows].toarray()).to(self.device)
                    item_gradient = probability.mul_(y.sum(1, keepdim=True)).sub_(y)
                a.grad[rows] += user_gradient @ c
                c.grad += item_gradient.T @ a[rows]
            optimizer.step(softmax.one_cycle(step, steps, self.config.learning_rate))

    def _scores(self, fit: Arrays, states: UserStates) -> Float32s:
        """(n, M) personal scores ⟨u(x), c_y⟩.

        Log popularity, the offset, is used to fit u(x) only. The weight κ adds it to the scores later.
        """
        states = distinct(states)
        items = Items(*(torch.from_numpy(fit[name]).double() for name in ("vectors", "offset")))
        total = torch.from_numpy(sums(states, fit["vectors"])).double()
        count = torch.from_numpy(states.lengths.astype(np.float64))
        ridge = float(fit["ridge"][0])
        steps = self.config.newton_steps
        users = in_blocks(
            lambda block_total, block_count: folded(block_total, block_count, items, ridge, steps),
            total,
            count,
        )
        return np.asarray((users @ items.vectors.T).numpy(), np.float32)

    def _serving(self, fit: Arrays, chosen: Shrinkage, base: Floats, log: EventLog) -> Arrays:
        """Item vectors, offset, bias, and the weights τ and ridge."""
        vectors = torch.from_numpy(fit["vectors"].copy())
        bias = torch.from_numpy(base.astype(np.float32))
        if self.config.cold_items:
            fill_cold(vectors, bias, log)
        weights = np.array([chosen.personal, chosen.strength], np.float32)
        return {"vectors": vectors.numpy(), "offset": fit["offset"], "bias": bias.numpy(), "weights": weights}

    @torch.no_grad()
    def _updated(self, log: EventLog) -> Arrays:
        """Item vectors, offset and bias, trained further on a log."""
        config = self.config
        personal, ridge = self._array("weights").tolist()
        offset = self.served("offset").double()
        bias = self.served("bias")
        vectors_before = self.served("vectors")
        vectors = torch.nn.Parameter(vectors_before.clone())
        optimizer = softmax.AdamW([vectors])
        seed = derived_seed(config.seed, Purpose.MODEL, 24, self._updates)
        cycle = Cycle(
            steps=config.update_steps,
            batch_size=config.update_batch_size,
            learning_rate=config.update_learning_rate,
            weight_decay=ridge,
            seed=seed,
            read_history=True,
        )
        for step, split in enumerate(splits(Cells.of(log), cycle, self.device)):
            c = vectors.double()
            total, n_read = split.sums(c)
            users = folded(total, n_read.double(), Items(c, offset), ridge, config.newton_steps)
            shares = softmax.softmax_shares(users, c, offset, split.predicted, None, barred=split.read)
            own_gradient, other_gradient = shares.slopes(split.label.double())
            likelihood_gradient = shares.spread(own_gradient, other_gradient, users, len(c)).float()
            vectors.grad = likelihood_gradient + ridge * (vectors - vectors_before)
            optimizer.step(softmax.one_cycle(step, cycle.steps, cycle.learning_rate))
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
        """(BLOCK, M) p(y|x) of user vectors: softmax(τ ⟨u, c_y⟩ + bias)."""
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
        """(users, R) vectors of a log's users.

        On a large log, samples of items represent the catalogue.
        """
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
