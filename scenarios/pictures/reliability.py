"""The picture of reliability: what the platform predicted of shown items against what they sold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from rimsim.measures import late_of, late_rounds
from rimsim.scenarios.pictures.looks import styles
from rimsim.scenarios.pictures.messages import subject
from rimsim.scenarios.pictures.style import frame, legend
from rimsim.scenarios.pictures.tables import last_round, retrained
from rimsim.scenarios.report.summary import REFERENCE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rimsim.scenarios.pictures.tables import PictureTables


def reliability_deciles(tables: PictureTables) -> pd.DataFrame:
    """Predicted and actual consumptions of a shown item, by decile of the predicted ones, over late rounds and seeds.

    Returns:
        Columns agent, decile (1 = least), predicted, actual: consumptions an exposure. Empty without the table.
    """
    columns = ["agent", "decile", "predicted", "actual"]
    if tables.reliability is None:
        return pd.DataFrame(columns=columns)
    late = tables.reliability["round"].isin(late_rounds(last_round(tables.rounds) + 1))
    sums = retrained(tables.reliability[late]).groupby(["agent", "decile"], observed=True)
    total = sums[["exposures", "predicted", "consumed"]].sum().reset_index()
    total["predicted"] /= total["exposures"]
    total["actual"] = total["consumed"] / total["exposures"]
    return total[columns]


def reliability(tables: PictureTables) -> Figure | None:
    """Actual against predicted consumptions of a shown item, one point a decile, and the line on which they agree."""
    table = reliability_deciles(tables)
    if table.empty:
        return None
    looks = styles(table["agent"].unique())
    curves = {name: table[table["agent"] == name].sort_values("decile") for name in looks}
    ratio = {
        name: float(curve["predicted"].sum() / curve["actual"].sum())
        for name, curve in curves.items()
        if curve["actual"].sum() > 0
    }
    words = late_of(tables.rounds)
    chosen = subject(looks)
    named = [name for name in dict.fromkeys((chosen, REFERENCE)) if name in ratio]
    parts = [f"{ratio[name]:.2f} with {name}" for name in named]
    message = (
        f"Consumptions predicted for each that came: {', '.join(parts)}" if parts else "Nothing was consumed"
    )
    caption = (
        f"Shown items by decile of the chance that the serving model gave them, {words}, all seeds together. Below the "
        "dotted line the platform promises itself more than comes."
    )
    figure = frame(message, caption, 5.4)
    ax, side = figure.subplots(1, 2, width_ratios=(3, 1.25))
    for name, look in looks.items():
        curve = curves[name]
        ax.plot(
            curve["predicted"],
            curve["actual"],
            color=look.colour,
            marker=look.marker,
            markersize=6,
            linewidth=2,
            clip_on=False,
        )
    end = float(max(table["predicted"].max(), table["actual"].max())) * 1.05 or 1.0
    ax.plot([0, end], [0, end], color="#777777", linewidth=1.2, linestyle=":")
    ax.set_xlim(0, end)
    ax.set_ylim(0, end)
    ax.set_xlabel("predicted consumptions of a shown item")
    ax.set_ylabel("actual consumptions of a shown item")
    legend(side, looks, {name: f"({value:.2f})" for name, value in ratio.items()})
    return figure
