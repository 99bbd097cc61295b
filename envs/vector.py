"""``gymnasium.make_vec("RIMMarket-v0")``: several markets in one process."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rimsim.arrays import TICKS, Array, Bools, Floats, Ints
from rimsim.data.session_logs import LogSource
from rimsim.envs.market import InvalidItems, MarketEnv, NamedArguments
from rimsim.envs.observations import observation_of
from rimsim.envs.steps import RECORD, observe_all, serve_all


class MarketVectorEnv(NamedArguments, SyncVectorEnv):
    """n markets whose observations form one batch.

    Each market behaves as a single environment with its seed (s, s + 1, …). Spaces, resets and ends of episodes are as
    in Gymnasium's ``SyncVectorEnv``. In ``infos["market"]``, ``items`` and ``taken`` are arrays of shape (n, k). To use
    wrappers of single environments, call ``make_vec`` with ``vectorization_mode="sync"``.

    Args:
        num_envs: Number of markets, n.
        scenario: Name or YAML file of a scenario. For arguments up to ``invalid_items``, see :class:`MarketEnv`.
        autoreset_mode: Behaviour at the end of an episode.
    """

    envs: list[MarketEnv]  # type: ignore[assignment]  # no wrappers

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str = "online-match",
        *,
        data: LogSource | None = None,
        rounds: int | None = None,
        settings: dict[str, object] | None = None,
        model_seed: int = 0,
        render_mode: str | None = None,
        invalid_items: InvalidItems = "raise",
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    ) -> None:
        def made() -> MarketEnv:
            return MarketEnv(
                scenario,
                data=data,
                rounds=rounds,
                settings=settings,
                model_seed=model_seed,
                render_mode=render_mode,
                invalid_items=invalid_items,
            )

        super().__init__([made] * num_envs, autoreset_mode=autoreset_mode)
        self._table = np.zeros(num_envs, RECORD)
        self._stepping = False
        """True in a step, and after one that was interrupted."""

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Reset all markets, or only markets in ``options["reset_mask"]``."""
        if options is not None and "reset_mask" in options:
            self._env_obs = [env.observation() for env in self.envs]  # type: ignore[misc]  # of those that go on
        return super().reset(seed=seed, options=options)

    def step(self, actions: Ints) -> tuple[dict[str, Array], Floats, Bools, Bools, dict[str, Any]]:
        """Show one slate to each market's waiting arrival.

        Raises:
            AgentError: If an action is not a slate, or holds a number that is not an item; then no market moves.
        """
        self._require_items(actions)
        n, m = self.num_envs, self.envs[0].n_items
        numbers, admissible = np.empty((n, 3 * m + 3), np.float32), np.empty((n, m), np.int8)
        ended, infos = np.zeros(n, bool), dict[str, Any]()
        served, rewards, columns = self._serve(actions)
        for number in np.flatnonzero(~served).tolist():
            env = self.envs[number]
            if self._autoreset_envs[number] and self.autoreset_mode is AutoresetMode.NEXT_STEP:
                summary = env.reset()[1]["market"]
            else:
                summary, rewards[number] = env.answer(actions[number])
                ended[number] = env.market.done
                if ended[number] and self.autoreset_mode is AutoresetMode.SAME_STEP:
                    last = {"final_obs": env.observation(), "final_info": {"market": summary}}
                    infos = self._add_info(infos, last, number)
                    summary = env.reset()[1]["market"]
            env.observe(numbers[number], admissible[number])
            for key, column in columns.items():
                column[number] = summary[key]
        observe_all(self._table, served, numbers, admissible)
        for number in np.flatnonzero(served & (self._table["scored"] < 0)).tolist():
            self.envs[number].detach()
        self._stepping = False
        self._autoreset_envs = ended
        everyone = np.ones(n, bool)
        infos["market"] = columns | {f"_{key}": everyone for key in columns}
        infos["_market"] = everyone
        return observation_of(numbers, admissible), rewards, ended.copy(), np.zeros(n, bool), infos

    def _require_items(self, actions: Ints) -> None:
        """Refuse items outside the catalogue before any slate is served."""
        numbers, n_items = np.asarray(actions), self.envs[0].n_items
        if numbers.ndim != 2 or numbers.dtype.kind not in "iu":  # refused with the shape that is expected
            return
        is_strange = ((numbers < 0) | (numbers >= n_items)).any(axis=1)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            is_strange &= ~self._autoreset_envs  # a market that is reset has no use for its action
        for number in np.flatnonzero(is_strange).tolist():
            self.envs[number].items_of(numbers[number])

    def _serve(self, actions: Ints) -> tuple[Bools, Floats, dict[str, Array]]:
        """Mask of jointly served markets, rewards, ``info["market"]``."""
        if self._stepping:
            for env in self.envs:
                env.detach()
        table, given, k = self._table, np.asarray(actions), self.envs[0].config.slate
        self._stepping = True
        for number, env in enumerate(self.envs):
            if env.record.base is not table:  # new, copied or exchanged: its row has addresses of others
                env.detach()
                env.record = table[number : number + 1]
        n, served = len(table), np.array([env.attach() for env in self.envs])
        if given.shape != (n, k) or given.dtype.kind not in "iu":
            served[:], given = False, np.zeros((n, k), np.int64)
        asked = given.astype(np.int64, order="C", copy=False)
        shown, taken = asked.copy(), np.zeros((n, k), bool)
        serve_all(table, served, shown, taken)
        for number in np.flatnonzero(served & (table["scored"] < 1)).tolist():
            self.envs[number].score_next()
        whole = {"consumed": "n_consumed"} | {key: key for key in ("round", "served", "arrival", "emptied")}
        info: dict[str, Array] = {key: table[name].astype(np.int64) for key, name in whole.items()}
        info |= {"time": table["now"] / TICKS, "items": shown, "taken": taken}
        info |= {"shortfall": table["shortfall"].copy(), "excess": np.zeros(n)}
        return served, np.where(served, table["reward"], 0.0), info
