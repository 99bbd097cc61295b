"""What the providers of items are to the market: who offers what, and who leaves or comes at a barrier."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np

from rimsim.arrays import Array, Bools, Floats, Ints
from rimsim.errors import MarketError

if TYPE_CHECKING:
    from rimsim.data.log import EventLog


@dataclass(frozen=True, eq=False)
class Roster:
    """The G providers of a catalogue of M items, as they stand when the market opens."""

    of_item: Ints
    """(M,) the provider of each item, from 0 to G − 1."""
    names: tuple[str, ...]
    """(G,) what each is called in tables."""
    there: Bools
    """(G,) whether each is there at the opening; the warm-up log knows nothing of what the others will offer."""
    satisfaction: Floats
    """(G,) how satisfied each is at first."""

    def checked(self, n_items: int) -> Self:
        """The roster, if it is one of a catalogue of M items.

        Raises:
            MarketError: If an item has no provider, or lengths differ.
        """
        lengths = {len(self.names), len(self.there), len(self.satisfaction)}
        if len(lengths) > 1 or self.of_item.shape != (n_items,):
            raise MarketError(
                f"providers: {self.of_item.shape} items of {sorted(lengths)} providers; allowed: ({n_items},) items, "
                "and a name, a place and a satisfaction for each provider"
            )
        if n_items and not 0 <= int(self.of_item.min()) <= int(self.of_item.max()) < len(self.names):
            raise MarketError(
                f"providers: items of providers {int(self.of_item.min())} to {int(self.of_item.max())}; allowed: 0 to "
                f"{len(self.names) - 1}"
            )
        return self


@dataclass(frozen=True, eq=False)
class Offer:
    """Which of G providers are in the market, between two barriers."""

    satisfaction: Floats
    """(G,) how satisfied each is."""
    came: Ints
    """(G,) the round with which each came, 0 for those of the opening; −1: not yet."""
    left: Ints
    """(G,) the last round of each; −1: it has not left."""

    @classmethod
    def opening(cls, roster: Roster) -> Self:
        """As the market opens."""
        return cls(
            roster.satisfaction, np.where(roster.there, 0, -1), np.full(len(roster.names), -1, np.int64)
        )

    @property
    def there(self) -> Bools:
        """(G,) who is in the market."""
        return (self.came >= 0) & (self.left < 0)

    def after(self, changes: Changes, number: int) -> Offer:
        """The offer after the barrier at a round's end.

        Args:
            changes: Who leaves and who comes.
            number: The round that is over.

        Raises:
            MarketError: If somebody leaves who is not there, or comes who has been.
        """
        there = self.there
        shapes = {part.shape for part in (changes.satisfaction, changes.leaves, changes.comes)}
        if shapes != {there.shape}:
            raise MarketError(
                f"providers.end_of_round: shapes {sorted(shapes)}; allowed: {there.shape} for each part"
            )
        if (changes.leaves & ~there).any() or (changes.comes & (self.came >= 0)).any():
            raise MarketError(
                "providers.end_of_round: somebody leaves who is not there, or comes who has been; allowed: providers "
                "leave once, after they came"
            )
        return Offer(
            np.asarray(changes.satisfaction, np.float64),
            np.where(changes.comes, number + 1, self.came),
            np.where(changes.leaves, number, self.left),
        )

    def arrays(self) -> dict[str, Array]:
        """Named arrays for :func:`numpy.savez`."""
        return {f"offer-{field.name}": getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """The offer that :meth:`arrays` named.

        Raises:
            KeyError: If an array is missing.
        """
        return cls(*(arrays[f"offer-{field.name}"] for field in dataclasses.fields(cls)))


@dataclass(frozen=True, eq=False)
class RoundOutcome:
    """What providers learn of a round when it is over."""

    number: int
    """The round, from 0."""
    seed: int
    """Seed of arrivals; the only source of chance (:mod:`rimsim.rng`)."""
    roster: Roster
    """Who offers what."""
    offer: Offer
    """Who was there in the round."""
    exposure: Ints
    """(M,) positions that each item had."""
    consumption: Ints
    """(M,) how often each was consumed."""

    def by_provider(self, counts: Ints) -> Floats:
        """(G,) counts of items (M,), added up."""
        return np.bincount(self.roster.of_item, counts, len(self.roster.names)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Changes:
    """What changes among G providers at a barrier."""

    satisfaction: Floats
    """(G,) how satisfied each is from now on."""
    leaves: Bools
    """(G,) who leaves for good, with all items."""
    comes: Bools
    """(G,) who comes, with all items."""


@runtime_checkable
class Provider(Protocol):
    """Decides who offers the items. It keeps no state of its own: satisfaction and places stand in the offer.

    It may also have ``fixed = True``: nobody ever leaves or comes, whatever happens, so that all arms are asked for the
    same.
    """

    def opening(self, log: EventLog) -> Roster:
        """Who offers the items of a log, the same at every seed."""
        ...

    def end_of_round(self, outcome: RoundOutcome) -> Changes:
        """Who leaves and who comes at the barrier after a round."""
        ...
