"""``RIMMarket-v0``: the market as a Gymnasium environment, one arrival a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsFloat, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle

from rimsim.config import Seeds, find_scenario, override
from rimsim.envs.picture import exposure_picture
from rimsim.errors import AgentError, ConfigError, MarketError
from rimsim.market import Feedback, Market, Slates, build_world
from rimsim.market.clock import TICKS
from rimsim.market.lockstep import (
    NextArrival,
    Outcome,
    can_lock_step,
    count_shown,
    feedback_of,
    next_arrival,
    serve_one,
)
from rimsim.market.records import as_slates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import Arrivals, RoundView
    from rimsim.market.ledger import Ledger

__all__ = ["GROUND_BOUND", "MarketEnv"]

GROUND_BOUND = 10_000.0
"""Upper end of the observed λ(x): interactions a session; a larger value is clipped in the observation alone."""

_BOUND = np.float32(GROUND_BOUND)

Observation: TypeAlias = "dict[str, NDArray[Any]]"
Action: TypeAlias = "NDArray[np.int64]"


class MarketEnv(gymnasium.Env[Observation, Action], EzPickle):
    """One user arrives a step and is answered with a slate of k items; an episode is all rounds of a scenario.

    The observation is a dictionary: ``relevance`` (M,) p(y|x) over admissible items, ``ground_intensity`` (1,) λ(x)
    in interactions a session, at most :data:`GROUND_BOUND`, ``exposure`` (M,) and ``shortfall`` (M,) of the open
    round in exposures, ``admissible`` (M,) 0 or 1, ``clock`` (2,) share of the round and of the run that is gone.
    After the last arrival, nothing is relevant and nothing admissible.

    The action is k items in order. A repeated or inadmissible item leaves its position empty and is counted in
    ``info["market"]["emptied"]``.

    The reward is consumptions + c × exposures that reduced the shortfall: an exposure counts while its item has had
    fewer than it requires. Its sum over a round is the realised return plus a constant.

    The platform retrains inside the step that ends a round.

    Args:
        scenario: Name of a built-in scenario or path of a YAML file.
        data: Replaces ``data.source``.
        rounds: Replaces ``rounds``.
        settings: Other fields to replace, by dotted name: ``{"exposure.beta": 0.3}``.
        model_seed: Seed of the platform's model, which ``reset(seed=…)`` leaves alone so that a reset need not fit.
        render_mode: ``ansi`` (text) or ``rgb_array`` (exposure against requirement), or None.

    Example:
        >>> import gymnasium, rimsim
        >>> env = gymnasium.make("RIMMarket-v0", settings={"platform.model": "hp", "arrivals.per_round": 5})
        >>> observation, info = env.reset(seed=1)
        >>> best = (observation["relevance"]).argsort()[::-1][:10]
        >>> observation, reward, terminated, truncated, info = env.step(best)
        >>> info["market"]["emptied"]
        0
    """

    # Gymnasium declares it an instance attribute.
    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        scenario: str = "online-match",
        *,
        data: str | None = None,
        rounds: int | None = None,
        settings: dict[str, object] | None = None,
        model_seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        EzPickle.__init__(
            self,
            scenario,
            data=data,
            rounds=rounds,
            settings=settings,
            model_seed=model_seed,
            render_mode=render_mode,
        )
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ConfigError(f"render_mode is {render_mode!r}; allowed: 'ansi', 'rgb_array' or None")
        changes: dict[str, object] = dict(settings or {})
        if data is not None:
            changes["data.source"] = data
        if rounds is not None:
            changes["rounds"] = rounds
        self.config = override(find_scenario(scenario), changes, origin="settings")
        self.render_mode = render_mode
        self.model_seed = model_seed
        self.reveal_truth = False
        self.reveal_future = False
        self.barrier_every: int | None = None
        self._market: Market | None = None
        # The arrival that waits and what came of the last one; as the records that agents see when asked for.
        self._waiting: NextArrival | Arrivals | None = None
        self._served: tuple[NextArrival, Ledger] | Feedback | None = None
        self._note: Slates | None = None
        world = build_world(self.config)
        m = self.n_items = world.log.n_items
        arrivals = self.config.arrivals
        most = max(1, len(world.sessions))
        if arrivals.kind != "replay":
            most = arrivals.per_round or max(2000, world.log.n_users)
        one = np.ones(m, np.float32)
        self.observation_space: spaces.Space[Observation] = spaces.Dict(  # type: ignore[assignment]  # dict[str, Any]
            {
                "relevance": spaces.Box(0 * one, one),
                "ground_intensity": spaces.Box(0.0, GROUND_BOUND, (1,), np.float32),
                "exposure": spaces.Box(0 * one, most * one),
                "shortfall": spaces.Box(0 * one, most * one),
                "admissible": spaces.MultiBinary(m),
                "clock": spaces.Box(0.0, 1.0, (2,), np.float32),
            }
        )
        self.action_space = spaces.MultiDiscrete(np.full(self.config.slate, m))

    # -- what agents and wrappers look at ------------------------------------------------------------------------

    @property
    def market(self) -> Market:
        """The running market.

        Raises:
            MarketError: Before the first reset.
        """
        if self._market is None:
            raise MarketError("the environment has not been reset; allowed: call reset() first")
        return self._market

    @property
    def arrivals(self) -> Arrivals:
        """The arrival that waits for its slate, as a batch of one.

        Raises:
            MarketError: Before the first reset and after the last arrival.
        """
        if self._waiting is None:
            raise MarketError("no arrival waits; allowed: after reset() and before the episode ends")
        return self._waiting.arrivals() if isinstance(self._waiting, NextArrival) else self._waiting

    @property
    def feedback(self) -> Feedback:
        """What came of the last step.

        Raises:
            MarketError: Before the first step.
        """
        if self._served is None:
            raise MarketError("no slate has been served; allowed: after step()")
        if isinstance(self._served, Feedback):
            return self._served
        return feedback_of(*self._served)

    def round_view(self) -> RoundView:
        """What an agent may know of the open round: required exposures, last round's states and scores."""
        return self.market.round_view()

    def annotate(self, slates: Slates) -> None:
        """Prices and propensities to enter in the ledger beside the items of the next step."""
        self._note = slates

    def advance(self, slate: Action) -> tuple[float, dict[str, int | float]]:
        """Show a slate to the arrival that waits, and let the next one come.

        Args:
            slate: (k,) C-contiguous int64 items.

        Returns:
            The reward, and what goes into ``info["market"]``.
        """
        market, waiting = self.market, self._waiting
        number, cost = market.round, market.cost
        if self._note is None and isinstance(waiting, NextArrival):
            self._served = waiting, market.ledger
            outcome = serve_one(market, waiting, slate, self._exposure, self._shortfall)
        else:
            outcome = self._serve(market, slate)
        self._missing -= outcome.useful
        self._waiting = None if market.done else self._next()
        if market.round != number and not market.done:
            self._take_stock()
        told = summary(market, self._row(), outcome.consumed, outcome.emptied, self._missing)
        return outcome.consumed + cost * outcome.useful, told

    def seen(self) -> Observation:
        """The observation, where the market keeps it: it is not to be changed, and holds until the next arrival."""
        market, waiting = self.market, self._waiting
        m = market.n_items
        if waiting is None:
            relevance, ground = np.zeros(m, np.float32), np.zeros(1, np.float32)
            admissible = np.zeros(m, np.int8)
        elif isinstance(waiting, NextArrival):
            relevance = waiting.relevance
            ground = np.array((min(waiting.ground, _BOUND),), np.float32)
            admissible = waiting.admissible.view(np.int8)
        else:
            relevance = waiting.relevance.cpu().numpy()[0]
            ground = np.minimum(waiting.ground_intensity.cpu().numpy(), _BOUND)
            admissible = waiting.admissible.cpu().numpy()[0].view(np.int8)
        return {
            "relevance": relevance,
            "ground_intensity": ground,
            "exposure": self._exposure,
            "shortfall": self._shortfall,
            "admissible": admissible,
            "clock": np.array(clock(market), np.float32),
        }

    # -- Gymnasium -----------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Open the market anew.

        Args:
            seed: Seed of arrivals, choices and the agent's draws. None: a new one, drawn from the last seed's stream.
            options: ``{"seeds": {"arrivals": 1, "choice": 2, …}}`` sets seeds one by one.

        Raises:
            ConfigError: If an option is unknown.
        """
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31))
        both = drawn if seed is None else seed
        seeds = {"arrivals": both, "choice": both, "model": self.model_seed, "agent": both}
        for name, value in (options or {}).items():
            if name != "seeds" or not isinstance(value, dict) or set(value) - set(seeds):
                raise ConfigError(
                    f"reset: option {name!r} is {value!r}; allowed: 'seeds' with some of {', '.join(seeds)}"
                )
            seeds |= value
        market = self._market = Market(
            self.config,
            seeds=_seeds(seeds),
            barrier_every=self.barrier_every,
            reveal_truth=self.reveal_truth,
            reveal_future=self.reveal_future,
        )
        self._served = self._note = None
        self._alone = can_lock_step(self.config) and not self.reveal_truth
        self._waiting = self._next()
        self._take_stock()
        return self._observation(), {"market": summary(market, self._row(), 0, 0, self._missing)}

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Show a slate to the arrival that waits, and let the next one come."""
        reward, told = self.advance(one_slate(action, self.config.slate))
        return self._observation(), reward, self.market.done, False, {"market": told}

    def render(self) -> Any:
        """Text, or a picture of exposure against requirement (height, width, 3) uint8."""
        if self.render_mode is None:
            return None
        market = self.market
        short = np.maximum(market.required - market.exposure, 0).sum()
        total = max(1, int(market.required.sum()))
        text = (
            f"{self.config.name}: round {min(market.round + 1, self.config.rounds)} of {self.config.rounds}, "
            f"{market.served} of {market.n_arrivals} arrivals served, "
            f"{(market.exposure > 0).mean():.0%} of items shown, {short / total:.0%} of guarantees still to deliver"
        )
        if self.render_mode == "ansi":
            return text
        return exposure_picture(market.exposure, market.required, text)

    # -- inside --------------------------------------------------------------------------------------------------

    def _next(self) -> NextArrival | Arrivals:
        """The next arrival; as a batch of one where a market needs more than the shortest way."""
        return next_arrival(self.market) if self._alone else self.market.next_arrivals(1)

    def _serve(self, market: Market, slate: Action) -> Outcome:
        """Show a slate (k,) where a market needs more than the shortest way, or it came with prices."""
        exposure, required = market.exposure, market.required  # of this round, which may then be over
        note, self._note = self._note, None
        answer = Slates(slate[None]) if note is None else Slates(slate[None], note.price, note.propensity)
        self._served = market.serve(self.arrivals, answer, invalid="empty")
        shown = self._served.slates[0]
        return Outcome(
            consumed=int(np.count_nonzero(self._served.consumed)),
            useful=count_shown(shown, exposure, required, self._exposure, self._shortfall),
            emptied=int(np.count_nonzero(slate != shown)),
        )

    def _take_stock(self) -> None:
        """Exposure and shortfall of a round that begins; steps then change the items that they show alone."""
        market = self.market
        short = np.maximum(market.required - market.exposure, 0)
        self._exposure, self._shortfall = market.exposure.astype(np.float32), short.astype(np.float32)
        self._missing = int(short.sum())

    def _observation(self) -> Observation:
        return {name: value.copy() for name, value in self.seen().items()}

    def _row(self) -> int | None:
        if self._waiting is None:
            return None
        return self._waiting.row if isinstance(self._waiting, NextArrival) else int(self._waiting.index[0])


