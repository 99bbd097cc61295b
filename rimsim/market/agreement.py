"""Agreement of a truth with held-out sessions.

In every draw, each user's log is cut at the beginning of one of its later sessions. Models are fitted to the events
before the cut and recommend slates. The real worth of a slate is the number of its items that the user took after the
cut, or in the sampled session if items can be taken again or end. The worth of a slate by a truth is the number of
consumptions that the truth expects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import pandas as pd

from rimsim import rng
from rimsim.arrays import Array, Bools, Float32s, Floats, Ints
from rimsim.data import EventLog, LaterSessions, later_sessions
from rimsim.errors import DataError
from rimsim.intensity.contract import IntensityModel, spans
from rimsim.intensity.registry import make
from rimsim.intensity.scores import ROWS, ModelScores
from rimsim.intensity.states import UserStates
from rimsim.market.consumers.contract import examination
from rimsim.market.fitted import fitted_to
from rimsim.matching import ChunkedScores, price_slates
from rimsim.measures import slate_ndcg

Make: TypeAlias = Callable[[str, int, str], IntensityModel]
"""Function that makes an unfitted model from its name, a seed and a device."""
RANDOM = "random"  # Name that stands for a recommender to which all items are equally likely
ORACLE = "oracle"  # Name that stands for a recommender whose slates are the best ones under a truth
# Smallest probability of an item, because one event that a model calls impossible must not outweigh all others.
_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class Cut:
    """States of n users at one of their later sessions."""

    draw: int  # seed of the draw
    later: LaterSessions
    states: UserStates
    known: Bools  # (M,) True for items that occur in the past; a model cannot know other items
    release: Floats  # (M,) release time in seconds; 0: released from the start
    end: Floats  # (M,) seconds from which an item is not on offer; ∞: never
    # (t,) row of the user, for each item that a user took after the cut, or only in the drawn session (see make_cut);
    # ascending
    taken_row: Ints
    taken_item: Ints  # (t,) these items, ascending within a row
    first_session: Bools  # (t,) True if the user took the item within the drawn session
    # (t,) True if the user consumed the item before the cut, too; False everywhere if consumed items are inadmissible.
    is_repeat: Bools

    def __len__(self) -> int:
        return len(self.states)

    @property
    def taken(self) -> Ints:
        """Number of items that each user took."""
        return np.bincount(self.taken_row, minlength=len(self))

    @property
    def repeatable(self) -> bool:
        """True if users can take consumed items again."""
        return self.later.past.repeatable

    def admissible(self, start: int, stop: int) -> Bools:
        """Mask of known items on offer, for some users.

        Consumed items are left out unless users can take them again.
        """
        now = self.states.now[start:stop, None]
        shown = on_offer(self.known, self.release, self.end, now)
        if not self.repeatable:
            shown[self.states.rows_of(start, stop)] = False
        return shown


def on_offer(known: Bools, release: Floats, end: Floats, now: Floats) -> Bools:
    """Mask of known items on offer; the arrays are broadcast."""
    return np.asarray(known & (release <= now) & (now < end), np.bool_)


def make_cut(
    log: EventLog, draw: int, *, gap: str | float, after: float, most_cells: int | None = None
) -> Cut:
    """Log cut at a later session of each user.

    A user took an item if it consumed the item after the cut and the item could be shown. Items that it consumed before
    the cut do not count, unless users of the log can take items again. If they can, or if items end, only the drawn
    session counts, see :func:`counts_one_session`. If users × items exceeds ``most_cells``, a
    sample of users is used, the same in all draws.
    """
    later = later_sessions(log, gap=gap, seed=draw, after=after)
    return cut_of(log, later, draw, after=after, most_cells=most_cells)


def cut_of(
    log: EventLog, later: LaterSessions, draw: int, *, after: float, most_cells: int | None = None
) -> Cut:
    """Log cut at given later sessions, see :func:`make_cut`."""
    if len(later) < 2:
        raise DataError(
            f"later sessions: fewer than two users have a session that begins after {after:.0%} of their events. "
            "Expected a log in which at least two users came back"
        )
    if most_cells is not None:
        later = later.every(max(-(-len(later) * log.n_items // most_cells), 1))
    past = later.past
    future = later.future
    m = log.n_items
    states = UserStates.of(past, later.user, later.time)
    is_known = np.bincount(past.item, minlength=m) > 0
    release = log.release
    end = log.end
    row = np.searchsorted(later.user, future.user)
    # A user's future begins with the events of the drawn session.
    order = np.lexsort((np.arange(len(future)), row))
    first_event = np.searchsorted(row[order], np.arange(len(later)))
    in_session = np.empty(len(future), bool)
    in_session[order] = np.arange(len(future)) - first_event[row[order]] < later.count[row[order]]
    # A pair of a user's row and an item has the number row·M + item; ``event`` is the first event of each pair.
    pair, event = np.unique(row * m + future.item, return_index=True)
    is_repeat = pd.Index(pair).isin(states.owner * m + states.items)
    now = later.time[pair // m]
    item = pair % m
    is_admissible = on_offer(is_known[item], release[item], end[item], now)
    if not log.repeatable:
        is_admissible &= ~is_repeat
    if counts_one_session(log):
        is_admissible &= in_session[event]
    pair = pair[is_admissible]
    event = event[is_admissible]
    return Cut(
        draw=draw,
        later=later,
        states=states,
        known=is_known,
        release=release,
        end=end,
        taken_row=pair // m,
        taken_item=pair % m,
        first_session=in_session[event],
        is_repeat=is_repeat[is_admissible],
    )


def counts_one_session(log: EventLog) -> bool:
    """True if only the drawn session shows an item's worth.

    An item that is taken once and stays on offer can be taken in any later session, so all of them show a user's taste.
    But where users take items again, all later sessions together would count what a user takes every week no more than
    what it takes once a year. And where items end, later sessions have other items on offer.
    """
    return log.repeatable or bool(np.isfinite(log.end).any())


class ChoiceLaw(Protocol):
    """Law of users' choices in sessions, such as a truth."""

    def expected(self, users: Ints, states: UserStates) -> Floats:
        """Ground intensity λ*(x) of each user."""

    def preference(self, users: Ints, states: UserStates) -> Floats:
        """Preferences p* of each user, up to a factor."""


