"""What a truth is: the law by which consumers consume, fitted with hindsight; no agent sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from rimsim.arrays import Floats, Ints

if TYPE_CHECKING:
    from rimsim.intensity.states import UserStates
    from rimsim.market.consumers.contract import Response, Visits
    from rimsim.market.consumers.truths.sizes import SessionSizes


@dataclass(frozen=True)
class Candidate:
    """A truth that could have been chosen, fitted to the past of held-out later sessions and judged on these."""

    kind: str
    """Its class."""
    ridge: float
    """Its ridge."""
    personal: float
    """The weight of its personal part: 1 leaves it as it was fitted."""
    popularity: float
    """The weight of log popularity."""
    returning: float
    """The weight of log popularity in later sessions."""
    log_likelihood: float
    """Mean log-likelihood of an item that was taken from the cut on, among what was not consumed before, nats; with the
    weights at which it is largest."""
    precision: float
    """Mean share of its ten best items, of those not consumed before, that were taken from the cut on; with its own
    weights."""


@dataclass(frozen=True)
class SizesReport:
    """How λ* was fitted, and how well it foretells sessions that it was not fitted to."""

    mean: float
    """Mean of λ* over the log's sessions; calibrated to equal their mean size."""
    shrinkage: float
    """A user's own sizes are shrunk as if so many average sessions of his were known beside his own."""
    shrinkage_at_end: bool
    """The shrinkage is the smallest or the largest that was tried."""
    first: float
    """Mean size of users' first sessions."""
    later: float
    """Mean size of their later sessions."""
    left_out_sessions: int
    """Sessions that the shrinkage was chosen on, and that the figures beside are of, each fitted without it: all, or of
    a log of more than 50,000 those of some users, drawn by seed."""
    left_out_ratio_first: float
    """Σλ* over Σ size of first sessions; NaN where there are none."""
    left_out_ratio_later: float
    """The same of later sessions."""
    left_out_spearman: float
    """Rank correlation of λ* with the size."""
    left_out_deciles: tuple[tuple[float, float], ...]
    """Mean λ* and mean size of each tenth of the sessions, by λ*."""
    forward_ratio: float
    """Σλ* over Σ size of held-out later sessions, fitted to what was before them alone. Above 1 where who can be cut
    began with more than he went on with."""
    forward_spearman: float
    """Rank correlation of λ*, fitted to what was before them, with their sizes."""


@dataclass(frozen=True)
class TruthReport:
    """Which truth was chosen for a log, among which, and how well it describes the log."""

    kind: str
    """Its class."""
    ridge: float
    """Its ridge, chosen on held-out later sessions."""
    ridge_at_end: bool
    """The ridge is the smallest or the largest that may be tried: a better one may lie beyond."""
    personal: float
    """The weight of its personal part, chosen likewise; 0 leaves popularity."""
    popularity: float
    """The weight of log popularity, chosen likewise."""
    returning: float
    """The weight of log popularity in later sessions, chosen likewise."""
    users: int
    """Users with a held-out later session; 0: too few could be held out, and nothing was chosen."""
    log_likelihood: float
    """Mean log-likelihood of an item that was taken from the cut on, nats; see :class:`Candidate`."""
    precision: float
    """Mean share of its ten best items that were taken from the cut on."""
    popularity_log_likelihood: float
    """The log-likelihood under item popularity alone: the bar to be above."""
    popularity_precision: float
    """The precision of the ten most popular items."""
    candidates: tuple[Candidate, ...]
    """All that were judged, best first."""
    behind: float
    """By how much the best candidate of another class is less likely, nats; NaN where no other class was judged."""
    behind_error: float
    """Standard error of ``behind``, paired by user: a difference within twice of it does not tell classes apart."""
    events_per_session: float
    """Events per session in the log."""
    expected_per_session: float
    """Mean of λ* over the log's sessions; calibrated to equal ``events_per_session``."""
    sizes: SizesReport
    """How λ* was fitted."""
    bootstrap: int | None = None
    """Seed of the bootstrap of users that it was fitted to; None: the whole log."""


@dataclass(frozen=True, eq=False)
class Law:
    """How an intensity becomes a probability: 1 − exp(−λ*·p*·γ^(r−1)·a)."""

    examination: Floats
    """(k,) γ^(r−1)."""
    attraction: float
    """a."""


@runtime_checkable
class Truth(Protocol):
    """p*(y|x) and λ*(x) of the users of a log: λ*(x)·p*(y|x) is the true intensity.

    ``preference`` and ``expected`` say the law for any state. ``answer`` and ``shares`` say the same of visits to a
    market, at the speed that a market needs, over what each visitor has not consumed and what is released.
    """

    @property
    def kind(self) -> str:
        """Name of its class."""
        ...

    @property
    def report(self) -> TruthReport:
        """How it was fitted."""
        ...

    @property
    def sizes(self) -> SessionSizes:
        """λ*."""
        ...

    def preference(self, users: Ints, states: UserStates) -> Floats:
        """(n, M) p* over the whole catalogue; the caller masks what is consumed or unreleased and renormalises.

        Args:
            users: (n,) users of the log.
            states: What each has consumed.
        """
        ...

    def expected(self, users: Ints, states: UserStates) -> Floats:
        """(n,) λ*(x) of sessions that begin at ``states.now``; arguments as in :meth:`preference`."""
        ...

    def answer(self, visits: Visits, slates: Ints, ground: Floats, law: Law, response: Response) -> None:
        """Fill in what n visits make of their slates; a row's bits depend on its visit alone.

        Args:
            visits: n visits.
            slates: (n, k) what they are shown.
            ground: (n,) λ*.
            law: How an intensity becomes a probability.
            response: Filled in place.
        """
        ...

    def shares(self, visits: Visits) -> Floats:
        """(n, M) p* over what each visit may consume: rows sum to 1, and are 0 where nothing can be consumed."""
        ...

    def save(self, folder: Path) -> None:
        """Write the truth into a folder."""
        ...
