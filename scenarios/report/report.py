"""What a run says: tables and pictures, made again from its folder."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.errors import RunFolderError
from rimsim.market import build_world
from rimsim.measures import late_words
from rimsim.scenarios.pictures.loop import draw_all
from rimsim.scenarios.pictures.tables import PictureTables
from rimsim.scenarios.report.results import (
    LOOP,
    SHOWN,
    baseline_of,
    differences,
    loop_effects,
    on_few_seeds,
    results_table,
    spread,
    summary,
    to_markdown,
)
from rimsim.scenarios.study.status import shown_rounds, status_note, status_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    from rimsim.market.world import World
    from rimsim.scenarios.store.run_folder import Run

__all__ = [
    "catalogue",
    "draw_pictures",
    "markdown",
    "picture_tables",
    "print_results",
]


def _titled(run: Run) -> list[tuple[str, pd.DataFrame]]:
    """The tables of a run that have rows, with their titles."""
    seeds, rounds = len(run.seeds), shown_rounds(run)
    if rounds.empty:
        return []
    there = set(rounds["agent"])
    agents = [name for name in run.agents if name in there]
    count = int(rounds["round"].max()) + 1
    own = tuple(measure.name for measure in run.own_measures.values())
    tables = [
        (
            f"{run.scenario.name}: {late_words(count)}, {spread(seeds)}",
            summary(rounds, agents, SHOWN + own),
        ),
        (f"Minus {baseline_of(agents)}, at the same seeds", differences(rounds, agents, SHOWN + own)),
        (
            "What retraining does: retrained minus frozen, at the same seeds",
            loop_effects(rounds, agents, LOOP + own),
        ),
    ]
    return [(title, table) for title, table in tables if len(table)]


def print_results(run: Run, console: Console) -> None:
    """Print the tables of a run and say where everything is."""
    console.print()
    for title, table in _titled(run):
        console.print(results_table(table, title))
    for note in (on_few_seeds(len(run.seeds)), status_note([status_of(run)], run.folder, "compare")):
        if note is not None:
            console.print(note, soft_wrap=True, highlight=False)
    pictures = ", ".join(path.name for path in sorted((run.folder / "pictures").glob("*.png")))
    for name, where in (
        ("tables", f"{run.folder}/*.parquet"),
        ("pictures", f"{run.folder}/pictures/ ({pictures})"),
        ("events", f"tensorboard --logdir {run.folder}/events"),
    ):
        console.print(f"{name:10} {where}", soft_wrap=True, highlight=False)


def markdown(run: Run) -> str:
    """The tables of a run as Markdown."""
    return "\n".join(f"**{title}**\n\n{to_markdown(table)}" for title, table in _titled(run))


def draw_pictures(run: Run) -> list[Path]:
    """Draw every picture of a run into its folder; none while no round is finished."""
    if shown_rounds(run).empty:
        return []
    return draw_all(picture_tables(run), run.folder / "pictures")


def picture_tables(run: Run) -> PictureTables:
    """The tables of a run that pictures are drawn from."""
    rounds, status = shown_rounds(run), status_of(run)

    def shown(table: pd.DataFrame) -> pd.DataFrame:
        """Without what arms that are not shown left behind."""
        if len(status.complete) == status.arms:
            return table
        return table.merge(rounds[["agent", "seed", "round"]].drop_duplicates())

    ledger = prices = None
    with suppress(RunFolderError):
        ledger = shown(run.ledger)
    with suppress(RunFolderError):
        prices = shown(run.prices)
    events = _catalogue(run)["events"].to_numpy(np.int64)
    n_items = len(events)
    return PictureTables(
        rounds=rounds,
        n_items=n_items,
        ledger=ledger,
        required=_required(run, n_items),
        arrivals=shown(run.arrivals),
        prices=prices,
        popularity=events,
        measures=run.measures,
    )


def catalogue(world: World) -> pd.DataFrame:
    """Columns item, events: how often each item of the catalogue stands in the warm-up log.

    Args:
        world: What a scenario's arms share.
    """
    n_items = world.log.n_items
    return pd.DataFrame(
        {"item": np.arange(n_items), "events": np.bincount(world.past.item, minlength=n_items)}
    )


def _catalogue(run: Run) -> pd.DataFrame:
    """The catalogue as the folder has it; older folders have none, and need their log."""
    try:
        return run.catalogue
    except RunFolderError:
        return catalogue(build_world(run.scenario))


def _required(run: Run, n_items: int) -> dict[tuple[int, int], NDArray[np.int64]]:
    found: dict[tuple[int, int], NDArray[np.int64]] = {}
    table = run.required
    for seed, number in table[["seed", "round"]].drop_duplicates().to_numpy().tolist():
        group = table[(table["seed"] == seed) & (table["round"] == number)]
        row = np.zeros(n_items, np.int64)
        row[group["item"].to_numpy()] = group["required"].to_numpy()
        found[seed, number] = row
    return found
