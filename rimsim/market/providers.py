"""Providers of items, who may leave and enter the market."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol, Self, cast, runtime_checkable

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
"""Seed of the providers in the reserve and of their classes, the same for all seeds of a run."""
_ROUNDING = 1e-9
"""Largest rounding error of a satisfaction."""


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
    classes: Ints | None = None
    """(G,) class of each provider, from 0; None: all are of class 0. Agents see the classes."""

    @property
    def of_class(self) -> Ints:
        """(G,) class of each provider."""
        return np.zeros(len(self.names), np.int64) if self.classes is None else self.classes

    @property
    def n_items(self) -> Ints:
        """(G,) number of items of each provider."""
        return np.bincount(self.of_item, minlength=len(self.names))

    def checked(self, n_items: int) -> Self:
        """Roster, checked against a catalogue of M items.

        Raises:
            MarketError: If an item has no provider, or the lengths of arrays differ.
        """
        lengths = {len(self.names), len(self.there), len(self.satisfaction), len(self.of_class)}
        if len(lengths) > 1 or self.of_item.shape != (n_items,):
            raise MarketError(
                f"providers: of_item has shape {self.of_item.shape}, and names, there, satisfaction and classes have "
                f"the lengths {sorted(lengths)}. Expected shape ({n_items},), and equal lengths: one entry per provider"
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
    exposure: Floats
    """(G,) exposures of each provider's items in the last round; zeros before round 1."""
    consumption: Floats
    """(G,) consumptions of each provider's items in the last round; zeros before round 1."""

    @classmethod
    def opening(cls, roster: Roster) -> Self:
        """Offer at the opening of the market."""
        nothing = np.zeros(len(roster.names))
        return cls(
            satisfaction=roster.satisfaction,
            came=np.where(roster.there, 0, -1),
            left=np.full(len(roster.names), -1, np.int64),
            exposure=nothing,
            consumption=nothing,
        )

    @property
    def there(self) -> Bools:
        """Mask of providers who are in the market."""
        return (self.came >= 0) & (self.left < 0)

    def after(self, changes: Changes, outcome: RoundOutcome) -> Offer:
        """Offer after the changes at the end of a round.

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
            came=np.where(changes.comes, outcome.number + 1, self.came),
            left=np.where(changes.leaves, outcome.number, self.left),
            exposure=outcome.by_provider(outcome.exposure),
            consumption=outcome.by_provider(outcome.consumption),
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
class ProviderView:
    """Facts about G providers that agents know between two rounds.

    Their satisfaction and their needs are hidden.
    """

    of_item: Ints
    """(M,) number of each item's provider, from 0 to G − 1."""
    classes: Ints
    """(G,) class of each provider, from 0."""
    came: Ints
    """(G,) round in which each provider came; 0: at the opening, −1: not yet."""
    left: Ints
    """(G,) last round of each provider; −1: the provider has not left."""
    exposure: Floats
    """(G,) exposures of each provider's items in the last round; zeros before round 1."""
    consumption: Floats
    """(G,) consumptions of each provider's items in the last round; zeros before round 1."""

    @classmethod
    def of(cls, roster: Roster, offer: Offer) -> Self:
        """View of the providers of an offer."""
        return cls(
            of_item=roster.of_item,
            classes=roster.of_class,
            came=offer.came.copy(),
            left=offer.left.copy(),
            exposure=offer.exposure.copy(),
            consumption=offer.consumption.copy(),
        )

    @property
    def there(self) -> Bools:
        """(G,) mask of providers who are in the market."""
        return (self.came >= 0) & (self.left < 0)

    @property
    def on_offer(self) -> Bools:
        """(M,) mask of items whose providers are in the market."""
        return self.there[self.of_item]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.classes.max(initial=0)) + 1


@dataclass(frozen=True, eq=False)
class ProviderNeeds:
    """Exposures that G providers need to stay.

    Only bounds know them.
    """

    now: Floats
    """(G,) exposures in the coming round without which each provider leaves at its end; ∞: the provider leaves
    anyway."""
    lasting: Floats
    """(G,) exposures per round that each provider needs in the long run."""


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
    True`` declares that no provider ever leaves or comes, so that all arms have the same requirements. A method
    ``needs(roster, offer, seed)`` returns :class:`ProviderNeeds` for bounds such as ``triage``.
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
    needs: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    """Need of each class of providers: the exposure per round at which its satisfaction stays at the threshold, as a
    multiple of the provider's uniform exposure. It replaces `per_exposure`. Empty: one class, no needs."""
    class_column: str | None = None
    """Column of the item table with a provider's class; needs belong to its sorted values. null: providers are dealt to
    classes of equal size at random, once for all seeds."""
    permuted: bool = False
    """If true, the seed of a market decides which class has which need."""

    def __post_init__(self) -> None:
        if self.needs and not (0 < self.threshold < math.inf and self.decay < 1):
            raise ConfigError(
                f"providers.options: needs are given, but threshold is {self.threshold:g} and decay is {self.decay:g}. "
                "Give a finite threshold above 0 and a decay below 1"
            )


