"""Upper bound of the measure ``objective`` in a scenario."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents import play_round
from rimsim.arrays import Bools, Floats, Ints
from rimsim.config import ProvidersConfig, ScenarioConfig, Seeds
from rimsim.errors import AgentError, ConfigError
from rimsim.evaluation.provider_bound import ProviderBound, ProviderTask, provider_bound
from rimsim.market import Market, Needs, build_world
from rimsim.market.consumers.contract import examination
from rimsim.market.providers import Viability, make_providers

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


class TruthRecorder:
    """Agent that shows nothing and records the truth."""

    name = "truth-recorder"
    order_free = True
    barrier_every: int | None = None
    needs_truth = True

    def __init__(self) -> None:
        self.intensity: list[Floats] = []
        self.admissible: list[Bools] = []

    def begin_round(self, view: RoundView) -> None:
        """Read the length of slates."""
        self._slate = view.k

    def act(self, arrivals: Arrivals) -> Ints:
        """Empty slates.

        Raises:
            AgentError: If the market does not reveal its truth.
        """
        if arrivals.true_intensity is None:
            raise AgentError(f"{self.name}: the market does not reveal its truth")
        self.intensity.append(arrivals.true_intensity.cpu().numpy().astype(np.float64))
        self.admissible.append(arrivals.admissible.cpu().numpy())
        return np.full((len(arrivals), self._slate), -1)


def provider_task(config: ScenarioConfig, seed: int) -> ProviderTask:
    """Arrivals, truth and needs of a market at a seed.

    Raises:
        ConfigError: If visits depend on slates, or providers do not stay by exposure alone.
    """
    if config.arrivals.kind != "clones" or config.arrivals.max_visits != 1 or config.platform.retrain:
        raise ConfigError(
            "the bound needs visits that do not depend on slates. Give arrivals.kind clones, arrivals.max_visits 1 and "
            "platform.retrain false"
        )
    providers = make_providers(config)
    roster = build_world(config).roster
    if not isinstance(providers, Viability) or len(roster.names) != len(roster.of_item):
        raise ConfigError("the bound needs providers.kind viability with one item per provider")
    recorder = TruthRecorder()
    everyone_stays = dataclasses.replace(config, providers=ProvidersConfig())
    market = Market(everyone_stays, seeds=Seeds(arrivals=seed, choice=seed), needs=Needs(truth=True))
    while not market.done:
        play_round(market, recorder)
        market.closed.pop()
    consumer = config.consumer
    return ProviderTask(
        intensity=np.concatenate(recorder.intensity),
        admissible=np.concatenate(recorder.admissible),
        examination=consumer.slate_attraction * examination(consumer.position_decay, config.slate),
        fee=config.providers.fee,
        keeping=providers.keeping_exposure(roster, seed, config.rounds),
    )


def objective_bound(config: ScenarioConfig, seed: int, price: Floats | None = None) -> ProviderBound:
    """Upper bound of the expected objective of a seed.

    ``price`` has the prices of another seed, from which fewer steps are enough.
    """
    task = provider_task(config, seed)
    if price is None:
        return provider_bound(task, steps=250, step=0.02)
    return provider_bound(task, steps=90, step=0.0015, price=price)
