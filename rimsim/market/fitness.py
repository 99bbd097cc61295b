"""Verdict on the fitness of a truth for a log.

The verdict is reached by one protocol, whatever a run's slates, draws and models are, and whatever packages are
installed. A fixed set of shipped recommenders is fitted to users' pasts, and recommends slates of a fixed length. The
truth is fit if it orders these recommenders as held-out later sessions do. A truth with a trend must also do so after a
cut in time, because a market plays it after the end of its log.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

import rimsim
from rimsim.arrays import Floats, Ints
from rimsim.data import EventLog
from rimsim.data.repeats import repeated_share
from rimsim.data.time_cut import sessions_after_cut
from rimsim.errors import DataError, ModelError
from rimsim.intensity.cache import kept, log_digest, source_digest
from rimsim.intensity.contract import IntensityModel
from rimsim.intensity.registry import config_of, make
from rimsim.market.agreement import RANDOM, Cut, SlateSetting, cut_of, judged, make_cut, scores_of, utilities
from rimsim.market.consumers.false_truths import FalseTruth, false_truths
from rimsim.market.consumers.truths import AUTO, CANDIDATES, HABITS, Truth, base_of
from rimsim.market.fitted import kept_truth, truth_key
from rimsim.measures import CANNOT_TELL, FIT, UNFIT, UNFIT_VERDICT, Verdict, order_test
from rimsim.system import cache_folder, report_progress, single_thread

RECOMMENDERS = ("bag", "ease", "factors", "returning", "popularity", "recent", RANDOM)
"""Recommenders that a truth must order. They are of several classes, need no optional packages, and are fitted
quickly."""
REPEATING = ("own", "bag-habits")
"""Further recommenders where users take items again, because the others do not know repetition."""
SETTING = SlateSetting(slate=10, position_decay=0.85, device="cpu")
"""Slates on which a truth is tested, whatever slates a run has."""
_AFTER = 0.3
"""Share of a user's events after which a session can be held out."""
_EASE = 4_096
"""Largest number of items for a comparison with ``ease``, which inverts a matrix of items by items four times. Each
inversion takes 2.4 CPU seconds and 1.1 GB at 3,700 items, and 7 seconds and 2.1 GB at 6,000. Time grows with the third
power of the items, memory with the second."""
_STRENGTHS: dict[str, dict[str, object]] = {
    "bag": {"weight_decay": 1e-4},
    "ease": {"ridge": 1000.0},
}
"""Fixed strengths of regularisation. Otherwise these models would choose the strengths by several more fits to the
log."""
# Largest number of users times items in a test: 3,355 users and 10,000 items, more than MovieLens-1M.
_CELLS = 2**25
_JUDGED = "past"
"""Name of the truth that the verdict is about: it is fitted to the events before later sessions."""
_PLAYED = "whole"
"""Name of the same truth, fitted to the whole log, which plays in a market."""
_DRAWS = 2
"""Number of draws of later sessions in a test of fewer users than ``_MANY_USERS``."""
_MANY_USERS = 1_000
"""Number of users from which on one draw of later sessions is enough, because fits to the past cost most."""
_SECONDS_PER_EVENT = {"ease": 1e-4, "gru": 5e-4}
"""Truth that ``auto`` tries if neither candidate is fit → CPU seconds of its fit per event of the log."""
_MOST_SECONDS = 60.0
"""Longest time, in CPU seconds, for a fit of a truth that ``auto`` tries. A comparison of three agents takes longer, at
eight rounds of 2,000 arrivals and two seeds."""


@dataclass(frozen=True)
class Rival:
    """Another truth that was judged for the same log."""

    truth: str
    """Name of the truth's model."""
    verdict: Verdict
    """``fit``, ``unfit`` or ``cannot tell``."""
    agreement: float | None
    """Agreement over settled pairs of recommenders; None if there is no settled pair."""


