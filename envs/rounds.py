"""Environment in which a step is a round."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle

from rimsim.arrays import Array, Float32s
from rimsim.config import ScenarioConfig, Seeds, find_scenario
from rimsim.errors import ConfigError, MarketError
from rimsim.market import ClosedRound, Market, Needs, RoundView, build_world
from rimsim.market.providers import ProviderView, Roster

TRAINING_SEEDS = 1000
"""First seed that a reset may draw. Smaller seeds are for tests, so that no policy trains on them."""


class RoundAction(Protocol):
    """Part that turns an action into a round's slates."""

    needs: Needs
    """Optional fields of views and arrivals that the market must fill in."""

    def space(self, roster: Roster) -> spaces.Space[Array]:
        """Space of actions in a market with given providers."""

    def play(self, market: Market, action: Array) -> None:
        """Serve the open round of a market to its end."""


class RoundObservation(Protocol):
    """Part that observes a market between two rounds."""

    def space(self, roster: Roster) -> spaces.Space[Array]:
        """Space of observations in a market with given providers."""

    def observe(self, view: RoundView) -> Array:
        """Observation before a round, from the view of agents."""


class RoundReward(Protocol):
    """Part that rewards a round."""

    def reward(self, closed: ClosedRound, config: ScenarioConfig) -> float:
        """Reward of a round that is over."""


@dataclass(frozen=True)
class ClassFigures:
    """Observation of classes of providers.

    It has 3 + 3·G numbers from 0 to 5. The first three are the elapsed share of the run, consumptions per arrival of
    the last round, and the share of providers who are in the market. Then come three blocks of G numbers, one per
    class: the share of its providers who are in the market, the share who left at the end of the last round, and the
    mean exposure of present providers in the last round, as a multiple of the uniform exposure.
    """

    def space(self, roster: Roster) -> spaces.Space[Array]:
        """Box of 3 + 3·G numbers."""
        size = 3 + 3 * (int(roster.of_class.max(initial=0)) + 1)
        return spaces.Box(0.0, 5.0, (size,), np.float32)

    def observe(self, view: RoundView) -> Float32s:
        """Figures of the classes before a round."""
        providers = view.providers
        assert providers is not None  # noqa: S101  # the market has made the view
        there = providers.there
        n_classes = providers.n_classes
        sizes = np.maximum(np.bincount(providers.classes, minlength=n_classes), 1)
        n_present = np.bincount(providers.classes, there, n_classes)
        has_just_left = (providers.left == view.round - 1) & (view.round > 0)
        n_left = np.bincount(providers.classes, has_just_left, n_classes)
        n_items = np.bincount(providers.of_item, minlength=len(there))
        uniform = n_items * (view.arrivals * view.k / len(providers.of_item))
        relative = np.where(there, providers.exposure / np.maximum(uniform, 1e-9), 0.0)
        exposure = np.bincount(providers.classes, relative, n_classes) / np.maximum(n_present, 1)
        whole_run = [
            view.round / view.rounds,
            providers.consumption.sum() / view.arrivals,
            there.mean(),
        ]
        figures = np.concatenate([whole_run, n_present / sizes, n_left / sizes, exposure])
        return np.asarray(np.clip(figures, 0.0, 5.0), np.float32)


@dataclass(frozen=True)
class ConsumptionsAndFees:
    """Reward of consumptions and of providers' fees.

    It is the measure ``objective`` of the round, divided by ``scale``.
    """

    scale: float = 100.0
    """Divisor, which keeps rewards near 1 for learners."""

    def reward(self, closed: ClosedRound, config: ScenarioConfig) -> float:
        """Scaled objective of a round."""
        return objective(closed, config) / self.scale


def objective(closed: ClosedRound, config: ScenarioConfig) -> float:
    """Consumptions of a round, plus fees of staying providers."""
    return float(closed.ledger.consumed.sum() + config.providers.fee * closed.stays.sum())


