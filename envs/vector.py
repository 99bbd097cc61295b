"""``make_vec("RIMMarket-v0", num_envs=n)``: n markets in lock-step in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rimsim.envs.market import GROUND_BOUND, MarketEnv, clock, summary
from rimsim.errors import AgentError, ConfigError, MarketError
from rimsim.market.lockstep import NextArrival, can_lock_step, next_arrival, serve_one
from rimsim.market.records import as_slates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import Market

__all__ = ["VectorMarketEnv"]

Batch = dict[str, "NDArray[Any]"]


class VectorMarketEnv(VectorEnv[Any, Any, Any]):
    """n copies of :class:`MarketEnv`, equal to n single environments, observation for observation.

    Seeds are Gymnasium's: ``reset(seed=s)`` gives copy i the seed s + i. Each copy is a market of its own, with its
    own model once it has retrained. A step costs each of them one compiled call; each scores its coming arrivals ahead,
    in full blocks. What is saved against n single environments are the calls of the policy, not those of the market.

    Args:
        num_envs: n.
        scenario: As in :class:`MarketEnv`, like all that follow but the last.
        data: Replaces ``data.source``.
        rounds: Replaces ``rounds``.
        settings: Other fields to replace, by dotted name.
        model_seed: Seed of the platform's model, for all copies.
        render_mode: ``ansi``, ``rgb_array`` or None.
        autoreset_mode: ``NextStep``: the step after an episode's last ignores the action and resets. ``SameStep``: the
            last step resets; its observation is in ``infos["final_obs"]``. ``Disabled``: the caller resets, with
            ``options={"reset_mask": …}``.

    Raises:
        ConfigError: If an argument does not fit.

    Example:
        >>> import gymnasium, rimsim
        >>> settings = {"platform.model": "hp", "arrivals.per_round": 5}
        >>> envs = gymnasium.make_vec("RIMMarket-v0", num_envs=3, settings=settings)
        >>> observations, infos = envs.reset(seed=1)
        >>> best = (-observations["relevance"]).argsort(1)[:, :10]
        >>> observations, rewards, terminations, truncations, infos = envs.step(best)
        >>> rewards.shape
        (3,)
    """

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str = "online-match",
        *,
        data: str | None = None,
        rounds: int | None = None,
        settings: dict[str, object] | None = None,
        model_seed: int = 0,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs is {num_envs}; allowed: at least 1")
        try:
            self._mode = AutoresetMode(autoreset_mode)
        except ValueError as error:
            allowed = ", ".join(repr(mode.value) for mode in AutoresetMode)
            raise ConfigError(f"autoreset_mode is {autoreset_mode!r}; allowed: {allowed}") from error
        self.num_envs = num_envs
        self.envs = [
            MarketEnv(
                scenario,
                data=data,
                rounds=rounds,
                settings=settings,
                model_seed=model_seed,
                render_mode=render_mode,
            )
            for _ in range(num_envs)
        ]
        first = self.envs[0]
        self.metadata = MarketEnv.metadata | {"autoreset_mode": self._mode}
        self.render_mode = render_mode
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.action_space = batch_space(first.action_space, num_envs)
        self._together = can_lock_step(first.config)
        self._over = np.ones(num_envs, bool)
        self._opened = False
        # What is observed: scores lie where the markets keep them, and only copies are handed out.
        m = first.n_items
        self._nothing = np.zeros(m, np.float32), np.zeros(m, np.int8)
        self._relevance = [self._nothing[0]] * num_envs
        self._admissible = [self._nothing[1]] * num_envs
        self._seen: Batch = {
            "ground_intensity": np.zeros((num_envs, 1), np.float32),
            "exposure": np.zeros((num_envs, m), np.float32),
            "shortfall": np.zeros((num_envs, m), np.float32),
            "clock": np.zeros((num_envs, 2), np.float32),
        }
        self._exposure, self._shortfall = list(self._seen["exposure"]), list(self._seen["shortfall"])
        self._waiting: list[NextArrival | None] = [None] * num_envs
        self._missing = [0] * num_envs

    # -- Gymnasium -----------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Batch, dict[str, Any]]:
        """Open markets anew.

        Args:
            seed: One for each copy; a number s stands for s, s + 1, …; None: new ones, drawn from the last seeds.
            options: As in :meth:`MarketEnv.reset`; ``reset_mask`` (n,) bool says which copies are reset.

        Raises:
            ConfigError: If seeds or options do not fit.
        """
        numbers = (
            [int(seed) + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        )
        if numbers is not None and len(numbers) != self.num_envs:
            raise ConfigError(f"reset: found {len(numbers)} seeds; allowed: {self.num_envs}, one a copy")
        rest = dict(options or {})
        mask = np.asarray(rest.pop("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ConfigError(
                f"reset: reset_mask is {mask!r}; allowed: ({self.num_envs},) bool, true for at least one copy"
            )
        infos: dict[str, Any] = {}
        for i in np.flatnonzero(mask).tolist():
            infos = self._add_info(
                infos, self._open(i, None if numbers is None else numbers[i], rest or None), i
            )
        return self._copies(), infos

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Batch, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Show a slate (n, k) in each copy, and let the next arrivals come.

        Raises:
            AgentError: If the actions are no whole numbers of that shape.
            MarketError: Before the first reset, or with ``Disabled`` where an episode is over.
        """
        resets = self._over.copy()
        if resets.any() and (self._mode is not AutoresetMode.NEXT_STEP or not self._opened):
            raise MarketError(
                f"step: the episodes of copies {np.flatnonzero(resets).tolist()} are over; allowed: reset them first"
            )
        items = np.ascontiguousarray(as_slates(actions).items)
        if items.shape != self.action_space.shape:
            raise AgentError(f"step: slates have shape {items.shape}; allowed: {self.action_space.shape}")
        rewards, ended = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        infos: dict[str, Any] = {}
        playing = np.flatnonzero(~resets).tolist()
        if playing:
            play = self._play_together if self._together else self._play_apart
            infos = play(playing, items, rewards, ended)
        for i in np.flatnonzero(resets).tolist():
            infos = self._add_info(infos, self._open(i, None, None), i)
        self._over = ended.copy()
        if self._mode is AutoresetMode.SAME_STEP and ended.any():
            infos = self._start_again(infos, np.flatnonzero(ended).tolist())
        return self._copies(), rewards, ended, np.zeros(self.num_envs, bool), infos

    def render(self) -> tuple[Any, ...] | None:
        """What every copy renders."""
        return None if self.render_mode is None else tuple(env.render() for env in self.envs)

    # -- inside --------------------------------------------------------------------------------------------------

    def _open(self, i: int, seed: int | None, options: dict[str, Any] | None) -> dict[str, Any]:
        """Reset a copy; returns its info."""
        env = self.envs[i]
        observation, info = env.reset(seed=seed, options=options)
        self._see(i, observation)
        if isinstance(env.waiting, NextArrival):
            self._waiting[i] = env.waiting
        self._missing[i] = info["market"]["shortfall"]
        self._over[i], self._opened = False, True
        return info

    def _see(self, i: int, observation: Batch) -> None:
        self._relevance[i], self._admissible[i] = observation["relevance"], observation["admissible"]
        for name, value in self._seen.items():
            value[i] = observation[name]

    def _copies(self) -> Batch:
        """What every copy observes, in arrays of its own."""
        relevance = np.empty(self._seen["exposure"].shape, np.float32)
        admissible = np.empty(relevance.shape, np.int8)
        for i in range(self.num_envs):
            relevance[i], admissible[i] = self._relevance[i], self._admissible[i]
        seen = {name: value.copy() for name, value in self._seen.items()}
        return {
            "relevance": relevance,
            "ground_intensity": seen["ground_intensity"],
            "exposure": seen["exposure"],
            "shortfall": seen["shortfall"],
            "admissible": admissible,
            "clock": seen["clock"],
        }

    def _start_again(self, infos: dict[str, Any], ended: list[int]) -> dict[str, Any]:
        """Reset copies within the step that ended their episodes; what they came to is in ``final_…``."""
        last = self._copies()
        for i in ended:
            final = {
                "final_obs": {name: value[i] for name, value in last.items()},
                "final_info": _single(infos, i),
            }
            infos = self._add_info(infos, final, i)
            infos = self._add_info(infos, self._open(i, None, None), i)
        return infos

    def _play_apart(
        self,
        playing: list[int],
        items: NDArray[np.int64],
        rewards: NDArray[np.float64],
        ended: NDArray[np.bool_],
    ) -> dict[str, Any]:
        """A step of each copy by itself, for markets that cannot respond together."""
        infos: dict[str, Any] = {}
        for i in playing:
            observation, reward, ended[i], _, info = self.envs[i].step(items[i])
            rewards[i] = float(reward)
            self._see(i, observation)
            infos = self._add_info(infos, info, i)
        return infos

    def _play_together(
        self,
        playing: list[int],
        items: NDArray[np.int64],
        rewards: NDArray[np.float64],
        ended: NDArray[np.bool_],
    ) -> dict[str, Any]:
        told = {}
        for i in playing:
            market, arrival = self.envs[i].market, self._waiting[i]
            assert arrival is not None  # noqa: S101  # who plays has an arrival; this tells mypy
            number, cost = market.round, market.cost
            outcome = serve_one(market, arrival, items[i], self._exposure[i], self._shortfall[i])
            self._missing[i] -= outcome.useful
            rewards[i] = outcome.consumed + cost * outcome.useful
            ended[i] = market.done
            if market.round != number and not market.done:
                self._take_stock(i, market)
            row = self._see_next(i, market)
            told[i] = summary(market, row, outcome.consumed, outcome.emptied, self._missing[i])
        return {"market": _batched(told, self.num_envs), "_market": _mask(playing, self.num_envs)}

    def _take_stock(self, i: int, market: Market) -> None:
        """Exposure and shortfall of a round that begins."""
        short = np.maximum(market.required - market.exposure, 0)
        self._exposure[i][:], self._shortfall[i][:] = market.exposure, short
        self._missing[i] = int(short.sum())

    def _see_next(self, i: int, market: Market) -> int | None:
        """Let the next arrival of a market come; returns its row, or None where all is over."""
        self._seen["clock"][i] = clock(market)
        if market.done:
            self._waiting[i] = None
            self._relevance[i], self._admissible[i] = self._nothing
            self._seen["ground_intensity"][i] = 0
            return None
        arrival = self._waiting[i] = next_arrival(market)
        self._relevance[i], self._admissible[i] = arrival.relevance, arrival.admissible.view(np.int8)
        self._seen["ground_intensity"][i] = min(arrival.ground, GROUND_BOUND)
        return arrival.row


def _mask(chosen: list[int], n: int) -> NDArray[np.bool_]:
    mask = np.zeros(n, bool)
    mask[chosen] = True
    return mask


def _batched(told: dict[int, dict[str, int | float]], n: int) -> dict[str, NDArray[Any]]:
    """Infos of some of n copies, each key as an array with its mask, as Gymnasium batches them."""
    chosen = list(told)
    batch: dict[str, NDArray[Any]] = {}
    for key, first in told[chosen[0]].items():
        values = np.zeros(n, type(first))
        values[chosen] = [one[key] for one in told.values()]
        batch[key], batch[f"_{key}"] = values, _mask(chosen, n)
    return batch


def _single(infos: dict[str, Any], i: int) -> dict[str, Any]:
    """The info of copy i as a single environment gives it."""
    keys = [key for key in infos if f"_{key}" in infos and infos[f"_{key}"][i]]
    return {
        key: _single(infos[key], i) if isinstance(infos[key], dict) else infos[key][i].item() for key in keys
    }