@dataclass(frozen=True)
class Fitness:
    """Verdict on a truth for a log, with its evidence."""

    truth: str
    """Name of the truth's model."""
    verdict: Verdict
    """``fit``, ``unfit`` or ``cannot tell``."""
    agreement: float | None
    """Agreement over settled pairs of recommenders, in [−1, 1]; None if there is no settled pair. The truth is fitted
    to the events before the later sessions."""
    low: float | None
    """Lower end of the agreement's 95% interval, see :func:`rimsim.measures.order_test`."""
    high: float | None
    """Upper end of the interval."""
    pairs: int
    """Number of pairs of recommenders."""
    settled: int
    """Number of settled pairs: held-out later sessions show which recommender is better."""
    needed: int
    """Fewest settled pairs that can show a truth to be fit."""
    concordant: int
    """Number of settled pairs that the truth orders as later sessions do."""
    reversed: tuple[tuple[str, str], ...]
    """Settled pairs that the truth orders the other way; the better recommender comes first."""
    best_false: float | None
    """Highest agreement of a false truth, which is this truth with wrong tastes."""
    users: int
    """Number of users with a held-out later session."""
    draws: int
    """Number of draws of later sessions."""
    recommenders: tuple[str, ...]
    """Names of the recommenders."""
    rivals: tuple[Rival, ...] = ()
    """Verdicts on other truths that ``auto`` tried, because its first choice was not fit."""
    played: float | None = None
    """Agreement of the same truth when it is fitted to the whole log, as in a market; None if there is no settled
    pair."""
    untested: float = 0.0
    """Share of the log's events that no test of the truth asks about, see :func:`untested_share`."""
    is_after_cut: bool = False
    """True if the judgement after a cut in time decided, because its verdict was worse. All figures are those of the
    judgement that decided, and ``played`` is None."""
    other_agreement: float | None = None
    """Agreement in the judgement that did not decide; None: the truth has no trend, or no pair is settled."""
    last_share: float | None = None
    """Share of the truth's expected consumption at the market's opening that rests on the last half-life of the log,
    see :meth:`rimsim.market.consumers.truths.Truth.last_share`; None: the truth has no trend."""
    half_life: float | None = None
    """Half-life of the trend's rates, in seconds; None: no trend, or all events count alike."""

    @property
    def too_few_pairs(self) -> bool:
        """True if no truth can be shown to be fit."""
        return self.settled < self.needed

    def as_rival(self) -> Rival:
        """Short form of this verdict."""
        return Rival(self.truth, self.verdict, self.agreement)


READER = TypeAdapter(Fitness)
"""Reader that makes a :class:`Fitness` from plain data."""


def chosen_truth(
    log: EventLog, *, gap: float, kind: str = AUTO, rank: int = 16, bootstrap: int | None = None
) -> Truth:
    """Truth of a log, from the cache or fitted now.

    ``auto`` takes the candidate that later sessions choose (see
    :func:`rimsim.market.consumers.truths.fit_truth`). This truth has habits if users of the log can take items again.
    If its agreement is below ``UNFIT``, and the log settles enough pairs of recommenders to show it, ``auto`` also
    judges the same truth with a trend, the other candidate, and every truth of ``_SECONDS_PER_EVENT`` whose fit takes
    at most ``_MOST_SECONDS``. It takes the first truth that is fit, or else the one of highest agreement.
    """
    if kind == AUTO:
        kind = _best(_judged_choices(log, gap, rank))
    return kept_truth(log, gap=gap, kind=kind, rank=rank, bootstrap=bootstrap)


def fitness(
    log: EventLog,
    *,
    gap: float,
    kind: str = AUTO,
    rank: int = 16,
    bootstrap: int | None = None,
    item_bias: Floats | None = None,
) -> Fitness:
    """Verdict on the truth that :func:`chosen_truth` returns.

    Args:
        item_bias: Logarithm of each item's factor in p*, such as hidden quality; None: the factors of the fitted truth.
    """
    rivals: tuple[Rival, ...] = ()
    if kind == AUTO:
        choices = _judged_choices(log, gap, rank)
        kind = _best(choices)
        rivals = tuple(choice.as_rival() for name, choice in choices.items() if name != kind)
    verdict = _kept_fitness(log, gap, kind, rank, bootstrap, item_bias)
    return dataclasses.replace(verdict, rivals=rivals)


