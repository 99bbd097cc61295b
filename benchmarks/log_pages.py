"""Pages of the benchmark log, ``benchmarks/log``: where they are, the line above a table, and tables between marks."""

from __future__ import annotations

import datetime as dt
import platform
import re
import subprocess
from pathlib import Path

import rimsim

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "benchmarks" / "log"


def commit() -> str:
    """Short name of the commit that is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def head(command: str) -> str:
    """Line above a table of the log: commit, date, machine, version and command."""
    machine = platform.processor() or platform.machine()
    today = dt.datetime.now(tz=dt.UTC).date()
    return f"*Commit {commit()}, {today}, {machine}, rimsim {rimsim.__version__}:* `{command}`"


def replace_table(page: Path, name: str, table: str) -> None:
    """Write a table into a page of the log, between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""
    text = page.read_text(encoding="utf-8")
    begin = f"<!-- {name} -->"
    end = f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{page}: has no marks {begin} … {end}")
    page.write_text(pattern.sub(lambda _: f"{begin}\n{table}{end}", text), encoding="utf-8")
