"""The same log as other packages hold it, key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rimsim.arrays import Array
from rimsim.scenarios.exporting.logged import CONTEXT

if TYPE_CHECKING:
    from rimsim.scenarios.exporting.logged import LoggedArm


def obp_feedback(arm: LoggedArm) -> dict[str, int | Array]:
    """Slate feedback as the Open Bandit Pipeline's slate data sets have it.

    Columns of exposures have n·k entries, slates one after the other, positions from 0. ``expected_reward_factual`` is
    not there, as in real data.
    """
    n, k = arm.item.shape
    return {
        "n_rounds": n,
        "n_unique_action": arm.n_items,
        "slate_id": np.repeat(np.arange(n), k),
        "context": arm.context,
        "action_context": arm.popularity[:, None],
        "action": arm.item.reshape(-1),
        "position": np.tile(np.arange(k), n),
        "reward": arm.reward.reshape(-1),
        "pscore": np.repeat(arm.slate, k),
        "pscore_cascade": arm.prefix.reshape(-1),
        "pscore_item_position": arm.position.reshape(-1),
    }


def scope_rl_dataset(arm: LoggedArm) -> dict[str, Any]:
    """A logged data set as SCOPE-RL has it, in which a slate is a trajectory and each of its positions a step.

    The state is what was known of the arrival, and the position. The action is the item, its ``pscore`` the chance
    of the item given those above it. d3rlpy reads state, action, reward and terminal of it.
    """
    n, k = arm.item.shape
    state = np.column_stack([np.repeat(arm.context, k, axis=0), np.tile(np.arange(k), n)])
    before = np.hstack([np.ones((n, 1)), arm.prefix[:, :-1]])
    pscore = np.divide(arm.prefix, before, out=np.zeros_like(arm.prefix), where=before > 0)
    last = np.tile(np.arange(k) == k - 1, n).astype(np.int64)
    return {
        "size": n * k,
        "n_trajectories": n,
        "step_per_trajectory": k,
        "action_type": "discrete",
        "n_actions": arm.n_items,
        "action_dim": arm.n_items,
        "action_keys": None,
        "action_meaning": np.arange(arm.n_items),
        "state_dim": state.shape[1],
        "state_keys": [*CONTEXT, "position"],
        "state": state,
        "action": arm.item.reshape(-1),
        "reward": arm.reward.reshape(-1),
        "done": last,
        "terminal": last,
        "info": {},
        "pscore": pscore.reshape(-1),
        "behavior_policy": arm.agent,
        "dataset_id": arm.seed,
    }
