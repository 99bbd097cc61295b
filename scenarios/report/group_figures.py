"""Figures of groups of items, such as sellers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rimsim import measures
from rimsim.config import ExposureConfig
from rimsim.requirements.campaigns import group_name
from rimsim.scenarios.report import tables
from rimsim.scenarios.report.numbers import per_cent
from rimsim.scenarios.runs.arms import is_control
from rimsim.scenarios.runs.status import shown_rounds
from rimsim.scenarios.runs.store import RunFolder

MAX_GROUPS = 24
"""Largest number of groups in a table or picture. Of more groups, it shows those whose exposures grew most and those
whose exposures fell most, compared with another agent. Without another agent, it shows those with most and with fewest
exposures."""


def column_with_all_guarantees(exposure: ExposureConfig) -> str | None:
    """Only column with guaranteed groups, without other guarantees, or None."""
    columns = {group.column for group in exposure.groups if group.beta > 0}
    if exposure.beta > 0 or exposure.each is not None or exposure.campaigns or len(columns) != 1:
        return None
    return columns.pop()


def group_columns(run: RunFolder) -> tuple[str, ...]:
    """Columns whose groups the run reports."""
    guaranteed = (group.column for group in run.scenario.exposure.groups)
    return tuple(dict.fromkeys([*guaranteed, *run.config.get("groups", ())]))


def promise_words(exposure: ExposureConfig, column: str) -> str:
    """Sentence on the guaranteed share of groups; else empty."""
    groups = [group for group in exposure.groups if group.column == column]
    shares = {
        "items": "of the uniform exposure of its items: twice the items, twice the guarantee",
        "groups": f"of an equal share of each {column}, whatever its number of items",
    }
    parts = []
    for of, words in shares.items():
        betas = dict.fromkeys(per_cent(group.beta) for group in groups if group.of == of and group.beta > 0)
        if betas:
            parts.append(f"{' or '.join(betas)} {words}")
    caps = dict.fromkeys(f"{group.most:g}" for group in groups if group.most is not None)
    return " ".join(
        [
            *([f"A group is guaranteed {', or '.join(parts)}."] if parts else []),
            *([f"It gets at most {' or '.join(caps)} times this share."] if parts and caps else []),
        ]
    )


@dataclass(frozen=True, eq=False)
class GroupFigures:
    """Figures of the groups of a column in late rounds."""

    column: str
    late: pd.DataFrame
    """Table of means over late rounds, without controls. Columns: agent, seed, group, metric, value."""
    base: str
    """Name of the baseline agent."""
    agent: str | None
    """Name of the agent that the report compares with the baseline; None: the run has only one agent."""
    words: str
    """Words that name the late rounds."""
    unit: str = "examined"
    """Unit of the guarantees, from ``exposure.unit``."""
    promise: str = ""
    """Sentence that says which share is guaranteed; empty without a guarantee."""
    memberships: tuple[str, ...] = ()
    """Text of the column for each item."""

    def values(self, agent: str, metric: str) -> pd.DataFrame:
        """Values of a metric (groups × seeds)."""
        rows = self.late[(self.late["agent"] == agent) & (self.late["metric"] == metric)]
        return rows.pivot(index="group", columns="seed", values="value")

    @property
    def agents(self) -> tuple[str, ...]:
        """Baseline and compared agent."""
        return (self.base,) if self.agent is None else (self.base, self.agent)

    @property
    def guaranteed(self) -> bool:
        """True if the groups have guarantees."""
        return bool((self.late["metric"] == "required").any())

    def ratio(self, agent: str) -> pd.DataFrame:
        """Delivered share of each group's guarantee (groups × seeds).

        Without a guarantee, it is the exposure over the uniform exposure, at which all items have the same.
        """
        if self.guaranteed:
            return self.values(agent, "delivered") / self.values(agent, "required")
        exposures = self.values(agent, "exposures")
        items = self.values(agent, "items")
        return exposures / (exposures.sum() * items / items.sum())

    def undelivered(self, agent: str) -> pd.Series:
        """Undelivered share of the guarantees of all groups, by seed."""
        return self.values(agent, "undelivered").sum() / self.values(agent, "required").sum()

    def changes(self, metric: str) -> pd.DataFrame:
        """Compared agent minus baseline (groups × seeds)."""
        if self.agent is None:
            return pd.DataFrame()
        return self.values(self.agent, metric) - self.values(self.base, metric)

    @property
    def is_partition(self) -> bool:
        """True if no item is in two groups."""
        return "|" not in "".join(self.memberships)

    def shown(self) -> list[str]:
        """At most :data:`MAX_GROUPS` groups, those that gained most first."""
        gains = self.changes("exposures")
        if self.agent is None:  # without a comparison, the groups with most exposures come first
            gains = self.values(self.base, "exposures")
        largest_first = gains.mean(axis=1).sort_values(ascending=False, kind="stable")
        groups = [str(group) for group in largest_first.index]
        half = MAX_GROUPS // 2
        return groups if len(groups) <= MAX_GROUPS else [*groups[:half], *groups[-half:]]


def figures_of(run: RunFolder, column: str) -> GroupFigures | None:
    """Figures of a column's groups; None without finished rounds."""
    if run.groups is None:
        return None
    rounds = shown_rounds(run)
    finished = rounds[["agent", "seed", "round"]].drop_duplicates()
    table = run.groups[run.groups["column"] == column].merge(finished)
    table = table[~table["agent"].map(is_control).astype(bool)]
    if table.empty:
        return None
    last = int(table["round"].max())
    late = table[table["round"].isin(measures.late_rounds(last + 1))]
    if run.scenario.exposure.per != "round" and run.promises is not None:
        late = _without_carry_over(late, run.promises, column)
    means = late.groupby(["agent", "seed", "group", "metric"], sort=False)["value"].mean().reset_index()
    agents = [name for name in run.agents if name in set(means["agent"])]
    base = tables.baseline_of(agents)
    compared = tables.compared_agents(base, agents)
    texts = run.catalogue[column].astype(str) if column in run.catalogue else pd.Series(dtype=str)
    return GroupFigures(
        column=column,
        late=means,
        base=base,
        agent=_compared(means, compared),
        words=measures.late_words(last + 1),
        unit=run.scenario.exposure.unit,
        promise=promise_words(run.scenario.exposure, column),
        memberships=tuple(texts),
    )


