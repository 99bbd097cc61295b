"""Contract of consumers (choice models) and their ground truth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints, numbered, seconds
from rimsim.compiled import CompiledRecord, compiled, compiled_part
from rimsim.data.log import EventLog, Sessions
from rimsim.errors import MarketError, has_type, refuse
from rimsim.market.histories import NEVER_AGAIN, Histories, RepeatRule
from rimsim.market.providers import Roster
from rimsim.market.records import Response, Schedule
from rimsim.matching import tie_rank, uniform_of
from rimsim.requirements.campaigns import CampaignTables
from rimsim.requirements.on_offer import TimesOnOffer

if TYPE_CHECKING:
    from rimsim.market.consumers.truths import Truth

_BLOCK = 1024
"""Number of visits whose true intensities are held at once."""


@compiled_part
def uniform_draw(key: np.uint64, item: int) -> float:
    """Uniform random number of an item under a key."""
    # This equals ``uniform(seed, purpose, arrival, item)`` of :mod:`rimsim.rng`, if ``key`` is ``bits(seed, purpose,
    # arrival)``.
    return uniform_of(tie_rank(key, item))


@compiled
def uniform_draws(keys: NDArray[np.uint64], items: Ints) -> Floats:
    """Uniform random numbers of slates' items under given keys."""
    draws = np.empty(items.shape, np.float64)
    for row in range(items.shape[0]):
        for position in range(items.shape[1]):
            draws[row, position] = uniform_draw(keys[row], items[row, position])
    return draws


@compiled_part
def poisson_probability(intensity: float, examination: float, attraction: float) -> float:
    """Probability that the item at a position is consumed."""
    # The response to a Poisson process of intensity λ*(x)·p*(y|x): P(consume at position r) = 1 −
    # exp(−λ*(x)·p*(y|x)·γ^(r−1)·a).
    return -math.expm1(-(intensity * examination * attraction))


@compiled
def first_instants(intensity: Floats, keys: NDArray[np.uint64]) -> Floats:
    """First event of each Poisson process; ∞ after the session.

    The session is the unit of time. So an item with intensity r has an event in the session with probability 1 −
    exp(−r).
    """
    instant = np.full(intensity.shape, np.inf)
    for row in range(intensity.shape[0]):
        for item in range(intensity.shape[1]):
            rate = intensity[row, item]
            if rate <= 0.0:
                continue
            draw = uniform_draw(keys[row], item)
            # 1 − exp(−r) is below r, so most items need no logarithm.
            if draw < rate and -math.log1p(-draw) < rate:
                instant[row, item] = -math.log1p(-draw) / rate
    return instant


@compiled
def poisson_probabilities(intensity: Floats, examination: Floats, attraction: float) -> Floats:
    """Probabilities of consumption, from intensities at positions."""
    probability = np.empty(intensity.shape, np.float64)
    for row in range(intensity.shape[0]):
        for position in range(intensity.shape[1]):
            probability[row, position] = poisson_probability(
                intensity[row, position], examination[position], attraction
            )
    return probability


@compiled_part
def response_to(preference: float, ground: float, key: np.uint64, item: int, examination: float,
    attraction: float) -> tuple[bool, float, float]:  # fmt: skip
    """Consumption of an item, its probability and true intensity."""
    intensity = np.float64(preference) * np.float64(ground)  # Numba's float() would stay in single precision
    chance = poisson_probability(intensity, examination, attraction)
    return uniform_draw(key, item) < chance, chance, intensity


@compiled
def answer(scores: Float32s, ground: Float32s, slates: Ints, keys: NDArray[np.uint64], examination: Floats,
    attraction: float, consumed: Bools, probability: Floats, intensity: Floats) -> None:  # fmt: skip
    """Fill in responses to slates, given p* and λ*."""
    for n in range(len(slates)):
        for position in range(slates.shape[1]):
            item = slates[n, position]
            if item < 0:
                consumed[n, position] = False
                probability[n, position] = 0.0
                intensity[n, position] = 0.0
                continue
            consumed[n, position], probability[n, position], intensity[n, position] = response_to(
                scores[n, item], ground[n], keys[n], item, examination[position], attraction
            )


@dataclass(frozen=True, eq=False)
class Law(CompiledRecord):
    """Law of consumption: 1 − exp(−λ*·p*·γ^(r−1)·a)."""

    examination: Floats
    """(k,) examination γ^(r−1) of each position r."""
    attraction: float
    """a·(1 − own_choice), the factor of an item's intensity when the visitor looks at it."""


