"""``floors`` and ``triage``: floors of your own choice for providers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.contract import OPTIONS
from rimsim.agents.delivery import Delivery, PacedAgent
from rimsim.arrays import Bools, Floats
from rimsim.errors import AgentError
from rimsim.market import ProviderView, Slates
from rimsim.matching import top_k

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

_GAIN = 0.1
_CLOSING = 0.02
_TOL = 0.03
"""Relative gap of the price solver. A tighter gap adds less than 1% to the objective, at twice the time."""
_ROUNDING = 1e-9
"""Largest rounding error of a floor, which must not become a further exposure."""


class FloorsAgent(PacedAgent):
    """Base of agents that choose floors of items.

    A class of yours defines ``floors(view)``. Its floors replace the guarantees of the scenario, and are delivered as
    ``rim-feedback`` delivers guarantees.
    """

    name = "floors"
    order_free = False
    barrier_every: int | None = None

    def floors(self, view: RoundView) -> Floats:
        """(M,) floor of each item in the coming round, in exposures."""
        raise NotImplementedError

    def begin_round(self, view: RoundView) -> None:
        """Solve prices for the floors on the last round's states."""
        # The floors and the prices need the same states, which are scored once.
        view = dataclasses.replace(view, calibration=ScoredOnce(tuple(view.past)))
        self._floors = np.asarray(self.floors(view), np.float64)
        self._delivery = Delivery.solved(self._with_floors(view), _TOL, _GAIN, _CLOSING)

    def reprice(self, view: RoundView) -> None:
        """Solve prices again for a model that went live."""
        self._delivery.reprice(self._with_floors(view), _TOL)

    def note_delivery(self, exposure: Floats, arrivals: Arrivals | None) -> None:
        """Count exposures that another agent delivered to arrivals."""
        self._delivery.note(exposure, arrivals)

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve arrivals in order, and update prices after every slate."""
        return self._delivery.serve(arrivals)

    def _with_floors(self, view: RoundView) -> RoundView:
        """View whose requirements are the floors of the agent."""
        return dataclasses.replace(view, required=self._floors)


class ScoredOnce:
    """Scored states in memory."""

    def __init__(self, chunks: tuple[Arrivals, ...]) -> None:
        self._chunks = chunks

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def __iter__(self) -> Iterator[Arrivals]:
        return iter(self._chunks)


@dataclass(config=OPTIONS, eq=False)
class ClassFloors(FloorsAgent):
    """Constant floors for classes of providers.

    Providers get their floors in the order of the extra exposures that these cost, cheapest first, as long as all extra
    exposures fit into a share of the round's positions. The others get none.

    Args:
        levels: Floor of each class, as a multiple of the uniform exposure; a single number counts for all classes.
        share: Largest share of the round's positions that floors may add to the exposures under ``relevance``.
    """

    levels: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(strict=False)] = (0.8,)
    share: float = Field(default=0.6, ge=0, le=1)

    def floors(self, view: RoundView) -> Floats:
        """(M,) floor of each item."""
        return class_floors(view, np.array(self.levels), self.share)


@dataclass(config=OPTIONS, eq=False)
class Triage(FloorsAgent):
    """Planner that knows which exposures providers need to stay.

    It keeps the providers whose needs cost the fewest extra exposures, and gives each only what keeps it in the market.

    Args:
        share: Largest share of the round's positions that floors may add to the exposures under ``relevance``.
    """

    name = "triage"
    needs_providers = True

    share: float = Field(default=0.45, ge=0, le=1)

    def floors(self, view: RoundView) -> Floats:
        """(M,) floor of each item.

        Raises:
            AgentError: If the market does not reveal the needs.
        """
        needs = view.provider_needs
        if needs is None:
            raise AgentError(
                f"{self.name}: this agent uses the needs of providers, which the market does not reveal. Make the "
                "market with Market(needs=Needs(providers=True))"
            )
        is_kept = affordable(view, needs.lasting, self.share)
        return item_floors(view, np.where(is_kept, needs.now, 0.0))


def providers_of(view: RoundView) -> ProviderView:
    """Providers of a view; by default, one provider per item."""
    if view.providers is not None:
        return view.providers
    n_items = len(view.required)
    nothing = np.zeros(n_items)
    first_round = np.zeros(n_items, np.int64)
    return ProviderView(
        of_item=np.arange(n_items),
        classes=first_round,
        came=first_round,
        left=np.full(n_items, -1),
        exposure=nothing,
        consumption=nothing,
    )


def uniform_exposure(view: RoundView) -> Floats:
    """(G,) exposures per round if all items were shown equally often."""
    providers = providers_of(view)
    n_items = np.bincount(providers.of_item, minlength=len(providers.came))
    return np.asarray(n_items * (view.arrivals * view.k / len(providers.of_item)), np.float64)


def class_floors(view: RoundView, levels: Floats, share: float) -> Floats:
    """(M,) floors of items, from levels of their providers' classes.

    Raises:
        AgentError: If there is neither one level nor one per class.
    """
    providers = providers_of(view)
    if len(levels) not in {1, providers.n_classes}:
        raise AgentError(
            f"levels has {len(levels)} numbers. Expected 1, or one per class, {providers.n_classes}"
        )
    level = np.broadcast_to(levels, (providers.n_classes,))[providers.classes]
    target = level * uniform_exposure(view)
    return item_floors(view, np.where(affordable(view, target, share), target, 0.0))


def item_floors(view: RoundView, target: Floats) -> Floats:
    """(M,) whole floors of items, from the exposures (G,) of their providers.

    A provider's exposures are divided equally among its items.
    """
    providers = providers_of(view)
    n_items = np.bincount(providers.of_item, minlength=len(target))
    floor = np.ceil((target / np.maximum(n_items, 1))[providers.of_item] - _ROUNDING)
    return np.where(providers.on_offer, np.clip(floor, 0.0, view.arrivals), 0.0)


def affordable(view: RoundView, target: Floats, share: float) -> Bools:
    """(G,) mask of providers whose targets are affordable.

    The extra exposures of all targets fit into a share of the positions. The extra exposures of a provider are its
    target less its exposures under ``relevance``. Providers are taken in the order of their extra exposures.
    """
    providers = providers_of(view)
    natural = np.bincount(providers.of_item, natural_exposure(view), len(target))
    is_wanted = providers.there & (target > 0)
    extra = np.where(is_wanted, np.maximum(target - natural, 0.0), np.inf)
    order = np.argsort(extra, kind="stable")
    fits = np.zeros(len(target), bool)
    fits[order] = np.cumsum(extra[order]) <= share * view.arrivals * view.k
    return fits


def natural_exposure(view: RoundView) -> Floats:
    """(M,) exposures that ``relevance`` would give, from past states."""
    exposure = np.zeros(len(view.required))
    n_states = 0
    for chunk in view.past:
        items = top_k(chunk.relevance, chunk.admissible, view.k)
        exposure += np.bincount(items[items >= 0], minlength=len(exposure))
        n_states += len(chunk)
    return exposure * (view.arrivals / max(n_states, 1))