def one_slate(action: Action, k: int) -> Action:
    """(k,) C-contiguous int64 items of an action.

    Raises:
        AgentError: If it is nothing of the kind.
    """
    items = np.asarray(action)
    if items.dtype != np.int64 or items.shape != (k,) or not items.flags.c_contiguous:
        items = as_slates(items[None]).items[0]
        if items.shape != (k,):
            raise AgentError(f"a slate has shape {items.shape}; allowed: ({k},)")
    return items


def clock(market: Market) -> tuple[float, float]:
    """Share of the round and of the run that is gone."""
    if market.done:
        return 1.0, 1.0
    progress = market.served / market.n_arrivals
    return progress, min(1.0, (market.round + progress) / market.config.rounds)


def summary(
    market: Market, row: int | None, consumed: int, emptied: int, missing: int
) -> dict[str, int | float]:
    """``info["market"]``.

    Args:
        market: The market after a step.
        row: The arrival of the round that waits; None where the episode is over.
        consumed: Items consumed of the step's slate.
        emptied: Positions of it that were invalid.
        missing: Exposures that the round's guarantees still lack.
    """
    return {
        "round": market.round,
        "served": market.served,
        "arrival": -1 if row is None else int(market.schedule.id[row]),
        "time": 0.0 if row is None else float(market.schedule.tick[row] / TICKS),
        "consumed": consumed,
        "emptied": emptied,
        "shortfall": missing,
    }


def _seeds(values: dict[str, int]) -> Seeds:
    try:
        return Seeds(**values)
    except ValueError as error:
        raise ConfigError(f"reset: seeds are {values}; allowed: whole numbers from 0 up") from error


def market_env(env: gymnasium.Env[Any, Any]) -> MarketEnv:
    """The market under any number of wrappers.

    Raises:
        ConfigError: If the environment is another one.
    """
    inner = env.unwrapped
    if not isinstance(inner, MarketEnv):
        raise ConfigError(f"found a {type(inner).__name__}; allowed: RIMMarket-v0")
    return inner