def _judged_choices(log: EventLog, gap: float, rank: int) -> dict[str, Fitness]:
    """Verdicts on the truths that ``auto`` tries, in order.

    The key of the first choice is ``auto``, with habits if users can take items again. The fitted truth is cached under
    this name.
    """
    suffix = HABITS if log.repeatable else ""
    first_choice = _kept_fitness(log, gap, AUTO + suffix, rank)
    verdicts = {AUTO + suffix: first_choice}
    # A first choice that reaches the bar stays, even if its interval leaves the verdict open.
    if first_choice.verdict == FIT or first_choice.too_few_pairs or (first_choice.agreement or 0.0) >= UNFIT:
        return verdicts
    affordable = [
        name
        for name, seconds in _SECONDS_PER_EVENT.items()
        if seconds * len(log) <= _MOST_SECONDS and (name != "ease" or log.n_items <= _EASE)
    ]
    base = base_of(first_choice.truth)
    other_candidates = [name for name in CANDIDATES if name != base]
    # A truth whose preferences do not depend on time comes before the same truth with a trend.
    in_time = [
        name + ending for name in (base, *other_candidates) for ending in dict.fromkeys((suffix, HABITS))
    ]
    for kind in (*in_time[1:], *(name + suffix for name in affordable)):
        verdicts[kind] = _kept_fitness(log, gap, kind, rank)
        if verdicts[kind].verdict == FIT:
            break
    return verdicts


def _best(verdicts: Mapping[str, Fitness]) -> str:
    """Key of the first fit truth, else of highest agreement."""

    def merit(kind: str) -> tuple[bool, float]:
        """Sort key: fitness, then agreement; no agreement comes last."""
        verdict = verdicts[kind]
        return verdict.verdict == FIT, -2.0 if verdict.agreement is None else verdict.agreement

    return max(verdicts, key=merit)


def _kept_fitness(
    log: EventLog,
    gap: float,
    kind: str,
    rank: int,
    bootstrap: int | None = None,
    item_bias: Floats | None = None,
) -> Fitness:
    """Verdict on a truth, from the cache or reached now."""
    bias_digest: str | None = None  # None: the truth is as it was fitted
    if item_bias is not None and item_bias.any():
        bias_digest = hashlib.sha256(item_bias.tobytes()).hexdigest()
    key = _key(truth_key(log, gap, kind, rank, bootstrap), bias_digest, _recommenders(log))

    def new_verdict() -> Fitness:
        single_thread()
        played = kept_truth(log, gap=gap, kind=kind, rank=rank, bootstrap=bootstrap)

        def of_past(past: EventLog) -> Truth:
            """Truth of the same class, fitted to a past only."""
            return with_bias(kept_truth(past, gap=gap, kind=played.kind, rank=rank, bootstrap=bootstrap))

        def with_bias(truth: Truth) -> Truth:
            """Truth with the given item factors, if any."""
            if bias_digest is None or item_bias is None:
                return truth
            return dataclasses.replace(truth, item_bias=item_bias)

        return _judged(log, gap, with_bias(played), of_past)

    folder = cache_folder() / "fitness" / key
    return kept(folder, load=_read_fitness, make=new_verdict, save=_write_fitness)


_WORST_FIRST = (UNFIT_VERDICT, CANNOT_TELL, FIT)
"""Verdicts, the worst first."""


def _judged(log: EventLog, gap: float, played: Truth, of_past: Callable[[EventLog], Truth]) -> Fitness:
    """Verdict on a truth; with a trend, the worse one.

    ``played`` is the truth fitted to the whole log. ``of_past`` fits the same truth to the events before later
    sessions.
    """
    verdict = _judged_at(log, gap, played, of_past, after_cut=False)
    if played.trend is None:
        return verdict
    # Other users' events around a held-out session show the rate of its time. After the end of the log nobody knows the
    # rate.
    later_verdict = _judged_at(log, gap, played, of_past, after_cut=True)
    if _WORST_FIRST.index(later_verdict.verdict) < _WORST_FIRST.index(verdict.verdict):
        decided = dataclasses.replace(
            later_verdict, is_after_cut=True, other_agreement=verdict.agreement, played=None
        )
    else:
        decided = dataclasses.replace(verdict, other_agreement=later_verdict.agreement)
    half_life = played.trend.law.half_life
    return dataclasses.replace(
        decided, last_share=played.last_share(log), half_life=half_life if np.isfinite(half_life) else None
    )


