"""``make_vec("RIMMarket-v0", num_envs=n)``: n markets in lock-step in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rimsim.envs.market import MarketEnv
from rimsim.errors import AgentError, ConfigError, MarketError
from rimsim.market.records import as_slates

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
        self._over = np.ones(num_envs, bool)
        self._opened = False
        nothing = {
            name: np.zeros(space.shape or (), space.dtype)
            for name, space in first.observation_space.items()  # type: ignore[attr-defined]  # spaces.Dict
        }
        # What each copy observed last: it lies where the markets keep it, and only copies are handed out.
        self._seen: list[Batch] = [nothing] * num_envs

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
            infos = self._play(playing, items, rewards, ended)
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
        self._seen[i], info = self.envs[i].reset(seed=seed, options=options)
        self._over[i], self._opened = False, True
        return info

    def _copies(self) -> Batch:
        """What every copy observes, in arrays of its own."""
        batch: Batch = {}
        for name, first in self._seen[0].items():
            batch[name] = np.empty((self.num_envs, *first.shape), first.dtype)
            for i, seen in enumerate(self._seen):
                batch[name][i] = seen[name]
        return batch

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

    def _play(
        self,
        playing: list[int],
        items: NDArray[np.int64],
        rewards: NDArray[np.float64],
        ended: NDArray[np.bool_],
    ) -> dict[str, Any]:
        """A step of some copies; fills their rewards and whether they ended, and returns their infos."""
        told = {}
        for i in playing:
            env = self.envs[i]
            rewards[i], told[i] = env.advance(items[i])
            ended[i], self._seen[i] = env.market.done, env.seen()
        return {"market": _batched(told, self.num_envs), "_market": _mask(playing, self.num_envs)}


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
