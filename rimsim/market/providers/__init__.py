"""Who offers the items: providers by name, and of a user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rimsim.market.providers.contract import Changes, Offer, Provider, Roster, RoundOutcome
from rimsim.market.providers.fixed import Fixed
from rimsim.market.providers.viability import Viability, ViabilityOptions
from rimsim.plugs import make_plug

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig

__all__ = [
    "BUILT_IN",
    "Changes",
    "Fixed",
    "Offer",
    "Provider",
    "Roster",
    "RoundOutcome",
    "Viability",
    "ViabilityOptions",
    "is_fixed",
    "make_providers",
]

BUILT_IN = {"none": Fixed, "viability": Viability}
"""Name to class."""


def is_fixed(providers: Provider) -> bool:
    """Whether nobody ever leaves or comes, whatever is shown."""
    return bool(getattr(providers, "fixed", False))


def make_providers(scenario: ScenarioConfig) -> Provider:
    """The providers that a scenario names.

    Raises:
        ConfigError: If ``providers.kind`` or one of ``providers.options`` is unknown, or is no provider.
    """
    config, methods = scenario.providers, ("opening", "end_of_round")
    plug = make_plug(config.kind, "providers.kind", BUILT_IN, methods, dict(config.options), scenario)
    return cast("Provider", plug)