def market_seeds(seed: int) -> Seeds:
    """Seeds of a market.

    A seed for tests gives the market of ``rimsim compare`` at this seed. All markets for training open with the model
    of seed 0, because a model per episode would have to be fitted first.
    """
    if seed < TRAINING_SEEDS:
        return Seeds.all(seed)
    return Seeds(arrivals=seed, choice=seed, model=0, agent=seed)


class RoundEnv(gymnasium.Env[Array, Array], EzPickle):
    """Market where a step is a round.

    The parts ``action``, ``observation`` and ``reward`` define the task. For example, an action may set the guarantee
    of each class of providers, the share of the uniform exposure β, or a rate of exploration.

    Starting state:
        The market before round 0, with a seed of at least 1,000. ``reset(seed=…)`` seeds the sequence of markets, and
        ``reset(options={"market_seed": 3})`` chooses a market. Seeds below 1,000 are for tests.

    Episode end:
        ``terminated`` is true after the last round. ``truncated`` is never true.

    Information:
        ``info["round"]`` has ``objective``, ``consumptions`` and ``providers`` (who stay) of the round.

    Args:
        scenario: Name of a built-in scenario, path of a YAML file, or config.
        action: Part that turns an action into slates, such as :class:`rimsim.agents.LevelsAction`.
        observation: Part that observes the market between rounds.
        reward: Part that rewards a round.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # Gymnasium declares an instance attribute

    def __init__(
        self,
        scenario: str | ScenarioConfig,
        *,
        action: RoundAction,
        observation: RoundObservation | None = None,
        reward: RoundReward | None = None,
    ) -> None:
        EzPickle.__init__(self, scenario, action=action, observation=observation, reward=reward)
        self.config = scenario if isinstance(scenario, ScenarioConfig) else find_scenario(scenario)
        self.action = action
        self.observation = ClassFigures() if observation is None else observation
        self.reward = ConsumptionsAndFees() if reward is None else reward
        self.roster = build_world(self.config).roster
        """Providers of the catalogue's items."""
        self.action_space = action.space(self.roster)
        self.observation_space = self.observation.space(self.roster)
        self._market: Market | None = None
        self._view: RoundView

    @property
    def market(self) -> Market:
        """The running market.

        Raises:
            MarketError: If the environment was never reset.
        """
        if self._market is None:
            raise MarketError("the environment has not been reset. Call reset() first")
        return self._market

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Open a new market.

        Args:
            seed: Seed of the sequence of markets; None: the sequence goes on.
            options: ``{"market_seed": 3}`` chooses the market of this episode.

        Raises:
            ConfigError: If an option is unknown.
        """
        super().reset(seed=seed)
        market_seed = int(self.np_random.integers(TRAINING_SEEDS, 2**31))
        for name, value in (options or {}).items():
            if name != "market_seed" or not isinstance(value, int | np.integer) or value < 0:
                raise ConfigError(
                    f"reset: the option {name!r} is {value!r}. Expected only the option 'market_seed', a whole number "
                    "from 0 up"
                )
            market_seed = int(value)
        self._market = Market(self.config, seeds=market_seeds(market_seed), needs=self.action.needs)
        self._view = self._market.round_view()
        return self.observation.observe(self._view), {"market_seed": market_seed}

    def step(self, action: Array) -> tuple[Array, SupportsFloat, bool, bool, dict[str, Any]]:
        """Play a round; observe the market before the next one."""
        market = self.market
        if market.done:
            raise MarketError("the episode is over. Call reset() first")
        self.action.play(market, action)
        closed = market.closed.pop()
        is_over = market.round == self.config.rounds
        self._view = last_view(self._view, market, closed) if is_over else market.round_view()
        info = {
            "objective": objective(closed, self.config),
            "consumptions": int(closed.ledger.consumed.sum()),
            "providers": int(closed.stays.sum()),
        }
        reward = self.reward.reward(closed, self.config)
        return self.observation.observe(self._view), reward, is_over, False, {"round": info}


def last_view(view: RoundView, market: Market, closed: ClosedRound) -> RoundView:
    """View after the last round, for the last observation."""
    providers = ProviderView.of(market.world.roster, closed.next_offer)
    return dataclasses.replace(view, round=closed.number + 1, providers=providers)