class Viability:
    """Providers who leave when their satisfaction falls below a threshold.

    After a round with E exposures and C consumptions of its items, the satisfaction X of a provider becomes
    δX + r_e·E + r_c·C, less a penalty if E = 0 (Zhan et al., WWW 2021). In the model of Mladenov et al. (ICML
    2020), too, a provider stays while its engagement is above a threshold. Providers leave at the end of a
    round, and never return. At each barrier a Poisson number of providers comes from a reserve; its mean is
    proportional to the share of providers in the market.

    With ``needs``, r_e = (1 − δ)·threshold / (need·u) for a provider of uniform exposure u = N·k/M per item. At r_c = 0
    and without penalty, its satisfaction then stays at the threshold if its items get need·u exposures per round.
    """

    def __init__(self, options: ViabilityOptions, scenario: ScenarioConfig | None = None) -> None:
        self._options = options
        self._scenario = ScenarioConfig() if scenario is None else scenario
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
        classes = self._classes(log, of_item, len(names))
        return Roster(of_item=of_item, names=names, there=there, satisfaction=satisfaction, classes=classes)

    def _providers(self, log: EventLog) -> tuple[Ints, tuple[str, ...]]:
        """Provider of each item, and providers' names."""
        column = self._options.column
        if column is None:
            return np.arange(log.n_items), tuple(log.items["id"].astype(str).tolist())
        return providers_of_items(log.items, column, "providers.options.column")

    def _classes(self, log: EventLog, of_item: Ints, n_providers: int) -> Ints | None:
        """Class of each provider; None without needs."""
        options = self._options
        if not options.needs:
            return None
        if options.class_column is None:
            ranks = np.argsort(_order(n_providers, _RESERVE_SEED, 3))
            return ranks % len(options.needs)
        of_class, names = providers_of_items(
            log.items, options.class_column, "providers.options.class_column"
        )
        if len(names) != len(options.needs):
            raise ConfigError(
                f"providers.options: needs has {len(options.needs)} numbers, but the column {options.class_column!r} "
                f"has {len(names)} classes: {', '.join(names[:8])}. Give one need per class, in this order"
            )
        _, first_item = np.unique(of_item, return_index=True)
        return of_class[first_item]

    def needs(self, roster: Roster, offer: Offer, seed: int) -> ProviderNeeds:
        """Exposures that providers need, whatever visitors consume.

        Raises:
            ConfigError: If providers do not stay by exposure alone.
        """
        options = self._options
        per_exposure = self.per_exposure(roster, seed)
        if per_exposure is None or options.per_consumption or options.penalty:
            raise ConfigError(
                "providers.options: exposure alone does not decide who stays. Give needs, per_consumption 0 and "
                "penalty 0"
            )
        now = (options.threshold - options.decay * offer.satisfaction) / per_exposure
        return ProviderNeeds(
            now=np.maximum(now - _ROUNDING, 0.0),
            lasting=(1.0 - options.decay) * options.threshold / per_exposure,
        )

    def keeping_exposure(self, roster: Roster, seed: int, rounds: int) -> Floats:
        """Fewest exposures (T + 1, G) that keep providers.

        Row t has the exposures that keep each provider for t rounds. An exposure loses worth with each round, so none
        comes before the round that needs it.
        """
        per_exposure = self.per_exposure(roster, seed)
        offer = Offer.opening(roster)
        total = np.zeros((rounds + 1, len(roster.names)))
        for number in range(rounds):
            now = self.needs(roster, offer, seed).now
            assert per_exposure is not None  # noqa: S101  # without needs, the line above raises an error
            satisfaction = self._options.decay * offer.satisfaction + per_exposure * now
            offer = dataclasses.replace(offer, satisfaction=satisfaction)
            total[number + 1] = total[number] + now
        return total

    def _lasting_needs(self, roster: Roster, seed: int) -> Floats:
        """(G,) exposures per round needed in the long run."""
        options = self._options
        per_round = self._scenario.arrivals.per_round
        if per_round is None:
            raise ConfigError(
                "providers.options.needs: arrivals.per_round is null. Give a number of arrivals"
            )
        by_class = np.array(options.needs)
        if options.permuted:
            by_class = by_class[_order(len(by_class), seed, 4)]
        uniform = per_round * self._scenario.slate / len(roster.of_item) * roster.n_items
        return np.asarray(by_class[roster.of_class] * uniform, np.float64)

    def per_exposure(self, roster: Roster, seed: int) -> Floats | None:
        """(G,) satisfaction that one exposure adds; None without needs."""
        options = self._options
        if not options.needs:
            return None
        return (1.0 - options.decay) * options.threshold / self._lasting_needs(roster, seed)

    def end_of_round(self, outcome: RoundOutcome) -> Changes:
        """Exits, entries and satisfaction of providers after a round."""
        options = self._options
        offer = outcome.offer
        shown = outcome.by_provider(outcome.exposure)
        consumed = outcome.by_provider(outcome.consumption)
        per_exposure = self.per_exposure(outcome.roster, outcome.seed)
        present_satisfaction = options.after(offer.satisfaction, shown, consumed, per_exposure)
        there = offer.there
        satisfaction = np.where(there, present_satisfaction, offer.satisfaction)
        # Whole exposures can meet a need exactly, so a rounding error must not make a provider leave.
        leaves = there & (satisfaction < options.threshold - (_ROUNDING if options.needs else 0.0))
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