def _without_carry_over(late: pd.DataFrame, promises: pd.DataFrame, column: str) -> pd.DataFrame:
    """Figures in which each exposure due counts once.

    In table ``groups``, guarantees have the shortfall that is carried over. Like the tables of rounds, sentences count
    each exposure once, so they take the exposures due.
    """
    keys = ["agent", "seed", "round", "group"]
    guaranteed = late.loc[late["metric"] == "required", keys]
    guaranteed = guaranteed.assign(name=[group_name(column, str(group)) for group in guaranteed["group"]])
    rows = guaranteed.merge(promises, on=["agent", "seed", "round", "name"])
    deficit = (rows[["least", "due"]].min(axis=1) - rows["delivered"]).clip(lower=0)
    counted = {"required": rows["due"], "undelivered": deficit}
    parts = [
        rows[keys].assign(column=column, metric=metric, value=values) for metric, values in counted.items()
    ]
    return pd.concat([late[~late["metric"].isin(list(counted))], *parts], ignore_index=True)


def _compared(means: pd.DataFrame, compared: Sequence[str]) -> str | None:
    """Agent that leaves least undelivered; None without other agents."""
    if not compared:
        return None
    undelivered_shares = means[means["metric"] == "undelivered"].groupby("agent")["value"].mean()
    return min(compared, key=lambda name: float(undelivered_shares.get(name, np.inf)))
