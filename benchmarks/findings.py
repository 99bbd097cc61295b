"""Make the tables of docs/findings.md anew: ``python benchmarks/findings.py [NAME…] [--out FOLDER]``; half an hour.

Each table stands in the page between two marks, ``<!-- NAME -->`` and ``<!-- /NAME -->``, under the command that made
it, which is run as it stands there, with a folder of its own. A run that is complete in the folder is read, not run.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rimsim.measures import mean_interval
from rimsim.scenarios import load_run
from rimsim.scenarios.cli.main import main as command_line
from rimsim.scenarios.report import comparison
from rimsim.scenarios.report.tables import cell

if TYPE_CHECKING:
    import pandas as pd

PAGE = Path(__file__).resolve().parent.parent / "docs" / "findings.md"
COMMANDS = {
    "closed-loop": "rimsim compare closed-loop --seeds 5 --agents relevance,rim-dual,rim-feedback,epsilon-greedy,"
    "popularity,random,oracle --frozen relevance,rim-feedback",
    "closed-loop-full-log": "rimsim compare closed-loop-full-log --agents relevance --seeds 5",
    "cold-start": "rimsim compare cold-start --agents relevance,rim-feedback,random --frozen none --seeds 5",
    "online-match": "rimsim compare online-match --seeds 5 --frozen none",
    "offline-match": "rimsim compare offline-match --seeds 5",
    "user-rec": "rimsim compare user-rec --seeds 5",
    "matrix": "rimsim sweep closed-loop --agents relevance,rim-feedback --seeds 3 --grid consumer.truth=factors,bag "
    "--grid platform.model=bag-visits,ease-visits,gru-hp --grid platform.retrain=true,false",
}
"""Name of a table → the command that makes it."""


def table(name: str, out: Path) -> str:
    """The Markdown of a table and the command above it; the command is run unless its folder is complete."""
    command, folder = COMMANDS[name], out / name
    kind = "sweep" if " sweep " in command else "rounds"
    if not (folder / f"{kind}.parquet").is_file():
        left = [folder.as_posix()] if (folder / "config.yaml").is_file() else []
        arguments = (
            ["compare" if kind == "rounds" else "sweep", "--resume", *left]
            if left
            else [*shlex.split(command)[1:], "--out", str(folder)]
        )
        status = command_line(arguments)
        if status:
            raise SystemExit(status)
    run = load_run(folder)
    made = matrix(run.sweep) if kind == "sweep" else comparison.markdown(run)
    return f"```sh\n{command}\n```\n\n{made.strip()}\n"


def matrix(table: pd.DataFrame) -> str:
    """A row a truth and platform: ``relevance`` when frozen, what retraining does, what a guarantee costs.

    Args:
        table: Of a sweep over ``consumer.truth``, ``platform.model`` and ``platform.retrain``.
    """
    cells = table.rename(
        columns={"consumer.truth": "truth", "platform.model": "model", "platform.retrain": "retrain"}
    )
    cells = cells.astype({"retrain": str}).pivot_table(
        index=["truth", "model", "seed"], columns=["agent", "retrain", "metric"], values="value", sort=False
    )
    retrained, frozen = cells["relevance"]["True"], cells["relevance"]["False"]
    guaranteed = cells["rim-feedback"]["True"]
    columns = {
        "utility, frozen": frozen["utility"],
        "retrained − frozen: utility": retrained["utility"] - frozen["utility"],
        "coverage": retrained["coverage"] - frozen["coverage"],
        "effective items": retrained["effective_items"] - frozen["effective_items"],
        "cost of the guarantee: utility": guaranteed["utility"] - retrained["utility"],
        "examined shortfall of `rim-feedback`": guaranteed["examined_shortfall"],
    }
    lines = [f"| truth | platform | {' | '.join(columns)} |", "|---|---|" + "---:|" * len(columns)]
    for truth, model in dict.fromkeys((truth, model) for truth, model, _ in cells.index):
        found = [mean_interval(column.loc[(truth, model)].to_numpy()) for column in columns.values()]
        told = " | ".join(cell(one.mean, one.low, one.high) for one in found)
        lines.append(f"| `{truth}` | `{model}` | {told} |")
    return "\n".join(lines)


def replaced(page: str, name: str, made: str) -> str:
    """The page with what stands between the marks of a table replaced."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE}: has no marks {begin} … {end}")
    return pattern.sub(lambda _: f"{begin}\n{made}{end}", page)


def main() -> None:
    """Make the tables that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Some of {', '.join(COMMANDS)}.")
    parser.add_argument("--out", type=Path, default=Path("runs/findings"), help="Where the runs lie.")
    asked = parser.parse_args()
    for name in asked.names or COMMANDS:
        made = table(name, asked.out)
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), name, made), encoding="utf-8")


if __name__ == "__main__":
    main()
