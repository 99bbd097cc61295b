"""The ledger of one arm as arrays: whole slates, what came of them, and with which chance they were shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.errors import ConfigError, nearest

if TYPE_CHECKING:
    from rimsim.scenarios.runs.store import Run


CONTEXT = ("round_gone", "run_gone", "ground_intensity")
"""The environment's ``clock``, shares of the round and of the run that are gone, and its ``ground_intensity``, λ(x)."""


@dataclass(frozen=True, eq=False)
class LoggedArm:
    """n slates of k items that one agent showed at one seed, in clock order; any with an empty position is left out."""

    agent: str
    seed: int
    n_items: int
    context: Floats
    """(n, 3) what was known of each arrival, named by :data:`CONTEXT`."""
    popularity: Floats
    """(M,) log(1 + events in the warm-up log)."""
    item: Ints
    """(n, k)."""
    reward: Floats
    """(n, k) 1 where it was consumed."""
    position: Floats
    """(n, k) chance that this item stood here; NaN where the agent does not say."""
    prefix: Floats
    """(n, k) chance that the slate began so."""
    slate: Floats
    """(n,) chance of the slate."""
    left_out: int
    """Slates with an empty position."""


def logged_arm(run: Run, agent: str | None, seed: int | None) -> LoggedArm:
    """The log of an arm.

    Args:
        run: A comparison that kept its ledger.
        agent: Name of one of its arms; None: the first.
        seed: One of its seeds; None: the first.

    Raises:
        ConfigError: If there is no such arm or seed.
        MissingTableError: If the run kept no ledger.
    """
    name, chosen = agent or run.agents[0], run.seeds[0] if seed is None else seed
    if name not in run.agents:
        raise ConfigError(f"--agent: {name!r} is not among the run's arms.{nearest(name, run.agents)}")
    if chosen not in run.seeds:
        raise ConfigError(f"--seed: {chosen} is not among the run's seeds; allowed: {run.seeds}")
    table = run.ledger
    table = table[(table["agent"] == name) & (table["seed"] == chosen)]
    table = table.sort_values(["round", "time", "arrival", "position"], kind="stable")
    k = run.scenario.slate
    keys = table["round"].to_numpy().astype(np.int64) << 48
    _, first, filled = np.unique(keys + table["arrival"].to_numpy(), return_index=True, return_counts=True)
    first = np.sort(first[filled == k])
    rows = first[:, None] + np.arange(k)

    def column(column_name: str) -> Floats:
        return np.asarray(table[column_name].to_numpy()[rows], np.float64)

    known = run.arrivals
    known = known[(known["agent"] == name) & (known["seed"] == chosen)]
    known = known.sort_values(["round", "time", "arrival"], kind="stable").set_index(["round", "arrival"])
    of_round = known.groupby("round")["time"]
    known["gone"] = of_round.cumcount() / of_round.transform("size")
    heads = table.iloc[first]
    known = known.loc[list(zip(heads["round"], heads["arrival"], strict=True))]
    gone = known["gone"].to_numpy(np.float64)
    run_gone = (heads["round"].to_numpy(np.float64) + gone) / run.scenario.rounds
    context = np.column_stack([gone, run_gone, known["ground_intensity"].to_numpy(np.float64)])
    events = run.catalogue.sort_values("item")["events"].to_numpy(np.float64)
    return LoggedArm(
        agent=name,
        seed=chosen,
        n_items=len(events),
        context=context,
        popularity=np.log1p(events),
        item=column("item").astype(np.int64),
        reward=column("consumed"),
        position=column("propensity_position"),
        prefix=column("propensity_prefix"),
        slate=column("propensity_slate")[:, 0],
        left_out=int((filled < k).sum()),
    )