@dataclass(frozen=True, eq=False)
class Hits(CompiledRecord):
    """Law of consumption: visitors take the items of logged sessions.

    Items of session s are ``item[offsets[s]:offsets[s + 1]]``.
    """

    offsets: Ints
    """(sessions + 1,) index of each session's first item."""
    item: Ints
    """(total,) items of all sessions."""

    def of(self, sessions: Ints) -> tuple[Ints, Ints]:
        """Index in ``sessions``, and item, of each event."""
        first = self.offsets[sessions]
        index, nth = numbered(self.offsets[sessions + 1] - first)
        return index, self.item[first[index] + nth]


@compiled
def mark_hits(slates: Ints, sessions: Ints, hits: Hits, is_hit: Bools) -> None:
    """Mark the items of slates that given sessions contain."""
    # Each look-up of a record's array counts a reference, which is too slow within a loop.
    offsets = hits.offsets
    item = hits.item
    for row in range(len(slates)):
        for event in range(offsets[sessions[row]], offsets[sessions[row] + 1]):
            for position in range(slates.shape[1]):
                is_hit[row, position] |= slates[row, position] == item[event]


@lru_cache(maxsize=64)
def examination(decay: float, positions: int) -> Floats:
    """Share γ^(r−1) of visitors who examine each position r."""
    return np.asarray(decay ** np.arange(positions), np.float64)


@dataclass(frozen=True, eq=False)
class World:
    """Truth of a scenario, and log cut at the opening."""

    log: EventLog
    """Complete log. Only the truth, the arrivals and the consumers use its future."""
    sessions: Sessions
    """Sessions of the complete log."""
    past: EventLog
    """The warm-up log, which the platform knows when the market opens."""
    past_sessions: Sessions
    """Sessions of the warm-up log."""
    opening: float
    """Seconds at which the market opens."""
    release: Ints
    """(M,) tick of each item's release; ALWAYS for items that are released from the start."""
    end: Ints
    """(M,) tick from which each item is not on offer; NEVER for items that do not end."""
    truth: Truth | None
    """Fitted truth; None if the consumer does not need a truth."""
    roster: Roster
    """Providers and their items at the opening."""
    most_arrivals: int | None
    """Largest number of arrivals of any round; None: unknown."""
    rule: RepeatRule = NEVER_AGAIN
    """Rule by which visitors may take an item again."""

    @cached_property
    def times(self) -> TimesOnOffer:
        """Times at which items of present providers are on offer."""
        return TimesOnOffer(self.release, self.end)

    @property
    def campaign_tables(self) -> CampaignTables:
        """Catalogue and users as campaigns see them."""
        return CampaignTables(self.log.items, self.log.users, self.opening, self.release)