@dataclass(frozen=True, eq=False)
class RealWorth:
    """Worth of a model's slates to n users."""

    slates: Ints  # (n, k) recommended items; −1 for an empty position
    precision: Floats  # (n,) share of positions with an item that the user took after the cut
    ndcg: Floats  # (n,) NDCG of the slate; NaN for users who took nothing
    # (n,) mean log p(y|x), in nats, of the items that the user took. Here p is over admissible items. NaN for users who
    # took nothing.
    log_likelihood: Floats
    # (n,) share of positions with an item that the user took again after the cut; None if users cannot do so.
    repeats: Floats | None = None

    @property
    def metrics(self) -> dict[str, Floats]:
        """Metrics by name, with one value per user."""
        metrics = {"precision": self.precision, "ndcg": self.ndcg, "log_likelihood": self.log_likelihood}
        if self.repeats is not None:
            metrics |= {"precision_new": self.precision - self.repeats, "precision_repeat": self.repeats}
        return metrics


@dataclass(frozen=True, eq=False)
class Uniform:
    """Equal scores for all items."""

    shape: tuple[int, int]

    def rows(self, start: int, stop: int) -> Float32s:
        """Scores of 1 for some users."""
        return np.ones((stop - start, self.shape[1]), np.float32)


def unfitted_model(name: str, seed: int, device: str, gap: str | None = None) -> IntensityModel:
    """Unfitted model with the settings that a platform uses."""
    return make(name, seed=seed, device=device, gap=gap)


def scores_of(name: str, cut: Cut, device: str, make: Make = unfitted_model) -> ChunkedScores:
    """Scores of states by a model fitted to their past."""
    if name == RANDOM:
        return Uniform((len(cut), len(cut.known)))
    model = fitted_model(name, cut.draw, device, cut.later.past, make)
    return ModelScores(model, cut.states, cut.known, repeatable=cut.repeatable)


def fitted_model(name: str, seed: int, device: str, log: EventLog, make: Make) -> IntensityModel:
    """Model that is cached, or fitted to a log."""
    return fitted_to(log, make(name, rng.derived_seed(seed, rng.Purpose.MODEL) % 2**31, device), name)


def _best(score: Array, cut: Cut, slate: int, start: int, admissible: Bools) -> Ints:
    """Best slates of admissible items, for users from ``start`` on."""
    no_price = np.zeros(len(cut.known))
    users = cut.later.user[start : start + len(score)]
    return price_slates(score, no_price, slate, admissible=admissible, tie_seed=cut.draw, row_keys=users)


def judged(scores: ChunkedScores, cut: Cut, slate: int) -> RealWorth:
    """Real worth of the slate with each state's best items."""
    n, m = scores.shape
    slates = np.empty((n, slate), np.int64)
    log_probability = np.empty(len(cut.taken_row))  # log p(y|x) of each item that a user took
    for start, stop in spans(n, ROWS):
        admissible = cut.admissible(start, stop)
        block_scores = np.where(admissible, scores.rows(start, stop), 0.0)
        slates[start:stop] = _best(block_scores, cut, slate, start, admissible)
        taken_in_block = slice(*np.searchsorted(cut.taken_row, [start, stop]))
        row = cut.taken_row[taken_in_block] - start
        item = cut.taken_item[taken_in_block]
        total = block_scores.sum(1, dtype=np.float64)
        probability = block_scores[row, item].astype(np.float64) / np.maximum(total[row], 1e-300)
        log_probability[taken_in_block] = np.log(np.maximum(probability, _LEAST))
    # A pair of a user's row and an item has the number row·M + item.
    shown_pairs = np.arange(n)[:, None] * m + slates
    taken_pairs = cut.taken_row * m + cut.taken_item
    hits = pd.Index(shown_pairs.ravel()).isin(taken_pairs).reshape(slates.shape) & (slates >= 0)
    repeats: Floats | None = None
    if cut.repeatable:
        is_repeat = pd.Index(shown_pairs.ravel()).isin(taken_pairs[cut.is_repeat]).reshape(slates.shape)
        repeats = (is_repeat & hits).mean(1)
    log_likelihood = np.bincount(cut.taken_row, weights=log_probability, minlength=n)
    return RealWorth(
        slates=slates,
        precision=hits.mean(1),
        ndcg=slate_ndcg(hits, cut.taken),
        log_likelihood=ratio(log_likelihood, cut.taken),
        repeats=repeats,
    )


