"""Providers of items, who may leave and enter the market."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self, cast, runtime_checkable

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from rimsim import rng
from rimsim.arrays import Array, Bools, Floats, Ints
from rimsim.config import ScenarioConfig
from rimsim.data.log import EventLog
from rimsim.errors import ConfigError, MarketError
from rimsim.market.satisfaction import SatisfactionRule, providers_of_items
from rimsim.plugs import make_plug

_RESERVE_SEED = 0
"""Seed of the providers in the reserve, the same for all seeds of a run."""


@dataclass(frozen=True, eq=False)
class Roster:
    """G providers of a catalogue's M items at the opening."""

    of_item: Ints
    """(M,) number of each item's provider, from 0 to G − 1."""
    names: tuple[str, ...]
    """(G,) name of each provider, used in tables."""
    there: Bools
    """(G,) True for providers who are in the market at the opening. Items of other providers have no events in the
    warm-up log."""
    satisfaction: Floats
    """(G,) satisfaction of each provider at the beginning."""

    def checked(self, n_items: int) -> Self:
        """Roster, checked against a catalogue of M items.

        Raises:
            MarketError: If an item has no provider, or the lengths of arrays differ.
        """
        lengths = {len(self.names), len(self.there), len(self.satisfaction)}
        if len(lengths) > 1 or self.of_item.shape != (n_items,):
            raise MarketError(
                f"providers: of_item has shape {self.of_item.shape}, and names, there and satisfaction have the "
                f"lengths {sorted(lengths)}. Expected shape ({n_items},), and equal lengths: one entry per provider"
            )
        if n_items and not 0 <= int(self.of_item.min()) <= int(self.of_item.max()) < len(self.names):
            raise MarketError(
                f"providers: items belong to providers {int(self.of_item.min())} to "
                f"{int(self.of_item.max())}. Expected provider numbers from 0 to {len(self.names) - 1}"
            )
        return self