@dataclass(frozen=True, eq=False)
class SlateVisits:
    """Visits: n arrivals of a round as consumers see them."""

    row: Ints
    """(n,) row of each visit in the round's schedule."""
    schedule: Schedule
    """All arrivals of the round."""
    histories: Histories
    """Consumptions of the round's visitors, in the log and in the market."""
    world: World
    """The log with its item table, and the fitted truth."""
    keys: NDArray[np.uint64]
    """(N,) keys of the random numbers that decide responses to slates, for all arrivals of the round."""
    own_keys: NDArray[np.uint64]
    """(N,) keys of the random numbers that decide free choices; these are independent of the responses to slates."""
    release: Ints
    """(M,) tick from which each item can be shown; NEVER for items of providers who are not in the market."""
    popularity: Ints
    """(M,) events of each item in the platform's log, as of the last barrier."""
    score: Callable[[Truth, Ints], tuple[Float32s, Float32s]]
    """Function of a truth, and of rows of the schedule, that returns the arrivals' p* and λ* (:attr:`true_scores`)."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def slot(self) -> Ints:
        """Slot of each visitor."""
        return self.schedule.slot[self.row]

    @property
    def tick(self) -> Ints:
        """Time of each visit, in ticks."""
        return self.schedule.tick[self.row]

    @property
    def log_user(self) -> Ints:
        """User of the log behind each visitor."""
        return self.schedule.log_user[self.slot]

    @property
    def time(self) -> Floats:
        """Time of each visit, in seconds."""
        return seconds(self.tick)

    @property
    def true_scores(self) -> tuple[Float32s, Float32s]:
        """True p*(y|x) of admissible items, and λ*(x), per visit.

        p* sums to 1 over all items that the visitor may take, released or not: items that the visitor has not consumed,
        or items that it may take again. Then p* is set to 0 for items that are not released yet. So a release does not
        change p* of the other items. If items of the world end, p* sums to 1 over the items on offer that the visitor
        may take, because visitors do not want items that are over. The scores are those of ``world.truth``;
        :meth:`under` replaces this truth.

        Raises:
            MarketError: If the consumer declares that it needs no truth, so that there is none.
        """
        truth = self.world.truth
        if truth is None:
            raise MarketError(
                "visits.true_scores: the world has no truth, because the consumer sets needs_truth = False. Set "
                "needs_truth to True"
            )
        return self.score(truth, self.row)

    def under(self, world: World) -> Self:
        """Same visits in another world, such as another truth's.

        The market caches true scores for each truth object. So make the other truth once per world, not in each call.
        """
        return dataclasses.replace(self, world=world)

    def consumed(self) -> tuple[Ints, Ints]:
        """Pairs (visit, item) of all earlier consumptions."""
        return self.histories.consumed(self.slot)

    def inadmissible(self) -> tuple[Ints, Ints]:
        """Pairs (visit, item) of items that may not be taken again.

        Without repeated consumption, these are all pairs of :meth:`consumed`.
        """
        counts = self.histories.events.counts[self.slot]
        return self.histories.inadmissible(self.slot, counts, self.tick)

    def in_market(self) -> tuple[Ints, Ints]:
        """Pairs (visit, item) of earlier consumptions in the market."""
        visit, item, _ = self.events_in_market()
        return visit, item

    def inadmissible_from_market(self) -> tuple[Ints, Ints]:
        """Distinct pairs (visit, item) that consumptions in the market exclude."""
        visit, item, visible_from = self.events_in_market()
        rule = self.histories.rule
        if rule.forbids:
            return visit, item
        is_excluded = rule.excludes(visible_from - rule.wait, self.tick[visit])
        n_items = self.world.log.n_items
        pairs = np.unique(visit[is_excluded] * n_items + item[is_excluded])
        return pairs // n_items, pairs % n_items

    def events_in_market(self) -> tuple[Ints, Ints, Ints]:
        """Consumptions in the market: visit, item, and tick when known."""
        counts = self.histories.events.counts[self.slot]
        visible_from, items = self.histories.between(self.slot, np.zeros_like(counts), counts)
        return np.repeat(np.arange(len(counts)), counts), items, visible_from

    def uniform(self, slates: Ints) -> Floats:
        """Uniform random numbers, one per visit and item."""
        return uniform_draws(self.keys[self.row], slates)


class Organic(NamedTuple):
    """Organic consumptions of visitors, which do not depend on slates."""

    row: Ints
    """(m,) row of each consumption's visit in the round's schedule."""
    tick: Ints
    """(m,) instant of each consumption, not before the visit."""
    item: Ints
    """(m,) consumed items."""


NOTHING = Organic(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))
"""Empty organic consumption."""


def drawn(visits: SlateVisits, slates: Ints, probability: Floats, intensity: Floats) -> Response:
    """Response sampled with given probabilities, 0 at empty positions."""
    # An item is consumed if its draw is below its probability.
    is_filled = slates >= 0
    probability = np.where(is_filled, probability, 0.0)
    consumed = visits.uniform(slates) < probability
    return Response(consumed, probability, np.where(is_filled, intensity, 0.0))


@runtime_checkable
class Consumer(Protocol):
    """Choice model of visitors; agents and models never see it.

    A call of :meth:`respond` has each visit at most once. A consumer has no state of its own, because the histories
    record consumptions. Optional attributes are those of :class:`ConsumerCapabilities`.
    """

    def respond(self, visits: SlateVisits, slates: Ints) -> Response:
        """Response of visits to slates, where −1 is an empty position."""

    def organic(self, visits: SlateVisits) -> Organic:
        """Organic consumptions; :data:`NOTHING` if there are none."""

    def true_intensity(self, visits: SlateVisits) -> torch.Tensor:
        """True intensities of admissible items, for bounds and recall."""


@dataclass(frozen=True)
class ConsumerCapabilities:
    """Optional attributes of a consumer, read once."""

    hits_only: bool
    """Attribute ``hits_only``: consumptions are hits in organic behaviour, and only organic behaviour enters the
    history."""
    exogenous: bool
    """Attribute ``foretold``, with ``hits_only``: organic consumption does not depend on slates, and is drawn when a
    round opens."""
    needs_truth: bool
    """Attribute ``needs_truth = False``: the market fits no truth, and ``visits.world.truth`` is None."""
    needs_sessions: bool
    """Attribute ``needs_sessions``: the consumer can only answer a replay of the log's sessions."""
    takes_dynamics: bool
    """Attribute ``takes_dynamics``: the consumer uses ``consumer.dynamics``."""
    takes_own_choice: bool
    """Attribute ``takes_own_choice``: the consumer uses ``consumer.own_choice``."""
    settled: Callable[[SlateVisits], Ints] | None
    """Method ``settled(visits)``: (n,) tick at which each slate's outcome is decided; None: the tick of the visit."""
    relevant: Callable[[SlateVisits], Floats] | None
    """Method ``relevant(visits)``: (n,) number of items of the catalogue that each visit would consume; None: Σ true
    intensity."""
    note: Callable[[EventLog], str] | None
    """Method ``note(log)``: a sentence that is printed before a run with the log."""
    law: Callable[[World], Law | Hits | None] | None
    """Method ``law(world)``: the law that compiled code may use instead of the consumer's own methods; None: no law."""
    digest: Callable[[], str] | None
    """Method ``digest()``: a text that is different if anything outside the config, such as a file, changes answers."""

    @classmethod
    def of(cls, consumer: Consumer) -> Self:
        """Capabilities of a consumer; missing attributes have defaults."""
        return cls(
            hits_only=bool(getattr(consumer, "hits_only", False)),
            exogenous=bool(getattr(consumer, "foretold", False)),
            needs_truth=bool(getattr(consumer, "needs_truth", True)),
            needs_sessions=bool(getattr(consumer, "needs_sessions", False)),
            takes_dynamics=bool(getattr(consumer, "takes_dynamics", False)),
            takes_own_choice=bool(getattr(consumer, "takes_own_choice", False)),
            settled=getattr(consumer, "settled", None),
            relevant=getattr(consumer, "relevant", None),
            note=getattr(consumer, "note", None),
            law=getattr(consumer, "law", None),
            digest=getattr(consumer, "digest", None),
        )