def _judged_at(
    log: EventLog, gap: float, played: Truth, of_past: Callable[[EventLog], Truth], *, after_cut: bool
) -> Fitness:
    """Verdict by one kind of cut, see :func:`_judged`."""
    worth = _kept_worth(log, gap, after_cut=after_cut)
    names = worth.recommenders
    untested = untested_share(log)
    if not worth.slates:
        return _unjudged(played, names, untested)
    simulated: dict[str, list[Floats]] = {}
    for draw, slates in enumerate(worth.slates):
        cut = _cut(log, gap, draw, after_cut=after_cut)
        past = cut.later.past
        judged_truth = of_past(past)
        laws: dict[str, Truth | FalseTruth] = {_JUDGED: judged_truth, _PLAYED: played}
        laws |= false_truths({_JUDGED: judged_truth}, past)
        for name, law in laws.items():
            # The last row is the oracle, which is not a recommender of the test.
            utilities_with_oracle = utilities(law, cut, list(slates), _setting(log))
            simulated.setdefault(name, []).append(utilities_with_oracle[:-1])
    tests = {name: order_test(worth.precision, np.mean(parts, axis=0)) for name, parts in simulated.items()}
    truth_test = tests.pop(_JUDGED)
    played_test = tests.pop(_PLAYED)
    false_agreements = [test.agreement for test in tests.values() if test.agreement is not None]
    return Fitness(
        truth=played.kind,
        verdict=truth_test.verdict(false_agreements),
        agreement=truth_test.agreement,
        low=truth_test.low,
        high=truth_test.high,
        pairs=truth_test.pairs,
        settled=truth_test.settled,
        needed=truth_test.needed,
        concordant=len(truth_test.concordant),
        reversed=tuple((names[first], names[second]) for first, second in truth_test.reversed),
        best_false=max(false_agreements, default=None),
        users=truth_test.users,
        draws=len(worth.slates),
        recommenders=names,
        played=played_test.agreement,
        untested=untested,
    )


def untested_share(log: EventLog) -> float:
    """Share of events that a test of truths leaves out.

    If consumed items cannot be taken again, these are the events that repeat an item of their user.
    """
    return 0.0 if log.repeatable else repeated_share(log)


def _unjudged(truth: Truth, recommenders: tuple[str, ...], untested: float) -> Fitness:
    """Verdict without evidence, because too few users came back."""
    return Fitness(
        truth=truth.kind,
        verdict=CANNOT_TELL,
        agreement=None,
        low=None,
        high=None,
        pairs=0,
        settled=0,
        needed=1,
        concordant=0,
        reversed=(),
        best_false=None,
        users=0,
        draws=0,
        recommenders=recommenders,
        untested=untested,
    )


@dataclass(frozen=True, eq=False)
class RecommenderWorth:
    """Slates of m recommenders and their worth to n users."""

    recommenders: tuple[str, ...]
    slates: tuple[Ints, ...]  # slates of each draw, (m, n, k); empty: too few users have a later session
    precision: Floats  # (m, n) precision of each recommender for each user, a mean over draws


def _cut(log: EventLog, gap: float, draw: int, *, after_cut: bool) -> Cut:
    """Log cut at users' later sessions, or at one instant."""
    if after_cut:
        later = sessions_after_cut(log, gap=gap, seed=draw)
        return cut_of(log, later, draw, after=_AFTER, most_cells=_CELLS)
    return make_cut(log, draw, gap=gap, after=_AFTER, most_cells=_CELLS)


