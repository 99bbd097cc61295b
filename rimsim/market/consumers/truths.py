"""Truths: fitted models with session sizes, chosen on held-out sessions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import save_file

from rimsim import rng
from rimsim.arrays import Float32s, Floats, Ints, numbered
from rimsim.data.log import EventLog, LaterSessions, later_sessions
from rimsim.data.time_cut import sessions_after_cut
from rimsim.errors import ConfigError, DataError, ModelError, nearest
from rimsim.intensity.contract import Hidden, IntensityModel, RecurrentModel
from rimsim.intensity.habits.local_rate import RateLaw
from rimsim.intensity.habits.next_sessions import NextSessions
from rimsim.intensity.persistence import read_tensors, save_model
from rimsim.intensity.popularity import log_popularity, log_returning
from rimsim.intensity.product import settled
from rimsim.intensity.registry import config_of, load, make, mark_and_ground, names, shipped, thorough
from rimsim.intensity.selection.auto import log_scores
from rimsim.intensity.selection.held_out import HeldOut, Worth
from rimsim.intensity.selection.shrinkage import Shrinkage
from rimsim.intensity.sets.factors import FactorsConfig, UserFactors
from rimsim.intensity.sets.personal import PersonalModel
from rimsim.intensity.states import UserStates
from rimsim.market.consumers.habit import Habit, fitted_habit
from rimsim.market.consumers.session_sizes import SessionSizes, SizesReport, fit_sizes
from rimsim.market.consumers.trend import Persistence, Trend, fitted_persistence, fitted_trend
from rimsim.measures.statistics import pairs_of

AUTO = "auto"
"""Name that lets later sessions choose the truth."""
CANDIDATES = ("factors", "bag")
"""Names of the truths among which ``auto`` chooses."""
HABITS = "+habits"
"""Suffix of the name of a truth with a trend and a habit, such as ``bag+habits``."""
_NO_FIGURE = float("nan")
_CELLS = 1_000_000
"""Largest number of scores, states times items, to which trend and habit are fitted."""
_SMOOTHING = 0.5
"""Number of events that are added to every item in the popularity baselines."""
_SLATE = 10
"""Number of positions of the slates on which the agreement of candidates is measured."""
_DECAY = 0.85
"""γ, the decay of examination on these slates."""
_ONE_EVENT = 1.05
"""Mean number of events per session up to which a visit takes one item at most.

A Poisson number of mean 1 is 0 in 37% of visits and above 1 in 26%, but at most 5% of such a log's sessions have more
than one event.
"""


@dataclass(frozen=True)
class Candidate:
    """Candidate truth, compared with held-out later sessions."""

    kind: str
    """Name of the candidate's model."""
    log_likelihood: float
    """Mean log-likelihood, in nats, of the new items that users took after the cut."""
    precision: float
    """Mean share of the candidate's ten best new items that users took after the cut."""
    behind: float
    """Log-likelihood of the likeliest candidate minus the log-likelihood of this candidate, in nats."""
    behind_error: float
    """Standard error of ``behind``, from differences paired by user."""
    agreement: float | None = None
    """Agreement with later sessions, in [−1, 1]. None: the candidate is far behind or the only one, or no pair is
    settled."""