def response_of(consumer: Consumer, visits: SlateVisits, slates: Ints) -> Response:
    """Response of visits to slates, after checks.

    Raises:
        MarketError: If the result is not a response, or has wrong shapes, types or values.
    """
    response = consumer.respond(visits, slates)
    if not isinstance(response, Response):
        raise MarketError(
            f"{type(consumer).__name__}.respond: found a {type(response).__name__}. Expected a Response"
        )
    consumed = response.consumed
    probability = response.probability
    intensity = response.intensity
    if (
        consumed.dtype != np.bool_
        or probability.dtype.kind != "f"
        or intensity.dtype.kind != "f"
        or not consumed.shape == probability.shape == intensity.shape == slates.shape
    ):
        raise MarketError(
            f"{type(consumer).__name__}.respond: found consumed {consumed.dtype} {consumed.shape}, "
            f"probability {probability.dtype} {probability.shape}, intensity {intensity.dtype} "
            f"{intensity.shape}. Expected bool, float and float, each of shape {slates.shape}"
        )
    index = _first_wrong(slates, consumed, probability, intensity)
    if index >= 0:
        row, position = divmod(index, slates.shape[1])
        item = int(slates[row, position])
        outcome = "consumed" if consumed[row, position] else "not consumed"
        chance = probability[row, position]
        rate = intensity[row, position]
        raise MarketError(
            f"{type(consumer).__name__}.respond: item {item} at position {position + 1} is {outcome}, with "
            f"probability {chance} and intensity {rate}. Expected that empty positions (item −1) are not "
            "consumed, probabilities are from 0 to 1, and intensities are finite and at least 0"
        )
    return response


@compiled
def _first_wrong(slates: Ints, consumed: Bools, probability: Floats, intensity: Floats) -> int:
    """Index of the first invalid position, or −1."""
    n, k = slates.shape
    for row in range(n):
        for position in range(k):
            is_taken_at_empty = consumed[row, position] and slates[row, position] < 0
            chance = probability[row, position]
            rate = intensity[row, position]
            if is_taken_at_empty or not 0.0 <= chance <= 1.0 or not 0.0 <= rate < np.inf:
                return int(row * k + position)
    return -1


