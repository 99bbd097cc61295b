"""Tables of a benchmark: printed, and saved as Parquet and as one page of markdown."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from log_pages import head, replace_table

__all__ = ["Report", "machine", "peak_memory", "reset_peak", "resident_memory"]

_MIB = 2**20
_PROCESS = Path("/proc/self")


def _shown(value: object) -> str:
    if isinstance(value, float):
        if not np.isfinite(value):
            return ""
        if abs(value) >= 100:
            return f"{value:,.0f}"
        return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine() -> str:
    """What the figures were taken on, and how busy it was."""
    model = platform.processor() or platform.machine()
    about = Path("/proc/cpuinfo")
    if about.exists():
        names = [
            line.split(":")[1].strip() for line in about.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{model}, {os.cpu_count()} cores, load {load} (1, 5, 15 minutes); one thread, CPU seconds; "
        f"Python {platform.python_version()}, NumPy {np.__version__}, torch {torch.__version__}"
    )


def _status(name: str) -> float:
    """A field of the process's status in MiB."""
    for line in (_PROCESS / "status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / _MIB
    raise RuntimeError(f"/proc/self/status has no {name}")


def reset_peak() -> None:
    """Forget the largest resident memory so far (Linux)."""
    (_PROCESS / "clear_refs").write_text("5")


def peak_memory() -> float:
    """Largest resident memory since :func:`reset_peak`, MiB (Linux)."""
    return _status("VmHWM")


def resident_memory() -> float:
    """Resident memory now, MiB (Linux)."""
    return _status("VmRSS")


@dataclass
class Report:
    """Tables that are printed as they come and saved in a folder."""

    folder: Path
    title: str
    log: Path | None = None
    """Page of the benchmark log that the tables are written into, too."""
    _parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin the page with what was run on what."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Without the folder of whoever runs it.
        arguments = re.sub(r"\s--out[= ]\S+", "", " ".join(["", *sys.argv[1:]]))
        self.command = f"python benchmarks/{Path(sys.argv[0]).name}{arguments}"
        self.say(f"# {self.title}\n\n`{self.command}`\n\n{machine()}")

    def say(self, text: str) -> None:
        """Print and keep a paragraph."""
        print(text + "\n", flush=True)
        self._parts.append(text)
        (self.folder / "speed.md").write_text("\n\n".join(self._parts) + "\n", encoding="utf-8")

    def table(self, name: str, title: str, rows: list[Mapping[str, object]]) -> None:
        """Print a table, save it as ``NAME.parquet`` and add it to the page."""
        frame = pd.DataFrame(rows)
        frame.to_parquet(self.folder / f"{name}.parquet", index=False)
        numbers = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame]
        lines = [
            "| " + " | ".join(frame.columns) + " |",
            "|" + "|".join("---:" if number else "---" for number in numbers) + "|",
        ]
        lines += [
            "| " + " | ".join(_shown(value) for value in row) + " |"
            for row in frame.itertuples(index=False, name=None)
        ]
        self.say(f"## {title}\n\n" + "\n".join(lines))
        if self.log is not None:
            replace_table(self.log, name, "\n".join((head(self.command), "", *lines, "")))