@dataclass(frozen=True)
class TruthReport:
    """Report on the choice and fit of a truth."""

    kind: str
    """Name of the chosen model."""
    shrinkage: Shrinkage | None
    """Regularisation and weights, chosen on held-out later sessions; None: the model has no shrinkage."""
    users: int
    """Number of users with a held-out later session; 0: too few users, so nothing was chosen."""
    log_likelihood: float
    """Mean log-likelihood, in nats, of items taken after the cut; see :class:`Candidate`."""
    precision: float
    """Mean share of the truth's ten best items that users took after the cut."""
    popularity_log_likelihood: float
    """Mean log-likelihood, in nats, of the baseline that knows item popularity only."""
    popularity_precision: float
    """Mean share of the ten most popular items that users took after the cut."""
    candidates: tuple[Candidate, ...]
    """Candidate truths; the chosen truth comes first."""
    events_per_session: float
    """Events per session in the log."""
    expected_per_session: float
    """Mean of λ* over the log's sessions, which is calibrated to equal ``events_per_session``."""
    sizes: SizesReport
    """Report on the fit of λ*."""
    bootstrap: int | None = None
    """Seed of the bootstrap sample of users to which the truth was fitted; None: the whole log."""
    trend: RateLaw | None = None
    """Law of the local rate of items; None: p* does not depend on time."""
    persistence: Persistence = field(default_factory=Persistence)
    """Duration of the trend's last rates after the end of the log."""
    habit: Habit | None = None
    """Law of repeated consumption; None: p* has no part for items that the user consumed before."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground-truth choice model: λ*(x)·p*(y|x) of a log's users.

    p* comes from an intensity model that was fitted to the whole log, and λ* from a model of session sizes.
    """

    kind: str
    """Name of the model."""
    model: IntensityModel
    """Fitted model, from which p* comes."""
    sizes: SessionSizes
    """Ground intensity λ* of the truth."""
    report: TruthReport
    item_bias: Floats
    """(M,) logarithm of the factor by which p* of each item differs from the model's p; 0 in a fitted truth."""
    users: Hidden = ()
    """Fixed hidden states (users, …) of the log's users; empty: hidden states change with consumptions."""
    trend: Trend | None = None
    """Factor of items that changes with time; None: no such factor."""
    habit: Habit | None = None
    """Part of p* for items that the user consumed before; None: no such part."""

    @property
    def takes_one(self) -> bool:
        """True if a visit takes one item at most.

        This is so if nearly all sessions of the log have one event.
        """
        return self.report.events_per_session <= _ONE_EVENT

    @cached_property
    def item_factor(self) -> Float32s | None:
        """Factor of each item in p*; None: all 1."""
        return np.exp(self.item_bias).astype(np.float32) if self.item_bias.any() else None

    def preference(self, users: Ints, states: UserStates) -> Floats:
        """Preferences p* of users in given states.

        All items of the catalogue are included. The caller sets inadmissible items to 0 and renormalises.
        """
        preference = self._base_preference(users, states)
        if self.trend is not None:
            preference = self.trend.timed(preference, states.now)
        return self._completed(preference, states)

    def _base_preference(self, users: Ints, states: UserStates) -> Floats:
        """(n, M) preferences of the model alone."""
        model = self.model
        if self.users and isinstance(model, RecurrentModel):
            rows = torch.from_numpy(np.ascontiguousarray(users, np.int64))
            scores = model.score_hidden(tuple(part[rows] for part in self.users), states.now)
        else:
            scores = model.score(states)
        return np.asarray(scores.double().cpu().numpy(), np.float64)

    def _completed(self, preference: Floats, states: UserStates) -> Floats:
        """(n, M) preferences with habit and item factors."""
        if self.habit is not None:
            preference = self.habit.mixed(preference, states)
        preference = preference * np.exp(self.item_bias)
        return np.asarray(preference / preference.sum(1, keepdims=True), np.float64)

    def last_share(self, log: EventLog) -> float | None:
        """Share of consumption that rests on the last half-life.

        It is the part of expected consumption at the end of the log that goes to other items if the trend does not know
        the events of the last half-life. None: no trend.
        """
        if self.trend is None:
            return None
        users = np.arange(log.n_users)[:: max(-(-log.n_users * log.n_items // _CELLS), 1)]
        states = UserStates.of(log, users, np.full(len(users), self.trend.end))
        preference = self._base_preference(users, states)
        known = self._completed(self.trend.timed(preference, states.now), states)
        unknown_factors = self.trend.factors_without_last()
        unknown = self._completed(preference**self.trend.law.base * unknown_factors, states)
        if self.habit is None:
            known[states.owner, states.items] = 0.0
            unknown[states.owner, states.items] = 0.0
            known /= np.maximum(known.sum(1, keepdims=True), 1e-300)
            unknown /= np.maximum(unknown.sum(1, keepdims=True), 1e-300)
        moved = np.maximum(known - unknown, 0.0).sum(1)
        return float(np.average(moved, weights=self.expected(users, states)))

    def expected(self, users: Ints, states: UserStates) -> Floats:
        """λ*(x) of sessions that begin at ``states.now``."""
        return self.sizes.expected(users, states)

    def save(self, folder: Path) -> None:
        """Write the truth into a folder, its report last."""
        save_model(self.model, folder / "model")
        arrays = {name: torch.from_numpy(array) for name, array in vars(self.sizes).items()}
        arrays["item_bias"] = torch.from_numpy(self.item_bias)
        users = {f"users{number}": part for number, part in enumerate(self.users)}
        if self.trend is not None:
            arrays |= {f"trend_{name}": torch.from_numpy(getattr(self.trend, name)) for name in _OF_TREND}
        save_file(arrays | users, folder / "truth.safetensors")
        text = json.dumps(dataclasses.asdict(self.report), indent=2)
        (folder / "truth.json").write_text(text, encoding="utf-8")


_OF_TREND = ("item", "time")
"""Arrays of a trend that a saved truth has."""


def truth_model(kind: str, gap: str, rank: int) -> IntensityModel:
    """Unfitted model of a truth.

    If the model is a product of λ(x) and p(y|x), only p(y|x) is used. A model such as ``bag`` gets the hyperparameters
    that best predict answers to slates, because a truth must answer slates.

    Raises:
        ConfigError: If no model has the name, or your file cannot be used.
    """
    if kind == "factors":
        return UserFactors(FactorsConfig(rank=rank, session_gap=gap, slates=True, device="cpu"))
    name = kind.partition("(")[0]
    if ":" not in name and not name.endswith(".py") and name not in names():
        raise ConfigError(
            f"consumer.truth is {kind!r}, which is not a truth.{nearest(kind, (AUTO, *names()))} For a "
            "truth of your own, give file.py:factory."
        )
    mark = mark_and_ground(kind)[0]
    shipped_model = shipped().get(mark.partition("(")[0])
    over_sets = shipped_model is not None and issubclass(shipped_model, PersonalModel)
    config = config_of(mark, {"slates": True}) if over_sets else thorough(mark)
    return make(mark, mark=config, seed=0, device="cpu", gap=gap)


def check_truth(kind: str) -> None:
    """Refuse a truth whose model cannot be made.

    Raises:
        ConfigError: If no model has the name, or your file cannot be used.
    """
    if base_of(kind) != AUTO:
        truth_model(base_of(kind), "30min", 1)


def base_of(kind: str) -> str:
    """Name of the truth without trend and habit."""
    return kind.removesuffix(HABITS)


def fit_truth(
    log: EventLog, *, gap: str | float, kind: str = AUTO, rank: int = 16, bootstrap: int | None = None
) -> Truth:
    """Truth fitted to a log.

    ``auto`` finds the candidate that makes the items of held-out later sessions most likely. Among all candidates
    within one standard error of this candidate, ``auto`` chooses the candidate with the best agreement. To be compared,
    candidates are fitted to the events before the held-out sessions. Compared candidates have the regularisation of
    their fit to the whole log, and the weights of highest likelihood.

    Args:
        kind: Name of a model, your own model such as ``mine.py:factory``, or ``auto``.
        rank: Length of the vectors of the model ``factors``.
        bootstrap: Seed of a bootstrap sample of users, to which the truth is fitted. Users outside the sample have
            preferences and a λ* too, and ``auto`` chooses by the whole log. None: the truth is fitted to the whole log.

    Raises:
        ConfigError: If no model has the name ``kind``.
        ModelError: If the log is empty.
    """
    session_gap = gap if isinstance(gap, str) else f"{gap}s"
    names_to_fit = CANDIDATES if kind == AUTO else (kind,)
    models = {name: truth_model(name, session_gap, rank) for name in names_to_fit}
    if not len(log):
        raise ModelError("the truth cannot be fitted, because the log is empty. Expected at least one event")
    held_out = HeldOut.of(log, session_gap, 0)
    if held_out is None:  # nothing can be compared, so the first candidate is the truth
        models = dict(list(models.items())[:1])
    for model in models.values():
        if held_out is not None and isinstance(model, PersonalModel):
            model.choose(log, held_out)
    weights = None if bootstrap is None else drawn_users(log.n_users, bootstrap)
    sizes, sizes_report = fit_sizes(log, session_gap, _later(log, session_gap), weights)
    candidates = () if held_out is None else _candidates(held_out, models, sizes, session_gap, rank)
    chosen = candidates[0].kind if candidates else next(iter(models))
    model = models[chosen] if candidates else models[chosen].fit(log)
    baseline = None if held_out is None else held_out.worth(log_popularity(held_out.past, _SMOOTHING))
    report = TruthReport(
        kind=chosen,
        shrinkage=getattr(model, "shrinkage", None),
        users=0 if held_out is None else len(held_out),
        log_likelihood=candidates[0].log_likelihood if candidates else _NO_FIGURE,
        precision=candidates[0].precision if candidates else _NO_FIGURE,
        popularity_log_likelihood=_NO_FIGURE if baseline is None else baseline.nats,
        popularity_precision=_NO_FIGURE if baseline is None else baseline.precision,
        candidates=candidates,
        events_per_session=len(log) / len(log.sessions(session_gap)),
        expected_per_session=sizes_report.mean,
        sizes=sizes_report,
        bootstrap=bootstrap,
    )
    if weights is not None:
        model = settled(truth_model(chosen, session_gap, rank), model).fit(resampled(log, weights))
    no_bias = np.zeros(log.n_items)
    users = _fixed_states(model, log)
    return Truth(kind=chosen, model=model, sizes=sizes, report=report, item_bias=no_bias, users=users)


def with_habits(truth: Truth, log: EventLog, *, gap: str | float, rank: int = 16) -> Truth:
    """Truth with the trend and the habit of its log.

    Both are fitted to held-out next sessions, in which the truth's model is fitted to the events before. The truth gets
    a trend if the likelihood of new items gains more than its standard error. It gets a habit if users of the log can
    take items again. Sessions after a cut in time decide how long the last rates of a trend stay after the end of the
    log.
    """
    session_gap = gap if isinstance(gap, str) else f"{gap}s"
    held = NextSessions.of(log, session_gap, 0, most_cells=_CELLS)
    trend: Trend | None = None
    habit = Habit() if log.repeatable else None

    def past_logits(sessions: NextSessions) -> Float32s:
        """(n, M) log p* of a model of the past."""
        model = settled(truth_model(truth.kind, session_gap, rank), truth.model).fit(sessions.past)
        return log_scores(model, sessions.states)

    if held is not None:
        logits = past_logits(held)
        trend = fitted_trend(log, held, logits)
        if habit is not None:
            habit = fitted_habit(held, logits if trend is None else trend.timed_logits(held, logits))
    if trend is not None:
        later = NextSessions.at(sessions_after_cut(log, gap=gap), most_cells=_CELLS)
        if later is not None:
            persistence = fitted_persistence(trend.law, log, later, past_logits(later))
            trend = dataclasses.replace(trend, persistence=persistence)
    report = dataclasses.replace(
        truth.report,
        kind=truth.kind + HABITS,
        trend=None if trend is None else trend.law,
        persistence=Persistence() if trend is None else trend.persistence,
        habit=habit,
    )
    return dataclasses.replace(truth, kind=report.kind, report=report, trend=trend, habit=habit)


def _fixed_states(model: IntensityModel, log: EventLog) -> Hidden:
    """Fixed hidden states of users; empty if events change them."""
    return model.users_of(log) if isinstance(model, UserFactors) else ()


def _later(log: EventLog, gap: str) -> LaterSessions | None:
    """Log cut at later sessions; None if too few."""
    try:
        return later_sessions(log, gap=gap)
    except DataError:
        return None


def _candidates(
    held_out: HeldOut, models: dict[str, IntensityModel], sizes: SessionSizes, gap: str, rank: int
) -> tuple[Candidate, ...]:
    """Candidates, compared on held-out later sessions, the best first.

    Models that may be chosen, with a likelihood near the best, are fitted to the whole log; ``models`` then holds the
    fitted models.
    """
    logits = {}
    for name, model in models.items():
        past_model = (
            model.likeliest(held_out)
            if isinstance(model, PersonalModel)
            else truth_model(name, gap, rank).fit(held_out.past)
        )
        logits[name] = log_scores(past_model, held_out.states)
    worths = {name: held_out.worth(scores) for name, scores in logits.items()}
    likeliest_worth = max(worths.values(), key=lambda worth: worth.nats)
    candidates = []
    for name, worth in worths.items():
        behind, behind_error = worth.behind(likeliest_worth)
        candidates.append(
            Candidate(
                kind=name,
                log_likelihood=worth.nats,
                precision=worth.precision,
                behind=behind,
                behind_error=behind_error,
            )
        )
    near_candidates = [candidate for candidate in candidates if candidate.behind <= candidate.behind_error]
    near_kinds = [candidate.kind for candidate in near_candidates]
    for kind in near_kinds:
        model = models[kind]
        log = held_out.log
        models[kind] = model.finish(log, held_out) if isinstance(model, PersonalModel) else model.fit(log)
    if len(near_candidates) > 1:
        slates = _slates(held_out, logits.values(), gap)
        for candidate in near_candidates:
            preference = _preference_of(models[candidate.kind], held_out)
            agreement = _agreement(slates, preference, sizes.expected(held_out.user, held_out.states))
            candidates[candidates.index(candidate)] = dataclasses.replace(candidate, agreement=agreement)

    def order(candidate: Candidate) -> tuple[bool, float, float]:
        """Sort key: likely candidates first, then those that agree most."""
        is_far_behind = candidate.kind not in near_kinds
        return is_far_behind, -(candidate.agreement or 0.0), -candidate.log_likelihood

    return tuple(sorted(candidates, key=order))


def _preference_of(model: IntensityModel, held_out: HeldOut) -> Floats:
    """Preferences p* of unconsumed items at held-out states."""
    states = held_out.states
    if isinstance(model, UserFactors):  # as in a market, preferences come from the whole log
        states = UserStates.of(held_out.log, held_out.user, np.inf)
    preference = model.score(states).double().cpu().numpy()
    preference[held_out.consumed] = 0.0
    return np.asarray(preference / preference.sum(1, keepdims=True), np.float64)


def _slates(held_out: HeldOut, logits: Iterable[Float32s], gap: str) -> list[tuple[Ints, Worth]]:
    """Slates of candidates and of popular items, with real worth."""
    popularity = log_popularity(held_out.past, _SMOOTHING).astype(np.float32)
    returning_popularity = log_returning(held_out.past, gap, _SMOOTHING).astype(np.float32)
    slates = []
    for scores in [*logits, popularity, returning_popularity]:
        unconsumed = np.where(held_out.consumed, -np.inf, scores)
        best_items = np.argsort(-unconsumed, axis=1, kind="stable")[:, :_SLATE]
        slates.append((best_items, held_out.worth(scores)))
    return slates


def _agreement(slates: list[tuple[Ints, Worth]], preference: Floats, ground: Floats) -> float | None:
    """Agreement of a truth on significant pairs; None without pairs.

    A pair of recommenders is significant if the 95% interval of their difference in precision excludes 0.
    """
    n_positions = slates[0][0].shape[1]
    examination = _DECAY ** np.arange(n_positions)
    utility = []
    for items, _ in slates:
        intensity = ground[:, None] * np.take_along_axis(preference, items, 1) * examination
        utility.append(-np.expm1(-intensity).sum(1).mean())
    hits = np.array([worth.hits for _, worth in slates])
    pairs = [pair for pair in pairs_of(hits) if pair.settled]
    signs = [np.sign(utility[pair.first] - utility[pair.second]) for pair in pairs]
    return float(np.mean(signs)) if signs else None


def drawn_users(n_users: int, seed: int) -> Ints:
    """Number of copies of each user in a bootstrap."""
    draw = rng.uniform(seed, rng.Purpose.MODEL, 11, np.arange(n_users))
    return np.bincount((draw * n_users).astype(np.int64), minlength=n_users)


def resampled(log: EventLog, times: Ints) -> EventLog:
    """Log with ``times`` copies of each user, as separate users."""
    first_copy = np.cumsum(times) - times  # number of the first copy of each user
    row, nth = numbered(times[log.user])  # each event, and its copies from 0
    events = log.rows(row)
    users = log.users.iloc[np.repeat(np.arange(log.n_users), times)].reset_index(drop=True)
    return dataclasses.replace(events, user=first_copy[events.user] + nth, users=users)


def load_truth(folder: Path) -> Truth:
    """Truth that :meth:`Truth.save` wrote.

    Raises:
        ModelError: If the folder has no truth, a damaged truth, or a truth of an older version.
    """
    try:
        plain = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        report = TypeAdapter(TruthReport).validate_python(plain)
        arrays = read_tensors(folder / "truth.safetensors")
        item_bias = arrays["item_bias"].numpy()
        law = report.trend
        events = {} if law is None else {name: arrays[f"trend_{name}"].numpy() for name in _OF_TREND}
        n_items = len(item_bias)
        return Truth(
            kind=report.kind,
            model=load(folder / "model", "cpu"),
            sizes=SessionSizes(
                weights=arrays["weights"].numpy(),
                effect=arrays["effect"].numpy(),
                bounds=arrays["bounds"].numpy(),
            ),
            report=report,
            item_bias=item_bias,
            users=tuple(arrays[name] for name in sorted(arrays) if name.startswith("users")),
            trend=None
            if law is None
            else Trend(law, n_items=n_items, persistence=report.persistence, **events),
            habit=report.habit,
        )
    except (OSError, ValueError, LookupError, TypeError, SafetensorError, ModelError) as error:
        raise ModelError(f"{folder}: there is no saved truth, or it is damaged ({error})") from error
