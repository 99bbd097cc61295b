"""What an experiment says: a table a metric, and which design is fine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.scenarios.experimenting.figures import METRICS, summary
from rimsim.scenarios.report.console import picture_places, print_report
from rimsim.scenarios.report.record import TextTable

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from rimsim.scenarios.experimenting.run import Experiment


def print_results(done: Experiment, console: Console) -> None:
    """Print the tables and the sentences, and say where everything is."""
    said = sentences(summary(done.table))
    print_report(result_tables(done), said, picture_places(done.folder), console)


def result_tables(done: Experiment) -> list[TextTable]:
    """A table a metric, a row a design."""
    found, (first, second) = summary(done.table), done.agents
    columns = (
        "design, training, prices",
        "naive",
        "± (95 %)",
        "total effect",
        "bias",
        "coverage",
        "power",
        "right sign",
    )
    made = []
    for metric, meaning in METRICS.items():
        rows = found[found["metric"] == metric].to_dict("records")
        cells = tuple(
            (
                f"{row['design']}, {row['training']}, {row['prices']}",
                f"{row['naive']:+.4f}",
                f"{row['width'] / 2:.4f}",
                f"{row['total_effect']:+.4f}",
                f"{row['bias']:+.4f}" + ("" if np.isnan(row["error"]) else f" ±{row['half']:.4f}"),
                f"{row['coverage']:.1%}",
                f"{row['power']:.1%}",
                f"{row['sign']:.1%}",
            )
            for row in rows
        )
        title = f"{second} − {first}: {metric} ({meaning}); seeds: {rows[0]['seeds']}"
        made.append(TextTable(title, columns, cells))
    return made


def sentences(found: pd.DataFrame) -> list[str]:
    """Of each metric, which designs are off by more than chance, and which are not."""
    lines = []
    for metric in METRICS:
        rows = found[found["metric"] == metric]
        off: list[str] = []
        fine: list[str] = []
        for row in rows.to_dict("records"):
            label = f"{row['design']} ({row['training']} training, {row['prices']} prices)"
            if np.isnan(row["error"]):
                continue
            (off if abs(row["bias"]) > row["half"] else fine).append(label)
        if off:
            lines.append(f"{metric}: biased beyond chance over these seeds: {'; '.join(off)}.")
        if fine:
            lines.append(f"{metric}: no bias found over these seeds: {'; '.join(fine)}.")
    return lines or ["one seed tells no bias from chance; allowed: --seeds 2 or more"]