def law_of(consumer: Consumer, world: World, positions: int, session: Ints) -> Law | Hits | None:
    """Law of a consumer's answers, after checks; or None.

    Args:
        session: (n,) sessions of the round's visits.

    Raises:
        MarketError: If the law lacks a position or a session, or if sessions reach beyond their items.
    """
    # The arrays of a law are checked here, because compiled code reads them without checks.
    method_of_law = ConsumerCapabilities.of(consumer).law
    law = None if method_of_law is None else method_of_law(world)
    method = f"{type(consumer).__name__}.law"
    if isinstance(law, Law) and len(law.examination) < positions:
        problem = f"found {len(law.examination)} examinations"
        refuse(MarketError, method, problem, f"one per position, {positions}")
    if isinstance(law, Hits):
        offsets = law.offsets
        n_sessions = int(session.max(initial=-1)) + 1
        if (
            len(offsets) <= n_sessions
            or offsets[0] < 0
            or offsets[-1] > len(law.item)
            or (np.diff(offsets) < 0).any()
        ):
            problem = f"found {len(offsets)} offsets for {len(law.item)} items"
            allowed = f"ascending numbers for {n_sessions} sessions, from 0 to the number of items"
            refuse(MarketError, method, problem, allowed)
    return law


def organic_of(consumer: Consumer, visits: SlateVisits, n_items: int) -> Organic:
    """Organic consumptions of visitors, after checks.

    Raises:
        MarketError: If the result is not an :class:`Organic`, or has unknown visits, unknown items, or too early times.
    """
    organic = consumer.organic(visits)
    if organic is NOTHING:  # this is the usual case, which needs no checks
        return organic
    name = f"{type(consumer).__name__}.organic"
    if not has_type(organic, tuple) or len(organic) != len(Organic._fields):
        raise MarketError(f"{name}: found a {type(organic).__name__}. Expected an Organic record, or NOTHING")
    row, tick, item = organic
    if not len(row) and not len(tick) and not len(item):
        return Organic(row, tick, item)
    if (
        not len(row) == len(tick) == len(item)
        or not np.isin(row, visits.row).all()
        or not ((item >= 0) & (item < n_items)).all()
        or not (tick >= visits.schedule.tick[row]).all()
    ):
        raise MarketError(
            f"{name}: found {len(row)} rows, {len(tick)} ticks and {len(item)} items. Expected three "
            f"arrays of equal length: rows of the given visits, ticks from the start of each visit on, and "
            f"items from 0 to {n_items - 1}"
        )
    return Organic(row, tick, item)


def true_intensity_of(consumer: Consumer, visits: SlateVisits, n_items: int) -> torch.Tensor:
    """True intensities of items for visits, after checks.

    Raises:
        MarketError: If the result is not an (n, M) tensor of finite numbers of at least 0.
    """
    intensity = consumer.true_intensity(visits)
    name = f"{type(consumer).__name__}.true_intensity"
    shape = (len(visits), n_items)
    if not has_type(intensity, torch.Tensor) or tuple(intensity.shape) != shape:
        problem = f"a {type(intensity).__name__} of shape {tuple(np.shape(intensity))}"
        raise MarketError(f"{name}: found {problem}. Expected a tensor of shape {shape}")
    if intensity.numel() and not (bool(intensity.amin() >= 0) and bool(intensity.amax() < np.inf)):
        raise MarketError(
            f"{name}: found a number that is negative, infinite or NaN. Expected finite numbers of at least 0"
        )
    return intensity


def relevant_items(consumer: Consumer, visits: SlateVisits, n_items: int) -> Floats:
    """Number of items that each visit would consume.

    The number is an expectation for a visitor who examines the whole catalogue. If a consumer does not report this
    number, it is the sum of the true intensities at the round's end, so items consumed in the round are left out.

    Raises:
        MarketError: If the result is not one finite number of at least 0 per visit.
    """
    relevant = ConsumerCapabilities.of(consumer).relevant
    if relevant is None:
        sums = [np.zeros(0)]
        for first in range(0, len(visits), _BLOCK):
            block = dataclasses.replace(visits, row=visits.row[first : first + _BLOCK])
            sums.append(true_intensity_of(consumer, block, n_items).double().sum(1).cpu().numpy())
        return np.concatenate(sums)
    numbers = np.asarray(relevant(visits), np.float64)
    if numbers.shape != (len(visits),) or not ((numbers >= 0) & (numbers < np.inf)).all():
        raise MarketError(
            f"{type(consumer).__name__}.relevant: found shape {numbers.shape}, or a number that is "
            f"negative, infinite or NaN. Expected shape ({len(visits)},) and finite numbers of at least 0"
        )
    return numbers