@dataclass(frozen=True, eq=False)
class Offer:
    """Providers in the market between two barriers."""

    satisfaction: Floats
    """(G,) satisfaction of each provider."""
    came: Ints
    """(G,) round in which each provider came; 0: at the opening, −1: not yet."""
    left: Ints
    """(G,) last round of each provider; −1: the provider has not left."""

    @classmethod
    def opening(cls, roster: Roster) -> Self:
        """Offer at the opening of the market."""
        return cls(
            satisfaction=roster.satisfaction,
            came=np.where(roster.there, 0, -1),
            left=np.full(len(roster.names), -1, np.int64),
        )

    @property
    def there(self) -> Bools:
        """Mask of providers who are in the market."""
        return (self.came >= 0) & (self.left < 0)

    def after(self, changes: Changes, number: int) -> Offer:
        """Offer after the changes at the end of round ``number``.

        Raises:
            MarketError: If a provider leaves before it came, or comes a second time.
        """
        there = self.there
        shapes = {part.shape for part in (changes.satisfaction, changes.leaves, changes.comes)}
        if shapes != {there.shape}:
            raise MarketError(
                f"providers.end_of_round: found shapes {sorted(shapes)}. Expected {there.shape}, one entry per provider"
            )
        if (changes.leaves & ~there).any() or (changes.comes & (self.came >= 0)).any():
            raise MarketError(
                "providers.end_of_round: a provider leaves before it came, or comes a second time. Let "
                "each provider come at most once, and leave only after it came"
            )
        return Offer(
            satisfaction=np.asarray(changes.satisfaction, np.float64),
            came=np.where(changes.comes, number + 1, self.came),
            left=np.where(changes.leaves, number, self.left),
        )

    def arrays(self) -> dict[str, Array]:
        """Named arrays for :func:`numpy.savez`."""
        return {f"offer-{field.name}": getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Offer restored from the arrays of :meth:`arrays`.

        Raises:
            KeyError: If an array is missing.
        """
        return cls(**{field.name: arrays[f"offer-{field.name}"] for field in dataclasses.fields(cls)})


@dataclass(frozen=True, eq=False)
class RoundOutcome:
    """Outcome of a round, as providers see it."""

    number: int
    """Number of the round, from 0."""
    seed: int
    """Seed of arrivals, from which all random numbers must come (:mod:`rimsim.rng`)."""
    roster: Roster
    """Providers of the catalogue's items at the opening."""
    offer: Offer
    """Providers who were in the market in the round."""
    exposure: Ints
    """(M,) exposures of each item."""
    consumption: Ints
    """(M,) consumptions of each item."""

    def by_provider(self, counts: Ints) -> Floats:
        """Sums of items' counts for each provider."""
        return np.bincount(self.roster.of_item, counts, len(self.roster.names)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Changes:
    """Exits, entries and satisfaction of G providers at a barrier."""

    satisfaction: Floats
    """(G,) satisfaction of each provider after the round."""
    leaves: Bools
    """(G,) True for providers who leave for good with all their items."""
    comes: Bools
    """(G,) True for providers who come with all their items."""


@runtime_checkable
class Provider(Protocol):
    """Part that decides which providers offer their items.

    This part has no state of its own, because :class:`Offer` records the satisfaction of providers. ``fixed =
    True`` declares that no provider ever leaves or comes, so that all arms have the same requirements.
    """

    def opening(self, log: EventLog) -> Roster:
        """Providers of a log's items, the same at every seed."""

    def end_of_round(self, outcome: RoundOutcome) -> Changes:
        """Providers who leave or come after a round."""


class Fixed:
    """Providers with one item each, who never leave the market."""

    fixed = True

    def opening(self, log: EventLog) -> Roster:
        """Roster with one provider per item."""
        ids = tuple(log.items["id"].astype(str).tolist())
        return Roster(
            of_item=np.arange(len(ids)),
            names=ids,
            there=np.ones(len(ids), bool),
            satisfaction=np.zeros(len(ids)),
        )

    def end_of_round(self, outcome: RoundOutcome) -> Changes:
        """Changes in which no provider leaves or comes."""
        no_provider = np.zeros(len(outcome.offer.came), bool)
        return Changes(outcome.offer.satisfaction, no_provider, no_provider)


@pydantic_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ViabilityOptions(SatisfactionRule):
    """Options of :class:`Viability`: provider column, satisfaction, exit and entry."""

    column: str | None = None
    """Column of the item table with an item's provider. If the column has several names joined by `|`, the first
    counts. null: each item is its own provider."""
    reserve: float = Field(default=0.0, ge=0, lt=1)
    """Share of the providers who are not in the market at the opening, drawn once for all seeds. The warm-up log has no
    events of their items."""
    entry: float = Field(default=0.0, ge=0)
    """Expected number of reserved providers who come at a barrier as long as all providers stay. It is multiplied by
    the share of providers that are in the market, among all that ever came."""


class Viability:
    """Providers who leave when their satisfaction falls below a threshold.

    After a round with E exposures and C consumptions of its items, the satisfaction X of a provider becomes
    δX + r_e·E + r_c·C, less a penalty if E = 0 (Zhan et al., WWW 2021). In the model of Mladenov et al. (ICML
    2020), too, a provider stays while its engagement is above a threshold. Providers leave at the end of a
    round, and never return. At each barrier a Poisson number of providers comes from a reserve; its mean is
    proportional to the share of providers in the market.
    """

    def __init__(self, options: ViabilityOptions) -> None:
        self._options = options
        self.fixed = options.threshold == -math.inf and options.reserve * options.entry == 0

    def opening(self, log: EventLog) -> Roster:
        """Roster at the opening of the market.

        Raises:
            ConfigError: If the item table lacks the providers' column, or no provider is in the market.
        """
        options = self._options
        of_item, names = self._providers(log)
        n_reserved = round(options.reserve * len(names))
        if n_reserved == len(names):
            raise ConfigError(
                f"providers.options.reserve is {options.reserve:g}, so none of the {len(names)} providers "
                "is in the market at the opening. Give a smaller share"
            )
        there = np.ones(len(names), bool)
        there[_order(len(names), _RESERVE_SEED, 0)[:n_reserved]] = False
        satisfaction = np.full(len(names), options.start)
        return Roster(of_item=of_item, names=names, there=there, satisfaction=satisfaction)

    def _providers(self, log: EventLog) -> tuple[Ints, tuple[str, ...]]:
        """Provider of each item, and providers' names."""
        column = self._options.column
        if column is None:
            return np.arange(log.n_items), tuple(log.items["id"].astype(str).tolist())
        return providers_of_items(log.items, column, "providers.options.column")

    def end_of_round(self, outcome: RoundOutcome) -> Changes:
        """Exits, entries and satisfaction of providers after a round."""
        options = self._options
        offer = outcome.offer
        shown = outcome.by_provider(outcome.exposure)
        consumed = outcome.by_provider(outcome.consumption)
        present_satisfaction = options.after(offer.satisfaction, shown, consumed)
        there = offer.there
        satisfaction = np.where(there, present_satisfaction, offer.satisfaction)
        leaves = there & (satisfaction < options.threshold)
        present_share = int((there & ~leaves).sum()) / max(int((offer.came >= 0).sum()), 1)
        draw = float(rng.uniform(outcome.seed, rng.Purpose.PROVIDERS, 1, outcome.number))
        n_entering = _poisson(draw, options.entry * present_share)
        order = _order(len(there), outcome.seed, 2, outcome.number)
        reserve = order[np.isin(order, np.flatnonzero(offer.came < 0))]  # in random order
        comes = np.zeros(len(there), bool)
        comes[reserve[:n_entering]] = True
        return Changes(satisfaction=satisfaction, leaves=leaves, comes=comes)


BUILT_IN = {"none": Fixed, "viability": Viability}
"""Name of a built-in rule for providers → its class."""


def _order(count: int, seed: int, *key: int) -> Ints:
    """Random order of ``count`` providers, as provider numbers."""
    return np.argsort(rng.bits(seed, rng.Purpose.PROVIDERS, *key, np.arange(count)), kind="stable")


def _poisson(draw: float, mean: float) -> int:
    """Poisson variable from a uniform number, increasing in the mean."""
    # The variable is the quantile of the distribution at ``draw``.
    number = 0
    chance = math.exp(-mean)
    cumulative = chance
    while draw >= cumulative and chance > 0:
        number += 1
        chance *= mean / number
        cumulative += chance
    return number


def is_fixed(providers: Provider) -> bool:
    """True if no provider ever leaves or comes."""
    return bool(getattr(providers, "fixed", False))


def make_providers(scenario: ScenarioConfig) -> Provider:
    """Providers of a scenario.

    Raises:
        ConfigError: If ``providers.kind`` or an option is unknown, or if the class is not a provider.
    """
    config = scenario.providers
    methods = ("opening", "end_of_round")
    plug = make_plug(config.kind, "providers.kind", BUILT_IN, methods, dict(config.options), scenario)
    return cast("Provider", plug)
