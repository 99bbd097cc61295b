"""The figures of one round of one arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim import measures
from rimsim.agents.prices import joined_states
from rimsim.matching import certificate, solve_dual

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ScenarioConfig
    from rimsim.market import ClosedRound, World
    from rimsim.matching import Certificate

__all__ = ["MeasureContext", "certified", "round_metrics"]

_PAIRS = 1000
_BOUND_TOL = 1e-3
"""How near the bound of a round is to the best one, relative."""


@dataclass(frozen=True, eq=False)
class MeasureContext:
    """What measures need beside the round itself."""

    popularity: NDArray[np.int64]
    """(M,) events of each item in the warm-up log: frozen at round 0, so that a trend is not one of its ruler."""
    genres: NDArray[np.float64]
    """(M, G) share of each genre in each item."""
    decay: float
    """γ of examination."""
    seed: int
    """Seed of the sample of pairs; arrivals are the same for all agents, so the pairs are too."""

    @classmethod
    def of(cls, world: World, config: ScenarioConfig, seed: int) -> MeasureContext:
        """The context of all arms of a scenario and seed."""
        weights, _ = measures.genre_weights([str(text) for text in world.log.items["genres"]])
        popularity = np.bincount(world.past.item, minlength=world.log.n_items)
        return cls(popularity, weights, config.consumer.position_decay, seed)


def certified(
    closed: ClosedRound, price: NDArray[np.float64] | None, start: NDArray[np.float64] | None = None
) -> Certificate:
    """V, the best bound D(w) and the gap of a round's slates under the scores of the model that served it.

    The scores are computed anew from the states in which the arrivals came, and any price gives a valid bound. Prices
    that an agent held last, or none, give a loose one, which would be read as its loss; so the round is also solved in
    hindsight, and the lower bound of the two is taken.

    Args:
        closed: The round.
        price: (M,) item prices v of the agent; None if it has none.
        start: (M,) prices from which the solution in hindsight starts, such as those of the last round's bound; None:
            the agent's, if it has any.
    """
    chunks = list(closed.states)
    order = np.concatenate([chunk.index for chunk in chunks])
    slates = closed.ledger.item[order].astype(np.int64)
    scores, admissible, capacity = joined_states(chunks, slates.shape[1])
    best = solve_dual(
        scores,
        capacity,
        closed.required,
        admissible=admissible,
        cost=closed.cost,
        prices=price if start is None else start,
        tol=_BOUND_TOL,
    )
    proofs = [
        certificate(scores, slates, capacity, closed.required, v, closed.cost, admissible=admissible)
        for v in (best.item_price, price)
        if v is not None
    ]
    return min(proofs, key=lambda proof: proof.bound)


def round_metrics(
    closed: ClosedRound,
    context: MeasureContext,
    first: NDArray[np.int64],
    proof: Certificate | None,
) -> dict[str, float]:
    """Every metric of a round by its name in :data:`rimsim.measures.MEASURES`.

    Args:
        closed: The round.
        context: Popularity, genres and pairs.
        first: (M,) exposures of round 0 of the same arm, for genre drift.
        proof: The round's certificate; None leaves its metrics out.
    """
    ledger = closed.ledger
    m = len(closed.required)
    slates, required = ledger.item, closed.required
    exposure = ledger.exposure(m)
    user = ledger.schedule.user[ledger.schedule.slot]
    pairs = measures.sample_pairs(len(slates), _PAIRS, context.seed, user)
    values: dict[str, float] = {
        "precision": measures.precision(ledger.consumed),
        "recall": measures.recall(ledger.consumed, closed.relevant),
        "utility": measures.per_slate(ledger.probability),
        "consumptions": measures.per_slate(ledger.consumed),
        "coverage": measures.coverage(exposure),
        "gini": measures.gini(exposure),
        "perplexity": measures.perplexity(exposure),
        "average_popularity": measures.average_popularity(exposure, context.popularity),
        "shortfall": measures.shortfall(exposure, required),
        "shortfall_units": measures.shortfall_units(exposure, required),
        "examined_shortfall": measures.examined_shortfall(slates, required, context.decay),
        "items_met": measures.items_met(exposure, required),
        "worst_ratio": measures.worst_ratio(exposure, required),
        "effective_items": measures.effective_items(ledger.consumption(m)),
        "log_gini": measures.gini(closed.log_counts),
        "jaccard": measures.jaccard(slates, pairs),
        "genre_drift": measures.genre_drift(exposure, first, context.genres),
        "sessions_per_user": measures.sessions_per_user(user),
        "value_true": measures.penalised_value(ledger.true_intensity, exposure, required, closed.cost),
        "return": measures.penalised_value(ledger.consumed, exposure, required, closed.cost),
    }
    if closed.counts_items:
        values["ndcg"] = measures.ndcg(ledger.consumed, closed.relevant)
    if proof is not None:
        values |= {"value_model": proof.value, "bound": proof.bound, "gap": proof.gap}
    return {name: float(value) for name, value in values.items() if value is not None}
