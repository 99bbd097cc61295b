"""The matrix of a sweep: whether what a market shows has the same sign at every point of a grid, and its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rimsim.measures import LEVEL, holm, paired_difference
from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.summary import baseline_of, guarantor_of, shortfalls
from rimsim.scenarios.report.tables import cell
from rimsim.scenarios.runs.status import control_name, is_control

_LOOPED = ("coverage", "effective_items", "utility")


@dataclass(frozen=True)
class Contrast:
    """A difference between two arms, which a column of the matrix holds."""

    title: str
    """What it is, in words."""
    metric: str
    """The metric."""
    more: str
    """Name of the arm that the other is taken from."""
    less: str
    """Name of the other."""


def contrasts(arms: Sequence[str], unit: str) -> list[Contrast]:
    """What a matrix is about, as far as some arms tell it: the loop, and what a guarantee delivers, costs and brings.

    The loop is that of the baseline (``relevance``): its own arm less the same agent's under random slates. A guarantee
    is judged by the first agent that keeps some, against the baseline.

    Args:
        arms: Names of arms.
        unit: ``exposure.unit``.
    """
    agents = [name for name in arms if not is_control(name)]
    base, found = baseline_of(agents), list[Contrast]()
    apart = control_name(base, "random")
    if apart in arms:
        found += [Contrast(f"loop: {name.replace('_', ' ')}", name, base, apart) for name in _LOOPED]
    keeper = guarantor_of([name for name in agents if name != base])
    if keeper is not None:
        kept, _ = shortfalls(unit)
        told = {
            kept: "guarantee: undelivered",
            "utility": "guarantee: utility",
            "adopted": "guarantee: adopted",
        }
        found += [Contrast(title, name, keeper, base) for name, title in told.items()]
    return found


def matrix(
    table: pd.DataFrame, fields: Sequence[str], unit: str, wanted: Sequence[Contrast] | None = None
) -> pd.DataFrame:
    """Each contrast at each point of a sweep, paired by seed, and whether its sign is settled.

    A sign is settled where it can be claimed of all cells at once: at 5 % by Holm over the whole matrix.

    Args:
        table: The table of a sweep.
        fields: Its swept fields.
        unit: ``exposure.unit``.
        wanted: Which contrasts; None: :func:`contrasts`.

    Returns:
        Columns ``fields``, contrast, metric, agent, minus, mean, low, high, n, p, adjusted (p by Holm), sign (−1 or 1;
        0: not settled); point by point in the order of the sweep. Empty where no contrast can be told.
    """
    rows = []
    wanted = contrasts(list(table["agent"].unique()), unit) if wanted is None else wanted
    for point, at in table.groupby(list(fields), sort=False, dropna=False):
        wide = at.pivot_table(index="seed", columns=["metric", "agent"], values="value", observed=True)
        for one in wanted:
            if not {(one.metric, one.more), (one.metric, one.less)} <= set(wide.columns):
                continue
            both = wide[[(one.metric, one.more), (one.metric, one.less)]].dropna().to_numpy(np.float64)
            paired = paired_difference(both[:, 0], both[:, 1])
            if paired.n:
                ends = (paired.mean, paired.low, paired.high, paired.n, paired.p)
                rows.append((*point, one.title, one.metric, one.more, one.less, *ends))
    columns = [*fields, "contrast", "metric", "agent", "minus", "mean", "low", "high", "n", "p"]
    found = pd.DataFrame(rows, columns=columns)
    found = found.astype(dict.fromkeys(("mean", "low", "high", "p"), float))
    found["adjusted"] = holm(found["p"].to_numpy(np.float64))
    settled = (found["adjusted"] <= LEVEL).to_numpy()
    found["sign"] = np.where(settled, np.sign(found["mean"].to_numpy()), 0).astype(np.int64)
    return found


def point_names(found: pd.DataFrame, fields: Sequence[str]) -> list[str]:
    """What each row is of: the values of the swept fields."""
    return [", ".join(map(str, values)) for values in found[list(fields)].to_numpy().tolist()]


def settled_words(cells: pd.DataFrame) -> str:
    """In how many cells of a column the sign is settled, such as ``− in 7 of 8``, or ``settled in 0 of 8``.

    Args:
        cells: The rows of one contrast.
    """
    counts = {"−": int((cells["sign"] < 0).sum()), "+": int((cells["sign"] > 0).sum())}
    told = [f"{sign} in {count}" for sign, count in counts.items() if count]
    return f"{', '.join(told)} of {len(cells)}" if told else f"settled in 0 of {len(cells)}"


def matrix_table(found: pd.DataFrame, fields: Sequence[str], title: str) -> TextTable:
    """A point a row, a contrast a column, and below them in how many cells each sign is settled.

    Args:
        found: What :func:`matrix` tells, not empty.
        fields: The swept fields.
        title: What the figures are of.
    """
    columns = list(found["contrast"].unique())
    cells: dict[str, dict[str, str]] = {}
    shown = ["contrast", "mean", "low", "high", "sign"]
    for point, contrast, mean, low, high, sign in (
        found[shown].assign(point=point_names(found, fields))[["point", *shown]].to_numpy().tolist()
    ):
        cells.setdefault(point, {})[contrast] = cell(mean, low, high) + "*" * bool(sign)
    rows = [(point, *(row.get(name, "–") for name in columns)) for point, row in cells.items()]
    told = tuple(settled_words(found[found["contrast"] == name]) for name in columns)
    rows.append(("settled", *told))
    return TextTable(
        f"{title} (* settled: Holm over {int(found['p'].notna().sum())} comparisons)",
        (", ".join(fields), *columns),
        tuple(rows),
    )
