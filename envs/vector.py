"""``gymnasium.make_vec("RIMMarket-v0")``: several markets in one process."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints
from rimsim.data.session_logs import LogSource
from rimsim.envs.market import InvalidItems, MarketEnv, NamedArguments
from rimsim.envs.observations import observation_of
from rimsim.envs.steps import (
    CLOCK_WAITS,
    NOT_SCORED,
    NOT_SERVED,
    SteppedMarket,
    market_list,
    no_outcomes,
    observe_next,
    replace_market,
    step_markets,
)

_INFO = ("round", "served", "arrival", "time", "consumed", "emptied", "shortfall", "excess")
"""Names of fields of ``infos["market"]`` that are single numbers."""


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

    envs: list[MarketEnv]  # type: ignore[assignment]  # the environments have no wrappers

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
        def made_env() -> MarketEnv:
            return MarketEnv(
                scenario,
                data=data,
                rounds=rounds,
                settings=settings,
                model_seed=model_seed,
                render_mode=render_mode,
                invalid_items=invalid_items,
            )

        super().__init__([made_env] * num_envs, autoreset_mode=autoreset_mode)
        self._stepped: list[SteppedMarket | None] = [None] * num_envs
        """Entries of the list for compiled steps; None before a market is entered."""
        self._stepped_list: list[SteppedMarket] = []
        """The entries as a list of Numba, for compiled code; empty before the first market is entered."""

    def __getstate__(self) -> dict[str, Any]:
        """Attributes of a copy, without the list for compiled steps."""
        return vars(self) | {"_stepped": [None] * self.num_envs, "_stepped_list": []}

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Reset all markets, or only markets in ``options["reset_mask"]``."""
        if options is not None and "reset_mask" in options:
            self._env_obs = [env.observation() for env in self.envs]  # type: ignore[misc]  # only of environments that go on
        return super().reset(seed=seed, options=options)

    def step(self, actions: Ints) -> tuple[dict[str, Array], Floats, Bools, Bools, dict[str, Any]]:
        """Show one slate to each market's waiting arrival.

        Raises:
            AgentError: If an action is not a slate, or holds a number that is not an item; then no market moves.
        """
        self._require_items(actions)
        n = self.num_envs
        n_items = self.envs[0].n_items
        numbers = np.empty((n, 3 * n_items + 3), np.float32)
        admissible = np.empty((n, n_items), np.int8)
        ended = np.zeros(n, bool)
        infos: dict[str, Any] = {}
        status, rewards, columns = self._step_together(actions, numbers, admissible)
        for number in np.flatnonzero(status == NOT_SCORED).tolist():
            self.envs[number].score_waiting()
            self.envs[number].observe(numbers[number], admissible[number])
        for number in np.flatnonzero(status == NOT_SERVED).tolist():
            env = self.envs[number]
            if self._autoreset_envs[number] and self.autoreset_mode is AutoresetMode.NEXT_STEP:
                # The episode ended in the step before, so this step only resets the market.
                summary = env.reset()[1]["market"]
            else:
                summary, rewards[number] = env.answer(actions[number])
                ended[number] = env.market.done
                if ended[number] and self.autoreset_mode is AutoresetMode.SAME_STEP:
                    final_step = {"final_obs": env.observation(), "final_info": {"market": summary}}
                    infos = self._add_info(infos, final_step, number)
                    summary = env.reset()[1]["market"]
            env.observe(numbers[number], admissible[number])
            for key, column in columns.items():
                column[number] = summary[key]
        self._autoreset_envs = ended
        is_present = np.ones(n, bool)
        infos["market"] = columns | {f"_{key}": is_present for key in columns}
        infos["_market"] = is_present
        return observation_of(numbers, admissible), rewards, ended.copy(), np.zeros(n, bool), infos

    def _require_items(self, actions: Ints) -> None:
        """Refuse items outside the catalogue before any slate is served."""
        numbers = np.asarray(actions)
        n_items = self.envs[0].n_items
        # The step itself refuses this, and states the expected shape.
        if numbers.ndim != 2 or numbers.dtype.kind not in "iu":
            return
        is_invalid = ((numbers < 0) | (numbers >= n_items)).any(axis=1)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            is_invalid &= ~self._autoreset_envs  # a market that is about to be reset ignores its action
        for number in np.flatnonzero(is_invalid).tolist():
            self.envs[number].items_of(numbers[number])

    def _step_together(
        self, actions: Ints, numbers: Float32s, admissible: NDArray[np.int8]
    ) -> tuple[Ints, Floats, dict[str, Array]]:
        """Statuses, rewards and ``info["market"]`` of compiled steps."""
        n = self.num_envs
        slates = np.asarray(actions)
        chosen = np.ones(n, bool)
        for number, (env, stepped) in enumerate(zip(self.envs, self._stepped, strict=True)):
            # The list is out of date if a new round has opened.
            if env.stepped_market() is not stepped or stepped is None:
                chosen[number] = self._enlisted(number)
        if slates.shape != (n, self.envs[0].config.slate) or slates.dtype.kind not in "iu":
            chosen[:] = False  # each market then refuses its slate on its own
            slates = np.zeros((n, self.envs[0].config.slate), np.int64)
        shown = slates.astype(np.int64, order="C")
        taken = np.zeros(shown.shape, bool)
        outcomes = no_outcomes(n)
        if chosen.any() and step_markets(
            self._stepped_list, chosen, shown, taken, outcomes, numbers, admissible
        ):
            for number in np.flatnonzero(outcomes["status"] == CLOCK_WAITS).tolist():
                self.envs[number].advance(outcomes[number])
            observe_next(self._stepped_list, outcomes, numbers, admissible)
        columns = {key: np.ascontiguousarray(outcomes[key]) for key in _INFO}
        columns |= {"items": shown, "taken": taken}
        return outcomes["status"], np.ascontiguousarray(outcomes["reward"]), columns

    def _enlisted(self, number: int) -> bool:
        """Enter a market into the list; false if impossible."""
        stepped = self.envs[number].stepped_market()
        if stepped is None:
            return False
        if stepped is not self._stepped[number]:
            if not len(self._stepped_list):
                self._stepped_list = market_list(stepped, self.num_envs)
            replace_market(self._stepped_list, number, stepped)
            self._stepped[number] = stepped
        return True
