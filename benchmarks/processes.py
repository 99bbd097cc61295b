"""Write the tables of benchmarks/log/processes.md: ``python benchmarks/processes.py [NAME…] [--out FOLDER]``.

The tables are about models that go live late, and about creators who react; a quarter of an hour of CPU time. Each
table is in the page between two marks, ``<!-- NAME -->`` and ``<!-- /NAME -->``, below the command of its runs. A run
that is complete in the folder is only read.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
from kept_runs import finished
from log_pages import LOG, head, replace_table

from rimsim.market.processes import Creators, make_processes
from rimsim.measures import PairedDifference, holm, mean_interval, paired_difference
from rimsim.scenarios.report.console import markdown
from rimsim.scenarios.report.record import TextTable

if TYPE_CHECKING:
    from rimsim.arrays import Floats
    from rimsim.scenarios import Run

PAGE = LOG / "processes.md"
_PLAIN = "--frozen none --no-certificate --no-ledger --workers 1"
_FLAT = "flat-budget(bonus=0.5)"
_SMALL = "--min-item-events 60 --set arrivals.per_round=500 --set platform.log_window.size=750"
_HOURS = 7 * 24
"""Length of a round."""
LATE = range(8, 12)
"""Rounds of the tables of delays."""
DELAYS = {"0": 0.0, "1/4": 0.25, "1": 1.0, "4": 4.0, "never": None}
"""Name of a delay → rounds from the start of a training until its model is live; None: no model is trained."""


@dataclass(frozen=True)
class Delayed:
    """Market whose models go live late."""

    options: str
    """Words of the command."""
    processes: tuple[str, ...] = ()
    """Processes in addition to the training."""

    agents: ClassVar[tuple[str, ...]] = ("relevance", _FLAT, "rim-feedback")

    def command(self, delay: float | None, seeds: int) -> str:
        """Command of one delay."""
        takes = f"(takes='{round(_HOURS * delay)}h')" if delay else ""
        training = () if delay is None else (f"training{takes}",)
        quoted = ", ".join(f'"{process}"' for process in (*training, *self.processes))
        changes = [f"processes=[{quoted}]"]
        changes += ["platform.retrain=false"] if delay is None else []
        sets = " ".join(f"--set {shlex.quote(change)}" for change in changes)
        agents = shlex.quote(",".join(self.agents))
        return f"rimsim compare {self.options} --rounds 12 --agents {agents} --seeds {seeds} {_PLAIN} {sets}"


DELAYED = {
    "delays-films": Delayed("closed-loop --set arrivals.per_round=1000 --set platform.log_window.size=1500"),
    "delays-fashion": Delayed(
        f"closed-loop {_SMALL}",
        processes=(
            "demand(factor=3, column='genres', values=['Comedy'], lasts='28d', every='56d')",
            "demand(factor=3, column='genres', values=['Drama'], after='28d', lasts='28d', every='56d')",
        ),
    ),
}
"""Name of a table → the market whose models go live late."""

_AGENTS = ("relevance", "epsilon-greedy(epsilon=0.05)", _FLAT, "rim-feedback")
# Satisfaction is a moving mean of the exposures (or consumptions) of a creator, as a multiple of the opening's mean of
# all creators: 5,000 exposures and 370 consumptions per review of 69 creators.
_BY_EXPOSURE = "start=1, per_exposure=0.00138, per_consumption=0, penalty=0"
_BY_CONSUMPTION = "start=1, per_exposure=0, per_consumption=0.0186, penalty=0"
_SLOW = "each=5, held_back=0.8, every='56d', review='7d'"
_SCENARIO = "each=5, every='28d', review='7d', penalty=2.0"


@dataclass(frozen=True)
class Reacting:
    """Markets with creators who react."""

    cells: Mapping[str, str]
    """Name of a row → options of the process."""
    agents: tuple[str, ...] = _AGENTS

    def command(self, cell: str, seeds: int) -> str:
        """Command of one row."""
        change = shlex.quote(f"processes=[creators({self.cells[cell]})]")
        agents = shlex.quote(",".join(self.agents))
        return f"rimsim compare creators --agents {agents} --seeds {seeds} {_PLAIN} --set {change}"


REACTING = {
    "creators": Reacting(
        {
            "none": f"{_SCENARIO}, reaction=0, threshold=-1e9",
            "0.5": f"{_SCENARIO}, reaction=0.5",
            "2": f"{_SCENARIO}, reaction=2",
        }
    ),
    "creators-means": Reacting(
        {
            "exposure, 0.5": f"{_SLOW}, {_BY_EXPOSURE}, reaction=0.5, threshold=0.2",
            "consumption, 0.5": f"{_SLOW}, {_BY_CONSUMPTION}, reaction=0.5, threshold=0.2",
        },
        agents=("relevance", "rim-feedback"),
    ),
}
"""Name of a table → its markets with creators."""


@dataclass(frozen=True)
class Cell:
    """Cell of a table: a level, or a difference over seeds."""

    values: Floats
    base: Floats | None = None
    """Values that are subtracted at the same seeds; None: a level."""
    digits: int = 3
    factor: float = 1.0

    @property
    def difference(self) -> PairedDifference | None:
        """Difference over seeds; None for a level."""
        return None if self.base is None else paired_difference(self.values, self.base)

    def text(self, *, is_starred: bool) -> str:
        """Mean with half its 95% interval, and a star."""
        difference = self.difference
        interval = mean_interval(self.values) if difference is None else difference
        sign = "" if difference is None else "+"
        mean = f"{self.factor * cast('float', interval.mean):{sign}.{self.digits}f}".replace("-", "−")
        half = "" if interval.low is None else f" ± {self.factor * interval.half:.{self.digits}f}"
        return mean + half + ("*" if is_starred else "")


def _text_table(
    title: str, columns: Sequence[str], rows: Sequence[tuple[tuple[str, ...], Sequence[Cell]]]
) -> TextTable:
    """Table of cells, with a star where a difference is significant."""
    differences = [cell.difference for _, cells in rows for cell in cells]
    p = [1.0 if difference is None else difference.p for difference in differences]
    tested = [
        number for number, value in enumerate(p) if differences[number] is not None and value is not None
    ]
    adjusted = np.ones(len(p))
    if tested:
        adjusted[tested] = holm([cast("float", p[number]) for number in tested])
    stars = iter(adjusted < 0.05)
    lines = []
    for names, cells in rows:
        line = [*names, *(cell.text(is_starred=bool(next(stars))) for cell in cells)]
        lines.append((*line, *[""] * (len(columns) - len(line))))
    return TextTable(
        f"{title} (* not 0: Holm over {len(tested)} comparisons)",
        tuple(columns),
        tuple(lines),
        len(rows[0][0]),
    )


def _means(run: Run, agent: str, metric: str, rounds: range) -> Floats:
    """(seeds,) mean of a metric over rounds."""
    table = run.rounds
    mine = table[(table["agent"] == agent) & (table["metric"] == metric) & table["round"].isin(list(rounds))]
    return mine.groupby("seed")["value"].mean().sort_index().to_numpy()


def delay_tables(name: str, out: Path, seeds: int) -> tuple[list[TextTable], str]:
    """Tables of a market whose models go live late, and its command."""
    market = DELAYED[name]
    runs = {
        delay: finished(out / name / delay.replace("/", "-"), shlex.split(market.command(rounds, seeds))[1:])
        for delay, rounds in DELAYS.items()
    }

    def value(delay: str, agent: str, metric: str, rounds: range = LATE) -> Floats:
        return _means(runs[delay], agent, metric, rounds)

    guaranteed = market.agents[1:]
    columns = ["model live after, rounds", "coverage: relevance", "utility: relevance"]
    columns += [f"cost: {agent}" for agent in guaranteed]
    columns += [f"undelivered: {agent}" for agent in market.agents]
    levels = [
        (
            (delay,),
            [
                Cell(value(delay, "relevance", "coverage")),
                Cell(value(delay, "relevance", "utility")),
                *(
                    Cell(value(delay, "relevance", "utility") - value(delay, agent, "utility"))
                    for agent in guaranteed
                ),
                *(Cell(value(delay, agent, "examined_shortfall")) for agent in market.agents),
            ],
        )
        for delay in DELAYS
    ]

    def changes(delay: str, base_rounds: range, base: str = "0") -> list[Cell]:
        cells = [
            Cell(value(delay, "relevance", metric), value(base, "relevance", metric, base_rounds))
            for metric in ("coverage", "utility")
        ]
        for agent in guaranteed:
            cost = value(delay, "relevance", "utility") - value(delay, agent, "utility")
            base_cost = value(base, "relevance", "utility", base_rounds) - value(
                base, agent, "utility", base_rounds
            )
            cells.append(Cell(cost, base_cost))
        for agent in market.agents:
            shortfall = value(base, agent, "examined_shortfall", base_rounds)
            cells.append(Cell(value(delay, agent, "examined_shortfall"), shortfall))
        return cells

    later = [((f"{delay} − 0",), changes(delay, LATE)) for delay in DELAYS if delay != "0"]
    shifted = [(("4, minus 0 four rounds earlier",), changes("4", range(LATE.start - 4, LATE.stop - 4)))]
    command = market.command(1.0, seeds).replace(f"{_HOURS}h", "DELAY")
    return [
        _text_table("Rounds 8–11, ± half a 95% interval", columns, levels),
        _text_table(
            "Minus a delay of 0, at the same seeds",
            [columns[0], *(f"change of {title}" for title in columns[1:])],
            [*later, *shifted],
        ),
    ], command


def creators_and_items(run: Run, agent: str) -> Iterator[tuple[int, int]]:
    """Creators who are active and items on offer after the last round, by seed."""
    (process,) = make_processes(run.scenario).values()
    of_item = cast("Creators", process).creators_of(run.catalogue)
    happenings = run.happenings
    for _, mine in happenings[happenings["agent"] == agent].groupby("seed"):
        ends = mine[mine["what"] == "end"]
        # The first ends are those of the items that are held back at the opening. A creator who stops ends its items.
        stops = ends[ends["time"] > ends["time"].min()]
        n_stopped = len(np.unique(of_item[stops["item"].to_numpy(int)]))
        n_uploads = int((mine["what"] == "release").sum())
        yield int(of_item.max()) + 1 - n_stopped, len(of_item) - len(ends) + n_uploads


def creator_tables(name: str, out: Path, seeds: int) -> tuple[list[TextTable], str]:
    """Table of creators who react, and its command."""
    market = REACTING[name]
    columns = ["reaction", "agent", "creators active", "items on offer", "utility", "undelivered"]
    columns += ["creators − relevance", "items − relevance", "utility − relevance"]
    rows = []
    for cell in market.cells:
        words = shlex.split(market.command(cell, seeds))[1:]
        run = finished(out / name / "".join(letter if letter.isalnum() else "-" for letter in cell), words)
        every_round = range(run.scenario.rounds)
        ends = {agent: np.array(list(creators_and_items(run, agent)), np.float64) for agent in market.agents}
        utilities = {agent: _means(run, agent, "utility", every_round) for agent in market.agents}
        for agent in market.agents:
            cells = [Cell(ends[agent][:, 0], digits=1), Cell(ends[agent][:, 1], digits=1)]
            cells += [
                Cell(utilities[agent]),
                Cell(_means(run, agent, "examined_shortfall", every_round)),
            ]
            if agent != "relevance":
                cells += [
                    Cell(ends[agent][:, number], ends["relevance"][:, number], digits=1) for number in (0, 1)
                ]
                cells.append(Cell(utilities[agent], utilities["relevance"]))
            rows.append(((cell, f"`{agent}`"), cells))
    table = _text_table(
        "After thirty rounds, ± half a 95% interval",
        columns,
        rows,
    )
    first = next(iter(market.cells))
    return [table], market.command(first, seeds).replace(shlex.quote(market.cells[first])[1:-1], "OPTIONS")


def made(name: str, out: Path, seeds: int) -> str:
    """Markdown of tables, below the line of commit and command."""
    tables, command = (delay_tables if name in DELAYED else creator_tables)(name, out, seeds)
    return f"{head(command)}\n\n{markdown(tables).strip()}\n"


def main() -> None:
    """Make the tables that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = (*DELAYED, *REACTING)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Some of {', '.join(names)}.")
    parser.add_argument("--out", type=Path, default=Path("runs/processes"), help="Folder of the runs.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--print", action="store_true", help="Print the tables, and leave the page as it is.")
    asked = parser.parse_args()
    for name in asked.names or names:
        table = made(name, asked.out, asked.seeds)
        if asked.print:
            print(table)
        else:
            replace_table(PAGE, name, table)


if __name__ == "__main__":
    main()
