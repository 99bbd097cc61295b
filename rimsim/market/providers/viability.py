"""Providers who leave when they are not satisfied, and others who come while many live."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim import rng
from rimsim.arrays import Ints
from rimsim.errors import ConfigError
from rimsim.market.providers.contract import Changes, Roster
from rimsim.requirements.audiences import require_column

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.market.providers.contract import RoundOutcome


_RESERVE_SEED = 0


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ViabilityOptions:
    """Who the providers are, what satisfies them, when they leave, and how fast others come."""

    column: str | None = Field(
        default=None,
        description="Items that are alike in this column of the item table have one provider; of names joined by `|` "
        "the first counts. null: each item is a provider.",
    )
    decay: float = Field(default=0.9, ge=0, le=1, description="δ: what a round leaves of satisfaction.")
    per_exposure: float = Field(default=0.1, ge=0, description="r_e: what an exposure adds.")
    per_consumption: float = Field(default=1.0, ge=0, description="r_c: what a consumption adds.")
    penalty: float = Field(default=1.0, ge=0, description="What a round without any exposure takes away.")
    start: float = Field(default=5.0, description="Satisfaction at the opening, and of who comes.")
    threshold: float = Field(
        default=0.0, description="Who is less satisfied than this leaves; -.inf: nobody does."
    )
    reserve: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the providers (drawn once for all seeds) that are not there at the opening; the warm-up "
        "log knows nothing of their items.",
    )
    entry: float = Field(
        default=0.0,
        ge=0,
        description="Expected number of them that come at a barrier if all are there; in proportion to the share of "
        "the providers of the opening, and of those who came, that live.",
    )


class Viability:
    """X ← δX + r_e·E + r_c·C − penalty·1[E = 0]; a provider with X below the threshold leaves at the barrier.

    E and C are the positions and consumptions that the provider's items had in the round (Zhan et al., WWW 2021;
    Mladenov et al., ICML 2020, in whose model a provider stays while its engagement is above a threshold). Who leaves
    does so for good. Of a reserve, a Poisson number comes at each barrier, its mean in proportion to the share of
    providers that live.

    Args:
        options: Who they are and what moves them.
    """

    def __init__(self, options: ViabilityOptions) -> None:
        self._options = options
        self.fixed = options.threshold == -math.inf and options.reserve * options.entry == 0

    def opening(self, log: EventLog) -> Roster:
        """Who offers what.

        Raises:
            ConfigError: If the item table has no such column, or nobody would be there.
        """
        options = self._options
        of_item, names = self._providers(log)
        reserved = round(options.reserve * len(names))
        if reserved == len(names):
            raise ConfigError(
                f"providers.options.reserve is {options.reserve:g} of {len(names)} providers: nobody is there at the "
                "opening; allowed: a smaller share"
            )
        there = np.ones(len(names), bool)
        there[_order(len(names), _RESERVE_SEED, 0)[:reserved]] = False
        return Roster(of_item, names, there, np.full(len(names), options.start))

    def _providers(self, log: EventLog) -> tuple[Ints, tuple[str, ...]]:
        """(M,) the provider of each item, and (G,) their names."""
        column = self._options.column
        if column is None:
            return np.arange(log.n_items), tuple(log.items["id"].astype(str).tolist())
        require_column(log.items, column, "providers.options.column")
        texts = log.items[column].astype("str").str.partition("|")[0].to_numpy(str)
        names, of_item = np.unique(texts, return_inverse=True)
        return of_item.reshape(-1).astype(np.int64), tuple(names.tolist())

    def end_of_round(self, outcome: RoundOutcome) -> Changes:
        """Who leaves and who comes after a round."""
        options, offer = self._options, outcome.offer
        shown = outcome.by_provider(outcome.exposure)
        moved = options.decay * offer.satisfaction + options.per_exposure * shown
        moved += options.per_consumption * outcome.by_provider(outcome.consumption)
        moved -= options.penalty * (shown == 0)
        there = offer.there
        satisfaction = np.where(there, moved, offer.satisfaction)
        leaves = there & (satisfaction < options.threshold)
        living = int((there & ~leaves).sum()) / max(int((offer.came >= 0).sum()), 1)
        waiting = np.flatnonzero(offer.came < 0)
        draw = float(rng.uniform(outcome.seed, rng.Purpose.PROVIDERS, 1, outcome.number))
        order = _order(len(there), outcome.seed, 2, outcome.number)
        comes = np.zeros(len(there), bool)
        comes[order[np.isin(order, waiting)][: _poisson(draw, options.entry * living)]] = True
        return Changes(satisfaction, leaves, comes)


def _order(count: int, seed: int, *key: int) -> Ints:
    """(count,) providers in a drawn order."""
    return np.argsort(rng.bits(seed, rng.Purpose.PROVIDERS, *key, np.arange(count)), kind="stable")


def _poisson(draw: float, mean: float) -> int:
    """The quantile of a Poisson variable at a uniform draw; it grows with the mean, so arms share what they can."""
    number, chance = 0, math.exp(-mean)
    below = chance
    while draw >= below and chance > 0:
        number += 1
        chance *= mean / number
        below += chance
    return number
