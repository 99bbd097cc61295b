"""What retraining does to an agent, in parts: differences between its arm and its controls, which add up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from rimsim.measures import paired_difference
from rimsim.scenarios.runs.status import CONTROLS, control_name, is_control

PARTS = ("retraining", "data", "loop")
"""The parts: ``retraining`` leads from the frozen arm to logged events, ``data`` from those to events of this market
under random slates, ``loop`` from those to what the agent's own slates bring."""
LOOP = PARTS[-1]
ALL = "all"
"""Their sum: from the frozen arm to the agent itself."""


@dataclass(frozen=True)
class Part:
    """A difference between two arms of one agent."""

    agent: str
    """The agent."""
    name: str
    """One of :data:`PARTS`, several of them joined by ``+`` where the control between them is missing, or ``all``."""
    more: str
    """Name of the arm that the other is taken from."""
    less: str
    """Name of the other."""

    @property
    def formula(self) -> str:
        """The difference in words: ``self`` is the agent's own arm."""
        kinds = [arm.removeprefix(f"{self.agent}-") if arm != self.agent else "self" for arm in self._arms]
        return " − ".join(kinds)

    @property
    def _arms(self) -> tuple[str, str]:
        return self.more, self.less


def parts_of(arms: Sequence[str]) -> list[Part]:
    """The parts that the controls among some arms tell, agent by agent, the sum behind them where there are several.

    Args:
        arms: Names of arms.
    """
    parts = []
    for agent in (name for name in arms if not is_control(name)):
        chain = [*(control_name(agent, control) for control in CONTROLS), agent]
        there = [number for number, name in enumerate(chain) if name in arms]
        steps = list(pairwise(there))
        if len(steps) > 1 and there[0] == 0:
            steps.append((0, len(PARTS)))
        for low, high in steps:
            name = ALL if (low, high) == (0, len(PARTS)) else "+".join(PARTS[low:high])
            parts.append(Part(agent, name, chain[high], chain[low]))
    return parts


def decomposition(
    values: pd.DataFrame, arms: Sequence[str], metrics: Sequence[str], by: Sequence[str] = ()
) -> pd.DataFrame:
    """Each part with its 95 % interval over seeds, paired; of an agent's seeds those count that all its arms have.

    Args:
        values: Columns agent, seed, metric, value and ``by``; a row an arm and seed.
        arms: Names of arms.
        metrics: Which metrics; those that the table lacks are left out.
        by: More columns to keep apart, such as the round.

    Returns:
        Columns agent, part, difference (the part in words), metric, ``by``, mean, low, high, effect (d_z), n, p.
        NaN bounds where there is one seed.
    """
    rows = []
    for metric, part, complete in _compared(values, arms, metrics, by):
        groups = complete.groupby(list(by)) if by else [((), complete)]
        for key, group in groups:
            paired = paired_difference(
                group[part.more].to_numpy(np.float64), group[part.less].to_numpy(np.float64)
            )
            if paired.n:
                ends = (paired.mean, paired.low, paired.high, paired.dz, paired.n, paired.p)
                rows.append((part.agent, part.name, part.formula, metric, *key, *ends))
    columns = ["agent", "part", "difference", "metric", *by, "mean", "low", "high", "effect", "n", "p"]
    return pd.DataFrame(rows, columns=columns).astype(
        {"mean": float, "low": float, "high": float, "p": float}
    )


def parts_by_seed(values: pd.DataFrame, arms: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Each part at each round and seed of which :func:`decomposition` takes the mean.

    Args:
        values: Columns agent, seed, round, metric, value.
        arms: Names of arms.
        metrics: Which metrics; those that the table lacks are left out.

    Returns:
        Columns agent, part, metric, round, seed, value.
    """
    tables = [
        (complete[part.more] - complete[part.less])
        .rename("value")
        .reset_index()
        .assign(agent=part.agent, part=part.name, metric=metric)
        for metric, part, complete in _compared(values, arms, metrics, ["round"])
    ]
    columns = ["agent", "part", "metric", "round", "seed", "value"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _compared(
    values: pd.DataFrame, arms: Sequence[str], metrics: Sequence[str], by: Sequence[str]
) -> Iterator[tuple[str, Part, pd.DataFrame]]:
    """A metric, a part, and the metric of its agent's arms: a column an arm, a row for each of ``by`` and seed."""
    parts = parts_of(arms)
    mine = {
        part.agent: [name for one in parts if one.agent == part.agent for name in (one.more, one.less)]
        for part in parts
    }
    for metric in metrics:
        of_metric = values[values["metric"] == metric]
        wide = of_metric.pivot_table(index=[*by, "seed"], columns="agent", values="value", observed=True)
        for part in parts:
            needed = list(dict.fromkeys(mine[part.agent]))
            if set(needed) <= set(wide.columns):
                yield metric, part, wide[needed].dropna()
