"""What a run says: tables and pictures, made again from its folder."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.errors import RunFolderError
from rimsim.market import build_world
from rimsim.scenarios.picture_tables import PictureTables
from rimsim.scenarios.pictures import draw_all
from rimsim.scenarios.results import differences, loop_effects, results_table, summary

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    from rimsim.scenarios.run_folder import Run

__all__ = ["digest", "draw_pictures", "print_results"]


def print_results(run: Run, console: Console) -> None:
    """Print the tables of a run and say where everything is."""
    agents, seeds = run.agents, len(run.seeds)
    rounds = run.rounds
    count = int(rounds["round"].max()) + 1
    late = f"mean of rounds {count - max(1, count // 2)}–{count - 1}" if count > 1 else "round 0"
    spread = f"{seeds} seeds, ± half a 95 % interval" if seeds > 1 else "1 seed, no interval"
    console.print()
    console.print(results_table(summary(rounds, agents), f"{run.scenario.name}: {late}, {spread}"))
    apart = differences(rounds, agents)
    if len(apart):
        console.print(
            results_table(
                apart, "Minus relevance, at the same seeds" if "relevance" in agents else f"Minus {agents[0]}"
            )
        )
    effects = loop_effects(rounds, agents)
    if len(effects):
        console.print(results_table(effects, "What the loop does: retrained minus frozen, at the same seeds"))
    pictures = sorted((run.folder / "pictures").glob("*.png"))
    console.print(f"tables     {run.folder}/*.parquet", soft_wrap=True, highlight=False)
    console.print(
        f"pictures   {run.folder}/pictures/ ({', '.join(p.name for p in pictures)})",
        soft_wrap=True,
        highlight=False,
    )
    console.print(f"events     tensorboard --logdir {run.folder}/events", soft_wrap=True, highlight=False)


def draw_pictures(run: Run) -> list[Path]:
    """Draw every picture of a run into its folder."""
    try:
        ledger = run.ledger
    except RunFolderError:
        ledger = None
    log = build_world(run.scenario).log
    tables = PictureTables(
        rounds=run.rounds,
        n_items=log.n_items,
        ledger=ledger,
        required=_required(run, log.n_items),
        arrivals=run.arrivals,
    )
    return draw_all(tables, run.folder / "pictures")


def _required(run: Run, n_items: int) -> dict[tuple[int, int], NDArray[np.int64]]:
    found: dict[tuple[int, int], NDArray[np.int64]] = {}
    table = run.required
    for seed, number in table[["seed", "round"]].drop_duplicates().to_numpy().tolist():
        group = table[(table["seed"] == seed) & (table["round"] == number)]
        row = np.zeros(n_items, np.int64)
        row[group["item"].to_numpy()] = group["required"].to_numpy()
        found[seed, number] = row
    return found


def digest(run: Run) -> str:
    """A digest of the content of a run's tables: equal runs have equal digests, whatever batches or workers."""
    whole = hashlib.sha256()
    tables: list[tuple[str, pd.DataFrame, list[str]]] = [
        ("rounds", run.rounds, ["agent", "seed", "round", "metric"]),
        ("arrivals", run.arrivals, ["agent", "seed", "round", "time", "arrival"]),
        ("required", run.required, ["seed", "round", "item"]),
    ]
    with suppress(RunFolderError):
        tables.append(("ledger", run.ledger, ["agent", "seed", "round", "time", "arrival", "position"]))
    for name, table, keys in tables:
        ordered = table.sort_values(keys, kind="stable").reset_index(drop=True)
        hashed = pd.util.hash_pandas_object(ordered, index=False).to_numpy()
        whole.update(name.encode() + hashed.tobytes())
    return whole.hexdigest()