@dataclass(frozen=True)
class SlateSetting:
    """Length of slates, and examination of their positions."""

    slate: int = 10  # k, the number of positions
    position_decay: float = 0.85  # γ, the chance to look at the next position
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class Evidence:
    """Worth of m models for n users in d draws."""

    models: tuple[str, ...]
    users: Ints  # (n,) users, who are the same in all draws
    draws: tuple[int, ...]  # seeds of the draws
    real: Mapping[str, Floats]  # metric → (m, d, n) real values, by recommender, draw and user
    # Truth → (m + 1, d, n) expected consumptions per slate; the last recommender is the oracle.
    utility: Mapping[str, Floats]

    def by_user(self, truth: str = "", metric: str = "precision") -> Floats:
        """Means (over draws) of a metric or a truth's utility."""
        values = self.utility[truth] if truth else self.real[metric]
        has_value = ~np.isnan(values)
        return ratio(np.where(has_value, values, 0.0).sum(1), has_value.sum(1))


def ratio(total: Floats | Ints, count: Floats | Ints) -> Floats:
    """Quotients, NaN where the count is 0."""
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0), np.float64)


def true_shares(truth: ChoiceLaw, cut: Cut, start: int, stop: int) -> Floats:
    """Preferences p* of some users, normalised over admissible items."""
    states = cut.states.take(np.arange(start, stop))
    return shares_over(truth.preference(cut.later.user[start:stop], states), cut.admissible(start, stop))


def shares_over(preference: Floats, is_included: Bools) -> Floats:
    """Preferences, normalised over the included items; 0 elsewhere."""
    share = np.where(is_included, preference, 0.0)
    return np.asarray(share / np.maximum(share.sum(1, keepdims=True), 1e-300), np.float64)


def utilities(truth: ChoiceLaw, cut: Cut, slates: Sequence[Ints], setting: SlateSetting) -> Floats:
    """Expected consumptions of the slates of recommenders and the oracle.

    Consumption at position r has probability 1 − exp(−λ*(x)·p*(y|x)·γ^(r−1)), with p* normalised over admissible items.
    """
    worth = np.empty((len(slates) + 1, len(cut)))
    expected = truth.expected(cut.later.user, cut.states)
    position_weights = examination(setting.position_decay, setting.slate)
    for start, stop in spans(len(cut), ROWS):
        share = true_shares(truth, cut, start, stop)
        best = _best(share, cut, setting.slate, start, cut.admissible(start, stop))
        block_slates = [recommended[start:stop] for recommended in slates]
        for number, slate in enumerate([*block_slates, best]):
            share_at = np.take_along_axis(share, np.maximum(slate, 0), 1)
            intensity = expected[start:stop, None] * share_at * position_weights
            worth[number, start:stop] = np.where(slate >= 0, -np.expm1(-intensity), 0.0).sum(1)
    return worth


def gather(
    cuts: Sequence[Cut],
    models: Sequence[str],
    truths: Mapping[str, ChoiceLaw],
    setting: SlateSetting,
    count: Callable[[int], None] = lambda _: None,
    make: Make = unfitted_model,
    of_past: Callable[[Cut], Mapping[str, ChoiceLaw]] = lambda _: {},
) -> Evidence:
    """Real and simulated worth of models fitted before the cuts.

    Args:
        truths: Truths that are the same at all cuts.
        count: Function that is called with the number of models that were fitted since its last call.
        make: Function that makes an unfitted model.
        of_past: Function of a cut that returns truths fitted to its past.
    """
    real: dict[str, list[list[Floats]]] = {}
    utility: dict[str, list[Floats]] = {}
    for cut in cuts:
        slates = []
        for number, name in enumerate(models):
            real_worth = judged(scores_of(name, cut, setting.device, make), cut, setting.slate)
            slates.append(real_worth.slates)
            for metric, values in real_worth.metrics.items():
                real.setdefault(metric, [[] for _ in models])[number].append(values)
            count(1)
        for kind, truth in {**truths, **of_past(cut)}.items():
            utility.setdefault(kind, []).append(utilities(truth, cut, slates, setting))
    return Evidence(
        models=tuple(models),
        users=cuts[0].later.user,
        draws=tuple(cut.draw for cut in cuts),
        real={metric: np.array(values) for metric, values in real.items()},
        utility={kind: np.stack(values, 1) for kind, values in utility.items()},
    )