def _kept_worth(log: EventLog, gap: float, *, after_cut: bool) -> RecommenderWorth:
    """Worth of the recommenders, whatever the truth is."""
    names = _recommenders(log)
    key = _key(log_digest(log), gap, names, after_cut)

    def new_worth() -> RecommenderWorth:
        slates: list[Ints] = []
        precision: list[Floats] = []
        n_draws = _DRAWS
        while len(slates) < n_draws:
            try:
                cut = _cut(log, gap, len(slates), after_cut=after_cut)
            except DataError:
                return RecommenderWorth(names, (), np.empty((len(names), 0)))
            report_progress(f"fitness of the truth: fitting {len(names) - 1} recommenders to users' pasts")
            n_positions = _setting(log).slate
            make_model = partial(_quick, gap=f"{gap}s")
            worths = [judged(scores_of(name, cut, "cpu", make_model), cut, n_positions) for name in names]
            slates.append(np.stack([worth.slates for worth in worths]))
            precision.append(np.stack([worth.precision for worth in worths]))
            n_draws = 1 if len(cut) >= _MANY_USERS else _DRAWS
        return RecommenderWorth(names, tuple(slates), np.mean(precision, axis=0))

    return kept(cache_folder() / "recommenders" / key, load=_read_worth, make=new_worth, save=_write_worth)


def _recommenders(log: EventLog) -> tuple[str, ...]:
    """Recommenders for a log.

    A large catalogue leaves out ``ease``, and repeated consumption adds recommenders that know it.
    """
    names = RECOMMENDERS + (REPEATING if log.repeatable else ())
    return tuple(name for name in names if name != "ease" or log.n_items <= _EASE)


def _setting(log: EventLog) -> SlateSetting:
    """Setting whose slates show at most half of the catalogue."""
    return dataclasses.replace(SETTING, slate=max(1, min(SETTING.slate, log.n_items // 2)))


def _quick(name: str, seed: int, device: str, gap: str) -> IntensityModel:
    """Unfitted recommender with fixed strengths of regularisation."""
    values = _STRENGTHS.get(name)
    mark = None if values is None else config_of(name, values)
    return make(name, mark=mark, seed=seed, device=device, gap=gap)


def _key(*parts: Any) -> str:
    """Digest of the parts, code, package versions and slates."""
    described = json.dumps([_code(), _versions(), dataclasses.astuple(SETTING), *parts])
    return hashlib.sha256(described.encode()).hexdigest()


@lru_cache
def _code() -> str:
    """Digest of the source code that a verdict depends on."""
    package = Path(rimsim.__file__).parent
    folders = ("intensity", "matching", "measures", "data", "market/consumers")
    files = ("market/agreement.py", "market/fitness.py", "market/fitted.py", "rng.py", "arrays.py")
    return source_digest(*(package / name for name in (*folders, *files)))


def _versions() -> list[str]:
    """Versions of the packages that a verdict depends on."""
    return [importlib.metadata.version(name) for name in ("numpy", "scipy", "pandas", "torch")]


def _read_fitness(folder: Path) -> Fitness:
    try:
        return READER.validate_json((folder / "fitness.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: the cached verdict is damaged ({error})") from error


def _write_fitness(verdict: Fitness, folder: Path) -> None:
    (folder / "fitness.json").write_bytes(READER.dump_json(verdict))


def _read_worth(folder: Path) -> RecommenderWorth:
    try:
        arrays = load_file(folder / "worth.safetensors")
        names = json.loads((folder / "recommenders.json").read_text(encoding="utf-8"))
        slates = tuple(arrays[name] for name in sorted(arrays) if name.startswith("slates"))
        return RecommenderWorth(tuple(names), slates, arrays["precision"])
    except (OSError, ValueError, LookupError, SafetensorError) as error:
        raise ModelError(f"{folder}: the cached slates are damaged ({error})") from error


def _write_worth(worth: RecommenderWorth, folder: Path) -> None:
    arrays = {f"slates{draw}": slates for draw, slates in enumerate(worth.slates)}
    save_file(arrays | {"precision": worth.precision}, folder / "worth.safetensors")
    (folder / "recommenders.json").write_text(json.dumps(worth.recommenders), encoding="utf-8")
